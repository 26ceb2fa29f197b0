//! Runs of the fast simulator: the same bytes whatever the threads, the same sums whatever is written, and
//! every mechanism, fault and price that a scenario can name.

use std::path::{Path, PathBuf};

use simulator::run::engine::Job;
use simulator::run::folder::{self, Finished, Manifest, Request};
use simulator::run::scenario::{Evidence, RunScenario, Strategy};
use simulator::run::table::FileKind;
use simulator::run::{TableChoice, builtin};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("commonwatt-it-run-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn built_in(name: &str, days: u32) -> RunScenario {
    let mut scenario = builtin::scenario(name).unwrap().unwrap();
    scenario.site.days = days;
    scenario.evidence = Evidence::None;
    scenario
}

fn request(
    scenario: RunScenario,
    tables: TableChoice,
    threads: usize,
    out: Option<&Path>,
) -> Request {
    Request {
        job: Job {
            scenario,
            seed: 7,
            prices: None,
        },
        tables: Some(tables),
        kind: FileKind::Csv,
        threads,
        out: out.map(Path::to_owned),
    }
}

fn run(scenario: RunScenario, tables: TableChoice, threads: usize, out: Option<&Path>) -> Finished {
    folder::simulate(&request(scenario, tables, threads, out), &mut |_, _| ()).unwrap()
}

fn quick(scenario: RunScenario) -> Finished {
    run(scenario, TableChoice::None, 1, None)
}

fn hashes(manifest: &Manifest) -> Vec<(String, String)> {
    let files = manifest.files.iter();
    files.map(|f| (f.file.clone(), f.sha256.clone())).collect()
}

#[test]
fn one_two_and_eight_threads_give_the_same_bytes() {
    let mut all = Vec::new();
    for threads in [1, 2, 8] {
        let out = Folder::new(&format!("threads-{threads}"));
        let done = run(
            built_in("village-100", 1),
            TableChoice::All,
            threads,
            Some(&out.0),
        );
        all.push((done.manifest.outcome_sha256.clone(), hashes(&done.manifest)));
    }
    assert!(all[0].1.len() >= 10, "{:?}", all[0].1);
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
}

#[test]
fn sums_alone_and_the_platforms_own_settlement_are_the_same_run() {
    for (name, strategy) in [
        ("street-10", Strategy::ZeroIntelligence),
        ("street-10", Strategy::Truthful),
        ("dst-days", Strategy::ZeroIntelligenceUnconstrained),
    ] {
        let scenario = || {
            let mut scenario = built_in(name, 2);
            scenario.market.strategy = strategy;
            scenario
        };
        let out = Folder::new(name);
        let fast = quick(scenario());
        let signed = RunScenario {
            evidence: Evidence::Full,
            ..scenario()
        };
        let whole = run(signed, TableChoice::All, 1, Some(&out.0));
        assert_eq!(fast.manifest.outcome_sha256, whole.manifest.outcome_sha256);
        assert_eq!(fast.kpis, whole.kpis);
        let intervals = whole.manifest.intervals;
        assert_eq!(whole.manifest.checks.settlement_is_the_platforms, intervals);
        assert_eq!(fast.manifest.checks.settlement_is_the_platforms, 0);
    }
}

#[test]
fn a_run_folder_is_whole_and_can_be_run_again() {
    let out = Folder::new("again");
    let mut scenario = built_in("street-10", 1);
    scenario.evidence = Evidence::Auto;
    let done = run(scenario, TableChoice::All, 1, Some(&out.0));
    let place = done.folder.unwrap();
    assert_eq!(done.manifest.evidence, "full", "a small run is signed");
    let signed = done.manifest.signed.unwrap();
    assert_eq!(signed.readings, 960);
    assert!(signed.orders > 100);
    for file in [
        "manifest.json",
        "scenario.toml",
        "summary.md",
        "report.html",
        "ledger.checkpoint",
        "participants.csv",
        "intervals.csv",
        "orders.csv",
        "trades.csv",
        "readings.csv",
        "deliveries.csv",
        "postings.csv",
        "kpis.csv",
    ] {
        assert!(place.join(file).is_file(), "{file} is missing");
    }
    let rest = std::fs::read_dir(&out.0).unwrap().count();
    assert_eq!(rest, 1, "nothing half-written stays");
    let (job, manifest) = folder::job(&place).unwrap();
    let request = Request {
        job,
        tables: TableChoice::of(&manifest.tables),
        kind: FileKind::Csv,
        threads: 2,
        out: Some(out.0.clone()),
    };
    let again = folder::simulate(&request, &mut |_, _| ()).unwrap();
    assert_eq!(
        again.folder.as_deref(),
        Some(&*place),
        "the same id, so the same place"
    );
    assert_eq!(hashes(&again.manifest), hashes(&manifest));
    std::fs::write(place.join("scenario.toml"), "name = \"other\"").unwrap();
    assert!(folder::job(&place).is_err());
}

