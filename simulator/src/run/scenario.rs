//! What a run is made of: place and time, prices, market, faults and homes, read from TOML. A key that is
//! not known, and a value that is out of range, is refused with its file, line and name.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use chrono_tz::Tz;
use domain::ids::ParticipantId;
use domain::money::Price;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::de::{DeTable, DeValue};

use super::RunError;
use super::household::LoadPart;
use super::network::NetworkScenario;
use super::sources::{DataFiles, SeriesSource, SessionsSource};
use super::weather_file::WeatherScenario;
use crate::model::ev::ChargePolicy;
use crate::model::ev::sessions::Site as VisitSite;
use crate::model::forecast::ForecastError;
use crate::model::plane::SkyModel;
use crate::scenario::{BatteryScenario, EvScenario, PvScenario};

/// Most homes of one run, groups included.
pub const HOMES_MAX: usize = 1_000_000;
/// Most bytes of a scenario file.
pub const SCENARIO_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Up to so many intervals of homes `evidence = "auto"` means `full`.
pub const AUTO_EVIDENCE_MAX: u64 = 20_000;
/// Most windows of a tariff, and most moments with prices of their own.
const WINDOWS_MAX: usize = 1000;
/// No price is further from zero, in micro-tokens per kWh.
const PRICE_MAX: i64 = 1_000_000_000;

/// A scenario for a run.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunScenario {
    /// Short name: letters, digits and hyphens.
    pub name: String,
    /// How much of it is signed: see [`Evidence`].
    #[serde(default)]
    pub evidence: Evidence,
    /// Place and time.
    pub site: RunSite,
    /// Losses between the homes and the transformer.
    #[serde(default)]
    pub feeder: Feeder,
    /// Weather from a file; where absent, skies are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weather: Option<WeatherScenario>,
    /// The utility's prices.
    #[serde(default)]
    pub tariff: TariffScenario,
    /// How the homes trade.
    #[serde(default)]
    pub market: MarketScenario,
    /// What homes know of the interval when they order.
    #[serde(default)]
    pub forecast: ForecastScenario,
    /// What goes wrong with meters.
    #[serde(default)]
    pub faults: Faults,
    /// The wires; without it no power flow is solved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkScenario>,
    /// SHA-256 of each file that homes and groups name; filled in when they are read, and held against them where it is
    /// given.
    #[serde(default, skip_serializing_if = "DataFiles::is_empty")]
    pub data: DataFiles,
    /// Homes one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub homes: Vec<RunHome>,
    /// Homes drawn by share and range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

/// Place and time.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunSite {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// The IANA zone of the street's clocks.
    #[serde(default = "berlin", with = "as_text")]
    pub zone: Tz,
    /// The first local day, as a date; of an instant, its day counts.
    #[serde(deserialize_with = "a_date", serialize_with = "as_text::serialize")]
    pub start: NaiveDate,
    /// Days of the run.
    #[serde(default = "a_week")]
    pub days: u32,
    /// Length of an interval.
    #[serde(default = "quarter_hour")]
    pub interval_s: u32,
    /// Mean cloud cover, 0 (clear) to 1 (overcast); where absent, skies are those of the season in central Europe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloudiness: Option<f64>,
    /// Metres above the sea.
    #[serde(default)]
    pub altitude_m: f64,
    /// The clear sky that clouds take their share of; a weather file has its own light.
    #[serde(default)]
    pub clear_sky: ClearSky,
    /// Linke turbidity for `ineichen`: a number, or one for each month; 3 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linke_turbidity: Option<Turbidity>,
    /// How the sky's light falls on tilted planes where skies are made: `isotropic` or `hay-davies`.
    #[serde(default)]
    pub sky: SkyModel,
    /// For the demo's street of devices only; a run goes by `zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    utc_offset_minutes: Option<i64>,
}

/// A model of the light under a clear sky.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClearSky {
    /// Haurwitz, split by Erbs.
    #[default]
    Haurwitz,
    /// Ineichen and Perez, with Linke turbidity and altitude.
    Ineichen,
}

/// Linke turbidity over the year.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "a number, or a list of 12 for the months")]
pub enum Turbidity {
    /// The same all year.
    Year(f64),
    /// From January on.
    Months([f64; 12]),
}

/// Linke turbidity where none is named.
const TURBIDITY: f64 = 3.0;

/// Losses between the homes' meters and the transformer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Feeder {
    /// Loss per 1000 Wh of net energy on the line.
    pub losses_per_mille: i64,
    /// Loss that is always there, in watts.
    pub standing_loss_w: i64,
}

impl Default for Feeder {
    fn default() -> Self {
        Feeder {
            losses_per_mille: 15,
            standing_loss_w: 0,
        }
    }
}

