//! The durable outbox: signed readings and the state they were made from, written together, and kept
//! until the platform's signed word that they are in its books.
//!
//! Times in here are milliseconds of the running process, not of any clock: they say when to send
//! again, and are forgotten at each start.
//!
//! A full disk: nothing is deleted to make room. What cannot be stored has not happened, so no
//! intervals are made until there is room, and then one interpolated stretch covers the time between.
//! What is in the outbox is sent all the same; a receipt that cannot be noted is asked for again.

mod agenda;
mod sql;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::acceptance::Acceptance;
use domain::ids::{Digest32, KeyId, PointId};
use domain::reading::Reading;
use domain::rejection::Rejection;
use domain::signed::{Signed, Verified};
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::{Db, DbError, Tx, Value};

use crate::measure;
use crate::sign::Chain;
use agenda::{Agenda, Place};
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
pub const IN_FLIGHT_MAX: usize = 64;
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

impl SpoolError {
    /// Whether it may be about one of several points only, so that it helps to try each alone.
    #[must_use]
    pub fn may_spare_others(&self) -> bool {
        match self {
            SpoolError::Full(_) | SpoolError::Older { .. } | SpoolError::Damaged { .. } => true,
            SpoolError::Db(error) => error.is_unique_violation(),
        }
    }
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

/// A point, its new state, and the readings made on the way to it.
pub type NewState<'a> = (&'a PointId, &'a PointState, &'a [NewReading]);

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
    pub attempts: u32,
    /// Whether it is older than the last hour's: history is sent at a limited rate.
    pub is_history: bool,
}

