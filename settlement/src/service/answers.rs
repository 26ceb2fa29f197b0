//! What was answered to a point's readings, kept so that an acceptance need not look at all of them.

use domain::reading::Reading;
use domain::rejection::Rejection;
use domain::signed::Verified;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Tx;

use super::ServiceError;
use super::error::stored;

/// Sequences that are looked at together when a gap closes.
const CLIMB: i64 = 256;

/// Keeps the last answer to a reading; a yes to the gateway's newest key needs no record. Of two keys that
/// used the same sequence, the newest one's answer stays.
pub(super) async fn answer(
    tx: &mut Tx,
    now: Timestamp,
    verified: &Verified<Reading>,
    newest_key: bool,
    reason: Option<Rejection>,
) -> Result<(), ServiceError> {
    let reading = verified.message();
    let (point, sequence) = (reading.point.as_str(), stored(reading.sequence)?);
    if newest_key && reason.is_none() {
        tx.execute(
            "DELETE FROM settle_answers WHERE point = $1 AND sequence = $2",
            args![point, sequence],
        )
        .await?;
        return Ok(());
    }
    tx.execute(
        "INSERT INTO settle_answers (point, sequence, kid, reason, asked_ms)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (point, sequence) DO UPDATE SET
         kid = excluded.kid, reason = excluded.reason, asked_ms = excluded.asked_ms
         WHERE CAST($6 AS BIGINT) = 1 OR settle_answers.kid = excluded.kid",
        args![
            point,
            sequence,
            verified.signer().0,
            reason.map(|reason| reason.name().to_owned()),
            now.unix_ms(),
            i64::from(newest_key)
        ],
    )
    .await?;
    Ok(())
}

/// Moves on how far the key's readings of the point are known without a gap, after one was inserted.
pub(super) async fn advance(tx: &mut Tx, verified: &Verified<Reading>) -> Result<(), ServiceError> {
    let reading = verified.message();
    let (point, sequence) = (reading.point.as_str(), stored(reading.sequence)?);
    let kid = verified.signer().0;
    let known: Option<(i64, i64)> = tx
        .fetch_optional(
            "SELECT first, up_to FROM settle_progress WHERE point = $1 AND kid = $2",
            args![point, kid],
        )
        .await?;
    let (first, up_to) = match known {
        None => (sequence, sequence),
        Some((first, up_to)) if sequence == up_to + 1 => {
            (first, climb(tx, point, kid, sequence).await?)
        }
        Some((first, up_to)) if sequence + 1 == first => (sequence, up_to),
        Some((first, _)) if sequence < first => (sequence, sequence),
        Some(_) => return Ok(()),
    };
    tx.execute(
        "INSERT INTO settle_progress (point, kid, first, up_to) VALUES ($1, $2, $3, $4)
         ON CONFLICT (point, kid) DO UPDATE SET first = excluded.first, up_to = excluded.up_to",
        args![point, kid, first, up_to],
    )
    .await?;
    Ok(())
}

/// The last sequence before the next gap.
async fn climb(tx: &mut Tx, point: &str, kid: [u8; 8], from: i64) -> Result<i64, ServiceError> {
    let mut up_to = from;
    loop {
        let next: Vec<(i64,)> = tx
            .fetch_all(
                "SELECT sequence FROM settle_readings WHERE point = $1 AND kid = $2 AND sequence > $3
                 ORDER BY sequence LIMIT $4",
                args![point, kid, up_to, CLIMB],
            )
            .await?;
        let full = i64::try_from(next.len()) == Ok(CLIMB);
        for (sequence,) in next {
            if sequence != up_to + 1 {
                return Ok(up_to);
            }
            up_to = sequence;
        }
        if !full {
            return Ok(up_to);
        }
    }
}
