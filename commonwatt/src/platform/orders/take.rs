//! What becomes of messages about orders, in the writer's transaction: orders and cancels that follow one another are taken
//! together, market and holds in step; standing orders, and cancels whose key has ended, one by one between them.

use std::collections::BTreeSet;

use domain::ids::OrderId;
use domain::order::Order;
use domain::rejection::Rejection;
use domain::signed::Verified;
use domain::standing_order::{StandingCancel, StandingOrder};
use domain::time::Timestamp;
use market_engine::service::{self as market, Batch, Message, Outcome, Placing, Refused, Setup};
use runtime::db::Tx;
use settlement::service::Holds;

use super::{OrderAnswer, OrderMessage};
use crate::platform::{Shared, standing};

/// Most orders that messages taken at once read.
const READ_MAX: u32 = 1 << 16;

/// Does what messages ask in this transaction, as if it did one after the other, with the orders' holds; what is refused is
/// kept. Whoever sent them is answered after the commit.
pub(in crate::platform) async fn take(
    tx: &mut Tx,
    shared: &Shared,
    now: Timestamp,
    messages: &[OrderMessage],
) -> anyhow::Result<Vec<OrderAnswer>> {
    let mut outcomes = Vec::with_capacity(messages.len());
    for run in messages.chunk_by(|one, next| !stands_alone(one) && !stands_alone(next)) {
        match run {
            [OrderMessage::Stand { order, rating_w }] => {
                outcomes.push(stand(tx, shared, now, order, *rating_w).await?);
            }
            [OrderMessage::StandRepeat(order)] => {
                outcomes.push(market::standing::repeat(tx, now, order).await?);
            }
            [OrderMessage::Unstand(cancel)] => {
                outcomes.push(unstand(tx, shared, now, cancel).await?);
            }
            [OrderMessage::UnstandRepeat(cancel)] => {
                outcomes.push(market::standing::repeat_cancel(tx, now, cancel).await?);
            }
            [OrderMessage::CancelRepeat(cancel)] => {
                outcomes.push(market::repeat_cancel(tx, cancel).await?);
            }
            run => outcomes.extend(together(tx, shared, &shared.market, now, run).await?),
        }
    }
    let refused = messages.iter().zip(&outcomes);
    let refused = refused.filter_map(|(message, outcome)| match outcome {
        Outcome::Refused(reason) => Some(Refused {
            participant: message.participant(),
            reason: *reason,
            bytes: message.bytes(),
        }),
        _ => None,
    });
    market::keep_refused(tx, now, &refused.collect::<Vec<_>>()).await?;
    Ok(outcomes.into_iter().map(OrderAnswer::from).collect())
}

/// [`take`] of one message.
pub(in crate::platform) async fn take_one(
    tx: &mut Tx,
    shared: &Shared,
    now: Timestamp,
    message: &OrderMessage,
) -> anyhow::Result<OrderAnswer> {
    let answers = take(tx, shared, now, std::slice::from_ref(message)).await?;
    let answer = answers.into_iter().next();
    answer.ok_or_else(|| anyhow::anyhow!("a message has no answer"))
}

/// Whether a message is taken by itself, with none before or after it.
const fn stands_alone(message: &OrderMessage) -> bool {
    matches!(
        message,
        OrderMessage::Stand { .. }
            | OrderMessage::StandRepeat(_)
            | OrderMessage::Unstand(_)
            | OrderMessage::UnstandRepeat(_)
            | OrderMessage::CancelRepeat(_)
    )
}

/// Does what orders and cancels ask, and says what came of each; what the market refuses is not kept.
pub(in crate::platform) async fn together(
    tx: &mut Tx,
    shared: &Shared,
    setup: &Setup,
    now: Timestamp,
    mut messages: &[OrderMessage],
) -> anyhow::Result<Vec<Outcome>> {
    let most = setup.rules.changes_per_participant_max;
    let mut outcomes = Vec::with_capacity(messages.len());
    while !messages.is_empty() {
        let (some, rest) = messages.split_at(read_at_once(messages, most));
        outcomes.extend(at_once(tx, shared, setup, now, some).await?);
        messages = rest;
    }
    Ok(outcomes)
}

