//! Data of our own making: homes with and without panels, from the models of the fast simulator.
//!
//! Every home has a household load ([`crate::model::load`]) of a yearly use drawn around the mean. The first homes, as many as
//! the share of panels says, have a roof: 3 to 10 kW, 15 to 45° tilt, facing east to west, on an inverter of 0.9 of
//! its size. The sky is clear (Haurwitz) times a cloud process that neighbours share; air goes by the day of the year and the hour.
//! Same request, same version, same bytes.

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Timelike, Weekday};
use chrono_tz::Tz;

use crate::import::stamp::LocalClock;
use crate::import::{Column, Quantity, Session, Table};
use crate::model::Carry;
use crate::model::bdew::dynamic_factor;
use crate::model::clear_sky::{erbs, haurwitz_w_per_m2};
use crate::model::clouds::{Climate, Clouds, Transparency};
use crate::model::ev::sessions::{Site, of_day, without_overlaps};
use crate::model::load::{Day, Household, LoadNow, LoadState, yearly_kwh};
use crate::model::plane::{ALBEDO, Plane, SkyModel};
use crate::model::pv::{Cooling, Inverter, Plant, energy_wh};
use crate::model::random::Stream;
use crate::model::sun::{Place, Sun};

/// Most homes of one set.
pub const HOMES_MAX: u32 = 10_000;
/// Most days of one set.
pub const DAYS_MAX: u32 = 3_660;
/// Most values of one set.
const CELLS_MAX: usize = 20_000_000;

const INTERVAL_S: u32 = 900;
/// Share of the clouds' variance that is each roof's own.
const OWN_CLOUDS: f64 = 0.1;
const WIND_MS: f64 = 2.0;
/// What a charging point of a generated set gives, and what a car's battery holds.
const CHARGE_W: i64 = 11_000;
const CAR_WH: i64 = 60_000;

/// What is wanted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Request {
    /// Homes.
    pub homes: u32,
    /// How many of a hundred homes have panels.
    pub pv_percent: u32,
    /// Mean yearly use of a home.
    pub mean_kwh: u32,
    /// The first local day.
    pub first_day: NaiveDate,
    /// Local days.
    pub days: u32,
    /// Whose days they are.
    pub zone: Tz,
    /// Where the sun is seen from.
    pub place: Place,
    /// The seed of everything that is drawn.
    pub seed: u64,
}

struct Roof {
    plane: Plane,
    plant: Plant,
    clouds: f64,
    carry: Carry,
}

struct Home {
    household: Household,
    load: LoadState,
    roof: Option<Roof>,
}

/// Makes the table.
///
/// # Errors
/// More homes, days or values than are made, or a day that is not on the zone's calendar or outside the years of
/// the sun's formula.
pub fn generate(request: &Request) -> Result<Table, String> {
    if !(1..=HOMES_MAX).contains(&request.homes) || !(1..=DAYS_MAX).contains(&request.days) {
        return Err(format!(
            "{} homes and {} days: 1 to {HOMES_MAX} homes and 1 to {DAYS_MAX} days can be made",
            request.homes, request.days
        ));
    }
    if request.pv_percent > 100 {
        return Err(format!(
            "{} % of homes with panels are more than all",
            request.pv_percent
        ));
    }
    let start_s = midnight_s(request.first_day, request.zone)?;
    let last = request.first_day + chrono::Days::new(u64::from(request.days));
    let end_s = midnight_s(last, request.zone)?;
    let intervals = usize::try_from((end_s - start_s) / i64::from(INTERVAL_S)).unwrap_or(0);
    let streams = Streams::new(request.seed);
    let mut homes: Vec<Home> = (0..request.homes)
        .map(|home| streams.home(request, home))
        .collect();
    if intervals.saturating_mul(homes.len() * 2) > CELLS_MAX {
        return Err(format!("more than {CELLS_MAX} values: fewer homes or days"));
    }
    let mut columns = columns(&homes, intervals);
    let clouds = Clouds::new(INTERVAL_S, OWN_CLOUDS);
    let mut sky = Clouds::begin(&mut streams.sky.shared(-1));
    for interval in (0_i64..).take(intervals) {
        let at_s = start_s + interval * i64::from(INTERVAL_S);
        let now = Now::new(request, interval, at_s)?;
        let shared = clouds.step(&mut sky, &mut streams.sky.shared(interval));
        step(&mut homes, &streams, &now, (&clouds, shared), &mut columns);
    }
    Ok(Table {
        start_s,
        interval_s: INTERVAL_S,
        intervals,
        columns,
        notes: Vec::new(),
    })
}

