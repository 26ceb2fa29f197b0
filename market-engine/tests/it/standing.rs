//! Standing orders over many intervals: deadlines that are met, batteries that never lose on a trade.

use domain::energy::Energy;
use domain::money::Price;
use domain::order::Side;
use domain::time::{Interval, Timestamp};
use market_engine::standing::{
    Battery, Deadline, HORIZON_MAX, Outlook, Placement, Progress, Standing, Why, charged,
    discharged, place,
};
use proptest::prelude::*;

const START_S: i64 = 1_782_000_000;

fn interval(n: i64) -> Interval {
    Interval::new(START_S, 900).unwrap().offset(n)
}

fn milli(price: i64) -> Price {
    Price::from_micro_per_kwh(price * 1_000)
}

/// Open intervals with these expected prices in thousandths; the utility sells at 300 and buys at 80.
fn open(prices: &[i64]) -> Vec<Outlook> {
    let outlook = |(n, price): (i64, &i64)| Outlook {
        interval: interval(n),
        price: Some(milli(*price)),
        utility_buy: milli(300),
        utility_sell: milli(80),
    };
    (0..).zip(prices).map(outlook).collect()
}

/// Each order as `interval side Wh limit why`, the limit in thousandths.
fn words(orders: &[Placement]) -> Vec<String> {
    let word = |order: &Placement| {
        let n = (order.interval.start_s() - START_S) / 900;
        let (side, wh) = (order.side.word(), order.energy.wh());
        let limit = order.limit.micro_per_kwh() / 1_000;
        format!("{n} {side} {wh} {limit} {:?}", order.why)
    };
    orders.iter().map(word).collect()
}

fn car(wh: i64, until: i64, must: bool) -> Deadline {
    Deadline {
        energy: Energy::from_wh(wh),
        by: interval(until).start(),
        power_max_w: 11_000,
        limit: milli(180),
        must,
    }
}

fn planned(standing: Standing, progress: Progress, open: &[Outlook]) -> Vec<String> {
    words(&place(interval(0).start(), &standing, progress, open))
}

#[test]
fn a_deadline_takes_the_cheapest_intervals_as_long_as_there_is_time() {
    // 11 kW bring 2750 Wh a quarter of an hour. Interval 5 ends after the deadline.
    let open = open(&[200, 150, 120, 150, 250, 10]);
    let plan = |wh, must| {
        planned(
            Standing::Deadline(car(wh, 5, must)),
            Progress::default(),
            &open,
        )
    };
    assert_eq!(plan(2_750, true), ["2 bid 2750 180 Cheap"]);
    assert_eq!(
        plan(6_000, true),
        [
            "1 bid 2750 180 Cheap",
            "2 bid 2750 180 Cheap",
            "3 bid 500 180 Cheap"
        ]
    );
    // 13 kWh leave 750 Wh of slack: each interval must bring 2000 as long as nothing else comes.
    assert_eq!(
        plan(13_000, true),
        [
            "0 bid 2000 300 LastChance",
            "0 bid 750 180 Cheap",
            "1 bid 2000 300 LastChance",
            "1 bid 750 180 Cheap",
            "2 bid 2000 300 LastChance",
            "2 bid 750 180 Cheap",
            "3 bid 2000 300 LastChance",
            "3 bid 750 180 Cheap",
            "4 bid 2000 300 LastChance",
        ]
    );
    // More than fits: all there is, and without `must` never above the limit.
    assert!(
        plan(99_000, false)
            .iter()
            .all(|o| o.contains(" 180 LastChance"))
    );
    assert_eq!(plan(99_000, false).len(), 5);
    assert_eq!(plan(0, true), Vec::<String>::new());
}

#[test]
fn a_deadline_goes_on_from_what_was_reached_and_does_not_look_back() {
    let open = open(&[100, 100, 100, 100]);
    let standing = Standing::Deadline(car(6_000, 4, true));
    let reached = Progress {
        energy: Energy::from_wh(4_000),
        cost: Price::ZERO,
    };
    assert_eq!(planned(standing, reached, &open), ["0 bid 2000 180 Cheap"]);
    let later = place(interval(1).start().plus_ms(1), &standing, reached, &open);
    assert_eq!(words(&later), ["2 bid 2000 180 Cheap"]);
    let done = Progress {
        energy: Energy::from_wh(7_000),
        cost: Price::ZERO,
    };
    assert!(planned(standing, done, &open).is_empty());
    // A limit above the tariff is no reason to pay a neighbour more than the utility.
    let dear = Deadline {
        limit: milli(900),
        ..car(2_000, 4, false)
    };
    assert_eq!(
        planned(Standing::Deadline(dear), Progress::default(), &open),
        ["0 bid 2000 300 Cheap"]
    );
}

