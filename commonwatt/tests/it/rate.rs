//! Charging on the command line: `rate` makes a bill, `verify` checks a station's signed readings; refusals say where.

use std::path::Path;
use std::process::{Command, Output};

use settlement::charging::ocmf::{Session, Signer, write};

fn rate(tariff: &str, cdr: &str, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let (tariff_file, cdr_file) = (folder.path().join("t.json"), folder.path().join("c.json"));
    std::fs::write(&tariff_file, tariff).unwrap();
    std::fs::write(&cdr_file, cdr).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_commonwatt"));
    command.arg("rate").arg("--cdr").arg(&cdr_file);
    if !tariff.is_empty() {
        command.arg("--tariff").arg(&tariff_file);
    }
    command.args(["--zone", "Europe/Berlin"]).args(more);
    command.output().unwrap()
}

const TARIFF: &str = r#"{"id": "day", "currency": "EUR", "elements": [{"price_components": [
    {"type": "ENERGY", "price": 0.30, "vat": 19, "step_size": 1},
    {"type": "PARKING_TIME", "price": 6.00, "vat": 19, "step_size": 300}]}]}"#;

const CDR: &str = r#"{"start_date_time": "2026-03-02T08:30:00Z", "end_date_time": "2026-03-02T09:42:00Z", "currency": "EUR",
    "charging_periods": [
    {"start_date_time": "2026-03-02T08:30:00Z", "dimensions": [{"type": "ENERGY", "volume": 10.5}, {"type": "TIME", "volume": 1}]},
    {"start_date_time": "2026-03-02T09:30:00Z", "dimensions": [{"type": "PARKING_TIME", "volume": 0.2}]}],
    "total_cost": {"excl_vat": 4.65, "incl_vat": 5.5335}}"#;

#[test]
fn a_bill_as_table_json_and_csv() {
    let table = rate(TARIFF, CDR, &[]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.status.success() && text.contains("total EUR"),
        "{text}"
    );
    assert!(text.contains("the record's own total agrees"), "{text}");
    let json = rate(TARIFF, CDR, &["--format", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["total"], "5.5335");
    assert_eq!(json["record"]["agrees"], true);
    assert_eq!(json["lines"][1]["billed"], "900");
    let csv = String::from_utf8(rate(TARIFF, CDR, &["--format", "csv"]).stdout).unwrap();
    assert!(csv.ends_with("TOTAL,,,,,,,,4.65,0.8835,5.5335\n"), "{csv}");
}

#[test]
fn the_record_can_carry_its_tariff() {
    let cdr = CDR.replacen(
        "\"currency\"",
        &format!("\"tariffs\": [{TARIFF}], \"currency\""),
        1,
    );
    assert!(rate("", &cdr, &[]).status.success());
    let none = rate("", CDR, &[]);
    let told = String::from_utf8(none.stderr).unwrap();
    assert_eq!(none.status.code(), Some(2));
    assert!(told.contains("none of the 0 tariffs holds"), "{told}");
}

#[test]
fn what_is_wrong_is_said_with_its_path() {
    for (tariff, cdr, words) in [
        (
            TARIFF.replacen("0.30", "\"0.30\"", 1),
            CDR.to_owned(),
            "t.json: $.elements[0].price_components[0].price: expected a number",
        ),
        (
            TARIFF.to_owned(),
            CDR.replacen("10.5", "ten", 1),
            "c.json: $: this is not JSON: expected",
        ),
        (
            TARIFF.to_owned(),
            CDR.replacen("EUR", "SEK", 1),
            "the record is in SEK and the tariff in EUR",
        ),
    ] {
        let refused = rate(&tariff, &cdr, &[]);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains(words), "{told}");
    }
    let zone = rate(TARIFF, CDR, &["--zone", "Nowhere"]);
    assert_eq!(zone.status.code(), Some(2));
}

/// A session of 7 kWh, as a station signs it.
fn signed(signer: &Signer) -> String {
    let at = |minute: i64| domain::time::Timestamp::from_unix_s(1_782_000_000 + 60 * minute);
    let session = Session {
        station: "charger-3",
        meter: "home-03.charger",
        user: "session-1",
        page: 1,
        readings: [(at(0), 1_000), (at(60), 8_000)],
        synchronised: true,
    };
    write(&session, signer).unwrap()
}

