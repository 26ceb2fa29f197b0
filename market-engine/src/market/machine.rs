//! The market's life as a state machine: what is asked and the time go in, what happened comes out. No
//! clock, no I/O, no database: the same history gives the same events.
//!
//! A [`Market`] may hold everything or only what some commands are about: the participants' orders in the
//! orders' intervals and under their sequences, whoever's orders have their ids, the intervals' totals, and
//! when the participants sent what.
//! [`crate::service`] loads that from the tables, asks, and writes what happened in one transaction, so a
//! program that stops between two batches of commands has lost nothing: its state is in the tables.

use std::collections::{BTreeMap, BTreeSet};

use domain::cancel::Cancel;
use domain::ids::{OrderId, ParticipantId};
use domain::order::{Order, Side};
use domain::rejection::Rejection;
use domain::signed::Verified;
use domain::time::{Interval, Timestamp};

use super::clearing::{Cleared, Secret, clear_interval};
use super::{Gate, Rules, gate};
use crate::accept::{self, Own};
use crate::book::{BookError, ORDERS_MAX};

/// The span in which a participant's messages are counted.
const MINUTE_S: i64 = 60;

/// What the market is asked.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// Take an order, in another's place where it says so.
    Place {
        /// The order.
        order: &'a Verified<Order>,
        /// The rating of its metering point.
        rating_w: u32,
    },
    /// Say what became of an order whose key has ended since it was taken. One that was not taken is refused: with this
    /// key nothing new is said, so it is not counted against its participant's messages either.
    Repeat(&'a Verified<Order>),
    /// Whether the order's tokens are held: the answer to [`Event::HoldAsked`].
    Held(bool),
    /// Give an order back.
    Cancel(&'a Verified<Cancel>),
    /// Clear the next interval, if its gate has closed.
    Clear,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// An order may go into the book once its tokens are held, those of the order that it replaces being
    /// free again: answer with [`Command::Held`]. Nothing is accepted yet.
    HoldAsked {
        /// The order.
        order: Order,
        /// The order whose place it takes.
        replaces: Option<OrderId>,
    },
    /// An order is out of the book; what was held for it is free.
    Withdrawn {
        /// The order.
        order: OrderId,
        /// The order that took its place.
        by: Option<OrderId>,
    },
    /// An order that has not come is taken back: it will not enter the book. Nothing is held for it.
    Forestalled(Cancel),
    /// An order is in the book.
    Accepted {
        /// The order.
        order: OrderId,
        /// How many came before it in its interval.
        arrival: u32,
    },
    /// It was said before, and nothing changed.
    Again {
        /// The order.
        order: OrderId,
        /// Whether it is in the book.
        stands: bool,
    },
    /// The sequence was used by another message: this one is evidence.
    Equivocation {
        /// The order that has the sequence.
        order: OrderId,
    },
    /// Nothing was done, and why.
    Refused(Rejection),
    /// An interval takes no more orders.
    GateClosed(Interval),
    /// One participant holds so much of one side that it may move the price.
    ShareAlarm(Share),
    /// An interval is cleared.
    Cleared(Box<Cleared>),
    /// The book of a cleared interval, as it is public.
    Published {
        /// The interval.
        interval: Interval,
        /// The book: [`crate::public`].
        book: String,
    },
}

/// A participant's part of one side of a book.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Share {
    /// The interval.
    pub interval: Interval,
    /// The participant.
    pub participant: ParticipantId,
    /// Of the bids or of the offers.
    pub side: Side,
    /// Its energy.
    pub own_wh: i64,
    /// Energy of the whole side.
    pub side_wh: i64,
}

impl Share {
    /// In thousandths of the side, floored.
    #[must_use]
    pub fn permille(&self) -> i64 {
        let own = i128::from(self.own_wh) * 1000;
        i64::try_from(own / i128::from(self.side_wh.max(1))).unwrap_or(i64::MAX)
    }

    /// Whether it is more than what is free to everybody and more than `permille` of the side.
    fn is_above(&self, permille: Option<u32>, rules: &Rules) -> bool {
        let own = i128::from(self.own_wh);
        let above = |most: u32| own * 1000 > i128::from(self.side_wh) * i128::from(most);
        self.own_wh > rules.share_free.wh() && permille.is_some_and(above)
    }
}

