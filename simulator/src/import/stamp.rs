//! Stamps in files to seconds of UTC.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeZone};
use chrono_tz::Tz;

/// Turns local stamps that come in the order of time to UTC. On the night with 25 hours an hour is there
/// twice: the first is the earlier one, and what would otherwise go back in time is the second.
#[derive(Clone, Debug)]
pub struct LocalClock {
    zone: Tz,
    last_s: Option<i64>,
}

impl LocalClock {
    /// A clock of a zone.
    #[must_use]
    pub const fn new(zone: Tz) -> LocalClock {
        LocalClock { zone, last_s: None }
    }

    /// Seconds of UTC of the next stamp.
    ///
    /// # Errors
    /// The clock never showed this: it was set forward over it.
    pub fn utc_s(&mut self, local: NaiveDateTime) -> Result<i64, String> {
        let found = match self.zone.from_local_datetime(&local) {
            MappedLocalTime::Single(time) => time.timestamp(),
            MappedLocalTime::Ambiguous(first, second) => {
                let first = first.timestamp();
                match self.last_s {
                    Some(last) if first <= last => second.timestamp(),
                    _ => first,
                }
            }
            MappedLocalTime::None => {
                return Err(format!(
                    "{local} was never on a clock of {}, which was set forward over it",
                    self.zone
                ));
            }
        };
        self.last_s = Some(found);
        Ok(found)
    }
}

/// Reads a stamp by the first of these patterns that fits; one with only a day is that day's midnight.
#[must_use]
pub fn naive(text: &str, patterns: &[&str]) -> Option<NaiveDateTime> {
    let parse = |pattern: &&str| NaiveDateTime::parse_from_str(text, pattern).ok();
    patterns.iter().find_map(parse)
}

/// Reads an instant that says its offset: `2014-12-11T18:00:00Z`, or seconds since 1970.
#[must_use]
pub fn instant_s(text: &str) -> Option<i64> {
    let unix = || text.parse::<i64>().ok();
    let rfc = || DateTime::parse_from_rfc3339(text).ok();
    unix().or_else(|| rfc().map(|time| time.timestamp()))
}

/// Seconds of UTC as they are written: `2014-12-11T18:00:00Z`.
#[must_use]
pub fn shown(unix_s: i64) -> String {
    domain::time::Timestamp::from_unix_s(unix_s).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(clock: &mut LocalClock, text: &str) -> Result<String, String> {
        clock
            .utc_s(naive(text, &["%Y-%m-%d %H:%M"]).unwrap())
            .map(shown)
    }

    #[test]
    fn the_hour_that_is_there_twice_is_taken_in_order() {
        let mut clock = LocalClock::new(chrono_tz::Europe::Berlin);
        for (local, utc) in [
            ("2024-10-27 01:45", "2024-10-26T23:45:00Z"),
            ("2024-10-27 02:00", "2024-10-27T00:00:00Z"),
            ("2024-10-27 02:45", "2024-10-27T00:45:00Z"),
            ("2024-10-27 02:00", "2024-10-27T01:00:00Z"),
            ("2024-10-27 02:45", "2024-10-27T01:45:00Z"),
            ("2024-10-27 03:00", "2024-10-27T02:00:00Z"),
        ] {
            assert_eq!(read(&mut clock, local).unwrap(), utc, "{local}");
        }
    }

    #[test]
    fn the_hour_that_never_was_is_refused() {
        let mut clock = LocalClock::new(chrono_tz::Europe::Berlin);
        assert!(read(&mut clock, "2024-03-31 01:45").is_ok());
        let said = read(&mut clock, "2024-03-31 02:15").unwrap_err();
        assert!(said.contains("never on a clock of Europe/Berlin"), "{said}");
        assert_eq!(
            read(&mut clock, "2024-03-31 03:00").unwrap(),
            "2024-03-31T01:00:00Z"
        );
    }
}
