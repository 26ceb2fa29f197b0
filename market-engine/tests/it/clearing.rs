//! Clearings worked out by hand.

use market_engine::clear::Mechanism;

use crate::books::{check, check_reason};

/// Two bids and two offers that fill both sides exactly, with a rejected order on each side.
const EVEN: &str = "b1 a 10 40; b2 b 10 30; b3 c 10 12; o1 d 10 10; o2 e 10 20; o3 f 10 28";
/// Five orders; the second bid is served in part.
const BID_SHORT: &str = "b1 a 10 40; b2 b 10 30; o1 c 15 10; o2 d 5 35; b3 e 5 5";
/// Five orders; the second offer is served in part.
const OFFER_SHORT: &str = "b1 a 15 40; b2 b 5 15; o1 c 10 10; o2 d 10 20; o3 e 5 45";

#[test]
fn uniform_price_by_each_policy() {
    check(
        "- walras-mid",
        EVEN,
        "24 of 20..28, 20 Wh; b1 o1 10 @24; b2 o2 10 @24",
    );
    check(
        "- marginal",
        EVEN,
        "24 of 20..28, 20 Wh; b1 o1 10 @24; b2 o2 10 @24",
    );
    check(
        "- pair-k",
        EVEN,
        "25 of 20..28, 20 Wh; b1 o1 10 @25; b2 o2 10 @25",
    );
    check(
        "- pair-k - 0",
        EVEN,
        "20 of 20..28, 20 Wh; b1 o1 10 @20; b2 o2 10 @20",
    );
    check(
        "- pair-k - 1",
        EVEN,
        "30 of 20..28, 20 Wh; b1 o1 10 @30; b2 o2 10 @30",
    );
    check(
        "- pair-k - 0.25",
        EVEN,
        "22 of 20..28, 20 Wh; b1 o1 10 @22; b2 o2 10 @22",
    );
    // A bid in part sets the price, wherever the offers are.
    check(
        "-",
        BID_SHORT,
        "30 of 30..30, 15 Wh; b1 o1 10 @30; b2 o1 5 @30",
    );
    check(
        "- marginal",
        BID_SHORT,
        "30 of 30..30, 15 Wh; b1 o1 10 @30; b2 o1 5 @30",
    );
    check(
        "- pair-k",
        BID_SHORT,
        "20 of 30..30, 15 Wh; b1 o1 10 @20; b2 o1 5 @20",
    );
    check(
        "-",
        OFFER_SHORT,
        "20 of 20..20, 15 Wh; b1 o1 10 @20; b1 o2 5 @20",
    );
    check(
        "- marginal",
        OFFER_SHORT,
        "20 of 20..20, 15 Wh; b1 o1 10 @20; b1 o2 5 @20",
    );
}

#[test]
fn the_middle_is_floored_also_below_zero() {
    check("-", "b1 a 5 10; o1 b 5 5", "7 of 5..10, 5 Wh; b1 o1 5 @7");
    check(
        "-",
        "b1 a 5 -5; o1 b 5 -10",
        "-8 of -10..-5, 5 Wh; b1 o1 5 @-8",
    );
    check(
        "- pair-k",
        "b1 a 5 -5; o1 b 5 -10",
        "-8 of -10..-5, 5 Wh; b1 o1 5 @-8",
    );
}

#[test]
fn books_in_which_nothing_trades() {
    check("-", "", "no price, 0 Wh");
    check("-", "b1 a 10 30", "no price, 0 Wh");
    check("-", "o1 a 10 30; o2 b 10 20", "no price, 0 Wh");
    check("-", "b1 a 10 19; o1 b 10 20", "no price, 0 Wh");
    check(
        "trade-reduction",
        "b1 a 10 19; o1 b 10 20",
        "no price, 0 Wh",
    );
    check("continuous", "b1 a 10 19; o1 b 10 20", "no price, 0 Wh");
}

#[test]
fn equal_prices_trade() {
    check(
        "-",
        "b1 a 10 20; o1 b 10 20",
        "20 of 20..20, 10 Wh; b1 o1 10 @20",
    );
    check(
        "continuous",
        "b1 a 10 20; o1 b 10 20",
        "no price, 10 Wh; b1 o1 10 @20",
    );
}

