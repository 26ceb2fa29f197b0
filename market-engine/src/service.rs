//! The market at work on a database: orders are accepted, due intervals are cleared, results are read.
//!
//! Every write happens in the caller's transaction, which may hold other things too (the ledger's
//! holds, say): all of it is committed, or nothing. Nothing here commits, and nothing reads a clock.

use std::collections::BTreeMap;

use domain::energy::Energy;
use domain::ids::{Digest32, OrderId, ParticipantId, TradeId, digest_parts};
use domain::order::Order;
use domain::rejection::Rejection;
use domain::signed::Verified;
use domain::time::{Interval, TimeError, Timestamp};
use domain::trade::{Clearing, Trade};
use runtime::db::{Db, DbError, Tx};

use crate::accept;
use crate::book::{Book, BookError, Entry, ORDERS_MAX, slot};
use crate::clear::{Budget, Match, Mechanism, Outcome, clear};
pub use crate::market::{DUE_MAX, Rules};
use crate::market::{due, first_interval};
use crate::store::{self, NewOrder, StoredOrder};

/// Most clearings that [`recent_clearings`] returns.
pub const RECENT_MAX: u32 = 3_000;

/// Market transactions run one after the other, on PostgreSQL too.
const LOCK: i64 = 2001;

/// What became of an order that was sent in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderOutcome {
    /// It is in the book.
    Accepted(OrderId),
    /// Exactly these bytes were accepted before: nothing changed.
    Again(OrderId),
    /// It is not in the book.
    Refused(Rejection),
}

/// A cleared interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cleared {
    /// Its public summary.
    pub clearing: Clearing,
    /// Its trades.
    pub trades: Vec<Trade>,
    /// Its orders with what became of them, in the book's order.
    pub orders: Vec<ClearedOrder>,
}

/// An order after its clearing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClearedOrder {
    /// The order.
    pub order: Order,
    /// Its id.
    pub id: OrderId,
    /// Energy traded.
    pub filled: Energy,
    /// Why, in a sentence.
    pub reason: String,
}

/// An accepted order, before or after its clearing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedOrder {
    /// The order.
    pub order: Order,
    /// Its id.
    pub id: OrderId,
    /// Energy traded and why, once cleared.
    pub result: Option<(Energy, String)>,
}

/// Accepts an order into the book, or says why not. `rating_w` is the rating of its metering point.
///
/// The sequence is claimed only by an order that is accepted. Another message with a claimed sequence
/// is refused as equivocation and kept as evidence: commit the transaction in that case too.
///
/// # Errors
/// The database fails, or the rules do not fit it; never because of the order.
pub async fn accept_order(
    tx: &mut Tx,
    rules: &Rules,
    now: Timestamp,
    verified: &Verified<Order>,
    rating_w: u32,
) -> Result<OrderOutcome, MarketError> {
    tx.exclusive(LOCK).await?;
    let next = begin_market(tx, rules, now).await?;
    let (order, signed) = (verified.message(), verified.signed().as_bytes());
    let Ok(sequence) = i64::try_from(order.sequence) else {
        return Ok(OrderOutcome::Refused(Rejection::OverLimit));
    };
    if let Some((id, kept)) = store::by_sequence(tx, &order.participant, sequence).await? {
        if kept == signed {
            return Ok(OrderOutcome::Again(id));
        }
        tracing::warn!(participant = %order.participant, sequence, "sequence used by two orders");
        store::insert_evidence(tx, order, sequence, &kept, signed, now).await?;
        return Ok(OrderOutcome::Refused(Rejection::Equivocation));
    }
    let (own, arrival) = store::placed(tx, order).await?;
    let own = u32::try_from(own).unwrap_or(u32::MAX);
    if let Err(rejection) = accept::check(verified, rules, now, rating_w, own) {
        return Ok(OrderOutcome::Refused(rejection));
    }
    // A clock that was set back must not reopen an interval that was cleared.
    if order.interval < next {
        return Ok(OrderOutcome::Refused(Rejection::GateClosed));
    }
    if usize::try_from(arrival).map_or(true, |orders| orders >= ORDERS_MAX) {
        return Ok(OrderOutcome::Refused(Rejection::RateLimited));
    }
    store::insert_order(
        tx,
        NewOrder {
            order,
            sequence,
            arrival,
            signed,
            now,
        },
    )
    .await?;
    Ok(OrderOutcome::Accepted(order.id()))
}

