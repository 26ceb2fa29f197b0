//! The margin of a book and what each order gets, in two streams over 16-byte records, without sorting.
//!
//! One limit decides: bids above it and offers below it are served in full, the orders at it share what
//! is left. It is the lowest limit up to which the energy of all orders, bids and offers together,
//! reaches the energy of all bids. (At a limit `p` there is more demanded at `p` or above than offered
//! below `p` exactly while all energy below `p` is less than all demand; above the last such limit
//! demand falls short, below it supply does.) So one histogram of energies and a walk through it find
//! the margin; limits far apart share a bucket, and the few orders of the bucket that holds the margin
//! are looked at once more. Memory is the caller's and is used again by the next clearing.

use domain::money::Price;
use domain::order::Side;

use crate::book::slot;

/// Buckets of the histogram: with both sides 16 KB, half of a small processor's first cache.
const BUCKETS_MAX: usize = 1024;
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
    }

    /// All records, in the order in which they came.
    #[must_use]
    pub fn list(&self) -> &[Record] {
        &self.list
    }

    /// More than this no energy can gain.
    fn gain_max(&self) -> u128 {
        let (low, high) = self.limits.unwrap_or_default();
        let energy_wh: u64 = self.sums_wh.iter().map(|wh| wh.unsigned_abs()).sum();
        u128::from(offset(high, low)) * u128::from(energy_wh)
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
        let ends = Ends::of(records, fills);
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
#[derive(Clone, Debug)]
pub struct Scratch {
    buckets: Box<[[u64; 2]; BUCKETS_MAX]>,
    /// Orders that may be at the margin.
    near: Vec<u32>,
    /// Those at the margin, by side.
    at: [Vec<u32>; 2],
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            buckets: Box::new([[0; 2]; BUCKETS_MAX]),
            near: Vec::new(),
            at: [Vec::new(), Vec::new()],
        }
    }
}

/// A range of limits that holds the margin, and the energy of either side below it.
#[derive(Clone, Copy)]
struct Window {
    low: i64,
    high: i64,
    bids_below_wh: u64,
    offers_below_wh: u64,
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
        bids_below_wh: 0,
        offers_below_wh: 0,
    };
    let all = records.list.iter();
    let window = narrow(whole, records, all.len(), all, &mut scratch.buckets);
    let mut gain = serve_outside(
        &records.list,
        window,
        records.gain_max(),
        &mut scratch.near,
        fills,
    );
    let window = close_in(records, window, scratch, fills, &mut gain);
    serve_margin(records, window, scratch, fills, gain, share)
}

/// Finds the bucket of a window that holds the margin, given the orders of the window.
fn narrow<'r>(
    window: Window,
    all: &Records,
    count: usize,
    records: impl Iterator<Item = &'r Record>,
    buckets: &mut [[u64; 2]; BUCKETS_MAX],
) -> Window {
    let span = offset(window.high, window.low);
    // Few orders need few buckets to be told apart, and few are sooner walked through.
    let wanted = count.next_power_of_two().clamp(16, BUCKETS_MAX);
    let shift = (u64::BITS - span.leading_zeros()).saturating_sub(wanted.ilog2());
    let used = bucket(span >> shift) + 1;
    buckets[..used].fill([0; 2]);
    for record in records {
        let place = bucket(offset(record.limit, window.low) >> shift);
        buckets[place][usize::from(record.is_offer())] += record.wh();
    }
    let demand_wh = all.demand_wh();
    let (mut bids_below_wh, mut offers_below_wh) = (window.bids_below_wh, window.offers_below_wh);
    let mut low = window.low;
    for [bids_wh, offers_wh] in &buckets[..used] {
        if bids_below_wh + offers_below_wh + bids_wh + offers_wh >= demand_wh {
            break;
        }
        bids_below_wh += bids_wh;
        offers_below_wh += offers_wh;
        low = low.saturating_add_unsigned(1 << shift);
    }
    Window {
        low,
        high: low
            .saturating_add_unsigned((1 << shift) - 1)
            .min(window.high),
        bids_below_wh,
        offers_below_wh,
    }
}

/// How far a limit lies above another one that is not higher.
const fn offset(limit: i64, low: i64) -> u64 {
    limit.wrapping_sub(low).cast_unsigned()
}

/// A bucket's place: the mask says to the compiler what is so.
fn bucket(place: u64) -> usize {
    const MASK: u64 = BUCKETS_MAX as u64 - 1;
    usize::try_from(place & MASK).unwrap_or(0)
}

