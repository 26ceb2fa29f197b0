//! Files of data that a scenario names: series of energies for households and panels, and charging sessions. A
//! scenario that was read holds their text and its SHA-256, so the run's id stands for these very bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use domain::ids::{Digest32, to_hex};
use serde::{Deserialize, Serialize};

use super::RunError;
use super::calendar::Moment;
use crate::import::Source;
use crate::import::decimal::times;
use crate::import::rows::{Rows, is_missing};
use crate::import::stamp::{instant_s, shown};
use crate::model::ev::{Session, sessions};

/// µWh in a watt-hour.
pub(super) const MICRO: i64 = 1_000_000;
/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// A series of a file: what a home used, or what its panels gave.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesSource {
    /// A CSV file beside the scenario, as `commonwatt datasets import` writes it: `start_utc` and columns of energies
    /// whose names end in `_wh` or `_kwh`.
    pub file: String,
    /// The column; where absent, `number` says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Which of the columns of its kind, from 1; after the last one comes the first again.
    #[serde(default = "first")]
    pub number: u32,
    /// What the file's energies are multiplied by.
    #[serde(default = "whole")]
    pub scale: f64,
    /// Days that are added to the file's stamps; multiples of 7 keep weekdays.
    #[serde(default)]
    pub shift_days: i64,
    /// Whether the file begins again where it ends, for which it must hold whole days.
    #[serde(default)]
    pub repeat: bool,
}

/// Charging sessions of a file.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SessionsSource {
    /// A CSV file beside the scenario: what `commonwatt datasets import --from acn` writes, or columns `arrival`, `departure`
    /// and `kwh`.
    pub file: String,
    /// The charging point, as the file's column `station` names it; where absent, `number` says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub station: Option<String>,
    /// Which of the file's points, from 1; after the last one comes the first again.
    #[serde(default = "first")]
    pub number: u32,
    /// What stamps without an offset are ahead of UTC.
    #[serde(default)]
    pub utc_offset_minutes: i64,
    /// Days that are added to the file's stamps; multiples of 7 keep weekdays.
    #[serde(default)]
    pub shift_days: i64,
    /// Whether the file begins again where it ends, in whole weeks.
    #[serde(default)]
    pub repeat: bool,
}

fn shift_in_range(days: i64) -> Result<(), (&'static str, &'static str)> {
    if days.abs() <= 100_000 {
        Ok(())
    } else {
        Err(("shift_days", "-100000 to 100000"))
    }
}

fn first() -> u32 {
    1
}

fn whole() -> f64 {
    1.0
}

impl SeriesSource {
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.number == 0 {
            return Err(("number", "counted from 1"));
        }
        if !(0.0..=1000.0).contains(&self.scale) {
            return Err(("scale", "0 to 1000"));
        }
        shift_in_range(self.shift_days)
    }
}

impl SessionsSource {
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.number == 0 {
            return Err(("number", "counted from 1"));
        }
        if self.utc_offset_minutes.abs() > 1440 {
            return Err(("utc_offset_minutes", "-1440 to 1440"));
        }
        shift_in_range(self.shift_days)
    }
}

/// The files of a scenario, by name: their SHA-256 in the file of the scenario, and their text beside it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct DataFiles {
    sha256: BTreeMap<String, String>,
    #[serde(skip)]
    texts: BTreeMap<String, Arc<String>>,
}

