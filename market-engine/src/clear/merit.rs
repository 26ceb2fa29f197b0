//! Merit order: the volume of a book, who is served, and the margin, for all auctions at one moment.
//!
//! **Own counterparts.** An order that reaches orders of its own participant only can never trade: it
//! is left out whole before anything else, so that it moves neither volume nor price (except where
//! `trade-reduction` looks beyond the margin, see there).
//!
//! Fills can be paired without anyone trading with itself exactly if no participant's bought and sold
//! energy together exceed the volume. One participant at most can break that. Then (1) at the margin
//! it yields to others of the same limit; (2) what still overlaps is left out too, the same amount of
//! its worst accepted bids and offers, as if never ordered: it is energy the participant keeps for
//! itself; (3) so is an unserved order that now reaches own orders only.
//!
//! This is the one exception to "the largest volume of any single price, better limits first": both
//! hold for the book without the energy left out, of which the result is the clearing, and not always
//! for the book as ordered. A better order can be left out where a worse one is served, and others
//! may miss energy that a participant kept for itself; its price is then that of the smaller book.

use domain::money::{Price, split_largest_remainder};
use domain::order::Side;
use sha2::{Digest, Sha256};

use super::{Ties, at};
use crate::book::{Book, Entry, slot};

/// A clearing in the making.
pub(super) struct Plan<'b> {
    pub(super) book: &'b Book,
    /// Bids that take part, best first; equal limits in no order.
    pub(super) bids: Vec<u32>,
    /// Offers that take part, best first; equal limits in no order.
    pub(super) offers: Vec<u32>,
    /// Energy of each order that is in the book, own counterparts left out.
    pub(super) energy: Vec<i64>,
    /// Energy of each order that is served.
    pub(super) filled: Vec<i64>,
    ties: Ties,
}

impl<'b> Plan<'b> {
    pub(super) fn new(book: &'b Book, ties: Ties) -> Self {
        let (mut bids, mut offers) = (book.side(Side::Bid), book.side(Side::Offer));
        bids.sort_unstable_by_key(|i| std::cmp::Reverse(book.get(*i).limit));
        offers.sort_unstable_by_key(|i| book.get(*i).limit);
        let energy: Vec<i64> = book.entries().iter().map(|e| e.energy_wh).collect();
        let filled = vec![0; energy.len()];
        Plan {
            book,
            bids,
            offers,
            energy,
            filled,
            ties,
        }
    }

    /// The same for some of the participants; the others' orders are as if never placed.
    pub(super) fn among(book: &'b Book, ties: Ties, takes_part: impl Fn(u32) -> bool) -> Self {
        let mut plan = Plan::new(book, ties);
        let takes_part = |i: &u32| takes_part(book.get(*i).participant);
        plan.bids.retain(takes_part);
        plan.offers.retain(takes_part);
        plan
    }

    /// This plan without one participant's orders, nothing served.
    pub(super) fn without(&self, participant: u32) -> Self {
        let others = |list: &[u32]| -> Vec<u32> {
            let other = |i: &u32| self.book.get(*i).participant != participant;
            list.iter().copied().filter(other).collect()
        };
        Plan {
            book: self.book,
            bids: others(&self.bids),
            offers: others(&self.offers),
            energy: self.energy.clone(),
            filled: vec![0; self.filled.len()],
            ties: self.ties,
        }
    }

    /// The merit-order walk: the largest volume of any single price, equal prices included, and the
    /// welfare of serving it.
    pub(super) fn volume_and_welfare(&self) -> (i64, i128) {
        let (mut bids, mut offers) = (self.bids.iter(), self.offers.iter());
        let (mut volume, mut welfare) = (0, 0);
        let (mut bid, mut offer) = (None, None);
        loop {
            bid = bid.or_else(|| bids.next().map(|i| (*i, at(&self.energy, *i))));
            offer = offer.or_else(|| offers.next().map(|i| (*i, at(&self.energy, *i))));
            let (Some((b, b_left)), Some((o, o_left))) = (bid, offer) else {
                break;
            };
            let gain = i128::from(self.limit(b).micro_per_kwh())
                - i128::from(self.limit(o).micro_per_kwh());
            if gain < 0 {
                break;
            }
            let energy = b_left.min(o_left);
            volume += energy;
            welfare += i128::from(energy) * gain;
            bid = Some((b, b_left - energy)).filter(|(_, left)| *left > 0);
            offer = Some((o, o_left - energy)).filter(|(_, left)| *left > 0);
        }
        (volume, welfare)
    }

    /// The welfare of what is served, in nano-tokens.
    pub(super) fn welfare(&self) -> i128 {
        let worth = |(entry, filled): (&Entry, &i64)| {
            let worth = i128::from(*filled) * i128::from(entry.limit.micro_per_kwh());
            match entry.side {
                Side::Bid => worth,
                Side::Offer => -worth,
            }
        };
        self.book
            .entries()
            .iter()
            .zip(&self.filled)
            .map(worth)
            .sum()
    }

