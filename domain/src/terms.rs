//! The terms of a community's settlement: how deviations are priced, what the community takes, what is
//! held back, and a tariff's steps. They travel with every settlement line, so that a receipt can be
//! computed again.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::energy::Energy;
use crate::money::{Money, MoneyError, Price};
use crate::posting::as_code;
use crate::receipt::{as_text, as_wh};

/// Most steps of a tiered tariff.
pub const STEPS_MAX: usize = 16;
/// Basis points in a whole.
pub const BASIS_POINTS: u32 = 10_000;

/// How a deviation from what was traded is priced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviationPolicy {
    /// Surplus and shortage cancel inside the community at the local price; the utility serves the rest.
    #[default]
    Pooled,
    /// Every surplus goes to the utility at its feed-in price, every shortage comes from it at retail.
    TwoPrice,
    /// One price for both directions, set by what the community as a whole lacks or has over.
    SinglePrice,
}

impl DeviationPolicy {
    /// All policies.
    pub const ALL: [DeviationPolicy; 3] = [
        DeviationPolicy::Pooled,
        DeviationPolicy::TwoPrice,
        DeviationPolicy::SinglePrice,
    ];

    /// The number that is stored and logged.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            DeviationPolicy::Pooled => 0,
            DeviationPolicy::TwoPrice => 1,
            DeviationPolicy::SinglePrice => 2,
        }
    }

    /// The policy of a number; `None` for an unknown one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.code() == code)
    }

    /// Its word in files and on receipts.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            DeviationPolicy::Pooled => "pooled",
            DeviationPolicy::TwoPrice => "two-price",
            DeviationPolicy::SinglePrice => "single-price",
        }
    }

    /// The policy of a word; `None` for an unknown one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.word() == word)
    }
}

/// Whether the community as a whole drew more than it had traded, or less.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// All deviations cancel.
    #[default]
    Balanced,
    /// It lacks energy.
    Short,
    /// It has energy over.
    Long,
}

impl Position {
    /// The position of a sum of deviations.
    #[must_use]
    pub const fn of(net_wh: i128) -> Self {
        match net_wh {
            0 => Position::Balanced,
            1.. => Position::Long,
            _ => Position::Short,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Position::Balanced => 0,
            Position::Short => 1,
            Position::Long => 2,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Position::Balanced),
            1 => Some(Position::Short),
            2 => Some(Position::Long),
            _ => None,
        }
    }
}

as_code! { DeviationPolicy Position }

/// Terms that differ from the plain ones, which are: pooled, no spread, no fee, nothing held back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Terms {
    /// How deviations are priced.
    #[n(1)]
    pub policy: DeviationPolicy,
    /// With `pooled`: a surplus gets this much less than the local price, a shortage pays this much more,
    /// as far as that is no worse than the utility; the community has the difference.
    #[n(2)]
    #[serde(with = "as_text")]
    pub spread: Price,
    /// What the community takes of a seller's income from trades, in basis points, floored.
    #[n(3)]
    pub community_fee_bp: u32,
    /// What of the rest is held back until the final run, in basis points, floored.
    #[n(4)]
    pub holdback_bp: u32,
    /// Where the community stood; it decides the price with `single-price` only.
    #[n(5)]
    pub position: Position,
}

impl Terms {
    /// The terms to write down: none where they are the plain ones.
    #[must_use]
    pub fn written(self) -> Option<Terms> {
        (self != Terms::default()).then_some(self)
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Says which does not.
    pub fn check(&self) -> Result<(), TermsError> {
        if self.spread < Price::ZERO {
            return Err(TermsError::Spread(self.spread));
        }
        if self.spread != Price::ZERO && self.policy != DeviationPolicy::Pooled {
            return Err(TermsError::SpreadWithout(self.policy.word()));
        }
        let shares = [
            ("community fee", self.community_fee_bp),
            ("holdback", self.holdback_bp),
        ];
        match shares.into_iter().find(|(_, bp)| *bp > BASIS_POINTS) {
            Some((what, basis_points)) => Err(TermsError::Share { what, basis_points }),
            None => Ok(()),
        }
    }
}

/// Terms that make no sense.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TermsError {
    /// A spread below zero.
    #[error("the spread is {0}, which is below zero")]
    Spread(Price),
    /// A spread where there is no local price.
    #[error("a spread belongs to the policy `pooled`; `{0}` has none")]
    SpreadWithout(&'static str),
    /// A share above the whole.
    #[error("the {what} is {basis_points} basis points, which is more than the whole (10000)")]
    Share {
        /// Of what.
        what: &'static str,
        /// How much.
        basis_points: u32,
    },
}

/// A step of a tiered tariff.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Step {
    /// From this much energy in the local month on.
    #[n(1)]
    #[serde(with = "as_wh")]
    pub from_wh: Energy,
    /// The retail price there.
    #[n(2)]
    #[serde(with = "as_text")]
    pub retail: Price,
}

