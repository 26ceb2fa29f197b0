//! What a simulated street consists of: a site, a feeder and homes, read from TOML. A key that is not
//! known is refused with its line, so that a misspelt battery cannot silently be none.

use std::collections::BTreeSet;

use domain::ids::ParticipantId;
use domain::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::pv::Sun;

/// Most homes one scenario may hold.
pub const HOMES_MAX: usize = 1000;

/// The street of the demo, built into the program.
const STREET_10: &str = include_str!("../scenarios/street-10.toml");
const STREET_10_FILE: &str = "scenarios/street-10.toml";

/// A street: where it lies, how it is fed, who lives there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Short name, shown to people.
    pub name: String,
    /// Place, time and sky.
    pub site: Site,
    /// The cable and transformer between the homes and the grid.
    pub feeder: FeederScenario,
    /// The homes, in the order of the file.
    pub homes: Vec<HomeScenario>,
}

/// Place, time and sky of a street.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// First instant of the simulation.
    #[serde(default = "default_start", deserialize_with = "from_text")]
    pub start: Timestamp,
    /// What people's clocks are ahead of UTC, in minutes; it stays the same all through a run.
    #[serde(default)]
    pub utc_offset_minutes: i64,
    /// Mean cloud cover, 0 (clear) to 1 (overcast).
    pub cloudiness: f64,
}

/// Losses between the homes' meters and the meter at the transformer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeederScenario {
    /// Loss per 1000 W of net power on the line.
    pub losses_per_mille: i64,
    /// Loss that is always there, in watts.
    pub standing_loss_w: i64,
}

/// One home and its assets.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeScenario {
    /// The participant who lives there.
    #[serde(deserialize_with = "from_text")]
    pub id: ParticipantId,
    /// What the household uses in a year, without car and battery.
    pub yearly_load_kwh: i64,
    /// The kind of meter at the connection point.
    pub meter: MeterKind,
    /// Solar panels with their inverter.
    pub pv: Option<PvScenario>,
    /// A home battery.
    pub battery: Option<BatteryScenario>,
    /// An electric car with its charger.
    pub ev: Option<EvScenario>,
}

/// Which meter measures a home.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum MeterKind {
    /// Eastron SDM630, Modbus input registers.
    #[serde(rename = "sdm630")]
    Sdm630,
    /// Any SunSpec three-phase meter, model 203.
    #[serde(rename = "sunspec-203")]
    SunSpec203,
    /// Shelly Pro 3EM, which publishes over MQTT.
    #[serde(rename = "shelly-pro-3em")]
    ShellyPro3em,
}

/// Solar panels of one orientation and their inverter.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PvScenario {
    /// Power of the panels under standard test conditions.
    pub peak_w: i64,
    /// Largest AC power of the inverter.
    pub inverter_w: i64,
    /// Angle from the horizontal.
    pub tilt_deg: f64,
    /// Direction the panels face, clockwise from north.
    pub azimuth_deg: f64,
}

/// A home battery.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BatteryScenario {
    /// Usable energy.
    pub capacity_wh: i64,
    /// Largest AC power, either way.
    pub power_w: i64,
    /// Share of the charged energy that comes out again, 0.5 to 1.
    pub efficiency: f64,
    /// What it feeds to the street beyond the home's own need while it is well charged.
    #[serde(default)]
    pub street_w: i64,
}

/// An electric car, its charger and its owner's habits.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvScenario {
    /// Usable energy of the car's battery.
    pub battery_wh: i64,
    /// Largest charging power.
    pub max_power_w: i64,
    /// Usual hour of coming home, on the street's clock.
    pub arrival_hour: f64,
    /// Usual hour of leaving on the next day.
    pub departure_hour: f64,
    /// Mean energy charged on a day with a drive.
    pub daily_need_wh: i64,
    /// Whether the charger has a connection to the street of its own, beside the home's.
    #[serde(default)]
    pub own_connection: bool,
}

