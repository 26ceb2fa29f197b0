//! Runs whose loads, roofs and cars come from files: what was in a file is what flows, the folder keeps the files, and
//! mistakes are named.

use std::path::{Path, PathBuf};

use simulator::run::TableChoice;
use simulator::run::engine::Job;
use simulator::run::folder::{self, Finished, Request};
use simulator::run::scenario::RunScenario;
use simulator::run::table::FileKind;

fn datasets() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../datasets")
}

fn example() -> RunScenario {
    let path = datasets().join("street-from-files.toml");
    let text = std::fs::read_to_string(path).unwrap();
    RunScenario::parse("street-from-files.toml", &text).unwrap()
}

fn run(scenario: RunScenario, out: Option<&Path>) -> Finished {
    let request = Request {
        job: Job {
            scenario,
            seed: 3,
            prices: None,
        },
        tables: Some(TableChoice::None),
        kind: FileKind::Csv,
        threads: 2,
        out: out.map(Path::to_owned),
    };
    folder::simulate(&request, &mut |_, _| ()).unwrap()
}

fn quick(text: &str, place: &Path) -> Finished {
    let mut scenario = RunScenario::parse("s.toml", text).unwrap();
    scenario.read_files(place).unwrap();
    run(scenario, None)
}

fn column_sum(file: &str, column: &str) -> i64 {
    let text = std::fs::read_to_string(datasets().join(file)).unwrap();
    let mut lines = text.lines();
    let place = lines.next().unwrap().split(',').position(|c| c == column);
    lines
        .map(|line| line.split(',').nth(place.unwrap()).unwrap())
        .map(|cell| cell.parse::<i64>().unwrap())
        .sum()
}

fn kpi(done: &Finished, name: &str) -> f64 {
    let found = done.kpis.iter().find(|k| k.name == name).unwrap();
    found.value.unwrap()
}

#[test]
fn what_is_in_the_files_is_what_flows_and_the_run_folder_keeps_them() {
    let mut scenario = example();
    scenario.read_files(&datasets()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let done = run(scenario, Some(out.path()));
    let homes = done.outcome.homes.iter().zip(&done.outcome.sums);
    for (home, sums) in homes.filter(|(home, _)| home.id.as_str().starts_with("file-")) {
        let number = &home.id.as_str()[5..];
        let used = column_sum("week-10/data.csv", &format!("home_{number}_consumption_wh"));
        let made = column_sum("week-10/data.csv", &format!("home_{number}_generation_wh"));
        assert_eq!((sums.load_wh, sums.pv_wh), (used, made), "{}", home.id);
    }
    assert!(kpi(&done, "ev_charged") > 20.0);
    assert!(kpi(&done, "curtailed") > 0.0);
    let named: Vec<&String> = done.manifest.data_sha256.keys().collect();
    assert_eq!(named, ["cars-home-6/data.csv", "week-10/data.csv"]);
    let place = done.folder.unwrap();
    let (job, manifest) = folder::job(&place).unwrap();
    let again = run(job.scenario, None);
    assert_eq!(again.manifest.run_id, manifest.run_id);
    assert_eq!(again.manifest.outcome_sha256, manifest.outcome_sha256);
    // A kept file that was changed is named.
    let kept = manifest
        .files
        .iter()
        .find(|f| f.file.starts_with("data-"))
        .unwrap();
    let file = place.join(&kept.file);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen('1', "2", 1)).unwrap();
    let said = folder::job(&place).unwrap_err().to_string();
    assert!(said.contains("SHA-256"), "{said}");
}

