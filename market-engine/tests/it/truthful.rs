//! Mechanisms under which the true limit is the best one: worked cases, and no gain from any other limit.

use domain::money::Price;
use domain::order::Side;
use market_engine::book::{Book, Entry};
use market_engine::clear::{Mechanism, Outcome, Ties, clear};
use market_engine::compare::compare;
use proptest::prelude::*;

use crate::books::{check, check_reason, orders};

#[test]
fn vcg_pays_everybody_what_its_presence_is_worth() {
    // Welfare 12. Without ann 6, so she saves 12 − 6 = 6 of her 10; without cid 6, so cid gains 6.
    check(
        "vcg",
        "b1 ann 1 10; b2 bob 1 8; o1 cid 1 2; o2 dan 1 4",
        "no price, 2 Wh, surplus -8; b1 o1 1 @4/8; b2 o2 1 @4/8",
    );
    // Nobody stands behind the pair: the buyer pays what the seller asks, the seller gets what the buyer bids.
    check(
        "vcg",
        "b1 ann 5 9; o1 bob 5 3",
        "no price, 5 Wh, surplus -30; b1 o1 5 @3/9",
    );
}

#[test]
fn huang_drops_the_pair_and_cuts_the_longer_side_by_equal_amounts() {
    check(
        "huang",
        "b1 a 10 30; b2 b 10 28; b3 c 10 25; o1 x 12 10; o2 y 14 15; o3 z 10 20",
        "no price, 20 Wh, surplus 100; b1 o1 9 @25/20; b1 o2 1 @25/20; b2 o2 10 @25/20",
    );
    // An order smaller than its cut goes whole, and the other bears the rest.
    let small = "b1 a 10 30; b2 c 10 25; o1 x 1 10; o2 y 14 15; o3 z 10 20";
    check(
        "huang",
        small,
        "no price, 10 Wh, surplus 50; b1 o2 10 @25/20",
    );
    let cut = "not filled: the other side was shortened by the pair that dropped out";
    check_reason("huang", small, "o1", cut);
    let dropped = "not filled: it set the price and so dropped out of the trade";
    check_reason("huang", small, "b2", dropped);
    // The crossing price on both sides is no reason for no trade.
    check(
        "huang",
        "b1 a 10 30; b2 b 10 20; o1 x 10 10; o2 y 10 20",
        "no price, 10 Wh; b1 o1 10 @20",
    );
}

fn book(lines: &[(bool, i64, i64)]) -> Book {
    let mut book = Book::new(b"noon");
    for (place, (bids, energy_wh, limit)) in (0_u32..).zip(lines) {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&place.to_be_bytes());
        let entry = Entry {
            side: if *bids { Side::Bid } else { Side::Offer },
            energy_wh: *energy_wh,
            limit: Price::from_micro_per_kwh(*limit),
            participant: place,
            arrival: place,
            key,
        };
        book.push(entry).unwrap();
    }
    book
}

fn order_of(book: &Book, place: u32) -> &Entry {
    &book.entries()[usize::try_from(place).unwrap()]
}

/// What order `place` gains by its limit in `truth`.
fn gain(truth: &Book, outcome: &Outcome, place: u32) -> i128 {
    let limit = order_of(truth, place).limit.micro_per_kwh();
    let of = |t: &market_engine::clear::Match| {
        let per_kwh = match order_of(truth, place).side {
            Side::Bid if t.bid == place => limit - t.buyer_price.micro_per_kwh(),
            Side::Offer if t.offer == place => t.seller_price.micro_per_kwh() - limit,
            _ => 0,
        };
        i128::from(t.energy_wh) * i128::from(per_kwh)
    };
    outcome.trades.iter().map(of).sum()
}

