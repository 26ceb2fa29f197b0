//! Sharing rules: no auction, but a rule that divides the community's bill with the utility by what each
//! member took and gave. They look at energies and the utility's prices only, never at limits.
//!
//! Sources: Long, Wu, Zhang, Thomas, Cheng and Jenkins, "Peer-to-peer energy trading in a community
//! microgrid" (2017), for bill sharing and the mid-market rate; Liu, Yu, Wang, Li, Ma and Lei,
//! "Energy-sharing model with price-based demand response" (2017), for the supply–demand ratio.
//!
//! Everything is exact: what the members pay and receive sums to the community's bill to the last
//! nano-token. A price that a formula leaves between two ticks is floored for the sellers; what is left
//! over stays with the buyers, and each side's total is divided by largest remainder.

use domain::energy::Energy;
use domain::money::{Money, MoneyError, Price, split_largest_remainder};

/// A rule for sharing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SharingRule {
    /// What is shared costs the middle of the utility's two prices; the longer side shares what the
    /// rest costs or brings at the utility.
    MidMarketRate,
    /// The price falls from retail to feed-in as supply grows against demand.
    SupplyDemandRatio,
    /// Shared energy costs nothing: buyers share the bill for import, sellers the income for export.
    BillSharing,
}

impl SharingRule {
    /// All of them.
    pub const ALL: [SharingRule; 3] = [
        SharingRule::MidMarketRate,
        SharingRule::SupplyDemandRatio,
        SharingRule::BillSharing,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SharingRule::MidMarketRate => "mid-market-rate",
            SharingRule::SupplyDemandRatio => "supply-demand-ratio",
            SharingRule::BillSharing => "bill-sharing",
        }
    }
}

/// What a member took from the street or gave to it in an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Taken; one of the two is zero.
    pub taken: Energy,
    /// Given.
    pub given: Energy,
    /// A name that breaks ties in the last nano-token, independent of order.
    pub key: [u8; 16],
}

/// What came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shares {
    /// Energy shared inside the community.
    pub shared: Energy,
    /// What each member pays, or receives where it is below zero, in the order of the members.
    pub bills: Vec<Money>,
    /// What all buyers pay together.
    pub buyers_total: Money,
    /// What all sellers receive together.
    pub sellers_total: Money,
    /// What the utility is paid, or pays where it is below zero.
    pub utility: Money,
}

/// Divides the bill of one interval. `retail` is what the utility takes for a kWh, `feed_in` what it gives.
///
/// # Errors
/// A sum does not fit 64 bits, or the retail price lies below the feed-in price.
pub fn share(
    rule: SharingRule,
    members: &[Member],
    retail: Price,
    feed_in: Price,
    salt: &[u8],
) -> Result<Shares, ShareError> {
    if retail < feed_in {
        return Err(ShareError::PricesCross { retail, feed_in });
    }
    let total = |energy: &dyn Fn(&Member) -> Energy| {
        let mut energies = members.iter().map(energy);
        energies
            .try_fold(Energy::ZERO, Energy::checked_add)
            .ok_or(MoneyError::Overflow)
    };
    let (demand, supply) = (total(&|m| m.taken)?, total(&|m| m.given)?);
    let shared = demand.min(supply);
    let rest = |energy: Energy| energy.checked_sub(shared).ok_or(MoneyError::Overflow);
    let import = retail.amount(rest(demand)?)?;
    let export = feed_in.amount(rest(supply)?)?;
    let between_us = price(rule, demand, supply, retail, feed_in)?.amount(shared)?;
    let add = |a: Money, b: Money| a.checked_add(b).ok_or(MoneyError::Overflow);
    let (buyers_total, sellers_total) = (add(between_us, import)?, add(between_us, export)?);
    let paid = divide(members, |m| m.taken, buyers_total, salt)?;
    let received = divide(members, |m| m.given, sellers_total, salt)?;
    let bill =
        |(paid, received): (Money, Money)| paid.checked_sub(received).ok_or(MoneyError::Overflow);
    let bills: Result<Vec<Money>, MoneyError> = paid.into_iter().zip(received).map(bill).collect();
    Ok(Shares {
        shared,
        bills: bills?,
        buyers_total,
        sellers_total,
        utility: import.checked_sub(export).ok_or(MoneyError::Overflow)?,
    })
}

/// The price of shared energy, floored to the tick.
///
/// Supply–demand ratio, with R = supply / demand up to 1: feed_in × retail / ((retail − feed_in) × R +
/// feed_in), and the feed-in price beyond.
fn price(
    rule: SharingRule,
    demand: Energy,
    supply: Energy,
    retail: Price,
    feed_in: Price,
) -> Result<Price, MoneyError> {
    match rule {
        SharingRule::MidMarketRate => Ok(retail.midpoint_floor(feed_in)),
        SharingRule::BillSharing => Ok(Price::ZERO),
        SharingRule::SupplyDemandRatio if supply >= demand => Ok(feed_in),
        SharingRule::SupplyDemandRatio => {
            let wide = |price: Price| i128::from(price.micro_per_kwh());
            let (retail, feed_in) = (wide(retail), wide(feed_in));
            let (demand, supply) = (i128::from(demand.wh()), i128::from(supply.wh()));
            let below = (retail - feed_in)
                .checked_mul(supply)
                .and_then(|a| a.checked_add(feed_in.checked_mul(demand)?));
            let above = (feed_in.checked_mul(retail)).and_then(|a| a.checked_mul(demand));
            let (Some(above), Some(below)) = (above, below) else {
                return Err(MoneyError::Overflow);
            };
            // A free feed-in makes shared energy free, as in the formula's limit.
            let price = if below <= 0 {
                0
            } else {
                above.div_euclid(below)
            };
            i64::try_from(price)
                .map(Price::from_micro_per_kwh)
                .map_err(|_| MoneyError::Overflow)
        }
    }
}

