//! The margin of a book and what each order gets, in two streams over 16-byte records, without sorting.
//!
//! One limit decides: bids above it and offers below it are served in full, the orders at it share what
//! is left. It is the lowest limit up to which the energy of all orders, bids and offers together,
//! reaches the energy of all bids. (At a limit `p` there is more demanded at `p` or above than offered
//! below `p` exactly while all energy below `p` is less than all demand; above the last such limit
//! demand falls short, below it supply does.) So one histogram of energies and a walk through it find
//! the margin; limits far apart share a bucket, and the few orders of the bucket that holds the margin
//! and of its neighbours are looked at once more. Both streams are compiled for what the processor can
//! do at best, and chosen when the program runs. Memory is the caller's and is used again by the next
//! clearing.

use domain::money::Price;
use domain::order::Side;
use pulp::{Arch, NullaryFnOnce};

use crate::book::slot;

/// Buckets of the histogram: with both sides 16 KB, half of a small processor's first cache.
const BUCKETS_MAX: usize = 1024;
/// Buckets on either side of the margin in which the next limits of both sides are looked for.
const AROUND_MAX: usize = 32;
/// So many orders are served before it is asked whether any of them is near the margin.
const STRIDE: usize = 64;
/// So few orders around the margin are sorted.
const SORTED_MAX: usize = 48;

/// An order as the clearing reads it: its limit, its energy and its side in 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    limit: i64,
    /// Energy in watt-hours times two, plus one for an offer.
    packed: u64,
}

impl Record {
    const fn new(side: Side, energy_wh: i64, limit: Price) -> Self {
        let offer = match side {
            Side::Bid => 0,
            Side::Offer => 1,
        };
        Record {
            limit: limit.micro_per_kwh(),
            packed: energy_wh.unsigned_abs() << 1 | offer,
        }
    }

    /// Energy in watt-hours.
    #[must_use]
    pub const fn energy_wh(self) -> i64 {
        // Packed from 63 bits.
        (self.packed >> 1).cast_signed()
    }

    /// Buys or sells.
    #[must_use]
    pub const fn side(self) -> Side {
        if self.is_offer() {
            Side::Offer
        } else {
            Side::Bid
        }
    }

    /// The limit.
    #[must_use]
    pub const fn limit(self) -> Price {
        Price::from_micro_per_kwh(self.limit)
    }

    const fn is_offer(self) -> bool {
        self.packed & 1 == 1
    }

    const fn wh(self) -> u64 {
        self.packed >> 1
    }
}

/// The orders of a book as records, each side's energy within 63 bits.
#[derive(Clone, Debug, Default)]
pub struct Records {
    list: Vec<Record>,
    /// Energy of all bids and of all offers.
    sums_wh: [i64; 2],
    /// No limit is below the first or above the second.
    limits: Option<(i64, i64)>,
    /// No order has more energy.
    energy_max_wh: i64,
}

impl Records {
    /// Adds an order. False, and nothing is added, where the energy is below zero or the side's energy
    /// would not fit 63 bits.
    #[must_use]
    pub fn push(&mut self, side: Side, energy_wh: i64, limit: Price) -> bool {
        let sum = &mut self.sums_wh[usize::from(side == Side::Offer)];
        let Some(sum_wh) = sum.checked_add(energy_wh).filter(|_| energy_wh >= 0) else {
            return false;
        };
        *sum = sum_wh;
        self.energy_max_wh = self.energy_max_wh.max(energy_wh);
        self.list.push(Record::new(side, energy_wh, limit));
        let limit = limit.micro_per_kwh();
        let (low, high) = self.limits.unwrap_or((limit, limit));
        self.limits = Some((low.min(limit), high.max(limit)));
        true
    }

    /// Takes all records out; their memory is used again.
    pub fn clear(&mut self) {
        self.list.clear();
        self.sums_wh = [0; 2];
        self.limits = None;
        self.energy_max_wh = 0;
    }

    /// All records, in the order in which they came.
    #[must_use]
    pub fn list(&self) -> &[Record] {
        &self.list
    }

    /// Whether distances between limits and energies fit 32 bits, and the gain of all energy 64.
    fn is_small(&self) -> bool {
        let (low, high) = self.limits.unwrap_or_default();
        let span = offset(high, low);
        let energy_wh: u64 = self.sums_wh.iter().map(|wh| wh.unsigned_abs()).sum();
        u32::try_from(span).is_ok()
            && u32::try_from(self.energy_max_wh).is_ok()
            && span.checked_mul(energy_wh).is_some()
    }

    const fn demand_wh(&self) -> u64 {
        self.sums_wh[0].unsigned_abs()
    }