/// The utility's prices, in token per kWh.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TariffScenario {
    /// At which the utility sells, network fee included.
    #[serde(with = "as_text")]
    pub retail: Price,
    /// At which the utility buys.
    #[serde(with = "as_text")]
    pub feed_in: Price,
    /// What the network earns on energy that stays in the community.
    #[serde(with = "as_text")]
    pub network_fee: Price,
    /// Other prices at hours of the day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// A CSV file `start,retail,feed_in` with prices from each instant on, beside the scenario.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
}

impl Default for TariffScenario {
    fn default() -> Self {
        TariffScenario {
            retail: Price::from_micro_per_kwh(320_000),
            feed_in: Price::from_micro_per_kwh(80_000),
            network_fee: Price::from_micro_per_kwh(70_000),
            windows: Vec::new(),
            prices: None,
        }
    }
}

/// Prices at some hours of the day; of two windows the later one in the file counts.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// First hour of the street's clock, 0 to 23.
    pub from_hour: u16,
    /// The hour at which it ends, 1 to 24; before `from_hour`: on the next day.
    pub to_hour: u16,
    /// At which the utility sells.
    #[serde(with = "as_text")]
    pub retail: Price,
    /// At which the utility buys.
    #[serde(with = "as_text")]
    pub feed_in: Price,
}

/// How the homes trade.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarketScenario {
    /// An auction's name, `mid-market-rate`, `supply-demand-ratio`, `bill-sharing` or `none`.
    pub mechanism: String,
    /// The auction's price policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_policy: Option<String>,
    /// The k of `pair-k`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<String>,
    /// How the margin is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ties: Option<String>,
    /// The strategy of homes that name none.
    pub strategy: Strategy,
}

impl Default for MarketScenario {
    fn default() -> Self {
        MarketScenario {
            mechanism: "uniform-price".to_owned(),
            price_policy: None,
            k: None,
            ties: None,
            strategy: Strategy::ZeroIntelligence,
        }
    }
}

pub use crate::strategy::Kind as Strategy;

/// The strategy of a name.
#[must_use]
pub fn strategy_of(name: &str) -> Option<Strategy> {
    Strategy::ALL
        .into_iter()
        .find(|strategy| strategy.name() == name)
}

/// The names of all strategies, for people.
#[must_use]
pub fn strategy_names() -> String {
    Strategy::ALL.map(Strategy::name).join(", ")
}

/// What homes know of the interval when they order.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForecastScenario {
    /// `perfect`, `noisy`, `growing` or `persistence`.
    pub kind: ForecastKind,
    /// For `noisy`: the error of load and of generation is even within ± so many thousandths of them.
    pub error_permille: u32,
    /// For `growing`: how many intervals ahead orders are made; the next one is 1.
    pub horizon: u32,
    /// For `growing`: the error of what is used, cars and heat pumps among it.
    pub load: ForecastError,
    /// For `growing`: the error of what panels give.
    pub pv: ForecastError,
}

impl Default for ForecastScenario {
    fn default() -> Self {
        ForecastScenario {
            kind: ForecastKind::Noisy,
            error_permille: 250,
            horizon: 4,
            load: ForecastError::LOAD,
            pv: ForecastError::PV,
        }
    }
}

/// Where a home's forecast comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForecastKind {
    /// It knows what will be.
    Perfect,
    /// What will be, with an error.
    Noisy,
    /// What will be, with an error that grows with the horizon and is remembered from interval to interval.
    Growing,
    /// What was at the same time of the day before.
    Persistence,
}

/// Longest horizon of an order.
const HORIZON_MAX: u32 = 672;

impl ForecastScenario {
    fn check(&self) -> Result<(), Wrong> {
        let permille = self.error_permille <= 1000;
        rule(permille, &["forecast", "error_permille"], "0 to 1000")?;
        let near = (1..=HORIZON_MAX).contains(&self.horizon);
        rule(near, &["forecast", "horizon"], "1 to 672")?;
        for (key, error) in [("load", self.load), ("pv", self.pv)] {
            let sigma = (0.0..=10.0).contains(&error.sigma_far);
            rule(sigma, &["forecast", key, "sigma_far"], "0 to 10")?;
            let rho = (0.0..1.0).contains(&error.rho);
            rule(rho, &["forecast", key, "rho"], "0 to below 1")?;
        }
        Ok(())
    }
}

/// What goes wrong with meters. Shares are of all readings, in thousandths.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Readings that never arrive.
    pub lost_permille: u32,
    /// Readings that arrive after the provisional settlement; a later run corrects it.
    pub late_permille: u32,
    /// Readings that were changed on their way: their signature does not fit, so they count as lost.
    pub tampered_permille: u32,
    /// Meters that stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dead_meters: Vec<DeadMeter>,
    /// Clocks that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clock_drifts: Vec<ClockDrift>,
}

impl Faults {
    /// Whether nothing goes wrong.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Faults::default()
    }
}

