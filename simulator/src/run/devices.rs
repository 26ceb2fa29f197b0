//! What the homes' devices do: load, panels, car and battery, window by window, chunk by chunk. Nothing
//! here depends on the market, so chunks of homes run on several threads and the results do not differ.

use domain::ids::digest_parts;

use super::RunError;
use super::calendar::{Calendar, Moment};
use super::cars::Car;
use super::counter::Counter;
use super::scenario::{ForecastKind, ForecastScenario, RunHeatPump, RunHome, RunScenario};
use super::weather_file::WeatherScenario;
use crate::model::Carry;
use crate::model::battery::{Battery, BatterySpec, BatteryState};
use crate::model::clear_sky::{Light, erbs, haurwitz_w_per_m2};
use crate::model::clouds::{Climate, Clouds, SharedSky, Transparency};
use crate::model::heat_pump::{HeatNow, HeatState, HeatedHouse, hot_water_wh};
use crate::model::load::{Day, Household, LoadNow, LoadState};
use crate::model::plane::{ALBEDO, Plane, SkyModel};
use crate::model::pv::{Cooling, Inverter, Plant, energy_wh};
use crate::model::random::Stream;
use crate::model::sun::{Place, Sun};
use crate::number::{bounded, float};
use crate::strategy::{BatteryPlan, Kind, OwnBattery};
use crate::weather::Weather;

/// Homes of one chunk: what one thread works on at a time.
const CHUNK_HOMES: usize = 64;
/// Wind where no file says otherwise.
const WIND_MS: f64 = 2.0;
/// Nominal efficiency of inverters.
const INVERTER_EFFICIENCY: f64 = 0.96;
/// What of the clouds' variance is each roof's own.
const OWN_CLOUDS: f64 = 0.1;
/// Heat of people and sun in a heated house.
const GAINS_W: f64 = 350.0;
/// Share of Carnot that heat pumps reach.
const HEAT_PUMP_ETA: f64 = 0.4;
/// Heat that the hot-water tank holds.
const TANK_WH: f64 = 8000.0;
/// How far below the set point is still comfortable.
const COMFORT_K: f64 = 1.0;

/// What all homes share in one interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) moment: Moment,
    number: i64,
    load: LoadNow,
    sun: Sun,
    light: Light,
    /// The clouds' normal value, and the share of the clear sky's light that it stands for; no light, no share.
    clouds: Option<(f64, f64)>,
    sky: SkyModel,
    air_c: f64,
    cooling: Cooling,
}

/// Intervals that are worked through together, and what the utility takes from then on.
pub(super) struct Window {
    pub(super) steps: Vec<Now>,
    /// Retail prices of the window's intervals and of those after it, in micro-token per kWh.
    pub(super) retail_micro: Vec<i64>,
    transparency: Transparency,
    clouds: Clouds,
}

/// Where clouds come from.
enum Cover {
    /// A mean cover that a scenario names.
    Plain(Box<Weather>),
    /// The season's, fitted to measured skies.
    Season(SharedSky),
    /// A file's; it has air and wind too.
    File(Box<WeatherScenario>),
}

/// The sky and the rhythm of a run.
pub(super) struct Sky {
    place: Place,
    cover: Cover,
    clouds: Clouds,
    stream: Stream,
    length_s: u32,
}

impl Sky {
    pub(super) fn new(scenario: &RunScenario, seed: u64) -> Self {
        let site = &scenario.site;
        let stream = Stream::new(seed, "clouds");
        Sky {
            place: Place {
                latitude_deg: site.latitude,
                longitude_deg: site.longitude,
                altitude_m: 0.0,
            },
            cover: match (&scenario.weather, site.cloudiness) {
                (Some(weather), _) => Cover::File(Box::new(weather.clone())),
                (None, Some(cloudiness)) => Cover::Plain(Box::new(Weather::new(seed, cloudiness))),
                (None, None) => Cover::Season(Clouds::begin(&mut stream.shared(-1))),
            },
            clouds: Clouds::new(site.interval_s, OWN_CLOUDS),
            stream,
            length_s: site.interval_s,
        }
    }

    /// What holds in some intervals of one day.
    pub(super) fn window(
        &mut self,
        calendar: &Calendar,
        moments: &[Moment],
        retail_micro: Vec<i64>,
    ) -> Result<Window, RunError> {
        let day = moments.first().map_or(1, |m| calendar.day_of_year(m.day));
        let transparency = Transparency::new(&Climate::of_day(day));
        let steps = moments
            .iter()
            .map(|m| self.now(calendar, &transparency, *m));
        Ok(Window {
            steps: steps.collect::<Result<_, _>>()?,
            retail_micro,
            transparency,
            clouds: self.clouds,
        })
    }