#[test]
fn the_margin_is_shared_by_each_rule() {
    // 10 Wh for wishes of 9, 6 and 3: 5, 3 and 2 by largest remainder (5.0, 3.33, 1.67).
    let book = "b1 a 9 30; b2 b 6 30; b3 c 3 30; o1 d 10 10";
    let orders = crate::books::orders(book);
    let fills = |words: &str| -> Vec<i64> {
        let outcome = market_engine::clear::clear(&orders.book, crate::books::mechanism(words));
        outcome.orders.iter().take(3).map(|o| o.filled_wh).collect()
    };
    assert_eq!(fills("-"), [5, 3, 2]);
    assert_eq!(fills("- - time"), [9, 1, 0]);
    let drawn = fills("- - lottery");
    assert_eq!(drawn.iter().sum::<i64>(), 10);
    assert_eq!(drawn, fills("- - lottery"));
    check_reason(
        "- - time",
        book,
        "b3",
        "not filled: other orders at the same limit used up what was left",
    );
    check_reason(
        "-",
        book,
        "b2",
        "filled in part, 3 of 6 Wh (50.0 %): orders at its limit shared what was left",
    );
}

#[test]
fn pay_as_bid_pairs_best_with_best() {
    check(
        "pay-as-bid bid",
        EVEN,
        "no price, 20 Wh; b1 o1 10 @40; b2 o2 10 @30",
    );
    check(
        "pay-as-bid offer",
        EVEN,
        "no price, 20 Wh; b1 o1 10 @10; b2 o2 10 @20",
    );
    check(
        "pay-as-bid",
        EVEN,
        "no price, 20 Wh; b1 o1 10 @25; b2 o2 10 @25",
    );
}

#[test]
fn trade_reduction_keeps_the_pair_if_the_next_pair_gives_a_price() {
    // (12 + 28) / 2 = 20 lies in [20, 30].
    check(
        "trade-reduction",
        EVEN,
        "20 of 20..28, 20 Wh; b1 o1 10 @20; b2 o2 10 @20",
    );
    // (12 + 40) / 2 = 26 lies outside [20, 22]: the pair drops out.
    let book = "b1 a 10 40; b2 b 10 22; b3 c 10 12; o1 d 10 10; o2 e 10 20; o3 f 10 40";
    check(
        "trade-reduction",
        book,
        "no price, 10 Wh, surplus 20; b1 o1 10 @22/20",
    );
    check_reason(
        "trade-reduction",
        book,
        "b2",
        "not filled: it set the price and so dropped out of the trade",
    );
    // Nobody comes after the last pair: it drops out, even if it is the only one.
    check(
        "trade-reduction",
        "b1 a 10 40; o1 b 10 10",
        "no price, 0 Wh",
    );
    // The longer side is cut from its worst end.
    let book = "b1 a 10 40; b2 b 20 30; b3 c 10 22; o1 d 10 10; o2 e 30 20";
    check(
        "trade-reduction",
        book,
        "no price, 10 Wh, surplus 20; b1 o1 10 @22/20",
    );
    check_reason(
        "trade-reduction",
        book,
        "b2",
        "not filled: the other side was shortened by the pair that dropped out",
    );
}

#[test]
fn continuous_trades_at_the_price_that_stood() {
    let book = "o1 a 10 20; o2 b 10 15; b1 c 15 30; b2 d 10 20; o3 e 5 10";
    let expect = "no price, 25 Wh; b1 o2 10 @15; b1 o1 5 @20; b2 o1 5 @20; b2 o3 5 @20";
    check("continuous", book, expect);
    // The earlier of two equal prices comes first.
    let book = "b1 a 5 20; b2 b 5 20; o1 c 5 10";
    check("continuous", book, "no price, 5 Wh; b1 o1 5 @20");
    check_reason(
        "continuous",
        book,
        "b2",
        "not filled: no offer of somebody else at or below its limit was left; \
         at 0.000021 or more it would have been, at least in part",
    );
    // What came later would have met it, at its own limit or beyond what took it all.
    let book = "b1 a 5 10; o1 b 5 30; b2 c 5 30; o2 d 5 20";
    check("continuous", book, "no price, 5 Wh; b2 o1 5 @30");
    check_reason(
        "continuous",
        book,
        "b1",
        "not filled: no offer of somebody else at or below its limit; the best left was 0.000020; \
         at 0.000020 or more it would have been, at least in part",
    );
}

