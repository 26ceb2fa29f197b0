//! What a household uses, without a device list to fill in: something that is always on, small things
//! that come and go (first-order autoregressive), and appliance runs that people start while they are at
//! home and awake (a Poisson process that follows them).
//!
//! The numbers of the habits are our own; they are chosen so that lag-1 autocorrelation, correlation
//! between homes and coincidence lie where those of metered homes do
//! (`tests/it/realism.rs`).
//!
//! Nothing is planned ahead and nothing is allocated.

use std::sync::OnceLock;

use super::Carry;
use super::random::{Draws, Stream, normal_quantile};
use crate::number::single;

/// Quarter hours of a day.
const QUARTERS: usize = 96;
/// Yearly use of the household that the table of appliances describes.
const REFERENCE_KWH: f64 = 3500.0;
/// Spread of yearly use between homes: standard deviation of its logarithm.
pub const YEARLY_SIGMA: f64 = 0.45;
/// Shares of the year's energy: always on, small things; the rest are appliance runs.
const ALWAYS_ON: f64 = 0.22;
const SMALL_THINGS: f64 = 0.28;
/// Small things: standard deviation of their factor around 1, how long it is remembered, and their mean
/// factor while somebody is awake.
const SMALL_SIGMA: f64 = 0.45;
const SMALL_MEMORY_S: f64 = 3600.0;
const SMALL_AWAKE: f64 = 1.6;
/// A home's day begins up to this many quarters before or after the table's.
const SHIFT_QUARTERS: u64 = 5;
/// People come home, leave, fall asleep or wake up: mean time between two chances of it.
const STAY_S: f32 = 5400.0;
/// How many runs start while nobody is at home and awake, beside those when somebody is.
const UNATTENDED: f32 = 0.12;
/// Appliance runs at the same time; a further one shares the shortest one's place.
const RUNS: usize = 3;
/// The longest interval that this model is made for.
pub const INTERVAL_MAX_S: u32 = 3600;

/// Weekdays and days on which people stay at home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Day {
    /// Monday to Friday.
    Work,
    /// Saturday, Sunday, holidays.
    Free,
}

/// Share of homes with somebody at home and awake, by hour of the local day.
const AWAKE_WORK: [f32; 24] = [
    0.12, 0.06, 0.04, 0.04, 0.05, 0.14, 0.40, 0.58, 0.46, 0.34, 0.31, 0.33, //
    0.40, 0.38, 0.35, 0.40, 0.50, 0.64, 0.76, 0.83, 0.84, 0.78, 0.55, 0.28,
];
const AWAKE_FREE: [f32; 24] = [
    0.18, 0.10, 0.06, 0.05, 0.05, 0.07, 0.16, 0.34, 0.55, 0.66, 0.68, 0.70, //
    0.72, 0.68, 0.62, 0.60, 0.63, 0.69, 0.76, 0.80, 0.80, 0.75, 0.60, 0.36,
];

/// How many runs start in an hour of the local day, beside the mean hour: meals and evenings.
const PACE: [f32; 24] = [
    0.4, 0.3, 0.3, 0.3, 0.4, 0.6, 1.0, 1.2, 1.0, 0.9, 0.9, 1.1, //
    1.3, 1.0, 0.8, 0.8, 1.0, 1.6, 2.1, 2.1, 1.7, 1.2, 0.9, 0.6,
];

/// A kind of appliance run: medians, and standard deviations of the logarithm.
struct Run {
    median_w: f64,
    sigma_w: f64,
    median_s: f64,
    sigma_s: f64,
}

const fn run(median_w: f64, sigma_w: f64, median_s: f64, sigma_s: f64) -> Run {
    Run {
        median_w,
        sigma_w,
        median_s,
        sigma_s,
    }
}

/// Kettle or microwave; hob; oven; washing or dishwashing; screens and light; heater, dryer or cooler.
const RUN_KINDS: [Run; 6] = [
    run(1500.0, 0.20, 240.0, 0.4),
    run(850.0, 0.25, 1500.0, 0.4),
    run(1200.0, 0.20, 2100.0, 0.3),
    run(550.0, 0.25, 5400.0, 0.3),
    run(180.0, 0.40, 7200.0, 0.6),
    run(800.0, 0.25, 5400.0, 0.4),
];
/// Their shares of the runs.
const RUN_SHARES: [f32; 6] = [0.30, 0.18, 0.06, 0.12, 0.26, 0.08];

