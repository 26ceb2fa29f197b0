//! What orders wish beyond price, and what that changes: named partners, green energy, the same feeder.
//!
//! First the book is cleared as if nobody wished anything. What is bought and sold then, and the price,
//! stay as they are for everybody; wishes decide the following, in this order:
//! 1. **Partners.** Served energy goes to named participants: rank by rank, at each rank the buyers'
//!    wishes (best bid first), then the sellers'.
//! 2. **Green.** A bid with a green premium gets energy of green offers, the highest premium first. The
//!    premium is one price: the highest premium of a served bid whose wish was not met in full, so zero
//!    while there is enough. A bid pays it on top, at most its own, and the green seller receives it.
//! 3. **Feeder.** Bids get energy of offers on their own feeder, best first.
//! 4. The rest is paired by merit, as without wishes.
//! 5. **More green.** What is left of bids with a premium (at limit + premium) and of green offers is cleared
//!    once more among themselves, at a price of its own.
//!
//! So nobody loses energy, or pays or receives a worse price, by the wishes of others, and a file without
//! wishes clears as ever. Under `pay-as-bid` a pair has a price of its own: there wishes also move money
//! among those who are served, each within its limit. Only (5) costs welfare, counted at the limits for any energy: buyers then pay more
//! than these say. [`Cost`] says how much that is, and whose gain or loss each token is. Each of the two
//! clearings makes at most its served bids + offers − 1 trades.
//!
//! Not every mechanism heeds all of this ([`Heeded`]). `trade-reduction`, `huang` and `vcg` heed (1) and
//! (3): whom somebody meets moves no price there. They heed no premium: it would let an order's own words
//! set what it pays, which these mechanisms exist to prevent, and serve again what they dropped. Under
//! `continuous` orders meet as they arrive, and under `muda` only orders of one half of the lot may meet.

use domain::money::Price;
use domain::order::Preference;

use crate::book::Book;
use crate::clear::{Match, Mechanism, Outcome, clear, clear_with_wishes};

pub use domain::order::PARTNERS_MAX;

/// What one order wishes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wish {
    /// Participants to trade with if possible, most wanted first, [`PARTNERS_MAX`] at most.
    pub partners: Vec<u32>,
    /// The feeder on which its metering point lies.
    pub feeder: Option<u32>,
    /// A bid whose order asks for energy of its own feeder, even where nobody knows which that is.
    pub same_feeder: bool,
    /// An offer of green energy.
    pub green: bool,
    /// What a bid pays at most on top of its limit for green energy; not below zero.
    pub green_premium: Price,
}

impl Wish {
    /// Whether the order only wants the best price.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Wish::default()
    }
}

/// Which wishes a mechanism heeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heeded {
    /// All of them.
    All,
    /// Partners and the same feeder, for which nobody pays. An offer may say that it is green, which changes nothing.
    Counterparts,
    /// None of them.
    Nothing,
}

impl Heeded {
    /// By this mechanism.
    #[must_use]
    pub const fn by(mechanism: Mechanism) -> Self {
        match mechanism {
            Mechanism::UniformPrice { .. } | Mechanism::PayAsBid { .. } => Heeded::All,
            Mechanism::TradeReduction { .. } | Mechanism::Huang { .. } | Mechanism::Vcg { .. } => {
                Heeded::Counterparts
            }
            Mechanism::Continuous | Mechanism::Muda { .. } => Heeded::Nothing,
        }
    }

    /// What it heeds of an order's wishes.
    #[must_use]
    pub fn of(self, wishes: Preference) -> Preference {
        match self {
            Heeded::All => wishes,
            Heeded::Counterparts => Preference {
                green_premium: Price::ZERO,
                ..wishes
            },
            Heeded::Nothing => Preference::default(),
        }
    }

    /// Why the mechanism cannot heed one of these wishes; none where it heeds them all.
    #[must_use]
    pub fn refusal(mechanism: Mechanism, wishes: &[Wish]) -> Option<&'static str> {
        let pays = |wish: &Wish| wish.green_premium > Price::ZERO;
        match (Heeded::by(mechanism), mechanism) {
            (Heeded::All, _) => None,
            (Heeded::Counterparts, _) => wishes.iter().any(pays).then_some(
                "with a green_premium an order's own words would set its price, which this mechanism \
                 exists to prevent",
            ),
            (Heeded::Nothing, _) if wishes.iter().all(|wish| *wish == Wish::default()) => None,
            (Heeded::Nothing, Mechanism::Continuous) => Some("orders meet as they arrive"),
            (Heeded::Nothing, _) => Some("who may meet whom is drawn by lot"),
        }
    }
}

/// Why two orders were paired.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Because {
    /// One named the other's participant.
    Partner,
    /// The buyer pays for green energy, and the offer is green.
    Green,
    /// Both are on one feeder.
    Feeder,
    /// It was their turn.
    Merit,
    /// Only the green premium brought them together.
    MoreGreen,
}

impl Because {
    /// As it is written in results.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Because::Partner => "partner",
            Because::Green => "green",
            Because::Feeder => "feeder",
            Because::Merit => "merit",
            Because::MoreGreen => "more-green",
        }
    }
}

/// A clearing in which wishes counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preferred {
    /// The result: `price` and `price_interval` are those without wishes, a trade's price may hold a premium.
    pub outcome: Outcome,
    /// Why each trade's orders were paired, in the order of the trades.
    pub because: Vec<Because>,
    /// The one green premium; each bid pays at most its own.
    pub green_premium: Price,
    /// What the wishes cost.
    pub cost: Cost,
}

/// What wishes cost, beside the clearing without them, in nano-tokens at the limits for any energy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Welfare given up.
    pub welfare: i128,
    /// Premiums paid on top of the price.
    pub premiums: i128,
    /// Gain (above zero) or loss of each participant for whom there is one; they sum to `-welfare`.
    pub changes: Vec<(u32, i128)>,
}

/// Clears a book, by wishes where there are any.
///
/// # Panics
/// As [`clear`] does, or there are not as many wishes as orders.
#[must_use]
pub fn cleared(book: &Book, mechanism: Mechanism, wishes: Option<&[Wish]>) -> Preferred {
    match wishes {
        Some(wishes) => clear_with_wishes(book, mechanism, wishes),
        None => Preferred::without(clear(book, mechanism)),
    }
}

impl Preferred {
    /// A clearing in which nobody's wish counted.
    pub(crate) fn without(outcome: Outcome) -> Self {
        Preferred {
            because: vec![Because::Merit; outcome.trades.len()],
            outcome,
            green_premium: Price::ZERO,
            cost: Cost::default(),
        }
    }

    /// Energy of the trades that were made for one reason.
    #[must_use]
    pub fn energy_wh(&self, because: Because) -> i64 {
        let trades = self.outcome.trades.iter().zip(&self.because);
        let chosen = trades.filter(|(_, why)| **why == because);
        chosen.map(|(trade, _): (&Match, _)| trade.energy_wh).sum()
    }
}
