//! A trade beside the utility: what the same energy would have come to there, by the prices that the interval is settled
//! at; before that, by those that hold now.

use domain::energy::Energy;
use domain::money::{Money, MoneyError, Price};
use domain::order::Side;
use domain::receipt::Line;
use domain::trade::Trade;

use crate::site::Site;

/// What a home pays or gets for a trade, and what it would with the utility.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside {
    /// What the network gets of the buyer.
    pub(crate) network_fee: Price,
    /// With the trade: paid by a buyer, network fee included; received by a seller.
    pub(crate) traded: Money,
    /// The same with the utility alone. On a tiered tariff, from the step on which the home stands.
    pub(crate) utility: Money,
}

impl Beside {
    /// Of one side of a trade; `line` is that home's, once the interval is settled.
    pub(crate) fn of(
        site: &Site,
        trade: &Trade,
        side: Side,
        line: Option<&Line>,
    ) -> Result<Beside, MoneyError> {
        let tariff = site.tariff_at(trade.interval);
        let (retail, feed_in, fee) = match line.map(|line| &line.prices) {
            Some(prices) => (prices.retail, prices.feed_in, prices.network_fee),
            None => (tariff.retail, tariff.feed_in, tariff.network_fee),
        };
        let network_fee = trade.network_fee.unwrap_or(fee);
        let energy: Energy = trade.energy;
        let price = trade.price.amount(energy)?;
        let (traded, utility) = match side {
            Side::Bid => {
                let fee = network_fee.amount(energy)?;
                let tiers = line.and_then(|line| line.tiers.as_ref());
                let utility = match tiers {
                    Some(tiers) => tiers.cost(energy)?,
                    None => retail.amount(energy)?,
                };
                let paid = price.checked_add(fee).ok_or(MoneyError::Overflow)?;
                (paid, utility)
            }
            Side::Offer => (price, feed_in.amount(energy)?),
        };
        Ok(Beside {
            network_fee,
            traded,
            utility,
        })
    }

    /// How much better the trade was for this side.
    pub(crate) fn better_by(&self, side: Side) -> Option<Money> {
        match side {
            Side::Bid => self.utility.checked_sub(self.traded),
            Side::Offer => self.traded.checked_sub(self.utility),
        }
    }
}