proptest! {
    #[test]
    fn no_other_limit_wins_anything(
        lines in proptest::collection::vec((any::<bool>(), 1_i64..30, 0_i64..15), 2..14),
        place in 0_usize..14,
        lie in -1_i64..17,
    ) {
        let place = u32::try_from(place % lines.len()).unwrap();
        let truth = book(&lines);
        let lied = truth.with_limits(|e| {
            if e.participant == place { Price::from_micro_per_kwh(lie) } else { e.limit }
        });
        let ties = Ties::ProRata;
        for mechanism in [Mechanism::Huang { ties }, Mechanism::Muda { seed: 4 }, Mechanism::Vcg { ties }] {
            let honest = gain(&truth, &clear(&truth, mechanism), place);
            let other = gain(&truth, &clear(&lied, mechanism), place);
            // VCG's discount is floored per watt-hour: less than a tick of each is rounding.
            let rounding = match mechanism {
                Mechanism::Vcg { .. } => i128::from(order_of(&truth, place).energy_wh),
                _ => 0,
            };
            prop_assert!(other <= honest + rounding, "{:?}: {} > {}", mechanism, other, honest);
        }
    }

    #[test]
    fn vcg_serves_as_one_price_would(lines in proptest::collection::vec((any::<bool>(), 1_i64..30, 0_i64..15), 0..14)) {
        let book = book(&lines);
        let (vcg, one) = (clear(&book, Mechanism::Vcg { ties: Ties::ProRata }), clear(&book, Mechanism::default()));
        prop_assert_eq!(vcg.welfare, one.welfare);
        prop_assert!(vcg.surplus <= 0, "a reference that keeps money");
        for (a, b) in vcg.orders.iter().zip(&one.orders) {
            prop_assert_eq!(a.filled_wh, b.filled_wh);
        }
    }
}

#[test]
fn muda_trades_each_half_at_the_others_price_and_by_recorded_lots() {
    let lines: Vec<(bool, i64, i64)> = (0..40)
        .map(|n| (n % 2 == 0, 10 + n, 20 + (n * 7) % 13))
        .collect();
    let book = book(&lines);
    let cleared = |seed| clear(&book, Mechanism::Muda { seed });
    assert_eq!(cleared(1), cleared(1));
    let volumes: std::collections::BTreeSet<i64> =
        (0..20).map(|seed| cleared(seed).volume_wh).collect();
    assert!(volumes.len() > 3, "the lots do not matter: {volumes:?}");
    let prices: std::collections::BTreeSet<Price> =
        cleared(1).trades.iter().map(|t| t.buyer_price).collect();
    assert!(
        !prices.is_empty() && prices.len() <= 2,
        "a half has one price: {prices:?}"
    );
    // Alone in its half, nobody meets anybody.
    let lonely = orders("b1 ann 5 9; o1 bob 5 3");
    for seed in 0..8 {
        assert_eq!(clear(&lonely.book, Mechanism::Muda { seed }).volume_wh, 0);
    }
}

#[test]
fn the_comparison_finds_the_gain_where_there_is_one() {
    let orders = orders("b1 a 10 30; b2 b 10 28; b3 c 10 25; o1 x 12 10; o2 y 14 15; o3 z 10 20");
    let price = Price::from_micro_per_kwh;
    let comparison = compare(&orders.book, 1, Some((price(40), price(5)))).unwrap();
    for row in &comparison.rows {
        let name = row.mechanism.name();
        assert_eq!(
            row.buyers + row.sellers + row.community,
            row.welfare,
            "{name}"
        );
        let lie = row.misreport.unwrap();
        assert_eq!(lie.sampled, 6);
        match name {
            // A watt-hour's tick is VCG's rounding.
            "huang" | "muda" | "vcg" => assert!(lie.best <= 30, "{name} {lie:?}"),
            "uniform-price" | "pay-as-bid" => assert!(lie.best > 0, "{name} {lie:?}"),
            _ => {}
        }
    }
    assert_eq!(comparison.sharing.len(), 3);
    let table = comparison.to_table();
    assert!(
        table.starts_with("mechanism") && table.contains("supply-demand-ratio utility-tariff"),
        "{table}"
    );
    let csv = comparison.to_csv().unwrap();
    assert_eq!(csv.lines().count(), 1 + 11 + 3);
}
