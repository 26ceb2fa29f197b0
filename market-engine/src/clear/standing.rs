//! Standing orders by price and time: a log of all orders as they came, an array of price levels, each a
//! queue linked through the log, and a map of the levels that hold any.
//!
//! An order is written to the end of the log and touches nothing else but the last one of its level.
//! Whether it still stands is one bit in a list that fits the processor's cache: cancelling sets the bit
//! and touches no queue. What is gone is left out when a walk comes to it, and leaves the log when that is
//! full and half of it is gone. So adding, cancelling and trading cost the same however many orders stand. What cannot be
//! foretold, as whether a level is empty, is written without branches. Levels are numbered from the lowest
//! price; what a level's price is, is the caller's matter. An arriving order passes over standing orders
//! of its own participant, over [`PASSED_MAX`] of them at most: then it goes no further.

use std::num::NonZeroU32;

use domain::order::Side;

use crate::book::slot;

/// Most levels of a book: with prices to the micro-token, 4.19 token/kWh from the floor to the cap. What
/// is beyond does not exist.
pub const LEVELS_MAX: u32 = 1 << 22;
/// Most standing orders of its own participant that an arriving order passes over.
pub const PASSED_MAX: u32 = 1024;

/// Room is made for so many orders at least.
const ROOM_MIN: usize = 64;

/// No level.
const NONE: u32 = u32::MAX;

/// An order as it comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Buys or sells.
    pub side: Side,
    /// Level of its limit.
    pub level: u32,
    /// Energy in watt-hours.
    pub energy_wh: i64,
    /// Whose it is.
    pub participant: u32,
    /// The caller's name for it.
    pub name: u32,
}

/// What an arriving order met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Met {
    /// Name of the standing order.
    pub name: u32,
    /// Level of the standing order, which sets the price.
    pub level: u32,
    /// Energy between them.
    pub energy_wh: i64,
}

/// Where an order stands, to cancel it by. It is of no use any more when the order is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    number: NonZeroU32,
    /// Rank of its level on its side, and the side in the lowest bit.
    rank_and_side: u32,
}

/// An order in the log: two of them are a line of the processor's cache.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Standing {
    energy_wh: i64,
    number: NonZeroU32,
    name: u32,
    participant: u32,
    rank_and_side: u32,
    /// Where the next of its level is in the log; 0 where there is none.
    next: u32,
}

/// The first in the log, so that 0 is nobody's place, and a link from nobody has where to be written.
const NOBODY: Standing = Standing {
    energy_wh: 0,
    number: NonZeroU32::MIN,
    name: NONE,
    participant: NONE,
    rank_and_side: 0,
    next: 0,
};

/// The orders of a level in the order in which they came, linked through the log: among them such as are
/// gone.
#[derive(Clone, Copy, Default)]
struct Queue {
    /// Where its first order is in the log; 0 where there is none.
    first: u32,
    /// Where its last order is, if there is a first.
    last: u32,
}

/// One side: its levels by rank, the best first.
struct Ladder {
    queues: Vec<Queue>,
    /// Which queues have a first order.
    occupied: Occupied,
    /// The first of them: its first order stands.
    best: u32,
}

/// An arriving order on its way through the other side.
struct Walk {
    participant: u32,
    left_wh: i64,
    /// Own orders that it passed over.
    passed: u32,
}

/// Which of all orders that ever stood are gone: one bit each.
struct Gone {
    words: Vec<u64>,
    /// The number that the last order got.
    last: NonZeroU32,
}

impl Gone {
    fn new() -> Self {
        Gone {
            words: vec![0],
            last: NOBODY.number,
        }
    }

    /// All that ever stood are gone. Numbers go on, so that a place of before is never another order's.
    fn clear(&mut self) {
        self.words.fill(u64::MAX);
        if let Some(word) = self.words.last_mut() {
            *word >>= 63 - self.last.get() % 64;
        }
    }

    /// The number of a new order. None after 2^32 - 2 of them.
    #[inline]
    fn number(&mut self) -> Option<NonZeroU32> {
        self.last = self.last.checked_add(1)?;
        if slot(self.last.get() / 64) >= self.words.len() {
            self.words.push(0);
        }
        Some(self.last)
    }

