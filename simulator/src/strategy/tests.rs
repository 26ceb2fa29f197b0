//! Every strategy: honest limits, the right side, learning that learns, and the barrier.

use proptest::prelude::*;

use super::*;
use crate::model::random::Stream;

const PAYS: Price = Price::from_micro_per_kwh(80_000);
const TAKES: Price = Price::from_micro_per_kwh(300_000);

fn public(tariff_ahead: &[(Price, Price)]) -> Public<'_> {
    Public {
        utility_pays: PAYS,
        utility_takes: TAKES,
        gate_permille: 1000,
        tariff_ahead,
    }
}

fn own(expected_wh: i64, battery: Option<OwnBattery>) -> Own<'static> {
    Own {
        expected_wh,
        expected_ahead_wh: &[],
        battery,
    }
}

fn battery(stored_wh: i64) -> OwnBattery {
    OwnBattery {
        room_wh: (10_000 - stored_wh).min(1250),
        ready_wh: stored_wh.min(1250),
        charge_wh: 1250,
        discharge_wh: 1250,
        stored_wh,
        capacity_wh: 10_000,
        charge_permille: 950,
        discharge_permille: 950,
    }
}

fn draws(interval: i64) -> Draws {
    Stream::new(1, "orders").at(1, interval)
}

fn fate(wish: Option<Wish>, traded_wh: i64, price_micro: Option<i64>) -> Fate {
    Fate {
        wish,
        traded_wh,
        price: price_micro.map(Price::from_micro_per_kwh),
        utility_pays: PAYS,
        utility_takes: TAKES,
    }
}

#[test]
fn names_are_those_of_scenarios() {
    for kind in Kind::ALL {
        let text = serde_json::to_string(&kind).unwrap();
        assert_eq!(text, format!("\"{}\"", kind.name()));
    }
}

proptest! {
    #[test]
    fn nobody_trades_worse_than_with_the_utility_and_everybody_on_his_side(
        expected_wh in -5000_i64..5000,
        stored_wh in 0_i64..10_000,
        pays in -100_000_i64..400_000,
        takes in -100_000_i64..400_000,
        with_battery: bool,
        interval in 0_i64..1000,
        gate_permille in 0_u32..1200,
    ) {
        let tariff = [(Price::from_micro_per_kwh(pays), Price::from_micro_per_kwh(takes)); 3];
        let public = Public {
            utility_pays: tariff[0].0,
            utility_takes: tariff[0].1,
            gate_permille,
            tariff_ahead: &tariff,
        };
        let ahead = [expected_wh; 3];
        let own = Own {
            expected_wh,
            expected_ahead_wh: &ahead,
            battery: with_battery.then(|| battery(stored_wh)),
        };
        for kind in Kind::ALL {
            let mut mind = Mind::new(kind, &mut draws(-1));
            let decision = mind.decide(&public, &own, &mut draws(interval));
            let planned_wh = match decision.battery {
                BatteryPlan::Follow => own.following_wh() - expected_wh,
                BatteryPlan::Fixed(wh) => wh,
            };
            let able = own.battery.unwrap_or_default();
            prop_assert!((-able.ready_wh..=able.room_wh).contains(&planned_wh), "{:?}", kind);
            let Some(wish) = decision.wish else { continue };
            prop_assert!(kind != Kind::GridOnly && wish.energy_wh > 0);
            let net_wh = expected_wh + planned_wh;
            prop_assert_eq!((wish.side, wish.energy_wh), (side(net_wh), net_wh.abs()), "{:?}", kind);
            if kind != Kind::ZeroIntelligenceUnconstrained {
                match wish.side {
                    Side::Bid => prop_assert!(wish.limit.micro_per_kwh() <= takes, "{:?}", kind),
                    Side::Offer => prop_assert!(wish.limit.micro_per_kwh() >= pays, "{:?}", kind),
                }
            }
        }
    }
}

