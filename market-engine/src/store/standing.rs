//! The tables of standing orders: as they were signed, what took them back, and what they have ordered.

use domain::energy::Energy;
use domain::ids::{OrderId, ParticipantId, PointId};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::signed::Message;
use domain::standing_order::{Standing, StandingOrder};
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::{Db, Tx};

use super::{bytes, count, interval, stored_sequence};
use crate::market::Sender;
use crate::service::MarketError;
use crate::standing::{Traded, Why};

/// A standing order as it was accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stood {
    /// The order.
    pub order: StandingOrder,
    /// The sequence with which its chain of replacements began.
    pub root: u64,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Whether it was neither taken back nor replaced. That its time is over does not count here.
    pub stands: bool,
    /// The sequence of the standing order that took its place.
    pub replaced_by: Option<u64>,
    pub(crate) signed: Vec<u8>,
}

/// What a deadline has bought in an interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bought {
    /// When.
    pub interval: Interval,
    /// How much.
    pub energy: Energy,
    /// The meter behind its point that counts what it was bought for.
    pub counted_at: Option<PointId>,
}

/// An order that a standing order has placed, or tried to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its number among its participant's orders.
    pub sequence: u64,
    /// The standing order's.
    pub standing: u64,
    /// Its interval, side, energy and limit, and why it was placed; what was traded once it is cleared.
    pub ordered: crate::standing::Ordered,
    /// The same in a sentence.
    pub sentence: String,
    /// Why the market did not take it, in a word.
    pub refused: Option<String>,
    /// Whether it is out of the book again.
    pub withdrawn: bool,
    /// What the clearing said of it.
    pub reason: Option<String>,
}

impl Part {
    /// How it stands, in a word: standing, withdrawn, refused or cleared.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match (&self.refused, self.withdrawn, self.ordered.traded) {
            (Some(_), _, _) => "refused",
            (None, true, _) => "withdrawn",
            (None, false, None) => "standing",
            (None, false, Some(_)) => "cleared",
        }
    }

    /// Whether it brings anything: it was taken, and stands.
    #[must_use]
    pub const fn counts(&self) -> bool {
        self.refused.is_none() && !self.withdrawn
    }
}

type StoodRow = (i64, i64, Vec<u8>, Vec<u8>, i64, Option<i64>);
type PartRow = (
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    String,
    String,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<Vec<u8>>,
    Option<i64>,
);

/// The rows of [`StoodRow`] under a condition.
macro_rules! stood_sql {
    ($rest:literal) => {
        concat!(
            "SELECT s.root, s.accepted_at_ms, s.content, s.signed, \
             CASE WHEN w.sequence IS NULL THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END, w.by_sequence \
             FROM market_standing s LEFT JOIN market_standing_withdrawn w \
             ON w.participant = s.participant AND w.sequence = s.sequence WHERE ",
            $rest
        )
    };
}

const OWN_SQL: &str = stood_sql!(
    "s.participant = $1 AND \
     (s.sequence = $2 OR s.sequence = $3 OR (s.until_s > $4 AND w.sequence IS NULL))"
);
const STANDING_SQL: &str = stood_sql!(
    "s.until_s > $1 AND w.sequence IS NULL ORDER BY s.accepted_at_ms, s.participant, s.sequence"
);
const LIST_SQL: &str = stood_sql!("s.participant = $1 ORDER BY s.sequence DESC LIMIT $2");
const PARTS_SQL: &str = "SELECT p.order_sequence, p.sequence, p.interval_start_s, p.interval_length_s, p.side, \
     p.energy_wh, p.limit_micro, p.why, p.sentence, p.refused, o.filled_wh, o.reason, w.order_id, c.price_micro \
     FROM market_standing_order p \
     LEFT JOIN market_order o ON o.participant = p.participant AND o.sequence = p.order_sequence \
     LEFT JOIN market_withdrawn w ON w.order_id = o.id \
     LEFT JOIN market_clearing c ON c.interval_start_s = p.interval_start_s \
     WHERE p.participant = $1 AND p.root = $2 ORDER BY p.interval_start_s, p.order_sequence";

