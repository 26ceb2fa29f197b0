//! Standing orders by price and time: an array of price levels, in each a queue of orders, and a map of
//! the levels that hold any.
//!
//! Adding, cancelling and trading cost the same however many orders stand. A cancelled order is struck
//! out where it stands and leaves the queue when that is next walked through, or when it has more
//! struck out than standing. Levels are numbered from the
//! lowest price; what a level's price is, is the caller's matter. An arriving order passes over standing
//! orders of its own participant, over [`PASSED_MAX`] of them at most: then it goes no further.

use domain::order::Side;

use crate::book::slot;

/// Most levels of a book: with prices to the micro-token, 4.19 token/kWh from the floor to the cap. What
/// is beyond does not exist.
pub const LEVELS_MAX: u32 = 1 << 22;
/// Most orders that stand at the same time; a further one does not come to stand.
pub const STANDING_MAX: usize = crate::book::ORDERS_MAX;
/// Most standing orders of its own participant that an arriving order passes over.
pub const PASSED_MAX: u32 = 1024;

/// So many orders may be struck out in any queue before it is tidied.
const STRUCK_MIN: u32 = 8;

/// No order, no place.
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
    index: u32,
    turn: u32,
}

#[derive(Clone, Copy)]
struct Standing {
    energy_wh: i64,
    name: u32,
    participant: u32,
    /// The next in the queue of its level, or the next free place.
    next: u32,
    /// Rank of its level on its side, and the side in the lowest bit.
    rank_and_side: u32,
    /// How often the place was used, so that an old [`Place`] cancels nobody else's order.
    turn: u32,
}

/// The orders of a level.
#[derive(Clone, Copy, Default)]
struct Queue {
    /// Index of the first and the last, plus one: memory that was never touched is empty.
    first: u32,
    last: u32,
    /// How many stand, and how many are struck out.
    standing: u32,
    struck: u32,
}

/// An arriving order on its way through the other side.
struct Walk {
    participant: u32,
    left_wh: i64,
    /// Own orders that it passed over.
    passed: u32,
}

/// One side: its levels by rank, the best first.
struct Ladder {
    queues: Vec<Queue>,
    occupied: Occupied,
    best: u32,
}

/// The standing orders of a market.
pub struct StandingOrders {
    levels: u32,
    orders: Vec<Standing>,
    free: u32,
    sides: [Ladder; 2],
}

impl StandingOrders {
    /// An empty book of so many price levels, at most [`LEVELS_MAX`].
    #[must_use]
    pub fn new(levels: u32) -> Self {
        let levels = levels.min(LEVELS_MAX);
        let ladder = || Ladder {
            queues: vec![Queue::default(); slot(levels)],
            occupied: Occupied::new(levels),
            best: NONE,
        };
        StandingOrders {
            levels,
            orders: Vec::new(),
            free: NONE,
            sides: [ladder(), ladder()],
        }
    }

    /// Lets an order trade with what stands within its limit, best price first, then the earliest; what
    /// is left of it stands. `met` hears of each trade. None where nothing of it stands: all of it traded,
    /// the book is full, or its level does not exist.
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