    fn now(
        &mut self,
        calendar: &Calendar,
        transparency: &Transparency,
        moment: Moment,
    ) -> Result<Now, RunError> {
        let interval = moment.interval;
        // The sun of an interval is that of its middle.
        let middle_s = interval.start_s() + i64::from(interval.length_s()) / 2;
        let sun = Sun::at(middle_s, self.place)
            .ok_or_else(|| RunError::bad(format!("{interval}: the sun's place is not known")))?;
        let day = calendar.day_of_year(moment.day);
        let number = interval.start_s() / i64::from(self.length_s);
        let second = u32::from(moment.day_minute) * 60;
        let made_c = air_c(day, second);
        let (mut sun, mut sky) = (sun, SkyModel::Isotropic);
        let made = |share: f64| erbs(haurwitz_w_per_m2(sun) * share, sun);
        let (light, clouds, air_c, wind_ms) = match &mut self.cover {
            Cover::Plain(weather) => (made(weather.sky(middle_s).clearness), None, made_c, WIND_MS),
            Cover::Season(shared) => {
                let z = self.clouds.step(shared, &mut self.stream.shared(number));
                let share = transparency.share(z);
                (made(share), Some((z, share)), made_c, WIND_MS)
            }
            Cover::File(weather) => {
                sun = sun.unrefracted();
                sky = weather.sky;
                let (row, light) = weather.of(interval, self.place, sun)?;
                (light, None, row.air_c, row.wind_ms)
            }
        };
        let weekend = matches!(
            chrono::Datelike::weekday(&calendar.date(moment.day)),
            chrono::Weekday::Sat | chrono::Weekday::Sun
        );
        let kind = if weekend { Day::Free } else { Day::Work };
        let lit = light.global > 0.0;
        Ok(Now {
            moment,
            number,
            load: LoadNow::new(number, second, kind, season(day), self.length_s),
            sun,
            light,
            clouds: clouds.filter(|_| lit),
            sky,
            air_c,
            cooling: Cooling::new(air_c, wind_ms),
        })
    }
}

/// The year's rhythm of household use around 1: the polynomial of the German standard profile H0.
fn season(day_of_year: u32) -> f64 {
    crate::model::bdew::dynamic_factor(f64::from(day_of_year))
}

/// A plain year: warmest in late July, warmest of the day in mid-afternoon.
fn air_c(day_of_year: u32, second_of_day: u32) -> f64 {
    let year = std::f64::consts::TAU * (f64::from(day_of_year) - 205.0) / 365.25;
    let day = std::f64::consts::TAU * (f64::from(second_of_day) / 3600.0 - 15.0) / 24.0;
    9.5 + 9.0 * libm::cos(year) + 4.0 * libm::cos(day)
}

/// Solar panels of a home.
struct Roof {
    plant: Plant,
    plane: Plane,
    /// The home's own part of the clouds.
    own_clouds: f64,
    carry: Carry,
}

/// A heat pump and its house.
struct Heating {
    house: HeatedHouse,
    state: HeatState,
    hot_water_wh: f64,
}

/// A battery and what is in it.
struct Store {
    battery: Battery,
    state: BatteryState,
    /// What would be in it if it followed its own home: that of the twins, where it waits for a strategy.
    own_state: BatteryState,
    spec: BatterySpec,
}

/// One home's devices, with what they remember.
struct HomeDevices {
    number: u32,
    household: Household,
    load: LoadState,
    roof: Option<Box<Roof>>,
    store: Option<Box<Store>>,
    car: Option<Box<Car>>,
    heating: Option<Box<Heating>>,
    error: Counter,
    /// Whether its battery waits for what its strategy says.
    waits: bool,
}

/// What one home did in one interval, in watt-hours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Flow {
    pub(super) load: i32,
    pub(super) pv: i32,
    pub(super) ev: i32,
    pub(super) heat: i32,
    pub(super) charged: i32,
    pub(super) discharged: i32,
    pub(super) stored: i32,
}

/// Sums of one home over the run, in watt-hours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct DeviceSums {
    pub(super) load: i64,
    pub(super) pv: i64,
    pub(super) ev: i64,
    pub(super) heat: i64,
    pub(super) charged: i64,
    pub(super) discharged: i64,
    pub(super) stored_first: i64,
    pub(super) stored_last: i64,
    /// What would be stored at the end if every battery followed its own home.
    pub(super) own_stored_last: i64,
    /// What cars still wanted when they left.
    pub(super) unserved: i64,
}

