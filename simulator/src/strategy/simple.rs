//! Strategies without memory: grid only, truthful, zero intelligence, linear ramp.

use domain::money::Price;
use domain::order::Side;

use super::{Decision, Own, Public, Wish, honest_limit, side};
use crate::model::random::Draws;

/// A strategy that remembers nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Simple {
    /// Never orders.
    GridOnly,
    /// At the utility's price.
    Truthful,
    /// At a random limit between the utility's prices.
    ZeroIntelligence,
    /// At a random limit from nothing to twice what the utility takes.
    Unconstrained,
    /// Greedy when the gate opens, honest when it closes.
    LinearRamp,
}

impl Simple {
    /// What it does in an interval; the battery follows the home.
    #[inline]
    pub fn decide(self, public: &Public<'_>, own: &Own<'_>, draws: &mut Draws) -> Decision {
        let net_wh = own.following_wh();
        if net_wh == 0 || self == Simple::GridOnly {
            return Decision::default();
        }
        let (low, high) = (public.utility_pays, public.utility_takes);
        // Where the utility pays more than it takes nothing can be won among neighbours.
        if low > high && self != Simple::Unconstrained {
            return Decision::default();
        }
        let limit = match self {
            Simple::GridOnly | Simple::Truthful => honest_limit(side(net_wh), public),
            Simple::ZeroIntelligence => between(low, high, draws),
            Simple::Unconstrained => {
                let most = high.micro_per_kwh().saturating_mul(2).max(0);
                between(Price::ZERO, Price::from_micro_per_kwh(most), draws)
            }
            Simple::LinearRamp => ramp(side(net_wh), public),
        };
        Decision {
            wish: Wish::of(net_wh, limit),
            ..Decision::default()
        }
    }
}

/// A limit of `low` to `high`, both included, all equally likely.
#[inline]
pub(super) fn between(low: Price, high: Price, draws: &mut Draws) -> Price {
    let span = high.micro_per_kwh().abs_diff(low.micro_per_kwh());
    let step = draws.below(span.saturating_add(1));
    Price::from_micro_per_kwh(low.micro_per_kwh().saturating_add_unsigned(step))
}

/// A bid rises from what the utility pays to what it takes; an offer falls the other way.
fn ramp(side: Side, public: &Public<'_>) -> Price {
    let (from, to) = match side {
        Side::Bid => (public.utility_pays, public.utility_takes),
        Side::Offer => (public.utility_takes, public.utility_pays),
    };
    // Above 1000 the gate is closed, and the limit is the honest one.
    let passed = public.gate_permille.min(1000) * 1000;
    from.between_floor(to, passed).unwrap_or(to)
}
