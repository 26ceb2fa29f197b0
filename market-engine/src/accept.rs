//! Whether a verified order may go into the book.

use domain::order::Order;
use domain::rejection::Rejection;
use domain::signed::Verified;
use domain::time::Timestamp;

use crate::market::{Gate, Rules, gate};

/// Checks an order whose signature was verified. `rating_w` is the rating of its metering point,
/// `placed` the number of orders its participant already has in the interval.
///
/// # Errors
/// - `interval_unaligned`: not an interval of this community's length
/// - `future`: the gate has not opened yet
/// - `gate_closed`: it has closed
/// - `over_limit`: a limit price outside floor and cap, one order too many, or a sequence above 2^63
/// - `implausible`: more energy than the point can carry in the interval
pub fn check(
    order: &Verified<Order>,
    rules: &Rules,
    now: Timestamp,
    rating_w: u32,
    placed: u32,
) -> Result<(), Rejection> {
    let order = order.message();
    if order.interval.length_s() != rules.interval_length_s {
        return Err(Rejection::IntervalUnaligned);
    }
    match gate(now, order.interval, rules) {
        Gate::NotYetOpen => return Err(Rejection::Future),
        Gate::Closed => return Err(Rejection::GateClosed),
        Gate::Open => {}
    }
    if order.replaces.is_some() {
        return Err(Rejection::UnknownOrder);
    }
    let priced = (rules.price_floor..=rules.price_cap).contains(&order.limit);
    let numbered = i64::try_from(order.sequence).is_ok();
    if !priced || !numbered || placed >= rules.orders_per_participant_max {
        return Err(Rejection::OverLimit);
    }
    if order.energy.wh() > energy_max_wh(rating_w, rules.interval_length_s) {
        return Err(Rejection::Implausible);
    }
    Ok(())
}

/// The most energy that a point of this rating carries in an interval, floored.
#[must_use]
pub fn energy_max_wh(rating_w: u32, interval_length_s: u32) -> i64 {
    i64::from(rating_w) * i64::from(interval_length_s) / 3600
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::energy::Energy;
    use domain::ids::{CommunityId, ParticipantId, PointId};
    use domain::money::Price;
    use domain::order::Side;
    use domain::signed::{PublicKey, Signed, SigningKey};
    use domain::time::Interval;

    #[test]
    fn an_order_is_checked_against_gate_limits_and_rating() {
        let (key, street) = (
            SigningKey::from_bytes(&[7; 32]),
            CommunityId::new("street").unwrap(),
        );
        let fine = Order {
            participant: ParticipantId::new("home-03").unwrap(),
            point: PointId::new("home-03").unwrap(),
            side: Side::Bid,
            interval: Interval::new(1_782_000_000, 900).unwrap(),
            energy: Energy::from_wh(2500),
            limit: Price::from_micro_per_kwh(200_000),
            sequence: 1,
            replaces: None,
        };
        let rules = Rules::default();
        let check = |order: Order, before_s: i64, placed, expect: &str| {
            let signed = Signed::sign(&key, &street, &order);
            let verified = signed.verify(PublicKey::of(&key), &street).unwrap();
            let now = fine.interval.start().plus_s(-before_s);
            let got = super::check(&verified, &rules, now, 10_000, placed);
            assert_eq!(got.map_or_else(Rejection::name, |()| "accepted"), expect);
        };
        check(fine.clone(), 301, 15, "accepted");
        check(fine.clone(), 86_400, 0, "accepted");
        check(fine.clone(), 86_401, 0, "future");
        check(fine.clone(), 300, 0, "gate_closed");
        check(fine.clone(), 301, 16, "over_limit");
        check(
            Order {
                energy: Energy::from_wh(2501),
                ..fine.clone()
            },
            400,
            0,
            "implausible",
        );
        check(
            Order {
                sequence: u64::MAX,
                ..fine.clone()
            },
            400,
            0,
            "over_limit",
        );
        let hour = Interval::new(1_782_000_000, 3600).unwrap();
        check(
            Order {
                interval: hour,
                ..fine.clone()
            },
            400,
            0,
            "interval_unaligned",
        );
        let priced = |micro| Order {
            limit: Price::from_micro_per_kwh(micro),
            ..fine.clone()
        };
        check(priced(-1), 400, 0, "over_limit");
        check(priced(0), 400, 0, "accepted");
        check(priced(1_000_000), 400, 0, "accepted");
        check(priced(1_000_001), 400, 0, "over_limit");
    }
}