/// An accepted order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Its id.
    pub id: OrderId,
    /// The order.
    pub order: Order,
    /// As it was signed.
    pub signed: Vec<u8>,
    /// How many came before it in its interval.
    pub arrival: u32,
    /// Whether it is in the book: neither taken back nor replaced.
    pub stands: bool,
}

/// What an interval's orders come to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Orders ever accepted.
    pub arrivals: u32,
    /// Energy of the standing bids.
    pub bid_wh: i64,
    /// Energy of the standing offers.
    pub offer_wh: i64,
}

impl Totals {
    pub(crate) fn side(&mut self, side: Side) -> &mut i64 {
        match side {
            Side::Bid => &mut self.bid_wh,
            Side::Offer => &mut self.offer_wh,
        }
    }
}

/// How many messages a participant has sent in the minute of its last one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sender {
    /// The minute's start.
    pub minute_s: i64,
    /// Messages in it, counted up to the limit.
    pub messages: u32,
}

impl Sender {
    /// The same with one message more.
    ///
    /// # Errors
    /// `rate_limited`: it is one too many for this minute.
    pub fn counted(self, now: Timestamp, rules: &Rules) -> Result<Sender, Rejection> {
        let minute_s = now.unix_s() - now.unix_s().rem_euclid(MINUTE_S);
        let sent = match self.minute_s == minute_s {
            true => self.messages,
            false => 0,
        };
        if sent >= rules.messages_per_minute_max {
            return Err(Rejection::RateLimited);
        }
        let messages = sent + 1;
        Ok(Sender { minute_s, messages })
    }
}

/// An order that waits for its hold.
#[derive(Clone, Debug)]
struct Pending {
    placed: Placed,
    replaces: Option<OrderId>,
}

/// The market, or the part of it that a command is about.
#[derive(Clone, Debug)]
pub struct Market {
    rules: Rules,
    secret: Secret,
    next: Interval,
    orders: BTreeMap<(ParticipantId, u64), Placed>,
    /// The sequences of a participant's orders by the intervals' starts.
    by_interval: BTreeMap<(ParticipantId, Timestamp), BTreeSet<u64>>,
    ids: BTreeSet<OrderId>,
    /// By the starts of their intervals.
    forestalled: BTreeSet<(ParticipantId, Timestamp, u64)>,
    totals: BTreeMap<Interval, Totals>,
    senders: BTreeMap<ParticipantId, Sender>,
    feeders: BTreeMap<ParticipantId, u32>,
    pending: Option<Pending>,
}

impl Market {
    /// A market without orders whose next interval to be cleared is `next`.
    #[must_use]
    pub fn new(rules: Rules, secret: Secret, next: Interval) -> Self {
        Market {
            rules,
            secret,
            next,
            orders: BTreeMap::new(),
            by_interval: BTreeMap::new(),
            ids: BTreeSet::new(),
            forestalled: BTreeSet::new(),
            totals: BTreeMap::new(),
            senders: BTreeMap::new(),
            feeders: BTreeMap::new(),
            pending: None,
        }
    }

    /// Puts in on which feeder each participant lives, for those who wish energy of their own.
    pub fn restore_feeders(&mut self, feeders: BTreeMap<ParticipantId, u32>) {
        self.feeders = feeders;
    }

    /// Puts in an order that was accepted before; its interval's totals are not changed.
    pub fn restore_order(&mut self, placed: Placed) {
        let key = (placed.order.participant.clone(), placed.order.sequence);
        self.ids.insert(placed.id);
        let interval = (key.0.clone(), placed.order.interval.start());
        self.by_interval.entry(interval).or_default().insert(key.1);
        self.orders.insert(key, placed);
    }

    /// Puts in that an order of the interval that starts then was taken back before it came.
    pub fn restore_forestalled(&mut self, who: ParticipantId, start: Timestamp, sequence: u64) {
        self.forestalled.insert((who, start, sequence));
    }

    /// Puts in what is known of an interval.
    pub fn restore_totals(&mut self, interval: Interval, totals: Totals) {
        self.totals.insert(interval, totals);
    }

    /// Puts in what is known of a sender.
    pub fn restore_sender(&mut self, participant: ParticipantId, sender: Sender) {
        self.senders.insert(participant, sender);
    }

    /// The next interval to be cleared.
    #[must_use]
    pub const fn next(&self) -> Interval {
        self.next
    }

