//! Readings into the books: verified, checked, kept with their bytes, and logged.

use domain::energy::Energy;
use domain::ids::{GatewayId, PointId};
use domain::key_record::PointRole;
use domain::reading::{Obis, Reading, Register};
use domain::rejection::Rejection;
use domain::signed::{MESSAGE_MAX_BYTES, Signed, Verified};
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::Tx;

use super::error::{corrupt, number, stored};
use super::logs::append;
use super::registry::{self, EnrolledKey};
use super::{Community, ServiceError, note_interval};
use crate::accept::{Accepted, PointState, RegisteredPoint, Verdict, check};
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind};
use crate::store::LOCK;

/// Messages that nobody enrolled can be held to are kept for looking at, the newest so many.
pub const REFUSED_KEPT: i64 = 1024;
/// So many refused readings of a point are kept for good; from then on they are answered with
/// `rate_limited` and kept like messages of nobody.
pub const REJECTED_KEPT: i64 = 10_000;

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
    let (verified, point) = match authenticate(tx, community, gateway_from_topic, &signed).await? {
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
    let sequence = verified.message().sequence;
    let id = point.point.clone();
    let state = point_state(tx, &verified).await?;
    let length_s = community.interval_length_s;
    let verdict = check(&verified, gateway_from_topic, &point, &state, length_s, now);
    match verdict {
        Verdict::Again => Ok(ReadingOutcome::Again {
            point: id,
            sequence,
        }),
        Verdict::Accept(flags) => {
            keep_accepted(tx, community, now, &point, &verified, &flags).await?;
            Ok(ReadingOutcome::Accepted {
                point: id,
                sequence,
                flags,
            })
        }
        Verdict::Reject(reason) => {
            let reason =
                keep_rejected(tx, now, gateway_from_topic, &verified, &state, reason).await?;
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
    if count > REJECTED_KEPT {
        let bytes = verified.signed().as_bytes();
        keep_refused(tx, now, gateway, bytes, Rejection::RateLimited).await?;
        return Ok(Rejection::RateLimited);
    }
    insert(tx, now, verified, Fate::Refused(reason)).await?;
    Ok(reason)
}

type Authentic = (Verified<Reading>, RegisteredPoint);

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
    if key.gateway.as_ref() != Some(gateway) {
        return Ok(Err(Rejection::WrongNetwork));
    }
    if !valid_for(&key, reading.interval) {
        return Ok(Err(Rejection::KeyRevoked));
    }
    if i64::try_from(reading.sequence).is_err() {
        return Ok(Err(Rejection::Implausible));
    }
    let point = registry::point(tx, &reading.point)
        .await?
        .filter(|p| p.gateway == *gateway);
    Ok(point
        .map(|point| (verified, point))
        .ok_or(Rejection::WrongNetwork))
}

fn valid_for(key: &EnrolledKey, interval: Interval) -> bool {
    key.valid_from <= interval.end() && key.replaced.is_none_or(|at| interval.start() < at)
}

async fn point_state(
    tx: &mut Tx,
    verified: &Verified<Reading>,
) -> Result<PointState, ServiceError> {
    let reading = verified.message();
    let (point, sequence) = (reading.point.as_str(), stored(reading.sequence)?);
    let same: Option<(Vec<u8>, Option<String>)> = tx
        .fetch_optional(
            "SELECT digest, reason FROM settle_readings WHERE point = $1 AND sequence = $2",
            args![point, sequence],
        )
        .await?;
    let same = match same {
        Some((digest, reason)) => {
            let reason = reason.map(|name| {
                Rejection::from_name(&name).ok_or_else(|| corrupt("a rejection has no known name"))
            });
            Some((registry::digest(&digest)?, reason.transpose()?))
        }
        None => None,
    };
    let before: Option<AcceptedRow> = tx
        .fetch_optional(
            "SELECT sequence, start_s, length_s, registers, era, digest FROM settle_readings
             WHERE point = $1 AND sequence < $2 AND reason IS NULL ORDER BY sequence DESC LIMIT 1",
            args![point, sequence],
        )
        .await?;
    let after: Option<AcceptedRow> = tx
        .fetch_optional(
            "SELECT sequence, start_s, length_s, registers, era, digest FROM settle_readings
             WHERE point = $1 AND sequence > $2 AND reason IS NULL ORDER BY sequence LIMIT 1",
            args![point, sequence],
        )
        .await?;
    Ok(PointState {
        same,
        before: before.map(accepted).transpose()?,
        after: after.map(accepted).transpose()?,
    })
}

type AcceptedRow = (i64, i64, i64, Vec<u8>, i64, Vec<u8>);

fn accepted(row: AcceptedRow) -> Result<Accepted, ServiceError> {
    let (sequence, start_s, length_s, registers, era, digest) = row;
    Ok(Accepted {
        sequence: number(sequence, "a sequence")?,
        interval: Interval::new(start_s, number(length_s, "an interval's length")?)?,
        registers: super::error::decoded::<Vec<Register>>(&registers, "registers")?,
        era: number(era, "an era")?,
        digest: registry::digest(&digest)?,
    })
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
            verified.signed().as_bytes(),
            log_index
        ],
    )
    .await?;
    Ok(())
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
        "INSERT INTO settle_evidence (point, sequence, first, second, at_ms)
         SELECT point, sequence, bytes, $3, $4 FROM settle_readings
         WHERE point = $1 AND sequence = $2 ON CONFLICT (point, sequence) DO NOTHING",
        args![
            reading.point.as_str(),
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
