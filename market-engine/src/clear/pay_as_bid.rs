//! `pay-as-bid`: the same orders are served as at one price, but each pair has a price of its own.

use super::merit::Plan;
use super::{Auction, Decision, PairPrice, Ties, matching};
use crate::book::Book;
use crate::explain::{Setting, explain};

/// Best bid with best offer, each pair at its own price.
pub(super) struct PayAsBid {
    pub(super) price: PairPrice,
    pub(super) ties: Ties,
}

impl Auction for PayAsBid {
    fn name(&self) -> &'static str {
        "pay-as-bid"
    }

    fn price_policy(&self) -> &'static str {
        match self.price {
            PairPrice::Bid => "bid",
            PairPrice::Offer => "offer",
            PairPrice::Mid => "mid",
        }
    }

    fn ties(&self) -> Ties {
        self.ties
    }

    fn clear(&self, book: &Book) -> super::Outcome {
        let PayAsBid { price, ties } = *self;
        let mut plan = Plan::new(book, ties);
        let welfare_max = plan.serve_best();
        let trades = matching::trades(&plan, |bid, offer| {
            let price = price.of(book.get(bid).limit, book.get(offer).limit);
            (price, price)
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