/// The rows of [`TradedRow`] under a condition.
macro_rules! traded_sql {
    ($condition:literal) => {
        concat!(
            "SELECT p.participant, p.interval_start_s, p.interval_length_s, p.side, o.filled_wh, s.content \
             FROM market_order o \
             JOIN market_standing_order p ON p.participant = o.participant AND p.order_sequence = o.sequence \
             JOIN market_standing s ON s.participant = p.participant AND s.sequence = p.sequence WHERE ",
            $condition,
            " AND o.filled_wh > 0 ORDER BY p.participant, p.order_sequence"
        )
    };
}

type TradedRow = (String, i64, i64, i64, i64, Vec<u8>);
const TRADED_IN_SQL: &str = traded_sql!("o.interval_start_s = $1");
const TRADED_BY_SQL: &str = traded_sql!("o.participant = $1 AND o.interval_start_s >= $2");

/// What batteries' standing orders have traded in an interval.
pub(crate) async fn battery_trades(
    db: &Db,
    interval: Interval,
) -> Result<Vec<Traded>, MarketError> {
    let values = args![interval.start_s()];
    batteries(db.fetch_all(TRADED_IN_SQL, values).await?)
}

/// What a participant's have traded in the intervals from an instant on.
pub(crate) async fn battery_trades_of(
    db: &Db,
    participant: &ParticipantId,
    from: Timestamp,
) -> Result<Vec<Traded>, MarketError> {
    let values = args![participant.as_str(), from.unix_s()];
    batteries(db.fetch_all(TRADED_BY_SQL, values).await?)
}

/// What a participant's deadlines have bought in the intervals from an instant on.
pub(crate) async fn deadlines_bought(
    db: &Db,
    participant: &ParticipantId,
    from: Timestamp,
) -> Result<Vec<Bought>, MarketError> {
    let values = args![participant.as_str(), from.unix_s()];
    let rows: Vec<TradedRow> = db.fetch_all(TRADED_BY_SQL, values).await?;
    let mut bought = Vec::new();
    for (_, start_s, length_s, _, filled_wh, content) in rows {
        let order = StandingOrder::from_cbor(&content).map_err(|_| corrupt())?;
        if let Standing::Deadline(_) = order.wish {
            bought.push(Bought {
                interval: interval(start_s, length_s)?,
                energy: Energy::from_wh(filled_wh),
                counted_at: order.counted_at,
            });
        }
    }
    Ok(bought)
}

const fn corrupt() -> MarketError {
    MarketError::Corrupt("a standing order's order")
}

/// The rows that are of batteries.
fn batteries(rows: Vec<TradedRow>) -> Result<Vec<Traded>, MarketError> {
    let mut traded = Vec::new();
    for (participant, start_s, length_s, side, filled_wh, content) in rows {
        let order = StandingOrder::from_cbor(&content).map_err(|_| corrupt())?;
        let Standing::Battery(battery) = order.wish else {
            continue;
        };
        let side = u8::try_from(side).ok().and_then(Side::from_code);
        traded.push(Traded {
            participant: ParticipantId::new(participant).map_err(|_| corrupt())?,
            interval: interval(start_s, length_s)?,
            side: side.ok_or_else(corrupt)?,
            energy: Energy::from_wh(filled_wh),
            battery,
        });
    }
    Ok(traded)
}

/// Those of a participant that may matter to a message: what stands, and these two sequences.
pub(crate) async fn own(
    tx: &mut Tx,
    participant: &ParticipantId,
    now: Timestamp,
    sequences: [Option<u64>; 2],
) -> Result<Vec<Stood>, MarketError> {
    // No sequence that does not fit was ever accepted.
    let [a, b] = sequences.map(|s| s.and_then(|s| i64::try_from(s).ok()).unwrap_or(-1));
    let values = args![participant.as_str(), a, b, now.unix_s()];
    let rows: Vec<StoodRow> = tx.fetch_all(OWN_SQL, values).await?;
    rows.into_iter().map(stood).collect()
}