/// Sums of one interval over homes, in watt-hours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct StepSums {
    pub(super) load: i64,
    pub(super) pv: i64,
    pub(super) ev: i64,
    pub(super) heat: i64,
    pub(super) charged: i64,
    pub(super) discharged: i64,
    pub(super) stored: i64,
}

impl StepSums {
    /// Adds the sums of other homes.
    pub(super) fn add(&mut self, other: &StepSums) {
        self.load += other.load;
        self.pv += other.pv;
        self.ev += other.ev;
        self.heat += other.heat;
        self.charged += other.charged;
        self.discharged += other.discharged;
        self.stored += other.stored;
    }

    fn count(&mut self, flow: &Flow) {
        self.load += i64::from(flow.load);
        self.pv += i64::from(flow.pv);
        self.ev += i64::from(flow.ev);
        self.heat += i64::from(flow.heat);
        self.charged += i64::from(flow.charged);
        self.discharged += i64::from(flow.discharged);
        self.stored += i64::from(flow.stored);
    }
}

/// Homes next to each other, and what they did in the window at hand: interval by interval.
pub(super) struct Chunk {
    first: usize,
    homes: Vec<HomeDevices>,
    pub(super) sums: Vec<DeviceSums>,
    /// Net energy from the street, and what the home had expected of it.
    net: Vec<i32>,
    expected: Vec<i32>,
    /// Where batteries wait for a strategy: the net energy if they followed their own home, less `net`.
    own_shift: Vec<i32>,
    flows: Vec<Flow>,
    steps: Vec<StepSums>,
    /// The net energy of the day before, for who takes that as a forecast.
    before: Vec<Vec<i32>>,
}

/// The families of random numbers of devices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    load: Stream,
    clouds: Stream,
    pub(super) cars: Stream,
    taps: Stream,
}

impl Streams {
    pub(super) fn new(seed: u64) -> Self {
        Streams {
            load: Stream::new(seed, "load"),
            clouds: Stream::new(seed, "own clouds"),
            cars: Stream::new(seed, "cars"),
            taps: Stream::new(seed, "taps"),
        }
    }
}

/// How a window is worked through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) streams: Streams,
    pub(super) forecast: ForecastScenario,
    /// Whether each flow is kept, or net energy only.
    pub(super) detail: bool,
}

impl Chunk {
    /// All homes, in chunks.
    pub(super) fn all(
        scenario: &RunScenario,
        homes: &[RunHome],
        seed: u64,
        streams: &Streams,
    ) -> Result<Vec<Chunk>, RunError> {
        let chunk = |(place, homes): (usize, &[RunHome])| {
            let devices = homes
                .iter()
                .map(|home| HomeDevices::new(scenario, home, seed, streams));
            let homes: Vec<HomeDevices> = devices.collect::<Result<_, _>>()?;
            let sums = homes.iter().map(HomeDevices::first_sums).collect();
            Ok(Chunk {
                first: place * CHUNK_HOMES,
                before: match scenario.forecast.kind {
                    ForecastKind::Persistence => vec![Vec::new(); homes.len()],
                    _ => Vec::new(),
                },
                homes,
                sums,
                net: Vec::new(),
                expected: Vec::new(),
                own_shift: Vec::new(),
                flows: Vec::new(),
                steps: Vec::new(),
            })
        };
        homes.chunks(CHUNK_HOMES).enumerate().map(chunk).collect()
    }

    /// The place of the first home among all.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// How many homes it has.
    pub(super) fn len(&self) -> usize {
        self.homes.len()
    }

    /// Net energy and expectation of a home in an interval of the window.
    pub(super) fn home(&self, step: usize, place: usize) -> (i32, i32) {
        let at = step * self.homes.len() + place;
        (self.net[at], self.expected[at])
    }

    /// Net energies and expectations of an interval of the window, home by home.
    pub(super) fn at(&self, step: usize) -> (&[i32], &[i32]) {
        let range = step * self.homes.len()..(step + 1) * self.homes.len();
        (&self.net[range.clone()], &self.expected[range])
    }

    /// What each home would have drawn more if its battery had followed it; empty where all batteries do.
    pub(super) fn own_shift(&self, step: usize) -> &[i32] {
        let range = step * self.homes.len()..(step + 1) * self.homes.len();
        self.own_shift.get(range).unwrap_or_default()
    }

