//! The market at work on a database: orders are accepted and taken back, many together ([`Batch`]), due intervals are
//! cleared, results are read. What happens is decided by [`Market::apply`] alone; here the state that commands are
//! about is loaded from the tables, and what happened is written to them.
//!
//! Every write happens in the caller's transaction, which may hold other things too (the ledger's
//! holds, say): all of it is committed, or nothing. Nothing here commits, and nothing reads a clock.

mod batch;
pub mod standing;

use std::collections::BTreeSet;

use domain::energy::Energy;
use domain::ids::{OrderId, ParticipantId, TradeId};
use domain::order::{Order, Side};
use domain::rejection::Rejection;
use domain::time::{Interval, TimeError, Timestamp};
use domain::trade::{Clearing, Trade};
use runtime::db::{Db, DbError, Tx};

use crate::book::BookError;
use crate::clear::Budget;
use crate::fees::ZoneFees;
pub use crate::market::Share;
pub use crate::market::{Cleared, ClearedOrder, DUE_MAX, Rules, Secret};
use crate::market::{Command, Event, Market, first_interval};
pub use crate::store::orders::Refused;
use crate::store::{self, StoredOrder};
pub use crate::store::{OwnOrder, REFUSED_KEPT, UNPROVEN_KEPT};
pub use batch::{Batch, Message, Placing, repeat_cancel};

/// Most clearings that [`recent_clearings`] returns.
pub const RECENT_MAX: u32 = 3_000;

/// Most orders that [`own_orders`] returns.
pub const OWN_MAX: u32 = 1_000;

/// Most orders that [`cleared_orders`] returns: a month of a hundred homes.
pub const REPLAY_MAX: u32 = 300_000;

/// Market transactions run one after the other, on PostgreSQL too.
const LOCK: i64 = 2001;

/// What a community's market runs on.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What the community has agreed on.
    pub rules: Rules,
    /// What the names in public books are made with; always the same for a community.
    pub secret: Secret,
}

/// What became of a message that was sent in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The order is in the book.
    Accepted(OrderId),
    /// The order is out of the book, or will not enter it.
    Withdrawn(OrderId),
    /// Exactly this was said before: nothing changed.
    Again {
        /// The order.
        order: OrderId,
        /// Whether it is in the book.
        stands: bool,
    },
    /// Nothing was done.
    Refused(Rejection),
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