/// Why a scenario was refused.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, an unknown or missing key, or a value of the wrong kind; the text names line and key.
    #[error("{file}: {source}")]
    Parse {
        /// The file as it was named by the caller.
        file: String,
        /// Line, column and key.
        source: Box<toml::de::Error>,
    },
    /// A value that is out of range.
    #[error("{file}: {place}: {what}")]
    Range {
        /// The file as it was named by the caller.
        file: String,
        /// `site`, `feeder`, `homes` or a home's id.
        place: String,
        /// The key and the values it may have.
        what: &'static str,
    },
}

impl Scenario {
    /// A scenario from TOML text; `file` is only used to name the place of an error.
    ///
    /// # Errors
    /// The text is not a scenario, or a value is out of its range.
    pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario = toml::from_str(text).map_err(|source| ScenarioError::Parse {
            file: file.to_owned(),
            source: Box::new(source),
        })?;
        scenario
            .check()
            .map_err(|(place, what)| ScenarioError::Range {
                file: file.to_owned(),
                place,
                what,
            })?;
        Ok(scenario)
    }

    /// The street of the demo: ten homes, eight with panels, four with batteries, two with cars.
    ///
    /// # Errors
    /// Never with the built-in text, which a test reads; the type is that of [`Scenario::parse`].
    pub fn street_10() -> Result<Scenario, ScenarioError> {
        Scenario::parse(STREET_10_FILE, STREET_10)
    }

    fn check(&self) -> Result<(), (String, &'static str)> {
        self.site
            .check()
            .map_err(|what| ("site".to_owned(), what))?;
        self.feeder
            .check()
            .map_err(|what| ("feeder".to_owned(), what))?;
        if self.homes.is_empty() || self.homes.len() > HOMES_MAX {
            return Err(("homes".to_owned(), "there must be 1 to 1000 homes"));
        }
        let mut seen = BTreeSet::new();
        for home in &self.homes {
            if !seen.insert(&home.id) {
                return Err((home.id.to_string(), "two homes have this id"));
            }
            home.check().map_err(|what| (home.id.to_string(), what))?;
        }
        Ok(())
    }
}

/// `Ok` where `holds`, otherwise the sentence.
fn rule(holds: bool, what: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(what) }
}

impl Site {
    fn check(&self) -> Result<(), &'static str> {
        rule(
            (-90.0..=90.0).contains(&self.latitude),
            "latitude must be -90 to 90",
        )?;
        rule(
            (-180.0..=180.0).contains(&self.longitude),
            "longitude must be -180 to 180",
        )?;
        rule(
            (0.0..=1.0).contains(&self.cloudiness),
            "cloudiness must be 0 to 1",
        )?;
        rule(
            (-840..=840).contains(&self.utc_offset_minutes),
            "utc_offset_minutes must be -840 to 840",
        )?;
        rule(
            Sun::at(self.start.unix_s(), self.latitude, self.longitude).is_some(),
            "start must lie in the years 2010 to 2109",
        )
    }
}

impl FeederScenario {
    fn check(&self) -> Result<(), &'static str> {
        rule(
            (0..=200).contains(&self.losses_per_mille),
            "losses_per_mille must be 0 to 200",
        )?;
        rule(
            (0..=10_000).contains(&self.standing_loss_w),
            "standing_loss_w must be 0 to 10000",
        )
    }
}

impl HomeScenario {
    fn check(&self) -> Result<(), &'static str> {
        rule(
            (500..=50_000).contains(&self.yearly_load_kwh),
            "yearly_load_kwh must be 500 to 50000",
        )?;
        if let Some(pv) = &self.pv {
            pv.check()?;
        }
        if let Some(battery) = &self.battery {
            battery.check()?;
        }
        if let Some(ev) = &self.ev {
            ev.check()?;
        }
        Ok(())
    }
}

impl PvScenario {
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        rule(
            (100..=30_000).contains(&self.peak_w),
            "pv.peak_w must be 100 to 30000",
        )?;
        rule(
            (100..=30_000).contains(&self.inverter_w),
            "pv.inverter_w must be 100 to 30000",
        )?;
        rule(
            (0.0..=90.0).contains(&self.tilt_deg),
            "pv.tilt_deg must be 0 to 90",
        )?;
        rule(
            (0.0..360.0).contains(&self.azimuth_deg),
            "pv.azimuth_deg must be 0 to below 360",
        )
    }
}

