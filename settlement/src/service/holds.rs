//! Holds: an accepted bid sets its tokens aside, and the clearing gives back what no trade needs.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use domain::ids::{OrderId, ParticipantId};
use domain::key_record::PointRole;
use domain::money::MoneyError;
use domain::order::{Order, Side};
use domain::posting::{Account, Chart, Purpose};
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::{Listed, Tx};

use super::error::bytes;
use super::money::{balance, post, token_posting};
use super::registry::role_code;
use super::{Community, ServiceError, largest_fee, note_interval};
use crate::store::LOCK;

/// Holds what a bid may cost at most, with its premium for green energy and the largest network fee that the interval keeps; an offer needs no hold. `false` where the
/// participant's tokens do not cover it. A second call for the same order has no effect.
///
/// # Errors
/// The database failed, or the amount does not fit 64 bits.
pub async fn hold(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    order: &Order,
) -> Result<bool, ServiceError> {
    hold_instead(tx, community, now, order, None).await
}

/// [`hold`], with what is held for the order that this one replaces free again. `false` leaves that hold
/// as it is.
///
/// # Errors
/// The database failed, or the amount does not fit 64 bits.
pub async fn hold_instead(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    order: &Order,
    replaced: Option<OrderId>,
) -> Result<bool, ServiceError> {
    tx.exclusive(LOCK).await?;
    let before = match replaced {
        Some(replaced) => open_hold(tx, replaced).await?.filter(|hold| hold.is_open),
        None => None,
    };
    if order.side == Side::Offer {
        if let Some(before) = before {
            close_holds(tx, now, &[(before, 0)]).await?;
        }
        return Ok(true);
    }
    let id = order.id();
    if let Some(known) = open_hold(tx, id).await? {
        return Ok(known.is_open);
    }
    note_interval(tx, community, order.interval).await?;
    let fee = largest_fee(tx, order.interval).await?;
    let most = order.most().and_then(|most| most.checked_add(fee));
    let price = most.ok_or(MoneyError::Overflow)?;
    let amount = price.amount(order.energy)?.nano().max(0);
    let free = before.as_ref().map_or(0, |hold| i128::from(hold.amount));
    let available = balance(tx, Chart::Available, &order.participant).await?;
    if i128::from(available) + free < i128::from(amount) {
        return Ok(false);
    }
    if let Some(before) = before {
        close_holds(tx, now, &[(before, 0)]).await?;
    }
    let available = Account::of(Chart::Available, &order.participant);
    let held = Account::of(Chart::Held, &order.participant);
    let start = order.interval.start();
    if amount > 0 {
        let accounts = (available, held);
        let posting = token_posting(start, Purpose::Hold, accounts, amount, &[id.as_bytes()]);
        post(tx, now, &[posting]).await?;
    }
    tx.execute(
        "INSERT INTO settle_holds (order_id, start_s, participant, amount, is_open)
         VALUES ($1, $2, $3, $4, 1)",
        args![
            id.0,
            order.interval.start_s(),
            order.participant.as_str(),
            amount
        ],
    )
    .await?;
    Ok(true)
}

/// Whether a participant has a connection point in the registry: without one its trades could not be
/// settled, so it may not order.
///
/// # Errors
/// The database failed.
pub async fn is_connected(tx: &mut Tx, participant: &ParticipantId) -> Result<bool, ServiceError> {
    let point: Option<(String,)> = tx
        .fetch_optional(
            "SELECT point FROM settle_points WHERE participant = $1 AND role = $2",
            args![participant.as_str(), role_code(PointRole::Connection)],
        )
        .await?;
    Ok(point.is_some())
}

// A cross join, which SQLite takes in this order: else it goes by role, through all points for each participant.
static CONNECTED: LazyLock<Listed> = LazyLock::new(|| {
    let connection = role_code(PointRole::Connection);
    let select = format!(
        "SELECT p.participant FROM asked CROSS JOIN settle_points p
         WHERE p.participant = asked.participant AND p.role = {connection}"
    );
    Listed::over("asked", &["participant"], &select)
});

/// One of these participants that has no connection point.
pub(super) async fn unconnected<'a>(
    tx: &mut Tx,
    participants: &BTreeSet<&'a ParticipantId>,
) -> Result<Option<&'a ParticipantId>, ServiceError> {
    let asked = participants.iter().map(|p| args![p.as_str()]).collect();
    let connected: Vec<(String,)> = CONNECTED.fetch(tx, asked).await?;
    let connected: BTreeSet<String> = connected.into_iter().map(|(name,)| name).collect();
    let mut asked = participants.iter().copied();
    Ok(asked.find(|participant| !connected.contains(participant.as_str())))
}

/// A hold as it is stored.
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

async fn open_hold(tx: &mut Tx, order: OrderId) -> Result<Option<Hold>, ServiceError> {
    let row: Option<HoldRow> = tx
        .fetch_optional(
            "SELECT order_id, start_s, participant, amount, is_open FROM settle_holds
             WHERE order_id = $1",
            args![order.0],
        )
        .await?;
    row.map(hold_of).transpose()
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
    let update = "UPDATE settle_holds SET is_open = 0 FROM closed
         WHERE settle_holds.order_id = closed.order_id";
    Listed::over("closed", &["order_id"], update)
});

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
            let accounts = (
                Account::of(Chart::Held, &hold.participant),
                Account::of(Chart::Available, &hold.participant),
            );
            let parts: [&[u8]; 1] = [hold.order.as_bytes()];
            let purpose = Purpose::Release;
            postings.push(token_posting(hold.start, purpose, accounts, rest, &parts));
        }
    }
    post(tx, now, &postings).await?;
    let orders = holds.iter().map(|(hold, _)| args![hold.order.0]).collect();
    CLOSE.all(tx, orders).await?;
    Ok(())
}

/// Gives back the hold of an order that was withdrawn before its gate closed.
///
/// # Errors
/// The database failed.
pub async fn release_hold(tx: &mut Tx, now: Timestamp, order: OrderId) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    match open_hold(tx, order).await? {
        Some(hold) if hold.is_open => close_holds(tx, now, &[(hold, 0)]).await,
        _ => Ok(()),
    }
}
