//! What other limits would have brought a home: the books of the past are cleared again, by the same code
//! that clears them live, with this home's limits changed and everybody else's orders as they were.
//!
//! It says what trading would have brought against the utility for the energy that was ordered. How others
//! would have answered is not known, and deviations are left out.

use std::collections::BTreeMap;

use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::{Money, Price};
use domain::order::{Order, Side};
use domain::time::Interval;
use market_engine::book::{Book, Entry};
use market_engine::clear::{Mechanism, clear};
use settlement::tariff::Tariff;

/// Settings between both ends of the slider.
pub(crate) const STOPS: i64 = 5;

/// Two limits of a home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    pub(crate) max_buy: Price,
    pub(crate) min_sell: Price,
}

impl Limits {
    /// A stop of the slider: at 0 the utility's own prices, so that whatever is better trades; at each
    /// further stop a ninth of the room less on both sides.
    pub(crate) fn at(stop: i64, tariff: &Tariff, fee: Price) -> Limits {
        let low = tariff.feed_in.micro_per_kwh();
        let high = tariff.retail.micro_per_kwh() - fee.micro_per_kwh();
        let part = (high - low).max(0) / (2 * STOPS - 1) * stop.clamp(0, STOPS - 1);
        Limits {
            max_buy: Price::from_micro_per_kwh(high - part),
            min_sell: Price::from_micro_per_kwh(low + part),
        }
    }
}

/// What a setting brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Brought {
    pub(crate) limits: Limits,
    pub(crate) bought: Energy,
    pub(crate) sold: Energy,
    /// Energy that was ordered.
    pub(crate) ordered: Energy,
    /// Better than with the utility alone.
    pub(crate) gain: Money,
}

/// Clears the books again with each of the settings. `orders` are whole books, one after the other; `prices_at` says
/// an interval's tariff, and its largest network fee.
pub(crate) fn replay(
    orders: &[Order],
    home: &ParticipantId,
    settings: &[Limits],
    mechanism: Mechanism,
    prices_at: &dyn Fn(Interval) -> (Tariff, Price),
) -> Vec<Brought> {
    let books = orders
        .chunk_by(|a, b| a.interval == b.interval)
        .filter(|book| book.iter().any(|order| order.participant == *home));
    let books: Vec<Past<'_>> = books.filter_map(Past::of).collect();
    let of = |limits: &Limits| brought(&books, home, *limits, mechanism, prices_at);
    settings.iter().map(of).collect()
}

/// A book of the past with what its orders are to the auction, which is the same whatever one home's limits are.
struct Past<'o> {
    interval: Interval,
    orders: &'o [Order],
    entries: Vec<Entry>,
}

impl<'o> Past<'o> {
    fn of(orders: &'o [Order]) -> Option<Self> {
        let mut names: BTreeMap<&ParticipantId, u32> = BTreeMap::new();
        let mut entries = Vec::with_capacity(orders.len());
        for order in orders {
            let next = u32::try_from(names.len()).ok()?;
            entries.push(Entry {
                side: order.side,
                energy_wh: order.energy.wh(),
                limit: order.limit,
                participant: *names.entry(&order.participant).or_insert(next),
                arrival: u32::try_from(entries.len()).ok()?,
                key: order.id().0,
            });
        }
        Some(Past {
            interval: orders.first()?.interval,
            orders,
            entries,
        })
    }

    /// The book with the home's limits changed; `None` where it cannot be one.
    fn book_with(&self, home: &ParticipantId, limits: Limits) -> Option<Book> {
        let mut book = Book::new(b"replay");
        for (order, entry) in self.orders.iter().zip(&self.entries) {
            let limit = match order.side {
                _ if order.participant != *home => entry.limit,
                Side::Bid => limits.max_buy,
                Side::Offer => limits.min_sell,
            };
            book.push(Entry { limit, ..*entry }).ok()?;
        }
        Some(book)
    }
}

