//! Handing the sealed entries of chosen intervals to an auditor: each content with the salt that opens it.

use domain::ids::ParticipantId;
use domain::openings::{FORMAT, Opened, OpenedInterval, OpenedRun, Openings};
use domain::order::Order;
use domain::posting::Run;
use domain::receipt::Salt;
use domain::signed::{Signed, SigningKey};
use domain::time::{Interval, Timestamp};
use domain::trade::Trade;
use runtime::args;
use runtime::db::Db;

use super::ServiceError;
use super::error::{corrupt, decoded, number, run_of, stored};
use super::registry::known_secret;
use crate::log::entry::{PUBLIC, salt_of};
use crate::run_inputs::blind;

/// Most intervals that are opened at a time: a month of quarter-hours.
pub const OPENED_MAX: usize = 31 * 100;
const DAY_S: i64 = 86_400;

/// The openings of all cleared intervals that start in `[from, to)`, at most [`OPENED_MAX`] of them. Entries of a
/// participant whose secret was deleted stay closed.
///
/// # Errors
/// The database failed or is damaged, or there are more intervals than that.
pub async fn openings(
    db: &Db,
    community: &str,
    operator: &SigningKey,
    (from, to): (Timestamp, Timestamp),
) -> Result<Openings, ServiceError> {
    let rows: Vec<(i64, i64)> = db
        .fetch_all(
            "SELECT i.start_s, i.length_s FROM settle_intervals i
             JOIN settle_clearings c ON c.start_s = i.start_s
             WHERE i.start_s >= $1 AND i.start_s < $2 ORDER BY i.start_s LIMIT $3",
            args![from.unix_s(), to.unix_s(), stored(OPENED_MAX as u64 + 1)?],
        )
        .await?;
    if rows.len() > OPENED_MAX {
        let why = format!("more than {OPENED_MAX} intervals between {from} and {to}: choose fewer");
        return Err(ServiceError::Refused(why));
    }
    let mut intervals = Vec::with_capacity(rows.len());
    for (start_s, length_s) in rows {
        let interval = Interval::new(start_s, number(length_s, "an interval's length")?)?;
        intervals.push(opened_interval(db, operator, interval).await?);
    }
    Ok(Openings {
        format: FORMAT.to_owned(),
        community: community.to_owned(),
        keys: public(db, KEYS).await?,
        introductions: public(db, INTRODUCTIONS).await?,
        revocations: public(db, REVOCATIONS).await?,
        intervals,
    })
}

const KEYS: &str = "SELECT log_index, signed FROM settle_key_records ORDER BY log_index";
const INTRODUCTIONS: &str = "SELECT log_index, signed FROM settle_introductions
    WHERE log_index IS NOT NULL ORDER BY log_index";
const REVOCATIONS: &str = "SELECT log_index, signed FROM settle_revocations ORDER BY log_index";

/// Entries of the ledger log under the public salt.
async fn public(db: &Db, sql: &'static str) -> Result<Vec<Opened>, ServiceError> {
    let rows: Vec<(i64, Vec<u8>)> = db.fetch_all(sql, args![]).await?;
    let opened = |(index, content)| opened(index, PUBLIC, content);
    rows.into_iter().map(opened).collect()
}

fn opened(index: i64, salt: Salt, content: Vec<u8>) -> Result<Opened, ServiceError> {
    Ok(Opened {
        index: number(index, "a log position")?,
        salt,
        content,
    })
}

async fn opened_interval(
    db: &Db,
    operator: &SigningKey,
    interval: Interval,
) -> Result<OpenedInterval, ServiceError> {
    let start_s = interval.start_s();
    let readings = readings(db, start_s).await?;
    let runs = runs(db, operator, interval).await?;
    let mut earlier = Vec::new();
    if lacks_readings(db, interval).await? {
        for days in [7, 1] {
            earlier.extend(self::readings(db, start_s - days * DAY_S).await?);
        }
    }
    Ok(OpenedInterval {
        interval,
        orders: orders(db, interval).await?,
        trades: trades(db, start_s).await?,
        readings,
        earlier,
        runs,
    })
}

/// Whether a run of the interval had to make do without a reading.
async fn lacks_readings(db: &Db, interval: Interval) -> Result<bool, ServiceError> {
    let row: Option<(i64,)> = db
        .fetch_optional(
            "SELECT run FROM settle_runs WHERE start_s = $1 AND substituted > 0 LIMIT 1",
            args![interval.start_s()],
        )
        .await?;
    Ok(row.is_some())
}

