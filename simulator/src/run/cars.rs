//! Cars of a run: who comes home when, with how much to charge, and what the charging point does about it.

use std::collections::VecDeque;

use super::calendar::Moment;
use super::scenario::RunEv;
use crate::model::ev::sessions::{Site, of_day};
use crate::model::ev::{ChargeNow, ChargePolicy, Charger, Plugged, Session};
use crate::model::random::{Draws, Stream};
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

/// A car and its visit at hand. Times are seconds of the street's clock for habits, and of UTC for sessions.
pub(super) struct Car {
    plan: Plan,
    policy: ChargePolicy,
    charger: Charger,
    home: u32,
    length_s: i64,
    /// Intervals whose prices it looks at.
    prices_max: usize,
    /// Visits to come, in order; the first is the one at hand.
    visits: VecDeque<Session>,
    plugged: Option<Plugged>,
    unserved_wh: i64,
}

/// Where visits come from.
enum Plan {
    /// The habits of a scenario, and the car's day for which they were drawn last.
    Habits { ev: Box<RunEv>, day: Option<i64> },
    /// The mixture of real sessions; until when the charging point is taken.
    Fitted {
        site: Site,
        battery_wh: i64,
        most_w: i64,
        day: Option<i64>,
        busy_s: i64,
    },
    /// All visits are known.
    File,
}

/// Intervals of [`PRICES_AHEAD_S`].
pub(super) fn intervals_ahead(length_s: u32) -> usize {
    PRICES_AHEAD_S / usize::try_from(length_s).unwrap_or(900).max(1)
}

impl Car {
    /// A car; `sessions` are its visits where its scenario names a file of them.
    pub(super) fn new(ev: &RunEv, home: u32, length_s: u32, sessions: Vec<Session>) -> Self {
        Car {
            plan: match (ev.visits, &ev.sessions) {
                (_, Some(_)) => Plan::File,
                (Some(site), None) => Plan::Fitted {
                    site,
                    battery_wh: ev.battery_wh,
                    most_w: ev.max_power_w,
                    day: None,
                    busy_s: i64::MIN,
                },
                (None, None) => Plan::Habits {
                    ev: Box::new(ev.clone()),
                    day: None,
                },
            },
            policy: ev.policy,
            charger: Charger::new(LEAST_W, ev.max_power_w, length_s),
            home,
            length_s: i64::from(length_s),
            prices_max: intervals_ahead(length_s),
            visits: sessions.into(),
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
        let (now_s, length_s) = (self.plan_visits(moment, stream), self.length_s);
        while let Some(visit) = self.visits.front() {
            let (arrival_s, departure_s) = self.whole(visit);
            if now_s < arrival_s {
                return 0;
            }
            if now_s + length_s <= departure_s {
                let need_wh = visit.energy_wh;
                let plugged = self.plugged.get_or_insert(Plugged { left_wh: need_wh });
                let now = ChargeNow {
                    intervals_left: (departure_s - now_s) / length_s,
                    surplus_wh,
                    prices: &retail_micro[..retail_micro.len().min(self.prices_max)],
                };
                return self.charger.step(self.policy, plugged, &now);
            }
            self.leave();
        }
        0
    }

    /// Begin and end of a visit as it is charged. A session's are those of the intervals in which it begins and ends,
    /// so that a short one has an interval too.
    fn whole(&self, visit: &Session) -> (i64, i64) {
        let (from, to) = (visit.arrival_unix_s, visit.departure_unix_s);
        match self.plan {
            Plan::Habits { .. } => (from, to),
            _ => (
                from.div_euclid(self.length_s) * self.length_s,
                -(-to).div_euclid(self.length_s) * self.length_s,
            ),
        }
    }

    /// The visit at hand is over: what its car still wanted stays undone.
    fn leave(&mut self) {
        let visit = self.visits.pop_front();
        let left_wh = match self.plugged.take() {
            Some(plugged) => plugged.left_wh,
            None => visit.map_or(0, |visit| visit.energy_wh),
        };
        self.unserved_wh += left_wh.max(0);
    }

    /// Draws the visits of a day that begins; gives the time on the clock of the visits.
    fn plan_visits(&mut self, moment: &Moment, stream: Stream) -> i64 {
        let (minute, utc_s) = (moment.local_minute, moment.interval.start_s());
        match &mut self.plan {
            Plan::File => utc_s,
            Plan::Habits { ev, day } => {
                let today = (minute - CHANGE_MIN).div_euclid(DAY_MIN);
                if *day != Some(today) {
                    let mut visit = habit(ev, today, &mut stream.at(self.home, today));
                    // A run that begins while the car is at home finds it charged.
                    if day.is_none() && minute * 60 > visit.arrival_unix_s {
                        visit.energy_wh = 0;
                    }
                    *day = Some(today);
                    while !self.visits.is_empty() {
                        self.leave();
                    }
                    self.visits.push_back(visit);
                }
                minute * 60
            }
            Plan::Fitted {
                site,
                battery_wh,
                most_w,
                day,
                busy_s,
            } => {
                let today = minute.div_euclid(DAY_MIN);
                if *day != Some(today) {
                    *day = Some(today);
                    // 1 January 1970 was a Thursday.
                    let free = matches!((today + 3).rem_euclid(7), 5 | 6);
                    let midnight_s = utc_s - minute.rem_euclid(DAY_MIN) * 60;
                    let draws = &mut stream.at(self.home, today);
                    let drawn = of_day(*site, free, midnight_s, *most_w, *battery_wh, draws);
                    if let Some(visit) = drawn.filter(|v| v.arrival_unix_s >= *busy_s) {
                        *busy_s = visit.departure_unix_s;
                        self.visits.push_back(visit);
                    }
                }
                utc_s
            }
        }
    }
}

/// The visit of a day by habit: an hour more or less, and half as much or half more to charge. In seconds of the
/// street's clock.
fn habit(ev: &RunEv, day: i64, draws: &mut Draws) -> Session {
    let minutes = |hour: f64| bounded(hour * 60.0, 2 * DAY_MIN);
    let arrival = minutes(ev.arrival_hour.unwrap_or(0.0) + draws.between(-1.0, 1.0));
    let departure = minutes(ev.departure_hour.unwrap_or(0.0) + draws.between(-0.5, 0.5));
    let need_wh = float(ev.daily_need_wh.unwrap_or(0)) * draws.between(0.5, 1.5);
    Session {
        arrival_unix_s: (day * DAY_MIN + arrival) * 60,
        departure_unix_s: ((day + 1) * DAY_MIN + departure) * 60,
        energy_wh: bounded(need_wh, ev.battery_wh),
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
            arrival_hour: Some(18.0),
            departure_hour: Some(7.0),
            daily_need_wh: Some(10_000),
            visits: None,
            sessions: None,
            policy,
            own_connection: false,
        };
        charged(&ev, Vec::new(), days, price)
    }

