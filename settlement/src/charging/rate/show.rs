//! A bill as JSON, CSV, or a table for people.

use std::fmt::Write;

use chrono_tz::Tz;
use domain::money::Money;
use domain::time::Timestamp;
use serde_json::{Value, json};

use super::{Bill, Line, What};
use crate::charging::record::Record;
use crate::charging::tariff::Dimension;
use crate::charging::{NANO, decimal};

impl What {
    /// The word on a bill.
    #[must_use]
    pub fn word(self) -> String {
        match self {
            What::Charge(dimension) => dimension.word().to_owned(),
            What::Reservation(dimension) => format!("RESERVATION {}", dimension.word()),
            What::MinPrice => "MIN_PRICE".to_owned(),
            What::MaxPrice => "MAX_PRICE".to_owned(),
        }
    }
}

impl Line {
    /// The amount with tax.
    #[must_use]
    pub fn total(&self) -> Money {
        let total = self.before_tax.nano().saturating_add(self.tax.nano());
        Money::from_nano(total)
    }

    /// The unit of its quantities.
    fn unit(&self) -> &'static str {
        match self.component.map(|c| c.dimension) {
            Some(Dimension::Energy) => "kWh",
            Some(Dimension::Time | Dimension::ParkingTime) => "s",
            Some(Dimension::Flat) | None => "",
        }
    }

    fn shown(&self, quantity: i128) -> String {
        match self.component.map(|c| c.dimension) {
            Some(Dimension::Flat) | None => quantity.to_string(),
            Some(_) => decimal(quantity, 0),
        }
    }

    /// Cells without their names: what, from, to, used, billed, unit, price, tax in percent, before tax, tax, total.
    fn cells(&self, local: Option<Tz>) -> [String; 11] {
        let time = |at: Timestamp| match (local, at.to_chrono()) {
            (Some(zone), Some(utc)) => utc.with_timezone(&zone).format("%d %H:%M:%S").to_string(),
            _ => at.to_string(),
        };
        let price = self.component.map(|c| money(c.price));
        let tax = self.component.and_then(|c| c.tax_ppm);
        let tax = tax.map(|ppm| decimal(i128::from(ppm) * (NANO / 10_000), 0));
        [
            self.what.word(),
            time(self.from),
            time(self.to),
            self.shown(self.used),
            self.shown(self.billed),
            self.unit().to_owned(),
            price.unwrap_or_default(),
            tax.unwrap_or_default(),
            money(self.before_tax),
            money(self.tax),
            money(self.total()),
        ]
    }
}

const NAMES: [&str; 11] = [
    "what",
    "from",
    "to",
    "used",
    "billed",
    "unit",
    "price",
    "tax_percent",
    "before_tax",
    "tax",
    "total",
];

impl Bill {
    /// The bill for programs; money and quantities as decimal texts.
    #[must_use]
    pub fn to_json(&self, record: &Record) -> Value {
        let lines = self.lines.iter().map(|line| {
            let cells = NAMES.into_iter().zip(line.cells(None));
            let told = cells.filter(|(_, cell)| !cell.is_empty());
            Value::Object(
                told.map(|(name, cell)| (name.to_owned(), Value::String(cell)))
                    .collect(),
            )
        });
        let mut shown = json!({
            "tariff": self.tariff,
            "currency": self.currency,
            "lines": lines.collect::<Vec<_>>(),
            "before_tax": money(self.before_tax),
            "tax": money(self.tax),
            "total": money(self.total),
            "energy_kwh": decimal(self.energy, 0),
            "charging_s": decimal(self.time_ns, 0),
            "parking_s": decimal(self.parking_ns, 0),
            "notes": self.notes,
        });
        if let Some((before_tax, total)) = record.claimed {
            shown["record"] = json!({
                "before_tax": money(before_tax),
                "total": total.map(money),
                "agrees": self.agrees(record),
            });
        }
        shown
    }

    /// Whether the record's own total is this one, to the four decimals of OCPI; none where it says none.
    #[must_use]
    pub fn agrees(&self, record: &Record) -> Option<bool> {
        let (before_tax, total) = record.claimed?;
        let near = |a: Money, b: Money| (a.nano() - b.nano()).abs() <= 50_000;
        Some(near(before_tax, self.before_tax) && total.is_none_or(|t| near(t, self.total)))
    }

    /// The lines for spreadsheets.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut out = NAMES.join(",") + "\n";
        for line in &self.lines {
            out += &(line.cells(None).join(",") + "\n");
        }
        let [before_tax, tax, total] = [self.before_tax, self.tax, self.total].map(money);
        // Writing to a text cannot fail.
        let _ = writeln!(out, "TOTAL,,,,,,,,{before_tax},{tax},{total}");
        out
    }

    /// The bill for people, with times in `zone`.
    #[must_use]
    pub fn to_table(&self, record: &Record, zone: Tz) -> String {
        let head = [
            "what",
            "from",
            "to",
            "used",
            "billed",
            "unit",
            "price",
            "tax %",
            "before tax",
            "tax",
            "total",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.lines.iter().map(|line| line.cells(Some(zone))));
        let mut sum: [String; 11] = Default::default();
        let amounts = [self.before_tax, self.tax, self.total].map(money);
        sum[0] = format!("total {}", self.currency);
        sum[8..].clone_from_slice(&amounts);
        rows.push(sum);
        let width = |column: usize| {
            rows.iter()
                .map(|r| r[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let mut out = String::new();
        for row in &rows {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(column, (cell, width))| match column {
                0 | 5 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            out += cells.collect::<Vec<_>>().join("  ").trim_end();
            out.push('\n');
        }
        for note in &self.notes {
            out += &format!("note: {note}\n");
        }
        if let (Some((before_tax, total)), Some(agrees)) = (record.claimed, self.agrees(record)) {
            let word = if agrees { "agrees" } else { "does not agree" };
            let total = total.map_or(String::new(), |t| format!(", {} with taxes", money(t)));
            let before_tax = money(before_tax);
            out += &format!("the record's own total {word}: {before_tax} before taxes{total}\n");
        }
        out
    }
}

/// Money with as many decimals as it has, two at least.
pub(in crate::charging) fn money(amount: Money) -> String {
    decimal(i128::from(amount.nano()), 2)
}
