//! Puts values that come in any order on one grid of intervals.

use std::collections::BTreeMap;

use super::stamp::shown;
use super::table::{Column, Quantity, Table};
use super::{CELLS_MAX, ImportError, Options};

/// Millionths in a whole.
const MICRO: i64 = 1_000_000;

/// A value of a file. Energies are in µWh, mean powers in µW, prices in micro-units per kWh.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start_s: i64,
    value: Option<i64>,
    file: u32,
    line: u32,
}

/// What a series' numbers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// Energy of the interval.
    Energy,
    /// Mean power of the interval, which becomes energy once its length is known.
    Power,
    /// A price, which is kept as it is.
    Price,
}

/// Collects the values of all files.
#[derive(Debug, Default)]
pub struct Builder {
    files: Vec<String>,
    series: BTreeMap<(String, Quantity), (Measure, Vec<Entry>)>,
    cells: usize,
    notes: Vec<String>,
    drop_repeats: bool,
}

impl Builder {
    /// A builder that does as the options say.
    #[must_use]
    pub fn new(options: &Options) -> Builder {
        Builder {
            drop_repeats: options.drop_repeats,
            ..Builder::default()
        }
    }

    /// The lines that follow are of this file.
    pub fn file(&mut self, name: &str) {
        self.files.push(name.to_owned());
    }

    /// Says something that a reader of the table should know.
    pub fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// A value, or that there is none, of the interval that starts here.
    ///
    /// # Errors
    /// There are more values than are read.
    pub fn push(
        &mut self,
        series: &str,
        quantity: Quantity,
        measure: Measure,
        start_s: i64,
        value: Option<i64>,
        line: u64,
    ) -> Result<(), ImportError> {
        self.cells += 1;
        if self.cells > CELLS_MAX {
            let what = format!("more than {CELLS_MAX} values: read fewer series with --only");
            return Err(ImportError::Options(what));
        }
        let entry = Entry {
            start_s,
            value,
            file: u32::try_from(self.files.len()).unwrap_or(u32::MAX),
            line: u32::try_from(line).unwrap_or(u32::MAX),
        };
        let key = (series.to_owned(), quantity);
        let (_, entries) = self.series.entry(key).or_insert((measure, Vec::new()));
        entries.push(entry);
        Ok(())
    }

    fn at(&self, entry: &Entry, what: String) -> ImportError {
        let place = usize::try_from(entry.file).unwrap_or(0).saturating_sub(1);
        let file = self.files.get(place).map_or("", String::as_str);
        ImportError::line(file, u64::from(entry.line), what)
    }

    /// The table, with intervals of this length, or of the smallest step between two stamps.
    ///
    /// # Errors
    /// An instant is there twice, stamps do not lie on the grid, or there is nothing.
    pub fn finish(mut self, interval_s: Option<u32>) -> Result<Table, ImportError> {
        for (_, entries) in self.series.values_mut() {
            entries.sort_by_key(|entry| entry.start_s);
        }
        if self.drop_repeats {
            self.drop_repeats();
        }
        self.refuse_twice()?;
        let step = match interval_s {
            Some(step) => i64::from(step),
            None => self.smallest_step()?,
        };
        let all = || self.series.values().flat_map(|(_, entries)| entries);
        let first = all().map(|entry| entry.start_s).min();
        let last = all().map(|entry| entry.start_s).max();
        let (Some(first), Some(last)) = (first, last) else {
            return Err(ImportError::Options(
                "there is no value in these files (and of --only, if it is named)".to_owned(),
            ));
        };
        if let Some(off) = all().find(|entry| entry.start_s.rem_euclid(step) != 0) {
            let at = shown(off.start_s);
            let what = format!("the interval that starts at {at} is not on a grid of {step} s");
            return Err(self.at(off, what));
        }
        let intervals = usize::try_from((last - first) / step + 1).unwrap_or(usize::MAX);
        if intervals.saturating_mul(self.series.len()) > CELLS_MAX {
            let what = format!(
                "{intervals} intervals of {} series are more than {CELLS_MAX} values: read fewer with --only",
                self.series.len()
            );
            return Err(ImportError::Options(what));
        }
        let mut columns = Vec::with_capacity(self.series.len());
        for ((series, quantity), (measure, entries)) in &self.series {
            let mut values = vec![None; intervals];
            self.fill(*measure, entries, (first, step), &mut values)?;
            columns.push(Column {
                series: series.clone(),
                quantity: *quantity,
                values,
            });
        }
        Ok(Table {
            start_s: first,
            interval_s: u32::try_from(step).unwrap_or(u32::MAX),
            intervals,
            columns,
            notes: self.notes,
        })
    }

    /// Takes rows once that say the same twice.
    fn drop_repeats(&mut self) {
        let mut dropped = 0;
        for (_, entries) in self.series.values_mut() {
            let before = entries.len();
            entries.dedup_by_key(|entry| (entry.start_s, entry.value));
            dropped += before - entries.len();
        }
        if dropped > 0 {
            self.note(format!(
                "{dropped} values that were there twice were taken once"
            ));
        }
    }

