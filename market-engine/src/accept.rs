//! Whether a verified order may go into the book: gate, wishes, price range, and its participant's limits.

use domain::order::{Order, Side};
use domain::rejection::Rejection;
use domain::time::Timestamp;

use crate::market::{Gate, Rules, gate};
use crate::preference::Heeded;

/// What a participant has in an interval already, without the order that is to be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Own {
    /// Orders ever accepted, those taken back too, and those taken back before they came.
    pub changes: u32,
    /// Orders that stand.
    pub standing: u32,
    /// Energy of the standing bids through the order's metering point.
    pub bid_wh: i64,
    /// Energy of the standing offers through it.
    pub offer_wh: i64,
    /// What the standing bids cost at most, fees aside, in nano-tokens.
    pub at_risk: i128,
}

impl Own {
    /// Counts a standing order of the same participant and interval; its energy, if `same_point`.
    pub fn add(&mut self, order: &Order, same_point: bool) {
        self.standing = self.standing.saturating_add(1);
        let side_wh = match order.side {
            Side::Bid => &mut self.bid_wh,
            Side::Offer => &mut self.offer_wh,
        };
        if same_point {
            *side_wh = side_wh.saturating_add(order.energy.wh());
        }
        self.at_risk += at_risk(order);
    }
}

/// What an order costs at most, in nano-tokens.
fn at_risk(order: &Order) -> i128 {
    let premium = order.preference.green_premium.micro_per_kwh();
    let most = i128::from(order.limit.micro_per_kwh()) + i128::from(premium);
    match order.side {
        Side::Bid => most * i128::from(order.energy.wh()),
        Side::Offer => 0,
    }
}

/// Checks an order whose signature was verified. `rating_w` is the rating of its metering point.
///
/// # Errors
/// - `interval_unaligned`: not an interval of this community's length
/// - `future`: the gate has not opened yet
/// - `gate_closed`: it has closed
/// - `wish_unheeded`: it wishes what the market's mechanism cannot heed
/// - `implausible`: more energy than the point can carry in the interval
/// - `over_limit`: a limit price, with its premium, outside floor and cap, one order or one change too many, more energy or
///   money together with the participant's other orders than allowed, or a sequence above 2^63
pub fn check(
    order: &Order,
    rules: &Rules,
    now: Timestamp,
    rating_w: u32,
    own: Own,
) -> Result<(), Rejection> {
    if order.interval.length_s() != rules.interval_length_s {
        return Err(Rejection::IntervalUnaligned);
    }
    match gate(now, order.interval, rules) {
        Gate::NotYetOpen => return Err(Rejection::Future),
        Gate::Closed => return Err(Rejection::GateClosed),
        Gate::Open => {}
    }
    let heeded = Heeded::by(rules.mechanism);
    if heeded.of(order.preference.clone()) != order.preference {
        return Err(Rejection::WishUnheeded);
    }
    let most_wh = energy_max_wh(rating_w, rules.interval_length_s);
    if order.energy.wh() > most_wh {
        return Err(Rejection::Implausible);
    }
    let mut all = own;
    all.add(order, true);
    let most = order.most().is_some_and(|most| most <= rules.price_cap);
    let priced = order.limit >= rules.price_floor && most;
    let numbered = i64::try_from(order.sequence).is_ok();
    let counted = all.standing <= rules.orders_per_participant_max
        && own.changes < rules.changes_per_participant_max;
    let agreed_wh = rules
        .energy_per_participant_max
        .map_or(most_wh, |most| most.wh());
    let carried = all.bid_wh.max(all.offer_wh) <= most_wh.min(agreed_wh);
    let affordable = rules
        .money_per_participant_max
        .is_none_or(|most| all.at_risk <= i128::from(most.nano()));
    if priced && numbered && counted && carried && affordable {
        Ok(())
    } else {
        Err(Rejection::OverLimit)
    }
}

