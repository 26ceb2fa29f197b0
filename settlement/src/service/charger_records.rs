//! What chargers' own meters have signed: kept as it came, whether it is believed or not, and found by its time.

use std::collections::BTreeSet;

use domain::charger_record::ChargerRecord;
use domain::ids::PointId;
use domain::signed::{Signed, Verified};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};

use super::ServiceError;
use crate::store::LOCK;

/// Most records of a point that are kept in a day; a charger that signs every 30 seconds has fewer.
pub const CHARGER_RECORDS_PER_DAY_MAX: i64 = 5_000;
/// Most records that are read of the begin of one session, and of its end.
const RECORDS_MAX: i64 = 256;

const FIRST: &str = "SELECT from_ms, to_ms, id, message FROM settle_charger_records
    WHERE point = $1 AND to_ms >= $2 AND from_ms <= $3
    ORDER BY from_ms, to_ms, id LIMIT $4";
const LAST: &str = "SELECT from_ms, to_ms, id, message FROM settle_charger_records
    WHERE point = $1 AND to_ms >= $2 AND from_ms <= $3
    ORDER BY to_ms DESC, from_ms DESC, id DESC LIMIT $4";

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// It is in the books, now or since before.
    Kept,
    /// Its point has brought too many today.
    TooMany,
}

/// Keeps a charger's record; the same text of a point with the same keys and transaction again changes nothing.
///
/// # Errors
/// The database failed.
pub async fn keep_charger_record(
    tx: &mut Tx,
    now: Timestamp,
    record: &Verified<ChargerRecord>,
) -> Result<Kept, ServiceError> {
    tx.exclusive(LOCK).await?;
    let said = record.message();
    let (point, id) = (said.point.as_str(), said.id().0);
    let known: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT from_ms FROM settle_charger_records WHERE point = $1 AND id = $2",
            args![point, id],
        )
        .await?;
    if known.is_some() {
        return Ok(Kept::Kept);
    }
    let (today,): (i64,) = tx
        .fetch_one(
            "SELECT COUNT(*) FROM settle_charger_records WHERE point = $1 AND received_ms > $2",
            args![point, now.plus_s(-86_400).unix_ms()],
        )
        .await?;
    if today >= CHARGER_RECORDS_PER_DAY_MAX {
        return Ok(Kept::TooMany);
    }
    let (from, to) = said.span();
    tx.execute(
        "INSERT INTO settle_charger_records (point, id, from_ms, to_ms, received_ms, message)
         VALUES ($1, $2, $3, $4, $5, $6)",
        args![
            point,
            id,
            from.unix_ms(),
            to.unix_ms(),
            now.unix_ms(),
            record.signed().as_bytes()
        ],
    )
    .await?;
    Ok(Kept::Kept)
}

/// The records of a point that speak of a time in `[from, to]`, in its order; where they are too many, the first and
/// the last, for what lies between begin and end says less than these.
///
/// # Errors
/// The database failed.
pub async fn charger_records(
    db: &Db,
    point: &PointId,
    (from, to): (Timestamp, Timestamp),
) -> Result<Vec<Signed<ChargerRecord>>, ServiceError> {
    let mut found: BTreeSet<(i64, i64, Vec<u8>, Vec<u8>)> = BTreeSet::new();
    for ends in [FIRST, LAST] {
        let span = args![point.as_str(), from.unix_ms(), to.unix_ms(), RECORDS_MAX];
        let rows: Vec<(i64, i64, Vec<u8>, Vec<u8>)> = db.fetch_all(ends, span).await?;
        found.extend(rows);
    }
    let found = found.into_iter();
    Ok(found
        .map(|(.., message)| Signed::from_bytes(message))
        .collect())
}