fn small() -> Battery {
    Battery {
        least: Energy::from_wh(100),
        most: Energy::from_wh(300),
        charge_max_w: 400,
        discharge_max_w: 400,
        loss_basis_points: 1_000,
        margin: milli(5),
        until: interval(1_000).start(),
    }
}

#[test]
fn a_battery_buys_low_sells_high_and_counts_its_losses() {
    let empty = Progress {
        energy: Energy::from_wh(100),
        cost: Price::ZERO,
    };
    let plan = |prices: &[i64]| planned(Standing::Battery(small()), empty, &open(prices));
    // 100 Wh at the meter are 90 Wh in the battery. A bid may pay what its last step earns: in interval 1 a
    // later purchase saved, in interval 2 0.9 of 0.20 less the margin. At that limit the offer needs 0.20.
    assert_eq!(
        plan(&[150, 90, 120, 200, 100]),
        [
            "1 bid 100 120 BuyLow",
            "2 bid 12 175 BuyLow",
            "3 offer 100 200 SellHigh"
        ]
    );
    // 0.19 does not pay for 0.17 with a tenth lost.
    assert_eq!(plan(&[170, 190]), Vec::<String>::new());
    assert_eq!(plan(&[170, 100]), Vec::<String>::new());
}

#[test]
fn a_full_battery_sells_where_it_brings_most_and_not_below_what_it_cost() {
    let plan = |cost, prices: &[i64]| {
        let full = Progress {
            energy: Energy::from_wh(300),
            cost: milli(cost),
        };
        planned(Standing::Battery(small()), full, &open(prices))
    };
    // Two of four intervals suffice; an offer asks at least what its energy would bring in the next best.
    let prices = [150, 180, 140, 160];
    assert_eq!(
        plan(100, &prices),
        ["1 offer 100 140 SellHigh", "3 offer 100 105 SellHigh"]
    );
    assert_eq!(plan(180, &prices), Vec::<String>::new());
    // What cost 0.175 is sold at 0.18 as far as it can be bought back for less.
    assert_eq!(
        plan(175, &prices),
        ["1 offer 90 180 SellHigh", "2 bid 100 157 BuyLow"]
    );
    // Where it can be bought back in between, it sells before, too.
    assert_eq!(
        plan(100, &[150, 180, 110, 160]),
        [
            "0 offer 90 127 SellHigh",
            "1 offer 100 127 SellHigh",
            "2 bid 100 139 BuyLow",
            "3 offer 100 160 SellHigh"
        ]
    );
    // Below its least charge it sells nothing until it is above; above its most it buys nothing.
    let odd = |wh| {
        let progress = Progress {
            energy: Energy::from_wh(wh),
            cost: Price::ZERO,
        };
        planned(Standing::Battery(small()), progress, &open(&[50, 290]))
    };
    assert_eq!(odd(40), ["0 bid 100 256 BuyLow", "1 offer 30 290 SellHigh"]);
    assert_eq!(
        odd(350),
        ["0 offer 100 80 SellHigh", "1 offer 100 80 SellHigh"]
    );
}

#[test]
fn a_misread_charge_counts_as_a_full_or_an_empty_battery() {
    let plan = |wh| {
        let progress = Progress {
            energy: Energy::from_wh(wh),
            cost: milli(100),
        };
        let prices = [150, 50, 60, 290];
        planned(Standing::Battery(small()), progress, &open(&prices))
    };
    assert!(!plan(300).is_empty() && !plan(0).is_empty());
    for wh in [301, 10_000_000_000, i64::MAX] {
        assert_eq!(plan(wh), plan(300), "{wh} Wh");
    }
    for wh in [-1, -10_000_000_000, i64::MIN] {
        assert_eq!(plan(wh), plan(0), "{wh} Wh");
    }
}

