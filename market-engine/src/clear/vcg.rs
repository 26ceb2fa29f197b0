//! `vcg` (Vickrey, Clarke and Groves): the most welfare, each paying what its presence costs the others.
//!
//! The same orders are served as at one price. A participant's discount is the welfare of the book minus
//! that of the book without its orders; it is spread over its energy, so a buyer pays its limit minus
//! that share and a seller receives its limit plus that share, floored to the tick. The true limit is
//! the best one for everybody with one order. What sellers receive then exceeds what buyers pay: the
//! surplus is negative, a deficit that somebody outside would have to carry. Therefore this is a
//! reference to compare others with, for books of at most [`ORDERS_MAX`] orders, and no market rule.

use domain::money::Price;

use super::merit::Plan;
use super::{Auction, Budget, Decision, Ties, matching};
use crate::book::{Book, slot};
use crate::explain::{Setting, explain};

/// Most orders in a book that is cleared this way: the work grows with their square.
pub(super) const ORDERS_MAX: usize = 2_000;

/// Each pays what its presence costs the others.
pub(super) struct Vcg {
    pub(super) ties: Ties,
}

impl Auction for Vcg {
    fn name(&self) -> &'static str {
        "vcg"
    }

    fn price_policy(&self) -> &'static str {
        "externality"
    }

    fn ties(&self) -> Ties {
        self.ties
    }

    fn budget(&self) -> Budget {
        Budget::Deficit
    }

    fn orders_max(&self) -> usize {
        ORDERS_MAX
    }

    fn clear(&self, book: &Book) -> super::Outcome {
        let ties = self.ties;
        let mut plan = Plan::new(book, ties);
        let welfare_max = plan.serve_best();
        let discounts = discounts(&plan, ties);
        let trades = matching::trades(&plan, |bid, offer| {
            let (bid, offer) = (book.get(bid), book.get(offer));
            let [bid_discount, offer_discount] =
                [bid, offer].map(|entry| discounts[slot(entry.participant)]);
            (
                moved(bid.limit, -bid_discount),
                moved(offer.limit, offer_discount),
            )
        });
        Decision {
            price: None,
            price_interval: plan.interval(),
            trades,
            welfare_max,
            reasons: explain(
                book,
                &plan.filled,
                &plan.left_out,
                Setting::one_moment(None, ties),
            ),
            left_out: plan.left_out,
            filled: plan.filled,
        }
        .into_outcome(book)
    }
}

/// What each participant gains per watt-hour by its presence, in micro-tokens per kWh. Never below zero:
/// where a participant kept energy for itself, its absence could leave the others better off.
fn discounts(plan: &Plan<'_>, ties: Ties) -> Vec<i128> {
    let book = plan.book;
    let welfare = plan.welfare();
    let mut energy_wh = vec![0_i128; book.participants()];
    for (entry, filled) in book.entries().iter().zip(&plan.filled) {
        energy_wh[slot(entry.participant)] += i128::from(*filled);
    }
    let discount = |(participant, energy): (u32, i128)| {
        if energy == 0 {
            return 0;
        }
        let mut without = Plan::new(book, ties).only(|_, e| e.participant != participant);
        without.serve_best();
        (welfare - without.welfare()).max(0) / energy
    };
    (0_u32..).zip(energy_wh).map(discount).collect()
}

fn moved(limit: Price, by: i128) -> Price {
    let moved = i128::from(limit.micro_per_kwh()) + by;
    // Beyond 64 bits no price is left that differs from the limit in any sense that matters.
    i64::try_from(moved).map_or(limit, Price::from_micro_per_kwh)
}
