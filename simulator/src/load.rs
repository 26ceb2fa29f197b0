//! What a household uses: standby, a fridge, a daily rhythm, and appliances that people switch on. A
//! whole day is planned at once, minute by minute, and depends only on the seed, the home and the day.

use crate::number::{POWER_MAX_W, bounded, float};
use crate::random::{Draws, Stream};

/// Minutes in a day.
const DAY_MINUTES: usize = 1440;
const DAY_MINUTES_I: i64 = 1440;
/// The yearly load whose appliance use the table below describes; other homes scale the counts.
const REFERENCE_KWH: f64 = 3500.0;
/// A fridge: power while it runs, minutes of running, minutes of one cycle.
const FRIDGE: (i64, i64, i64) = (110, 15, 45);
/// Share of the remaining energy that is always on; the rest follows the daily rhythm.
const STANDBY_SHARE: f64 = 0.4;

/// The daily rhythm by hour of the street's clock: lights, screens, small things. Only the shape counts.
const RHYTHM: [f64; 24] = [
    0.5, 0.35, 0.3, 0.3, 0.3, 0.4, 0.8, 1.2, 1.1, 0.9, 0.9, 1.0, //
    1.2, 1.1, 0.9, 0.9, 1.0, 1.3, 1.6, 1.8, 1.9, 1.8, 1.4, 0.8,
];

/// An appliance: what one use looks like, how often and when it happens.
struct Appliance {
    /// Stretches of one use: minutes, watts.
    program: &'static [(i64, i64)],
    /// Uses on a mean day in the reference household.
    per_day: f64,
    /// Hours of the day between which a use starts; no use reaches past midnight.
    windows: &'static [(f64, f64)],
}

/// Kettle, hob, oven, washing machine, dishwasher, vacuum cleaner.
const APPLIANCES: [Appliance; 6] = [
    Appliance {
        program: &[(3, 2000)],
        per_day: 3.0,
        windows: &[(6.0, 9.0), (15.0, 18.0)],
    },
    Appliance {
        program: &[(35, 1300)],
        per_day: 1.1,
        windows: &[(11.5, 13.0), (17.5, 19.5)],
    },
    Appliance {
        program: &[(12, 2400), (30, 900)],
        per_day: 0.3,
        windows: &[(17.0, 19.0)],
    },
    Appliance {
        program: &[(22, 2000), (65, 180)],
        per_day: 0.5,
        windows: &[(8.0, 20.0)],
    },
    Appliance {
        program: &[(18, 1900), (50, 60), (14, 1900)],
        per_day: 0.6,
        windows: &[(13.0, 15.0), (19.0, 22.0)],
    },
    Appliance {
        program: &[(15, 900)],
        per_day: 0.3,
        windows: &[(9.0, 18.0)],
    },
];

impl Appliance {
    /// Energy of one use in watt-minutes.
    fn use_wmin(&self) -> i64 {
        self.program
            .iter()
            .map(|(minutes, watts)| minutes * watts)
            .sum()
    }
}

/// The load of one household.
pub(crate) struct Load {
    stream: Stream,
    standby_w: f64,
    rhythm_w: f64,
    use_scale: f64,
    fridge_shift: i64,
    plan: Option<(i64, Vec<i64>)>,
}

impl Load {
    /// The household called `home`, using `yearly_kwh` in a mean year.
    pub(crate) fn new(seed: u64, home: &str, yearly_kwh: i64) -> Load {
        let mean_w = float(yearly_kwh) * 1000.0 / (365.0 * 24.0);
        let use_scale = float(yearly_kwh) / REFERENCE_KWH;
        let uses_wmin: f64 = APPLIANCES
            .iter()
            .map(|a| a.per_day * float(a.use_wmin()))
            .sum();
        let uses_w = use_scale * uses_wmin / float(DAY_MINUTES_I);
        let (fridge_w, running, cycle) = FRIDGE;
        let fridge_w = float(fridge_w * running) / float(cycle);
        let rest_w = (mean_w - uses_w - fridge_w).max(0.0);
        let rhythm_mean = RHYTHM.iter().sum::<f64>() / 24.0;
        Load {
            stream: Stream::new(seed, &format!("{home}/load")),
            standby_w: rest_w * STANDBY_SHARE,
            rhythm_w: rest_w * (1.0 - STANDBY_SHARE) / rhythm_mean,
            use_scale,
            fridge_shift: Stream::new(seed, &format!("{home}/fridge"))
                .at(0)
                .whole(0, cycle - 1),
            plan: None,
        }
    }