fn brought(
    books: &[Past<'_>],
    home: &ParticipantId,
    limits: Limits,
    mechanism: Mechanism,
    prices_at: &dyn Fn(Interval) -> (Tariff, Price),
) -> Brought {
    let (mut bought, mut sold, mut ordered, mut gain) = (0_i64, 0_i64, 0_i64, 0_i128);
    for past in books {
        let orders = past.orders;
        let (tariff, fee) = prices_at(past.interval);
        let retail = i128::from(tariff.retail.micro_per_kwh() - fee.micro_per_kwh());
        let feed_in = i128::from(tariff.feed_in.micro_per_kwh());
        let Some(book) = past.book_with(home, limits) else {
            continue;
        };
        let outcome = clear(&book, mechanism);
        let own = |index: u32| {
            let order = usize::try_from(index).ok().and_then(|i| orders.get(i));
            order.is_some_and(|order| order.participant == *home)
        };
        for order in orders.iter().filter(|o| o.participant == *home) {
            ordered = ordered.saturating_add(order.energy.wh());
        }
        for trade in &outcome.trades {
            let wh = i128::from(trade.energy_wh);
            if own(trade.bid) {
                bought = bought.saturating_add(trade.energy_wh);
                gain += wh * (retail - i128::from(trade.buyer_price.micro_per_kwh()));
            }
            if own(trade.offer) {
                sold = sold.saturating_add(trade.energy_wh);
                gain += wh * (i128::from(trade.seller_price.micro_per_kwh()) - feed_in);
            }
        }
    }
    Brought {
        limits,
        bought: Energy::from_wh(bought),
        sold: Energy::from_wh(sold),
        ordered: Energy::from_wh(ordered),
        gain: Money::from_nano(i64::try_from(gain).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::PointId;

    fn order(who: &str, side: Side, wh: i64, cents: i64) -> Order {
        Order {
            participant: ParticipantId::new(who).unwrap(),
            point: PointId::new("p").unwrap(),
            side,
            interval: Interval::new(900, 900).unwrap(),
            energy: Energy::from_wh(wh),
            limit: Price::from_micro_per_kwh(cents * 10_000),
            sequence: 1,
            replaces: None,
            preference: domain::order::Preference::default(),
        }
    }

    fn cents(n: i64) -> Price {
        Price::from_micro_per_kwh(n * 10_000)
    }

    #[test]
    fn a_seller_who_asks_for_more_sells_less_and_the_gain_is_exact() {
        let tariff = Tariff::new(cents(31), cents(8), cents(3)).unwrap();
        let orders = [
            order("me", Side::Offer, 1000, 9),
            order("you", Side::Bid, 1000, 20),
        ];
        let me = ParticipantId::new("me").unwrap();
        let settings = [8, 10, 21].map(|least| Limits {
            max_buy: cents(28),
            min_sell: cents(least),
        });
        let got = replay(&orders, &me, &settings, Mechanism::default(), &|_| {
            (tariff, cents(3))
        });
        let sold = |n: usize| (got[n].sold.wh(), got[n].gain.nano());
        // The price is the middle: 14 and 15 ct, against 8 from the utility.
        assert_eq!(sold(0), (1000, 60_000_000));
        assert_eq!(sold(1), (1000, 70_000_000));
        assert_eq!(sold(2), (0, 0));
        assert_eq!(got[2].ordered.wh(), 1000);
    }

    #[test]
    fn what_is_gained_is_counted_at_each_interval_s_own_prices() {
        let tariff = |feed_in| Tariff::new(cents(31), cents(feed_in), cents(3)).unwrap();
        let (cheap, dear) = (tariff(8), tariff(12));
        let mut orders = Vec::new();
        for n in [1, 2] {
            for mut order in [
                order("me", Side::Offer, 1000, 14),
                order("you", Side::Bid, 1000, 20),
            ] {
                order.interval = Interval::new(900 * n, 900).unwrap();
                orders.push(order);
            }
        }
        let me = ParticipantId::new("me").unwrap();
        let settings = [Limits {
            max_buy: cents(28),
            min_sell: cents(14),
        }];
        let prices_at = |interval: Interval| match interval.start_s() {
            900 => (cheap, cents(3)),
            _ => (dear, cents(3)),
        };
        let got = replay(&orders, &me, &settings, Mechanism::default(), &prices_at);
        // Twice 17 ct: 9 above the first feed-in and 5 above the second.
        assert_eq!(got[0].gain.nano(), 140_000_000);
    }

    #[test]
    fn the_slider_begins_at_the_utility_s_prices_and_its_sides_never_cross() {
        let tariff = Tariff::new(cents(31), cents(8), cents(3)).unwrap();
        let all: Vec<Limits> = (0..STOPS)
            .map(|n| Limits::at(n, &tariff, cents(3)))
            .collect();
        assert_eq!(
            all[0],
            Limits {
                max_buy: cents(28),
                min_sell: cents(8)
            }
        );
        assert!(
            all.windows(2)
                .all(|w| w[1].max_buy < w[0].max_buy && w[1].min_sell > w[0].min_sell)
        );
        assert!(all.iter().all(|l| l.min_sell < l.max_buy));
        assert_eq!(Limits::at(99, &tariff, cents(3)), all[4]);
    }
}