    #[inline]
    fn has(&self, number: NonZeroU32) -> bool {
        self.words[slot(number.get() / 64)] >> (number.get() % 64) & 1 == 1
    }

    #[inline]
    fn add(&mut self, number: NonZeroU32) {
        self.words[slot(number.get() / 64)] |= 1 << (number.get() % 64);
    }
}

/// The standing orders of a market.
pub struct StandingOrders {
    levels: u32,
    gone: Gone,
    log: Vec<Standing>,
    sides: [Ladder; 2],
}

impl StandingOrders {
    /// An empty book of so many price levels, at most [`LEVELS_MAX`], with room for so many orders before
    /// it has to make more.
    #[must_use]
    pub fn new(levels: u32, room: usize) -> Self {
        let levels = levels.min(LEVELS_MAX);
        let ladder = || Ladder {
            queues: vec![Queue::default(); slot(levels)],
            occupied: Occupied::new(levels),
            best: NONE,
        };
        let mut log = Vec::with_capacity(1 + room);
        log.push(NOBODY);
        StandingOrders {
            levels,
            gone: Gone::new(),
            log,
            sides: [ladder(), ladder()],
        }
    }

    /// Takes all orders out; their memory is used again. Places of before are of no use any more.
    pub fn clear(&mut self) {
        self.sides.iter_mut().for_each(Ladder::clear);
        self.log.truncate(1);
        self.gone.clear();
    }

    /// Lets an order trade with what stands within its limit, best price first, then the earliest; what
    /// is left of it stands. `met` hears of each trade. None where nothing of it stands: all of it traded,
    /// its level does not exist, or 2^32 - 2 orders have stood in this book.
    #[inline]
    pub fn submit(&mut self, arrival: Arrival, met: impl FnMut(Met)) -> Option<Place> {
        let left_wh = self.trade(arrival, met);
        if left_wh <= 0 || arrival.level >= self.levels {
            return None;
        }
        self.stand(Arrival {
            energy_wh: left_wh,
            ..arrival
        })
    }

    /// Lets an order trade at any price; what is left of it is gone. Gives the energy traded.
    pub fn take(
        &mut self,
        side: Side,
        energy_wh: i64,
        participant: u32,
        met: impl FnMut(Met),
    ) -> i64 {
        let any = Arrival {
            side,
            level: match side {
                Side::Bid => self.levels.saturating_sub(1),
                Side::Offer => 0,
            },
            energy_wh,
            participant,
            name: NONE,
        };
        energy_wh - self.trade(any, met)
    }

    /// Takes a standing order out. False where it is gone already.
    #[inline]
    pub fn cancel(&mut self, place: Place) -> bool {
        if !self.stands(place) {
            return false;
        }
        self.gone.add(place.number);
        let (side, rank) = side_and_rank(place.rank_and_side);
        let ladder = &mut self.sides[side];
        if ladder.best == rank {
            ladder.best = ladder.next(rank, &self.log, &self.gone);
        }
        true
    }

    /// The energy that a standing order still has; none where it is gone.
    #[must_use]
    pub fn left_wh(&self, place: Place) -> Option<i64> {
        if !self.stands(place) {
            return None;
        }
        // The earlier an order came, the lower is its number.
        let log = &self.log;
        let found = log.binary_search_by_key(&place.number, |order| order.number);
        found.ok().map(|at| log[at].energy_wh)
    }

    /// Level of the best standing order of a side.
    #[must_use]
    pub fn best(&self, side: Side) -> Option<u32> {
        let best = self.sides[usize::from(side == Side::Offer)].best;
        (best != NONE).then(|| self.level(side, best))
    }

    /// Name of the best standing order of a side that is not this participant's own. It looks as far as
    /// an arriving order would.
    #[must_use]
    pub fn best_but(&self, side: Side, participant: u32) -> Option<u32> {
        let ladder = &self.sides[usize::from(side == Side::Offer)];
        let (mut rank, mut passed) = (ladder.best, 0);
        while rank != NONE {
            let mut at = ladder.queues[slot(rank)].first;
            while at != 0 {
                let order = &self.log[slot(at)];
                at = order.next;
                if !self.gone.has(order.number) {
                    if order.participant != participant {
                        return Some(order.name);
                    }
                    passed += 1;
                    if passed > PASSED_MAX {
                        return None;
                    }
                }
            }
            rank = ladder.occupied.next(rank + 1);
        }
        None
    }

