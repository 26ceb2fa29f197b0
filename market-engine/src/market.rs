//! The market's rules and its gates: when an interval takes orders, and which intervals are due. What
//! happens to orders in between is the state machine [`Market`]; a cleared interval is a [`Cleared`].

mod clearing;
mod machine;
mod wishes;

use domain::energy::Energy;
use domain::money::{Money, Price};
use domain::time::{Interval, TimeError, Timestamp};

use crate::clear::Mechanism;
pub use clearing::{Cleared, ClearedOrder, Secret};
pub use machine::{Command, Event, Market, Placed, Sender, Share, Totals};

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
    /// Most standing orders of one participant in one interval.
    pub orders_per_participant_max: u32,
    /// Most orders of one participant that one interval ever takes, those taken back too.
    pub changes_per_participant_max: u32,
    /// Most messages of one participant in a minute; the next ones are refused as `rate_limited`.
    pub messages_per_minute_max: u32,
    /// Most energy a participant may bid for, and as much offer, in one interval; none: the rating alone.
    pub energy_per_participant_max: Option<Energy>,
    /// The most that a participant's bids in one interval may cost, fees aside.
    pub money_per_participant_max: Option<Money>,
    /// A participant may always order so much of a side, whatever its share of the side is.
    pub share_free: Energy,
    /// Above this share of a side (in thousandths) there is an alarm at gate closure.
    pub share_alarm_permille: Option<u32>,
    /// An order that takes its participant's share of a side above this (in thousandths) is refused.
    pub share_cap_permille: Option<u32>,
    /// How the book is cleared.
    pub mechanism: Mechanism,
}

impl Default for Rules {
    /// Quarter-hours, open for a day until five minutes before they start, limits from 0 to 1
    /// token/kWh, 16 orders each with room for 256 changes, 600 messages a minute, an alarm where one
    /// has more than 10 kWh and 60 % of a side, one price in the middle.
    fn default() -> Self {
        Rules {
            interval_length_s: domain::time::DEFAULT_INTERVAL_S,
            gate_closure_s: 300,
            gate_open_s: domain::order::AHEAD_MAX_S,
            price_floor: Price::ZERO,
            price_cap: Price::from_micro_per_kwh(1_000_000),
            orders_per_participant_max: 16,
            changes_per_participant_max: 256,
            messages_per_minute_max: 600,
            energy_per_participant_max: None,
            money_per_participant_max: None,
            share_free: Energy::from_wh(10_000),
            share_alarm_permille: Some(600),
            share_cap_permille: None,
            mechanism: Mechanism::default(),
        }
    }
}

impl Rules {
    /// The most energy that a participant may have of a side of which others have `others_wh`: what is free to
    /// everybody, or what keeps its share within the cap. None where there is no cap.
    #[must_use]
    pub fn share_max_wh(&self, others_wh: i64) -> Option<i64> {
        let cap = i128::from(self.share_cap_permille?);
        let rest = 1000_i128.checked_sub(cap).filter(|rest| *rest > 0)?;
        let within = i128::from(others_wh.max(0)) * cap / rest;
        let within = i64::try_from(within).unwrap_or(i64::MAX);
        Some(within.max(self.share_free.wh()))
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
}
