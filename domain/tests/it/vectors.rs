//! Committed vectors, valid and invalid, so that a program in another language can check itself.
//!
//! `COMMONWATT_WRITE_VECTORS=1 cargo test -p domain` writes them anew after a change of format.

use domain::acceptance::Acceptance;
use domain::cancel::Cancel;
use domain::charger_record::{ChargerReceipt, ChargerRecord};
use domain::claim::Claim;
use domain::command::{Ack, Act, Command, End, Limit, Outcome, Revert};
use domain::energy::Energy;
use domain::ids::{CommunityId, ParticipantId, from_hex, to_hex};
use domain::introduction::{Introduction, KeyRefusal, KeyRequest};
use domain::key_record::{Holder, KeyRecord};
use domain::money::Price;
use domain::order::{Order, Preference, Side};
use domain::order_query::OrderQuery;
use domain::quality::Quality;
use domain::reading::Reading;
use domain::record_word::RecordWord;
use domain::rejection::Rejection;
use domain::revocation::Revocation;
use domain::signed::{Kind, Message, PublicKey, Signed, Verified};
use domain::standing_order::{Deadline, Standing, StandingCancel, StandingOrder};
use serde_json::{Value, json};

use crate::messages::{
    acceptance, ack, battery_order, cancel, charger_receipt, charger_record, claim, discharge,
    introduction, key, key_record, key_refusal, key_request, order, order_query, own_claim,
    own_introduction, own_request, own_revocation, reading, record_word, revocation,
    standing_cancel, standing_order, street,
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/signed.json");

fn vector(name: &str, kind: Kind, bytes: &[u8], valid: bool) -> Value {
    json!({
        "name": name,
        "kind": kind.word(),
        "community": "street-10",
        "public_key": to_hex(&PublicKey::of(&key(3)).to_bytes()),
        "message": to_hex(bytes),
        "valid": valid,
    })
}

fn signed<T: Message>(message: &T) -> Vec<u8> {
    let signed = Signed::sign(&key(3), &street(), message);
    signed.as_bytes().to_vec()
}

fn valid<T: Message>(name: &str, message: &T) -> Value {
    vector(name, T::KIND, &signed(message), true)
}

fn invalid<T: Message>(name: &str, message: &T) -> Value {
    vector(name, T::KIND, &signed(message), false)
}

/// A reading's payload that no `Reading` has, for the checker to refuse.
struct RawReading(Vec<u8>);

impl Message for RawReading {
    const KIND: Kind = Kind::Reading;

    fn to_cbor(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn from_cbor(_: &[u8]) -> Result<Self, minicbor::decode::Error> {
        Err(minicbor::decode::Error::message("only for writing"))
    }
}

fn raw_reading(change: impl Fn(&mut Vec<u8>)) -> RawReading {
    let mut payload = reading(17, 250).to_cbor();
    change(&mut payload);
    RawReading(payload)
}

/// A participant's key request with another payload.
struct RawRequest(Vec<u8>);

impl Message for RawRequest {
    const KIND: Kind = Kind::KeyRequest;

    fn to_cbor(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn from_cbor(_: &[u8]) -> Result<Self, minicbor::decode::Error> {
        Err(minicbor::decode::Error::message("only for writing"))
    }
}

/// `change` is told where claim 6 and claim 7 begin.
fn raw_request(change: impl Fn(&mut Vec<u8>, usize, usize)) -> RawRequest {
    let mut payload = own_request(3).to_cbor();
    let last = payload.len() - order().participant.as_str().len() - 2;
    let before = last - 10;
    assert_eq!((payload[before], payload[last]), (6, 7));
    change(&mut payload, before, last);
    RawRequest(payload)
}

/// Messages of every kind, as they should be.
fn good() -> Vec<Value> {
    vec![
        valid("a reading", &reading(17, 250)),
        valid(
            "a reading with every mark of quality",
            &Reading {
                quality: Quality::from_bits((1 << 11) - 1).unwrap(),
                ..reading(18, 250)
            },
        ),
        valid("an order", &order()),
        valid(
            "an order that replaces another",
            &Order {
                sequence: 43,
                replaces: Some(42),
                ..order()
            },
        ),
        valid(
            "an order of green energy for named partners",
            &Order {
                preference: Preference {
                    partners: vec![partner("home-07"), partner("home-01")],
                    green: true,
                    ..Preference::default()
                },
                ..order()
            },
        ),
        valid(
            "an order that pays for green energy of its own feeder",
            &greenest(),
        ),
        valid("a cancel", &cancel()),
        valid("a standing order with a deadline", &standing_order()),
        valid("a standing order of a battery", &battery_order()),
        valid("a standing order's cancel", &standing_cancel()),
        valid("a query for one's own orders", &order_query()),
        valid("an acceptance", &acceptance()),
        valid(
            "an acceptance of nothing yet",
            &Acceptance {
                accepted_up_to: None,
                missing: Vec::new(),
                rejected: Vec::new(),
                ..acceptance()
            },
        ),
        valid(
            "an acceptance that refuses for every reason",
            &Acceptance {
                accepted_up_to: Some(40),
                missing: Vec::new(),
                rejected: (10..).zip(Rejection::ALL).collect(),
                ..acceptance()
            },
        ),
        valid("a gateway's key record", &key_record()),
        valid(
            "a participant's key record",
            &KeyRecord {
                holder: Holder::Participant(order().participant),
                ..key_record()
            },
        ),
        valid("a claim", &claim()),
        valid("a new key's request", &key_request(3)),
        valid("an introduction", &introduction(3)),
        valid("a refused key", &key_refusal()),
        valid("a revocation", &revocation()),
        valid("a participant's claim", &own_claim()),
        valid("a participant's new key's request", &own_request(3)),
        valid("a participant's introduction", &own_introduction(3)),
        valid("a revocation of a participant's key", &own_revocation()),
        valid("a word on which record of a key counted", &record_word()),
        valid("what a charger's meter has signed", &charger_record()),
        valid(
            "what a charger without a known key has signed, in no transaction",
            &ChargerRecord {
                transaction: None,
                keys: Vec::new(),
                ..charger_record()
            },
        ),
        valid("a receipt for a charger's record", &charger_receipt()),
        valid(
            "a receipt for a charger's record that is not kept",
            &ChargerReceipt {
                refused: Some("no such point".to_owned()),
                ..charger_receipt()
            },
        ),
        valid("a command", &discharge()),
        valid(
            "a command that ends a lease",
            &Command {
                act: Act::Release {
                    set_point: discharge().act.set_point(),
                },
                ..discharge()
            },
        ),
        valid(
            "an answer to a command",
            &ack(Outcome::Confirmed {
                value: 2000,
                clamped_by: None,
            }),
        ),
        valid(
            "a value that the device itself has lowered in an answer to a command",
            &ack(Outcome::Confirmed {
                value: 1000,
                clamped_by: Some(Limit::Device),
            }),
        ),
        valid(
            "a lowered value in an answer to a command",
            &ack(Outcome::Accepted {
                value: Some(1500),
                clamped_by: Some(Limit::Rating),
            }),
        ),
        valid(
            "the end of a lease in an answer to a command",
            &ack(Outcome::Ended {
                why: End::Expired,
                revert: Revert::Pending,
            }),
        ),
    ]
}

/// Messages whose envelope is not as it should be.
fn bad_envelopes() -> Vec<Value> {
    let good = signed(&reading(17, 250));
    let foreign = CommunityId::new("street-11").unwrap();
    let foreign = Signed::sign(&key(3), &foreign, &reading(17, 250));
    let other_key = Signed::sign(&key(4), &street(), &reading(17, 250));
    let mut bad_signature = good.clone();
    *bad_signature.last_mut().unwrap() ^= 1;
    let bad = |name: &str, bytes: &[u8]| vector(name, Kind::Reading, bytes, false);
    vec![
        bad(
            "a reading with one bit of its signature flipped",
            &bad_signature,
        ),
        bad("a reading of another community", foreign.as_bytes()),
        bad("a reading signed with another key", other_key.as_bytes()),
        bad(
            "a reading with a byte behind its end",
            &[good.as_slice(), &[0]].concat(),
        ),
        bad("a reading without the COSE_Sign1 tag", &good[1..]),
        bad("an order presented as a reading", &signed(&order())),
        vector(
            "a command presented as an answer",
            Kind::Ack,
            &signed(&discharge()),
            false,
        ),
    ]
}

fn partner(name: &str) -> ParticipantId {
    ParticipantId::new(name).unwrap()
}

fn greenest() -> Order {
    Order {
        side: Side::Bid,
        preference: Preference {
            same_feeder: true,
            green_premium: Price::from_micro_per_kwh(25_000),
            ..Preference::default()
        },
        ..order()
    }
}

/// A deadline that can never be met.
fn no_power() -> StandingOrder {
    let mut order = standing_order();
    if let Standing::Deadline(Deadline { power_max_w, .. }) = &mut order.wish {
        *power_max_w = 0;
    }
    order
}

/// Messages with a good signature under what must not be said, or not be said so.
fn bad_payloads() -> Vec<Value> {
    let unmarked = Reading {
        quality: Quality::default(),
        ..reading(17, 250)
    };
    let mut descending = reading(17, 250);
    descending.registers.reverse();
    let twice = KeyRequest {
        points: [key_request(3).points, key_request(3).points].concat(),
        ..key_request(3)
    };
    let unsaid = Revocation {
        reason: String::new(),
        ..revocation()
    };
    vec![
        invalid("a reading without a mark of its quality", &unmarked),
        invalid("a reading whose registers descend", &descending),
        invalid(
            "a reading whose version takes two bytes",
            &raw_reading(|payload| drop(payload.splice(2..3, [0x18, 0x01]))),
        ),
        invalid(
            "a reading in a map of indefinite length",
            &raw_reading(|payload| {
                payload[0] = 0xbf;
                payload.push(0xff);
            }),
        ),
        invalid(
            "a reading with a claim that is not in the table",
            &raw_reading(|payload| {
                payload[0] += 1;
                payload.extend([0x10, 0x00]);
            }),
        ),
        invalid(
            "an order that replaces itself",
            &Order {
                replaces: Some(42),
                ..order()
            },
        ),
        invalid(
            "a standing order that replaces itself",
            &StandingOrder {
                replaces: Some(6),
                ..battery_order()
            },
        ),
        invalid(
            "a standing order of a battery that is full below what it holds",
            &StandingOrder {
                capacity: Some(Energy::from_wh(9_499)),
                ..battery_order()
            },
        ),
        invalid("a standing order without power", &no_power()),
        invalid(
            "an order that wishes to trade with itself",
            &Order {
                preference: Preference {
                    partners: vec![order().participant],
                    ..Preference::default()
                },
                ..order()
            },
        ),
        invalid(
            "an offer that pays for green energy",
            &Order {
                side: Side::Offer,
                ..greenest()
            },
        ),
        invalid("a request with the same point twice", &twice),
        invalid(
            "an introduction of a request that names another introducer",
            &introduction(4),
        ),
        invalid(
            "an introduction of a request that another key signed",
            &Introduction {
                key: PublicKey::of(&key(6)),
                ..introduction(3)
            },
        ),
        invalid("a revocation without a reason", &unsaid),
        invalid(
            "a word on a record behind the part of the log that was looked at",
            &RecordWord {
                size: 17,
                ..record_word()
            },
        ),
        invalid(
            "a word on a record of a later time",
            &RecordWord {
                valid_from: record_word().instant.plus_ms(1),
                ..record_word()
            },
        ),
        invalid(
            "a participant's introduction of a request that names another introducer",
            &own_introduction(4),
        ),
        invalid(
            "a key request of nobody",
            &raw_request(|payload, _, last| {
                payload[0] -= 1;
                payload.truncate(last);
            }),
        ),
        invalid(
            "a participant's key request that lists points",
            &raw_request(|payload, before, _| {
                payload[0] += 1;
                drop(payload.splice(before..before, [0x05, 0x80]));
            }),
        ),
    ]
}

fn made_here() -> Value {
    Value::Array([good(), bad_envelopes(), bad_payloads()].concat())
}

fn verifies<T: Message>(v: &Value, also: fn(&Verified<T>, &CommunityId) -> bool) -> bool {
    let text = |name: &str| v[name].as_str().unwrap().to_owned();
    let public = PublicKey::from_bytes(&from_hex::<32>(&text("public_key")).unwrap()).unwrap();
    let hex = text("message");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes = (0..hex.len()).step_by(2).map(byte).collect();
    let community = text("community").parse().unwrap();
    let verified = Signed::<T>::from_bytes(bytes).verify(public, &community);
    verified.is_ok_and(|verified| also(&verified, &community))
}

fn fine<T>(_: &Verified<T>, _: &CommunityId) -> bool {
    true
}

/// An introduction holds only with the request in it.
fn introduces(introduction: &Verified<Introduction>, community: &CommunityId) -> bool {
    let request = introduction.message().verify_request(community);
    request.is_ok_and(|request| request.message().introducer == introduction.signer())
}

#[test]
fn the_committed_vectors_hold() {
    if std::env::var_os("COMMONWATT_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&made_here()).unwrap();
        std::fs::write(FILE, text + "\n").unwrap();
    }
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    assert_eq!(
        committed,
        made_here(),
        "the format changed: bump its version and the vectors"
    );
    for v in committed.as_array().unwrap() {
        let valid = match v["kind"].as_str().unwrap() {
            "reading" => verifies::<Reading>(v, fine),
            "order" => verifies::<Order>(v, fine),
            "cancel" => verifies::<Cancel>(v, fine),
            "standing-order" => verifies::<StandingOrder>(v, fine),
            "standing-cancel" => verifies::<StandingCancel>(v, fine),
            "order-query" => verifies::<OrderQuery>(v, fine),
            "receipt" => verifies::<Acceptance>(v, fine),
            "key" => verifies::<KeyRecord>(v, fine),
            "claim" => verifies::<Claim>(v, fine),
            "key-request" => verifies::<KeyRequest>(v, fine),
            "introduction" => verifies::<Introduction>(v, introduces),
            "key-refusal" => verifies::<KeyRefusal>(v, fine),
            "revocation" => verifies::<Revocation>(v, fine),
            "record-word" => verifies::<RecordWord>(v, fine),
            "command" => verifies::<Command>(v, fine),
            "ack" => verifies::<Ack>(v, fine),
            "charger-record" => verifies::<ChargerRecord>(v, fine),
            "charger-receipt" => verifies::<ChargerReceipt>(v, fine),
            other => panic!("no such kind: {other}"),
        };
        assert_eq!(valid, v["valid"].as_bool().unwrap(), "{}", v["name"]);
    }
}

/// The other language: `domain/FORMAT.md` is all that `verify.py` knows.
#[test]
fn an_independent_program_agrees_on_every_vector() {
    let python = |args: &[&str]| std::process::Command::new("python3").args(args).output();
    match python(&["-c", "import cbor2, cryptography"]) {
        Ok(found) if found.status.success() => {}
        _ => return eprintln!("skipped: no python3 with cbor2 and cryptography here"),
    }
    let program = FILE.replace("signed.json", "verify.py");
    let checked = python(&[&program, FILE]).unwrap();
    let told = String::from_utf8_lossy(&checked.stdout);
    let wrong = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{told}{wrong}");
    assert!(told.contains("an introduction: valid"), "{told}");
}
