//! The auction: who trades with whom, how much, at what price. Same book and mechanism, same result.
//!
//! Every result is checked before it is returned (`check.rs`): energy is conserved, limits are
//! respected, nobody trades with itself, and the auction keeps no money unless its mechanism says so.
//! What is common to the mechanisms – merit order, margin, own counterparts – is in `merit.rs`.

mod auction;
mod check;
mod continuous;
pub mod fast;
mod huang;
mod matching;
mod merit;
mod muda;
mod pay_as_bid;
mod preferred;
mod ranked;
pub mod standing;
mod trade_reduction;
mod uniform_price;
mod vcg;
mod words;

use domain::money::Price;

use crate::book::{Book, slot};
use crate::explain::Reason;
pub use auction::Auction;
pub use preferred::clear_with_wishes;
pub use uniform_price::{PriceAndFills, price_and_fills, price_and_fills_of};
pub use words::{OptionError, Words};

/// How a book is cleared: the mechanisms as data, each an [`Auction`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// One price for all trades.
    UniformPrice {
        /// Which price inside the range that the book allows.
        policy: PricePolicy,
        /// Who is served at the margin.
        ties: Ties,
    },
    /// Best bid with best offer, each pair at a price of its own.
    PayAsBid {
        /// Which price a pair trades at.
        price: PairPrice,
        /// Who is served at the margin.
        ties: Ties,
    },
    /// McAfee: the price-setting pair may drop out, so that no traded order sets its own price.
    TradeReduction {
        /// Who is served at the margin.
        ties: Ties,
    },
    /// Orders meet as they arrive, at the price of the order that stood first.
    Continuous,
    /// The price-setting pair drops out, and the longer side is cut by equal amounts.
    Huang {
        /// Who is served at the margin.
        ties: Ties,
    },
    /// Two halves drawn by lot, each at the price of the other.
    Muda {
        /// The seed of all lots.
        seed: u64,
    },
    /// The most welfare, each paying what its presence costs the others; a reference for small books.
    Vcg {
        /// Who is served at the margin.
        ties: Ties,
    },
}

/// What a mechanism does with the money between buyers and sellers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    /// Sellers receive what buyers pay.
    Balanced,
    /// Buyers may pay more; the surplus is booked to the community.
    Surplus,
    /// Sellers may receive more than buyers pay; somebody outside has to carry the deficit.
    Deficit,
}

impl Mechanism {
    /// Hands the mechanism over as what it does.
    pub fn with<T>(self, job: impl FnOnce(&dyn Auction) -> T) -> T {
        match self {
            Mechanism::UniformPrice { policy, ties } => {
                job(&uniform_price::UniformPrice { policy, ties })
            }
            Mechanism::PayAsBid { price, ties } => job(&pay_as_bid::PayAsBid { price, ties }),
            Mechanism::TradeReduction { ties } => job(&trade_reduction::TradeReduction { ties }),
            Mechanism::Continuous => job(&continuous::Continuous),
            Mechanism::Huang { ties } => job(&huang::Huang { ties }),
            Mechanism::Muda { seed } => job(&muda::Muda { seed }),
            Mechanism::Vcg { ties } => job(&vcg::Vcg { ties }),
        }
    }

    /// What it does with the money between buyers and sellers.
    #[must_use]
    pub fn budget(self) -> Budget {
        self.with(|auction| auction.budget())
    }

    /// Whether no order is served while a better one of its side is not.
    #[must_use]
    pub fn keeps_merit_order(self) -> bool {
        self.with(|auction| auction.keeps_merit_order())
    }

    /// Whether it matters which order came first.
    #[must_use]
    pub fn depends_on_arrival(self) -> bool {
        self.ties() == Ties::Time
    }

    /// Who is served first among equals.
    #[must_use]
    pub fn ties(self) -> Ties {
        self.with(|auction| auction.ties())
    }

    /// Most orders that a book may have for it.
    #[must_use]
    pub fn orders_max(self) -> usize {
        self.with(|auction| auction.orders_max())
    }
}

impl Default for Mechanism {
    fn default() -> Self {
        Mechanism::UniformPrice {
            policy: PricePolicy::WalrasMid,
            ties: Ties::ProRata,
        }
    }
}

/// The price of a uniform-price clearing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PricePolicy {
    /// The floored middle of all prices at which these trades are an equilibrium.
    WalrasMid,
    /// The limit of the order that is served in part; the same middle where there is none.
    Marginal,
    /// `offer + k × (bid − offer)` of the last accepted pair, floored.
    PairK {
        /// k in millionths, 0 to 1 000 000.
        k_millionths: u32,
    },
}

/// The price of one pair in `pay-as-bid`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PairPrice {
    /// The bid's limit.
    Bid,
    /// The offer's limit.
    Offer,
    /// The floored middle of both limits.
    Mid,
}

impl PairPrice {
    /// The price of a pair with these limits.
    fn of(self, bid: Price, offer: Price) -> Price {
        match self {
            PairPrice::Bid => bid,
            PairPrice::Offer => offer,
            PairPrice::Mid => offer.midpoint_floor(bid),
        }
    }
}