#[test]
fn other_bytes_in_a_file_are_another_run() {
    let place = tempfile::tempdir().unwrap();
    let text = "name = \"one\"\nevidence = \"none\"\n[site]\nlatitude = 50.0\nlongitude = 10.0\nstart = \"2024-06-10\"\nzone = \"UTC\"\n\
        days = 1\ninterval_s = 3600\n[[homes]]\nid = \"a\"\nyearly_load_kwh = 3000\n\
        load = [{ source = \"file\", series = { file = \"l.csv\", repeat = true } }]\n";
    let mut rows = "start_utc,x_consumption_kwh\n".to_owned();
    for hour in 0..24 {
        rows += &format!("2020-01-01T{hour:02}:00:00Z,0.{hour:02}5\n");
    }
    std::fs::write(place.path().join("l.csv"), &rows).unwrap();
    let first = quick(text, place.path());
    assert_eq!(
        first.outcome.sums[0].load_wh,
        (0..24).map(|h| h * 10 + 5).sum::<i64>()
    );
    std::fs::write(place.path().join("l.csv"), rows.replace("0.235", "0.236")).unwrap();
    let second = quick(text, place.path());
    assert_ne!(first.manifest.run_id, second.manifest.run_id);
    assert_eq!(
        second.outcome.sums[0].load_wh,
        first.outcome.sums[0].load_wh + 1
    );
}

#[test]
fn a_profile_gives_its_home_what_the_year_says() {
    for (source, low, high) in [("h0", 2_990_000, 3_010_000), ("h25", 2_999_000, 3_001_000)] {
        let text = format!(
            "name = \"year\"\nevidence = \"none\"\n[site]\nlatitude = 50.0\nlongitude = 10.0\nstart = \"2026-01-01\"\ndays = 365\n\
             [[homes]]\nid = \"a\"\nyearly_load_kwh = 3000\nload = [{{ source = \"{source}\" }}]\n"
        );
        let used = quick(&text, Path::new("")).outcome.sums[0].load_wh;
        assert!((low..=high).contains(&used), "{source}: {used} Wh");
    }
}

#[test]
fn two_planes_of_one_direction_are_one_and_a_limit_cuts_what_is_fed_in() {
    let roof = |pv: &str, more: &str| {
        let text = format!(
            "name = \"roof\"\nevidence = \"none\"\n[site]\nlatitude = 50.0\nlongitude = 10.0\nstart = \"2026-06-21\"\ndays = 2\n\
             cloudiness = 0.0\nclear_sky = \"ineichen\"\n[[homes]]\nid = \"a\"\nyearly_load_kwh = 100\n{more}\n\
             pv = {{ inverter_w = 8000, tilt_deg = 30.0, azimuth_deg = 180.0, {pv} }}\n"
        );
        quick(&text, Path::new(""))
    };
    let one = roof("peak_w = 8000", "");
    let two = roof(
        "peak_w = 5000, planes = [{ peak_w = 3000, tilt_deg = 30.0, azimuth_deg = 180.0 }]",
        "",
    );
    let (one_wh, two_wh) = (one.outcome.sums[0].pv_wh, two.outcome.sums[0].pv_wh);
    assert!((one_wh - two_wh).abs() <= 2, "{one_wh} and {two_wh}");
    let split = roof(
        "peak_w = 4000, planes = [{ peak_w = 4000, tilt_deg = 30.0, azimuth_deg = 0.0 }]",
        "",
    );
    assert!(split.outcome.sums[0].pv_wh < one_wh * 95 / 100);
    let limited = roof("peak_w = 8000", "export_limit_w = 2000");
    let sums = &limited.outcome.sums[0];
    assert_eq!(sums.pv_wh + sums.curtailed_wh, one_wh);
    assert!(sums.curtailed_wh > one_wh / 4);
    assert!(limited.outcome.rows.iter().all(|row| row.export_wh <= 500));
}

