//! Whether trades are what their orders asked for.

use std::collections::BTreeMap;

use domain::ids::{OrderId, ParticipantId};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::trade::{Clearing, Trade};

/// Checks the trades of a clearing against the orders they name: participant, side, interval and limit; no order
/// is overfilled.
///
/// # Errors
/// Says which trade or order does not fit.
pub fn check(
    clearing: &Clearing,
    trades: &[Trade],
    known: &BTreeMap<OrderId, &Order>,
) -> Result<(), String> {
    let mut filled: BTreeMap<OrderId, i128> = BTreeMap::new();
    for trade in trades {
        if trade.interval != clearing.interval {
            return Err(format!("trade {} is of another interval", trade.id));
        }
        let (Some(bid), Some(offer)) = (known.get(&trade.bid), known.get(&trade.offer)) else {
            return Err(format!("the orders of trade {} are not given", trade.id));
        };
        fits(trade, bid, offer)?;
        for order in [trade.bid, trade.offer] {
            *filled.entry(order).or_default() += i128::from(trade.energy.wh());
        }
        let moves = trade.energy.is_positive() && trade.buyer != trade.seller;
        let fee_below_zero = trade.network_fee.is_some_and(|fee| fee < Price::ZERO);
        if trade.price < Price::ZERO || fee_below_zero || !moves {
            return Err(format!(
                "trade {} has a price or a fee below zero, or moves no energy",
                trade.id
            ));
        }
    }
    let over = |(id, sum): &(&OrderId, &i128)| {
        let order = known.get(*id);
        order.is_none_or(|order| **sum > i128::from(order.energy.wh()))
    };
    match filled.iter().find(over) {
        Some((id, sum)) => Err(format!(
            "{sum} Wh were traded by order {id}, more than it ordered"
        )),
        None => Ok(()),
    }
}

/// Whether a trade is what its two orders asked for.
fn fits(trade: &Trade, bid: &Order, offer: &Order) -> Result<(), String> {
    let of = |order: &Order, side: Side, party: &ParticipantId| {
        order.side == side && order.participant == *party && order.interval == trade.interval
    };
    let most = match offer.preference.green {
        true => bid.most(),
        false => Some(bid.limit),
    };
    let limits = offer.limit <= trade.price && most.is_some_and(|most| trade.price <= most);
    if of(bid, Side::Bid, &trade.buyer) && of(offer, Side::Offer, &trade.seller) && limits {
        Ok(())
    } else {
        let why = "is not what its orders say: participant, side, interval or limit";
        Err(format!("trade {} {why}", trade.id))
    }
}