    fn refuse_twice(&self) -> Result<(), ImportError> {
        for ((series, quantity), (_, entries)) in &self.series {
            let twice = |pair: &&[Entry]| pair[0].start_s == pair[1].start_s;
            if let Some([one, other]) = entries.windows(2).find(twice) {
                let (early, late) = if (one.file, one.line) <= (other.file, other.line) {
                    (one, other)
                } else {
                    (other, one)
                };
                let column = format!("{series}_{}", quantity.suffix());
                let at = shown(one.start_s);
                let before = self.at(early, String::new()).to_string();
                let before = before.trim_end_matches(": ");
                let what = format!("{column} of {at} is there twice: it was in {before} already");
                return Err(self.at(late, what));
            }
        }
        Ok(())
    }

    fn smallest_step(&self) -> Result<i64, ImportError> {
        let steps = self.series.values().flat_map(|(_, entries)| {
            let step = |pair: &[Entry]| pair[1].start_s - pair[0].start_s;
            entries.windows(2).map(step)
        });
        let step = steps.min().ok_or_else(|| {
            let what = "one stamp of each series is not enough to tell how long an interval is";
            ImportError::Options(what.to_owned())
        })?;
        if 3600 % step == 0 {
            return Ok(step);
        }
        let of = |pair: &&[Entry]| pair[1].start_s - pair[0].start_s == step;
        let mut lists = self.series.values();
        let odd = lists.find_map(|(_, entries)| entries.windows(2).find(of).map(|pair| pair[1]));
        let what = format!("{step} s after the stamp before it, which does not divide an hour");
        Err(match odd {
            Some(entry) => self.at(&entry, what),
            None => ImportError::Options(what),
        })
    }

    fn fill(
        &self,
        measure: Measure,
        entries: &[Entry],
        (first, step): (i64, i64),
        values: &mut [Option<i64>],
    ) -> Result<(), ImportError> {
        let (mut register, mut shown_before) = (0_i128, 0_i128);
        for entry in entries {
            let Some(value) = entry.value else {
                continue;
            };
            let whole = match measure {
                Measure::Price => value,
                Measure::Energy | Measure::Power => {
                    register += match measure {
                        Measure::Power => i128::from(value) * i128::from(step) / 3600,
                        _ => i128::from(value),
                    };
                    let now = (register + i128::from(MICRO / 2)).div_euclid(i128::from(MICRO));
                    let moved = i64::try_from(now - shown_before)
                        .map_err(|_| self.at(entry, "more energy than a meter has".to_owned()))?;
                    shown_before = now;
                    moved
                }
            };
            let place = usize::try_from((entry.start_s - first) / step).unwrap_or(usize::MAX);
            if let Some(cell) = values.get_mut(place) {
                *cell = Some(whole);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(builder: &mut Builder, start_s: i64, micro: Option<i64>, line: u64) {
        let quantity = Quantity::Consumption;
        builder
            .push("home", quantity, Measure::Energy, start_s, micro, line)
            .unwrap();
    }

    #[test]
    fn rounding_carries_over_and_gaps_stay_gaps() {
        let mut builder = Builder::default();
        builder.file("a.csv");
        for (k, micro) in [
            (0, Some(400_000)),
            (1, Some(400_000)),
            (3, Some(400_000)),
            (4, None),
        ] {
            push(&mut builder, k * 900, micro, 2);
        }
        let table = builder.finish(None).unwrap();
        assert_eq!((table.interval_s, table.intervals), (900, 5));
        let values = &table.columns[0].values;
        assert_eq!(values, &[Some(0), Some(1), None, Some(0), None]);
        assert_eq!(table.columns[0].missing(), 2);
    }

    #[test]
    fn an_instant_that_is_there_twice_is_refused_with_both_lines() {
        let mut builder = Builder::default();
        builder.file("a.csv");
        push(&mut builder, 900, Some(1), 7);
        push(&mut builder, 1800, Some(1), 8);
        builder.file("b.csv");
        push(&mut builder, 900, Some(1), 3);
        let said = builder.finish(None).unwrap_err().to_string();
        assert_eq!(
            said,
            "b.csv, line 3: home_consumption_wh of 1970-01-01T00:15:00Z is there twice: it was in a.csv, line 7 already"
        );
    }

    #[test]
    fn stamps_beside_the_grid_are_refused() {
        let mut builder = Builder::default();
        builder.file("a.csv");
        push(&mut builder, 0, Some(1), 1);
        push(&mut builder, 1000, Some(1), 2);
        let said = builder.finish(None).unwrap_err().to_string();
        assert!(said.contains("line 2: 1000 s after"), "{said}");
        let mut builder = Builder::default();
        builder.file("a.csv");
        push(&mut builder, 60, Some(1), 1);
        let said = builder.finish(Some(900)).unwrap_err().to_string();
        assert!(said.contains("not on a grid of 900 s"), "{said}");
        let nothing = Builder::default()
            .finish(Some(900))
            .unwrap_err()
            .to_string();
        assert!(nothing.contains("no value"), "{nothing}");
    }

    #[test]
    fn power_becomes_energy_once_the_interval_is_known() {
        let mut builder = Builder::default();
        builder.file("a.csv");
        for k in 0..4 {
            let value = Some(123_400_000);
            builder
                .push("home", Quantity::Net, Measure::Power, k * 900, value, 1)
                .unwrap();
        }
        let table = builder.finish(None).unwrap();
        assert_eq!(
            table.columns[0].values,
            [Some(31), Some(31), Some(31), Some(30)]
        );
    }
}