impl DataFiles {
    /// Whether the scenario names none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sha256.is_empty()
    }

    /// Takes a file's text. Where the scenario names its SHA-256 already, it must be that.
    ///
    /// # Errors
    /// It is another file.
    pub(super) fn take(&mut self, name: &str, text: String) -> Result<(), RunError> {
        let found = to_hex(&Digest32::of(text.as_bytes()).0);
        if let Some(named) = self.sha256.get(name).filter(|named| **named != found) {
            return Err(RunError::bad(format!(
                "{name}: its SHA-256 is {found}, and [data] names {named}"
            )));
        }
        self.sha256.insert(name.to_owned(), found);
        self.texts.insert(name.to_owned(), Arc::new(text));
        Ok(())
    }

    /// Reads these files, which lie in `place`, and leaves out what the scenario does not name.
    pub(super) fn read(&mut self, names: &[&str], place: &Path) -> Result<(), RunError> {
        self.sha256.retain(|name, _| names.contains(&name.as_str()));
        for name in names {
            if !self.texts.contains_key(*name) {
                let text = RunError::read(&place.join(name));
                self.take(name, text.map_err(|e| RunError::bad(e.to_string()))?)?;
            }
        }
        Ok(())
    }

    /// Takes the texts of a run folder, where each file is called after its hash.
    pub(super) fn read_kept(&mut self, folder: &Path) -> Result<(), RunError> {
        for (name, sha256) in self.sha256.clone() {
            self.take(&name, RunError::read(&folder.join(kept_name(&sha256)))?)?;
        }
        Ok(())
    }

    /// Name, SHA-256 and text of each file that was read.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.texts.iter().filter_map(|(name, text)| {
            Some((
                name.as_str(),
                self.sha256.get(name)?.as_str(),
                text.as_str(),
            ))
        })
    }

    fn text(&self, name: &str) -> Result<&Arc<String>, RunError> {
        (self.texts.get(name))
            .ok_or_else(|| RunError::bad(format!("{name}: the scenario's file was not read")))
    }
}

/// What a file of data is called in a run folder.
pub(super) fn kept_name(sha256: &str) -> String {
    format!("data-{}.csv", sha256.get(..16).unwrap_or(sha256))
}

/// µWh of the intervals of a column; none where the file has none.
type Energies = Arc<Vec<Option<i64>>>;

/// Energies of one column on a grid of intervals, in µWh.
struct Grid {
    start_s: i64,
    interval_s: i64,
    columns: Vec<(String, Energies)>,
}

/// The files of a run, each read once.
pub(super) struct Library<'s> {
    files: &'s DataFiles,
    grids: BTreeMap<String, Grid>,
    sessions: BTreeMap<(String, i64), BTreeMap<String, Vec<Session>>>,
    /// Begin and end of the run.
    run_s: (i64, i64),
    length_s: i64,
}

impl<'s> Library<'s> {
    pub(super) fn new(files: &'s DataFiles, moments: &[Moment]) -> Self {
        let start = moments.first().map_or(0, |m| m.interval.start_s());
        let end = moments.last().map_or(0, |m| m.interval.end().unix_s());
        let length = moments.first().map_or(900, |m| m.interval.length_s());
        Library {
            files,
            grids: BTreeMap::new(),
            sessions: BTreeMap::new(),
            run_s: (start, end),
            length_s: i64::from(length),
        }
    }

    /// The series of a source. Unless `gaps` are allowed, it has a value in every interval of the run.
    pub(super) fn series(
        &mut self,
        source: &SeriesSource,
        kind: &str,
        gaps: bool,
    ) -> Result<Series, RunError> {
        let file = source.file.as_str();
        if !self.grids.contains_key(file) {
            let grid = grid(file, self.files.text(file)?)?;
            self.grids.insert(file.to_owned(), grid);
        }
        let grid = &self.grids[file];
        let bad = |what: String| RunError::bad(format!("{file}: {what}"));
        let (name, values) = column(grid, source, kind).map_err(bad)?;
        let (length, step) = (self.length_s, grid.interval_s);
        if length % step != 0 && step % length != 0 {
            return Err(bad(format!(
                "its intervals have {step} s and those of the run {length} s: one must divide the other"
            )));
        }
        let span = step * i64::try_from(values.len()).unwrap_or(i64::MAX);
        if source.repeat && span % DAY_S != 0 {
            return Err(bad(format!(
                "repeat: it holds {span} s, which are no whole days"
            )));
        }
        let series = Series {
            values: Arc::clone(values),
            start_s: grid.start_s + source.shift_days * DAY_S,
            step_s: step,
            length_s: length,
            repeat: source.repeat,
            scale_ppm: crate::number::bounded(source.scale * 1e6, 1_000_000_000),
        };
        if !gaps {
            let starts = (self.run_s.0..self.run_s.1).step_by(usize::try_from(length).unwrap_or(1));
            if let Some(start) = starts.into_iter().find(|s| series.micro_wh(*s).is_none()) {
                return Err(bad(format!(
                    "{name} has no value for the interval that starts at {}; its rows, moved by `shift_days`, are from {} to {}",
                    shown(start),
                    shown(series.start_s),
                    shown(series.start_s + span)
                )));
            }
        }
        Ok(series)
    }