/// The rows of a run's table without the columns of these names, in order.
fn rows_without(folder: &Path, table: &str, names: &[&str]) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(folder.join(format!("{table}.csv"))).unwrap();
    let head = reader.headers().unwrap().clone();
    let kept = |row: csv::StringRecord| {
        let fields = head.iter().zip(row.iter());
        let kept = fields.filter(|(name, _)| !names.contains(name));
        kept.map(|(_, value)| value.to_owned()).collect()
    };
    let mut rows: Vec<Vec<String>> = reader.records().map(|row| kept(row.unwrap())).collect();
    rows.sort();
    rows
}

/// The columns that name what a run signs.
const NAMES: [&str; 6] = [
    "run_id",
    "order_id",
    "trade_id",
    "bid_id",
    "offer_id",
    "posting_id",
];

#[test]
fn a_run_that_signs_nothing_writes_the_same_rows_without_names() {
    for mechanism in ["uniform-price", "pay-as-bid", "continuous", "none"] {
        let mut folders = Vec::new();
        for evidence in [Evidence::Full, Evidence::None] {
            let out = Folder::new(&format!("names-{mechanism}-{}", evidence.name()));
            let mut scenario = built_in("street-10", 2);
            scenario.evidence = evidence;
            scenario.market.mechanism = mechanism.to_owned();
            scenario.faults.late_permille = 30;
            scenario.faults.lost_permille = 20;
            let done = run(scenario, TableChoice::All, 1, Some(&out.0));
            let compared = done.manifest.checks.settlement_is_the_platforms;
            assert_eq!(compared, if evidence == Evidence::Full { 192 } else { 2 });
            folders.push((done.folder.unwrap(), out));
        }
        for table in ["orders", "trades", "readings", "deliveries", "postings"] {
            let [signed, plain] = [0, 1].map(|n: usize| rows_without(&folders[n].0, table, &NAMES));
            assert!(!signed.is_empty() || mechanism == "none");
            assert!(signed == plain, "{mechanism}: {table} differs");
        }
        let runs = rows_without(&folders[1].0, "postings", &NAMES);
        assert!(
            runs.iter().any(|row| row[1] == "initial"),
            "nothing was late"
        );
        let ids = |n: usize| rows_without(&folders[n].0, "postings", &["run_id"]);
        assert!(ids(0).iter().all(|row| row[1].len() == 32));
        assert!(ids(1).iter().all(|row| row[1].is_empty()));
    }
}

#[test]
fn a_failed_run_leaves_nothing_behind() {
    let out = Folder::new("failed");
    let mut scenario = built_in("street-10", 1);
    let text = "home = \"nobody\"\nfrom_day = 0\ndays = 1\n";
    scenario.faults.dead_meters = vec![toml::from_str(text).unwrap()];
    let failed = folder::simulate(
        &request(scenario, TableChoice::All, 1, Some(&out.0)),
        &mut |_, _| (),
    );
    let error = failed.err().unwrap().to_string();
    assert!(error.contains("no home is called nobody"), "{error}");
    assert_eq!(std::fs::read_dir(&out.0).unwrap().count(), 0);
}

fn toml_groups(homes: u32) -> Vec<simulator::run::scenario::Group> {
    let mut groups = built_in("village-100", 1).groups;
    groups[0].homes = homes;
    groups[0].prefix = "more".to_owned();
    groups
}

#[test]
fn days_of_92_and_100_quarter_hours_are_settled_whole() {
    let spring = quick(built_in("dst-days", 3));
    assert_eq!(spring.manifest.intervals, 96 + 92 + 96);
    let mut autumn = built_in("dst-days", 3);
    autumn.site.start = "2026-10-24".parse().unwrap();
    assert_eq!(quick(autumn).manifest.intervals, 96 + 100 + 96);
}

#[test]
fn every_mechanism_runs_and_transfers_cancel() {
    let netting = quick(built_in("street-10", 1));
    let figure =
        |done: &Finished, name: &str| done.kpis.iter().find(|k| k.name == name).unwrap().clone();
    for mechanism in [
        "uniform-price",
        "pay-as-bid",
        "trade-reduction",
        "continuous",
        "huang",
        "muda",
        "vcg",
        "mid-market-rate",
        "supply-demand-ratio",
        "bill-sharing",
        "none",
    ] {
        let mut scenario = built_in("street-10", 1);
        scenario.market.mechanism = mechanism.to_owned();
        let out = Folder::new(mechanism);
        let done = run(scenario, TableChoice::All, 1, Some(&out.0));
        let cost = figure(&done, "community_cost");
        assert_eq!(
            cost.no_market,
            figure(&netting, "community_cost").no_market,
            "{mechanism}"
        );
        assert_eq!(
            figure(&done, "import"),
            figure(&netting, "import"),
            "{mechanism}"
        );
        let only_nets = matches!(
            mechanism,
            "mid-market-rate" | "supply-demand-ratio" | "bill-sharing" | "none"
        );
        if only_nets {
            assert_eq!(
                cost.value, cost.netting_only,
                "{mechanism} only divides what netting saves"
            );
        } else {
            assert!(figure(&done, "traded").value.unwrap() > 0.0, "{mechanism}");
        }
    }
}