/// Makes the visits of cars instead: as many charging points as there are homes, one car at each, from the mixture of
/// real sessions at such a site.
///
/// # Errors
/// See [`generate`].
pub fn sessions(request: &Request, site: Site) -> Result<Vec<Session>, String> {
    if !(1..=HOMES_MAX).contains(&request.homes) || !(1..=DAYS_MAX).contains(&request.days) {
        return Err(format!(
            "{} charging points and {} days: 1 to {HOMES_MAX} and 1 to {DAYS_MAX} can be made",
            request.homes, request.days
        ));
    }
    let stream = Stream::new(request.seed, "sessions");
    let mut all = Vec::new();
    for point in 0..request.homes {
        let mut visits = Vec::new();
        for day in 0..request.days {
            let date = request.first_day + chrono::Days::new(u64::from(day));
            let free = matches!(date.weekday(), Weekday::Sat | Weekday::Sun);
            let start_s = midnight_s(date, request.zone)?;
            let draws = &mut stream.at(point, i64::from(day));
            visits.extend(of_day(site, free, start_s, CHARGE_W, CAR_WH, draws));
        }
        all.extend(without_overlaps(visits).into_iter().map(|visit| Session {
            id: String::new(),
            station: format!("point-{:02}", point + 1),
            connected_s: visit.arrival_unix_s,
            disconnected_s: visit.departure_unix_s,
            done_s: None,
            energy_wh: visit.energy_wh,
            requested_wh: None,
            requested_departure_s: None,
        }));
    }
    all.sort_by(|a, b| (a.connected_s, &a.station).cmp(&(b.connected_s, &b.station)));
    for (number, session) in (1..).zip(&mut all) {
        session.id = format!("session-{number:04}");
    }
    Ok(all)
}

/// The first instant of a local day. Where midnight was left out, the day begins when clocks went on.
fn midnight_s(day: NaiveDate, zone: Tz) -> Result<i64, String> {
    let mut clock = LocalClock::new(zone);
    let at = |hour: u32| day.and_time(NaiveTime::MIN) + chrono::Duration::hours(i64::from(hour));
    clock.utc_s(at(0)).or_else(|_| clock.utc_s(at(1)))
}

/// Where each kind of number is drawn.
struct Streams {
    load: Stream,
    roof: Stream,
    sky: Stream,
}

impl Streams {
    fn new(seed: u64) -> Streams {
        Streams {
            load: Stream::new(seed, "dataset load"),
            roof: Stream::new(seed, "dataset roof"),
            sky: Stream::new(seed, "dataset sky"),
        }
    }

    fn home(&self, request: &Request, home: u32) -> Home {
        let mut draws = self.roof.at(home, -1);
        let yearly = yearly_kwh(&mut draws, f64::from(request.mean_kwh));
        let (household, load) = Household::new(self.load, home, yearly);
        // The first of all homes, so that a set of more homes begins with the same ones.
        let has_roof =
            u64::from(home) * 100 < u64::from(request.homes) * u64::from(request.pv_percent);
        let dc_w = draws.between(3_000.0, 10_000.0);
        let (tilt, azimuth) = (draws.between(15.0, 45.0), draws.between(90.0, 270.0));
        let roof = has_roof.then(|| Roof {
            plane: Plane::new(tilt, azimuth, ALBEDO),
            plant: Plant::new(dc_w, Inverter::new(0.9 * dc_w, 0.96)),
            clouds: draws.normal(),
            carry: Carry::default(),
        });
        Home {
            household,
            load,
            roof,
        }
    }
}

/// What all homes share in an interval.
struct Now {
    interval: i64,
    load: LoadNow,
    sun: Option<Sun>,
    cooling: Cooling,
    transparency: Transparency,
}

impl Now {
    fn new(request: &Request, interval: i64, at_s: i64) -> Result<Now, String> {
        let wrong = || format!("{at_s} s is not on the calendar");
        let local = DateTime::from_timestamp(at_s, 0).ok_or_else(wrong)?;
        let local = local.with_timezone(&request.zone);
        let free = matches!(local.weekday(), Weekday::Sat | Weekday::Sun);
        let day = if free { Day::Free } else { Day::Work };
        let season = dynamic_factor(f64::from(local.ordinal()));
        let second = local.num_seconds_from_midnight();
        // The sun stands for the interval at its middle.
        let middle_s = at_s + i64::from(INTERVAL_S / 2);
        let sun = Sun::at(middle_s, request.place)
            .ok_or_else(|| format!("{}: no sun is known for this year", local.date_naive()))?;
        Ok(Now {
            interval,
            load: LoadNow::new(interval, second, day, season, INTERVAL_S),
            sun: (sun.up > 0.0).then_some(sun),
            cooling: Cooling::new(air_c(local.ordinal(), second), WIND_MS),
            transparency: Transparency::new(&Climate::of_day(local.ordinal())),
        })
    }
}

/// A year between 1 and 19 °C, warmest at the end of July, and a day 4 K around that, warmest at 15 o'clock.
fn air_c(day_of_year: u32, second_of_day: u32) -> f64 {
    let turn = |part: f64| libm::cos(2.0 * std::f64::consts::PI * part);
    let year = turn((f64::from(day_of_year) - 209.0) / 365.25);
    let day = turn((f64::from(second_of_day) / 3600.0 - 15.0) / 24.0);
    10.0 + 9.0 * year + 4.0 * day
}

