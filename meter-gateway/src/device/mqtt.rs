//! Payloads of devices that report over MQTT: what one message says, exactly as it was written. A
//! number never becomes a float on its way, and what is no number is no value.

use std::collections::BTreeMap;

use domain::time::Timestamp;
use serde_json::value::RawValue;

use super::decode::Exact;
use crate::profile::mqtt::{JsonPath, StampUnit, Step};

/// Longest payload that is looked at, in bytes.
pub const PAYLOAD_MAX_BYTES: usize = 16 * 1024;
/// Longest text that is a value, in bytes.
const TEXT_MAX_BYTES: usize = 64;
/// Largest power of ten in a number like `1e3`.
const EXPONENT_MAX: i32 = 30;
/// What devices say in plain text when they have no value.
const NOTHING: [&str; 8] = [
    "",
    "null",
    "none",
    "false",
    "nan",
    "inf",
    "-inf",
    "unavailable",
];

/// Why a message was left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the message is not JSON, or not a value, of at most {PAYLOAD_MAX_BYTES} bytes")]
pub struct Unreadable;

/// What a message says at one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing at all: the place is not in the message.
    Absent,
    /// That there is no value.
    Nothing,
    /// A number.
    Number(Exact),
    /// Text; `true` and `false` are text too.
    Text(String),
}

/// A payload.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    text: &'a str,
    json: Option<&'a RawValue>,
}

impl<'a> Payload<'a> {
    /// Takes in a payload.
    ///
    /// # Errors
    /// It is too long, or not UTF-8.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        if bytes.len() > PAYLOAD_MAX_BYTES {
            return Err(Unreadable);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Unreadable)?.trim();
        let json = serde_json::from_str(text).ok();
        Ok(Payload { text, json })
    }

    /// What it says at `path`, or as plain text where there is none.
    ///
    /// # Errors
    /// A path leads into something that is not JSON.
    pub fn find(&self, path: Option<&JsonPath>) -> Result<Found, Unreadable> {
        let Some(path) = path else {
            return Ok(plain(self.text));
        };
        let json = self.json.ok_or(Unreadable)?;
        let Some(place) = walk(json, &path.steps) else {
            return Ok(Found::Absent);
        };
        Ok(if path.adds {
            added(place)
        } else {
            scalar(place)
        })
    }

    /// Whether it is a JSON object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.json.is_some_and(|json| json.get().starts_with('{'))
    }

    /// The time it says at `path`.
    #[must_use]
    pub fn time(&self, path: &JsonPath, unit: StampUnit) -> Option<Timestamp> {
        let to_ms = match unit {
            StampUnit::Seconds => 3,
            StampUnit::Milliseconds => 0,
        };
        match self.find(Some(path)).ok()? {
            Found::Number(number) => number.shifted(to_ms).rounded().map(Timestamp::from_unix_ms),
            Found::Text(text) => text.parse().ok(),
            Found::Absent | Found::Nothing => None,
        }
    }
}

fn walk<'a>(mut place: &'a RawValue, steps: &[Step]) -> Option<&'a RawValue> {
    for step in steps {
        place = match step {
            Step::Key(key) => {
                let object: BTreeMap<String, &RawValue> = serde_json::from_str(place.get()).ok()?;
                object.get(key).copied()?
            }
            Step::Item(item) => {
                let list: Vec<&RawValue> = serde_json::from_str(place.get()).ok()?;
                list.get(*item).copied()?
            }
        };
    }
    Some(place)
}

fn scalar(place: &RawValue) -> Found {
    let text = place.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map_or(Found::Nothing, text_value),
        Some(b't' | b'f') => Found::Text(text.to_owned()),
        _ => number(text).map_or(Found::Nothing, Found::Number),
    }
}

/// A number, or a list of numbers; a list that lacks one has no sum.
fn added(place: &RawValue) -> Found {
    let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(place.get()) else {
        return scalar(place);
    };
    let sum = list
        .iter()
        .try_fold(Exact::whole(0), |sum, one| match scalar(one) {
            Found::Number(number) => sum.plus(number),
            _ => None,
        });
    sum.filter(|_| !list.is_empty())
        .map_or(Found::Nothing, Found::Number)
}

fn plain(text: &str) -> Found {
    if NOTHING.contains(&text.to_ascii_lowercase().as_str()) {
        return Found::Nothing;
    }
    match number(text) {
        Some(number) => Found::Number(number),
        None => text_value(text.to_owned()),
    }
}

fn text_value(text: String) -> Found {
    if text.len() > TEXT_MAX_BYTES || text.chars().any(char::is_control) {
        return Found::Nothing;
    }
    Found::Text(text)
}