/// Clears every interval whose gate has closed and that is not cleared yet, in order, [`DUE_MAX`] at
/// most; empty ones too. Done again, it finds nothing to do.
///
/// # Errors
/// The database fails, or the rules do not fit it.
pub async fn clear_due(
    tx: &mut Tx,
    rules: &Rules,
    now: Timestamp,
) -> Result<Vec<Cleared>, MarketError> {
    tx.exclusive(LOCK).await?;
    let next = begin_market(tx, rules, now).await?;
    let mut all = Vec::new();
    for interval in due(next, now, rules) {
        let cleared = clear_interval(store::book(tx, interval).await?, interval, rules.mechanism)?;
        store::insert_cleared(tx, &cleared, &rules.mechanism.details(), now).await?;
        store::set_next_due(tx, interval.next()).await?;
        all.push(cleared);
    }
    Ok(all)
}

/// The next interval to be cleared. At the very first call, the interval that runs.
async fn begin_market(tx: &mut Tx, rules: &Rules, now: Timestamp) -> Result<Interval, MarketError> {
    if rules.mechanism.budget() != Budget::Balanced {
        return Err(MarketError::TwoPrices);
    }
    if let Some((start_s, length_s)) = store::next_due(tx).await? {
        let next = store::interval(start_s, length_s)?;
        let (stored_s, rules_s) = (next.length_s(), rules.interval_length_s);
        return if stored_s == rules_s {
            Ok(next)
        } else {
            Err(MarketError::LengthChanged { stored_s, rules_s })
        };
    }
    let first = first_interval(now, rules)?;
    store::set_next_due(tx, first).await?;
    Ok(first)
}

/// Clears one interval's orders, given in the order of their arrival.
fn clear_interval(
    mut orders: Vec<StoredOrder>,
    interval: Interval,
    mechanism: Mechanism,
) -> Result<Cleared, MarketError> {
    // Where arrival decides, the book is in that order and its digest commits to it; else it is in the
    // order of ids, so that it is the same book whatever arrived first.
    if !mechanism.depends_on_arrival() {
        orders.sort_by_key(|o| o.id);
    }
    let book = book_of(&orders, interval)?;
    let outcome = clear(&book, mechanism);
    let trades = trades_of(&orders, interval, &outcome);
    let count = |n: usize| u32::try_from(n).map_err(|_| BookError::Full);
    let (low, high) = outcome.price_interval.unzip();
    let clearing = Clearing {
        interval,
        mechanism: mechanism.name().to_owned(),
        price_policy: mechanism.price_policy_name().to_owned(),
        price: outcome.price,
        price_low: low,
        price_high: high,
        volume: Energy::from_wh(outcome.volume_wh),
        orders: count(orders.len())?,
        trades: count(trades.len())?,
        book: book_digest(&orders),
        public_book: None,
    };
    let with_fill = |(stored, fill): (StoredOrder, crate::clear::Fill)| ClearedOrder {
        order: stored.order,
        id: stored.id,
        filled: Energy::from_wh(fill.filled_wh),
        reason: fill.reason.to_string(),
    };
    let orders = orders
        .into_iter()
        .zip(outcome.orders)
        .map(with_fill)
        .collect();
    Ok(Cleared {
        clearing,
        trades,
        orders,
    })
}

fn book_of(orders: &[StoredOrder], interval: Interval) -> Result<Book, MarketError> {
    let mut salt = interval.start_s().to_be_bytes().to_vec();
    salt.extend(interval.length_s().to_be_bytes());
    let mut book = Book::new(&salt);
    let mut participants: BTreeMap<&ParticipantId, u32> = BTreeMap::new();
    for (arrival, stored) in (0_u32..).zip(orders) {
        let next = u32::try_from(participants.len()).map_err(|_| BookError::Full)?;
        book.push(Entry {
            side: stored.order.side,
            energy_wh: stored.order.energy.wh(),
            limit: stored.order.limit,
            participant: *participants
                .entry(&stored.order.participant)
                .or_insert(next),
            arrival,
            key: stored.id.0,
        })?;
    }
    Ok(book)
}

fn trades_of(orders: &[StoredOrder], interval: Interval, outcome: &Outcome) -> Vec<Trade> {
    let trade = |t: &Match| {
        let (bid, offer) = (&orders[slot(t.bid)], &orders[slot(t.offer)]);
        assert_eq!(
            t.buyer_price, t.seller_price,
            "a trade of a community has one price"
        );
        Trade {
            id: Trade::id_of(interval, bid.id, offer.id),
            interval,
            bid: bid.id,
            offer: offer.id,
            buyer: bid.order.participant.clone(),
            seller: offer.order.participant.clone(),
            energy: Energy::from_wh(t.energy_wh),
            price: t.buyer_price,
        }
    };
    outcome.trades.iter().map(trade).collect()
}

