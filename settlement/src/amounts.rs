//! What energy comes to, in plain integers: how deviations pool, and what a trade or a deviation costs.
//!
//! [`crate::legs`] posts these amounts between accounts; the simulator, which keeps sums for millions of
//! intervals, adds the same amounts up without accounts. There is no second rule.

use domain::energy::Energy;
use domain::money::{Money, MoneyError, Price, Remainders, split_into};
use domain::receipt::Prices;
use domain::terms::Tiers;

/// What a trade costs its buyer, and what its seller does not keep of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TradeAmounts {
    /// To the seller, in nano-tokens.
    pub price_nano: i64,
    /// To the network, in nano-tokens.
    pub fee_nano: i64,
    /// From the seller to the community, in nano-tokens: floored, the remainder stays with the seller.
    pub community_nano: i64,
    /// Of what is left to the seller, kept until the final run, in nano-tokens: floored.
    pub holdback_nano: i64,
}

/// What `energy` at `price` costs, with the network fee of the trade where it has its own.
///
/// # Errors
/// An amount that does not fit 64 bits.
pub fn trade_amounts(
    energy: Energy,
    price: Price,
    own_fee: Option<Price>,
    prices: &Prices,
) -> Result<TradeAmounts, MoneyError> {
    let fee = own_fee.unwrap_or(prices.network_fee);
    let amount = price.amount(energy)?;
    let (community, holdback) = match prices.terms {
        None => (Money::ZERO, Money::ZERO),
        Some(terms) => {
            let community = amount.percent_floor(terms.community_fee_bp)?;
            let rest = amount.checked_sub(community).ok_or(MoneyError::Overflow)?;
            (community, rest.percent_floor(terms.holdback_bp)?)
        }
    };
    Ok(TradeAmounts {
        price_nano: amount.nano(),
        fee_nano: fee.amount(energy)?.nano(),
        community_nano: community.nano(),
        holdback_nano: holdback.nano(),
    })
}

/// What a participant's deviation comes to, seen from its statement: received above zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviationAmounts {
    /// From the pool at the local price, in nano-tokens.
    pub pool_nano: i64,
    /// From the community for the spread around that price, in nano-tokens: at most zero.
    pub spread_nano: i64,
    /// From the network, in nano-tokens: at most zero with a fee of at least zero.
    pub fee_nano: i64,
    /// From the utility, in nano-tokens.
    pub utility_nano: i64,
}

/// What a deviation comes to, of which `pooled` went to neighbours and `utility` to the utility (below zero:
/// came from them). Energy from a neighbour also pays the network; the utility's price has the network in it.
/// With `tiers`, what the utility supplies is paid at the steps it falls on.
///
/// # Errors
/// An amount that does not fit 64 bits.
pub fn deviation_amounts(
    pooled: Energy,
    utility: Energy,
    prices: &Prices,
    tiers: Option<&Tiers>,
) -> Result<DeviationAmounts, MoneyError> {
    let taken = pooled.min(Energy::ZERO);
    let utility = match tiers.filter(|_| utility < Energy::ZERO) {
        Some(tiers) => negative(tiers.cost(absolute(utility)?)?)?,
        None if utility < Energy::ZERO => prices.retail.amount(utility)?,
        None => prices.feed_in.amount(utility)?,
    };
    Ok(DeviationAmounts {
        pool_nano: prices.pool.amount(pooled)?.nano(),
        spread_nano: negative(spread_on(prices, pooled)?)?.nano(),
        fee_nano: prices.network_fee.amount(taken)?.nano(),
        utility_nano: utility.nano(),
    })
}

fn negative(amount: Money) -> Result<Money, MoneyError> {
    Money::ZERO.checked_sub(amount).ok_or(MoneyError::Overflow)
}

fn absolute(energy: Energy) -> Result<Energy, MoneyError> {
    let wh = energy.wh().checked_abs().ok_or(MoneyError::Overflow)?;
    Ok(Energy::from_wh(wh))
}

