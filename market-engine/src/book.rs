//! The orders of one interval, in the form the auction works on: compact entries, referred to by index.
//!
//! At most [`ORDERS_MAX`] orders, and the energy of each side sums to less than 2^63 Wh, so that every
//! volume fits 64 bits; products of energy and price are summed in 128 bits.

use domain::money::Price;
use domain::order::Side;

use crate::clear::fast::Records;

/// Most orders in one book; a further one is refused.
pub const ORDERS_MAX: usize = 1 << 22;

/// One order, as the auction sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Buys or sells.
    pub side: Side,
    /// Energy in watt-hours, above zero.
    pub energy_wh: i64,
    /// A bid pays at most this, an offer receives at least this.
    pub limit: Price,
    /// Whose it is: an index, the same for all orders of one participant, below [`ORDERS_MAX`].
    pub participant: u32,
    /// Place in the order of arrival; matters to `time` ties and to `continuous` only.
    pub arrival: u32,
    /// A name of the order, different for each, that does not depend on its arrival: breaks ties.
    pub key: [u8; 16],
}

/// The book of one interval.
#[derive(Clone, Debug, Default)]
pub struct Book {
    entries: Vec<Entry>,
    salt: Vec<u8>,
    /// Of each participant, whether it has bids and whether it has offers.
    sides: Vec<[bool; 2]>,
    two_sided: bool,
    /// The same orders as the clearing reads them.
    records: Records,
}

impl Book {
    /// An empty book. `salt` names the interval, so that ties fall differently in each.
    #[must_use]
    pub fn new(salt: &[u8]) -> Self {
        Book {
            salt: salt.to_vec(),
            ..Book::default()
        }
    }

    /// The same orders with other limits.
    #[must_use]
    pub fn with_limits(&self, limit: impl Fn(&Entry) -> Price) -> Self {
        let mut changed = self.clone();
        changed.records = Records::default();
        for entry in &mut changed.entries {
            entry.limit = limit(entry);
            let fits = changed
                .records
                .push(entry.side, entry.energy_wh, entry.limit);
            assert!(fits, "the energies of a book do not fit the same book");
        }
        changed
    }

    /// Adds an order and gives its index.
    ///
    /// # Errors
    /// The energy is not above zero, the side's sum does not fit 64 bits, or the book is full.
    pub fn push(&mut self, entry: Entry) -> Result<u32, BookError> {
        if entry.energy_wh <= 0 {
            return Err(BookError::NoEnergy(entry.energy_wh));
        }
        let participant = usize::try_from(entry.participant).map_err(|_| BookError::Full)?;
        if self.entries.len() >= ORDERS_MAX || participant >= ORDERS_MAX {
            return Err(BookError::Full);
        }
        let index = u32::try_from(self.entries.len()).map_err(|_| BookError::Full)?;
        if !self.records.push(entry.side, entry.energy_wh, entry.limit) {
            return Err(BookError::EnergySum(entry.side.word()));
        }
        self.entries.push(entry);
        if participant >= self.sides.len() {
            self.sides.resize(participant + 1, [false; 2]);
        }
        let sides = &mut self.sides[participant];
        sides[usize::from(entry.side == Side::Offer)] = true;
        self.two_sided |= *sides == [true; 2];
        Ok(index)
    }

    /// All orders; the index of each is its name in the result.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The order of an index that [`Book::push`] gave.
    pub(crate) fn get(&self, index: u32) -> &Entry {
        &self.entries[slot(index)]
    }

    /// What names the interval in ties.
    pub(crate) fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// One more than the largest participant index.
    pub(crate) fn participants(&self) -> usize {
        self.sides.len()
    }

    /// Of each participant, whether it has bids and whether it has offers.
    pub(crate) fn sides(&self) -> &[[bool; 2]] {
        &self.sides
    }

    /// Whether any participant has both bids and offers: only then can anybody meet itself.
    pub(crate) const fn is_two_sided(&self) -> bool {
        self.two_sided
    }

    /// The orders as the clearing reads them, in the book's order.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }
}

/// An index as a position in memory. Lossless: this program needs 32-bit addresses at least.
pub(crate) const fn slot(index: u32) -> usize {
    index as usize
}

/// Whether limit `a` is strictly better than `b` for the other side.
pub(crate) fn better(side: Side, a: Price, b: Price) -> bool {
    match side {
        Side::Bid => a > b,
        Side::Offer => a < b,
    }
}

/// The best limits of one side, of two different participants.
#[derive(Clone, Copy)]
pub(crate) struct BestTwo {
    side: Side,
    best: [Option<(Price, u32)>; 2],
}

impl BestTwo {
    pub(crate) const fn new(side: Side) -> Self {
        BestTwo {
            side,
            best: [None; 2],
        }
    }

    /// Takes note of an order. Most are no better than what is known, whoever's they are.
    pub(crate) fn note(&mut self, limit: Price, participant: impl FnOnce() -> u32) {
        let beats = |old: Option<(Price, u32)>| old.is_none_or(|o| better(self.side, limit, o.0));
        let [first, second] = self.best;
        if !beats(second) {
            return;
        }
        let new = Some((limit, participant()));
        let is_firsts = first.map(|f| f.1) == new.map(|n| n.1);
        if beats(first) {
            self.best = [new, if is_firsts { second } else { first }];
        } else if !is_firsts {
            self.best[1] = new;
        }
    }

    /// Both, the best first.
    pub(crate) const fn both(&self) -> [Option<(Price, u32)>; 2] {
        self.best
    }

    /// The best limit of anybody but this participant.
    pub(crate) fn but(&self, participant: u32) -> Option<Price> {
        let mut others = self.best.iter().flatten();
        let other = others.find(|(_, whose)| *whose != participant);
        other.map(|(limit, _)| *limit)
    }
}

/// Why an order does not fit into a book.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BookError {
    /// Energy that is not above zero.
    #[error("an order of {0} Wh: its energy must be above zero")]
    NoEnergy(i64),
    /// The side's energies do not sum within 64 bits.
    #[error("the energies of all {0}s together do not fit 64 bits: use smaller orders")]
    EnergySum(&'static str),
    /// Too many orders or participants.
    #[error("the book is full: at most {ORDERS_MAX} orders, and as many participants")]
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_takes_what_it_can_sum() {
        let entry = Entry {
            side: Side::Bid,
            energy_wh: i64::MAX,
            limit: Price::ZERO,
            participant: 0,
            arrival: 0,
            key: [0; 16],
        };
        let mut book = Book::new(b"");
        assert_eq!(book.push(entry), Ok(0));
        assert_eq!(
            book.push(Entry {
                energy_wh: 1,
                ..entry
            }),
            Err(BookError::EnergySum("bid"))
        );
        assert_eq!(
            book.push(Entry {
                energy_wh: 0,
                ..entry
            }),
            Err(BookError::NoEnergy(0))
        );
        assert_eq!(
            book.push(Entry {
                side: Side::Offer,
                ..entry
            }),
            Ok(1)
        );
        let far = Entry {
            participant: u32::MAX,
            energy_wh: 1,
            ..entry
        };
        assert_eq!(book.push(far), Err(BookError::Full));
        assert_eq!(book.entries().len(), 2);
    }
}
