//! Local months and days: only tariffs and statements know a time zone, all else is UTC.

use std::fmt;
use std::str::FromStr;

use chrono::{
    Datelike, Days, LocalResult, NaiveDate, NaiveTime, TimeDelta, TimeZone, Timelike, Weekday,
};
use chrono_tz::Tz;
use domain::time::{Interval, Timestamp};

/// An IANA time zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zone(Tz);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone(Tz::UTC);

    /// Date, weekday and minute of the day at an instant; `None` outside the years that calendars know.
    #[must_use]
    pub fn local(self, at: Timestamp) -> Option<LocalTime> {
        let local = at.to_chrono()?.with_timezone(&self.0);
        Some(LocalTime {
            date: local.date_naive(),
            weekday: local.weekday(),
            minute: local.hour() * 60 + local.minute(),
        })
    }

    /// The first instant of a local day.
    fn day_start(self, date: NaiveDate) -> Option<Timestamp> {
        let midnight = date.and_time(NaiveTime::MIN);
        // Where clocks jump over midnight, the day begins with the first quarter of an hour that exists.
        for quarter in 0..24 * 4 {
            let at = midnight.checked_add_signed(TimeDelta::minutes(15 * quarter))?;
            match self.0.from_local_datetime(&at) {
                LocalResult::Single(t) | LocalResult::Ambiguous(t, _) => {
                    return Some(Timestamp::from_unix_ms(t.timestamp_millis()));
                }
                LocalResult::None => {}
            }
        }
        None
    }
}

impl From<Tz> for Zone {
    fn from(zone: Tz) -> Self {
        Zone(zone)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl FromStr for Zone {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let zone = text.parse().map(Zone);
        zone.map_err(|_| CalendarError::Zone(text.to_owned()))
    }
}

/// A local point in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalTime {
    /// The day.
    pub date: NaiveDate,
    /// Its weekday.
    pub weekday: Weekday,
    /// Minutes since local midnight by the clock on the wall, 0 to 1439.
    pub minute: u32,
}

/// A month of a time zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalMonth {
    first: NaiveDate,
    zone: Zone,
}

/// A local day, from its first instant to the next one's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalDay {
    /// The date.
    pub date: NaiveDate,
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub to: Timestamp,
}

impl LocalDay {
    /// How many intervals of this length it has: 92, 96 or 100 quarter-hours.
    #[must_use]
    pub fn intervals(&self, length_s: u32) -> i64 {
        self.to.ms_since(self.from) / (i64::from(length_s.max(1)) * 1000)
    }
}

/// What is no month, or no time zone.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CalendarError {
    /// No time zone.
    #[error("`{0}` is no IANA time zone, like Europe/Berlin or UTC")]
    Zone(String),
    /// No month.
    #[error("`{0}` is no month, like 2026-11")]
    Month(String),
    /// Before or after all calendars.
    #[error("this time is outside of the years that calendars know")]
    Range,
}

impl LocalMonth {
    /// The month of a text like `2026-11`.
    ///
    /// # Errors
    /// The text is no month.
    pub fn parse(text: &str, zone: Zone) -> Result<Self, CalendarError> {
        let wrong = || CalendarError::Month(text.to_owned());
        let (year, month) = text.split_once('-').ok_or_else(wrong)?;
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if year.len() != 4 || month.len() != 2 || !digits(year) || !digits(month) {
            return Err(wrong());
        }
        let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
        let (year, month) = (i32::from(number(year)?), u32::from(number(month)?));
        let first = NaiveDate::from_ymd_opt(year, month, 1).ok_or_else(wrong)?;
        Ok(LocalMonth { first, zone })
    }

    /// The month in which an instant lies.
    ///
    /// # Errors
    /// The instant is outside of the years that calendars know.
    pub fn containing(at: Timestamp, zone: Zone) -> Result<Self, CalendarError> {
        let local = zone.local(at).ok_or(CalendarError::Range)?;
        let first = local.date.with_day(1).ok_or(CalendarError::Range)?;
        Ok(LocalMonth { first, zone })
    }

    /// Its time zone.
    #[must_use]
    pub const fn zone(&self) -> Zone {
        self.zone
    }

