//! `CityLearn` buildings: one row an hour, with month and hour (1 to 24) but no year, so the start has to be said.
//!
//! Consumption is `non_shiftable_load` (`Equipment Electric Power [kWh]` in older files) in kWh. `solar_generation` is W for each
//! kW of the plant: with its size it becomes generation, without it is left out. Cooling, heating and hot water are
//! demands of heat, not electricity, and are not read. The file's name is the series.

use super::builder::{Builder, Measure};
use super::decimal::rounded;
use super::rows::{Row, Rows};
use super::stamp::{LocalClock, instant_s, naive};
use super::{ImportError, Options, Quantity, Source, Table, stem};

const HOUR_S: u32 = 3600;

pub(super) fn read(files: &[Source<'_>], options: &Options) -> Result<Table, ImportError> {
    let start_s = start_s(options)?;
    let mut builder = Builder::new(options);
    for file in files {
        let series = stem(file.name);
        if options.wants(series) {
            builder.file(file.name);
            read_file(*file, series, start_s, options.pv_kw, &mut builder)?;
        }
    }
    builder.finish(Some(HOUR_S))
}

fn read_file(
    file: Source<'_>,
    series: &str,
    start_s: i64,
    pv_kw: Option<f64>,
    builder: &mut Builder,
) -> Result<(), ImportError> {
    let rows = Rows::open(file, b',', 0)?;
    let hour = rows.column(&["hour"])?;
    let load = rows.column(&[
        "non_shiftable_load",
        "Equipment Electric Power [kWh]",
        "Equipment Electric Power (kWh)",
    ])?;
    let sun = rows.find(&[
        "solar_generation",
        "Solar Generation [W/kW]",
        "Solar Generation (W/kW)",
    ]);
    if sun.is_some() && pv_kw.is_none() {
        builder.note("generation was left out: it needs the plant's size (--pv-kw)".to_owned());
    }
    let (mut at_s, mut before) = (start_s, None);
    for row in rows {
        let row = row?;
        follows(&row, hour, &mut before)?;
        let value = row.number(load, 1_000_000_000)?;
        let line = row.line;
        builder.push(
            series,
            Quantity::Consumption,
            Measure::Energy,
            at_s,
            value,
            line,
        )?;
        if let (Some(column), Some(kw)) = (sun, pv_kw) {
            // W for each kW, times kW, over an hour: Wh.
            let energy = row.float(column)?.map(|watts| watts * kw * 1e6);
            let micro = energy.map(|micro| {
                rounded(micro).ok_or_else(|| row.wrong("more generation than can be read"))
            });
            let value = micro.transpose()?;
            builder.push(
                series,
                Quantity::Generation,
                Measure::Energy,
                at_s,
                value,
                line,
            )?;
        }
        at_s += i64::from(HOUR_S);
    }
    Ok(())
}

/// Hours go from 1 to 24 and on from 1: a jump is a row that is missing or there twice.
fn follows(row: &Row<'_>, column: usize, before: &mut Option<i64>) -> Result<(), ImportError> {
    let hour = row.number(column, 1)?;
    let hour = hour
        .filter(|hour| (1..=24).contains(hour))
        .ok_or_else(|| row.wrong(format!("{:?} is no hour from 1 to 24", row.cell(column))))?;
    if let Some(last) = *before
        && hour != last % 24 + 1
    {
        let what = format!("hour {hour} follows hour {last}: a row is missing or there twice");
        return Err(row.wrong(what));
    }
    *before = Some(hour);
    Ok(())
}

fn start_s(options: &Options) -> Result<i64, ImportError> {
    let text = options.start.as_deref().ok_or_else(|| {
        let what =
            "CityLearn files have no year: say when the first row begins, --start 2016-08-01T00:00";
        ImportError::Options(what.to_owned())
    })?;
    if let Some(start_s) = instant_s(text) {
        return Ok(start_s);
    }
    let local = naive(text, &["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]).ok_or_else(|| {
        ImportError::Options(format!(
            "--start {text}: this is no time like 2016-08-01T00:00"
        ))
    })?;
    let zone = options.zone_or(chrono_tz::UTC);
    let mut clock = LocalClock::new(zone);
    clock
        .utc_s(local)
        .map_err(|e| ImportError::Options(format!("--start: {e}")))
}
