//! Holds: an accepted bid sets its tokens aside, and the clearing gives back what no trade needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use domain::ids::{OrderId, ParticipantId};
use domain::key_record::PointRole;
use domain::posting::{Account, Chart, Posting, Purpose};
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::{Db, Listed, Tx};

use super::ServiceError;
use super::error::bytes;
use super::money::{post, token_posting};
use super::registry::role_code;
use crate::store::LOCK;

// A cross join, which SQLite takes in this order: else it goes by role, through all points for each participant.
static CONNECTED: LazyLock<Listed> = LazyLock::new(|| {
    let connection = role_code(PointRole::Connection);
    let select = format!(
        "SELECT p.participant FROM asked CROSS JOIN settle_points p
         WHERE p.participant = asked.participant AND p.role = {connection}"
    );
    Listed::over("asked", &["participant"], &select)
});

/// Those of these participants that have a connection point in the registry. Without one a participant's trades could not
/// be settled.
pub(super) async fn connected(
    tx: &mut Tx,
    participants: &BTreeSet<&ParticipantId>,
) -> Result<BTreeSet<String>, ServiceError> {
    let asked = participants.iter().map(|p| args![p.as_str()]).collect();
    let connected: Vec<(String,)> = CONNECTED.fetch(tx, asked).await?;
    Ok(connected.into_iter().map(|(name,)| name).collect())
}

/// One of these participants that has no connection point.
pub(super) async fn unconnected<'a>(
    tx: &mut Tx,
    participants: &BTreeSet<&'a ParticipantId>,
) -> Result<Option<&'a ParticipantId>, ServiceError> {
    let connected = connected(tx, participants).await?;
    let mut asked = participants.iter().copied();
    Ok(asked.find(|participant| !connected.contains(participant.as_str())))
}

/// A hold as it is stored.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) order: OrderId,
    pub(super) participant: ParticipantId,
    pub(super) start: Timestamp,
    pub(super) amount: i64,
    pub(super) is_open: bool,
}

type HoldRow = (Vec<u8>, i64, String, i64, i64);

fn hold_of(row: HoldRow) -> Result<Hold, ServiceError> {
    let (order, start_s, participant, amount, is_open) = row;
    Ok(Hold {
        order: OrderId(bytes(&order, "an order's id")?),
        participant: ParticipantId::new(participant)?,
        start: Timestamp::from_unix_s(start_s),
        amount,
        is_open: is_open != 0,
    })
}

static KNOWN: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT h.order_id, h.start_s, h.participant, h.amount, h.is_open
         FROM asked CROSS JOIN settle_holds h WHERE h.order_id = asked.order_id";
    Listed::over("asked", &["order_id"], select)
});

/// The holds of these orders, as far as there are any; closed ones too.
pub(super) async fn known_holds(
    tx: &mut Tx,
    orders: &BTreeSet<OrderId>,
) -> Result<BTreeMap<OrderId, Hold>, ServiceError> {
    let asked = orders.iter().map(|order| args![order.0]).collect();
    let rows: Vec<HoldRow> = KNOWN.fetch(tx, asked).await?;
    let hold = |row| hold_of(row).map(|hold| (hold.order, hold));
    rows.into_iter().map(hold).collect()
}

static NEW: LazyLock<Listed> = LazyLock::new(|| {
    let columns = ["order_id", "start_s", "participant", "amount", "is_open"];
    Listed::insert("settle_holds", &columns, "")
});

pub(super) async fn insert_holds(tx: &mut Tx, holds: &[&Hold]) -> Result<(), ServiceError> {
    let row = |hold: &&Hold| {
        let (start_s, participant) = (hold.start.unix_s(), hold.participant.as_str());
        args![
            hold.order.0,
            start_s,
            participant,
            hold.amount,
            hold.is_open
        ]
    };
    NEW.all(tx, holds.iter().map(row).collect()).await?;
    Ok(())
}

/// The holds of an interval that are neither released nor shrunk to trades yet.
pub(super) async fn open_holds(tx: &mut Tx, interval: Interval) -> Result<Vec<Hold>, ServiceError> {
    let rows: Vec<HoldRow> = tx
        .fetch_all(
            "SELECT order_id, start_s, participant, amount, is_open FROM settle_holds
             WHERE start_s = $1 AND is_open = 1 ORDER BY order_id",
            args![interval.start_s()],
        )
        .await?;
    rows.into_iter().map(hold_of).collect()
}