    /// Leaves an order less energy, or none.
    pub(super) fn reduce(&mut self, place: usize, by_wh: i64) {
        let record = self.list[place];
        let left_wh = record.energy_wh() - by_wh;
        assert!(
            by_wh >= 0 && left_wh >= 0,
            "an order was reduced by more than it has"
        );
        self.sums_wh[usize::from(record.is_offer())] -= by_wh;
        self.list[place] = Record::new(record.side(), left_wh, record.limit());
    }

    /// Takes an order out.
    pub(super) fn take_out(&mut self, place: usize) {
        self.reduce(place, self.list[place].energy_wh());
    }
}

/// Where a book clears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Margin {
    /// Energy served on each side.
    pub volume_wh: i64,
    /// Sum of limit × energy over served bids, less that over served offers, in nano-tokens.
    pub welfare: i128,
    /// The worst bid that is served.
    pub last_bid: Price,
    /// The worst offer that is served.
    pub last_offer: Price,
    /// Lowest and highest price at which nobody would rather be served otherwise.
    pub interval: (Price, Price),
    /// The side whose last order is served in part, where there is one.
    pub short: Option<Side>,
}

impl Margin {
    /// The margin of orders that are served by merit. None where nothing is.
    pub(super) fn of(records: &[Record], fills: &[i64]) -> Option<Self> {
        let ends = Ends::of(records.iter().copied().zip(fills.iter().copied()));
        let mut gain = Gain { from: 0, sum: 0 };
        let mut volume_wh = 0;
        for (record, filled_wh) in records.iter().zip(fills) {
            gain.add(*record, *filled_wh);
            volume_wh += if record.is_offer() { 0 } else { *filled_wh };
        }
        let short = if ends.unserved_bid == ends.last_bid {
            Some(Side::Bid)
        } else {
            (ends.unserved_offer == ends.last_offer).then_some(Side::Offer)
        };
        (volume_wh > 0).then(|| ends.margin(volume_wh, gain.sum, short))
    }
}

/// Memory that clearings use again.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    buckets: Buckets,
    /// Orders near the margin.
    around: Vec<u32>,
    /// Those of them that may be at the margin.
    near: Vec<u32>,
    /// Those at the margin, by side.
    at: [Vec<u32>; 2],
}

/// A range of limits that holds the margin, and the energy of either side below it.
#[derive(Clone, Copy)]
struct Window {
    low: i64,
    high: i64,
    below_wh: [u64; 2],
}

/// The gain of what is served, counted from one limit: where both sides are served alike, from any.
struct Gain {
    from: i64,
    sum: i128,
}

impl Gain {
    fn add(&mut self, record: Record, filled_wh: i64) {
        let gain = (i128::from(record.limit) - i128::from(self.from)) * i128::from(filled_wh);
        self.sum += if record.is_offer() { -gain } else { gain };
    }
}

/// Clears the records: `fills` gets the energy of each that is served. `share` is asked at most once,
/// to divide an amount among orders of one limit that want more: it writes their fills. None where
/// nothing trades.
pub fn clear_records(
    records: &Records,
    scratch: &mut Scratch,
    fills: &mut Vec<i64>,
    share: impl FnOnce(&[u32], i64, &mut [i64]),
) -> Option<Margin> {
    // Each place is written below.
    fills.resize(records.list.len(), 0);
    let Some((low, high)) = records.limits.filter(|_| !records.sums_wh.contains(&0)) else {
        fills.fill(0);
        return None;
    };
    let whole = Window {
        low,
        high,
        below_wh: [0; 2],
    };
    let Scratch {
        buckets, around, ..
    } = scratch;
    buckets.divide(whole, records.list.len());
    Arch::new().dispatch(|| buckets.add_all(&records.list));
    let (margin, below_wh) = buckets.margin(whole, records.demand_wh());
    let (buckets_around, has_ends) = buckets.around(margin);
    let window = buckets.window(whole, buckets_around, below_wh, margin);
    let mut gain = serve_outside(records, window, around, fills);
    let window = close_in(records, window, scratch, fills, &mut gain);
    serve_margin(records, (window, has_ends), scratch, fills, gain, share)
}

/// Energy of both sides by range of limits: 0 bids, 1 offers, and so on.
#[derive(Clone, Debug)]
struct Buckets {
    energy_wh: Box<[u64; 2 * BUCKETS_MAX]>,
    /// So many are in use, each for so many bits of the distance from `low`.
    used: usize,
    shift: u32,
    low: i64,
}

