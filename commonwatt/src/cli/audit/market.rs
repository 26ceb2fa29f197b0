//! The clearings: each in the log once, its public book the one it commits to, and clearing that book again
//! gives the same, byte for byte.

use std::collections::BTreeMap;

use domain::ids::Digest32;
use domain::receipt::ClearingRecord;
use domain::time::Timestamp;
use domain::trade::Clearing;
use market_engine::public::rerun;
use settlement::log::entry::{Entry, Kind, PUBLIC};

use super::super::CliError;
use super::logs::Logs;
use super::source::Source;
use super::{FAILURES_MAX, Finding, failed};

/// What came of an interval.
enum Outcome {
    /// Cleared again, with so many orders and Wh.
    Same(usize, i64),
    /// It has no public book.
    NoBook,
}

/// The clearings that are the log's, by the start of their interval in unix seconds.
pub(super) type Clearings = BTreeMap<i64, Clearing>;

pub(super) fn check(
    source: &mut Source,
    logs: &Logs,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    findings: &mut Vec<Finding>,
) -> Result<Clearings, CliError> {
    let mut clearings = Clearings::new();
    let (mut same, mut no_book, mut orders, mut wh) = (0_usize, 0_usize, 0_usize, 0_i64);
    let mut failures = Vec::new();
    let wanted =
        |start: Timestamp| from.is_none_or(|from| start >= from) && to.is_none_or(|to| start < to);
    for (start_s, commitments) in &logs.clearings {
        let start = Timestamp::from_unix_s(*start_s);
        if !wanted(start) {
            continue;
        }
        match interval(source, logs, start, commitments, &mut clearings)? {
            Ok(Outcome::Same(count, volume_wh)) => {
                same += 1;
                orders += count;
                wh = wh.saturating_add(volume_wh);
            }
            Ok(Outcome::NoBook) => no_book += 1,
            Err(why) => failures.push((start, why)),
        }
    }
    let more = failures.len().saturating_sub(FAILURES_MAX);
    for (start, why) in failures.iter().take(FAILURES_MAX) {
        findings.push(failed(*start, why));
    }
    if more > 0 {
        findings.push((
            "clearings".to_owned(),
            Err(format!("{more} more do not hold")),
        ));
    }
    findings.push((
        "clearings".to_owned(),
        Ok(format!(
            "{same} cleared again, the same byte for byte: {orders} orders, {wh} Wh; {no_book} without a public book"
        )),
    ));
    findings.push(("settlement".to_owned(), settled(logs)));
    Ok(clearings)
}

/// Whether what was settled was cleared before.
fn settled(logs: &Logs) -> Result<String, String> {
    let (settled, cleared) = (logs.settled().count(), logs.clearings.len());
    let is_missing = |start_s: &i64| !logs.clearings.contains_key(start_s);
    let missing: Vec<i64> = logs.settled().filter(is_missing).collect();
    match missing.first() {
        None => Ok(format!(
            "{settled} intervals have sealed settlement lines, {cleared} were cleared"
        )),
        Some(first) => Err(format!(
            "{} of {settled} intervals with settlement lines were never cleared, the first at {}",
            missing.len(),
            Timestamp::from_unix_s(*first)
        )),
    }
}

fn interval(
    source: &mut Source,
    logs: &Logs,
    start: Timestamp,
    commitments: &[Digest32],
    clearings: &mut Clearings,
) -> Result<Result<Outcome, String>, CliError> {
    let [commitment] = commitments else {
        return Ok(Err(format!("cleared {} times", commitments.len())));
    };
    let path = format!("api/v1/markets/{start}/clearing");
    let record = source.fixed(&path)?;
    let record = record.and_then(|r| serde_json::from_slice::<ClearingRecord>(&r).ok());
    let Some(record) = record else {
        return Ok(Err("its clearing is not published".to_owned()));
    };
    let clearing = &record.clearing.content;
    let entry = Entry::new(Kind::Clearing, start, PUBLIC, &clearing.to_cbor());
    if entry.commitment != *commitment {
        return Ok(Err("the clearing is not the one in the log".to_owned()));
    }
    clearings.insert(start.unix_s(), clearing.clone());
    let logged = [Kind::Order, Kind::Trade].map(|kind| logs.count(kind, start));
    let said = [u64::from(clearing.orders), 2 * u64::from(clearing.trades)];
    if logged != said {
        return Ok(Err(format!(
            "the log has {} orders and {} sides of trades, the clearing says {} and {}",
            logged[0], logged[1], said[0], said[1]
        )));
    }
    let Some(digest) = clearing.public_book else {
        return Ok(Ok(Outcome::NoBook));
    };
    let Some(book) = public_book(source, start)? else {
        return Ok(Err("its public book is not published".to_owned()));
    };
    Ok(cleared_again(clearing, digest, &book))
}

/// The public book of an interval, where it is published.
pub(super) fn public_book(
    source: &mut Source,
    start: Timestamp,
) -> Result<Option<String>, CliError> {
    let book = source.fixed(&format!("api/v1/markets/{start}/book"))?;
    Ok(book.and_then(|book| String::from_utf8(book).ok()))
}

fn cleared_again(clearing: &Clearing, digest: Digest32, book: &str) -> Result<Outcome, String> {
    if Digest32::of(book.as_bytes()) != digest {
        return Err("the public book is not the one that the clearing commits to".to_owned());
    }
    let again = rerun(book).map_err(|e| format!("its public book: {e}"))?;
    if let Some(difference) = again.difference {
        return Err(difference);
    }
    let said = (
        clearing.interval,
        clearing.price,
        clearing.volume.wh(),
        clearing.mechanism.as_str(),
        usize::try_from(clearing.orders).ok(),
    );
    let found = (
        again.interval,
        again.price,
        again.volume_wh,
        again.mechanism.as_str(),
        Some(again.orders),
    );
    match said == found {
        true => Ok(Outcome::Same(again.orders, again.volume_wh)),
        false => Err(format!("the clearing says {said:?}, its book {found:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settlement::log::checkpoint::Log;

    #[test]
    fn a_line_without_a_clearing_does_not_hold() {
        let start = Timestamp::from_unix_s(900);
        let mut logs = Logs::default();
        let entry = |kind| Entry::new(kind, start, PUBLIC, b"x");
        assert!(logs.take(Log::Ledger, 0, &entry(Kind::Line).leaf()));
        let why = settled(&logs).unwrap_err();
        assert!(
            why.contains("1 of 1") && why.contains(&start.to_string()),
            "{why}"
        );
        assert!(logs.take(Log::Market, 0, &entry(Kind::Clearing).leaf()));
        assert!(settled(&logs).is_ok());
    }
}