/// What `verify` ends with, and what it says.
fn verified(file: &Path, key: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_commonwatt"));
    command.arg("verify").arg(file);
    if let Some(key) = key {
        command.args(["--key", key]);
    }
    let out = command.output().unwrap();
    let told = [out.stdout, out.stderr].concat();
    (out.status.code(), String::from_utf8(told).unwrap())
}

#[test]
fn a_stations_signed_readings_are_checked() {
    let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let text = signed(&signer);
    let folder = tempfile::tempdir().unwrap();
    let (file, pem) = (folder.path().join("s.ocmf"), folder.path().join("s.pem"));
    std::fs::write(&pem, signer.public().to_pem()).unwrap();
    let verify = |text: &str, key: Option<&str>| {
        std::fs::write(&file, text).unwrap();
        verified(&file, key)
    };
    for key in [pem.to_str().unwrap(), &signer.public().to_hex()] {
        let (code, told) = verify(&text, Some(key));
        assert_eq!(code, Some(0), "{told}");
        assert!(
            told.contains("7000 Wh") && told.ends_with("genuine\n"),
            "{told}"
        );
    }
    let (code, told) = verify(
        &text.replacen("8000", "8001", 1),
        Some(pem.to_str().unwrap()),
    );
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("step `signature` failed"), "{told}");
    for key in [None, Some("00")] {
        assert_eq!(verify(&text, key).0, Some(2));
    }
}

/// What a station signs, OpenSSL finds genuine, and what OpenSSL signs, `verify` does.
#[test]
fn signed_readings_and_openssl_agree() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let openssl = |args: &[&str]| {
        let run = Command::new("openssl")
            .args(args)
            .current_dir(folder.path())
            .output();
        run.is_ok_and(|out| out.status.success())
    };
    if !openssl(&["version"]) {
        return println!("skipped: no openssl here");
    }
    let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let text = signed(&signer);
    let parts: Vec<&str> = text.split('|').collect();
    let [_, payload, signature] = parts[..] else {
        panic!("{text}");
    };
    let signature: serde_json::Value = serde_json::from_str(signature).unwrap();
    let hex = signature["SD"].as_str().unwrap();
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
        .collect();
    std::fs::write(at("ours.pem"), signer.public().to_pem()).unwrap();
    std::fs::write(at("ours.sig"), bytes).unwrap();
    let check = [
        "dgst",
        "-sha256",
        "-verify",
        "ours.pem",
        "-signature",
        "ours.sig",
        "payload",
    ];
    std::fs::write(at("payload"), payload).unwrap();
    assert!(openssl(&check), "OpenSSL takes it for false");
    std::fs::write(at("payload"), payload.replacen("8000", "8001", 1)).unwrap();
    assert!(!openssl(&check), "OpenSSL takes another text for it");

    std::fs::write(at("payload"), payload).unwrap();
    let curve = [
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        "theirs.key",
    ];
    assert!(openssl(&curve));
    assert!(openssl(&[
        "ec",
        "-in",
        "theirs.key",
        "-pubout",
        "-out",
        "theirs.pem"
    ]));
    let sign = [
        "dgst",
        "-sha256",
        "-sign",
        "theirs.key",
        "-out",
        "theirs.sig",
        "payload",
    ];
    assert!(openssl(&sign));
    let theirs = domain::ids::to_hex(&std::fs::read(at("theirs.sig")).unwrap());
    let text = format!("OCMF|{payload}|{{\"SA\":\"ECDSA-secp256r1-SHA256\",\"SD\":\"{theirs}\"}}");
    std::fs::write(at("theirs.ocmf"), text).unwrap();
    for (key, code) in [("theirs.pem", 0), ("ours.pem", 1)] {
        let (said, told) = verified(&at("theirs.ocmf"), at(key).to_str());
        assert_eq!(said, Some(code), "{key}: {told}");
    }
}
