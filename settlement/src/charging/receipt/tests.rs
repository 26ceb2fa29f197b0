//! A receipt is written, checked, and found out where it was changed.

use domain::charger_record::ChargerRecord;
use domain::energy::Energy;
use domain::ids::{DeviceId, Digest32, GatewayId, PointId};
use domain::key_record::{Holder, KeyRecord, PointRecord, PointRole};
use domain::money::Price;
use domain::ocmf;
use domain::quality::Quality;
use domain::reading::{ClockStamp, ClockState, MeasurementClass, Register};
use domain::time::{Interval, Timestamp};

use super::*;
use crate::charging::session::Event;
use crate::charging::terms::{Quote, Terms};

fn community() -> CommunityId {
    CommunityId::new("street").unwrap()
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn interval(n: i64) -> Interval {
    Interval::new(1_782_000_000, 900).unwrap().offset(n)
}

/// The signed reading of interval `n`, whose import ends at `end_wh`.
fn proof(n: i64, end_wh: i64) -> Proof {
    let gateway = GatewayId::new("gw-home-03").unwrap();
    let reading = Reading {
        device: DeviceId::derive(&community(), &gateway, "charger"),
        point: PointId::new("home-03.charger").unwrap(),
        sequence: u64::try_from(n + 1).unwrap(),
        interval: interval(n),
        registers: vec![Register {
            obis: Obis::IMPORT,
            start: Energy::from_wh(end_wh - 100),
            end: Energy::from_wh(end_wh),
        }],
        era: 0,
        quality: Quality::MEASURED,
        clock: ClockStamp {
            signed_at: interval(n).end(),
            state: ClockState::Synchronised,
            error_ms: 20,
        },
        meter_hash: [3; 8],
        class: MeasurementClass::MeterCounter,
        previous: Digest32([0; 32]),
        profile: [4; 8],
    };
    Proof {
        reading: Signed::sign(&key(2), &community(), &reading),
        key: PublicKey::of(&key(2)),
        record: Some(key_record(&key(1), "home-03.charger")),
        log: None,
    }
}

/// The operator's record that gateway gw-home-03 signs for a point.
fn key_record(operator: &SigningKey, point: &str) -> Vec<u8> {
    let record = KeyRecord {
        key: PublicKey::of(&key(2)),
        holder: Holder::Gateway {
            gateway: GatewayId::new("gw-home-03").unwrap(),
            points: vec![PointRecord {
                point: PointId::new(point).unwrap(),
                role: PointRole::Submeter,
                participant: None,
                rating_w: 22_000,
            }],
        },
        valid_from: interval(0).start(),
    };
    Signed::sign(operator, &community(), &record)
        .as_bytes()
        .to_vec()
}

fn plain(proofs: &[Proof; 2]) -> Parts<'_> {
    Parts {
        proofs,
        settled: None,
        credits: &[],
        charger: (&[], None),
    }
}

fn ended() -> Session {
    let at = |n: i64| interval(n).end();
    let quote = Quote {
        session: "s-1".to_owned(),
        station: "home-03.charger".to_owned(),
        currency: "EUR".to_owned(),
        prices: (0..8)
            .map(|n| (interval(n), Price::from_micro_per_kwh(200_000 + 10_000 * n)))
            .collect(),
        start_fee: Money::from_nano(350_000_000),
        time_per_hour: Money::ZERO,
        parking_per_hour: Money::from_nano(1_000_000_000),
        parking_grace_s: 600,
        tax_ppm: 190_000,
        energy: Energy::from_wh(20_000),
        power_max_w: 11_000,
        ceiling: Money::from_nano(10_000_000_000),
        offered_at: at(0),
        valid_until: at(1),
        ready_by: at(8),
    };
    let mut session = Session::new(Terms::new(quote).unwrap());
    let reading = |register_wh, full| Event::Reading { register_wh, full };
    for (when, event) in [
        (at(0), Event::Accepted),
        (at(0), Event::HoldPlaced),
        (at(0), Event::Started { register_wh: 1_000 }),
        (at(1), reading(3_000, false)),
        (at(2), reading(5_123, true)),
        (at(4), reading(5_123, true)),
        (at(4), Event::Stop),
        (at(4), Event::Captured),
    ] {
        session.apply(when, event);
    }
    session
}

