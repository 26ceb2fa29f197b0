//! What explanations look up about a cleared book: each side's margin and best limits, and the energy
//! that participants have against themselves.

use std::collections::BTreeMap;

use domain::money::Price;
use domain::order::Side;

use super::is_beyond;
use crate::book::{BestTwo, Book, Entry, better, slot};

/// What is known of one side after the clearing.
#[derive(Clone, Copy)]
pub(super) struct SideView {
    /// Of all orders.
    pub(super) best: BestTwo,
    /// Of those that were not fully served.
    pub(super) unserved: BestTwo,
    /// Worst limit that was served.
    pub(super) last_accepted: Option<Price>,
    /// The orders of that limit.
    pub(super) margin: Margin,
}

/// The orders of the worst limit that was served, without energy left out.
#[derive(Clone, Copy, Default)]
pub(super) struct Margin {
    pub(super) orders: usize,
    energy_wh: i128,
    filled_wh: i128,
}

impl Margin {
    /// Whether one more order would get a watt-hour at least, however remainders fall.
    pub(super) fn has_share_for(&self, energy_wh: i64) -> bool {
        let energy_wh = i128::from(energy_wh);
        self.filled_wh * energy_wh >= self.energy_wh + energy_wh
    }
}

impl SideView {
    /// Both sides: the bids, then the offers.
    pub(super) fn both(book: &Book, filled: &[i64], left_out: &[i64]) -> [Self; 2] {
        let mut views = [Side::Bid, Side::Offer].map(|side| SideView {
            best: BestTwo::new(side),
            unserved: BestTwo::new(side),
            last_accepted: None,
            margin: Margin::default(),
        });
        let orders = book.entries().iter().zip(filled).zip(left_out);
        for ((entry, filled), left_out) in orders.clone() {
            let view = &mut views[usize::from(entry.side == Side::Offer)];
            view.best.note(entry.limit, || entry.participant);
            let in_book = entry.energy_wh - left_out;
            if *filled < in_book {
                view.unserved.note(entry.limit, || entry.participant);
            }
            let is_worse = |last| better(entry.side, last, entry.limit);
            if *filled > 0 && view.last_accepted.is_none_or(is_worse) {
                view.last_accepted = Some(entry.limit);
            }
        }
        for ((entry, filled), left_out) in orders {
            let view = &mut views[usize::from(entry.side == Side::Offer)];
            let in_book = entry.energy_wh - left_out;
            if in_book > 0 && view.last_accepted == Some(entry.limit) {
                view.margin.orders += 1;
                view.margin.energy_wh += i128::from(in_book);
                view.margin.filled_wh += i128::from(*filled);
            }
        }
        views
    }

    pub(super) fn has_other_than(&self, participant: u32) -> bool {
        self.best.but(participant).is_some()
    }
}

/// Energy of each participant that was not traded: by participant and side (offers `true`), the limits best first with the energy up to each.
pub(super) struct OwnSpare(BTreeMap<(u32, bool), Vec<(Price, i64)>>);

impl OwnSpare {
    /// Of those who have orders on both sides, as `sides` says: nobody else has orders of its own opposite.
    pub(super) fn of(book: &Book, filled: &[i64], sides: &[[bool; 2]]) -> Self {
        let mut spare: BTreeMap<(u32, bool), Vec<(Price, i64)>> = BTreeMap::new();
        for (entry, filled) in book.entries().iter().zip(filled) {
            if *filled < entry.energy_wh && sides[slot(entry.participant)] == [true; 2] {
                let of = (entry.participant, entry.side == Side::Offer);
                let list = spare.entry(of).or_default();
                list.push((entry.limit, entry.energy_wh - filled));
            }
        }
        for ((_, offers), list) in &mut spare {
            list.sort_unstable();
            if !offers {
                list.reverse();
            }
            let mut sum = 0;
            for (_, wh) in list {
                sum += *wh;
                *wh = sum;
            }
        }
        OwnSpare(spare)
    }

    /// How much of it an order of the same participant reaches.
    pub(super) fn in_reach_wh(&self, entry: &Entry) -> i64 {
        let of = (entry.participant, entry.side == Side::Bid);
        let Some(list) = self.0.get(&of) else {
            return 0;
        };
        let reached = list.partition_point(|(l, _)| !is_beyond(entry.side, entry.limit, *l));
        reached.checked_sub(1).map_or(0, |last| list[last].1)
    }
}
