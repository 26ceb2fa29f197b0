//! What the homes' devices do: load, panels, car and battery, window by window, chunk by chunk. Nothing
//! here depends on the market, so chunks of homes run on several threads and the results do not differ.

use domain::ids::digest_parts;

use super::RunError;
use super::calendar::Moment;
use super::cars::Car;
use super::counter::Counter;
use super::household::Mix;
use super::scenario::{ForecastKind, ForecastScenario, RunHeatPump, RunHome, RunPv, RunScenario};
use super::sky::{Now, Window};
use super::sources::{Library, MICRO, Series};
use crate::model::Carry;
use crate::model::battery::{Battery, BatterySpec, BatteryState};
use crate::model::forecast::ForecastError;
use crate::model::heat_pump::{HeatNow, HeatState, HeatedHouse, hot_water_wh};
use crate::model::load::{Household, LoadState};
use crate::model::plane::{ALBEDO, Plane};
use crate::model::pv::{Inverter, Plant, energy_wh};
use crate::model::random::{Draws, Stream};
use crate::number::{bounded, float};
use crate::strategy::{BatteryPlan, Kind, OwnBattery};

/// Homes of one chunk: what one thread works on at a time.
const CHUNK_HOMES: usize = 64;
/// Nominal efficiency of inverters.
const INVERTER_EFFICIENCY: f64 = 0.96;
/// Heat of people and sun in a heated house.
const GAINS_W: f64 = 350.0;
/// Share of Carnot that heat pumps reach.
const HEAT_PUMP_ETA: f64 = 0.4;
/// Heat that the hot-water tank holds.
const TANK_WH: f64 = 8000.0;
/// How far below the set point is still comfortable.
const COMFORT_K: f64 = 1.0;

/// Solar panels of a home.
struct Roof {
    plant: Plant,
    plane: Plane,
    /// The first plane's share of the panels, and the others with theirs; nothing where there is one plane.
    planes: Vec<(f64, Plane)>,
    /// The home's own part of the clouds.
    own_clouds: f64,
    carry: Carry,
}

/// What panels gave, from a file.
struct Measured {
    series: Series,
    /// µWh that are not a watt-hour yet.
    carry: i64,
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
    /// None where its load is the generator's.
    mix: Option<Box<Mix>>,
    roof: Option<Box<Roof>>,
    measured: Option<Box<Measured>>,
    /// The most that may be fed in, in an interval; beyond all measure where nothing limits it.
    export_limit_wh: i32,
    store: Option<Box<Store>>,
    car: Option<Box<Car>>,
    heating: Option<Box<Heating>>,
    error: Counter,
    forecast: Option<Box<Growing>>,
    /// Whether its battery waits for what its strategy says.
    waits: bool,
}

/// What one home did in one interval, in watt-hours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Flow {
    pub(super) load: i32,
    /// Of its panels, less what was curtailed.
    pub(super) pv: i32,
    pub(super) curtailed: i32,
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
    pub(super) curtailed: i64,
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
    pub(super) curtailed: i64,
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
        self.curtailed += other.curtailed;
        self.ev += other.ev;
        self.heat += other.heat;
        self.charged += other.charged;
        self.discharged += other.discharged;
        self.stored += other.stored;
    }

    fn count(&mut self, flow: &Flow) {
        self.load += i64::from(flow.load);
        self.pv += i64::from(flow.pv);
        self.curtailed += i64::from(flow.curtailed);
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
    /// The numbers that the homes' random numbers are looked up by, and what was looked up for the interval at hand.
    numbers: Vec<u32>,
    looked_up: LookedUp,
    pub(super) sums: Vec<DeviceSums>,
    /// Net energy from the street, and what the home had expected of it.
    net: Vec<i32>,
    expected: Vec<i32>,
    /// Where batteries wait for a strategy: the net energy if they followed their own home, less `net`.
    own_shift: Vec<i32>,
    /// Where batteries wait and exports are limited: what panels gave before that.
    made: Vec<i32>,
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
    load_error: Stream,
    pv_error: Stream,
}

