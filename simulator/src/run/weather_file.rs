//! A run's weather from a file beside the scenario, in the two formats of [`crate::model::weather`]. The
//! scenario that a run keeps names the file's SHA-256, so the run's id stands for these very bytes.

use std::path::Path;
use std::sync::Arc;

use domain::ids::{Digest32, to_hex};
use domain::time::Interval;
use serde::{Deserialize, Serialize};

use super::RunError;
use crate::model::clear_sky::Light;
use crate::model::plane::SkyModel;
use crate::model::sun::{Place, Sun};
use crate::model::weather::{Stamp, Weather, WeatherRow};

/// Most bytes of a weather file.
const WEATHER_MAX_BYTES: usize = 64 * 1024 * 1024;

/// `[weather]` of a scenario.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WeatherScenario {
    /// A CSV file beside the scenario: `utc,t_air_c,wind_ms,dhi,ghi`, or Open-Meteo's columns.
    pub file: String,
    /// Whether a row's light fell in the step that begins at its stamp, or in the one that ends at it. Where it is
    /// not said: `end` for Open-Meteo's columns, else `beginning`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// What the file's stamps are ahead of UTC; stamps that say so themselves are not moved.
    #[serde(default)]
    pub utc_offset_minutes: i64,
    /// How the sky's light falls on tilted planes: `isotropic` or `hay-davies`.
    #[serde(default)]
    pub sky: SkyModel,
    /// The file's SHA-256; filled in when it is read, and held against the file where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(skip)]
    read: Option<Arc<(String, Weather)>>,
}

impl WeatherScenario {
    /// Reads the file, which lies in `place`.
    ///
    /// # Errors
    /// It cannot be read, is not the one that `sha256` names, or has a line that is wrong.
    pub fn read(&mut self, place: &Path) -> Result<(), RunError> {
        let path = place.join(&self.file);
        let text = RunError::read(&path)
            .map_err(|e| RunError::bad(format!("[weather] file cannot be read: {e}")))?;
        self.take(text)
    }

    /// Takes the file's text.
    ///
    /// # Errors
    /// See [`WeatherScenario::read`].
    pub fn take(&mut self, text: String) -> Result<(), RunError> {
        if text.len() > WEATHER_MAX_BYTES {
            return Err(RunError::bad(format!(
                "{}: more than {WEATHER_MAX_BYTES} bytes",
                self.file
            )));
        }
        let found = to_hex(&Digest32::of(text.as_bytes()).0);
        if let Some(named) = self.sha256.as_ref().filter(|named| **named != found) {
            return Err(RunError::bad(format!(
                "{}: its SHA-256 is {found}, and [weather] sha256 names {named}",
                self.file
            )));
        }
        let weather = Weather::read(&text, &self.file, self.utc_offset_minutes * 60, self.stamp)
            .map_err(|e| RunError::bad(e.to_string()))?;
        self.sha256 = Some(found);
        self.read = Some(Arc::new((text, weather)));
        Ok(())
    }

    /// The file's text, once it is read.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.read.as_ref().map(|read| read.0.as_str())
    }

    /// Mean weather and light of an interval whose sun is `sun` (without refraction).
    pub(super) fn of(
        &self,
        interval: Interval,
        place: Place,
        sun: Sun,
    ) -> Result<(WeatherRow, Light), RunError> {
        let (_, weather) = self
            .read
            .as_deref()
            .ok_or_else(|| RunError::bad(format!("[weather] file: {} was not read", self.file)))?;
        let (start, length) = (interval.start_s(), interval.length_s());
        weather
            .mean(start, length)
            .zip(weather.light(start, length, place, sun))
            .ok_or_else(|| {
                RunError::bad(format!(
                    "{}: it has no weather for {interval}; its rows are from {} to {}",
                    self.file,
                    utc(weather.start_unix_s()),
                    utc(weather.end_unix_s())
                ))
            })
    }
}

fn utc(unix_s: i64) -> String {
    chrono::DateTime::from_timestamp(unix_s, 0).map_or_else(
        || unix_s.to_string(),
        |time| time.format("%Y-%m-%dT%H:%MZ").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "utc,t_air_c,wind_ms,dhi,ghi\n2021-06-21 11:00:00,20.0,2.0,100.0,800.0\n\
        2021-06-21 11:10:00,20.6,3.0,110.0,700.0\n";

    fn scenario(more: &str) -> WeatherScenario {
        toml::from_str(&format!("file = \"w.csv\"\n{more}")).unwrap()
    }

    #[test]
    fn the_file_is_named_by_its_bytes() {
        let mut first = scenario("");
        first.take(ROWS.to_owned()).unwrap();
        let kept = toml::to_string(&first).unwrap();
        let mut again: WeatherScenario = toml::from_str(&kept).unwrap();
        again.take(ROWS.to_owned()).unwrap();
        assert_eq!(again, first);
        let other = ROWS.replace("800", "801");
        let error = again.take(other).unwrap_err().to_string();
        assert!(error.contains("sha256 names"), "{error}");
    }

    #[test]
    fn an_interval_that_the_file_lacks_is_said_with_what_it_has() {
        let mut weather = scenario("sky = \"hay-davies\"");
        let place = Place {
            latitude_deg: 50.0,
            longitude_deg: 6.0,
            altitude_m: 0.0,
        };
        let at = |start| {
            (
                Interval::new(start, 600).unwrap(),
                Sun::at(start + 300, place).unwrap().unrefracted(),
            )
        };
        let (interval, sun) = at(1_624_273_200);
        assert!(
            weather.of(interval, place, sun).is_err(),
            "it was not read yet"
        );
        weather.take(ROWS.to_owned()).unwrap();
        let (row, light) = weather.of(interval, place, sun).unwrap();
        assert!((row.air_c - 20.0).abs() < 1e-9 && (light.global - 800.0).abs() < 1e-9);
        let (later, sun) = at(1_624_273_200 + 1200);
        let error = weather.of(later, place, sun).unwrap_err().to_string();
        assert!(error.contains("2021-06-21T11:20Z"), "{error}");
    }
}
