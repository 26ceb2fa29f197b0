//! Modified Roth–Erev learning (Nicolaisen, Petrov and Tesfatsion, IEEE Trans. Evol. Comp. 5, 2001): a few limits
//! between the utility's prices, each with a propensity; what pays is chosen more often.
//!
//! q_k ← (1 − φ)·q_k + E_k with E_k = r·(1 − ε) for the chosen k and q_k·ε/(K − 1) for the others. The reward r is the
//! gain over trading with the utility, as a share of the greatest possible one.

use domain::money::Price;
use domain::order::Side;

use super::{Decision, Fate, Own, Public, Wish, side};
use crate::model::random::Draws;

/// Limits to choose from on each side.
pub const CHOICES: usize = 11;
/// φ (recency) and ε (experiment) of the paper.
const RECENCY: f64 = 0.10;
const EXPERIMENT: f64 = 0.20;
/// Propensity of each choice at the start: the mean reward that a newcomer hopes for.
const HOPE: f64 = 0.25;
/// Propensities never fall below this, so that there is always a choice.
const LEAST: f64 = 1e-6;

/// What one side has learned.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Learned {
    propensity: [f64; CHOICES],
    chosen: usize,
}

impl Default for Learned {
    fn default() -> Self {
        Learned {
            propensity: [HOPE; CHOICES],
            chosen: 0,
        }
    }
}

/// A learner: buying and selling apart.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct RothErev {
    bid: Learned,
    offer: Learned,
}

impl RothErev {
    /// What it does in an interval; the battery follows the home.
    pub fn decide(&mut self, public: &Public<'_>, own: &Own<'_>, draws: &mut Draws) -> Decision {
        let net_wh = own.following_wh();
        let (low, high) = (public.utility_pays, public.utility_takes);
        if net_wh == 0 || low > high {
            return Decision::default();
        }
        let learned = self.side(side(net_wh));
        learned.chosen = draws.weighted(&learned.propensity);
        let part = u32::try_from(learned.chosen * 1_000_000 / (CHOICES - 1)).unwrap_or(0);
        let limit = low.between_floor(high, part).unwrap_or(low);
        Decision {
            wish: Wish::of(net_wh, limit),
            ..Decision::default()
        }
    }

    fn side(&mut self, side: Side) -> &mut Learned {
        match side {
            Side::Bid => &mut self.bid,
            Side::Offer => &mut self.offer,
        }
    }

    /// Learns from the reward of the chosen limit.
    pub fn learn(&mut self, fate: &Fate) {
        let Some(wish) = fate.wish else { return };
        let reward = reward(&wish, fate);
        let learned = self.side(wish.side);
        for (index, propensity) in learned.propensity.iter_mut().enumerate() {
            let experience = if index == learned.chosen {
                reward * (1.0 - EXPERIMENT)
            } else {
                *propensity * EXPERIMENT / (CHOICES as f64 - 1.0)
            };
            *propensity = ((1.0 - RECENCY) * *propensity + experience).max(LEAST);
        }
    }

    /// How likely each limit of a side is now, from what the utility pays to what it takes.
    #[must_use]
    pub fn likelihood(&self, side: Side) -> [f64; CHOICES] {
        let learned = match side {
            Side::Bid => &self.bid,
            Side::Offer => &self.offer,
        };
        let sum: f64 = learned.propensity.iter().sum();
        learned.propensity.map(|propensity| propensity / sum)
    }
}

/// The gain over the utility's price, as a share of the whole wish traded at the best price there is.
fn reward(wish: &Wish, fate: &Fate) -> f64 {
    let Some(price) = fate.price else { return 0.0 };
    let (low, high) = (fate.utility_pays, fate.utility_takes);
    let micro = |price: Price| price.micro_per_kwh() as f64;
    let span = micro(high) - micro(low);
    if span <= 0.0 || wish.energy_wh <= 0 {
        return 0.0;
    }
    let gain = match wish.side {
        Side::Bid => micro(high) - micro(price),
        Side::Offer => micro(price) - micro(low),
    };
    (gain / span * fate.traded_wh as f64 / wish.energy_wh as f64).clamp(0.0, 1.0)
}
