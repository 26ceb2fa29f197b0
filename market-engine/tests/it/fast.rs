//! The fast clearing against a plain one that sorts.

use domain::money::Price;
use domain::order::Side;
use market_engine::book::{Book, Entry};
use market_engine::clear::fast::{Margin, Records, Scratch, clear_records};
use market_engine::clear::{PricePolicy, Ties, price_and_fills, price_and_fills_of};
use proptest::prelude::*;

type Line = (bool, i64, i64);

/// First come, first served: any rule would do, as both sides of the comparison use it.
fn share(lines: &[Line], level: &[u32], amount: i64, fills: &mut [i64]) {
    let mut level = level.to_vec();
    level.sort_unstable();
    let mut left = amount;
    for place in level.iter().map(|i| usize::try_from(*i).unwrap()) {
        fills[place] = left.min(lines[place].1);
        left -= fills[place];
    }
}

fn fast(lines: &[Line], scratch: &mut Scratch) -> (Option<Margin>, Vec<i64>) {
    let mut records = Records::default();
    for (bids, energy_wh, limit) in lines {
        let side = if *bids { Side::Bid } else { Side::Offer };
        assert!(records.push(side, *energy_wh, Price::from_micro_per_kwh(*limit)));
    }
    let mut fills = vec![-1; 3];
    let margin = clear_records(&records, scratch, &mut fills, |level, amount, fills| {
        share(lines, level, amount, fills);
    });
    (margin, fills)
}

/// One side best first, by place.
fn sorted(lines: &[Line], bids: bool) -> Vec<usize> {
    let mut side: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].0 == bids).collect();
    side.sort_by_key(|i| (if bids { !lines[*i].2 } else { lines[*i].2 }, *i));
    side
}

/// Best bid with best offer as long as they cross; what is left of a level goes by place.
fn plain(lines: &[Line]) -> (Option<Margin>, Vec<i64>) {
    let (bids, offers) = (sorted(lines, true), sorted(lines, false));
    let mut fills = vec![0; lines.len()];
    let (mut b, mut o, mut welfare) = (0, 0, 0_i128);
    while b < bids.len() && o < offers.len() && lines[bids[b]].2 >= lines[offers[o]].2 {
        let (bid, offer) = (bids[b], offers[o]);
        let energy = (lines[bid].1 - fills[bid]).min(lines[offer].1 - fills[offer]);
        fills[bid] += energy;
        fills[offer] += energy;
        welfare += i128::from(energy) * (i128::from(lines[bid].2) - i128::from(lines[offer].2));
        b += usize::from(fills[bid] == lines[bid].1);
        o += usize::from(fills[offer] == lines[offer].1);
    }
    let served = |side: &[usize]| side.iter().rfind(|i| fills[**i] > 0).map(|i| lines[*i].2);
    let open = |side: &[usize]| {
        side.iter()
            .find(|i| fills[**i] < lines[**i].1)
            .map(|i| lines[*i].2)
    };
    let (Some(last_bid), Some(last_offer)) = (served(&bids), served(&offers)) else {
        return (None, fills);
    };
    let price = Price::from_micro_per_kwh;
    let low = open(&bids).map_or(last_offer, |bid| bid.max(last_offer));
    let high = open(&offers).map_or(last_bid, |offer| offer.min(last_bid));
    let short = match (
        open(&bids) == Some(last_bid),
        open(&offers) == Some(last_offer),
    ) {
        (true, _) => Some(Side::Bid),
        (_, true) => Some(Side::Offer),
        _ => None,
    };
    let margin = Margin {
        volume_wh: bids.iter().map(|i| fills[*i]).sum(),
        welfare,
        last_bid: price(last_bid),
        last_offer: price(last_offer),
        interval: (price(low), price(high)),
        short,
    };
    (Some(margin), fills)
}

/// Limits close together, far apart, equal, and with one that is far from all.
fn limit() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => -5_i64..5,
        3 => 80_000_i64..300_000,
        1 => any::<i64>(),
        1 => Just(i64::MAX),
        1 => Just(i64::MIN),
    ]
}