/// Keeps messages that were refused, in the order in which they came: the newest [`REFUSED_KEPT`] of a participant, and
/// the newest [`UNPROVEN_KEPT`] of those that no participant is known to have signed.
///
/// # Errors
/// The database fails.
pub async fn keep_refused(
    tx: &mut Tx,
    now: Timestamp,
    refused: &[Refused<'_>],
) -> Result<(), MarketError> {
    if refused.is_empty() {
        return Ok(());
    }
    tx.exclusive(LOCK).await?;
    store::orders::keep_refused(tx, now, refused).await
}

/// Clears every interval whose gate has closed and that is not cleared yet, in order, [`DUE_MAX`] at
/// most; empty ones too. Done again, it finds nothing to do.
///
/// # Errors
/// The database fails, or the rules do not fit it.
pub async fn clear_due(
    tx: &mut Tx,
    setup: &Setup,
    now: Timestamp,
) -> Result<Vec<Cleared>, MarketError> {
    clear_due_with_fees(tx, setup, None, now).await
}

/// [`clear_due`] where the network's fee depends on who trades with whom.
///
/// # Errors
/// The database fails, or the rules do not fit it.
pub async fn clear_due_with_fees(
    tx: &mut Tx,
    setup: &Setup,
    fees: Option<&ZoneFees>,
    now: Timestamp,
) -> Result<Vec<Cleared>, MarketError> {
    tx.exclusive(LOCK).await?;
    let mut next = begin_market(tx, &setup.rules, now).await?;
    let mut all = Vec::new();
    for _ in 0..DUE_MAX {
        let mut market = Market::new(setup.rules, setup.secret, next);
        if !market.is_due(now) {
            break;
        }
        for placed in store::book(tx, next).await? {
            market.restore_order(placed);
        }
        market.restore_feeders(fees.map(ZoneFees::feeders).unwrap_or_default());
        for event in market.apply(now, Command::Clear)? {
            match event {
                Event::ShareAlarm(share) => {
                    let (participant, side) = (&share.participant, share.side.word());
                    let (permille, interval) = (share.permille(), share.interval);
                    tracing::warn!(%participant, %interval, side, permille, "holds a large part of the book");
                    store::insert_alarm(tx, &share).await?;
                }
                Event::Cleared(mut cleared) => {
                    if let Some(fees) = fees {
                        fees.charge(&mut cleared.trades);
                    }
                    let details = setup.rules.mechanism.details();
                    store::insert_cleared(tx, &cleared, &details, now).await?;
                    all.push(*cleared);
                }
                Event::Published { interval, book } => {
                    store::insert_public_book(tx, interval, &book).await?;
                }
                _ => {}
            }
        }
        next = market.next();
        store::set_next_due(tx, next).await?;
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

/// Who has ever had an order in an interval, with a sequence below `below`; those that were taken back too.
///
/// # Errors
/// The database fails.
pub async fn ordered(
    db: &Db,
    interval: Interval,
    below: u64,
) -> Result<BTreeSet<ParticipantId>, MarketError> {
    store::ordered(db, interval, below).await
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

/// Who held so much of a side of an interval's book when its gate closed that it could move the price.
///
/// # Errors
/// The database fails.
pub async fn share_alarms(db: &Db, interval: Interval) -> Result<Vec<Share>, MarketError> {
    store::share_alarms(db, interval).await
}

/// How much more a participant may order on a side of an interval before its share of it is too large; none where
/// nothing bounds it.
///
/// # Errors
/// The database fails.
pub async fn share_room(
    db: &Db,
    rules: &Rules,
    participant: &ParticipantId,
    (interval, side): (Interval, Side),
) -> Result<Option<Energy>, MarketError> {
    let (from, to) = (interval.start(), interval.end());
    let own = own_orders(db, participant, from, to).await?;
    let own = own
        .iter()
        .filter(|own| own.stands && own.order.side == side);
    let own_wh = own.fold(0_i64, |sum, own| sum.saturating_add(own.order.energy.wh()));
    let mut totals = store::totals(db, interval).await?;
    let others_wh = totals.side(side).saturating_sub(own_wh);
    let most = rules.share_max_wh(others_wh);
    Ok(most.map(|most| Energy::from_wh(most.saturating_sub(own_wh).max(0))))
}

/// The newest `count` clearings, newest first, [`RECENT_MAX`] at most.
///
/// # Errors
/// The database fails.
pub async fn recent_clearings(db: &Db, count: u32) -> Result<Vec<Clearing>, MarketError> {
    store::recent(db, count.min(RECENT_MAX)).await
}

/// Most rows on one page of [`clearings_page`] and [`trades_page`].
pub const PAGE_MAX: u32 = 1_000;

/// The clearings of the intervals that start in `[from, before)`, newest first, `most` at most.
///
/// # Errors
/// The database fails.
pub async fn clearings_page(
    db: &Db,
    (from, before): (Timestamp, Timestamp),
    most: u32,
) -> Result<Vec<Clearing>, MarketError> {
    store::clearings_page(db, (from, before), most.min(PAGE_MAX)).await
}

/// The trades whose ids, which ascend with their intervals, lie in `[from, before)`: everybody's, or one
/// participant's; newest first, `most` at most.
///
/// # Errors
/// The database fails.
pub async fn trades_page(
    db: &Db,
    whose: Option<&ParticipantId>,
    (from, before): (TradeId, TradeId),
    most: u32,
) -> Result<Vec<Trade>, MarketError> {
    store::trades_page(db, whose, (from, before), most.min(PAGE_MAX)).await
}

/// The public book of a cleared interval; `None` where it is not cleared, or was before there were any.
///
/// # Errors
/// The database fails.
pub async fn public_book(db: &Db, interval: Interval) -> Result<Option<String>, MarketError> {
    store::public_book(db, interval).await
}

/// Whether [`public_book`] has one.
///
/// # Errors
/// The database fails.
pub async fn has_public_book(db: &Db, interval: Interval) -> Result<bool, MarketError> {
    store::has_public_book(db, interval).await
}

/// A participant's orders of the intervals that start in `[from, to)`, those that are out of the book
/// too, newest interval last, [`OWN_MAX`] at most.
///
/// # Errors
/// The database fails.
pub async fn own_orders(
    db: &Db,
    participant: &ParticipantId,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<OwnOrder>, MarketError> {
    store::own_orders(db, participant, from, to, OWN_MAX).await
}

/// A trade; `None` for an unknown id.
///
/// # Errors
/// The database fails.
pub async fn trade(db: &Db, id: TradeId) -> Result<Option<Trade>, MarketError> {
    store::trade(db, id).await
}

/// The newest trades of a participant for intervals that start in `[from, to)`, newest first, `most` at most
/// (and [`OWN_MAX`]).
///
/// # Errors
/// The database fails.
pub async fn trades_of(
    db: &Db,
    participant: &ParticipantId,
    from: Timestamp,
    to: Timestamp,
    most: u32,
) -> Result<Vec<Trade>, MarketError> {
    store::trades_of(db, participant, from, to, most.min(OWN_MAX)).await
}

/// The orders of all cleared books of the intervals that start in `[from, to)`, book after book, from at most
/// [`REPLAY_MAX`] orders: the last book may lack some where that is reached.
///
/// # Errors
/// The database fails.
pub async fn cleared_orders(
    db: &Db,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Order>, MarketError> {
    let stored = store::cleared_orders(db, from, to, REPLAY_MAX).await?;
    Ok(stored.into_iter().map(|stored| stored.order).collect())
}

/// The signed bytes of an accepted order; `None` for an unknown id.
///
/// # Errors
/// The database fails.
pub async fn signed_order(db: &Db, id: OrderId) -> Result<Option<Vec<u8>>, MarketError> {
    store::signed_order(db, id).await
}

/// Pairs of signed orders under one number, newest first: what was kept, and what came after it.
///
/// # Errors
/// The database fails.
pub async fn equivocations(db: &Db) -> Result<Vec<(Vec<u8>, Vec<u8>)>, MarketError> {
    store::equivocations(db).await
}

/// The sequence a participant's next order should have: one above its highest accepted or taken back below
/// `below`, first 1. Sequences from `below` on are somebody else's to give.
///
/// # Errors
/// The database fails.
pub async fn next_sequence(
    db: &Db,
    participant: &ParticipantId,
    below: u64,
) -> Result<u64, MarketError> {
    let last = store::last_sequence(db, participant, below).await?;
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