fn failed(text: &str, operator: Option<PublicKey>) -> Option<&'static str> {
    verify(text, operator).first_failure().map(|(step, _)| step)
}

#[test]
fn a_receipt_proves_itself_and_what_was_changed_is_found() {
    let operator = key(1);
    let proofs = [proof(0, 1_000), proof(4, 5_123)];
    let text = write(&ended(), &plain(&proofs), &community(), &operator).unwrap();
    assert!(is_one(&text));
    let known = Some(PublicKey::of(&operator));
    let report = verify(&text, known);
    assert_eq!(report.first_failure(), None, "{report:?}");
    assert_eq!(report.steps.len(), 7);
    assert_eq!(
        failed(&text, Some(PublicKey::of(&key(3)))),
        Some("operator")
    );
    for (from, to, step) in [
        ("\"paid\":\"", "\"paid\":\"1", "operator"),
        ("charging-receipt/v1", "charging-receipt/v9", "format"),
        ("\"receipt\":", "\"recipe\":", "format"),
        ("{\"receipt\"", "[\"receipt\"", "format"),
    ] {
        assert_eq!(
            failed(&text.replacen(from, to, 1), known),
            Some(step),
            "{from}"
        );
    }
}

#[test]
fn an_operator_who_signs_what_is_not_so_is_found_out() {
    let operator = key(1);
    let proofs = [proof(0, 1_000), proof(4, 5_123)];
    let known = Some(PublicKey::of(&operator));
    let signed = |from: &str, to: &str, proofs: &[Proof; 2]| {
        let text = write(&ended(), &plain(proofs), &community(), &operator).unwrap();
        let body = text.strip_prefix("{\"receipt\":").unwrap();
        let body = body.split(",\"operator_key\"").next().unwrap();
        assert!(body.contains(from), "{from}");
        let changed = body.replacen(from, to, 1);
        let signature = operator.sign(&to_sign("street", &changed)).to_bytes();
        let text = text.replacen(body, &changed, 1);
        let (head, _) = text.split_once(",\"signature\":").unwrap();
        failed(
            &format!("{head},\"signature\":\"{}\"}}", STANDARD.encode(signature)),
            known,
        )
    };
    assert_eq!(signed("s-1", "s-2", &proofs), None);
    assert_eq!(
        signed("\"station\":\"home-03", "\"station\":\"home-04", &proofs),
        Some("readings")
    );
    assert_eq!(
        signed("\"price\":0.22", "\"price\":0.23", &proofs),
        Some("bill")
    );
    assert_eq!(
        signed("\"volume\":2.123", "\"volume\":2.124", &proofs),
        Some("energy")
    );
    assert_eq!(
        signed("\"released\":\"", "\"released\":\"1", &proofs),
        Some("payment")
    );
    assert_eq!(
        signed("s-1", "s-1", &[proof(0, 1_000), proof(4, 5_124)]),
        Some("energy")
    );
    assert_eq!(
        signed("s-1", "s-1", &[proof(0, 1_000), proof(3, 5_123)]),
        Some("readings")
    );
    let mut foreign = proof(4, 5_123);
    foreign.record = Some(key_record(&key(1), "home-04.charger"));
    assert_eq!(
        signed("s-1", "s-1", &[proof(0, 1_000), foreign.clone()]),
        Some("key")
    );
    foreign.record = Some(key_record(&key(9), "home-03.charger"));
    assert_eq!(
        signed("s-1", "s-1", &[proof(0, 1_000), foreign]),
        Some("key")
    );
    let mut forged = proof(4, 5_123);
    forged.key = PublicKey::of(&key(9));
    assert_eq!(
        signed("s-1", "s-1", &[proof(0, 1_000), forged]),
        Some("readings")
    );
}

#[test]
fn no_receipt_before_the_end_or_without_a_bill() {
    let proofs = [proof(0, 1_000), proof(4, 5_123)];
    let mut session = Session::new(ended().terms().clone());
    let write = |session: &Session| write(session, &plain(&proofs), &community(), &key(1));
    assert_eq!(write(&session), Err(ReceiptError::Running));
    session.apply(Timestamp::from_unix_s(1_782_100_000), Event::Tick);
    assert_eq!(write(&session), Err(ReceiptError::Nothing));
}

