//! `commonwatt clear` as a person runs it.

use std::process::{Command, Output};

use crate::demo::program;

const ORDERS: &str = "id,participant,side,energy_wh,limit_price\n\
    b1,ana,bid,100,0.30\n\
    b2,ben,bid,100,0.20\n\
    o1,cem,offer,100,0.10\n\
    o2,dia,offer,100,0.15\n";

fn clear(orders: &str, extra: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    std::fs::write(&file, orders).unwrap();
    Command::new(program())
        .args(["clear", "--orders", file.to_str().unwrap()])
        .args(extra)
        .output()
        .unwrap()
}

#[test]
fn a_book_is_cleared_to_json() {
    let out = clear(
        ORDERS,
        &["--mechanism", "uniform-price", "--format", "json"],
    );
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let result: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(result["mechanism"], "uniform-price");
    assert_eq!(result["price_policy"], "walras-mid");
    assert_eq!(result["price"], "0.175000");
    assert_eq!(
        result["price_interval"],
        serde_json::json!(["0.150000", "0.200000"])
    );
    assert_eq!(result["volume_wh"], 200);
    assert_eq!(result["orders"].as_array().unwrap().len(), 4);
}

#[test]
fn a_bad_line_is_named_with_its_place_and_nothing_is_printed() {
    for (bad, place) in [
        ("b3,eva,bid,-5,0.20\n", "energy_wh"),
        ("b3,eva,bid,5,cheap\n", "limit_price"),
        ("b3,eva,both,5,0.20\n", "side"),
        ("b1,eva,bid,5,0.20\n", "id"),
    ] {
        let out = clear(&format!("{ORDERS}{bad}"), &["--format", "json"]);
        assert_eq!(out.status.code(), Some(2), "{bad}");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            said.contains("line 6") && said.contains(place),
            "{bad}: {said}"
        );
        assert!(out.stdout.is_empty(), "{bad}: half a result was printed");
    }
}

#[test]
fn an_unknown_mechanism_is_a_usage_error() {
    let out = clear(ORDERS, &["--mechanism", "dictator"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("uniform-price"),
        "it must say what there is"
    );
}

#[test]
fn compare_prints_every_mechanism_on_the_same_orders() {
    let compare = |extra: &[&str]| clear(ORDERS, &[&["--compare"], extra].concat());
    let tariff = ["--retail", "0.35", "--feed-in", "0.08"];
    let out = compare(&[&tariff[..], &["--format", "json"]].concat());
    let rows: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let names = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["mechanism"].as_str().unwrap());
    let names: Vec<&str> = names.collect();
    assert_eq!(names.len(), 14);
    for name in [
        "uniform-price",
        "huang",
        "muda",
        "vcg",
        "continuous",
        "mid-market-rate",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(rows[0]["welfare_permille"], 1000);
    let table = String::from_utf8(compare(&[]).stdout).unwrap();
    assert!(
        table.starts_with("mechanism") && !table.contains("bill-sharing"),
        "{table}"
    );
    let half = compare(&tariff[..2]);
    assert_eq!(half.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&half.stderr).contains("--feed-in"));
}
