//! Runs: their records and lines are what the ledger log commits to, and their postings are those that the records do.

use std::collections::BTreeMap;

use domain::posting::Posting;
use domain::receipt::Line;
use domain::run_record::RunRecord;
use domain::time::Timestamp;
use runtime::args;

use super::BooksError;
use super::contents::{Contents, Part, Row, found};
use crate::log::entry::Kind;
use crate::run_inputs::{blind, blinded, outcome_digest};
use crate::service::error::{decoded, run_of};
use crate::service::registry::digest;
use crate::service::{last_run, money, rules};

pub(super) async fn check(contents: &mut Contents<'_>, part: &mut Part) -> Result<(), BooksError> {
    for start_s in part.starts(Kind::Line) {
        lines(contents, part, start_s).await?;
    }
    for start_s in part.starts(Kind::Run) {
        runs(contents, part, start_s).await?;
        kept(contents, start_s).await?;
    }
    Ok(())
}

async fn lines(
    contents: &mut Contents<'_>,
    part: &mut Part,
    start_s: i64,
) -> Result<(), BooksError> {
    let rows: Vec<(String, i64, Vec<u8>, i64)> = contents
        .db
        .fetch_all(
            "SELECT participant, run, content, log_index FROM settle_lines WHERE start_s = $1
             ORDER BY participant, run",
            args![start_s],
        )
        .await?;
    for (participant, run, content, index) in rows {
        let what = || {
            format!(
                "the settlement line of {participant} in run {run} of the interval that starts at unix second {start_s}"
            )
        };
        if index >= 0 && !part.has(index) {
            continue;
        }
        let row = Row {
            index,
            kind: Kind::Line,
            start: Timestamp::from_unix_s(start_s),
            content: &content,
            whose: Some(&participant),
        };
        contents.take(part, &row, what)?;
        let line: Line = decoded(&content, "a line")?;
        let own = (line.participant.as_str(), i64::from(line.run.code()));
        if own != (&participant, run) || line.interval.start_s() != start_s {
            return found(format!("{} is another's", what()));
        }
    }
    Ok(())
}

type RunRow = (i64, i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>);

/// The runs of an interval whose records are in this part.
async fn runs(
    contents: &mut Contents<'_>,
    part: &mut Part,
    start_s: i64,
) -> Result<(), BooksError> {
    let rows: Vec<RunRow> = contents
        .db
        .fetch_all(
            "SELECT run, postings, lines, inputs, record, log_index FROM settle_runs
             WHERE start_s = $1 ORDER BY run",
            args![start_s],
        )
        .await?;
    let start = Timestamp::from_unix_s(start_s);
    let mut posted: BTreeMap<i64, Vec<Posting>> = BTreeMap::new();
    for posting in money::run_postings(&mut &*contents.db, start, start.plus_ms(1)).await? {
        let run = posting.run.map_or(-1, |run| i64::from(run.code()));
        posted.entry(run).or_default().push(posting);
    }
    for row in rows {
        let postings = posted.remove(&row.0).unwrap_or_default();
        let is_here = row.5.is_some_and(|index| index < 0 || part.has(index));
        if is_here {
            one(contents, part, start, &row, &postings).await?;
        }
    }
    match posted.into_keys().next() {
        Some(run) => found(format!(
            "the interval that starts at unix second {start_s} has postings of run {run}, which it did not have"
        )),
        None => Ok(()),
    }
}

async fn one(
    contents: &mut Contents<'_>,
    part: &mut Part,
    start: Timestamp,
    row: &RunRow,
    postings: &[Posting],
) -> Result<(), BooksError> {
    let (code, posted, lines, inputs, record, index) = row;
    let (run, start_s) = (run_of(*code)?, start.unix_s());
    let what = || {
        let run = run.word();
        format!("the {run} run of the interval that starts at unix second {start_s}")
    };
    let (Some(content), Some(index)) = (record, index) else {
        return found(format!("the record of {} is missing", what()));
    };
    let entry = Row {
        index: *index,
        kind: Kind::Run,
        start,
        content,
        whose: None,
    };
    contents.take(part, &entry, || format!("the record of {}", what()))?;
    let record: RunRecord = decoded(content, "a run's record")?;
    if record.interval.start() != start || record.run != run {
        return found(format!("the record of {} is another's", what()));
    }
    let blind = blind(contents.operator, record.interval, run);
    let counts = (i64::from(record.postings), i64::from(record.lines));
    let is_posted = blinded(&blind, &outcome_digest(postings)) == record.outcome;
    if !is_posted || counts != (*posted, *lines) || usize::try_from(*posted) != Ok(postings.len()) {
        return found(format!(
            "the postings of {} are not those that it made",
            what()
        ));
    }
    if let Some(inputs) = inputs
        && blinded(&blind, &digest(inputs)?) != record.inputs
    {
        return found(format!(
            "the digest of the inputs of {} was changed",
            what()
        ));
    }
    let rules = rules::of_interval(&mut &*contents.db, record.interval).await?;
    match rules.0.written() == record.rules {
        true => Ok(()),
        false => found(format!(
            "the interval that starts at unix second {start_s} has other prices or terms than its {} run had",
            run.word()
        )),
    }
}

/// What is kept of the last run for the next to go on from says of everybody what their last line says.
async fn kept(contents: &Contents<'_>, start_s: i64) -> Result<(), BooksError> {
    let Some((run, deliveries)) = last_run::kept_of(contents.db, start_s).await? else {
        return Ok(());
    };
    let rows: Vec<(Vec<u8>,)> = contents
        .db
        .fetch_all(
            "SELECT content FROM settle_lines WHERE start_s = $1 ORDER BY participant, run",
            args![start_s],
        )
        .await?;
    let mut last = BTreeMap::new();
    for (content,) in rows {
        let line: Line = decoded(&content, "a line")?;
        last.insert(line.participant, line.delivery);
    }
    let wrong = deliveries
        .iter()
        .find(|d| last.get(&d.participant) != Some(d));
    match wrong {
        Some(delivery) => found(format!(
            "what is kept of the {} run of the interval that starts at unix second {start_s} has another delivery \
             of {} than its line",
            run.word(),
            delivery.participant
        )),
        None => Ok(()),
    }
}