    #[inline]
    fn stands(&self, place: Place) -> bool {
        place.number <= self.gone.last && !self.gone.has(place.number)
    }

    /// The level of a rank, or the rank of a level: bids are ranked from the highest level down.
    const fn level(&self, side: Side, rank: u32) -> u32 {
        match side {
            Side::Bid => self.levels - 1 - rank,
            Side::Offer => rank,
        }
    }

    /// Trades with the other side; gives the energy that is left.
    #[inline]
    fn trade(&mut self, arrival: Arrival, mut met: impl FnMut(Met)) -> i64 {
        if arrival.level >= self.levels {
            return arrival.energy_wh;
        }
        let other = arrival.side.opposite();
        let (worst, levels) = (self.level(other, arrival.level), self.levels);
        let ladder = &mut self.sides[usize::from(other == Side::Offer)];
        let mut walk = Walk {
            participant: arrival.participant,
            left_wh: arrival.energy_wh,
            passed: 0,
        };
        let mut rank = ladder.best;
        // No rank is as high as the mark for none, nor is any limit's.
        while rank <= worst {
            let level = match other {
                Side::Bid => levels - 1 - rank,
                Side::Offer => rank,
            };
            let queue = &mut ladder.queues[slot(rank)];
            queue.trade(
                &mut self.log,
                &mut self.gone,
                &mut walk,
                |name, energy_wh| {
                    met(Met {
                        name,
                        level,
                        energy_wh,
                    });
                },
            );
            if queue.first == 0 {
                ladder.occupied.clear(rank);
            } else if walk.is_over() {
                break;
            }
            rank = ladder.next(rank + 1, &self.log, &self.gone);
            if walk.is_over() {
                break;
            }
        }
        // All before that level is empty, unless own orders are there.
        ladder.best = match walk.passed {
            0 => rank,
            _ => ladder.next(ladder.best, &self.log, &self.gone),
        };
        walk.left_wh
    }

    /// Puts an order at the end of its level's queue.
    #[inline]
    fn stand(&mut self, arrival: Arrival) -> Option<Place> {
        if self.log.len() == self.log.capacity() {
            self.make_room();
        }
        let number = self.gone.number()?;
        let rank = self.level(arrival.side, arrival.level);
        let side = usize::from(arrival.side == Side::Offer);
        let rank_and_side = rank << 1 | u32::from(arrival.side == Side::Offer);
        let at = self.end();
        self.log.push(Standing {
            energy_wh: arrival.energy_wh,
            number,
            name: arrival.name,
            participant: arrival.participant,
            rank_and_side,
            next: 0,
        });
        self.sides[side].append(rank, at, &mut self.log);
        Some(Place {
            number,
            rank_and_side,
        })
    }

    /// Makes room for as many more as the log has: where half of them are gone these leave it, else it grows.
    #[cold]
    fn make_room(&mut self) {
        let stands = |order: &&Standing| !self.gone.has(order.number);
        if self.log.iter().filter(stands).count() <= self.log.len() / 2 {
            self.leave_out_gone();
        }
        self.log.reserve(self.log.len().max(ROOM_MIN));
    }

    fn leave_out_gone(&mut self) {
        self.sides.iter_mut().for_each(Ladder::clear);
        self.log.retain(|order| !self.gone.has(order.number));
        for at in 1..self.end() {
            let order = &mut self.log[slot(at)];
            order.next = 0;
            let (side, rank) = side_and_rank(order.rank_and_side);
            self.sides[side].append(rank, at, &mut self.log);
        }
    }

    /// Where the log ends. There are no more orders in it than numbers.
    fn end(&self) -> u32 {
        u32::try_from(self.log.len()).unwrap_or(u32::MAX)
    }
}

fn side_and_rank(rank_and_side: u32) -> (usize, u32) {
    (slot(rank_and_side & 1), rank_and_side >> 1)
}

impl Walk {
    #[inline]
    fn is_over(&self) -> bool {
        self.left_wh <= 0 || self.passed > PASSED_MAX
    }
}

