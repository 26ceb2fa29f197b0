//! Who gets what of a payment: what is passed through first, then the owners by their shares, to the last unit.
//!
//! The parts sum to the payment, always. Where what is passed through is more than what was paid (a ceiling that cut
//! the bill, or energy that became dearer than promised) the owners carry it by the same shares.

use domain::money::{Money, MoneyError, split_largest_remainder};

/// Ten thousand basis points are the whole.
pub const WHOLE_BASIS_POINTS: i64 = 10_000;
/// Most owners of a station.
pub const OWNERS_MAX: usize = 64;

/// Somebody who has a share of a station.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The participant.
    pub name: String,
    /// The share in basis points.
    pub basis_points: u32,
}

/// What has to be passed on whatever was paid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PassThrough {
    /// What the energy cost in the auction and from the utility.
    pub energy: Money,
    /// What the network cost.
    pub network_fee: Money,
    /// The tax of the bill.
    pub tax: Money,
}

/// A payment, split.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split {
    /// What was paid.
    pub paid: Money,
    /// What is passed through.
    pub pass_through: PassThrough,
    /// What each owner gets, in the order in which they were named; below zero where they carry a loss.
    pub owners: Vec<(String, Money)>,
}

/// Why a payment cannot be split.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SplitError {
    /// Shares that are not the whole.
    #[error("the owners' shares are {0} basis points together; they must be {WHOLE_BASIS_POINTS}")]
    NotWhole(i64),
    /// Too many owners, or none.
    #[error("a station has 1 to {OWNERS_MAX} owners, not {0}")]
    Owners(usize),
    /// An amount that does not fit.
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// Splits what was paid; `salt` (the session's name) decides between equal remainders.
///
/// # Errors
/// Shares that are not the whole, or an amount that does not fit.
pub fn split(
    paid: Money,
    pass_through: PassThrough,
    owners: &[Owner],
    salt: &str,
) -> Result<Split, SplitError> {
    if owners.is_empty() || owners.len() > OWNERS_MAX {
        return Err(SplitError::Owners(owners.len()));
    }
    let weights: Vec<i64> = owners.iter().map(|o| i64::from(o.basis_points)).collect();
    let whole: i64 = weights.iter().sum();
    if whole != WHOLE_BASIS_POINTS {
        return Err(SplitError::NotWhole(whole));
    }
    let rest = paid
        .checked_sub(pass_through.energy)
        .and_then(|rest| rest.checked_sub(pass_through.network_fee))
        .and_then(|rest| rest.checked_sub(pass_through.tax))
        .ok_or(MoneyError::Overflow)?;
    let size = rest.nano().checked_abs().ok_or(MoneyError::Overflow)?;
    let keys: Vec<&[u8]> = owners.iter().map(|o| o.name.as_bytes()).collect();
    let parts = split_largest_remainder(size, &weights, &keys, salt.as_bytes())?;
    let named = owners.iter().zip(parts);
    let owners = named.map(|(owner, part)| {
        let part = if rest < Money::ZERO { -part } else { part };
        (owner.name.clone(), Money::from_nano(part))
    });
    Ok(Split {
        paid,
        pass_through,
        owners: owners.collect(),
    })
}

/// A correction of what was paid: the old record taken back whole, and a new one in its place.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Credit {
    /// When it was decided, in unix milliseconds.
    pub at_ms: i64,
    /// Why, in the operator's words.
    pub reason: String,
    /// What was charged until then, which is taken back whole.
    pub old_total_nano: i64,
    /// What is charged instead: never more.
    pub new_total_nano: i64,
    /// The part of the difference that was tax.
    pub tax_nano: i64,
}

impl Credit {
    /// A correction to `new_total` of a payment of `old_total`, of which `old_tax` was tax. None where the new one is not
    /// less: nothing is collected after the end, so what was charged too little is the owners' loss.
    ///
    /// # Errors
    /// An amount that does not fit.
    pub fn new(
        at: domain::time::Timestamp,
        reason: &str,
        (old_total, old_tax): (Money, Money),
        new_total: Money,
    ) -> Result<Option<Credit>, MoneyError> {
        if new_total >= old_total || new_total < Money::ZERO {
            return Ok(None);
        }
        let back = old_total
            .checked_sub(new_total)
            .ok_or(MoneyError::Overflow)?;
        let tax = i128::from(old_tax.nano()) * i128::from(back.nano());
        let tax = Money::from_ratio(tax, i128::from(old_total.nano()))?;
        Ok(Some(Credit {
            at_ms: at.unix_ms(),
            reason: reason.to_owned(),
            old_total_nano: old_total.nano(),
            new_total_nano: new_total.nano(),
            tax_nano: tax.nano(),
        }))
    }

