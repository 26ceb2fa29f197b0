//! Ausgrid solar home: a title, then a row for each home, channel and day with 48 half hours in kWh.
//!
//! `Customer,Generator Capacity,Postcode,Consumption Category,date,0:30,…,23:30,0:00,Row Quality`. A column's name is
//! the end of its half hour. Channels: GC general consumption, CL controlled load (both are consumption and are added up), GG
//! gross generation. Every day has 48 half hours, so stamps are read as UTC+10 all year unless a zone is named.

use std::collections::BTreeMap;

use chrono::{Duration, NaiveDate};

use super::builder::{Builder, Measure};
use super::rows::{Row, Rows};
use super::stamp::LocalClock;
use super::{ImportError, Options, Quantity, Source, Table};

const HALF_HOURS: usize = 48;

/// Consumption of a home at an instant, while its channels are added up: value and line.
type Sums = BTreeMap<(String, i64), (Option<i64>, u64)>;

pub(super) fn read(files: &[Source<'_>], options: &Options) -> Result<Table, ImportError> {
    let zone = options.zone_or(chrono_tz::Etc::GMTMinus10);
    let mut builder = Builder::new(options);
    for file in files {
        builder.file(file.name);
        let skipped = u64::from(!file.text.starts_with(b"Customer"));
        let rows = Rows::open(*file, b',', skipped)?;
        let home = rows.column(&["Customer"])?;
        let channel = rows.column(&["Consumption Category"])?;
        let date = rows.column(&["date"])?;
        let first = rows.column(&["0:30"])?;
        if rows.header().get(first + HALF_HOURS - 1) != Some("0:00") {
            let what = "the 48th column from 0:30 on is not 0:00";
            return Err(ImportError::file(file.name, what));
        }
        let mut seen = BTreeMap::new();
        let mut sums = Sums::new();
        for row in rows {
            let row = row?;
            let series = format!("customer_{}", row.cell(home));
            if !options.wants(&series) && !options.wants(row.cell(home)) {
                continue;
            }
            let day = day(&row, date)?;
            let channel = row.cell(channel).to_owned();
            if let Some(before) = seen.insert((series.clone(), channel.clone(), day), row.line) {
                let what = format!(
                    "{channel} of {series} on {day} is there twice: it was in line {before} already"
                );
                return Err(row.wrong(what));
            }
            let mut clock = LocalClock::new(zone);
            for place in 0..HALF_HOURS {
                let value = row.number(first + place, 1_000_000_000)?;
                let minutes = i64::try_from(place).unwrap_or(0) * 30;
                let local = day.and_time(chrono::NaiveTime::MIN) + Duration::minutes(minutes);
                let start_s = clock.utc_s(local).map_err(|e| row.wrong(e))?;
                match channel.as_str() {
                    "GC" | "CL" => add(&mut sums, &series, start_s, value, row.line),
                    "GG" => {
                        let quantity = Quantity::Generation;
                        let measure = Measure::Energy;
                        builder.push(&series, quantity, measure, start_s, value, row.line)?;
                    }
                    other => return Err(row.wrong(format!("{other:?} is none of GC, CL and GG"))),
                }
            }
        }
        for ((series, start_s), (value, line)) in sums {
            let quantity = Quantity::Consumption;
            builder.push(&series, quantity, Measure::Energy, start_s, value, line)?;
        }
    }
    builder.finish(Some(1800))
}

/// Adds a channel up; where one has no value, the sum has none.
fn add(sums: &mut Sums, series: &str, start_s: i64, value: Option<i64>, line: u64) {
    let sum = sums
        .entry((series.to_owned(), start_s))
        .or_insert((Some(0), line));
    sum.0 = sum.0.zip(value).and_then(|(a, b)| a.checked_add(b));
}

/// `1/07/2012` or `1-Jul-10`.
fn day(row: &Row<'_>, column: usize) -> Result<NaiveDate, ImportError> {
    let text = row.cell(column);
    let parse = |pattern: &&str| NaiveDate::parse_from_str(text, pattern).ok();
    let day = ["%d/%m/%Y", "%d-%b-%y", "%Y-%m-%d"].iter().find_map(parse);
    day.ok_or_else(|| row.wrong(format!("{text:?} is no day like 1/07/2012 or 1-Jul-10")))
}
