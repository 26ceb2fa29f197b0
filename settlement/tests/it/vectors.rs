//! Proofs of log entries, valid and invalid, from a committed file; and a program in another language that agrees.
//!
//! `COMMONWATT_WRITE_VECTORS=1 cargo test -p settlement --test it vectors` writes the file anew.

use std::process::Command;

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::signed::PublicKey;
use serde_json::{Value, json};
use settlement::prove::{Trusted, proofs, verify_proof};

use crate::receipts::settled;

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
    let operator = PublicKey::of(&world.community.operator).to_bytes();
    json!({ "community": "street", "operator_key": STANDARD.encode(operator), "proofs": vectors })
}

fn read() -> Value {
    serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap()
}

#[tokio::test]
async fn the_committed_proofs_are_judged_as_they_say() {
    if std::env::var_os("COMMONWATT_WRITE_VECTORS").is_some() {
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

/// The other language: `FORMAT.md` of settlement and domain are all that `verify_proof.py` knows.
#[tokio::test]
async fn an_independent_program_agrees_on_every_proof() {
    let python = std::env::var("COMMONWATT_PYTHON").unwrap_or("python3".to_owned());
    let run = |args: &[&str]| Command::new(&python).args(args).output();
    match run(&["-c", "import cbor2, cryptography"]) {
        Ok(found) if found.status.success() => {}
        _ => return eprintln!("skipped: no python3 with cbor2 and cryptography here"),
    }
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().join("fresh.json");
    std::fs::write(&fresh, written().await.to_string()).unwrap();
    let program = FILE.replace("proofs.json", "verify_proof.py");
    for file in [FILE, fresh.to_str().unwrap()] {
        let checked = run(&[&program, file]).unwrap();
        let told = String::from_utf8_lossy(&checked.stdout);
        let wrong = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{told}{wrong}");
        assert!(
            told.contains("together: valid (10 entries, 1 runs)"),
            "{told}"
        );
    }
}
