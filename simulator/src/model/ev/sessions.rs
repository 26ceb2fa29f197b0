//! When cars come, how long they stay and what they want: from a file of sessions, or from a mixture that
//! was fitted to real ones.
//!
//! Home: 3,769 sessions of private users of Trondheim garages (Sørensen et al., Data in Brief 36, 2021).
//! Workplace: 3,513 sessions at Caltech, summer 2019 (ACN-Data). Arrivals are mixtures of three
//! normal laws around the clock, weekdays and weekends apart. A visit is short (log-normal) or long
//! (until an hour of the day, of two modes), with a probability that depends on the hour of arrival;
//! its energy is log-normal given which of the two it is.

use chrono::{DateTime, NaiveDateTime};

use super::Session;
use crate::model::random::Draws;
use crate::number::bounded;

/// Sessions of one file.
pub const SESSIONS_MAX: usize = 1_000_000;
/// The longest visit that is believed, as the data's makers advise.
const HOURS_MAX: f64 = 100.0;
/// The least energy of a generated session.
const ENERGY_MIN_WH: i64 = 200;
/// The shortest generated visit.
const VISIT_MIN_S: i64 = 600;

/// Where cars are charged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Site {
    /// At home, mostly over night.
    Home,
    /// At work, mostly over the day.
    Work,
}

/// A mode of a mixture: weight, hour of the day, standard deviation in hours.
type Mode = (f64, f64, f64);
/// Median and standard deviation of the logarithm.
type LogNormal = (f64, f64);

/// The habits of one site on one kind of day.
struct Habits {
    /// Sessions of one car on such a day.
    per_day: f64,
    arrivals: [Mode; 3],
    /// Share of long visits among arrivals of 0–6, 6–10, 10–14, 14–18, 18–21 and 21–24 h.
    long_share: [f64; 6],
    short_h: LogNormal,
    /// Hours of the day at which long visits end.
    leaves: [Mode; 2],
    short_kwh: LogNormal,
    long_kwh: LogNormal,
}

const HOME: [Habits; 2] = [
    Habits {
        per_day: 0.68,
        arrivals: [
            (0.171, 13.28, 3.64),
            (0.337, 16.11, 0.80),
            (0.492, 20.37, 1.98),
        ],
        long_share: [0.80, 0.46, 0.39, 0.49, 0.77, 0.94],
        short_h: (1.67, 0.79),
        leaves: [(0.478, 7.45, 0.55), (0.522, 11.72, 3.58)],
        short_kwh: (4.87, 0.77),
        long_kwh: (10.22, 0.79),
    },
    Habits {
        per_day: 0.60,
        arrivals: [
            (0.022, 7.69, 1.26),
            (0.439, 15.21, 2.27),
            (0.539, 20.05, 3.45),
        ],
        long_share: [0.92, 0.48, 0.42, 0.62, 0.80, 0.90],
        short_h: (2.02, 0.71),
        leaves: [(0.367, 7.47, 0.52), (0.633, 13.03, 4.04)],
        short_kwh: (5.84, 0.68),
        long_kwh: (10.85, 0.84),
    },
];

const WORK: [Habits; 2] = [
    Habits {
        per_day: 0.70,
        arrivals: [
            (0.386, 9.28, 0.68),
            (0.484, 11.12, 2.58),
            (0.130, 18.40, 2.19),
        ],
        long_share: [0.74, 0.74, 0.47, 0.06, 0.15, 0.59],
        short_h: (2.38, 0.71),
        leaves: [(0.105, 3.23, 5.81), (0.895, 17.86, 1.28)],
        short_kwh: (4.01, 1.04),
        long_kwh: (6.41, 0.96),
    },
    Habits {
        per_day: 0.10,
        arrivals: [
            (0.187, 15.85, 0.96),
            (0.532, 10.61, 2.00),
            (0.281, 19.12, 3.41),
        ],
        long_share: [0.13, 0.13, 0.13, 0.15, 0.34, 0.70],
        short_h: (1.74, 0.69),
        leaves: [(0.395, 8.44, 2.32), (0.605, 18.97, 3.15)],
        short_kwh: (3.95, 1.05),
        long_kwh: (17.04, 0.98),
    },
];

