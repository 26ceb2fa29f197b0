//! Text to weather: columns by their names, units by the columns, gaps filled and counted.

use super::{GAP_MAX_S, ROWS_MAX, Stamp, Weather, WeatherError, WeatherRow, instant};

/// Columns by their names, with the factor to this program's unit.
const TIME: &[&str] = &["utc", "local_time", "time", "MESS_DATUM"];
const AIR: &[(&str, f64)] = &[("t_air_c", 1.0), ("temperature_2m", 1.0), ("TT_10", 1.0)];
const WIND: &[(&str, f64)] = &[
    ("wind_ms", 1.0),
    ("wind_kmh", 1.0 / 3.6),
    ("wind_speed_10m", 1.0 / 3.6),
    ("FF_10", 1.0),
];
/// J/cm² in ten minutes to W/m².
const J_PER_CM2: f64 = 10_000.0 / 600.0;
/// Whose name says that a row's light fell before its stamp.
const OPEN_METEO_LIGHT: &str = "shortwave_radiation";
const GLOBAL: &[(&str, f64)] = &[("ghi", 1.0), (OPEN_METEO_LIGHT, 1.0), ("GS_10", J_PER_CM2)];
const DIFFUSE: &[(&str, f64)] = &[
    ("dhi", 1.0),
    ("diffuse_radiation", 1.0),
    ("DS_10", J_PER_CM2),
];
/// Air, wind, global and diffuse light.
const VALUES: usize = 4;

/// A column: its place in a row and the factor of its unit.
type Column = (usize, f64);

/// One row as it stands in the file: when, and values that may be missing.
struct Raw {
    unix_s: i64,
    line: usize,
    values: [Option<f64>; VALUES],
}

struct Reader<'a> {
    file: &'a str,
}

impl Reader<'_> {
    fn error(&self, line: usize, what: impl Into<String>) -> WeatherError {
        WeatherError {
            file: self.file.to_owned(),
            line,
            what: what.into(),
        }
    }
}

pub(super) fn weather(
    text: &str,
    file: &str,
    utc_offset_s: i64,
    stamp: Option<Stamp>,
) -> Result<Weather, WeatherError> {
    let reader = Reader { file };
    let (raw, has_diffuse, usual) = reader.rows(text, utc_offset_s)?;
    let step_s = raw
        .windows(2)
        .map(|pair| pair[1].unix_s - pair[0].unix_s)
        .min()
        .ok_or_else(|| reader.error(2, "a weather file has at least two rows"))?;
    let (table, filled) = reader.fill(&raw, step_s, has_diffuse)?;
    let first = raw[0].unix_s;
    Ok(Weather {
        start_unix_s: match stamp.unwrap_or(usual) {
            Stamp::Beginning => first,
            Stamp::End => first - step_s,
        },
        step_s,
        rows: table
            .into_iter()
            .map(|[air_c, wind_ms, global, diffuse]| WeatherRow {
                air_c,
                wind_ms,
                global: global.max(0.0),
                diffuse: has_diffuse.then_some(diffuse.max(0.0)),
            })
            .collect(),
        filled,
    })
}