static CLOSE: LazyLock<Listed> = LazyLock::new(|| {
    let update = "UPDATE settle_holds SET is_open = 0
         WHERE order_id IN (SELECT order_id FROM closed)";
    Listed::over("closed", &["order_id"], update)
});

/// Marks the holds of these orders as closed; what was held for them is moved by whoever calls.
pub(super) async fn mark_closed(tx: &mut Tx, orders: &[OrderId]) -> Result<(), ServiceError> {
    let orders = orders.iter().map(|order| args![order.0]).collect();
    CLOSE.all(tx, orders).await?;
    Ok(())
}

/// What gives back a part of a hold.
pub(super) fn release(hold: &Hold, amount: i64) -> Posting {
    let accounts = (
        Account::of(Chart::Held, &hold.participant),
        Account::of(Chart::Available, &hold.participant),
    );
    let parts: [&[u8]; 1] = [hold.order.as_bytes()];
    token_posting(hold.start, Purpose::Release, accounts, amount, &parts)
}

/// Most holds of uncleared intervals that are given back at a time.
pub const RELEASED_HOLDS_MAX: i64 = 1000;

const UNCLEARED: &str =
    "SELECT h.order_id, h.start_s, h.participant, h.amount, h.is_open FROM settle_holds h
     JOIN settle_intervals i ON i.start_s = h.start_s
     WHERE h.is_open = 1 AND i.start_s + i.length_s <= $1
     AND h.start_s < (SELECT COALESCE(MAX(start_s), 0) FROM settle_clearings)
     AND NOT EXISTS (SELECT 1 FROM settle_clearings c WHERE c.start_s = h.start_s)
     ORDER BY h.start_s, h.order_id LIMIT $2";

/// Whether there is anything for [`release_uncleared`].
///
/// # Errors
/// The database failed.
pub async fn has_uncleared_holds(db: &Db, now: Timestamp) -> Result<bool, ServiceError> {
    let one: Option<HoldRow> = db
        .fetch_optional(UNCLEARED, args![now.unix_s(), 1_i64])
        .await?;
    Ok(one.is_some())
}

/// Gives back what is held for intervals that have ended and can no longer be cleared, and says how many holds that was, at
/// most [`RELEASED_HOLDS_MAX`]. Intervals are cleared in their order, so one that is not cleared while a later one is never
/// will be; until then a market that stood still may yet come to it.
///
/// # Errors
/// The database failed.
pub async fn release_uncleared(tx: &mut Tx, now: Timestamp) -> Result<usize, ServiceError> {
    tx.exclusive(LOCK).await?;
    let args = args![now.unix_s(), RELEASED_HOLDS_MAX];
    let rows: Vec<HoldRow> = tx.fetch_all(UNCLEARED, args).await?;
    let hold = |row| Ok((hold_of(row)?, 0));
    let holds: Vec<(Hold, i64)> = rows
        .into_iter()
        .map(hold)
        .collect::<Result<_, ServiceError>>()?;
    close_holds(tx, now, &holds).await?;
    Ok(holds.len())
}

/// Gives back what of each hold is not kept, and closes them.
pub(super) async fn close_holds(
    tx: &mut Tx,
    now: Timestamp,
    holds: &[(Hold, i64)],
) -> Result<(), ServiceError> {
    let mut postings = Vec::with_capacity(holds.len());
    for (hold, kept) in holds {
        let rest = hold.amount.checked_sub(*kept).filter(|rest| *rest >= 0);
        let rest = rest.ok_or_else(|| {
            let why = "its trades cost more than was held";
            ServiceError::Refused(format!("order {}: {why}", hold.order))
        })?;
        if rest > 0 {
            postings.push(release(hold, rest));
        }
    }
    post(tx, now, &postings).await?;
    let orders: Vec<OrderId> = holds.iter().map(|(hold, _)| hold.order).collect();
    mark_closed(tx, &orders).await
}
