//! Standing orders by price and time: an array of price levels, in each a queue of orders, and a map of
//! the levels that hold any.
//!
//! A queue is one piece of memory that is read from front to back, so that a walk through it waits for
//! memory once and not at every order. Whether an order still stands is one bit in a list that fits the
//! processor's cache: cancelling clears the bit and touches no queue. What is gone leaves the queue when
//! it is at the front, or when there is more of it than stands. So adding, cancelling and trading cost
//! the same however many orders stand. Levels are numbered from the lowest price; what a level's price
//! is, is the caller's matter. An arriving order passes over standing orders of its own participant, over
//! [`PASSED_MAX`] of them at most: then it goes no further.

use std::num::NonZeroU32;

use domain::order::Side;

use crate::book::slot;

/// Most levels of a book: with prices to the micro-token, 4.19 token/kWh from the floor to the cap. What
/// is beyond does not exist.
pub const LEVELS_MAX: u32 = 1 << 22;
/// Most standing orders of its own participant that an arriving order passes over.
pub const PASSED_MAX: u32 = 1024;

/// So many orders that are gone may be in any queue before it is tidied.
const GONE_MIN: usize = 8;

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

#[derive(Clone, Copy)]
struct Standing {
    energy_wh: i64,
    number: NonZeroU32,
    name: u32,
    participant: u32,
}

/// The orders of a level, the earliest first.
#[derive(Default)]
struct Queue {
    /// Also such as are gone; all before `front` are.
    orders: Vec<Standing>,
    front: usize,
    standing: usize,
}

impl Queue {
    /// Leaves no order that is gone.
    fn tidy(&mut self, alive: &Alive) {
        self.orders.drain(..self.front);
        self.front = 0;
        self.orders.retain(|order| alive.has(order.number));
    }
}

/// One side: its levels by rank, the best first.
struct Ladder {
    /// The queue of each level, plus one: memory that was never touched is none.
    queue_of: Vec<u32>,
    queues: Vec<Queue>,
    /// Queues of no level, with their memory.
    free: Vec<u32>,
    occupied: Occupied,
    best: u32,
}

/// An arriving order on its way through the other side.
struct Walk {
    participant: u32,
    left_wh: i64,
    /// Own orders that it passed over.
    passed: u32,
}

/// Which of all orders that ever stood still stand: one bit each.
#[derive(Default)]
struct Alive {
    words: Vec<u64>,
    /// The number that the last order got.
    last: u32,
}

impl Alive {
    /// The number of a new order. None after 2^32 - 1 of them.
    fn number(&mut self) -> Option<NonZeroU32> {
        let number = NonZeroU32::new(self.last.checked_add(1)?)?;
        self.last = number.get();
        let word = slot(self.last / 64);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (self.last % 64);
        Some(number)
    }

    fn has(&self, number: NonZeroU32) -> bool {
        self.words[slot(number.get() / 64)] >> (number.get() % 64) & 1 == 1
    }

    fn remove(&mut self, number: NonZeroU32) {
        self.words[slot(number.get() / 64)] &= !(1 << (number.get() % 64));
    }
}

/// The standing orders of a market.
pub struct StandingOrders {
    levels: u32,
    alive: Alive,
    sides: [Ladder; 2],
}

impl StandingOrders {
    /// An empty book of so many price levels, at most [`LEVELS_MAX`].
    #[must_use]
    pub fn new(levels: u32) -> Self {
        let levels = levels.min(LEVELS_MAX);
        let ladder = || Ladder {
            queue_of: vec![0; slot(levels)],
            queues: Vec::new(),
            free: Vec::new(),
            occupied: Occupied::new(levels),
            best: NONE,
        };
        StandingOrders {
            levels,
            alive: Alive::default(),
            sides: [ladder(), ladder()],
        }
    }

    /// Lets an order trade with what stands within its limit, best price first, then the earliest; what
    /// is left of it stands. `met` hears of each trade. None where nothing of it stands: all of it traded,
    /// its level does not exist, or 2^32 - 1 orders have stood in this book.
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
    pub fn cancel(&mut self, place: Place) -> bool {
        if !self.stands(place) {
            return false;
        }
        self.alive.remove(place.number);
        let (side, rank) = place.side_and_rank();
        let ladder = &mut self.sides[side];
        let queue = &mut ladder.queues[slot(ladder.queue_of[slot(rank)] - 1)];
        queue.standing -= 1;
        if queue.standing == 0 {
            ladder.vacate(rank);
        }
        true
    }

