//! The continuous auction and its standing orders against plain ones that look at every order.

use std::collections::BTreeMap;

use domain::money::Price;
use domain::order::Side;
use market_engine::book::{Book, Entry};
use market_engine::clear::standing::{Arrival, Met, PASSED_MAX, Place, StandingOrders};
use market_engine::clear::{Mechanism, clear};
use proptest::prelude::*;

/// Standing orders in a list, in the order in which they came.
#[derive(Default)]
struct Plain {
    standing: Vec<Arrival>,
}

impl Plain {
    fn submit(&mut self, arrival: Arrival) -> Vec<Met> {
        let (met, left_wh) = self.trade(arrival);
        if left_wh > 0 {
            self.standing.push(Arrival {
                energy_wh: left_wh,
                ..arrival
            });
        }
        met
    }

    fn trade(&mut self, arrival: Arrival) -> (Vec<Met>, i64) {
        let (mut met, mut left_wh) = (Vec::new(), arrival.energy_wh);
        loop {
            let good = |s: &&mut Arrival| {
                s.side != arrival.side
                    && s.participant != arrival.participant
                    && match arrival.side {
                        Side::Bid => s.level <= arrival.level,
                        Side::Offer => s.level >= arrival.level,
                    }
            };
            let rank = |s: &&mut Arrival| match arrival.side {
                Side::Bid => i64::from(s.level),
                Side::Offer => -i64::from(s.level),
            };
            // The first of equals: the earliest.
            let best = self.standing.iter_mut().filter(good).min_by_key(rank);
            let Some(best) = best.filter(|_| left_wh > 0) else {
                return (met, left_wh);
            };
            let energy_wh = left_wh.min(best.energy_wh);
            left_wh -= energy_wh;
            best.energy_wh -= energy_wh;
            met.push(Met {
                name: best.name,
                level: best.level,
                energy_wh,
            });
            self.standing.retain(|s| s.energy_wh > 0);
        }
    }

    fn cancel(&mut self, name: u32) -> Option<i64> {
        let place = self.standing.iter().position(|s| s.name == name)?;
        Some(self.standing.remove(place).energy_wh)
    }

    fn best(&self, side: Side) -> Option<u32> {
        let levels = self
            .standing
            .iter()
            .filter(|s| s.side == side)
            .map(|s| s.level);
        match side {
            Side::Bid => levels.max(),
            Side::Offer => levels.min(),
        }
    }
}

fn side(bids: bool) -> Side {
    if bids { Side::Bid } else { Side::Offer }
}

#[derive(Clone, Debug)]
enum Step {
    Add(bool, u32, i64, u32),
    Cancel(prop::sample::Index),
    Take(bool, i64, u32),
}

fn step(levels: u32) -> impl Strategy<Value = Step> {
    prop_oneof![
        7 => (any::<bool>(), 0..levels, 1_i64..50, 0_u32..6).prop_map(|(b, l, e, p)| Step::Add(b, l, e, p)),
        2 => cancel(),
        1 => (any::<bool>(), 1_i64..120, 0_u32..6).prop_map(|(b, e, p)| Step::Take(b, e, p)),
    ]
}

fn cancel() -> impl Strategy<Value = Step> {
    any::<prop::sample::Index>().prop_map(Step::Cancel)
}

fn run(levels: u32, steps: &[Step]) {
    let (mut fast, mut plain) = (StandingOrders::new(levels, 0), Plain::default());
    let mut places: BTreeMap<u32, Option<Place>> = BTreeMap::new();
    for (name, step) in (0_u32..).zip(steps) {
        let mut met = Vec::new();
        match step {
            Step::Add(bids, level, energy_wh, participant) => {
                let arrival = Arrival {
                    side: side(*bids),
                    level: *level,
                    energy_wh: *energy_wh,
                    participant: *participant,
                    name,
                };
                places.insert(name, fast.submit(arrival, |m| met.push(m)));
                assert_eq!(met, plain.submit(arrival));
            }
            // Orders that are gone are cancelled too: that must touch nobody else's.
            Step::Cancel(_) if places.is_empty() => {}
            Step::Cancel(which) => {
                let (name, place) = places.iter().nth(which.index(places.len())).unwrap();
                let left_wh = place.and_then(|place| fast.left_wh(place));
                let cancelled = place.is_some_and(|place| fast.cancel(place));
                assert_eq!(
                    (left_wh, cancelled),
                    (plain.cancel(*name), left_wh.is_some())
                );
                assert_eq!(place.and_then(|place| fast.left_wh(place)), None);
            }
            Step::Take(bids, energy_wh, participant) => {
                let traded = fast.take(side(*bids), *energy_wh, *participant, |m| met.push(m));
                let (expected, left_wh) = plain.trade(Arrival {
                    side: side(*bids),
                    level: if *bids { levels } else { 0 },
                    energy_wh: *energy_wh,
                    participant: *participant,
                    name,
                });
                assert_eq!((met, traded), (expected, energy_wh - left_wh));
            }
        }
        for side in [Side::Bid, Side::Offer] {
            assert_eq!(fast.best(side), plain.best(side));
        }
    }
}

