//! Low Carbon London: one row for each home and half hour, `LCLid,stdorToU,DateTime,KWH/hh (per half hour)`.
//!
//! Stamps are UTC all year and the end of the half hour. The files have rows between half hours whose value is
//! `Null`; they say nothing and are left out. A row that is there twice is refused.

use std::collections::BTreeMap;

use super::builder::{Builder, Measure};
use super::rows::Rows;
use super::stamp::{LocalClock, naive};
use super::{ImportError, Options, Quantity, Source, Table};

const HALF_HOUR_S: u32 = 1800;

pub(super) fn read(files: &[Source<'_>], options: &Options) -> Result<Table, ImportError> {
    let zone = options.zone_or(chrono_tz::UTC);
    let mut builder = Builder::new(options);
    let mut clocks: BTreeMap<String, LocalClock> = BTreeMap::new();
    for file in files {
        builder.file(file.name);
        let rows = Rows::open(*file, b',', 0)?;
        let home = rows.column(&["LCLid"])?;
        let time = rows.column(&["DateTime", "tstp"])?;
        let energy = rows.column(&["KWH/hh (per half hour)", "KWH/hh", "energy(kWh/hh)"])?;
        for row in rows {
            let row = row?;
            let series = row.cell(home);
            if !options.wants(series) {
                continue;
            }
            let value = row.number(energy, 1_000_000_000)?;
            let local = naive(row.cell(time), &["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"]);
            let local = local.ok_or_else(|| {
                row.wrong(format!(
                    "{:?} is no stamp like 2012-10-12 00:30:00",
                    row.cell(time)
                ))
            })?;
            let clock = clocks
                .entry(series.to_owned())
                .or_insert_with(|| LocalClock::new(zone));
            let end_s = clock.utc_s(local).map_err(|e| row.wrong(e))?;
            let length_s = i64::from(HALF_HOUR_S);
            if value.is_none() && end_s.rem_euclid(length_s) != 0 {
                builder.note("rows between half hours without a value were left out".to_owned());
                continue;
            }
            let (start_s, line) = (end_s - length_s, row.line);
            let quantity = Quantity::Consumption;
            builder.push(series, quantity, Measure::Energy, start_s, value, line)?;
        }
    }
    builder.finish(Some(HALF_HOUR_S))
}
