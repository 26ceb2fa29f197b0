//! The holds of orders that are taken together: what the books say of all of them is read with few statements, each is
//! decided as if those before it were in the books, and all is posted as one group.

use std::collections::{BTreeMap, BTreeSet};

use domain::ids::{OrderId, ParticipantId};
use domain::money::{MoneyError, Price};
use domain::order::{Order, Side};
use domain::posting::{Account, Chart, Posting, Purpose};
use domain::time::{Interval, Timestamp};
use runtime::db::Tx;

use super::error::corrupt;
use super::holds::{Hold, connected, insert_holds, known_holds, mark_closed, release};
use super::money::{available, post, token_posting};
use super::{Community, ServiceError, insert_interval, largest_fee, largest_fees};
use crate::store::LOCK;

/// Holds at work in a transaction, in which nothing else moves their participants' tokens meanwhile.
#[derive(Debug)]
pub struct Holds<'a> {
    community: &'a Community,
    now: Timestamp,
    connected: BTreeSet<String>,
    /// The orders that were asked for, with their holds.
    known: BTreeMap<OrderId, Option<Hold>>,
    /// What participants have available, in nano-tokens.
    available: BTreeMap<ParticipantId, i64>,
    /// Largest network fees, by the starts of their intervals.
    fees: BTreeMap<i64, Price>,
    pending: Pending,
}

/// What is to be written.
#[derive(Default, Debug)]
struct Pending {
    /// Intervals that were not heard of before.
    intervals: Vec<Interval>,
    postings: Vec<Posting>,
    opened: BTreeSet<OrderId>,
    closed: Vec<OrderId>,
}

impl<'a> Holds<'a> {
    /// Reads what the books say around orders that are to be placed, and around others that may be withdrawn.
    ///
    /// # Errors
    /// The database failed.
    pub async fn of(
        tx: &mut Tx,
        community: &'a Community,
        now: Timestamp,
        orders: &[&Order],
        withdrawn: &[OrderId],
    ) -> Result<Self, ServiceError> {
        tx.exclusive(LOCK).await?;
        let placed = orders.iter().flat_map(|o| [Some(o.id()), o.replaced()]);
        let ids: BTreeSet<OrderId> = placed.flatten().chain(withdrawn.iter().copied()).collect();
        let mut holds = known_holds(tx, &ids).await?;
        let participants = orders.iter().map(|o| &o.participant).collect();
        let starts = orders.iter().map(|o| o.interval.start_s()).collect();
        Ok(Holds {
            community,
            now,
            connected: connected(tx, &participants).await?,
            known: ids.into_iter().map(|id| (id, holds.remove(&id))).collect(),
            available: available(tx, &participants).await?,
            fees: largest_fees(tx, &starts).await?,
            pending: Pending::default(),
        })
    }

    /// Whether the participant of an order has a connection point in the registry: without one its trades could not be
    /// settled, so it may not order.
    #[must_use]
    pub fn is_connected(&self, participant: &ParticipantId) -> bool {
        self.connected.contains(participant.as_str())
    }

    /// Holds what a bid may cost at most, with its premium for green energy and the largest network fee that the interval
    /// keeps; an offer needs no hold. What is held for the order that this one replaces is free again. `false` where the
    /// participant's tokens do not cover it: then that hold stays. A second call for the same order has no effect.
    ///
    /// # Errors
    /// The amount does not fit 64 bits, or the order was not asked for.
    pub fn hold(&mut self, order: &Order, replaced: Option<OrderId>) -> Result<bool, ServiceError> {
        let before = match replaced {
            Some(replaced) => self.open(replaced)?,
            None => 0,
        };
        if order.side == Side::Offer {
            replaced.map_or(Ok(()), |replaced| self.release(replaced))?;
            return Ok(true);
        }
        let id = order.id();
        if let Some(known) = self.known(id)? {
            return Ok(known.is_open);
        }
        let most = order.most();
        let most = most.and_then(|most| most.checked_add(self.fee(order.interval)));
        let price = most.ok_or(MoneyError::Overflow)?;
        let amount = price.amount(order.energy)?.nano().max(0);
        let available = self.available.get(&order.participant);
        let available = i128::from(available.copied().unwrap_or_default());
        if available + i128::from(before) < i128::from(amount) {
            return Ok(false);
        }
        replaced.map_or(Ok(()), |replaced| self.release(replaced))?;
        self.open_new(order, amount)?;
        Ok(true)
    }

