//! Runs under the weather of a file: what the roofs make of it, and that a run folder keeps the file.

use std::path::{Path, PathBuf};

use simulator::run::TableChoice;
use simulator::run::engine::Job;
use simulator::run::folder::{self, Finished, Request};
use simulator::run::scenario::RunScenario;
use simulator::run::table::FileKind;

/// One home without much load, with 5 kW of panels at 35° south on an inverter of 4 kW.
fn scenario(weather: &str, start: &str, days: u32) -> RunScenario {
    let text = format!(
        "name = \"roof\"\nevidence = \"none\"\n[site]\nlatitude = 50.7983\nlongitude = 6.0244\nzone = \"UTC\"\n\
         start = \"{start}\"\ndays = {days}\ninterval_s = 600\n[weather]\n{weather}\n[[homes]]\nid = \"roof\"\n\
         yearly_load_kwh = 100\npv = {{ peak_w = 5000, inverter_w = 4000, tilt_deg = 35.0, azimuth_deg = 180.0 }}\n"
    );
    RunScenario::parse("roof.toml", &text).unwrap()
}

fn run(scenario: RunScenario, tables: TableChoice, out: Option<&Path>) -> Finished {
    let request = Request {
        job: Job {
            scenario,
            seed: 1,
            prices: None,
        },
        tables: Some(tables),
        kind: FileKind::Csv,
        threads: 1,
        out: out.map(Path::to_owned),
    };
    folder::simulate(&request, &mut |_, _| ()).unwrap()
}

/// A clear day of ten-minute rows: light and dark, and what a roof must not make at night.
fn two_days() -> String {
    let mut text = "utc,t_air_c,wind_ms,dhi,ghi\n".to_owned();
    for row in 0..288 {
        let (day, minute) = (row / 144, row % 144 * 10);
        let global = if (360..1080).contains(&minute) {
            500.0
        } else {
            0.0
        };
        let (hour, minute) = (minute / 60, minute % 60);
        text += &format!(
            "2021-06-2{} {hour:02}:{minute:02}:00,15.0,2.0,{:.1},{global:.1}\n",
            day + 1,
            global * 0.4
        );
    }
    text
}

#[test]
fn a_run_keeps_its_weather_and_can_be_made_again_from_its_folder() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("w.csv"), two_days()).unwrap();
    let mut first = scenario("file = \"w.csv\"", "2021-06-21", 2);
    first.read_files(place.path()).unwrap();
    let done = run(first, TableChoice::None, Some(&place.path().join("runs")));
    let pv_wh = done.outcome.sums[0].pv_wh;
    assert!((20_000..60_000).contains(&pv_wh), "{pv_wh} Wh in two days");
    assert_eq!(
        done.manifest.data_sha256.keys().collect::<Vec<_>>(),
        ["w.csv"]
    );
    let (job, manifest) = folder::job(&done.folder.unwrap()).unwrap();
    let again = run(job.scenario, TableChoice::None, None);
    assert_eq!(again.manifest.run_id, manifest.run_id);
    assert_eq!(again.manifest.outcome_sha256, manifest.outcome_sha256);
}

#[test]
fn a_run_beyond_its_weather_says_so() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("w.csv"), two_days()).unwrap();
    let mut long = scenario("file = \"w.csv\"", "2021-06-21", 3);
    long.read_files(place.path()).unwrap();
    let request = Request {
        job: Job {
            scenario: long,
            seed: 1,
            prices: None,
        },
        tables: Some(TableChoice::None),
        kind: FileKind::Csv,
        threads: 1,
        out: None,
    };
    let error = folder::simulate(&request, &mut |_, _| ())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("w.csv: it has no weather for") && error.contains("2021-06-23T00:00Z"),
        "{error}"
    );
    let mut lacking = scenario("file = \"nowhere.csv\"", "2021-06-21", 1);
    let error = lacking.read_files(place.path()).unwrap_err().to_string();
    assert!(error.contains("nowhere.csv"), "{error}");
}

#[test]
fn a_roof_in_aachen_yields_what_pvlib_says() {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let reference = data.join("reference/dev_aachen_2021_jan_jun_transposition.csv");
    let Ok(text) = std::fs::read_to_string(reference) else {
        println!("skipped: the reference for Aachen is not beside the project");
        return;
    };
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    for (sky, column) in [
        ("isotropic", "pac_w_isotropic"),
        ("hay-davies", "pac_w_haydavies"),
    ] {
        let column = names.iter().position(|name| *name == column).unwrap();
        for (start, month, days) in [("2021-01-01", "2021-01", 31), ("2021-06-01", "2021-06", 30)] {
            let weather = format!("file = \"weather_dwd_aachen_2021_10min.csv\"\nsky = \"{sky}\"");
            let mut scenario = scenario(&weather, start, days);
            scenario.read_files(&data).unwrap();
            let found_wh = run(scenario, TableChoice::None, None).outcome.sums[0].pv_wh as f64;
            let month = rows.iter().filter(|row| row[0].starts_with(month));
            let known_wh: f64 = month
                .map(|row| row[column].parse::<f64>().unwrap() / 6.0)
                .sum();
            println!("{sky} from {start}: {found_wh:.0} Wh, pvlib {known_wh:.0} Wh");
            assert!(
                (found_wh / known_wh - 1.0).abs() < 0.005,
                "{found_wh} Wh, not {known_wh} Wh"
            );
        }
    }
}