    /// Serves the largest volume of the book without own counterparts. Gives the most welfare that the
    /// whole book could bring.
    pub(super) fn serve_best(&mut self) -> i128 {
        let (_, welfare_max) = self.volume_and_welfare();
        self.leave_out_own_only();
        let (volume, _) = self.volume_and_welfare();
        self.serve(volume);
        self.leave_out_own_only();
        welfare_max
    }

    /// Takes out the orders that reach orders of their own participant, and of nobody else. It never
    /// takes out a served one, nor does it change whom the others reach.
    fn leave_out_own_only(&mut self) {
        let (best_bids, best_offers) = (self.best_two(Side::Bid), self.best_two(Side::Offer));
        let mut energy = std::mem::take(&mut self.energy);
        for (entry, energy) in self.book.entries().iter().zip(&mut energy) {
            let opposite = match entry.side {
                Side::Bid => best_offers,
                Side::Offer => best_bids,
            };
            let reached =
                |best: Option<(Price, u32)>| best.filter(|(l, _)| reaches(entry, *l)).map(|b| b.1);
            let [best, next] = opposite.map(reached);
            if best == Some(entry.participant) && next.is_none() {
                *energy = 0;
            }
        }
        self.bids.retain(|i| at(&energy, *i) > 0);
        self.offers.retain(|i| at(&energy, *i) > 0);
        self.energy = energy;
    }

    /// The best limit of a side and whose it is, then the best of anybody else.
    fn best_two(&self, side: Side) -> [Option<(Price, u32)>; 2] {
        let in_book = self.side(side).iter().filter(|i| at(&self.energy, **i) > 0);
        let mut limits = in_book.map(|i| (self.limit(*i), self.book.get(*i).participant));
        let best = limits.next();
        [best, limits.find(|(_, p)| best.is_some_and(|b| b.1 != *p))]
    }

    /// Serves `volume` on both sides by merit, then deals with own counterparts.
    pub(super) fn serve(&mut self, volume: i64) {
        self.filled.fill(0);
        for side in [Side::Bid, Side::Offer] {
            self.serve_side(side, volume);
        }
        if let Some((participant, overlap)) = self.own_overlap(volume) {
            let mut overlap = overlap;
            for side in [Side::Bid, Side::Offer] {
                overlap -= self.yield_at_margin(side, participant, overlap);
            }
            for side in [Side::Bid, Side::Offer] {
                self.leave_out(side, participant, overlap);
            }
        }
    }

    /// Leaves out what one participant could only trade with itself, after orders were served by a rule
    /// other than merit. Everybody else's part stays, and fits the smaller volume.
    pub(super) fn leave_out_overlap(&mut self, volume: i64) {
        if let Some((participant, overlap)) = self.own_overlap(volume) {
            for side in [Side::Bid, Side::Offer] {
                self.leave_out(side, participant, overlap);
            }
        }
    }

    fn serve_side(&mut self, side: Side, volume: i64) {
        let mut left = volume;
        let (book, sorted) = (self.book, self.side(side).to_vec());
        for level in sorted.chunk_by(|a, b| book.get(*a).limit == book.get(*b).limit) {
            let served = left.min(level.iter().map(|i| at(&self.energy, *i)).sum());
            self.share(level, served);
            left -= served;
            if left == 0 {
                break;
            }
        }
        assert_eq!(
            left, 0,
            "a side holds less energy than the volume to be served"
        );
    }

    /// Serves `amount` to orders of one limit, by the rule for ties.
    fn share(&mut self, level: &[u32], amount: i64) {
        let energies: Vec<i64> = level.iter().map(|i| at(&self.energy, *i)).collect();
        if amount == energies.iter().sum::<i64>() {
            level
                .iter()
                .zip(energies)
                .for_each(|(i, e)| self.filled[slot(*i)] = e);
            return;
        }
        if self.ties == Ties::ProRata {
            let keys: Vec<&[u8]> = level.iter().map(|i| &self.book.get(*i).key[..]).collect();
            let parts = split_largest_remainder(amount, &energies, &keys, self.book.salt());
            assert!(
                parts.is_ok(),
                "a margin of positive energies could not be shared"
            );
            let parts = parts.unwrap_or_default();
            level
                .iter()
                .zip(parts)
                .for_each(|(i, part)| self.filled[slot(*i)] = part);
            return;
        }
        let mut level = level.to_vec();
        sort_ties(self.book, self.ties, &mut level);
        let mut left = amount;
        for index in level {
            let part = left.min(at(&self.energy, index));
            self.filled[slot(index)] = part;
            left -= part;
        }
    }