#[test]
fn with_perfect_forecasts_truthful_homes_trade_what_netting_would_cancel() {
    let mut scenario = built_in("street-10", 2);
    scenario.market.strategy = Strategy::Truthful;
    scenario.forecast.kind = simulator::run::scenario::ForecastKind::Perfect;
    let done = quick(scenario);
    let figure = |name: &str| done.kpis.iter().find(|k| k.name == name).unwrap();
    let cost = figure("community_cost");
    assert_eq!(cost.value, cost.netting_only);
    assert_eq!(figure("pooled").value, Some(0.0));
    assert_eq!(figure("welfare_efficiency").value, Some(1.0));
    assert_eq!(figure("homes_worse_off").value, Some(0.0));
}

#[test]
fn another_home_changes_no_home_of_a_street() {
    let flows = |scenario: RunScenario| {
        let done = quick(scenario);
        let sums = done.outcome.homes.iter().zip(&done.outcome.sums);
        sums.map(|(home, sum)| {
            (
                home.id.clone(),
                sum.load_wh,
                sum.pv_wh,
                sum.ev_wh,
                sum.import_wh,
            )
        })
        .collect::<Vec<_>>()
    };
    let few = flows(built_in("street-10", 1));
    let mut more = built_in("street-10", 1);
    more.groups = toml_groups(90);
    let many = flows(more);
    assert!(few.iter().all(|home| many.contains(home)));
    assert_eq!(many.len(), 100);
}

#[test]
fn lost_late_tampered_and_dead_meters_are_settled_and_told() {
    let mut scenario = built_in("street-10", 3);
    scenario.evidence = Evidence::Full;
    scenario.faults.lost_permille = 20;
    scenario.faults.late_permille = 30;
    scenario.faults.tampered_permille = 10;
    let text = "home = \"home-04\"\nfrom_day = 1\ndays = 1\n";
    scenario.faults.dead_meters = vec![toml::from_str(text).unwrap()];
    let text = "home = \"home-02\"\nseconds_per_day = 30\n";
    scenario.faults.clock_drifts = vec![toml::from_str(text).unwrap()];
    let out = Folder::new("faults");
    let done = run(scenario, TableChoice::All, 1, Some(&out.0));
    assert_eq!(
        done.manifest.checks.settlement_is_the_platforms,
        done.manifest.intervals
    );
    assert!(done.manifest.signed.unwrap().readings_refused > 20);
    let completeness = done
        .kpis
        .iter()
        .find(|k| k.name == "data_completeness")
        .unwrap();
    let share = completeness.value.unwrap();
    assert!((0.85..0.94).contains(&share), "{share}");
    let postings = std::fs::read_to_string(done.folder.unwrap().join("postings.csv")).unwrap();
    assert!(
        postings.contains(",initial,"),
        "late readings are corrected by a later run"
    );
}

#[test]
fn prices_below_zero_and_beyond_all_measure_are_survived() {
    let mut scenario = built_in("street-10", 1);
    scenario.evidence = Evidence::Full;
    scenario.tariff.prices = Some("prices.csv".to_owned());
    let hour = |hour: u32| {
        let (day, prices) = match hour {
            33..35 => (21, "-0.05,-0.20"),
            35..37 => (21, "0.02,-0.5"),
            37..39 => (21, "2.32583,2.2"),
            39.. => (21, "0.1,0.3"),
            _ => (20 + hour / 24, "0.30,0.08"),
        };
        format!("2026-06-{day}T{:02}:00:00Z,{prices}\n", hour % 24)
    };
    let prices = "start,retail,feed_in\n".to_owned() + &(0..48).map(hour).collect::<String>();
    let out = Folder::new("prices");
    let job = Job {
        scenario,
        seed: 7,
        prices: Some(("prices.csv".to_owned(), prices)),
    };
    let base = request(built_in("street-10", 1), TableChoice::All, 1, Some(&out.0));
    let done = folder::simulate(&Request { job, ..base }, &mut |_, _| ()).unwrap();
    assert_eq!(done.manifest.checks.settlement_is_the_platforms, 96);
    assert_eq!(done.manifest.data_sha256.len(), 1);
    assert!(done.folder.unwrap().join("prices.csv").is_file());
    let traded = |hour: u16| {
        let rows = done.outcome.rows.iter();
        rows.filter(|r| r.moment.day_minute / 60 == hour)
            .map(|r| r.volume_wh)
            .sum::<i64>()
    };
    assert_eq!(
        traded(12),
        0,
        "nobody sells where the utility takes money from buyers and sellers"
    );
    assert!(traded(8) > 0);
}

