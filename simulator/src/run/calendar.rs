//! The intervals of a run, day by day as people's clocks show them: a day has 92, 96 or 100 quarter hours.

use std::ops::Range;

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use domain::time::Interval;

use super::RunError;

/// Most days in one run.
pub const DAYS_MAX: u32 = 3660;
/// Midnight may not exist where clocks go forward at midnight; then the day starts within so many hours.
const SHIFT_MAX_H: i64 = 3;

/// One interval of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// When, in UTC.
    pub interval: Interval,
    /// Minutes of the street's clock since 1970 began there, at the interval's start.
    pub local_minute: i64,
    /// Minute of the day on the street's clock.
    pub day_minute: u16,
    /// The day of the run, from zero.
    pub day: u32,
}

/// All intervals of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Calendar {
    zone: Tz,
    first: NaiveDate,
    moments: Vec<Moment>,
    days: Vec<Range<usize>>,
}

impl Calendar {
    /// The intervals of `days` local days from `first` on.
    ///
    /// # Errors
    /// No days or too many, or days that do not begin at the edge of an interval.
    pub fn new(zone: Tz, first: NaiveDate, days: u32, interval_s: u32) -> Result<Self, RunError> {
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(RunError::bad(format!(
                "{days} days: a run has 1 to {DAYS_MAX}"
            )));
        }
        let mut calendar = Calendar {
            zone,
            first,
            moments: Vec::new(),
            days: Vec::new(),
        };
        let mut start = midnight(zone, first)?;
        for day in 0..days {
            let next = first
                .checked_add_days(Days::new(u64::from(day) + 1))
                .ok_or_else(|| RunError::bad(format!("{first} and {days} days is no date")))?;
            let end = midnight(zone, next)?;
            calendar.add_day(day, start.timestamp(), end.timestamp(), interval_s)?;
            start = end;
        }
        Ok(calendar)
    }

    fn add_day(
        &mut self,
        day: u32,
        start_s: i64,
        end_s: i64,
        interval_s: u32,
    ) -> Result<(), RunError> {
        let from = self.moments.len();
        let unaligned = |e| {
            RunError::bad(format!(
                "interval_s {interval_s}: {e}, or no day of {} starts at the edge of one",
                self.zone
            ))
        };
        let mut interval = Interval::new(start_s, interval_s).map_err(unaligned)?;
        while interval.start_s() < end_s {
            let utc = DateTime::from_timestamp(interval.start_s(), 0)
                .ok_or_else(|| RunError::bad("a time beyond all calendars".to_owned()))?;
            let local = utc.with_timezone(&self.zone).naive_local();
            let minute = local.hour() * 60 + local.minute();
            self.moments.push(Moment {
                interval,
                local_minute: local.and_utc().timestamp().div_euclid(60),
                // A day has 1440 minutes.
                day_minute: u16::try_from(minute).unwrap_or(0),
                day,
            });
            interval = interval.next();
        }
        if interval.start_s() != end_s {
            return Err(RunError::bad(format!(
                "interval_s {interval_s}: the days of {} do not end at the edge of an interval",
                self.zone
            )));
        }
        self.days.push(from..self.moments.len());
        Ok(())
    }

    /// All intervals, in order.
    #[must_use]
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// The intervals of each day, as places among all.
    #[must_use]
    pub fn days(&self) -> &[Range<usize>] {
        &self.days
    }

    /// The zone.
    #[must_use]
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The date of a day of the run.
    #[must_use]
    pub fn date(&self, day: u32) -> NaiveDate {
        self.first
            .checked_add_days(Days::new(u64::from(day)))
            .unwrap_or(self.first)
    }

    /// The day of the year (from 1) of a day of the run.
    #[must_use]
    pub fn day_of_year(&self, day: u32) -> u32 {
        self.date(day).ordinal()
    }
}

/// The first instant of a date.
fn midnight(zone: Tz, date: NaiveDate) -> Result<DateTime<Tz>, RunError> {
    let wall = date.and_time(chrono::NaiveTime::MIN);
    (0..=SHIFT_MAX_H)
        .find_map(|h| {
            let wall = wall.checked_add_signed(TimeDelta::hours(h))?;
            zone.from_local_datetime(&wall).earliest()
        })
        .ok_or_else(|| RunError::bad(format!("{date} has no beginning in {zone}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(zone: &str, first: &str, days: u32, interval_s: u32) -> Vec<usize> {
        let calendar = Calendar::new(
            zone.parse().unwrap(),
            first.parse().unwrap(),
            days,
            interval_s,
        );
        let calendar = calendar.unwrap();
        let moments = calendar.moments();
        assert!(
            moments
                .windows(2)
                .all(|w| w[0].interval.next() == w[1].interval)
        );
        calendar.days().iter().map(ExactSizeIterator::len).collect()
    }

    #[test]
    fn days_are_as_long_as_clocks_say() {
        assert_eq!(lengths("Europe/Berlin", "2026-03-28", 3, 900), [96, 92, 96]);
        assert_eq!(
            lengths("Europe/Berlin", "2026-10-24", 3, 900),
            [96, 100, 96]
        );
        assert_eq!(
            lengths("Europe/Berlin", "2026-10-24", 3, 3600),
            [24, 25, 24]
        );
        assert_eq!(lengths("America/New_York", "2026-03-08", 1, 900), [92]);
        assert_eq!(lengths("Asia/Kolkata", "2026-03-08", 1, 900), [96]);
        // Clocks in Beirut go forward at midnight, so the day starts at one.
        assert_eq!(lengths("Asia/Beirut", "2026-03-29", 1, 900), [92]);
        assert_eq!(lengths("UTC", "2024-02-28", 3, 900), [96, 96, 96]);
    }

    #[test]
    fn the_street_has_its_own_clock() {
        let calendar = Calendar::new(
            "Europe/Berlin".parse().unwrap(),
            "2026-03-29".parse().unwrap(),
            1,
            900,
        )
        .unwrap();
        let at = |place: usize| calendar.moments()[place].day_minute;
        assert_eq!((at(0), at(7), at(8), at(91)), (0, 105, 180, 1425));
        assert_eq!(
            calendar.moments()[0].interval.to_string().get(..20),
            Some("2026-03-28T23:00:00Z")
        );
    }

    #[test]
    fn days_that_do_not_fit_intervals_are_refused() {
        let make = |zone: &str, days, interval_s| {
            let first = "2026-03-08".parse().unwrap();
            Calendar::new(zone.parse().unwrap(), first, days, interval_s)
                .unwrap_err()
                .to_string()
        };
        assert!(make("Asia/Kolkata", 1, 3600).contains("Asia/Kolkata"));
        assert!(make("UTC", 0, 900).contains("1 to 3660"));
        assert!(make("UTC", 1, 700).contains("700"));
    }
}