/// A meter that stops.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeadMeter {
    /// Whose.
    pub home: String,
    /// The first day without readings, from 0.
    pub from_day: u32,
    /// Days without readings.
    pub days: u32,
}

/// A clock that is fast: the end of each interval is counted in the next one, more and more of it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClockDrift {
    /// Whose.
    pub home: String,
    /// Seconds that it gains in a day.
    pub seconds_per_day: i32,
}

/// How much of a run is signed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// `full` up to [`AUTO_EVIDENCE_MAX`] home-intervals, else `none`.
    #[default]
    Auto,
    /// Readings and orders are signed with a key of each home and verified; what is settled is logged, and
    /// the log's head is signed.
    Full,
    /// Nothing is signed.
    None,
}

impl Evidence {
    /// The evidence of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let all = [Evidence::Auto, Evidence::Full, Evidence::None];
        all.into_iter().find(|evidence| evidence.name() == name)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Evidence::Auto => "auto",
            Evidence::Full => "full",
            Evidence::None => "none",
        }
    }
}

/// One home.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunHome {
    /// The participant who lives there.
    #[serde(with = "as_text")]
    pub id: ParticipantId,
    /// What the household uses in a year, without car and battery.
    pub yearly_load_kwh: i64,
    /// How it orders; as `[market]` says where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// For the demo's street of devices only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meter: Option<String>,
    /// Where its load comes from, as a sum of parts; the generator where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<LoadPart>,
    /// Solar panels with their inverter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pv: Option<RunPv>,
    /// What its panels gave, from a file, in place of `pv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<SeriesSource>,
    /// The most that may be fed into the street; panels that would give more are curtailed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_limit_w: Option<i64>,
    /// A battery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub battery: Option<BatteryScenario>,
    /// An electric car.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ev: Option<RunEv>,
    /// A heat pump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heat_pump: Option<RunHeatPump>,
}

/// An electric car, its charger and its owner's habits.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunEv {
    /// Usable energy of the car's battery.
    pub battery_wh: i64,
    /// Largest charging power.
    pub max_power_w: i64,
    /// Usual hour of coming home, on the street's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival_hour: Option<f64>,
    /// Usual hour of leaving on the next day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departure_hour: Option<f64>,
    /// Mean energy charged on a day with a drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_need_wh: Option<i64>,
    /// In place of the three: visits of the mixture that was fitted to real ones, `home` or `work`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visits: Option<VisitSite>,
    /// In place of them: visits of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionsSource>,
    /// `uncontrolled`, `surplus`, `tariff` or `deadline`.
    #[serde(default)]
    pub policy: ChargePolicy,
    /// On the live street it charges at a station with a connection of its own. A run has no such stations: there it
    /// charges behind its home's meter all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_connection: bool,
}

/// Solar panels of one or several planes on one inverter.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunPv {
    /// Power of the first plane's panels under standard test conditions.
    pub peak_w: i64,
    /// Largest AC power of the inverter.
    pub inverter_w: i64,
    /// The first plane's angle from the horizontal.
    pub tilt_deg: f64,
    /// Direction that it faces, clockwise from north.
    pub azimuth_deg: f64,
    /// Further planes on the same inverter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planes: Vec<RunPlane>,
}

/// A further plane of panels.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunPlane {
    /// Power of its panels under standard test conditions.
    pub peak_w: i64,
    /// Angle from the horizontal.
    pub tilt_deg: f64,
    /// Direction that it faces, clockwise from north.
    pub azimuth_deg: f64,
}

/// Most planes on one inverter.
const PLANES_MAX: usize = 16;

impl RunPv {
    /// Power of all its panels.
    #[must_use]
    pub fn peak_of_all_w(&self) -> i64 {
        self.peak_w + self.planes.iter().map(|plane| plane.peak_w).sum::<i64>()
    }

    fn check(&self, table: &str) -> Result<(), Wrong> {
        let plane = |peak_w, tilt_deg, azimuth_deg| PvScenario {
            peak_w,
            inverter_w: self.inverter_w,
            tilt_deg,
            azimuth_deg,
        };
        let first = plane(self.peak_w, self.tilt_deg, self.azimuth_deg).check();
        first.map_err(|what| placed(table, what))?;
        let few = self.planes.len() < PLANES_MAX;
        rule(few, &[table, "pv", "planes"], "at most 15 further planes")?;
        for (place, more) in self.planes.iter().enumerate() {
            let checked = plane(more.peak_w, more.tilt_deg, more.azimuth_deg).check();
            checked.map_err(|what| {
                let what = what.replacen("pv.", &format!("pv.planes[{place}]."), 1);
                placed(table, &what)
            })?;
        }
        Ok(())
    }
}