    /// The energy that a standing order still has; none where it is gone.
    #[must_use]
    pub fn left_wh(&self, place: Place) -> Option<i64> {
        if !self.stands(place) {
            return None;
        }
        let (side, rank) = place.side_and_rank();
        let orders = &self.sides[side].queue(rank)?.orders;
        // The earlier an order came, the lower is its number.
        let found = orders.binary_search_by_key(&place.number, |order| order.number);
        found.ok().map(|at| orders[at].energy_wh)
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
        while let Some(queue) = ladder.queue(rank) {
            for order in &queue.orders[queue.front..] {
                if self.alive.has(order.number) {
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

    fn stands(&self, place: Place) -> bool {
        place.number.get() <= self.alive.last && self.alive.has(place.number)
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
        let (worst, levels) = (self.level(other, arrival.level), self.levels);
        let ladder = &mut self.sides[usize::from(other == Side::Offer)];
        let mut walk = Walk {
            participant: arrival.participant,
            left_wh: arrival.energy_wh,
            passed: 0,
        };
        let mut rank = ladder.best;
        // No rank is as high as the mark for none, nor is any limit's.
        while rank <= worst && walk.left_wh > 0 && walk.passed <= PASSED_MAX {
            let level = match other {
                Side::Bid => levels - 1 - rank,
                Side::Offer => rank,
            };
            ladder.trade_level(rank, &mut self.alive, &mut walk, |name, energy_wh| {
                met(Met {
                    name,
                    level,
                    energy_wh,
                });
            });
            rank = ladder.occupied.next(rank + 1);
        }
        walk.left_wh
    }

    /// Puts an order at the end of its level's queue.
    fn stand(&mut self, arrival: Arrival) -> Option<Place> {
        let number = self.alive.number()?;
        let rank = self.level(arrival.side, arrival.level);
        let offer = arrival.side == Side::Offer;
        let queue = self.sides[usize::from(offer)].occupy(rank);
        if queue.orders.len() >= 2 * queue.standing + GONE_MIN {
            queue.tidy(&self.alive);
        }
        queue.standing += 1;
        queue.orders.push(Standing {
            energy_wh: arrival.energy_wh,
            number,
            name: arrival.name,
            participant: arrival.participant,
        });
        Some(Place {
            number,
            rank_and_side: rank << 1 | u32::from(offer),
        })
    }
}

impl Place {
    fn side_and_rank(self) -> (usize, u32) {
        (slot(self.rank_and_side & 1), self.rank_and_side >> 1)
    }
}

impl Ladder {
    fn queue(&self, rank: u32) -> Option<&Queue> {
        let queue = self.queue_of.get(slot(rank))?.checked_sub(1)?;
        self.queues.get(slot(queue))
    }

    /// The queue of a level, a new one where it has none.
    fn occupy(&mut self, rank: u32) -> &mut Queue {
        let place = &mut self.queue_of[slot(rank)];
        if *place == 0 {
            *place = self.free.pop().unwrap_or_else(|| {
                self.queues.push(Queue::default());
                // No more queues than levels.
                u32::try_from(self.queues.len()).unwrap_or(LEVELS_MAX)
            });
            self.occupied.set(rank);
            self.best = self.best.min(rank);
        }
        &mut self.queues[slot(*place - 1)]
    }

    /// Takes the queue of a level away, in which nobody stands.
    fn vacate(&mut self, rank: u32) {
        let place = std::mem::take(&mut self.queue_of[slot(rank)]);
        let queue = &mut self.queues[slot(place - 1)];
        queue.orders.clear();
        queue.front = 0;
        self.free.push(place);
        self.occupied.clear(rank);
        if self.best == rank {
            self.best = self.occupied.next(rank);
        }
    }

    /// Walks through the queue of a level: trades, and passes over own orders and what is gone.
    fn trade_level(
        &mut self,
        rank: u32,
        alive: &mut Alive,
        walk: &mut Walk,
        mut met: impl FnMut(u32, i64),
    ) {
        let queue = &mut self.queues[slot(self.queue_of[slot(rank)] - 1)];
        let from = queue.front;
        for (at, order) in queue.orders.iter_mut().enumerate().skip(from) {
            if alive.has(order.number) {
                if order.participant == walk.participant {
                    walk.passed += 1;
                    if walk.passed > PASSED_MAX {
                        break;
                    }
                    continue;
                }
                let energy_wh = walk.left_wh.min(order.energy_wh);
                walk.left_wh -= energy_wh;
                order.energy_wh -= energy_wh;
                met(order.name, energy_wh);
                if order.energy_wh > 0 {
                    break;
                }
                alive.remove(order.number);
                queue.standing -= 1;
            }
            if queue.front == at {
                queue.front += 1;
            }
            if walk.left_wh == 0 {
                break;
            }
        }
        if queue.standing == 0 {
            self.vacate(rank);
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