#[test]
fn every_mechanism_measures_the_same_book() {
    let orders = crate::books::orders(EVEN);
    for mechanism in crate::books::all() {
        let outcome = market_engine::clear::clear(&orders.book, mechanism);
        let (low, high) = outcome.price_interval.unwrap();
        assert_eq!([low.micro_per_kwh(), high.micro_per_kwh()], [20, 28]);
        assert_eq!(outcome.welfare_max, 400, "{mechanism:?}");
    }
    let gains = |words| {
        let mechanism = crate::books::mechanism(words);
        market_engine::clear::clear(&orders.book, mechanism).gains(&orders.book)
    };
    let split = |words| {
        let g = gains(words);
        [g.buyers, g.sellers, g.community]
    };
    assert_eq!(split("-"), [220, 180, 0]);
    assert_eq!(split("pay-as-bid bid"), [0, 400, 0]);
    assert_eq!(split("pay-as-bid offer"), [400, 0, 0]);
    assert_eq!(split("huang"), [100, 100, 100]);
}

#[test]
fn equal_orders_of_one_participant_are_orders_of_their_own() {
    // Four alike want 40 Wh and get all of 30 Wh, none is lost as a double.
    let book = "b1 ann 10 30; b2 ann 10 30; b3 ann 10 30; b4 ann 10 30; o1 bob 30 10";
    let orders = crate::books::orders(book);
    for mechanism in crate::books::all() {
        let outcome = market_engine::clear::clear(&orders.book, mechanism);
        let fills = outcome.orders.iter().take(4).map(|o| o.filled_wh);
        assert!(fills.clone().all(|wh| wh <= 10), "{mechanism:?}");
        if mechanism.budget() == market_engine::clear::Budget::Balanced
            && !matches!(mechanism, Mechanism::Muda { .. })
        {
            assert_eq!(fills.sum::<i64>(), 30, "{mechanism:?}");
        }
    }
    let shares = "30 of 30..30, 30 Wh";
    let orders = crate::books::orders(book);
    let outcome = market_engine::clear::clear(&orders.book, crate::books::mechanism("-"));
    assert!(crate::books::result(&orders, &outcome).starts_with(shares));
    let mut fills: Vec<i64> = outcome.orders.iter().take(4).map(|o| o.filled_wh).collect();
    fills.sort_unstable();
    assert_eq!(fills, [7, 7, 8, 8]);
}

#[test]
fn one_sided_books_trade_nothing_anywhere() {
    for book in ["", "b1 a 10 30; b2 b 5 20", "o1 a 10 30; o2 b 5 20"] {
        let orders = crate::books::orders(book);
        for mechanism in crate::books::all() {
            let outcome = market_engine::clear::clear(&orders.book, mechanism);
            assert_eq!((outcome.volume_wh, outcome.welfare_max), (0, 0));
            assert_eq!((outcome.price, outcome.price_interval), (None, None));
        }
    }
}

#[test]
fn nobody_trades_with_itself_if_others_can_take_its_place() {
    // Ann buys from Bob and sells to Cem, though her own orders are best with best.
    let book = "b1 ann 10 40; b2 cem 10 30; o1 ann 10 10; o2 bob 10 20";
    check("-", book, "25 of 20..30, 20 Wh; b1 o2 10 @25; b2 o1 10 @25");
    // At the margin she leaves to Cem what she could only have bought from herself.
    let book = "b1 ann 10 30; b2 cem 10 30; o1 ann 10 10; o2 dan 1 30";
    let expect = "30 of 30..30, 11 Wh; b1 o2 1 @30; b2 o1 10 @30";
    check("- - time", book, expect);
    let orders = crate::books::orders(book);
    let outcome = market_engine::clear::clear(&orders.book, crate::books::mechanism("-"));
    let fills: Vec<i64> = outcome.orders.iter().map(|o| o.filled_wh).collect();
    assert_eq!(fills, [1, 10, 10, 1]);
}