    /// The sessions of a source that touch the run, in order.
    pub(super) fn sessions(&mut self, source: &SessionsSource) -> Result<Vec<Session>, RunError> {
        let file = source.file.as_str();
        let key = (file.to_owned(), source.utc_offset_minutes);
        if !self.sessions.contains_key(&key) {
            let text = self.files.text(file)?;
            let read = sessions::read(text, file, source.utc_offset_minutes * 60)
                .map_err(|e| RunError::bad(e.to_string()))?;
            let mut points: BTreeMap<String, Vec<Session>> = BTreeMap::new();
            for (place, session) in read.sessions.into_iter().enumerate() {
                let point = read.points.get(place).cloned().unwrap_or_default();
                points.entry(point).or_default().push(session);
            }
            self.sessions.insert(key.clone(), points);
        }
        let points = &self.sessions[&key];
        let found = match &source.station {
            Some(station) => points.get(station),
            None => {
                let place = usize::try_from(source.number).unwrap_or(1).max(1) - 1;
                points.values().nth(place % points.len().max(1))
            }
        };
        let found = found.ok_or_else(|| {
            let known: Vec<&str> = points.keys().take(20).map(String::as_str).collect();
            let station = source.station.as_deref().unwrap_or("any");
            RunError::bad(format!(
                "{file}: no sessions of station {station}; it has {}",
                known.join(", ")
            ))
        })?;
        Ok(self.placed(found, source))
    }

    /// Sessions on the run's days.
    fn placed(&self, sessions: &[Session], source: &SessionsSource) -> Vec<Session> {
        let moved = |by_s: i64| {
            sessions.iter().map(move |s| Session {
                arrival_unix_s: s.arrival_unix_s + by_s,
                departure_unix_s: s.departure_unix_s + by_s,
                ..*s
            })
        };
        let shift_s = source.shift_days * DAY_S;
        let mut all: Vec<Session> = moved(shift_s).collect();
        let days = |s: i64| s.div_euclid(DAY_S);
        let first = sessions.iter().map(|s| days(s.arrival_unix_s)).min();
        let last = sessions.iter().map(|s| days(s.arrival_unix_s)).max();
        if let (true, Some(first), Some(last)) = (source.repeat, first, last) {
            // Whole weeks, so that weekdays stay.
            let span_s = ((last - first) / 7 + 1) * 7 * DAY_S;
            let from = (self.run_s.0 - first * DAY_S - shift_s).div_euclid(span_s) - 1;
            let to = (self.run_s.1 - first * DAY_S - shift_s).div_euclid(span_s);
            all = (from..=to)
                .flat_map(|round| moved(shift_s + round * span_s))
                .collect();
        }
        all.retain(|s| s.arrival_unix_s >= self.run_s.0 && s.arrival_unix_s < self.run_s.1);
        sessions::without_overlaps(all)
    }
}

