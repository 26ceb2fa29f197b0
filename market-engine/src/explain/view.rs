//! What explanations look up about a cleared book: each side's margin and best limits, and the energy
//! that participants have against themselves.

use std::collections::BTreeMap;

use domain::money::Price;
use domain::order::Side;

use super::is_beyond;
use crate::book::{Book, Entry};

/// The best limits of two different participants, best first.
pub(super) type BestTwo = [Option<(Price, u32)>; 2];

/// What is known of one side after the clearing.
#[derive(Clone, Copy, Default)]
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
    pub(super) fn of(book: &Book, side: Side, filled: &[i64], in_book: &[i64]) -> Self {
        let mut view = SideView::default();
        let orders = book.entries().iter().zip(filled).zip(in_book);
        let orders = orders.filter(|((entry, _), _)| entry.side == side);
        for ((entry, filled), in_book) in orders.clone() {
            note(&mut view.best, entry);
            if filled < in_book {
                note(&mut view.unserved, entry);
            }
            let is_last = |last| !better(side, entry.limit, last);
            if *filled > 0 && view.last_accepted.is_none_or(is_last) {
                view.last_accepted = Some(entry.limit);
            }
        }
        for ((entry, filled), in_book) in orders {
            if Some(entry.limit) == view.last_accepted && *in_book > 0 {
                view.margin.orders += 1;
                view.margin.energy_wh += i128::from(*in_book);
                view.margin.filled_wh += i128::from(*filled);
            }
        }
        view
    }

    pub(super) fn has_other_than(&self, participant: u32) -> bool {
        best_but(&self.best, participant).is_some()
    }
}

fn better(side: Side, a: Price, b: Price) -> bool {
    if side == Side::Bid { a > b } else { a < b }
}

fn note(best: &mut BestTwo, entry: &Entry) {
    let new = (entry.limit, entry.participant);
    let beats = |old: Option<(Price, u32)>| old.is_none_or(|o| better(entry.side, new.0, o.0));
    let [first, second] = *best;
    if first.is_some_and(|f| f.1 == new.1) {
        if beats(first) {
            best[0] = Some(new);
        }
    } else if beats(first) {
        *best = [Some(new), first];
    } else if beats(second) {
        best[1] = Some(new);
    }
}

/// The best limit of anybody but this participant.
pub(super) fn best_but(best: &BestTwo, participant: u32) -> Option<Price> {
    let mut others = best.iter().flatten().filter(|(_, p)| *p != participant);
    others.next().map(|(limit, _)| *limit)
}

/// Energy of each participant that was not traded: by participant and side (offers `true`), the limits best first with the energy up to each.
pub(super) struct OwnSpare(BTreeMap<(u32, bool), Vec<(Price, i64)>>);

impl OwnSpare {
    pub(super) fn of(book: &Book, filled: &[i64]) -> Self {
        let mut spare: BTreeMap<(u32, bool), Vec<(Price, i64)>> = BTreeMap::new();
        for (entry, filled) in book.entries().iter().zip(filled) {
            if *filled < entry.energy_wh {
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