impl Streams {
    pub(super) fn new(seed: u64) -> Self {
        Streams {
            load: Stream::new(seed, "load"),
            clouds: Stream::new(seed, "own clouds"),
            cars: Stream::new(seed, "cars"),
            taps: Stream::new(seed, "taps"),
            load_error: Stream::new(seed, "load forecast"),
            pv_error: Stream::new(seed, "pv forecast"),
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

/// First blocks of random numbers of all homes in an interval; none where nobody needs them.
#[derive(Default)]
struct LookedUp {
    load: Vec<[u64; 2]>,
    clouds: Vec<[u64; 2]>,
}

impl LookedUp {
    fn fill(&mut self, homes: &[u32], now: &Now, streams: &Streams) {
        streams.load.blocks(homes, now.number, &mut self.load);
        self.clouds.clear();
        if now.clouds.is_some() {
            streams.clouds.blocks(homes, now.number, &mut self.clouds);
        }
    }
}

impl Chunk {
    /// All homes, in chunks.
    pub(super) fn all(
        scenario: &RunScenario,
        homes: &[RunHome],
        seed: u64,
        streams: &Streams,
        moments: &[Moment],
    ) -> Result<Vec<Chunk>, RunError> {
        let mut library = Library::new(&scenario.data, moments);
        let chunk = |(place, homes): (usize, &[RunHome])| {
            let devices = homes
                .iter()
                .map(|home| HomeDevices::new(scenario, home, seed, streams, &mut library));
            let homes: Vec<HomeDevices> = devices.collect::<Result<_, _>>()?;
            let sums = homes.iter().map(HomeDevices::first_sums).collect();
            Ok(Chunk {
                first: place * CHUNK_HOMES,
                before: match scenario.forecast.kind {
                    ForecastKind::Persistence => vec![Vec::new(); homes.len()],
                    _ => Vec::new(),
                },
                numbers: homes.iter().map(|home| home.number).collect(),
                looked_up: LookedUp::default(),
                homes,
                sums,
                net: Vec::new(),
                expected: Vec::new(),
                own_shift: Vec::new(),
                made: Vec::new(),
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
        self.made.clear();
        if (self.homes.iter()).any(|home| home.waits && home.export_limit_wh < i32::MAX) {
            self.made.resize(steps * count, 0);
        }
        self.steps.clear();
        self.steps.resize(steps, StepSums::default());
        self.flows.clear();
        if manner.detail {
            self.flows.resize(steps * count, Flow::default());
        }
        for step in 0..steps {
            let now = &window.steps[step];
            self.looked_up.fill(&self.numbers, now, &manner.streams);
            for place in 0..count {
                let home = &mut self.homes[place];
                let (flow, net, guess) = home.step(window, step, manner, (&self.looked_up, place));
                let at = step * count + place;
                self.net[at] = net;
                self.expected[at] = guess;
                self.sums[place].add(&flow);
                self.steps[step].count(&flow);
                if let Some(kept) = self.flows.get_mut(at) {
                    *kept = flow;
                }
                if let Some(made) = self.made.get_mut(at) {
                    *made = flow.pv;
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
        let stored = small(store.state.stored_uwh / 1_000_000);
        let mut change = Flow {
            charged: small(done.charged_wh + done.standby_wh),
            discharged: small(done.discharged_wh),
            stored,
            ..Flow::default()
        };
        let own_net = self.net[at].saturating_add(own_wh);
        self.net[at] += change.charged - change.discharged;
        let (limit_wh, made) = (
            self.homes[place].export_limit_wh,
            self.made.get(at).copied().unwrap_or(0),
        );
        let cut = over_limit(self.net[at], limit_wh, made);
        self.net[at] += cut;
        (change.pv, change.curtailed) = (-cut, cut);
        if let Some(shift) = self.own_shift.get_mut(at) {
            *shift = own_net + over_limit(own_net, limit_wh, made) - self.net[at];
        }
        self.steps[step].count(&change);
        self.sums[place].add(&change);
        if let Some(kept) = self.flows.get_mut(at) {
            kept.charged = change.charged;
            kept.discharged = change.discharged;
            kept.stored = change.stored;
            kept.pv -= cut;
            kept.curtailed = cut;
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

/// What has to be cut from the panels' `made_wh` so that no more than the limit is fed in.
fn over_limit(net_wh: i32, limit_wh: i32, made_wh: i32) -> i32 {
    (-limit_wh).saturating_sub(net_wh).clamp(0, made_wh.max(0))
}

fn store(home: &RunHome, length_s: u32) -> Result<Option<Box<Store>>, RunError> {
    let Some(b) = &home.battery else {
        return Ok(None);
    };
    let one_way = libm::sqrt(b.efficiency);
    let spec = BatterySpec {
        charge_efficiency: one_way,
        discharge_efficiency: one_way,
        ..BatterySpec::simple(b.capacity_wh, b.power_w)
    };
    let battery = Battery::new(&spec, length_s)
        .map_err(|e| RunError::bad(format!("{}: battery: {e}", home.id)))?;
    let state = battery.filled(super::optimum::FIRST_CONTENT);
    Ok(Some(Box::new(Store {
        battery,
        state,
        own_state: state,
        spec,
    })))
}

impl HomeDevices {
    fn new(
        scenario: &RunScenario,
        home: &RunHome,
        seed: u64,
        streams: &Streams,
        library: &mut Library<'_>,
    ) -> Result<Self, RunError> {
        let name = home.id.as_str();
        let number = number_of(name);
        let length_s = scenario.site.interval_s;
        let (household, load) = Household::new(streams.load, number, float(home.yearly_load_kwh));
        let store = store(home, length_s)?;
        let car = match &home.ev {
            None => None,
            Some(ev) => {
                let sessions = ev.sessions.as_ref().map(|source| library.sessions(source));
                let sessions = sessions.transpose()?.unwrap_or_default();
                Some(Box::new(Car::new(ev, number, length_s, sessions)))
            }
        };
        let measured = match &home.generation {
            None => None,
            Some(source) => Some(Box::new(Measured {
                series: library.series(source, "generation", false)?,
                carry: 0,
            })),
        };
        let kind = home.strategy.unwrap_or(scenario.market.strategy);
        let grows = scenario.forecast.kind == ForecastKind::Growing;
        let limit_wh = |limit_w: i64| small(limit_w * i64::from(length_s) / 3600);
        Ok(HomeDevices {
            number,
            household,
            load,
            mix: Mix::new(home, library)?,
            roof: (home.pv.as_ref()).map(|pv| Box::new(Roof::new(pv, number, streams))),
            measured,
            export_limit_wh: home.export_limit_w.map_or(i32::MAX, limit_wh),
            waits: plans_battery(kind) && store.is_some(),
            store,
            car,
            heating: (home.heat_pump.as_ref()).map(|pump| Box::new(Heating::new(pump))),
            error: Counter::new(seed, "forecast", name),
            forecast: grows.then(|| Box::new(Growing::new(&scenario.forecast))),
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
    fn step(
        &mut self,
        window: &Window,
        step: usize,
        manner: &Manner,
        (looked_up, place): (&LookedUp, usize),
    ) -> (Flow, i32, i32) {
        let now = &window.steps[step];
        let (household, stream) = (&self.household, manner.streams.load);
        let mut flow = Flow {
            load: match self.mix.as_deref_mut() {
                None => {
                    let draws = stream.with(self.number, now.number, looked_up.load[place]);
                    household.step_by(&mut self.load, &now.load, draws)
                }
                Some(mix) => mix.step_wh(household, &mut self.load, now, stream),
            },
            ..Flow::default()
        };
        if let Some(roof) = self.roof.as_deref_mut() {
            let block = looked_up.clouds.get(place).copied().unwrap_or_default();
            let draws = manner.streams.clouds.with(self.number, now.number, block);
            flow.pv = roof.step(now, window, draws);
        }
        if let Some(measured) = self.measured.as_deref_mut() {
            flow.pv = measured.step(now);
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
            ForecastKind::Growing => match self.forecast.as_deref_mut() {
                Some(forecast) => forecast.guess(self.number, now.number, &flow, &manner.streams),
                None => need,
            },
            ForecastKind::Perfect | ForecastKind::Persistence => need,
        };
        if self.waits {
            return (flow, need, guess.max(-self.export_limit_wh));
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
        flow.curtailed = over_limit(net, self.export_limit_wh, flow.pv);
        flow.pv -= flow.curtailed;
        let net = net + flow.curtailed;
        let expected = if guess == need { net } else { planned };
        (flow, net, expected.max(-self.export_limit_wh))
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
    fn new(pv: &RunPv, number: u32, streams: &Streams) -> Self {
        let peak_w = float(pv.peak_of_all_w());
        let share = |plane_w: i64| float(plane_w) / peak_w;
        let first = Plane::new(pv.tilt_deg, pv.azimuth_deg, ALBEDO);
        let mut planes = Vec::new();
        if !pv.planes.is_empty() {
            planes.push((share(pv.peak_w), first));
        }
        planes.extend(pv.planes.iter().map(|more| {
            let plane = Plane::new(more.tilt_deg, more.azimuth_deg, ALBEDO);
            (share(more.peak_w), plane)
        }));
        Roof {
            plant: Plant::new(
                peak_w,
                Inverter::new(float(pv.inverter_w), INVERTER_EFFICIENCY),
            ),
            plane: first,
            planes,
            own_clouds: streams.clouds.at(number, -1).normal(),
            carry: Carry::default(),
        }
    }

    /// One interval; `draws` are those of the clouds.
    fn step(&mut self, now: &Now, window: &Window, mut draws: Draws) -> i32 {
        if now.light.global <= 0.0 {
            return 0;
        }
        let mut clear = 1.0;
        if let Some((shared, share)) = now.clouds {
            let z = window
                .clouds
                .at_home(shared, &mut self.own_clouds, &mut draws);
            clear = window.transparency.share(z) / share;
        }
        let on = |plane: &Plane| {
            let plane = plane.now(now.sky, now.sun, now.light.beam);
            plane.light_w_per_m2(now.light) * clear
        };
        let power_w = if self.planes.is_empty() {
            self.plant.ac_w(on(&self.plane), now.cooling)
        } else {
            let planes = self.planes.iter().map(|(share, plane)| (*share, on(plane)));
            self.plant.ac_of_planes_w(planes, now.cooling)
        };
        energy_wh(&mut self.carry, power_w, now.moment.interval.length_s())
    }
}

impl Measured {
    fn step(&mut self, now: &Now) -> i32 {
        let found = self.series.micro_wh(now.moment.interval.start_s());
        let micro = self.carry + found.unwrap_or(0);
        self.carry = micro.rem_euclid(MICRO);
        small(micro.div_euclid(MICRO))
    }
}

/// Forecasts whose error grows with the horizon: what a first-order autoregressive error came to that started at
/// nothing when the order was made. It is kept from interval to interval by what enters and what leaves it.
struct Growing {
    load: Lead,
    pv: Lead,
}

struct Lead {
    error: ForecastError,
    horizon: i64,
    /// Of the last interval; none before the first.
    last: Option<f64>,
}

impl Growing {
    fn new(scenario: &ForecastScenario) -> Self {
        let lead = |error| Lead {
            error,
            horizon: i64::from(scenario.horizon),
            last: None,
        };
        Growing {
            load: lead(scenario.load),
            pv: lead(scenario.pv),
        }
    }

    fn guess(&mut self, home: u32, interval: i64, flow: &Flow, streams: &Streams) -> i32 {
        let used = float(i64::from(flow.load + flow.heat + flow.ev));
        let made = float(i64::from(flow.pv));
        let used = used * (1.0 + self.load.step(home, interval, streams.load_error)).max(0.0);
        let made = made * (1.0 + self.pv.step(home, interval, streams.pv_error)).max(0.0);
        small(bounded(used - made, i64::from(i32::MAX)))
    }
}

impl Lead {
    fn step(&mut self, home: u32, interval: i64, stream: Stream) -> f64 {
        let ForecastError { sigma_far, rho } = self.error;
        let noise = |ago: i64| stream.at(home, interval - ago).normal();
        let sum = match self.last {
            Some(last) => {
                let leaves = libm::pow(rho, float(self.horizon)) * noise(self.horizon);
                last * rho + noise(0) - leaves
            }
            None => (0..self.horizon)
                .map(|ago| libm::pow(rho, float(ago)) * noise(ago))
                .sum(),
        };
        self.last = Some(sum);
        sum * sigma_far * libm::sqrt((1.0 - rho * rho).max(0.0))
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

    fn step(&mut self, now: &Now, draws: &mut Draws) -> i32 {
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
        self.curtailed += i64::from(flow.curtailed);
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
