//! Who trades with whom: served bids and offers are paired in merit order, never a participant with
//! itself, in at most bids + offers − 1 trades.
//!
//! Best bid meets best offer of somebody else, until one of both is used up. That could leave one
//! participant alone on both sides at the end. So a trade is cut short where somebody else's bought
//! and sold energy reaches all that is left; from there on that participant is in every trade: its
//! offers go to the other bids and its bids to the other offers, each in merit order.
//!
//! Each trade uses up an order, except one at most that was cut; after it the rest falls into two
//! separate lists, so the bound on the number of trades holds.

use std::collections::{BTreeMap, BTreeSet};

use domain::money::Price;
use domain::order::Side;

use super::merit::Plan;
use super::{Match, at};
use crate::book::{Book, slot};

/// A bid, an offer, and the energy between them.
type Pair = (u32, u32, i64);

/// Pairs all that is served into trades; `prices` gives what the buyer of a bid pays and what the seller
/// of an offer receives.
pub(super) fn trades(plan: &Plan<'_>, prices: impl Fn(u32, u32) -> (Price, Price)) -> Vec<Match> {
    let trade = |(bid, offer, energy_wh): Pair| {
        let (buyer_price, seller_price) = prices(bid, offer);
        Match {
            bid,
            offer,
            energy_wh,
            buyer_price,
            seller_price,
        }
    };
    pair(plan).into_iter().map(trade).collect()
}

/// Pairs all that is served.
fn pair(plan: &Plan<'_>) -> Vec<Pair> {
    let (bids, offers) = (plan.served(Side::Bid), plan.served(Side::Offer));
    let mut left = plan.filled.clone();
    let mut pairs = Vec::with_capacity(bids.len() + offers.len());
    let loads = Loads::new(plan.book, &left);
    if loads.by_weight.is_empty() {
        pair_in_order(&bids, &offers, &mut left, &mut pairs);
    } else {
        pair_with_care(plan.book, &bids, &offers, &mut left, &mut pairs, loads);
    }
    assert!(
        left.iter().all(|wh| *wh == 0),
        "served energy was left without a counterpart"
    );
    in_merit_order(plan.book, &bids, &offers, pairs)
}

/// Sorts pairs by the rank of the bid, then of the offer: the same list whatever made them.
fn in_merit_order(book: &Book, bids: &[u32], offers: &[u32], mut pairs: Vec<Pair>) -> Vec<Pair> {
    let mut rank = vec![0_u32; book.entries().len()];
    for side in [bids, offers] {
        (0_u32..)
            .zip(side)
            .for_each(|(place, index)| rank[slot(*index)] = place);
    }
    pairs.sort_unstable_by_key(|(bid, offer, _)| (rank[slot(*bid)], rank[slot(*offer)]));
    pairs
}

/// Best with best, for lists that share no participant.
fn pair_in_order(bids: &[u32], offers: &[u32], left: &mut [i64], pairs: &mut Vec<Pair>) {
    let mut open = offers.iter().copied().peekable();
    for bid in bids {
        while at(left, *bid) > 0 {
            let Some(offer) = open.peek().copied() else {
                return;
            };
            let energy = at(left, *bid).min(at(left, offer));
            if energy > 0 {
                take(left, (*bid, offer, energy), pairs);
            }
            if at(left, offer) == 0 {
                open.next();
            }
        }
    }
}

fn take(left: &mut [i64], pair: Pair, pairs: &mut Vec<Pair>) {
    left[slot(pair.0)] -= pair.2;
    left[slot(pair.1)] -= pair.2;
    pairs.push(pair);
}

/// Best with best of somebody else, as long as nobody would be left alone with itself.
fn pair_with_care(
    book: &Book,
    bids: &[u32],
    offers: &[u32],
    left: &mut [i64],
    pairs: &mut Vec<Pair>,
    mut loads: Loads,
) {
    let mut open = Open::default();
    (0_u32..)
        .zip(offers)
        .for_each(|(rank, o)| open.insert((rank, *o), book.get(*o).participant));
    for bid in bids {
        let buyer = book.get(*bid).participant;
        while at(left, *bid) > 0 {
            let best = open.best_but(buyer);
            assert!(best.is_some(), "a participant was left alone on both sides");
            let Some((place, seller)) = best else { return };
            let offer = place.1;
            let (free, heaviest) = loads.room_besides(buyer, seller);
            let energy = at(left, *bid).min(at(left, offer)).min(free);
            if energy > 0 {
                take(left, (*bid, offer, energy), pairs);
                loads.take(buyer, seller, energy);
            }
            if energy == free && (at(left, *bid) > 0 && at(left, offer) > 0) {
                return pair_around(book, heaviest, bids, offers, left, pairs);
            }
            if at(left, offer) == 0 {
                open.remove(place, seller);
            }
        }
    }
}