/// Serves bids above the window and offers below it, and lists the orders inside. The sum of what they
/// gain is kept in 64 bits where `gain_max` says that it fits: that is a third faster.
fn serve_outside(
    records: &[Record],
    window: Window,
    gain_max: u128,
    near: &mut Vec<u32>,
    fills: &mut [i64],
) -> Gain {
    let sum = if u64::try_from(gain_max).is_ok() {
        let mut sum = 0_u64;
        serve_each(records, window, near, fills, |distance, wh| {
            sum += distance * wh
        });
        u128::from(sum)
    } else {
        let mut sum = 0_u128;
        serve_each(records, window, near, fills, |distance, wh| {
            sum += u128::from(distance) * u128::from(wh);
        });
        sum
    };
    Gain {
        from: window.low,
        sum: sum.cast_signed(),
    }
}

/// Tells `gained` how far from the window each order is, and what it got.
fn serve_each(
    records: &[Record],
    window: Window,
    near: &mut Vec<u32>,
    fills: &mut [i64],
    mut gained: impl FnMut(u64, u64),
) {
    let span = offset(window.high, window.low);
    near.clear();
    for ((index, record), fill) in (0_u32..).zip(records).zip(fills) {
        let above = offset(record.limit, window.low);
        // Masks and no branches: which side an order is on, and of the margin, cannot be foretold.
        let below = u64::from(record.limit < window.low).wrapping_neg();
        let offer = (record.packed & 1).wrapping_neg();
        let inside = above <= span;
        let wh = record.wh() & !(below ^ offer) & u64::from(inside).wrapping_sub(1);
        *fill = wh.cast_signed();
        gained((above ^ below).wrapping_sub(below), wh);
        if inside {
            near.push(index);
        }
    }
}

/// Narrows the window until it is one limit, or few orders are in it and are sorted.
fn close_in(
    records: &Records,
    mut window: Window,
    scratch: &mut Scratch,
    fills: &mut [i64],
    gain: &mut Gain,
) -> Window {
    let Scratch { buckets, near, .. } = scratch;
    let of = |index: u32| records.list[slot(index)];
    while window.low < window.high {
        let narrower = if near.len() <= SORTED_MAX {
            near.sort_unstable_by_key(|i| of(*i).limit);
            margin_of_sorted(window, records, near.iter().map(|i| of(*i)))
        } else {
            let limits = || near.iter().map(|i| of(*i).limit);
            window.low = limits().min().unwrap_or(window.low);
            window.high = limits().max().unwrap_or(window.high);
            let inside = near.iter().map(|i| &records.list[slot(*i)]);
            narrow(window, records, near.len(), inside, buckets)
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
    let (mut bids_wh, mut offers_wh) = (window.bids_below_wh, window.offers_below_wh);
    let mut level = None;
    for record in sorted {
        if level.is_none_or(|level: Window| level.low != record.limit) {
            level = Some(Window {
                low: record.limit,
                high: record.limit,
                bids_below_wh: bids_wh,
                offers_below_wh: offers_wh,
            });
        }
        if record.is_offer() {
            offers_wh += record.wh();
        } else {
            bids_wh += record.wh();
        }
        if bids_wh + offers_wh >= all.demand_wh() {
            break;
        }
    }
    level.unwrap_or(window)
}

/// Serves the orders at the one limit that is the margin.
fn serve_margin(
    records: &Records,
    margin: Window,
    scratch: &mut Scratch,
    fills: &mut [i64],
    mut gain: Gain,
    share: impl FnOnce(&[u32], i64, &mut [i64]),
) -> Option<Margin> {
    let (all, limit) = (&records.list, Price::from_micro_per_kwh(margin.low));
    let Scratch { near, at, .. } = scratch;
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
    let bids_above_wh = records.demand_wh() - margin.bids_below_wh - at_wh[0];
    let volume_wh = (bids_above_wh + at_wh[0]).min(margin.offers_below_wh + at_wh[1]);
    let shares_wh = [
        volume_wh - bids_above_wh,
        volume_wh - margin.offers_below_wh,
    ];
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
    } else {
        Ends::of(all, fills)
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

    /// From all orders. Written so that a processor does not have to guess.
    fn of(records: &[Record], fills: &[i64]) -> Self {
        let mut ends = Ends {
            last_bid: i64::MAX,
            last_offer: i64::MIN,
            unserved_bid: i64::MIN,
            unserved_offer: i64::MAX,
        };
        for (record, fill) in records.iter().zip(fills) {
            let (served, open) = (*fill > 0, *fill < record.energy_wh());
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