/// A sentence that begins with a key, as a place and what is left of it.
fn placed(table: &str, what: &str) -> Wrong {
    let (path, what) = what.split_once(' ').unwrap_or((what, ""));
    let path = std::iter::once(table).chain(path.split('.'));
    (path.map(str::to_owned).collect(), what.to_owned())
}

/// The least daily need that a car may have.
const NEED_MIN_WH: i64 = 1_000;

impl RunEv {
    fn check(&self, table: &str) -> Result<(), Wrong> {
        let habits = [
            self.arrival_hour.is_some(),
            self.departure_hour.is_some(),
            self.daily_need_wh.is_some(),
        ];
        let ways = usize::from(habits.contains(&true))
            + usize::from(self.visits.is_some())
            + usize::from(self.sessions.is_some());
        rule(
            ways == 1,
            &[table, "ev"],
            "its visits are either arrival_hour, departure_hour and daily_need_wh, or `visits`, or `sessions`",
        )?;
        rule(
            ways == 1 && !(habits.contains(&true) && habits.contains(&false)),
            &[table, "ev"],
            "arrival_hour, departure_hour and daily_need_wh belong together",
        )?;
        let plain = EvScenario {
            battery_wh: self.battery_wh,
            max_power_w: self.max_power_w,
            arrival_hour: self.arrival_hour.unwrap_or(18.0),
            departure_hour: self.departure_hour.unwrap_or(7.0),
            daily_need_wh: self.daily_need_wh.unwrap_or(NEED_MIN_WH),
            own_connection: self.own_connection,
        };
        plain.check().map_err(|what| placed(table, what))?;
        if let Some(sessions) = &self.sessions {
            let checked = sessions.check();
            checked.map_err(|(key, what)| under(&[table, "ev", "sessions", key], what))?;
        }
        Ok(())
    }
}

fn under(path: &[&str], what: &str) -> Wrong {
    let path = path.iter().map(|s| (*s).to_owned()).collect();
    (path, what.to_owned())
}

/// A heat pump and the house it heats.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunHeatPump {
    /// Largest electric power.
    pub electric_w: f64,
    /// What the house loses for each kelvin between inside and outside.
    #[serde(default = "loss_w_per_k")]
    pub loss_w_per_k: f64,
    /// Heat that one kelvin holds.
    #[serde(default = "capacity_wh_per_k")]
    pub capacity_wh_per_k: f64,
    /// What the thermostat aims at.
    #[serde(default = "set_point_c")]
    pub set_point_c: f64,
    /// Supply temperature of the heating.
    #[serde(default = "supply_c")]
    pub supply_c: f64,
    /// Hot water of a day, in heat.
    #[serde(default = "hot_water_wh")]
    pub hot_water_wh: f64,
}

impl RunHeatPump {
    fn check(&self) -> Result<(), String> {
        let ranges = [
            ("electric_w", self.electric_w, 100.0, 30_000.0),
            ("loss_w_per_k", self.loss_w_per_k, 10.0, 2_000.0),
            (
                "capacity_wh_per_k",
                self.capacity_wh_per_k,
                500.0,
                100_000.0,
            ),
            ("set_point_c", self.set_point_c, 10.0, 26.0),
            ("supply_c", self.supply_c, 25.0, 65.0),
            ("hot_water_wh", self.hot_water_wh, 0.0, 50_000.0),
        ];
        match ranges
            .into_iter()
            .find(|(_, value, low, high)| !(*low..=*high).contains(value))
        {
            None => Ok(()),
            Some((key, _, low, high)) => Err(format!("heat_pump.{key} must be {low} to {high}")),
        }
    }
}

/// Homes drawn by share and range. Who has what depends on `draw`, not on the run's seed.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Ids are this, a hyphen and a number.
    pub prefix: String,
    /// How many.
    pub homes: u32,
    /// Another number draws other homes.
    #[serde(default = "one")]
    pub draw: u64,
    /// Least and most yearly use.
    pub yearly_load_kwh: [i64; 2],
    /// Where their load comes from, as a sum of parts; the nth home takes the nth column of a file whose column is not
    /// named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<LoadPart>,
    /// What their panels gave, from a file, in place of `pv_percent`; columns as for `load`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<SeriesSource>,
    /// The most that a home may feed in, in per cent of its panels' power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_limit_percent: Option<u32>,
    /// Homes with panels, in per cent.
    #[serde(default)]
    pub pv_percent: u32,
    /// Least and most power of the panels.
    #[serde(default = "roof")]
    pub pv_peak_w: [i64; 2],
    /// Homes with a battery, in per cent of those with panels.
    #[serde(default)]
    pub battery_percent: u32,
    /// Least and most capacity.
    #[serde(default = "store")]
    pub battery_wh: [i64; 2],
    /// Homes with an electric car, in per cent.
    #[serde(default)]
    pub ev_percent: u32,
    /// How cars are charged.
    #[serde(default)]
    pub ev_policy: ChargePolicy,
    /// Their visits from the mixture that was fitted to real ones, `home` or `work`, rather than drawn habits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ev_visits: Option<VisitSite>,
    /// Their visits from a file; the nth home takes the nth charging point of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ev_sessions: Option<SessionsSource>,
    /// Homes with a heat pump, in per cent.
    #[serde(default)]
    pub heat_pump_percent: u32,
    /// How they order; as `[market]` says where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
}

