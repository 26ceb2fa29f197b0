//! Telegrams that a utility's meter sends by itself on its port for the customer: DSMR P1 ([`p1`])
//! and SML ([`sml`]). Both name their values by OBIS codes.

pub mod p1;
pub mod sml;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use domain::time::Timestamp;

use super::decode::{Exact, NoValue};
use super::values::{Decoded, Identity, Values};
use crate::measure::Counter;
use crate::profile::{Point, Profile, Quantity, Source};

/// Longest telegram, in bytes; a longer one is not looked at.
pub const TELEGRAM_MAX_BYTES: usize = 8192;

/// What kind of telegrams a meter sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelegramRules {
    /// Whether each telegram ends with a check sum. Meters of DSMR 2 and 3 have none: a flipped bit is
    /// found there only by the parity of the serial line.
    #[serde(default = "yes")]
    pub checksum: bool,
    /// Longest time between two telegrams in wall seconds; then the connection is renewed.
    pub silence_s: u32,
}

const fn yes() -> bool {
    true
}

/// The language of telegrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    /// DSMR P1, also called DSMR 2 to 5 and ESMR.
    P1,
    /// Smart Message Language.
    Sml,
}

/// The name of a value: medium and channel, quantity, tariff.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Obis(pub [u8; 6]);

impl FromStr for Obis {
    type Err = String;

    /// `1-0:1.8.0`, or with the storage number behind a star.
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || -> Option<Obis> {
            let (code, storage) = text.split_once('*').unwrap_or((text, "255"));
            let (a, rest) = code.split_once('-')?;
            let (b, rest) = rest.split_once(':')?;
            let mut parts = rest.split('.');
            let (c, d, e) = (parts.next()?, parts.next()?, parts.next()?);
            let number = |text: &str| text.parse::<u8>().ok();
            let code = [a, b, c, d, e, storage].map(number);
            let is_whole = parts.next().is_none() && code.iter().all(Option::is_some);
            is_whole.then(|| Obis(code.map(Option::unwrap_or_default)))
        };
        parse().ok_or_else(|| format!("`{text}` is no OBIS code like \"1-0:1.8.0\""))
    }
}

impl fmt::Debug for Obis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, storage] = self.0;
        write!(f, "{a}-{b}:{c}.{d}.{e}*{storage}")
    }
}

/// One value of a telegram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// A number and its unit.
    Number(Exact, String),
    /// Text.
    Text(String),
}

/// A whole telegram whose check sum is right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Telegram {
    /// When it began to arrive.
    pub begun_at: Timestamp,
    said: BTreeMap<Obis, Said>,
}

impl Telegram {
    /// A telegram with these values. What is said twice in different ways is not said.
    pub(crate) fn new(begun_at: Timestamp, all: impl IntoIterator<Item = (Obis, Said)>) -> Self {
        let mut said: BTreeMap<Obis, Option<Said>> = BTreeMap::new();
        for (code, value) in all {
            let known = said.entry(code).or_insert_with(|| Some(value.clone()));
            if known.as_ref() != Some(&value) {
                *known = None;
            }
        }
        let clear = said.into_iter().filter_map(|(code, v)| Some((code, v?)));
        Telegram {
            begun_at,
            said: clear.collect(),
        }
    }

    /// What it says for a point; a value in another unit than the profile expects is none.
    fn said(&self, point: &Point) -> Result<&Said, NoValue> {
        let Source::Obis { code, unit } = &point.source else {
            return Err(NoValue::Absent);
        };
        let said = self.said.get(code).ok_or(NoValue::Absent)?;
        let is_meant = match said {
            Said::Number(_, said) => said == unit,
            Said::Text(_) => unit.is_empty(),
        };
        is_meant.then_some(said).ok_or(NoValue::NotANumber)
    }

    fn decoded(&self, point: &Point) -> Result<Decoded, NoValue> {
        match self.said(point)? {
            Said::Number(number, _) => point.decoded(*number),
            Said::Text(text) => Ok(point.decoded_text(text)),
        }
    }

    fn counter(&self, profile: &Profile, quantity: Quantity) -> Option<Counter> {
        let points = profile.points.iter().filter(|p| p.quantity == quantity);
        Values::counter(points.map(|point| match self.said(point) {
            Ok(Said::Number(number, _)) => (point, point.counter_of(*number, None)),
            _ => (point, None),
        }))
    }

    /// The values that a profile finds in here.
    #[must_use]
    pub fn values(&self, profile: &Profile) -> Values {
        Values {
            import_counter: self.counter(profile, Quantity::Import),
            export_counter: self.counter(profile, Quantity::Export),
            ..Values::of(profile.points.iter().map(|p| (p, self.decoded(p))))
        }
    }

    /// The identification that a profile finds in here.
    #[must_use]
    pub fn identity(&self, profile: &Profile) -> Identity {
        let mut identity = Identity::default();
        for point in profile.points.iter().filter(|p| p.quantity.is_identity()) {
            let text = self.decoded(point).map(|decoded| decoded.to_string());
            identity.set(point.quantity, text.unwrap_or_default());
        }
        identity
    }
}

/// Why bytes that came in are no telegram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// The check sum is wrong: something was lost or changed on the way.
    #[error("the check sum of a telegram is wrong; is the wire long, or the optical head loose?")]
    Checksum,
    /// It has no end.
    #[error("a telegram is longer than {TELEGRAM_MAX_BYTES} bytes")]
    TooLong,
    /// Not of this language.
    #[error("what comes in is no telegram; is it the right profile, speed and format?")]
    Nonsense,
}

impl Broken {
    /// One word for counting.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Broken::Checksum => "checksum",
            Broken::TooLong => "too_long",
            Broken::Nonsense => "nonsense",
        }
    }
}

/// Finds telegrams in what comes in, byte by byte.
pub enum Reader {
    /// For P1.
    P1(p1::Reader),
    /// For SML.
    Sml(Box<sml::Reader>),
}

impl Reader {
    /// A reader that has heard nothing yet.
    #[must_use]
    pub fn new(language: Language, rules: TelegramRules) -> Self {
        match language {
            Language::P1 => Reader::P1(p1::Reader::new(rules.checksum)),
            Language::Sml => Reader::Sml(Box::default()),
        }
    }

    /// Takes in a byte that came at `at`.
    pub fn push(&mut self, byte: u8, at: Timestamp) -> Option<Result<Telegram, Broken>> {
        match self {
            Reader::P1(reader) => reader.push(byte, at),
            Reader::Sml(reader) => reader.push(byte, at),
        }
    }
}

#[cfg(test)]
mod tests;
