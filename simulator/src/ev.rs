//! An electric car at home: it comes, charges as fast as it may until it has what the next day needs,
//! and leaves in the morning. Days depend only on the seed, the home and the date.

use domain::time::Timestamp;

use crate::number::{bounded, float};
use crate::random::{Draws, Stream};
use crate::scenario::EvScenario;
use crate::world::STEP_S;

const DAY_S: i64 = 86_400;
/// On the street's clock, no car comes before this hour and none is still there after it.
const CHANGE_OF_DAY_S: i64 = 9 * 3600;
/// Share of days on which the car was driven and is plugged in.
const DRIVE_SHARE: f64 = 0.85;
/// Time that car and charger need to agree before power flows.
const HANDSHAKE_S: i64 = 10;
/// With less current than this, no car charges.
const CURRENT_MIN_MA: i64 = 6_000;
/// Volts times phases: what turns a current into a power.
pub(crate) const THREE_PHASE_V: i64 = 690;

/// What a charger says it is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChargeState {
    /// No car is plugged in.
    Unplugged,
    /// A car is plugged in and does not draw power: not yet, or no more.
    Ready,
    /// The car draws power.
    Charging,
}

/// A charger and the energy it has given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChargerState {
    /// What it is doing.
    pub state: ChargeState,
    /// Largest power.
    pub power_max_w: i64,
    /// Power into the car now.
    pub power_w: i64,
    /// Energy given since it was built.
    pub energy_ws: i64,
    /// Energy given to the car that is, or was last, plugged in.
    pub session_ws: i64,
}

/// One stay of the car.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Session {
    day: i64,
    arrival_s: i64,
    departure_s: i64,
    /// A multiple of the step, so that the last step of a session is a whole number of watts.
    need_ws: i64,
}

/// When the car of a charger comes and goes, and what it needs.
pub struct Stays {
    habits: EvScenario,
    stream: Stream,
}

/// One stay, as whoever drives the car knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stay {
    /// When it is plugged in.
    pub arrival: Timestamp,
    /// When it leaves.
    pub departure: Timestamp,
    /// What it takes.
    pub need_wh: i64,
}

impl Stays {
    /// Those of the charger of `home` in the world of this seed.
    #[must_use]
    pub fn new(seed: u64, home: &str, ev: &EvScenario) -> Stays {
        Stays {
            habits: ev.clone(),
            stream: Stream::new(seed, &format!("{home}/ev")),
        }
    }

    /// The stay of the day that runs, on a street whose clock is so many minutes ahead of UTC; none on a day without a drive.
    #[must_use]
    pub fn around(&self, now: Timestamp, utc_offset_minutes: i64) -> Option<Stay> {
        let offset_s = utc_offset_minutes * 60;
        let session = self.of(day_of(now.unix_s() + offset_s))?;
        Some(Stay {
            arrival: Timestamp::from_unix_s(session.arrival_s - offset_s),
            departure: Timestamp::from_unix_s(session.departure_s - offset_s),
            need_wh: session.need_ws / 3_600,
        })
    }

    /// The stay that begins on a day of the street's clock; `None` on a day without a drive.
    fn of(&self, day: i64) -> Option<Session> {
        let mut draws = self.stream.at(day);
        if draws.unit() >= DRIVE_SHARE {
            return None;
        }
        let at = |hour: f64| bounded(hour * 3600.0, 2 * DAY_S);
        let arrival = at(self.habits.arrival_hour + draws.between(-1.0, 1.0));
        let departure = at(self.habits.departure_hour + draws.between(-0.5, 0.5));
        let need_wh = float(self.habits.daily_need_wh) * draws.between(0.5, 1.5);
        Some(Session {
            day,
            arrival_s: day * DAY_S + arrival,
            departure_s: (day + 1) * DAY_S + departure,
            need_ws: bounded(need_wh, self.habits.battery_wh) * 3600,
        })
    }
}

/// The day of the street's clock that a car's stay belongs to.
fn day_of(local_s: i64) -> i64 {
    (local_s - CHANGE_OF_DAY_S).div_euclid(DAY_S)
}

/// A charger with its owner's habits.
pub(crate) struct Charger {
    stays: Stays,
    session: Option<Session>,
    known_day: Option<i64>,
    pub(crate) state: ChargerState,
}

impl Charger {
    /// The charger of `home`.
    pub(crate) fn new(seed: u64, home: &str, ev: &EvScenario, initial: &mut Draws) -> Charger {
        Charger {
            stays: Stays::new(seed, home, ev),
            session: None,
            known_day: None,
            state: ChargerState {
                state: ChargeState::Unplugged,
                power_max_w: ev.max_power_w,
                power_w: 0,
                energy_ws: initial.whole(300_000, 5_000_000) * 3600,
                session_ws: 0,
            },
        }
    }

