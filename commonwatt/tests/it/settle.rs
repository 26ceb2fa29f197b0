//! `commonwatt settle` as a person uses it.

use std::path::Path;
use std::process::{Command, Output};

fn settle(folder: &Path, more: &[&str]) -> Output {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_commonwatt"));
    command
        .arg("settle")
        .args(["--trades", &file("trades.csv")]);
    command.args([
        "--readings",
        &file("readings.csv"),
        "--tariff",
        &file("tariff.toml"),
    ]);
    command.args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn an_interval_is_settled_from_files_and_mistakes_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "trades.csv",
        "buyer,seller,energy_wh,price\nhome-a,home-b,1000,0.132\n",
    );
    write(
        "readings.csv",
        "participant,imported_wh,exported_wh,role\nhome-a,1200,0,\nhome-b,0,1150,\nfeeder,60,0,feeder\n",
    );
    write(
        "tariff.toml",
        "retail = \"0.32\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.07\"\n",
    );
    let output = settle(folder.path(), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        value["sums"],
        serde_json::json!({ "token": "0", "wh": "0" })
    );
    let output = settle(
        folder.path(),
        &["--policy", "single-price", "--community-fee-percent", "2.5"],
    );
    let table = text(&output.stdout);
    assert!(
        table.contains("300/-") && table.contains("0.003300000"),
        "{table}"
    );
    for (more, expect) in [
        (["--policy", "best"], "--policy"),
        (["--run", "last"], "--run"),
        (["--holdback-percent", "200"], "--holdback-percent"),
        (["--interval", "2026-01-01T12:01:00Z"], "--interval"),
    ] {
        let output = settle(folder.path(), &more);
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(
            text(&output.stderr).contains(expect),
            "{more:?}: {}",
            text(&output.stderr)
        );
    }
    let output = settle(folder.path(), &["--spread=-1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("below zero"));
    write(
        "readings.csv",
        "participant,imported_wh,exported_wh\nhome-b,0,1150\n",
    );
    let output = settle(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("home-a has a trade but no connection point"));
}
