//! Trades and readings from CSV or JSON text.

use std::collections::BTreeMap;

use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::Price;
use serde_json::value::RawValue;

use super::{ReadingRow, Readings, TradeRow};

/// Most rows of a file.
pub const ROWS_MAX: usize = 1_000_000;

/// What is wrong with a file, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FileError {
    /// Neither CSV nor JSON.
    #[error("{0}")]
    Form(String),
    /// A column is missing.
    #[error("there is no column `{column}`; expected {expected}")]
    Column {
        /// Which one.
        column: &'static str,
        /// All of them.
        expected: &'static str,
    },
    /// A value is wrong.
    #[error("row {row}, column `{column}`: {message}")]
    Value {
        /// Counted from one, without the header.
        row: usize,
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Too many rows.
    #[error("more than {ROWS_MAX} rows")]
    TooMany,
}

/// A file's rows: the texts by column.
struct Table {
    rows: Vec<BTreeMap<String, String>>,
    columns: Vec<String>,
}

impl Table {
    fn read(text: &str) -> Result<Self, FileError> {
        let table = if text.trim_start().starts_with('[') {
            Table::json(text)?
        } else {
            Table::csv(text)?
        };
        if table.rows.len() > ROWS_MAX {
            return Err(FileError::TooMany);
        }
        Ok(table)
    }

    fn csv(text: &str) -> Result<Self, FileError> {
        let form = |e: csv::Error| FileError::Form(format!("not CSV with a header line: {e}"));
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let columns: Vec<String> = reader
            .headers()
            .map_err(form)?
            .iter()
            .map(str::to_owned)
            .collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(form)?;
            let values = record.iter().map(str::to_owned);
            rows.push(columns.iter().cloned().zip(values).collect());
        }
        Ok(Table { rows, columns })
    }

    /// An array of objects. Numbers are taken by their digits, never through a float.
    fn json(text: &str) -> Result<Self, FileError> {
        let form = |e: serde_json::Error| FileError::Form(format!("not an array of objects: {e}"));
        let objects: Vec<BTreeMap<String, Box<RawValue>>> =
            serde_json::from_str(text).map_err(form)?;
        let value = |raw: &RawValue| -> Result<String, FileError> {
            match raw.get() {
                "null" => Ok(String::new()),
                text if text.starts_with('"') => serde_json::from_str(text).map_err(form),
                text => Ok(text.to_owned()),
            }
        };
        let mut columns: Vec<String> = objects.iter().flat_map(|o| o.keys().cloned()).collect();
        columns.sort();
        columns.dedup();
        let row = |object: &BTreeMap<String, Box<RawValue>>| {
            let pairs = object.iter().map(|(k, v)| Ok((k.clone(), value(v)?)));
            pairs.collect::<Result<BTreeMap<_, _>, FileError>>()
        };
        let rows = objects.iter().map(row).collect::<Result<_, _>>()?;
        Ok(Table { rows, columns })
    }

    fn needs(&self, columns: &[&'static str], expected: &'static str) -> Result<(), FileError> {
        if self.rows.is_empty() && self.columns.is_empty() {
            // An empty array of JSON has no columns to be missing.
            return Ok(());
        }
        let missing = |column: &&&'static str| !self.columns.iter().any(|c| c == *column);
        match columns.iter().find(missing) {
            Some(column) => Err(FileError::Column { column, expected }),
            None => Ok(()),
        }
    }
}

/// One row, with its number for errors.
struct Row<'a> {
    number: usize,
    values: &'a BTreeMap<String, String>,
}

impl Row<'_> {
    fn text(&self, column: &'static str) -> &str {
        self.values.get(column).map_or("", String::as_str)
    }

    fn parse<T, E: std::fmt::Display>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, FileError> {
        parse(self.text(column)).map_err(|error| FileError::Value {
            row: self.number,
            column,
            message: error.to_string(),
        })
    }

    fn participant(&self, column: &'static str) -> Result<ParticipantId, FileError> {
        self.parse(column, |text| ParticipantId::new(text))
    }

    fn energy(&self, column: &'static str) -> Result<Energy, FileError> {
        let wh = |text: &str| match text.parse::<i64>() {
            Ok(wh) if wh >= 0 => Ok(Energy::from_wh(wh)),
            _ => Err(format!("`{text}` is no whole number of Wh from 0 on")),
        };
        self.parse(column, wh)
    }

    fn price(&self, column: &'static str) -> Result<Price, FileError> {
        self.parse(column, str::parse::<Price>)
    }
}

const TRADES: &str = "buyer,seller,energy_wh,price and, if you like, network_fee";
const READINGS: &str = "participant,imported_wh,exported_wh and, if you like, role, used_wh";

/// Trades from text: `buyer,seller,energy_wh,price`, and `network_fee` where a trade has its own.
///
/// # Errors
/// Says the row and the column.
pub fn trades(text: &str) -> Result<Vec<TradeRow>, FileError> {
    let table = Table::read(text)?;
    table.needs(&["buyer", "seller", "energy_wh", "price"], TRADES)?;
    let row = |(index, values): (usize, &BTreeMap<String, String>)| {
        let row = Row {
            number: index + 1,
            values,
        };
        let (buyer, seller) = (row.participant("buyer")?, row.participant("seller")?);
        if buyer == seller {
            let differ = |_: &str| Err::<(), _>("a participant does not trade with itself");
            row.parse("seller", differ)?;
        }
        let energy = row.energy("energy_wh")?;
        if energy == Energy::ZERO {
            let more = |_: &str| Err::<(), _>("a trade moves more than 0 Wh");
            row.parse("energy_wh", more)?;
        }
        let own_fee = !row.text("network_fee").is_empty();
        let network_fee = own_fee.then(|| row.price("network_fee")).transpose()?;
        if network_fee.is_some_and(|fee| fee < Price::ZERO) {
            let below = |_: &str| Err::<(), _>("a fee is not below zero");
            row.parse("network_fee", below)?;
        }
        Ok(TradeRow {
            buyer,
            seller,
            energy,
            price: row.price("price")?,
            network_fee,
        })
    };
    table.rows.iter().enumerate().map(row).collect()
}

/// Readings from text: `participant,imported_wh,exported_wh`. A row whose `role` is `feeder` is the feeder's meter;
/// both flows empty means that the meter did not speak.
///
/// # Errors
/// Says the row and the column.
pub fn readings(text: &str) -> Result<Readings, FileError> {
    let table = Table::read(text)?;
    table.needs(&["participant", "imported_wh", "exported_wh"], READINGS)?;
    let mut readings = Readings::default();
    for (index, values) in table.rows.iter().enumerate() {
        let row = Row {
            number: index + 1,
            values,
        };
        let silent = row.text("imported_wh").is_empty() && row.text("exported_wh").is_empty();
        let flows = match silent {
            true => None,
            false => Some((row.energy("imported_wh")?, row.energy("exported_wh")?)),
        };
        let is_feeder = |text: &str| match text {
            "" | "connection" => Ok(false),
            "feeder" => Ok(true),
            other => Err(format!("`{other}` is neither connection nor feeder")),
        };
        if row.parse("role", is_feeder)? {
            if readings.feeder.is_some() {
                row.parse("role", |_| Err::<(), _>("there are two feeders"))?;
            }
            readings.feeder = flows;
            continue;
        }
        let used = match row.text("used_wh") {
            "" => Energy::ZERO,
            _ => row.energy("used_wh")?,
        };
        readings.participants.push(ReadingRow {
            participant: row.participant("participant")?,
            flows,
            used,
        });
    }
    Ok(readings)
}
