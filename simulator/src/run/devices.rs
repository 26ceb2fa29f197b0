//! What the homes' devices do: load, panels, car and battery, window by window, chunk by chunk. Nothing
//! here depends on the market, so chunks of homes run on several threads and the results do not differ.

use domain::ids::digest_parts;

use super::RunError;
use super::calendar::{Calendar, Moment};
use super::counter::Counter;
use super::scenario::{ForecastKind, ForecastScenario, RunHome, RunScenario};
use crate::ev::Charger;
use crate::model::Carry;
use crate::model::battery::{Battery, BatterySpec, BatteryState};
use crate::model::clear_sky::{Light, erbs, haurwitz_w_per_m2};
use crate::model::load::{Day, Household, LoadNow, LoadState};
use crate::model::plane::{ALBEDO, Plane};
use crate::model::pv::{Cooling, Inverter, Plant, energy_wh};
use crate::model::random::Stream;
use crate::model::sun::{Place, Sun};
use crate::number::float;
use crate::random::Stream as NamedStream;
use crate::weather::Weather;
use crate::world::STEP_S;

/// Homes of one chunk: what one thread works on at a time.
const CHUNK_HOMES: usize = 64;
/// Current at which a charger of a run is not limited by anybody but itself.
const FREE_MA: i64 = 100_000;
/// Nominal efficiency of inverters.
const INVERTER_EFFICIENCY: f64 = 0.96;

/// What all homes share in one interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    moment: Moment,
    load: LoadNow,
    sun: Sun,
    light: Light,
    cooling: Cooling,
}

/// The sky and the rhythm of a run.
pub(super) struct Sky {
    place: Place,
    weather: Weather,
    length_s: u32,
}

impl Sky {
    pub(super) fn new(scenario: &RunScenario, seed: u64) -> Self {
        let site = &scenario.site;
        Sky {
            place: Place {
                latitude_deg: site.latitude,
                longitude_deg: site.longitude,
                altitude_m: 0.0,
            },
            weather: Weather::new(seed, site.cloudiness),
            length_s: site.interval_s,
        }
    }

    /// What holds in some intervals.
    pub(super) fn window(
        &mut self,
        calendar: &Calendar,
        moments: &[Moment],
    ) -> Result<Vec<Now>, RunError> {
        moments.iter().map(|m| self.now(calendar, *m)).collect()
    }

    fn now(&mut self, calendar: &Calendar, moment: Moment) -> Result<Now, RunError> {
        let interval = moment.interval;
        // The sun of an interval is that of its middle.
        let middle_s = interval.start_s() + i64::from(interval.length_s()) / 2;
        let sun = Sun::at(middle_s, self.place)
            .ok_or_else(|| RunError::bad(format!("{interval}: the sun's place is not known")))?;
        let day = calendar.day_of_year(moment.day);
        let global = haurwitz_w_per_m2(sun) * self.weather.sky(middle_s).clearness;
        let weekend = matches!(
            chrono::Datelike::weekday(&calendar.date(moment.day)),
            chrono::Weekday::Sat | chrono::Weekday::Sun
        );
        let kind = if weekend { Day::Free } else { Day::Work };
        let second = u32::from(moment.day_minute) * 60;
        let number = interval.start_s() / i64::from(self.length_s);
        Ok(Now {
            moment,
            load: LoadNow::new(number, second, kind, season(day), self.length_s),
            sun,
            light: if global > 0.0 {
                erbs(global, sun)
            } else {
                Light::default()
            },
            cooling: Cooling::new(air_c(day, second), 2.0),
        })
    }
}

/// The year's rhythm of household use around 1: the polynomial of the German standard profile H0.
fn season(day_of_year: u32) -> f64 {
    let t = f64::from(day_of_year);
    (((-3.92e-10 * t + 3.20e-7) * t - 7.02e-5) * t + 2.10e-3) * t + 1.24
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
    carry: Carry,
}

/// One home's devices, with what they remember.
struct HomeDevices {
    household: Household,
    load: LoadState,
    roof: Option<Roof>,
    battery: Option<(Battery, BatteryState)>,
    car: Option<Box<Car>>,
    error: Counter,
}

