//! Runs of the fast simulator: home-intervals a second, beside a pass over the memory of the same homes in the
//! same run of this program.
//!
//! `cargo bench -p simulator --bench run` measures fewer intervals than the goals name and scales them to
//! those; it says so in each line. Time is processor time of one thread; with tables, which are written on threads of
//! their own, and where it says how many threads or cores there are, it is the time that passes. Add `--features tables` to write Parquet and not CSV.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a bench may fail, and prints ratios"
)]

use std::hint::black_box;
use std::path::PathBuf;

use rustix::time::{ClockId, clock_gettime};
use simulator::run::TableChoice;
use simulator::run::engine::Job;
use simulator::run::folder::{Finished, Request, simulate};
use simulator::run::scenario::RunScenario;
use simulator::run::table::FileKind;

/// What a home with load, panels and battery takes in memory here, devices, sums and market together, rounded.
const HOME_BYTES: usize = 800;
/// Intervals of a year.
const YEAR: f64 = 35_040.0;

fn seconds(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Homes that all have panels and a battery, ZI-C orders, one price.
fn scenario(homes: u32, days: u32, forecast: &str) -> RunScenario {
    let text = format!(
        "name = \"bench\"\nevidence = \"none\"\n[site]\nlatitude = 51.0\nlongitude = 10.0\nstart = \"2026-05-01\"\ndays = {days}\n\
         [forecast]\nkind = \"{forecast}\"\n[[groups]]\nprefix = \"home\"\nhomes = {homes}\nyearly_load_kwh = [2000, 6000]\n\
         pv_percent = 100\nbattery_percent = 100\n"
    );
    RunScenario::parse("bench", &text).unwrap()
}

fn request(scenario: RunScenario, tables: TableChoice, out: Option<PathBuf>) -> Request {
    Request {
        job: Job {
            scenario,
            seed: 1,
            prices: None,
        },
        tables: Some(tables),
        kind: FileKind::best(),
        threads: 1,
        out,
    }
}

/// Seconds of one interval's pass over the memory of so many homes.
fn memory_pass_s(homes: u32) -> f64 {
    let words = HOME_BYTES / 8 * usize::try_from(homes).unwrap();
    let memory = vec![1_u64; words];
    let from = seconds(ClockId::ThreadCPUTime);
    let mut rounds = 0_u32;
    while seconds(ClockId::ThreadCPUTime) - from < 0.2 {
        black_box(black_box(&memory).iter().sum::<u64>());
        rounds += 1;
    }
    (seconds(ClockId::ThreadCPUTime) - from) / f64::from(rounds)
}

fn rss_mib(finished: &Finished) -> f64 {
    finished.manifest.measured.peak_rss_kib.unwrap_or(0) as f64 / 1024.0
}

/// One line: what was measured, per second, and what that makes of the goal's size.
fn line(name: &str, finished: &Finished, took_s: f64, goal_intervals: f64) {
    let homes = u32::try_from(finished.manifest.homes).unwrap();
    let intervals = finished.manifest.intervals as f64;
    let per_s = finished.outcome.home_intervals() as f64 / took_s;
    let pass = memory_pass_s(homes) * intervals;
    println!(
        "{name:<34} {homes:>9} x {intervals:>6} {took_s:>9.2} {:>12.2} {:>11.1} {:>10.2} {:>9.0}",
        per_s / 1e6,
        took_s / pass,
        took_s / intervals * goal_intervals,
        rss_mib(finished)
    );
}

fn one_core(name: &str, scenario: RunScenario, goal_intervals: f64) {
    let request = request(scenario, TableChoice::None, None);
    let from = seconds(ClockId::ThreadCPUTime);
    let finished = simulate(&request, &mut |_, _| ()).unwrap();
    line(
        name,
        &finished,
        seconds(ClockId::ThreadCPUTime) - from,
        goal_intervals,
    );
}

/// A year of tables, and what of the time all processors worked.
fn tables(choice: TableChoice) {
    let out = std::env::temp_dir().join(format!("commonwatt-bench-{}", std::process::id()));
    let mut request = request(scenario(1000, 365, "noisy"), choice, Some(out.clone()));
    request.threads = 2;
    let from = (
        seconds(ClockId::Monotonic),
        seconds(ClockId::ProcessCPUTime),
    );
    let finished = simulate(&request, &mut |_, _| ()).unwrap();
    let took_s = seconds(ClockId::Monotonic) - from.0;
    let worked_s = seconds(ClockId::ProcessCPUTime) - from.1;
    let (name, kind) = (choice.name(), FileKind::best().ending());
    line(
        &format!("B3 {name} tables as {kind}, a year"),
        &finished,
        took_s,
        YEAR,
    );
    let files = finished
        .folder
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let bytes: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    println!(
        "   {:.1} processors at work, {:.0} MiB",
        worked_s / took_s,
        bytes as f64 / 1_048_576.0
    );
    std::fs::remove_dir_all(&out).unwrap();
}

/// A sweep's work on two cores: so many runs of 128 homes over a year, of the 400 that the goal names.
fn sweep(runs_each: u64) {
    let from = seconds(ClockId::Monotonic);
    let job = |seed: u64| {
        let mut request = request(scenario(128, 365, "noisy"), TableChoice::None, None);
        request.job.seed = seed;
        simulate(&request, &mut |_, _| ()).unwrap()
    };
    let finished = std::thread::scope(|scope| {
        let worker = |first: u64| {
            scope.spawn(move || (first..first + runs_each).map(job).reduce(|_, last| last))
        };
        let workers = [worker(1), worker(1 + runs_each)];
        workers.map(|worker| worker.join().unwrap().unwrap())
    });
    let took_s = seconds(ClockId::Monotonic) - from;
    let runs = 2 * runs_each;
    let home_intervals = finished[0].outcome.home_intervals() * runs;
    println!(
        "B7 {runs} of 400 runs, two cores {:>13} x {:>6} {took_s:>9.2} {:>12.2} {:>11.1} {:>10.2} {:>9.0}",
        finished[0].manifest.homes,
        finished[0].manifest.intervals,
        home_intervals as f64 / took_s / 1e6,
        took_s / (memory_pass_s(128) * YEAR * runs as f64),
        took_s / runs as f64 * 400.0,
        rss_mib(&finished[0])
    );
}

/// The same run on one, two and eight threads.
fn threads() {
    let mut hashes = Vec::new();
    for threads in [1, 2, 8] {
        let mut request = request(scenario(2000, 4, "noisy"), TableChoice::None, None);
        request.threads = threads;
        let from = seconds(ClockId::Monotonic);
        let finished = simulate(&request, &mut |_, _| ()).unwrap();
        let took_s = seconds(ClockId::Monotonic) - from;
        line(
            &format!("B9 {threads} threads, to a year"),
            &finished,
            took_s,
            YEAR,
        );
        hashes.push(finished.manifest.outcome_sha256);
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
    println!("   the same outcome: {}", &hashes[0][..16]);
}

fn main() {
    println!(
        "{:<34} {:>9}   {:>6} {:>9} {:>12} {:>11} {:>10} {:>9}",
        "", "homes", "steps", "s", "M homes x/s", "memory x", "s scaled", "MiB peak"
    );
    one_core("B2 20 homes, a year", scenario(20, 365, "noisy"), YEAR);
    one_core(
        "B1 10,000 homes, to a year",
        scenario(10_000, 4, "noisy"),
        YEAR,
    );
    one_core(
        "B1 with perfect forecasts",
        scenario(10_000, 4, "perfect"),
        YEAR,
    );
    for choice in [TableChoice::Some, TableChoice::All] {
        tables(choice);
    }
    sweep(5);
    threads();
    let mut million = scenario(1_000_000, 1, "noisy");
    million.site.interval_s = 3600;
    one_core("B8 1,000,000 homes, to a week (1 h)", million, 672.0);
}