#[test]
fn zero_intelligence_is_even_between_the_utilitys_prices() {
    let (mut low, mut high, mut sum) = (i64::MAX, i64::MIN, 0);
    for interval in 0..20_000 {
        let decision = simple::Simple::ZeroIntelligence.decide(
            &public(&[]),
            &own(500, None),
            &mut draws(interval),
        );
        let limit = decision.wish.unwrap().limit.micro_per_kwh();
        (low, high, sum) = (low.min(limit), high.max(limit), sum + limit);
    }
    assert!((80_000..80_100).contains(&low) && (299_900..=300_000).contains(&high));
    assert!((sum / 20_000 - 190_000).abs() < 2_500);
}

#[test]
fn a_ramp_goes_from_greedy_to_honest() {
    let limit = |gate_permille, expected_wh| {
        let public = Public {
            gate_permille,
            ..public(&[])
        };
        let decision =
            simple::Simple::LinearRamp.decide(&public, &own(expected_wh, None), &mut draws(0));
        decision.wish.unwrap().limit.micro_per_kwh()
    };
    assert_eq!(
        [limit(0, 1), limit(500, 1), limit(1000, 1)],
        [80_000, 190_000, 300_000]
    );
    assert_eq!(
        [limit(0, -1), limit(500, -1), limit(1000, -1)],
        [300_000, 190_000, 80_000]
    );
}

#[test]
fn a_zip_buyer_comes_down_to_what_suffices_and_goes_up_when_it_is_left_out() {
    let mut zip = zip::Zip::new(&mut draws(0));
    let mut limit_after = |price: i64, trades: bool, rounds: i64| {
        let mut limit = 0;
        for interval in 0..rounds {
            let decision = zip.decide(&public(&[]), &own(500, None), &mut draws(interval));
            let wish = decision.wish.unwrap();
            limit = wish.limit.micro_per_kwh();
            let traded = if trades && limit >= price { 500 } else { 0 };
            zip.learn(
                &fate(decision.wish, traded, Some(price)),
                &mut draws(10_000 + interval),
            );
        }
        limit
    };
    let low = limit_after(120_000, true, 300);
    assert!(
        (100_000..150_000).contains(&low),
        "{low} at a price of 120,000"
    );
    let high = limit_after(250_000, true, 300);
    assert!(
        (225_000..280_000).contains(&high),
        "{high} at a price of 250,000"
    );
}

#[test]
fn a_zip_seller_mirrors_the_buyer() {
    let mut zip = zip::Zip::new(&mut draws(0));
    let mut limit = 0;
    for interval in 0..300 {
        let decision = zip.decide(&public(&[]), &own(-500, None), &mut draws(interval));
        limit = decision.wish.unwrap().limit.micro_per_kwh();
        let traded = if limit <= 200_000 { 500 } else { 0 };
        zip.learn(
            &fate(decision.wish, traded, Some(200_000)),
            &mut draws(10_000 + interval),
        );
    }
    assert!((170_000..230_000).contains(&limit), "{limit}");
}

#[test]
fn roth_and_erev_learn_what_pays() {
    let mut learner = roth_erev::RothErev::default();
    // Offers above 200,000 find nobody; below it the price is the own limit: 190,000 pays best.
    for interval in 0..3000 {
        let decision = learner.decide(&public(&[]), &own(-500, None), &mut draws(interval));
        let limit = decision.wish.unwrap().limit.micro_per_kwh();
        let fate = if limit <= 200_000 {
            fate(decision.wish, 500, Some(limit))
        } else {
            fate(decision.wish, 0, None)
        };
        learner.learn(&fate);
    }
    let likely = learner.likelihood(Side::Offer);
    // Choice 5 is the middle of the utility's prices.
    let above: f64 = likely[6..].iter().sum();
    assert!(
        above < 0.25 && likely[3..=5].iter().sum::<f64>() > 0.5,
        "{likely:?}"
    );
    let untouched = learner.likelihood(Side::Bid);
    assert!(untouched.iter().all(|p| (p - 1.0 / 11.0).abs() < 1e-12));
}

