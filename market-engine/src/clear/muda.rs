//! `muda` (Segal-Halevi, Hassidim and Aumann 2018, the lottery variant): two halves, each at the other's
//! price.
//!
//! Participants are divided by lot into two halves. Each half would clear at the middle of its own
//! Walras interval; that price is posted to the *other* half. There all bids at or above it meet all
//! offers at or below it; the shorter side is served whole, the longer one in an order drawn by lot. As
//! nobody's order moves the price it trades at, the true limit is the best one for everybody, also with
//! orders of many watt-hours; no money is kept. What it costs is welfare: the halves do not meet.
//! The lots come from a seed that is recorded, the interval and the orders' names, so that anybody can
//! draw them again.

use domain::money::Price;
use domain::order::Side;

use super::merit::{Plan, lot};
use super::{Auction, Decision, PricePolicy, Ties, matching, uniform_price};
use crate::book::{Book, Entry, better, slot};
use crate::explain::Reason;

/// Two halves, each at the price of the other.
pub(super) struct Muda {
    pub(super) seed: u64,
}

impl Auction for Muda {
    fn name(&self) -> &'static str {
        "muda"
    }

    fn price_policy(&self) -> &'static str {
        "other-half"
    }

    fn ties(&self) -> Ties {
        Ties::Lottery { seed: self.seed }
    }

    fn keeps_merit_order(&self) -> bool {
        false
    }

    fn clear(&self, book: &Book) -> super::Outcome {
        let seed = self.seed;
        let (welfare_max, price_interval) = Plan::measure(book);
        let half_of = halves(book, seed);
        let prices = [0, 1].map(|half| own_price(book, seed, |p| half_of[slot(p)] == half));
        let mut decision = Decision {
            price: None,
            price_interval,
            trades: Vec::new(),
            filled: vec![0; book.entries().len()],
            left_out: vec![0; book.entries().len()],
            welfare_max,
            reasons: vec![Reason::NoPostedPrice; book.entries().len()],
        };
        for half in [0, 1] {
            if let Some(price) = prices[1 - half] {
                serve_half(
                    book,
                    seed,
                    price,
                    |p| half_of[slot(p)] == half,
                    &mut decision,
                );
            }
        }
        decision.into_outcome(book)
    }
}

/// The half of each participant. It hangs on the least name among its orders, not on who came first.
fn halves(book: &Book, seed: u64) -> Vec<usize> {
    let mut names: Vec<Option<[u8; 16]>> = vec![None; book.participants()];
    for entry in book.entries() {
        let name = &mut names[slot(entry.participant)];
        *name = Some(name.map_or(entry.key, |old| old.min(entry.key)));
    }
    let draw = |name: Option<[u8; 16]>| {
        let drawn = lot(book, &half_seed(seed), &name.unwrap_or_default());
        usize::from(drawn[0] & 1)
    };
    names.into_iter().map(draw).collect()
}

/// The halves are drawn from other lots than the order of service.
fn half_seed(seed: u64) -> [u8; 9] {
    let mut bytes = [b'h'; 9];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes
}

/// The price at which a half would clear alone; where nothing crosses, the middle between its best bid
/// and its best offer; none where a side is empty.
fn own_price(book: &Book, seed: u64, takes_part: impl Fn(u32) -> bool) -> Option<Price> {
    let mut plan = Plan::new(book, Ties::Lottery { seed }).only(|_, e| takes_part(e.participant));
    let limits = |side| plan.taking_part(side).map(|i| plan.limit(i));
    let (bid, offer) = (limits(Side::Bid).max()?, limits(Side::Offer).min()?);
    plan.serve_best();
    match &plan.margin {
        Some(margin) => Some(uniform_price::price(margin, PricePolicy::WalrasMid)),
        None => Some(bid.midpoint_floor(offer)),
    }
}

