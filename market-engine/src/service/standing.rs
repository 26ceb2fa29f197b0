//! Standing orders on the database: taken in, replaced, taken back, and what they have ordered. Whether one may
//! stand is decided by [`crate::standing::check`], what it orders by [`crate::standing::place`].
//!
//! As everywhere in the market's service, each write is in the caller's transaction.

use domain::ids::ParticipantId;
use domain::order::Order;
use domain::rejection::Rejection;
use domain::signed::Verified;
use domain::standing_order::{Standing, StandingCancel, StandingOrder};
use domain::time::{Interval, Timestamp};
use runtime::db::{Db, Tx};

use super::{LOCK, MarketError, Outcome, Setup};
use crate::market::closes_at;
use crate::standing::{self, Measured, Placement, Progress, Traded, sentence};
use crate::store::{self, standing as table};

pub use crate::store::standing::{Bought, Part, Stood};

/// Most standing orders of one participant that [`of`] returns.
pub const LIST_MAX: u32 = 100;

/// Takes a standing order, or says why not. `rating_w` is the rating of its metering point. What the one that it
/// replaces has ordered where gates are open stays in the book: the caller takes it out.
///
/// The sequence is claimed only by one that is accepted; another message with a claimed sequence is refused as
/// equivocation.
///
/// # Errors
/// The database fails; never because of the standing order.
pub async fn place(
    tx: &mut Tx,
    setup: &Setup,
    now: Timestamp,
    verified: &Verified<StandingOrder>,
    rating_w: u32,
) -> Result<Outcome, MarketError> {
    let (order, signed) = (verified.message(), verified.signed().as_bytes());
    tx.exclusive(LOCK).await?;
    let named = [Some(order.sequence), order.replaces];
    let own = table::own(tx, &order.participant, now, named).await?;
    let with = |sequence| own.iter().find(|known| known.order.sequence == sequence);
    if let Some(known) = with(order.sequence) {
        return Ok(match known.signed == signed {
            true => Outcome::Again {
                order: order.id(),
                stands: known.stands,
            },
            false => Outcome::Refused(Rejection::Equivocation),
        });
    }
    if let Err(refused) = count(tx, setup, now, &order.participant).await? {
        return Ok(Outcome::Refused(refused));
    }
    let stands = |known: &Stood| known.stands && known.order.wish.until() > now;
    let replaced = match order.replaces.map(with) {
        None => None,
        Some(Some(known)) if stands(known) => Some(known),
        Some(_) => return Ok(Outcome::Refused(Rejection::UnknownOrder)),
    };
    let others = own.iter().filter(|known| stands(known)).count() - usize::from(replaced.is_some());
    if let Err(refused) = standing::check(order, &setup.rules, now, rating_w, others) {
        return Ok(Outcome::Refused(refused));
    }
    let root = replaced.map_or(order.sequence, |known| known.root);
    table::insert(tx, order, root, signed, now).await?;
    if let Some(known) = replaced {
        let (who, sequence) = (&order.participant, known.order.sequence);
        let by = Some(order.sequence);
        table::insert_withdrawn(tx, who, sequence, by, signed, now).await?;
    }
    Ok(Outcome::Accepted(order.id()))
}

/// Says what became of a standing order whose key has ended since it was taken; one that was not taken is refused.
///
/// # Errors
/// The database fails; never because of the standing order.
pub async fn repeat(
    tx: &mut Tx,
    now: Timestamp,
    verified: &Verified<StandingOrder>,
) -> Result<Outcome, MarketError> {
    let (order, signed) = (verified.message(), verified.signed().as_bytes());
    tx.exclusive(LOCK).await?;
    let own = table::own(tx, &order.participant, now, [Some(order.sequence), None]).await?;
    let known = own
        .iter()
        .find(|known| known.order.sequence == order.sequence && known.signed == signed);
    let again = |known: &Stood| Outcome::Again {
        order: known.order.id(),
        stands: known.stands,
    };
    Ok(known.map_or(Outcome::Refused(Rejection::KeyRevoked), again))
}

