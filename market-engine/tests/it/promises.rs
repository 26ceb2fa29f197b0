//! What is always true of a clearing, for every mechanism, on random books.

use domain::money::Price;
use domain::order::Side;
use market_engine::book::{Book, Entry};
use market_engine::clear::{Budget, Mechanism, Outcome, PricePolicy, clear, price_and_fills};
use market_engine::explain::Reason;
use proptest::prelude::*;

use crate::books::all;

type Line = (bool, i64, i64, u32);

fn lines(people: u32) -> impl Strategy<Value = Vec<Line>> {
    let line = (any::<bool>(), 1_i64..40, -3_i64..12, 0..people);
    proptest::collection::vec(line, 0..30)
}

fn entry(place: usize, (bids, energy_wh, limit, participant): Line) -> Entry {
    let place = u32::try_from(place).unwrap();
    let mut key = [0; 16];
    key[..4].copy_from_slice(&place.to_be_bytes());
    Entry {
        side: if bids { Side::Bid } else { Side::Offer },
        energy_wh,
        limit: Price::from_micro_per_kwh(limit),
        participant,
        arrival: place,
        key,
    }
}

fn book(entries: &[Entry]) -> Book {
    let mut book = Book::new(b"noon");
    entries.iter().for_each(|e| assert!(book.push(*e).is_ok()));
    book
}

fn entries(lines: &[Line]) -> Vec<Entry> {
    lines
        .iter()
        .enumerate()
        .map(|(place, line)| entry(place, *line))
        .collect()
}

type NamedFill = ([u8; 16], i64, String);

/// Trades and fills with orders named by their keys.
fn named(entries: &[Entry], outcome: &Outcome) -> (Vec<String>, Vec<NamedFill>) {
    let key = |index: u32| entries[usize::try_from(index).unwrap()].key;
    let trades = outcome.trades.iter().map(|t| {
        let (energy, paid, received) = (t.energy_wh, t.buyer_price, t.seller_price);
        format!(
            "{:?} {:?} {energy} {paid} {received}",
            key(t.bid),
            key(t.offer)
        )
    });
    let mut fills: Vec<_> = entries
        .iter()
        .zip(&outcome.orders)
        .map(|(e, o)| (e.key, o.filled_wh, o.reason.to_string()))
        .collect();
    fills.sort();
    (trades.collect(), fills)
}

