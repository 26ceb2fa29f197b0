//! Which requests bring a profile's values, and what the answers mean, point by point.

use super::decode::{self, Encoding, Exact, NoValue};
use super::sunspec;
use super::values::{Decoded, Identity, Values};
use crate::measure::Counter;
use crate::profile::{
    Link, ModbusRules, Point, Profile, Quantity, SignBits, Source, WORDS_PER_READ_MAX,
};

/// One value to be read: a point of the profile at its address on this device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read {
    pub(super) point: Point,
    pub(super) encoding: Encoding,
    pub(super) unit: Option<u8>,
    pub(super) function: u8,
    pub(super) address: u16,
    pub(super) scale_address: Option<u16>,
    pub(super) negative: Option<SignBits>,
}

impl Read {
    /// A point at a fixed address.
    pub(super) fn fixed(point: &Point) -> Option<Self> {
        let Source::Register {
            unit,
            function,
            address,
            scale_address,
            negative,
            ..
        } = point.source
        else {
            return None;
        };
        Some(Read {
            point: point.clone(),
            encoding: point.encoding.clone(),
            unit,
            function,
            address,
            scale_address,
            negative,
        })
    }

    fn first(&self) -> u16 {
        let others = [self.scale_address, self.negative.map(|n| n.address)];
        others
            .into_iter()
            .flatten()
            .fold(self.address, |first, other| first.min(other))
    }

    /// The address behind the last word; `None` beyond the address space.
    fn end(&self) -> Option<u16> {
        let others = [self.scale_address, self.negative.map(|n| n.address)];
        let mut end = self.address.checked_add(self.encoding.word_type.words())?;
        for other in others.into_iter().flatten() {
            end = end.max(other.checked_add(1)?);
        }
        Some(end)
    }
}

/// One request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// The unit, where it is not the device's own.
    pub unit: Option<u8>,
    /// Function code.
    pub function: u8,
    /// First address.
    pub address: u16,
    /// Number of words, or of bits for functions 1 and 2.
    pub count: u16,
    /// Whether exception 2 means that the device does not have it.
    pub optional: bool,
}

/// The values to read and the few requests that bring them. A value, and a value with its scale
/// factor, never lies across two requests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The values.
    pub reads: Vec<Read>,
    /// The requests.
    pub blocks: Vec<Block>,
    /// Points that this device has no place for.
    pub absent: Vec<Point>,
}

impl Plan {
    fn new(
        points: impl Iterator<Item = (Point, Option<Read>)>,
        rules: &ModbusRules,
        max_hole_words: u16,
    ) -> Self {
        let mut plan = Plan::default();
        for (point, read) in points {
            match read {
                Some(read) => plan.reads.push(read),
                None => plan.absent.push(point),
            }
        }
        plan.reads
            .sort_by_key(|read| (read.unit, read.function, read.point.optional, read.first()));
        for read in &plan.reads {
            let (first, Some(end)) = (read.first(), read.end()) else {
                continue;
            };
            let optional = read.point.optional;
            let alone = rules.one_value_per_read || optional;
            // Reads are sorted, so a block of the same function begins at or before `first`.
            let grown = plan.blocks.last_mut().filter(|block| {
                let same = (block.unit, block.function) == (read.unit, read.function);
                let block_end = block.address.saturating_add(block.count);
                same && !alone
                    && !block.optional
                    && first.saturating_sub(block_end) <= max_hole_words
                    && end.saturating_sub(block.address) <= rules.max_words
            });
            match grown {
                Some(block) => block.count = block.count.max(end.saturating_sub(block.address)),
                None => plan.blocks.push(Block {
                    unit: read.unit,
                    function: read.function,
                    address: first,
                    count: end - first,
                    optional,
                }),
            }
        }
        plan
    }

    /// The plans of a profile with fixed addresses: for the values, and for the identification with what
    /// is seldom read.
    #[must_use]
    pub fn fixed(profile: &Profile) -> (Plan, Plan) {
        let Link::Modbus(rules) = &profile.link else {
            return Default::default();
        };
        both(profile, |points| {
            let places = points.map(|p| (p.clone(), Read::fixed(p)));
            Plan::new(places, rules, rules.max_hole_words)
        })
    }

    /// The plans of a SunSpec profile on a device with these models; `None` where the device has
    /// none of the profile's models.
    #[must_use]
    pub fn sunspec(profile: &Profile, models: &[sunspec::Model]) -> Option<(Plan, Plan)> {
        let Link::Sunspec(rules) = &profile.link else {
            return None;
        };
        let main = models
            .iter()
            .position(|model| rules.models.contains(&model.id))?;
        Some(both(profile, |points| {
            let place = |p: &Point| sunspec::locate(p, models, main).or_else(|| Read::fixed(p));
            let places = points.map(|p| (p.clone(), place(p)));
            // Inside a model every register may be read, so holes do not matter.
            Plan::new(places, rules, WORDS_PER_READ_MAX)
        }))
    }
}

fn both<'a>(
    profile: &'a Profile,
    plan: impl Fn(Box<dyn Iterator<Item = &'a Point> + 'a>) -> Plan,
) -> (Plan, Plan) {
    let points = |seldom: bool| {
        let wanted = move |p: &&Point| (p.seldom || p.quantity.is_identity()) == seldom;
        Box::new(profile.points.iter().filter(wanted))
    };
    (plan(points(false)), plan(points(true)))
}

/// Register contents as they were read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Registers {
    runs: Vec<(Option<u8>, u8, u16, Vec<u16>)>,
}

