//! What the runs were made from: the record of each in the ledger log, directly behind its lines; the tariff that
//! should have been in force; and no run missing.

use std::collections::{BTreeMap, BTreeSet};

use domain::posting::Run;
use domain::receipt::RunProof;
use domain::run_record::{RunRecord, RunRules};
use domain::time::{Interval, Timestamp};
use settlement::log::checkpoint::Log;
use settlement::log::entry::{Entry, Kind, PUBLIC};
use settlement::run::due_at;
use settlement::tariff::Tariffs;

use super::super::CliError;
use super::logs::{LoggedRun, Logs};
use super::market::Clearings;
use super::source::Source;
use super::{FAILURES_MAX, Finding, failed};

/// A run may be this late before it counts as missing: platforms stop and start.
const LATE_S: i64 = 86_400;

/// Checks the records of all runs of the intervals that were cleared again.
pub(super) fn check(
    source: &mut Source,
    logs: &Logs,
    clearings: &Clearings,
    tariffs: Option<&Tariffs>,
    findings: &mut Vec<Finding>,
) -> Result<(), CliError> {
    let (mut count, mut of, mut programs) = (0_usize, 0_usize, BTreeSet::new());
    let mut versions = BTreeSet::new();
    let mut failures = Vec::new();
    for clearing in clearings.values() {
        let interval = clearing.interval;
        if logs.begun_before_records(interval.start_s()) {
            continue;
        }
        let logged = logs.runs.get(&interval.start_s());
        let logged = logged.map_or(&[][..], Vec::as_slice);
        match records(source, logs, interval, logged)? {
            Ok(records) => {
                count += records.len();
                of += usize::from(!records.is_empty());
                for record in &records {
                    programs.insert(record.program.clone());
                    versions.insert(version_of(&record.rules));
                }
                let found = by_one_tariff(interval, &records, tariffs);
                failures.extend(found.err().map(|why| (interval, why)));
            }
            Err(why) => failures.push((interval, why)),
        }
    }
    let listed = failures.iter().take(FAILURES_MAX);
    findings.extend(listed.map(|(interval, why)| failed(interval.start(), why)));
    findings.push(("runs".to_owned(), covered(logs, failures.len())));
    if count > 0 {
        let told = |words: BTreeSet<String>| words.into_iter().collect::<Vec<_>>().join(", ");
        let tariff = match tariffs {
            Some(_) => "the one given",
            None => "not compared with any (--tariff)",
        };
        findings.push((
            "runs' inputs".to_owned(),
            Ok(format!(
                "{count} runs of {of} intervals name theirs: program {}; tariff {}, {tariff}",
                told(programs),
                told(versions)
            )),
        ));
    }
    findings.push(("runs in time".to_owned(), in_time(logs, clearings)));
    Ok(())
}

fn version_of(rules: &RunRules) -> String {
    let version = rules.version.as_deref();
    version.unwrap_or("without a name").to_owned()
}

fn covered(logs: &Logs, failures: usize) -> Result<String, String> {
    if failures > FAILURES_MAX {
        return Err(format!("{} more do not hold", failures - FAILURES_MAX));
    }
    match logs.lines_without_run {
        Some((first, count)) => Err(format!(
            "{count} settlement lines belong to no run, the first is entry {first} of the ledger log"
        )),
        None => Ok("every settlement line stands before the record of its run".to_owned()),
    }
}

