//! A cleared interval under another mechanism: the same orders, cleared as they were and as they would have been.

use domain::time::Interval;

use crate::book::{Book, BookError};
use crate::clear::{Gains, Mechanism, Outcome, clear};
use crate::public::{PublicBookError, Published};

/// What became of a book under one mechanism.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Came {
    /// Trades.
    pub trades: usize,
    /// Energy traded.
    pub volume_wh: i64,
    /// What buyers pay, in nano-tokens.
    pub paid: i128,
    /// Sum over trades of energy × (bid limit − offer limit), in nano-tokens.
    pub welfare: i128,
    /// Who has what of it.
    pub gains: Gains,
}

impl Came {
    fn of(book: &Book, outcome: &Outcome) -> Came {
        let paid = outcome.trades.iter().map(|trade| {
            i128::from(trade.energy_wh) * i128::from(trade.buyer_price.micro_per_kwh())
        });
        Came {
            trades: outcome.trades.len(),
            volume_wh: outcome.volume_wh,
            paid: paid.sum(),
            welfare: outcome.welfare,
            gains: outcome.gains(book),
        }
    }

    /// Adds another interval's.
    pub fn add(&mut self, other: &Came) {
        self.trades += other.trades;
        self.volume_wh += other.volume_wh;
        self.paid += other.paid;
        self.welfare += other.welfare;
        self.gains.buyers += other.gains.buyers;
        self.gains.sellers += other.gains.sellers;
        self.gains.community += other.gains.community;
    }

    /// What buyers pay in the mean, in micro-tokens per kWh; none where nothing was traded.
    #[must_use]
    pub fn mean_price_micro(&self) -> Option<i128> {
        (self.volume_wh > 0).then(|| self.paid / i128::from(self.volume_wh))
    }
}

/// One interval, twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// The interval.
    pub interval: Interval,
    /// How it was cleared.
    pub mechanism: Mechanism,
    /// Orders in the book.
    pub orders: usize,
    /// What became of it.
    pub was: Came,
    /// What would have become of it.
    pub would_be: Came,
    /// Orders that would have gained more, by their own limits.
    pub better_off: usize,
    /// Orders that would have gained less.
    pub worse_off: usize,
}

/// Clears the orders of a public book by another mechanism. Orders are taken as they are: nobody is asked how it
/// would have ordered under other rules. Wishes beyond price are left out on both sides, since only one mechanism
/// heeds them.
///
/// # Errors
/// The text is no public book, or has more orders than the mechanism clears.
pub fn replay(text: &str, mechanism: Mechanism) -> Result<Replayed, PublicBookError> {
    let published = Published::read(text)?;
    let book = &published.book;
    if book.entries().len() > mechanism.orders_max() {
        return Err(BookError::Full.into());
    }
    let (was, would_be) = (clear(book, published.mechanism), clear(book, mechanism));
    let (before, after) = (
        gains_of_orders(book, &was),
        gains_of_orders(book, &would_be),
    );
    let pairs = || before.iter().zip(&after);
    Ok(Replayed {
        interval: published.interval,
        mechanism: published.mechanism,
        orders: book.entries().len(),
        was: Came::of(book, &was),
        would_be: Came::of(book, &would_be),
        better_off: pairs().filter(|(before, after)| after > before).count(),
        worse_off: pairs().filter(|(before, after)| after < before).count(),
    })
}

/// What each order gains by its limit, in nano-tokens.
fn gains_of_orders(book: &Book, outcome: &Outcome) -> Vec<i128> {
    let mut gains = vec![0; book.entries().len()];
    let wide = |price: domain::money::Price| i128::from(price.micro_per_kwh());
    for trade in &outcome.trades {
        let energy = i128::from(trade.energy_wh);
        let bid = wide(book.get(trade.bid).limit) - wide(trade.buyer_price);
        let offer = wide(trade.seller_price) - wide(book.get(trade.offer).limit);
        for (order, gain) in [(trade.bid, bid), (trade.offer, offer)] {
            gains[crate::book::slot(order)] += energy * gain;
        }
    }
    gains
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clear::{PairPrice, PricePolicy, Ties};
    use crate::public::tests::published;

    const UNIFORM: Mechanism = Mechanism::UniformPrice {
        policy: PricePolicy::WalrasMid,
        ties: Ties::ProRata,
    };

    #[test]
    fn the_same_mechanism_changes_nothing() {
        let found = replay(&published(UNIFORM), UNIFORM).unwrap();
        assert_eq!(found.was, found.would_be);
        assert_eq!((found.better_off, found.worse_off), (0, 0));
        assert!(found.was.volume_wh > 0);
    }

    #[test]
    fn another_mechanism_divides_the_same_welfare_otherwise() {
        let pay_as_bid = Mechanism::PayAsBid {
            price: PairPrice::Bid,
            ties: Ties::ProRata,
        };
        let found = replay(&published(UNIFORM), pay_as_bid).unwrap();
        assert_eq!(found.was.welfare, found.would_be.welfare);
        assert_eq!(found.would_be.gains.buyers, 0, "buyers pay their limits");
        assert!(found.was.gains.buyers > 0 && found.worse_off > 0 && found.better_off > 0);
        for came in [found.was, found.would_be] {
            let gains = came.gains;
            assert_eq!(gains.buyers + gains.sellers + gains.community, came.welfare);
        }
        let mut sum = Came::default();
        sum.add(&found.was);
        sum.add(&found.was);
        assert_eq!(sum.mean_price_micro(), found.was.mean_price_micro());
    }

    #[test]
    fn what_is_no_book_is_refused() {
        assert!(replay("{}", UNIFORM).is_err());
    }
}
