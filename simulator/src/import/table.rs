//! The one table that all adapters read to, and how it is written.

use std::io::{self, Write};

use super::stamp::shown;

/// What a column counts. Every one is positive in the direction of its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Quantity {
    /// Used in the home, whatever its source.
    Consumption,
    /// Made by panels or another plant.
    Generation,
    /// Drawn from the grid, as the meter counts it.
    GridImport,
    /// Fed into the grid, as the meter counts it.
    GridExport,
    /// Drawn from the grid less what was fed in; may be negative.
    Net,
    /// A price.
    Price,
}

impl Quantity {
    /// The end of the column's name, with the unit.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Quantity::Consumption => "consumption_wh",
            Quantity::Generation => "generation_wh",
            Quantity::GridImport => "grid_import_wh",
            Quantity::GridExport => "grid_export_wh",
            Quantity::Net => "net_wh",
            Quantity::Price => "price_micro_per_kwh",
        }
    }

    /// The unit of its whole numbers.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Quantity::Price => "micro-unit of currency per kWh",
            _ => "Wh in the interval",
        }
    }

    /// What positive numbers mean.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Quantity::Consumption => "positive = consumption",
            Quantity::Generation => "positive = generation",
            Quantity::GridImport => "positive = drawn from the grid",
            Quantity::GridExport => "positive = fed into the grid",
            Quantity::Net => "positive = drawn from the grid, negative = fed in",
            Quantity::Price => "positive = the buyer pays",
        }
    }
}

/// One series on the table's intervals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// Which home, building, plant or country it is of.
    pub series: String,
    /// What it counts.
    pub quantity: Quantity,
    /// One value for each interval; `None` where the file has none.
    pub values: Vec<Option<i64>>,
}

impl Column {
    /// The column's name in files.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}_{}", self.series, self.quantity.suffix())
    }

    /// Intervals without a value.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.values.iter().filter(|value| value.is_none()).count()
    }
}

/// Series on one grid of intervals that follow each other without a hole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Start of the first interval, in seconds of UTC.
    pub start_s: i64,
    /// Length of every interval.
    pub interval_s: u32,
    /// Number of intervals.
    pub intervals: usize,
    /// The series, by name.
    pub columns: Vec<Column>,
    /// What the reader left out or took otherwise than it stood there.
    pub notes: Vec<String>,
}

impl Table {
    /// Starts of the intervals.
    pub fn starts(&self) -> impl Iterator<Item = i64> + '_ {
        let step = i64::from(self.interval_s);
        (0_i64..)
            .map(move |k| self.start_s + k * step)
            .take(self.intervals)
    }

    /// Writes a header and a line for each interval; what is missing is empty.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_csv(&self, into: &mut dyn Write) -> io::Result<()> {
        write!(into, "start_utc")?;
        for column in &self.columns {
            write!(into, ",{}", quoted(&column.name()))?;
        }
        writeln!(into)?;
        for (at, start_s) in self.starts().enumerate() {
            write!(into, "{}", shown(start_s))?;
            for column in &self.columns {
                match column.values.get(at).copied().flatten() {
                    Some(value) => write!(into, ",{value}")?,
                    None => write!(into, ",")?,
                }
            }
            writeln!(into)?;
        }
        Ok(())
    }

    /// Writes the same as Parquet: `start_unix_s` and a column of whole numbers for each series, null where it is missing.
    ///
    /// # Errors
    /// The writer's, or a name that is there twice.
    #[cfg(feature = "tables")]
    pub fn write_parquet(&self, into: &mut dyn Write) -> Result<(), polars::prelude::PolarsError> {
        use polars::prelude::{Column as Series, DataFrame, ParquetWriter};
        let starts: Vec<i64> = self.starts().collect();
        let mut columns = vec![Series::new("start_unix_s".into(), starts)];
        for column in &self.columns {
            columns.push(Series::new(column.name().into(), &column.values));
        }
        let mut frame = DataFrame::new(self.intervals, columns)?;
        ParquetWriter::new(into).finish(&mut frame).map(drop)
    }
}

/// A name as a cell of CSV.
pub(crate) fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}
