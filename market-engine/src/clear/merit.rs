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

use std::borrow::Cow;

use domain::money::{Price, Remainders, split_into};
use domain::order::Side;
use sha2::{Digest, Sha256};

use super::fast::{Margin, Records, Scratch, clear_records};
use super::{Ties, at};
use crate::book::{BestTwo, Book, Entry, better, slot};

/// A clearing in the making.
pub(super) struct Plan<'b> {
    pub(super) book: &'b Book,
    /// The energy of each order that takes part; none of those that do not, or were left out.
    records: Cow<'b, Records>,
    /// Energy of each order that was left out as an own counterpart.
    pub(super) left_out: Vec<i64>,
    /// Energy of each order that is served.
    pub(super) filled: Vec<i64>,
    /// Where the served orders end, as [`Plan::serve_best`] left it.
    pub(super) margin: Option<Margin>,
    ties: Ties,
}

impl<'b> Plan<'b> {
    pub(super) fn new(book: &'b Book, ties: Ties) -> Self {
        let orders = book.entries().len();
        Plan {
            book,
            records: Cow::Borrowed(book.records()),
            left_out: vec![0; orders],
            filled: vec![0; orders],
            margin: None,
            ties,
        }
    }

    /// Lets only these orders take part; the others are as if never placed.
    pub(super) fn only(mut self, takes_part: impl Fn(u32, &Entry) -> bool) -> Self {
        let records = self.records.to_mut();
        for (index, entry) in (0_u32..).zip(self.book.entries()) {
            if !takes_part(index, entry) {
                records.take_out(slot(index));
            }
        }
        self
    }

    /// Of a book that is cleared another way: the most welfare that it could bring, if a participant
    /// could also serve itself, and the prices at which its largest volume is an equilibrium.
    pub(super) fn measure(book: &Book) -> (i128, Option<(Price, Price)>) {
        let mut plan = Plan::new(book, Ties::Time);
        (plan.serve_best(), plan.interval())
    }

    /// Lowest and highest price at which what [`Plan::serve_best`] served is an equilibrium.
    pub(super) fn interval(&self) -> Option<(Price, Price)> {
        self.margin.map(|margin| margin.interval)
    }

    /// Serves the largest volume of any single price by merit, whoever is whose counterpart.
    fn serve_all(&mut self) {
        let (book, ties, records) = (self.book, self.ties, &*self.records);
        let share = |level: &[u32], amount: i64, fills: &mut [i64]| {
            share(book, ties, records, level, amount, fills);
        };
        self.margin = clear_records(records, &mut Scratch::default(), &mut self.filled, share);
    }

    /// The welfare of what is served, in nano-tokens.
    pub(super) fn welfare(&self) -> i128 {
        self.margin.map_or(0, |margin| margin.welfare)
    }

    /// Serves the largest volume of the book without own counterparts. Gives the most welfare that the
    /// whole book could bring.
    pub(super) fn serve_best(&mut self) -> i128 {
        self.serve_all();
        let welfare_max = self.welfare();
        let mut changed = self.leave_out_own_only();
        if changed {
            self.serve_all();
        }
        changed |= self.part_own();
        if changed {
            self.leave_out_own_only();
            self.margin = Margin::of(self.records.list(), &self.filled);
        }
        welfare_max
    }

    /// Serves the largest volume of those who take part, then deals with own counterparts.
    pub(super) fn serve(&mut self) {
        self.serve_all();
        self.part_own();
    }