#[test]
fn a_correction_stands_beside_the_bill_it_corrects() {
    let operator = key(1);
    let proofs = [proof(0, 1_000), proof(4, 5_123)];
    let total = ended().bill().unwrap().total;
    let tax = ended().bill().unwrap().tax;
    let half = Money::from_nano(total.nano() / 2);
    let at = interval(9).start();
    let credit = Credit::new(at, "the meter", (total, tax), half)
        .unwrap()
        .unwrap();
    let parts = Parts {
        credits: std::slice::from_ref(&credit),
        ..plain(&proofs)
    };
    let text = write(&ended(), &parts, &community(), &operator).unwrap();
    let report = verify(&text, Some(PublicKey::of(&operator)));
    assert_eq!(report.first_failure(), None, "{report:?}");
    let (_, told) = report.steps.last().unwrap();
    assert!(told.as_ref().unwrap().contains("corrected to"), "{told:?}");
    // One that takes back something else than what was charged is found out.
    let wrong = Credit {
        old_total_nano: credit.old_total_nano - 1,
        ..credit
    };
    let parts = Parts {
        credits: &[wrong],
        ..plain(&proofs)
    };
    let text = write(&ended(), &parts, &community(), &operator).unwrap();
    assert_eq!(
        failed(&text, Some(PublicKey::of(&operator))),
        Some("payment")
    );
}

/// What the charger's own meter has signed: so much from shortly before the session on.
fn record(text: &str, keys: &[ocmf::PublicKey]) -> ChargerRecord {
    ChargerRecord {
        gateway: GatewayId::new("gw-home-03").unwrap(),
        point: PointId::new("home-03.charger").unwrap(),
        heard_at: interval(4).start(),
        transaction: Some(7),
        text: text.to_owned(),
        keys: keys.to_vec(),
    }
}

fn ocmf_text(signer: &ocmf::Signer, from_wh: i64, to_wh: i64) -> String {
    let begin = (interval(0).end().plus_s(-60), from_wh);
    counted(signer, [begin, (interval(3).end().plus_s(30), to_wh)])
}

/// From begin to end, of a good meter.
fn counted(signer: &ocmf::Signer, readings: [(Timestamp, i64); 2]) -> String {
    let session = ocmf::Session {
        station: "CP-1",
        meter: "1EMH0001",
        user: "commonwatt",
        page: 7,
        readings,
        synchronised: true,
    };
    ocmf::write(&session, signer).unwrap()
}

/// The step `charger` of a receipt that shows this record.
fn told(record: &ChargerRecord, change: impl Fn(&mut ChargerProof)) -> Result<String, String> {
    told_of(std::slice::from_ref(record), change)
}

/// The step `charger` of a receipt that shows these.
fn told_of(
    records: &[ChargerRecord],
    change: impl Fn(&mut ChargerProof),
) -> Result<String, String> {
    let operator = key(1);
    let shown = |record: &ChargerRecord| {
        let mut shown = ChargerProof {
            record: Signed::sign(&key(2), &community(), record),
            key: PublicKey::of(&key(2)),
            key_record: Some(key_record(&key(1), "home-03.charger")),
        };
        change(&mut shown);
        shown
    };
    let shown: Vec<ChargerProof> = records.iter().map(shown).collect();
    let proofs = [proof(0, 1_000), proof(4, 5_123)];
    let parts = Parts {
        charger: (&shown, None),
        ..plain(&proofs)
    };
    let text = write(&ended(), &parts, &community(), &operator).unwrap();
    let report = verify(&text, Some(PublicKey::of(&operator)));
    let step = report
        .steps
        .into_iter()
        .find(|(step, _)| *step == "charger");
    step.unwrap().1
}