/// A reading that the platform has refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Its point.
    pub point: PointId,
    /// Its sequence.
    pub sequence: u64,
    /// Why.
    pub reason: Rejection,
    /// The key that it is signed with; `None` where its bytes do not say.
    pub signer: Option<KeyId>,
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
    agenda: Arc<Mutex<Agenda>>,
    /// Held from a write to its note in the agenda, and while the agenda is read: so that no write is
    /// missing from what was read.
    gate: Arc<tokio::sync::Mutex<()>>,
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
        let spool = Spool {
            db,
            max_rows,
            agenda: Arc::default(),
            gate: Arc::default(),
        };
        spool.agenda().is_doubtful = true;
        spool.settle_doubts().await?;
        Ok(spool)
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its turn. After a write that failed the agenda is read again, because the write may
    /// have been done all the same.
    async fn gate(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, SpoolError> {
        let turn = self.gate.lock().await;
        let is_doubtful = self.agenda().is_doubtful;
        if is_doubtful {
            let rows = self.db.fetch_all(sql::PLACES, args![]).await?;
            self.agenda().replace(rows);
        }
        Ok(turn)
    }

    /// The same for who only looks at the agenda, and needs no turn where nothing is doubtful.
    async fn settle_doubts(&self) -> Result<(), SpoolError> {
        let is_doubtful = self.agenda().is_doubtful;
        if is_doubtful {
            let _turn = self.gate().await?;
        }
        Ok(())
    }

    /// The database, for what else a gateway must not forget.
    #[must_use]
    pub fn db(&self) -> Db {
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
        self.store_all(&[(point, state, readings)]).await
    }

    /// The same for several points, with one sync of the disk for all of them: all or nothing.
    ///
    /// # Errors
    /// See [`Spool::store`].
    pub async fn store_all(&self, points: &[NewState<'_>]) -> Result<(), SpoolError> {
        let _turn = self.gate().await?;
        let waiting = i64::try_from(self.agenda().len()).unwrap_or(i64::MAX);
        let added: usize = points.iter().map(|(_, _, readings)| readings.len()).sum();
        let added = i64::try_from(added).unwrap_or(i64::MAX);
        if added > 0 && waiting.saturating_add(added) > self.max_rows {
            return Err(SpoolError::Full(waiting));
        }
        let mut places = Vec::new();
        let written = self.write(points, &mut places).await;
        let mut agenda = self.agenda();
        match &written {
            Ok(()) => places
                .iter()
                .for_each(|(point, sequence, start_s)| agenda.add(point, *sequence, *start_s)),
            Err(SpoolError::Db(DbError::Commit(_))) => agenda.is_doubtful = true,
            Err(_) => {}
        }
        written
    }

    async fn write<'a>(
        &self,
        points: &'a [NewState<'a>],
        places: &mut Vec<(&'a str, i64, i64)>,
    ) -> Result<(), SpoolError> {
        let mut tx = self.db.begin().await?;
        for (point, state, readings) in points {
            let measure =
                serde_json::to_string(&state.measure).map_err(|e| SpoolError::Damaged {
                    point: point.to_string(),
                    reason: e.to_string(),
                })?;
            let next_sequence = as_i64(state.chain.next_sequence, point)?;
            let previous = state.chain.previous.0.to_vec();
            let row = args![point.as_str(), next_sequence, previous, measure];
            tx.execute(sql::SAVE, row).await?;
            for reading in *readings {
                let sequence = as_i64(reading.sequence, point)?;
                let start_s = reading.interval.start_s();
                let bytes = reading.signed.as_bytes().to_vec();
                tx.execute(sql::ADD, args![point.as_str(), sequence, start_s, bytes])
                    .await?;
                places.push((point.as_str(), sequence, start_s));
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// What is to be sent at `now_ms`: no more than may be under way, of history no more than
    /// `history_max`, and of what was sent more than once before [`REPEATS_MAX`].
    ///
    /// # Errors
    /// The database fails.
    pub async fn due(&self, now_ms: i64, history_max: usize) -> Result<Vec<Outgoing>, SpoolError> {
        self.settle_doubts().await?;
        let places: Vec<_> = {
            let agenda = self.agenda();
            let due = agenda.due(now_ms, history_max).into_iter();
            due.map(|(place, attempts)| (agenda.is_history(&place), place, attempts))
                .collect()
        };
        let wanted: Vec<&Place> = places.iter().map(|(_, place, _)| place).collect();
        let mut messages = self.messages(&wanted).await?;
        let mut due = Vec::with_capacity(places.len());
        for (is_history, place, attempts) in places {
            let (point, sequence) = (place.point.to_string(), place.sequence);
            let Some(((point, sequence), message)) = messages.remove_entry(&(point, sequence))
            else {
                continue;
            };
            due.push(Outgoing {
                point,
                sequence,
                message,
                attempts,
                is_history,
            });
        }
        Ok(due)
    }

    /// The signed bytes of these readings, as far as they are still here.
    async fn messages(
        &self,
        wanted: &[&Place],
    ) -> Result<BTreeMap<(String, i64), Vec<u8>>, SpoolError> {
        let mut messages = BTreeMap::new();
        for part in wanted.chunks(IN_FLIGHT_MAX) {
            let filled = part.iter().chain(part.last().into_iter().cycle());
            let args = filled
                .take(IN_FLIGHT_MAX)
                .flat_map(|place| [Value::from(&*place.point), Value::from(place.sequence)]);
            let rows: Vec<(String, i64, Vec<u8>)> = self
                .db
                .fetch_all(sql::MESSAGES.as_str(), args.collect())
                .await?;
            messages.extend(
                rows.into_iter()
                    .map(|(point, n, bytes)| ((point, n), bytes)),
            );
        }
        Ok(messages)
    }

    /// Notes that these were sent at `now_ms`.
    pub fn sent(&self, sent: &[Outgoing], now_ms: i64) {
        let mut agenda = self.agenda();
        for one in sent {
            agenda.sent(&one.point, one.sequence, now_ms);
        }
    }

    /// Notes that a reading that was sent has reached nobody: it is due as before.
    pub fn unsent(&self, point: &str, sequence: i64) {
        self.agenda().unsent(point, sequence);
    }

    /// Makes everything due: what was under way on a connection that broke may be lost.
    pub fn forget_sent(&self) {
        self.agenda().forget_sent();
    }

    /// Does what the platform's verified words allow, with one sync of the disk: deletes what is in its
    /// books, puts aside what it refused, and makes due what it misses. Returns what was put aside just
    /// now.
    ///
    /// # Errors
    /// A word is about readings that were never made here, or the database fails; then nothing is
    /// changed.
    pub async fn apply(
        &self,
        words: &[Verified<Acceptance>],
        now: Timestamp,
        now_ms: i64,
    ) -> Result<Vec<Refused>, SpoolError> {
        let _turn = self.gate().await?;
        let mut gone = Vec::new();
        let noted = self.note(words, now, &mut gone).await;
        let mut agenda = self.agenda();
        match &noted {
            Ok(_) => {
                for (point, first, last) in gone {
                    agenda.remove(point.as_str(), first, last);
                }
                for word in words.iter().map(Verified::message) {
                    for (first, last) in &word.missing {
                        let point = &word.point;
                        let (first, last) = (as_i64(*first, point)?, as_i64(*last, point)?);
                        agenda.missing(point.as_str(), first, last, now_ms);
                    }
                }
            }
            Err(SpoolError::Db(DbError::Commit(_))) => agenda.is_doubtful = true,
            Err(_) => {}
        }
        noted
    }

    /// Writes what words say; `gone` are the sequences that they delete.
    async fn note<'a>(
        &self,
        words: &'a [Verified<Acceptance>],
        now: Timestamp,
        gone: &mut Vec<(&'a PointId, i64, i64)>,
    ) -> Result<Vec<Refused>, SpoolError> {
        let mut tx = self.db.begin().await?;
        let mut refused = Vec::new();
        for word in words.iter().map(Verified::message) {
            check_age(&mut tx, word).await?;
            let (point, from) = (&word.point, gone.len());
            for (number, reason) in &word.rejected {
                let sequence = as_i64(*number, point)?;
                let row = args![point.as_str(), sequence, reason.name(), now.unix_ms()];
                if tx.execute(sql::REFUSE, row).await? > 0 {
                    refused.push(Refused {
                        point: point.clone(),
                        sequence: *number,
                        reason: *reason,
                        signer: refused_signer(&mut tx, point, sequence).await?,
                    });
                }
                gone.push((point, sequence, sequence));
            }
            if let Some(up_to) = word.accepted_up_to {
                let ranges = accepted(word, as_i64(up_to, point)?)?;
                gone.extend(ranges.into_iter().map(|(first, last)| (point, first, last)));
            }
            for (_, first, last) in gone.iter().skip(from) {
                tx.execute(sql::DELETE, args![point.as_str(), *first, *last])
                    .await?;
            }
        }
        if !refused.is_empty() {
            tx.execute(sql::TRIM_REFUSED, args![REFUSED_MAX_ROWS])
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
        self.settle_doubts().await?;
        let waiting = i64::try_from(self.agenda().len()).unwrap_or(i64::MAX);
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
        let spool = Spool {
            db,
            max_rows: 0,
            agenda: Arc::default(),
            gate: Arc::default(),
        };
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

/// The key that a refused reading is signed with.
async fn refused_signer(
    tx: &mut Tx,
    point: &PointId,
    sequence: i64,
) -> Result<Option<KeyId>, SpoolError> {
    let args = args![point.as_str(), sequence];
    let row: Option<(Vec<u8>,)> = tx.fetch_optional(sql::REFUSED_MESSAGE, args).await?;
    let signer = row.map(|(message,)| Signed::<Reading>::from_bytes(message).claimed_signer());
    Ok(signer.and_then(Result::ok))
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

/// The ranges up to `up_to`, except what the word calls missing.
fn accepted(word: &Acceptance, up_to: i64) -> Result<Vec<(i64, i64)>, SpoolError> {
    let mut missing = Vec::new();
    for (first, last) in &word.missing {
        missing.push((as_i64(*first, &word.point)?, as_i64(*last, &word.point)?));
    }
    missing.sort_unstable();
    let mut ranges = Vec::new();
    let mut from = 0;
    for (first, last) in missing {
        if from < first {
            ranges.push((from, (first - 1).min(up_to)));
        }
        from = from.max(last.saturating_add(1));
    }
    if from <= up_to {
        ranges.push((from, up_to));
    }
    Ok(ranges)
}

#[cfg(test)]
pub(crate) mod tests;