/// Takes a standing order back, or says why not. What it has ordered where gates are open stays in the book: the
/// caller takes it out.
///
/// # Errors
/// The database fails; never because of the cancel.
pub async fn cancel(
    tx: &mut Tx,
    setup: &Setup,
    now: Timestamp,
    verified: &Verified<StandingCancel>,
) -> Result<Outcome, MarketError> {
    let (cancel, signed) = (verified.message(), verified.signed().as_bytes());
    tx.exclusive(LOCK).await?;
    let own = table::own(tx, &cancel.participant, now, [Some(cancel.sequence), None]).await?;
    let known = own
        .iter()
        .find(|known| known.order.sequence == cancel.sequence);
    let (order, stands) = match known {
        None => return Ok(Outcome::Refused(Rejection::UnknownOrder)),
        Some(known) => (known.order.id(), known.stands),
    };
    if !stands {
        return Ok(Outcome::Again { order, stands });
    }
    if let Err(refused) = count(tx, setup, now, &cancel.participant).await? {
        return Ok(Outcome::Refused(refused));
    }
    let (who, sequence) = (&cancel.participant, cancel.sequence);
    table::insert_withdrawn(tx, who, sequence, None, signed, now).await?;
    Ok(Outcome::Withdrawn(order))
}

/// Says what became of a standing order's cancel whose key has ended since it was taken; one that was not taken is
/// refused.
///
/// # Errors
/// The database fails; never because of the cancel.
pub async fn repeat_cancel(
    tx: &mut Tx,
    now: Timestamp,
    verified: &Verified<StandingCancel>,
) -> Result<Outcome, MarketError> {
    let (cancel, signed) = (verified.message(), verified.signed().as_bytes());
    let (who, sequence) = (&cancel.participant, cancel.sequence);
    tx.exclusive(LOCK).await?;
    let refused = Outcome::Refused(Rejection::KeyRevoked);
    if !table::was_cancelled(tx, who, sequence, signed).await? {
        return Ok(refused);
    }
    let own = table::own(tx, who, now, [Some(sequence), None]).await?;
    let known = own.iter().find(|known| known.order.sequence == sequence);
    let again = |known: &Stood| Outcome::Again {
        order: known.order.id(),
        stands: known.stands,
    };
    Ok(known.map_or(refused, again))
}

/// Counts a message against its participant's limit, together with its orders.
async fn count(
    tx: &mut Tx,
    setup: &Setup,
    now: Timestamp,
    participant: &ParticipantId,
) -> Result<Result<(), Rejection>, MarketError> {
    let sender = table::sender(tx, participant).await?;
    match sender.counted(now, &setup.rules) {
        Err(refused) => Ok(Err(refused)),
        Ok(sender) => {
            store::orders::set_senders(tx, std::iter::once((participant, sender))).await?;
            Ok(Ok(()))
        }
    }
}

/// Everybody's standing orders that stand now, in the order in which they came.
///
/// # Errors
/// The database fails.
pub async fn standing(db: &Db, now: Timestamp) -> Result<Vec<Stood>, MarketError> {
    table::standing(db, now).await
}

/// A participant's standing orders, newest first, [`LIST_MAX`] at most; those that are over too.
///
/// # Errors
/// The database fails.
pub async fn of(db: &Db, participant: &ParticipantId) -> Result<Vec<Stood>, MarketError> {
    table::of(db, participant, LIST_MAX).await
}

/// What a standing order, and those whose place it took, have ordered, oldest interval first.
///
/// # Errors
/// The database fails.
pub async fn parts(db: &Db, stood: &Stood) -> Result<Vec<Part>, MarketError> {
    table::parts(db, &stood.order.participant, stood.root).await
}

/// When the first of a chain of standing orders was accepted.
///
/// # Errors
/// The database fails.
pub async fn since(db: &Db, stood: &Stood) -> Result<Timestamp, MarketError> {
    if stood.root == stood.order.sequence {
        return Ok(stood.accepted_at);
    }
    let accepted = table::accepted_at(db, &stood.order.participant, stood.root).await?;
    Ok(accepted.unwrap_or(stood.accepted_at))
}

/// The orders of a standing order that are in the book of an interval whose gate is open.
///
/// # Errors
/// The database fails.
pub async fn open_parts(
    tx: &mut Tx,
    setup: &Setup,
    now: Timestamp,
    participant: &ParticipantId,
    sequence: u64,
) -> Result<Vec<Part>, MarketError> {
    let own = table::own(tx, participant, now, [Some(sequence), None]).await?;
    let known = own.iter().find(|known| known.order.sequence == sequence);
    let Some(known) = known else {
        return Ok(Vec::new());
    };
    let mut parts = table::parts_now(tx, participant, known.root).await?;
    parts.retain(|part| {
        let is_open = now < closes_at(part.ordered.interval, &setup.rules);
        part.standing == sequence && part.counts() && is_open
    });
    Ok(parts)
}

