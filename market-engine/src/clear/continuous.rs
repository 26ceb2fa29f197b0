//! `continuous`: orders meet in the order of their arrival, best standing price first, then the
//! earliest; a trade is at the price of the order that stood in the book.
//!
//! An order passes over standing orders of its own participant and meets the next best; over
//! [`super::standing::PASSED_MAX`] of them at most.

use domain::money::Price;
use domain::order::Side;

use super::merit::Plan;
use super::standing::{Arrival, LEVELS_MAX, StandingOrders};
use super::{Auction, Decision, Match, Ties};
use crate::book::{BestTwo, Book, Entry, slot};
use crate::explain::{Setting, explain};

/// Orders meet as they arrive.
pub(super) struct Continuous;

impl Auction for Continuous {
    fn name(&self) -> &'static str {
        "continuous"
    }

    fn price_policy(&self) -> &'static str {
        "standing-order"
    }

    fn ties(&self) -> Ties {
        Ties::Time
    }

    fn keeps_merit_order(&self) -> bool {
        false
    }

    fn clear(&self, book: &Book) -> super::Outcome {
        let (welfare_max, price_interval) = Plan::measure(book);
        let mut arrivals: Vec<u32> = (0_u32..).zip(book.entries()).map(|(i, _)| i).collect();
        arrivals.sort_unstable_by_key(|i| (book.get(*i).arrival, book.get(*i).key));
        let mut day = Day::new(book);
        for index in &arrivals {
            day.arrive(*index);
        }
        let needed = day.needed(&arrivals);
        let left_out = vec![0; day.filled.len()];
        Decision {
            price: None,
            price_interval,
            welfare_max,
            reasons: explain(book, &day.filled, &left_out, Setting::over_time(needed)),
            trades: day.trades,
            filled: day.filled,
            left_out,
        }
        .into_outcome(book)
    }
}

/// The orders on their way through the market.
struct Day<'b> {
    book: &'b Book,
    standing: StandingOrders,
    /// The price level of each order.
    levels: Vec<u32>,
    trades: Vec<Match>,
    filled: Vec<i64>,
    /// The best of somebody else on the other side when an order came, where it found nothing to trade.
    best_then: Vec<Option<Price>>,
    /// Any better limit on the other side would have traded with this order.
    reached: Vec<Price>,
}

impl<'b> Day<'b> {
    fn new(book: &'b Book) -> Self {
        let (levels, count) = levels(book);
        let orders = book.entries().len();
        Day {
            book,
            standing: StandingOrders::new(count, orders),
            levels,
            trades: Vec::new(),
            filled: vec![0; orders],
            best_then: vec![None; orders],
            reached: vec![Price::ZERO; orders],
        }
    }

    /// Lets an order trade with what stands on the other side, and stand with what is left.
    fn arrive(&mut self, index: u32) {
        let (book, entry) = (self.book, self.book.get(index));
        let arrival = Arrival {
            side: entry.side,
            level: self.levels[slot(index)],
            energy_wh: entry.energy_wh,
            participant: entry.participant,
            name: index,
        };
        let (trades, filled) = (&mut self.trades, &mut self.filled);
        let mut last = None;
        self.standing.submit(arrival, |met| {
            let price = book.get(met.name).limit;
            let (bid, offer) = match entry.side {
                Side::Bid => (index, met.name),
                Side::Offer => (met.name, index),
            };
            filled[slot(bid)] += met.energy_wh;
            filled[slot(offer)] += met.energy_wh;
            last = Some(price);
            trades.push(Match {
                bid,
                offer,
                energy_wh: met.energy_wh,
                buyer_price: price,
                seller_price: price,
            });
        });
        let filled_wh = self.filled[slot(index)];
        if filled_wh == 0 {
            let best = self
                .standing
                .best_but(entry.side.opposite(), entry.participant);
            self.best_then[slot(index)] = best.map(|name| book.get(name).limit);
        }
        self.reached[slot(index)] = match last {
            Some(last) if filled_wh == entry.energy_wh => beyond(entry.side.opposite(), last),
            _ => entry.limit,
        };
    }

    /// For each order that was not filled, the limit from which on it would have been. Until its first
    /// trade an order changes nothing for others, so that what came later can be looked up.
    fn needed(&self, arrivals: &[u32]) -> Vec<Option<Price>> {
        let mut needed = vec![None; self.filled.len()];
        let mut later = [Side::Bid, Side::Offer].map(BestTwo::new);
        for index in arrivals.iter().rev() {
            let (place, entry) = (slot(*index), self.book.get(*index));
            let other = usize::from(entry.side == Side::Bid);
            if self.filled[place] == 0 {
                let all = [self.best_then[place], later[other].but(entry.participant)];
                let all = all.into_iter().flatten();
                needed[place] = match entry.side {
                    Side::Bid => all.min(),
                    Side::Offer => all.max(),
                };
            }
            later[1 - other].note(self.reached[place], || entry.participant);
        }
        needed
    }
}

/// A tick better than a limit of this side.
fn beyond(side: Side, limit: Price) -> Price {
    let tick = match side {
        Side::Bid => 1,
        Side::Offer => -1,
    };
    let better = limit.checked_add(Price::from_micro_per_kwh(tick));
    better.unwrap_or(limit)
}

/// The price level of each order, and how many levels there are: ticks where limits are close together,
/// else their places among all limits.
fn levels(book: &Book) -> (Vec<u32>, u32) {
    let limit = |e: &Entry| e.limit.micro_per_kwh();
    let limits = || book.entries().iter().map(limit);
    let (Some(low), Some(high)) = (limits().min(), limits().max()) else {
        return (Vec::new(), 0);
    };
    let orders = u32::try_from(book.entries().len()).unwrap_or(LEVELS_MAX);
    let ticks = u32::try_from(high.abs_diff(low)).ok();
    if let Some(ticks) = ticks.filter(|ticks| *ticks < orders.saturating_mul(4).min(LEVELS_MAX)) {
        let level = |limit: i64| u32::try_from(limit.abs_diff(low)).unwrap_or(ticks);
        return (limits().map(level).collect(), ticks + 1);
    }
    let mut sorted: Vec<(i64, u32)> = limits().zip(0..).collect();
    sorted.sort_unstable();
    let mut levels = vec![0; sorted.len()];
    let mut count = 0;
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        equal
            .iter()
            .for_each(|(_, index)| levels[slot(*index)] = count);
        count += 1;
    }
    (levels, count)
}