/// How many of the first messages read no more than [`READ_MAX`] orders together: each reads all that its participant has
/// in its interval, which are `changes_max` at most, unless that was lowered since.
pub(super) fn read_at_once(messages: &[OrderMessage], changes_max: u32) -> usize {
    let most = READ_MAX / changes_max.max(1);
    let most = usize::try_from(most.max(1)).unwrap_or(usize::MAX);
    let mut read = BTreeSet::new();
    for (n, message) in messages.iter().enumerate() {
        read.extend(message.about());
        if read.len() > most {
            return n;
        }
    }
    messages.len()
}

async fn at_once(
    tx: &mut Tx,
    shared: &Shared,
    setup: &Setup,
    now: Timestamp,
    messages: &[OrderMessage],
) -> anyhow::Result<Vec<Outcome>> {
    let read: Vec<Message<'_>> = messages.iter().filter_map(word).collect();
    let mut outcomes = Vec::with_capacity(messages.len());
    if read.is_empty() {
        outcomes.extend(messages.iter().filter_map(unread));
        return Ok(outcomes);
    }
    let mut orders: Vec<&Order> = Vec::new();
    let mut cancelled: Vec<OrderId> = Vec::new();
    for message in &read {
        match message {
            Message::Place { order, .. } => orders.push(order.message()),
            // What is held for it stays as it is.
            Message::Repeat(_) => {}
            Message::Cancel(cancel) => cancelled.push(cancel.message().order()),
        }
    }
    let mut batch = Batch::of(tx, setup, now, read).await?;
    let mut holds = Holds::of(tx, &shared.community, now, &orders, &cancelled).await?;
    for message in messages {
        let outcome = match unread(message) {
            Some(refused) => refused,
            None => decide(&mut batch, &mut holds)?,
        };
        outcomes.push(outcome);
    }
    batch.write(tx).await?;
    holds.write(tx).await?;
    Ok(outcomes)
}

/// What the market is told.
const fn word(message: &OrderMessage) -> Option<Message<'_>> {
    match message {
        OrderMessage::Place { order, rating_w } => Some(Message::Place {
            order,
            rating_w: *rating_w,
        }),
        OrderMessage::Repeat(order) => Some(Message::Repeat(order)),
        OrderMessage::Cancel(cancel) => Some(Message::Cancel(cancel)),
        _ => None,
    }
}

/// Why the market is told nothing.
const fn unread(message: &OrderMessage) -> Option<Outcome> {
    match message {
        OrderMessage::Refused { reason, .. } => Some(Outcome::Refused(*reason)),
        _ => None,
    }
}

/// Decides on the batch's next message, and moves what is held for its order.
fn decide(batch: &mut Batch<'_>, holds: &mut Holds<'_>) -> anyhow::Result<Outcome> {
    let decided = batch.decide()?;
    let decided = decided.ok_or_else(|| anyhow::anyhow!("the market has heard of no more"))?;
    match decided {
        Placing::AsksHold { order, replaces } => {
            // Its trades could not be settled, and so the whole interval not be cleared.
            if !holds.is_connected(&order.participant) {
                return Ok(Outcome::Refused(Rejection::WrongNetwork));
            }
            let held = holds.hold(order, replaces)?;
            Ok(batch.held(held)?)
        }
        Placing::Done(outcome) => {
            if let Outcome::Withdrawn(order) = outcome {
                holds.release(order)?;
            }
            Ok(outcome)
        }
    }
}

async fn stand(
    tx: &mut Tx,
    shared: &Shared,
    now: Timestamp,
    order: &Verified<StandingOrder>,
    rating_w: u32,
) -> anyhow::Result<Outcome> {
    let said = order.message();
    let outcome = market::standing::place(tx, &shared.market, now, order, rating_w).await?;
    if let (Outcome::Accepted(_), Some(replaced)) = (outcome, said.replaces) {
        standing::take_out(tx, shared, now, (&said.participant, replaced)).await?;
    }
    Ok(outcome)
}

async fn unstand(
    tx: &mut Tx,
    shared: &Shared,
    now: Timestamp,
    cancel: &Verified<StandingCancel>,
) -> anyhow::Result<Outcome> {
    let said = cancel.message();
    let outcome = market::standing::cancel(tx, &shared.market, now, cancel).await?;
    if let Outcome::Withdrawn(_) = outcome {
        let which = (&said.participant, said.sequence);
        standing::take_out(tx, shared, now, which).await?;
    }
    Ok(outcome)
}