/// Where a participant stands on a tiered tariff's steps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Tiers {
    /// What the utility had supplied in the month before this interval.
    #[n(1)]
    #[serde(with = "as_wh")]
    pub used_wh: Energy,
    /// The steps, the first from zero on.
    #[n(2)]
    pub steps: Vec<Step>,
}

impl Tiers {
    /// What `energy` from the utility costs from this place on: each part at its step's price.
    ///
    /// # Errors
    /// The amount does not fit, energy below zero, or steps that do not begin at zero and rise.
    pub fn cost(&self, energy: Energy) -> Result<Money, MoneyError> {
        let mut at = self.used_wh.wh();
        let end = at.checked_add(energy.wh()).ok_or(MoneyError::Overflow)?;
        if energy < Energy::ZERO || at < 0 || !are_steps(&self.steps) {
            return Err(MoneyError::BadSplit);
        }
        let mut cost = Money::ZERO;
        for (index, step) in self.steps.iter().enumerate() {
            let next = self.steps.get(index + 1).map(|s| s.from_wh.wh());
            let upto = next.unwrap_or(i64::MAX).min(end);
            if upto > at {
                let part = step.retail.amount(Energy::from_wh(upto - at))?;
                cost = cost.checked_add(part).ok_or(MoneyError::Overflow)?;
                at = upto;
            }
        }
        Ok(cost)
    }
}

/// Whether steps begin at zero, rise, and are not too many.
#[must_use]
pub fn are_steps(steps: &[Step]) -> bool {
    let rise = steps.windows(2).all(|two| two[0].from_wh < two[1].from_wh);
    let begin = steps.first().is_some_and(|s| s.from_wh == Energy::ZERO);
    rise && begin && steps.len() <= STEPS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiers(used_wh: i64) -> Tiers {
        let step = |from_wh, price: &str| Step {
            from_wh: Energy::from_wh(from_wh),
            retail: price.parse().unwrap(),
        };
        Tiers {
            used_wh: Energy::from_wh(used_wh),
            steps: vec![step(0, "0.20"), step(1000, "0.30"), step(2000, "0.40")],
        }
    }

    #[test]
    fn energy_is_paid_at_the_steps_it_falls_on() {
        for (used, wh, cost) in [
            (0, 500, "0.100000000"),
            (0, 1000, "0.200000000"),
            (900, 200, "0.050000000"),
            (0, 2500, "0.700000000"),
            (5000, 10, "0.004000000"),
            (999, 0, "0.000000000"),
        ] {
            let got = tiers(used).cost(Energy::from_wh(wh)).unwrap();
            assert_eq!(got.to_string(), cost, "{used} {wh}");
        }
        assert!(tiers(0).cost(Energy::from_wh(-1)).is_err());
        let mut wrong = tiers(0);
        wrong.steps.swap(0, 1);
        assert!(wrong.cost(Energy::from_wh(1)).is_err());
    }

    #[test]
    fn plain_terms_are_not_written_and_senseless_ones_are_refused() {
        assert_eq!(Terms::default().written(), None);
        let spread: Price = "0.01".parse().unwrap();
        let two = Terms {
            policy: DeviationPolicy::TwoPrice,
            spread,
            ..Terms::default()
        };
        assert!(two.check().is_err());
        let fee = Terms {
            community_fee_bp: 10_001,
            ..Terms::default()
        };
        assert!(fee.check().is_err());
        for policy in DeviationPolicy::ALL {
            assert_eq!(DeviationPolicy::from_word(policy.word()), Some(policy));
            assert_eq!(DeviationPolicy::from_code(policy.code()), Some(policy));
        }
    }
}