/// The column that a source names, with its name.
fn column<'g>(
    grid: &'g Grid,
    source: &SeriesSource,
    kind: &str,
) -> Result<(&'g str, &'g Energies), String> {
    let shown = || {
        let names = grid.columns.iter().map(|(name, _)| name.as_str());
        names.take(20).collect::<Vec<_>>().join(", ")
    };
    if let Some(wanted) = &source.column {
        let found = grid.columns.iter().find(|(name, _)| name == wanted);
        let (name, values) =
            found.ok_or_else(|| format!("no column {wanted}; it has {}", shown()))?;
        return Ok((name, values));
    }
    let of_kind: Vec<_> = (grid.columns.iter())
        .filter(|(name, _)| name.contains(kind))
        .collect();
    if of_kind.is_empty() {
        return Err(format!(
            "no column with `{kind}` in its name: say `column = …`; it has {}",
            shown()
        ));
    }
    let place = usize::try_from(source.number).unwrap_or(1).max(1) - 1;
    let (name, values) = of_kind[place % of_kind.len()];
    Ok((name, values))
}

fn grid(file: &str, text: &str) -> Result<Grid, RunError> {
    let bad = |e: crate::import::ImportError| RunError::bad(e.to_string());
    let source = Source {
        name: file,
        text: text.as_bytes(),
    };
    let rows = Rows::open(source, b',', 0).map_err(bad)?;
    let stamp = rows.column(&["start_utc"]).map_err(bad)?;
    let energies: Vec<(usize, String, i64)> = (rows.header().iter().enumerate())
        .filter(|(place, _)| *place != stamp)
        .filter_map(|(place, name)| Some((place, name.to_owned(), micro_of(name)?)))
        .collect();
    let mut values: Vec<Vec<Option<i64>>> = vec![Vec::new(); energies.len()];
    let (mut first_s, mut last_s, mut step_s) = (None, None, None);
    for row in rows {
        let row = row.map_err(bad)?;
        let text = row.cell(stamp);
        let start_s = instant_s(text).ok_or_else(|| {
            bad(row.wrong(format!("{text:?} is no instant like 2024-06-09T22:00:00Z")))
        })?;
        if let Some(last_s) = last_s {
            let step = *step_s.get_or_insert(start_s - last_s);
            if start_s - last_s != step || step < 60 || 3600 % step != 0 {
                let what =
                    format!("{text:?} does not follow by one and the same step of 60 to 3600 s");
                return Err(bad(row.wrong(what)));
            }
        }
        first_s.get_or_insert(start_s);
        last_s = Some(start_s);
        for ((place, _, micro), list) in energies.iter().zip(&mut values) {
            let cell = row.cell(*place);
            let value =
                match is_missing(cell) {
                    true => None,
                    false => Some(times(cell, *micro).filter(|v| *v >= 0).ok_or_else(|| {
                        bad(row.wrong(format!("{cell:?} is no energy from 0 on")))
                    })?),
                };
            list.push(value);
        }
    }
    let (Some(start_s), Some(interval_s)) = (first_s, step_s) else {
        return Err(RunError::bad(format!("{file}: fewer than two rows")));
    };
    let columns = energies.into_iter().zip(values);
    Ok(Grid {
        start_s,
        interval_s,
        columns: columns
            .map(|((_, name, _), values)| (name, Arc::new(values)))
            .collect(),
    })
}

/// µWh in the unit that a column's name ends with; none for columns that are no energies.
fn micro_of(name: &str) -> Option<i64> {
    if name.ends_with("_kwh") {
        Some(1000 * MICRO)
    } else if name.ends_with("_wh") {
        Some(MICRO)
    } else {
        None
    }
}

/// A series on the run's intervals.
#[derive(Clone, Debug)]
pub(super) struct Series {
    values: Energies,
    start_s: i64,
    step_s: i64,
    length_s: i64,
    repeat: bool,
    scale_ppm: i64,
}

impl Series {
    /// The energy of the run's interval that starts here, in µWh; none where the file has none.
    pub(super) fn micro_wh(&self, start_s: i64) -> Option<i64> {
        let value = if self.step_s >= self.length_s {
            self.at(start_s)? * self.length_s / self.step_s
        } else {
            let mut sum = 0;
            for part in 0..self.length_s / self.step_s {
                sum += self.at(start_s + part * self.step_s)?;
            }
            sum
        };
        i64::try_from(i128::from(value) * i128::from(self.scale_ppm) / 1_000_000).ok()
    }