/// The most energy that a point of this rating carries in an interval, floored.
#[must_use]
pub fn energy_max_wh(rating_w: u32, interval_length_s: u32) -> i64 {
    i64::from(rating_w) * i64::from(interval_length_s) / 3600
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clear::{Mechanism, Words};
    use domain::energy::Energy;
    use domain::ids::{ParticipantId, PointId};
    use domain::money::{Money, Price};
    use domain::order::Preference;
    use domain::time::Interval;

    fn fine() -> Order {
        Order {
            participant: ParticipantId::new("home-03").unwrap(),
            point: PointId::new("home-03").unwrap(),
            side: Side::Bid,
            interval: Interval::new(1_782_000_000, 900).unwrap(),
            energy: Energy::from_wh(2500),
            limit: Price::from_micro_per_kwh(200_000),
            sequence: 1,
            replaces: None,
            preference: Preference::default(),
        }
    }

    fn word(order: &Order, rules: &Rules, before_s: i64, own: Own) -> &'static str {
        let now = fine().interval.start().plus_s(-before_s);
        super::check(order, rules, now, 10_000, own).map_or_else(Rejection::name, |()| "accepted")
    }

    #[test]
    fn an_order_is_checked_against_gate_price_range_and_rating() {
        let check = |order: Order, before_s: i64, expect: &str| {
            let got = word(&order, &Rules::default(), before_s, Own::default());
            assert_eq!(got, expect, "{order:?}");
        };
        check(fine(), 301, "accepted");
        check(fine(), 86_400, "accepted");
        check(fine(), 86_401, "future");
        check(fine(), 300, "gate_closed");
        let energy = Energy::from_wh(2501);
        check(Order { energy, ..fine() }, 400, "implausible");
        let sequence = u64::MAX;
        check(Order { sequence, ..fine() }, 400, "over_limit");
        let interval = Interval::new(1_782_000_000, 3600).unwrap();
        check(Order { interval, ..fine() }, 400, "interval_unaligned");
        let priced = |micro| Order {
            limit: Price::from_micro_per_kwh(micro),
            ..fine()
        };
        check(priced(-1), 400, "over_limit");
        check(priced(0), 400, "accepted");
        check(priced(1_000_000), 400, "accepted");
        check(priced(1_000_001), 400, "over_limit");
    }

    #[test]
    fn what_an_order_wishes_has_to_be_what_the_mechanism_heeds() {
        let wishes = |change: fn(&mut Preference)| {
            let mut preference = Preference::default();
            change(&mut preference);
            preference
        };
        let partner = wishes(|w| w.partners = vec![ParticipantId::new("home-07").unwrap()]);
        let feeder = wishes(|w| w.same_feeder = true);
        let green = wishes(|w| w.green = true);
        let premium = wishes(|w| w.green_premium = Price::from_micro_per_kwh(1));
        let all = [Preference::default(), partner, feeder, green, premium];
        let by = |name| {
            let mechanism = Some(name);
            let words = Words {
                mechanism,
                ..Words::default()
            };
            Mechanism::from_words(&words).unwrap()
        };
        for (name, accepted) in [
            ("uniform-price", [true; 5]),
            ("pay-as-bid", [true; 5]),
            ("trade-reduction", [true, true, true, true, false]),
            ("huang", [true, true, true, true, false]),
            ("vcg", [true, true, true, true, false]),
            ("continuous", [true, false, false, false, false]),
            ("muda", [true, false, false, false, false]),
        ] {
            let rules = Rules {
                mechanism: by(name),
                ..Rules::default()
            };
            let told = all.clone().map(|preference| {
                let order = Order {
                    preference,
                    ..fine()
                };
                word(&order, &rules, 400, Own::default())
            });
            let expect = accepted.map(|fine| if fine { "accepted" } else { "wish_unheeded" });
            assert_eq!(told, expect, "{name}");
        }
    }

    #[test]
    fn an_order_is_checked_together_with_the_participant_s_others() {
        let plain = Rules::default();
        let energy_per_participant_max = Some(Energy::from_wh(2000));
        let modest = Rules {
            energy_per_participant_max,
            ..plain
        };
        // 1000 Wh at 0.2 token/kWh are 0.2 token.
        let money_per_participant_max = Some(Money::from_nano(300_000_000));
        let careful = Rules {
            money_per_participant_max,
            ..plain
        };
        let energy = Energy::from_wh(1000);
        let bid = Order { energy, ..fine() };
        let offer = Order {
            side: Side::Offer,
            ..bid.clone()
        };
        let with = |standing: u32, changes: u32, others: &[&Order]| {
            let mut own = Own::default();
            others.iter().for_each(|other| own.add(other, true));
            Own {
                standing,
                changes,
                ..own
            }
        };
        let check = |order: &Order, rules: &Rules, own: Own, expect: &str| {
            assert_eq!(word(order, rules, 400, own), expect, "{own:?}");
        };
        check(&bid, &plain, with(15, 255, &[]), "accepted");
        check(&bid, &plain, with(16, 16, &[]), "over_limit");
        check(&bid, &plain, with(0, 256, &[]), "over_limit");
        check(&bid, &plain, with(1, 1, &[&bid]), "accepted");
        check(&bid, &plain, with(2, 2, &[&bid, &bid]), "over_limit");
        check(&bid, &plain, with(2, 2, &[&bid, &offer]), "accepted");
        check(&offer, &plain, with(2, 2, &[&offer, &offer]), "over_limit");
        check(&bid, &modest, with(1, 1, &[&bid]), "accepted");
        check(&bid, &modest, with(2, 2, &[&bid, &bid]), "over_limit");
        check(&bid, &careful, with(0, 0, &[]), "accepted");
        check(&bid, &careful, with(1, 1, &[&bid]), "over_limit");
        check(&offer, &careful, with(1, 1, &[&bid]), "accepted");
    }
}