/// [`digest_parts`] of `book` over id and signed bytes of each order, in the book's order.
fn book_digest(orders: &[StoredOrder]) -> Digest32 {
    let parts: Vec<&[u8]> = orders
        .iter()
        .flat_map(|o| [&o.id.as_bytes()[..], o.signed.as_slice()])
        .collect();
    Digest32(digest_parts("book", &parts))
}

/// The accepted orders of an interval: as they arrived, and once cleared in the book's order.
///
/// # Errors
/// The database fails.
pub async fn orders(db: &Db, interval: Interval) -> Result<Vec<PlacedOrder>, MarketError> {
    let placed = |o: StoredOrder| PlacedOrder {
        order: o.order,
        id: o.id,
        result: o.filled.zip(o.reason),
    };
    Ok(store::orders(db, interval)
        .await?
        .into_iter()
        .map(placed)
        .collect())
}

/// A cleared interval with its trades and orders, as [`clear_due`] gave it; `None` where it is not cleared.
///
/// # Errors
/// The database fails.
pub async fn clearing(db: &Db, interval: Interval) -> Result<Option<Cleared>, MarketError> {
    let Some(clearing) = store::clearing(db, interval).await? else {
        return Ok(None);
    };
    let trades = store::trades(db, interval).await?;
    let orders = store::orders(db, interval).await?.into_iter().map(|o| {
        let missing = MarketError::Corrupt("the result of an order");
        let (filled, reason) = o.filled.zip(o.reason).ok_or(missing)?;
        Ok(ClearedOrder {
            order: o.order,
            id: o.id,
            filled,
            reason,
        })
    });
    let orders = orders.collect::<Result<_, MarketError>>()?;
    Ok(Some(Cleared {
        clearing,
        trades,
        orders,
    }))
}

/// The newest `count` clearings, newest first, [`RECENT_MAX`] at most.
///
/// # Errors
/// The database fails.
pub async fn recent_clearings(db: &Db, count: u32) -> Result<Vec<Clearing>, MarketError> {
    store::recent(db, count.min(RECENT_MAX)).await
}

/// A trade; `None` for an unknown id.
///
/// # Errors
/// The database fails.
pub async fn trade(db: &Db, id: TradeId) -> Result<Option<Trade>, MarketError> {
    store::trade(db, id).await
}

/// The signed bytes of an accepted order; `None` for an unknown id.
///
/// # Errors
/// The database fails.
pub async fn signed_order(db: &Db, id: OrderId) -> Result<Option<Vec<u8>>, MarketError> {
    store::signed_order(db, id).await
}

/// The sequence a participant's next order should have: one above its highest accepted, first 1.
///
/// # Errors
/// The database fails.
pub async fn next_sequence(db: &Db, participant: &ParticipantId) -> Result<u64, MarketError> {
    after(store::last_sequence(db, participant).await?)
}

/// [`next_sequence`] inside a transaction, counting what it has accepted.
///
/// # Errors
/// The database fails.
pub async fn next_sequence_in(tx: &mut Tx, who: &ParticipantId) -> Result<u64, MarketError> {
    after(store::last_sequence_in(tx, who).await?)
}

fn after(last: i64) -> Result<u64, MarketError> {
    u64::try_from(last)
        .map(|last| last + 1)
        .map_err(|_| MarketError::Corrupt("a sequence"))
}

/// Why the market could not do its work. An order that is refused is no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MarketError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// An interval length that does not divide the hour.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// More orders than a book holds.
    #[error(transparent)]
    Book(#[from] BookError),
    /// Stored bytes that this program cannot have written.
    #[error("the market's tables hold {0} that cannot be read: restore them from a backup")]
    Corrupt(&'static str),
    /// Another interval length than the tables were begun with.
    #[error(
        "this market was begun with intervals of {stored_s} s, now {rules_s} s are configured: \
         set {stored_s} s again, or begin a new database"
    )]
    LengthChanged {
        /// Length in the tables.
        stored_s: u32,
        /// Length in the rules.
        rules_s: u32,
    },
    /// A mechanism whose trades have two prices.
    #[error(
        "trade-reduction cannot run a community: buyers would pay another price than sellers \
         receive, and a trade has one; it is there for files and studies"
    )]
    TwoPrices,
}
