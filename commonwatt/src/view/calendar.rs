//! Days and months as people who live in a zone count them: a day has 92, 96 or 100 quarter-hours.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;
use domain::time::Timestamp;

/// A span of time `[from, to)` that people have a name for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

impl Span {
    /// How many intervals of this length it has.
    pub(crate) fn intervals(self, length_s: u32) -> i64 {
        self.to.ms_since(self.from) / 1000 / i64::from(length_s.max(1))
    }
}

/// The instant on the zone's clock; `None` outside the years that can be shown.
pub(crate) fn local(zone: Tz, at: Timestamp) -> Option<DateTime<Tz>> {
    at.to_chrono().map(|at| at.with_timezone(&zone))
}

/// The date on the zone's calendar.
pub(crate) fn date(zone: Tz, at: Timestamp) -> NaiveDate {
    local(zone, at).map_or(NaiveDate::MIN, |at| at.date_naive())
}

/// The day of a date, from its first instant to that of the next.
pub(crate) fn day(zone: Tz, date: NaiveDate) -> Span {
    let next = date.checked_add_days(Days::new(1)).unwrap_or(date);
    Span {
        from: midnight(zone, date),
        to: midnight(zone, next),
    }
}

/// The month of a date.
pub(crate) fn month(zone: Tz, date: NaiveDate) -> Span {
    let first = date.with_day(1).unwrap_or(date);
    let next = first.checked_add_months(Months::new(1)).unwrap_or(first);
    Span {
        from: midnight(zone, first),
        to: midnight(zone, next),
    }
}

/// The year of a date.
pub(crate) fn year(zone: Tz, date: NaiveDate) -> Span {
    let first = NaiveDate::from_ymd_opt(date.year(), 1, 1).unwrap_or(date);
    let next = first.checked_add_months(Months::new(12)).unwrap_or(first);
    Span {
        from: midnight(zone, first),
        to: midnight(zone, next),
    }
}

/// `2026-06` as the first of that month.
pub(crate) fn month_of(text: &str) -> Option<NaiveDate> {
    let (year, month) = text.split_once('-')?;
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if year.len() != 4 || month.len() != 2 || !is_number(year) || !is_number(month) {
        return None;
    }
    NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1)
}

/// The instant at which the zone's clock shows this time of a date, the first of two; `None` where it is skipped.
fn instant(zone: Tz, date: NaiveDate, time: NaiveTime) -> Option<Timestamp> {
    let at = zone.from_local_datetime(&date.and_time(time)).earliest()?;
    Some(Timestamp::from_unix_s(at.timestamp()))
}

/// The next instant after `now` at which the zone's clock shows a time written as `07:30`.
pub(crate) fn next_instant(zone: Tz, now: Timestamp, text: &str) -> Option<Timestamp> {
    let time = NaiveTime::parse_from_str(text, "%H:%M").ok()?;
    let today = date(zone, now);
    instant(zone, today, time)
        .filter(|at| *at > now)
        .or_else(|| instant(zone, today.succ_opt()?, time))
}

/// The instant at which the zone's clock shows a date and a time as a browser's field writes them,
/// `2026-06-22T07:00`.
pub(crate) fn instant_of(zone: Tz, text: &str) -> Option<Timestamp> {
    let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M").ok()?;
    instant(zone, at.date(), at.time())
}

/// The first instant of a date. Where the clock was put forward at midnight, the first one that there is.
fn midnight(zone: Tz, date: NaiveDate) -> Timestamp {
    let wall = date.and_time(NaiveTime::MIN);
    let candidates = (0..=8).map(|quarters| wall + chrono::TimeDelta::minutes(15 * quarters));
    let first = candidates.filter_map(|wall| zone.from_local_datetime(&wall).earliest());
    let instant = first.map(|at| at.timestamp()).next();
    Timestamp::from_unix_s(instant.unwrap_or(wall.and_utc().timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date_of(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_field_s_time_is_the_zone_s_and_one_that_never_was_is_none() {
        let at = |text| instant_of(chrono_tz::Europe::Berlin, text).map(|at| at.to_string());
        assert_eq!(
            at("2026-06-22T07:00").as_deref(),
            Some("2026-06-22T05:00:00Z")
        );
        assert_eq!(
            at("2026-10-25T02:30").as_deref(),
            Some("2026-10-25T00:30:00Z")
        );
        for bad in ["2026-03-29T02:30", "2026-06-22", "07:00", ""] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_day_has_92_96_or_100_quarter_hours() {
        let zone = chrono_tz::Europe::Berlin;
        let count = |text| day(zone, date_of(text)).intervals(900);
        assert_eq!(count("2026-06-21"), 96);
        assert_eq!(count("2026-03-29"), 92, "the clock is put forward");
        assert_eq!(count("2026-10-25"), 100, "the clock is put back");
        let start = day(zone, date_of("2026-06-21")).from;
        assert_eq!(start.to_string(), "2026-06-20T22:00:00Z");
        assert_eq!(date(zone, start), date_of("2026-06-21"));
        assert_eq!(date(zone, start.plus_ms(-1)), date_of("2026-06-20"));
    }

    #[test]
    fn a_day_without_midnight_begins_when_it_begins() {
        // In Cairo the clock goes from 24:00 to 01:00 on the last Friday of April.
        let zone = chrono_tz::Africa::Cairo;
        let span = day(zone, date_of("2026-04-24"));
        assert_eq!(span.intervals(900), 92);
        assert_eq!(day(zone, date_of("2026-04-23")).to, span.from);
    }

    #[test]
    fn months_and_years_follow_each_other_without_a_gap() {
        let zone = chrono_tz::Europe::Berlin;
        let march = month(zone, date_of("2026-03-17"));
        assert_eq!(march.intervals(900), 31 * 96 - 4);
        assert_eq!(march.to, month(zone, date_of("2026-04-01")).from);
        assert_eq!(year(zone, date_of("2026-03-17")).intervals(900), 365 * 96);
        assert_eq!(month_of("2026-02"), Some(date_of("2026-02-01")));
        for bad in [
            "2026-13",
            "26-01",
            "2026-1",
            "2026",
            "2026-01-01",
            "+026-01",
        ] {
            assert_eq!(month_of(bad), None, "{bad}");
        }
    }
}
