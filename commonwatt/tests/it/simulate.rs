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
    falsified_files_are_named(at, &one);
}

/// One bit of one byte in the middle of every file is turned: every file is named, and none that is as it was.
fn falsified_files_are_named(at: &Path, run_folder: &str) {
    let place = at.join(run_folder);
    let manifest = std::fs::read_to_string(place.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let files = manifest["files"].as_array().unwrap().iter();
    let files: Vec<&str> = files.map(|file| file["file"].as_str().unwrap()).collect();
    assert!(
        files.iter().filter(|file| file.ends_with(".csv")).count() >= 8,
        "{files:?}"
    );
    // The scenario is held against the manifest before anything runs.
    let (kept, turned): (Vec<&str>, Vec<&str>) =
        files.iter().partition(|file| **file == "scenario.toml");
    for file in &turned {
        let path = place.join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let out = run(at, &["rerun", run_folder]);
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    for file in &turned {
        let line = format!("{file} is not the file that the manifest names");
        assert!(said.contains(&line), "{file} is missing in: {said}");
    }
    assert!(
        !said.contains("when it is run again") && !said.contains(kept[0]),
        "{said}"
    );
}

#[test]
fn a_part_of_a_table_is_exported_with_other_names_as_parquet_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let one = simulated(at, &["--seed", "4"]);
    let part = ["export", &one, "--table", "deliveries", "--anonymise"];
    let span = [
        "--from",
        "2026-07-04T10:00:00Z",
        "--to",
        "2026-07-04T12:00:00Z",
    ];
    let csv = stdout(&run(at, &[&part[..], &span].concat()));
    assert_eq!(csv.lines().count(), 1 + 8 * 30);
    assert!(!csv.contains("house-"), "{csv}");
    let parquet = ["--file-format", "parquet", "--out", "part.parquet"];
    let out = run(at, &[&part[..], &span, &parquet].concat());
    if cfg!(feature = "tables") {
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let bytes = std::fs::read(at.join("part.parquet")).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        let name = b"house-";
        assert!(!bytes.windows(name.len()).any(|window| window == name));
    } else {
        assert_eq!(out.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&out.stderr).contains("--features tables"));
    }
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
