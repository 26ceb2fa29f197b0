//! How homes order, behind an information barrier: a strategy is handed [`Public`] (what everybody may know),
//! [`Own`] (what its own home knows) and random numbers, and nothing else. There is no way from here to
//! another home, to a book or to what will really happen.
//!
//! | file | who |
//! |---|---|
//! | [`simple`] | grid only, truthful, zero intelligence (constrained and not), linear ramp |
//! | [`tariff`] | follows the utility's tariff through the day |
//! | [`zip`] | zero intelligence plus: learns a margin (Cliff 1997) |
//! | [`roth_erev`] | learns which limit pays (modified Roth–Erev) |
//! | [`threshold`] | battery: buys below and sells above thresholds |
//! | [`look_ahead`] | battery: the exact plan for what it expects, by [`planner`] |
//!
//! A home's side follows from what it expects: it bids what it will lack and offers what it will have over.

use domain::money::Price;
use domain::order::Side;

use crate::model::random::Draws;

pub mod look_ahead;
pub mod planner;
pub mod roth_erev;
pub mod simple;
pub mod tariff;
pub mod threshold;
pub mod zip;

/// Intervals ahead that a strategy looks at: two days of quarter hours.
pub const AHEAD_MAX: usize = 192;

/// What everybody may know before the gate of an interval closes.
#[derive(Clone, Copy, Debug)]
pub struct Public<'a> {
    /// What the utility pays for energy in this interval, and what it takes for it, with everything that a home
    /// pays on top.
    pub utility_pays: Price,
    /// See `utility_pays`.
    pub utility_takes: Price,
    /// How far the time until the gate's closing has passed, from 0 to 1000.
    pub gate_permille: u32,
    /// What the utility pays and takes in this interval and those after it, as far as it is published.
    pub tariff_ahead: &'a [(Price, Price)],
}

/// What a home knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// What it expects to lack (above zero) or to have over in this interval, before its battery, in Wh.
    pub expected_wh: i64,
    /// The same for this interval and those after it; may be empty.
    pub expected_ahead_wh: &'a [i64],
    /// Its battery.
    pub battery: Option<OwnBattery>,
}

/// What a home knows of its battery, at the AC side, in Wh.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OwnBattery {
    /// What it can take and give in this interval.
    pub room_wh: i64,
    /// See `room_wh`.
    pub ready_wh: i64,
    /// What it could take and give in one interval if it were neither full nor empty.
    pub charge_wh: i64,
    /// See `charge_wh`.
    pub discharge_wh: i64,
    /// Content above its least one, and the greatest such content.
    pub stored_wh: i64,
    /// See `stored_wh`.
    pub capacity_wh: i64,
    /// Of 1000 Wh charged this is stored, and of 1000 Wh taken out this is given.
    pub charge_permille: i64,
    /// See `charge_permille`.
    pub discharge_permille: i64,
}

impl Own<'_> {
    /// What is lacking or over when the battery simply follows the home.
    #[must_use]
    pub fn following_wh(&self) -> i64 {
        let battery = self.battery.unwrap_or_default();
        if self.expected_wh > 0 {
            self.expected_wh - self.expected_wh.min(battery.ready_wh)
        } else {
            self.expected_wh + self.expected_wh.saturating_neg().min(battery.room_wh)
        }
    }
}

/// What a home orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    /// Buys or sells.
    pub side: Side,
    /// In Wh, above zero.
    pub energy_wh: i64,
    /// It pays no more and takes no less.
    pub limit: Price,
}

impl Wish {
    /// A bid for what is lacking (above zero) or an offer of what is over; `None` for nothing.
    #[must_use]
    pub fn of(net_wh: i64, limit: Price) -> Option<Wish> {
        (net_wh != 0).then(|| Wish {
            side: side(net_wh),
            energy_wh: net_wh.saturating_abs(),
            limit,
        })
    }
}

/// The side of a home that lacks (above zero) or has over.
#[must_use]
pub fn side(net_wh: i64) -> Side {
    if net_wh > 0 { Side::Bid } else { Side::Offer }
}

/// What the battery shall do in the interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BatteryPlan {
    /// Charge what is over and cover what is lacking.
    #[default]
    Follow,
    /// Charge this much (above zero) or discharge it, in Wh at the AC side.
    Fixed(i64),
}

/// What a strategy decides for one interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Decision {
    /// The order, if any.
    pub wish: Option<Wish>,
    /// The battery.
    pub battery: BatteryPlan,
}

/// What became of an interval, as its home knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fate {
    /// What it had ordered.
    pub wish: Option<Wish>,
    /// What of it was traded, in Wh.
    pub traded_wh: i64,
    /// The published price of the clearing; `None` where nothing was traded.
    pub price: Option<Price>,
    /// What the utility pays and takes.
    pub utility_pays: Price,
    /// See `utility_pays`.
    pub utility_takes: Price,
}