    /// Takes a standing order out. Gives the energy that it still had; none where it is gone already.
    pub fn cancel(&mut self, place: Place) -> Option<i64> {
        let standing = self.orders.get(slot(place.index))?;
        if standing.turn != place.turn || standing.energy_wh <= 0 {
            return None;
        }
        let energy_wh = standing.energy_wh;
        self.strike(place.index);
        Some(energy_wh)
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
            let mut index = ladder.queues[slot(rank)].first.wrapping_sub(1);
            while index != NONE {
                let standing = &self.orders[slot(index)];
                if standing.participant != participant && standing.energy_wh > 0 {
                    return Some(standing.name);
                }
                passed += u32::from(standing.energy_wh > 0);
                if passed > PASSED_MAX {
                    return None;
                }
                index = standing.next;
            }
            rank = ladder.occupied.next(rank + 1);
        }
        None
    }

    /// The level of a rank, or the rank of a level: bids are ranked from the highest level down.
    const fn level(&self, side: Side, rank: u32) -> u32 {
        match side {
            Side::Bid => self.levels - 1 - rank,
            Side::Offer => rank,
        }
    }

    /// Trades with the other side; gives the energy that is left.
    fn trade(&mut self, arrival: Arrival, mut met: impl FnMut(Met)) -> i64 {
        if arrival.level >= self.levels {
            return arrival.energy_wh;
        }
        let other = arrival.side.opposite();
        let place = usize::from(other == Side::Offer);
        let (worst, levels) = (self.level(other, arrival.level), self.levels);
        let mut walk = Walk {
            participant: arrival.participant,
            left_wh: arrival.energy_wh,
            passed: 0,
        };
        let mut rank = self.sides[place].best;
        // No rank is as high as the mark for none, nor is any limit's.
        while rank <= worst && walk.left_wh > 0 && walk.passed <= PASSED_MAX {
            self.trade_level(place, rank, &mut walk, |name, energy_wh| {
                let level = match other {
                    Side::Bid => levels - 1 - rank,
                    Side::Offer => rank,
                };
                met(Met {
                    name,
                    level,
                    energy_wh,
                });
            });
            rank = self.sides[place].occupied.next(rank + 1);
        }
        walk.left_wh
    }

    /// Walks through the queue of a level: trades, passes over own orders, takes out what is struck.
    fn trade_level(
        &mut self,
        side: usize,
        rank: u32,
        walk: &mut Walk,
        mut met: impl FnMut(u32, i64),
    ) {
        let mut queue = self.sides[side].queues[slot(rank)];
        let (mut before, mut index) = (NONE, queue.first.wrapping_sub(1));
        while index != NONE && walk.left_wh > 0 {
            let order = &mut self.orders[slot(index)];
            let next = order.next;
            if order.energy_wh > 0 && order.participant == walk.participant {
                walk.passed += 1;
                if walk.passed > PASSED_MAX {
                    break;
                }
                before = index;
            } else {
                if order.energy_wh > 0 {
                    let energy_wh = walk.left_wh.min(order.energy_wh);
                    walk.left_wh -= energy_wh;
                    order.energy_wh -= energy_wh;
                    met(order.name, energy_wh);
                    if order.energy_wh > 0 {
                        break;
                    }
                    queue.standing -= 1;
                } else {
                    queue.struck -= 1;
                }
                self.unlink(&mut queue, before, index, next);
            }
            index = next;
        }
        self.put_back(side, rank, queue);
    }

    /// Takes an order out of its queue and frees its place.
    fn unlink(&mut self, queue: &mut Queue, before: u32, index: u32, next: u32) {
        if before == NONE {
            queue.first = next.wrapping_add(1);
        } else {
            self.orders[slot(before)].next = next;
        }
        if next == NONE {
            queue.last = before.wrapping_add(1);
        }
        self.orders[slot(index)].next = self.free;
        self.free = index;
    }

    /// Strikes an order out.
    fn strike(&mut self, index: u32) {
        let order = &mut self.orders[slot(index)];
        order.energy_wh = 0;
        let (rank, side) = (order.rank_and_side >> 1, slot(order.rank_and_side & 1));
        let mut queue = self.sides[side].queues[slot(rank)];
        queue.standing -= 1;
        queue.struck += 1;
        if queue.standing > 0 && queue.struck > queue.standing.max(STRUCK_MIN) {
            let (mut before, mut index) = (NONE, queue.first.wrapping_sub(1));
            while index != NONE {
                let Standing {
                    next, energy_wh, ..
                } = self.orders[slot(index)];
                if energy_wh > 0 {
                    before = index;
                } else {
                    self.unlink(&mut queue, before, index, next);
                }
                index = next;
            }
            queue.struck = 0;
        }
        self.put_back(side, rank, queue);
    }

    /// Notes what a queue has become; one in which nobody stands goes to the free places whole.
    fn put_back(&mut self, side: usize, rank: u32, mut queue: Queue) {
        let ladder = &mut self.sides[side];
        if queue.standing == 0 {
            if queue.last != 0 {
                self.orders[slot(queue.last - 1)].next = self.free;
                self.free = queue.first - 1;
                queue = Queue::default();
            }
            ladder.occupied.clear(rank);
            if ladder.best == rank {
                ladder.best = ladder.occupied.next(rank);
            }
        }
        ladder.queues[slot(rank)] = queue;
    }

    /// Puts an order at the end of its level's queue.
    fn stand(&mut self, arrival: Arrival) -> Option<Place> {
        let rank = self.level(arrival.side, arrival.level);
        let offer = arrival.side == Side::Offer;
        let index = self.place_for(Standing {
            energy_wh: arrival.energy_wh,
            name: arrival.name,
            participant: arrival.participant,
            next: NONE,
            rank_and_side: rank << 1 | u32::from(offer),
            turn: 0,
        })?;
        let ladder = &mut self.sides[usize::from(offer)];
        let queue = &mut ladder.queues[slot(rank)];
        let last = queue.last.wrapping_sub(1);
        queue.last = index + 1;
        queue.standing += 1;
        if last == NONE {
            queue.first = index + 1;
            ladder.occupied.set(rank);
            ladder.best = ladder.best.min(rank);
        } else {
            self.orders[slot(last)].next = index;
        }
        let turn = self.orders[slot(index)].turn;
        Some(Place { index, turn })
    }

    /// A free place, or a new one.
    fn place_for(&mut self, mut standing: Standing) -> Option<u32> {
        let index = self.free;
        if index == NONE {
            let index = u32::try_from(self.orders.len()).ok()?;
            if self.orders.len() >= STANDING_MAX {
                return None;
            }
            self.orders.push(standing);
            return Some(index);
        }
        let place = &mut self.orders[slot(index)];
        self.free = place.next;
        standing.turn = place.turn.wrapping_add(1);
        *place = standing;
        Some(index)
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
