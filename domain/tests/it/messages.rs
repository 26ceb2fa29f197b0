//! Properties of signed messages: round trip, one encoding, nothing else verifies.

use domain::acceptance::Acceptance;
use domain::cancel::Cancel;
use domain::charger_record::{ChargerReceipt, ChargerRecord, KEYS_MAX, TEXT_MAX_BYTES};
use domain::claim::{Claim, ClaimCode};
use domain::command::{Ack, Act, Command, End, Limit, Outcome, Refusal, Revert, SetPoint};
use domain::energy::Energy;
use domain::ids::{CommunityId, DeviceId, Digest32, GatewayId, ParticipantId, PointId};
use domain::introduction::{Introduction, KeyRefusal, KeyRefused, KeyRequest, PointStart};
use domain::key_record::{Holder, KeyRecord, POINTS_MAX, PointRecord, PointRole};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::order_query::OrderQuery;
use domain::quality::Quality;
use domain::reading::{ClockStamp, ClockState, MeasurementClass, Obis, Reading, Register};
use domain::record_word::RecordWord;
use domain::rejection::Rejection;
use domain::revocation::Revocation;
use domain::signed::{MESSAGE_MAX_BYTES, Message, PublicKey, Signed, SignedError, SigningKey};
use domain::standing_order::{Battery, Deadline, Standing, StandingCancel, StandingOrder};
use domain::time::{Interval, Timestamp};
use proptest::prelude::*;