fn check_sums(entries: &[Entry], outcome: &Outcome) {
    let order = |index: u32| &entries[usize::try_from(index).unwrap()];
    let (mut paid, mut received) = (0_i128, 0_i128);
    for t in &outcome.trades {
        let (bid, offer) = (order(t.bid), order(t.offer));
        assert_ne!(bid.participant, offer.participant, "traded with itself");
        assert!(
            t.buyer_price <= bid.limit && t.seller_price >= offer.limit,
            "limit broken"
        );
        paid += i128::from(t.energy_wh) * i128::from(t.buyer_price.micro_per_kwh());
        received += i128::from(t.energy_wh) * i128::from(t.seller_price.micro_per_kwh());
    }
    assert_eq!(paid - received, outcome.surplus);
    let filled = |side: Side| -> i64 {
        let all = entries.iter().zip(&outcome.orders);
        all.filter(|(e, _)| e.side == side)
            .map(|(_, o)| o.filled_wh)
            .sum()
    };
    assert_eq!(filled(Side::Bid), filled(Side::Offer));
    assert_eq!(filled(Side::Bid), outcome.volume_wh);
    let served = outcome.orders.iter().filter(|o| o.filled_wh > 0).count();
    assert!(outcome.trades.len() <= served.saturating_sub(1));
    let mut pairs: Vec<(u32, u32)> = outcome.trades.iter().map(|t| (t.bid, t.offer)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    assert_eq!(pairs.len(), outcome.trades.len(), "two orders met twice");
}

/// Whether orders that could trade may be left for the sake of the true limit being the best one.
fn gives_up_welfare(mechanism: &Mechanism) -> bool {
    mechanism.budget() == Budget::Surplus || matches!(mechanism, Mechanism::Muda { .. })
}

/// The mechanisms that tell from which limit on an order would have been filled.
fn telling() -> Vec<Mechanism> {
    let heads = ["uniform-price walras-mid", "pay-as-bid mid", "vcg -"];
    let ties = ["pro-rata", "time", "lottery"];
    let each = heads
        .iter()
        .flat_map(|head| ties.map(|ties| format!("{head} {ties}")));
    let mut all: Vec<Mechanism> = each.map(|text| crate::books::mechanism(&text)).collect();
    all.extend([1, 2].map(|seed| Mechanism::Muda { seed }));
    all.push(Mechanism::Continuous);
    all
}

/// The limit that a reason names. At one moment and one limit there always is one.
fn needed_by(reason: &Reason, mechanism: &Mechanism) -> Option<Price> {
    let by_lot = matches!(mechanism, Mechanism::Muda { .. });
    match reason {
        Reason::BeyondPrice { needed, .. } | Reason::Outbid { needed, .. } => {
            assert!(
                by_lot || needed.is_some(),
                "{mechanism:?}: no limit is told"
            );
            *needed
        }
        Reason::NoneInReach {
            needed,
            filled_wh: 0,
            ..
        } => *needed,
        _ => None,
    }
}

/// Energy that was left unserved although the orders of two different participants cross.
fn crossing_left(entries: &[Entry], outcome: &Outcome) -> bool {
    let open = |side: Side| {
        let all = entries.iter().zip(&outcome.orders);
        all.filter(move |(e, o)| e.side == side && o.filled_wh + o.left_out_wh < e.energy_wh)
    };
    open(Side::Bid).any(|(bid, _)| {
        open(Side::Offer).any(|(o, _)| o.participant != bid.participant && o.limit <= bid.limit)
    })
}

proptest! {
    #[test]
    fn energy_money_and_limits_hold(lines in lines(5)) {
        let entries = entries(&lines);
        for mechanism in all() {
            let outcome = clear(&book(&entries), mechanism);
            check_sums(&entries, &outcome);
            prop_assert!(outcome.welfare <= outcome.welfare_max);
            let gains = outcome.gains(&book(&entries));
            prop_assert!(gains.buyers >= 0 && gains.sellers >= 0, "{mechanism:?} {gains:?}");
            prop_assert_eq!(gains.community, outcome.surplus);
            prop_assert_eq!(gains.buyers + gains.sellers + gains.community, outcome.welfare);
            let best = clear(&book(&entries), Mechanism::UniformPrice {
                policy: PricePolicy::WalrasMid,
                ties: mechanism.ties(),
            });
            prop_assert_eq!(best.price_interval.is_some(), best.volume_wh > 0);
            prop_assert_eq!(outcome.price_interval, best.price_interval, "{:?}", mechanism);
            match mechanism.budget() {
                Budget::Balanced => prop_assert_eq!(outcome.surplus, 0),
                Budget::Surplus => prop_assert!(outcome.surplus >= 0),
                Budget::Deficit => {}
            }
            prop_assert!(gives_up_welfare(&mechanism) || !crossing_left(&entries, &outcome), "{mechanism:?}");
        }
    }

    #[test]
    fn price_and_fills_alone_are_those_of_the_whole_clearing(lines in lines(4)) {
        let book = book(&entries(&lines));
        for mechanism in all() {
            let Mechanism::UniformPrice { policy, ties } = mechanism else { continue };
            let (whole, quick) = (clear(&book, mechanism), price_and_fills(&book, policy, ties));
            let fills: Vec<i64> = whole.orders.iter().map(|o| o.filled_wh).collect();
            let left_out: Vec<i64> = whole.orders.iter().map(|o| o.left_out_wh).collect();
            prop_assert_eq!((quick.price, quick.price_interval), (whole.price, whole.price_interval));
            prop_assert_eq!((quick.filled_wh, quick.left_out_wh), (fills, left_out));
            prop_assert_eq!(quick.welfare_max, whole.welfare_max);
        }
    }

    #[test]
    fn two_or_three_people_on_both_sides_hold_too(lines in lines(3)) {
        let entries = entries(&lines);
        for mechanism in all() {
            check_sums(&entries, &clear(&book(&entries), mechanism));
        }
    }

    #[test]
    fn better_orders_are_served_before_worse_ones(lines in lines(8)) {
        let entries = entries(&lines);
        for mechanism in all().into_iter().filter(|m| m.keeps_merit_order()) {
            let outcome = clear(&book(&entries), mechanism);
            let all = || entries.iter().zip(&outcome.orders);
            for (served, _) in all().filter(|(_, o)| o.filled_wh > 0) {
                for (other, o) in all().filter(|(e, _)| e.side == served.side) {
                    let better = match served.side {
                        Side::Bid => other.limit > served.limit,
                        Side::Offer => other.limit < served.limit,
                    };
                    let whole = o.filled_wh + o.left_out_wh == other.energy_wh;
                    prop_assert!(!better || whole, "{mechanism:?} {entries:?}");
                }
            }
        }
    }

    #[test]
    fn the_same_book_gives_the_same_result_whatever_arrived_first(
        lines in lines(5),
        turn in 0_usize..30,
    ) {
        let before = entries(&lines);
        let mut after = before.clone();
        after.rotate_left(turn.min(before.len()));
        after.reverse();
        for (place, entry) in after.iter_mut().enumerate() {
            entry.arrival = u32::try_from(place).unwrap();
            entry.participant = 7 - entry.participant;
        }
        for mechanism in all() {
            let first = clear(&book(&before), mechanism);
            prop_assert_eq!(&first, &clear(&book(&before), mechanism));
            if !mechanism.depends_on_arrival() {
                let second = clear(&book(&after), mechanism);
                prop_assert_eq!(named(&before, &first), named(&after, &second));
                prop_assert_eq!(first.price, second.price);
            }
        }
    }

    #[test]
    fn the_limit_that_an_explanation_names_is_the_one(lines in lines(1)) {
        let mut entries = entries(&lines);
        (0_u32..).zip(&mut entries).for_each(|(person, entry)| entry.participant = person);
        for mechanism in telling() {
            let outcome = clear(&book(&entries), mechanism);
            for (place, order) in outcome.orders.iter().enumerate() {
                let Some(needed) = needed_by(&order.reason, &mechanism) else { continue };
                let needed = needed.micro_per_kwh();
                let filled_at = |limit: i64| {
                    let mut changed = entries.clone();
                    changed[place].limit = Price::from_micro_per_kwh(limit);
                    clear(&book(&changed), mechanism).orders[place].filled_wh
                };
                prop_assert!(filled_at(needed) > 0, "{mechanism:?} {place} {entries:?}");
                let worse = if entries[place].side == Side::Bid { -2 } else { 2 };
                prop_assert_eq!(filled_at(needed + worse), 0, "{:?} {:?}", mechanism, entries);
            }
        }
    }

    #[test]
    fn an_order_that_can_only_meet_its_own_participant_changes_nothing(
        lines in lines(3),
        (bids, energy_wh, limit) in (any::<bool>(), 1_i64..40, -3_i64..12),
    ) {
        let mut before = entries(&lines);
        let new = entry(before.len(), (bids, energy_wh, limit, 0));
        let crosses = |e: &Entry| match new.side {
            Side::Bid => e.side == Side::Offer && e.limit <= new.limit,
            Side::Offer => e.side == Side::Bid && e.limit >= new.limit,
        };
        before.iter_mut().filter(|e| crosses(e)).for_each(|e| e.participant = 0);
        prop_assume!(before.iter().any(crosses));
        let mut after = before.clone();
        after.push(new);
        for mechanism in all().into_iter().filter(|m| !gives_up_welfare(m)) {
            let (first, second) = (clear(&book(&before), mechanism), clear(&book(&after), mechanism));
            prop_assert_eq!(first.trades, second.trades);
            prop_assert_eq!(first.price, second.price);
            prop_assert_eq!(first.price_interval, second.price_interval);
        }
    }

    #[test]
    fn energy_left_out_counts_as_never_ordered(lines in lines(3)) {
        let before = entries(&lines);
        for policy in ["walras-mid", "marginal", "pair-k"] {
            let mechanism = crate::books::mechanism(&format!("- {policy}"));
            let first = clear(&book(&before), mechanism);
            let mut after = before.clone();
            after.iter_mut().zip(&first.orders).for_each(|(e, o)| e.energy_wh -= o.left_out_wh);
            after.retain(|e| e.energy_wh > 0);
            let second = clear(&book(&after), mechanism);
            prop_assert_eq!(first.volume_wh, second.volume_wh);
            prop_assert_eq!(first.price, second.price);
            prop_assert_eq!(first.price_interval, second.price_interval);
        }
    }
}