/// What all homes share in one interval: the rhythm of the local day.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LoadNow {
    interval: i64,
    quarter: usize,
    awake: &'static [f32; 24],
    season: f32,
    length_s: f32,
    memory: f32,
    noise: f32,
}

impl LoadNow {
    /// Interval number `interval` of a run; it lasts `length_s` and begins `second_of_day` after local
    /// midnight. `season` is the year's rhythm around 1 (the polynomial of H0 fits).
    #[must_use]
    pub fn new(interval: i64, second_of_day: u32, day: Day, season: f64, length_s: u32) -> LoadNow {
        let memory = libm::exp(-f64::from(length_s) / SMALL_MEMORY_S);
        LoadNow {
            interval,
            quarter: usize::try_from(second_of_day / 900).map_or(0, |q| q % QUARTERS),
            awake: match day {
                Day::Work => &AWAKE_WORK,
                Day::Free => &AWAKE_FREE,
            },
            season: single(season.clamp(0.1, 10.0)),
            length_s: single(f64::from(length_s.min(INTERVAL_MAX_S))),
            memory: single(memory),
            noise: single(SMALL_SIGMA * libm::sqrt(1.0 - memory * memory)),
        }
    }

    /// A table's value, seen from a home whose day runs `shift` quarters ahead.
    #[inline]
    fn of(&self, table: &[f32; 24], shift: usize) -> f32 {
        let quarter = (self.quarter + shift) % QUARTERS;
        let (hour, part) = (quarter / 4, quarter % 4);
        table[hour] + (table[(hour + 1) % 24] - table[hour]) * QUARTER_PARTS[part]
    }
}

const QUARTER_PARTS: [f32; 4] = [0.0, 0.25, 0.5, 0.75];

/// The habits of one household.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Household {
    home: u32,
    always_w: f32,
    small_awake_w: f32,
    small_asleep_w: f32,
    /// Runs per second while somebody is awake, at season 1.
    runs_per_s: f32,
    power_scale: f32,
    /// Quarters by which this home's day is ahead of the table, modulo a day.
    shift: usize,
}

/// What a household's load remembers from one interval to the next.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LoadState {
    small: f32,
    awake: bool,
    /// Mean numbers of chances and of runs that are still to pass before the next one.
    until_change: f32,
    until_run: f32,
    runs: [Running; RUNS],
    carry: Carry,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Running {
    w: f32,
    left_s: f32,
}

/// A yearly use from the log-normal law of homes around `mean_kwh`.
pub fn yearly_kwh(draws: &mut Draws, mean_kwh: f64) -> f64 {
    // The mean of a log-normal law is median · exp(σ²/2).
    draws.log_normal(
        mean_kwh * libm::exp(-YEARLY_SIGMA * YEARLY_SIGMA / 2.0),
        YEARLY_SIGMA,
    )
}

impl Household {
    /// The household number `home` that uses `yearly_kwh` in a mean year.
    #[must_use]
    pub fn new(stream: Stream, home: u32, yearly_kwh: f64) -> (Household, LoadState) {
        let mut draws = stream.at(home, HABITS);
        let mean_w = yearly_kwh.max(0.0) * 1000.0 / 8760.0;
        // Homes differ in how much of their use is appliances, and in when their day begins.
        let lean = draws.between(0.8, 1.2);
        let runs_w = mean_w * (1.0 - ALWAYS_ON - SMALL_THINGS) * lean;
        let rest_w = (mean_w - runs_w) / (ALWAYS_ON + SMALL_THINGS);
        let power_scale = libm::pow(yearly_kwh.max(0.0) / REFERENCE_KWH, 0.35).max(0.3);
        let runs = Runs::get();
        let awake = runs.week.awake;
        let small_w = rest_w * SMALL_THINGS;
        let shift = draws.below(SHIFT_QUARTERS) + draws.below(SHIFT_QUARTERS);
        let household = Household {
            home,
            always_w: single(rest_w * ALWAYS_ON),
            small_awake_w: single(small_w * SMALL_AWAKE),
            small_asleep_w: single(small_w * (1.0 - awake * SMALL_AWAKE) / (1.0 - awake)),
            runs_per_s: single(runs_w / (runs.mean_ws() * power_scale * runs.week.pace)),
            power_scale: single(power_scale),
            shift: usize::try_from(shift + 1 + QUARTERS as u64 - SHIFT_QUARTERS).unwrap_or(0),
        };
        let state = LoadState {
            small: single(draws.normal() * SMALL_SIGMA),
            awake: false,
            until_change: single(draws.exponential()),
            until_run: single(draws.exponential()),
            runs: [Running::default(); RUNS],
            carry: Carry::default(),
        };
        (household, state)
    }

