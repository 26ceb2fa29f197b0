//! Orders and cancels that are taken together: what the tables hold around all of them is read with few statements, each is
//! decided as if those before it were in the tables, and what became of them is written with few.

use std::collections::BTreeSet;

use domain::cancel::Cancel;
use domain::ids::{OrderId, ParticipantId};
use domain::order::Order;
use domain::rejection::Rejection;
use domain::signed::Verified;
use domain::time::{Interval, Timestamp};
use runtime::db::Tx;

use super::{LOCK, MarketError, Outcome, Setup, begin_market};
use crate::market::{Command, Event, Market};
use crate::store::orders::{self as table, Written};

/// A participant's word on one of its orders.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// It places the order.
    Place {
        /// The order.
        order: &'a Verified<Order>,
        /// The rating of its metering point.
        rating_w: u32,
    },
    /// It places the order with a key that has ended since: said again if it was taken before, and else refused.
    Repeat(&'a Verified<Order>),
    /// It takes the order out of the book, or keeps it out if it has not come.
    Cancel(&'a Verified<Cancel>),
}

impl<'a> Message<'a> {
    /// Whose it is, and of which sequence and interval.
    fn place(self) -> (&'a ParticipantId, u64, Interval) {
        match self {
            Message::Place { order, .. } | Message::Repeat(order) => {
                let order = order.message();
                (&order.participant, order.sequence, order.interval)
            }
            Message::Cancel(cancel) => {
                let cancel = cancel.message();
                (&cancel.participant, cancel.sequence, cancel.interval)
            }
        }
    }

    fn order(self) -> OrderId {
        match self {
            Message::Place { order, .. } | Message::Repeat(order) => order.message().id(),
            Message::Cancel(cancel) => cancel.message().order(),
        }
    }

    fn signed(self) -> &'a [u8] {
        match self {
            Message::Place { order, .. } | Message::Repeat(order) => order.signed().as_bytes(),
            Message::Cancel(cancel) => cancel.signed().as_bytes(),
        }
    }
}

/// How far a message has come.
#[derive(Clone, Copy, Debug)]
pub enum Placing<'a> {
    /// It is decided. Of an order that is withdrawn, what was held for it is to be released.
    Done(Outcome),
    /// Its order may go into the book once its tokens are held: say with [`Batch::held`] whether they are.
    AsksHold {
        /// The order.
        order: &'a Order,
        /// The order whose place it takes: what was held for that one is free.
        replaces: Option<OrderId>,
    },
}

/// Says what became of a cancel whose key has ended since it was taken; one that was not taken is refused.
///
/// # Errors
/// The database fails; never because of the cancel.
pub async fn repeat_cancel(
    tx: &mut Tx,
    verified: &Verified<Cancel>,
) -> Result<Outcome, MarketError> {
    let (cancel, signed) = (verified.message(), verified.signed().as_bytes());
    tx.exclusive(LOCK).await?;
    Ok(match table::was_cancelled(tx, cancel, signed).await? {
        true => Outcome::Again {
            order: cancel.order(),
            stands: false,
        },
        false => Outcome::Refused(Rejection::KeyRevoked),
    })
}

/// Messages at work in a transaction.
///
/// A sequence is claimed only by an order that is accepted. Another message with a claimed sequence is refused as
/// equivocation and kept as evidence: write and commit in that case too.
pub struct Batch<'a> {
    market: Market,
    now: Timestamp,
    messages: std::vec::IntoIter<Message<'a>>,
    /// The one whose order waits for its hold.
    waiting: Option<Message<'a>>,
    written: Written<'a>,
    /// Whose messages were heard, and of which intervals the totals may have changed.
    senders: BTreeSet<&'a ParticipantId>,
    changed: BTreeSet<Interval>,
}

impl<'a> Batch<'a> {
    /// Reads what the market knows around these messages.
    ///
    /// # Errors
    /// The database fails, or the rules do not fit it; never because of a message.
    pub async fn of(
        tx: &mut Tx,
        setup: &Setup,
        now: Timestamp,
        messages: Vec<Message<'a>>,
    ) -> Result<Self, MarketError> {
        tx.exclusive(LOCK).await?;
        let next = begin_market(tx, &setup.rules, now).await?;
        let mut market = Market::new(setup.rules, setup.secret, next);
        load(tx, &mut market, &messages).await?;
        Ok(Batch {
            market,
            now,
            messages: messages.into_iter(),
            waiting: None,
            written: Written::default(),
            senders: BTreeSet::new(),
            changed: BTreeSet::new(),
        })
    }