/// All that stand and whose time is not over, in the order in which they came.
pub(crate) async fn standing(db: &Db, now: Timestamp) -> Result<Vec<Stood>, MarketError> {
    let rows: Vec<StoodRow> = db.fetch_all(STANDING_SQL, args![now.unix_s()]).await?;
    rows.into_iter().map(stood).collect()
}

/// The newest of a participant, newest first.
pub(crate) async fn of(
    db: &Db,
    participant: &ParticipantId,
    most: u32,
) -> Result<Vec<Stood>, MarketError> {
    let rows: Vec<StoodRow> = db
        .fetch_all(LIST_SQL, args![participant.as_str(), most])
        .await?;
    rows.into_iter().map(stood).collect()
}

/// When one was accepted.
pub(crate) async fn accepted_at(
    db: &Db,
    participant: &ParticipantId,
    sequence: u64,
) -> Result<Option<Timestamp>, MarketError> {
    let sql = "SELECT accepted_at_ms FROM market_standing WHERE participant = $1 AND sequence = $2";
    let values = args![participant.as_str(), stored_sequence(sequence)?];
    let row: Option<(i64,)> = db.fetch_optional(sql, values).await?;
    Ok(row.map(|(ms,)| Timestamp::from_unix_ms(ms)))
}

pub(crate) async fn insert(
    tx: &mut Tx,
    order: &StandingOrder,
    root: u64,
    signed: &[u8],
    now: Timestamp,
) -> Result<(), MarketError> {
    let sql = "INSERT INTO market_standing (participant, sequence, root, until_s, accepted_at_ms, content, signed) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = args![
        order.participant.as_str(),
        stored_sequence(order.sequence)?,
        stored_sequence(root)?,
        order.wish.until().unix_s(),
        now.unix_ms(),
        order.to_cbor(),
        signed,
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

pub(crate) async fn insert_withdrawn(
    tx: &mut Tx,
    participant: &ParticipantId,
    sequence: u64,
    by: Option<u64>,
    signed: &[u8],
    now: Timestamp,
) -> Result<(), MarketError> {
    let sql = "INSERT INTO market_standing_withdrawn (participant, sequence, by_sequence, signed, at_ms) \
         VALUES ($1, $2, $3, $4, $5)";
    let values = args![
        participant.as_str(),
        stored_sequence(sequence)?,
        by.map(stored_sequence).transpose()?,
        signed,
        now.unix_ms(),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// Whether this very message has taken a standing order back.
pub(crate) async fn was_cancelled(
    tx: &mut Tx,
    participant: &ParticipantId,
    sequence: u64,
    signed: &[u8],
) -> Result<bool, MarketError> {
    let sql = "SELECT sequence FROM market_standing_withdrawn \
         WHERE participant = $1 AND sequence = $2 AND signed = $3";
    // No sequence that does not fit was ever accepted.
    let Ok(sequence) = i64::try_from(sequence) else {
        return Ok(false);
    };
    let values = args![participant.as_str(), sequence, signed];
    let row: Option<(i64,)> = tx.fetch_optional(sql, values).await?;
    Ok(row.is_some())
}

/// What a chain of standing orders has ordered, oldest interval first.
pub(crate) async fn parts(
    db: &Db,
    participant: &ParticipantId,
    root: u64,
) -> Result<Vec<Part>, MarketError> {
    let values = args![participant.as_str(), stored_sequence(root)?];
    let rows: Vec<PartRow> = db.fetch_all(PARTS_SQL, values).await?;
    rows.into_iter().map(part).collect()
}

/// [`parts`] within a transaction.
pub(crate) async fn parts_now(
    tx: &mut Tx,
    participant: &ParticipantId,
    root: u64,
) -> Result<Vec<Part>, MarketError> {
    let values = args![participant.as_str(), stored_sequence(root)?];
    let rows: Vec<PartRow> = tx.fetch_all(PARTS_SQL, values).await?;
    rows.into_iter().map(part).collect()
}

/// How many orders a participant's standing orders have tried for an interval.
pub(crate) async fn tried(
    tx: &mut Tx,
    participant: &ParticipantId,
    start: Timestamp,
) -> Result<u32, MarketError> {
    let sql = "SELECT COUNT(*) FROM market_standing_order WHERE participant = $1 AND interval_start_s = $2";
    let (tried,): (i64,) = tx
        .fetch_one(sql, args![participant.as_str(), start.unix_s()])
        .await?;
    count(tried)
}

pub(crate) async fn insert_part(
    tx: &mut Tx,
    of: &Stood,
    order: &Order,
    (why, sentence): (Why, &str),
    refused: Option<&str>,
) -> Result<(), MarketError> {
    let sql = "INSERT INTO market_standing_order (participant, order_sequence, sequence, root, interval_start_s, \
         interval_length_s, side, energy_wh, limit_micro, why, sentence, refused) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    let values = args![
        order.participant.as_str(),
        stored_sequence(order.sequence)?,
        stored_sequence(of.order.sequence)?,
        stored_sequence(of.root)?,
        order.interval.start_s(),
        order.interval.length_s(),
        i64::from(order.side.code()),
        order.energy.wh(),
        order.limit.micro_per_kwh(),
        why.word(),
        sentence,
        refused.map(str::to_owned),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// What is known of a sender.
pub(crate) async fn sender(
    tx: &mut Tx,
    participant: &ParticipantId,
) -> Result<Sender, MarketError> {
    let sql = "SELECT minute_s, messages FROM market_sender WHERE participant = $1";
    let row: Option<(i64, i64)> = tx.fetch_optional(sql, args![participant.as_str()]).await?;
    let (minute_s, messages) = row.unwrap_or_default();
    Ok(Sender {
        minute_s,
        messages: count(messages)?,
    })
}

/// The highest sequence of a participant's standing orders in a range.
pub(crate) async fn last_sequence(
    db: &Db,
    participant: &ParticipantId,
    range: std::ops::Range<u64>,
) -> Result<Option<u64>, MarketError> {
    let sql = "SELECT MAX(sequence) FROM market_standing \
         WHERE participant = $1 AND sequence >= $2 AND sequence < $3";
    let end = |end: u64| i64::try_from(end).unwrap_or(i64::MAX);
    let values = args![participant.as_str(), end(range.start), end(range.end)];
    let (last,): (Option<i64>,) = db.fetch_one(sql, values).await?;
    last.map(sequence).transpose()
}

fn sequence(stored: i64) -> Result<u64, MarketError> {
    u64::try_from(stored).map_err(|_| MarketError::Corrupt("a sequence"))
}

fn stood(row: StoodRow) -> Result<Stood, MarketError> {
    let (root, accepted_at_ms, content, signed, stands, by) = row;
    let order = StandingOrder::from_cbor(&content);
    Ok(Stood {
        order: order.map_err(|_| MarketError::Corrupt("a standing order"))?,
        root: sequence(root)?,
        accepted_at: Timestamp::from_unix_ms(accepted_at_ms),
        stands: stands == 1,
        replaced_by: by.map(sequence).transpose()?,
        signed,
    })
}

fn part(row: PartRow) -> Result<Part, MarketError> {
    let (
        own,
        standing,
        start_s,
        length_s,
        side,
        wh,
        limit,
        why,
        sentence,
        refused,
        filled,
        reason,
        out,
        price,
    ) = row;
    let corrupt = || MarketError::Corrupt("a standing order's order");
    let limit = Price::from_micro_per_kwh(limit);
    // Where each pair has a price of its own, the limit is the most it can have cost.
    let paid = price.map_or(limit, Price::from_micro_per_kwh);
    let side = u8::try_from(side).ok().and_then(Side::from_code);
    let withdrawn = out.as_deref().map(bytes).transpose()?.map(OrderId);
    Ok(Part {
        sequence: sequence(own)?,
        standing: sequence(standing)?,
        ordered: crate::standing::Ordered {
            interval: interval(start_s, length_s)?,
            side: side.ok_or_else(corrupt)?,
            energy: Energy::from_wh(wh),
            traded: filled.map(|wh| (Energy::from_wh(wh), paid)),
            limit,
            why: Why::from_word(&why).ok_or_else(corrupt)?,
        },
        sentence,
        refused,
        withdrawn: withdrawn.is_some(),
        reason,
    })
}