    /// The energy of one interval, in whole Wh.
    #[inline]
    pub fn step_wh(&self, state: &mut LoadState, now: &LoadNow, stream: Stream) -> i32 {
        self.step_by(state, now, stream.at(self.home, now.interval))
    }

    /// The same with the random numbers of this home and interval at hand.
    #[inline]
    pub fn step_by(&self, state: &mut LoadState, now: &LoadNow, mut draws: Draws) -> i32 {
        state.small = state.small * now.memory + draws.quick_normal() * now.noise;
        state.until_change -= now.length_s / STAY_S;
        if state.until_change <= 0.0 {
            state.until_change = exponential(&mut draws);
            state.awake = draws.unit() < f64::from(now.of(now.awake, self.shift));
        }
        let (small_w, attended) = if state.awake {
            (self.small_awake_w, 1.0)
        } else {
            (self.small_asleep_w, UNATTENDED)
        };
        let small_w = small_w * (1.0 + state.small).max(0.0) * now.season;
        let mut ws = (self.always_w + small_w) * now.length_s;
        for running in &mut state.runs {
            let served_s = running.left_s.min(now.length_s);
            ws += running.w * served_s;
            running.left_s -= served_s;
        }
        let pace = self.runs_per_s * attended * now.season * now.of(&PACE, self.shift);
        state.until_run -= pace * now.length_s;
        while state.until_run <= 0.0 {
            let ago_s = (-state.until_run / pace).min(now.length_s);
            ws += self.start_run(state, ago_s, &mut draws);
            state.until_run += exponential(&mut draws);
        }
        state.carry.whole_wh(ws / 3600.0)
    }

    /// Starts a run `ago_s` seconds before the interval's end; gives the watt-seconds it used in it.
    fn start_run(&self, state: &mut LoadState, ago_s: f32, draws: &mut Draws) -> f32 {
        let (w, lasts_s) = Runs::get().pick(draws.bits());
        let w = w * self.power_scale;
        let served_s = lasts_s.min(ago_s);
        let left_s = lasts_s - served_s;
        let mut shortest = 0;
        for index in 1..RUNS {
            if state.runs[index].left_s < state.runs[shortest].left_s {
                shortest = index;
            }
        }
        let place = &mut state.runs[shortest];
        // Where all places are taken, two runs share one: their energy stays what it is.
        let left_ws = place.w * place.left_s + w * left_s;
        place.left_s = place.left_s.max(left_s);
        place.w = if place.left_s > 0.0 {
            left_ws / place.left_s
        } else {
            0.0
        };
        w * served_s
    }
}

/// The place of the interval under which a home's habits are drawn: no interval of any run.
const HABITS: i64 = i64::MIN;

/// An exponential number with mean 1, in single precision.
#[inline]
fn exponential(draws: &mut Draws) -> f32 {
    -libm::logf(single(draws.inner_unit()).clamp(1e-12, 0.999_999_9))
}

/// Powers and durations of each kind of run at evenly spaced quantiles (a run is looked up, not computed), and
/// the means that a household is scaled by.
struct Runs {
    w: [[f32; RUN_QUANTILES]; RUN_SHARES.len()],
    s: [[f32; RUN_QUANTILES]; RUN_SHARES.len()],
    week: Week,
}

/// Quantiles in a table; so many that six bits choose one.
const RUN_QUANTILES: usize = 64;

impl Runs {
    fn get() -> &'static Runs {
        static RUNS: OnceLock<Runs> = OnceLock::new();
        RUNS.get_or_init(|| {
            let table = |of: &dyn Fn(&Run) -> (f64, f64)| {
                let mut table = [[0.0; RUN_QUANTILES]; RUN_SHARES.len()];
                for (row, kind) in table.iter_mut().zip(&RUN_KINDS) {
                    let (median, sigma) = of(kind);
                    for (index, place) in row.iter_mut().enumerate() {
                        let z = normal_quantile((index as f64 + 0.5) / RUN_QUANTILES as f64);
                        *place = single(median * libm::exp(sigma * z));
                    }
                }
                table
            };
            Runs {
                w: table(&|kind| (kind.median_w, kind.sigma_w)),
                s: table(&|kind| (kind.median_s, kind.sigma_s)),
                week: Week::mean(),
            }
        })
    }

    /// Power and duration of the run that these bits choose.
    #[inline]
    fn pick(&self, bits: u64) -> (f32, f32) {
        let six = |shift: u32| usize::try_from(bits >> shift & 63).unwrap_or(0);
        let mut left = (bits >> 32) as f32 * (1.0 / 4_294_967_296.0);
        let mut kind = 0;
        for share in &RUN_SHARES[..RUN_SHARES.len() - 1] {
            left -= share;
            if left < 0.0 {
                break;
            }
            kind += 1;
        }
        (self.w[kind][six(0)], self.s[kind][six(6)])
    }

    /// Mean energy of a run in the reference household, in Ws.
    fn mean_ws(&self) -> f64 {
        let mean = |row: &[f32; RUN_QUANTILES]| {
            row.iter().map(|value| f64::from(*value)).sum::<f64>() / RUN_QUANTILES as f64
        };
        let kinds = self.w.iter().zip(&self.s).zip(RUN_SHARES);
        kinds
            .map(|((w, s), share)| f64::from(share) * mean(w) * mean(s))
            .sum()
    }
}

