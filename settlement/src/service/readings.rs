//! Readings into the books: verified, checked, kept with their bytes, and logged.

use std::sync::LazyLock;

use domain::ids::{GatewayId, PointId};
use domain::key_record::{Holder, KeyRecord, PointRole};
use domain::reading::Reading;
use domain::rejection::Rejection;
use domain::signed::{MESSAGE_MAX_BYTES, Verified};
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::{Args, Listed, Tx};

use super::answers::answer;
use super::batch::{Batch, Fate, small_sequence};
use super::error::{corrupt, stored};
use super::neighbours::handed_over_at;
use super::signatures::Arrived;
use super::{Community, ServiceError, registry};
use crate::accept::{PointState, RegisteredPoint, Verdict, check};
use crate::store::LOCK;

/// Messages that nobody enrolled can be held to are kept for looking at, the newest so many.
pub const REFUSED_KEPT: i64 = 1024;
/// So many refused readings of a point are kept for good. From then on they are answered with
/// `rate_limited` and kept like messages of nobody; only their row without the message stays, so that it is not
/// missing and the gateway stops sending.
pub const REJECTED_KEPT: i64 = 10_000;

/// Longest time after a handover for which the old key's readings may be, whatever sequence it named: a day
/// for wrong clocks.
const HANDOVER_SLACK_S: i64 = 86_400;

/// What became of a reading.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadingOutcome {
    /// In the books now.
    Accepted {
        /// Its point.
        point: PointId,
        /// Its sequence.
        sequence: u64,
        /// What is doubtful about it all the same.
        flags: Vec<Rejection>,
    },
    /// In the books before, with the same bytes.
    Again {
        /// Its point.
        point: PointId,
        /// Its sequence.
        sequence: u64,
    },
    /// Not in the books.
    Rejected {
        /// The point it claims, where it could be read.
        point: Option<PointId>,
        /// The sequence it claims, where it could be read.
        sequence: Option<u64>,
        /// Why.
        reason: Rejection,
    },
}

/// Takes a signed reading that arrived from `gateway_from_topic` into the books, or keeps it with the
/// reason why not.
///
/// # Errors
/// The database failed. A reading that is refused is no error.
pub async fn accept_reading(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    gateway_from_topic: &GatewayId,
    bytes: Vec<u8>,
) -> Result<ReadingOutcome, ServiceError> {
    let mut arrived = [Arrived::new(gateway_from_topic.clone(), bytes)];
    let outcomes = accept_readings(tx, community, now, &mut arrived).await?;
    let outcome = outcomes.into_iter().next();
    outcome.ok_or_else(|| corrupt("a reading without an outcome"))
}

/// [`accept_reading`] for many, in their order, with few statements for all of them. The outcomes have their order.
///
/// # Errors
/// The database failed; then the transaction must not be committed. A reading that is refused is no error.
pub async fn accept_readings(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    readings: &mut [Arrived],
) -> Result<Vec<ReadingOutcome>, ServiceError> {
    tx.exclusive(LOCK).await?;
    let mut batch = Batch::of(tx, community, now, readings).await?;
    let mut outcomes = Vec::with_capacity(readings.len());
    for reading in &*readings {
        outcomes.push(take(&mut batch, reading).await?);
    }
    batch.write().await?;
    Ok(outcomes)
}

async fn take(batch: &mut Batch<'_>, arrived: &Arrived) -> Result<ReadingOutcome, ServiceError> {
    let authentic = match authenticate(batch, arrived).await? {
        Ok(authentic) => authentic,
        Err(reason) => {
            keep_refused(batch, arrived, reason).await?;
            return Ok(ReadingOutcome::Rejected {
                point: None,
                sequence: None,
                reason,
            });
        }
    };
    let Authentic {
        verified,
        point,
        newest_key,
        ..
    } = &authentic;
    let (id, sequence) = (point.point.clone(), verified.message().sequence);
    let state = batch.state(verified).await?;
    let (gateway, length_s) = (&arrived.gateway, batch.community.interval_length_s);
    let verdict = match check(verified, gateway, point, &state, length_s, batch.now) {
        Verdict::Accept(_) if authentic.early => Verdict::Reject(Rejection::TooLate),
        Verdict::Accept(_) if authentic.revoked => Verdict::Reject(Rejection::KeyRevoked),
        verdict => verdict,
    };
    match verdict {
        Verdict::Again => {
            answer(batch, verified, *newest_key, None).await?;
            Ok(ReadingOutcome::Again {
                point: id,
                sequence,
            })
        }
        Verdict::Accept(flags) => {
            batch.accept(point, verified, &flags).await?;
            answer(batch, verified, *newest_key, None).await?;
            Ok(ReadingOutcome::Accepted {
                point: id,
                sequence,
                flags,
            })
        }
        Verdict::Reject(reason) => {
            let reason = if reason == Rejection::Future {
                // It claims nothing: the same bytes may be right when the time has come.
                keep_refused(batch, arrived, reason).await?;
                reason
            } else {
                let reason = keep_rejected(batch, arrived, verified, &state, reason).await?;
                answer(batch, verified, *newest_key, Some(reason)).await?;
                reason
            };
            Ok(ReadingOutcome::Rejected {
                point: Some(id),
                sequence: Some(sequence),
                reason,
            })
        }
    }
}