    /// What the homes did together in an interval of the window.
    pub(super) fn step_sums(&self, step: usize) -> &StepSums {
        &self.steps[step]
    }

    /// What each home did in an interval of the window; nothing where flows are not kept.
    pub(super) fn flows(&self, step: usize) -> &[Flow] {
        let range = step * self.homes.len()..(step + 1) * self.homes.len();
        self.flows.get(range).unwrap_or_default()
    }

    /// Works through a window.
    pub(super) fn run(&mut self, window: &Window, manner: &Manner) {
        let count = self.homes.len();
        let steps = window.steps.len();
        for list in [&mut self.net, &mut self.expected] {
            list.clear();
            list.resize(steps * count, 0);
        }
        self.own_shift.clear();
        if self.homes.iter().any(|home| home.waits) {
            self.own_shift.resize(steps * count, 0);
        }
        self.steps.clear();
        self.steps.resize(steps, StepSums::default());
        self.flows.clear();
        if manner.detail {
            self.flows.resize(steps * count, Flow::default());
        }
        for step in 0..steps {
            for place in 0..count {
                let home = &mut self.homes[place];
                let (flow, net, guess) = home.step(window, step, manner);
                let at = step * count + place;
                self.net[at] = net;
                self.expected[at] = guess;
                self.sums[place].add(&flow);
                self.steps[step].count(&flow);
                if let Some(kept) = self.flows.get_mut(at) {
                    *kept = flow;
                }
                if let Some(before) = self.before.get_mut(place) {
                    self.expected[at] = yesterday(before, &window.steps[step].moment, net);
                }
            }
        }
    }

    /// Whether a home's battery waits for its strategy.
    pub(super) fn waits(&self, place: usize) -> bool {
        self.homes[place].waits
    }

    /// What a home knows of its battery.
    pub(super) fn battery(&self, place: usize, length_s: u32) -> Option<OwnBattery> {
        let store = self.homes[place].store.as_deref()?;
        let energy = |power_w: i64| power_w * i64::from(length_s) / 3600;
        let permille = |share: f64| bounded(share * 1000.0, 1000);
        Some(OwnBattery {
            room_wh: store.battery.room_wh(&store.state),
            ready_wh: store.battery.ready_wh(&store.state),
            charge_wh: energy(store.spec.charge_w),
            discharge_wh: energy(store.spec.discharge_w),
            stored_wh: store.state.stored_uwh / 1_000_000,
            capacity_wh: store.battery.full_uwh(&store.state) / 1_000_000,
            charge_permille: permille(store.spec.charge_efficiency),
            discharge_permille: permille(store.spec.discharge_efficiency),
        })
    }

    /// Lets the battery of a home that waits do what its strategy says, as far as it can.
    pub(super) fn dispatch(&mut self, step: usize, place: usize, plan: BatteryPlan) {
        let at = step * self.homes.len() + place;
        let need = i64::from(self.net[at]);
        let Some(store) = self.homes[place].store.as_deref_mut() else {
            return;
        };
        let done = match plan {
            BatteryPlan::Follow => store.battery.follow(&mut store.state, need),
            BatteryPlan::Fixed(wish_wh) => store.battery.step(&mut store.state, wish_wh),
        };
        let own = store.battery.follow(&mut store.own_state, need);
        let own_wh = small(own.charged_wh + own.standby_wh - own.discharged_wh);
        let change = Flow {
            charged: small(done.charged_wh + done.standby_wh),
            discharged: small(done.discharged_wh),
            stored: small(store.state.stored_uwh / 1_000_000),
            ..Flow::default()
        };
        self.net[at] += change.charged - change.discharged;
        if let Some(shift) = self.own_shift.get_mut(at) {
            *shift = own_wh - (change.charged - change.discharged);
        }
        self.steps[step].count(&change);
        self.sums[place].add(&change);
        if let Some(kept) = self.flows.get_mut(at) {
            kept.charged = change.charged;
            kept.discharged = change.discharged;
            kept.stored = change.stored;
        }
    }

    /// Closes the books on cars.
    pub(super) fn finish(&mut self) {
        for (sum, home) in self.sums.iter_mut().zip(&self.homes) {
            sum.unserved = home.car.as_ref().map_or(0, |car| car.unserved_wh());
            sum.own_stored_last = match home.store.as_deref() {
                Some(store) if home.waits => store.own_state.stored_uwh / 1_000_000,
                _ => sum.stored_last,
            };
        }
    }
}