/// Means over a week of one household.
struct Week {
    /// Share of time in which somebody is at home and awake.
    awake: f64,
    /// Runs that start in a mean hour, beside those of an hour with pace 1 in which somebody is awake.
    pace: f64,
}

impl Week {
    /// Who is awake follows the tables with a lag (changes wait for their chance), so the means are those of the
    /// second of two weeks in quarter hours.
    fn mean() -> Week {
        let change = 1.0 - libm::exp(-900.0 / f64::from(STAY_S));
        let (mut awake, mut means) = (
            0.0,
            Week {
                awake: 0.0,
                pace: 0.0,
            },
        );
        let quarters = 7 * u32::try_from(QUARTERS).unwrap_or(1);
        for quarter in 0..2 * quarters {
            let day = if quarter / 96 % 7 < 5 {
                Day::Work
            } else {
                Day::Free
            };
            let now = LoadNow::new(0, quarter % 96 * 900, day, 1.0, 900);
            awake += change * (f64::from(now.of(now.awake, 0)) - awake);
            if quarter >= quarters {
                let attended = awake + (1.0 - awake) * f64::from(UNATTENDED);
                means.awake += awake / f64::from(quarters);
                means.pace += f64::from(now.of(&PACE, 0)) * attended / f64::from(quarters);
            }
        }
        means
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn year_wh(length_s: u32, home: u32, yearly_kwh: f64) -> Vec<i32> {
        let stream = Stream::new(5, "load");
        let (household, mut state) = Household::new(stream, home, yearly_kwh);
        let per_day = 86_400 / length_s;
        (0..365 * per_day)
            .map(|index| {
                let day = if (index / per_day) % 7 < 5 {
                    Day::Work
                } else {
                    Day::Free
                };
                let second = index % per_day * length_s;
                let now = LoadNow::new(i64::from(index), second, day, 1.0, length_s);
                household.step_wh(&mut state, &now, stream)
            })
            .collect()
    }

    #[test]
    fn a_year_uses_what_was_asked_for() {
        for (length_s, yearly_kwh) in [
            (900, 1500.0),
            (900, 4000.0),
            (3600, 4000.0),
            (900, 40_000.0),
        ] {
            let homes = 12;
            let sum: i64 = (0..homes)
                .flat_map(|home| year_wh(length_s, home, yearly_kwh))
                .map(i64::from)
                .sum();
            let ratio = sum as f64 / 1000.0 / (f64::from(homes) * yearly_kwh);
            assert!(
                (0.98..1.02).contains(&ratio),
                "{ratio} of {yearly_kwh} kWh at {length_s} s"
            );
        }
    }

    #[test]
    fn the_same_place_gives_the_same_load_and_another_home_another() {
        assert_eq!(year_wh(3600, 3, 3000.0), year_wh(3600, 3, 3000.0));
        assert_ne!(year_wh(3600, 3, 3000.0), year_wh(3600, 4, 3000.0));
    }

    #[test]
    fn nobody_uses_nothing_and_nothing_is_negative() {
        assert!(year_wh(3600, 1, 0.0).iter().all(|wh| *wh == 0));
        assert!(
            year_wh(900, 1, 9000.0)
                .iter()
                .all(|wh| (0..20_000).contains(wh))
        );
    }

    #[test]
    fn yearly_use_has_the_mean_that_was_asked_for() {
        let stream = Stream::new(5, "size");
        let sum: f64 = (0..4000)
            .map(|home| yearly_kwh(&mut stream.at(home, 0), 3500.0))
            .sum();
        assert!((sum / 4000.0 - 3500.0).abs() < 130.0, "{}", sum / 4000.0);
    }
}