#[test]
fn what_only_stands_against_own_orders_is_left_out() {
    let book = "b1 ann 10 30; o1 ann 10 10";
    check("-", book, "no price, 0 Wh");
    check_reason(
        "-",
        book,
        "b1",
        "not filled: 10 Wh stood only against the participant's own orders",
    );
    // 5 Wh from Bob remain; the price is that of the book without the own energy.
    let book = "b1 ann 20 30; o1 ann 10 10; o2 bob 5 12";
    check("-", book, "30 of 30..30, 5 Wh; b1 o2 5 @30");
    check_reason(
        "-",
        book,
        "b1",
        "filled in part, 5 of 20 Wh (25.0 %): the last order served; only 5 Wh were left",
    );
    check_reason(
        "-",
        book,
        "o1",
        "not filled: 10 Wh stood only against the participant's own orders",
    );
    // Ann's 40 Wh against herself, however priced, leave the price where it is without them.
    let book = "b1 ann 50 99; o1 ann 50 1; b2 bob 10 30; o2 cem 10 20";
    check("-", book, "25 of 20..30, 20 Wh; b1 o2 10 @25; b2 o1 10 @25");
    check(
        "-",
        "b2 bob 10 30; o2 cem 10 20",
        "25 of 20..30, 10 Wh; b2 o2 10 @25",
    );
    // In time order, own orders are passed over.
    let book = "o1 ann 10 10; o2 bob 10 20; b1 ann 10 30";
    check("continuous", book, "no price, 10 Wh; b1 o2 10 @20");
}

#[test]
fn an_order_that_reaches_only_own_orders_moves_no_price() {
    let book = "o1 ann 100 100; b1 bob 100 300";
    let trade = "100 Wh; b1 o1 100";
    check("-", book, &format!("200 of 100..300, {trade} @200"));
    for own in [
        "b2 ann 1 290",
        "b2 ann 1 350",
        "b2 ann 1 50",
        "o2 bob 9 110",
    ] {
        let book = format!("{book}; {own}");
        check("-", &book, &format!("200 of 100..300, {trade} @200"));
        check(
            "- marginal",
            &book,
            &format!("200 of 100..300, {trade} @200"),
        );
        check_reason(
            "-",
            &book,
            &own[..2],
            "not filled: nobody else on the other side",
        );
    }
    // Nor does it make the price of a trade reduction, in which the next pair would.
    let book = "b1 bob 10 40; b2 cem 10 30; o1 ann 20 10; o3 dan 10 50";
    let expect = "no price, 0 Wh";
    check("trade-reduction", book, expect);
    check("trade-reduction", &format!("{book}; b3 ann 1 29"), expect);
    // Bob's bid reaches only his own offer, as Ann keeps her cheap offer for herself.
    let book = "o1 ann 10 10; b1 ann 20 30; o2 bob 10 12; b2 bob 5 20";
    check("-", book, "21 of 12..30, 10 Wh; b1 o2 10 @21");
    let none_left = "not filled: no offer of somebody else at or below its limit was left";
    check_reason("-", book, "b2", none_left);
}