/// A car at its charger, and watt-seconds that are no whole watt-hour yet.
struct Car {
    charger: Charger,
    rest_ws: i64,
}

/// What one home did in one interval, in watt-hours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Flow {
    pub(super) load: i32,
    pub(super) pv: i32,
    pub(super) ev: i32,
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
    pub(super) charged: i64,
    pub(super) discharged: i64,
    pub(super) stored_first: i64,
    pub(super) stored_last: i64,
}

/// Sums of one interval over homes, in watt-hours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct StepSums {
    pub(super) load: i64,
    pub(super) pv: i64,
    pub(super) ev: i64,
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
        self.charged += other.charged;
        self.discharged += other.discharged;
        self.stored += other.stored;
    }

    fn count(&mut self, flow: &Flow) {
        self.load += i64::from(flow.load);
        self.pv += i64::from(flow.pv);
        self.ev += i64::from(flow.ev);
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
    flows: Vec<Flow>,
    steps: Vec<StepSums>,
    /// The net energy of the day before, for who takes that as a forecast.
    before: Vec<Vec<i32>>,
}

/// How a window is worked through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) stream: Stream,
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
        stream: Stream,
    ) -> Result<Vec<Chunk>, RunError> {
        let chunk = |(place, homes): (usize, &[RunHome])| {
            let devices = homes
                .iter()
                .map(|home| HomeDevices::new(scenario, home, seed, stream));
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

    /// Net energies and expectations of an interval of the window, home by home.
    pub(super) fn at(&self, step: usize) -> (&[i32], &[i32]) {
        let range = step * self.homes.len()..(step + 1) * self.homes.len();
        (&self.net[range.clone()], &self.expected[range])
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
    pub(super) fn run(&mut self, window: &[Now], manner: &Manner) {
        let count = self.homes.len();
        for list in [&mut self.net, &mut self.expected] {
            list.clear();
            list.resize(window.len() * count, 0);
        }
        self.steps.clear();
        self.steps.resize(window.len(), StepSums::default());
        self.flows.clear();
        if manner.detail {
            self.flows.resize(window.len() * count, Flow::default());
        }
        for (step, now) in window.iter().enumerate() {
            for place in 0..count {
                let home = &mut self.homes[place];
                let (flow, net, guess) = home.step(now, manner);
                let at = step * count + place;
                self.net[at] = net;
                self.expected[at] = guess;
                self.sums[place].add(&flow);
                self.steps[step].count(&flow);
                if let Some(kept) = self.flows.get_mut(at) {
                    *kept = flow;
                }
                if let Some(before) = self.before.get_mut(place) {
                    self.expected[at] = yesterday(before, now, net);
                }
            }
        }
    }
}

/// What the same time of the day before was, which `net` takes the place of. On the first day nothing is known.
fn yesterday(before: &mut Vec<i32>, now: &Now, net: i32) -> i32 {
    let length_s = i64::from(now.moment.interval.length_s());
    let place = i64::from(now.moment.day_minute) * 60 / length_s;
    let place = usize::try_from(place).unwrap_or(0);
    if before.len() <= place {
        before.resize(place + 1, 0);
    }
    std::mem::replace(&mut before[place], net)
}

impl HomeDevices {
    fn new(
        scenario: &RunScenario,
        home: &RunHome,
        seed: u64,
        stream: Stream,
    ) -> Result<Self, RunError> {
        let name = home.id.as_str();
        let (household, load) =
            Household::new(stream, number_of(name), float(home.yearly_load_kwh));
        let roof = home.pv.as_ref().map(|pv| Roof {
            plant: Plant::new(
                float(pv.peak_w),
                Inverter::new(float(pv.inverter_w), INVERTER_EFFICIENCY),
            ),
            plane: Plane::new(pv.tilt_deg, pv.azimuth_deg, ALBEDO),
            carry: Carry::default(),
        });
        let battery = match &home.battery {
            None => None,
            Some(b) => {
                let one_way = libm::sqrt(b.efficiency);
                let spec = BatterySpec {
                    charge_efficiency: one_way,
                    discharge_efficiency: one_way,
                    ..BatterySpec::simple(b.capacity_wh, b.power_w)
                };
                let battery = Battery::new(&spec, scenario.site.interval_s)
                    .map_err(|e| RunError::bad(format!("{name}: battery: {e}")))?;
                let state = battery.filled(0.5);
                Some((battery, state))
            }
        };
        let car = home.ev.as_ref().map(|ev| {
            let mut initial = NamedStream::new(seed, &format!("{name}/initial/charger")).at(0);
            Box::new(Car {
                charger: Charger::new(seed, name, ev, &mut initial),
                rest_ws: 0,
            })
        });
        Ok(HomeDevices {
            household,
            load,
            roof,
            battery,
            car,
            error: Counter::new(seed, "forecast", name),
        })
    }

    fn first_sums(&self) -> DeviceSums {
        let stored = self.stored_wh();
        DeviceSums {
            stored_first: stored,
            stored_last: stored,
            ..DeviceSums::default()
        }
    }

    fn stored_wh(&self) -> i64 {
        self.battery
            .as_ref()
            .map_or(0, |(_, state)| state.stored_uwh / 1_000_000)
    }

    /// One interval: what flowed, the net energy from the street, and what had been expected of it.
    fn step(&mut self, now: &Now, manner: &Manner) -> (Flow, i32, i32) {
        let mut flow = Flow {
            load: self
                .household
                .step_wh(&mut self.load, &now.load, manner.stream),
            ..Flow::default()
        };
        if let Some(roof) = &mut self.roof {
            let light = roof.plane.isotropic(now.sun).light_w_per_m2(now.light);
            let power_w = roof.plant.ac_w(light, now.cooling);
            flow.pv = energy_wh(&mut roof.carry, power_w, now.moment.interval.length_s());
        }
        if let Some(car) = &mut self.car {
            flow.ev = car.step(&now.moment);
        }
        let need = flow.load + flow.ev - flow.pv;
        let guess = match manner.forecast.kind {
            ForecastKind::Noisy => self.guess(now, &flow, manner.forecast.error_permille),
            _ => need,
        };
        let mut planned = guess;
        if let Some((battery, state)) = &mut self.battery {
            if guess != need {
                let plan = battery.follow(&mut state.clone(), i64::from(guess));
                planned += small(plan.charged_wh - plan.discharged_wh);
            }
            let done = battery.follow(state, i64::from(need));
            flow.charged = small(done.charged_wh + done.standby_wh);
            flow.discharged = small(done.discharged_wh);
            flow.stored = small(state.stored_uwh / 1_000_000);
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
        let used = flow.load + flow.ev;
        used + off(used, bits & 0xFFFF_FFFF) - flow.pv - off(flow.pv, bits >> 32)
    }
}

impl Car {
    fn step(&mut self, moment: &Moment) -> i32 {
        let start_s = moment.local_minute * 60;
        let mut second = 0;
        while second < i64::from(moment.interval.length_s()) {
            self.rest_ws += self.charger.step(start_s + second, FREE_MA) * STEP_S;
            second += STEP_S;
        }
        let whole_wh = self.rest_ws / 3600;
        self.rest_ws -= whole_wh * 3600;
        small(whole_wh)
    }
}

impl DeviceSums {
    fn add(&mut self, flow: &Flow) {
        self.load += i64::from(flow.load);
        self.pv += i64::from(flow.pv);
        self.ev += i64::from(flow.ev);
        self.charged += i64::from(flow.charged);
        self.discharged += i64::from(flow.discharged);
        self.stored_last = i64::from(flow.stored);
    }
}

/// An energy of one home and interval: its devices' limits hold it far inside 32 bits.
fn small(wh: i64) -> i32 {
    i32::try_from(wh).unwrap_or(if wh < 0 { i32::MIN } else { i32::MAX })
}

/// The number under which a home's random numbers are looked up: from its name, so that other homes do
/// not matter.
fn number_of(home: &str) -> u32 {
    let digest = digest_parts("simulator home", &[home.as_bytes()]);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// Runs all chunks through a window, on so many threads.
pub(super) fn run_all(chunks: &mut [Chunk], window: &[Now], manner: &Manner, threads: usize) {
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
