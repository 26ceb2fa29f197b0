//! The market's tables: orders as they were signed and what took them back, evidence of double use of a
//! sequence, refusals, clearings with their public books, trades, and how far the market has come. Rows
//! are added; an order's row gets its result once.

pub(crate) mod orders;
pub(crate) mod standing;

use std::collections::BTreeSet;

use domain::energy::Energy;
use domain::ids::{Digest32, OrderId, ParticipantId, TradeId};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::signed::Message;
use domain::time::{Interval, Timestamp};
use domain::trade::{Clearing, Trade};
use runtime::args;
use runtime::db::{Db, Migration, Tx};

use crate::market::{Cleared, ClearedOrder, Placed, Share, Totals};
use crate::service::MarketError;

/// The market's part of the database's history.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 2001,
        description: "market: orders, evidence, clearings, trades",
        sqlite: include_str!("../migrations/sqlite/2001_market.sql"),
        postgres: include_str!("../migrations/postgres/2001_market.sql"),
    },
    Migration {
        version: 2002,
        description: "market: orders taken back, totals, senders, refusals, public books",
        sqlite: include_str!("../migrations/sqlite/2002_market_life.sql"),
        postgres: include_str!("../migrations/postgres/2002_market_life.sql"),
    },
    Migration {
        version: 2003,
        description: "market: orders taken back before they came",
        sqlite: include_str!("../migrations/sqlite/2003_forestalled.sql"),
        postgres: include_str!("../migrations/postgres/2003_forestalled.sql"),
    },
    Migration {
        version: 2010,
        description: "market: network fees of trades by zone",
        sqlite: "ALTER TABLE market_trade ADD COLUMN network_fee_micro INTEGER",
        postgres: "ALTER TABLE market_trade ADD COLUMN network_fee_micro BIGINT",
    },
    Migration {
        version: 2020,
        description: "market: standing orders",
        sqlite: include_str!("../migrations/sqlite/2020_standing.sql"),
        postgres: include_str!("../migrations/postgres/2020_standing.sql"),
    },
    Migration {
        version: 2220,
        description: "market: evidence stays as it was kept",
        sqlite: include_str!("../migrations/sqlite/2220_evidence.sql"),
        postgres: include_str!("../migrations/postgres/2220_evidence.sql"),
    },
];

/// Most messages kept as evidence against one sequence; two prove the case, more add nothing.
pub const EVIDENCE_MAX: i64 = 8;

/// Refused messages of one participant that are kept, the newest.
pub const REFUSED_KEPT: i64 = 64;

/// Refused messages that nobody is known to have signed, of which the newest are kept.
pub const UNPROVEN_KEPT: i64 = 1024;

/// An order as its participant may see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnOrder {
    /// Its id.
    pub id: OrderId,
    /// The order.
    pub order: Order,
    /// Whether it was neither taken back nor replaced.
    pub stands: bool,
    /// Energy traded and why, once cleared.
    pub result: Option<(Energy, String)>,
}

/// An order as it was kept when it was accepted.
pub(crate) struct StoredOrder {
    pub(crate) id: OrderId,
    pub(crate) order: Order,
    pub(crate) filled: Option<Energy>,
    pub(crate) reason: Option<String>,
}

type OrderRow = (Vec<u8>, Vec<u8>, Option<i64>, Option<String>);
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
    Option<Vec<u8>>,
);
/// Id, content, signed bytes, arrival, and 1 where it stands.
type PlacedRow = (Vec<u8>, Vec<u8>, Vec<u8>, i64, i64);
type OwnRow = (Vec<u8>, Vec<u8>, Option<i64>, Option<String>, i64);
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
    Option<i64>,
);

const ORDERS_SQL: &str = "SELECT id, content, filled_wh, reason FROM market_order \
     WHERE interval_start_s = $1 AND NOT EXISTS \
     (SELECT 1 FROM market_withdrawn WHERE market_withdrawn.order_id = market_order.id) \
     ORDER BY COALESCE(place, arrival)";
const BOOK_SQL: &str = "SELECT o.id, o.content, o.signed, o.arrival, CAST(1 AS BIGINT) \
     FROM market_order o WHERE o.interval_start_s = $1 AND NOT EXISTS \
     (SELECT 1 FROM market_withdrawn w WHERE w.order_id = o.id) ORDER BY o.arrival";