    fn charged(
        ev: &RunEv,
        sessions: Vec<Session>,
        days: i64,
        price: impl Fn(i64) -> i64,
    ) -> (Vec<i64>, i64) {
        let mut car = Car::new(ev, 5, 900, sessions);
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

    #[test]
    fn sessions_of_a_file_are_charged_when_they_are_there_and_short_ones_too() {
        let ev: RunEv = toml::from_str(
            "battery_wh = 50000\nmax_power_w = 11000\nsessions = { file = \"s.csv\" }\n",
        )
        .unwrap();
        let visit = |arrival_unix_s, departure_unix_s, energy_wh| Session {
            arrival_unix_s,
            departure_unix_s,
            energy_wh,
        };
        let sessions = vec![
            visit(36_000, 43_200, 4_000),
            visit(50_100, 50_400, 900),
            visit(60_000, 63_600, 20_000),
        ];
        let (charged, unserved) = charged(&ev, sessions, 1, |_| 1);
        assert_eq!(charged[40..42], [2750, 1250]);
        assert_eq!(charged[55], 900, "within one interval");
        let all: i64 = charged.iter().sum();
        assert_eq!(all + unserved, 24_900);
        // Five intervals are touched by the last visit.
        assert_eq!(unserved, 20_000 - 5 * 2750);
    }

    #[test]
    fn fitted_visits_follow_the_mixture() {
        let ev: RunEv =
            toml::from_str("battery_wh = 60000\nmax_power_w = 11000\nvisits = \"home\"\n").unwrap();
        let (charged, unserved) = charged(&ev, Vec::new(), 700, |_| 1);
        let day = charged.iter().sum::<i64>() / 700;
        // 0.66 visits a day of 11 to 13 kWh in the mean, less those that find the point taken.
        assert!(
            (4_500..10_500).contains(&day),
            "{day} Wh a day, {unserved} left"
        );
        let night: i64 = (0..charged.len())
            .filter(|i| i % 96 < 24)
            .map(|i| charged[i])
            .sum();
        assert!(night * 3 < charged.iter().sum::<i64>());
    }
}