/// Keeps an authentic reading that was refused, once, and returns the reason to give.
async fn keep_rejected(
    batch: &mut Batch<'_>,
    arrived: &Arrived,
    verified: &Verified<Reading>,
    state: &PointState,
    reason: Rejection,
) -> Result<Rejection, ServiceError> {
    if reason == Rejection::Equivocation {
        batch.write().await?;
        keep_evidence(batch.tx, batch.now, verified).await?;
        return Ok(reason);
    }
    if state.same.is_some() {
        return Ok(reason);
    }
    let name = format!("rejected/{}", verified.message().point);
    let reason = if count(batch.tx, &name).await? > REJECTED_KEPT {
        keep_refused(batch, arrived, Rejection::RateLimited).await?;
        Rejection::RateLimited
    } else {
        reason
    };
    batch.insert(verified, Fate::Refused(reason)).await?;
    Ok(reason)
}

/// A reading whose signer may speak for its point.
struct Authentic<'r> {
    verified: &'r Verified<Reading>,
    point: RegisteredPoint,
    /// Whether the key is the newest of its gateway.
    newest_key: bool,
    /// Whether the interval was over before the key was enrolled for the point.
    early: bool,
    /// Whether the reading is beyond the point from which the key is revoked. What was accepted before
    /// stays accepted when it comes again.
    revoked: bool,
}

/// Who signed, and whether that key may sign for this point: before anything is looked up by content.
async fn authenticate<'r>(
    batch: &mut Batch<'_>,
    arrived: &'r Arrived,
) -> Result<Result<Authentic<'r>, Rejection>, ServiceError> {
    let kid = match arrived.claimed {
        Ok(kid) => kid,
        Err(reason) => return Ok(Err(reason)),
    };
    let (Some(key), Some(verified)) = (batch.keys.get(&kid), arrived.verified()) else {
        return Ok(Err(Rejection::UnknownKey));
    };
    let verified = match verified {
        Ok(verified) => verified,
        Err(error) => return Ok(Err(Rejection::from(error))),
    };
    let reading = verified.message();
    let interval = reading.interval;
    if key.gateway.as_ref() != Some(&arrived.gateway) {
        return Ok(Err(Rejection::WrongNetwork));
    }
    let Some(sequence) = small_sequence(reading.sequence) else {
        return Ok(Err(Rejection::Implausible));
    };
    let replaced = key.replaced;
    if let Some(at) = replaced {
        // A chain that was handed over ends by sequence, whatever the clock did meanwhile; but who
        // names a sequence far ahead keeps no key alive with it.
        let ended = match handed_over_at(batch.tx, &reading.point, kid).await? {
            Some(first) => sequence >= first || interval.start() >= at.plus_s(HANDOVER_SLACK_S),
            None => interval.start() >= at,
        };
        if ended {
            return Ok(Err(Rejection::KeyRevoked));
        }
    }
    let Some(point) = batch.point_of(&reading.point, &arrived.gateway) else {
        return Ok(Err(Rejection::WrongNetwork));
    };
    let then = batch.record(kid, interval);
    let early = !then.is_some_and(|record| names(record, &point.point));
    if early {
        let last = Timestamp::from_unix_ms(i64::MAX);
        let now = registry::record_at(batch.tx, batch.community, kid, last).await?;
        if !now.is_some_and(|record| names(&record, &point.point)) {
            return Ok(Err(Rejection::WrongNetwork));
        }
    }
    Ok(Ok(Authentic {
        revoked: batch.is_revoked(kid, sequence, interval),
        newest_key: replaced.is_none(),
        verified,
        point,
        early,
    }))
}