fn loss_w_per_k() -> f64 {
    150.0
}

fn capacity_wh_per_k() -> f64 {
    9000.0
}

fn set_point_c() -> f64 {
    20.5
}

fn supply_c() -> f64 {
    38.0
}

fn hot_water_wh() -> f64 {
    6000.0
}

fn berlin() -> Tz {
    Tz::Europe__Berlin
}

fn a_week() -> u32 {
    7
}

fn quarter_hour() -> u32 {
    domain::time::DEFAULT_INTERVAL_S
}

fn one() -> u64 {
    1
}

fn roof() -> [i64; 2] {
    [3000, 10_000]
}

fn store() -> [i64; 2] {
    [5000, 13_000]
}

/// A value that is written as text.
mod as_text {
    use super::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: std::fmt::Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

fn a_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveDate, D::Error> {
    let text = String::deserialize(deserializer)?;
    let date = text.split('T').next().unwrap_or(&text);
    date.parse()
        .map_err(|_| serde::de::Error::custom(format!("`{text}` is not a date like 2026-06-15")))
}

/// What is wrong, and where: names of tables and the key.
type Wrong = (Vec<String>, String);

/// `Ok` where `holds`, otherwise the place and the sentence.
fn rule(holds: bool, path: &[&str], what: &str) -> Result<(), Wrong> {
    if holds {
        return Ok(());
    }
    let path = path.iter().map(|s| (*s).to_owned()).collect();
    Err((path, what.to_owned()))
}

impl RunScenario {
    /// Lets the homes trade by another mechanism and, if named, another price policy of it.
    ///
    /// # Errors
    /// There is no such mechanism or policy.
    pub fn trade_by(
        &mut self,
        mechanism: &str,
        price_policy: Option<&str>,
    ) -> Result<(), RunError> {
        self.market.mechanism = mechanism.to_owned();
        self.market.price_policy = price_policy.map(str::to_owned);
        self.market.k = None;
        self.market.ties = None;
        let rule = super::market::Rule::of(&self.market);
        rule.map(|_| ()).map_err(RunError::bad)
    }

    /// A scenario from TOML; `file` names the place of an error.
    ///
    /// # Errors
    /// Says file, line and key, and what it may be.
    pub fn parse(file: &str, text: &str) -> Result<Self, RunError> {
        if text.len() > SCENARIO_MAX_BYTES {
            return Err(RunError::bad(format!(
                "{file}: more than {SCENARIO_MAX_BYTES} bytes"
            )));
        }
        let scenario: RunScenario = toml::from_str(text)
            .map_err(|e| RunError::bad(format!("{file}: {}", e.to_string().trim_end())))?;
        scenario.check().map_err(|(path, what)| {
            let line = line_of(text, &path).map_or(String::new(), |line| format!("line {line}: "));
            RunError::bad(format!("{file}: {line}{}: {what}", path.join(".")))
        })?;
        Ok(scenario)
    }

    /// Reads the files that the scenario names, which lie in `place`: weather, network, series and sessions.
    ///
    /// # Errors
    /// One cannot be read, or is not the one whose SHA-256 the scenario names.
    pub fn read_files(&mut self, place: &std::path::Path) -> Result<(), RunError> {
        if let Some(weather) = &mut self.weather {
            weather.read(place)?;
        }
        if let Some(network) = &mut self.network {
            network.take_file(|name| {
                RunError::read(&place.join(name)).map_err(|e| RunError::bad(e.to_string()))
            })?;
        }
        let names: Vec<String> = self.named_files().map(str::to_owned).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.data.read(&names, place)
    }

    /// The files of series and sessions that homes and groups name.
    fn named_files(&self) -> impl Iterator<Item = &str> {
        let homes = self.homes.iter().flat_map(|home| {
            let load = home.load.iter().filter_map(|part| part.series.as_ref());
            let sessions = home.ev.iter().filter_map(|ev| ev.sessions.as_ref());
            (load.chain(&home.generation).map(|s| s.file.as_str()))
                .chain(sessions.map(|s| s.file.as_str()))
        });
        let groups = self.groups.iter().flat_map(|group| {
            let load = group.load.iter().filter_map(|part| part.series.as_ref());
            (load.chain(&group.generation).map(|s| s.file.as_str()))
                .chain(group.ev_sessions.iter().map(|s| s.file.as_str()))
        });
        homes.chain(groups)
    }

