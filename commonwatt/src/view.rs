//! What the pages show: plain values, gathered once, drawn many times.

pub(crate) mod activation;
pub(crate) mod alarms;
pub(crate) mod beside;
pub(crate) mod calendar;
pub(crate) mod energy;
pub(crate) mod grid;
pub(crate) mod lab;
pub(crate) mod limit;
pub(crate) mod peers;
pub(crate) mod powerflow;
pub(crate) mod replay;
pub(crate) mod stations;

use domain::energy::Energy;
use domain::ids::{ParticipantId, TradeId};
use domain::money::{Money, Price};
use domain::order::Side;
use domain::time::{Interval, Timestamp};

/// The street at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Street {
    pub(crate) community: String,
    pub(crate) now: Timestamp,
    pub(crate) speed: u32,
    /// The interval whose gate closes next.
    pub(crate) open: Interval,
    pub(crate) gate_closes: Timestamp,
    pub(crate) retail: Price,
    pub(crate) feed_in: Price,
    pub(crate) homes: Vec<Home>,
    /// Import above zero, export below, at the street's connection.
    pub(crate) feeder_w: Option<Fresh>,
    pub(crate) orders: Vec<OrderLine>,
    /// What autopilots that may only suggest would order.
    pub(crate) suggestions: Vec<OrderLine>,
    pub(crate) cleared: Option<Cleared>,
    /// Past clearings, oldest first.
    pub(crate) prices: Vec<PricePoint>,
    /// Until when today is settled; the day's start where nothing is.
    pub(crate) settled: Timestamp,
    pub(crate) log: Log,
}

/// A live value and when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fresh {
    pub(crate) value: i64,
    pub(crate) read_at: Timestamp,
}

/// One home: what it does now, and its day in money.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) id: ParticipantId,
    /// Import above zero, export below.
    pub(crate) net_w: Option<Fresh>,
    pub(crate) sun_w: Option<Fresh>,
    pub(crate) battery_w: Option<Fresh>,
    pub(crate) soc_permille: Option<i64>,
    pub(crate) car_w: Option<Fresh>,
    pub(crate) has_sun: bool,
    pub(crate) has_battery: bool,
    pub(crate) has_car: bool,
    pub(crate) day: Day,
}

/// A home's settled money and energy of today, and what the utility alone would have charged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Day {
    /// Received from neighbours.
    pub(crate) sold: Money,
    /// Paid to neighbours.
    pub(crate) bought: Money,
    /// Paid to the network.
    pub(crate) fees: Money,
    /// From the pool for deviations; below zero, paid to it.
    pub(crate) pool: Money,
    /// From the utility; below zero, paid to it.
    pub(crate) utility: Money,
    /// Received less paid, everything included.
    pub(crate) net: Money,
    /// The same day with the utility alone.
    pub(crate) utility_alone: Money,
    /// The utility's prices for taking and giving, where they were the same in all settled intervals.
    pub(crate) prices: Option<(Price, Price)>,
    /// Settled intervals, and what they were settled by: the meter's counts, or a substitute.
    pub(crate) intervals: usize,
    pub(crate) imported: Energy,
    pub(crate) exported: Energy,
}

impl Day {
    /// This part of the day and a later one; none where a sum does not fit.
    pub(crate) fn plus(&self, more: &Day) -> Option<Day> {
        let prices = match (self.intervals, more.intervals) {
            (0, _) => more.prices,
            (_, 0) => self.prices,
            _ => self.prices.filter(|prices| Some(*prices) == more.prices),
        };
        Some(Day {
            sold: self.sold.checked_add(more.sold)?,
            bought: self.bought.checked_add(more.bought)?,
            fees: self.fees.checked_add(more.fees)?,
            pool: self.pool.checked_add(more.pool)?,
            utility: self.utility.checked_add(more.utility)?,
            net: self.net.checked_add(more.net)?,
            utility_alone: self.utility_alone.checked_add(more.utility_alone)?,
            prices,
            intervals: self.intervals.checked_add(more.intervals)?,
            imported: self.imported.checked_add(more.imported)?,
            exported: self.exported.checked_add(more.exported)?,
        })
    }
}

/// An order as the page lists it.
#[derive(Clone, Debug)]
pub(crate) struct OrderLine {
    pub(crate) participant: ParticipantId,
    pub(crate) side: Side,
    pub(crate) energy: Energy,
    pub(crate) limit: Price,
    /// Filled energy, once cleared.
    pub(crate) filled: Option<Energy>,
}

/// The last clearing.
#[derive(Clone, Debug)]
pub(crate) struct Cleared {
    pub(crate) interval: Interval,
    pub(crate) price: Option<Price>,
    pub(crate) volume: Energy,
    pub(crate) orders: Vec<OrderLine>,
    pub(crate) trades: Vec<TradeLine>,
}

/// A trade as the page lists it.
#[derive(Clone, Debug)]
pub(crate) struct TradeLine {
    pub(crate) id: TradeId,
    pub(crate) interval: Interval,
    pub(crate) buyer: ParticipantId,
    pub(crate) seller: ParticipantId,
    pub(crate) energy: Energy,
    pub(crate) price: Price,
}

/// One interval in the price chart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PricePoint {
    pub(crate) interval: Interval,
    pub(crate) price: Option<Price>,
    pub(crate) volume: Energy,
}

/// How far the logs have grown, and who signs them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// When the ledger's newest checkpoint was signed.
    pub(crate) checkpoint_at: Option<Timestamp>,
    pub(crate) readings: u64,
    pub(crate) market: u64,
    pub(crate) ledger: u64,
    pub(crate) operator_key: String,
}
