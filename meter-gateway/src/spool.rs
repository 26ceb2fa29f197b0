//! The durable outbox: signed readings and the state they were made from, written together, and kept
//! until the platform's signed word that they are in its books.
//!
//! Times in here are milliseconds of the running process, not of any clock: they say when to send
//! again, and are forgotten at each start.

mod sql;

use std::path::Path;

use domain::acceptance::Acceptance;
use domain::ids::{Digest32, PointId};
use domain::reading::Reading;
use domain::rejection::Rejection;
use domain::signed::{Signed, Verified};
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::{Db, DbError, Tx};

use crate::measure;
use crate::sign::Chain;
pub use sql::MIGRATIONS;

/// Name of the database in the data folder.
const FILE: &str = "gateway.db";
/// Most readings in the outbox. When it is full, nothing is deleted: intervals are no longer made
/// until there is room, and then one interpolated stretch covers the time between.
pub const OUTBOX_MAX_ROWS: i64 = 100_000;
/// Most refused readings that are kept; the oldest go first.
pub const REFUSED_MAX_ROWS: i64 = 1_000;
/// Most readings that are under way for the first time. Repeats do not count, so that a point that is
/// never answered holds up no other.
pub const IN_FLIGHT_MAX: i64 = 64;
/// Most readings sent for the third time or later that go out at once.
pub const REPEATS_MAX: usize = 8;
/// First wait for an acceptance; it doubles with every attempt up to [`RETRY_MAX_MS`].
pub const RETRY_MIN_MS: i64 = 5_000;
/// Longest wait for an acceptance.
pub const RETRY_MAX_MS: i64 = 300_000;
/// What was sent so recently is not sent again, even when the platform calls it missing.
pub const RESEND_GRACE_MS: i64 = 2_000;
/// Readings of the last intervals go first, newest in front; history follows oldest in front.
const RECENT_S: i64 = 3600;

/// Why the outbox could not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The database refuses.
    #[error("the outbox failed: {0}")]
    Db(#[from] DbError),
    /// No room.
    #[error("the outbox holds {0} readings and is full; is the platform reachable?")]
    Full(i64),
    /// The platform speaks of readings that this outbox never made.
    #[error(
        "the books know readings of {point} up to {known}, this outbox only up to {made}: it was \
         restored or deleted, so nothing is removed from it; enrol a new key for this gateway"
    )]
    Older {
        /// The point.
        point: String,
        /// The highest sequence that the platform speaks of.
        known: u64,
        /// The highest sequence made here; 0 where there is none.
        made: u64,
    },
    /// What is stored cannot be understood.
    #[error("the stored state of point {point} is damaged: {reason}")]
    Damaged {
        /// The point.
        point: String,
        /// What is wrong.
        reason: String,
    },
}

/// All that a point's readings continue from.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PointState {
    /// Samples and edges.
    pub measure: measure::State,
    /// Sequence and digest.
    pub chain: Chain,
}

/// A reading that was just signed.
#[derive(Clone, Debug)]
pub struct NewReading {
    /// Its sequence.
    pub sequence: u64,
    /// Its interval.
    pub interval: Interval,
    /// Its bytes.
    pub signed: Signed<Reading>,
}

/// A reading to be sent now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Its point.
    pub point: String,
    /// Its sequence.
    pub sequence: i64,
    /// Its bytes.
    pub message: Vec<u8>,
    /// How often it was sent before.
    pub attempts: i64,
}

/// How much is not in the platform's books yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backlog {
    /// Readings waiting for the platform's word.
    pub waiting: i64,
    /// Start of the oldest one's interval.
    pub oldest_start: Option<Timestamp>,
    /// Readings that the platform refused.
    pub refused: i64,
}

/// The outbox of one gateway.
#[derive(Clone, Debug)]
pub struct Spool {
    db: Db,
    max_rows: i64,
}

fn as_i64(number: u64, point: &PointId) -> Result<i64, SpoolError> {
    i64::try_from(number).map_err(|_| SpoolError::Damaged {
        point: point.to_string(),
        reason: format!("sequence {number} is out of range"),
    })
}

impl Spool {
    /// Opens the outbox in `dir`.
    ///
    /// # Errors
    /// The database cannot be opened or brought up to date.
    pub async fn open(dir: &Path, max_rows: i64) -> Result<Self, SpoolError> {
        let path = dir.join(FILE);
        let db = Db::open(&path.to_string_lossy()).await?;
        db.migrate(&MIGRATIONS).await?;
        let spool = Spool { db, max_rows };
        spool.forget_sent().await?;
        Ok(spool)
    }

