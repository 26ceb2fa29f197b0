//! What a device said at one time: decoded numbers and text to values, and what has none to nothing.

use std::collections::BTreeMap;

use domain::energy::{Energy, Power};
use domain::ids::digest_parts;

use super::decode::{Exact, NoValue};
use crate::measure::{Counter, CounterEnd};
use crate::profile::{Dimension, Point, Quantity};

/// What one point says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// A number, in the unit that its quantity is kept in.
    Number(i64),
    /// Text.
    Text(String),
}

impl std::fmt::Display for Decoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Decoded::Number(number) => number.fmt(f),
            Decoded::Text(text) => f.write_str(text),
        }
    }
}

impl Point {
    /// The value of a raw number, in our unit and sign.
    ///
    /// # Errors
    /// A counter below zero, a charge above 100 %, or a value beyond the point's bounds.
    pub fn value_of(&self, raw: Exact) -> Result<i64, NoValue> {
        self.bounded(raw.times(self.scale))
    }

    fn bounded(&self, value: Option<Exact>) -> Result<i64, NoValue> {
        let value = value.and_then(Exact::rounded);
        let value = value.ok_or(NoValue::OutOfRange)?;
        let (low, high) = match self.quantity.dimension() {
            Dimension::Counter | Dimension::Energy => (0, i64::MAX),
            Dimension::Permille => (0, 1000),
            _ => (i64::MIN, i64::MAX),
        };
        let low = self.min.map_or(low, |min| min.max(low));
        let high = self.max.map_or(high, |max| max.min(high));
        if (low..=high).contains(&value) {
            Ok(value)
        } else {
            Err(NoValue::OutOfRange)
        }
    }

    /// What a counter shows, to the mWh. `range` is the size of its registers' range as a raw number,
    /// and whether half of it lies below zero.
    pub(crate) fn counter_of(&self, raw: Exact, range: Option<(Exact, bool)>) -> Option<Counter> {
        let in_mwh = |raw: Exact| raw.times(self.scale)?.shifted(3).rounded();
        let mwh = in_mwh(raw)?;
        // A signed counter that is full goes on below zero.
        let is_full = mwh < 0 && range.is_some_and(|(_, is_signed)| is_signed);
        if !is_full && self.value_of(raw).is_err() {
            return None;
        }
        let wraps = |span_mwh: i64, is_signed| CounterEnd::Wraps {
            span_mwh,
            is_signed,
        };
        let said = self.wraps_at.and_then(|wh| wh.checked_mul(1000));
        let of_registers = || {
            let (span, is_signed) = range?;
            Some(wraps(in_mwh(span).filter(|span| *span > 0)?, is_signed))
        };
        let end = said.map(|span| wraps(span, false)).or_else(of_registers);
        let end = end.unwrap_or_default();
        Some(Counter { mwh, end })
    }

    /// What a raw number means.
    pub(super) fn decoded(&self, raw: Exact) -> Result<Decoded, NoValue> {
        self.kept(raw.times(self.scale))
    }

    /// What a number means that is in our unit and sign already; none is one that does not fit.
    pub(crate) fn kept(&self, value: Option<Exact>) -> Result<Decoded, NoValue> {
        let value = self.bounded(value)?;
        Ok(match self.quantity.dimension() {
            Dimension::Text => Decoded::Text(self.named(&value.to_string(), "state ")),
            _ => Decoded::Number(value),
        })
    }

    /// What a text means.
    pub(crate) fn decoded_text(&self, text: &str) -> Decoded {
        Decoded::Text(self.named(text, ""))
    }

    /// The profile's name for what a device says; without one, what it says.
    fn named(&self, said: &str, unknown: &str) -> String {
        let named = self.states.iter().find(|(known, _)| known == said);
        match named {
            Some((_, name)) => name.clone(),
            None if self.quantity == Quantity::State => format!("{unknown}{said}"),
            None => said.to_owned(),
        }
    }
}

