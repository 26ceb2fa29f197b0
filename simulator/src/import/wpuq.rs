//! `WPuQ`: mean active power in W of a home or heat pump, from a table of its HDF5 files that was exported to CSV.
//!
//! The originals are HDF5; `pandas.read_hdf(file, "NO_PV/SFH3/HOUSEHOLD/table").to_csv("SFH3_HOUSEHOLD.csv", index=False)` makes
//! what is read here: `index` (seconds since 1970, or a stamp with an offset) and `P_TOT`. The file's name is the series;
//! homes with PV show what they feed in as negative power, so the column is a net one.

use super::builder::{Builder, Measure};
use super::rows::Rows;
use super::stamp::{instant_s, naive};
use super::{ImportError, Options, Quantity, Source, Table, stem};

pub(super) fn read(files: &[Source<'_>], options: &Options) -> Result<Table, ImportError> {
    let mut builder = Builder::new(options);
    for file in files {
        let series = stem(file.name);
        if !options.wants(series) {
            continue;
        }
        builder.file(file.name);
        let rows = Rows::open(*file, b',', 0)?;
        let time = rows.column(&["index"])?;
        let power = rows.column(&["P_TOT"])?;
        for row in rows {
            let row = row?;
            let text = row.cell(time);
            let local = || naive(text, &["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]);
            let start_s = instant_s(text)
                .or_else(|| instant_s(&text.replacen(' ', "T", 1)))
                .or_else(|| local().map(|time| time.and_utc().timestamp()))
                .ok_or_else(|| {
                    row.wrong(format!(
                        "{text:?} is neither seconds since 1970 nor a stamp"
                    ))
                })?;
            let watts = row.number(power, 1_000_000)?;
            let (quantity, measure) = (Quantity::Net, Measure::Power);
            builder.push(series, quantity, measure, start_s, watts, row.line)?;
        }
    }
    builder.finish(None)
}