/// What the same time of the day before was, which `net` takes the place of. On the first day nothing is known.
pub(super) fn yesterday(before: &mut Vec<i32>, moment: &Moment, net: i32) -> i32 {
    let length_s = i64::from(moment.interval.length_s());
    let place = i64::from(moment.day_minute) * 60 / length_s;
    let place = usize::try_from(place).unwrap_or(0);
    if before.len() <= place {
        before.resize(place + 1, 0);
    }
    std::mem::replace(&mut before[place], net)
}

/// Strategies that say what the battery does; the others let it follow the home.
const fn plans_battery(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::TariffFollower | Kind::BatteryThreshold | Kind::BatteryLookAhead
    )
}

impl HomeDevices {
    fn new(
        scenario: &RunScenario,
        home: &RunHome,
        seed: u64,
        streams: &Streams,
    ) -> Result<Self, RunError> {
        let name = home.id.as_str();
        let number = number_of(name);
        let length_s = scenario.site.interval_s;
        let (household, load) = Household::new(streams.load, number, float(home.yearly_load_kwh));
        let roof = home.pv.as_ref().map(|pv| {
            Box::new(Roof {
                plant: Plant::new(
                    float(pv.peak_w),
                    Inverter::new(float(pv.inverter_w), INVERTER_EFFICIENCY),
                ),
                plane: Plane::new(pv.tilt_deg, pv.azimuth_deg, ALBEDO),
                own_clouds: streams.clouds.at(number, -1).normal(),
                carry: Carry::default(),
            })
        });
        let store = match &home.battery {
            None => None,
            Some(b) => {
                let one_way = libm::sqrt(b.efficiency);
                let spec = BatterySpec {
                    charge_efficiency: one_way,
                    discharge_efficiency: one_way,
                    ..BatterySpec::simple(b.capacity_wh, b.power_w)
                };
                let battery = Battery::new(&spec, length_s)
                    .map_err(|e| RunError::bad(format!("{name}: battery: {e}")))?;
                let state = battery.filled(super::optimum::FIRST_CONTENT);
                Some(Box::new(Store {
                    battery,
                    state,
                    own_state: state,
                    spec,
                }))
            }
        };
        let car = home
            .ev
            .as_ref()
            .map(|ev| Box::new(Car::new(ev, number, length_s)));
        let kind = home.strategy.unwrap_or(scenario.market.strategy);
        Ok(HomeDevices {
            number,
            household,
            load,
            roof,
            waits: plans_battery(kind) && store.is_some(),
            store,
            car,
            heating: home
                .heat_pump
                .as_ref()
                .map(|pump| Box::new(Heating::new(pump))),
            error: Counter::new(seed, "forecast", name),
        })
    }

    fn first_sums(&self) -> DeviceSums {
        let stored = self
            .store
            .as_ref()
            .map_or(0, |s| s.state.stored_uwh / 1_000_000);
        DeviceSums {
            stored_first: stored,
            stored_last: stored,
            ..DeviceSums::default()
        }
    }

    /// One interval: what flowed, the net energy from the street, and what had been expected of it. Where
    /// the battery waits for a strategy, both are without it.
    fn step(&mut self, window: &Window, step: usize, manner: &Manner) -> (Flow, i32, i32) {
        let now = &window.steps[step];
        let mut flow = Flow {
            load: self
                .household
                .step_wh(&mut self.load, &now.load, manner.streams.load),
            ..Flow::default()
        };
        if let Some(roof) = self.roof.as_deref_mut() {
            flow.pv = roof.step(self.number, now, window, manner);
        }
        if let Some(heating) = self.heating.as_deref_mut() {
            let draws = &mut manner.streams.taps.at(self.number, now.number);
            flow.heat = heating.step(now, draws);
        }
        if let Some(car) = self.car.as_deref_mut() {
            let surplus_wh = i64::from(flow.pv - flow.load - flow.heat).max(0);
            let prices = window.retail_micro.get(step..).unwrap_or_default();
            flow.ev = small(car.step(&now.moment, surplus_wh, prices, manner.streams.cars));
        }
        let need = flow.load + flow.heat + flow.ev - flow.pv;
        let guess = match manner.forecast.kind {
            ForecastKind::Noisy => self.guess(now, &flow, manner.forecast.error_permille),
            _ => need,
        };
        if self.waits {
            return (flow, need, guess);
        }
        let mut planned = guess;
        if let Some(store) = self.store.as_deref_mut() {
            if guess != need {
                let plan = store
                    .battery
                    .follow(&mut store.state.clone(), i64::from(guess));
                planned += small(plan.charged_wh - plan.discharged_wh);
            }
            let done = store.battery.follow(&mut store.state, i64::from(need));
            flow.charged = small(done.charged_wh + done.standby_wh);
            flow.discharged = small(done.discharged_wh);
            flow.stored = small(store.state.stored_uwh / 1_000_000);
        }
        let net = need + flow.charged - flow.discharged;
        let expected = if guess == need { net } else { planned };
        (flow, net, expected)
    }