pub(crate) fn street() -> CommunityId {
    CommunityId::new("street-10").unwrap()
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn reading(sequence: u64, import_wh: i64) -> Reading {
    let register = |obis, start: i64, end: i64| Register {
        obis,
        start: Energy::from_wh(start),
        end: Energy::from_wh(end),
    };
    Reading {
        device: DeviceId([7; 16]),
        point: PointId::new("home-03.meter").unwrap(),
        sequence,
        interval: Interval::new(1_782_036_000, 900).unwrap(),
        registers: vec![
            register(Obis::IMPORT, 3_412_000, 3_412_000 + import_wh),
            register(Obis::EXPORT, 901_000, 901_820),
        ],
        era: 0,
        quality: Quality::MEASURED.with(Quality::INTERPOLATED_EDGE),
        clock: ClockStamp {
            signed_at: Timestamp::from_unix_ms(1_782_036_912_345),
            state: ClockState::Informative,
            error_ms: 1000,
        },
        meter_hash: [1, 2, 3, 4, 5, 6, 7, 8],
        class: MeasurementClass::MeterCounter,
        previous: Digest32([9; 32]),
        profile: [8, 7, 6, 5, 4, 3, 2, 1],
    }
}

pub(crate) fn order() -> Order {
    Order {
        participant: ParticipantId::new("home-03").unwrap(),
        point: PointId::new("home-03.meter").unwrap(),
        side: Side::Offer,
        interval: Interval::new(1_782_036_900, 900).unwrap(),
        energy: Energy::from_wh(830),
        limit: Price::from_micro_per_kwh(95_000),
        sequence: 42,
        replaces: None,
        preference: domain::order::Preference::default(),
    }
}

pub(crate) fn cancel() -> Cancel {
    Cancel {
        participant: order().participant,
        sequence: 42,
        interval: order().interval,
    }
}

pub(crate) fn standing_order() -> StandingOrder {
    StandingOrder {
        participant: order().participant,
        point: order().point,
        sequence: 5,
        replaces: None,
        wish: Standing::Deadline(Deadline {
            energy: Energy::from_wh(20_000),
            by: Timestamp::from_unix_s(1_782_111_600),
            power_max_w: 11_000,
            limit: Price::from_micro_per_kwh(180_000),
            must: true,
        }),
        begins_with: Energy::ZERO,
        capacity: None,
        counted_at: Some(PointId::new("home-03.charger").unwrap()),
    }
}

pub(crate) fn battery_order() -> StandingOrder {
    StandingOrder {
        sequence: 6,
        replaces: Some(4),
        wish: Standing::Battery(Battery {
            least: Energy::from_wh(1_000),
            most: Energy::from_wh(9_500),
            charge_max_w: 5_000,
            discharge_max_w: 4_600,
            loss_basis_points: 900,
            margin: Price::from_micro_per_kwh(20_000),
            until: Timestamp::from_unix_s(1_782_111_600),
        }),
        begins_with: Energy::from_wh(4_200),
        capacity: Some(Energy::from_wh(10_000)),
        counted_at: None,
        ..standing_order()
    }
}

pub(crate) fn standing_cancel() -> StandingCancel {
    StandingCancel {
        participant: order().participant,
        sequence: 5,
    }
}

pub(crate) fn order_query() -> OrderQuery {
    OrderQuery {
        participant: order().participant,
        from: Timestamp::from_unix_s(1_782_036_900),
        to: Timestamp::from_unix_s(1_782_123_300),
        issued_at: Timestamp::from_unix_ms(1_782_036_913_000),
    }
}

pub(crate) fn acceptance() -> Acceptance {
    Acceptance {
        gateway: GatewayId::new("gw-03").unwrap(),
        point: PointId::new("home-03.meter").unwrap(),
        accepted_up_to: Some(17),
        missing: vec![(3, 4), (9, 9)],
        rejected: vec![(12, Rejection::Implausible)],
        issued_at: Timestamp::from_unix_ms(1_782_036_913_000),
        ledger: None,
    }
}

/// An acceptance that also shows how far the ledger log is.
pub(crate) fn acceptance_with_ledger() -> Acceptance {
    Acceptance {
        ledger: Some(domain::acceptance::LedgerHead {
            note: "commonwatt/street/ledger\n8\n".to_owned(),
            old: 5,
            path: vec![domain::ids::Digest32([7; 32]); 3],
        }),
        ..acceptance()
    }
}

pub(crate) fn key_record() -> KeyRecord {
    let gateway = GatewayId::new("gw-03").unwrap();
    let points = vec![PointRecord {
        point: PointId::new("home-03.meter").unwrap(),
        role: PointRole::Connection,
        participant: Some(ParticipantId::new("home-03").unwrap()),
        rating_w: 22_000,
    }];
    KeyRecord {
        key: PublicKey::of(&key(3)),
        holder: Holder::Gateway { gateway, points },
        valid_from: Timestamp::from_unix_ms(1_782_000_000_000),
    }
}

pub(crate) fn command(act: Act) -> Command {
    Command {
        gateway: GatewayId::new("gw-03").unwrap(),
        device: "battery".into(),
        sequence: 1_782_036_913_000,
        issued_at: Timestamp::from_unix_ms(1_782_036_913_000),
        act,
    }
}

pub(crate) fn discharge() -> Command {
    command(Act::Set {
        set_point: SetPoint::BatteryPowerW,
        value: 2000,
        expires_at: Timestamp::from_unix_ms(1_782_037_813_000),
    })
}

pub(crate) fn ack(outcome: Outcome) -> Ack {
    Ack {
        gateway: GatewayId::new("gw-03").unwrap(),
        command: Digest32([5; 32]),
        at: Timestamp::from_unix_ms(1_782_036_914_000),
        outcome,
    }
}

pub(crate) fn charger_record() -> ChargerRecord {
    // A key and its bare point have one form on the wire.
    let point = format!("04{}", "17".repeat(64));
    ChargerRecord {
        gateway: GatewayId::new("gw-03").unwrap(),
        point: PointId::new("home-03.charger").unwrap(),
        heard_at: Timestamp::from_unix_ms(1_782_036_915_000),
        transaction: Some(17),
        text: r#"OCMF|{"FV":"1.0","PG":"T17"}|{"SD":"00"}"#.to_owned(),
        keys: vec![domain::ocmf::PublicKey::from_text(&point).unwrap()],
    }
}

pub(crate) fn charger_receipt() -> ChargerReceipt {
    ChargerReceipt {
        gateway: GatewayId::new("gw-03").unwrap(),
        record: Digest32([6; 32]),
        at: Timestamp::from_unix_ms(1_782_036_916_000),
        refused: None,
    }
}

pub(crate) fn claim() -> Claim {
    let holder = GatewayId::new("gw-03").unwrap().into();
    let code = ClaimCode::from_random([5; 16]);
    Claim {
        key: PublicKey::of(&code.key(&street(), &holder)),
        holder,
        issued_at: Timestamp::from_unix_ms(1_782_000_000_000),
        expires_at: Timestamp::from_unix_ms(1_782_086_400_000),
    }
}

/// Key 5's request, for which the key of seed `introducer` is to vouch.
pub(crate) fn key_request(introducer: u8) -> KeyRequest {
    KeyRequest {
        key: PublicKey::of(&key(5)),
        holder: GatewayId::new("gw-03").unwrap().into(),
        introducer: PublicKey::of(&key(introducer)).id(),
        points: vec![PointStart {
            point: PointId::new("home-03.meter").unwrap(),
            first_sequence: 18,
            previous: Digest32([9; 32]),
        }],
        made_at: Timestamp::from_unix_ms(1_782_036_950_000),
    }
}

pub(crate) fn introduction(introducer: u8) -> Introduction {
    Introduction {
        key: PublicKey::of(&key(5)),
        request: Signed::sign(&key(5), &street(), &key_request(introducer)),
    }
}

pub(crate) fn key_refusal() -> KeyRefusal {
    KeyRefusal {
        gateway: GatewayId::new("gw-03").unwrap(),
        introduction: Digest32([4; 32]),
        reason: KeyRefused::ClaimExpired,
        detail: "this claim code was good until yesterday".to_owned(),
        issued_at: Timestamp::from_unix_ms(1_782_036_960_000),
    }
}

pub(crate) fn record_word() -> RecordWord {
    RecordWord {
        key: PublicKey::of(&key(6)).id(),
        instant: Timestamp::from_unix_s(1_782_000_900),
        record: Digest32([7; 32]),
        valid_from: Timestamp::from_unix_ms(1_781_000_000_250),
        index: 17,
        size: 18,
        issued_at: Timestamp::from_unix_ms(1_782_000_901_000),
    }
}

pub(crate) fn revocation() -> Revocation {
    Revocation {
        key: PublicKey::of(&key(5)).id(),
        holder: GatewayId::new("gw-03").unwrap().into(),
        from_sequence: 18,
        from: Timestamp::from_unix_ms(1_782_037_000_000),
        reason: "the box was stolen".to_owned(),
        issued_at: Timestamp::from_unix_ms(1_782_040_000_000),
    }
}

/// A participant's claim.
pub(crate) fn own_claim() -> Claim {
    let holder = order().participant.into();
    let code = ClaimCode::from_random([5; 16]);
    Claim {
        key: PublicKey::of(&code.key(&street(), &holder)),
        holder,
        ..claim()
    }
}

/// A participant's request: key 5, for which the key of seed `introducer` is to vouch.
pub(crate) fn own_request(introducer: u8) -> KeyRequest {
    KeyRequest {
        holder: order().participant.into(),
        points: Vec::new(),
        ..key_request(introducer)
    }
}

pub(crate) fn own_introduction(introducer: u8) -> Introduction {
    Introduction {
        key: PublicKey::of(&key(5)),
        request: Signed::sign(&key(5), &street(), &own_request(introducer)),
    }
}

pub(crate) fn own_revocation() -> Revocation {
    Revocation {
        holder: order().participant.into(),
        from_sequence: 0,
        reason: "the phone was stolen".to_owned(),
        ..revocation()
    }
}

fn round_trips<T: Message + PartialEq + std::fmt::Debug>(message: &T) {
    let signed = Signed::sign(&key(3), &street(), message);
    let again = Signed::<T>::from_bytes(signed.as_bytes().to_vec());
    assert_eq!(again.claimed_signer().unwrap(), PublicKey::of(&key(3)).id());
    let verified = again.verify(PublicKey::of(&key(3)), &street()).unwrap();
    assert_eq!(verified.message(), message);
}

#[test]
fn every_kind_of_message_round_trips() {
    round_trips(&reading(17, 250));
    round_trips(&order());
    round_trips(&cancel());
    round_trips(&standing_order());
    round_trips(&battery_order());
    round_trips(&standing_cancel());
    round_trips(&order_query());
    round_trips(&acceptance());
    round_trips(&acceptance_with_ledger());
    round_trips(&key_record());
    round_trips(&discharge());
    for set_point in SetPoint::ALL {
        round_trips(&command(Act::Release { set_point }));
        assert_eq!(SetPoint::from_word(set_point.word()), Some(set_point));
    }
    round_trips(&claim());
    round_trips(&own_claim());
    round_trips(&own_request(3));
    round_trips(&own_revocation());
    round_trips(&key_refusal());
    round_trips(&revocation());
    round_trips(&record_word());
}

#[test]
fn every_answer_to_a_command_round_trips() {
    let mut outcomes = vec![
        Outcome::Accepted {
            value: Some(-5),
            clamped_by: None,
        },
        Outcome::Accepted {
            value: None,
            clamped_by: None,
        },
        Outcome::Confirmed {
            value: 0,
            clamped_by: None,
        },
        Outcome::NotConfirmed { value: Some(7) },
        Outcome::NotConfirmed { value: None },
    ];
    let clamped = |limit: &Limit| Outcome::Accepted {
        value: Some(1),
        clamped_by: Some(*limit),
    };
    outcomes.extend(Limit::ALL.iter().map(clamped));
    let lowered = |limit: &Limit| Outcome::Confirmed {
        value: -1,
        clamped_by: Some(*limit),
    };
    outcomes.extend(Limit::ALL.iter().map(lowered));
    outcomes.extend(Refusal::ALL.iter().map(|reason| Outcome::Refused(*reason)));
    for why in End::ALL {
        let ended = |revert: &Revert| Outcome::Ended {
            why: *why,
            revert: *revert,
        };
        outcomes.extend(Revert::ALL.iter().map(ended));
    }
    for outcome in outcomes {
        round_trips(&ack(outcome));
    }
}

#[test]
fn chargers_records_round_trip_and_have_a_size() {
    round_trips(&charger_record());
    round_trips(&charger_receipt());
    round_trips(&ChargerRecord {
        transaction: None,
        keys: Vec::new(),
        ..charger_record()
    });
    round_trips(&ChargerReceipt {
        refused: Some("no such point".to_owned()),
        ..charger_receipt()
    });
    for text in [String::new(), "x".repeat(TEXT_MAX_BYTES + 1)] {
        let wrong = ChargerRecord {
            text,
            ..charger_record()
        };
        assert!(ChargerRecord::from_cbor(&wrong.to_cbor()).is_err());
    }
    let many = ChargerRecord {
        keys: vec![charger_record().keys[0].clone(); KEYS_MAX + 1],
        ..charger_record()
    };
    assert!(ChargerRecord::from_cbor(&many.to_cbor()).is_err());
    // The longest one fits into a message.
    let longest = ChargerRecord {
        text: "x".repeat(TEXT_MAX_BYTES),
        keys: vec![charger_record().keys[0].clone(); KEYS_MAX],
        ..charger_record()
    };
    round_trips(&longest);
    assert!(Signed::sign(&key(3), &street(), &longest).as_bytes().len() < MESSAGE_MAX_BYTES);
}

#[test]
fn half_a_lease_is_no_command() {
    let good = discharge().to_cbor();
    let (whole, cut) = (good[0], good.len() - 10);
    assert_eq!(
        (whole, good[cut]),
        (0xa8, 8),
        "eight pairs, the end of the lease last"
    );
    let endless = [&[0xa7], &good[1..cut]].concat();
    let error = Command::from_cbor(&endless).unwrap_err().to_string();
    assert!(error.contains("without an end"), "{error}");
}

#[test]
fn every_flipped_bit_is_refused() {
    let signed = Signed::sign(&key(3), &street(), &reading(17, 250));
    let good = signed.as_bytes();
    for position in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[position / 8] ^= 1 << (position % 8);
        let result = Signed::<Reading>::from_bytes(bad).verify(PublicKey::of(&key(3)), &street());
        assert!(result.is_err(), "bit {position} may be flipped");
    }
}

