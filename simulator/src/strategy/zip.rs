//! Zero intelligence plus (Cliff, "Minimal-intelligence agents for bargaining behaviors in market-based
//! environments", HP Labs 1997): each side has a price that moves towards a target by Widrow and Hoff's rule with
//! momentum, Γ ← γ·Γ + (1 − γ)·β·(τ − p), p ← p + Γ, within what is honest.
//!
//! Cliff's traders hear every shout; in a market that clears once an interval they hear its price q. Whoever would
//! have traded at q asks for more (τ = R·q + A, R a little above 1 for a seller), whoever did not trade asks for
//! less. The margin of his paper is p over the limit price; the price itself is kept here, so that limits of
//! zero and below work.

use domain::money::Price;
use domain::order::Side;

use super::simple::between;
use super::{Decision, Fate, Own, Public, Wish, side};
use crate::model::random::Draws;
use crate::number::bounded;

/// R and A of Cliff's targets: relative, and in shares of what the utility takes.
const RELATIVE: f64 = 0.05;
const ABSOLUTE: f64 = 0.05;

/// One side's price and momentum, in micro-token per kWh.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Shout {
    price: f64,
    momentum: f64,
}

/// A trader with a temperament.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Zip {
    /// β of Widrow and Hoff, and γ of the momentum.
    rate: f64,
    memory: f64,
    bid: Option<Shout>,
    offer: Option<Shout>,
}

impl Zip {
    /// A trader whose rate lies in 0.1 to 0.5 and whose memory in 0 to 0.1, as in Cliff's paper.
    #[must_use]
    pub fn new(draws: &mut Draws) -> Zip {
        Zip {
            rate: draws.between(0.1, 0.5),
            memory: draws.between(0.0, 0.1),
            bid: None,
            offer: None,
        }
    }

    /// What it does in an interval; the battery follows the home.
    pub fn decide(&mut self, public: &Public<'_>, own: &Own<'_>, draws: &mut Draws) -> Decision {
        let net_wh = own.following_wh();
        let (low, high) = (public.utility_pays, public.utility_takes);
        if net_wh == 0 || low > high {
            return Decision::default();
        }
        let shout = self.side(side(net_wh)).get_or_insert_with(|| Shout {
            price: between(low, high, draws).micro_per_kwh() as f64,
            momentum: 0.0,
        });
        // The tariff may have moved since.
        shout.price = shout
            .price
            .clamp(low.micro_per_kwh() as f64, high.micro_per_kwh() as f64);
        let limit = Price::from_micro_per_kwh(bounded(shout.price, i64::MAX / 2));
        Decision {
            wish: Wish::of(net_wh, limit),
            ..Decision::default()
        }
    }

    fn side(&mut self, side: Side) -> &mut Option<Shout> {
        match side {
            Side::Bid => &mut self.bid,
            Side::Offer => &mut self.offer,
        }
    }

    /// Moves the price of the side that ordered.
    pub fn learn(&mut self, fate: &Fate, draws: &mut Draws) {
        let Some(wish) = fate.wish else { return };
        let (rate, memory) = (self.rate, self.memory);
        let scale = fate.utility_takes.micro_per_kwh().saturating_abs() as f64;
        let Some(shout) = self.side(wish.side) else {
            return;
        };
        let heard = fate
            .price
            .map_or(shout.price, |price| price.micro_per_kwh() as f64);
        let would_trade = match wish.side {
            Side::Bid => heard <= shout.price,
            Side::Offer => heard >= shout.price,
        };
        let wants_more = fate.price.is_some() && would_trade;
        // Part of a wish that stayed open is no reason to ask for more.
        if wants_more && fate.traded_wh < wish.energy_wh {
            return;
        }
        let upwards = (wish.side == Side::Offer) == wants_more;
        let size =
            draws.between(0.0, RELATIVE) * heard.abs() + draws.between(0.0, ABSOLUTE) * scale;
        let target = if upwards { heard + size } else { heard - size };
        shout.momentum = memory * shout.momentum + (1.0 - memory) * rate * (target - shout.price);
        shout.price = (shout.price + shout.momentum).clamp(
            fate.utility_pays.micro_per_kwh() as f64,
            fate.utility_takes.max(fate.utility_pays).micro_per_kwh() as f64,
        );
    }
}
