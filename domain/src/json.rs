//! Reads JSON by hand so that every refusal names the path, and numbers are taken from their text and
//! never pass through a float.

use std::collections::BTreeMap;

use crate::time::Timestamp;
use chrono::{NaiveDateTime, TimeZone, Utc};
use rust_decimal::Decimal;
use serde_json::value::RawValue;

/// Most entries of one list in a file.
const LIST_MAX: usize = 10_000;

/// What is wrong in a file, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct FileError {
    /// The place as a JSON path, like `$.elements[0].price_components[1].price`.
    pub path: String,
    /// What is wrong there and what would be right.
    pub message: String,
}

impl FileError {
    /// The line, counted from 1, on which a path's value begins in a text, or the nearest that is there above it.
    #[must_use]
    pub fn line_of(text: &str, path: &str) -> Option<usize> {
        let mut node = Node::root(text).ok()?;
        let mut steps = path.strip_prefix('$')?.split(['.', '[']);
        steps.next();
        for step in steps {
            let below = match step.strip_suffix(']').map(str::parse::<usize>) {
                Some(Ok(place)) => node
                    .list()
                    .ok()
                    .and_then(|list| list.into_iter().nth(place)),
                Some(Err(_)) => None,
                None => node
                    .members()
                    .ok()
                    .and_then(|mut members| members.remove(step)),
            };
            match below {
                Some(below) => node = below,
                None => break,
            }
        }
        // A value borrows its text, so its place is the distance between the two.
        let place = node
            .raw
            .get()
            .as_ptr()
            .addr()
            .checked_sub(text.as_ptr().addr())?;
        Some(text.get(..place)?.matches('\n').count() + 1)
    }
}

/// A place in a JSON text.
pub struct Node<'a> {
    /// Where it is, as a JSON path.
    pub path: String,
    raw: &'a RawValue,
}