    /// Load, car and sun with an error of each.
    fn guess(&self, now: &Now, flow: &Flow, error_permille: u32) -> i32 {
        let bits = self.error.at(now.moment.interval.start_s().unsigned_abs());
        let off = |wh: i32, bits: u64| {
            let error =
                super::counter::scale(bits, -i64::from(error_permille), i64::from(error_permille));
            small(i64::from(wh) * error / 1000)
        };
        let used = flow.load + flow.heat + flow.ev;
        used + off(used, bits & 0xFFFF_FFFF) - flow.pv - off(flow.pv, bits >> 32)
    }
}

impl Roof {
    fn step(&mut self, number: u32, now: &Now, window: &Window, manner: &Manner) -> i32 {
        if now.light.global <= 0.0 {
            return 0;
        }
        let plane = self.plane.now(now.sky, now.sun, now.light.beam);
        let mut light = plane.light_w_per_m2(now.light);
        if let Some((shared, share)) = now.clouds {
            let draws = &mut manner.streams.clouds.at(number, now.number);
            let z = window.clouds.at_home(shared, &mut self.own_clouds, draws);
            light *= window.transparency.share(z) / share;
        }
        let power_w = self.plant.ac_w(light, now.cooling);
        energy_wh(&mut self.carry, power_w, now.moment.interval.length_s())
    }
}

impl Heating {
    fn new(pump: &RunHeatPump) -> Self {
        let house = HeatedHouse {
            resistance_k_per_w: 1.0 / pump.loss_w_per_k,
            capacity_wh_per_k: pump.capacity_wh_per_k,
            set_point_c: pump.set_point_c,
            comfort_k: COMFORT_K,
            supply_c: pump.supply_c,
            electric_w: pump.electric_w,
            eta: HEAT_PUMP_ETA,
            tank_wh: TANK_WH,
        };
        Heating {
            state: house.begin(),
            house,
            hot_water_wh: pump.hot_water_wh,
        }
    }

    fn step(&mut self, now: &Now, draws: &mut crate::model::random::Draws) -> i32 {
        let length_s = now.moment.interval.length_s();
        let second = u32::from(now.moment.day_minute) * 60;
        let outside = HeatNow {
            outside_c: now.air_c,
            gains_w: GAINS_W,
            hot_water_wh: hot_water_wh(self.hot_water_wh, second, length_s, draws),
            limit_w: None,
            length_s,
        };
        self.house.step(&mut self.state, &outside).used_wh
    }
}

impl DeviceSums {
    fn add(&mut self, flow: &Flow) {
        self.load += i64::from(flow.load);
        self.pv += i64::from(flow.pv);
        self.ev += i64::from(flow.ev);
        self.heat += i64::from(flow.heat);
        self.charged += i64::from(flow.charged);
        self.discharged += i64::from(flow.discharged);
        if flow.stored > 0 || flow.discharged > 0 {
            self.stored_last = i64::from(flow.stored);
        }
    }
}

/// An energy of one home and interval: its devices' limits hold it far inside 32 bits.
fn small(wh: i64) -> i32 {
    i32::try_from(wh).unwrap_or(if wh < 0 { i32::MIN } else { i32::MAX })
}

/// The number under which a home's random numbers are looked up: from its name, so that other homes do
/// not matter.
pub(super) fn number_of(home: &str) -> u32 {
    let digest = digest_parts("simulator home", &[home.as_bytes()]);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// Runs all chunks through a window, on so many threads.
pub(super) fn run_all(chunks: &mut [Chunk], window: &Window, manner: &Manner, threads: usize) {
    if threads < 2 || chunks.len() < 2 {
        for chunk in chunks {
            chunk.run(window, manner);
        }
        return;
    }
    let each = chunks.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for part in chunks.chunks_mut(each) {
            scope.spawn(move || {
                for chunk in part {
                    chunk.run(window, manner);
                }
            });
        }
    });
}