    /// The one participant that could only trade a part with itself, and how much that is.
    fn own_overlap(&self, volume: i64) -> Option<(u32, i64)> {
        let mut loads = vec![0_i128; self.book.participants()];
        for (entry, filled) in self.book.entries().iter().zip(&self.filled) {
            loads[slot(entry.participant)] += i128::from(*filled);
        }
        let overlap = |load: i128| i64::try_from(load - i128::from(volume)).ok();
        (0_u32..).zip(loads).find_map(|(participant, load)| {
            overlap(load)
                .filter(|wh| *wh > 0)
                .map(|wh| (participant, wh))
        })
    }

    /// Gives up to `wanted` of the participant's share at the margin to others of the same limit.
    fn yield_at_margin(&mut self, side: Side, participant: u32, wanted: i64) -> i64 {
        let Some(limit) = self.last_accepted(side) else {
            return 0;
        };
        let (own, others): (Vec<u32>, Vec<u32>) = self
            .side(side)
            .iter()
            .filter(|i| self.limit(**i) == limit)
            .partition(|i| self.book.get(**i).participant == participant);
        let sum = |table: &[i64], list: &[u32]| list.iter().map(|i| at(table, *i)).sum::<i64>();
        let (own_filled, filled) = (sum(&self.filled, &own), sum(&self.filled, &others));
        let moved = wanted
            .min(own_filled)
            .min(sum(&self.energy, &others) - filled);
        if moved > 0 {
            self.share(&own, own_filled - moved);
            self.share(&others, filled + moved);
        }
        moved
    }

    /// Takes `amount` of the participant's accepted energy out of the book, the worst first.
    fn leave_out(&mut self, side: Side, participant: u32, amount: i64) {
        let own = |i: &u32| self.book.get(*i).participant == participant;
        let mut own: Vec<u32> = self.side(side).iter().copied().filter(own).collect();
        own.sort_by_key(|i| (self.limit(*i), self.book.get(*i).key));
        if side == Side::Offer {
            own.reverse();
        }
        let mut left = amount;
        for index in own {
            let part = left.min(at(&self.filled, index));
            self.filled[slot(index)] -= part;
            self.energy[slot(index)] -= part;
            left -= part;
        }
        assert_eq!(
            left, 0,
            "more own energy was to be left out than was accepted"
        );
    }

    pub(super) fn side(&self, side: Side) -> &[u32] {
        match side {
            Side::Bid => &self.bids,
            Side::Offer => &self.offers,
        }
    }

    pub(super) fn limit(&self, index: u32) -> Price {
        self.book.get(index).limit
    }

    /// Limit of the worst order that is served.
    pub(super) fn last_accepted(&self, side: Side) -> Option<Price> {
        let served = |i: &&u32| at(&self.filled, **i) > 0;
        self.side(side).iter().rfind(served).map(|i| self.limit(*i))
    }

    /// Limit of the best order that is not fully served; energy left out does not count.
    pub(super) fn best_unserved(&self, side: Side) -> Option<Price> {
        let short = |i: &&u32| at(&self.filled, **i) < at(&self.energy, **i);
        self.side(side).iter().find(short).map(|i| self.limit(*i))
    }

    /// Orders of one side that are served, best first, equal limits in the order of ties.
    pub(super) fn served(&self, side: Side) -> Vec<u32> {
        let sorted = self.side(side).iter().copied();
        self.strict(sorted.filter(|i| at(&self.filled, *i) > 0).collect())
    }

    /// The same orders with equal limits put into the order of ties.
    pub(super) fn strict(&self, mut sorted: Vec<u32>) -> Vec<u32> {
        for level in sorted.chunk_by_mut(|a, b| self.limit(*a) == self.limit(*b)) {
            sort_ties(self.book, self.ties, level);
        }
        sorted
    }

    /// What was taken out of the book, for each order.
    pub(super) fn left_out(&self) -> Vec<i64> {
        let whole = self.book.entries().iter();
        whole
            .zip(&self.energy)
            .map(|(e, in_book)| e.energy_wh - in_book)
            .collect()
    }
}

/// Whether an order could trade with one of this limit.
fn reaches(entry: &Entry, other_limit: Price) -> bool {
    !super::better(entry.side, other_limit, entry.limit)
}

/// Puts orders of one limit into the order in which ties are broken. `pro-rata` needs one too (who is
/// paired with whom): by a digest that depends on the interval and the order, not on arrival.
fn sort_ties(book: &Book, ties: Ties, level: &mut [u32]) {
    if level.len() < 2 {
        return;
    }
    let lot = |seed: &[u8], index: u32| lot(book, seed, &book.get(index).key);
    match ties {
        Ties::Time => level.sort_by_key(|i| (book.get(*i).arrival, book.get(*i).key)),
        Ties::ProRata => level.sort_by_cached_key(|i| lot(b"", *i)),
        Ties::Lottery { seed } => level.sort_by_cached_key(|i| lot(&seed.to_be_bytes(), *i)),
    }
}

/// A draw that depends on the interval, a seed and a name, and on nothing else.
pub(super) fn lot(book: &Book, seed: &[u8], name: &[u8]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(seed).chain_update(book.salt());
    hash.chain_update(name).finalize().into()
}