#[test]
fn a_battery_that_cannot_work_does_nothing() {
    let empty = Progress {
        energy: Energy::from_wh(100),
        cost: Price::ZERO,
    };
    for battery in [
        Battery {
            loss_basis_points: 10_000,
            ..small()
        },
        Battery {
            loss_basis_points: u32::MAX,
            ..small()
        },
        Battery {
            most: Energy::from_wh(100),
            ..small()
        },
        Battery {
            least: Energy::from_wh(i64::MIN),
            most: Energy::from_wh(i64::MAX),
            ..small()
        },
        Battery {
            charge_max_w: 0,
            ..small()
        },
    ] {
        let orders = planned(Standing::Battery(battery), empty, &open(&[10, 290]));
        assert!(orders.is_empty(), "{battery:?} {orders:?}");
    }
}

/// The most that any plan earns: all paths of a small battery without losses, by trial.
fn best_by_trial(battery: &Battery, progress: Progress, open: &[Outlook]) -> i128 {
    fn from(battery: &Battery, progress: Progress, energy: i64, open: &[Outlook]) -> i128 {
        let micro = |price: Price| i128::from(price.micro_per_kwh());
        let Some((first, rest)) = open.split_first() else {
            let kept = energy.min(progress.energy.wh()) - battery.least.wh();
            return micro(progress.cost) * i128::from(kept);
        };
        let most = |power_w: u32| i64::from(power_w) / 4;
        let price = first.price.unwrap();
        let buy = micro(price.min(first.utility_buy));
        let sell = micro(price.max(first.utility_sell)) - micro(battery.margin);
        (battery.least.wh()..=battery.most.wh())
            .filter(|to| *to - energy <= most(battery.charge_max_w))
            .filter(|to| energy - *to <= most(battery.discharge_max_w))
            .filter(|to| *to >= energy || sell >= micro(progress.cost))
            .map(|to| {
                let moved = i128::from(energy - to);
                let earned = if moved > 0 { moved * sell } else { moved * buy };
                earned + from(battery, progress, to, rest)
            })
            .max()
            .unwrap()
    }
    from(battery, progress, progress.energy.wh(), open)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_battery_plan_earns_the_most_there_is(
        prices in proptest::collection::vec(50_i64..350, 1..5),
        now in 0_i64..5, charge in 0_u32..4, discharge in 0_u32..4, cost in 0_i64..300, margin in 0_i64..20,
    ) {
        let battery = Battery {
            least: Energy::from_wh(2),
            most: Energy::from_wh(6),
            charge_max_w: charge * 4,
            discharge_max_w: discharge * 4,
            loss_basis_points: 0,
            margin: milli(margin),
            until: interval(1_000).start(),
        };
        let progress = Progress { energy: Energy::from_wh(2 + now), cost: milli(cost) };
        let open = open(&prices);
        let orders = place(interval(0).start(), &Standing::Battery(battery), progress, &open);
        let (mut energy, mut earned) = (progress.energy.wh(), 0_i128);
        for order in &orders {
            let outlook = open.iter().find(|o| o.interval == order.interval).unwrap();
            let price = outlook.price.unwrap();
            let wh = order.energy.wh();
            if order.side == Side::Bid {
                energy += wh;
                let price = price.min(milli(300));
                prop_assert!(order.limit >= price, "a bid below the price it counts on: {:?}", order);
                earned -= i128::from(wh) * i128::from(price.micro_per_kwh());
            } else {
                energy -= wh;
                let price = price.max(milli(80)).micro_per_kwh() - margin * 1_000;
                earned += i128::from(wh) * i128::from(price);
            }
        }
        let kept = energy.min(progress.energy.wh()) - 2;
        earned += i128::from(kept) * i128::from(milli(cost).micro_per_kwh());
        prop_assert_eq!(earned, best_by_trial(&battery, progress, &open));
    }

}