    /// Decides on the next message, in their order, as far as the market can; none where all are decided. An order that
    /// asked for a hold and was given no answer is not accepted.
    ///
    /// # Errors
    /// The rules do not fit the database; never because of a message.
    pub fn decide(&mut self) -> Result<Option<Placing<'a>>, MarketError> {
        self.waiting = None;
        let Some(message) = self.messages.next() else {
            return Ok(None);
        };
        let command = match message {
            Message::Place { order, rating_w } => Command::Place { order, rating_w },
            Message::Repeat(order) => Command::Repeat(order),
            Message::Cancel(cancel) => Command::Cancel(cancel),
        };
        let events = self.market.apply(self.now, command)?;
        if !matches!(message, Message::Repeat(_)) {
            self.senders.insert(message.place().0);
        }
        if let (Message::Place { order, .. }, [Event::HoldAsked { replaces, .. }]) =
            (message, events.as_slice())
        {
            self.waiting = Some(message);
            let (order, replaces) = (order.message(), *replaces);
            return Ok(Some(Placing::AsksHold { order, replaces }));
        }
        self.note(message, &events).map(Placing::Done).map(Some)
    }

    /// Goes on with the order that asked for a hold: its tokens are held, or not.
    ///
    /// # Errors
    /// No order has asked.
    pub fn held(&mut self, held: bool) -> Result<Outcome, MarketError> {
        let message = self.waiting.take();
        let message = message.ok_or(MarketError::Corrupt("a hold that no order asked for"))?;
        let events = self.market.apply(self.now, Command::Held(held))?;
        self.note(message, &events)
    }

    /// Notes what happened to a message, to be written.
    fn note(&mut self, message: Message<'a>, events: &[Event]) -> Result<Outcome, MarketError> {
        let (signed, now) = (message.signed(), self.now);
        let mut outcome = None;
        for event in events {
            let what = match (event, message) {
                (Event::Accepted { order, arrival }, Message::Place { order: placed, .. }) => {
                    self.written
                        .order(placed.message(), *arrival, signed, now)?;
                    Outcome::Accepted(*order)
                }
                (Event::Withdrawn { order, by }, _) => {
                    self.written.withdrawn(*order, *by, signed, now);
                    Outcome::Withdrawn(*order)
                }
                (Event::Forestalled(cancel), _) => {
                    self.written.forestalled(cancel, signed, now)?;
                    Outcome::Withdrawn(cancel.order())
                }
                (Event::Equivocation { .. }, Message::Place { order, .. }) => {
                    self.equivocated(order);
                    Outcome::Refused(Rejection::Equivocation)
                }
                (Event::Again { order, stands }, _) => Outcome::Again {
                    order: *order,
                    stands: *stands,
                },
                (Event::Refused(reason), _) => Outcome::Refused(*reason),
                _ => continue,
            };
            if matches!(what, Outcome::Accepted(_) | Outcome::Withdrawn(_)) {
                self.changed.insert(message.place().2);
            }
            outcome = Some(what);
        }
        outcome.ok_or(MarketError::Corrupt("an order that nothing happened to"))
    }

    fn equivocated(&mut self, verified: &'a Verified<Order>) {
        let (order, other) = (verified.message(), verified.signed().as_bytes());
        let (who, sequence) = (&order.participant, order.sequence);
        tracing::warn!(participant = %who, sequence, "sequence used by two orders");
        if let Some(kept) = self.market.order(who, sequence) {
            self.written.evidence(order, kept.signed.clone(), other);
        }
    }

    /// Writes what became of the messages.
    ///
    /// # Errors
    /// The database fails: then the transaction must not be committed.
    pub async fn write(self, tx: &mut Tx) -> Result<(), MarketError> {
        let market = &self.market;
        self.written.write(tx, self.now).await?;
        let totals = self.changed.iter().map(|i| (*i, market.totals(*i)));
        table::set_totals(tx, totals).await?;
        let senders = self.senders.iter().map(|who| (*who, market.sender(who)));
        table::set_senders(tx, senders).await
    }
}

/// Puts in the part of the market that messages are about.
async fn load(
    tx: &mut Tx,
    market: &mut Market,
    messages: &[Message<'_>],
) -> Result<(), MarketError> {
    let places = || messages.iter().map(|message| message.place());
    let intervals: BTreeSet<Interval> = places().map(|(.., interval)| interval).collect();
    let totals = table::totals(tx, &intervals).await?;
    for interval in intervals {
        let known = totals.get(&interval.start_s()).copied();
        market.restore_totals(interval, known.unwrap_or_default());
    }
    let participants = places().map(|(who, ..)| who).collect();
    for (participant, sender) in table::senders(tx, &participants).await? {
        market.restore_sender(participant, sender);
    }
    let in_intervals = places()
        .map(|(who, _, interval)| (who, interval.start()))
        .collect();
    let numbered = places().map(|(who, sequence, _)| (who, sequence)).collect();
    let named = messages.iter().map(|message| message.order()).collect();
    for placed in table::around(tx, &in_intervals, &numbered, &named).await? {
        market.restore_order(placed);
    }
    for (who, start, sequence) in table::forestalled(tx, &in_intervals).await? {
        market.restore_forestalled(who, start, sequence);
    }
    Ok(())
}