fn columns(homes: &[Home], intervals: usize) -> Vec<Column> {
    let mut columns = Vec::with_capacity(2 * homes.len());
    for (number, home) in homes.iter().enumerate() {
        let quantities = [
            Some(Quantity::Consumption),
            home.roof.as_ref().map(|_| Quantity::Generation),
        ];
        for quantity in quantities.into_iter().flatten() {
            columns.push(Column {
                series: format!("home_{:02}", number + 1),
                quantity,
                values: Vec::with_capacity(intervals),
            });
        }
    }
    columns
}

/// One interval of all homes, in the order of the columns.
fn step(
    homes: &mut [Home],
    streams: &Streams,
    now: &Now,
    (clouds, shared): (&Clouds, f64),
    columns: &mut [Column],
) {
    let mut columns = columns.iter_mut();
    let mut push = |wh: i32| {
        if let Some(column) = columns.next() {
            column.values.push(Some(i64::from(wh)));
        }
    };
    for (number, home) in (0_u32..).zip(homes) {
        push(
            home.household
                .step_wh(&mut home.load, &now.load, streams.load),
        );
        let Some(roof) = &mut home.roof else {
            continue;
        };
        let mut draws = streams.sky.at(number, now.interval);
        let sky = clouds.at_home(shared, &mut roof.clouds, &mut draws);
        let ac_w = now.sun.map_or(0.0, |sun| {
            let global = haurwitz_w_per_m2(sun) * now.transparency.share(sky);
            let light = erbs(global, sun);
            let plane = roof.plane.now(SkyModel::HayDavies, sun, light.beam);
            roof.plant.ac_w(plane.light_w_per_m2(light), now.cooling)
        });
        push(energy_wh(&mut roof.carry, ac_w, INTERVAL_S));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(homes: u32, first_day: &str, days: u32) -> Request {
        Request {
            homes,
            pv_percent: 60,
            mean_kwh: 3500,
            first_day: first_day.parse().unwrap(),
            days,
            zone: chrono_tz::Europe::Berlin,
            place: Place {
                latitude_deg: 52.5,
                longitude_deg: 13.4,
                altitude_m: 40.0,
            },
            seed: 42,
        }
    }

    #[test]
    fn a_week_of_ten_homes_looks_like_one() {
        let week = generate(&request(10, "2024-06-10", 7)).unwrap();
        assert_eq!((week.intervals, week.columns.len()), (672, 16));
        assert_eq!(week, generate(&request(10, "2024-06-10", 7)).unwrap());
        for column in &week.columns {
            let kwh: i64 = column.values.iter().flatten().sum::<i64>() / 1000;
            let range = match column.quantity {
                Quantity::Generation => 30..350,
                _ => 10..200,
            };
            assert!(range.contains(&kwh), "{}: {kwh} kWh", column.name());
            // 22:00 UTC is midnight in Berlin: no sun until three hours later.
            let night: i64 = column.values[..12].iter().flatten().sum();
            assert_eq!(
                night == 0,
                column.quantity == Quantity::Generation,
                "{}",
                column.name()
            );
        }
    }

    #[test]
    fn days_have_23_24_and_25_hours_and_homes_do_not_depend_on_each_other() {
        for (day, quarters) in [("2024-03-31", 92), ("2024-04-01", 96), ("2024-10-27", 100)] {
            assert_eq!(generate(&request(1, day, 1)).unwrap().intervals, quarters);
        }
        let (few, many) = (request(5, "2024-06-10", 2), request(10, "2024-06-10", 2));
        let (few, many) = (generate(&few).unwrap(), generate(&many).unwrap());
        assert_eq!(few.columns[..6], many.columns[..6]);
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        for (homes, day, days) in [
            (0, "2024-06-10", 1),
            (1, "2024-06-10", 0),
            (1, "1999-06-10", 1),
            (10_000, "2024-01-01", 366),
        ] {
            assert!(
                generate(&request(homes, day, days)).is_err(),
                "{homes} homes, {day}, {days} days"
            );
        }
        let wrong = Request {
            pv_percent: 101,
            ..request(1, "2024-06-10", 1)
        };
        assert!(generate(&wrong).unwrap_err().contains("101 %"));
    }

    #[test]
    fn visits_of_cars_do_not_overlap_and_are_the_same_again() {
        let request = request(6, "2024-06-10", 21);
        let made = sessions(&request, Site::Home).unwrap();
        assert_eq!(made, sessions(&request, Site::Home).unwrap());
        assert!((40..120).contains(&made.len()), "{}", made.len());
        for point in 1..=6 {
            let station = format!("point-{point:02}");
            let visits: Vec<_> = made.iter().filter(|s| s.station == station).collect();
            assert!(visits.len() > 4, "{station}: {}", visits.len());
            let apart = |pair: &[&Session]| pair[0].disconnected_s <= pair[1].connected_s;
            assert!(visits.windows(2).all(apart), "{station}");
        }
    }
}
