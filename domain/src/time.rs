//! Time: UTC instants and half-open intervals. Nothing here reads a clock.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};

/// An instant in UTC, in whole milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The start of unix time.
    pub const EPOCH: Timestamp = Timestamp(0);

    /// An instant from unix milliseconds.
    #[must_use]
    pub const fn from_unix_ms(unix_ms: i64) -> Self {
        Timestamp(unix_ms)
    }

    /// An instant from whole unix seconds (saturating at the ends of the representable range).
    #[must_use]
    pub const fn from_unix_s(unix_s: i64) -> Self {
        Timestamp(unix_s.saturating_mul(1000))
    }

    /// Unix milliseconds.
    #[must_use]
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// Whole unix seconds, rounded towards the past.
    #[must_use]
    pub const fn unix_s(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant moved by `ms` milliseconds (saturating).
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Timestamp(self.0.saturating_add(ms))
    }

    /// This instant moved by `s` seconds (saturating).
    #[must_use]
    pub const fn plus_s(self, s: i64) -> Self {
        self.plus_ms(s.saturating_mul(1000))
    }

    /// Milliseconds from `earlier` to this instant; negative when `earlier` is later.
    #[must_use]
    pub const fn ms_since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The instant as chrono's type; `None` outside the years chrono can represent.
    #[must_use]
    pub fn to_chrono(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.0)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with `Z`; milliseconds only where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_chrono() {
            Some(t) if self.0.rem_euclid(1000) == 0 => {
                f.write_str(&t.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            Some(t) => f.write_str(&t.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{} ms after 1970", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    /// Any RFC 3339 instant; an offset is converted to UTC.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        DateTime::parse_from_rfc3339(text)
            .map(|t| Timestamp(t.timestamp_millis()))
            .map_err(|_| TimeError::NotRfc3339(text.to_owned()))
    }
}

/// Length of an interval in seconds when nothing else is configured.
pub const DEFAULT_INTERVAL_S: u32 = 900;

/// A half-open span of time `[start, start + length)`, aligned to its own length.
///
/// The length divides the hour, so every hour, and every local day, is a whole number of intervals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Interval {
    start_s: i64,
    length_s: u32,
}

impl Interval {
    /// An interval from its start in unix seconds and its length in seconds.
    ///
    /// # Errors
    /// The length does not divide the hour, or the start is not a multiple of the length.
    pub fn new(start_s: i64, length_s: u32) -> Result<Self, TimeError> {
        if length_s == 0 || 3600 % length_s != 0 {
            return Err(TimeError::LengthNotInHour(length_s));
        }
        if start_s.rem_euclid(i64::from(length_s)) != 0 {
            return Err(TimeError::Unaligned { start_s, length_s });
        }
        if start_s.checked_add(i64::from(length_s)).is_none() {
            return Err(TimeError::OutOfRange);
        }
        Ok(Interval { start_s, length_s })
    }

    /// The interval of the given length that contains `t`.
    ///
    /// # Errors
    /// The length does not divide the hour.
    pub fn containing(t: Timestamp, length_s: u32) -> Result<Self, TimeError> {
        if length_s == 0 || 3600 % length_s != 0 {
            return Err(TimeError::LengthNotInHour(length_s));
        }
        let unix_s = t.unix_s();
        Interval::new(unix_s - unix_s.rem_euclid(i64::from(length_s)), length_s)
    }

    /// First instant inside.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp::from_unix_s(self.start_s)
    }

    /// First instant after.
    #[must_use]
    pub const fn end(self) -> Timestamp {
        Timestamp::from_unix_s(self.start_s.saturating_add(self.length_s as i64))
    }

    /// Start in unix seconds.
    #[must_use]
    pub const fn start_s(self) -> i64 {
        self.start_s
    }

    /// Length in seconds.
    #[must_use]
    pub const fn length_s(self) -> u32 {
        self.length_s
    }

    /// The interval right after this one (stays in place at the end of representable time).
    #[must_use]
    pub const fn next(self) -> Self {
        self.offset(1)
    }

    /// The interval `n` intervals later (earlier where `n` is negative; saturating).
    #[must_use]
    pub const fn offset(self, n: i64) -> Self {
        let step = (self.length_s as i64).saturating_mul(n);
        match self.start_s.checked_add(step) {
            Some(start_s) => Interval {
                start_s,
                length_s: self.length_s,
            },
            None => self,
        }
    }

    /// Whether `t` lies inside: start included, end excluded.
    #[must_use]
    pub fn contains(self, t: Timestamp) -> bool {
        self.start() <= t && t < self.end()
    }
}

impl fmt::Display for Interval {
    /// `2026-06-21T10:15:00Z/900s`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.start(), self.length_s)
    }
}

/// An interval is two integers in an array: start in unix seconds, length in seconds.
impl<C> minicbor::Encode<C> for Interval {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?.i64(self.start_s)?.u32(self.length_s)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Interval {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.array()? != Some(2) {
            return Err(minicbor::decode::Error::message(
                "an interval is [start, length]",
            ));
        }
        Interval::new(d.i64()?, d.u32()?).map_err(minicbor::decode::Error::message)
    }
}

/// Why a piece of time was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TimeError {
    /// Text that is not an RFC 3339 instant.
    #[error("`{0}` is not a time like 2026-06-21T10:15:00Z")]
    NotRfc3339(String),
    /// A length that does not divide 3600 s.
    #[error("an interval of {0} s does not divide the hour")]
    LengthNotInHour(u32),
    /// A start that is not a multiple of the length.
    #[error("an interval of {length_s} s cannot start at unix second {start_s}: not aligned")]
    Unaligned {
        /// Start in unix seconds.
        start_s: i64,
        /// Length in seconds.
        length_s: u32,
    },
    /// Beyond the representable range.
    #[error("time out of range")]
    OutOfRange,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_half_open_and_aligned() {
        let i = Interval::new(1_782_000_000, 900).unwrap();
        assert!(i.contains(i.start()) && !i.contains(i.end()));
        assert_eq!(i.next().start(), i.end());
        assert_eq!(Interval::containing(i.end().plus_ms(-1), 900).unwrap(), i);
        assert!(matches!(
            Interval::new(1_782_000_001, 900),
            Err(TimeError::Unaligned { .. })
        ));
        assert!(matches!(
            Interval::new(0, 700),
            Err(TimeError::LengthNotInHour(700))
        ));
        assert!(Interval::containing(Timestamp::EPOCH, 0).is_err());
    }

    #[test]
    fn times_before_1970_still_align_towards_the_past() {
        let i = Interval::containing(Timestamp::from_unix_ms(-1), 900).unwrap();
        assert_eq!((i.start_s(), i.end()), (-900, Timestamp::EPOCH));
    }

    #[test]
    fn text_round_trips() {
        for text in ["2026-06-21T10:15:00Z", "2026-06-21T10:15:00.250Z"] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
        assert!("noon".parse::<Timestamp>().is_err());
    }
}
