//! `uniform-price`: everything that trades, trades at one price.

use domain::money::Price;
use domain::order::Side;

use super::fast::Margin;
use super::merit::Plan;
use super::{Decision, PricePolicy, Ties, matching};
use crate::book::Book;
use crate::explain::{Setting, explain};

pub(super) fn clear(book: &Book, policy: PricePolicy, ties: Ties) -> super::Outcome {
    let mut plan = Plan::new(book, ties);
    let welfare_max = plan.serve_best();
    let price = plan.margin.map(|margin| price(&margin, policy));
    let trades = price.map_or(Vec::new(), |price| {
        matching::trades(&plan, |_, _| (price, price))
    });
    let setting = Setting::one_moment(price, ties);
    Decision {
        price,
        price_interval: plan.margin.map(|margin| margin.interval),
        trades,
        welfare_max,
        reasons: explain(book, &plan.filled, &plan.left_out, setting),
        left_out: plan.left_out,
        filled: plan.filled,
    }
    .into_outcome(book)
}

/// The price inside the range that the margin allows.
pub(super) fn price(margin: &Margin, policy: PricePolicy) -> Price {
    let (low, high) = margin.interval;
    match (policy, margin.short) {
        (PricePolicy::Marginal, Some(Side::Bid)) => margin.last_bid,
        (PricePolicy::Marginal, Some(Side::Offer)) => margin.last_offer,
        (PricePolicy::WalrasMid | PricePolicy::Marginal, _) => low.midpoint_floor(high),
        // Fails only for a k above one, which `Words` does not let through; then k counts as one.
        (PricePolicy::PairK { k_millionths }, _) => margin
            .last_offer
            .between_floor(margin.last_bid, k_millionths)
            .unwrap_or(margin.last_bid),
    }
}