    /// Which one of its year it is, 1 to 12.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.first.month()
    }

    /// The month after.
    #[must_use]
    pub fn next(&self) -> Option<Self> {
        let first = self.first.checked_add_months(chrono::Months::new(1))?;
        Some(LocalMonth { first, ..*self })
    }

    /// The month before.
    #[must_use]
    pub fn previous(&self) -> Option<Self> {
        let first = self.first.checked_sub_months(chrono::Months::new(1))?;
        Some(LocalMonth { first, ..*self })
    }

    /// Its days in order.
    ///
    /// # Errors
    /// The month is outside of the years that calendars know.
    pub fn days(&self) -> Result<Vec<LocalDay>, CalendarError> {
        let mut days = Vec::with_capacity(31);
        let mut date = self.first;
        let start = |date| self.zone.day_start(date).ok_or(CalendarError::Range);
        while date.month() == self.first.month() {
            let next = date
                .checked_add_days(Days::new(1))
                .ok_or(CalendarError::Range)?;
            let (from, to) = (start(date)?, start(next)?);
            days.push(LocalDay { date, from, to });
            date = next;
        }
        Ok(days)
    }

    /// Its first instant, and the first one after it.
    ///
    /// # Errors
    /// The month is outside of the years that calendars know.
    pub fn bounds(&self) -> Result<(Timestamp, Timestamp), CalendarError> {
        let days = self.days()?;
        match (days.first(), days.last()) {
            (Some(first), Some(last)) => Ok((first.from, last.to)),
            _ => Err(CalendarError::Range),
        }
    }

    /// Whether an interval begins in this month.
    ///
    /// # Errors
    /// The month is outside of the years that calendars know.
    pub fn has(&self, interval: Interval) -> Result<bool, CalendarError> {
        let (from, to) = self.bounds()?;
        Ok(from <= interval.start() && interval.start() < to)
    }
}

impl fmt::Display for LocalMonth {
    /// `2026-11`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first.format("%Y-%m"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_have_days_of_92_96_and_100_quarter_hours() {
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        for (text, days, odd) in [
            ("2026-03", 31, 92),
            ("2026-10", 31, 100),
            ("2026-02", 28, 96),
        ] {
            let month = LocalMonth::parse(text, zone).unwrap();
            let all = month.days().unwrap();
            assert_eq!(all.len(), days);
            let counts: Vec<i64> = all.iter().map(|d| d.intervals(900)).collect();
            assert!(counts.contains(&odd), "{text}: {counts:?}");
            assert_eq!(
                counts.iter().filter(|c| **c != 96).count(),
                usize::from(odd != 96)
            );
            assert_eq!(month.to_string(), text);
            assert!(all.windows(2).all(|two| two[0].to == two[1].from));
        }
        let month = LocalMonth::parse("2026-03", zone).unwrap();
        let (from, to) = month.bounds().unwrap();
        assert_eq!(from.to_string(), "2026-02-28T23:00:00Z");
        assert_eq!(to.to_string(), "2026-03-31T22:00:00Z");
        assert_eq!(month.next().unwrap().bounds().unwrap().0, to);
        assert_eq!(LocalMonth::containing(from, zone), Ok(month));
        assert_eq!(month.next().unwrap().previous(), Some(month));
    }

    #[test]
    fn a_day_whose_midnight_does_not_exist_begins_later() {
        let zone: Zone = "America/Sao_Paulo".parse().unwrap();
        let month = LocalMonth::parse("2018-11", zone).unwrap();
        let day = month.days().unwrap()[3];
        assert_eq!(
            (day.intervals(900), day.from.to_string().as_str()),
            (92, "2018-11-04T03:00:00Z")
        );
    }

    #[test]
    fn what_is_no_month_or_zone_is_said() {
        for text in [
            "2026", "2026-13", "2026-1", "26-01", "2026-00", "x-y", "+026-01",
        ] {
            assert!(LocalMonth::parse(text, Zone::UTC).is_err(), "{text}");
        }
        let error = "Europe/Atlantis".parse::<Zone>().unwrap_err();
        assert!(error.to_string().contains("Europe/Atlantis"));
    }
}