    /// The database, for what else a gateway must not forget.
    pub(crate) fn db(&self) -> Db {
        self.db.clone()
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// What the point's next reading continues from; a fresh start where nothing is stored.
    ///
    /// # Errors
    /// The database fails, or what it holds is damaged.
    pub async fn load(&self, point: &PointId) -> Result<PointState, SpoolError> {
        let row: Option<(i64, Vec<u8>, String)> = self
            .db
            .fetch_optional(sql::LOAD, args![point.as_str()])
            .await?;
        let Some((next_sequence, previous, state)) = row else {
            return Ok(PointState::default());
        };
        let damaged = |reason: String| SpoolError::Damaged {
            point: point.to_string(),
            reason,
        };
        let next_sequence = u64::try_from(next_sequence).map_err(|e| damaged(e.to_string()))?;
        let previous: [u8; 32] = previous
            .try_into()
            .map_err(|_| damaged("a digest has 32 bytes".into()))?;
        let measure = serde_json::from_str(&state).map_err(|e| damaged(e.to_string()))?;
        Ok(PointState {
            measure,
            chain: Chain {
                next_sequence,
                previous: Digest32(previous),
            },
        })
    }

    /// Writes a point's new state and the readings made on the way to it: both or neither.
    ///
    /// # Errors
    /// The outbox is full, or the database fails; then load the state again before going on.
    pub async fn store(
        &self,
        point: &PointId,
        state: &PointState,
        readings: &[NewReading],
    ) -> Result<(), SpoolError> {
        let measure = serde_json::to_string(&state.measure).map_err(|e| SpoolError::Damaged {
            point: point.to_string(),
            reason: e.to_string(),
        })?;
        let next_sequence = as_i64(state.chain.next_sequence, point)?;
        let previous = state.chain.previous.0.to_vec();
        let mut tx = self.db.begin().await?;
        let (count,): (i64,) = tx.fetch_one(sql::COUNT_OUTBOX, args![]).await?;
        let added = i64::try_from(readings.len()).unwrap_or(i64::MAX);
        if added > 0 && count.saturating_add(added) > self.max_rows {
            return Err(SpoolError::Full(count));
        }
        tx.execute(
            sql::SAVE,
            args![point.as_str(), next_sequence, previous, measure],
        )
        .await?;
        for reading in readings {
            let sequence = as_i64(reading.sequence, point)?;
            let (start_s, bytes) = (
                reading.interval.start_s(),
                reading.signed.as_bytes().to_vec(),
            );
            tx.execute(sql::ADD, args![point.as_str(), sequence, start_s, bytes])
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// What is to be sent at `now_ms`: no more than may be under way, and of what was sent more than
    /// once before [`REPEATS_MAX`].
    ///
    /// # Errors
    /// The database fails.
    pub async fn due(&self, now_ms: i64) -> Result<Vec<Outgoing>, SpoolError> {
        let (under_way,): (i64,) = self
            .db
            .fetch_one(sql::COUNT_UNDER_WAY, args![now_ms])
            .await?;
        let free = IN_FLIGHT_MAX - under_way;
        if free <= 0 {
            return Ok(Vec::new());
        }
        let rows: Vec<(String, i64, Vec<u8>, i64)> = self
            .db
            .fetch_all(sql::DUE, args![now_ms, RECENT_S, free])
            .await?;
        let outgoing = |(point, sequence, message, attempts)| Outgoing {
            point,
            sequence,
            message,
            attempts,
        };
        let mut repeats = 0;
        let due = rows.into_iter().map(outgoing).filter(|out| {
            repeats += usize::from(out.attempts > 1);
            out.attempts <= 1 || repeats <= REPEATS_MAX
        });
        Ok(due.collect())
    }

    /// Notes that these were sent at `now_ms`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn sent(&self, sent: &[Outgoing], now_ms: i64) -> Result<(), SpoolError> {
        let mut tx = self.db.begin().await?;
        for one in sent {
            let doublings = u32::try_from(one.attempts.clamp(0, 16)).unwrap_or(16);
            let wait_ms = (RETRY_MIN_MS << doublings).min(RETRY_MAX_MS);
            let due_ms = now_ms.saturating_add(wait_ms);
            let point = one.point.as_str();
            tx.execute(sql::SENT, args![point, one.sequence, now_ms, due_ms])
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Makes everything due: what was under way on a connection that broke may be lost.
    ///
    /// # Errors
    /// The database fails.
    pub async fn forget_sent(&self) -> Result<(), SpoolError> {
        let mut tx = self.db.begin().await?;
        tx.execute(sql::FORGET_SENT, args![]).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Does what the platform's verified word allows: deletes what is in its books, puts aside what
    /// it refused, and makes due what it misses. Returns what was put aside just now.
    ///
    /// # Errors
    /// The word is about readings that were never made here, or the database fails; then nothing is
    /// changed.
    pub async fn apply(
        &self,
        acceptance: &Verified<Acceptance>,
        now: Timestamp,
        now_ms: i64,
    ) -> Result<Vec<(u64, Rejection)>, SpoolError> {
        let word = acceptance.message();
        let point = word.point.as_str();
        let mut tx = self.db.begin().await?;
        check_age(&mut tx, word).await?;
        let mut refused = Vec::new();
        for (number, reason) in &word.rejected {
            let sequence = as_i64(*number, &word.point)?;
            let added = tx
                .execute(
                    sql::REFUSE,
                    args![point, sequence, reason.name(), now.unix_ms()],
                )
                .await?;
            if added > 0 {
                refused.push((*number, *reason));
            }
            tx.execute(sql::DELETE, args![point, sequence, sequence])
                .await?;
        }
        tx.execute(sql::TRIM_REFUSED, args![REFUSED_MAX_ROWS])
            .await?;
        if let Some(up_to) = word.accepted_up_to {
            delete_accepted(&mut tx, word, as_i64(up_to, &word.point)?).await?;
        }
        for (first, last) in &word.missing {
            let (first, last) = (as_i64(*first, &word.point)?, as_i64(*last, &word.point)?);
            let sent_before_ms = now_ms - RESEND_GRACE_MS;
            tx.execute(sql::MISSING, args![point, first, last, sent_before_ms])
                .await?;
        }
        tx.commit().await?;
        Ok(refused)
    }

    /// Number of readings waiting, and of readings refused.
    ///
    /// # Errors
    /// The database fails.
    pub async fn counts(&self) -> Result<(i64, i64), SpoolError> {
        let (waiting,): (i64,) = self.db.fetch_one(sql::COUNT_OUTBOX, args![]).await?;
        let (refused,): (i64,) = self.db.fetch_one(sql::COUNT_REFUSED, args![]).await?;
        Ok((waiting, refused))
    }

    /// How much waits, and for how long.
    ///
    /// # Errors
    /// The database fails.
    pub async fn backlog(&self) -> Result<Backlog, SpoolError> {
        let (waiting, oldest_s, refused): (i64, Option<i64>, i64) =
            self.db.fetch_one(sql::BACKLOG, args![]).await?;
        Ok(Backlog {
            waiting,
            oldest_start: oldest_s.map(Timestamp::from_unix_s),
            refused,
        })
    }

    /// The backlog of an outbox that no gateway has open; none where there is no outbox in `dir`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn look(dir: &Path) -> Result<Option<Backlog>, SpoolError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let db = Db::open(&path.to_string_lossy()).await?;
        let spool = Spool { db, max_rows: 0 };
        let backlog = spool.backlog().await;
        spool.close().await;
        backlog.map(Some)
    }

    /// The refused readings: point, sequence, reason.
    ///
    /// # Errors
    /// The database fails.
    pub async fn refused(&self) -> Result<Vec<(String, i64, String)>, SpoolError> {
        Ok(self.db.fetch_all(sql::REFUSED, args![]).await?)
    }
}

/// Refuses a word about sequences that were never made here: its readings are others than ours.
async fn check_age(tx: &mut Tx, word: &Acceptance) -> Result<(), SpoolError> {
    let rejected = word.rejected.iter().map(|(sequence, _)| *sequence);
    let known = rejected.chain(word.accepted_up_to).max().unwrap_or(0);
    let row: Option<(i64,)> = tx
        .fetch_optional(sql::NEXT_SEQUENCE, args![word.point.as_str()])
        .await?;
    let made = row.map_or(0, |(next,)| {
        u64::try_from(next).unwrap_or(0).saturating_sub(1)
    });
    if known <= made {
        return Ok(());
    }
    Err(SpoolError::Older {
        point: word.point.to_string(),
        known,
        made,
    })
}

/// Deletes up to `up_to`, except what the word calls missing.
async fn delete_accepted(tx: &mut Tx, word: &Acceptance, up_to: i64) -> Result<(), SpoolError> {
    let mut missing = Vec::new();
    for (first, last) in &word.missing {
        missing.push((as_i64(*first, &word.point)?, as_i64(*last, &word.point)?));
    }
    missing.sort_unstable();
    let mut from = 0;
    for (first, last) in missing {
        if from < first {
            let until = (first - 1).min(up_to);
            tx.execute(sql::DELETE, args![word.point.as_str(), from, until])
                .await?;
        }
        from = from.max(last.saturating_add(1));
    }
    tx.execute(sql::DELETE, args![word.point.as_str(), from, up_to])
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
