//! `commonwatt datasets` as a person runs it.

use std::path::Path;
use std::process::{Command, Output};

use crate::demo::program;

const SMARD: &str = "Datum von;Datum bis;Deutschland/Luxemburg [€/MWh] Originalauflösungen\n\
01.01.2024 00:00;01.01.2024 01:00;10,5\n01.01.2024 01:00;01.01.2024 02:00;-3,2\n";

fn datasets(folder: &Path, args: &[&str]) -> Output {
    Command::new(program())
        .current_dir(folder)
        .arg("datasets")
        .args(args)
        .output()
        .unwrap()
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_file_is_imported_listed_checked_and_found_out_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("prices.csv"), SMARD).unwrap();
    let out = datasets(folder.path(), &["import", "--from", "smard", "prices.csv"]);
    assert!(out.status.success(), "{}", shown(&out.stderr));
    assert_eq!(
        shown(&out.stdout),
        "start_utc,deutschland_luxemburg_price_micro_per_kwh\n2023-12-31T23:00:00Z,10500\n2024-01-01T00:00:00Z,-3200\n"
    );
    let import = [
        "import",
        "--from",
        "smard",
        "prices.csv",
        "--out",
        "datasets/de-2024",
    ];
    let words = [
        "--licence",
        "CC BY 4.0",
        "--origin",
        "smard.de, made by hand",
    ];
    let out = datasets(folder.path(), &[&import[..], &words[..]].concat());
    assert!(out.status.success(), "{}", shown(&out.stderr));
    let out = datasets(folder.path(), &["list", "--format", "json"]);
    let list: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (list[0]["name"].as_str(), list[0]["interval_s"].as_u64()),
        (Some("de-2024"), Some(3600))
    );
    let out = datasets(folder.path(), &["check"]);
    assert!(
        out.status.success() && shown(&out.stdout).contains("whole"),
        "{}",
        shown(&out.stdout)
    );
    let again = datasets(folder.path(), &[&import[..], &words[..]].concat());
    assert_eq!(again.status.code(), Some(2), "an import overwrites nothing");
    let data = folder.path().join("datasets/de-2024/data.csv");
    let text = std::fs::read_to_string(&data).unwrap();
    std::fs::write(&data, text.replace("10500", "10501")).unwrap();
    let out = datasets(folder.path(), &["check", "de-2024"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        shown(&out.stdout).contains("the file was changed"),
        "{}",
        shown(&out.stdout)
    );
}

#[test]
fn bad_input_is_told_and_nothing_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), SMARD.replace("10,5", "much")).unwrap();
    for (args, expected) in [
        (
            &["import", "--from", "smard", "a.csv"][..],
            "a.csv, line 2: \"much\"",
        ),
        (&["import", "--from", "smard", "b.csv"], "cannot read b.csv"),
        (
            &["import", "--from", "smard", "a.csv", "--zone", "Mars"],
            "--zone Mars",
        ),
        (&["list"], "cannot read datasets"),
    ] {
        let out = datasets(folder.path(), args);
        let said = shown(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && out.stdout.is_empty(), "{said}");
    }
}

#[test]
fn the_same_words_make_the_same_homes() {
    let folder = tempfile::tempdir().unwrap();
    let make = ["generate", "--homes", "2", "--days", "1", "--seed", "7"];
    let first = datasets(folder.path(), &make);
    assert!(first.status.success(), "{}", shown(&first.stderr));
    assert_eq!(shown(&first.stdout).lines().count(), 97);
    assert_eq!(first.stdout, datasets(folder.path(), &make).stdout);
    let other = datasets(
        folder.path(),
        &["generate", "--homes", "2", "--days", "1", "--seed", "8"],
    );
    assert_ne!(first.stdout, other.stdout);
    let out = datasets(
        folder.path(),
        &[&make[..], &["--out", "datasets/two"]].concat(),
    );
    assert!(out.status.success(), "{}", shown(&out.stderr));
    assert!(datasets(folder.path(), &["check", "two"]).status.success());
    for wrong in [
        ["--days", "0"],
        ["--first-day", "June"],
        ["--zone", "Mars"],
        ["--homes", "20000"],
    ] {
        let out = datasets(folder.path(), &[&["generate"][..], &wrong[..]].concat());
        assert_eq!(out.status.code(), Some(2), "{wrong:?}");
    }
}

/// What is shipped is as it says.
#[test]
fn the_shipped_data_sets_are_whole() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = datasets(&root, &["check"]);
    assert!(out.status.success(), "{}", shown(&out.stdout));
}