impl BatteryScenario {
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        rule(
            (500..=200_000).contains(&self.capacity_wh),
            "battery.capacity_wh must be 500 to 200000",
        )?;
        rule(
            (100..=30_000).contains(&self.power_w),
            "battery.power_w must be 100 to 30000",
        )?;
        rule(
            (0.5..=1.0).contains(&self.efficiency),
            "battery.efficiency must be 0.5 to 1",
        )?;
        rule(
            (0..=self.power_w).contains(&self.street_w),
            "battery.street_w must be 0 to battery.power_w",
        )
    }
}

impl EvScenario {
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        rule(
            (5_000..=200_000).contains(&self.battery_wh),
            "ev.battery_wh must be 5000 to 200000",
        )?;
        rule(
            (1_400..=11_000).contains(&self.max_power_w),
            "ev.max_power_w must be 1400 to 11000",
        )?;
        rule(
            (1_000..=self.battery_wh).contains(&self.daily_need_wh),
            "ev.daily_need_wh must be 1000 to ev.battery_wh",
        )?;
        rule(
            (10.0..=21.0).contains(&self.arrival_hour),
            "ev.arrival_hour must be 10 to 21",
        )?;
        rule(
            (4.0..=8.0).contains(&self.departure_hour),
            "ev.departure_hour must be 4 to 8",
        )
    }
}

/// 2026-06-21T15:00:00Z, in unix seconds: sun and supper on one table.
const DEFAULT_START_S: i64 = 1_782_054_000;

fn default_start() -> Timestamp {
    Timestamp::from_unix_s(DEFAULT_START_S)
}

/// Reads a value that has a text form.
fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?
        .parse()
        .map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_street_is_what_the_demo_says() {
        let street = Scenario::street_10().unwrap();
        let count = |has: fn(&HomeScenario) -> bool| street.homes.iter().filter(|h| has(h)).count();
        assert_eq!(street.homes.len(), 10);
        assert_eq!(count(|h| h.pv.is_some()), 8);
        assert_eq!(count(|h| h.battery.is_some()), 4);
        assert_eq!(count(|h| h.ev.is_some()), 2);
        assert_eq!(count(|h| h.meter == MeterKind::ShellyPro3em), 1);
        assert_eq!(street.homes[9].id.as_str(), "home-10");
        assert_eq!(street.site.start.to_string(), "2026-06-21T15:00:00Z");
        assert_eq!(default_start(), street.site.start);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let check = |from: &str, to: &str, expect: &[&str]| {
            let text = STREET_10.replacen(from, to, 1);
            assert_ne!(text, STREET_10, "{from} is not in the file");
            let error = Scenario::parse("street.toml", &text)
                .unwrap_err()
                .to_string();
            for part in expect {
                assert!(error.contains(part), "`{part}` is missing in: {error}");
            }
        };
        check(
            "latitude",
            "lattitude",
            &["street.toml", "line 6", "lattitude"],
        );
        check(
            "capacity_wh",
            "capacity",
            &["street.toml", "line 21", "`capacity`"],
        );
        check(
            "\"home-02\"",
            "\"home-01\"",
            &["street.toml", "home-01", "two homes"],
        );
        check(
            "\"home-02\"",
            "\"Home 2\"",
            &["street.toml", "line 24", "is not an id"],
        );
        check(
            "cloudiness = 0.35",
            "cloudiness = 35",
            &["site", "cloudiness must be 0 to 1"],
        );
        check(
            "2026-06-21T15:00:00Z",
            "tomorrow",
            &["line 8", "is not a time"],
        );
        check("2026-06-21", "1826-06-21", &["site", "years 2010 to 2109"]);
        check(
            "street_w = 450",
            "street_w = 4500",
            &["home-01", "street_w"],
        );
    }
}