/// The published records of an interval's runs, each the log's, in the log's order.
fn records(
    source: &mut Source,
    logs: &Logs,
    interval: Interval,
    logged: &[LoggedRun],
) -> Result<Result<Vec<RunRecord>, String>, CliError> {
    let mut found: Vec<RunRecord> = Vec::with_capacity(logged.len());
    let start = interval.start();
    for run in Run::ALL {
        let Some(at) = logged.get(found.len()) else {
            break;
        };
        let path = format!("api/v1/markets/{start}/runs/{}", run.word());
        let proof = source.fixed(&path)?;
        let proof = proof.and_then(|proof| serde_json::from_slice::<RunProof>(&proof).ok());
        let Some(record) = proof.map(|proof| proof.run.content) else {
            continue;
        };
        let entry = Entry::new(Kind::Run, start, PUBLIC, &record.to_cbor());
        let is_logged = logs.leaves.has(Log::Ledger, at.index, &entry);
        if !is_logged || record.interval != interval || record.run != run {
            let why = format!(
                "the record of its {} run is not the one in the log",
                run.word()
            );
            return Ok(Err(why));
        }
        let upgraded = logs
            .runs
            .values()
            .flatten()
            .all(|other| other.index >= at.index);
        let lines = u64::from(record.lines);
        if lines != at.lines && !(upgraded && lines < at.lines) {
            return Ok(Err(format!(
                "its {} run logged {lines} lines, {} stand before its record",
                run.word(),
                at.lines
            )));
        }
        found.push(record);
    }
    if found.len() < logged.len() {
        return Ok(Err(format!(
            "the log has the records of {} runs, {} are published",
            logged.len(),
            found.len()
        )));
    }
    Ok(Ok(found))
}

/// A later run uses the rules of that day; and they are those of the tariff in force, where that is known.
fn by_one_tariff(
    interval: Interval,
    records: &[RunRecord],
    tariffs: Option<&Tariffs>,
) -> Result<(), String> {
    let Some(first) = records.first() else {
        return Ok(());
    };
    if let Some(other) = records.iter().find(|record| record.rules != first.rules) {
        return Err(format!(
            "its {} run was settled by other rules than the {} one",
            other.run.word(),
            first.run.word()
        ));
    }
    let Some(tariffs) = tariffs else {
        return Ok(());
    };
    let due = tariffs.at(interval);
    let rules = &first.rules;
    let used = (rules.retail, rules.feed_in, rules.network_fee);
    let (tariff, version) = (due.tariff, &due.version);
    if used != (tariff.retail, tariff.feed_in, tariff.network_fee) || rules.steps != due.steps {
        return Err(format!(
            "settled at retail {}, feed-in {} and network fee {}; the tariff in force has {}, {} and {}{}",
            rules.retail,
            rules.feed_in,
            rules.network_fee,
            tariff.retail,
            tariff.feed_in,
            tariff.network_fee,
            if rules.steps == due.steps {
                ""
            } else {
                ", and other steps"
            }
        ));
    }
    if rules.version != *version {
        let due = version.as_deref().unwrap_or("without a name");
        return Err(format!(
            "settled by the tariff {}, in force was {due}",
            version_of(rules)
        ));
    }
    Ok(())
}

/// Whether every run is there that was due a day before the newest clearing. Only intervals since the first with a
/// record are looked at: a program before logged none.
fn in_time(logs: &Logs, clearings: &Clearings) -> Result<String, String> {
    let newest = logs.clearings.keys().next_back().copied().unwrap_or(0);
    let whole = |start_s: &&i64| !logs.begun_before_records(**start_s);
    let first = logs.runs.keys().find(whole);
    let (Some(first), now) = (first, Timestamp::from_unix_s(newest)) else {
        return Ok("no run has a record yet".to_owned());
    };
    let mut missing: BTreeMap<&str, (usize, Timestamp)> = BTreeMap::new();
    let mut due = 0_usize;
    for clearing in clearings.range(first..).map(|(_, clearing)| clearing) {
        let interval = clearing.interval;
        let done = logs.runs.get(&interval.start_s()).map_or(0, Vec::len);
        let is_due = |run: &Run| due_at(*run, interval).plus_s(LATE_S) < now;
        let expected: Vec<Run> = Run::ALL.into_iter().filter(is_due).collect();
        due += expected.len();
        if let Some(run) = expected.get(done) {
            let entry = missing.entry(run.word()).or_insert((0, interval.start()));
            entry.0 += 1;
        }
    }
    match missing.into_iter().next() {
        None => Ok(format!("all {due} that were due by {now} are there")),
        Some((word, (count, first))) => Err(format!(
            "{count} intervals lack their {word} run, due more than a day before {now}; the first is {first}"
        )),
    }
}