#[test]
fn the_chargers_own_word_is_held_against_what_is_charged() {
    let signer = ocmf::Signer::from_pkcs8(&ocmf::Signer::generate().unwrap()).unwrap();
    let keys = [signer.public()];
    let same = |_: &mut ChargerProof| {};
    let good = record(&ocmf_text(&signer, 900, 5_123), &keys);
    let said = told(&good, same).unwrap();
    assert!(
        said.contains("meter 1EMH0001") && said.contains(&keys[0].to_hex()),
        "{said}"
    );
    assert!(
        said.contains("counted 4223 Wh and agrees with 4123 Wh"),
        "{said}"
    );
    let less = record(&ocmf_text(&signer, 3_000, 5_123), &keys);
    assert_eq!(
        told(&less, same).unwrap_err(),
        "the session charges 4123 Wh, and the charger's own meter counted 2123 Wh"
    );
    let unknown = told(&record(&good.text, &[]), same).unwrap();
    assert!(unknown.contains("cannot be checked"), "{unknown}");
    let changed = record(&good.text.replacen("5123", "4123", 1), &keys);
    assert_ne!(changed.text, good.text);
    let why = told(&changed, same).unwrap_err();
    assert!(why.contains("the text was changed"), "{why}");
    // On the way from the gateway, of another charger, by a gateway that the operator does not know.
    let swapped = |proof: &mut ChargerProof| {
        let mut bytes = proof.record.as_bytes().to_vec();
        let place = bytes.windows(4).position(|four| four == b"5123").unwrap();
        bytes[place] = b'4';
        proof.record = Signed::from_bytes(bytes);
    };
    let why = told(&good, swapped).unwrap_err();
    assert!(why.starts_with("the gateway's envelope"), "{why}");
    let mut foreign = good.clone();
    foreign.point = PointId::new("home-04.charger").unwrap();
    let why = told(&foreign, same).unwrap_err();
    assert!(why.contains("home-04.charger"), "{why}");
    let bare = told(&good, |proof| proof.key_record = None).unwrap();
    assert!(
        bare.contains("whose key that is cannot be checked"),
        "{bare}"
    );
    let strange = |proof: &mut ChargerProof| {
        proof.key_record = Some(key_record(&key(9), "home-03.charger"));
    };
    assert!(told(&good, strange).unwrap_err().contains("the key record"));
}

#[test]
fn what_a_receipt_shows_of_a_chargers_word_is_what_can_be_believed() {
    let signer = ocmf::Signer::from_pkcs8(&ocmf::Signer::generate().unwrap()).unwrap();
    let keys = [signer.public()];
    let good = record(&ocmf_text(&signer, 900, 5_123), &keys);
    let changed = record(&good.text.replacen("5123", "4123", 1), &keys);
    let chosen = choose(&[changed, good], session());
    assert_eq!(chosen.places, [1]);
    let why = chosen.refused.unwrap();
    assert!(why.contains("the text was changed"), "{why}");
    // Why something is not shown is said.
    let operator = key(1);
    let proofs = [proof(0, 1_000), proof(4, 5_123)];
    let parts = Parts {
        charger: (&[], Some(&why)),
        ..plain(&proofs)
    };
    let text = write(&ended(), &parts, &community(), &operator).unwrap();
    let report = verify(&text, Some(PublicKey::of(&operator)));
    assert_eq!(report.first_failure(), None, "{report:?}");
    let (_, said) = report
        .steps
        .iter()
        .find(|(step, _)| *step == "charger")
        .unwrap();
    assert!(said.as_ref().unwrap().contains("not believed"), "{said:?}");
}

/// The time of the session of [`ended`].
fn session() -> (Timestamp, Timestamp) {
    (interval(0).end(), interval(4).end())
}

fn meter() -> ocmf::Signer {
    ocmf::Signer::from_pkcs8(&ocmf::Signer::generate().unwrap()).unwrap()
}

/// A text with just these readings, in a transaction.
fn of_transaction(
    signer: &ocmf::Signer,
    transaction: i64,
    readings: [(Timestamp, i64); 2],
) -> ChargerRecord {
    ChargerRecord {
        transaction: Some(transaction),
        ..record(&counted(signer, readings), &[signer.public()])
    }
}

#[test]
fn a_text_of_another_session_is_compared_with_nothing() {
    let signer = meter();
    let (from, to) = session();
    let same = |_: &mut ChargerProof| {};
    let day = -86_400;
    for readings in [
        [(from.plus_s(day), 1_000), (from.plus_s(-300), 41_000)],
        [(from.plus_s(-900), 1_000), (from.plus_s(-1), 1_500)],
        [(from.plus_s(-900), 1_000), (from.plus_s(60), 1_500)],
        [(to.plus_s(60), 1_000), (to.plus_s(900), 1_500)],
        [(from.plus_s(300), 1_000), (to, 1_500)],
    ] {
        let said = told(&of_transaction(&signer, 7, readings), same).unwrap();
        assert!(
            said.contains("no energy can be compared"),
            "{readings:?}: {said}"
        );
    }
    let longer = [(from.plus_s(-900), 1_000), (to.plus_s(5), 6_000)];
    let said = told(&of_transaction(&signer, 7, longer), same).unwrap();
    assert!(
        said.contains("counted at least what is charged: 5000 Wh"),
        "{said}"
    );
}

