//! A book is cleared: the orders that stand, by the market's mechanism, under names that nobody can trace.

use std::collections::BTreeMap;
use std::fmt;

use domain::energy::Energy;
use domain::ids::{Digest32, OrderId, ParticipantId, digest_parts};
use domain::order::Order;
use domain::time::Interval;
use domain::trade::{Clearing, Trade};

use super::wishes::wishes;
use super::{Placed, Rules};
use crate::book::{Book, BookError, Entry, slot};
use crate::clear::{Fill, Match, Mechanism, Outcome};
use crate::preference::cleared;
use crate::public;

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

/// What the names in public books are made with. Who has it can say whose an order was.
#[derive(Clone, Copy)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The names of one interval's orders and participants: the same within the interval, others in the next.
///
/// An order's id is made from its participant and sequence, which can be guessed; so it is not shown, and
/// ties are broken by the name that is, so that whoever clears the public book comes to the same result.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    salt: [u8; 32],
}

impl Names {
    pub(crate) fn of(secret: &Secret, interval: Interval) -> Self {
        let (start, length) = (interval.start_s(), interval.length_s());
        let parts: [&[u8]; 3] = [&secret.0, &start.to_be_bytes(), &length.to_be_bytes()];
        Names {
            salt: digest_parts("book-salt", &parts),
        }
    }

    pub(crate) fn order(&self, id: OrderId) -> [u8; 16] {
        self.name("book-order", id.as_bytes())
    }

    pub(crate) fn participant(&self, participant: &ParticipantId) -> [u8; 16] {
        self.name("book-participant", participant.as_str().as_bytes())
    }

    fn name(&self, domain: &str, of: &[u8]) -> [u8; 16] {
        let mut name = [0; 16];
        name.copy_from_slice(&digest_parts(domain, &[&self.salt, of])[..16]);
        name
    }
}

/// Clears the standing orders of an interval, given in the order of their arrival. Gives the public book,
/// too.
pub(super) fn clear_interval(
    mut orders: Vec<&Placed>,
    interval: Interval,
    rules: &Rules,
    secret: &Secret,
    feeders: &BTreeMap<ParticipantId, u32>,
) -> Result<(Cleared, String), BookError> {
    let names = Names::of(secret, interval);
    let mechanism = rules.mechanism;
    // Where arrival decides, the book is in that order and its digest commits to it; else it is in the
    // order of names, so that it is the same book whatever arrived first.
    if !mechanism.depends_on_arrival() {
        orders.sort_by_cached_key(|o| names.order(o.id));
    }
    let numbers = numbers(&orders)?;
    let book = book_of(&orders, interval, &names, &numbers)?;
    let wishes = wishes(&orders, mechanism, &numbers, feeders);
    let preferred = cleared(&book, mechanism, wishes.as_deref());
    let people: Vec<[u8; 16]> = orders
        .iter()
        .map(|o| names.participant(&o.order.participant))
        .collect();
    let wished = (wishes.as_deref(), &preferred);
    let public = public::write(interval, mechanism, &book, &people, wished);
    let outcome = preferred.outcome;
    let clearing = summary(&orders, interval, mechanism, &outcome, &public)?;
    let trades = trades_of(&orders, interval, &clearing.book, &outcome);
    let with_fill = |(placed, fill): (&Placed, Fill)| ClearedOrder {
        order: placed.order.clone(),
        id: placed.id,
        filled: Energy::from_wh(fill.filled_wh),
        reason: fill.reason.to_string(),
    };
    let orders = orders
        .into_iter()
        .zip(outcome.orders)
        .map(with_fill)
        .collect();
    let cleared = Cleared {
        clearing,
        trades,
        orders,
    };
    Ok((cleared, public))
}

fn summary(
    orders: &[&Placed],
    interval: Interval,
    mechanism: Mechanism,
    outcome: &Outcome,
    public: &str,
) -> Result<Clearing, BookError> {
    let count = |n: usize| u32::try_from(n).map_err(|_| BookError::Full);
    let (low, high) = outcome.price_interval.unzip();
    Ok(Clearing {
        interval,
        mechanism: mechanism.name().to_owned(),
        price_policy: mechanism.price_policy_name().to_owned(),
        price: outcome.price,
        price_low: low,
        price_high: high,
        volume: Energy::from_wh(outcome.volume_wh),
        orders: count(orders.len())?,
        trades: count(outcome.trades.len())?,
        book: book_digest(orders),
        public_book: Some(Digest32::of(public.as_bytes())),
    })
}

/// The participants by number, in the order in which they come in the book.
fn numbers<'a>(orders: &[&'a Placed]) -> Result<BTreeMap<&'a ParticipantId, u32>, BookError> {
    let mut numbers: BTreeMap<&ParticipantId, u32> = BTreeMap::new();
    for placed in orders {
        let next = u32::try_from(numbers.len()).map_err(|_| BookError::Full)?;
        numbers.entry(&placed.order.participant).or_insert(next);
    }
    Ok(numbers)
}

fn book_of(
    orders: &[&Placed],
    interval: Interval,
    names: &Names,
    numbers: &BTreeMap<&ParticipantId, u32>,
) -> Result<Book, BookError> {
    let mut book = Book::new(&public::salt(interval));
    for (arrival, placed) in (0_u32..).zip(orders) {
        book.push(Entry {
            side: placed.order.side,
            energy_wh: placed.order.energy.wh(),
            limit: placed.order.limit,
            participant: numbers[&placed.order.participant],
            arrival,
            key: names.order(placed.id),
        })?;
    }
    Ok(book)
}

fn trades_of(
    orders: &[&Placed],
    interval: Interval,
    book: &Digest32,
    outcome: &Outcome,
) -> Vec<Trade> {
    let trade = |t: &Match| {
        let (bid, offer) = (orders[slot(t.bid)], orders[slot(t.offer)]);
        assert_eq!(
            t.buyer_price, t.seller_price,
            "a trade of a community has one price"
        );
        Trade {
            id: Trade::id_of(interval, book, bid.id, offer.id),
            interval,
            bid: bid.id,
            offer: offer.id,
            buyer: bid.order.participant.clone(),
            seller: offer.order.participant.clone(),
            energy: Energy::from_wh(t.energy_wh),
            price: t.buyer_price,
            network_fee: None,
        }
    };
    outcome.trades.iter().map(trade).collect()
}

/// [`digest_parts`] of `book` over id and signed bytes of each order, in the book's order.
fn book_digest(orders: &[&Placed]) -> Digest32 {
    let parts: Vec<&[u8]> = orders
        .iter()
        .flat_map(|o| [&o.id.as_bytes()[..], o.signed.as_slice()])
        .collect();
    Digest32(digest_parts("book", &parts))
}