impl Default for Buckets {
    fn default() -> Self {
        Buckets {
            energy_wh: Box::new([0; 2 * BUCKETS_MAX]),
            used: 0,
            shift: 0,
            low: 0,
        }
    }
}

impl Buckets {
    /// Empty buckets for so many orders of a window.
    fn divide(&mut self, window: Window, count: usize) {
        let span = offset(window.high, window.low);
        // Few orders need few buckets to be told apart, and few are sooner walked through.
        let wanted = count.next_power_of_two().clamp(16, BUCKETS_MAX);
        self.low = window.low;
        self.shift = (u64::BITS - span.leading_zeros()).saturating_sub(wanted.ilog2());
        self.used = slot_of(span >> self.shift, 0) / 2 + 1;
        self.energy_wh[..2 * self.used].fill(0);
    }

    #[inline(always)]
    fn add_all<'r>(&mut self, records: impl IntoIterator<Item = &'r Record>) {
        let (low, shift, energy_wh) = (self.low, self.shift, &mut *self.energy_wh);
        for record in records {
            let place = slot_of(offset(record.limit, low) >> shift, record.packed & 1);
            energy_wh[place] += record.wh();
        }
    }

    /// Energy of bids and of offers in a bucket.
    fn at(&self, bucket: usize) -> [u64; 2] {
        [self.energy_wh[2 * bucket], self.energy_wh[2 * bucket + 1]]
    }

    /// The bucket that holds the margin, and the energy below it.
    fn margin(&self, window: Window, demand_wh: u64) -> (usize, [u64; 2]) {
        let mut below_wh = window.below_wh;
        let last = self.used - 1;
        for bucket in 0..last {
            let [bids_wh, offers_wh] = self.at(bucket);
            if below_wh[0] + below_wh[1] + bids_wh + offers_wh >= demand_wh {
                return (bucket, below_wh);
            }
            below_wh[0] += bids_wh;
            below_wh[1] += offers_wh;
        }
        // All energy is more than all demand.
        (last, below_wh)
    }

    /// The first and last of the buckets around one in which both sides have their next limits, and
    /// whether they are all there: some may be too far away.
    fn around(&self, margin: usize) -> ((usize, usize), bool) {
        let find = |buckets: &mut dyn Iterator<Item = usize>| {
            let mut seen_wh = [0; 2];
            for (count, bucket) in buckets.enumerate() {
                if count == AROUND_MAX {
                    return (None, false);
                }
                let [bids_wh, offers_wh] = self.at(bucket);
                seen_wh = [seen_wh[0] + bids_wh, seen_wh[1] + offers_wh];
                if !seen_wh.contains(&0) {
                    return (Some(bucket), true);
                }
            }
            (None, true)
        };
        let (first, has_below) = find(&mut (0..margin).rev());
        let (last, has_above) = find(&mut (margin + 1..self.used));
        let first = first.unwrap_or(if has_below { 0 } else { margin });
        let last = last.unwrap_or(if has_above { self.used - 1 } else { margin });
        ((first, last), has_below && has_above)
    }

    /// The limits of a range of buckets around the margin's, below which there is so much energy.
    fn window(
        &self,
        of: Window,
        (first, last): (usize, usize),
        mut below_wh: [u64; 2],
        margin: usize,
    ) -> Window {
        for bucket in first..margin {
            let [bids_wh, offers_wh] = self.at(bucket);
            below_wh = [below_wh[0] - bids_wh, below_wh[1] - offers_wh];
        }
        let start = |bucket: usize| {
            let steps = u64::try_from(bucket).unwrap_or(u64::MAX) << self.shift;
            self.low.saturating_add_unsigned(steps)
        };
        let end = start(last).saturating_add_unsigned((1 << self.shift) - 1);
        Window {
            low: start(first),
            high: end.min(of.high),
            below_wh,
        }
    }
}

/// How far a limit lies above another one that is not higher.
const fn offset(limit: i64, low: i64) -> u64 {
    limit.wrapping_sub(low).cast_unsigned()
}

/// A side's place in a bucket: the mask says to the compiler what is so.
#[inline(always)]
fn slot_of(bucket: u64, side: u64) -> usize {
    const MASK: u64 = 2 * BUCKETS_MAX as u64 - 1;
    usize::try_from((bucket << 1 | side) & MASK).unwrap_or(0)
}

/// Serves bids above the window and offers below it, and lists the orders inside.
fn serve_outside(
    records: &Records,
    window: Window,
    around: &mut Vec<u32>,
    fills: &mut [i64],
) -> Gain {
    let list = &records.list;
    around.clear();
    let sum = if records.is_small() {
        Arch::new().dispatch(ServeSmall {
            list,
            window,
            around,
            fills,
        })
    } else {
        serve_all(list, window, around, fills, gain_of_any)
    };
    Gain {
        from: window.low,
        sum: sum.cast_signed(),
    }
}