    /// The scenario as a file, with all defaults filled in.
    ///
    /// # Errors
    /// Never with a scenario that was read.
    pub fn to_toml(&self) -> Result<String, RunError> {
        toml::to_string(self)
            .map_err(|e| RunError::bad(format!("the scenario cannot be written: {e}")))
    }

    /// Homes, those of groups included.
    #[must_use]
    pub fn count_homes(&self) -> usize {
        let grouped = self
            .groups
            .iter()
            .map(|g| usize::try_from(g.homes).unwrap_or(HOMES_MAX));
        self.homes.len() + grouped.sum::<usize>()
    }

    fn check(&self) -> Result<(), Wrong> {
        let named = !self.name.is_empty()
            && self.name.len() <= 64
            && (self.name.bytes()).all(|b| b.is_ascii_alphanumeric() || b == b'-');
        rule(named, &["name"], "1 to 64 letters, digits and hyphens")?;
        self.site.check()?;
        rule(
            self.weather.is_none() || self.site.cloudiness.is_none(),
            &["site", "cloudiness"],
            "skies are either made with a cloudiness or those of the file in [weather]",
        )?;
        rule(
            self.weather.is_none() || self.site.clear_sky == ClearSky::Haurwitz,
            &["site", "clear_sky"],
            "the light is that of the file in [weather]",
        )?;
        rule(
            self.weather.is_none() || self.site.sky == SkyModel::Isotropic,
            &["site", "sky"],
            "with a weather file, say `sky` in [weather]",
        )?;
        self.tariff.check()?;
        if let Some(network) = &self.network {
            let place = |key: &str| vec!["network".to_owned(), key.to_owned()];
            let checked = network.check();
            checked.map_err(|(key, what)| (place(key), what.to_owned()))?;
        }
        rule(
            (0..=200).contains(&self.feeder.losses_per_mille),
            &["feeder", "losses_per_mille"],
            "0 to 200",
        )?;
        rule(
            (0..=10_000_000).contains(&self.feeder.standing_loss_w),
            &["feeder", "standing_loss_w"],
            "0 to 10000000",
        )?;
        self.forecast.check()?;
        let homes = self.count_homes();
        rule(
            (1..=HOMES_MAX).contains(&homes),
            &["homes"],
            "there must be 1 to 1000000 homes, in [[homes]] or [[groups]]",
        )?;
        let mut seen = BTreeSet::new();
        for (place, home) in self.homes.iter().enumerate() {
            let table = format!("homes[{place}]");
            rule(
                seen.insert(home.id.as_str()),
                &[&table, "id"],
                "two homes have this id",
            )?;
            home.check(&table)?;
        }
        for (place, group) in self.groups.iter().enumerate() {
            group.check(&format!("groups[{place}]"))?;
        }
        super::market::Rule::of(&self.market)
            .map(drop)
            .map_err(|e| (vec!["market".to_owned()], e))?;
        self.faults.check()
    }
}

impl RunSite {
    /// Linke turbidity of the months.
    pub(super) fn turbidity(&self) -> [f64; 12] {
        match self.linke_turbidity {
            None => [TURBIDITY; 12],
            Some(Turbidity::Year(value)) => [value; 12],
            Some(Turbidity::Months(values)) => values,
        }
    }

    fn check(&self) -> Result<(), Wrong> {
        let ranges = [
            ("latitude", self.latitude, -90.0, 90.0),
            ("longitude", self.longitude, -180.0, 180.0),
            ("cloudiness", self.cloudiness.unwrap_or(0.0), 0.0, 1.0),
            ("altitude_m", self.altitude_m, -450.0, 6000.0),
        ];
        for (key, value, low, high) in ranges {
            let fits = (low..=high).contains(&value);
            rule(fits, &["site", key], &format!("{low} to {high}"))?;
        }
        let hazy = self.turbidity().iter().all(|t| (1.0..=10.0).contains(t));
        rule(hazy, &["site", "linke_turbidity"], "1 to 10")?;
        rule(
            self.clear_sky == ClearSky::Ineichen || self.linke_turbidity.is_none(),
            &["site", "linke_turbidity"],
            "only where clear_sky is \"ineichen\"",
        )?;
        rule(
            (1..=super::calendar::DAYS_MAX).contains(&self.days),
            &["site", "days"],
            "1 to 3660",
        )?;
        let year = chrono::Datelike::year(&self.start);
        rule(
            (2010..2100).contains(&year),
            &["site", "start"],
            "a date in the years 2010 to 2099",
        )?;
        rule(
            self.interval_s >= 60 && domain::time::Interval::new(0, self.interval_s).is_ok(),
            &["site", "interval_s"],
            "60 to 3600, dividing the hour",
        )
    }
}

impl TariffScenario {
    fn check(&self) -> Result<(), Wrong> {
        let small = |price: Price| price.micro_per_kwh().abs() <= PRICE_MAX;
        let range = "-1000 to 1000 token per kWh";
        rule(small(self.retail), &["tariff", "retail"], range)?;
        rule(small(self.feed_in), &["tariff", "feed_in"], range)?;
        let fee = small(self.network_fee) && self.network_fee >= Price::ZERO;
        rule(fee, &["tariff", "network_fee"], "0 to 1000 token per kWh")?;
        rule(
            self.windows.len() <= WINDOWS_MAX,
            &["tariff", "windows"],
            "at most 1000",
        )?;
        for (place, window) in self.windows.iter().enumerate() {
            let table = format!("windows[{place}]");
            rule(
                window.from_hour < 24,
                &["tariff", &table, "from_hour"],
                "0 to 23",
            )?;
            rule(
                (1..=24).contains(&window.to_hour),
                &["tariff", &table, "to_hour"],
                "1 to 24",
            )?;
            rule(small(window.retail), &["tariff", &table, "retail"], range)?;
            rule(small(window.feed_in), &["tariff", &table, "feed_in"], range)?;
        }
        Ok(())
    }
}

impl RunHome {
    /// A home of a group.
    pub(super) fn drawn(
        id: ParticipantId,
        yearly_load_kwh: i64,
        strategy: Option<Strategy>,
    ) -> Self {
        RunHome {
            id,
            yearly_load_kwh,
            strategy,
            meter: None,
            load: Vec::new(),
            pv: None,
            generation: None,
            export_limit_w: None,
            battery: None,
            ev: None,
            heat_pump: None,
        }
    }