/// Serves those of a half who take the posted price.
fn serve_half(
    book: &Book,
    seed: u64,
    price: Price,
    takes_part: impl Fn(u32) -> bool,
    decision: &mut Decision,
) {
    let takes_price = |e: &Entry| !better(e.side, price, e.limit);
    let mut plan = Plan::new(book, Ties::Lottery { seed })
        .only(|_, e| takes_part(e.participant) && takes_price(e));
    let queues = [Side::Bid, Side::Offer].map(|side| Queue::of(&plan, seed, side));
    let volume = queues[0].energy_wh.min(queues[1].energy_wh);
    for queue in &queues {
        for drawn in &queue.drawn {
            let left_wh = (volume - drawn.before_wh).max(0);
            plan.filled[slot(drawn.index)] = left_wh.min(plan.energy(drawn.index));
        }
    }
    plan.leave_out_overlap(volume);
    let trades = matching::trades(&plan, |_, _| (price, price));
    decision.trades.extend(trades);
    let sides = book.sides();
    for (place, entry) in book.entries().iter().enumerate() {
        if takes_part(entry.participant) {
            let other_wh = queues[usize::from(entry.side == Side::Bid)].energy_wh;
            let (filled_wh, left_out_wh) = (plan.filled[place], plan.left_out[place]);
            decision.filled[place] = filled_wh;
            decision.left_out[place] = left_out_wh;
            decision.reasons[place] = if takes_price(entry) {
                taker_reason(entry, filled_wh, left_out_wh, price, other_wh)
            } else {
                let queue = &queues[usize::from(entry.side == Side::Offer)];
                let told = sides[slot(entry.participant)] != [true; 2]
                    && queue.would_serve(book, seed, entry, other_wh);
                Reason::BeyondPrice {
                    side: entry.side,
                    price,
                    needed: told.then_some(price),
                }
            };
        }
    }
}

/// An order that takes the posted price, as its lot put it.
struct Drawn {
    lot: [u8; 32],
    index: u32,
    /// Energy of those before it.
    before_wh: i64,
}

/// The orders of one side of a half that take the posted price.
struct Queue {
    drawn: Vec<Drawn>,
    energy_wh: i64,
}

impl Queue {
    fn of(plan: &Plan<'_>, seed: u64, side: Side) -> Self {
        let draw = |index| Drawn {
            lot: lot(plan.book, &seed.to_be_bytes(), &plan.book.get(index).key),
            index,
            before_wh: 0,
        };
        let mut drawn: Vec<Drawn> = plan.taking_part(side).map(draw).collect();
        drawn.sort_unstable_by_key(|d| (d.lot, d.index));
        let mut energy_wh = 0;
        for order in &mut drawn {
            order.before_wh = energy_wh;
            energy_wh += plan.energy(order.index);
        }
        Queue { drawn, energy_wh }
    }

    /// Whether an order that is not among them would get a part, if it took the price too: neither its
    /// lot nor the price depends on its limit.
    fn would_serve(&self, book: &Book, seed: u64, entry: &Entry, other_wh: i64) -> bool {
        let lot = lot(book, &seed.to_be_bytes(), &entry.key);
        let place = self.drawn.partition_point(|d| d.lot < lot);
        let before_wh = self
            .drawn
            .get(place)
            .map_or(self.energy_wh, |d| d.before_wh);
        before_wh < other_wh.min(self.energy_wh.saturating_add(entry.energy_wh))
    }
}

/// Why an order that takes the posted price was served as it was.
fn taker_reason(
    entry: &Entry,
    filled_wh: i64,
    left_out_wh: i64,
    price: Price,
    other_wh: i64,
) -> Reason {
    let (side, energy_wh) = (entry.side, entry.energy_wh);
    if filled_wh == energy_wh {
        Reason::Filled
    } else if left_out_wh > 0 {
        Reason::OwnCounterpart {
            filled_wh,
            own_wh: left_out_wh,
        }
    } else if filled_wh > 0 {
        Reason::FilledInPart {
            filled_wh,
            energy_wh,
            shared: false,
        }
    } else if other_wh == 0 {
        Reason::NobodyTakesPrice { side, price }
    } else {
        Reason::NotDrawn { price }
    }
}