/// The session of one car on one local day, if it has one. `day_start_unix_s` is local midnight; draw it
/// with the numbers of that car and day. Energy is bounded by what `charge_w` delivers in the time and by the
/// car's battery. A session may reach into later days: the caller drops those that begin before the
/// last one ended ([`without_overlaps`]).
pub fn of_day(
    site: Site,
    free_day: bool,
    day_start_unix_s: i64,
    charge_w: i64,
    battery_wh: i64,
    draws: &mut Draws,
) -> Option<Session> {
    let habits = match site {
        Site::Home => &HOME[usize::from(free_day)],
        Site::Work => &WORK[usize::from(free_day)],
    };
    if draws.unit() >= habits.per_day {
        return None;
    }
    let arrival_h = hour_of(&habits.arrivals, draws);
    let bucket = [6.0, 10.0, 14.0, 18.0, 21.0]
        .iter()
        .filter(|edge| arrival_h >= **edge)
        .count();
    let (stay_h, energy) = if draws.unit() < habits.long_share[bucket] {
        // A long visit lasts at least six hours: the next such hour of the day after that.
        let leaves_h = hour_of(&habits.leaves, draws);
        let stay_h = (leaves_h - arrival_h - 6.0).rem_euclid(24.0) + 6.0;
        (stay_h, habits.long_kwh)
    } else {
        (
            draws
                .log_normal(habits.short_h.0, habits.short_h.1)
                .min(6.0),
            habits.short_kwh,
        )
    };
    let kwh = draws.log_normal(energy.0, energy.1);
    let stay_s = bounded(stay_h * 3600.0, 400_000).max(VISIT_MIN_S);
    let delivered_wh = charge_w * stay_s / 3600;
    let arrival_unix_s = day_start_unix_s + bounded(arrival_h * 3600.0, 86_399);
    Some(Session {
        arrival_unix_s,
        departure_unix_s: arrival_unix_s + stay_s,
        energy_wh: bounded(kwh * 1000.0, 1_000_000)
            .min(battery_wh)
            .min(delivered_wh)
            .max(ENERGY_MIN_WH),
    })
}