#[test]
fn another_community_kind_or_key_is_refused() {
    let signed = Signed::sign(&key(3), &street(), &order());
    let other_street = CommunityId::new("street-11").unwrap();
    let key3 = PublicKey::of(&key(3));
    assert!(matches!(
        signed.verify(key3, &other_street),
        Err(SignedError::BadSignature)
    ));
    let key4 = PublicKey::of(&key(4));
    assert!(matches!(
        signed.verify(key4, &street()),
        Err(SignedError::NotDeterministic)
    ));
    let as_reading = Signed::<Reading>::from_bytes(signed.as_bytes().to_vec());
    assert!(as_reading.verify(key3, &street()).is_err());
}

#[test]
fn weak_keys_are_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    assert!(PublicKey::from_bytes(&identity).is_err());
    assert!(PublicKey::from_bytes(&[0; 32]).is_err());
}

#[test]
fn too_large_a_message_is_refused_unread() {
    let huge = Signed::<Reading>::from_bytes(vec![0; 20_000]);
    assert!(matches!(
        huge.claimed_signer(),
        Err(SignedError::TooLarge { bytes: 20_000, .. })
    ));
}

#[test]
fn a_gateway_may_have_1024_points_with_the_longest_names_and_not_one_more() {
    let name = |n: usize| format!("{n:a>64}");
    let record = |count| {
        let point = |n| PointRecord {
            point: PointId::new(name(n)).unwrap(),
            role: PointRole::Submeter,
            participant: Some(ParticipantId::new(name(n)).unwrap()),
            rating_w: u32::MAX,
        };
        let points = (0..count).map(point).collect();
        let gateway = GatewayId::new("gw-03").unwrap();
        KeyRecord {
            holder: Holder::Gateway { gateway, points },
            ..key_record()
        }
    };
    let largest = Signed::sign(&key(3), &street(), &record(POINTS_MAX));
    let verified = largest.verify(PublicKey::of(&key(3)), &street());
    assert_eq!(verified.unwrap().message(), &record(POINTS_MAX));
    let more = Signed::sign(&key(3), &street(), &record(POINTS_MAX + 1));
    let refused = more.verify(PublicKey::of(&key(3)), &street());
    assert!(matches!(refused, Err(SignedError::Payload(_))));
    let point = |n| PointStart {
        point: PointId::new(name(n)).unwrap(),
        first_sequence: u64::MAX,
        previous: Digest32([255; 32]),
    };
    let mut points: Vec<PointStart> = (0..POINTS_MAX).map(point).collect();
    points.sort_by(|a, b| a.point.cmp(&b.point));
    let request = KeyRequest {
        key: PublicKey::of(&key(3)),
        holder: GatewayId::new(name(0)).unwrap().into(),
        introducer: PublicKey::of(&key(4)).id(),
        points,
        made_at: Timestamp::EPOCH,
    };
    let introduction = Introduction {
        key: PublicKey::of(&key(3)),
        request: Signed::sign(&key(3), &street(), &request),
    };
    let signed = Signed::sign(&key(4), &street(), &introduction);
    let opened = signed.verify(PublicKey::of(&key(4)), &street()).unwrap();
    assert!(opened.message().verify_request(&street()).is_ok());
}

proptest! {
    #[test]
    fn readings_round_trip(sequence: u64, import_wh in 0_i64..1_000_000_000) {
        round_trips(&reading(sequence, import_wh));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let signed = Signed::<Reading>::from_bytes(bytes);
        prop_assert!(signed.verify(PublicKey::of(&key(3)), &street()).is_err());
    }
}
