//! The promises of every clearing, asserted in production: a wrong result must not leave this crate.

use domain::order::Side;

use super::{Budget, Mechanism, Outcome};
use crate::book::{Book, better, slot};

/// Checks a result against its book.
///
/// # Panics
/// A promise is broken.
pub(super) fn assert_sound(book: &Book, mechanism: Mechanism, outcome: &Outcome) {
    assert_eq!(
        outcome.orders.len(),
        book.entries().len(),
        "each order has one result"
    );
    assert_trades(book, outcome);
    assert!(
        0 <= outcome.welfare && outcome.welfare <= outcome.welfare_max,
        "welfare out of range"
    );
    let money_is_right = match mechanism.budget() {
        Budget::Balanced => outcome.surplus == 0,
        Budget::Surplus => outcome.surplus >= 0,
        Budget::Deficit => true,
    };
    assert!(money_is_right, "money kept or created");
    if !mechanism.keeps_merit_order() {
        return;
    }
    for side in [Side::Bid, Side::Offer] {
        assert_merit(book, outcome, side);
    }
    if let (Some(price), Some((low, high))) = (outcome.price, outcome.price_interval) {
        assert!(low <= high, "no price is an equilibrium of these trades");
        let middle = Mechanism::UniformPrice {
            policy: super::PricePolicy::WalrasMid,
            ties: super::Ties::ProRata,
        };
        assert!(
            mechanism != middle || (low <= price && price <= high),
            "price out of its interval"
        );
    }
}

fn assert_trades(book: &Book, outcome: &Outcome) {
    let mut traded = vec![0_i64; book.entries().len()];
    for trade in &outcome.trades {
        let (bid, offer) = (book.get(trade.bid), book.get(trade.offer));
        assert!(
            bid.side == Side::Bid && offer.side == Side::Offer,
            "a trade of two equal sides"
        );
        assert!(trade.energy_wh > 0, "a trade of no energy");
        assert!(
            bid.participant != offer.participant,
            "a participant traded with itself"
        );
        assert!(
            trade.buyer_price <= bid.limit,
            "a buyer pays above the limit"
        );
        assert!(
            trade.seller_price >= offer.limit,
            "a seller receives below the limit"
        );
        traded[slot(trade.bid)] += trade.energy_wh;
        traded[slot(trade.offer)] += trade.energy_wh;
    }
    let (mut bought, mut sold) = (0_i128, 0_i128);
    let mut served = 0;
    for ((entry, fill), traded) in book.entries().iter().zip(&outcome.orders).zip(&traded) {
        assert_eq!(
            fill.filled_wh, *traded,
            "an order's trades do not sum to its fill"
        );
        assert!(fill.left_out_wh >= 0, "a negative amount was left out");
        assert!(
            fill.filled_wh <= entry.energy_wh - fill.left_out_wh,
            "an order is over-filled"
        );
        served += usize::from(*traded > 0);
        match entry.side {
            Side::Bid => bought += i128::from(*traded),
            Side::Offer => sold += i128::from(*traded),
        }
    }
    assert!(
        bought == sold && bought == i128::from(outcome.volume_wh),
        "bought is not sold"
    );
    assert!(
        outcome.trades.len() <= served.saturating_sub(1),
        "more trades than needed"
    );
}

/// No order that is served is worse than a better one that is not, own counterparts aside.
fn assert_merit(book: &Book, outcome: &Outcome, side: Side) {
    let all = book
        .entries()
        .iter()
        .zip(&outcome.orders)
        .filter(|(e, _)| e.side == side);
    let unserved = all
        .clone()
        .filter(|(e, f)| f.filled_wh + f.left_out_wh < e.energy_wh);
    let served = all.filter(|(_, f)| f.filled_wh > 0).map(|(e, _)| e.limit);
    let best = |a, b| if better(side, b, a) { b } else { a };
    let worst = |a, b| if better(side, a, b) { b } else { a };
    if let (Some(unserved), Some(served)) = (
        unserved.map(|(e, _)| e.limit).reduce(best),
        served.reduce(worst),
    ) {
        assert!(
            !better(side, unserved, served),
            "a worse order was served before a better one"
        );
    }
}
