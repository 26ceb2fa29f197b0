//! At which limit an order would have been filled: told by its reason, or found by clearing again.
//!
//! Where the price-setting pair drops out, and where lots decide, no formula tells it. There the order's limit is
//! moved, everybody else's stay, and the book is cleared again: half of the room at a time, so about twenty times an
//! order. What is found is what clearing with that limit gives; a limit that is one tick worse gives nothing.

use domain::money::Price;
use domain::order::Side;

use crate::book::{Book, slot};
use crate::clear::{Mechanism, Outcome, clear};

/// Most orders of a book that is cleared again for each order that is not filled.
pub const SEARCHED_MAX: usize = 256;

/// For each order that got nothing: the limit from which on it would have been filled, at least in part. None for the
/// others, where no limit would have done it, and where it was not looked for.
#[must_use]
pub fn needed(book: &Book, mechanism: Mechanism, outcome: &Outcome) -> Vec<Option<Price>> {
    let searched = matches!(
        mechanism,
        Mechanism::TradeReduction { .. } | Mechanism::Huang { .. } | Mechanism::Muda { .. }
    ) && book.entries().len() <= SEARCHED_MAX;
    let of = |(index, fill): (u32, &crate::clear::Fill)| match fill.reason.needed() {
        Some(needed) => Some(needed),
        None if searched && fill.filled_wh == 0 => search(book, mechanism, index),
        None => None,
    };
    (0_u32..).zip(&outcome.orders).map(of).collect()
}

fn search(book: &Book, mechanism: Mechanism, index: u32) -> Option<Price> {
    let order = book.get(index);
    let limits = || book.entries().iter().map(|e| e.limit.micro_per_kwh());
    // How far the limit moves towards the other side; beyond the last limit of all nothing changes any more.
    let own = order.limit.micro_per_kwh();
    let (way, most) = match order.side {
        Side::Bid => (1, limits().max()?.checked_sub(own)?.checked_add(1)?),
        Side::Offer => (-1, own.checked_sub(limits().min()?)?.checked_add(1)?),
    };
    let moved = |by: i64| own.checked_add(way * by).map(Price::from_micro_per_kwh);
    let fills = |by: i64| {
        let limit = moved(by)?;
        let tried = book.with_limits(|entry| match entry.key == order.key {
            true => limit,
            false => entry.limit,
        });
        Some(clear(&tried, mechanism).orders[slot(index)].filled_wh > 0)
    };
    if !fills(most)? {
        return None;
    }
    let (mut none, mut some) = (0, most);
    while some - none > 1 {
        let middle = none + (some - none) / 2;
        match fills(middle)? {
            true => some = middle,
            false => none = middle,
        }
    }
    moved(some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Entry;
    use crate::clear::Ties;

    /// Rows of side, energy and limit in thousandths, each of another participant.
    fn book(rows: &[(Side, i64, i64)]) -> Book {
        let mut book = Book::new(b"needed");
        for (n, (side, energy_wh, milli)) in (0_u8..).zip(rows) {
            book.push(Entry {
                side: *side,
                energy_wh: *energy_wh,
                limit: Price::from_micro_per_kwh(milli * 1_000),
                participant: u32::from(n),
                arrival: u32::from(n),
                key: [n; 16],
            })
            .unwrap();
        }
        book
    }

    #[test]
    fn who_dropped_out_or_was_too_dear_is_told_what_would_have_done() {
        use Side::{Bid, Offer};
        let book = book(&[
            (Bid, 10, 300),
            (Bid, 10, 250),
            (Bid, 10, 200),
            (Offer, 10, 100),
            (Offer, 10, 150),
            (Offer, 10, 199),
        ]);
        let ties = Ties::Time;
        for mechanism in [
            Mechanism::TradeReduction { ties },
            Mechanism::Huang { ties },
        ] {
            let outcome = clear(&book, mechanism);
            let needed = needed(&book, mechanism, &outcome);
            for (index, limit) in (0_u32..).zip(&needed) {
                let is_filled = outcome.orders[slot(index)].filled_wh > 0;
                assert!(!is_filled || limit.is_none(), "{index} {limit:?}");
                let Some(limit) = *limit else { continue };
                let filled = |tick: i64| {
                    let limit = Price::from_micro_per_kwh(limit.micro_per_kwh() + tick);
                    let key = book.get(index).key;
                    let tried = book.with_limits(|e| if e.key == key { limit } else { e.limit });
                    clear(&tried, mechanism).orders[slot(index)].filled_wh > 0
                };
                let worse = if book.get(index).side == Bid { -1 } else { 1 };
                assert!(filled(0) && !filled(worse), "{mechanism:?} {index} {limit}");
            }
            // The third pair drops out; its bid would have traded in the second's place.
            assert_eq!(
                needed[2],
                Some(Price::from_micro_per_kwh(250_001)),
                "{mechanism:?}"
            );
        }
    }
}