/// An hour of the day from a mixture.
fn hour_of(modes: &[Mode], draws: &mut Draws) -> f64 {
    let mut left = draws.unit();
    let normal = draws.normal();
    let mut hour = 0.0;
    for (weight, mean, sigma) in modes {
        hour = mean + sigma * normal;
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    hour.rem_euclid(24.0)
}

/// Sessions of one charging point in the order of arrival, without those that begin while another car is there.
#[must_use]
pub fn without_overlaps(mut sessions: Vec<Session>) -> Vec<Session> {
    sessions.sort_by_key(|session| session.arrival_unix_s);
    let mut free_from = i64::MIN;
    sessions.retain(|session| {
        let free = session.arrival_unix_s >= free_from;
        if free {
            free_from = session.departure_unix_s;
        }
        free
    });
    sessions
}

/// What is wrong with a file of sessions.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{file}, line {line}: {what}")]
pub struct SessionsError {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

/// Sessions read from a file, and the rows that no car can have driven.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionsRead {
    /// In the order of the file.
    pub sessions: Vec<Session>,
    /// The charging point of each session, or the car; empty where the file names none.
    pub points: Vec<String>,
    /// Rows left out: departure not after arrival, longer than 100 h, or no energy.
    pub left_out: usize,
}

/// Columns of a file of sessions, and what its energies are in.
struct Columns {
    arrival: usize,
    departure: usize,
    energy: usize,
    /// kWh in a unit of the energy column.
    kwh: f64,
    point: Option<usize>,
}

impl Columns {
    fn of(names: &[&str]) -> Result<Columns, String> {
        let find = |known: &[&str]| {
            let place = |name: &&str| names.iter().position(|cell| cell.trim() == *name);
            known.iter().find_map(place)
        };
        let need =
            |known: &[&str]| find(known).ok_or_else(|| format!("no column {}", known.join(" or ")));
        // What was delivered goes before what was asked for, which is often more than the car can take.
        let in_kwh = ["kwh", "delivered_kwh", "energy_kwh", "requested_kwh"];
        Ok(Columns {
            arrival: need(&["plug_in", "arrival", "connected_utc"])?,
            departure: need(&["plug_out", "departure", "disconnected_utc"])?,
            energy: match find(&in_kwh) {
                Some(place) => place,
                None => need(&["energy_wh", "kwh"])?,
            },
            kwh: if find(&in_kwh).is_some() { 1.0 } else { 1e-3 },
            point: find(&["station", "station_id", "user", "user_id", "car"]),
        })
    }
}

/// Reads sessions: a header with one of (`plug_in`, `arrival`, `connected_utc`), (`plug_out`, `departure`,
/// `disconnected_utc`) and (`kwh`, `delivered_kwh`, `energy_kwh`, `requested_kwh`, `energy_wh`), and perhaps `station`,
/// `user` or `car`. Times without an offset are UTC plus `utc_offset_s`.
///
/// # Errors
/// The line, and what is wrong with it.
pub fn read(text: &str, file: &str, utc_offset_s: i64) -> Result<SessionsRead, SessionsError> {
    let error = |line: usize, what: String| SessionsError {
        file: file.to_owned(),
        line,
        what,
    };
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let names: Vec<&str> = lines
        .next()
        .map(|(_, line)| line.split(',').collect())
        .unwrap_or_default();
    let columns = Columns::of(&names).map_err(|what| error(1, what))?;
    let mut read = SessionsRead::default();
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let cell = |place: usize| cells.get(place).copied().unwrap_or("");
        let time = |place: usize| {
            instant(cell(place), utc_offset_s)
                .ok_or_else(|| error(index + 1, format!("`{}` is not a time", cell(place))))
        };
        let energy = cell(columns.energy);
        let kwh: f64 = energy.parse().map_err(|_| {
            error(
                index + 1,
                format!("`{energy}` is not a number of kWh or Wh"),
            )
        })?;
        let kwh = kwh * columns.kwh;
        let (from, to) = (time(columns.arrival)?, time(columns.departure)?);
        let hours = (to - from) as f64 / 3600.0;
        if !(hours > 0.0 && hours <= HOURS_MAX && kwh > 0.0 && kwh < 1000.0) {
            read.left_out += 1;
            continue;
        }
        if read.sessions.len() >= SESSIONS_MAX {
            return Err(error(
                index + 1,
                format!("more than {SESSIONS_MAX} sessions"),
            ));
        }
        if let Some(point) = columns.point {
            read.points.push(cell(point).to_owned());
        }
        read.sessions.push(Session {
            arrival_unix_s: from,
            departure_unix_s: to,
            energy_wh: bounded(kwh * 1000.0, 1_000_000),
        });
    }
    Ok(read)
}