impl Reader<'_> {
    /// All rows in the order of time, whether there is a column of diffuse light, and how such files are stamped.
    fn rows(&self, text: &str, utc_offset_s: i64) -> Result<(Vec<Raw>, bool, Stamp), WeatherError> {
        let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        // Some files begin with lines about the place; the header is the first line that names a time.
        let header = lines.by_ref().take(10).find_map(|(index, line)| {
            let cells = cells(line);
            let time = cells.iter().position(|cell| TIME.contains(cell))?;
            Some((index + 1, cells, time))
        });
        let (line, names, time) = header.ok_or_else(|| {
            self.error(
                1,
                "no header with a time column (utc, local_time, time or MESS_DATUM)",
            )
        })?;
        let need = |columns, what: &str| {
            find(&names, columns)
                .and_then(|found| found.ok_or_else(|| format!("no column of {what}")))
                .map_err(|what| self.error(line, what))
        };
        let diffuse = find(&names, DIFFUSE).map_err(|what| self.error(line, what))?;
        let columns = [
            Some(need(
                AIR,
                "air temperature (t_air_c, temperature_2m, TT_10)",
            )?),
            Some(need(
                WIND,
                "wind (wind_ms, wind_kmh, wind_speed_10m, FF_10)",
            )?),
            Some(need(
                GLOBAL,
                "global light (ghi, shortwave_radiation, GS_10)",
            )?),
            diffuse,
        ];
        let mut rows: Vec<Raw> = Vec::new();
        for (index, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
            let row = self.row(index + 1, text, time, &columns, utc_offset_s)?;
            if rows.last().is_some_and(|last| last.unix_s >= row.unix_s) {
                return Err(self.error(row.line, "rows are not in the order of time"));
            }
            if rows.len() >= ROWS_MAX {
                return Err(self.error(row.line, format!("more than {ROWS_MAX} rows")));
            }
            rows.push(row);
        }
        // Open-Meteo's means are those of the hour before the stamp.
        let open_meteo = names.iter().any(|name| name.starts_with(OPEN_METEO_LIGHT));
        let usual = if open_meteo {
            Stamp::End
        } else {
            Stamp::Beginning
        };
        Ok((rows, diffuse.is_some(), usual))
    }

    fn row(
        &self,
        line: usize,
        text: &str,
        time: usize,
        columns: &[Option<Column>; VALUES],
        utc_offset_s: i64,
    ) -> Result<Raw, WeatherError> {
        let cells = cells(text);
        let stamp = cells.get(time).copied().unwrap_or("");
        let unix_s = instant(stamp, utc_offset_s).ok_or_else(|| {
            self.error(
                line,
                format!("`{stamp}` is not a time like 2021-06-21 11:00:00"),
            )
        })?;
        let mut values = [None; VALUES];
        for (value, column) in values.iter_mut().zip(columns) {
            let Some((place, factor)) = column else {
                continue;
            };
            let cell = cells.get(*place).copied().unwrap_or("");
            *value = match cell {
                "" | "NaN" | "nan" | "null" | "-999" | "-999.0" => None,
                number => match number.parse::<f64>() {
                    Ok(number) if number.is_finite() => Some(number * factor),
                    _ => return Err(self.error(line, format!("`{number}` is not a number"))),
                },
            };
        }
        Ok(Raw {
            unix_s,
            line,
            values,
        })
    }

    /// Every step of the file, with what is missing put between its neighbours; and how much that was.
    fn fill(
        &self,
        raw: &[Raw],
        step_s: i64,
        has_diffuse: bool,
    ) -> Result<(Vec<[f64; VALUES]>, usize), WeatherError> {
        let span = raw[raw.len() - 1].unix_s - raw[0].unix_s;
        let steps = usize::try_from(span / step_s)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        if steps > ROWS_MAX {
            return Err(self.error(
                raw[0].line,
                format!("more than {ROWS_MAX} steps of {step_s} s"),
            ));
        }
        let mut table = vec![[0.0; VALUES]; steps];
        let mut filled = 0;
        for column in (0..VALUES).filter(|column| *column < 3 || has_diffuse) {
            let mut last: Option<(usize, f64)> = None;
            for row in raw {
                let Some(value) = row.values[column] else {
                    continue;
                };
                let offset = row.unix_s - raw[0].unix_s;
                let index = usize::try_from(offset / step_s).unwrap_or(0);
                if offset % step_s != 0 {
                    return Err(self.error(
                        row.line,
                        format!("this row is not on the file's step of {step_s} s"),
                    ));
                }
                // Before the first value there is nothing to go by but that value.
                let (from, before) = last.unwrap_or((0, value));
                let gap = index - from;
                self.check_gap(gap, step_s, row.line)?;
                for (between, place) in table
                    .iter_mut()
                    .enumerate()
                    .take(index)
                    .skip(from + usize::from(last.is_some()))
                {
                    let part = if gap == 0 {
                        0.0
                    } else {
                        (between - from) as f64 / gap as f64
                    };
                    place[column] = before + part * (value - before);
                    filled += 1;
                }
                table[index][column] = value;
                last = Some((index, value));
            }
            let Some((index, value)) = last else {
                return Err(self.error(raw[0].line, "a column without any value"));
            };
            self.check_gap(steps - 1 - index, step_s, raw[raw.len() - 1].line)?;
            for place in table.iter_mut().skip(index + 1) {
                place[column] = value;
                filled += 1;
            }
        }
        Ok((table, filled))
    }
}

impl Reader<'_> {
    /// A gap of so many steps is short enough to be filled.
    fn check_gap(&self, steps: usize, step_s: i64, line: usize) -> Result<(), WeatherError> {
        let gap_s = i64::try_from(steps)
            .unwrap_or(i64::MAX)
            .saturating_mul(step_s);
        if gap_s > GAP_MAX_S.max(step_s) {
            let hours = GAP_MAX_S / 3600;
            return Err(self.error(
                line,
                format!("the gap before this row is longer than {hours} h"),
            ));
        }
        Ok(())
    }
}

/// The cells of a line, divided by commas or semicolons.
fn cells(line: &str) -> Vec<&str> {
    let by = if line.contains(';') { ';' } else { ',' };
    line.split(by)
        .map(|cell| cell.trim().trim_matches('"'))
        .collect()
}

/// Units that a header may name behind a column, with their factor.
const UNITS: &[(&str, f64)] = &[
    ("°C", 1.0),
    ("m/s", 1.0),
    ("ms", 1.0),
    ("km/h", 1.0 / 3.6),
    ("W/m²", 1.0),
    ("W/m2", 1.0),
];

/// The first column with one of the known names, with or without a unit behind it.
///
/// # Errors
/// The unit is not known.
fn find(names: &[&str], known: &[(&str, f64)]) -> Result<Option<Column>, String> {
    for (name, factor) in known {
        for (place, cell) in names.iter().enumerate() {
            let Some(rest) = cell.strip_prefix(name) else {
                continue;
            };
            if rest.is_empty() {
                return Ok(Some((place, *factor)));
            }
            let unit = rest.strip_prefix(" (").and_then(|u| u.strip_suffix(')'));
            let Some(unit) = unit else { continue };
            let of = UNITS.iter().find(|(known, _)| *known == unit);
            let Some((_, factor)) = of else {
                let units: Vec<&str> = UNITS.iter().map(|(unit, _)| *unit).collect();
                return Err(format!(
                    "column `{cell}`: the unit {unit} is not known (known: {})",
                    units.join(", ")
                ));
            };
            return Ok(Some((place, *factor)));
        }
    }
    Ok(None)
}
