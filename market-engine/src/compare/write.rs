//! The comparison as a table for terminals, as JSON and as CSV.

use std::fmt::Write;

use serde::Serialize;

use super::{Comparison, Misreport, Row, SharingRow};
use crate::file::money;

/// One line of any form; what is absent stays empty.
#[derive(Serialize)]
struct Line {
    mechanism: &'static str,
    price_policy: &'static str,
    welfare: Option<String>,
    welfare_permille: Option<i128>,
    volume_wh: i64,
    price: Option<String>,
    buyers_surplus: String,
    sellers_surplus: String,
    community_surplus: String,
    gini_permille: Option<i128>,
    misreport_gain: Option<String>,
    misreport_could_gain: Option<usize>,
    misreport_sampled: Option<usize>,
}

impl Line {
    fn of(row: &Row, welfare_max: i128) -> Self {
        let lie = |value: fn(&Misreport) -> usize| row.misreport.as_ref().map(value);
        Line {
            mechanism: row.mechanism.name(),
            price_policy: row.mechanism.price_policy_name(),
            welfare: Some(money(row.welfare)),
            welfare_permille: (row.welfare * 1000).checked_div(welfare_max),
            volume_wh: row.volume_wh,
            price: row.price.map(|price| price.to_string()),
            buyers_surplus: money(row.buyers),
            sellers_surplus: money(row.sellers),
            community_surplus: money(row.community),
            gini_permille: row.gini_permille,
            misreport_gain: row.misreport.map(|lie| money(lie.best)),
            misreport_could_gain: lie(|lie| lie.could_gain),
            misreport_sampled: lie(|lie| lie.sampled),
        }
    }

    fn of_sharing(row: &SharingRow) -> Self {
        Line {
            mechanism: row.rule.name(),
            price_policy: "utility-tariff",
            welfare: None,
            welfare_permille: None,
            volume_wh: row.volume_wh,
            price: None,
            buyers_surplus: money(row.buyers),
            sellers_surplus: money(row.sellers),
            community_surplus: money(0),
            gini_permille: row.gini_permille,
            misreport_gain: None,
            misreport_could_gain: None,
            misreport_sampled: None,
        }
    }

    fn cells(&self) -> [String; 10] {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let permille = |value: Option<i128>| {
            value.map_or("-".to_owned(), |v| format!("{}.{:03}", v / 1000, v % 1000))
        };
        let percent = |v: i128| format!("{}.{} %", v / 10, v % 10);
        let gain = self.misreport_could_gain.zip(self.misreport_sampled);
        [
            format!("{} {}", self.mechanism, self.price_policy),
            or_dash(&self.welfare.as_deref().map(short)),
            self.welfare_permille.map_or("-".to_owned(), percent),
            self.volume_wh.to_string(),
            or_dash(&self.price),
            short(&self.buyers_surplus),
            short(&self.sellers_surplus),
            short(&self.community_surplus),
            permille(self.gini_permille),
            match (&self.misreport_gain, gain) {
                (Some(best), Some((could, sampled))) => {
                    format!("{} ({could}/{sampled})", short(best))
                }
                _ => "-".to_owned(),
            },
        ]
    }
}

/// Six decimals are enough at a terminal.
fn short(money: &str) -> String {
    let (whole, part) = money.split_once('.').unwrap_or((money, ""));
    format!("{whole}.{}", part.get(..6).unwrap_or(part))
}

const HEADINGS: [&str; 10] = [
    "mechanism",
    "welfare",
    "of most",
    "volume Wh",
    "price",
    "buyers",
    "sellers",
    "community",
    "Gini",
    "gain by misreporting",
];

impl Comparison {
    fn lines(&self) -> Vec<Line> {
        let rows = self.rows.iter().map(|row| Line::of(row, self.welfare_max));
        rows.chain(self.sharing.iter().map(Line::of_sharing))
            .collect()
    }

    /// A table, its columns as wide as they have to be.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut cells = vec![HEADINGS.map(str::to_owned)];
        cells.extend(self.lines().iter().map(Line::cells));
        let width = |column: usize| cells.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<usize> = (0..HEADINGS.len()).map(|c| width(c).unwrap_or(0)).collect();
        let mut text = String::new();
        for line in &cells {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                // Writing to memory cannot fail.
                let _ = match column {
                    0 => write!(text, "{cell:<width$}"),
                    _ => write!(text, "  {cell:>width$}"),
                };
            }
            text.push('\n');
        }
        text.push_str(
            "\nmoney in tokens; gain by misreporting: the most that one of the sampled participants could \
             win with another limit (how many could / were sampled)\n",
        );
        if !self.sharing.is_empty() {
            text.push_str(
                "sharing rules look at no limits: their surplus is against the utility alone\n",
            );
        }
        text
    }

    /// One JSON array, a member for each line.
    ///
    /// # Errors
    /// Never in practice: text and integers can always be written.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string_pretty(&self.lines())?;
        text.push('\n');
        Ok(text)
    }

    /// CSV with a header.
    ///
    /// # Errors
    /// Never in practice: memory can always be written to.
    pub fn to_csv(&self) -> Result<String, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for line in self.lines() {
            writer.serialize(line)?;
        }
        let bytes = writer.into_inner().map_err(|e| e.into_error())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
