//! What the gateway makes of odd counters, and what the platform's books say to it: every reading of a
//! counter that rolls over, begins anew, counts sessions only, is exchanged or does not exist is signed,
//! verified and accepted, and their energies are those that the device was seen to count.

use domain::ids::{CommunityId, DeviceId, GatewayId, PointId};
use domain::key_record::PointRole;
use domain::reading::{ClockStamp, ClockState, MeasurementClass, Obis};
use domain::signed::{PublicKey, SigningKey};
use domain::time::Timestamp;
use meter_gateway::measure::{Counter, CounterEnd, CounterSample, Limits, MeterMark, State};
use meter_gateway::sign::{Chain, Signer};
use settlement::accept::{Accepted, PointState, RegisteredPoint, Verdict, check};

const START_S: i64 = 1_782_000_000;
const RATING_W: u32 = 20_000;
const INTERVAL_S: u32 = 900;
/// At 3600 W a counter rises by 1 Wh a second.
const POWER_W: i64 = 3600;

fn limits(class: MeasurementClass) -> Limits {
    Limits {
        interval_length_s: INTERVAL_S,
        max_gap_ms: 30_000,
        rating_w: RATING_W,
        resolution_wh: 1,
        class,
    }
}

/// A sample every 10 s for four intervals, of a counter that shows `shown_mwh` at a second.
fn samples(shown_mwh: impl Fn(i64) -> i64, end: CounterEnd) -> Vec<CounterSample> {
    let at = |s| CounterSample {
        read_at: Timestamp::from_unix_s(START_S + s),
        import: Some(Counter {
            mwh: shown_mwh(s),
            end,
        }),
        export: None,
        import_w: Some(POWER_W),
        meter: Some(MeterMark::default()),
        waited_ms: Some(10_000),
        clock_stepped: false,
    };
    (0..3711).step_by(10).map(at).collect()
}

/// Measures, signs, verifies and accepts; the energies that are in the books then, and the newest era.
fn booked(samples: Vec<CounterSample>, class: MeasurementClass) -> (Vec<i64>, u32) {
    let (key, community) = (
        SigningKey::from_bytes(&[7; 32]),
        CommunityId::new("c").unwrap(),
    );
    let signer = Signer {
        key: key.clone(),
        community: community.clone(),
        device: DeviceId([1; 16]),
        point: PointId::new("p").unwrap(),
        profile: [2; 8],
    };
    let gateway = GatewayId::new("gw-1").unwrap();
    let point = RegisteredPoint {
        point: signer.point.clone(),
        gateway: gateway.clone(),
        role: PointRole::Connection,
        participant: None,
        rating_w: RATING_W,
    };
    let (mut state, mut chain) = (State::default(), Chain::default());
    let (mut before, mut energies, mut era) = (None, Vec::new(), 0);
    for sample in samples {
        for measured in state.push(&sample, &limits(class)) {
            let clock = ClockStamp {
                signed_at: sample.read_at,
                state: ClockState::Synchronised,
                error_ms: 100,
            };
            let (sequence, signed) = signer.sign(&mut chain, measured, clock);
            let verified = signed.verify(PublicKey::of(&key), &community).unwrap();
            let known = PointState {
                before,
                ..PointState::default()
            };
            let now = sample.read_at;
            let verdict = check(&verified, &gateway, &point, &known, INTERVAL_S, now);
            assert_eq!(verdict, Verdict::Accept(Vec::new()), "{sequence}");
            let reading = verified.message();
            energies.push(reading.energy(Obis::IMPORT).unwrap().wh());
            era = reading.era;
            before = Some(Accepted {
                sequence,
                interval: reading.interval,
                registers: reading.registers.clone(),
                era,
                digest: verified.digest(),
            });
        }
    }
    (energies, era)
}

const COUNTER: MeasurementClass = MeasurementClass::MeterCounter;

#[test]
fn counters_that_roll_over_are_in_the_books_to_the_watt_hour() {
    // 2^32 Wh, 2^32 × 0.1 Wh, 2^16 × 0.1 kWh, 100,000 kWh: each is full after 500 s, 1,400 s or 2,699 s.
    for span_mwh in [
        4_294_967_296_000,
        429_496_729_600,
        6_553_600_000,
        100_000_000_000,
    ] {
        for full_s in [500, 1400, 2699] {
            let shown = |s: i64| (span_mwh - 1000 * full_s + 1000 * s).rem_euclid(span_mwh);
            let end = CounterEnd::Wraps {
                span_mwh,
                is_signed: false,
            };
            let (energies, era) = booked(samples(shown, end), COUNTER);
            assert_eq!((energies, era), (vec![900; 4], 0), "{span_mwh} {full_s}");
        }
    }
}

#[test]
fn a_charger_that_counts_sessions_only_adds_them_up() {
    // A session ends at 1,000 s and another begins with nothing.
    let shown = |s: i64| 1000 * if s < 1000 { s } else { s - 1000 };
    let (energies, era) = booked(samples(shown, CounterEnd::Session), COUNTER);
    assert_eq!((era, energies.len()), (0, 4));
    // Ten seconds are between the last value of one and the first of the other.
    assert_eq!(energies.iter().sum::<i64>(), 3590);
}

#[test]
fn a_counter_that_is_reset_or_exchanged_begins_an_era_and_loses_only_what_nobody_saw() {
    let reset = |s: i64| 1000 * if s < 1000 { 50_000 + s } else { s - 1000 };
    let (energies, era) = booked(samples(reset, CounterEnd::Open), COUNTER);
    // The last value before the reset is of 990 s; the new era begins at the next interval's edge.
    assert_eq!((energies, era), (vec![900, 90, 900, 900], 1));
    let mut exchanged = samples(|s| 1000 * (50_000 + s), CounterEnd::Open);
    for sample in exchanged.iter_mut().skip(100) {
        sample.meter = Some(MeterMark {
            body: [9; 8],
            hash: [9; 8],
        });
    }
    let (energies, era) = booked(exchanged, COUNTER);
    assert_eq!((energies, era), (vec![900, 90, 900, 900], 1));
}

#[test]
fn power_without_a_counter_is_in_the_books_as_it_was_integrated() {
    let samples = samples(|_| 0, CounterEnd::Open).into_iter();
    let without_counter = samples.map(|s| CounterSample { import: None, ..s });
    let (energies, era) = booked(without_counter.collect(), MeasurementClass::IntegratedPower);
    assert_eq!((energies, era), (vec![900; 4], 0));
}