const OWN_LIST_SQL: &str = "SELECT o.id, o.content, o.filled_wh, o.reason, \
     CASE WHEN w.order_id IS NULL THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END \
     FROM market_order o LEFT JOIN market_withdrawn w ON w.order_id = o.id \
     WHERE o.participant = $1 AND o.interval_start_s >= $2 AND o.interval_start_s < $3 \
     ORDER BY o.interval_start_s DESC, o.arrival DESC LIMIT $4";
const CLEARING_SQL: &str = "SELECT interval_start_s, interval_length_s, mechanism, price_policy, \
     price_micro, price_low_micro, price_high_micro, volume_wh, orders, trades, book, \
     public_book FROM market_clearing WHERE interval_start_s = $1 AND interval_length_s = $2";
const RECENT_SQL: &str = "SELECT interval_start_s, interval_length_s, mechanism, price_policy, \
     price_micro, price_low_micro, price_high_micro, volume_wh, orders, trades, book, \
     public_book FROM market_clearing ORDER BY interval_start_s DESC LIMIT $1";
const TRADES_SQL: &str = "SELECT id, interval_start_s, interval_length_s, bid, offer, buyer, seller, \
     energy_wh, price_micro, network_fee_micro FROM market_trade WHERE interval_start_s = $1 ORDER BY place";
const TRADE_SQL: &str = "SELECT id, interval_start_s, interval_length_s, bid, offer, buyer, seller, \
     energy_wh, price_micro, network_fee_micro FROM market_trade WHERE id = $1";
const TRADES_OF_SQL: &str = "SELECT id, interval_start_s, interval_length_s, bid, offer, buyer, seller, \
     energy_wh, price_micro, network_fee_micro FROM market_trade \
     WHERE interval_start_s >= $2 AND interval_start_s < $3 AND (buyer = $1 OR seller = $1) \
     ORDER BY interval_start_s DESC, place LIMIT $4";
const CLEARED_ORDERS_SQL: &str = "SELECT id, content, filled_wh, reason FROM market_order \
     WHERE interval_start_s >= $1 AND interval_start_s < $2 AND filled_wh IS NOT NULL \
     ORDER BY interval_start_s, place LIMIT $3";
const SEQUENCE_SQL: &str = "SELECT COALESCE(MAX(sequence), 0) FROM \
     (SELECT MAX(sequence) AS sequence FROM market_order WHERE participant = $1 AND sequence < $2 UNION ALL \
     SELECT MAX(sequence) FROM market_forestalled WHERE participant = $1 AND sequence < $2) AS used";

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

fn stored_sequence(sequence: u64) -> Result<i64, MarketError> {
    i64::try_from(sequence).map_err(|_| MarketError::Corrupt("a sequence"))
}

/// Most pairs of orders under one number that are read, the newest.
const EQUIVOCATIONS_MAX: i64 = 1000;

/// Pairs of signed orders under one number: what was kept, and what came after it.
pub(crate) async fn equivocations(db: &Db) -> Result<Vec<(Vec<u8>, Vec<u8>)>, MarketError> {
    let sql = "SELECT kept, other FROM market_evidence ORDER BY seen_at_ms DESC, digest LIMIT $1";
    Ok(db.fetch_all(sql, args![EQUIVOCATIONS_MAX]).await?)
}

/// The orders of an interval that is not cleared yet, as they arrived.
pub(crate) async fn book(tx: &mut Tx, interval: Interval) -> Result<Vec<Placed>, MarketError> {
    let rows: Vec<PlacedRow> = tx.fetch_all(BOOK_SQL, args![interval.start_s()]).await?;
    rows.into_iter().map(placed).collect()
}

pub(crate) async fn insert_public_book(
    tx: &mut Tx,
    interval: Interval,
    book: &str,
) -> Result<(), MarketError> {
    let sql = "INSERT INTO market_public_book (interval_start_s, book) VALUES ($1, $2)";
    tx.execute(sql, args![interval.start_s(), book]).await?;
    Ok(())
}

pub(crate) async fn public_book(
    db: &Db,
    interval: Interval,
) -> Result<Option<String>, MarketError> {
    let sql = "SELECT b.book FROM market_public_book b JOIN market_clearing c \
         ON c.interval_start_s = b.interval_start_s \
         WHERE b.interval_start_s = $1 AND c.interval_length_s = $2";
    let values = args![interval.start_s(), interval.length_s()];
    let row: Option<(String,)> = db.fetch_optional(sql, values).await?;
    Ok(row.map(|(book,)| book))
}

