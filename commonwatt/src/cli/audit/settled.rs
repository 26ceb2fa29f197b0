//! Settling again what was opened: the public book has to hide the signed orders; every run in the order of the
//! ledger log, every line compared byte for byte.

use domain::ids::Digest32;
use domain::openings::{OpenedInterval, Openings};
use domain::signed::PublicKey;
use domain::trade::Clearing;
use market_engine::public::opened::hides;
use settlement::reexecute::{Executor, Facts, Fault, KeyCount, Registry, facts};

use super::super::CliError;
use super::logs::Logs;
use super::market::{Clearings, public_book};
use super::source::Source;
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
    books: usize,
    runs: usize,
    lines: usize,
    postings: usize,
    substituted: usize,
    /// Runs in whose month intervals are not opened, the most of these, and how many runs' inputs were compared.
    steps: (usize, usize, usize),
    keys: KeyCount,
    failures: Vec<Finding>,
    sealed: Vec<String>,
}

/// Settles again every run of the opened intervals that were cleared again.
pub(super) fn check(
    source: &mut Source,
    logs: &Logs,
    operator: PublicKey,
    clearings: &Clearings,
    mut openings: Vec<Openings>,
    findings: &mut Vec<Finding>,
) -> Result<Count, CliError> {
    for one in &mut openings {
        logs.leaves.cut(one);
    }
    let mut count = Count::default();
    let mut told = Told::default();
    let registry = match registry(logs, operator, &openings) {
        Ok(registry) => registry,
        Err(why) => {
            findings.push(("settled again".to_owned(), Err(why)));
            return Ok(count);
        }
    };
    told.keys = registry.count();
    let mut opened: Vec<(&OpenedInterval, Facts)> = Vec::new();
    for interval in openings.iter().flat_map(|openings| &openings.intervals) {
        let Some(clearing) = clearings.get(&interval.interval.start_s()) else {
            continue;
        };
        if let Some(facts) = open(logs, &registry, clearing, interval, &mut told, &mut count) {
            behind_the_book(source, clearing, &facts, &mut told)?;
            opened.push((interval, facts));
        }
    }
    settle(logs, &registry, &opened, &mut told, &mut count);
    show(told, clearings.len(), findings);
    Ok(count)
}

fn show(told: Told, cleared: usize, findings: &mut Vec<Finding>) {
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
    if let (runs @ 1.., most, compared) = told.steps {
        words += &format!(
            "; in {runs} runs homes stand on the tariff's steps where their lines say, as up to {most} intervals of the \
             month are not opened: none stands below what the opened ones supplied, what the others supplied changes only \
             with their runs, and {compared} of these runs' inputs are those that the log commits to"
        );
    }
    findings.push(("settled again".to_owned(), Ok(words)));
    let books = format!(
        "{} hide the signed orders and trades, and no others",
        told.books
    );
    findings.push(("public books".to_owned(), Ok(books)));
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
    let closed = cleared - told.intervals.min(cleared);
    if closed > 0 {
        let words = format!("{closed} cleared intervals of this time were not opened whole");
        findings.push(("not opened".to_owned(), Ok(words)));
    }
}

/// The opened keys; openings of other logs are none.
fn registry(logs: &Logs, operator: PublicKey, openings: &[Openings]) -> Result<Registry, String> {
    let community = logs
        .community
        .as_ref()
        .ok_or("the logs name no community")?;
    let other = |openings: &&Openings| openings.community != community.as_str();
    if let Some(Openings {
        community: theirs, ..
    }) = openings.iter().find(other)
    {
        return Err(format!(
            "the openings are of {theirs}, the logs of {community}"
        ));
    }
    // The newest openings have all keys.
    let newest = openings.iter().max_by_key(|openings| openings.keys.len());
    let newest = newest.ok_or("nothing was handed over")?;
    Registry::read(&logs.leaves, community, operator, newest).map_err(|fault| match fault {
        Fault::Wrong(why) | Fault::Sealed(why) => why,
    })
}

/// Holds the public book, which was cleared again, against the orders and trades that are opened.
fn behind_the_book(
    source: &mut Source,
    clearing: &Clearing,
    facts: &Facts,
    told: &mut Told,
) -> Result<(), CliError> {
    let start = clearing.interval.start();
    let Some(digest) = clearing.public_book else {
        return Ok(());
    };
    // It may have been fetched anew: only the one that was cleared again counts.
    let book = public_book(source, start)?;
    let hidden = match book.filter(|book| Digest32::of(book.as_bytes()) == digest) {
        Some(book) => hides(&book, facts.orders(), facts.trades()),
        None => Err("its public book is not the one that was cleared again".to_owned()),
    };
    match hidden {
        Ok(()) => told.books += 1,
        Err(why) => told.failures.push(failed(start, &why)),
    }
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
                if settled.steps_closed > 0 {
                    let (runs, most, compared) = told.steps;
                    let compared = compared + usize::from(settled.inputs_compared);
                    told.steps = (runs + 1, most.max(settled.steps_closed), compared);
                }
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