    /// One step beginning at a second of the street's clock, with so much current allowed in each
    /// phase; gives the power into the car.
    pub(crate) fn step(&mut self, local_s: i64, limit_ma: i64) -> i64 {
        let day = day_of(local_s);
        if self.known_day != Some(day) {
            self.known_day = Some(day);
            self.session = self.stays.of(day);
        }
        let state = &mut self.state;
        let plugged = self
            .session
            .filter(|s| s.arrival_s <= local_s && local_s < s.departure_s);
        let Some(session) = plugged else {
            (state.state, state.power_w) = (ChargeState::Unplugged, 0);
            return 0;
        };
        if state.state == ChargeState::Unplugged {
            state.session_ws = 0;
        }
        let open_ws = session.need_ws - state.session_ws;
        let agreed = local_s - session.arrival_s >= HANDSHAKE_S;
        state.power_w = if agreed {
            let allowed_w = if limit_ma < CURRENT_MIN_MA {
                0
            } else {
                limit_ma * THREE_PHASE_V / 1000
            };
            (open_ws / STEP_S).min(state.power_max_w).min(allowed_w)
        } else {
            0
        };
        state.state = if state.power_w > 0 {
            ChargeState::Charging
        } else {
            ChargeState::Ready
        };
        state.energy_ws += state.power_w * STEP_S;
        state.session_ws += state.power_w * STEP_S;
        state.power_w
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charger(seed: u64) -> Charger {
        let ev = EvScenario {
            battery_wh: 50_000,
            max_power_w: 11_000,
            arrival_hour: 17.5,
            departure_hour: 7.5,
            daily_need_wh: 10_000,
            own_connection: false,
        };
        Charger::new(
            seed,
            "home-09",
            &ev,
            &mut Stream::new(seed, "initial").at(0),
        )
    }

    #[test]
    fn cars_come_in_the_evening_get_what_they_need_and_leave() {
        let mut charger = charger(4);
        let mut days_with_car = 0;
        for day in 20_000..20_040 {
            let session = charger.stays.of(day);
            let (start_ws, noon_s) = (charger.state.energy_ws, day * DAY_S + 12 * 3600);
            let mut seen = Vec::new();
            for step in 0..DAY_S / STEP_S {
                let power_w = charger.step(noon_s + step * STEP_S, 63_000);
                assert!((0..=11_000).contains(&power_w));
                if seen.last() != Some(&charger.state.state) {
                    seen.push(charger.state.state);
                }
            }
            let Some(session) = session else {
                assert_eq!(seen, [ChargeState::Unplugged]);
                continue;
            };
            days_with_car += 1;
            use ChargeState::{Charging, Ready, Unplugged};
            assert_eq!(seen, [Unplugged, Ready, Charging, Ready, Unplugged]);
            assert_eq!(charger.state.energy_ws - start_ws, session.need_ws);
            assert_eq!(
                (charger.state.session_ws, session.day),
                (session.need_ws, day)
            );
        }
        assert!(
            (28..40).contains(&days_with_car),
            "{days_with_car} of 40 days"
        );
    }

    #[test]
    fn a_stay_never_meets_the_next_one() {
        let charger = charger(9);
        for day in 0..500 {
            if let (Some(a), Some(b)) = (charger.stays.of(day), charger.stays.of(day + 1)) {
                assert!(a.departure_s < b.arrival_s);
                assert!(a.arrival_s >= day * DAY_S + CHANGE_OF_DAY_S);
                assert!(a.departure_s <= (day + 1) * DAY_S + CHANGE_OF_DAY_S);
            }
        }
    }

    #[test]
    fn who_drives_a_car_knows_what_its_charger_will_see() {
        let mut charger = charger(4);
        let (day, offset_minutes) = (20_000, 120);
        let noon = Timestamp::from_unix_s(day * DAY_S + 12 * 3600 - offset_minutes * 60);
        let stay = charger.stays.around(noon, offset_minutes).unwrap();
        let start_ws = charger.state.energy_ws;
        let mut plugged = Vec::new();
        for step in 0..DAY_S / STEP_S {
            let local_s = day * DAY_S + 12 * 3600 + step * STEP_S;
            charger.step(local_s, 63_000);
            if charger.state.state != ChargeState::Unplugged {
                plugged.push(local_s - offset_minutes * 60);
            }
        }
        let [first, last] = [plugged[0], plugged[plugged.len() - 1]];
        assert!((first - stay.arrival.unix_s()).abs() <= STEP_S);
        assert!((last - stay.departure.unix_s()).abs() <= STEP_S);
        assert_eq!(charger.state.energy_ws - start_ws, stay.need_wh * 3_600);
    }
}
