//! Every small book, cleared and compared with what trying everything finds.

use domain::money::Price;
use domain::order::Side;
use market_engine::book::{Book, Entry};
use market_engine::clear::{Mechanism, Outcome, clear};

/// Calls `each` with every book of `count` orders from these energies, limits and participants.
fn every_book(
    count: u8,
    energy_max: i64,
    limit_max: i64,
    people: u32,
    mut each: impl FnMut(&Book),
) {
    let mut choices = Vec::new();
    for side in [Side::Bid, Side::Offer] {
        for energy_wh in 1..=energy_max {
            for limit in 1..=limit_max {
                let limit = Price::from_micro_per_kwh(limit);
                choices.extend((0..people).map(|person| (side, energy_wh, limit, person)));
            }
        }
    }
    let mut picks = vec![0_usize; usize::from(count)];
    loop {
        let mut book = Book::new(b"");
        for (arrival, pick) in (0_u8..).zip(&picks) {
            let (side, energy_wh, limit, participant) = choices[*pick];
            let key = [arrival; 16];
            let arrival = u32::from(arrival);
            book.push(Entry {
                side,
                energy_wh,
                limit,
                participant,
                arrival,
                key,
            })
            .unwrap();
        }
        each(&book);
        let Some(next) = picks.iter().rposition(|pick| pick + 1 < choices.len()) else {
            return;
        };
        // Never less than the pick before: books that differ in order only are one book.
        let value = picks[next] + 1;
        picks[next..].fill(value);
    }
}

/// Energy of each order without what was left out.
fn in_book(book: &Book, outcome: &Outcome) -> Vec<i64> {
    book.entries()
        .iter()
        .zip(&outcome.orders)
        .map(|(e, o)| e.energy_wh - o.left_out_wh)
        .collect()
}

/// max over p of min(D(p), S(p)), by trying every p.
fn best_volume(book: &Book, energy: &[i64]) -> i64 {
    let total = |side: Side, fits: &dyn Fn(i64) -> bool| -> i64 {
        let all = book.entries().iter().zip(energy);
        all.filter(|(e, _)| e.side == side && fits(e.limit.micro_per_kwh()))
            .map(|(_, wh)| wh)
            .sum()
    };
    let at =
        |p: i64| total(Side::Bid, &|limit| limit >= p).min(total(Side::Offer, &|limit| limit <= p));
    (0..6).map(at).max().unwrap()
}

/// The largest welfare of any assignment of bids to offers, by trying all.
fn best_welfare(book: &Book, pairs: &[(usize, usize)], energy: &mut Vec<i64>) -> i128 {
    let Some(((bid, offer), rest)) = pairs.split_first() else {
        return 0;
    };
    let limit = |i: usize| i128::from(book.entries()[i].limit.micro_per_kwh());
    (0..=energy[*bid].min(energy[*offer]))
        .map(|wh| {
            energy[*bid] -= wh;
            energy[*offer] -= wh;
            let gain = i128::from(wh) * (limit(*bid) - limit(*offer));
            let all = gain + best_welfare(book, rest, energy);
            energy[*bid] += wh;
            energy[*offer] += wh;
            all
        })
        .max()
        .unwrap()
}

/// At price p every better order is served in full and every worse one not at all.
fn is_equilibrium(book: &Book, outcome: &Outcome, energy: &[i64], p: i64) -> bool {
    book.entries()
        .iter()
        .zip(&outcome.orders)
        .zip(energy)
        .all(|((entry, order), wh)| {
            let better = match entry.side {
                Side::Bid => entry.limit.micro_per_kwh() - p,
                Side::Offer => p - entry.limit.micro_per_kwh(),
            };
            (better <= 0 || order.filled_wh == *wh) && (better >= 0 || order.filled_wh == 0)
        })
}

fn check(book: &Book) {
    let outcome = clear(book, Mechanism::default());
    let energy = in_book(book, &outcome);
    assert_eq!(outcome.volume_wh, best_volume(book, &energy), "{book:?}");
    match outcome.price_interval {
        Some((low, high)) => {
            for p in 0..6 {
                let inside = (low.micro_per_kwh()..=high.micro_per_kwh()).contains(&p);
                assert_eq!(
                    inside,
                    is_equilibrium(book, &outcome, &energy, p),
                    "{p} {book:?}"
                );
            }
        }
        None => assert_eq!(outcome.volume_wh, 0),
    }
    check_left_out(book, &outcome);
    for mechanism in crate::books::all() {
        assert!(clear(book, mechanism).welfare <= outcome.welfare_max);
    }
}

/// Whether an order reaches, among those with energy, one of its own participant or of another.
fn reaches(book: &Book, energy: &[i64], order: &Entry, own: bool) -> bool {
    book.entries().iter().zip(energy).any(|(other, wh)| {
        let crosses = match order.side {
            Side::Bid => other.limit <= order.limit,
            Side::Offer => other.limit >= order.limit,
        };
        let same = other.participant == order.participant;
        *wh > 0 && other.side != order.side && crosses && same == own
    })
}

/// Orders that reach own ones only are left out whole. Of the others, one participant's accepted
/// energy is left out on both sides alike; besides it, only what then reaches own orders only.
fn check_left_out(book: &Book, outcome: &Outcome) {
    let mut whole: Vec<i64> = book.entries().iter().map(|e| e.energy_wh).collect();
    let all = whole.clone();
    for ((entry, order), wh) in book.entries().iter().zip(&outcome.orders).zip(&mut whole) {
        if reaches(book, &all, entry, true) && !reaches(book, &all, entry, false) {
            assert_eq!(order.left_out_wh, *wh, "{book:?}");
            *wh = 0;
        }
    }
    let left = in_book(book, outcome);
    let alike = |person: u32| {
        let (mut bids, mut offers) = (0, 0);
        for (place, (entry, order)) in book.entries().iter().zip(&outcome.orders).enumerate() {
            if whole[place] == 0 || order.left_out_wh == 0 {
                continue;
            }
            if entry.participant != person {
                let none = left[place] == 0 && order.filled_wh == 0;
                if !none || reaches(book, &left, entry, false) {
                    return false;
                }
                continue;
            }
            match entry.side {
                Side::Bid => bids += order.left_out_wh,
                Side::Offer => offers += order.left_out_wh,
            }
        }
        bids == offers && outcome.volume_wh + bids == best_volume(book, &whole)
    };
    assert!((0..4).any(alike), "{book:?}");
}

#[test]
fn every_book_of_three_orders_is_cleared_at_its_best() {
    let mut books = 0;
    every_book(3, 2, 3, 3, |book| {
        check(book);
        books += 1;
    });
    assert_eq!(books, 8_436);
}

#[test]
fn every_book_of_four_orders_of_two_people_is_cleared_at_its_best() {
    every_book(4, 2, 2, 2, check);
}

#[test]
fn the_welfare_limit_is_what_trying_every_assignment_finds() {
    every_book(4, 2, 3, 1, |book| {
        let side = |side| -> Vec<usize> {
            let all = book.entries().iter().enumerate();
            all.filter(|(_, e)| e.side == side)
                .map(|(i, _)| i)
                .collect()
        };
        let (bids, offers) = (side(Side::Bid), side(Side::Offer));
        let pairs: Vec<_> = bids
            .iter()
            .flat_map(|b| offers.iter().map(|o| (*b, *o)))
            .collect();
        let mut energy: Vec<i64> = book.entries().iter().map(|e| e.energy_wh).collect();
        let best = best_welfare(book, &pairs, &mut energy);
        assert_eq!(
            clear(book, Mechanism::default()).welfare_max,
            best,
            "{book:?}"
        );
    });
}
