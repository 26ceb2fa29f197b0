//! Data sets on disk are checked against what they say of themselves.

use simulator::dataset::{ColumnMeaning, DataFile, MANIFEST, Manifest, check, folders, sha256_hex};

const CSV: &str = "start_utc,home_consumption_wh\n2024-01-01T00:00:00Z,5\n2024-01-01T00:15:00Z,\n";

fn manifest(csv: &str) -> Manifest {
    let column = |name: &str, unit: &str| ColumnMeaning {
        name: name.to_owned(),
        unit: unit.to_owned(),
        sign: "positive = consumption, \"as ever\"".to_owned(),
    };
    Manifest {
        name: "small".to_owned(),
        title: "Made for a test".to_owned(),
        origin: "this test".to_owned(),
        licence: "CC0-1.0".to_owned(),
        generated_by: "cargo test".to_owned(),
        interval_s: Some(900),
        files: vec![DataFile {
            path: "data.csv".to_owned(),
            sha256: sha256_hex(csv.as_bytes()),
            bytes: u64::try_from(csv.len()).unwrap(),
        }],
        columns: vec![
            column("start_utc", "UTC"),
            column("home_consumption_wh", "Wh"),
        ],
    }
}

fn problems(manifest: &str, csv: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("small");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(MANIFEST), manifest).unwrap();
    std::fs::write(folder.join("data.csv"), csv).unwrap();
    assert_eq!(folders(root.path()).unwrap(), std::slice::from_ref(&folder));
    match check(&folder) {
        Ok(problems) => problems.join("\n"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_data_set_that_is_as_it_says_has_no_problems() {
    assert_eq!(problems(&manifest(CSV).to_toml(), CSV), "");
    let read: Manifest = toml::from_str(&manifest(CSV).to_toml()).unwrap();
    assert_eq!(read, manifest(CSV));
}

#[test]
fn what_is_not_as_it_says_is_named() {
    let changed = CSV.replace(",5", ",6");
    assert!(problems(&manifest(CSV).to_toml(), &changed).contains("the file was changed"));
    for (csv, expected) in [
        (
            CSV.replace("home_", "house_"),
            "its columns are start_utc, house_consumption_wh",
        ),
        (
            CSV.replace("00:15:00Z", "00:30:00Z"),
            "line 3: \"2024-01-01T00:30:00Z\" does not follow by 900 s",
        ),
        (CSV.replace("00:15:00Z", "00:00:00Z"), "line 3"),
        (
            CSV.replace(",5", ",5.5"),
            "line 2: \"5.5\" is no whole number",
        ),
        (
            CSV.replace("2024-01-01T00:00:00Z", "midnight"),
            "line 2: \"midnight\"",
        ),
        (CSV.replace(",5", ",5,7"), "line 2: has 3 cells"),
    ] {
        let said = problems(&manifest(&csv).to_toml(), &csv);
        assert!(said.contains(expected), "{csv}: {said}");
        assert!(!said.contains("SHA-256"), "{said}");
    }
    let mut other = manifest(CSV);
    other.name = "large".to_owned();
    assert!(problems(&other.to_toml(), CSV).contains("name is \"large\""));
    let mut other = manifest(CSV);
    other.files[0].path = "../data.csv".to_owned();
    assert!(problems(&other.to_toml(), CSV).contains("lie in the folder itself"));
    let mut other = manifest(CSV);
    other.files[0].path = "gone.csv".to_owned();
    assert!(problems(&other.to_toml(), CSV).contains("cannot read"));
    let said = problems(&manifest(CSV).to_toml().replace("licence", "license"), CSV);
    assert!(
        said.contains("license") && said.contains("line 4"),
        "{said}"
    );
}
