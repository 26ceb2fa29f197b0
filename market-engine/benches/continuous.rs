//! The continuous auction: nanoseconds for each operation, beside a plain walk over the same operations
//! and a book of ordered maps in the same run.
//!
//! `cargo bench -p market-engine --bench continuous` prints medians of several rounds, in the processor
//! time of the thread. The book has room for the session's orders and has lived through a round before, as
//! a market's that runs all day: its memory is used again, and no round waits for new pages. *New* is a new book
//! with that room each round, as a clearing makes one, for which the allocator may take the memory of the one before;
//! *growing* begins without room, as the maps do.
//!
//! *Mixed*: 70 of 100 operations add around a middle, 20 cancel any order that was added, 10 take at any
//! price. *Stream*: the market's own orders, limits even over 800 to 3000 ticks.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a bench may fail, and prints ratios"
)]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;

use domain::order::Side;
use market_engine::clear::standing::{Arrival, Place, StandingOrders};
use support::{Random, median_ns};

const OPERATIONS: u32 = 1_000_000;
const ROUNDS: usize = 9;

#[derive(Clone, Copy)]
enum Operation {
    Add(Arrival),
    /// Cancels the order that was added as the so-manyth.
    Cancel(u32),
    Take(Side, i64, u32),
}

fn side(random: &mut Random) -> Side {
    if random.below(2) == 0 {
        Side::Bid
    } else {
        Side::Offer
    }
}

/// Adds of 500 levels on either side of the middle.
fn mixed(random: &mut Random) -> Vec<Operation> {
    let mut added = 0_u32;
    let operation = |name: u32| {
        let (kind, side, energy_wh) = (random.below(10), side(random), random.between(1, 1000));
        let level = match side {
            Side::Bid => random.below(500),
            Side::Offer => 500 + random.below(500),
        };
        match kind {
            7 | 8 if added > 0 => {
                let any = random.below(u64::from(added));
                Operation::Cancel(u32::try_from(any).unwrap())
            }
            9 => Operation::Take(side, energy_wh, name),
            _ => {
                added += 1;
                Operation::Add(Arrival {
                    side,
                    level: u32::try_from(level).unwrap(),
                    energy_wh,
                    participant: name,
                    name: added - 1,
                })
            }
        }
    };
    (0..OPERATIONS).map(operation).collect()
}

fn stream(random: &mut Random) -> Vec<Operation> {
    let add = |name| {
        Operation::Add(Arrival {
            side: side(random),
            level: u32::try_from(random.below(2201)).unwrap(),
            energy_wh: random.between(1, 1000),
            participant: name,
            name,
        })
    };
    (0..OPERATIONS).map(add).collect()
}

/// Energy traded.
fn ours(
    operations: &[Operation],
    orders: &mut StandingOrders,
    places: &mut Vec<Option<Place>>,
) -> i64 {
    orders.clear();
    places.clear();
    let mut traded_wh = 0;
    for operation in operations {
        match *operation {
            Operation::Add(arrival) => {
                places.push(orders.submit(arrival, |met| traded_wh += met.energy_wh));
            }
            Operation::Cancel(which) => {
                let place = places[usize::try_from(which).unwrap()].take();
                black_box(place.is_some_and(|place| orders.cancel(place)));
            }
            Operation::Take(side, energy_wh, participant) => {
                orders.take(side, energy_wh, participant, |met| {
                    traded_wh += met.energy_wh
                });
            }
        }
    }
    traded_wh
}

/// Levels in an ordered map, each a queue; a cancelled order is struck out and passed over later.
#[derive(Default)]
struct Maps {
    sides: [BTreeMap<u32, VecDeque<u32>>; 2],
    left_wh: Vec<i64>,
    traded_wh: i64,
}

impl Maps {
    fn trade(&mut self, side: Side, level: u32, mut left_wh: i64) -> i64 {
        let other = &mut self.sides[usize::from(side == Side::Bid)];
        while left_wh > 0 {
            let best = match side {
                Side::Bid => other.first_entry().filter(|best| *best.key() <= level),
                Side::Offer => other.last_entry().filter(|best| *best.key() >= level),
            };
            let Some(mut best) = best else { break };
            let Some(name) = best.get().front().copied() else {
                best.remove();
                continue;
            };
            let standing = &mut self.left_wh[usize::try_from(name).unwrap()];
            let energy_wh = left_wh.min(*standing);
            *standing -= energy_wh;
            left_wh -= energy_wh;
            self.traded_wh += energy_wh;
            if *standing == 0 {
                best.get_mut().pop_front();
            }
        }
        left_wh
    }
}

fn maps(operations: &[Operation]) -> i64 {
    let mut maps = Maps::default();
    for operation in operations {
        match *operation {
            Operation::Add(arrival) => {
                let left_wh = maps.trade(arrival.side, arrival.level, arrival.energy_wh);
                maps.left_wh.push(left_wh);
                if left_wh > 0 {
                    let side = &mut maps.sides[usize::from(arrival.side == Side::Offer)];
                    side.entry(arrival.level)
                        .or_default()
                        .push_back(arrival.name);
                }
            }
            Operation::Cancel(which) => maps.left_wh[usize::try_from(which).unwrap()] = 0,
            Operation::Take(side, energy_wh, _) => {
                let level = if side == Side::Bid { u32::MAX } else { 0 };
                maps.trade(side, level, energy_wh);
            }
        }
    }
    maps.traded_wh
}

/// What reading the operations once costs.
fn read(operations: &[Operation]) -> i64 {
    let wh = |operation: &Operation| match operation {
        Operation::Add(arrival) => arrival.energy_wh,
        Operation::Cancel(which) => i64::from(*which),
        Operation::Take(_, energy_wh, _) => *energy_wh,
    };
    operations.iter().map(wh).sum()
}

fn report(name: &str, operations: &[Operation], levels: u32) {
    let room = operations.len();
    let (mut orders, mut places) = (StandingOrders::new(levels, room), Vec::with_capacity(room));
    assert_eq!(
        ours(operations, &mut orders, &mut places),
        maps(operations),
        "both trade the same"
    );
    let per = |ns: f64| ns / f64::from(OPERATIONS);
    let measure =
        |job: &mut dyn FnMut() -> i64| per(median_ns(ROUNDS, || (), |()| black_box(job())));
    let ours = measure(&mut || ours(black_box(operations), &mut orders, &mut places));
    let anew = |room| {
        measure(&mut || {
            let mut orders = StandingOrders::new(levels, room);
            self::ours(
                black_box(operations),
                &mut orders,
                &mut Vec::with_capacity(room),
            )
        })
    };
    let (new, growing) = (anew(room), anew(0));
    let maps = measure(&mut || maps(black_box(operations)));
    let read = measure(&mut || read(black_box(operations)));
    println!(
        "{name:>8} {ours:>10.1} {:>10.1} {new:>8.1} {growing:>8.1} {maps:>14.1} {:>13.2} {read:>10.2} {:>10.1}",
        1e3 / ours,
        growing / maps,
        ours / read
    );
}

fn main() {
    println!("The continuous auction; ns per operation, {OPERATIONS} operations.");
    println!(
        "             ours    M ops/s      new  growing   ordered maps  growing/maps       read  ours/read"
    );
    let mut random = Random(3);
    report("mixed", &mixed(&mut random), 1000);
    report("stream", &stream(&mut random), 2201);
}
