//! Weather from a file: air, wind and light at a fixed step, and what of it falls into an interval.
//!
//! Two kinds of file are known by their headers: ten-minute rows of the German Weather Service (UTC; light in
//! W/m², or `DS_10`/`GS_10` in J/cm²) and hourly rows of Open-Meteo, whose light is the mean of the *preceding*
//! hour. A value that is missing (empty, `NaN`, −999) is filled from its neighbours where the gap is at
//! most three hours, and counted; a longer gap is an error.

use chrono::{DateTime, NaiveDateTime};

use super::clear_sky::{Light, closure, erbs, haurwitz_w_per_m2};
use super::sun::{Place, Sun};

mod read;

/// Rows of one file: ten years of ten minutes.
pub const ROWS_MAX: usize = 530_000;
/// The longest gap that is filled.
const GAP_MAX_S: i64 = 3 * 3600;

/// One row of weather.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct WeatherRow {
    /// Air, in °C.
    pub air_c: f64,
    /// Wind 10 m above the ground, in m/s.
    pub wind_ms: f64,
    /// Light on a horizontal plane, in W/m².
    pub global: f64,
    /// Its diffuse part, where the file has it.
    pub diffuse: Option<f64>,
}

/// A file of weather.
#[derive(Clone, PartialEq, Debug)]
pub struct Weather {
    start_unix_s: i64,
    step_s: i64,
    rows: Vec<WeatherRow>,
    /// Values that were missing and were filled from their neighbours.
    pub filled: usize,
}

/// What is wrong with a weather file.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{file}, line {line}: {what}")]
pub struct WeatherError {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there, and what is expected.
    pub what: String,
}

/// When a row's light fell, beside its stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stamp {
    /// In the step that begins at the stamp.
    #[default]
    Beginning,
    /// In the step that ends at the stamp (Open-Meteo).
    End,
}

impl Weather {
    /// Reads a file's text. `utc_offset_s` is what local stamps are ahead of UTC (0 for UTC stamps); stamps that say
    /// their own offset are not moved. Without `stamp` a file with Open-Meteo's `shortwave_radiation` is taken as `End`,
    /// others as `Beginning`.
    ///
    /// # Errors
    /// The line, and what is wrong with it.
    pub fn read(
        text: &str,
        file: &str,
        utc_offset_s: i64,
        stamp: Option<Stamp>,
    ) -> Result<Weather, WeatherError> {
        read::weather(text, file, utc_offset_s, stamp)
    }

    /// The first instant that the file knows.
    #[must_use]
    pub fn start_unix_s(&self) -> i64 {
        self.start_unix_s
    }

    /// The first instant that it does not know any more.
    #[must_use]
    pub fn end_unix_s(&self) -> i64 {
        self.start_unix_s + self.step_s * i64::try_from(self.rows.len()).unwrap_or(0)
    }

    /// Seconds of one row.
    #[must_use]
    pub fn step_s(&self) -> i64 {
        self.step_s
    }

    /// The row in whose step an instant lies.
    #[must_use]
    pub fn row(&self, unix_s: i64) -> Option<WeatherRow> {
        let index = (unix_s - self.start_unix_s).div_euclid(self.step_s);
        self.rows.get(usize::try_from(index).ok()?).copied()
    }

    /// Mean weather of the interval that begins at `unix_s`: rows weighted by how much of the interval they
    /// cover. `None` where the file does not cover it all.
    #[must_use]
    pub fn mean(&self, unix_s: i64, length_s: u32) -> Option<WeatherRow> {
        let end = unix_s + i64::from(length_s);
        if length_s == 0 || unix_s < self.start_unix_s || end > self.end_unix_s() {
            return None;
        }
        let mut mean = WeatherRow {
            diffuse: Some(0.0),
            ..WeatherRow::default()
        };
        let mut from = unix_s;
        while from < end {
            let row = self.row(from)?;
            let step_end = from - (from - self.start_unix_s).rem_euclid(self.step_s) + self.step_s;
            let share = (step_end.min(end) - from) as f64 / f64::from(length_s);
            mean.air_c += share * row.air_c;
            mean.wind_ms += share * row.wind_ms;
            mean.global += share * row.global;
            mean.diffuse = mean
                .diffuse
                .zip(row.diffuse)
                .map(|(sum, d)| sum + share * d);
            from = step_end;
        }
        Some(mean)
    }