    /// Takes out the orders that reach orders of their own participant, and of nobody else. It never
    /// takes out a served one, nor does it change whom the others reach.
    fn leave_out_own_only(&mut self) -> bool {
        if !self.book.is_two_sided() {
            return false;
        }
        let opposite = [self.best_two(Side::Offer), self.best_two(Side::Bid)];
        let entries = self.book.entries();
        let own_only = |(place, record): (usize, &super::fast::Record)| {
            let [best, next] = opposite[usize::from(record.side() == Side::Offer)].both();
            let reaches = |best: Option<(Price, u32)>| {
                best.is_some_and(|(limit, _)| !better(record.side(), limit, record.limit()))
            };
            let own = || best.is_some_and(|(_, whose)| whose == entries[place].participant);
            (record.energy_wh() > 0 && reaches(best) && !reaches(next) && own()).then_some(place)
        };
        let all = self.records.list().iter().enumerate();
        let places: Vec<usize> = all.filter_map(own_only).collect();
        for place in &places {
            self.leave_out_whole(*place);
        }
        !places.is_empty()
    }

    fn leave_out_whole(&mut self, place: usize) {
        self.left_out[place] += self.records.list()[place].energy_wh();
        self.records.to_mut().take_out(place);
    }

    fn best_two(&self, side: Side) -> BestTwo {
        let mut best = BestTwo::new(side);
        for (record, entry) in self.records.list().iter().zip(self.book.entries()) {
            if record.side() == side && record.energy_wh() > 0 {
                best.note(record.limit(), || entry.participant);
            }
        }
        best
    }

    /// Whether a participant could only have traded a part with itself: it yields at the margin, and
    /// what still overlaps is left out.
    fn part_own(&mut self) -> bool {
        let volume = self.margin.map_or(0, |margin| margin.volume_wh);
        let Some((participant, mut overlap)) = self.own_overlap(volume) else {
            return false;
        };
        for side in [Side::Bid, Side::Offer] {
            overlap -= self.yield_at_margin(side, participant, overlap);
        }
        for side in [Side::Bid, Side::Offer] {
            self.leave_out(side, participant, overlap);
        }
        true
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

    /// The one participant that could only trade a part with itself, and how much that is: it bought
    /// and sold more than the volume, and so more than all others together. A vote finds who that can be.
    fn own_overlap(&self, volume: i64) -> Option<(u32, i64)> {
        if !self.book.is_two_sided() {
            return None;
        }
        let served = || self.book.entries().iter().zip(&self.filled);
        let (mut candidate, mut lead_wh) = (0, 0_i128);
        for (entry, filled) in served() {
            let filled_wh = i128::from(*filled);
            if entry.participant == candidate {
                lead_wh += filled_wh;
            } else if filled_wh <= lead_wh {
                lead_wh -= filled_wh;
            } else {
                (candidate, lead_wh) = (entry.participant, filled_wh - lead_wh);
            }
        }
        let own = served().filter(|(entry, _)| entry.participant == candidate);
        let load_wh: i128 = own.map(|(_, filled)| i128::from(*filled)).sum();
        let overlap = i64::try_from(load_wh - i128::from(volume)).ok();
        overlap.filter(|wh| *wh > 0).map(|wh| (candidate, wh))
    }

    /// Gives up to `wanted` of the participant's share at the margin to others of the same limit.
    fn yield_at_margin(&mut self, side: Side, participant: u32, wanted: i64) -> i64 {
        let Some(margin) = self.margin else { return 0 };
        let limit = match side {
            Side::Bid => margin.last_bid,
            Side::Offer => margin.last_offer,
        };
        let at_margin = self.taking_part(side).filter(|i| self.limit(*i) == limit);
        let (own, others): (Vec<u32>, Vec<u32>) =
            at_margin.partition(|i| self.book.get(*i).participant == participant);
        let filled = |list: &[u32]| list.iter().map(|i| at(&self.filled, *i)).sum::<i64>();
        let (own_filled, others_filled) = (filled(&own), filled(&others));
        let others_wh: i64 = others.iter().map(|i| self.energy(*i)).sum();
        let moved = wanted.min(own_filled).min(others_wh - others_filled);
        if moved > 0 {
            for (list, amount) in [(own, own_filled - moved), (others, others_filled + moved)] {
                let (book, records) = (self.book, &*self.records);
                share(book, self.ties, records, &list, amount, &mut self.filled);
            }
        }
        moved
    }

    /// Takes `amount` of the participant's accepted energy out of the book, the worst first.
    fn leave_out(&mut self, side: Side, participant: u32, amount: i64) {
        let own = |i: &u32| self.book.get(*i).participant == participant;
        let mut own: Vec<u32> = self.taking_part(side).filter(own).collect();
        own.sort_by_key(|i| (self.limit(*i), self.book.get(*i).key));
        if side == Side::Offer {
            own.reverse();
        }
        let mut left = amount;
        for index in own {
            let place = slot(index);
            let part = left.min(self.filled[place]);
            self.filled[place] -= part;
            self.left_out[place] += part;
            self.records.to_mut().reduce(place, part);
            left -= part;
        }
        assert_eq!(
            left, 0,
            "more own energy was to be left out than was accepted"
        );
    }

    /// The orders of a side that take part and were not left out whole.
    pub(super) fn taking_part(&self, side: Side) -> impl Iterator<Item = u32> + '_ {
        let all = (0_u32..).zip(self.records.list());
        all.filter(move |(_, r)| r.side() == side && r.energy_wh() > 0)
            .map(|(index, _)| index)
    }