/// What a device said at one time. What it did not say is `None`, never 0.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Values {
    /// Counter of imported energy.
    pub import: Option<Energy>,
    /// Counter of exported energy.
    pub export: Option<Energy>,
    /// The import counter to the mWh, and where it begins anew.
    pub import_counter: Option<Counter>,
    /// The same of the export counter.
    pub export_counter: Option<Counter>,
    /// Power; the device's kind says what positive means.
    pub power: Option<Power>,
    /// State of charge.
    pub soc_permille: Option<u16>,
    /// State of operation.
    pub state: Option<String>,
    /// Everything else that is a number; its quantity's [`Dimension`] says in which unit.
    pub details: BTreeMap<Quantity, i64>,
    /// Everything else that is text.
    pub texts: BTreeMap<Quantity, String>,
}

impl Values {
    /// The values of several points. Points of the same quantity are added up; where one of them has
    /// no value, the sum has none, unless that point is optional.
    pub fn of<'a>(points: impl Iterator<Item = (&'a Point, Result<Decoded, NoValue>)>) -> Self {
        // A device has so few values that looking through them is quicker than a map.
        let mut sums: Vec<(Quantity, Option<Decoded>)> = Vec::with_capacity(points.size_hint().0);
        for (point, outcome) in points {
            if outcome.is_err() && point.optional {
                continue;
            }
            let known = sums.iter_mut().find(|(q, _)| *q == point.quantity);
            let Some((_, sum)) = known else {
                sums.push((point.quantity, outcome.ok()));
                continue;
            };
            let added = match (&*sum, outcome) {
                (Some(Decoded::Number(a)), Ok(Decoded::Number(b))) => a.checked_add(b),
                _ => None,
            };
            *sum = added.map(Decoded::Number);
        }
        let (mut values, mut details) = (Values::default(), Vec::with_capacity(sums.len()));
        for (quantity, sum) in sums {
            match sum {
                Some(Decoded::Number(number)) if quantity.is_detail() => {
                    details.push((quantity, number));
                }
                Some(decoded) => values.put(quantity, decoded),
                None => {}
            }
        }
        values.details = details.into_iter().collect();
        values
    }

    /// A counter to the mWh, the sum of several like [`Values::of`]: each point with what its counter
    /// shows, or nothing where it shows none.
    pub(crate) fn counter<'a>(
        points: impl Iterator<Item = (&'a Point, Option<Counter>)>,
    ) -> Option<Counter> {
        let mut sum: Option<Counter> = None;
        for (point, counter) in points {
            match counter {
                Some(counter) => {
                    sum = Some(sum.map_or(Some(counter), |sum| sum.plus(counter))?);
                }
                None if point.optional => {}
                None => return None,
            }
        }
        sum
    }

    /// Adds details and texts that were read with others.
    pub(crate) fn add_details(&mut self, seldom: Values) {
        self.details.extend(seldom.details);
        self.texts.extend(seldom.texts);
    }

    fn put(&mut self, quantity: Quantity, decoded: Decoded) {
        match (quantity, decoded) {
            (Quantity::Import, Decoded::Number(wh)) => self.import = Some(Energy::from_wh(wh)),
            (Quantity::Export, Decoded::Number(wh)) => self.export = Some(Energy::from_wh(wh)),
            (Quantity::Power, Decoded::Number(w)) => self.power = Some(Power::from_w(w)),
            (Quantity::Soc, Decoded::Number(permille)) => {
                self.soc_permille = u16::try_from(permille).ok();
            }
            (Quantity::State, Decoded::Text(text)) => self.state = Some(text),
            (quantity, Decoded::Text(text)) if !quantity.is_identity() => {
                self.texts.insert(quantity, text);
            }
            _ => {}
        }
    }
}

/// What identifies a device; empty text where it does not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// Maker.
    pub maker: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware version.
    pub firmware: String,
}

impl Identity {
    /// Digest over maker, model, serial and firmware, as it is signed.
    #[must_use]
    pub fn hash(&self) -> [u8; 8] {
        short_digest(&[&self.maker, &self.model, &self.serial, &self.firmware])
    }

