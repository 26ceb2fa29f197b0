//! After a clearing: holds shrink to what the trades need, and the market log takes in orders, clearing
//! and trades.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use domain::ids::{OrderId, ParticipantId};
use domain::money::MoneyError;
use domain::order::Order;
use domain::time::{Interval, Timestamp};
use domain::trade::{Clearing, Trade};
use runtime::args;
use runtime::db::{Listed, Source, Tx};

use super::error::decoded;
use super::logs::append;
use super::registry::secrets_of;
use super::{Community, ServiceError, holds, network_fee, note_interval};
use crate::bargain;
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind, PUBLIC, salt_of};
use crate::store::LOCK;

/// Books the outcome of an interval's auction. A second call with the same outcome has no effect.
///
/// # Errors
/// Another outcome is in the books; a trade's order is not among `orders`, or one of its parties has no
/// connection point; a price below zero.
pub async fn contract(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    clearing: &Clearing,
    trades: &[Trade],
    orders: &[(Order, OrderId, Vec<u8>)],
) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    let interval = clearing.interval;
    if is_contracted(tx, clearing, trades).await? {
        return Ok(());
    }
    check(tx, clearing, trades, orders).await?;
    note_interval(tx, community, interval).await?;
    shrink_holds(tx, now, interval, trades).await?;
    let parties = trades.iter().flat_map(|t| [&t.buyer, &t.seller]);
    let theirs = orders.iter().map(|(order, ..)| &order.participant);
    let secrets = secrets_of(tx, &theirs.chain(parties).collect()).await?;
    log_orders(tx, orders, &secrets).await?;
    let content = clearing.to_cbor();
    let entry = Entry::new(Kind::Clearing, interval.start(), PUBLIC, &content);
    let index = append(tx, Log::Market, &[entry]).await?;
    tx.execute(
        "INSERT INTO settle_clearings (start_s, content, log_index) VALUES ($1, $2, $3)",
        args![interval.start_s(), content, index],
    )
    .await?;
    log_trades(tx, trades, &secrets).await
}

/// Whether this outcome is in the books; an error where another is, or where trades are given that none
/// is known for.
pub(super) async fn is_contracted(
    tx: &mut Tx,
    clearing: &Clearing,
    trades: &[Trade],
) -> Result<bool, ServiceError> {
    let start_s = clearing.interval.start_s();
    let known: Option<(Vec<u8>,)> = tx
        .fetch_optional(
            "SELECT content FROM settle_clearings WHERE start_s = $1",
            args![start_s],
        )
        .await?;
    let Some((content,)) = known else {
        return Ok(false);
    };
    let stored: BTreeSet<Vec<u8>> = trades_of(tx, start_s)
        .await?
        .iter()
        .map(Trade::to_cbor)
        .collect();
    let given: BTreeSet<Vec<u8>> = trades.iter().map(Trade::to_cbor).collect();
    if content == clearing.to_cbor() && stored == given && given.len() == trades.len() {
        Ok(true)
    } else {
        Err(ServiceError::Conflict(format!(
            "the clearing of {}",
            clearing.interval
        )))
    }
}

/// The trades of an interval as they were contracted.
pub(super) async fn trades_of(
    source: &mut impl Source,
    start_s: i64,
) -> Result<Vec<Trade>, ServiceError> {
    let rows: Vec<(Vec<u8>,)> = source
        .all(
            "SELECT content FROM settle_trades WHERE start_s = $1 ORDER BY trade_id",
            args![start_s],
        )
        .await?;
    rows.iter()
        .map(|(content,)| decoded(content, "a trade"))
        .collect()
}

async fn check(
    tx: &mut Tx,
    clearing: &Clearing,
    trades: &[Trade],
    orders: &[(Order, OrderId, Vec<u8>)],
) -> Result<(), ServiceError> {
    let refuse = |why: String| Err(ServiceError::Refused(why));
    if let Some((order, id, _)) = orders.iter().find(|(order, id, _)| order.id() != *id) {
        return refuse(format!(
            "{id} is not the id of {}'s order",
            order.participant
        ));
    }
    let known = orders.iter().map(|(order, id, _)| (*id, order)).collect();
    bargain::check(clearing, trades, &known).or_else(refuse)?;
    let parties = trades.iter().flat_map(|t| [&t.buyer, &t.seller]);
    match holds::unconnected(tx, &parties.collect()).await? {
        Some(party) => refuse(format!("{party} has a trade but no connection point")),
        None => Ok(()),
    }
}

