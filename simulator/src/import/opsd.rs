//! Open Power System Data, household data (`household_data_*_singleindex.csv`): cumulative kWh.
//!
//! `utc_timestamp` is the start of the interval, and a column the counter's reading then; an interval's energy is the next
//! reading less this one. Where one of the two is missing, was interpolated, or the counter fell, the interval is missing.

use super::builder::{Builder, Measure};
use super::rows::Rows;
use super::stamp::instant_s;
use super::{CELLS_MAX, ImportError, Options, Quantity, Source, Table};

/// A reading: instant, µWh, line.
type Reading = (i64, i64, u64);

pub(super) fn read(files: &[Source<'_>], options: &Options) -> Result<Table, ImportError> {
    let mut builder = Builder::new(options);
    for file in files {
        builder.file(file.name);
        read_file(*file, options, &mut builder)?;
    }
    builder.finish(None)
}

fn read_file(
    file: Source<'_>,
    options: &Options,
    builder: &mut Builder,
) -> Result<(), ImportError> {
    let rows = Rows::open(file, b',', 0)?;
    let time = rows.column(&["utc_timestamp"])?;
    let marks = rows.find(&["interpolated"]);
    let header = rows.header().clone();
    let is_data =
        |name: &str| !["utc_timestamp", "cet_cest_timestamp", "interpolated"].contains(&name);
    let columns: Vec<(usize, &str)> = header
        .iter()
        .enumerate()
        .filter(|(_, name)| is_data(name) && options.wants(name))
        .collect();
    let mut readings: Vec<Vec<Reading>> = vec![Vec::new(); columns.len()];
    let (mut last_s, mut step_s, mut cells) = (None, i64::MAX, 0);
    for row in rows {
        let row = row?;
        let text = row.cell(time);
        let start_s = instant_s(text)
            .ok_or_else(|| row.wrong(format!("{text:?} is no stamp like 2014-12-11T18:00:00Z")))?;
        if let Some(last_s) = last_s {
            if start_s <= last_s {
                return Err(row.wrong(format!("{text} is not after the line before it")));
            }
            step_s = step_s.min(start_s - last_s);
        }
        last_s = Some(start_s);
        let marked: Vec<&str> = marks.map_or_else(Vec::new, |column| {
            row.cell(column)
                .split(['|', ',', ';'])
                .map(str::trim)
                .collect()
        });
        for ((column, name), readings) in columns.iter().zip(&mut readings) {
            if marked.contains(name) {
                builder.note("intervals with an interpolated reading are left missing".to_owned());
                continue;
            }
            if let Some(kwh) = row.number(*column, 1_000_000_000)? {
                cells += 1;
                if cells > CELLS_MAX {
                    let what = format!("more than {CELLS_MAX} readings: read fewer with --only");
                    return Err(row.wrong(what));
                }
                readings.push((start_s, kwh, row.line));
            }
        }
    }
    for ((_, name), readings) in columns.iter().zip(&readings) {
        let (series, quantity) = meaning(name);
        for pair in readings.windows(2) {
            let ((start_s, before, line), (end_s, after, _)) = (pair[0], pair[1]);
            if end_s - start_s != step_s {
                continue;
            }
            let moved = after.checked_sub(before).filter(|moved| *moved >= 0);
            if moved.is_none() {
                builder.note(format!(
                    "{name} falls after line {line}: that interval is missing"
                ));
            }
            builder.push(series, quantity, Measure::Energy, start_s, moved, line)?;
        }
    }
    Ok(())
}

/// `DE_KN_residential1_grid_import` is the import of `DE_KN_residential1`; what is no meter at the grid and no PV is consumption.
fn meaning(name: &str) -> (&str, Quantity) {
    for (end, quantity) in [
        ("_grid_import", Quantity::GridImport),
        ("_grid_export", Quantity::GridExport),
    ] {
        if let Some(series) = name.strip_suffix(end) {
            return (series, quantity);
        }
    }
    if name.split('_').any(|part| part.eq_ignore_ascii_case("pv")) {
        return (name, Quantity::Generation);
    }
    (name, Quantity::Consumption)
}