/// An entry of a participant, unless its secret was deleted.
async fn of(
    db: &Db,
    participant: &ParticipantId,
    index: i64,
    content: Vec<u8>,
) -> Result<Option<Opened>, ServiceError> {
    let Some(secret) = known_secret(&mut &*db, participant).await? else {
        return Ok(None);
    };
    let salt = salt_of(&secret, &content);
    opened(index, salt, content).map(Some)
}

async fn orders(db: &Db, interval: Interval) -> Result<Vec<Opened>, ServiceError> {
    // An order's id begins with its interval's start, as a timed id does.
    let (from, to) = super::id_range(interval.start(), interval.start().plus_ms(1));
    let rows: Vec<(Vec<u8>, i64)> = db
        .fetch_all(
            "SELECT signed, log_index FROM settle_orders WHERE order_id >= $1 AND order_id < $2
             ORDER BY log_index",
            args![from, to],
        )
        .await?;
    let mut orders = Vec::with_capacity(rows.len());
    for (signed, index) in rows {
        let order = Signed::<Order>::from_bytes(signed.clone()).claimed();
        let order = order.map_err(|_| corrupt("an order is no signed message"))?;
        orders.extend(of(db, &order.participant, index, signed).await?);
    }
    Ok(orders)
}

async fn trades(db: &Db, start_s: i64) -> Result<Vec<Opened>, ServiceError> {
    let rows: Vec<(Vec<u8>, i64, i64)> = db
        .fetch_all(
            "SELECT content, buyer_index, seller_index FROM settle_trades WHERE start_s = $1
             ORDER BY buyer_index",
            args![start_s],
        )
        .await?;
    let mut trades = Vec::with_capacity(2 * rows.len());
    for (content, buyer, seller) in rows {
        let trade: Trade = decoded(&content, "a trade")?;
        trades.extend(of(db, &trade.buyer, buyer, content.clone()).await?);
        trades.extend(of(db, &trade.seller, seller, content).await?);
    }
    Ok(trades)
}

async fn readings(db: &Db, start_s: i64) -> Result<Vec<Opened>, ServiceError> {
    let rows: Vec<(Vec<u8>, i64, Option<String>)> = db
        .fetch_all(
            "SELECT r.bytes, r.log_index, p.participant FROM settle_readings r
             JOIN settle_points p ON p.point = r.point
             WHERE r.start_s = $1 AND r.reason IS NULL ORDER BY r.log_index",
            args![start_s],
        )
        .await?;
    let mut readings = Vec::with_capacity(rows.len());
    for (bytes, index, participant) in rows {
        match participant {
            Some(participant) => {
                let participant = ParticipantId::new(participant)?;
                readings.extend(of(db, &participant, index, bytes).await?);
            }
            None => readings.push(opened(index, PUBLIC, bytes)?),
        }
    }
    Ok(readings)
}

/// The runs with a record; one of a program that logged none is not there.
async fn runs(
    db: &Db,
    operator: &SigningKey,
    interval: Interval,
) -> Result<Vec<OpenedRun>, ServiceError> {
    let rows: Vec<(i64, Vec<u8>, i64)> = db
        .fetch_all(
            "SELECT run, record, log_index FROM settle_runs
             WHERE start_s = $1 AND record IS NOT NULL ORDER BY run",
            args![interval.start_s()],
        )
        .await?;
    let mut runs = Vec::with_capacity(rows.len());
    for (code, record, index) in rows {
        let run = run_of(code)?;
        runs.push(OpenedRun {
            index: number(index, "a log position")?,
            record: decoded(&record, "a run's record")?,
            blind: blind(operator, interval, run),
            lines: lines(db, interval, run).await?,
        });
    }
    Ok(runs)
}

async fn lines(db: &Db, interval: Interval, run: Run) -> Result<Vec<Opened>, ServiceError> {
    let rows: Vec<(String, Vec<u8>, i64)> = db
        .fetch_all(
            "SELECT participant, content, log_index FROM settle_lines
             WHERE start_s = $1 AND run = $2 ORDER BY log_index",
            args![interval.start_s(), i64::from(run.code())],
        )
        .await?;
    let mut lines = Vec::with_capacity(rows.len());
    for (participant, content, index) in rows {
        let participant = ParticipantId::new(participant)?;
        lines.extend(of(db, &participant, index, content).await?);
    }
    Ok(lines)
}