/// Which strategy a home has.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Never orders.
    GridOnly,
    /// What it lacks at what the utility takes, what it has over at what the utility pays.
    Truthful,
    /// A random limit that is never worse than the utility (ZI-C, Gode and Sunder 1993).
    ZeroIntelligence,
    /// A random limit from nothing to twice what the utility takes (ZI-U).
    ZeroIntelligenceUnconstrained,
    /// From the utility's one price to the other while the gate is open.
    LinearRamp,
    /// Follows the utility's tariff through the day, with its battery.
    TariffFollower,
    /// Zero intelligence plus.
    Zip,
    /// Modified Roth–Erev.
    RothErev,
    /// Battery with thresholds.
    BatteryThreshold,
    /// Battery with an exact plan.
    BatteryLookAhead,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 10] = [
        Kind::GridOnly,
        Kind::Truthful,
        Kind::ZeroIntelligence,
        Kind::ZeroIntelligenceUnconstrained,
        Kind::LinearRamp,
        Kind::TariffFollower,
        Kind::Zip,
        Kind::RothErev,
        Kind::BatteryThreshold,
        Kind::BatteryLookAhead,
    ];

    /// Its name in scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::GridOnly => "grid-only",
            Kind::Truthful => "truthful",
            Kind::ZeroIntelligence => "zero-intelligence",
            Kind::ZeroIntelligenceUnconstrained => "zero-intelligence-unconstrained",
            Kind::LinearRamp => "linear-ramp",
            Kind::TariffFollower => "tariff-follower",
            Kind::Zip => "zip",
            Kind::RothErev => "roth-erev",
            Kind::BatteryThreshold => "battery-threshold",
            Kind::BatteryLookAhead => "battery-look-ahead",
        }
    }
}

/// A strategy with what it remembers.
#[derive(Clone, Debug)]
pub enum Mind {
    /// Those that remember nothing.
    Simple(simple::Simple),
    /// See [`Kind::TariffFollower`].
    Tariff,
    /// See [`Kind::Zip`].
    Zip(zip::Zip),
    /// See [`Kind::RothErev`].
    RothErev(Box<roth_erev::RothErev>),
    /// See [`Kind::BatteryThreshold`].
    Threshold(threshold::Threshold),
    /// See [`Kind::BatteryLookAhead`].
    LookAhead(Box<look_ahead::LookAhead>),
}

impl Mind {
    /// A fresh mind; `draws` are those of its home (temperaments differ).
    #[must_use]
    pub fn new(kind: Kind, draws: &mut Draws) -> Mind {
        match kind {
            Kind::GridOnly => Mind::Simple(simple::Simple::GridOnly),
            Kind::Truthful => Mind::Simple(simple::Simple::Truthful),
            Kind::ZeroIntelligence => Mind::Simple(simple::Simple::ZeroIntelligence),
            Kind::ZeroIntelligenceUnconstrained => Mind::Simple(simple::Simple::Unconstrained),
            Kind::LinearRamp => Mind::Simple(simple::Simple::LinearRamp),
            Kind::TariffFollower => Mind::Tariff,
            Kind::Zip => Mind::Zip(zip::Zip::new(draws)),
            Kind::RothErev => Mind::RothErev(Box::default()),
            Kind::BatteryThreshold => Mind::Threshold(threshold::Threshold::default()),
            Kind::BatteryLookAhead => Mind::LookAhead(Box::default()),
        }
    }

    /// What it does in an interval.
    #[inline]
    pub fn decide(&mut self, public: &Public<'_>, own: &Own<'_>, draws: &mut Draws) -> Decision {
        match self {
            Mind::Simple(simple) => simple.decide(public, own, draws),
            Mind::Tariff => tariff::decide(public, own),
            Mind::Zip(zip) => zip.decide(public, own, draws),
            Mind::RothErev(learner) => learner.decide(public, own, draws),
            Mind::Threshold(threshold) => threshold.decide(public, own),
            Mind::LookAhead(look_ahead) => look_ahead.decide(public, own),
        }
    }

    /// Learns from what became of the interval.
    #[inline]
    pub fn learn(&mut self, fate: &Fate, draws: &mut Draws) {
        match self {
            Mind::Simple(_) | Mind::Tariff | Mind::LookAhead(_) => {}
            Mind::Zip(zip) => zip.learn(fate, draws),
            Mind::RothErev(learner) => learner.learn(fate),
            Mind::Threshold(threshold) => threshold.learn(fate),
        }
    }
}

/// The limit at which a home is as well off with the utility: what a bid may reach and an offer may fall to.
#[must_use]
pub fn honest_limit(side: Side, public: &Public<'_>) -> Price {
    match side {
        Side::Bid => public.utility_takes,
        Side::Offer => public.utility_pays,
    }
}

#[cfg(test)]
mod tests;
