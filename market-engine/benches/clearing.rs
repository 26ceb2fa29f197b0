//! Clearing: nanoseconds for each order, beside a plain sort of the same records and one reading of
//! them in the same run.
//!
//! `cargo bench -p market-engine --bench clearing` prints medians of several rounds, in the processor
//! time of the thread: half bids, half offers, limits even over 800 to 3000 ticks, 1 to 1000 Wh.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a bench may fail, and prints ratios"
)]

mod support;

use std::hint::black_box;

use domain::money::Price;
use domain::order::Side;
use market_engine::book::{Book, Entry};
use market_engine::clear::fast::{Record, Records, Scratch, clear_records};
use market_engine::clear::{Mechanism, PricePolicy, Ties, clear, price_and_fills};
use support::{Random, median_ns};

/// Ticks between the limits of generated orders, in micro-tokens per kWh.
const COARSE: i64 = 1;
/// As fine as prices are: a tick of 100 becomes a range of 220,000 limits.
const FINE: i64 = 100;

fn entry(random: &mut Random, place: u32, tick: i64) -> Entry {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&random.next().to_be_bytes());
    key[8..12].copy_from_slice(&place.to_be_bytes());
    let within = i64::try_from(random.below(u64::try_from(tick).unwrap())).unwrap();
    Entry {
        side: if random.below(2) == 0 {
            Side::Bid
        } else {
            Side::Offer
        },
        energy_wh: random.between(1, 1000),
        limit: Price::from_micro_per_kwh(random.between(800, 3000) * tick + within),
        participant: place,
        arrival: place,
        key,
    }
}

fn records(random: &mut Random, orders: u32, tick: i64) -> Records {
    let mut records = Records::default();
    for place in 0..orders {
        let entry = entry(random, place, tick);
        assert!(records.push(entry.side, entry.energy_wh, entry.limit));
    }
    records
}

fn book(random: &mut Random, orders: u32, tick: i64) -> Book {
    let mut book = Book::new(b"noon");
    for place in 0..orders {
        book.push(entry(random, place, tick)).unwrap();
    }
    book
}

/// What reading every record once costs.
fn read(records: &[Record]) -> i64 {
    let mix = |sum: i64, r: &Record| sum.wrapping_add(r.energy_wh() ^ r.limit().micro_per_kwh());
    records.iter().fold(0, mix)
}

/// The first orders at the margin are served: what ties cost is measured with the whole clearing.
fn share_by_place(records: &Records, level: &[u32], amount: i64, fills: &mut [i64]) {
    let mut left = amount;
    for index in level {
        let place = usize::try_from(*index).unwrap();
        fills[place] = left.min(records.list()[place].energy_wh());
        left -= fills[place];
    }
}

fn uniform_price(orders: u32, tick: i64) {
    let rounds = usize::try_from(20_000_000 / orders).unwrap().clamp(5, 101);
    let again = usize::try_from(100_000 / orders).unwrap().max(1);
    let per = |ns: f64| ns / f64::from(orders) / again as f64;
    let records = &records(&mut Random(u64::from(orders)), orders, tick);
    let (mut scratch, mut fills) = (Scratch::default(), Vec::new());
    let ours = per(median_ns(
        rounds,
        || (),
        |()| {
            for _ in 0..again {
                let records = black_box(records);
                let share = |level: &[u32], amount: i64, fills: &mut [i64]| {
                    share_by_place(records, level, amount, fills);
                };
                black_box(clear_records(records, &mut scratch, &mut fills, share));
            }
        },
    ));
    let sort = per(median_ns(
        rounds,
        || vec![records.list().to_vec(); again],
        |mut copies| {
            for copy in &mut copies {
                black_box(copy).sort_unstable_by_key(|r| r.limit());
            }
            copies
        },
    ));
    let read = per(median_ns(
        rounds,
        || (),
        |()| {
            for _ in 0..again {
                black_box(read(black_box(records.list())));
            }
        },
    ));
    println!(
        "{orders:>10} {:>8} {ours:>10.2} {sort:>10.2} {read:>10.2} {:>12.2} {:>12.1}",
        2201 * tick,
        ours / sort,
        ours / read
    );
}

fn whole(orders: u32, books: usize) {
    let mut random = Random(7);
    let books: Vec<Book> = (0..books)
        .map(|_| book(&mut random, orders, FINE))
        .collect();
    let (policy, ties) = (PricePolicy::WalrasMid, Ties::ProRata);
    let fills = |book: &Book| drop(black_box(price_and_fills(black_box(book), policy, ties)));
    let full = |book: &Book| drop(black_box(clear(black_box(book), Mechanism::default())));
    let ns = [&fills as &dyn Fn(&Book), &full]
        .map(|job| median_ns(9, || (), |()| books.iter().for_each(job)));
    print!("{:>8} {orders:>9}", books.len());
    for ns in ns {
        let count = books.len() as f64;
        let (per, each) = (ns / count / f64::from(orders), count / (ns / 1e9));
        print!(" {:>10.1} {per:>9.1} {each:>10.0}", ns / 1e6);
    }
    println!();
}

fn main() {
    println!("One price and what every order gets; ns per order.");
    println!("    orders   limits       ours       sort       read    ours/sort    ours/read");
    for tick in [COARSE, FINE] {
        for orders in [20, 100, 200, 1_000, 10_000, 100_000, 1_000_000, 10_000_000] {
            if tick == COARSE || orders <= 1_000_000 {
                uniform_price(orders, tick);
            }
        }
    }
    println!(
        "\nPrice and fills, with own counterparts and ties; then the whole clearing, with trades, a"
    );
    println!(
        "reason for every order, and all promises checked: ms, ns per order, books per second."
    );
    println!("   books    orders     fills                            whole");
    for (orders, books) in [(100, 1_000), (10_000, 20), (100_000, 3), (1_000_000, 1)] {
        whole(orders, books);
    }
}
