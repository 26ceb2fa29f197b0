//! Whether a verified standing order may stand: its time, its power, its price, and how many its participant has.

use domain::rejection::Rejection;
use domain::standing_order::{Standing, StandingOrder};
use domain::time::{Interval, Timestamp};

use crate::market::{Rules, closes_at};

/// Most standing orders of one participant at the same time.
pub const STANDING_MAX: usize = 32;

/// Longest time that one stands, in seconds: 31 days.
pub const STANDS_MAX_S: i64 = 31 * 86_400;

/// Checks a standing order whose signature was verified. `rating_w` is the rating of its metering point, `others`
/// how many of its participant's stand beside it.
///
/// # Errors
/// - `gate_closed`: no interval whose gate is still open ends in time
/// - `future`: it would stand for more than [`STANDS_MAX_S`]
/// - `implausible`: more power than the metering point carries
/// - `over_limit`: a limit outside floor and cap, one too many, or a sequence above 2^63
pub fn check(
    order: &StandingOrder,
    rules: &Rules,
    now: Timestamp,
    rating_w: u32,
    others: usize,
) -> Result<(), Rejection> {
    let until = order.wish.until();
    let here = Interval::containing(now, rules.interval_length_s);
    let here = here.map_err(|_| Rejection::IntervalUnaligned)?;
    let length_s = i64::from(rules.interval_length_s);
    let passed = i64::from(rules.gate_closure_s) / length_s + 2;
    let open = (0..=passed).map(|n| here.offset(n));
    let first = open.into_iter().find(|one| now < closes_at(*one, rules));
    if first.is_none_or(|first| first.end() > until) {
        return Err(Rejection::GateClosed);
    }
    if until > now.plus_s(STANDS_MAX_S) {
        return Err(Rejection::Future);
    }
    let (power_w, limit) = match &order.wish {
        Standing::Deadline(deadline) => (deadline.power_max_w, Some(deadline.limit)),
        Standing::Battery(battery) => (battery.charge_max_w.max(battery.discharge_max_w), None),
    };
    if power_w > rating_w {
        return Err(Rejection::Implausible);
    }
    let priced = limit.is_none_or(|limit| (rules.price_floor..=rules.price_cap).contains(&limit));
    let numbered = i64::try_from(order.sequence).is_ok();
    match priced && numbered && others < STANDING_MAX {
        true => Ok(()),
        false => Err(Rejection::OverLimit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::energy::Energy;
    use domain::ids::{ParticipantId, PointId};
    use domain::money::Price;
    use domain::standing_order::Deadline;

    const NOON: Timestamp = Timestamp::from_unix_s(1_782_043_200);

    #[test]
    fn a_standing_order_is_checked_against_time_power_price_and_number() {
        let check = |by_s: i64, power_max_w, micro, others, expect: &str| {
            let order = StandingOrder {
                participant: ParticipantId::new("home-1").unwrap(),
                point: PointId::new("home-1.meter").unwrap(),
                sequence: 1,
                replaces: None,
                wish: Standing::Deadline(Deadline {
                    energy: Energy::from_wh(20_000),
                    by: NOON.plus_s(by_s),
                    power_max_w,
                    limit: Price::from_micro_per_kwh(micro),
                    must: false,
                }),
                begins_with: Energy::ZERO,
                capacity: None,
                counted_at: None,
            };
            let got = super::check(&order, &Rules::default(), NOON, 11_000, others);
            let got = got.map_or_else(Rejection::name, |()| "accepted");
            assert_eq!(got, expect, "{by_s} {power_max_w} {micro} {others}");
        };
        // At noon the gate of 12:15 is open, and it ends at 12:30.
        check(1_800, 11_000, 180_000, 0, "accepted");
        check(1_799, 11_000, 180_000, 0, "gate_closed");
        check(-5, 11_000, 180_000, 0, "gate_closed");
        check(STANDS_MAX_S, 11_000, 180_000, 31, "accepted");
        check(STANDS_MAX_S + 1, 11_000, 180_000, 0, "future");
        check(3_600, 11_001, 180_000, 0, "implausible");
        check(3_600, 11_000, 1_000_001, 0, "over_limit");
        check(3_600, 11_000, -1, 0, "over_limit");
        check(3_600, 11_000, 180_000, 32, "over_limit");
    }
}
