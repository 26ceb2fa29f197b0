//! The market's tables: orders as they were signed, evidence of double use of a sequence, clearings
//! and trades, and how far the market has come. Rows are added; an order's row gets its result once.

use domain::energy::Energy;
use domain::ids::{Digest32, OrderId, ParticipantId, TradeId};
use domain::money::Price;
use domain::order::Order;
use domain::signed::Message;
use domain::time::{Interval, Timestamp};
use domain::trade::{Clearing, Trade};
use runtime::args;
use runtime::db::{Db, Migration, Tx};

use crate::service::{Cleared, ClearedOrder, MarketError};

/// The market's part of the database's history.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 2001,
    description: "market: orders, evidence, clearings, trades",
    sqlite: include_str!("../migrations/sqlite/2001_market.sql"),
    postgres: include_str!("../migrations/postgres/2001_market.sql"),
}];

/// Most messages kept as evidence against one sequence; two prove the case, more add nothing.
pub const EVIDENCE_MAX: i64 = 8;

/// An order as it was kept when it was accepted.
pub(crate) struct StoredOrder {
    pub(crate) id: OrderId,
    pub(crate) order: Order,
    pub(crate) signed: Vec<u8>,
    pub(crate) filled: Option<Energy>,
    pub(crate) reason: Option<String>,
}

type OrderRow = (Vec<u8>, Vec<u8>, Vec<u8>, Option<i64>, Option<String>);
type ClearingRow = (
    i64,
    i64,
    String,
    String,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    i64,
    i64,
    i64,
    Vec<u8>,
);
type TradeRow = (
    Vec<u8>,
    i64,
    i64,
    Vec<u8>,
    Vec<u8>,
    String,
    String,
    i64,
    i64,
);

const ORDERS_SQL: &str = "SELECT id, content, signed, filled_wh, reason FROM market_order \
     WHERE interval_start_s = $1 ORDER BY COALESCE(place, arrival)";
const CLEARING_SQL: &str = "SELECT interval_start_s, interval_length_s, mechanism, price_policy, \
     price_micro, price_low_micro, price_high_micro, volume_wh, orders, trades, book \
     FROM market_clearing WHERE interval_start_s = $1 AND interval_length_s = $2";
const RECENT_SQL: &str = "SELECT interval_start_s, interval_length_s, mechanism, price_policy, \
     price_micro, price_low_micro, price_high_micro, volume_wh, orders, trades, book \
     FROM market_clearing ORDER BY interval_start_s DESC LIMIT $1";
const TRADES_SQL: &str = "SELECT id, interval_start_s, interval_length_s, bid, offer, buyer, seller, \
     energy_wh, price_micro FROM market_trade WHERE interval_start_s = $1 ORDER BY place";
const TRADE_SQL: &str = "SELECT id, interval_start_s, interval_length_s, bid, offer, buyer, seller, \
     energy_wh, price_micro FROM market_trade WHERE id = $1";
const SEQUENCE_SQL: &str =
    "SELECT COALESCE(MAX(sequence), 0) FROM market_order WHERE participant = $1";

/// The next interval to be cleared; none before the market's first start.
pub(crate) async fn next_due(tx: &mut Tx) -> Result<Option<(i64, i64)>, MarketError> {
    let sql = "SELECT next_start_s, length_s FROM market_progress WHERE id = 1";
    Ok(tx.fetch_optional(sql, args![]).await?)
}

pub(crate) async fn set_next_due(tx: &mut Tx, next: Interval) -> Result<(), MarketError> {
    let sql = "INSERT INTO market_progress (id, next_start_s, length_s) VALUES (1, $1, $2) \
         ON CONFLICT (id) DO UPDATE SET next_start_s = excluded.next_start_s";
    tx.execute(sql, args![next.start_s(), next.length_s()])
        .await?;
    Ok(())
}

/// Id and signed bytes of the accepted order with this sequence.
pub(crate) async fn by_sequence(
    tx: &mut Tx,
    participant: &ParticipantId,
    sequence: i64,
) -> Result<Option<(OrderId, Vec<u8>)>, MarketError> {
    let sql = "SELECT id, signed FROM market_order WHERE participant = $1 AND sequence = $2";
    let row: Option<(Vec<u8>, Vec<u8>)> = tx
        .fetch_optional(sql, args![participant.as_str(), sequence])
        .await?;
    row.map(|(id, signed)| Ok((OrderId(bytes(&id)?), signed)))
        .transpose()
}

/// How many orders a participant has in an interval, and how many orders it holds in all.
pub(crate) async fn placed(tx: &mut Tx, order: &Order) -> Result<(i64, i64), MarketError> {
    let sql = "SELECT COUNT(*) FROM market_order WHERE participant = $1 AND interval_start_s = $2";
    let participant = order.participant.as_str();
    let start_s = order.interval.start_s();
    let (own,): (i64,) = tx.fetch_one(sql, args![participant, start_s]).await?;
    let sql = "SELECT COALESCE(MAX(arrival), -1) FROM market_order WHERE interval_start_s = $1";
    let (last,): (i64,) = tx.fetch_one(sql, args![start_s]).await?;
    Ok((own, last + 1))
}