    /// Energy of an order that is in the book.
    pub(super) fn energy(&self, index: u32) -> i64 {
        self.records.list()[slot(index)].energy_wh()
    }

    pub(super) fn limit(&self, index: u32) -> Price {
        self.book.get(index).limit
    }

    /// Orders of one side that are served, best first, equal limits in the order of ties.
    pub(super) fn served(&self, side: Side) -> Vec<u32> {
        let all = self.taking_part(side);
        self.ranked(side, all.filter(|i| at(&self.filled, *i) > 0))
    }

    /// Orders of one side, best first, equal limits in the order of ties.
    pub(super) fn ranked(&self, side: Side, orders: impl Iterator<Item = u32>) -> Vec<u32> {
        let rank = |index: u32| {
            let limit = self.limit(index).micro_per_kwh();
            // The complement turns the order round, and exists for every number.
            (if side == Side::Bid { !limit } else { limit }, index)
        };
        let mut ranked: Vec<(i64, u32)> = orders.map(rank).collect();
        ranked.sort_unstable();
        let mut sorted: Vec<u32> = ranked.iter().map(|(_, index)| *index).collect();
        let mut rest = &mut sorted[..];
        for level in ranked.chunk_by(|a, b| a.0 == b.0) {
            let (level, worse) = rest.split_at_mut(level.len());
            sort_ties(self.book, self.ties, level);
            rest = worse;
        }
        sorted
    }
}

/// Serves `amount` to orders of one limit, by the rule for ties.
fn share(
    book: &Book,
    ties: Ties,
    records: &Records,
    level: &[u32],
    amount: i64,
    fills: &mut [i64],
) {
    let energy = |i: u32| records.list()[slot(i)].energy_wh();
    if ties == Ties::ProRata {
        share_pro_rata(records, level, amount, fills, book.salt(), |i| {
            book.get(i).key
        });
        return;
    }
    let mut level = level.to_vec();
    sort_ties(book, ties, &mut level);
    let mut left = amount;
    for index in level {
        let part = left.min(energy(index));
        fills[slot(index)] = part;
        left -= part;
    }
}

/// Serves `amount` to orders of one limit in proportion to their energy.
pub(super) fn share_pro_rata(
    records: &Records,
    level: &[u32],
    amount: i64,
    fills: &mut [i64],
    salt: &[u8],
    key: impl Fn(u32) -> [u8; 16],
) {
    let energies: Vec<i64> = (level.iter())
        .map(|i| records.list()[slot(*i)].energy_wh())
        .collect();
    let mut parts = Vec::new();
    let split = split_into(
        amount,
        &energies,
        |place| key(level[place]),
        salt,
        &mut Remainders::default(),
        &mut parts,
    );
    assert!(
        split.is_ok(),
        "a margin of positive energies could not be shared"
    );
    for (index, part) in level.iter().zip(parts) {
        fills[slot(*index)] = part;
    }
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
