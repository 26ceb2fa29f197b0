//! Lists read page by page: a page ends after so many rows, and the next begins behind its last row.

use domain::ids::{ParticipantId, PointId};
use domain::receipt::Line;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Db;

use super::error::{corrupt, decoded, number};
use super::history::{HistoryRow, MeteredInterval, metered_interval};
use super::money::AccountBalance;
use super::{ServiceError, money};
use crate::log::checkpoint::Log;
use domain::posting::Asset;

/// Most rows on one page.
pub const PAGE_MAX: u32 = 1_000;

/// Metered intervals of a point that start in `[from, before)`, newest first, `most` at most.
///
/// # Errors
/// The database failed.
pub async fn readings_page(
    db: &Db,
    point: &PointId,
    (from, before): (Timestamp, Timestamp),
    most: u32,
) -> Result<Vec<MeteredInterval>, ServiceError> {
    let rows: Vec<HistoryRow> = db
        .fetch_all(
            "SELECT start_s, length_s, imported_wh, exported_wh, quality, flags FROM settle_readings
             WHERE point = $1 AND start_s >= $2 AND start_s < $3 AND reason IS NULL
             ORDER BY start_s DESC LIMIT $4",
            args![
                point.as_str(),
                from.unix_s(),
                before.unix_s(),
                most.min(PAGE_MAX)
            ],
        )
        .await?;
    rows.into_iter().map(metered_interval).collect()
}

/// A participant's settlement lines of the intervals that start in `[from, before)`, of `most` intervals at
/// most: the newest interval first, and of each all runs, the first run first.
///
/// # Errors
/// The database failed.
pub async fn lines_page(
    db: &Db,
    participant: &ParticipantId,
    (from, before): (Timestamp, Timestamp),
    most: u32,
) -> Result<Vec<Line>, ServiceError> {
    let rows: Vec<(Vec<u8>,)> = db
        .fetch_all(
            "SELECT content FROM settle_lines WHERE participant = $1 AND start_s IN
             (SELECT DISTINCT start_s FROM settle_lines WHERE participant = $1 AND start_s >= $2
              AND start_s < $3 ORDER BY start_s DESC LIMIT $4)
             ORDER BY start_s DESC, run",
            args![
                participant.as_str(),
                from.unix_s(),
                before.unix_s(),
                most.min(PAGE_MAX)
            ],
        )
        .await?;
    let line = |(content,): (Vec<u8>,)| decoded(&content, "a line");
    rows.into_iter().map(line).collect()
}

/// A participant's settlement lines of one interval, the first run first.
///
/// # Errors
/// The database failed.
pub async fn lines_at(
    db: &Db,
    participant: &ParticipantId,
    start: Timestamp,
) -> Result<Vec<Line>, ServiceError> {
    let rows: Vec<(Vec<u8>,)> = db
        .fetch_all(
            "SELECT content FROM settle_lines WHERE start_s = $1 AND participant = $2 ORDER BY run",
            args![start.unix_s(), participant.as_str()],
        )
        .await?;
    let line = |(content,): (Vec<u8>,)| decoded(&content, "a line");
    rows.into_iter().map(line).collect()
}

/// What stands on a participant's accounts.
///
/// # Errors
/// The database failed.
pub async fn balances_of(
    db: &Db,
    participant: &ParticipantId,
) -> Result<Vec<AccountBalance>, ServiceError> {
    let rows: Vec<(i64, i64, i64)> = db
        .fetch_all(
            "SELECT asset, chart, credits - debits FROM settle_balances WHERE owner = $1
             ORDER BY asset, chart",
            args![participant.as_str()],
        )
        .await?;
    let balance = |(asset, chart, balance): (i64, i64, i64)| {
        let asset = Asset::from_code(number(asset, "an asset")?);
        Ok(AccountBalance {
            asset: asset.ok_or_else(|| corrupt("an unknown asset"))?,
            account: money::account(chart, participant.as_str())?,
            balance,
        })
    };
    rows.into_iter().map(balance).collect()
}

/// What the readings of an interval are like, all connections together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IntervalData {
    /// The interval's start.
    pub start: Timestamp,
    /// Connections with an accepted reading.
    pub connections: i64,
    /// Accepted readings of all points.
    pub readings: i64,
    /// Those of them that are estimated, substituted or have a gap.
    pub estimated: i64,
    /// What the connections took from the street, in watt-hours.
    pub imported_wh: i64,
    /// What they gave to it.
    pub exported_wh: i64,
}

/// The intervals with any reading that start in `[from, before)`, newest first, `most` at most. Sums are over
/// connections only: what is behind them is counted by them already.
///
/// # Errors
/// The database failed.
pub async fn data_page(
    db: &Db,
    (from, before): (Timestamp, Timestamp),
    most: u32,
) -> Result<Vec<IntervalData>, ServiceError> {
    use domain::quality::Quality;
    let doubtful = [Quality::ESTIMATED, Quality::SUBSTITUTED, Quality::GAP];
    let doubtful = doubtful.iter().fold(0, |all, mark| all | mark.bits());
    let rows: Vec<(i64, i64, i64, i64, i64, i64)> = db
        .fetch_all(
            "SELECT r.start_s,
             CAST(SUM(CASE WHEN p.role = 0 THEN 1 ELSE 0 END) AS BIGINT), COUNT(*),
             CAST(SUM(CASE WHEN (r.quality & $3) <> 0 THEN 1 ELSE 0 END) AS BIGINT),
             CAST(SUM(CASE WHEN p.role = 0 THEN r.imported_wh ELSE 0 END) AS BIGINT),
             CAST(SUM(CASE WHEN p.role = 0 THEN r.exported_wh ELSE 0 END) AS BIGINT)
             FROM settle_readings r JOIN settle_points p ON p.point = r.point
             WHERE r.reason IS NULL AND r.start_s >= $1 AND r.start_s < $2
             GROUP BY r.start_s ORDER BY r.start_s DESC LIMIT $4",
            args![
                from.unix_s(),
                before.unix_s(),
                i64::from(doubtful),
                most.min(PAGE_MAX)
            ],
        )
        .await?;
    let data =
        |(start_s, connections, readings, estimated, imported_wh, exported_wh)| IntervalData {
            start: Timestamp::from_unix_s(start_s),
            connections,
            readings,
            estimated,
            imported_wh,
            exported_wh,
        };
    Ok(rows.into_iter().map(data).collect())
}

/// When the newest checkpoint of a log was signed, by the community's clock, and how many leaves it has.
///
/// # Errors
/// The database failed.
pub async fn checkpoint_time(db: &Db, log: Log) -> Result<Option<(Timestamp, u64)>, ServiceError> {
    let row: Option<(i64, i64)> = db
        .fetch_optional(
            "SELECT at_ms, size FROM settle_checkpoints WHERE log = $1 ORDER BY size DESC LIMIT 1",
            args![i64::from(log.code())],
        )
        .await?;
    row.map(|(at_ms, size)| {
        let size = number(size, "a log's size")?;
        Ok((Timestamp::from_unix_ms(at_ms), size))
    })
    .transpose()
}
