//! Proofs of log entries, valid and invalid, from a committed file; and a program in another language that agrees.
//!
//! `COMMONWATT_WRITE_PROOFS=1` with this test writes the file anew.

use std::process::Command;

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::log::note::VerifierKey;
use domain::signed::{PublicKey, SigningKey};
use domain::time::Timestamp;
use serde_json::{Value, json};
use settlement::evidence::{Evidence, FORMAT};
use settlement::log::checkpoint::Checkpoint;
use settlement::log::entry::{Entry, Kind, PUBLIC};
use settlement::log::proof::{LogProof, Opening, extra};
use settlement::prove::{Trusted, proofs, verify_proof};

use crate::forge::proof_of;
use crate::key_changes::{changed, receipt_of, revoked};
use crate::receipts::settled;
use crate::world::{World, interval};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/proofs.json");

fn vector(name: &str, valid: bool, receipt: bool, text: &str) -> Value {
    json!({ "name": name, "valid": valid, "receipt": receipt, "text": text })
}

/// The extra data with one bit changed.
fn flipped(text: &str, byte: usize) -> String {
    let line = text.lines().nth(1).unwrap();
    let mut extra = STANDARD
        .decode(line.strip_prefix("extra ").unwrap())
        .unwrap();
    extra[byte] ^= 1;
    text.replacen(line, &format!("extra {}", STANDARD.encode(extra)), 1)
}

/// The only entry of a ledger log, opened: a case with this format.
fn evidence(operator: &SigningKey, format: &str) -> String {
    let log = VerifierKey::of_log("commonwatt/street/ledger", PublicKey::of(operator));
    let case = Evidence::operator_fork(&log.unwrap(), "one", "other", &[]);
    let opening = Opening {
        salt: PUBLIC,
        content: case.to_text().replace(FORMAT, format).into_bytes(),
    };
    let start = Timestamp::from_unix_s(1_782_000_000);
    let entry = Entry::new(Kind::Evidence, start, PUBLIC, &opening.content);
    let head = Checkpoint {
        size: 1,
        root: entry.leaf_hash(),
    };
    let proof = LogProof {
        extra: Some(extra(&entry, Some(&opening))),
        index: 0,
        path: Vec::new(),
        note: head.sign("commonwatt/street/ledger", operator),
    };
    proof.to_text()
}

async fn written() -> Value {
    let (world, receipt) = settled(true).await;
    let all = proofs(&receipt).unwrap();
    let mut vectors: Vec<Value> = all
        .iter()
        .map(|(name, proof)| vector(name, true, true, &proof.to_text()))
        .collect();
    let of = |name: &str| {
        let found = all.iter().find(|(known, _)| known == name);
        found.unwrap().1.to_text()
    };
    let (run, line, key) = (
        of("run-provisional"),
        of("line-provisional"),
        of("gateway-key"),
    );
    let sealed = {
        let (_, proof) = all.iter().find(|(name, _)| name == "trade").unwrap();
        let mut proof = proof.clone();
        proof.extra.as_mut().unwrap().truncate(42);
        proof.to_text()
    };
    vectors.push(vector("a sealed trade", true, false, &sealed));
    let operator = &world.community.operator;
    let case = evidence(operator, FORMAT);
    vectors.push(vector("evidence", true, false, &case));
    let case = evidence(operator, "commonwatt-evidence/v9");
    let name = "evidence of a format of the future";
    vectors.push(vector(name, false, false, &case));
    let hash = |text: &str| text.lines().nth(3).unwrap().to_owned();
    for (name, text) in [
        (
            "a run at another place",
            run.replacen("index ", "index 1", 1),
        ),
        ("a run of another kind", flipped(&run, 1)),
        ("a run of another interval", flipped(&run, 9)),
        ("a run under another salt", flipped(&run, 42)),
        ("a run by another program", flipped(&run, 80)),
        ("a line with another content", flipped(&line, 90)),
        ("a key record with another signature", flipped(&key, 200)),
        (
            "a path that lacks its first hash",
            run.replacen(&format!("{}\n", hash(&run)), "", 1),
        ),
        ("another root", {
            let root = run.lines().rev().nth(2).unwrap().to_owned();
            run.replacen(&root, &STANDARD.encode([7; 32]), 1)
        }),
        (
            "another community",
            run.replace("commonwatt/street/", "commonwatt/strasse/"),
        ),
        (
            "no extra data",
            run.lines()
                .filter(|l| !l.starts_with("extra "))
                .fold(String::new(), |t, l| t + l + "\n"),
        ),
        ("another version", run.replacen("@v1", "@v2", 1)),
        (
            "a number that is written another way",
            run.replacen("index ", "index 0", 1),
        ),
        ("nothing", String::new()),
    ] {
        vectors.push(vector(name, false, false, &text));
    }
    vectors.extend(of_changed_keys().await);
    vectors.extend(of_tokens(&world));
    let operator = PublicKey::of(&world.community.operator).to_bytes();
    json!({ "community": "street", "operator_key": STANDARD.encode(operator), "proofs": vectors })
}

