//! What pages show: metered energy over time, a participant's money by day, an interval's lines.

use std::collections::BTreeMap;

use domain::energy::Energy;
use domain::ids::{ParticipantId, PointId};
use domain::money::{Money, MoneyError};
use domain::posting::{Account, Asset, Chart, Posting, Purpose};
use domain::quality::Quality;
use domain::receipt::Line;
use domain::rejection::Rejection;
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::Db;

use super::error::{corrupt, decoded, number};
use super::{ServiceError, money};

/// Most intervals in one answer of [`history`]: a year of quarter-hours.
pub const HISTORY_MAX: i64 = 366 * 96;

/// Whose meter values are asked for.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// A participant's connection.
    Participant(&'a ParticipantId),
    /// A metering point.
    Point(&'a PointId),
}

/// What a meter counted in an interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeteredInterval {
    /// When.
    pub interval: Interval,
    /// Energy from the street.
    pub imported: Energy,
    /// Energy into the street.
    pub exported: Energy,
    /// How the values came to be.
    pub quality: Quality,
    /// What is doubtful about the reading although it was accepted.
    pub flags: Vec<Rejection>,
}

/// Metered energy of the intervals that start in `[from, to)`, oldest first, at most [`HISTORY_MAX`]. An
/// interval without a reading is not in it: it is missing, not zero.
///
/// # Errors
/// The database failed.
pub async fn history(
    db: &Db,
    whose: Whose<'_>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<MeteredInterval>, ServiceError> {
    let point = match whose {
        Whose::Point(point) => point.to_string(),
        Whose::Participant(participant) => {
            let row: Option<(String,)> = db
                .fetch_optional(
                    "SELECT point FROM settle_points WHERE participant = $1 AND role = 0",
                    args![participant.as_str()],
                )
                .await?;
            let Some((point,)) = row else {
                return Ok(Vec::new());
            };
            point
        }
    };
    let rows: Vec<HistoryRow> = db
        .fetch_all(
            "SELECT start_s, length_s, imported_wh, exported_wh, quality, flags FROM settle_readings
             WHERE point = $1 AND start_s >= $2 AND start_s < $3 AND reason IS NULL
             ORDER BY start_s LIMIT $4",
            args![point, from.unix_s(), to.unix_s(), HISTORY_MAX],
        )
        .await?;
    rows.into_iter().map(metered_interval).collect()
}

pub(super) type HistoryRow = (i64, i64, i64, i64, i64, String);

pub(super) fn metered_interval(row: HistoryRow) -> Result<MeteredInterval, ServiceError> {
    let (start_s, length_s, imported, exported, quality, flags) = row;
    let quality = Quality::from_bits(number(quality, "a quality")?);
    let flag = |name| Rejection::from_name(name).ok_or_else(|| corrupt("an unknown flag"));
    let names = flags.split(',').filter(|name| !name.is_empty());
    Ok(MeteredInterval {
        interval: Interval::new(start_s, number(length_s, "an interval's length")?)?,
        imported: Energy::from_wh(imported),
        exported: Energy::from_wh(exported),
        quality: quality.ok_or_else(|| corrupt("an unknown quality"))?,
        flags: names.map(flag).collect::<Result<_, _>>()?,
    })
}

type ConnectionRow = (String, i64, i64, i64, i64, i64, String);

/// What every participant's connection metered in the intervals that start in `[from, to)`, oldest first.
///
/// # Errors
/// The database failed.
pub async fn connections(
    db: &Db,
    from: Timestamp,
    to: Timestamp,
) -> Result<BTreeMap<ParticipantId, Vec<MeteredInterval>>, ServiceError> {
    let rows: Vec<ConnectionRow> = db
        .fetch_all(
            "SELECT p.participant, r.start_s, r.length_s, r.imported_wh, r.exported_wh, r.quality, r.flags
             FROM settle_points p JOIN settle_readings r ON r.point = p.point
             WHERE p.role = 0 AND p.participant IS NOT NULL
               AND r.start_s >= $1 AND r.start_s < $2 AND r.reason IS NULL
             ORDER BY p.participant, r.start_s",
            args![from.unix_s(), to.unix_s()],
        )
        .await?;
    let mut all: BTreeMap<ParticipantId, Vec<MeteredInterval>> = BTreeMap::new();
    for (participant, start_s, length_s, imported, exported, quality, flags) in rows {
        let metered = metered_interval((start_s, length_s, imported, exported, quality, flags))?;
        let participant = ParticipantId::new(participant)?;
        all.entry(participant).or_default().push(metered);
    }
    Ok(all)
}

