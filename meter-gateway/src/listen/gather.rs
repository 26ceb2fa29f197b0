//! What comes in several messages to samples that are whole: import and export in two topics, or three
//! phases in three, are a sample only if all of them came within [`GATHER_MAX_MS`], and each message
//! counts once. Half a sample would be worse than none: the missing half would read as no energy.

use std::collections::BTreeMap;

use domain::time::Timestamp;

use super::{Leaf, Moment};
use crate::device::decode::{Exact, NoValue};
use crate::device::mqtt::{self, Found};
use crate::device::{Identity, Values};
use crate::measure::{Counter, JITTER_MS};
use crate::poll::Sample;
use crate::profile::{Dimension, Point, Quantity};

/// Longest time between the first and the last message of one sample; the sample has the time of the
/// first. More would be more than measuring allows time stamps to be wrong.
pub const GATHER_MAX_MS: i64 = JITTER_MS;

/// A device's values on their way to samples.
#[derive(Clone, Debug)]
pub(super) struct Gather {
    /// Leaves that only count together.
    groups: Vec<Vec<usize>>,
    /// What each leaf said last, until it is in a sample.
    heard: Vec<Option<(Said, Moment)>>,
    identity: Identity,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Number(Exact),
    Text(String),
}

/// What a message brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gathered {
    /// The samples that it made whole, oldest first.
    pub(super) samples: Vec<Sample>,
    /// Whether parts of a sample were given up, because the others did not come in time.
    pub(super) incomplete: bool,
}

impl Gather {
    pub(super) fn new(leaves: &[Leaf]) -> Self {
        // Both counters are one group, everything else is on its own.
        let mut groups: BTreeMap<Quantity, Vec<usize>> = BTreeMap::new();
        for (index, leaf) in leaves.iter().enumerate() {
            let quantity = leaf.point.quantity;
            if !quantity.is_identity() {
                let counter = quantity.is_counter().then_some(Quantity::Import);
                groups
                    .entry(counter.unwrap_or(quantity))
                    .or_default()
                    .push(index);
            }
        }
        Gather {
            groups: groups.into_values().collect(),
            heard: vec![None; leaves.len()],
            identity: Identity::default(),
        }
    }

    /// Forgets everything: what was heard before a break must not become part of what comes after it.
    pub(super) fn forget(&mut self) {
        self.heard.fill(None);
        self.identity = Identity::default();
    }

    /// Takes in what one message says at some leaves.
    pub(super) fn take(
        &mut self,
        leaves: &[Leaf],
        found: Vec<(usize, Found)>,
        now: Moment,
    ) -> Gathered {
        let mut out = Gathered {
            incomplete: self.give_up(now),
            ..Gathered::default()
        };
        let mut touched = vec![false; leaves.len()];
        for (index, found) in found {
            let quantity = leaves[index].point.quantity;
            let said = match found {
                // A message about something else.
                Found::Absent => continue,
                found => said(&leaves[index].point, found),
            };
            if quantity.is_identity() {
                self.identity
                    .set(quantity, said.map(Said::into_text).unwrap_or_default());
            } else {
                touched[index] = said.is_some();
                self.heard[index] = said.map(|said| (said, now));
            }
        }
        let mut whole: BTreeMap<Timestamp, Vec<usize>> = BTreeMap::new();
        for group in &self.groups {
            if group.iter().any(|leaf| touched[*leaf])
                && let Some(oldest) = self.time_of(leaves, group)
            {
                whole.entry(oldest).or_default().extend(group);
            }
        }
        for (read_at, mut members) in whole {
            members.sort_unstable();
            let values = self.values(leaves, &members);
            if values != Values::default() {
                let identity = Some(self.identity.clone()).filter(|id| !id.serial.is_empty());
                out.samples.push(Sample {
                    read_at,
                    values,
                    identity,
                });
            }
        }
        out
    }

    /// Drops what has waited too long for the rest of its group.
    fn give_up(&mut self, now: Moment) -> bool {
        let mut dropped = false;
        for heard in &mut self.heard {
            let is_old = |at: &Moment| now.watch_ms.saturating_sub(at.watch_ms) > GATHER_MAX_MS;
            if heard.as_ref().is_some_and(|(_, at)| is_old(at)) {
                *heard = None;
                dropped = true;
            }
        }
        dropped
    }

    /// When the oldest of a group was heard; none while one is missing that must be there.
    fn time_of(&self, leaves: &[Leaf], group: &[usize]) -> Option<Timestamp> {
        let is_whole = group
            .iter()
            .all(|leaf| leaves[*leaf].point.optional || self.heard[*leaf].is_some());
        let times = group
            .iter()
            .filter_map(|leaf| Some(self.heard[*leaf].as_ref()?.1.now));
        times.min().filter(|_| is_whole)
    }

    /// The values of leaves that are whole. Numbers of one quantity are added up before they are
    /// rounded; each is used once.
    fn values(&mut self, leaves: &[Leaf], members: &[usize]) -> Values {
        let (import, export) = (
            self.counter(leaves, members, Quantity::Import),
            self.counter(leaves, members, Quantity::Export),
        );
        let mut sums: BTreeMap<Quantity, (&Point, Option<Said>)> = BTreeMap::new();
        for index in members {
            let Some((said, _)) = self.heard[*index].take() else {
                continue;
            };
            let point = &leaves[*index].point;
            let said = match said {
                Said::Number(raw) => raw.times(point.scale).map(Said::Number),
                Said::Text(text) => Some(Said::Text(text)),
            };
            let sum = match sums.remove(&point.quantity) {
                None => (point, said),
                Some((first, sum)) => (first, sum.zip(said).and_then(|(a, b)| a.plus(b))),
            };
            sums.insert(point.quantity, sum);
        }
        let decoded = sums.into_values().map(|(point, said)| {
            let decoded = match said {
                Some(Said::Number(sum)) => point.kept(Some(sum)),
                Some(Said::Text(text)) => Ok(point.decoded_text(&text)),
                None => Err(NoValue::OutOfRange),
            };
            (point, decoded)
        });
        Values {
            import_counter: import,
            export_counter: export,
            ..Values::of(decoded)
        }
    }

    /// A counter of leaves that are whole; one that said nothing is one that need not.
    fn counter(&self, leaves: &[Leaf], members: &[usize], quantity: Quantity) -> Option<Counter> {
        let counters = members.iter().filter_map(|index| {
            let point = &leaves[*index].point;
            let (said, _) = self.heard[*index].as_ref()?;
            let counter = match said {
                Said::Number(raw) => point.counter_of(*raw, None),
                Said::Text(_) => None,
            };
            (point.quantity == quantity).then_some((point, counter))
        });
        Values::counter(counters)
    }
}

impl Said {
    fn plus(self, other: Said) -> Option<Said> {
        match (self, other) {
            (Said::Number(a), Said::Number(b)) => a.plus(b).map(Said::Number),
            _ => None,
        }
    }

    fn into_text(self) -> String {
        match self {
            Said::Number(number) => number.decimal().unwrap_or_default(),
            Said::Text(text) => text,
        }
    }
}

/// What is found as the point wants it: a number where it counts, else what is written.
fn said(point: &Point, found: Found) -> Option<Said> {
    let is_number = point.quantity.dimension() != Dimension::Text;
    match found {
        Found::Number(number) => Some(Said::Number(number)),
        Found::Text(text) if is_number => mqtt::number(&text).map(Said::Number),
        Found::Text(text) => Some(Said::Text(text)),
        Found::Absent | Found::Nothing => None,
    }
}