impl Queue {
    /// Trades and passes over own orders. The first order of the queue stands, before and after.
    #[inline]
    fn trade(
        &mut self,
        log: &mut [Standing],
        gone: &mut Gone,
        walk: &mut Walk,
        mut met: impl FnMut(u32, i64),
    ) {
        let (mut before, mut at) = (0, self.first);
        while at != 0 && !walk.is_over() {
            let order = &mut log[slot(at)];
            if order.participant == walk.participant {
                walk.passed += 1;
                before = at;
            } else {
                let energy_wh = walk.left_wh.min(order.energy_wh);
                walk.left_wh -= energy_wh;
                order.energy_wh -= energy_wh;
                met(order.name, energy_wh);
                if order.energy_wh > 0 {
                    return;
                }
                gone.add(order.number);
            }
            at = first_standing(order.next, log, gone);
            if before == 0 {
                self.first = at;
            } else {
                log[slot(before)].next = at;
                if at == 0 {
                    self.last = before;
                }
            }
        }
    }
}

/// The first order that stands from a place of the log on along its queue.
#[inline]
fn first_standing(mut at: u32, log: &[Standing], gone: &Gone) -> u32 {
    while at != 0 && gone.has(log[slot(at)].number) {
        at = log[slot(at)].next;
    }
    at
}

impl Ladder {
    /// Leaves it without orders.
    fn clear(&mut self) {
        while self.best != NONE {
            self.queues[slot(self.best)].first = 0;
            self.occupied.clear(self.best);
            self.best = self.occupied.next(self.best);
        }
    }

    /// Links an order of the log to the end of a level's queue.
    #[inline]
    fn append(&mut self, rank: u32, at: u32, log: &mut [Standing]) {
        self.occupied.set(rank);
        self.best = self.best.min(rank);
        let queue = &mut self.queues[slot(rank)];
        let is_empty = queue.first == 0;
        log[slot(if is_empty { 0 } else { queue.last })].next = at;
        queue.first = if is_empty { at } else { queue.first };
        queue.last = at;
    }

    /// The first level from a rank on whose first order stands: what is gone is left out on the way.
    #[inline]
    fn next(&mut self, mut rank: u32, log: &[Standing], gone: &Gone) -> u32 {
        loop {
            rank = self.occupied.next(rank);
            if rank == NONE {
                return NONE;
            }
            let queue = &mut self.queues[slot(rank)];
            queue.first = first_standing(queue.first, log, gone);
            if queue.first != 0 {
                return rank;
            }
            self.occupied.clear(rank);
        }
    }
}

/// Layers of bits: each bit of a layer says whether a word of the layer below has any.
const LAYERS: usize = 4;

/// Which levels hold orders.
struct Occupied {
    layers: [Vec<u64>; LAYERS],
}

impl Occupied {
    fn new(levels: u32) -> Self {
        let mut words = slot(levels);
        let layers = [(); LAYERS].map(|()| {
            words = words.div_ceil(64).max(1);
            vec![0; words]
        });
        Occupied { layers }
    }

    #[inline]
    fn set(&mut self, mut rank: u32) {
        for layer in &mut self.layers {
            let word = &mut layer[slot(rank / 64)];
            let was_empty = *word == 0;
            *word |= 1 << (rank % 64);
            if !was_empty {
                return;
            }
            rank /= 64;
        }
    }

    #[inline]
    fn clear(&mut self, mut rank: u32) {
        for layer in &mut self.layers {
            let word = &mut layer[slot(rank / 64)];
            *word &= !(1 << (rank % 64));
            if *word != 0 {
                return;
            }
            rank /= 64;
        }
    }

    /// The first at or behind a rank.
    #[inline]
    fn next(&self, from: u32) -> u32 {
        let mut at = from;
        for (height, layer) in self.layers.iter().enumerate() {
            let Some(word) = layer.get(slot(at / 64)) else {
                return NONE;
            };
            let rest = word & (u64::MAX << (at % 64));
            if rest != 0 {
                return self.down(height, at / 64 * 64 + rest.trailing_zeros());
            }
            at = at / 64 + 1;
        }
        NONE
    }

    /// From a bit of a layer to the first rank under it.
    fn down(&self, height: usize, mut bit: u32) -> u32 {
        for layer in self.layers[..height].iter().rev() {
            bit = bit * 64 + layer[slot(bit)].trailing_zeros();
        }
        bit
    }
}
