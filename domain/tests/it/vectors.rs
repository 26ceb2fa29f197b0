//! Committed vectors, valid and invalid, so that a program in another language can check itself.
//!
//! `COMMONWATT_WRITE_VECTORS=1 cargo test -p domain` writes them anew after a change of format.

use domain::command::{Ack, Command, Outcome};
use domain::ids::{CommunityId, from_hex, to_hex};
use domain::order::Order;
use domain::quality::Quality;
use domain::reading::Reading;
use domain::signed::{Message, PublicKey, Signed};
use serde_json::{Value, json};

use crate::messages::{ack, discharge, key, order, reading, street};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/signed.json");

fn vector(name: &str, kind: &str, bytes: &[u8], valid: bool) -> Value {
    json!({
        "name": name,
        "kind": kind,
        "community": "street-10",
        "public_key": to_hex(&PublicKey::of(&key(3)).to_bytes()),
        "message": to_hex(bytes),
        "valid": valid,
    })
}

fn made_here() -> Value {
    let good = Signed::sign(&key(3), &street(), &reading(17, 250))
        .as_bytes()
        .to_vec();
    let signed_order = Signed::sign(&key(3), &street(), &order())
        .as_bytes()
        .to_vec();
    let foreign = CommunityId::new("street-11").unwrap();
    let foreign = Signed::sign(&key(3), &foreign, &reading(17, 250))
        .as_bytes()
        .to_vec();
    let other_key = Signed::sign(&key(4), &street(), &reading(17, 250))
        .as_bytes()
        .to_vec();
    let mut bad_signature = good.clone();
    *bad_signature.last_mut().unwrap() ^= 1;
    let mut unmarked = reading(17, 250);
    unmarked.quality = Quality::default();
    let unmarked = Signed::sign(&key(3), &street(), &unmarked)
        .as_bytes()
        .to_vec();
    let mut marked = reading(18, 250);
    marked.quality = Quality::from_bits((1 << 11) - 1).unwrap();
    let marked = Signed::sign(&key(3), &street(), &marked)
        .as_bytes()
        .to_vec();
    let trailing = [good.as_slice(), &[0]].concat();
    let untagged = good[1..].to_vec();
    let command = Signed::sign(&key(3), &street(), &discharge());
    let answer = Signed::sign(&key(3), &street(), &ack(Outcome::Confirmed { value: 2000 }));
    json!([
        vector("a reading", "reading", &good, true),
        vector("an order", "order", &signed_order, true),
        vector(
            "a reading with every mark of quality",
            "reading",
            &marked,
            true
        ),
        vector(
            "a reading with one bit of its signature flipped",
            "reading",
            &bad_signature,
            false
        ),
        vector("a reading of another community", "reading", &foreign, false),
        vector(
            "a reading signed with another key",
            "reading",
            &other_key,
            false
        ),
        vector(
            "a reading with a byte behind its end",
            "reading",
            &trailing,
            false
        ),
        vector(
            "a reading without the COSE_Sign1 tag",
            "reading",
            &untagged,
            false
        ),
        vector(
            "a reading without a mark of its quality",
            "reading",
            &unmarked,
            false
        ),
        vector(
            "an order presented as a reading",
            "reading",
            &signed_order,
            false
        ),
        vector("a command", "command", command.as_bytes(), true),
        vector("an answer to a command", "ack", answer.as_bytes(), true),
        vector(
            "a command presented as an answer",
            "ack",
            command.as_bytes(),
            false
        ),
    ])
}

fn verifies<T: Message>(v: &Value) -> bool {
    let text = |name: &str| v[name].as_str().unwrap().to_owned();
    let public = PublicKey::from_bytes(&from_hex::<32>(&text("public_key")).unwrap()).unwrap();
    let hex = text("message");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes = (0..hex.len()).step_by(2).map(byte).collect();
    Signed::<T>::from_bytes(bytes)
        .verify(public, &text("community").parse().unwrap())
        .is_ok()
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
            "reading" => verifies::<Reading>(v),
            "command" => verifies::<Command>(v),
            "ack" => verifies::<Ack>(v),
            _ => verifies::<Order>(v),
        };
        assert_eq!(valid, v["valid"].as_bool().unwrap(), "{}", v["name"]);
    }
}