/// What a pooled deviation pays beyond the local price: the spread, as far as neither side is worse off
/// than with the utility.
fn spread_on(prices: &Prices, pooled: Energy) -> Result<Money, MoneyError> {
    let Some(terms) = prices.terms.filter(|terms| terms.spread > Price::ZERO) else {
        return Ok(Money::ZERO);
    };
    let less = |a: Price, b: Price| a.checked_sub(b).ok_or(MoneyError::Overflow);
    let room = if pooled < Energy::ZERO {
        less(less(prices.retail, prices.network_fee)?, prices.pool)?
    } else {
        less(prices.pool, prices.feed_in)?
    };
    let spread = terms.spread.min(room).max(Price::ZERO);
    spread.amount(absolute(pooled)?)
}

/// Memory that poolings use again.
#[derive(Clone, Debug, Default)]
pub struct Pooling {
    side: Vec<i64>,
    parts: Vec<i64>,
    remainders: Remainders,
    pooled: Vec<i64>,
}

impl Pooling {
    /// How much of each deviation neighbours cancel: surplus (above zero) and shortage (below) meet as far
    /// as the smaller of the two goes; the larger side shares that by largest remainder. `key` names the
    /// party of a place, `salt` the interval. Gives one number for each deviation, with its sign.
    ///
    /// # Errors
    /// A sum that does not fit 64 bits.
    pub fn pool<K: AsRef<[u8]>>(
        &mut self,
        deviations_wh: &[i64],
        key: impl Fn(usize) -> K,
        salt: &[u8],
    ) -> Result<&[i64], MoneyError> {
        let (mut surplus, mut shortage) = (0_i128, 0_i128);
        for deviation in deviations_wh {
            surplus += i128::from((*deviation).max(0));
            shortage -= i128::from((*deviation).min(0));
        }
        let pooled = i64::try_from(surplus.min(shortage)).map_err(|_| MoneyError::Overflow)?;
        self.pooled.clear();
        self.pooled.resize(deviations_wh.len(), 0);
        if pooled == 0 {
            return Ok(&self.pooled);
        }
        for sign in [1_i64, -1] {
            self.side.clear();
            let signed = deviations_wh.iter().map(|d| d.saturating_mul(sign).max(0));
            self.side.extend(signed);
            split_into(
                pooled,
                &self.side,
                &key,
                salt,
                &mut self.remainders,
                &mut self.parts,
            )?;
            for (pooled, part) in self.pooled.iter_mut().zip(&self.parts) {
                *pooled += sign * part;
            }
        }
        Ok(&self.pooled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices() -> Prices {
        let price = |text: &str| text.parse().unwrap();
        Prices {
            pool: price("0.165"),
            retail: price("0.32"),
            feed_in: price("0.08"),
            network_fee: price("0.07"),
            terms: None,
        }
    }

    #[test]
    fn deviations_cancel_as_far_as_the_smaller_side_goes() {
        let mut pooling = Pooling::default();
        let names = ["a", "b", "c", "d"];
        let mut pool = |wh: &[i64]| pooling.pool(wh, |i| names[i], b"noon").unwrap().to_vec();
        assert_eq!(pool(&[-300, 100, 50, 0]), [-150, 100, 50, 0]);
        assert_eq!(pool(&[300, -100, 100, 0]), [75, -100, 25, 0]);
        assert_eq!(pool(&[300, 100]), [0, 0]);
        assert_eq!(pool(&[]), [0; 0]);
    }

    #[test]
    fn a_deviation_pays_the_network_only_for_what_came_from_neighbours() {
        let wh = Energy::from_wh;
        let given = deviation_amounts(wh(100), wh(50), &prices(), None).unwrap();
        let nano = |pool_nano, fee_nano, utility_nano| DeviationAmounts {
            pool_nano,
            spread_nano: 0,
            fee_nano,
            utility_nano,
        };
        assert_eq!(given, nano(16_500_000, 0, 4_000_000));
        let taken = deviation_amounts(wh(-100), wh(-50), &prices(), None).unwrap();
        assert_eq!(taken, nano(-16_500_000, -7_000_000, -16_000_000));
    }
}