/// The entries that only receipts of changed and revoked keys show.
async fn of_changed_keys() -> Vec<Value> {
    let (keys, [_, after]) = changed().await;
    let rotated = receipt_of(&keys.0, after).await;
    let mut vectors = Vec::new();
    for (name, receipt) in [
        ("gateway-key-before-introduction", rotated),
        ("gateway-key-revocation-1", revoked().await),
    ] {
        let all = proofs(&receipt).unwrap();
        let found = all.iter().find(|(known, _)| known == name).unwrap();
        let text = found.1.to_text();
        vectors.push(vector(name, true, false, &text));
        for (what, byte) in [("of another time", 9), ("with another content", 120)] {
            let name = format!("{name} {what}");
            vectors.push(vector(&name, false, false, &flipped(&text, byte)));
        }
    }
    vectors
}

/// What an operator asked for in tokens, and how it went on: CBOR as `FORMAT.md` says.
fn of_tokens(world: &World) -> Vec<Value> {
    let mut vectors = Vec::new();
    let at = interval(0).end();
    let tokens = |kind: u8, payout: Option<&str>, step: u8, by: &str| {
        let mut content = Vec::new();
        let mut e = minicbor::Encoder::new(&mut content);
        e.map(7 + u64::from(payout.is_some())).unwrap();
        e.u8(1).unwrap().u8(kind).unwrap();
        e.u8(2).unwrap().str("home-a").unwrap();
        e.u8(3).unwrap().i64(10_000_000_000).unwrap();
        e.u8(4).unwrap().str("transfer 7").unwrap();
        if let Some(payout) = payout {
            e.u8(5).unwrap().str(payout).unwrap();
        }
        e.u8(6).unwrap().u8(step).unwrap();
        e.u8(7).unwrap().str(by).unwrap();
        e.u8(8).unwrap().i64(at.unix_ms()).unwrap();
        content
    };
    for (name, content, valid) in [
        (
            "tokens: a deposit that was asked for",
            tokens(1, None, 0, "anna"),
            true,
        ),
        (
            "tokens: a withdrawal that was confirmed",
            tokens(2, Some("DE02 1203"), 1, "berta"),
            true,
        ),
        ("tokens: of no kind", tokens(9, None, 0, "anna"), false),
        (
            "tokens: a step that there is not",
            tokens(1, None, 7, "anna"),
            false,
        ),
    ] {
        let proof = proof_of(world, Kind::Tokens, at, &content);
        vectors.push(vector(name, valid, false, &proof.to_text()));
    }
    vectors
}

fn read() -> Value {
    serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap()
}

#[tokio::test]
async fn the_committed_proofs_are_judged_as_they_say() {
    if std::env::var_os("COMMONWATT_WRITE_PROOFS").is_some() {
        std::fs::write(FILE, format!("{:#}\n", written().await)).unwrap();
    }
    // What is made now is of the same form as what is committed, valid and invalid alike.
    for vectors in [read(), written().await] {
        let key: [u8; 32] = STANDARD
            .decode(vectors["operator_key"].as_str().unwrap())
            .unwrap()
            .try_into()
            .unwrap();
        let trusted = Trusted {
            operator: Some(PublicKey::from_bytes(&key).unwrap()),
            ..Trusted::default()
        };
        for one in vectors["proofs"].as_array().unwrap() {
            let report = verify_proof(one["text"].as_str().unwrap(), &trusted);
            assert_eq!(
                report.holds(),
                one["valid"] == true,
                "{}: {report:?}",
                one["name"]
            );
        }
    }
    let names = |vectors: &Value| -> Vec<String> {
        let all = vectors["proofs"].as_array().unwrap();
        all.iter().map(|one| one["name"].to_string()).collect()
    };
    assert_eq!(names(&read()), names(&written().await));
}

/// What a program beside the vectors says of these files; none where Python lacks what it needs.
pub(crate) fn told_by_python(program: &str, files: &[&str]) -> Option<Vec<String>> {
    let python = std::env::var("COMMONWATT_PYTHON").unwrap_or("python3".to_owned());
    let run = |args: &[&str]| Command::new(&python).args(args).output();
    match run(&["-c", "import cbor2, cryptography"]) {
        Ok(found) if found.status.success() => {}
        _ => {
            eprintln!("skipped: no python3 with cbor2 and cryptography here");
            return None;
        }
    }
    let program = FILE.replace("proofs.json", program);
    let checked = |file: &&str| {
        let checked = run(&[&program, file]).unwrap();
        let told = String::from_utf8_lossy(&checked.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{told}{wrong}");
        told
    };
    Some(files.iter().map(checked).collect())
}

/// The other language: `FORMAT.md` of settlement and domain are all that `verify_proof.py` knows.
#[tokio::test]
async fn an_independent_program_agrees_on_every_proof() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().join("fresh.json");
    std::fs::write(&fresh, written().await.to_string()).unwrap();
    let files = [FILE, fresh.to_str().unwrap()];
    for told in told_by_python("verify_proof.py", &files)
        .into_iter()
        .flatten()
    {
        let together = "together: valid (10 entries, 1 runs)";
        assert!(told.contains(together), "{told}");
    }
}