/// All that is left has this participant on one side: its offers with others' bids, and the reverse.
fn pair_around(
    book: &Book,
    participant: u32,
    bids: &[u32],
    offers: &[u32],
    left: &mut [i64],
    pairs: &mut Vec<Pair>,
) {
    let own = |i: &u32| book.get(*i).participant == participant;
    let (own_bids, bids): (Vec<u32>, Vec<u32>) = bids.iter().partition(|i| own(i));
    let (own_offers, offers): (Vec<u32>, Vec<u32>) = offers.iter().partition(|i| own(i));
    pair_in_order(&bids, &own_offers, left, pairs);
    pair_in_order(&own_bids, &offers, left, pairs);
}

/// Bought and sold energy left of those who are on both sides; only they can end up alone.
pub(super) struct Loads {
    left_wh: i64,
    of: BTreeMap<u32, i128>,
    by_weight: BTreeSet<(i128, u32)>,
}

impl Loads {
    pub(super) fn new(book: &Book, left: &[i64]) -> Self {
        let open = || book.entries().iter().zip(left).filter(|(_, wh)| **wh > 0);
        let mut sides = vec![[false; 2]; book.participants()];
        let mut left_wh = 0;
        for (entry, wh) in open() {
            let offer = entry.side == Side::Offer;
            sides[slot(entry.participant)][usize::from(offer)] = true;
            left_wh += if offer { 0 } else { *wh };
        }
        let mut of: BTreeMap<u32, i128> = BTreeMap::new();
        for (entry, wh) in open() {
            if sides[slot(entry.participant)] == [true; 2] {
                *of.entry(entry.participant).or_default() += i128::from(*wh);
            }
        }
        let by_weight = of.iter().map(|(p, wh)| (*wh, *p)).collect();
        Loads {
            left_wh,
            of,
            by_weight,
        }
    }

    /// How much two participants may trade before somebody else must be in every trade, and who.
    pub(super) fn room_besides(&self, buyer: u32, seller: u32) -> (i64, u32) {
        let other = |(_, p): &&(i128, u32)| *p != buyer && *p != seller;
        match self.by_weight.iter().rev().find(other) {
            Some((wh, participant)) => {
                let room = i64::try_from(i128::from(self.left_wh) - wh);
                assert!(
                    room.is_ok_and(|wh| wh >= 0),
                    "a participant would trade with itself"
                );
                (room.unwrap_or(0), *participant)
            }
            None => (i64::MAX, buyer),
        }
    }

    pub(super) fn take(&mut self, buyer: u32, seller: u32, energy: i64) {
        self.left_wh -= energy;
        for participant in [buyer, seller] {
            if let Some(load) = self.of.get_mut(&participant) {
                self.by_weight.remove(&(*load, participant));
                *load -= i128::from(energy);
                self.by_weight.insert((*load, participant));
            }
        }
    }
}

/// Open orders of one side, best first, with the best of anyone but one participant at hand.
#[derive(Default)]
struct Open {
    of: BTreeMap<u32, BTreeSet<Ranked>>,
    best: BTreeSet<(Ranked, u32)>,
}

/// An order's rank, the least the best, and its index.
type Ranked = (u32, u32);

impl Open {
    /// Adds an order.
    fn insert(&mut self, place: Ranked, participant: u32) {
        self.change(participant, |own| own.insert(place));
    }

    /// Removes an order.
    fn remove(&mut self, place: Ranked, participant: u32) {
        self.change(participant, |own| own.remove(&place));
    }

    /// The best open order that is not the participant's own, and whose it is.
    fn best_but(&self, participant: u32) -> Option<(Ranked, u32)> {
        self.best.iter().find(|(_, p)| *p != participant).copied()
    }

    fn change(&mut self, participant: u32, change: impl FnOnce(&mut BTreeSet<Ranked>) -> bool) {
        let own = self.of.entry(participant).or_default();
        if let Some(first) = own.first() {
            self.best.remove(&(*first, participant));
        }
        change(own);
        match own.first() {
            Some(first) => {
                self.best.insert((*first, participant));
            }
            None => {
                self.of.remove(&participant);
            }
        }
    }
}