/// Who is served where orders of the same limit want more than is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ties {
    /// Each in proportion to its energy, to the watt-hour by largest remainder.
    ProRata,
    /// Who came first.
    Time,
    /// By lot, from a seed that is recorded.
    Lottery {
        /// The seed.
        seed: u64,
    },
}

/// A match of two orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// Index of the bid.
    pub bid: u32,
    /// Index of the offer.
    pub offer: u32,
    /// Energy, above zero.
    pub energy_wh: i64,
    /// What the buyer pays.
    pub buyer_price: Price,
    /// What the seller receives: the same, except where the mechanism's [`Budget`] is not balanced.
    pub seller_price: Price,
}

/// What became of one order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fill {
    /// Energy that was traded.
    pub filled_wh: i64,
    /// Energy taken out of the book because only the participant's own orders stood against it.
    pub left_out_wh: i64,
    /// Why.
    pub reason: Reason,
}

/// The result of a clearing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The one price of all trades, where there is one.
    pub price: Option<Price>,
    /// Lowest and highest price at which the largest volume of this book is an equilibrium, own
    /// counterparts aside; whatever the mechanism made of it. None where nobody could trade.
    pub price_interval: Option<(Price, Price)>,
    /// Energy traded.
    pub volume_wh: i64,
    /// Sum over the trades of energy × (bid limit − offer limit), in nano-tokens.
    pub welfare: i128,
    /// The most that sum could be for this book, if a participant could also serve itself.
    pub welfare_max: i128,
    /// What buyers pay above what sellers receive, in nano-tokens: booked to the community. Below zero
    /// where the mechanism runs a deficit.
    pub surplus: i128,
    /// Trades, in merit order (`continuous`: in time order).
    pub trades: Vec<Match>,
    /// One for each order, in the book's order.
    pub orders: Vec<Fill>,
}

/// Who has what of the welfare, by the limits of the orders, in nano-tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gains {
    /// What buyers pay less than their limits.
    pub buyers: i128,
    /// What sellers receive above their limits.
    pub sellers: i128,
    /// What the community keeps; below zero where somebody has to pay in.
    pub community: i128,
}

impl Outcome {
    /// How the welfare of these trades is divided. The three sum to it.
    #[must_use]
    pub fn gains(&self, book: &Book) -> Gains {
        let wide = |price: Price| i128::from(price.micro_per_kwh());
        let mut gains = Gains::default();
        for trade in &self.trades {
            let energy = i128::from(trade.energy_wh);
            let (paid, received) = (wide(trade.buyer_price), wide(trade.seller_price));
            gains.buyers += energy * (wide(book.get(trade.bid).limit) - paid);
            gains.sellers += energy * (received - wide(book.get(trade.offer).limit));
            gains.community += energy * (paid - received);
        }
        gains
    }
}

/// Clears a book.
///
/// # Panics
/// The result breaks one of the promises above: an error of this program, never of the book (which has
/// at most [`Mechanism::orders_max`] orders, or takes very long).
#[must_use]
pub fn clear(book: &Book, mechanism: Mechanism) -> Outcome {
    let outcome = mechanism.with(|auction| auction.clear(book));
    check::assert_sound(book, mechanism, &outcome);
    outcome
}

/// What a mechanism decided; the sums and explanations of an [`Outcome`] follow from it.
struct Decision {
    price: Option<Price>,
    price_interval: Option<(Price, Price)>,
    trades: Vec<Match>,
    filled: Vec<i64>,
    left_out: Vec<i64>,
    welfare_max: i128,
    reasons: Vec<Reason>,
}

impl Decision {
    fn into_outcome(self, book: &Book) -> Outcome {
        let limit = |index| i128::from(book.get(index).limit.micro_per_kwh());
        let total = |value: &dyn Fn(&Match) -> i128| -> i128 {
            self.trades
                .iter()
                .map(|t| i128::from(t.energy_wh) * value(t))
                .sum()
        };
        let margin = |t: &Match| {
            i128::from(t.buyer_price.micro_per_kwh()) - i128::from(t.seller_price.micro_per_kwh())
        };
        let (welfare, surplus) = (total(&|t| limit(t.bid) - limit(t.offer)), total(&margin));
        let fills = self.filled.into_iter().zip(self.left_out).zip(self.reasons);
        Outcome {
            price: self.price,
            price_interval: self.price_interval,
            volume_wh: self.trades.iter().map(|t| t.energy_wh).sum(),
            welfare,
            welfare_max: self.welfare_max,
            surplus,
            trades: self.trades,
            orders: fills
                .map(|((filled_wh, left_out_wh), reason)| Fill {
                    filled_wh,
                    left_out_wh,
                    reason,
                })
                .collect(),
        }
    }
}

/// The value of an order in a table that has one value for each order of the book.
fn at(table: &[i64], index: u32) -> i64 {
    table[slot(index)]
}