/// An order on its way into the store.
pub(crate) struct NewOrder<'a> {
    pub(crate) order: &'a Order,
    pub(crate) sequence: i64,
    pub(crate) arrival: i64,
    pub(crate) signed: &'a [u8],
    pub(crate) now: Timestamp,
}

pub(crate) async fn insert_order(tx: &mut Tx, new: NewOrder<'_>) -> Result<(), MarketError> {
    let sql = "INSERT INTO market_order (id, participant, sequence, interval_start_s, arrival, \
         accepted_at_ms, content, signed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let NewOrder {
        order,
        sequence,
        arrival,
        signed,
        now,
    } = new;
    let values = args![
        order.id().as_bytes(),
        order.participant.as_str(),
        sequence,
        order.interval.start_s(),
        arrival,
        now.unix_ms(),
        order.to_cbor(),
        signed,
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// Keeps two different messages that used one sequence.
pub(crate) async fn insert_evidence(
    tx: &mut Tx,
    order: &Order,
    sequence: i64,
    kept: &[u8],
    other: &[u8],
    now: Timestamp,
) -> Result<(), MarketError> {
    let participant = order.participant.as_str();
    let sql = "SELECT COUNT(*) FROM market_evidence WHERE participant = $1 AND sequence = $2";
    let (count,): (i64,) = tx.fetch_one(sql, args![participant, sequence]).await?;
    if count >= EVIDENCE_MAX {
        return Ok(());
    }
    let sql = "INSERT INTO market_evidence (participant, sequence, digest, kept, other, seen_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    let digest = Digest32::of(other);
    let values = args![
        participant,
        sequence,
        digest.as_bytes(),
        kept,
        other,
        now.unix_ms()
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// The orders of an interval that is not cleared yet, as they arrived.
pub(crate) async fn book(tx: &mut Tx, interval: Interval) -> Result<Vec<StoredOrder>, MarketError> {
    let rows: Vec<OrderRow> = tx.fetch_all(ORDERS_SQL, args![interval.start_s()]).await?;
    rows.into_iter().map(stored_order).collect()
}

pub(crate) async fn insert_cleared(
    tx: &mut Tx,
    cleared: &Cleared,
    details: &str,
    now: Timestamp,
) -> Result<(), MarketError> {
    let Clearing {
        interval,
        mechanism,
        price_policy,
        volume,
        orders,
        trades,
        book,
        ..
    } = &cleared.clearing;
    let micro = |price: Option<Price>| price.map(Price::micro_per_kwh);
    let sql = "INSERT INTO market_clearing (interval_start_s, interval_length_s, mechanism, \
         price_policy, details, price_micro, price_low_micro, price_high_micro, volume_wh, orders, \
         trades, book, cleared_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    let values = args![
        interval.start_s(),
        interval.length_s(),
        mechanism,
        price_policy,
        details,
        micro(cleared.clearing.price),
        micro(cleared.clearing.price_low),
        micro(cleared.clearing.price_high),
        volume.wh(),
        *orders,
        *trades,
        book.as_bytes(),
        now.unix_ms(),
    ];
    tx.execute(sql, values).await?;
    for (place, trade) in (0_i64..).zip(&cleared.trades) {
        insert_trade(tx, place, trade).await?;
    }
    let sql = "UPDATE market_order SET filled_wh = $2, reason = $3, place = $4 \
         WHERE id = $1 AND filled_wh IS NULL";
    for (
        place,
        ClearedOrder {
            id, filled, reason, ..
        },
    ) in (0_i64..).zip(&cleared.orders)
    {
        tx.execute(sql, args![id.as_bytes(), filled.wh(), reason, place])
            .await?;
    }
    Ok(())
}

async fn insert_trade(tx: &mut Tx, place: i64, trade: &Trade) -> Result<(), MarketError> {
    let sql = "INSERT INTO market_trade (id, interval_start_s, interval_length_s, place, bid, offer, \
         buyer, seller, energy_wh, price_micro) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let values = args![
        trade.id.as_bytes(),
        trade.interval.start_s(),
        trade.interval.length_s(),
        place,
        trade.bid.as_bytes(),
        trade.offer.as_bytes(),
        trade.buyer.as_str(),
        trade.seller.as_str(),
        trade.energy.wh(),
        trade.price.micro_per_kwh(),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

pub(crate) async fn orders(db: &Db, interval: Interval) -> Result<Vec<StoredOrder>, MarketError> {
    let rows: Vec<OrderRow> = db.fetch_all(ORDERS_SQL, args![interval.start_s()]).await?;
    let orders = rows
        .into_iter()
        .map(stored_order)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(orders
        .into_iter()
        .filter(|o| o.order.interval == interval)
        .collect())
}

pub(crate) async fn clearing(db: &Db, interval: Interval) -> Result<Option<Clearing>, MarketError> {
    let values = args![interval.start_s(), interval.length_s()];
    let row: Option<ClearingRow> = db.fetch_optional(CLEARING_SQL, values).await?;
    row.map(stored_clearing).transpose()
}

pub(crate) async fn recent(db: &Db, count: u32) -> Result<Vec<Clearing>, MarketError> {
    let rows: Vec<ClearingRow> = db.fetch_all(RECENT_SQL, args![count]).await?;
    rows.into_iter().map(stored_clearing).collect()
}

pub(crate) async fn trades(db: &Db, interval: Interval) -> Result<Vec<Trade>, MarketError> {
    let rows: Vec<TradeRow> = db.fetch_all(TRADES_SQL, args![interval.start_s()]).await?;
    rows.into_iter().map(stored_trade).collect()
}

pub(crate) async fn trade(db: &Db, id: TradeId) -> Result<Option<Trade>, MarketError> {
    let row: Option<TradeRow> = db.fetch_optional(TRADE_SQL, args![id.as_bytes()]).await?;
    row.map(stored_trade).transpose()
}

pub(crate) async fn signed_order(db: &Db, id: OrderId) -> Result<Option<Vec<u8>>, MarketError> {
    let sql = "SELECT signed FROM market_order WHERE id = $1";
    let row: Option<(Vec<u8>,)> = db.fetch_optional(sql, args![id.as_bytes()]).await?;
    Ok(row.map(|(signed,)| signed))
}

pub(crate) async fn last_sequence(db: &Db, who: &ParticipantId) -> Result<i64, MarketError> {
    let (last,): (i64,) = db.fetch_one(SEQUENCE_SQL, args![who.as_str()]).await?;
    Ok(last)
}

pub(crate) async fn last_sequence_in(tx: &mut Tx, who: &ParticipantId) -> Result<i64, MarketError> {
    let (last,): (i64,) = tx.fetch_one(SEQUENCE_SQL, args![who.as_str()]).await?;
    Ok(last)
}

fn stored_order(row: OrderRow) -> Result<StoredOrder, MarketError> {
    let (id, content, signed, filled, reason) = row;
    let order = Order::from_cbor(&content).map_err(|_| MarketError::Corrupt("an order"))?;
    let filled = filled.map(Energy::from_wh);
    Ok(StoredOrder {
        id: OrderId(bytes(&id)?),
        order,
        signed,
        filled,
        reason,
    })
}

fn stored_clearing(row: ClearingRow) -> Result<Clearing, MarketError> {
    let (
        start_s,
        length_s,
        mechanism,
        price_policy,
        price,
        low,
        high,
        volume,
        orders,
        trades,
        book,
    ) = row;
    let price_of = |micro: Option<i64>| micro.map(Price::from_micro_per_kwh);
    Ok(Clearing {
        interval: interval(start_s, length_s)?,
        mechanism,
        price_policy,
        price: price_of(price),
        price_low: price_of(low),
        price_high: price_of(high),
        volume: Energy::from_wh(volume),
        orders: count(orders)?,
        trades: count(trades)?,
        book: Digest32(bytes(&book)?),
        public_book: None,
    })
}

fn stored_trade(row: TradeRow) -> Result<Trade, MarketError> {
    let (id, start_s, length_s, bid, offer, buyer, seller, energy, price) = row;
    let participant =
        |name| ParticipantId::new(name).map_err(|_| MarketError::Corrupt("a participant"));
    Ok(Trade {
        id: TradeId(bytes(&id)?),
        interval: interval(start_s, length_s)?,
        bid: OrderId(bytes(&bid)?),
        offer: OrderId(bytes(&offer)?),
        buyer: participant(buyer)?,
        seller: participant(seller)?,
        energy: Energy::from_wh(energy),
        price: Price::from_micro_per_kwh(price),
    })
}

pub(crate) fn interval(start_s: i64, length_s: i64) -> Result<Interval, MarketError> {
    let corrupt = || MarketError::Corrupt("an interval");
    let length_s = u32::try_from(length_s).map_err(|_| corrupt())?;
    Interval::new(start_s, length_s).map_err(|_| corrupt())
}

fn count(value: i64) -> Result<u32, MarketError> {
    u32::try_from(value).map_err(|_| MarketError::Corrupt("a count"))
}

fn bytes<const N: usize>(stored: &[u8]) -> Result<[u8; N], MarketError> {
    stored
        .try_into()
        .map_err(|_| MarketError::Corrupt("an id or a digest"))
}