/// Divides a side's total in proportion to energy, to the nano-token.
fn divide(
    members: &[Member],
    energy: impl Fn(&Member) -> Energy,
    total: Money,
    salt: &[u8],
) -> Result<Vec<Money>, MoneyError> {
    let weights: Vec<i64> = members.iter().map(|m| energy(m).wh()).collect();
    let keys: Vec<&[u8]> = members.iter().map(|m| &m.key[..]).collect();
    let (sign, size) = (
        total.nano().signum(),
        total.nano().checked_abs().ok_or(MoneyError::Overflow)?,
    );
    if size == 0 {
        return Ok(vec![Money::ZERO; members.len()]);
    }
    let parts = split_largest_remainder(size, &weights, &keys, salt)?;
    Ok(parts
        .into_iter()
        .map(|part| Money::from_nano(sign * part))
        .collect())
}

/// Why a bill could not be divided.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShareError {
    /// Energy would be bought from the utility to be sold to it.
    #[error(
        "the retail price {retail} lies below the feed-in price {feed_in}: there is nothing to share"
    )]
    PricesCross {
        /// What the utility takes.
        retail: Price,
        /// What the utility gives.
        feed_in: Price,
    },
    /// A sum is too large.
    #[error("{0}")]
    Money(#[from] MoneyError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(list: &[(i64, i64)]) -> Vec<Member> {
        let member = |(index, (taken, given)): (usize, &(i64, i64))| Member {
            taken: Energy::from_wh(*taken),
            given: Energy::from_wh(*given),
            key: [u8::try_from(index).unwrap(); 16],
        };
        list.iter().enumerate().map(member).collect()
    }

    /// Bills in micro-tokens, for retail 0.30 and feed-in 0.10.
    fn bills(rule: SharingRule, list: &[(i64, i64)]) -> Vec<i64> {
        let price = Price::from_micro_per_kwh;
        let shares = share(
            rule,
            &members(list),
            price(300_000),
            price(100_000),
            b"noon",
        )
        .unwrap();
        shares.bills.iter().map(|bill| bill.nano() / 1000).collect()
    }

    #[test]
    fn worked_examples_by_hand() {
        use SharingRule::{BillSharing, MidMarketRate, SupplyDemandRatio};
        // As much as is taken: 2 kWh at the middle, 0.20.
        let balanced = [(2000, 0), (0, 2000)];
        assert_eq!(bills(MidMarketRate, &balanced), [400_000, -400_000]);
        assert_eq!(bills(SupplyDemandRatio, &balanced), [200_000, -200_000]);
        assert_eq!(bills(BillSharing, &balanced), [0, 0]);
        // 4 kWh taken, 1 given: buyers share 0.20 + 3 × 0.30 = 1.10 as 3 : 1.
        let short = [(3000, 0), (1000, 0), (0, 1000)];
        assert_eq!(bills(MidMarketRate, &short), [825_000, 275_000, -200_000]);
        // R = 1/4: 0.10 × 0.30 / (0.20/4 + 0.10) = 0.20 as it happens.
        assert_eq!(
            bills(SupplyDemandRatio, &short),
            [825_000, 275_000, -200_000]
        );
        assert_eq!(bills(BillSharing, &short), [675_000, 225_000, 0]);
        // 1 kWh taken, 4 given: sellers share 0.20 + 3 × 0.10.
        let long = [(1000, 0), (0, 1000), (0, 3000)];
        assert_eq!(bills(MidMarketRate, &long), [200_000, -125_000, -375_000]);
        assert_eq!(
            bills(SupplyDemandRatio, &long),
            [100_000, -100_000, -300_000]
        );
        assert_eq!(bills(BillSharing, &long), [0, -75_000, -225_000]);
    }

    #[test]
    fn crossed_prices_are_refused() {
        let price = Price::from_micro_per_kwh;
        let error = share(SharingRule::BillSharing, &[], price(1), price(2), b"").unwrap_err();
        assert!(error.to_string().contains("lies below"), "{error}");
    }

    proptest! {
        #[test]
        fn bills_sum_to_what_the_utility_gets_and_nobody_does_worse_than_alone(
            list in proptest::collection::vec((any::<bool>(), 0_i64..100_000), 1..20),
            feed_in in 0_i64..200_000,
            spread in 0_i64..400_000,
        ) {
            let list: Vec<(i64, i64)> = list.into_iter()
                .map(|(takes, wh)| if takes { (wh, 0) } else { (0, wh) }).collect();
            let (retail, feed_in) = (Price::from_micro_per_kwh(feed_in + spread), Price::from_micro_per_kwh(feed_in));
            let members = members(&list);
            for rule in SharingRule::ALL {
                let shares = share(rule, &members, retail, feed_in, b"noon").unwrap();
                prop_assert_eq!(shares.bills.iter().map(|b| b.nano()).sum::<i64>(), shares.utility.nano());
                for (member, bill) in members.iter().zip(&shares.bills) {
                    let alone = retail.amount(member.taken).unwrap().nano()
                        - feed_in.amount(member.given).unwrap().nano();
                    // Bill sharing gives sellers nothing for what is shared.
                    let gives = member.given > Energy::ZERO && rule == SharingRule::BillSharing;
                    prop_assert!(gives || bill.nano() <= alone + 1, "{:?} {} {}", rule, bill.nano(), alone);
                }
            }
        }
    }
}
