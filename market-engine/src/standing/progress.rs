//! How far a standing order has come: by what its orders have got, and by what a meter or the battery itself says.

use domain::energy::Energy;
use domain::money::Price;
use domain::order::Side;
use domain::standing_order::{Battery, Deadline, Standing};
use domain::time::{Interval, Timestamp};

use super::{Progress, Why, charged, discharged};

/// An order that a standing order has in the book, or had there when its gate closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ordered {
    /// Its interval.
    pub interval: Interval,
    /// Buy or sell.
    pub side: Side,
    /// How much it asked for.
    pub energy: Energy,
    /// Energy traded and the price of it; `None` as long as the interval is not cleared.
    pub traded: Option<(Energy, Price)>,
    /// Its limit.
    pub limit: Price,
    /// Why it was placed.
    pub why: Why,
}

impl Ordered {
    /// What it brings, as far as is known: what is not cleared yet is taken to come.
    fn traded(&self) -> (Energy, Price) {
        self.traded.unwrap_or((self.energy, self.limit))
    }
}

/// What is there by a meter's or a battery's own word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Measured {
    /// How much: of a deadline what has come since the standing order was accepted, of a battery what is in it.
    pub energy: Energy,
    /// When.
    pub at: Timestamp,
}

/// What was reached: `begins_with`, and what `ordered` brought or will bring. What was measured counts instead of
/// what was ordered until then. Of sums that do not fit 64 bits the last that does is the answer.
#[must_use]
pub fn progress(
    wish: &Standing,
    begins_with: Energy,
    ordered: &[Ordered],
    measured: Option<Measured>,
) -> Progress {
    match wish {
        Standing::Deadline(deadline) => come(deadline, begins_with, ordered, measured),
        Standing::Battery(battery) => filled(battery, begins_with, ordered, measured),
    }
}

/// With `must` what a last chance did not get from neighbours comes from the utility.
fn come(
    deadline: &Deadline,
    begins_with: Energy,
    ordered: &[Ordered],
    measured: Option<Measured>,
) -> Progress {
    let metered = measured.map_or(Energy::ZERO, |m| m.energy);
    let begun = begins_with.checked_add(metered).unwrap_or(begins_with);
    let brought = |one: &Ordered| match deadline.must && one.why == Why::LastChance {
        true => one.energy,
        false => one.traded().0,
    };
    let later = ordered
        .iter()
        .filter(|one| measured.is_none_or(|m| one.interval.end() > m.at));
    let energy = later.fold(begun, |sum, one| {
        sum.checked_add(brought(one)).unwrap_or(sum)
    });
    Progress {
        energy,
        cost: Price::ZERO,
    }
}

