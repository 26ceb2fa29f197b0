//! A trade, and the clearing of an interval that made it.

use minicbor::{Decode, Encode};

use crate::energy::Energy;
use crate::ids::{Digest32, OrderId, ParticipantId, TradeId, timed_id};
use crate::money::Price;
use crate::signed::encode;
use crate::time::Interval;

/// Energy that one participant sold to another for one interval.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Trade {
    /// The trade's name.
    #[n(1)]
    pub id: TradeId,
    /// When the energy flows.
    #[n(2)]
    pub interval: Interval,
    /// The buyer's order.
    #[n(3)]
    pub bid: OrderId,
    /// The seller's order.
    #[n(4)]
    pub offer: OrderId,
    /// Who bought.
    #[n(5)]
    pub buyer: ParticipantId,
    /// Who sold.
    #[n(6)]
    pub seller: ParticipantId,
    /// How much; above zero.
    #[n(7)]
    pub energy: Energy,
    /// What the buyer pays and the seller receives per kWh, fees aside.
    #[n(8)]
    pub price: Price,
    /// What the buyer pays the network on top per kWh, where that depends on the two; else the tariff says.
    #[n(9)]
    pub network_fee: Option<Price>,
}

/// The tag of trade ids in [`timed_id`].
const TRADE_TAG: u16 = 2;

impl Trade {
    /// The id of the trade between two orders: two orders meet at most once in a clearing. `book` is the
    /// clearing's [`Clearing::book`], which nobody can know before the gate has closed: else somebody
    /// could choose sequences so that two trades get one id, and an interval could not be cleared.
    #[must_use]
    pub fn id_of(interval: Interval, book: &Digest32, bid: OrderId, offer: OrderId) -> TradeId {
        let parts: [&[u8]; 3] = [&book.0, bid.as_bytes(), offer.as_bytes()];
        TradeId(timed_id(interval.start(), TRADE_TAG, "trade", &parts))
    }

    /// The deterministic CBOR of a trade: what the market log commits to.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        encode(self)
    }
}

/// The public summary of one interval's clearing.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Clearing {
    /// The interval that was cleared.
    #[n(1)]
    pub interval: Interval,
    /// The mechanism by name, `uniform-price` say.
    #[n(2)]
    pub mechanism: String,
    /// Its price policy by name, `walras-mid` say.
    #[n(3)]
    pub price_policy: String,
    /// The one price, where the mechanism has one and something traded.
    #[n(4)]
    pub price: Option<Price>,
    /// Lowest and highest price at which the same trades are an equilibrium.
    #[n(5)]
    pub price_low: Option<Price>,
    /// See `price_low`.
    #[n(6)]
    pub price_high: Option<Price>,
    /// Energy traded.
    #[n(7)]
    pub volume: Energy,
    /// Orders in the book.
    #[n(8)]
    pub orders: u32,
    /// Trades made.
    #[n(9)]
    pub trades: u32,
    /// SHA-256 over the ids and signed bytes of the book's orders, in the book's order.
    #[n(10)]
    pub book: Digest32,
    /// SHA-256 of the book as it is public, from which anybody can clear the interval again; none in
    /// clearings from before there was one.
    #[n(11)]
    pub public_book: Option<Digest32>,
}

impl Clearing {
    /// The deterministic CBOR of a clearing: what the market log commits to.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        encode(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_both_orders_does_not_know_their_trades_id_before_the_gate_has_closed() {
        let interval = Interval::new(1_782_000_000, 900).unwrap();
        let (bid, offer) = (OrderId([1; 16]), OrderId([2; 16]));
        let id = |book: &[u8]| Trade::id_of(interval, &Digest32::of(book), bid, offer);
        assert_eq!(id(b"book"), id(b"book"));
        assert_ne!(id(b"book"), id(b"book with a stranger's order"));
    }
}