    /// Whether the next interval's gate has closed.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        gate(now, self.next, &self.rules) == Gate::Closed
    }

    /// What an interval's orders come to.
    #[must_use]
    pub fn totals(&self, interval: Interval) -> Totals {
        self.totals.get(&interval).copied().unwrap_or_default()
    }

    /// What a participant has sent.
    #[must_use]
    pub fn sender(&self, participant: &ParticipantId) -> Sender {
        self.senders.get(participant).copied().unwrap_or_default()
    }

    /// The order that has a participant's sequence.
    #[must_use]
    pub fn order(&self, participant: &ParticipantId, sequence: u64) -> Option<&Placed> {
        self.orders.get(&(participant.clone(), sequence))
    }

    /// The orders of an interval that stand, as they arrived.
    #[must_use]
    pub fn standing(&self, interval: Interval) -> Vec<&Placed> {
        let of_interval = |placed: &&Placed| placed.stands && placed.order.interval == interval;
        let mut standing: Vec<&Placed> = self.orders.values().filter(of_interval).collect();
        standing.sort_by_key(|placed| placed.arrival);
        standing
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// The energies of a book do not fit 64 bits, which the limits of the rules rule out.
    pub fn apply(&mut self, now: Timestamp, command: Command<'_>) -> Result<Vec<Event>, BookError> {
        let waiting = self.pending.take();
        match command {
            Command::Place { order, rating_w } => Ok(vec![self.place(now, order, rating_w)]),
            Command::Repeat(order) => Ok(vec![self.repeat(order)]),
            Command::Held(held) => Ok(waiting.map_or_else(Vec::new, |p| self.held(p, held))),
            Command::Cancel(cancel) => Ok(vec![self.cancel(now, cancel.message())]),
            Command::Clear => self.clear(now),
        }
    }

    fn place(&mut self, now: Timestamp, verified: &Verified<Order>, rating_w: u32) -> Event {
        let (order, signed) = (verified.message(), verified.signed().as_bytes());
        let key = (order.participant.clone(), order.sequence);
        let known = self.orders.get(&key);
        let again = match known {
            Some(known) => (known.signed == signed).then_some((known.id, known.stands)),
            None => {
                let named = (key.0.clone(), order.interval.start(), order.sequence);
                (self.forestalled.contains(&named)).then(|| (order.id(), false))
            }
        };
        if let Some((order, stands)) = again {
            return Event::Again { order, stands };
        }
        let counted = self.count(now, &order.participant);
        // Evidence is kept from those too who send too much.
        if let Some(known) = self.orders.get(&key) {
            return Event::Equivocation { order: known.id };
        }
        if let Err(refused) = counted {
            return Event::Refused(refused);
        }
        // An id is 64 bits of a digest beside the time: whoever looks long enough finds two sequences with one.
        if self.ids.contains(&order.id()) {
            return Event::Refused(Rejection::Equivocation);
        }
        match self.may_enter(now, order, rating_w) {
            Err(refused) => Event::Refused(refused),
            Ok(replaces) => {
                let placed = Placed {
                    id: order.id(),
                    order: order.clone(),
                    signed: signed.to_vec(),
                    arrival: self.totals(order.interval).arrivals,
                    stands: true,
                };
                self.pending = Some(Pending { placed, replaces });
                Event::HoldAsked {
                    order: order.clone(),
                    replaces,
                }
            }
        }
    }

    fn repeat(&self, verified: &Verified<Order>) -> Event {
        let (order, signed) = (verified.message(), verified.signed().as_bytes());
        let known = self.order(&order.participant, order.sequence);
        match known.filter(|known| known.signed == signed) {
            Some(known) => Event::Again {
                order: known.id,
                stands: known.stands,
            },
            None => Event::Refused(Rejection::KeyRevoked),
        }
    }

    /// Counts a message against its participant's limit.
    fn count(&mut self, now: Timestamp, participant: &ParticipantId) -> Result<(), Rejection> {
        let sender = self.sender(participant).counted(now, &self.rules)?;
        self.senders.insert(participant.clone(), sender);
        Ok(())
    }

    /// A participant's accepted orders of an interval.
    fn own(&self, participant: &ParticipantId, interval: Interval) -> Vec<&Placed> {
        let named = (participant.clone(), interval.start());
        let mut key = (participant.clone(), 0);
        let sequences = self.by_interval.get(&named).into_iter().flatten();
        let own = sequences.filter_map(|sequence| {
            key.1 = *sequence;
            self.orders.get(&key)
        });
        own.filter(|placed| placed.order.interval == interval)
            .collect()
    }

    /// How many of an interval's orders a participant has sent, which are its `own`, or taken back before they came.
    fn changes(&self, participant: &ParticipantId, interval: Interval, own: &[&Placed]) -> u32 {
        let named = |sequence| (participant.clone(), interval.start(), sequence);
        let forestalled = self.forestalled.range(named(0)..=named(u64::MAX)).count();
        u32::try_from(own.len() + forestalled).unwrap_or(u32::MAX)
    }

    /// Whether an order may go into the book, and which one it replaces there.
    fn may_enter(
        &self,
        now: Timestamp,
        order: &Order,
        rating_w: u32,
    ) -> Result<Option<OrderId>, Rejection> {
        let own = self.own(&order.participant, order.interval);
        let replaced = match order.replaces {
            None => None,
            Some(sequence) => {
                let known = own.iter().find(|p| p.order.sequence == sequence);
                Some(known.copied().ok_or(Rejection::UnknownOrder))
            }
        };
        let mut sum = Own {
            changes: self.changes(&order.participant, order.interval, &own),
            ..Own::default()
        };
        let mut side_wh = 0_i64;
        for placed in own {
            if placed.stands && order.replaces != Some(placed.order.sequence) {
                sum.add(&placed.order, placed.order.point == order.point);
                if placed.order.side == order.side {
                    side_wh = side_wh.saturating_add(placed.order.energy.wh());
                }
            }
        }
        accept::check(order, &self.rules, now, rating_w, sum)?;
        // A clock that was set back must not reopen an interval that was cleared.
        if order.interval < self.next {
            return Err(Rejection::GateClosed);
        }
        let replaced = replaced.transpose()?;
        if replaced.is_some_and(|placed| !placed.stands) {
            return Err(Rejection::UnknownOrder);
        }
        let most = self.rules.mechanism.orders_max().min(ORDERS_MAX);
        let arrivals = self.totals(order.interval).arrivals;
        if usize::try_from(arrivals).map_or(true, |arrivals| arrivals >= most) {
            return Err(Rejection::RateLimited);
        }
        self.check_share(order, replaced, side_wh)?;
        Ok(replaced.map(|placed| placed.id))
    }

    /// Refuses an order with which its participant would hold too much of the side, unless it then holds no
    /// more than before. `own_wh` is what it has there without the order that is replaced.
    fn check_share(
        &self,
        order: &Order,
        replaced: Option<&Placed>,
        own_wh: i64,
    ) -> Result<(), Rejection> {
        let mut totals = self.totals(order.interval);
        let before = replaced
            .filter(|placed| placed.order.side == order.side)
            .map_or(0, |placed| placed.order.energy.wh());
        if order.energy.wh() <= before {
            return Ok(());
        }
        let others = totals.side(order.side).saturating_sub(before);
        let share = Share {
            interval: order.interval,
            participant: order.participant.clone(),
            side: order.side,
            own_wh: own_wh.saturating_add(order.energy.wh()),
            side_wh: others.saturating_add(order.energy.wh()),
        };
        match share.is_above(self.rules.share_cap_permille, &self.rules) {
            true => Err(Rejection::OverLimit),
            false => Ok(()),
        }
    }

    fn held(&mut self, pending: Pending, held: bool) -> Vec<Event> {
        if !held {
            return vec![Event::Refused(Rejection::InsufficientFunds)];
        }
        let Pending { placed, replaces } = pending;
        let mut events = Vec::new();
        if let (Some(sequence), Some(order)) = (placed.order.replaces, replaces) {
            self.withdraw(&placed.order.participant, sequence);
            let by = Some(placed.id);
            events.push(Event::Withdrawn { order, by });
        }
        let totals = self.totals.entry(placed.order.interval).or_default();
        totals.arrivals += 1;
        let side = totals.side(placed.order.side);
        *side = side.saturating_add(placed.order.energy.wh());
        events.push(Event::Accepted {
            order: placed.id,
            arrival: placed.arrival,
        });
        self.restore_order(placed);
        events
    }

    fn cancel(&mut self, now: Timestamp, cancel: &Cancel) -> Event {
        let known = self
            .orders
            .get(&(cancel.participant.clone(), cancel.sequence));
        let known = known.filter(|placed| placed.order.interval == cancel.interval);
        let known = known.map(|placed| (placed.id, placed.stands));
        let start = cancel.interval.start();
        let named = (cancel.participant.clone(), start, cancel.sequence);
        let (order, stands) = match known {
            None => (cancel.order(), !self.forestalled.contains(&named)),
            Some(known) => known,
        };
        if !stands {
            return Event::Again { order, stands };
        }
        if let Err(refused) = self.count(now, &cancel.participant) {
            return Event::Refused(refused);
        }
        let is_open = gate(now, cancel.interval, &self.rules) != Gate::Closed;
        match known {
            _ if !is_open || cancel.interval < self.next => Event::Refused(Rejection::GateClosed),
            None => match self.may_forestall(now, cancel) {
                Err(refused) => Event::Refused(refused),
                Ok(()) => {
                    self.forestalled.insert(named);
                    Event::Forestalled(cancel.clone())
                }
            },
            Some(_) => {
                self.withdraw(&cancel.participant, cancel.sequence);
                Event::Withdrawn { order, by: None }
            }
        }
    }

    /// Whether an order may be taken back that has not come: only one that could come, and no more of them
    /// than a participant may make changes.
    fn may_forestall(&self, now: Timestamp, cancel: &Cancel) -> Result<(), Rejection> {
        let (participant, interval) = (&cancel.participant, cancel.interval);
        if interval.length_s() != self.rules.interval_length_s {
            return Err(Rejection::IntervalUnaligned);
        }
        if gate(now, interval, &self.rules) == Gate::NotYetOpen {
            return Err(Rejection::Future);
        }
        let is_used = self
            .orders
            .contains_key(&(participant.clone(), cancel.sequence));
        let is_numbered = i64::try_from(cancel.sequence).is_ok();
        if is_used || !is_numbered || self.ids.contains(&cancel.order()) {
            return Err(Rejection::UnknownOrder);
        }
        let own = self.own(participant, interval);
        match self.changes(participant, interval, &own) < self.rules.changes_per_participant_max {
            true => Ok(()),
            false => Err(Rejection::OverLimit),
        }
    }

    fn withdraw(&mut self, participant: &ParticipantId, sequence: u64) {
        if let Some(placed) = self.orders.get_mut(&(participant.clone(), sequence)) {
            placed.stands = false;
            let totals = self.totals.entry(placed.order.interval).or_default();
            let side = totals.side(placed.order.side);
            *side = side.saturating_sub(placed.order.energy.wh()).max(0);
        }
    }

    fn clear(&mut self, now: Timestamp) -> Result<Vec<Event>, BookError> {
        let interval = self.next;
        if !self.is_due(now) {
            return Ok(Vec::new());
        }
        let standing = self.standing(interval);
        let alarms = shares(&standing, interval);
        let alarms = alarms
            .into_iter()
            .filter(|share| share.is_above(self.rules.share_alarm_permille, &self.rules));
        let mut events = vec![Event::GateClosed(interval)];
        events.extend(alarms.map(Event::ShareAlarm));
        let feeders = &self.feeders;
        let (cleared, book) =
            clear_interval(standing, interval, &self.rules, &self.secret, feeders)?;
        events.push(Event::Cleared(Box::new(cleared)));
        events.push(Event::Published { interval, book });
        self.next = interval.next();
        Ok(events)
    }
}

/// Every participant's part of each side.
fn shares(standing: &[&Placed], interval: Interval) -> Vec<Share> {
    let mut sides: BTreeMap<Side, i64> = BTreeMap::new();
    let mut own: BTreeMap<(&ParticipantId, Side), i64> = BTreeMap::new();
    for Placed { order, .. } in standing {
        let wh = order.energy.wh();
        let sums = [
            sides.entry(order.side).or_default(),
            own.entry((&order.participant, order.side)).or_default(),
        ];
        for sum in sums {
            *sum = sum.saturating_add(wh);
        }
    }
    let share = |((participant, side), own_wh): ((&ParticipantId, Side), i64)| Share {
        interval,
        participant: participant.clone(),
        side,
        own_wh,
        side_wh: sides.get(&side).copied().unwrap_or_default(),
    };
    own.into_iter().map(share).collect()
}
