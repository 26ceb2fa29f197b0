//! Standard load profiles: what a mean German household uses in each quarter hour. All homes of one
//! profile move together, so use them for whole streets, or as one home's file, never for trading studies.
//!
//! The numbers are in `bdew.csv`, with their origin. Both profiles are multiplied by the factor of the day,
//! F(t) = −3.92e−10·t⁴ + 3.20e−7·t³ − 7.02e−5·t² + 2.10e−3·t + 1.24. Days are those of the local zone;
//! times are local too (the caller decides whether with daylight saving: the profiles mean local time).

use std::sync::OnceLock;

use chrono::{Datelike, Days, NaiveDate, Weekday};

/// Quarter hours of a day.
pub const QUARTERS: usize = 96;
/// Columns of H0 (three seasons) and of H25 (twelve months), three day types each.
const H0_COLUMNS: usize = 9;
const COLUMNS: usize = H0_COLUMNS + 36;
/// One unit of the file, in kWh for 1000 kWh a year.
const UNIT_KWH: f64 = 1e-7;

/// A day type of the profiles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DayType {
    /// Monday to Friday.
    Workday,
    /// Saturday; by the profiles' rules also 24 and 31 December where they are no Sunday.
    Saturday,
    /// Sunday and holidays.
    Sunday,
}

impl DayType {
    /// The type of a day with these holidays.
    #[must_use]
    pub fn of(date: NaiveDate, holidays: &[NaiveDate]) -> DayType {
        let eve = date.month() == 12 && matches!(date.day(), 24 | 31);
        if date.weekday() == Weekday::Sun || holidays.contains(&date) {
            DayType::Sunday
        } else if date.weekday() == Weekday::Sat || eve {
            DayType::Saturday
        } else {
            DayType::Workday
        }
    }
}

/// The nine holidays of all German states in one year.
#[must_use]
pub fn german_holidays(year: i32) -> Vec<NaiveDate> {
    let fixed = [(1, 1), (5, 1), (10, 3), (12, 25), (12, 26)];
    let fixed = fixed
        .iter()
        .filter_map(|(month, day)| NaiveDate::from_ymd_opt(year, *month, *day));
    let Some(easter) = easter_sunday(year) else {
        return fixed.collect();
    };
    let before = easter.checked_sub_days(Days::new(2));
    let after = [1, 39, 50].map(|days| easter.checked_add_days(Days::new(days)));
    fixed
        .chain(before)
        .chain(after.into_iter().flatten())
        .collect()
}

/// Easter of the Gregorian calendar (Meeus, Jones and Butcher).
fn easter_sunday(year: i32) -> Option<NaiveDate> {
    let (a, b, c) = (year % 19, year / 100, year % 100);
    let d = (19 * a + b - b / 4 - (b - (b + 8) / 25 + 1) / 3 + 15) % 30;
    let e = (32 + 2 * (b % 4) + 2 * (c / 4) - d - c % 4) % 7;
    let day = d + e - 7 * ((a + 11 * d + 22 * e) / 451) + 114;
    NaiveDate::from_ymd_opt(
        year,
        u32::try_from(day / 31).ok()?,
        u32::try_from(day % 31).ok()? + 1,
    )
}

/// The profiles' factor of a day, around 1: homes use more in winter. `day_of_year` from 1.
#[must_use]
pub fn dynamic_factor(day_of_year: f64) -> f64 {
    let t = day_of_year;
    (((-3.92e-10 * t + 3.20e-7) * t - 7.02e-5) * t + 2.10e-3) * t + 1.24
}

/// A household profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// H0 of 1999, without the factor of the day.
    H0Static,
    /// H0 of 1999.
    H0,
    /// H25 of 2025.
    H25,
}

/// One profile over one year, scaled to it.
#[derive(Clone, Debug)]
pub struct ProfileYear {
    profile: Profile,
    year: i32,
    holidays: Vec<NaiveDate>,
    table: &'static [[u32; COLUMNS]],
    scale: f64,
}

impl ProfileYear {
    /// The profile in a year with these holidays. H0 is scaled so that its static form sums to 1000 kWh
    /// (the factor of the day then moves the sum by less than 0.2 %); H25 sums to 1000 kWh as it is used.
    #[must_use]
    pub fn new(profile: Profile, year: i32, holidays: Vec<NaiveDate>) -> ProfileYear {
        let mut this = ProfileYear {
            profile: match profile {
                Profile::H0 => Profile::H0Static,
                other => other,
            },
            year,
            holidays,
            table: shipped(),
            scale: 1.0,
        };
        let days = std::iter::successors(NaiveDate::from_ymd_opt(year, 1, 1), |day| day.succ_opt());
        let sum: f64 = days
            .take_while(|day| day.year() == year)
            .map(|date| {
                let day = this.day(date);
                let quarters = (0..QUARTERS).map(|quarter| this.kwh_on(day, quarter));
                quarters.sum::<f64>()
            })
            .sum();
        if sum > 0.0 {
            this.scale = 1000.0 / sum;
        }
        this.profile = profile;
        this
    }