    fn at(&self, instant_s: i64) -> Option<i64> {
        let mut place = (instant_s - self.start_s).div_euclid(self.step_s);
        if self.repeat {
            place = place.rem_euclid(i64::try_from(self.values.len()).ok()?.max(1));
        }
        *self.values.get(usize::try_from(place).ok()?)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::time::Interval;

    const HOURS: &str = "start_utc,a_consumption_wh,b_consumption_kwh,a_generation_wh,note\n\
        2024-06-10T00:00:00Z,400,0.0012,8,x\n2024-06-10T01:00:00Z,,0.5,9,y\n";

    fn moments(start_s: i64, count: i64, length_s: u32) -> Vec<Moment> {
        let at = |k: i64| Moment {
            interval: Interval::new(start_s + k * i64::from(length_s), length_s).unwrap(),
            local_minute: 0,
            day_minute: 0,
            day: 0,
        };
        (0..count).map(at).collect()
    }

    fn source(more: &str) -> SeriesSource {
        toml::from_str(&format!("file = \"h.csv\"\n{more}")).unwrap()
    }

    fn files() -> DataFiles {
        let mut files = DataFiles::default();
        files.take("h.csv", HOURS.to_owned()).unwrap();
        files
    }

    const START: i64 = 1_717_977_600;

    #[test]
    fn hours_are_spread_over_quarters_and_a_gap_is_told() {
        let files = files();
        let quarters = moments(START, 4, 900);
        let mut library = Library::new(&files, &quarters);
        let first = library.series(&source(""), "consumption", false).unwrap();
        assert_eq!(first.micro_wh(START), Some(100 * MICRO));
        let second = library
            .series(&source("number = 2\nscale = 10.0"), "consumption", false)
            .unwrap();
        assert_eq!(second.micro_wh(START + 900), Some(3 * MICRO));
        let longer = moments(START, 8, 900);
        let mut library = Library::new(&files, &longer);
        let said = library
            .series(&source(""), "consumption", false)
            .unwrap_err();
        assert!(
            said.to_string().contains("a_consumption_wh has no value"),
            "{said}"
        );
        assert!(said.to_string().contains("2024-06-10T01:00:00Z"), "{said}");
        assert!(library.series(&source(""), "consumption", true).is_ok());
        let said = library.series(&source("column = \"c\""), "consumption", true);
        assert!(
            said.unwrap_err()
                .to_string()
                .contains("no column c; it has a_")
        );
    }

    #[test]
    fn a_file_is_named_by_its_bytes() {
        let mut files = files();
        let said = files.take("h.csv", "start_utc\n".to_owned()).unwrap_err();
        assert!(said.to_string().contains("[data] names"), "{said}");
    }

    #[test]
    fn sessions_are_moved_and_repeated_by_whole_weeks() {
        let mut files = DataFiles::default();
        let text = "station,connected_utc,disconnected_utc,energy_wh\n\
            P1,2024-06-03T08:00:00Z,2024-06-03T12:00:00Z,5000\nP2,2024-06-04T08:00:00Z,2024-06-04T12:00:00Z,6000\n";
        files.take("s.csv", text.to_owned()).unwrap();
        let three_weeks = moments(START, 21 * 96, 900);
        let mut library = Library::new(&files, &three_weeks);
        let source: SessionsSource =
            toml::from_str("file = \"s.csv\"\nnumber = 2\nrepeat = true").unwrap();
        let found = library.sessions(&source).unwrap();
        let starts: Vec<String> = found.iter().map(|s| shown(s.arrival_unix_s)).collect();
        assert_eq!(
            starts,
            [
                "2024-06-11T08:00:00Z",
                "2024-06-18T08:00:00Z",
                "2024-06-25T08:00:00Z"
            ]
        );
        let wrong = SessionsSource {
            station: Some("P9".to_owned()),
            ..source
        };
        let said = library.sessions(&wrong).unwrap_err().to_string();
        assert!(said.contains("P9") && said.contains("P1, P2"), "{said}");
    }
}