/// [`serve_all`] of small numbers. A closure would be compiled for any processor where it is not inlined.
struct ServeSmall<'a> {
    list: &'a [Record],
    window: Window,
    around: &'a mut Vec<u32>,
    fills: &'a mut [i64],
}

impl NullaryFnOnce for ServeSmall<'_> {
    type Output = u128;

    #[inline(always)]
    fn call(self) -> u128 {
        serve_all(
            self.list,
            self.window,
            self.around,
            self.fills,
            gain_of_small,
        )
    }
}

#[inline(always)]
fn gain_of_small(distance: u64, wh: u64) -> u64 {
    const LOW: u64 = u32::MAX as u64;
    // Both fit 32 bits, which makes one instruction of this for several orders.
    (distance & LOW) * (wh & LOW)
}

#[inline(always)]
fn gain_of_any(distance: u64, wh: u64) -> u128 {
    u128::from(distance) * u128::from(wh)
}

/// Serves order after order; the sum of what they gain, counted from the window.
#[inline(always)]
fn serve_all<G: std::ops::AddAssign + Default + Into<u128>>(
    records: &[Record],
    window: Window,
    around: &mut Vec<u32>,
    fills: &mut [i64],
    gain: impl Fn(u64, u64) -> G,
) -> u128 {
    let span = offset(window.high, window.low);
    let mut sum = G::default();
    let starts = (0_u32..).step_by(STRIDE);
    let strides = records.chunks(STRIDE).zip(fills.chunks_mut(STRIDE));
    for (start, (records, fills)) in starts.zip(strides) {
        let mut inside = 0;
        for (record, fill) in records.iter().zip(fills) {
            let above = offset(record.limit, window.low);
            // Masks and no branches: which side an order is on, and of the margin, cannot be foretold.
            let below = u64::from(record.limit < window.low).wrapping_neg();
            let offer = (record.packed & 1).wrapping_neg();
            let outside = u64::from(above > span).wrapping_neg();
            let wh = record.wh() & !(below ^ offer) & outside;
            *fill = wh.cast_signed();
            sum += gain((above ^ below).wrapping_sub(below), wh);
            inside |= !outside;
        }
        if inside != 0 {
            let near = (start..).zip(records);
            let near = near.filter(|(_, record)| offset(record.limit, window.low) <= span);
            around.extend(near.map(|(index, _)| index));
        }
    }
    sum.into()
}

/// Narrows the window until it is one limit, or few orders are in it and are sorted.
fn close_in(
    records: &Records,
    mut window: Window,
    scratch: &mut Scratch,
    fills: &mut [i64],
    gain: &mut Gain,
) -> Window {
    let Scratch {
        buckets,
        around,
        near,
        ..
    } = scratch;
    near.clone_from(around);
    let of = |index: u32| records.list[slot(index)];
    while window.low < window.high {
        let narrower = if near.len() <= SORTED_MAX {
            near.sort_unstable_by_key(|i| of(*i).limit);
            margin_of_sorted(window, records, near.iter().map(|i| of(*i)))
        } else {
            let limits = || near.iter().map(|i| of(*i).limit);
            window.low = limits().min().unwrap_or(window.low);
            window.high = limits().max().unwrap_or(window.high);
            buckets.divide(window, near.len());
            buckets.add_all(near.iter().map(|i| &records.list[slot(*i)]));
            let (margin, below_wh) = buckets.margin(window, records.demand_wh());
            buckets.window(window, (margin, margin), below_wh, margin)
        };
        window = narrower;
        near.retain(|index| {
            let record = of(*index);
            let (below, above) = (record.limit < window.low, record.limit > window.high);
            if if record.is_offer() { below } else { above } {
                fills[slot(*index)] = record.energy_wh();
                gain.add(record, record.energy_wh());
            }
            !below && !above
        });
    }
    window
}

/// The one limit that is the margin, from the orders of a window in the order of their limits.
fn margin_of_sorted(window: Window, all: &Records, sorted: impl Iterator<Item = Record>) -> Window {
    let mut below_wh = window.below_wh;
    let mut level = None;
    for record in sorted {
        if level.is_none_or(|level: Window| level.low != record.limit) {
            level = Some(Window {
                low: record.limit,
                high: record.limit,
                below_wh,
            });
        }
        below_wh[usize::from(record.is_offer())] += record.wh();
        if below_wh[0] + below_wh[1] >= all.demand_wh() {
            break;
        }
    }
    level.unwrap_or(window)
}