    /// Digest over maker, model and serial: another one is another meter.
    #[must_use]
    pub fn body(&self) -> [u8; 8] {
        short_digest(&[&self.maker, &self.model, &self.serial])
    }

    pub(crate) fn set(&mut self, quantity: Quantity, text: String) {
        match quantity {
            Quantity::Maker => self.maker = text,
            Quantity::Model => self.model = text,
            Quantity::Serial => self.serial = text,
            Quantity::Firmware => self.firmware = text,
            _ => {}
        }
    }
}

fn short_digest(parts: &[&String]) -> [u8; 8] {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    let mut short = [0; 8];
    short.copy_from_slice(&digest_parts("meter", &parts)[..8]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firmware_update_is_no_other_meter() {
        let old = Identity {
            serial: "1".into(),
            firmware: "a".into(),
            ..Identity::default()
        };
        let new = Identity {
            firmware: "b".into(),
            ..old.clone()
        };
        assert!(old.body() == new.body() && old.hash() != new.hash());
    }

    fn point(quantity: Quantity, optional: bool) -> Point {
        Point {
            optional,
            ..Point::new(quantity)
        }
    }

    #[test]
    fn a_sum_lacks_nothing_but_what_may_be_lacking() {
        let (must, may) = (point(Quantity::Power, false), point(Quantity::Power, true));
        let power = |said: [(&Point, Result<i64, NoValue>); 2]| {
            let decoded = said.map(|(point, value)| (point, value.map(Decoded::Number)));
            Values::of(decoded.into_iter()).power.map(Power::w)
        };
        let missing = Err(NoValue::Sentinel);
        assert_eq!(power([(&must, Ok(5)), (&must, Ok(-7))]), Some(-2));
        assert_eq!(power([(&must, Ok(5)), (&must, missing)]), None);
        assert_eq!(power([(&must, missing), (&must, Ok(5))]), None);
        assert_eq!(power([(&must, Ok(5)), (&may, missing)]), Some(5));
        assert_eq!(power([(&may, missing), (&may, missing)]), None);
        assert_eq!(power([(&must, Ok(i64::MAX)), (&must, Ok(1))]), None);
    }

    #[test]
    fn counters_are_added_up_to_the_mwh_and_end_alike_or_open() {
        let mut must = point(Quantity::Import, false);
        let may = point(Quantity::Import, true);
        let open = |mwh| Some(Counter::open(mwh));
        let sum = |parts: [(&Point, Option<Counter>); 2]| Values::counter(parts.into_iter());
        assert_eq!(sum([(&must, open(400)), (&must, open(200))]), open(600));
        assert_eq!(sum([(&must, open(400)), (&must, None)]), None);
        assert_eq!(sum([(&may, None), (&must, open(400))]), open(400));
        assert_eq!(sum([(&may, None), (&may, None)]), None);
        assert_eq!(sum([(&must, open(i64::MAX)), (&must, open(1))]), None);
        must.wraps_at = Some(10);
        let wraps = must.counter_of(Exact::whole(9), None);
        let both = sum([(&must, wraps), (&must, wraps)]).unwrap();
        let end = CounterEnd::Wraps {
            span_mwh: 10_000,
            is_signed: false,
        };
        assert_eq!((both.mwh, both.end), (18_000, end));
        assert_eq!(sum([(&must, wraps), (&may, open(1))]), open(9001));
    }

    #[test]
    fn states_have_names_by_number_and_by_text() {
        let mut state = point(Quantity::State, false);
        state.states = vec![("3".into(), "charging".into()), ("C2".into(), "on".into())];
        let text = |decoded| match decoded {
            Decoded::Text(text) => text,
            Decoded::Number(number) => panic!("{number} is no text"),
        };
        assert_eq!(text(state.decoded(Exact::whole(3)).unwrap()), "charging");
        assert_eq!(text(state.decoded(Exact::whole(4)).unwrap()), "state 4");
        assert_eq!(text(state.decoded_text("C2")), "on");
        assert_eq!(text(state.decoded_text("F")), "F");
    }
}