/// When the newest interval begins that starts in `[from, to)` and was settled for somebody.
///
/// # Errors
/// The database failed.
pub async fn newest_settled(
    db: &Db,
    from: Timestamp,
    to: Timestamp,
) -> Result<Option<Timestamp>, ServiceError> {
    let (newest,): (Option<i64>,) = db
        .fetch_one(
            "SELECT MAX(start_s) FROM settle_runs WHERE start_s >= $1 AND start_s < $2 AND lines > 0",
            args![from.unix_s(), to.unix_s()],
        )
        .await?;
    Ok(newest.map(Timestamp::from_unix_s))
}

/// How many runs have settled or corrected the intervals that start in `[from, to)`. It never falls, and as
/// long as it stays the same so does those intervals' money.
///
/// # Errors
/// The database failed.
pub async fn runs_between(db: &Db, from: Timestamp, to: Timestamp) -> Result<i64, ServiceError> {
    let (runs,): (i64,) = db
        .fetch_one(
            "SELECT COUNT(*) FROM settle_runs WHERE start_s >= $1 AND start_s < $2",
            args![from.unix_s(), to.unix_s()],
        )
        .await?;
    Ok(runs)
}

/// A participant's money over some time, all runs together. Above zero is what the participant has of
/// it, except in `bought` and `fees`, which were paid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParticipantMoney {
    /// Who.
    pub participant: ParticipantId,
    /// Received from neighbours for trades.
    pub sold: Money,
    /// Paid to neighbours for trades.
    pub bought: Money,
    /// Paid to the network.
    pub fees: Money,
    /// From the pool for deviations; below zero, paid to it.
    pub pool: Money,
    /// From the utility; below zero, paid to it.
    pub utility: Money,
    /// All of it together.
    pub net: Money,
}

impl ParticipantMoney {
    fn of(participant: ParticipantId) -> Self {
        let zero = Money::ZERO;
        ParticipantMoney {
            participant,
            sold: zero,
            bought: zero,
            fees: zero,
            pool: zero,
            utility: zero,
            net: zero,
        }
    }

    fn book(&mut self, chart: Chart, purpose: Purpose, received: Money) -> Option<()> {
        let paid = Money::ZERO.checked_sub(received)?;
        let (sum, amount) = match (purpose, chart) {
            (Purpose::Trade, Chart::Available) => (&mut self.sold, received),
            (Purpose::Trade, _) => (&mut self.bought, paid),
            (Purpose::NetworkFee, _) => (&mut self.fees, paid),
            (Purpose::PoolDeviation, _) => (&mut self.pool, received),
            (Purpose::UtilityDeviation, _) => (&mut self.utility, received),
            _ => return Some(()),
        };
        *sum = sum.checked_add(amount)?;
        self.net = self.net.checked_add(received)?;
        Some(())
    }
}

/// The money of every participant in the intervals that start in `[from, to)`, ordered by participant.
///
/// # Errors
/// The database failed, or a sum does not fit.
pub async fn day_money(
    db: &Db,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<ParticipantMoney>, ServiceError> {
    let mut sums: BTreeMap<String, ParticipantMoney> = BTreeMap::new();
    let postings = money::run_postings(&mut &*db, from, to).await?;
    for posting in postings.iter().filter(|p| p.asset == Asset::Token) {
        for (account, received) in sides(posting)? {
            if account.owner() == "-" {
                continue;
            }
            let participant = ParticipantId::new(account.owner())?;
            let money = sums
                .entry(account.owner().to_owned())
                .or_insert_with(|| ParticipantMoney::of(participant));
            let booked = money.book(account.chart(), posting.purpose, received);
            booked.ok_or(MoneyError::Overflow)?;
        }
    }
    Ok(sums.into_values().collect())
}

fn sides(posting: &Posting) -> Result<[(&Account, Money); 2], MoneyError> {
    let paid = posting.amount.checked_neg().ok_or(MoneyError::Overflow)?;
    Ok([
        (&posting.debit, Money::from_nano(paid)),
        (&posting.credit, Money::from_nano(posting.amount)),
    ])
}

/// The newest line of each participant in an interval, ordered by participant.
///
/// # Errors
/// The database failed.
pub async fn recent_lines(db: &Db, interval: Interval) -> Result<Vec<Line>, ServiceError> {
    let rows: Vec<(Vec<u8>,)> = db
        .fetch_all(
            "SELECT content FROM settle_lines WHERE start_s = $1 ORDER BY participant, run",
            args![interval.start_s()],
        )
        .await?;
    let mut newest: BTreeMap<ParticipantId, Line> = BTreeMap::new();
    for (content,) in rows {
        let line: Line = decoded(&content, "a line")?;
        newest.insert(line.participant.clone(), line);
    }
    Ok(newest.into_values().collect())
}