/// Serves the orders at the one limit that is the margin.
fn serve_margin(
    records: &Records,
    (margin, has_ends): (Window, bool),
    scratch: &mut Scratch,
    fills: &mut [i64],
    mut gain: Gain,
    share: impl FnOnce(&[u32], i64, &mut [i64]),
) -> Option<Margin> {
    let (all, limit) = (&records.list, Price::from_micro_per_kwh(margin.low));
    let Scratch {
        around, near, at, ..
    } = scratch;
    let [bids, offers] = at;
    let mut at_wh = [0_u64; 2];
    for list in [&mut *bids, &mut *offers] {
        list.clear();
    }
    for index in near.iter() {
        let record = all[slot(*index)];
        if record.wh() > 0 {
            let list = if record.is_offer() {
                &mut *offers
            } else {
                &mut *bids
            };
            list.push(*index);
            at_wh[usize::from(record.is_offer())] += record.wh();
        }
    }
    let bids_above_wh = records.demand_wh() - margin.below_wh[0] - at_wh[0];
    let volume_wh = (bids_above_wh + at_wh[0]).min(margin.below_wh[1] + at_wh[1]);
    let shares_wh = [volume_wh - bids_above_wh, volume_wh - margin.below_wh[1]];
    let mut short = None;
    let mut share = Some(share);
    for (side, list) in [(Side::Bid, bids), (Side::Offer, offers)] {
        let place = usize::from(side == Side::Offer);
        let (share_wh, whole_wh) = (shares_wh[place], at_wh[place]);
        // The side that is the less at this limit is served whole: one at most is not.
        if share_wh > 0 && share_wh < whole_wh {
            short = Some(side);
            if let ([only], share_wh) = (&list[..], share_wh.cast_signed()) {
                fills[slot(*only)] = share_wh;
            } else if let Some(share) = share.take() {
                share(list, share_wh.cast_signed(), fills);
            }
        } else if share_wh > 0 {
            for index in list.iter() {
                fills[slot(*index)] = all[slot(*index)].energy_wh();
            }
        }
        gain.add(Record::new(side, 0, limit), share_wh.cast_signed());
    }
    if volume_wh == 0 {
        return None;
    }
    let ends = if short.is_some() && shares_wh.iter().all(|wh| *wh > 0) {
        Ends::all_at(margin.low)
    } else if has_ends {
        let near = around.iter().map(|i| slot(*i));
        Ends::of(near.map(|place| (all[place], fills[place])))
    } else {
        Ends::of(all.iter().copied().zip(fills.iter().copied()))
    };
    Some(ends.margin(volume_wh.cast_signed(), gain.sum, short))
}

/// The limits around the margin.
struct Ends {
    last_bid: i64,
    last_offer: i64,
    unserved_bid: i64,
    unserved_offer: i64,
}

impl Ends {
    /// An order served in part fixes all of them, where both sides have orders served at its limit.
    fn all_at(limit: i64) -> Self {
        Ends {
            last_bid: limit,
            last_offer: limit,
            unserved_bid: limit,
            unserved_offer: limit,
        }
    }

    /// From orders and what is served of each. Written so that a processor does not have to guess.
    fn of(orders: impl Iterator<Item = (Record, i64)>) -> Self {
        let mut ends = Ends {
            last_bid: i64::MAX,
            last_offer: i64::MIN,
            unserved_bid: i64::MIN,
            unserved_offer: i64::MAX,
        };
        for (record, filled_wh) in orders {
            let (served, open) = (filled_wh > 0, filled_wh < record.energy_wh());
            let (offer, limit) = (record.is_offer(), record.limit);
            let worst = |wanted, other| if wanted { limit } else { other };
            ends.last_bid = ends.last_bid.min(worst(served & !offer, i64::MAX));
            ends.last_offer = ends.last_offer.max(worst(served & offer, i64::MIN));
            ends.unserved_bid = ends.unserved_bid.max(worst(open & !offer, i64::MIN));
            ends.unserved_offer = ends.unserved_offer.min(worst(open & offer, i64::MAX));
        }
        ends
    }

    fn margin(&self, volume_wh: i64, welfare: i128, short: Option<Side>) -> Margin {
        let price = Price::from_micro_per_kwh;
        let (low, high) = (
            self.last_offer.max(self.unserved_bid),
            self.last_bid.min(self.unserved_offer),
        );
        Margin {
            volume_wh,
            welfare,
            last_bid: price(self.last_bid),
            last_offer: price(self.last_offer),
            interval: (price(low), price(high)),
            short,
        }
    }
}
