//! What was answered to a point's readings, kept so that an acceptance need not look at all of them.

use domain::reading::Reading;
use domain::rejection::Rejection;
use domain::signed::Verified;
use runtime::args;
use runtime::db::Tx;

use super::ServiceError;
use super::batch::Batch;
use super::error::stored;
use super::neighbours::Chain;

/// Sequences that are looked at together when a gap closes.
const CLIMB: i64 = 256;

/// Keeps the last answer to a reading; a yes to the gateway's newest key needs no record. Of two keys that
/// used the same sequence, the newest one's answer stays.
pub(super) async fn answer(
    batch: &mut Batch<'_>,
    verified: &Verified<Reading>,
    newest_key: bool,
    reason: Option<Rejection>,
) -> Result<(), ServiceError> {
    let reading = verified.message();
    let (point, sequence) = (&reading.point, stored(reading.sequence)?);
    let known = batch.around.is_answered(point, sequence);
    if newest_key && reason.is_none() {
        if known {
            let sql = "DELETE FROM settle_answers WHERE point = $1 AND sequence = $2";
            let args = args![point.as_str(), sequence];
            batch.tx.execute(sql, args).await?;
        }
        return Ok(());
    }
    batch.around.answered(point, sequence);
    batch
        .tx
        .execute(
            "INSERT INTO settle_answers (point, sequence, kid, reason, asked_ms)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (point, sequence) DO UPDATE SET
         kid = excluded.kid, reason = excluded.reason, asked_ms = excluded.asked_ms
         WHERE CAST($6 AS BIGINT) = 1 OR settle_answers.kid = excluded.kid",
            args![
                point.as_str(),
                sequence,
                verified.signer().0,
                reason.map(|reason| reason.name().to_owned()),
                batch.now.unix_ms(),
                i64::from(newest_key)
            ],
        )
        .await?;
    Ok(())
}

/// The last sequence before the next gap.
pub(super) async fn climb(
    tx: &mut Tx,
    (point, kid): &Chain,
    from: i64,
) -> Result<i64, ServiceError> {
    let mut up_to = from;
    loop {
        let next: Vec<(i64,)> = tx
            .fetch_all(
                "SELECT sequence FROM settle_readings WHERE point = $1 AND kid = $2 AND sequence > $3
                 ORDER BY sequence LIMIT $4",
                args![point.as_str(), kid.0, up_to, CLIMB],
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
