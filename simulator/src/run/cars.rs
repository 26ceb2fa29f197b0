//! Cars of a run: who comes home when, with how much to charge, and what the charging point does about it.

use super::calendar::Moment;
use super::scenario::RunEv;
use crate::model::ev::{ChargeNow, ChargePolicy, Charger, Plugged};
use crate::model::random::Stream;
use crate::number::{bounded, float};

/// Minutes of a day.
const DAY_MIN: i64 = 1440;
/// A car's day begins at this minute: nobody comes home or leaves then.
const CHANGE_MIN: i64 = 9 * 60;
/// Least power of a three-phase charging point: 6 A.
const LEAST_W: i64 = 4140;

/// Prices that a car looks ahead, in seconds: those of today and tomorrow that a price exchange has published
/// by the afternoon. The same whatever an interval's length.
pub(super) const PRICES_AHEAD_S: usize = 36 * 3600;

/// A car, its habits, and its visit at hand.
pub(super) struct Car {
    habits: RunEv,
    policy: ChargePolicy,
    charger: Charger,
    home: u32,
    length_min: i64,
    /// Intervals whose prices it looks at.
    prices_max: usize,
    /// The car's day, and the minutes of its visit on the street's clock.
    day: Option<i64>,
    visit: (i64, i64),
    need_wh: i64,
    plugged: Option<Plugged>,
    unserved_wh: i64,
}

/// Intervals of [`PRICES_AHEAD_S`].
pub(super) fn intervals_ahead(length_s: u32) -> usize {
    PRICES_AHEAD_S / usize::try_from(length_s).unwrap_or(900).max(1)
}

impl Car {
    pub(super) fn new(ev: &RunEv, home: u32, length_s: u32) -> Self {
        Car {
            habits: ev.clone(),
            policy: ev.policy,
            charger: Charger::new(LEAST_W, ev.max_power_w, length_s),
            home,
            length_min: i64::from(length_s) / 60,
            prices_max: intervals_ahead(length_s),
            day: None,
            visit: (0, 0),
            need_wh: 0,
            plugged: None,
            unserved_wh: 0,
        }
    }

    /// What cars still wanted when they left, in Wh.
    pub(super) fn unserved_wh(&self) -> i64 {
        self.unserved_wh
    }

    /// One interval; gives the energy into the car.
    pub(super) fn step(
        &mut self,
        moment: &Moment,
        surplus_wh: i64,
        retail_micro: &[i64],
        stream: Stream,
    ) -> i64 {
        let minute = moment.local_minute;
        let day = (minute - CHANGE_MIN).div_euclid(DAY_MIN);
        if self.day != Some(day) {
            self.leave();
            self.draw(day, stream);
            // A run that begins while the car is at home finds it charged.
            if self.day.is_none() && minute > self.visit.0 {
                self.need_wh = 0;
            }
            self.day = Some(day);
        }
        let (arrival, departure) = self.visit;
        if minute < arrival || minute + self.length_min > departure {
            if minute > arrival {
                self.leave();
            }
            return 0;
        }
        let need_wh = std::mem::take(&mut self.need_wh);
        let plugged = self.plugged.get_or_insert(Plugged { left_wh: need_wh });
        let now = ChargeNow {
            intervals_left: (departure - minute) / self.length_min,
            surplus_wh,
            prices: &retail_micro[..retail_micro.len().min(self.prices_max)],
        };
        self.charger.step(self.policy, plugged, &now)
    }

    /// Where the car was plugged in, it is not any more.
    fn leave(&mut self) {
        if let Some(plugged) = self.plugged.take() {
            self.unserved_wh += plugged.left_wh.max(0);
        }
    }

    /// The visit of a day: habits, an hour more or less, and half as much or half more to charge.
    fn draw(&mut self, day: i64, stream: Stream) {
        let mut draws = stream.at(self.home, day);
        let minutes = |hour: f64| bounded(hour * 60.0, 2 * DAY_MIN);
        let arrival = minutes(self.habits.arrival_hour + draws.between(-1.0, 1.0));
        let departure = minutes(self.habits.departure_hour + draws.between(-0.5, 0.5));
        let need_wh = float(self.habits.daily_need_wh) * draws.between(0.5, 1.5);
        self.visit = (day * DAY_MIN + arrival, (day + 1) * DAY_MIN + departure);
        self.need_wh = bounded(need_wh, self.habits.battery_wh);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::time::Interval;

    fn run(policy: ChargePolicy, days: i64, price: impl Fn(i64) -> i64) -> (Vec<i64>, i64) {
        let ev = RunEv {
            battery_wh: 50_000,
            max_power_w: 11_000,
            arrival_hour: 18.0,
            departure_hour: 7.0,
            daily_need_wh: 10_000,
            policy,
        };
        let mut car = Car::new(&ev, 5, 900);
        let prices: Vec<i64> = (0..days * 96 + 96).map(price).collect();
        let step = |i: i64| {
            let moment = Moment {
                interval: Interval::new(i * 900, 900).unwrap(),
                local_minute: i * 15,
                day_minute: u16::try_from(i % 96 * 15).unwrap(),
                day: 0,
            };
            let ahead = &prices[usize::try_from(i).unwrap()..];
            car.step(&moment, 0, ahead, Stream::new(7, "cars"))
        };
        let charged = (0..days * 96).map(step).collect();
        (charged, car.unserved_wh())
    }

    #[test]
    fn it_charges_in_the_evening_and_as_much_as_its_habits_say() {
        let (charged, unserved) = run(ChargePolicy::Uncontrolled, 200, |_| 1);
        let mean = charged.iter().sum::<i64>() / 200;
        assert!((9_300..10_700).contains(&mean), "{mean}");
        assert_eq!(unserved, 0);
        assert!(charged.iter().all(|wh| (0..=2750).contains(wh)));
        let hour = |i: usize| i % 96 / 4;
        let day: i64 = (0..charged.len())
            .filter(|i| (8..16).contains(&hour(*i)))
            .map(|i| charged[i])
            .sum();
        assert_eq!(day, 0);
        assert_eq!(
            charged[..16].iter().sum::<i64>(),
            0,
            "at the start it is charged"
        );
    }

    #[test]
    fn with_a_tariff_it_waits_for_cheap_hours_and_still_gets_its_energy() {
        let night = |i: i64| if (4..20).contains(&(i % 96)) { 1 } else { 5 };
        let (charged, unserved) = run(ChargePolicy::Tariff, 60, night);
        let dear: i64 = (0..)
            .zip(&charged)
            .filter(|(i, _)| night(*i) == 5)
            .map(|(_, wh)| wh)
            .sum();
        assert_eq!((dear, unserved), (0, 0));
        assert!(charged.iter().sum::<i64>() > 500_000);
    }
}
