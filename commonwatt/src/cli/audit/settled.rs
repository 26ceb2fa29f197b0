//! Settling again what was opened: every run in the order of the ledger log, every line compared byte for byte.

use domain::openings::{OpenedInterval, Openings};
use domain::signed::PublicKey;
use domain::trade::Clearing;
use settlement::reexecute::{Executor, Facts, Fault, KeyCount, Registry, facts};

use super::logs::Logs;
use super::market::Clearings;
use super::{FAILURES_MAX, Finding, failed};

/// Entries that were opened and checked.
#[derive(Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) readings: u64,
    pub(super) orders: u64,
    pub(super) trades: u64,
    pub(super) lines: u64,
}

/// How the runs went.
#[derive(Default)]
struct Told {
    intervals: usize,
    runs: usize,
    lines: usize,
    postings: usize,
    substituted: usize,
    steps_believed: usize,
    keys: KeyCount,
    failures: Vec<Finding>,
    sealed: Vec<String>,
}

/// Settles again every run of the opened intervals that were cleared again.
pub(super) fn check(
    logs: &Logs,
    operator: PublicKey,
    clearings: &Clearings,
    mut openings: Vec<Openings>,
    findings: &mut Vec<Finding>,
) -> Count {
    for one in &mut openings {
        logs.leaves.cut(one);
    }
    let mut count = Count::default();
    let mut told = Told::default();
    if let Err(why) = all(logs, operator, clearings, &openings, &mut told, &mut count) {
        findings.push(("settled again".to_owned(), Err(why)));
        return count;
    }
    let failures = told.failures.len();
    findings.extend(told.failures.into_iter().take(FAILURES_MAX));
    if failures > FAILURES_MAX {
        let more = format!("{} more do not hold", failures - FAILURES_MAX);
        findings.push(("settled again".to_owned(), Err(more)));
    }
    let mut words = format!(
        "{} runs of {} intervals, the same byte for byte: {} lines, {} postings, {} substitutes",
        told.runs, told.intervals, told.lines, told.postings, told.substituted
    );
    if told.steps_believed > 0 {
        let runs = told.steps_believed;
        words += &format!(
            "; in {runs} runs the tariff's steps are as the lines say: not all of the month is opened"
        );
    }
    findings.push(("settled again".to_owned(), Ok(words)));
    let keys = told.keys;
    findings.push((
        "keys".to_owned(),
        Ok(format!(
            "{} in the ledger log: {} let in on a claim code, {} rotated with both keys' signatures; {} revocations, \
             and no reading was taken in after one",
            keys.keys, keys.claimed, keys.rotated, keys.revocations
        )),
    ));
    if let Some(first) = told.sealed.first() {
        let words = format!("{}, the first: {first}", told.sealed.len());
        findings.push(("could not be settled".to_owned(), Ok(words)));
    }
    let closed = clearings.len() - told.intervals.min(clearings.len());
    if closed > 0 {
        let words = format!("{closed} cleared intervals of this time were not opened whole");
        findings.push(("not opened".to_owned(), Ok(words)));
    }
    count
}

fn all(
    logs: &Logs,
    operator: PublicKey,
    clearings: &Clearings,
    openings: &[Openings],
    told: &mut Told,
    count: &mut Count,
) -> Result<(), String> {
    let community = logs
        .community
        .as_ref()
        .ok_or("the logs name no community")?;
    // The newest openings have all keys.
    let newest = openings.iter().max_by_key(|openings| openings.keys.len());
    let newest = newest.ok_or("nothing was handed over")?;
    let registry = Registry::read(&logs.leaves, community, operator, newest);
    let registry = registry.map_err(|fault| match fault {
        Fault::Wrong(why) | Fault::Sealed(why) => why,
    })?;
    told.keys = registry.count();
    let mut opened: Vec<(&OpenedInterval, Facts)> = Vec::new();
    for openings in openings {
        if openings.community != community.as_str() {
            let theirs = &openings.community;
            return Err(format!(
                "the openings are of {theirs}, the logs of {community}"
            ));
        }
        for interval in &openings.intervals {
            if let Some(clearing) = clearings.get(&interval.interval.start_s()) {
                let facts = open(logs, &registry, clearing, interval, told, count);
                opened.extend(facts.map(|facts| (interval, facts)));
            }
        }
    }
    settle(logs, &registry, &opened, told, count);
    Ok(())
}

/// Opens an interval's entries; `None` where something does not hold or is not opened.
fn open(
    logs: &Logs,
    registry: &Registry,
    clearing: &Clearing,
    interval: &OpenedInterval,
    told: &mut Told,
    count: &mut Count,
) -> Option<Facts> {
    let start = interval.interval.start();
    let logged = logs.runs.get(&start.unix_s()).map_or(0, Vec::len);
    if logged != interval.runs.len() {
        let handed = interval.runs.len();
        let why = format!("the ledger log has {logged} runs of it, {handed} were handed over");
        told.failures.push(failed(start, &why));
    }
    match facts(&logs.leaves, registry, clearing, interval) {
        Ok(facts) => {
            told.intervals += 1;
            count.orders += interval.orders.len() as u64;
            count.trades += interval.trades.len() as u64;
            count.readings += interval.readings.len() as u64;
            return Some(facts);
        }
        Err(Fault::Wrong(why)) => told.failures.push(failed(start, &why)),
        Err(Fault::Sealed(why)) => told.sealed.push(format!("{start}: {why}")),
    }
    None
}

/// Settles the runs of opened intervals again, in the order of the ledger log.
fn settle(
    logs: &Logs,
    registry: &Registry,
    opened: &[(&OpenedInterval, Facts)],
    told: &mut Told,
    count: &mut Count,
) {
    let mut runs: Vec<_> = opened
        .iter()
        .flat_map(|(interval, facts)| interval.runs.iter().map(move |run| (run, facts)))
        .collect();
    runs.sort_by_key(|(run, _)| run.index);
    let mut executor = Executor::default();
    for (run, facts) in runs {
        let (start, word) = (run.record.interval.start(), run.record.run.word());
        match executor.run(&logs.leaves, registry, facts, run) {
            Ok(settled) => {
                told.runs += 1;
                told.lines += settled.lines;
                told.postings += settled.postings;
                told.substituted += settled.substituted;
                told.steps_believed += usize::from(settled.steps_believed);
                count.lines += settled.lines as u64;
            }
            Err(Fault::Wrong(why)) => {
                told.failures
                    .push(failed(start, &format!("the {word} run: {why}")));
            }
            Err(Fault::Sealed(why)) => told.sealed.push(format!("{start}, {word} run: {why}")),
        }
    }
}