impl<'a> Node<'a> {
    /// The whole text, checked to be JSON.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn root(text: &'a str) -> Result<Self, FileError> {
        let raw = serde_json::from_str(text).map_err(|e| FileError {
            path: "$".to_owned(),
            message: format!("this is not JSON: {e}"),
        })?;
        let path = "$".to_owned();
        Ok(Node { path, raw })
    }

    /// An error at this place.
    #[must_use]
    pub fn wrong(&self, message: impl Into<String>) -> FileError {
        FileError {
            path: self.path.clone(),
            message: message.into(),
        }
    }

    /// The text of this place as it stands.
    #[must_use]
    pub fn raw_text(&self) -> &'a str {
        self.raw.get()
    }

    /// Whether this is a list.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.raw.get().starts_with('[')
    }

    /// The members of an object; those that are null count as not there.
    ///
    /// # Errors
    /// Something else stands here.
    pub fn members(&self) -> Result<BTreeMap<String, Node<'a>>, FileError> {
        let members: BTreeMap<String, &'a RawValue> = serde_json::from_str(self.raw.get())
            .map_err(|_| self.wrong(format!("expected an object, found {}", self.shown())))?;
        let there = members.into_iter().filter(|(_, raw)| raw.get() != "null");
        Ok(there
            .map(|(name, raw)| {
                let path = format!("{}.{name}", self.path);
                (name, Node { path, raw })
            })
            .collect())
    }

    /// The entries of a list.
    ///
    /// # Errors
    /// Something else stands here.
    pub fn list(&self) -> Result<Vec<Node<'a>>, FileError> {
        let entries: Vec<&'a RawValue> = serde_json::from_str(self.raw.get())
            .map_err(|_| self.wrong(format!("expected a list, found {}", self.shown())))?;
        if entries.len() > LIST_MAX {
            let count = entries.len();
            return Err(self.wrong(format!("{count} entries; at most {LIST_MAX} are read")));
        }
        let node = |(place, raw)| Node {
            path: format!("{}[{place}]", self.path),
            raw,
        };
        Ok(entries.into_iter().enumerate().map(node).collect())
    }

    /// A text.
    ///
    /// # Errors
    /// Something else stands here.
    pub fn text(&self) -> Result<String, FileError> {
        serde_json::from_str(self.raw.get())
            .map_err(|_| self.wrong(format!("expected a text, found {}", self.shown())))
    }

    /// A number as an integer of `decimals` decimal places, exactly.
    ///
    /// # Errors
    /// Something else stands here.
    pub fn scaled(&self, decimals: u32) -> Result<i128, FileError> {
        let text = self.raw.get();
        let number = if text.contains(['e', 'E']) {
            Decimal::from_scientific(text)
        } else {
            Decimal::from_str_exact(text)
        };
        let number = number
            .map_err(|_| self.wrong(format!("expected a number, found {}", self.shown())))?
            .normalize();
        let places = decimals.checked_sub(number.scale()).ok_or_else(|| {
            self.wrong(format!(
                "{text} has more than {decimals} decimals, which are the most"
            ))
        })?;
        number
            .mantissa()
            .checked_mul(10_i128.pow(places))
            .ok_or_else(|| self.wrong(format!("{text} is too large")))
    }

    /// A number that is not below zero, as an integer of `decimals` decimal places.
    ///
    /// # Errors
    /// Something else stands here.
    pub fn positive(&self, decimals: u32) -> Result<i128, FileError> {
        match self.scaled(decimals)? {
            value if value < 0 => Err(self.wrong(format!("{} is below zero", self.shown()))),
            value => Ok(value),
        }
    }

    /// A whole number from 0 to 4294967295.
    ///
    /// # Errors
    /// Something else stands here.
    pub fn whole(&self) -> Result<u32, FileError> {
        u32::try_from(self.scaled(0)?).map_err(|_| {
            self.wrong(format!(
                "{} is not a whole number of 0 or more",
                self.shown()
            ))
        })
    }

    /// An instant; one without an offset is UTC, as OCPI has it.
    ///
    /// # Errors
    /// Something else stands here.
    pub fn instant(&self) -> Result<Timestamp, FileError> {
        let text = self.text()?;
        if let Ok(instant) = text.parse() {
            return Ok(instant);
        }
        let utc = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f");
        utc.map(|t| Timestamp::from_unix_ms(Utc.from_utc_datetime(&t).timestamp_millis()))
            .map_err(|_| self.wrong(format!("`{text}` is not a time like 2026-06-21T10:15:00Z")))
    }

    /// The value for a message, cut where it is long.
    fn shown(&self) -> String {
        let text = self.raw.get();
        let mut short: String = text.chars().take(40).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        short
    }
}

/// Takes a member that has to be there.
///
/// # Errors
/// It is not.
pub fn needed<'m, 'a>(
    of: &Node<'a>,
    members: &'m BTreeMap<String, Node<'a>>,
    name: &str,
) -> Result<&'m Node<'a>, FileError> {
    members
        .get(name)
        .ok_or_else(|| of.wrong(format!("`{name}` is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_errors_say_where() {
        let text =
            r#"{"a": [0.1, 1e-9, 1e-10, "x", -1, 2.5], "t": "2026-06-21T10:15:00", "n": null}"#;
        let root = Node::root(text).unwrap();
        let members = root.members().unwrap();
        let list = members["a"].list().unwrap();
        assert_eq!(list[0].scaled(9).unwrap(), 100_000_000);
        assert_eq!(list[1].scaled(9).unwrap(), 1);
        for (place, call) in [(2, "scaled"), (3, "scaled"), (4, "positive"), (5, "whole")] {
            let error = match call {
                "whole" => list[place].whole().map(i128::from),
                "positive" => list[place].positive(9),
                _ => list[place].scaled(9),
            }
            .unwrap_err();
            assert_eq!(error.path, format!("$.a[{place}]"), "{error}");
        }
        let instant = members["t"].instant().unwrap();
        assert_eq!(instant.to_string(), "2026-06-21T10:15:00Z");
        assert!(!members.contains_key("n"));
        assert!(needed(&root, &members, "n").is_err());
        assert!(Node::root("{").is_err());
        assert!(root.list().is_err() && list[0].members().is_err());
    }
}
