//! Settling again from a log: what is in the opened entries of an interval is delivered and settled by the same
//! rules, and every line that comes of it must be the one that the ledger log has, byte for byte.
//!
//! Pure. [`Leaves`] is what a reader of the logs has seen, [`Registry`] the opened key records, [`Executor`] goes
//! through the runs in the order of the ledger log.

mod interval;
mod registry;
mod run;
mod steps;

use std::collections::BTreeMap;

use domain::ids::Digest32;
use domain::openings::{Opened, Openings};
use domain::time::Timestamp;

use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind};

pub use interval::{Facts, facts};
pub use registry::{KeyCount, Registry};
pub use run::{Executor, Settled};

/// Why something was not settled again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It does not hold.
    Wrong(String),
    /// It cannot be told, because something is not opened.
    Sealed(String),
}

/// A fault that says that something does not hold.
pub(crate) fn wrong(why: impl Into<String>) -> Fault {
    Fault::Wrong(why.into())
}

type Key = (u8, &'static str, i64);

/// The entries of all logs that a reader has seen, without their content.
#[derive(Clone, Debug, Default)]
pub struct Leaves {
    by_interval: BTreeMap<Key, Vec<(u64, Digest32)>>,
    sizes: BTreeMap<u8, u64>,
}

impl Leaves {
    /// Takes the next entry of a log.
    pub fn take(&mut self, log: Log, index: u64, entry: &Entry) {
        let key = (log.code(), entry.kind.word(), entry.start.unix_s());
        let same = self.by_interval.entry(key).or_default();
        same.push((index, entry.commitment));
        self.sizes.insert(log.code(), index + 1);
    }

    /// How many entries of a log were seen.
    #[must_use]
    pub fn size(&self, log: Log) -> u64 {
        self.sizes.get(&log.code()).copied().unwrap_or(0)
    }

    /// Leaves out of openings what is beyond the logs as they were read: the books may have gone on since.
    pub fn cut(&self, openings: &mut Openings) {
        let within = |log: Log| {
            let size = self.size(log);
            move |opened: &Opened| opened.index < size
        };
        for keys in [
            &mut openings.keys,
            &mut openings.introductions,
            &mut openings.revocations,
        ] {
            keys.retain(within(Log::Ledger));
        }
        let ledger = self.size(Log::Ledger);
        for interval in &mut openings.intervals {
            interval.readings.retain(within(Log::Readings));
            interval.earlier.retain(within(Log::Readings));
            interval.runs.retain(|run| run.index < ledger);
        }
    }

    /// Place and commitment of a kind's entries with this start, in the log's order.
    #[must_use]
    pub fn of(&self, log: Log, kind: Kind, start: Timestamp) -> &[(u64, Digest32)] {
        let key = (log.code(), kind.word(), start.unix_s());
        self.by_interval.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Whether lines of an interval stand before those of its record at this place, which has so many directly before
    /// it: where it is the first record, a program that logged none has begun.
    #[must_use]
    pub fn has_earlier_lines(&self, start: Timestamp, index: u64, lines: u64) -> bool {
        let first = self.of(Log::Ledger, Kind::Line, start).first();
        first.is_some_and(|(line, _)| *line < index.saturating_sub(lines))
    }

    /// How many entries of a kind there are.
    #[must_use]
    pub fn count(&self, log: Log, kind: Kind) -> usize {
        let of_kind = |(of, word, _): &Key| *of == log.code() && *word == kind.word();
        let counts = self.by_interval.iter().filter(|(key, _)| of_kind(key));
        counts.map(|(_, entries)| entries.len()).sum()
    }

    /// Whether the log has this entry at this place.
    #[must_use]
    pub fn has(&self, log: Log, index: u64, entry: &Entry) -> bool {
        let same = self.of(log, entry.kind, entry.start);
        same.contains(&(index, entry.commitment))
    }

    /// The contents of a kind's entries of an interval, each held against the log, in the log's order. All of them
    /// have to be opened.
    ///
    /// # Errors
    /// An opened entry is not the log's, or one is not opened.
    pub fn open<'a>(
        &self,
        log: Log,
        kind: Kind,
        start: Timestamp,
        opened: &'a [Opened],
    ) -> Result<Vec<(u64, &'a [u8])>, Fault> {
        let mut found: BTreeMap<u64, &[u8]> = BTreeMap::new();
        for Opened {
            index,
            salt,
            content,
        } in opened
        {
            if !self.has(log, *index, &Entry::new(kind, start, *salt, content)) {
                return Err(wrong(format!(
                    "entry {index} of the {} log is not the {} that was handed over",
                    log.word(),
                    kind.word()
                )));
            }
            found.insert(*index, content);
        }
        let all = self.of(log, kind, start).len();
        if found.len() < all {
            let closed = all - found.len();
            return Err(Fault::Sealed(format!(
                "{closed} of {all} {} entries are not opened",
                kind.word()
            )));
        }
        Ok(found.into_iter().collect())
    }
}
