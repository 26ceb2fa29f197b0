//! Runs beside each other: figure by figure, with the difference to the first run, or, for runs of several
//! seeds, means with their confidence and differences of pairs of the same seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::RunError;
use super::kpis::Kpi;
use super::stats::Mean;
use super::summary::number;
use super::table::csv_text;

/// A run as far as it is compared.
#[derive(Clone, PartialEq, Debug)]
pub struct Side {
    /// What it is called.
    pub label: String,
    /// Its seed.
    pub seed: u64,
    /// Its figures.
    pub kpis: Vec<Kpi>,
}

/// A figure of all groups.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct Row {
    /// The figure.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// One for each group, in their order.
    pub groups: Vec<Cell>,
}

/// A figure of a group of runs.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize)]
pub struct Cell {
    /// Over the group's seeds; none where no run defines it.
    pub value: Option<Mean>,
    /// Less the first group's, seed by seed; none for the first group and where no seed is in both.
    pub difference: Option<Mean>,
}

/// Groups of runs beside each other.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct Comparison {
    /// What the groups are called.
    pub labels: Vec<String>,
    /// Figures.
    pub rows: Vec<Row>,
}

/// Compares groups of runs of equal labels, in the order in which labels first appear.
///
/// # Errors
/// Two runs have one label and one seed: which of them counts would be a guess.
pub fn compare(sides: &[Side]) -> Result<Comparison, RunError> {
    let mut labels: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    for side in sides {
        if !seen.insert((&side.label, side.seed)) {
            return Err(RunError::bad(format!(
                "two runs are called {} and have the seed {}: leave one of them out, or compare them by something else",
                side.label, side.seed
            )));
        }
        if !labels.contains(&side.label) {
            labels.push(side.label.clone());
        }
    }
    let mut names: Vec<(String, String)> = Vec::new();
    for kpi in sides.iter().flat_map(|side| &side.kpis) {
        if !names.iter().any(|(name, _)| *name == kpi.name) {
            names.push((kpi.name.clone(), kpi.unit.clone()));
        }
    }
    let rows = names.into_iter().map(|(name, unit)| Row {
        groups: cells(sides, &labels, &name),
        name,
        unit,
    });
    Ok(Comparison {
        rows: rows.collect(),
        labels,
    })
}

fn cells(sides: &[Side], labels: &[String], name: &str) -> Vec<Cell> {
    let by_seed = |label: &String| -> BTreeMap<u64, f64> {
        let own = sides.iter().filter(|side| side.label == *label);
        own.filter_map(|side| {
            let kpi = side.kpis.iter().find(|kpi| kpi.name == name)?;
            Some((side.seed, kpi.value?))
        })
        .collect()
    };
    let groups: Vec<BTreeMap<u64, f64>> = labels.iter().map(by_seed).collect();
    let cell = |(place, values): (usize, &BTreeMap<u64, f64>)| {
        let all: Vec<f64> = values.values().copied().collect();
        let pairs = values
            .iter()
            .filter_map(|(seed, value)| Some(value - groups[0].get(seed)?));
        let pairs: Vec<f64> = pairs.collect();
        Cell {
            value: Mean::of(&all),
            difference: if place == 0 { None } else { Mean::of(&pairs) },
        }
    };
    groups.iter().enumerate().map(cell).collect()
}

/// A mean with its confidence, as it is read.
fn words(mean: Option<Mean>) -> String {
    match mean {
        None => "–".to_owned(),
        Some(Mean { mean, ci95, .. }) => match ci95 {
            Some(half) => format!("{} ±{}", number(Some(mean)), number(Some(half))),
            None => number(Some(mean)),
        },
    }
}

impl Comparison {
    /// Only figures of these names, where any are named.
    #[must_use]
    pub fn only(mut self, names: &[&str]) -> Self {
        if !names.is_empty() {
            self.rows.retain(|row| names.contains(&row.name.as_str()));
        }
        self
    }

    /// For people. A star marks a difference whose 95 % interval leaves out zero.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut lines: Vec<Vec<String>> = Vec::new();
        let mut head = vec![String::new()];
        for (place, label) in self.labels.iter().enumerate() {
            head.push(label.clone());
            if place > 0 {
                head.push("difference".to_owned());
            }
        }
        head.push("unit".to_owned());
        lines.push(head);
        for row in &self.rows {
            let mut line = vec![row.name.clone()];
            for (place, cell) in row.groups.iter().enumerate() {
                line.push(words(cell.value));
                if place > 0 {
                    let star = cell.difference.is_some_and(|d| d.differs_from_zero());
                    line.push(words(cell.difference) + if star { " *" } else { "" });
                }
            }
            line.push(if row.unit == "1" {
                String::new()
            } else {
                row.unit.clone()
            });
            lines.push(line);
        }
        aligned(&lines)
    }

    /// For spreadsheets: one line for each figure and group.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text =
            String::from("name,group,runs,mean,ci95,difference,difference_ci95,pairs,unit\n");
        for row in &self.rows {
            for (label, cell) in self.labels.iter().zip(&row.groups) {
                let real = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
                let (value, difference) = (cell.value, cell.difference);
                let _ = writeln!(
                    text,
                    "{},{},{},{},{},{},{},{},{}",
                    row.name,
                    csv_text(label),
                    value.map_or(0, |m| m.count),
                    real(value.map(|m| m.mean)),
                    real(value.and_then(|m| m.ci95)),
                    real(difference.map(|m| m.mean)),
                    real(difference.and_then(|m| m.ci95)),
                    difference.map_or(0, |m| m.count),
                    row.unit
                );
            }
        }
        text
    }
}

/// Columns under each other, the first to the left, the others to the right.
#[must_use]
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for (column, cell) in line.iter().enumerate() {
            let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            if column == 0 || column + 1 == columns {
                shown.push_str(cell);
                shown.push_str(&pad);
            } else {
                shown.push_str(&pad);
                shown.push_str(cell);
            }
            shown.push_str("  ");
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(label: &str, seed: u64, value: f64) -> Side {
        Side {
            label: label.to_owned(),
            seed,
            kpis: vec![Kpi {
                name: "cost".to_owned(),
                value: Some(value),
                netting_only: None,
                no_market: None,
                unit: "token".to_owned(),
                definition: String::new(),
            }],
        }
    }

    #[test]
    fn differences_are_of_pairs_of_one_seed() {
        // Seeds differ by far more than the two groups do: only pairs show it.
        let values = [100.0, 250.0, 30.0, 470.0];
        let mut sides = Vec::new();
        for (seed, value) in (1..).zip(values) {
            sides.push(side("a", seed, value));
            sides.push(side("b", seed, value - 2.0));
        }
        sides.push(side("b", 99, 5000.0));
        let comparison = compare(&sides).unwrap();
        let cells = &comparison.rows[0].groups;
        let difference = cells[1].difference.unwrap();
        assert_eq!((difference.count, difference.mean), (4, -2.0));
        assert!(difference.differs_from_zero());
        assert!(cells[0].value.unwrap().ci95.unwrap() > 100.0);
        assert!(comparison.to_table().contains("*"));
        assert!(comparison.to_csv().contains("cost,b,5,"));
        assert!(comparison.only(&["other"]).rows.is_empty());
        sides.push(side("a", 2, 7.0));
        let twice = compare(&sides).unwrap_err().to_string();
        assert!(twice.contains("called a and have the seed 2"), "{twice}");
    }
}
