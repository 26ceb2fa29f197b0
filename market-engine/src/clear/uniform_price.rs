//! `uniform-price`: everything that trades, trades at one price.

use domain::money::Price;
use domain::order::Side;

use super::merit::Plan;
use super::{Decision, PricePolicy, Ties, matching};
use crate::book::Book;
use crate::explain::{Setting, explain};

pub(super) fn clear(book: &Book, policy: PricePolicy, ties: Ties) -> super::Outcome {
    let mut plan = Plan::new(book, ties);
    let welfare_max = plan.serve_best();
    let edges = Edges::of(&plan);
    let price = edges.as_ref().map(|edges| edges.price(policy));
    let trades = price.map_or(Vec::new(), |price| {
        matching::trades(&plan, |_, _| (price, price))
    });
    let setting = Setting::one_moment(price, ties);
    Decision {
        price,
        price_interval: edges.map(|edges| (edges.low(), edges.high())),
        trades,
        left_out: plan.left_out(),
        welfare_max,
        reasons: explain(book, &plan.filled, &plan.energy, setting),
        filled: plan.filled,
    }
    .into_outcome(book)
}

/// The limits around the margin of a book in which something trades.
pub(super) struct Edges {
    last_bid: Price,
    last_offer: Price,
    unserved_bid: Option<Price>,
    unserved_offer: Option<Price>,
}

impl Edges {
    pub(super) fn of(plan: &Plan<'_>) -> Option<Self> {
        Some(Edges {
            last_bid: plan.last_accepted(Side::Bid)?,
            last_offer: plan.last_accepted(Side::Offer)?,
            unserved_bid: plan.best_unserved(Side::Bid),
            unserved_offer: plan.best_unserved(Side::Offer),
        })
    }

    fn low(&self) -> Price {
        self.unserved_bid
            .map_or(self.last_offer, |bid| bid.max(self.last_offer))
    }

    fn high(&self) -> Price {
        self.unserved_offer
            .map_or(self.last_bid, |offer| offer.min(self.last_bid))
    }

    pub(super) fn price(&self, policy: PricePolicy) -> Price {
        let middle = self.low().midpoint_floor(self.high());
        match policy {
            PricePolicy::WalrasMid => middle,
            PricePolicy::Marginal if self.unserved_bid == Some(self.last_bid) => self.last_bid,
            PricePolicy::Marginal if self.unserved_offer == Some(self.last_offer) => {
                self.last_offer
            }
            PricePolicy::Marginal => middle,
            // Fails only for a k above one, which `Words` does not let through; then k counts as one.
            PricePolicy::PairK { k_millionths } => self
                .last_offer
                .between_floor(self.last_bid, k_millionths)
                .unwrap_or(self.last_bid),
        }
    }
}
