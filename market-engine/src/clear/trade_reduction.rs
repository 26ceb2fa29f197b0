//! `trade-reduction` (McAfee 1992), by order: no order that trades sets the price it trades at.
//!
//! Orders are ranked strictly (limit, then ties). Orders k are the last bid and the last offer that
//! the volume needs; orders k+1 come next in rank. If the floored middle of the limits k+1 lies
//! between the limits k, everybody up to k trades at it. If not, or if a k+1 is missing, both whole
//! orders k drop out; what the orders before them have in common trades, the longer side cut from its
//! worst end; buyers pay the dropped bid's limit, sellers receive the dropped offer's limit, and the
//! difference is the surplus, booked to the community. For participants with one order of one unit
//! each this is McAfee's rule, and the true limit is the best one. **Limitation:** for larger orders,
//! or several of one participant, that is not so: a limit can then decide how much of the energy is
//! served, and an order cut at the margin can gain by naming another. Also, an order that reaches
//! nobody can be an order k+1, and is none if its participant puts up an order against it.

use domain::money::Price;

use super::merit::Plan;
use super::ranked::Ranked;
use super::{Auction, Budget, Decision, Ties, matching};
use crate::book::Book;
use crate::explain::{Reduction, Setting, explain};

/// The price-setting pair may drop out.
pub(super) struct TradeReduction {
    pub(super) ties: Ties,
}

impl Auction for TradeReduction {
    fn name(&self) -> &'static str {
        "trade-reduction"
    }

    fn price_policy(&self) -> &'static str {
        "mcafee"
    }

    fn ties(&self) -> Ties {
        self.ties
    }

    fn budget(&self) -> Budget {
        Budget::Surplus
    }

    fn clear(&self, book: &Book) -> super::Outcome {
        let ties = self.ties;
        let mut plan = Plan::new(book, ties);
        let welfare_max = plan.serve_best();
        let price_interval = plan.interval();
        // Own counterparts are out of the book now, so that they set no price below.
        let rule = PriceRule::of(&plan);
        let (buyer_price, seller_price, reduction) = match rule {
            None => (Price::ZERO, Price::ZERO, None),
            Some(PriceRule::Common(price)) => (price, price, None),
            Some(PriceRule::Dropped {
                bids,
                offers,
                bid,
                offer,
            }) => {
                let reduction = Reduction {
                    dropped: [bid, offer],
                    kept: bids.iter().chain(&offers).copied().collect(),
                };
                plan = plan.only(|index, _| reduction.kept.contains(&index));
                plan.serve();
                (book.get(bid).limit, book.get(offer).limit, Some(reduction))
            }
        };
        let trades = matching::trades(&plan, |_, _| (buyer_price, seller_price));
        let price = (buyer_price == seller_price && !trades.is_empty()).then_some(buyer_price);
        Decision {
            price,
            price_interval,
            trades,
            welfare_max,
            reasons: explain(
                book,
                &plan.filled,
                &plan.left_out,
                Setting::reduced(price, ties, reduction),
            ),
            left_out: plan.left_out,
            filled: plan.filled,
        }
        .into_outcome(book)
    }
}

enum PriceRule {
    /// The limits k+1 give a price for all.
    Common(Price),
    /// The orders k drop out; those before them remain.
    Dropped {
        bids: Vec<u32>,
        offers: Vec<u32>,
        bid: u32,
        offer: u32,
    },
}

impl PriceRule {
    fn of(plan: &Plan<'_>) -> Option<Self> {
        let ranked = Ranked::of(plan)?;
        if let Some((next_bid, next_offer)) = ranked.next_pair() {
            let middle = plan.limit(next_bid).midpoint_floor(plan.limit(next_offer));
            if plan.limit(ranked.offer) <= middle && middle <= plan.limit(ranked.bid) {
                return Some(PriceRule::Common(middle));
            }
        }
        let (bid, offer) = (ranked.bid, ranked.offer);
        let [bids, offers] = ranked.before();
        Some(PriceRule::Dropped {
            bids,
            offers,
            bid,
            offer,
        })
    }
}