/// An instant with its own offset, or local.
fn instant(text: &str, utc_offset_s: i64) -> Option<i64> {
    let zoned = ["%Y-%m-%d %H:%M:%S%:z", "%Y-%m-%dT%H:%M:%S%:z"];
    // A `Z` is an offset too, which no pattern with `%:z` takes.
    let utc = text.strip_suffix('Z').map(|text| format!("{text}+00:00"));
    let text = utc.as_deref().unwrap_or(text);
    if let Some(time) = zoned
        .iter()
        .find_map(|format| DateTime::parse_from_str(text, format).ok())
    {
        return Some(time.timestamp());
    }
    ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|time| time.and_utc().timestamp() - utc_offset_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::random::Stream;

    const MIDNIGHT: i64 = 1_717_200_000;

    fn many(site: Site, free_day: bool) -> Vec<Session> {
        let stream = Stream::new(8, "ev");
        (0..4000)
            .filter_map(|car| {
                of_day(
                    site,
                    free_day,
                    MIDNIGHT,
                    11_000,
                    60_000,
                    &mut stream.at(car, 0),
                )
            })
            .collect()
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// Medians of the data: at home 4.9 h to 20.9 h around 9 h and 8 kWh; at work 6.1 h and 5.6 kWh.
    #[test]
    fn sessions_have_the_medians_of_the_real_ones() {
        for (site, hours, kwh) in [
            (Site::Home, 8.5..13.0, 6.8..9.8),
            (Site::Work, 5.0..7.5, 4.2..6.6),
        ] {
            let sessions = many(site, false);
            let stay = |s: &Session| (s.departure_unix_s - s.arrival_unix_s) as f64 / 3600.0;
            let found_h = median(sessions.iter().map(stay).collect());
            let found_kwh = median(
                sessions
                    .iter()
                    .map(|s| s.energy_wh as f64 / 1000.0)
                    .collect(),
            );
            assert!(
                hours.contains(&found_h) && kwh.contains(&found_kwh),
                "{site:?}: {found_h} h, {found_kwh} kWh"
            );
        }
    }

    #[test]
    fn work_is_by_day_and_home_by_night() {
        let arrival_h = |site| {
            let hours = |s: &Session| (s.arrival_unix_s - MIDNIGHT) as f64 / 3600.0;
            median(many(site, false).iter().map(hours).collect())
        };
        assert!(arrival_h(Site::Home) > 15.0 && arrival_h(Site::Work) < 12.0);
        assert!(many(Site::Work, true).len() * 4 < many(Site::Work, false).len());
    }

    #[test]
    fn no_session_wants_what_the_time_does_not_give() {
        for session in many(Site::Home, true) {
            let stay_s = session.departure_unix_s - session.arrival_unix_s;
            assert!(stay_s >= VISIT_MIN_S && session.energy_wh >= ENERGY_MIN_WH);
            assert!(session.energy_wh <= (11_000 * stay_s / 3600).min(60_000));
        }
    }

    #[test]
    fn a_point_holds_one_car() {
        let session = |from, to| Session {
            arrival_unix_s: from,
            departure_unix_s: to,
            energy_wh: 1,
        };
        let kept = without_overlaps(vec![
            session(50, 60),
            session(0, 40),
            session(30, 45),
            session(40, 50),
        ]);
        assert_eq!(kept, [session(0, 40), session(40, 50), session(50, 60)]);
    }

    #[test]
    fn files_are_read_and_what_cannot_be_is_counted() {
        let text = "id,plug_in,plug_out,kwh\n\
            1,2019-01-01 16:00:00,2019-01-02 08:00:00,15.56\n\
            2,2019-01-01 16:00:00,2019-01-01 15:00:00,5\n\
            3,2019-01-01 16:00:00,2019-01-09 15:00:00,5\n";
        let read_text = read(text, "ev.csv", 3600).unwrap();
        assert_eq!((read_text.sessions.len(), read_text.left_out), (1, 2));
        assert_eq!(read_text.sessions[0].energy_wh, 15_560);
        let zoned = "arrival,departure,requested_kwh\n2019-05-01 01:18:45-07:00,2019-05-01 15:52:36-07:00,60\n";
        assert_eq!(
            read(zoned, "acn.csv", 0).unwrap().sessions[0].arrival_unix_s,
            1_556_698_725
        );
        // What `datasets import --from acn` writes; Z is UTC wherever the other times are.
        let imported = "session,station,connected_utc,disconnected_utc,done_charging_utc,energy_wh\n\
            a,P1,2018-04-25T11:08:04Z,2018-04-25T13:20:10Z,,7932\n";
        let imported = read(imported, "s.csv", 3600).unwrap();
        assert_eq!(imported.points, ["P1"]);
        let session = imported.sessions[0];
        assert_eq!(
            (session.arrival_unix_s, session.energy_wh),
            (1_524_654_484, 7932)
        );
        for (text, needle) in [
            ("a,b\n", "plug_in"),
            (
                "plug_in,plug_out,kwh\nx,2019-01-01 15:00:00,5\n",
                "line 2: `x`",
            ),
            (
                "plug_in,plug_out,kwh\n2019-01-01 15:00:00,2019-01-01 16:00:00,lots\n",
                "`lots`",
            ),
        ] {
            let error = read(text, "ev.csv", 0).unwrap_err().to_string();
            assert!(error.contains(needle), "{error}");
        }
    }
}
