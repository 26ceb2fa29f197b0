//! `commonwatt clear --from-log`: clears a public book again and holds it against the log.

use std::path::Path;

use anyhow::anyhow;
use domain::ids::Digest32;
use domain::receipt::ClearingRecord;
use domain::time::{Interval, Timestamp};
use market_engine::public::{BOOK_MAX_BYTES, Rerun, rerun};

use super::super::http::Client;
use super::super::verify::read_key;
use super::super::{CliError, Format, print_data};

/// What is checked, from where.
pub(super) struct Source<'a> {
    /// A platform's address, or the file of a book.
    pub(super) from: &'a str,
    /// The file of the clearing's record, beside the file of a book.
    pub(super) record: Option<&'a Path>,
    /// The start of the interval; the newest where none is named.
    pub(super) interval: Option<&'a str>,
    /// The operator's key.
    pub(super) key: Option<&'a str>,
    pub(super) format: Format,
}

type Step = (&'static str, Result<String, String>);

pub(super) fn check(source: &Source<'_>) -> Result<(), CliError> {
    let named = source.interval.map(start_of).transpose()?;
    let (book, record) = match source.from.starts_with("http://") {
        true => fetch(source)?,
        false => read(source)?,
    };
    let again = rerun(&book).map_err(|e| CliError::BadInput(format!("{}: {e}", source.from)))?;
    let pinned = source.key.map(read_key).transpose()?;
    let mut steps = vec![compared(&again)];
    if let Some(start) = named {
        let of_record = record.as_ref().map(|r| r.clearing.content.interval);
        steps.push(of_interval(start, again.interval, of_record));
    }
    if let Some(record) = &record {
        steps.extend(in_log(&book, &again, record, pinned));
    }
    print_data(&show(&again, &steps, source.format)?)?;
    match steps
        .iter()
        .find_map(|(step, result)| Some((step, result.as_ref().err()?)))
    {
        None => Ok(()),
        Some((step, why)) => Err(CliError::CheckFailed(format!(
            "not the same: step `{step}` failed: {why}"
        ))),
    }
}

fn compared(again: &Rerun) -> Step {
    let result = match &again.difference {
        None => Ok(format!(
            "{} orders, {} Wh: the same, byte for byte",
            again.orders, again.volume_wh
        )),
        Some(difference) => Err(difference.clone()),
    };
    ("clearing", result)
}

fn start_of(named: &str) -> Result<Timestamp, CliError> {
    named.parse().map_err(|e| {
        CliError::BadInput(format!(
            "--interval: its start, like 2026-06-21T12:00:00Z: {e}"
        ))
    })
}

/// Whether book and record are of the interval that was named.
fn of_interval(named: Timestamp, book: Interval, record: Option<Interval>) -> Step {
    let others = [("book", Some(book)), ("record", record)];
    let other = others
        .into_iter()
        .filter_map(|(what, interval)| Some((what, interval?.start())))
        .find(|(_, start)| *start != named);
    let result = match other {
        None => Ok("the one you named".to_owned()),
        Some((what, start)) => Err(format!("you named {named}, the {what} is of {start}")),
    };
    ("interval", result)
}

/// Whether this very book is the one that the market log commits to.
fn in_log(
    book: &str,
    again: &Rerun,
    record: &ClearingRecord,
    pinned: Option<domain::signed::PublicKey>,
) -> Vec<Step> {
    let (clearing, key) = match settlement::prove::verify_record(record, pinned) {
        Ok(verified) => verified,
        Err(why) => return vec![("log", Err(why))],
    };
    let size = record.market_checkpoint.lines().nth(1).unwrap_or_default();
    let index = record.clearing.place.index;
    let origin = format!(
        "entry {index} of {size} in the market log of {}",
        record.community
    );
    let key = crate::site::public_key_text(key);
    let trust = if pinned.is_some() {
        "the key you named"
    } else {
        "compare it with the one you know (--key)"
    };
    let found = Digest32::of(book.as_bytes());
    let digest = match clearing.public_book {
        Some(said) if said == found => Ok(found.to_string()),
        Some(said) => Err(format!("the log says {said}, the book is {found}")),
        None => Err("the log's clearing names no public book".to_owned()),
    };
    let told = (
        clearing.interval,
        clearing.price,
        clearing.volume.wh(),
        clearing.mechanism.as_str(),
    );
    let ours = (
        again.interval,
        again.price,
        again.volume_wh,
        again.mechanism.as_str(),
    );
    let summary = match told == ours {
        true => Ok("interval, mechanism, price and volume".to_owned()),
        false => Err(format!(
            "the log says {told:?}, clearing again gives {ours:?}"
        )),
    };
    vec![
        ("log", Ok(origin)),
        ("operator", Ok(format!("{key}; {trust}"))),
        ("digest", digest),
        ("summary", summary),
    ]
}

fn fetch(source: &Source<'_>) -> Result<(String, Option<ClearingRecord>), CliError> {
    let client = Client::new(source.from);
    let interval = match source.interval {
        Some(interval) => interval.to_owned(),
        None => newest(&client)?,
    };
    let book = client.get_text(&format!("/api/v1/markets/{interval}/book"), BOOK_MAX_BYTES)?;
    let record = client.get(&format!("/api/v1/markets/{interval}/clearing"))?;
    let record = serde_json::from_value(record)
        .map_err(|e| anyhow!("{} answers with no clearing record: {e}", source.from))?;
    Ok((book, Some(record)))
}

fn newest(client: &Client) -> Result<String, CliError> {
    let all = client.get("/api/v1/markets")?;
    let all = all["items"].as_array().into_iter().flatten();
    let newest = all
        .into_iter()
        .find(|market| !market["public_book"].is_null());
    let newest = newest.and_then(|market| market["interval"].as_str());
    newest.map(str::to_owned).ok_or_else(|| {
        CliError::BadInput("no interval with a public book is cleared there yet".to_owned())
    })
}

fn read(source: &Source<'_>) -> Result<(String, Option<ClearingRecord>), CliError> {
    let book = super::super::read_input(Path::new(source.from))?;
    let record = match source.record {
        None => None,
        Some(path) => {
            let text = super::super::read_input(path)?;
            let record = serde_json::from_str(&text);
            Some(record.map_err(|e| CliError::BadInput(format!("{}: {e}", path.display())))?)
        }
    };
    Ok((book, record))
}

fn show(again: &Rerun, steps: &[Step], format: Format) -> Result<String, CliError> {
    let same = steps.iter().all(|(_, result)| result.is_ok());
    let detail = |result: &Result<String, String>| result.clone().unwrap_or_else(|why| why);
    if format == Format::Json {
        let steps = steps.iter().map(|(step, result)| {
            serde_json::json!({"step": step, "ok": result.is_ok(), "detail": detail(result)})
        });
        let value = serde_json::json!({
            "interval": again.interval.start().to_string(),
            "same": same,
            "steps": steps.collect::<Vec<_>>(),
        });
        return Ok(format!("{value:#}\n"));
    }
    let mut out = format!("interval  {}\n", again.interval.start());
    for (step, result) in steps {
        let mark = if result.is_ok() { "ok" } else { "FAIL" };
        let detail = detail(result);
        out += &match format {
            Format::Csv => format!("{step},{mark},\"{}\"\n", detail.replace('"', "\"\"")),
            _ => format!("{mark:<4}  {step:<9} {detail}\n"),
        };
    }
    if same && format == Format::Table {
        out += "same\n";
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn book_and_record_must_be_of_the_interval_that_was_named() {
        let noon = Interval::new(1_782_000_000, 900).unwrap();
        let (named, next) = (noon.start(), noon.next());
        let cases = [
            (noon, None, ""),
            (noon, Some(noon), ""),
            (next, None, "the book is of"),
            (next, Some(next), "the book is of"),
            (noon, Some(next), "the record is of"),
        ];
        for (book, record, expected) in cases {
            let (step, result) = of_interval(named, book, record);
            let told = result.err().unwrap_or_default();
            assert_eq!(
                (step, told.is_empty()),
                ("interval", expected.is_empty()),
                "{told}"
            );
            assert!(told.contains(expected), "{told}");
        }
        let told = start_of("noon").unwrap_err().to_string();
        assert!(told.contains("--interval"), "{told}");
    }
}
