//! What the tables say is held against what the logs commit to: a row that was changed, added or taken away behind the
//! platform's back is named, though sums and roots are all right.
//!
//! A log is gone through in parts. What its entries are about is read by their intervals, each row takes the entry that it
//! names, and no entry may be left. Contents of participants whose secret was deleted cannot be opened: of their entries
//! only kind and interval are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use domain::receipt::Salt;
use domain::signed::SigningKey;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Db;

use super::marks::Marks;
use super::{BooksError, market, readings, registry, runs};
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind, PUBLIC, salt_of};
use crate::service::error::{corrupt, stored};
use crate::service::{ServiceError, logs};

/// The tables of a community.
pub(super) struct Contents<'a> {
    pub(super) db: &'a Db,
    pub(super) operator: &'a SigningKey,
    /// By participant; empty where it was deleted.
    secrets: BTreeMap<String, Vec<u8>>,
    /// The entries of the ledger log that rows about keys and tokens name, and that none of these has taken yet.
    unclaimed: BTreeMap<i64, Entry>,
    /// Those of them that were taken.
    named: BTreeSet<i64>,
    /// How many entries of each kind have had their row.
    counted: BTreeMap<&'static str, i64>,
}

/// A part of a log: its entries that no row has taken yet.
pub(super) struct Part {
    pub(super) log: Log,
    entries: BTreeMap<i64, Entry>,
    from: i64,
    to: i64,
    size: i64,
}

/// What a row commits to: its place, and the entry that should be there.
pub(super) struct Row<'a> {
    pub(super) index: i64,
    pub(super) kind: Kind,
    pub(super) start: Timestamp,
    pub(super) content: &'a [u8],
    /// Under whose secret; `None` is the public salt.
    pub(super) whose: Option<&'a str>,
}

pub(super) fn found<T>(what: String) -> Result<T, BooksError> {
    Err(BooksError::Found(what))
}

impl<'a> Contents<'a> {
    pub(super) async fn of(db: &'a Db, operator: &'a SigningKey) -> Result<Self, BooksError> {
        let sql = "SELECT participant, secret FROM settle_secrets";
        let secrets: Vec<(String, Vec<u8>)> = db.fetch_all(sql, args![]).await?;
        let ledger = i64::from(Log::Ledger.code());
        let unclaimed = db.fetch_all(NAMED, args![ledger]).await?;
        Ok(Contents {
            db,
            operator,
            secrets: secrets.into_iter().collect(),
            unclaimed: entries(unclaimed)?,
            named: BTreeSet::new(),
            counted: BTreeMap::new(),
        })
    }

    /// Goes through everything about keys and tokens, and through what the logs took in from their marks on: a mark moves
    /// on when all of a part holds, and stays where it does not.
    pub(super) async fn check(&mut self, marks: &mut Marks<'_>) -> Result<(), BooksError> {
        registry::check(self).await?;
        for log in Log::ALL {
            let size = stored(logs::frontier(&mut &*self.db, log).await?.size())?;
            let mut at = marks.first(log, size);
            while at < size {
                let to = marks.end_of_part(at).min(size);
                let mut part = self.part(log, at..to, size).await?;
                match log {
                    Log::Readings => readings::check(self, &mut part).await?,
                    Log::Market => market::check(self, &mut part).await?,
                    Log::Ledger => runs::check(self, &mut part).await?,
                }
                self.nothing_left(&part)?;
                marks.reach(log, to).await?;
                at = to;
            }
        }
        Ok(())
    }

    /// After a whole check: no table has a row that no entry commits to.
    pub(super) async fn check_counts(&self) -> Result<(), BooksError> {
        for (kind, sql) in COUNTS {
            let (rows,): (i64,) = self.db.fetch_one(sql, args![]).await?;
            let entries = self.counted.get(kind.word()).copied().unwrap_or(0);
            if rows != entries {
                return found(format!(
                    "the tables have {rows} rows of what the logs call `{}`, and the logs commit to {entries}",
                    kind.word()
                ));
            }
        }
        Ok(())
    }

    async fn part(&self, log: Log, range: Range<i64>, size: i64) -> Result<Part, BooksError> {
        let (from, to) = (range.start, range.end);
        let rows = self
            .db
            .fetch_all(
                "SELECT idx, leaf FROM settle_log_entries WHERE log = $1 AND idx >= $2 AND idx < $3",
                args![i64::from(log.code()), from, to],
            )
            .await?;
        Ok(Part {
            log,
            entries: entries(rows)?,
            from,
            to,
            size,
        })
    }

    /// The salt of a content; none where its participant's secret was deleted.
    fn salt(&self, whose: Option<&str>, content: &[u8]) -> Option<Salt> {
        let Some(participant) = whose else {
            return Some(PUBLIC);
        };
        let secret = self.secrets.get(participant)?;
        let secret: &[u8; 32] = secret.as_slice().try_into().ok()?;
        Some(salt_of(secret, content))
    }

