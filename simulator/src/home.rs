//! One home: household, panels, battery and car behind one connection point (the charger may have one of its own),
//! and the registers of its meters in whole watt-seconds. Nothing is created or lost: what the meter counts is what the assets do.

use domain::ids::ParticipantId;

use crate::battery::BatteryState;
use crate::ev::{Charger, ChargerState};
use crate::load::Load;
use crate::pv::{self, Sun};
use crate::random::Stream;
use crate::scenario::{HomeScenario, MeterKind, PvScenario};
use crate::setpoint::Settings;
use crate::weather::Sky;
use crate::world::{MINUTE_STEPS, STEP_S};

/// A meter with two registers, as seen from whoever is behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MeterState {
    /// Power now; import positive.
    pub power_w: i64,
    /// Energy imported since the meter was built.
    pub import_ws: i64,
    /// Energy exported since the meter was built.
    pub export_ws: i64,
}

impl MeterState {
    /// The import register in whole watt-hours, as a meter shows it.
    #[must_use]
    pub const fn import_wh(&self) -> i64 {
        self.import_ws / 3600
    }

    /// The export register in whole watt-hours, as a meter shows it.
    #[must_use]
    pub const fn export_wh(&self) -> i64 {
        self.export_ws / 3600
    }

    /// Counts one step at `power_w`.
    pub(crate) fn count(&mut self, power_w: i64) {
        self.power_w = power_w;
        self.import_ws += power_w.max(0) * STEP_S;
        self.export_ws += (-power_w).max(0) * STEP_S;
    }
}

/// A solar plant and what it has generated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PvState {
    /// Rating of the inverter.
    pub rating_w: i64,
    /// AC power now.
    pub power_w: i64,
    /// Energy generated since the inverter was built.
    pub energy_ws: i64,
}

/// What can be seen of a home.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HomeState {
    /// The participant who lives there.
    pub id: ParticipantId,
    /// The kind of its meter.
    pub meter_kind: MeterKind,
    /// Its meter at the connection point.
    pub meter: MeterState,
    /// What the household uses now, without car and battery.
    pub load_w: i64,
    /// What the household has used since the simulation started.
    pub load_ws: i64,
    /// Its panels.
    pub pv: Option<PvState>,
    /// Its battery.
    pub battery: Option<BatteryState>,
    /// Its charger.
    pub charger: Option<ChargerState>,
    /// Whether the charger is connected to the street by itself: then the home's meter does not count it.
    pub charger_apart: bool,
    /// What its devices were told from outside.
    pub settings: Settings,
}

/// A home with what makes it run.
pub(crate) struct Home {
    pub(crate) state: HomeState,
    load: Load,
    plant: Option<PvScenario>,
    charger: Option<Charger>,
    pv_from_w: i64,
    pv_to_w: i64,
}

impl Home {
    /// A home at the start of the simulation, its meters already some years old.
    pub(crate) fn new(seed: u64, scenario: &HomeScenario) -> Home {
        let name = scenario.id.as_str();
        let initial = |asset: &str| Stream::new(seed, &format!("{name}/initial/{asset}")).at(0);
        // Below 8,192 kWh a float32 meter still tells single watt-hours apart.
        let import_wh = initial("import").whole(1_800_000, 5_200_000);
        let export_wh = scenario
            .pv
            .as_ref()
            .map_or(0, |_| initial("export").whole(900_000, 4_800_000));
        let pv = scenario.pv.as_ref().map(|plant| PvState {
            rating_w: plant.inverter_w,
            power_w: 0,
            energy_ws: (export_wh + initial("own use").whole(500_000, 4_000_000)) * 3600,
        });
        let battery = scenario
            .battery
            .as_ref()
            .map(|b| BatteryState::new(b, &mut initial("battery")));
        let charger = scenario
            .ev
            .as_ref()
            .map(|ev| Charger::new(seed, name, ev, &mut initial("charger")));
        let meter = MeterState {
            power_w: 0,
            import_ws: import_wh * 3600,
            export_ws: export_wh * 3600,
        };
        Home {
            load: Load::new(seed, name, scenario.yearly_load_kwh),
            plant: scenario.pv.clone(),
            pv_from_w: 0,
            pv_to_w: 0,
            state: HomeState {
                id: scenario.id.clone(),
                meter_kind: scenario.meter,
                meter,
                load_w: 0,
                load_ws: 0,
                pv,
                battery,
                charger: charger.as_ref().map(|c| c.state.clone()),
                charger_apart: scenario.ev.as_ref().is_some_and(|ev| ev.own_connection),
                settings: Settings::default(),
            },
            charger,
        }
    }

    /// Takes in what holds for the minute that begins: the load, and the sun at its two ends.
    pub(crate) fn turn_minute(&mut self, local_minute: i64, from: Light, to: Light) {
        self.state.load_w = self.load.power_w(local_minute);
        if let Some(plant) = &self.plant {
            let power_w = |light: Light| {
                light
                    .sun
                    .map_or(0, |sun| pv::power_w(plant, sun, light.sky))
            };
            (self.pv_from_w, self.pv_to_w) = (power_w(from), power_w(to));
        }
    }

    /// One step that begins at `now_s` of unix time; gives the power that the street sees of it, import positive.
    pub(crate) fn step(&mut self, now_s: i64, local_s: i64, step_of_minute: i64) -> i64 {
        let state = &mut self.state;
        let settings = state.settings;
        let load_w = state.load_w;
        state.load_ws += load_w * STEP_S;
        let mut pv_w = 0;
        if let Some(pv) = &mut state.pv {
            let change_w = self.pv_to_w - self.pv_from_w;
            let limit_w = settings.inverter.limit_w(pv.rating_w, now_s);
            pv_w = (self.pv_from_w + change_w * step_of_minute / MINUTE_STEPS).min(limit_w);
            pv.power_w = pv_w;
            pv.energy_ws += pv_w * STEP_S;
        }
        let mut ev_w = 0;
        if let (Some(charger), Some(shown)) = (&mut self.charger, &mut state.charger) {
            ev_w = charger.step(local_s, settings.charger.limit_ma(now_s));
            shown.clone_from(&charger.state);
        }
        let (behind_w, beside_w) = match state.charger_apart {
            true => (0, ev_w),
            false => (ev_w, 0),
        };
        let battery_w = state.battery.as_mut().map_or(0, |b| {
            let window_w = settings.battery.window_w(b.power_max_w, now_s);
            b.step(load_w - pv_w, behind_w, window_w)
        });
        let net_w = load_w + behind_w - pv_w - battery_w;
        state.meter.count(net_w);
        net_w + beside_w
    }
}

/// Sun and sky at an instant; no sun where its place is not known.
#[derive(Clone, Copy)]
pub(crate) struct Light {
    pub(crate) sun: Option<Sun>,
    pub(crate) sky: Sky,
}