#[test]
fn reasons_are_true_of_their_books() {
    // All drop out with the pair.
    let book = "b1 a 10 40; b2 b 10 30; o1 c 10 10";
    let dropped = "not filled: nothing traded, all dropped out with the price-setting pair";
    check_reason("trade-reduction", book, "b2", dropped);
    // Own orders that do not cross are no reason, and no more than they hold stood against them.
    let nobody = "not filled: nobody else on the other side";
    for words in ["-", "continuous"] {
        check_reason(words, "b1 ann 10 10; o1 ann 10 30", "b1", nobody);
        let own = "not filled: 4 Wh stood only against the participant's own orders";
        check_reason(words, "b1 ann 10 30; o1 ann 4 10; o2 ann 9 31", "b1", own);
    }
    // A margin of one, or one that is not shared.
    let last = "filled in part, 4 of 10 Wh (40.0 %): the last order served; only 4 Wh were left";
    check_reason("-", "b1 a 10 30; o1 b 4 10", "b1", last);
    check_reason("- - time", "b1 a 10 30; b2 c 10 30; o1 b 4 10", "b1", last);
    // The last accepted limit itself gives a share, but not if lots or time decide, or of 1 Wh.
    let told = |words: &str, wh: i64, expect: &str| {
        let book = format!("o1 s 50 300; b1 b 100 900; b2 c {wh} 400");
        let reason = format!("not filled: limit below the price 0.000900{expect}");
        check_reason(words, &book, "b2", &reason);
    };
    told(
        "-",
        50,
        "; at 0.000900 or more it would have been, at least in part",
    );
    told(
        "-",
        1,
        "; at 0.000901 or more it would have been, at least in part",
    );
    told(
        "- - time",
        50,
        "; at 0.000901 or more it would have been, at least in part",
    );
    let shares = "filled in part, 17 of 50 Wh (34.0 %): orders at its limit shared what was left";
    check_reason("-", "o1 s 50 300; b1 b 100 900; b2 c 50 900", "b2", shares);
    // Nothing is told to a participant on both sides.
    let book = "o1 s 50 300; b1 b 100 900; b2 c 50 400; o2 c 1 950";
    check_reason(
        "-",
        book,
        "b2",
        "not filled: limit below the price 0.000900",
    );
}

#[test]
fn energy_and_prices_may_be_huge() {
    let max = i64::MAX;
    let book = format!("b1 a {max} {max}; o1 b {max} {}", i64::MIN);
    let expect = format!("-1 of {}..{max}, {max} Wh; b1 o1 {max} @-1", i64::MIN);
    check("-", &book, &expect);
    let orders = crate::books::orders(&book);
    let outcome = market_engine::clear::clear(&orders.book, crate::books::mechanism("-"));
    assert_eq!(outcome.welfare, i128::from(max) * i128::from(u64::MAX));
    // Both sides are full to the last watt-hour, and every limit is at an end of its range.
    let (half, rest) = (max / 2, max - max / 2);
    let book = format!(
        "b1 a {half} {max}; b2 b {rest} {}; o1 c {half} {}; o2 d {rest} {max}",
        i64::MIN,
        i64::MIN,
    );
    let orders = crate::books::orders(&book);
    for mechanism in crate::books::all() {
        let outcome = market_engine::clear::clear(&orders.book, mechanism);
        assert!(
            outcome.volume_wh <= half && outcome.welfare_max > 0,
            "{mechanism:?}"
        );
    }
}

#[test]
fn each_order_is_told_why_and_from_which_limit() {
    check_reason("-", EVEN, "b1", "filled");
    let reason = "not filled: limit below the price 0.000024; at 0.000028 or more it would have been, at least in part";
    check_reason("-", EVEN, "b3", reason);
    let reason = "not filled: limit above the price 0.000024; at 0.000020 or less it would have been, at least in part";
    check_reason("-", EVEN, "o3", reason);
    // The one price allows this bid, but the energy went to a better one.
    let book = "b1 a 10 40; b2 b 10 30; o1 c 10 10";
    let reason = "not filled: better bids took all there was; at 0.000040 or more it would have been, at least in part";
    check_reason("- pair-k - 0", book, "b2", reason);
    check_reason("pay-as-bid", book, "b2", reason);
    check_reason(
        "-",
        "b1 a 10 40",
        "b1",
        "not filled: nobody on the other side",
    );
    let reason =
        "not filled: no offer of somebody else at or below its limit; the best left was 0.000050";
    check_reason("-", "b1 a 10 40; o1 b 1 60; o2 b 1 50", "b1", reason);
}

#[test]
fn a_large_book_of_two_sided_participants_clears() {
    let line = |n: u64| {
        let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let side = if mixed.is_multiple_of(2) { 'b' } else { 'o' };
        format!(
            "{side}{n} p{} {} {}; ",
            mixed % 97,
            mixed % 1000 + 1,
            mixed / 1000 % 2200
        )
    };
    let orders = crate::books::orders(&(0..20_000).map(line).collect::<String>());
    let fits = |m: &Mechanism| m.orders_max() >= 20_000;
    for mechanism in crate::books::all().into_iter().filter(fits) {
        let outcome = market_engine::clear::clear(&orders.book, mechanism);
        assert!(outcome.volume_wh > 0);
    }
}