#[test]
fn the_texts_of_two_transactions_of_a_session_count_together() {
    let signer = meter();
    let (from, to) = session();
    let middle = from.plus_s(900);
    let same = |_: &mut ChargerProof| {};
    let first = of_transaction(&signer, 7, [(from, 1_000), (middle, 3_000)]);
    let again = |from_wh: i64, to_wh: i64| {
        let readings = [(middle.plus_s(60), from_wh), (to.plus_s(-9), to_wh)];
        of_transaction(&signer, 8, readings)
    };
    // By a counter that goes on, and by one of the transaction.
    for second in [again(3_000, 5_123), again(0, 2_123)] {
        let said = told_of(&[first.clone(), second], same).unwrap();
        assert!(said.contains("counted 4123 Wh and agrees"), "{said}");
    }
    let why = told_of(&[first.clone(), again(3_000, 4_000)], same).unwrap_err();
    assert!(why.contains("counted 3000 Wh"), "{why}");
    // Nobody counts the same time twice.
    let twice = of_transaction(&signer, 9, [(from, 1_000), (to, 5_123)]);
    let said = told_of(&[first.clone(), twice], same).unwrap();
    assert!(said.contains("no energy can be compared"), "{said}");

    let before = [(from.plus_s(-7_200), 0), (from.plus_s(30), 40_000)];
    let before = of_transaction(&signer, 6, before);
    let next = of_transaction(&signer, 10, [(to, 5_123), (to.plus_s(9_000), 50_000)]);
    let without_keys = ChargerRecord {
        keys: Vec::new(),
        ..first.clone()
    };
    let all = [before, without_keys, next, again(3_000, 5_123), first];
    assert_eq!(choose(&all, session()).places, [4, 3]);
}

#[test]
fn what_is_no_good_reading_of_taken_energy_is_not_compared() {
    let signer = meter();
    let (from, to) = session();
    let same = |_: &mut ChargerProof| {};
    let time = |at: Timestamp| at.to_chrono().unwrap().format("%Y-%m-%dT%H:%M:%S,000+0000");
    // A meter that lists what it took and what it gave back, at begin and end.
    let text = |clock: &str, state: &str, obis: &str| {
        let one = |why: &str, at: Timestamp, taken: i64| {
            let at = time(at);
            format!(
                "{{\"TM\":\"{at} {clock}\",\"TX\":\"{why}\",\"RV\":{taken},\"RI\":\"{obis}\",\"RU\":\"Wh\",{state}}},\
                 {{\"TX\":\"{why}\",\"RV\":7,\"RI\":\"1-0:2.8.0\",\"RU\":\"Wh\",{state}}}"
            )
        };
        let readings = [one("B", from, 1_000), one("E", to, 5_123)].join(",");
        let payload = format!("{{\"PG\":\"T1\",\"MS\":\"1EMH0001\",\"RD\":[{readings}]}}");
        let signature = domain::ids::to_hex(&signer.sign(payload.as_bytes()).unwrap());
        record(
            &format!("OCMF|{payload}|{{\"SD\":\"{signature}\"}}"),
            &[signer.public()],
        )
    };
    let good = "\"ST\":\"G\",\"EF\":\"\"";
    for (clock, obis) in [("S", "1-0:1.8.0"), ("I", "01-00:B2.08.00*FF")] {
        let said = told(&text(clock, good, obis), same).unwrap();
        assert!(said.contains("counted 4123 Wh and agrees"), "{said}");
    }
    for (clock, state, obis) in [
        ("U", good, "1-0:1.8.0"),
        ("R", good, "1-0:1.8.0"),
        ("S", "\"ST\":\"F\"", "1-0:1.8.0"),
        ("S", "\"ST\":\"G\",\"EF\":\"E\"", "1-0:1.8.0"),
        ("S", good, "1-0:16.7.0"),
        ("S", good, "1-0:1.8.1"),
    ] {
        let said = told(&text(clock, state, obis), same).unwrap();
        assert!(said.contains("no energy can be compared"), "{obis}: {said}");
    }
}