#[test]
fn nobody_does_better_than_perfect_foresight() {
    for (name, strategy) in [
        ("street-10", Strategy::Truthful),
        ("ev-evening", Strategy::BatteryLookAhead),
        ("winter-week", Strategy::ZeroIntelligence),
    ] {
        let mut scenario = built_in(name, 2);
        scenario.market.strategy = strategy;
        let done = quick(scenario);
        let figure = |name: &str| done.kpis.iter().find(|k| k.name == name).unwrap();
        let (cost, best) = (figure("community_cost"), figure("optimum_cost"));
        assert!(
            best.value.unwrap() <= cost.netting_only.unwrap(),
            "{name}: {best:?} {cost:?}"
        );
        let share = figure("optimum_share");
        assert_eq!(share.no_market, Some(0.0));
        assert!((0.0..=1.0).contains(&share.value.unwrap()), "{share:?}");
    }
}

#[test]
fn every_strategy_runs_and_is_the_same_again() {
    let mut outcomes = std::collections::BTreeSet::new();
    for strategy in Strategy::ALL {
        let scenario = || {
            let mut scenario = built_in("street-10", 2);
            scenario.market.strategy = strategy;
            scenario
        };
        let (once, again) = (quick(scenario()), quick(scenario()));
        assert_eq!(once.manifest.outcome_sha256, again.manifest.outcome_sha256);
        let traded = once.kpis.iter().find(|k| k.name == "traded").unwrap().value;
        assert_eq!(
            traded == Some(0.0),
            strategy == Strategy::GridOnly,
            "{strategy:?}"
        );
        outcomes.insert(once.manifest.outcome_sha256);
    }
    // With one moment of ordering a ramp that has reached its end is truthful; all others differ.
    assert!(
        outcomes.len() >= Strategy::ALL.len() - 1,
        "{}",
        outcomes.len()
    );
}

#[test]
fn readings_that_never_come_are_no_savings() {
    let mut scenario = built_in("island-day", 2);
    scenario.groups = toml_groups(4);
    scenario.faults.lost_permille = 1000;
    let done = quick(scenario);
    let kpi = |name: &str| done.kpis.iter().find(|kpi| kpi.name == name).unwrap();
    let used = kpi("consumption").value.unwrap();
    assert!(kpi("unmetered").value.unwrap() > used / 4.0);
    // Substitutes are what was traded: the twins pay for no more than that.
    let traded = kpi("traded").value.unwrap();
    let alone = kpi("community_cost").no_market.unwrap();
    assert!(alone <= 0.62 * traded + 1e-6, "{alone} for {traded} kWh");
    assert!(kpi("saving_share").value.is_none_or(|share| share < 0.999));
    assert_eq!(kpi("optimum_cost").value, None);
}

#[test]
fn a_battery_that_plans_for_the_market_follows_its_home_in_the_twins() {
    let of = |strategy| {
        let mut scenario = built_in("island-day", 2);
        scenario.market.strategy = strategy;
        quick(scenario)
    };
    let kpi = |done: &Finished, name: &str| {
        let kpi = done.kpis.iter().find(|kpi| kpi.name == name).unwrap();
        (kpi.value, kpi.netting_only, kpi.no_market)
    };
    let (follows, plans) = (of(Strategy::Truthful), of(Strategy::BatteryLookAhead));
    for name in ["community_cost", "import", "export", "stored_more"] {
        let (value, netting, alone) = kpi(&follows, name);
        let (planned, planned_netting, planned_alone) = kpi(&plans, name);
        assert_eq!((netting, alone), (planned_netting, planned_alone), "{name}");
        assert_ne!(value, planned, "{name}: the plan did nothing");
    }
}

#[test]
fn a_run_is_not_written_over_with_fewer_tables() {
    let out = Folder::new("fewer");
    let mut scenario = built_in("island-day", 1);
    scenario.groups = toml_groups(3);
    let all = run(scenario.clone(), TableChoice::All, 1, Some(&out.0));
    let less = request(scenario.clone(), TableChoice::None, 1, Some(&out.0));
    let error = folder::simulate(&less, &mut |_, _| ()).err().unwrap();
    assert!(error.to_string().contains("--tables all"), "{error}");
    assert!(all.folder.unwrap().join("trades.csv").exists());
    run(scenario, TableChoice::All, 1, Some(&out.0));
}