fn names(record: &KeyRecord, point: &PointId) -> bool {
    match &record.holder {
        Holder::Gateway { points, .. } => points.iter().any(|p| p.point == *point),
        Holder::Participant(_) => false,
    }
}

/// Keeps how many readings of settled points came; when all are in, the provisional run need not wait. How many points
/// there are is all but submeters and those that came later: SQLite counts a whole table by its pages, and goes through
/// these alone one by one.
pub(super) static COUNTED: LazyLock<Listed> = LazyLock::new(|| {
    let [connection, feeder, submeter] = [
        PointRole::Connection,
        PointRole::Feeder,
        PointRole::Submeter,
    ]
    .map(registry::role_code);
    let update = format!(
        "UPDATE settle_intervals SET readings = asked.readings, due_s = CASE
         WHEN settle_intervals.done IS NULL AND asked.readings >= (SELECT COUNT(*) FROM settle_points)
         - (SELECT COUNT(*) FROM settle_points WHERE role = {submeter})
         - (SELECT COUNT(*) FROM settle_points WHERE role IN ({connection}, {feeder}) AND since_ms > asked.end_ms)
         THEN COALESCE(asked.due_s, settle_intervals.due_s) ELSE settle_intervals.due_s END
         FROM asked WHERE settle_intervals.start_s = asked.start_s"
    );
    Listed::over(
        "asked",
        &["start_s", "end_ms", "readings", "due_s"],
        &update,
    )
});

/// A row of [`COUNTED`].
pub(super) fn counted(interval: Interval, readings: i64) -> Args {
    let due = crate::run::next(interval, None, true).map(|(_, due)| due.unix_s());
    args![interval.start_s(), interval.end().unix_ms(), readings, due]
}

/// Two messages under one sequence, each with the key's signature, are proof against the key. One such
/// pair for a sequence is enough.
async fn keep_evidence(
    tx: &mut Tx,
    now: Timestamp,
    second: &Verified<Reading>,
) -> Result<(), ServiceError> {
    let reading = second.message();
    tx.execute(
        "INSERT INTO settle_evidence (point, kid, sequence, first, second, at_ms)
         SELECT point, kid, sequence, bytes, $4, $5 FROM settle_readings
         WHERE point = $1 AND kid = $2 AND sequence = $3 AND LENGTH(bytes) > 0
         ON CONFLICT (point, kid, sequence) DO NOTHING",
        args![
            reading.point.as_str(),
            second.signer().0,
            stored(reading.sequence)?,
            second.signed().as_bytes(),
            now.unix_ms()
        ],
    )
    .await?;
    Ok(())
}

/// Keeps a message of no proven origin in a ring: a flood of them overwrites itself, not the disk.
async fn keep_refused(
    batch: &mut Batch<'_>,
    arrived: &Arrived,
    reason: Rejection,
) -> Result<(), ServiceError> {
    let count = count(batch.tx, "refused").await?;
    let bytes = arrived.signed.as_bytes();
    let kept = &bytes[..bytes.len().min(MESSAGE_MAX_BYTES)];
    batch
        .tx
        .execute(
            "INSERT INTO settle_refused (slot, at_ms, gateway, reason, bytes)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (slot) DO UPDATE SET at_ms = excluded.at_ms,
             gateway = excluded.gateway, reason = excluded.reason, bytes = excluded.bytes",
            args![
                count % REFUSED_KEPT,
                batch.now.unix_ms(),
                arrived.gateway.as_str(),
                reason.name(),
                kept
            ],
        )
        .await?;
    Ok(())
}

/// Counts one more under a name, and returns how many there are.
async fn count(tx: &mut Tx, name: &str) -> Result<i64, ServiceError> {
    let (count,): (i64,) = tx
        .fetch_one(
            "INSERT INTO settle_counters (name, value) VALUES ($1, 1)
             ON CONFLICT (name) DO UPDATE SET value = settle_counters.value + 1 RETURNING value",
            args![name],
        )
        .await?;
    Ok(count)
}