    /// Light in the interval that begins at `unix_s`, with the sun of its middle ([`Sun::unrefracted`]; the
    /// planes get the same one). Rows longer than the
    /// interval are spread by the clear sky within them, so that an hour's mean keeps the sun's course.
    #[must_use]
    pub fn light(&self, unix_s: i64, length_s: u32, place: Place, sun: Sun) -> Option<Light> {
        let mean = self.mean(unix_s, length_s)?;
        let shape = if self.step_s > i64::from(length_s) {
            let row_start = unix_s - (unix_s - self.start_unix_s).rem_euclid(self.step_s);
            let whole_w = clear_mean_w_per_m2(row_start, self.step_s, i64::from(length_s), place)?;
            if whole_w > 1.0 {
                haurwitz_w_per_m2(sun) / whole_w
            } else {
                1.0
            }
        } else {
            1.0
        };
        let global = mean.global * shape;
        Some(match mean.diffuse {
            Some(diffuse) => closure(global, (diffuse * shape).min(global), sun),
            None => erbs(global, sun),
        })
    }
}

/// Haurwitz' light over a row, as the mean at the middles of the intervals in it.
fn clear_mean_w_per_m2(row_start: i64, step_s: i64, length_s: i64, place: Place) -> Option<f64> {
    let parts = (step_s / length_s).max(1);
    let mut sum = 0.0;
    for part in 0..parts {
        let middle = row_start + part * length_s + length_s / 2;
        sum += haurwitz_w_per_m2(Sun::at(middle, place)?);
    }
    Some(sum / parts as f64)
}