    /// Power in a minute of the street's clock, counted from 1970.
    pub(crate) fn power_w(&mut self, local_minute: i64) -> i64 {
        let day = local_minute.div_euclid(DAY_MINUTES_I);
        let minute = usize::try_from(local_minute.rem_euclid(DAY_MINUTES_I)).unwrap_or(0);
        match &self.plan {
            Some((planned, plan)) if *planned == day => plan[minute],
            _ => {
                let plan = self.plan_day(day);
                let power_w = plan[minute];
                self.plan = Some((day, plan));
                power_w
            }
        }
    }

    fn plan_day(&self, day: i64) -> Vec<i64> {
        let mut draws = self.stream.at(day);
        let activity = draws.between(0.8, 1.2);
        let (fridge_w, running, cycle) = FRIDGE;
        let mut plan = Vec::with_capacity(DAY_MINUTES);
        for (hour, now) in RHYTHM.iter().enumerate() {
            let next = RHYTHM[(hour + 1) % RHYTHM.len()];
            for minute in 0..60_i32 {
                let rhythm = now + (next - now) * f64::from(minute) / 60.0;
                let flicker = draws.between(0.9, 1.1);
                let power_w = self.standby_w + self.rhythm_w * rhythm * activity * flicker;
                plan.push(bounded(power_w, POWER_MAX_W));
            }
        }
        let day_start = day * DAY_MINUTES_I + self.fridge_shift;
        for (minute, power_w) in (day_start..).zip(plan.iter_mut()) {
            if minute.rem_euclid(cycle) < running {
                *power_w += fridge_w;
            }
        }
        for appliance in &APPLIANCES {
            self.switch_on(appliance, &mut draws, &mut plan);
        }
        plan
    }

    /// Adds a day's uses of one appliance to the plan.
    fn switch_on(&self, appliance: &Appliance, draws: &mut Draws, plan: &mut [i64]) {
        // A mean of 1.3 uses becomes one use, and a second one on three days of ten.
        let mut expected = appliance.per_day * self.use_scale + draws.unit();
        while expected >= 1.0 {
            expected -= 1.0;
            let choice = draws.unit() * float(i64::try_from(appliance.windows.len()).unwrap_or(1));
            let window = usize::try_from(bounded(choice.floor(), 100)).unwrap_or(0);
            let (from_hour, to_hour) = appliance.windows[window];
            let start = bounded(draws.between(from_hour, to_hour) * 60.0, DAY_MINUTES_I);
            let strength = draws.between(0.9, 1.1);
            let mut minutes_left = plan.iter_mut().skip(usize::try_from(start).unwrap_or(0));
            for &(minutes, watts) in appliance.program {
                let power_w = bounded(float(watts) * strength, POWER_MAX_W);
                for _ in 0..minutes {
                    if let Some(minute_w) = minutes_left.next() {
                        *minute_w += power_w;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(load: &mut Load, day: i64) -> Vec<i64> {
        (0..DAY_MINUTES_I)
            .map(|m| load.power_w(day * DAY_MINUTES_I + m))
            .collect()
    }

    #[test]
    fn a_year_uses_about_what_the_scenario_says() {
        for yearly_kwh in [2500, 5500] {
            let mut load = Load::new(3, "home-01", yearly_kwh);
            let watt_minutes: i64 = (0..365)
                .map(|d| day(&mut load, d).iter().sum::<i64>())
                .sum();
            let kwh = watt_minutes / 60_000;
            assert!(
                (kwh - yearly_kwh).abs() < yearly_kwh / 20,
                "{kwh} of {yearly_kwh} kWh"
            );
        }
    }

    #[test]
    fn a_day_looks_like_a_home() {
        let mut load = Load::new(3, "home-01", 4000);
        let days: Vec<i64> = (0..30).flat_map(|d| day(&mut load, d)).collect();
        assert!(days.iter().all(|w| (30..12_000).contains(w)));
        assert!(days.iter().any(|w| *w > 2_000), "a kettle must show");
        let hour_mean = |hour: usize| {
            let minutes = days.iter().enumerate().filter(|(m, _)| m / 60 % 24 == hour);
            minutes.map(|(_, w)| w).sum::<i64>() / 1800
        };
        assert!(
            hour_mean(19) > 2 * hour_mean(3),
            "evenings are busier than nights"
        );
    }

    #[test]
    fn homes_and_days_differ_and_a_day_repeats() {
        let mut one = Load::new(3, "home-01", 4000);
        let mut two = Load::new(3, "home-02", 4000);
        let first = day(&mut one, 5);
        assert_ne!(first, day(&mut two, 5));
        assert_ne!(first, day(&mut one, 6));
        assert_eq!(first, day(&mut one, 5));
    }
}