    /// What the driver gets back.
    #[must_use]
    pub fn refund(&self) -> Money {
        Money::from_nano(self.old_total_nano.saturating_sub(self.new_total_nano))
    }

    /// What each owner gives back, by the same shares as they were paid.
    ///
    /// # Errors
    /// Shares that are not the whole, or an amount that does not fit.
    pub fn split(&self, owners: &[Owner], salt: &str) -> Result<Split, SplitError> {
        let pass_through = PassThrough {
            tax: Money::from_nano(self.tax_nano),
            ..PassThrough::default()
        };
        split(self.refund(), pass_through, owners, salt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owners(shares: &[u32]) -> Vec<Owner> {
        let named = shares.iter().enumerate();
        named
            .map(|(i, basis_points)| Owner {
                name: format!("owner-{i}"),
                basis_points: *basis_points,
            })
            .collect()
    }

    #[test]
    fn what_is_passed_through_goes_first_and_owners_carry_what_is_missing() {
        let nano = Money::from_nano;
        let pass_through = PassThrough {
            energy: nano(550),
            network_fee: nano(50),
            tax: nano(190),
        };
        let half = owners(&[5_000, 5_000]);
        let good = split(nano(1_191), pass_through, &half, "s1").unwrap();
        let parts: Vec<i64> = good.owners.iter().map(|(_, m)| m.nano()).collect();
        assert!(parts == [201, 200] || parts == [200, 201], "{parts:?}");
        let bad = split(nano(700), pass_through, &half, "s1").unwrap();
        assert_eq!(bad.owners.iter().map(|(_, m)| m.nano()).sum::<i64>(), -90);
        assert_eq!(
            split(nano(1), pass_through, &owners(&[9_999]), ""),
            Err(SplitError::NotWhole(9_999))
        );
        assert_eq!(
            split(nano(1), pass_through, &[], ""),
            Err(SplitError::Owners(0))
        );
    }

    proptest! {
        #[test]
        fn a_credit_gives_back_what_was_too_much_and_no_more(old in 1_i64..1_000_000_000_000, new in 0_i64..1_000_000_000_000, tax_permille in 0_i64..300) {
            let nano = Money::from_nano;
            let tax = nano(old * tax_permille / 1_300);
            let at = domain::time::Timestamp::EPOCH;
            match Credit::new(at, "meter", (nano(old), tax), nano(new)).unwrap() {
                None => prop_assert!(new >= old),
                Some(credit) => {
                    prop_assert_eq!(credit.refund().nano(), old - new);
                    let parts = credit.split(&owners(&[9_500, 500]), "s").unwrap();
                    let owned: i64 = parts.owners.iter().map(|(_, m)| m.nano()).sum();
                    prop_assert!(credit.tax_nano <= tax.nano() && owned >= 0);
                    prop_assert_eq!(owned + credit.tax_nano, old - new);
                }
            }
        }

        #[test]
        fn a_split_is_whole(paid in 0_i64..1_000_000_000_000, energy in 0_i64..1_000_000_000_000, tax in 0_i64..1_000_000_000, cut in 0_u32..=10_000, second in 0_u32..=10_000) {
            let (low, high) = (cut.min(second), cut.max(second));
            let owners = owners(&[low, high - low, 10_000 - high]);
            let pass_through = PassThrough { energy: Money::from_nano(energy), network_fee: Money::from_nano(energy / 7), tax: Money::from_nano(tax) };
            let split = split(Money::from_nano(paid), pass_through, &owners, "salt").unwrap();
            let owned: i64 = split.owners.iter().map(|(_, m)| m.nano()).sum();
            prop_assert_eq!(owned + energy + energy / 7 + tax, paid);
        }
    }
}
