//! `continuous`: orders meet in the order of their arrival, best standing price first, then the
//! earliest; a trade is at the price of the order that stood in the book.
//!
//! An order passes over standing orders of its own participant and meets the next best.

use domain::order::Side;

use super::matching::Open;
use super::merit::Plan;
use super::{Decision, Match, at};
use crate::book::{Book, Entry, better, slot};
use crate::explain::{Setting, explain};

/// Rank of a standing order: limit, turned so that the least is the best, then arrival.
type Rank = (i128, u32);

fn rank(entry: &Entry) -> Rank {
    let limit = i128::from(entry.limit.micro_per_kwh());
    (
        if entry.side == Side::Bid {
            -limit
        } else {
            limit
        },
        entry.arrival,
    )
}

pub(super) fn clear(book: &Book) -> super::Outcome {
    let welfare_max = Plan::welfare_max(book);
    let energy: Vec<i64> = book.entries().iter().map(|e| e.energy_wh).collect();
    let mut left = energy.clone();
    let (mut bids, mut offers) = (Open::<Rank>::default(), Open::<Rank>::default());
    let mut trades = Vec::new();
    let mut arrivals: Vec<u32> = (0_u32..).zip(book.entries()).map(|(i, _)| i).collect();
    arrivals.sort_unstable_by_key(|i| (book.get(*i).arrival, book.get(*i).key));
    for index in arrivals {
        let entry = book.get(index);
        let (own, other) = match entry.side {
            Side::Bid => (&mut bids, &mut offers),
            Side::Offer => (&mut offers, &mut bids),
        };
        meet(book, index, other, &mut left, &mut trades);
        if at(&left, index) > 0 {
            own.insert((rank(entry), index), entry.participant);
        }
    }
    let left_out = vec![0; energy.len()];
    let filled: Vec<i64> = energy
        .iter()
        .zip(&left)
        .map(|(whole, rest)| whole - rest)
        .collect();
    Decision {
        price: None,
        price_interval: None,
        trades,
        welfare_max,
        reasons: explain(book, &filled, &left_out, Setting::over_time()),
        left_out,
        filled,
    }
    .into_outcome(book)
}

/// Lets an arriving order trade with what stands on the other side.
fn meet(
    book: &Book,
    index: u32,
    standing: &mut Open<Rank>,
    left: &mut [i64],
    trades: &mut Vec<Match>,
) {
    let arriving = book.get(index);
    while at(left, index) > 0 {
        let Some((place, participant)) = standing.best_but(arriving.participant) else {
            return;
        };
        let price = book.get(place.1).limit;
        if better(arriving.side, price, arriving.limit) {
            return;
        }
        let energy_wh = at(left, index).min(at(left, place.1));
        for order in [index, place.1] {
            left[slot(order)] -= energy_wh;
        }
        if at(left, place.1) == 0 {
            standing.remove(place, participant);
        }
        let (bid, offer) = match arriving.side {
            Side::Bid => (index, place.1),
            Side::Offer => (place.1, index),
        };
        trades.push(Match {
            bid,
            offer,
            energy_wh,
            buyer_price: price,
            seller_price: price,
        });
    }
}