/// An instant from the stamps that these files have.
fn instant(text: &str, utc_offset_s: i64) -> Option<i64> {
    let text = text.trim().trim_matches('"');
    if let Ok(zoned) = DateTime::parse_from_rfc3339(text) {
        return Some(zoned.timestamp());
    }
    let (plain, ahead_s) = match text.strip_suffix('Z') {
        Some(plain) => (plain, 0),
        None => (text, utc_offset_s),
    };
    [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M",
        "%Y%m%d%H%M",
    ]
    .iter()
    .find_map(|format| NaiveDateTime::parse_from_str(plain, format).ok())
    .map(|time| time.and_utc().timestamp() - ahead_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AACHEN: Place = Place {
        latitude_deg: 50.78,
        longitude_deg: 6.09,
        altitude_m: 200.0,
    };
    const DWD: &str = "utc,t_air_c,wind_ms,dhi,ghi\n\
        2021-06-21 11:00:00,20.0,2.0,100.0,800.0\n\
        2021-06-21 11:10:00,20.6,3.0,110.0,700.0\n\
        2021-06-21 11:20:00,20.9,4.0,120.0,600.0\n";

    fn dwd(text: &str) -> Result<Weather, WeatherError> {
        Weather::read(text, "aachen.csv", 0, None)
    }

    #[test]
    fn ten_minutes_become_the_mean_of_an_interval() {
        let weather = dwd(DWD).unwrap();
        assert_eq!((weather.step_s(), weather.filled), (600, 0));
        let start = weather.start_unix_s();
        let mean = weather.mean(start, 900).unwrap();
        // Ten minutes of 800 and five of 700.
        assert!((mean.global - (800.0 * 2.0 + 700.0) / 3.0).abs() < 1e-9);
        assert!((mean.diffuse.unwrap() - (100.0 * 2.0 + 110.0) / 3.0).abs() < 1e-9);
        assert!(weather.mean(start, 1800).is_some() && weather.mean(start, 1801).is_none());
        assert!(weather.mean(start - 1, 600).is_none());
        let sun = Sun::at(start + 300, AACHEN).unwrap();
        let light = weather.light(start, 600, AACHEN, sun).unwrap();
        assert!((light.beam * sun.up + light.diffuse - light.global).abs() < 1e-9);
    }

    #[test]
    fn units_offsets_and_stamps_are_those_that_the_file_says() {
        let text = "time,temperature_2m (°C),wind_speed_10m (km/h),shortwave_radiation (W/m²)\n\
            2026-07-03T01:00Z,20.0,36.0,0.0\n2026-07-03T02:00Z,20.0,36.0,0.0\n";
        // Stamps in UTC are not moved, and this column's light fell before them.
        let weather = Weather::read(text, "om.csv", 7200, None).unwrap();
        let start = DateTime::parse_from_rfc3339("2026-07-03T00:00:00Z").unwrap();
        assert_eq!(weather.start_unix_s(), start.timestamp());
        assert!((weather.row(start.timestamp()).unwrap().wind_ms - 10.0).abs() < 1e-9);
        for (from, to) in [("°C", "°F"), ("km/h", "kn"), ("W/m²", "MJ/m²")] {
            let error = dwd(&text.replace(from, to)).unwrap_err().to_string();
            assert!(
                error.contains(&format!("the unit {to} is not known")),
                "{error}"
            );
        }
    }

    #[test]
    fn an_hour_of_open_meteo_is_the_hour_before_its_stamp_and_keeps_the_suns_course() {
        let text = "local_time,t_air_c,cloud_pct,wind_kmh,ghi,dni,dhi\n\
            2024-06-21T08:00,14.0,0,18.0,300.0,400.0,80.0\n\
            2024-06-21T09:00,15.0,0,18.0,420.0,500.0,90.0\n";
        let weather = Weather::read(text, "aarhus.csv", 7200, Some(Stamp::End)).unwrap();
        let start = DateTime::parse_from_rfc3339("2024-06-21T05:00:00Z")
            .unwrap()
            .timestamp();
        assert_eq!(weather.start_unix_s(), start);
        assert!((weather.row(start).unwrap().wind_ms - 5.0).abs() < 1e-9);
        let quarters: Vec<f64> = (0..4)
            .map(|quarter| {
                let from = start + quarter * 900;
                let sun = Sun::at(from + 450, AACHEN).unwrap();
                weather.light(from, 900, AACHEN, sun).unwrap().global
            })
            .collect();
        assert!(
            quarters.windows(2).all(|pair| pair[1] > pair[0]),
            "{quarters:?}"
        );
        assert!((quarters.iter().sum::<f64>() / 4.0 - 300.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, needle) in [
            ("", "no header"),
            (
                "utc,t_air_c,wind_ms,dhi\n2021-01-01 00:00:00,1,2,3\n",
                "light",
            ),
            ("utc,t_air_c,wind_ms,ghi\nyesterday,1,2,3\n", "yesterday"),
            (
                "utc,t_air_c,wind_ms,ghi\n2021-01-01 00:00:00,1,2,much\n",
                "much",
            ),
            (
                "utc,t_air_c,wind_ms,ghi\n2021-01-01 00:00:00,1,2,3\n",
                "two rows",
            ),
            (
                "utc,t_air_c,wind_ms,ghi\n2021-01-01 00:00:00,1,2,3\n2021-01-01 00:10:00,1,2,3\n2021-01-01 00:05:00,1,2,3\n",
                "order",
            ),
            (
                "utc,t_air_c,wind_ms,ghi\n2021-01-01 00:00:00,1,2,3\n2021-01-01 00:10:00,1,2,3\n2021-01-01 09:00:00,1,2,3\n",
                "gap",
            ),
        ] {
            let error = dwd(text).unwrap_err().to_string();
            assert!(
                error.contains(needle) && error.contains("aachen.csv, line"),
                "{error}"
            );
        }
    }

    #[test]
    fn missing_values_are_filled_from_their_neighbours_and_counted() {
        let text = DWD.replace("110.0,700.0", "-999,");
        let weather = dwd(&text).unwrap();
        assert_eq!(weather.filled, 2);
        let row = weather.row(weather.start_unix_s() + 600).unwrap();
        assert!((row.global - 700.0).abs() < 1e-9 && (row.diffuse.unwrap() - 110.0).abs() < 1e-9);
        let lacking_row: String = DWD
            .lines()
            .filter(|line| !line.contains("11:10"))
            .map(|l| l.to_owned() + "\n")
            .collect();
        let spaced = lacking_row + "2021-06-21 11:30:00,20.9,4.0,120.0,500.0\n";
        let weather = dwd(&spaced).unwrap();
        assert_eq!(
            weather.filled, 4,
            "a row that is not there lacks four values"
        );
    }
}
