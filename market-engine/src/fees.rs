//! Network fees of trades: by the zones of seller and buyer, named in the trade, so charged once.
//!
//! The buyer pays the fee on top of the price; the limit of a bid is without it. The fee does not change
//! who is served: limits meet in the auction as if everybody lived in one zone.

use std::collections::BTreeMap;

use domain::fees::FeeMatrix;
use domain::ids::ParticipantId;
use domain::money::Price;
use domain::trade::Trade;

/// A community's fees, and where its participants live.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneFees {
    /// Fees by zone.
    pub matrix: FeeMatrix,
    /// Number of each participant's zone: that of its connection to the network.
    pub zone_of: BTreeMap<ParticipantId, usize>,
    /// The most that an interval may charge, by its start: what its bids were told when they were placed.
    pub promised: BTreeMap<i64, Price>,
}

impl ZoneFees {
    /// The fee on a kWh of a trade; `None` where a party has no zone, so that the community's one fee stands.
    #[must_use]
    pub fn fee(
        &self,
        start_s: i64,
        seller: &ParticipantId,
        buyer: &ParticipantId,
    ) -> Option<Price> {
        let (from, to) = (self.zone_of.get(seller)?, self.zone_of.get(buyer)?);
        let fee = self.matrix.fee(*from, *to)?;
        Some(
            self.promised
                .get(&start_s)
                .map_or(fee, |most| fee.min(*most)),
        )
    }

    /// The zones as feeders by number: energy of one's own zone is energy of one's own feeder.
    #[must_use]
    pub fn feeders(&self) -> BTreeMap<ParticipantId, u32> {
        let number = |(who, zone): (&ParticipantId, &usize)| {
            let zone = u32::try_from(*zone).ok()?;
            Some((who.clone(), zone))
        };
        self.zone_of.iter().filter_map(number).collect()
    }

    /// Names each trade's fee in it.
    pub fn charge(&self, trades: &mut [Trade]) {
        for trade in trades {
            trade.network_fee = self.fee(trade.interval.start_s(), &trade.seller, &trade.buyer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trade_pays_from_the_sellers_zone_to_the_buyers_and_never_more_than_promised() {
        let price = Price::from_micro_per_kwh;
        let rows = [vec![price(10), price(30)], vec![price(20), price(5)]];
        let who = |name: &str| ParticipantId::new(name).unwrap();
        let fees = ZoneFees {
            matrix: FeeMatrix::new(vec!["n".to_owned(), "s".to_owned()], &rows).unwrap(),
            zone_of: [(who("ann"), 0), (who("ben"), 1)].into(),
            promised: [(900, price(15))].into(),
        };
        let fee = |start_s, seller, buyer| fees.fee(start_s, &who(seller), &who(buyer));
        assert_eq!(fee(0, "ann", "ben"), Some(price(30)));
        assert_eq!(fee(0, "ben", "ann"), Some(price(20)));
        assert_eq!(fee(900, "ann", "ben"), Some(price(15)));
        assert_eq!(fee(900, "ann", "ann"), Some(price(10)));
        assert_eq!(fee(0, "ann", "carl"), None);
    }
}