/// Every hold of the interval shrinks to what its trades cost, also where its order was not in the book
/// any more.
async fn shrink_holds(
    tx: &mut Tx,
    now: Timestamp,
    interval: Interval,
    trades: &[Trade],
) -> Result<(), ServiceError> {
    let fee = network_fee(tx, interval).await?;
    let mut needed: BTreeMap<OrderId, i64> = BTreeMap::new();
    for trade in trades {
        let fee = trade.network_fee.unwrap_or(fee);
        let price = trade.price.checked_add(fee).ok_or(MoneyError::Overflow)?;
        let amount = price.amount(trade.energy)?.nano();
        let sum = needed.entry(trade.bid).or_default();
        *sum = sum.checked_add(amount).ok_or(MoneyError::Overflow)?;
    }
    let open = holds::open_holds(tx, interval).await?.into_iter();
    let kept = |hold: holds::Hold| {
        let kept = needed.remove(&hold.order).unwrap_or(0);
        (hold, kept)
    };
    let holds: Vec<_> = open.map(kept).collect();
    holds::close_holds(tx, now, &holds).await?;
    match needed.into_iter().find(|(_, amount)| *amount > 0) {
        Some((order, _)) => Err(ServiceError::Refused(format!(
            "bid {order} has a trade but nothing is held for it"
        ))),
        None => Ok(()),
    }
}

static ORDERS: LazyLock<Listed> =
    LazyLock::new(|| Listed::insert("settle_orders", &["order_id", "signed", "log_index"], ""));
static TRADES: LazyLock<Listed> = LazyLock::new(|| {
    let columns = [
        "start_s",
        "trade_id",
        "content",
        "buyer_index",
        "seller_index",
    ];
    Listed::insert("settle_trades", &columns, "")
});

/// What the salts of participants' entries are made with, by participant.
type Secrets = BTreeMap<ParticipantId, [u8; 32]>;

async fn log_orders(
    tx: &mut Tx,
    orders: &[(Order, OrderId, Vec<u8>)],
    secrets: &Secrets,
) -> Result<(), ServiceError> {
    let entry = |(order, _, signed): &(Order, OrderId, Vec<u8>)| {
        let salt = salt_of(&secrets[&order.participant], signed);
        Entry::new(Kind::Order, order.interval.start(), salt, signed)
    };
    let entries: Vec<Entry> = orders.iter().map(entry).collect();
    let first = append(tx, Log::Market, &entries).await?;
    let row = |(index, (_, id, signed)): (i64, &(Order, OrderId, Vec<u8>))| {
        args![id.0, signed.as_slice(), index]
    };
    let rows = (first..).zip(orders).map(row).collect();
    ORDERS.all(tx, rows).await?;
    Ok(())
}

/// A trade is logged once for each party, under that party's salt: either can open it, and each can
/// have theirs forgotten without the other.
async fn log_trades(tx: &mut Tx, trades: &[Trade], secrets: &Secrets) -> Result<(), ServiceError> {
    let mut entries = Vec::with_capacity(trades.len() * 2);
    for trade in trades {
        let content = trade.to_cbor();
        for party in [&trade.buyer, &trade.seller] {
            let salt = salt_of(&secrets[party], &content);
            entries.push(Entry::new(
                Kind::Trade,
                trade.interval.start(),
                salt,
                &content,
            ));
        }
    }
    let first = append(tx, Log::Market, &entries).await?;
    let row = |(index, trade): (i64, &Trade)| {
        let (start_s, content) = (trade.interval.start_s(), trade.to_cbor());
        args![start_s, trade.id.0, content, index, index + 1]
    };
    let rows = (first..).step_by(2).zip(trades).map(row).collect();
    TRADES.all(tx, rows).await?;
    Ok(())
}