/// The number that a text like `-12.5` or `1.25e3` is.
#[must_use]
pub fn number(text: &str) -> Option<Exact> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    if !(-EXPONENT_MAX..=EXPONENT_MAX).contains(&exponent) {
        return None;
    }
    Exact::from_decimal(digits).map(|number| number.shifted(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, way: &str) -> Found {
        let path = JsonPath::try_from(way.to_owned()).unwrap();
        let payload = Payload::new(text.as_bytes()).unwrap();
        payload.find(Some(&path)).unwrap()
    }

    fn milli(found: Found) -> Option<i64> {
        match found {
            Found::Number(number) => number.shifted(3).rounded(),
            _ => None,
        }
    }

    #[test]
    fn numbers_are_what_was_written() {
        let text = r#"{"a":{"b":[1, 0.1, 12345678901234.567]},"c":"7.5","d":1.5e3,"e":-0}"#;
        assert_eq!(milli(find(text, "a.b[1]")), Some(100));
        let digits = find(text, "a.b[2]");
        assert_eq!(
            digits,
            Found::Number(Exact::from_decimal("12345678901234.567").unwrap())
        );
        assert_eq!(find(text, "c"), Found::Text("7.5".into()));
        assert_eq!(milli(find(text, "d")), Some(1_500_000));
        assert_eq!(milli(find(text, "e")), Some(0));
        assert_eq!(milli(find("230.4", "$")), Some(230_400));
        assert_eq!(milli(find("[1,2,3]", "[2]")), Some(3000));
        let long = r#"{"a":0.1000000000000000055511151231257827021181583404541015625}"#;
        assert_eq!(
            find(long, "a"),
            Found::Nothing,
            "more digits than any counter has"
        );
    }

    #[test]
    fn one_number_or_a_list_of_them() {
        assert_eq!(milli(find(r#"{"P":12.5}"#, "P[*]")), Some(12_500));
        assert_eq!(milli(find(r#"{"P":[0.1,0.2,-0.3]}"#, "P[*]")), Some(0));
        for bad in [
            r#"{"P":[1,null]}"#,
            r#"{"P":[]}"#,
            r#"{"P":[1,"2"]}"#,
            r#"{"P":null}"#,
        ] {
            assert_eq!(find(bad, "P[*]"), Found::Nothing, "{bad}");
        }
        assert_eq!(find(r#"{"Q":1}"#, "P[*]"), Found::Absent);
    }

    #[test]
    fn what_is_no_value_is_none_and_never_zero() {
        let text = r#"{"n":null,"o":{},"l":[1],"big":1e400,"t":true,"s":"a\u0000b"}"#;
        for key in ["n", "o", "l", "big", "s"] {
            assert_eq!(find(text, key), Found::Nothing, "{key}");
        }
        assert_eq!(find(text, "t"), Found::Text("true".into()));
        for way in ["x", "n.x", "l[1]", "o[0]", "t.x", "l.x"] {
            assert_eq!(find(text, way), Found::Absent, "{way}");
        }
        for word in ["", " ", "null", "false", "NaN", "-inf", "unavailable"] {
            assert_eq!(plain(word.trim()), Found::Nothing, "{word}");
        }
        assert_eq!(milli(plain("-12.25")), Some(-12_250));
        assert_eq!(plain("12 W"), Found::Text("12 W".into()));
    }

    #[test]
    fn junk_is_refused() {
        let path = JsonPath::try_from("a".to_owned()).unwrap();
        assert_eq!(Payload::new(&[0xff]).unwrap_err(), Unreadable);
        assert_eq!(
            Payload::new(&[b' '; PAYLOAD_MAX_BYTES + 1]).unwrap_err(),
            Unreadable
        );
        for bad in ["{", "{\"a\":NaN}", "{\"a\":1} x", "", "{'a':1}"] {
            let payload = Payload::new(bad.as_bytes()).unwrap();
            assert_eq!(payload.find(Some(&path)), Err(Unreadable), "{bad}");
        }
        // Deep nesting is no deeper than the path that leads into it.
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(8000), "]".repeat(8000));
        let found = Payload::new(deep.as_bytes()).unwrap().find(Some(&path));
        assert!(matches!(found, Ok(Found::Nothing) | Err(Unreadable)));
    }

    #[test]
    fn stamps_are_seconds_milliseconds_or_rfc_3339() {
        let path = JsonPath::try_from("ts".to_owned()).unwrap();
        let time = |text: &str, unit| {
            let payload = Payload::new(text.as_bytes()).unwrap();
            payload.time(&path, unit).map(Timestamp::unix_ms)
        };
        let (s, ms) = (StampUnit::Seconds, StampUnit::Milliseconds);
        assert_eq!(time(r#"{"ts":1631186545.04}"#, s), Some(1_631_186_545_040));
        assert_eq!(time(r#"{"ts":1631186545040}"#, ms), Some(1_631_186_545_040));
        let local = r#"{"ts":"2021-09-09T13:22:25.040+02:00"}"#;
        assert_eq!(time(local, ms), Some(1_631_186_545_040));
        assert_eq!(time(r#"{"ts":"2021-09-09T13:22:25"}"#, s), None, "no zone");
        assert_eq!(time(r#"{"ts":null}"#, s), None);
    }
}
