//! The market's rules and its gates: when an interval takes orders, and which intervals are due.

use domain::money::Price;
use domain::time::{Interval, TimeError, Timestamp};

use crate::clear::Mechanism;

/// Most intervals that are cleared in one go; the rest follows in the next.
pub const DUE_MAX: usize = 96;

/// What a community has agreed on for its market.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Length of an interval in seconds.
    pub interval_length_s: u32,
    /// How long before its start an interval stops taking orders.
    pub gate_closure_s: u32,
    /// How long before its start an interval begins to take orders.
    pub gate_open_s: u32,
    /// Lowest limit an order may have.
    pub price_floor: Price,
    /// Highest limit an order may have.
    pub price_cap: Price,
    /// Most orders of one participant in one interval.
    pub orders_per_participant_max: u32,
    /// How the book is cleared.
    pub mechanism: Mechanism,
}

impl Default for Rules {
    /// Quarter-hours, open for a day until five minutes before they start, limits from 0 to 1
    /// token/kWh, 16 orders each, one price in the middle.
    fn default() -> Self {
        Rules {
            interval_length_s: domain::time::DEFAULT_INTERVAL_S,
            gate_closure_s: 300,
            gate_open_s: 86_400,
            price_floor: Price::ZERO,
            price_cap: Price::from_micro_per_kwh(1_000_000),
            orders_per_participant_max: 16,
            mechanism: Mechanism::default(),
        }
    }
}

/// Whether an interval takes orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// It will.
    NotYetOpen,
    /// It does.
    Open,
    /// It did; its book is due for clearing.
    Closed,
}

/// The first instant at which an interval takes no more orders.
#[must_use]
pub fn closes_at(interval: Interval, rules: &Rules) -> Timestamp {
    interval.start().plus_s(-i64::from(rules.gate_closure_s))
}

/// The gate of an interval: open from `gate_open_s` to `gate_closure_s` before its start, half-open.
#[must_use]
pub fn gate(now: Timestamp, interval: Interval, rules: &Rules) -> Gate {
    let opens_at = interval.start().plus_s(-i64::from(rules.gate_open_s));
    if now >= closes_at(interval, rules) {
        Gate::Closed
    } else if now >= opens_at {
        Gate::Open
    } else {
        Gate::NotYetOpen
    }
}

/// Where a new market begins: the interval that runs at `now`. Its gate has closed, so its book is
/// empty; but it is cleared, and whatever is metered from now on can be settled.
///
/// # Errors
/// The interval's length does not divide the hour.
pub fn first_interval(now: Timestamp, rules: &Rules) -> Result<Interval, TimeError> {
    Interval::containing(now, rules.interval_length_s)
}

/// The intervals from `next` on whose gate has closed at `now`, in order, [`DUE_MAX`] at most.
#[must_use]
pub fn due(next: Interval, now: Timestamp, rules: &Rules) -> Vec<Interval> {
    let intervals = std::iter::successors(Some(next), |interval| {
        Some(interval.next()).filter(|after| after != interval)
    });
    intervals
        .take_while(|i| gate(now, *i, rules) == Gate::Closed)
        .take(DUE_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Interval {
        Interval::new(1_782_000_000, 900).unwrap()
    }

    #[test]
    fn a_gate_is_half_open_to_the_millisecond() {
        let rules = Rules::default();
        let start = noon().start();
        let at = |s: i64, ms: i64| gate(start.plus_s(s).plus_ms(ms), noon(), &rules);
        assert_eq!(at(-86_400, -1), Gate::NotYetOpen);
        assert_eq!(at(-86_400, 0), Gate::Open);
        assert_eq!(at(-300, -1), Gate::Open);
        assert_eq!(at(-300, 0), Gate::Closed);
        assert_eq!(at(900, 0), Gate::Closed);
    }

    #[test]
    fn a_market_begins_with_the_interval_that_runs() {
        let rules = Rules::default();
        for ms in [0, 1, 299_999, 600_000, 899_999] {
            let first = first_interval(noon().start().plus_ms(ms), &rules).unwrap();
            assert_eq!(first, noon(), "{ms}");
        }
    }

    #[test]
    fn what_is_due_comes_in_order_and_not_all_at_once() {
        let rules = Rules::default();
        let closing = closes_at(noon(), &rules);
        assert_eq!(due(noon(), closing.plus_ms(-1), &rules), []);
        assert_eq!(due(noon(), closing, &rules), [noon()]);
        assert_eq!(
            due(noon(), closing.plus_s(900), &rules),
            [noon(), noon().next()]
        );
        let late = due(noon(), closing.plus_s(900 * 500), &rules);
        assert_eq!(
            (late.len(), late[0], late[95]),
            (DUE_MAX, noon(), noon().offset(95))
        );
    }
}