/// One point, where it lies, what was read there, and what that means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explained<'a> {
    /// The point.
    pub point: &'a Point,
    /// Its place, and none where the device has no place for it.
    pub read: Option<&'a Read>,
    /// The raw words, empty where it was not read; a scale factor's word, and the word with the sign.
    pub words: Vec<u16>,
    /// The word of its scale factor.
    pub scale_word: Option<u16>,
    /// Its value, or why it has none.
    pub outcome: Result<Decoded, NoValue>,
}

impl Explained<'_> {
    /// What it tells.
    #[must_use]
    pub fn quantity(&self) -> Quantity {
        self.point.quantity
    }

    /// Function code and address in the maker's counting from 0, as in `3:40072`.
    #[must_use]
    pub fn place(&self) -> String {
        match self.read {
            Some(Read {
                unit: Some(unit),
                function,
                address,
                ..
            }) => format!("unit {unit} {function}:{address}"),
            Some(read) => format!("{}:{}", read.function, read.address),
            None => String::from("-"),
        }
    }
}

impl Registers {
    /// Adds what one request brought.
    pub fn add(&mut self, block: &Block, words: Vec<u16>) {
        self.runs
            .push((block.unit, block.function, block.address, words));
    }

    /// `count` words of `function` from `address` in `unit`, if they lie in one run.
    #[must_use]
    pub fn get(&self, unit: Option<u8>, function: u8, address: u16, count: u16) -> Option<&[u16]> {
        self.runs
            .iter()
            .filter(|(u, f, ..)| (*u, *f) == (unit, function))
            .find_map(|(.., start, words)| {
                let offset = usize::from(address.checked_sub(*start)?);
                words.get(offset..offset + usize::from(count))
            })
    }

    fn words(&self, read: &Read) -> Option<&[u16]> {
        let count = read.encoding.word_type.words();
        self.get(read.unit, read.function, read.address, count)
    }

    fn word(&self, read: &Read, address: u16) -> Option<u16> {
        self.get(read.unit, read.function, address, 1)?
            .first()
            .copied()
    }

    /// The exponent of ten that the device wants its number to be shifted by.
    fn exponent(&self, read: &Read) -> Result<i32, NoValue> {
        let Some(address) = read.scale_address else {
            return Ok(0);
        };
        let word = self.word(read, address).ok_or(NoValue::NoScale)?;
        sunspec::scale_factor(word).ok_or(NoValue::NoScale)
    }

    fn number(&self, read: &Read) -> Result<Exact, NoValue> {
        let words = self.words(read).ok_or(NoValue::Absent)?;
        let mut number = decode::number(words, &read.encoding)?;
        number = number.shifted(self.exponent(read)?);
        if let Some(negative) = read.negative {
            let word = self.word(read, negative.address).ok_or(NoValue::Absent)?;
            if word & negative.bits != 0 {
                number = number.times(Exact::whole(-1)).ok_or(NoValue::OutOfRange)?;
            }
        }
        Ok(number)
    }

    fn decode(&self, read: &Read) -> Result<Decoded, NoValue> {
        if read.encoding.word_type.is_text() {
            let words = self.words(read).ok_or(NoValue::Absent)?;
            let text = decode::text(words, &read.encoding)?;
            return Ok(read.point.decoded_text(&text));
        }
        read.point.decoded(self.number(read)?)
    }

    /// A counter to the mWh; the sum of several like [`Values::of`].
    fn counter(&self, plan: &Plan, quantity: Quantity) -> Option<Counter> {
        let is_asked = |point: &Point| point.quantity == quantity && !point.optional;
        if plan.absent.iter().any(is_asked) {
            return None;
        }
        let reads = plan.reads.iter().filter(|r| r.point.quantity == quantity);
        Values::counter(reads.map(|read| {
            let range = read.encoding.range().filter(|_| read.negative.is_none());
            let exponent = self.exponent(read).unwrap_or(0);
            let range = range.map(|(span, is_signed)| (span.shifted(exponent), is_signed));
            let number = self.number(read).ok();
            (
                &read.point,
                number.and_then(|n| read.point.counter_of(n, range)),
            )
        }))
    }

    /// The values that `plan` finds in here.
    #[must_use]
    pub fn values(&self, plan: &Plan) -> Values {
        let read = plan.reads.iter().map(|r| (&r.point, self.decode(r)));
        let absent = plan.absent.iter().map(|p| (p, Err(NoValue::Absent)));
        Values {
            import_counter: self.counter(plan, Quantity::Import),
            export_counter: self.counter(plan, Quantity::Export),
            ..Values::of(read.chain(absent))
        }
    }

    /// The identification that `plan` finds in here.
    #[must_use]
    pub fn identity(&self, plan: &Plan) -> Identity {
        let mut identity = Identity::default();
        for read in &plan.reads {
            if let Ok(decoded) = self.decode(read) {
                identity.set(read.point.quantity, decoded.to_string());
            }
        }
        identity
    }

    /// Every point of `plan`: where it lies, its raw words, and its value or why it has none.
    #[must_use]
    pub fn explain<'a>(&self, plan: &'a Plan) -> Vec<Explained<'a>> {
        let read = plan.reads.iter().map(|read| Explained {
            point: &read.point,
            read: Some(read),
            words: self.words(read).map(<[u16]>::to_vec).unwrap_or_default(),
            scale_word: read.scale_address.and_then(|a| self.word(read, a)),
            outcome: self.decode(read),
        });
        let absent = plan.absent.iter().map(|point| Explained {
            point,
            read: None,
            words: Vec::new(),
            scale_word: None,
            outcome: Err(NoValue::Absent),
        });
        read.chain(absent).collect()
    }
}