    fn check(&self, table: &str) -> Result<(), Wrong> {
        rule(
            (1..=1_000_000).contains(&self.yearly_load_kwh),
            &[table, "yearly_load_kwh"],
            "1 to 1000000",
        )?;
        check_load(&self.load, table)?;
        check_series(self.generation.as_ref(), table)?;
        rule(
            self.pv.is_none() || self.generation.is_none(),
            &[table, "generation"],
            "in place of `pv`, not beside it",
        )?;
        rule(
            (0..=1_000_000).contains(&self.export_limit_w.unwrap_or(0)),
            &[table, "export_limit_w"],
            "0 to 1000000",
        )?;
        if let Some(pv) = &self.pv {
            pv.check(table)?;
        }
        if let Some(battery) = &self.battery {
            battery.check().map_err(|what| placed(table, what))?;
        }
        if let Some(ev) = &self.ev {
            ev.check(table)?;
        }
        if let Some(heat_pump) = &self.heat_pump {
            heat_pump.check().map_err(|what| placed(table, &what))?;
        }
        Ok(())
    }
}

fn check_load(parts: &[LoadPart], table: &str) -> Result<(), Wrong> {
    rule(
        parts.len() <= PARTS_MAX,
        &[table, "load"],
        "at most 16 parts",
    )?;
    for (place, part) in parts.iter().enumerate() {
        let name = format!("load[{place}]");
        part.check()
            .map_err(|(key, what)| under(&[table, &name, key], what))?;
    }
    Ok(())
}

fn check_series(series: Option<&SeriesSource>, table: &str) -> Result<(), Wrong> {
    series.map_or(Ok(()), |series| {
        series
            .check()
            .map_err(|(key, what)| under(&[table, "generation", key], what))
    })
}

/// Most parts of a load.
const PARTS_MAX: usize = 16;

impl Group {
    fn check(&self, table: &str) -> Result<(), Wrong> {
        let id = ParticipantId::new(format!("{}-0000001", self.prefix));
        rule(
            id.is_ok(),
            &[table, "prefix"],
            "small letters, digits and hyphens, beginning with a letter",
        )?;
        rule(self.homes > 0, &[table, "homes"], "at least 1")?;
        let ranges = [
            ("yearly_load_kwh", self.yearly_load_kwh, 1, 1_000_000),
            ("pv_peak_w", self.pv_peak_w, 100, 30_000),
            ("battery_wh", self.battery_wh, 500, 200_000),
        ];
        for (key, [low, high], least, most) in ranges {
            let fits = least <= low && low <= high && high <= most;
            rule(
                fits,
                &[table, key],
                &format!("[low, high] within {least} to {most}"),
            )?;
        }
        for (key, percent) in [
            ("pv_percent", self.pv_percent),
            ("battery_percent", self.battery_percent),
            ("ev_percent", self.ev_percent),
            ("heat_pump_percent", self.heat_pump_percent),
        ] {
            rule(percent <= 100, &[table, key], "0 to 100")?;
        }
        check_load(&self.load, table)?;
        check_series(self.generation.as_ref(), table)?;
        rule(
            self.pv_percent == 0 || self.generation.is_none(),
            &[table, "generation"],
            "in place of `pv_percent`, not beside it",
        )?;
        rule(
            self.ev_visits.is_none() || self.ev_sessions.is_none(),
            &[table, "ev_sessions"],
            "in place of `ev_visits`, not beside it",
        )?;
        let sessions = self
            .ev_sessions
            .as_ref()
            .map_or(Ok(()), SessionsSource::check);
        sessions.map_err(|(key, what)| under(&[table, "ev_sessions", key], what))?;
        rule(
            self.export_limit_percent.unwrap_or(0) <= 1000,
            &[table, "export_limit_percent"],
            "0 to 1000",
        )
    }
}

impl Faults {
    fn check(&self) -> Result<(), Wrong> {
        let shares = [
            ("lost_permille", self.lost_permille),
            ("late_permille", self.late_permille),
            ("tampered_permille", self.tampered_permille),
        ];
        for (key, share) in shares {
            rule(share <= 1000, &["faults", key], "0 to 1000")?;
        }
        let sum = shares.iter().map(|(_, share)| share).sum::<u32>();
        rule(
            sum <= 1000,
            &["faults"],
            "lost, late and tampered readings are at most 1000 thousandths together",
        )?;
        for (place, drift) in self.clock_drifts.iter().enumerate() {
            let table = format!("clock_drifts[{place}]");
            rule(
                (0..=300).contains(&drift.seconds_per_day),
                &["faults", &table, "seconds_per_day"],
                "0 to 300",
            )?;
        }
        Ok(())
    }
}

/// The line of a key, or of the nearest table above it that the text has.
fn line_of(text: &str, path: &[String]) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut offset = None;
    for (depth, step) in path.iter().enumerate() {
        let (name, place) = match step.split_once('[') {
            Some((name, place)) => (name, place.trim_end_matches(']').parse::<usize>().ok()),
            None => (step.as_str(), None),
        };
        let Some((key, value)) = table.iter().find(|(k, _)| k.get_ref() == name) else {
            break;
        };
        offset = Some(key.span().start);
        let mut value = value;
        if let (Some(place), DeValue::Array(list)) = (place, value.get_ref()) {
            value = list.get(place)?;
            offset = Some(value.span().start);
        }
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ if depth + 1 < path.len() => break,
            _ => {}
        }
    }
    let before = text.get(..offset?)?;
    Some(before.bytes().filter(|b| *b == b'\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "name = \"two\"\n\n[site]\nlatitude = 51.0\nlongitude = 10.0\nstart = \"2026-03-28\"\n\
        cloudiness = 0.4\n\n[[homes]]\nid = \"a\"\nyearly_load_kwh = 3000\n\n[[homes]]\nid = \"b\"\n\
        yearly_load_kwh = 2000\npv = { peak_w = 5000, inverter_w = 5000, tilt_deg = 30.0, azimuth_deg = 180.0 }\n";

    #[test]
    fn defaults_are_filled_in_and_read_again() {
        let scenario = RunScenario::parse("two.toml", SMALL).unwrap();
        let written = scenario.to_toml().unwrap();
        for line in [
            "evidence = \"auto\"",
            "zone = \"Europe/Berlin\"",
            "interval_s = 900",
            "retail = \"0.320000\"",
            "strategy = \"zero-intelligence\"",
            "lost_permille = 0",
        ] {
            assert!(written.contains(line), "{line} is missing in:\n{written}");
        }
        assert_eq!(RunScenario::parse("two.toml", &written).unwrap(), scenario);
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_key() {
        let check = |from: &str, to: &str, expect: &[&str]| {
            let text = SMALL.replacen(from, to, 1);
            assert_ne!(text, SMALL);
            let error = RunScenario::parse("two.toml", &text)
                .unwrap_err()
                .to_string();
            for part in expect {
                assert!(error.contains(part), "`{part}` is missing in: {error}");
            }
        };
        check(
            "latitude",
            "lattitude",
            &["two.toml", "line 4", "lattitude"],
        );
        check(
            "51.0",
            "151.0",
            &["two.toml: line 4: site.latitude: -90 to 90"],
        );
        check("\"b\"", "\"a\"", &["line 14: homes[1].id: two homes"]);
        check(
            "peak_w = 5000",
            "peak_w = 5",
            &["line 16: homes[1].pv.peak_w", "100 to 30000"],
        );
        check("2026-03-28", "28 March", &["line 6", "is not a date"]);
        check(
            "cloudiness = 0.4",
            "cloudiness = 0.4\nzone = \"Mars\"",
            &["line 8", "zone"],
        );
        check(
            "name = \"two\"",
            "name = \"two\"\nmarket = { mechanism = \"dictator\" }",
            &[
                "line 2: market:",
                "dictator",
                "uniform-price",
                "bill-sharing",
            ],
        );
        check(
            "[[homes]]",
            "[faults]\nlost_permille = 2000\n\n[[homes]]",
            &["line 10: faults.lost_permille"],
        );
    }
}
