//! `uniform-price`: everything that trades, trades at one price.

use domain::money::Price;
use domain::order::Side;

use super::fast::{Margin, Records, Scratch, clear_records};
use super::merit::{Plan, share_pro_rata};
use super::words::MILLION;
use super::{Auction, Decision, PricePolicy, Ties, matching};
use crate::book::Book;
use crate::explain::{Setting, explain};

/// One price for all trades.
pub(super) struct UniformPrice {
    pub(super) policy: PricePolicy,
    pub(super) ties: Ties,
}

impl Auction for UniformPrice {
    fn name(&self) -> &'static str {
        "uniform-price"
    }

    fn price_policy(&self) -> &'static str {
        match self.policy {
            PricePolicy::WalrasMid => "walras-mid",
            PricePolicy::Marginal => "marginal",
            PricePolicy::PairK { .. } => "pair-k",
        }
    }

    fn price_details(&self) -> String {
        match self.policy {
            PricePolicy::PairK { k_millionths } => {
                let (whole, part) = (k_millionths / MILLION, k_millionths % MILLION);
                format!("pair-k k={whole}.{part:06}")
            }
            _ => self.price_policy().to_owned(),
        }
    }

    fn ties(&self) -> Ties {
        self.ties
    }

    fn clear(&self, book: &Book) -> super::Outcome {
        let UniformPrice { policy, ties } = *self;
        let mut plan = Plan::new(book, ties);
        let welfare_max = plan.serve_best();
        let price = plan.margin.map(|margin| price(&margin, policy));
        let trades = price.map_or(Vec::new(), |price| {
            matching::trades(&plan, |_, _| (price, price))
        });
        let setting = Setting::one_moment(price, ties);
        Decision {
            price,
            price_interval: plan.interval(),
            trades,
            welfare_max,
            reasons: explain(book, &plan.filled, &plan.left_out, setting),
            left_out: plan.left_out,
            filled: plan.filled,
        }
        .into_outcome(book)
    }
}

/// What a clearing by one price decides, before anybody is told with whom and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PriceAndFills {
    /// The price; none where nothing trades.
    pub price: Option<Price>,
    /// As in [`super::Outcome`].
    pub price_interval: Option<(Price, Price)>,
    /// As in [`super::Outcome`].
    pub welfare_max: i128,
    /// Energy of each order that is served, in the book's order.
    pub filled_wh: Vec<i64>,
    /// Energy of each order that was left out, as only own orders stood against it.
    pub left_out_wh: Vec<i64>,
}

/// Clears a book by one price: what [`super::clear`] says of price and fills, without trades and reasons.
#[must_use]
pub fn price_and_fills(book: &Book, policy: PricePolicy, ties: Ties) -> PriceAndFills {
    let mut plan = Plan::new(book, ties);
    let welfare_max = plan.serve_best();
    PriceAndFills {
        price: plan.margin.map(|margin| price(&margin, policy)),
        price_interval: plan.interval(),
        welfare_max,
        filled_wh: plan.filled,
        left_out_wh: plan.left_out,
    }
}

/// Clears records of which no two are of one participant, so that nobody can meet itself: what
/// [`price_and_fills`] says of a book of them with `pro-rata` ties, in memory that is used again. `fills`
/// gets what is served of each; `key` names a record as [`crate::book::Entry::key`] does.
pub fn price_and_fills_of(
    records: &Records,
    policy: PricePolicy,
    salt: &[u8],
    key: impl Fn(u32) -> [u8; 16],
    scratch: &mut Scratch,
    fills: &mut Vec<i64>,
) -> Option<(Price, Margin)> {
    let share = |level: &[u32], amount: i64, fills: &mut [i64]| {
        share_pro_rata(records, level, amount, fills, salt, key);
    };
    let margin = clear_records(records, scratch, fills, share)?;
    Some((price(&margin, policy), margin))
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