fn filled(
    battery: &Battery,
    begins_with: Energy,
    ordered: &[Ordered],
    measured: Option<Measured>,
) -> Progress {
    let mut sorted: Vec<&Ordered> = ordered.iter().collect();
    sorted.sort_by_key(|one| one.interval);
    let begun = Progress {
        energy: begins_with,
        cost: Price::ZERO,
    };
    let step = |state: Progress, one: &Ordered, energy: Energy| {
        let next = match one.side {
            _ if energy == Energy::ZERO => Some(state),
            Side::Bid => charged(battery, state, energy, one.traded().1),
            Side::Offer => discharged(battery, state, energy),
        };
        next.unwrap_or(state)
    };
    let by_orders = sorted
        .iter()
        .fold(begun, |state, one| step(state, one, one.traded().0));
    let Some(measured) = measured else {
        return by_orders;
    };
    let here = Progress {
        energy: measured.energy,
        cost: by_orders.cost,
    };
    // Of an interval that runs, what is left of it is still to come.
    let later = |one: &Ordered| {
        let (energy, _) = one.traded();
        let length_ms = i64::from(one.interval.length_s()) * 1_000;
        let left_ms = one.interval.end().ms_since(measured.at);
        let part = i128::from(energy.wh()) * i128::from(left_ms.clamp(0, length_ms));
        Energy::from_wh(i64::try_from(part / i128::from(length_ms)).unwrap_or(0))
    };
    let reached = sorted
        .iter()
        .fold(here, |state, one| step(state, one, later(one)));
    Progress {
        cost: match reached.energy <= battery.least {
            true => Price::ZERO,
            false => reached.cost.max(by_orders.cost),
        },
        ..reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_S: i64 = 1_782_043_200;

    fn at(n: i64) -> Interval {
        Interval::new(NOON_S, 900).unwrap().offset(n)
    }

    fn wh(wh: i64) -> Energy {
        Energy::from_wh(wh)
    }

    fn milli(price: i64) -> Price {
        Price::from_micro_per_kwh(price * 1_000)
    }

    fn order(n: i64, side: Side, energy: i64, traded: Option<(i64, i64)>, why: Why) -> Ordered {
        Ordered {
            interval: at(n),
            side,
            energy: wh(energy),
            traded: traded.map(|(energy, price)| (wh(energy), milli(price))),
            limit: milli(180),
            why,
        }
    }

    #[test]
    fn a_deadline_counts_what_was_bought_and_what_the_utility_must_give() {
        let deadline = |must| {
            Standing::Deadline(Deadline {
                energy: wh(20_000),
                by: at(40).start(),
                power_max_w: 11_000,
                limit: milli(180),
                must,
            })
        };
        let ordered = [
            order(0, Side::Bid, 2_750, Some((2_000, 150)), Why::Cheap),
            order(1, Side::Bid, 2_750, Some((500, 150)), Why::LastChance),
            order(2, Side::Bid, 700, None, Why::Cheap),
        ];
        let reached = |must, measured| progress(&deadline(must), wh(100), &ordered, measured);
        assert_eq!(reached(false, None).energy, wh(100 + 2_000 + 500 + 700));
        assert_eq!(reached(true, None).energy, wh(100 + 2_000 + 2_750 + 700));
        // The meter says what had come by the end of the first interval; the later ones are to come.
        let measured = Measured {
            energy: wh(2_600),
            at: at(1).start(),
        };
        let energy = reached(false, Some(measured)).energy;
        assert_eq!(energy, wh(100 + 2_600 + 500 + 700));
    }

    #[test]
    fn a_battery_counts_its_losses_and_remembers_the_dearest_energy_until_it_is_empty() {
        let battery = Standing::Battery(Battery {
            least: wh(1_000),
            most: wh(10_000),
            charge_max_w: 4_000,
            discharge_max_w: 4_000,
            loss_basis_points: 2_000,
            margin: Price::ZERO,
            until: at(400).start(),
        });
        let bought = order(0, Side::Bid, 1_000, Some((1_000, 80)), Why::BuyLow);
        let sold = order(3, Side::Offer, 800, Some((800, 200)), Why::SellHigh);
        let reached =
            |ordered: &[Ordered], measured| progress(&battery, wh(1_000), ordered, measured);
        let full = reached(&[bought], None);
        assert_eq!((full.energy, full.cost), (wh(1_800), milli(100)));
        let empty = reached(&[sold, bought], None);
        assert_eq!((empty.energy, empty.cost), (wh(1_000), Price::ZERO));
        // A third of the interval in which it is charged is over, and the battery says how full it is.
        let measured = |energy, s| {
            Some(Measured {
                energy: wh(energy),
                at: at(0).start().plus_s(s),
            })
        };
        let half = reached(&[bought], measured(1_300, 300));
        assert_eq!((half.energy, half.cost), (wh(1_300 + 532), milli(100)));
        let after = reached(&[bought], measured(1_700, 901));
        assert_eq!((after.energy, after.cost), (wh(1_700), milli(100)));
        let out = reached(&[bought], measured(900, 901));
        assert_eq!((out.energy, out.cost), (wh(900), Price::ZERO));
    }
}
