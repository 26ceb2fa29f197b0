//! A participant's monthly statement, from the books.

use domain::energy::Energy;
use domain::ids::{CommunityId, ParticipantId};
use domain::money::{Money, MoneyError};
use domain::posting::{Asset, Chart};
use domain::receipt::Line;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Db;

use super::error::{decoded, number};
use super::{ServiceError, money};
use crate::calendar::LocalMonth;
use crate::statement::{Balances, Builder, Statement};

/// How much of a participant's history is read at a time.
const WINDOW_S: i64 = 31 * 86_400;
/// Tries until nothing was posted for the participant while its history was read.
const TRIES_MAX: u32 = 5;

/// The statement of a participant's local month, `None` where nobody of that name is enrolled. It reads the
/// participant's whole history and is refused where that does not come to the balances in the books.
///
/// # Errors
/// The database failed, the history does not add up, or it changed again and again while it was read.
pub async fn statement(
    db: &Db,
    community: &CommunityId,
    interval_length_s: u32,
    participant: &ParticipantId,
    month: LocalMonth,
    now: Timestamp,
) -> Result<Option<Statement>, ServiceError> {
    let known: Option<(String,)> = db
        .fetch_optional(
            "SELECT participant FROM settle_secrets WHERE participant = $1",
            args![participant.as_str()],
        )
        .await?;
    if known.is_none() {
        return Ok(None);
    }
    for _ in 0..TRIES_MAX {
        let before = accounts(db, participant).await?;
        let builder = Builder::new(community, participant, month, interval_length_s)?;
        let builder = read(db, participant, builder).await?;
        // Credits and debits only grow: the same sums mean that nothing was posted in between.
        if accounts(db, participant).await? == before {
            return Ok(Some(builder.finish(&balances(&before)?, now)?));
        }
    }
    let why = "was posted to again and again while its statement was made; try again";
    Err(ServiceError::Refused(format!("{participant} {why}")))
}

async fn read(
    db: &Db,
    participant: &ParticipantId,
    mut builder: Builder,
) -> Result<Builder, ServiceError> {
    let mut after = Vec::new();
    loop {
        let (entries, last) = money::other_postings(db, participant, after).await?;
        for entry in &entries {
            builder.entry(entry)?;
        }
        match last {
            Some(last) => after = last,
            None => break,
        }
    }
    let (first, last): (Option<i64>, Option<i64>) = db
        .fetch_one(
            "SELECT MIN(start_s), MAX(start_s) FROM settle_intervals",
            args![],
        )
        .await?;
    if let (Some(first), Some(last)) = (first, last) {
        let mut from = first;
        while from <= last {
            let to = from.saturating_add(WINDOW_S);
            take_lines(db, participant, (from, to), &mut builder).await?;
            from = to;
        }
    }
    Ok(builder)
}

/// The lines of the intervals that start in `[from, to)`, an interval's runs together.
async fn take_lines(
    db: &Db,
    participant: &ParticipantId,
    (from, to): (i64, i64),
    builder: &mut Builder,
) -> Result<(), ServiceError> {
    // By interval first: the lines of one interval lie together, those of one participant do not.
    let rows: Vec<(Vec<u8>,)> = db
        .fetch_all(
            "SELECT l.content FROM settle_intervals i
             JOIN settle_lines l ON l.start_s = i.start_s AND l.participant = $1
             WHERE i.start_s >= $2 AND i.start_s < $3 ORDER BY l.start_s, l.run",
            args![participant.as_str(), from, to],
        )
        .await?;
    let mut lines: Vec<Line> = Vec::new();
    for (content,) in rows {
        let line: Line = decoded(&content, "a line")?;
        if lines
            .last()
            .is_some_and(|last| last.interval != line.interval)
        {
            builder.interval(&lines)?;
            lines.clear();
        }
        lines.push(line);
    }
    builder.interval(&lines)?;
    Ok(())
}

/// What a participant imported in the intervals that start in `[from, to)`, by the newest line of each.
///
/// # Errors
/// The database failed, or the sum does not fit.
pub async fn settled_import(
    db: &Db,
    participant: &ParticipantId,
    from: Timestamp,
    to: Timestamp,
) -> Result<Energy, ServiceError> {
    let rows: Vec<(Vec<u8>,)> = db
        .fetch_all(
            "SELECT l.content FROM settle_intervals i
             JOIN settle_lines l ON l.start_s = i.start_s AND l.participant = $1
             WHERE i.start_s >= $2 AND i.start_s < $3
               AND l.run = (SELECT MAX(n.run) FROM settle_lines n
                            WHERE n.start_s = i.start_s AND n.participant = $1)",
            args![participant.as_str(), from.unix_s(), to.unix_s()],
        )
        .await?;
    let mut sum = Energy::ZERO;
    for (content,) in rows {
        let line: Line = decoded(&content, "a line")?;
        let more = sum.checked_add(line.delivery.imported);
        sum = more.ok_or(MoneyError::Overflow)?;
    }
    Ok(sum)
}

type Sides = Vec<(i64, i64, i64)>;

/// Chart, credits and debits of all the participant's token accounts.
async fn accounts(db: &Db, participant: &ParticipantId) -> Result<Sides, ServiceError> {
    let rows = db.fetch_all(
        "SELECT chart, credits, debits FROM settle_balances WHERE asset = $1 AND owner = $2
         ORDER BY chart",
        args![i64::from(Asset::Token.code()), participant.as_str()],
    );
    Ok(rows.await?)
}

fn balances(accounts: &Sides) -> Result<Balances, ServiceError> {
    let mut balances = Balances::default();
    for (chart, credits, debits) in accounts {
        let chart = Chart::from_code(number(*chart, "an account")?);
        let chart = chart.ok_or_else(|| super::error::corrupt("an unknown account"))?;
        let balance = credits.checked_sub(*debits);
        let balance = balance.ok_or(MoneyError::Overflow)?;
        balances.add(chart, Money::from_nano(balance))?;
    }
    Ok(balances)
}