/// What standing orders for batteries have traded in an interval that is cleared, by participant; those that were taken
/// back since, too: a trade stands.
///
/// # Errors
/// The database fails.
pub async fn battery_trades(db: &Db, interval: Interval) -> Result<Vec<Traded>, MarketError> {
    table::battery_trades(db, interval).await
}

/// What a participant's standing orders for its battery have traded in the cleared intervals from an instant on.
///
/// # Errors
/// The database fails.
pub async fn battery_trades_of(
    db: &Db,
    participant: &ParticipantId,
    from: Timestamp,
) -> Result<Vec<Traded>, MarketError> {
    table::battery_trades_of(db, participant, from).await
}

/// What a participant's deadlines have bought in the cleared intervals from an instant on.
///
/// # Errors
/// The database fails.
pub async fn deadlines_bought(
    db: &Db,
    participant: &ParticipantId,
    from: Timestamp,
) -> Result<Vec<Bought>, MarketError> {
    table::deadlines_bought(db, participant, from).await
}

/// How far a standing order has come. A battery's order that has taken the place of another says anew what is in the
/// battery: what was bought and sold before that is in it already.
#[must_use]
pub fn progress(stood: &Stood, parts: &[Part], measured: Option<Measured>) -> Progress {
    let is_battery = matches!(stood.order.wish, Standing::Battery(_));
    let said = Measured {
        energy: stood.order.begins_with,
        at: stood.accepted_at,
    };
    let replaces = stood.root != stood.order.sequence;
    let measured = measured.or((is_battery && replaces).then_some(said));
    let counted = parts.iter().filter(|part| part.counts());
    let ordered: Vec<_> = counted.map(|part| part.ordered).collect();
    standing::progress(
        &stood.order.wish,
        stood.order.begins_with,
        &ordered,
        measured,
    )
}

/// The orders to be signed for one interval, out of what should stand now: with numbers from `numbers` on that no
/// order has had, and within the prices that the community has agreed on. Each with its placement and its reason.
///
/// # Errors
/// The database fails.
pub async fn orders_for(
    tx: &mut Tx,
    setup: &Setup,
    stood: &Stood,
    (interval, numbers): (Interval, u64),
    (progress, plan): (Progress, &[Placement]),
) -> Result<Vec<(Order, Placement, String)>, MarketError> {
    let standing = &stood.order;
    let tried = table::tried(tx, &standing.participant, interval.start()).await?;
    let due = plan.iter().filter(|placed| placed.interval == interval);
    let rules = &setup.rules;
    let order = |(n, placed): (u64, &Placement)| {
        let mut placed = *placed;
        placed.limit = placed.limit.clamp(rules.price_floor, rules.price_cap);
        let order = Order {
            participant: standing.participant.clone(),
            point: standing.point.clone(),
            side: placed.side,
            interval,
            energy: placed.energy,
            limit: placed.limit,
            sequence: numbers.checked_add(n)?,
            replaces: None,
            preference: domain::order::Preference::default(),
        };
        let why = sentence(&standing.wish, progress, &placed);
        Some((order, placed, why))
    };
    Ok((u64::from(tried)..).zip(due).filter_map(order).collect())
}

/// Notes what became of an order of [`orders_for`]: `refused` says why the market did not take it.
///
/// # Errors
/// The database fails.
pub async fn note(
    tx: &mut Tx,
    stood: &Stood,
    order: &Order,
    (placed, why): (&Placement, &str),
    refused: Option<Rejection>,
) -> Result<(), MarketError> {
    let refused = refused.map(Rejection::name);
    table::insert_part(tx, stood, order, (placed.why, why), refused).await
}

/// The sequence that a participant's next standing order should have: one above its highest in this range, which it
/// begins with.
///
/// # Errors
/// The database fails.
pub async fn next_sequence(
    db: &Db,
    participant: &ParticipantId,
    range: std::ops::Range<u64>,
) -> Result<u64, MarketError> {
    let last = table::last_sequence(db, participant, range.clone()).await?;
    Ok(last.map_or(range.start, |last| last + 1))
}