#[test]
fn a_battery_that_waits_for_its_strategy_keeps_to_the_limit_too() {
    let text = "name = \"roof\"\nevidence = \"none\"\n[site]\nlatitude = 50.0\nlongitude = 10.0\nstart = \"2026-06-21\"\ndays = 3\n\
        cloudiness = 0.0\n[market]\nstrategy = \"battery-look-ahead\"\n[[homes]]\nid = \"a\"\nyearly_load_kwh = 1000\nexport_limit_w = 1500\n\
        pv = { peak_w = 8000, inverter_w = 8000, tilt_deg = 30.0, azimuth_deg = 180.0 }\n\
        battery = { capacity_wh = 5000, power_w = 2500, efficiency = 0.9 }\n";
    let done = quick(text, Path::new(""));
    assert!(
        done.outcome
            .rows
            .iter()
            .all(|row| row.export_wh <= 375 && row.own_export_wh <= 375)
    );
    let row_pv: i64 = done.outcome.rows.iter().map(|row| row.pv_wh).sum();
    assert_eq!(row_pv, done.outcome.sums[0].pv_wh);
    assert!(done.outcome.sums[0].curtailed_wh > 10_000);
}

#[test]
fn errors_of_forecasts_grow_with_the_horizon() {
    let deviated = |forecast: &str| {
        let text = format!(
            "name = \"far\"\nevidence = \"none\"\n[site]\nlatitude = 50.0\nlongitude = 10.0\nstart = \"2026-05-01\"\ndays = 4\n\
             [market]\nstrategy = \"truthful\"\n[forecast]\n{forecast}\n[[groups]]\nprefix = \"h\"\nhomes = 12\nyearly_load_kwh = [3000, 4000]\npv_percent = 60\n"
        );
        let done = quick(&text, Path::new(""));
        done.outcome
            .rows
            .iter()
            .map(|row| row.deviated_wh)
            .sum::<i64>()
    };
    let at = |horizon: u32| deviated(&format!("kind = \"growing\"\nhorizon = {horizon}"));
    let (perfect, near, far) = (deviated("kind = \"perfect\""), at(1), at(96));
    // What is not traded deviates too, also where all is known: only what comes on top of that is error.
    assert!(
        perfect < near && 2 * (near - perfect) < far - perfect,
        "{perfect} {near} {far}"
    );
    let none = "kind = \"growing\"\nload = { sigma_far = 0.0, rho = 0.9 }\npv = { sigma_far = 0.0, rho = 0.9 }";
    assert_eq!(deviated(none), perfect);
}

#[test]
fn mistakes_are_named_with_file_line_and_key() {
    let base = "name = \"x\"\n[site]\nlatitude = 50.0\nlongitude = 10.0\nstart = \"2026-05-01\"\n[[homes]]\nid = \"a\"\nyearly_load_kwh = 3000\n";
    let said = |line: &str| {
        let parsed = RunScenario::parse("x.toml", &format!("{base}{line}\n"));
        parsed.unwrap_err().to_string()
    };
    for (line, parts) in [
        (
            "load = [{ source = \"file\" }]",
            ["line 9", "load[0].source", "series"],
        ),
        (
            "load = [{ source = \"h0\", shares = 1.0 }]",
            ["line 9", "shares", "share"],
        ),
        (
            "generation = { file = \"a.csv\", colum = \"x\" }",
            ["line 9", "colum", "column"],
        ),
        (
            "ev = { battery_wh = 50000, max_power_w = 11000 }",
            ["line 9", "homes[0].ev", "sessions"],
        ),
        (
            "ev = { battery_wh = 50000, max_power_w = 11000, visits = \"home\", arrival_hour = 18.0 }",
            ["line 9", "homes[0].ev", "either"],
        ),
        ("export_limit_w = -1", ["line 9", "export_limit_w", "0 to"]),
    ] {
        let said = said(line);
        for part in parts.iter().chain(&["x.toml"]) {
            assert!(said.contains(part), "`{part}` is missing in: {said}");
        }
    }
    let mut lacking = RunScenario::parse(
        "x.toml",
        &format!("{base}load = [{{ source = \"file\", series = {{ file = \"nowhere.csv\" }} }}]\n"),
    )
    .unwrap();
    let error = lacking
        .read_files(Path::new("/tmp"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("nowhere.csv"), "{error}");
}