    fn fits(&self, row: &Row<'_>, entry: Entry) -> bool {
        match self.salt(row.whose, row.content) {
            // By its leaf, which has whole seconds.
            Some(salt) => Entry::new(row.kind, row.start, salt, row.content).leaf() == entry.leaf(),
            None => (row.kind, row.start.unix_s()) == (entry.kind, entry.start.unix_s()),
        }
    }

    /// Holds a row against the entry that it names, where that is in this part.
    pub(super) fn take(
        &mut self,
        part: &mut Part,
        row: &Row<'_>,
        what: impl Fn() -> String,
    ) -> Result<(), BooksError> {
        let (index, log) = (row.index, part.log.word());
        if (0..part.from).contains(&index) || (part.to..part.size).contains(&index) {
            return Ok(());
        }
        match part.entries.remove(&index) {
            Some(entry) if self.fits(row, entry) => {
                *self.counted.entry(row.kind.word()).or_default() += 1;
                Ok(())
            }
            Some(_) => found(format!(
                "{} is not what entry {index} of the {log} log commits to",
                what()
            )),
            None => found(format!(
                "{} is said to be entry {index} of the {log} log, which is another's or not there",
                what()
            )),
        }
    }

    /// Holds a row about a key or tokens against its entry of the ledger log.
    pub(super) fn named(
        &mut self,
        row: &Row<'_>,
        what: impl Fn() -> String,
    ) -> Result<(), BooksError> {
        let index = row.index;
        self.named.insert(index);
        match self.unclaimed.remove(&index) {
            Some(entry) if self.fits(row, entry) => Ok(()),
            _ => found(format!(
                "{} is not what entry {index} of the ledger log commits to",
                what()
            )),
        }
    }

    /// Every entry has had its row, but for checkpoints, which the check of the roots reads, and for words about keys and
    /// evidence, which tables of several kinds may hold.
    fn nothing_left(&self, part: &Part) -> Result<(), BooksError> {
        let left = part.entries.iter().find(|(index, entry)| match entry.kind {
            Kind::Checkpoint | Kind::Revocation | Kind::Introduction | Kind::Evidence => false,
            Kind::Key | Kind::Tokens => !self.named.contains(index),
            Kind::Reading | Kind::Order | Kind::Trade | Kind::Clearing | Kind::Line | Kind::Run => {
                true
            }
        });
        match left {
            Some((index, entry)) => found(format!(
                "entry {index} of the {} log ({} of the interval that starts at unix second {}) has no row in the \
                 tables any more",
                part.log.word(),
                entry.kind.word(),
                entry.start.unix_s()
            )),
            None => Ok(()),
        }
    }
}

fn entries(rows: Vec<(i64, Vec<u8>)>) -> Result<BTreeMap<i64, Entry>, ServiceError> {
    let entry = |(index, leaf): (i64, Vec<u8>)| {
        let entry = Entry::from_leaf(&leaf).ok_or_else(|| corrupt("an entry of a log"))?;
        Ok((index, entry))
    };
    rows.into_iter().map(entry).collect()
}

impl Part {
    /// The starts of the intervals that entries of this kind are about.
    pub(super) fn starts(&self, kind: Kind) -> BTreeSet<i64> {
        let of_kind = self.entries.values().filter(|entry| entry.kind == kind);
        of_kind.map(|entry| entry.start.unix_s()).collect()
    }

    /// Whether an entry is in this part.
    pub(super) fn has(&self, index: i64) -> bool {
        (self.from..self.to).contains(&index)
    }
}

/// The entries that rows about keys and tokens name, in one statement: one for each row would take longer than all else.
const NAMED: &str = "SELECT e.idx, e.leaf FROM
     (SELECT log_index FROM settle_key_records UNION SELECT log_index FROM settle_revocations
      UNION SELECT log_index FROM settle_token_requests UNION SELECT log_index FROM settle_token_steps
      UNION SELECT log_index FROM settle_openings) AS named
     JOIN settle_log_entries e ON e.log = $1 AND e.idx = named.log_index";

const COUNTS: [(Kind, &str); 6] = [
    (
        Kind::Reading,
        "SELECT COUNT(*) FROM settle_readings WHERE reason IS NULL",
    ),
    (Kind::Order, "SELECT COUNT(*) FROM settle_orders"),
    (Kind::Trade, "SELECT 2 * COUNT(*) FROM settle_trades"),
    (Kind::Clearing, "SELECT COUNT(*) FROM settle_clearings"),
    (Kind::Line, "SELECT COUNT(*) FROM settle_lines"),
    (
        Kind::Run,
        "SELECT COUNT(*) FROM settle_runs WHERE record IS NOT NULL",
    ),
];
