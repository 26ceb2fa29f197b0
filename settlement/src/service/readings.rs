//! Readings into the books: verified, checked, kept with their bytes, and logged.

use domain::energy::Energy;
use domain::ids::{GatewayId, PointId};
use domain::key_record::{Holder, KeyRecord, PointRole};
use domain::reading::{Obis, Reading};
use domain::rejection::Rejection;
use domain::signed::{MESSAGE_MAX_BYTES, Signed, Verified};
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::Tx;

use super::answers::{advance, answer};
use super::error::{corrupt, stored};
use super::logs::append;
use super::neighbours::{handed_over_at, point_state};
use super::{Community, ServiceError, keys, note_interval, registry};
use crate::accept::{PointState, RegisteredPoint, Verdict, check};
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind};
use crate::store::LOCK;

/// Messages that nobody enrolled can be held to are kept for looking at, the newest so many.
pub const REFUSED_KEPT: i64 = 1024;
/// So many refused readings of a point are kept for good. From then on they are answered with
/// `rate_limited` and kept like messages of nobody; only their row without the message stays, so that it is not
/// missing and the gateway stops sending.
pub const REJECTED_KEPT: i64 = 10_000;

/// Sequences above this are refused: sums with them must fit where they are stored.
const SEQUENCE_MAX: u64 = 1 << 62;
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
    tx.exclusive(LOCK).await?;
    let signed = Signed::<Reading>::from_bytes(bytes);
    let authentic = match authenticate(tx, community, gateway_from_topic, &signed).await? {
        Ok(authentic) => authentic,
        Err(reason) => {
            keep_refused(tx, now, gateway_from_topic, signed.as_bytes(), reason).await?;
            return Ok(ReadingOutcome::Rejected {
                point: None,
                sequence: None,
                reason,
            });
        }
    };
    let Authentic {
        verified, point, ..
    } = &authentic;
    let (id, sequence) = (point.point.clone(), verified.message().sequence);
    let state = point_state(tx, verified).await?;
    let length_s = community.interval_length_s;
    let verdict = match check(verified, gateway_from_topic, point, &state, length_s, now) {
        Verdict::Accept(_) if authentic.early => Verdict::Reject(Rejection::TooLate),
        Verdict::Accept(_) if authentic.revoked => Verdict::Reject(Rejection::KeyRevoked),
        verdict => verdict,
    };
    let newest = authentic.newest_key;
    match verdict {
        Verdict::Again => {
            answer(tx, now, verified, newest, None).await?;
            Ok(ReadingOutcome::Again {
                point: id,
                sequence,
            })
        }
        Verdict::Accept(flags) => {
            keep_accepted(tx, community, now, point, verified, &flags).await?;
            answer(tx, now, verified, newest, None).await?;
            Ok(ReadingOutcome::Accepted {
                point: id,
                sequence,
                flags,
            })
        }
        Verdict::Reject(reason) => {
            let reason = if reason == Rejection::Future {
                // It claims nothing: the same bytes may be right when the time has come.
                keep_refused(tx, now, gateway_from_topic, signed.as_bytes(), reason).await?;
                reason
            } else {
                let kept = keep_rejected(tx, now, gateway_from_topic, verified, &state, reason);
                let reason = kept.await?;
                answer(tx, now, verified, newest, Some(reason)).await?;
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
    tx: &mut Tx,
    now: Timestamp,
    gateway: &GatewayId,
    verified: &Verified<Reading>,
    state: &PointState,
    reason: Rejection,
) -> Result<Rejection, ServiceError> {
    if reason == Rejection::Equivocation {
        keep_evidence(tx, now, verified).await?;
        return Ok(reason);
    }
    if state.same.is_some() {
        return Ok(reason);
    }
    let count = count(tx, &format!("rejected/{}", verified.message().point)).await?;
    let reason = if count > REJECTED_KEPT {
        let bytes = verified.signed().as_bytes();
        keep_refused(tx, now, gateway, bytes, Rejection::RateLimited).await?;
        Rejection::RateLimited
    } else {
        reason
    };
    insert(tx, now, verified, Fate::Refused(reason)).await?;
    Ok(reason)
}

/// A reading whose signer may speak for its point.
struct Authentic {
    verified: Verified<Reading>,
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
async fn authenticate(
    tx: &mut Tx,
    community: &Community,
    gateway: &GatewayId,
    signed: &Signed<Reading>,
) -> Result<Result<Authentic, Rejection>, ServiceError> {
    let kid = match signed.claimed_signer() {
        Ok(kid) => kid,
        Err(error) => return Ok(Err(Rejection::from(&error))),
    };
    let Some(key) = registry::key(tx, kid).await? else {
        return Ok(Err(Rejection::UnknownKey));
    };
    let verified = match signed.verify(key.public, &community.id) {
        Ok(verified) => verified,
        Err(error) => return Ok(Err(Rejection::from(&error))),
    };
    let reading = verified.message();
    let interval = reading.interval;
    if key.gateway.as_ref() != Some(gateway) {
        return Ok(Err(Rejection::WrongNetwork));
    }
    if reading.sequence > SEQUENCE_MAX {
        return Ok(Err(Rejection::Implausible));
    }
    if let Some(at) = key.replaced {
        // A chain that was handed over ends by sequence, whatever the clock did meanwhile; but who
        // names a sequence far ahead keeps no key alive with it.
        let ended = match handed_over_at(tx, &reading.point, kid).await? {
            Some(first) => {
                stored(reading.sequence)? >= first
                    || interval.start() >= at.plus_s(HANDOVER_SLACK_S)
            }
            None => interval.start() >= at,
        };
        if ended {
            return Ok(Err(Rejection::KeyRevoked));
        }
    }
    let point = registry::point(tx, &reading.point).await?;
    let Some(point) = point.filter(|p| p.gateway == *gateway) else {
        return Ok(Err(Rejection::WrongNetwork));
    };
    let then = registry::record_at(tx, community, kid, interval.end()).await?;
    let early = !then.is_some_and(|record| names(&record, &point.point));
    if early {
        let last = Timestamp::from_unix_ms(i64::MAX);
        let now = registry::record_at(tx, community, kid, last).await?;
        if !now.is_some_and(|record| names(&record, &point.point)) {
            return Ok(Err(Rejection::WrongNetwork));
        }
    }
    let revoked = keys::covered_by_revocation(tx, kid, reading.sequence, interval).await?;
    Ok(Ok(Authentic {
        revoked,
        newest_key: key.replaced.is_none(),
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

async fn keep_accepted(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    point: &RegisteredPoint,
    verified: &Verified<Reading>,
    flags: &[Rejection],
) -> Result<(), ServiceError> {
    let interval = verified.message().interval;
    let content = verified.signed().as_bytes();
    let salt = registry::salt(tx, point.participant.as_ref(), content).await?;
    let entry = Entry::new(Kind::Reading, interval.start(), salt, content);
    let index = append(tx, Log::Readings, &[entry]).await?;
    insert(
        tx,
        now,
        verified,
        Fate::Accepted {
            flags,
            log_index: index,
        },
    )
    .await?;
    note_interval(tx, community, interval).await?;
    if point.role != PointRole::Submeter {
        count_reading(tx, interval).await?;
    }
    Ok(())
}

/// Counts a settled point's reading; when all are in, the provisional run need not wait.
async fn count_reading(tx: &mut Tx, interval: Interval) -> Result<(), ServiceError> {
    let start_s = interval.start_s();
    tx.execute(
        "UPDATE settle_intervals SET readings = readings + 1 WHERE start_s = $1",
        args![start_s],
    )
    .await?;
    let Some((_, due)) = crate::run::next(interval, None, true) else {
        return Ok(());
    };
    tx.execute(
        "UPDATE settle_intervals SET due_s = $1 WHERE start_s = $2 AND done IS NULL AND readings >=
         (SELECT COUNT(*) FROM settle_points WHERE role <> $3 AND since_ms <= $4)",
        args![
            due.unix_s(),
            start_s,
            registry::role_code(PointRole::Submeter),
            interval.end().unix_ms()
        ],
    )
    .await?;
    Ok(())
}

/// What becomes of an authentic reading.
enum Fate<'a> {
    Accepted {
        flags: &'a [Rejection],
        log_index: i64,
    },
    Refused(Rejection),
}

async fn insert(
    tx: &mut Tx,
    now: Timestamp,
    verified: &Verified<Reading>,
    fate: Fate<'_>,
) -> Result<(), ServiceError> {
    let reading = verified.message();
    let (reason, flags, log_index) = match fate {
        Fate::Accepted { flags, log_index } => (None, flags, Some(log_index)),
        Fate::Refused(reason) => (Some(reason.name().to_owned()), &[][..], None),
    };
    let flags: Vec<&str> = flags.iter().map(|flag| flag.name()).collect();
    let mut registers = Vec::new();
    minicbor::encode(&reading.registers, &mut registers)
        .map_err(|_| corrupt("registers cannot be encoded"))?;
    let bytes = match reason.as_deref() {
        Some(name) if name == Rejection::RateLimited.name() => &[],
        _ => verified.signed().as_bytes(),
    };
    let counted = |obis| reading.energy(obis).unwrap_or(Energy::ZERO).wh();
    tx.execute(
        "INSERT INTO settle_readings (point, sequence, digest, reason, flags, start_s, length_s, era,
         registers, imported_wh, exported_wh, quality, kid, received_ms, bytes, log_index)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        args![
            reading.point.as_str(),
            stored(reading.sequence)?,
            verified.digest().0,
            reason,
            flags.join(","),
            reading.interval.start_s(),
            reading.interval.length_s(),
            reading.era,
            registers,
            counted(Obis::IMPORT),
            counted(Obis::EXPORT),
            i64::from(reading.quality.bits()),
            verified.signer().0,
            now.unix_ms(),
            bytes,
            log_index
        ],
    )
    .await?;
    advance(tx, verified).await
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
    tx: &mut Tx,
    now: Timestamp,
    gateway: &GatewayId,
    bytes: &[u8],
    reason: Rejection,
) -> Result<(), ServiceError> {
    let count = count(tx, "refused").await?;
    let kept = &bytes[..bytes.len().min(MESSAGE_MAX_BYTES)];
    tx.execute(
        "INSERT INTO settle_refused (slot, at_ms, gateway, reason, bytes)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (slot) DO UPDATE SET at_ms = excluded.at_ms,
         gateway = excluded.gateway, reason = excluded.reason, bytes = excluded.bytes",
        args![
            count % REFUSED_KEPT,
            now.unix_ms(),
            gateway.as_str(),
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