proptest! {
    // Each case asks for a whole plan at every interval.
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the market fills at whatever price a limit allows.
    #[test]
    fn a_battery_keeps_its_bounds_and_never_sells_at_a_loss(
        steps in proptest::collection::vec((0_i64..350, 0_i64..=100, 0_i64..=100), 1..12),
        now in 0_i64..=9_000, range in 1_i64..9_000, loss in 0_u32..5_000, margin in 0_i64..20,
        power in 0_u32..12_000,
    ) {
        let battery = Battery {
            least: Energy::from_wh(500),
            most: Energy::from_wh(500 + range),
            charge_max_w: power,
            discharge_max_w: power / 2,
            loss_basis_points: loss,
            margin: milli(margin),
            until: interval(1_000).start(),
        };
        let mut state = Progress { energy: Energy::from_wh(500 + now.min(range)), cost: Price::ZERO };
        let prices: Vec<i64> = steps.iter().map(|s| s.0).collect();
        let open = open(&prices);
        for (n, (_, part, within)) in (0_i64..).zip(&steps) {
            let orders = place(interval(n).start(), &Standing::Battery(battery), state, &open);
            for o in &orders {
                let power = if o.side == Side::Bid { power } else { power / 2 };
                prop_assert!(o.energy.wh() > 0 && o.energy.wh() * 4 <= i64::from(power));
                prop_assert!(o.side == Side::Offer || o.limit <= milli(300));
                prop_assert!(o.side == Side::Bid || o.limit >= milli(80));
            }
            let Some(order) = orders.first().filter(|o| o.interval == interval(n)) else { continue };
            let filled = Energy::from_wh(order.energy.wh() * part / 100);
            let limit = order.limit.micro_per_kwh();
            state = if order.side == Side::Bid {
                let price = Price::from_micro_per_kwh(limit * within / 100);
                if filled == Energy::ZERO { continue }
                charged(&battery, state, filled, price).unwrap()
            } else {
                let price = Price::from_micro_per_kwh(limit + within * 1_000);
                prop_assert!(price >= state.cost.checked_add(battery.margin).unwrap());
                discharged(&battery, state, filled).unwrap()
            };
            prop_assert!(state.energy >= battery.least && state.energy <= battery.most);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The utility gives what the market does not, at the tariff; below it the market fills as it likes.
    #[test]
    fn a_deadline_that_can_be_met_is_met(
        steps in proptest::collection::vec((0_i64..350, 0_i64..=100), 1..40),
        wh in 0_i64..120_000, until in 1_i64..45, power in 0_u32..12_000, limit in 0_i64..350, must: bool,
    ) {
        let deadline = Deadline {
            energy: Energy::from_wh(wh),
            by: interval(until).start(),
            power_max_w: power,
            limit: milli(limit),
            must,
        };
        let prices: Vec<i64> = steps.iter().map(|s| s.0).collect();
        let open = open(&prices);
        let mut reached = Progress::default();
        for (n, (_, part)) in (0_i64..).zip(&steps) {
            let orders = place(interval(n).start(), &Standing::Deadline(deadline), reached, &open);
            let mut sum = 0;
            for o in orders.iter().filter(|o| o.interval == interval(n)) {
                sum += o.energy.wh();
                let last = must && o.why == Why::LastChance;
                prop_assert!(o.limit <= milli(300) && (last || o.limit <= deadline.limit));
                let part = if o.limit == milli(300) { 100 } else { *part };
                let filled = Energy::from_wh(o.energy.wh() * part / 100);
                reached.energy = reached.energy.checked_add(filled).unwrap();
            }
            prop_assert!(sum * 4 <= i64::from(power));
            let all: i64 = orders.iter().map(|o| o.energy.wh()).sum();
            prop_assert!(all <= wh);
        }
        let intervals = until.min(i64::try_from(steps.len()).unwrap());
        let possible = intervals * (i64::from(power) / 4);
        prop_assert!(reached.energy.wh() <= wh);
        if must {
            prop_assert_eq!(reached.energy.wh(), wh.min(possible));
        }
    }
}

#[test]
fn the_horizon_is_bounded_and_odd_lists_are_put_right() {
    let prices = vec![100; HORIZON_MAX + 8];
    let standing = Standing::Deadline(Deadline {
        by: Timestamp::from_unix_s(i64::MAX / 2_000),
        ..car(i64::MAX, 0, false)
    });
    let mut open = open(&prices);
    let orders = place(interval(0).start(), &standing, Progress::default(), &open);
    assert_eq!(orders.len(), HORIZON_MAX);
    open.truncate(6);
    let sorted = place(interval(0).start(), &standing, Progress::default(), &open);
    open.reverse();
    open.extend_from_within(..3);
    assert_eq!(
        place(interval(0).start(), &standing, Progress::default(), &open),
        sorted
    );
}