#[test]
fn a_battery_with_thresholds_buys_cheap_and_sells_dear() {
    let mut threshold = threshold::Threshold::default();
    let decide = |threshold: &threshold::Threshold| {
        threshold.decide(&public(&[]), &own(300, Some(battery(5000))))
    };
    assert_eq!(decide(&threshold).battery, BatteryPlan::Follow);
    for _ in 0..200 {
        threshold.learn(&fate(None, 0, Some(190_000)));
    }
    threshold.learn(&fate(None, 0, Some(100_000)));
    assert_eq!(decide(&threshold).battery, BatteryPlan::Fixed(1250));
    assert_eq!(
        decide(&threshold).wish.map(|w| (w.side, w.energy_wh)),
        Some((Side::Bid, 1550))
    );
    threshold.learn(&fate(None, 0, Some(290_000)));
    assert_eq!(decide(&threshold).battery, BatteryPlan::Fixed(-1250));
    assert_eq!(
        decide(&threshold).wish.map(|w| (w.side, w.energy_wh)),
        Some((Side::Offer, 950))
    );
}

#[test]
fn a_tariff_follower_charges_in_the_night_and_keeps_it_for_the_evening() {
    let at = |takes: i64| (PAYS, Price::from_micro_per_kwh(takes));
    let day: Vec<(Price, Price)> = [at(200_000); 6]
        .into_iter()
        .chain([at(300_000); 12])
        .chain([at(400_000); 6])
        .collect();
    let decide = |hour: usize| {
        let public = Public {
            utility_takes: day[hour].1,
            tariff_ahead: &day[hour..],
            ..public(&[])
        };
        tariff::decide(&public, &own(500, Some(battery(5000)))).battery
    };
    assert_eq!(decide(2), BatteryPlan::Fixed(1250));
    assert_eq!(decide(20), BatteryPlan::Follow);
    let middle = Public {
        utility_takes: day[10].1,
        tariff_ahead: &day,
        ..public(&[])
    };
    assert_eq!(
        tariff::decide(&middle, &own(500, Some(battery(5000)))).battery,
        BatteryPlan::Fixed(0)
    );
    assert_eq!(
        tariff::decide(&public(&[]), &own(500, Some(battery(5000)))).battery,
        BatteryPlan::Follow
    );
}

#[test]
fn a_battery_with_a_plan_stores_the_noon_for_the_evening() {
    let tariff = [(PAYS, TAKES); 8];
    let net = [-1000, -1000, -1000, -1000, 1000, 1000, 1000, 1000];
    let mut mind = Mind::new(Kind::BatteryLookAhead, &mut draws(0));
    let mut decide = |hour: usize, stored_wh| {
        let own = Own {
            expected_wh: net[hour],
            expected_ahead_wh: &net[hour..],
            battery: Some(battery(stored_wh)),
        };
        mind.decide(&public(&tariff[hour..]), &own, &mut draws(0))
            .battery
    };
    let BatteryPlan::Fixed(noon) = decide(0, 0) else {
        panic!("no plan")
    };
    assert_eq!(noon, 1000, "what is over, exactly");
    let BatteryPlan::Fixed(evening) = decide(5, 3000) else {
        panic!("no plan")
    };
    assert_eq!(evening, -1000);
    assert_eq!(
        Mind::new(Kind::BatteryLookAhead, &mut draws(0))
            .decide(&public(&tariff), &own(300, None), &mut draws(0))
            .battery,
        BatteryPlan::Follow
    );
}

/// The barrier: the files of strategies name no part of this crate but random numbers and roundings.
#[test]
fn strategies_cannot_look_elsewhere() {
    for (file, text) in [
        ("simple", include_str!("simple.rs")),
        ("tariff", include_str!("tariff.rs")),
        ("zip", include_str!("zip.rs")),
        ("roth_erev", include_str!("roth_erev.rs")),
        ("threshold", include_str!("threshold.rs")),
        ("look_ahead", include_str!("look_ahead.rs")),
        ("planner", include_str!("planner.rs")),
    ] {
        let allowed = ["crate::model::random::", "crate::number::"];
        let others = text
            .match_indices("crate::")
            .filter(|(at, _)| !allowed.iter().any(|path| text[*at..].starts_with(path)));
        assert_eq!(others.count(), 0, "{file} looks beyond the barrier");
        assert!(
            !text.contains("static ") && !text.contains("std::fs"),
            "{file}"
        );
    }
}
