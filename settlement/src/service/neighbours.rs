//! What the books know around a reading: whether its sequence is used, and which readings it lies between.

use domain::ids::{Digest32, KeyId, PointId};
use domain::reading::{Reading, Register};
use domain::rejection::Rejection;
use domain::signed::Verified;
use domain::time::Interval;
use runtime::args;
use runtime::db::Tx;

use super::error::{corrupt, decoded, number, stored};
use super::{ServiceError, registry};
use crate::accept::{Accepted, PointState};

/// The longest interval: its length divides the hour.
const INTERVAL_MAX_S: i64 = 3600;

/// What is known around a reading. Sequences count for each signing key by itself.
pub(super) async fn point_state(
    tx: &mut Tx,
    verified: &Verified<Reading>,
) -> Result<PointState, ServiceError> {
    let reading = verified.message();
    let (point, sequence) = (reading.point.as_str(), stored(reading.sequence)?);
    let kid = verified.signer().0;
    let before: Option<AcceptedRow> = tx
        .fetch_optional(
            "SELECT sequence, start_s, length_s, registers, era, digest FROM settle_readings
             WHERE point = $1 AND kid = $2 AND sequence < $3 AND reason IS NULL
             ORDER BY sequence DESC LIMIT 1",
            args![point, kid, sequence],
        )
        .await?;
    let before = match before {
        Some(before) => Some(before),
        None => chained_to(tx, verified).await?,
    };
    let after: Option<AcceptedRow> = tx
        .fetch_optional(
            "SELECT sequence, start_s, length_s, registers, era, digest FROM settle_readings
             WHERE point = $1 AND kid = $2 AND sequence > $3 AND reason IS NULL
             ORDER BY sequence LIMIT 1",
            args![point, kid, sequence],
        )
        .await?;
    let covering: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT start_s FROM settle_readings WHERE point = $1 AND kid <> $2 AND reason IS NULL
             AND start_s > $3 AND start_s < $4 AND start_s + length_s > $5 LIMIT 1",
            args![
                point,
                kid,
                reading.interval.start_s() - INTERVAL_MAX_S,
                reading.interval.end().unix_s(),
                reading.interval.start_s()
            ],
        )
        .await?;
    let (handover, elsewhere) = match before {
        Some(_) => (None, false),
        None => (
            handover_to(tx, verified).await?,
            has_other_keys(tx, verified).await?,
        ),
    };
    Ok(PointState {
        handover,
        elsewhere,
        same: same(tx, verified).await?,
        before: before.map(accepted).transpose()?,
        after: after.map(accepted).transpose()?,
        covered: covering.is_some(),
    })
}

async fn same(
    tx: &mut Tx,
    verified: &Verified<Reading>,
) -> Result<Option<(Digest32, Option<Rejection>)>, ServiceError> {
    let reading = verified.message();
    let row: Option<(Vec<u8>, Option<String>)> = tx
        .fetch_optional(
            "SELECT digest, reason FROM settle_readings
             WHERE point = $1 AND kid = $2 AND sequence = $3",
            args![
                reading.point.as_str(),
                verified.signer().0,
                stored(reading.sequence)?
            ],
        )
        .await?;
    let Some((digest, reason)) = row else {
        return Ok(None);
    };
    let reason = reason.map(|name| {
        Rejection::from_name(&name).ok_or_else(|| corrupt("a rejection has no known name"))
    });
    Ok(Some((registry::digest(&digest)?, reason.transpose()?)))
}

/// The first reading under a new key goes on where an older key ended, if it names that reading's digest;
/// a gateway that lost its disk cannot, and begins anew.
async fn chained_to(
    tx: &mut Tx,
    verified: &Verified<Reading>,
) -> Result<Option<AcceptedRow>, ServiceError> {
    let reading = verified.message();
    let row = tx.fetch_optional(
        "SELECT sequence, start_s, length_s, registers, era, digest FROM settle_readings
         WHERE point = $1 AND kid <> $2 AND sequence = $3 AND digest = $4 AND reason IS NULL LIMIT 1",
        args![
            reading.point.as_str(),
            verified.signer().0,
            stored(reading.sequence)? - 1,
            reading.previous.0
        ],
    );
    Ok(row.await?)
}

/// Where this key took up the point's chain, by the word of the key before it.
async fn handover_to(
    tx: &mut Tx,
    verified: &Verified<Reading>,
) -> Result<Option<(u64, Digest32)>, ServiceError> {
    let row: Option<(i64, Vec<u8>)> = tx
        .fetch_optional(
            "SELECT first_sequence, previous FROM settle_handovers WHERE point = $1 AND kid = $2",
            args![verified.message().point.as_str(), verified.signer().0],
        )
        .await?;
    let Some((first, previous)) = row else {
        return Ok(None);
    };
    Ok(Some((
        number(first, "a sequence")?,
        registry::digest(&previous)?,
    )))
}

/// The first sequence that is not this key's any more, where it has handed the point over.
pub(super) async fn handed_over_at(
    tx: &mut Tx,
    point: &PointId,
    kid: KeyId,
) -> Result<Option<i64>, ServiceError> {
    let row: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT MIN(first_sequence) FROM settle_handovers WHERE point = $1 AND old_kid = $2
             HAVING COUNT(*) > 0",
            args![point.as_str(), kid.0],
        )
        .await?;
    Ok(row.map(|(first,)| first))
}

/// Whether readings of the point are in the books under another key.
async fn has_other_keys(tx: &mut Tx, verified: &Verified<Reading>) -> Result<bool, ServiceError> {
    let row: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT sequence FROM settle_readings
             WHERE point = $1 AND kid <> $2 AND reason IS NULL LIMIT 1",
            args![verified.message().point.as_str(), verified.signer().0],
        )
        .await?;
    Ok(row.is_some())
}

type AcceptedRow = (i64, i64, i64, Vec<u8>, i64, Vec<u8>);

fn accepted(row: AcceptedRow) -> Result<Accepted, ServiceError> {
    let (sequence, start_s, length_s, registers, era, digest) = row;
    Ok(Accepted {
        sequence: number(sequence, "a sequence")?,
        interval: Interval::new(start_s, number(length_s, "an interval's length")?)?,
        registers: decoded::<Vec<Register>>(&registers, "registers")?,
        era: number(era, "an era")?,
        digest: registry::digest(&digest)?,
    })
}