    /// Gives back the hold of an order that was withdrawn before its gate closed.
    ///
    /// # Errors
    /// The order was not asked for.
    pub fn release(&mut self, order: OrderId) -> Result<(), ServiceError> {
        self.known(order)?;
        let known = self.known.get_mut(&order).and_then(Option::as_mut);
        let Some(hold) = known.filter(|hold| hold.is_open) else {
            return Ok(());
        };
        hold.is_open = false;
        if hold.amount > 0 {
            self.pending.postings.push(release(hold, hold.amount));
        }
        if let Some(available) = self.available.get_mut(&hold.participant) {
            *available = available
                .checked_add(hold.amount)
                .ok_or(MoneyError::Overflow)?;
        }
        if !self.pending.opened.contains(&order) {
            self.pending.closed.push(order);
        }
        Ok(())
    }

    /// What is held for an order now, in nano-tokens.
    fn open(&self, order: OrderId) -> Result<i64, ServiceError> {
        let known = self.known(order)?.filter(|hold| hold.is_open);
        Ok(known.map_or(0, |hold| hold.amount))
    }

    fn known(&self, order: OrderId) -> Result<Option<&Hold>, ServiceError> {
        let known = self.known.get(&order).map(Option::as_ref);
        known.ok_or_else(|| corrupt(&format!("the hold of order {order} was not looked for")))
    }

    /// The largest network fee of an interval, which keeps it from now on.
    fn fee(&mut self, interval: Interval) -> Price {
        let (community, pending) = (self.community, &mut self.pending);
        let fee = self.fees.entry(interval.start_s()).or_insert_with(|| {
            pending.intervals.push(interval);
            let fee = community.tariff.at(interval).tariff.network_fee;
            let zones = community.zone_fee_max.map(Price::micro_per_kwh);
            largest_fee(fee.micro_per_kwh(), zones)
        });
        *fee
    }

    fn open_new(&mut self, order: &Order, amount: i64) -> Result<(), ServiceError> {
        let (id, participant) = (order.id(), &order.participant);
        let start = order.interval.start();
        if amount > 0 {
            let accounts = (
                Account::of(Chart::Available, participant),
                Account::of(Chart::Held, participant),
            );
            let parts: [&[u8]; 1] = [id.as_bytes()];
            let posting = token_posting(start, Purpose::Hold, accounts, amount, &parts);
            self.pending.postings.push(posting);
            let available = self.available.entry(participant.clone()).or_default();
            *available = available.checked_sub(amount).ok_or(MoneyError::Overflow)?;
        }
        let hold = Hold {
            order: id,
            participant: participant.clone(),
            start,
            amount,
            is_open: true,
        };
        self.known.insert(id, Some(hold));
        self.pending.opened.insert(id);
        Ok(())
    }

    /// Writes what was decided.
    ///
    /// # Errors
    /// The database failed, or would be broken: then the transaction must not be committed.
    pub async fn write(self, tx: &mut Tx) -> Result<(), ServiceError> {
        let pending = self.pending;
        for interval in pending.intervals {
            insert_interval(tx, self.community, interval).await?;
        }
        if !pending.postings.is_empty() {
            post(tx, self.now, &pending.postings).await?;
        }
        let opened = pending.opened.iter().filter_map(|id| self.known.get(id));
        let opened: Vec<&Hold> = opened.flatten().collect();
        insert_holds(tx, &opened).await?;
        mark_closed(tx, &pending.closed).await
    }
}