fn lines(limit: impl Strategy<Value = i64>, most: usize) -> impl Strategy<Value = Vec<Line>> {
    proptest::collection::vec((any::<bool>(), 0_i64..1000, limit), 0..most)
}

/// The clearing of a book that has one order of each participant is that of its records alone.
fn is_that_of_the_book(lines: &[Line], policy: PricePolicy) {
    let key = |place: u32| {
        let mut key = [7; 16];
        key[..4].copy_from_slice(&place.wrapping_mul(2_654_435_761).to_be_bytes());
        key
    };
    let (mut book, mut records) = (Book::new(b"noon"), Records::default());
    let lines = lines.iter().filter(|(_, energy_wh, _)| *energy_wh > 0);
    for (place, (bids, energy_wh, limit)) in (0_u32..).zip(lines) {
        let side = if *bids { Side::Bid } else { Side::Offer };
        let limit = Price::from_micro_per_kwh(*limit);
        assert!(records.push(side, *energy_wh, limit));
        let entry = Entry {
            side,
            energy_wh: *energy_wh,
            limit,
            participant: place,
            arrival: place,
            key: key(place),
        };
        book.push(entry).unwrap();
    }
    let mut fills = Vec::new();
    let mut scratch = Scratch::default();
    let quick = price_and_fills_of(&records, policy, b"noon", key, &mut scratch, &mut fills);
    let whole = price_and_fills(&book, policy, Ties::ProRata);
    assert_eq!(quick.map(|(price, _)| price), whole.price);
    assert_eq!(fills, whole.filled_wh);
    assert_eq!(
        quick.map_or(0, |(_, margin)| margin.welfare),
        whole.welfare_max
    );
}

proptest! {
    #[test]
    fn records_of_different_participants_clear_as_their_book(
        lines in proptest::collection::vec((any::<bool>(), 0_i64..20, 0_i64..9), 0..60),
    ) {
        is_that_of_the_book(&lines, PricePolicy::WalrasMid);
        is_that_of_the_book(&lines, PricePolicy::Marginal);
    }

    #[test]
    fn small_books_clear_as_by_sorting(lines in lines(-8_i64..8, 40)) {
        prop_assert_eq!(fast(&lines, &mut Scratch::default()), plain(&lines));
    }

    #[test]
    fn any_limits_clear_as_by_sorting(lines in lines(limit(), 400)) {
        prop_assert_eq!(fast(&lines, &mut Scratch::default()), plain(&lines));
    }

    #[test]
    fn prices_that_crowd_within_a_bucket_clear_as_by_sorting(
        mut lines in lines(1_000_000_i64..1_000_400, 2_000),
        far in any::<i64>(),
    ) {
        lines.push((true, 5, far));
        prop_assert_eq!(fast(&lines, &mut Scratch::default()), plain(&lines));
    }

    #[test]
    fn memory_that_was_used_before_changes_nothing(
        first in lines(limit(), 300),
        second in lines(limit(), 300),
    ) {
        let mut scratch = Scratch::default();
        fast(&first, &mut scratch);
        prop_assert_eq!(fast(&second, &mut scratch), plain(&second));
    }

    #[test]
    fn huge_energies_clear_as_by_sorting(
        lines in proptest::collection::vec((any::<bool>(), 0_i64..i64::MAX / 40, limit()), 0..40),
    ) {
        prop_assert_eq!(fast(&lines, &mut Scratch::default()), plain(&lines));
    }
}

#[test]
fn what_does_not_fit_is_not_taken() {
    let mut records = Records::default();
    let price = Price::from_micro_per_kwh(1);
    assert!(records.push(Side::Bid, i64::MAX, price));
    assert!(!records.push(Side::Bid, 1, price));
    assert!(!records.push(Side::Offer, -1, price));
    assert!(records.push(Side::Offer, i64::MAX, price));
    assert_eq!(records.list().len(), 2);
    assert_eq!(records.list()[1].energy_wh(), i64::MAX);
}