    /// The year that this was made for.
    #[must_use]
    pub fn year(&self) -> i32 {
        self.year
    }

    /// Energy of a quarter hour of a local day, in kWh for 1000 kWh a year.
    #[must_use]
    pub fn kwh(&self, date: NaiveDate, quarter: usize) -> f64 {
        self.kwh_on(self.day(date), quarter)
    }

    /// The table's column of a day, and its factor.
    fn day(&self, date: NaiveDate) -> (usize, f64) {
        let day = DayType::of(date, &self.holidays) as usize;
        let month = date.month0() as usize;
        match self.profile {
            Profile::H0Static => (season(date) * 3 + day, 1.0),
            Profile::H0 => (
                season(date) * 3 + day,
                dynamic_factor(f64::from(date.ordinal())),
            ),
            Profile::H25 => (
                H0_COLUMNS + month * 3 + day,
                dynamic_factor(f64::from(date.ordinal())),
            ),
        }
    }

    fn kwh_on(&self, (column, factor): (usize, f64), quarter: usize) -> f64 {
        let units = self.table.get(quarter).map_or(0, |row| row[column]);
        f64::from(units) * UNIT_KWH * factor * self.scale
    }
}

/// Winter, the time between, summer.
fn season(date: NaiveDate) -> usize {
    let day = (date.month(), date.day());
    if ((5, 15)..=(9, 14)).contains(&day) {
        2
    } else if day >= (11, 1) || day <= (3, 20) {
        0
    } else {
        1
    }
}

/// The table of `bdew.csv`; a test checks that it is whole.
fn shipped() -> &'static [[u32; COLUMNS]] {
    static TABLE: OnceLock<Vec<[u32; COLUMNS]>> = OnceLock::new();
    let row = |line: &str| {
        let mut row = [0; COLUMNS];
        for (place, text) in row.iter_mut().zip(line.split(',')) {
            *place = text.parse().unwrap_or(0);
        }
        row
    };
    TABLE.get_or_init(|| {
        let lines = include_str!("bdew.csv").lines();
        let rows = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
        rows.map(row).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).unwrap()
    }

    #[test]
    fn the_table_is_whole() {
        let table = shipped();
        assert_eq!(table.len(), QUARTERS);
        assert!(
            table
                .iter()
                .flatten()
                .all(|units| (50_000..1_000_000).contains(units))
        );
    }

    #[test]
    fn easter_moves_the_holidays() {
        for (year, month, day) in [(2024, 3, 31), (2025, 4, 20), (2038, 4, 25), (2000, 4, 23)] {
            assert_eq!(easter_sunday(year), Some(date(year, month, day)));
        }
        let days = german_holidays(2024);
        assert_eq!(days.len(), 9);
        for day in [
            date(2024, 3, 29),
            date(2024, 4, 1),
            date(2024, 5, 9),
            date(2024, 5, 20),
        ] {
            assert!(days.contains(&day), "{day}");
        }
    }

    #[test]
    fn a_year_sums_to_1000_kwh() {
        for (profile, low, high) in [
            (Profile::H0Static, 999.999, 1000.001),
            (Profile::H0, 998.0, 1002.0),
            (Profile::H25, 999.999, 1000.001),
        ] {
            let year = ProfileYear::new(profile, 2023, german_holidays(2023));
            let days = std::iter::successors(Some(date(2023, 1, 1)), |day| day.succ_opt());
            let sum: f64 = days
                .take_while(|day| day.year() == 2023)
                .flat_map(|day| (0..QUARTERS).map(move |quarter| (day, quarter)))
                .map(|(day, quarter)| year.kwh(day, quarter))
                .sum();
            assert!((low..high).contains(&sum), "{profile:?} sums to {sum}");
        }
    }

    #[test]
    fn a_holiday_is_a_sunday_and_christmas_eve_a_saturday() {
        let holidays = german_holidays(2024);
        assert_eq!(DayType::of(date(2024, 10, 3), &holidays), DayType::Sunday);
        assert_eq!(
            DayType::of(date(2024, 12, 24), &holidays),
            DayType::Saturday
        );
        assert_eq!(DayType::of(date(2023, 12, 24), &holidays), DayType::Sunday);
        assert_eq!(DayType::of(date(2024, 10, 4), &holidays), DayType::Workday);
    }

    #[test]
    fn winter_days_weigh_more_than_summer_days() {
        assert!(dynamic_factor(15.0) > 1.2 && dynamic_factor(196.0) < 0.85);
    }
}
