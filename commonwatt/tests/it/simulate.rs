//! `commonwatt simulate` and what is done with run folders, as a person runs them.

use std::path::Path;
use std::process::{Command, Output};

use crate::demo::program;

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(program())
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn stdout(out: &Output) -> String {
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout.clone()).unwrap()
}

fn simulated(folder: &Path, extra: &[&str]) -> String {
    let args = ["simulate", "island-day", "--csv", "--format", "json"];
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&run(folder, &[&args, extra].concat()))).unwrap();
    json["folder"].as_str().unwrap().to_owned()
}

#[test]
fn a_run_is_repeated_compared_drawn_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let one = simulated(at, &["--seed", "3"]);
    let two = simulated(at, &["--seed", "3", "--mechanism", "mid-market-rate"]);
    assert!(one.starts_with("runs/2026-07-04_island-day_3_") && one != two);
    assert!(stdout(&run(at, &["rerun", &one])).contains("the same bytes in all"));
    let table = stdout(&run(
        at,
        &["compare", &one, &two, "--kpi", "community_cost"],
    ));
    assert!(
        table.contains("community_cost") && table.contains("difference"),
        "{table}"
    );
    let by = stdout(&run(
        at,
        &[
            "compare",
            &one,
            &two,
            "--by",
            "mechanism",
            "--format",
            "csv",
        ],
    ));
    assert!(by.contains("mid-market-rate"), "{by}");
    let svg = stdout(&run(at, &["plot", &one, "--figure", "price"]));
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    let trades = stdout(&run(at, &["export", &one, "--table", "trades"]));
    assert!(trades.starts_with("run_id,start,trade_id,"));
    let replayed = run(
        at,
        &["replay", &one, "--mechanism", "mid-market-rate", "--csv"],
    );
    assert!(
        String::from_utf8_lossy(&replayed.stderr).contains(&two),
        "the same run, the same folder"
    );
    // A table that was changed is named.
    let changed = at.join(&one).join("trades.csv");
    std::fs::write(&changed, trades.replacen("house", "horse", 1)).unwrap();
    let out = run(at, &["rerun", &one]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("trades.csv"));
}

#[test]
fn mistakes_are_usage_errors_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let printed = stdout(&run(at, &["simulate", "street-10", "--print"]));
    let wrong = printed.replace("cloudiness", "clowdiness");
    std::fs::write(at.join("mine.toml"), wrong).unwrap();
    for (args, expect) in [
        (
            &["simulate", "mine.toml"][..],
            &["mine.toml", "line ", "clowdiness"][..],
        ),
        (&["simulate", "nowhere"], &["nowhere", "village-100"]),
        (
            &["simulate", "street-10", "--mechanism", "dictator"],
            &["dictator", "bill-sharing"],
        ),
        (&["simulate", "street-10", "--days", "0"], &["0 days"]),
        (&["compare", "nothing"], &["nothing is no run folder"]),
    ] {
        let out = run(at, args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
        assert!(
            expect.iter().all(|part| said.contains(part)),
            "{args:?}: {said}"
        );
        assert!(out.stdout.is_empty(), "{args:?}: half a result was printed");
    }
    std::fs::write(at.join("mine.toml"), &printed).unwrap();
    let mine = run(
        at,
        &[
            "simulate",
            "mine.toml",
            "--days",
            "1",
            "--no-files",
            "--format",
            "csv",
        ],
    );
    let built_in = run(
        at,
        &[
            "simulate",
            "street-10",
            "--days",
            "1",
            "--no-files",
            "--format",
            "csv",
        ],
    );
    assert_eq!(stdout(&mine), stdout(&built_in));
    assert!(!at.join("runs").exists(), "no files were asked for");
}

#[test]
fn an_experiment_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let text = "name = \"two\"\nscenario = \"island-day\"\nseeds = { from = 1, count = 3 }\n[vary]\n\
        \"market.mechanism\" = [\"uniform-price\", \"bill-sharing\"]\n";
    std::fs::write(at.join("two.toml"), text).unwrap();
    let first = run(at, &["sweep", "two.toml", "--jobs", "2"]);
    let again = run(at, &["sweep", "two.toml"]);
    assert_eq!(stdout(&first), stdout(&again));
    assert!(stdout(&first).contains("market.mechanism=bill-sharing"));
    assert!(String::from_utf8_lossy(&again.stderr).contains("6 runs, 6 of them kept"));
    let all = std::fs::read_to_string(at.join("sweeps/two/kpis.csv")).unwrap();
    assert!(all.lines().count() > 100);
}