proptest! {
    #[test]
    fn few_levels_trade_as_a_plain_list_does(steps in proptest::collection::vec(step(8), 0..300)) {
        run(8, &steps);
    }

    #[test]
    fn queues_of_cancelled_orders_trade_as_a_plain_list_does(
        steps in proptest::collection::vec(prop_oneof![2 => step(2), 3 => cancel()], 0..600),
    ) {
        run(2, &steps);
    }

    #[test]
    fn many_levels_trade_as_a_plain_list_does(steps in proptest::collection::vec(step(70_000), 0..300)) {
        run(70_000, &steps);
    }

    #[test]
    fn a_book_trades_as_a_plain_list_does(
        lines in proptest::collection::vec((any::<bool>(), 1_i64..40, 0_i64..12, 0_u32..5), 0..60),
        spread in prop_oneof![Just(1_i64), Just(1_000_000_007)],
    ) {
        let (mut book, mut plain, mut expected) = (Book::new(b""), Plain::default(), Vec::new());
        for (arrival, (bids, energy_wh, limit, participant)) in (0_u32..).zip(&lines) {
            let mut key = [0; 16];
            key[..4].copy_from_slice(&arrival.to_be_bytes());
            let limit = Price::from_micro_per_kwh(limit * spread);
            let (side, energy_wh, participant) = (side(*bids), *energy_wh, *participant);
            book.push(Entry { side, energy_wh, limit, participant, arrival, key }).unwrap();
            let level = u32::try_from(limit.micro_per_kwh() / spread).unwrap();
            let met = plain.submit(Arrival { side, level, energy_wh, participant, name: arrival });
            let pair = |m: Met| match side {
                Side::Bid => (arrival, m.name, m.energy_wh),
                Side::Offer => (m.name, arrival, m.energy_wh),
            };
            expected.extend(met.into_iter().map(pair));
        }
        let outcome = clear(&book, Mechanism::Continuous);
        let trades: Vec<_> = outcome.trades.iter().map(|t| (t.bid, t.offer, t.energy_wh)).collect();
        prop_assert_eq!(trades, expected);
    }
}

#[test]
fn nothing_happens_where_there_is_no_level() {
    let mut none = StandingOrders::new(0, 0);
    let arrival = Arrival {
        side: Side::Bid,
        level: 0,
        energy_wh: 5,
        participant: 0,
        name: 0,
    };
    assert_eq!(none.submit(arrival, |_| ()), None);
    assert_eq!(none.take(Side::Bid, 5, 0, |_| ()), 0);
    assert_eq!(none.best(Side::Offer), None);
}

#[test]
fn a_place_of_before_a_clearing_is_nobodys() {
    let mut orders = StandingOrders::new(3, 0);
    let bid = |name| Arrival {
        side: Side::Bid,
        level: 1,
        energy_wh: 5,
        participant: 0,
        name,
    };
    let old: Vec<Place> = (0..100)
        .map(|name| orders.submit(bid(name), |_| ()).unwrap())
        .collect();
    orders.clear();
    assert_eq!(orders.best(Side::Bid), None);
    let new: Vec<Place> = (0..100)
        .map(|name| orders.submit(bid(name), |_| ()).unwrap())
        .collect();
    for place in old {
        assert_eq!(orders.left_wh(place), None);
        assert!(!orders.cancel(place));
    }
    assert!(new.iter().all(|place| orders.left_wh(*place) == Some(5)));
    assert_eq!(orders.take(Side::Offer, 1000, 9, |_| ()), 500);
}

#[test]
fn an_order_passes_over_so_many_of_its_own_and_no_more() {
    let stands = |own: u32| {
        let mut orders = StandingOrders::new(3, 0);
        let offer = |name, level, participant| Arrival {
            side: Side::Offer,
            level,
            energy_wh: 1,
            participant,
            name,
        };
        for name in 0..own {
            orders.submit(offer(name, 0, 7), |_| ());
        }
        orders.submit(offer(own, 1, 8), |_| ());
        orders.take(Side::Bid, 1, 7, |_| ())
    };
    assert_eq!(stands(PASSED_MAX), 1);
    assert_eq!(stands(PASSED_MAX + 1), 0);
}
