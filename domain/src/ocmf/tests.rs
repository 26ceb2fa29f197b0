//! Texts of our own read back, changed, and checked by programs that others wrote.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

fn signer() -> Signer {
    Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap()
}

fn written(signer: &Signer) -> String {
    let session = Session {
        station: "charger-3",
        meter: "home-03.charger",
        user: "session-1",
        page: 17,
        readings: [
            ("2026-06-21T10:15:00Z".parse().unwrap(), 1_000),
            ("2026-06-21T11:30:00Z".parse().unwrap(), 9_001),
        ],
        synchronised: true,
    };
    write(&session, signer).unwrap()
}

fn failed(steps: &Steps) -> Option<&'static str> {
    steps
        .iter()
        .find(|(_, found)| found.is_err())
        .map(|(name, _)| *name)
}

#[test]
fn a_session_is_written_and_read_back() {
    let signer = signer();
    let text = written(&signer);
    let read = Ocmf::from_text(&format!("{text}\n")).unwrap();
    assert_eq!(read.energy(), Some(8_001_000_000));
    assert_eq!(read.pagination, ('T', 17));
    let steps = read.check(&signer.public());
    assert_eq!((steps.len(), failed(&steps)), (4, None), "{steps:?}");
    for text in [signer.public().to_hex(), signer.public().to_pem()] {
        assert_eq!(PublicKey::from_text(&text), Ok(signer.public()));
    }
    assert_eq!(PublicKey::from_text("04ab"), Err(KeyError::NotOne));
}

#[test]
fn what_was_changed_is_found() {
    let signer = signer();
    let text = written(&signer);
    let changed = Ocmf::from_text(&text.replacen("9001", "9002", 1)).unwrap();
    assert_eq!(failed(&changed.check(&signer.public())), Some("signature"));
    let other = super::tests::signer();
    let read = Ocmf::from_text(&text).unwrap();
    assert_eq!(failed(&read.check(&other.public())), Some("signature"));

    // What the meter itself says is wrong, in texts that are signed well.
    let again = |from: &str, to: &str| {
        let payload = read.payload().replacen(from, to, 1);
        let signature = crate::ids::to_hex(&signer.sign(payload.as_bytes()).unwrap());
        let text = format!(r#"OCMF|{payload}|{{"SD":"{signature}"}}"#);
        failed(&Ocmf::from_text(&text).unwrap().check(&signer.public()))
    };
    assert_eq!(again("never", "there"), None);
    assert_eq!(again("9001", "999"), Some("registers"));
    assert_eq!(again(r#""ST":"G""#, r#""ST":"M""#), Some("meter"));
    assert_eq!(again(r#""EF":"""#, r#""EF":"E""#), Some("meter"));
    assert_eq!(again(r#""TX":"E""#, r#""TX":"C""#), Some("both readings"));
    assert_eq!(again("T11:30", "T09:30"), Some("registers"));
}

#[test]
fn a_text_that_is_none_is_refused_with_its_place() {
    let text = written(&signer());
    for (from, to, path) in [
        ("OCMF|", "OCNF|", "OCMF"),
        ("T17", "17", "$.PG"),
        ("+0000 S", " S", "$.RD[0].TM"),
        ("\"Wh\"", "\"MWh\"", "$.RD[0].RU"),
        ("\"hex\"", "\"oct\"", "$"),
        ("\"SD\":\"", "\"SD\":\"x", "$.SD"),
        ("|{\"SA\"", "|\"SA\"", "signature"),
    ] {
        let error = Ocmf::from_text(&text.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.path, path, "{from}: {error}");
    }
    // A later reading says only what is new.
    let short = r#"OCMF|{"PG":"F1","RD":[{"TM":"2026-06-21T10:15:00,000+0200 S","TX":"B","RV":0.1,"RI":"1-b:1.8.e",
        "RU":"kWh","ST":"G"},{"TX":"E","RV":0.25}]}|{"SD":"00"}"#;
    let read = Ocmf::from_text(short).unwrap();
    assert_eq!(read.energy(), Some(150_000_000));
    assert_eq!(
        (read.readings[1].status, read.readings[1].at),
        ('G', read.readings[0].at)
    );
}

/// Checks a signature with Python's `cryptography`, and signs another text there.
const PYTHON: &str = r#"
import sys, json
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key, text = sys.stdin.read().split("\n====\n")
_, payload, signature = text.split("|")
public = serialization.load_pem_public_key(key.encode())
public.verify(bytes.fromhex(json.loads(signature)["SD"]), payload.encode(), ec.ECDSA(hashes.SHA256()))
for curve, name in ((ec.SECP256R1(), "secp256r1"), (ec.SECP384R1(), "secp384r1")):
    mine = ec.generate_private_key(curve)
    sd = mine.sign(payload.encode(), ec.ECDSA(hashes.SHA256())).hex()
    der = mine.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    print(der.hex())
    print("OCMF|" + payload + "|" + json.dumps({"SA": "ECDSA-%s-SHA256" % name, "SD": sd}))
"#;

#[test]
fn another_program_checks_ours_and_ours_checks_another_programs() {
    let probe = Command::new("python3")
        .args(["-c", "import cryptography"])
        .output();
    if !probe.is_ok_and(|p| p.status.success()) {
        println!("skipped: there is no python3 with the package cryptography");
        return;
    }
    let signer = signer();
    let text = written(&signer);
    let mut python = Command::new("python3")
        .args(["-c", PYTHON])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = format!("{}\n====\n{text}", signer.public().to_pem());
    python
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let answer = python.wait_with_output().unwrap();
    assert!(answer.status.success(), "it did not accept the signature");
    let answer = String::from_utf8(answer.stdout).unwrap();
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines.len(), 4);
    for pair in lines.chunks(2) {
        let key = PublicKey::from_text(pair[0]).unwrap();
        let theirs = Ocmf::from_text(pair[1]).unwrap();
        let steps = theirs.check(&key);
        assert_eq!(failed(&steps), None, "{steps:?}");
        assert_eq!(failed(&theirs.check(&signer.public())), Some("signature"));
    }
}