pub(crate) async fn has_public_book(db: &Db, interval: Interval) -> Result<bool, MarketError> {
    let sql = "SELECT CAST(1 AS BIGINT) FROM market_public_book b JOIN market_clearing c \
         ON c.interval_start_s = b.interval_start_s \
         WHERE b.interval_start_s = $1 AND c.interval_length_s = $2";
    let values = args![interval.start_s(), interval.length_s()];
    let row: Option<(i64,)> = db.fetch_optional(sql, values).await?;
    Ok(row.is_some())
}

pub(crate) async fn insert_alarm(tx: &mut Tx, share: &Share) -> Result<(), MarketError> {
    let sql = "INSERT INTO market_share_alarm (interval_start_s, participant, side, own_wh, side_wh) \
         VALUES ($1, $2, $3, $4, $5)";
    let values = args![
        share.interval.start_s(),
        share.participant.as_str(),
        i64::from(share.side.code()),
        share.own_wh,
        share.side_wh,
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

type ShareRow = (String, i64, i64, i64);

/// The alarms of an interval.
pub(crate) async fn share_alarms(db: &Db, interval: Interval) -> Result<Vec<Share>, MarketError> {
    let sql = "SELECT participant, side, own_wh, side_wh FROM market_share_alarm \
         WHERE interval_start_s = $1 ORDER BY participant, side";
    let rows: Vec<ShareRow> = db.fetch_all(sql, args![interval.start_s()]).await?;
    let share = |(participant, side, own_wh, side_wh): ShareRow| {
        let side = u8::try_from(side).ok().and_then(Side::from_code);
        Ok(Share {
            interval,
            participant: ParticipantId::new(participant)
                .map_err(|_| MarketError::Corrupt("a participant"))?,
            side: side.ok_or(MarketError::Corrupt("a side"))?,
            own_wh,
            side_wh,
        })
    };
    rows.into_iter().map(share).collect()
}

/// What an interval's orders come to.
pub(crate) async fn totals(db: &Db, interval: Interval) -> Result<Totals, MarketError> {
    let sql = "SELECT arrivals, bid_wh, offer_wh FROM market_totals WHERE interval_start_s = $1";
    let row: Option<(i64, i64, i64)> = db.fetch_optional(sql, args![interval.start_s()]).await?;
    let (arrivals, bid_wh, offer_wh) = row.unwrap_or_default();
    Ok(Totals {
        arrivals: count(arrivals)?,
        bid_wh,
        offer_wh,
    })
}

pub(crate) async fn own_orders(
    db: &Db,
    participant: &ParticipantId,
    from: Timestamp,
    to: Timestamp,
    most: u32,
) -> Result<Vec<OwnOrder>, MarketError> {
    let values = args![participant.as_str(), from.unix_s(), to.unix_s(), most];
    let rows: Vec<OwnRow> = db.fetch_all(OWN_LIST_SQL, values).await?;
    let own = |(id, content, filled, reason, stands): OwnRow| {
        Ok(OwnOrder {
            id: OrderId(bytes(&id)?),
            order: decoded(&content)?,
            stands: stands == 1,
            result: filled.map(Energy::from_wh).zip(reason),
        })
    };
    rows.into_iter().rev().map(own).collect()
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
        public_book,
        ..
    } = &cleared.clearing;
    let micro = |price: Option<Price>| price.map(Price::micro_per_kwh);
    let sql = "INSERT INTO market_clearing (interval_start_s, interval_length_s, mechanism, \
         price_policy, details, price_micro, price_low_micro, price_high_micro, volume_wh, orders, \
         trades, book, cleared_at_ms, public_book) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
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
        public_book.map(|digest| digest.as_bytes().to_vec()),
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
         buyer, seller, energy_wh, price_micro, network_fee_micro) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
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
        trade.network_fee.map(Price::micro_per_kwh),
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

pub(crate) async fn ordered(
    db: &Db,
    interval: Interval,
    below: u64,
) -> Result<BTreeSet<ParticipantId>, MarketError> {
    let sql = "SELECT DISTINCT participant FROM market_order WHERE interval_start_s = $1 AND sequence < $2";
    let below = i64::try_from(below).unwrap_or(i64::MAX);
    let rows: Vec<(String,)> = db.fetch_all(sql, args![interval.start_s(), below]).await?;
    let id = |(name,)| ParticipantId::new(name).map_err(|_| MarketError::Corrupt("a participant"));
    rows.into_iter().map(id).collect()
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

/// Clearings of the intervals that start in `[from, before)`, newest first.
pub(crate) async fn clearings_page(
    db: &Db,
    (from, before): (Timestamp, Timestamp),
    most: u32,
) -> Result<Vec<Clearing>, MarketError> {
    let sql = "SELECT interval_start_s, interval_length_s, mechanism, price_policy, \
         price_micro, price_low_micro, price_high_micro, volume_wh, orders, trades, book, \
         public_book FROM market_clearing WHERE interval_start_s >= $1 AND interval_start_s < $2 \
         ORDER BY interval_start_s DESC LIMIT $3";
    let values = args![from.unix_s(), before.unix_s(), most];
    let rows: Vec<ClearingRow> = db.fetch_all(sql, values).await?;
    rows.into_iter().map(stored_clearing).collect()
}

/// Trades whose ids lie in `[from, before)`, newest first: everybody's, or those of one participant.
pub(crate) async fn trades_page(
    db: &Db,
    whose: Option<&ParticipantId>,
    (from, before): (TradeId, TradeId),
    most: u32,
) -> Result<Vec<Trade>, MarketError> {
    let sql = "SELECT id, interval_start_s, interval_length_s, bid, offer, buyer, seller, \
         energy_wh, price_micro, network_fee_micro FROM market_trade \
         WHERE id >= $1 AND id < $2 AND ($3 = '' OR buyer = $3 OR seller = $3) \
         ORDER BY id DESC LIMIT $4";
    let whose = whose.map_or("", ParticipantId::as_str);
    let values = args![from.as_bytes(), before.as_bytes(), whose, most];
    let rows: Vec<TradeRow> = db.fetch_all(sql, values).await?;
    rows.into_iter().map(stored_trade).collect()
}

pub(crate) async fn trades(db: &Db, interval: Interval) -> Result<Vec<Trade>, MarketError> {
    let rows: Vec<TradeRow> = db.fetch_all(TRADES_SQL, args![interval.start_s()]).await?;
    rows.into_iter().map(stored_trade).collect()
}

/// The newest trades of a participant for intervals that start in `[from, to)`, newest first.
pub(crate) async fn trades_of(
    db: &Db,
    participant: &ParticipantId,
    from: Timestamp,
    to: Timestamp,
    most: u32,
) -> Result<Vec<Trade>, MarketError> {
    let values = args![participant.as_str(), from.unix_s(), to.unix_s(), most];
    let rows: Vec<TradeRow> = db.fetch_all(TRADES_OF_SQL, values).await?;
    rows.into_iter().map(stored_trade).collect()
}

/// The orders that were in a cleared book of the intervals that start in `[from, to)`, book after book.
pub(crate) async fn cleared_orders(
    db: &Db,
    from: Timestamp,
    to: Timestamp,
    most: u32,
) -> Result<Vec<StoredOrder>, MarketError> {
    let values = args![from.unix_s(), to.unix_s(), most];
    let rows: Vec<OrderRow> = db.fetch_all(CLEARED_ORDERS_SQL, values).await?;
    rows.into_iter().map(stored_order).collect()
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

pub(crate) async fn last_sequence(
    db: &Db,
    who: &ParticipantId,
    below: u64,
) -> Result<i64, MarketError> {
    let below = i64::try_from(below).unwrap_or(i64::MAX);
    let (last,): (i64,) = db
        .fetch_one(SEQUENCE_SQL, args![who.as_str(), below])
        .await?;
    Ok(last)
}

fn decoded(content: &[u8]) -> Result<Order, MarketError> {
    Order::from_cbor(content).map_err(|_| MarketError::Corrupt("an order"))
}

fn placed(row: PlacedRow) -> Result<Placed, MarketError> {
    let (id, content, signed, arrival, stands) = row;
    Ok(Placed {
        id: OrderId(bytes(&id)?),
        order: decoded(&content)?,
        signed,
        arrival: count(arrival)?,
        stands: stands == 1,
    })
}

fn stored_order(row: OrderRow) -> Result<StoredOrder, MarketError> {
    let (id, content, filled, reason) = row;
    let order = decoded(&content)?;
    let filled = filled.map(Energy::from_wh);
    Ok(StoredOrder {
        id: OrderId(bytes(&id)?),
        order,
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
        public_book,
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
        public_book: match public_book {
            Some(digest) => Some(Digest32(bytes(&digest)?)),
            None => None,
        },
    })
}

fn stored_trade(row: TradeRow) -> Result<Trade, MarketError> {
    let (id, start_s, length_s, bid, offer, buyer, seller, energy, price, fee) = row;
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
        network_fee: fee.map(Price::from_micro_per_kwh),
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
