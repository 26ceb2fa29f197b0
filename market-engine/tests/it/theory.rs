//! What theory says of auctions, in closed form, against what the mechanisms do.

use domain::money::Price;
use domain::order::Side;
use market_engine::book::{Book, Entry};
use market_engine::clear::{Mechanism, Outcome, PricePolicy, Ties, clear};
use proptest::prelude::*;

/// One token in micro-tokens.
const ONE: i64 = 1_000_000;

/// Orders of one watt-hour, each of a participant of its own, in the order of arrival.
fn book(limits: &[(Side, i64)]) -> Book {
    let mut book = Book::new(b"noon");
    for (place, (side, limit)) in (0_u32..).zip(limits) {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&place.to_be_bytes());
        let entry = Entry {
            side: *side,
            energy_wh: 1,
            limit: Price::from_micro_per_kwh(*limit),
            participant: place,
            arrival: place,
            key,
        };
        book.push(entry).unwrap();
    }
    book
}

/// One bid and one offer at half of what lies between them.
fn bargain(bid: i64, offer: i64) -> Outcome {
    let mechanism = Mechanism::UniformPrice {
        policy: PricePolicy::PairK {
            k_millionths: 500_000,
        },
        ties: Ties::ProRata,
    };
    clear(&book(&[(Side::Bid, bid), (Side::Offer, offer)]), mechanism)
}

/// The linear equilibrium of Chatterjee and Samuelson (1983) for values and costs even over 0 to 1.
fn equilibrium_bid(value: i64) -> i64 {
    2 * value / 3 + ONE / 12
}

fn equilibrium_offer(cost: i64) -> i64 {
    2 * cost / 3 + ONE / 4
}

/// Midpoints of so many equal parts of 0 to 1.
fn types(parts: i64) -> impl Iterator<Item = i64> + Clone {
    (0..parts).map(move |n| (2 * n + 1) * ONE / (2 * parts))
}

#[test]
fn linear_bargainers_reach_nine_sixty_fourths_of_a_token() {
    let parts = 120;
    let (mut welfare, mut best) = (0, 0);
    for value in types(parts) {
        for cost in types(parts) {
            let outcome = bargain(equilibrium_bid(value), equilibrium_offer(cost));
            if let Some(price) = outcome.price.map(Price::micro_per_kwh) {
                assert!(cost <= price && price <= value, "somebody loses");
                // They trade exactly where the value exceeds the cost by a quarter.
                assert!(value - cost >= ONE / 4 - 2, "{value} {cost}");
                welfare += value - cost;
            }
            best += (value - cost).max(0);
        }
    }
    let mean = |sum: i64| sum / (parts * parts);
    assert!(
        (mean(welfare) - ONE * 9 / 64).abs() < ONE / 200,
        "{}",
        mean(welfare)
    );
    assert!((mean(best) - ONE / 6).abs() < ONE / 500, "{}", mean(best));
}

#[test]
fn no_other_bid_wins_more_against_the_linear_offer() {
    let expected = |value: i64, bid: i64| -> i64 {
        let gain = |cost: i64| {
            let price = bargain(bid, equilibrium_offer(cost)).price;
            price.map_or(0, |price| value - price.micro_per_kwh())
        };
        types(100).map(gain).sum::<i64>() / 100
    };
    for value in [ONE / 3, ONE / 2, ONE * 2 / 3, ONE * 9 / 10] {
        let honest = expected(value, equilibrium_bid(value));
        for bid in (0..=40).map(|n| n * ONE / 40) {
            // A hundredth of all costs is one step of the sum.
            let other = expected(value, bid);
            assert!(
                other <= honest + ONE / 150,
                "{value}: {bid} wins {other} > {honest}"
            );
        }
        let truth = expected(value, value);
        assert!(honest > truth, "{value}: the truth wins {truth} > {honest}");
    }
}

/// A draw that is the same everywhere.
fn draw(seed: &mut u64, end: u64) -> i64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    i64::try_from((*seed >> 33) % end).unwrap()
}

/// Traders without intelligence (Gode and Sunder 1993): each names any limit at which it does not lose. They
/// come in any order and come again until nobody is left who can trade, so that what one throw misses
/// another finds.
#[test]
fn traders_without_intelligence_find_nearly_all_there_is_to_gain() {
    let (mut gained, mut possible, mut seed) = (0_i128, 0_i128, 5);
    for _ in 0..40 {
        let people: Vec<(Side, i64)> = (0..60)
            .map(|n| {
                (
                    if n % 2 == 0 { Side::Bid } else { Side::Offer },
                    draw(&mut seed, 200),
                )
            })
            .collect();
        possible += clear(&book(&people), Mechanism::default()).welfare_max;
        let mut open: Vec<(Side, i64)> = people;
        for _ in 0..60 {
            for place in (1..open.len()).rev() {
                let other = draw(&mut seed, u64::try_from(place).unwrap() + 1);
                open.swap(place, usize::try_from(other).unwrap());
            }
            let thrown = |(side, truth): &(Side, i64), seed: &mut u64| match side {
                Side::Bid => (*side, draw(seed, u64::try_from(*truth).unwrap() + 1)),
                Side::Offer => (
                    *side,
                    truth + draw(seed, u64::try_from(200 - truth).unwrap()),
                ),
            };
            let orders: Vec<_> = open.iter().map(|p| thrown(p, &mut seed)).collect();
            let outcome = clear(&book(&orders), Mechanism::Continuous);
            let worth = |index: u32| i128::from(open[usize::try_from(index).unwrap()].1);
            gained += outcome
                .trades
                .iter()
                .map(|t| worth(t.bid) - worth(t.offer))
                .sum::<i128>();
            let left = open
                .iter()
                .zip(&outcome.orders)
                .filter(|(_, o)| o.filled_wh == 0);
            open = left.map(|(p, _)| *p).collect();
        }
    }
    let percent = gained * 100 / possible;
    assert!(
        (92..=100).contains(&percent),
        "{percent} % of the possible gain"
    );
}

proptest! {
    /// McAfee (1992): with single units at most the least of the efficient trades is lost.
    #[test]
    fn trade_reduction_loses_the_least_trade_at_most(
        limits in proptest::collection::vec((any::<bool>(), 0_i64..60), 2..40),
    ) {
        let side = |bids| if bids { Side::Bid } else { Side::Offer };
        let orders: Vec<_> = limits.iter().map(|(bids, limit)| (side(*bids), *limit)).collect();
        let book = book(&orders);
        let best = clear(&book, Mechanism::default());
        for ties in [Ties::ProRata, Ties::Time] {
            let reduced = clear(&book, Mechanism::TradeReduction { ties });
            prop_assert!(reduced.volume_wh >= best.volume_wh - 1);
            let lost = best.welfare - reduced.welfare;
            prop_assert!(lost * i128::from(best.volume_wh) <= best.welfare, "{lost} of {}", best.welfare);
        }
    }

    /// Myerson and Satterthwaite (1983) in one book: what is efficient and truthful cannot pay for itself.
    #[test]
    fn efficient_and_truthful_costs_money(value in 1_i64..1000, cost in 0_i64..1000) {
        prop_assume!(value > cost);
        let book = book(&[(Side::Bid, value), (Side::Offer, cost)]);
        let outcome = clear(&book, Mechanism::Vcg { ties: Ties::ProRata });
        prop_assert_eq!(outcome.surplus, i128::from(cost - value));
    }
}
