//! What an interval's opened entries say: trades that follow from signed orders, and signed readings.

use std::collections::{BTreeMap, BTreeSet};

use domain::energy::Energy;
use domain::ids::{Digest32, OrderId, PointId};
use domain::openings::OpenedInterval;
use domain::order::Order;
use domain::reading::{Obis, Reading};
use domain::signed::Signed;
use domain::time::Timestamp;
use domain::trade::{Clearing, Trade};

use super::registry::{is_participant, signs_for};
use super::{Fault, Leaves, Registry, wrong};
use crate::bargain;
use crate::deliver::Metered;
use crate::log::checkpoint::Log;
use crate::log::entry::Kind;

/// A reading and its place in the readings log.
pub(super) struct Read {
    pub(super) index: u64,
    pub(super) metered: Metered,
}

/// What an interval was settled from, opened and checked.
pub struct Facts {
    pub(super) clearing: Clearing,
    pub(super) trades: Vec<Trade>,
    pub(super) readings: BTreeMap<PointId, Read>,
    /// A substitute's readings by start and point; none where they are not opened.
    pub(super) earlier: BTreeMap<(i64, PointId), Read>,
    /// The starts before whose readings are all opened.
    pub(super) earlier_opened: BTreeSet<i64>,
    orders: BTreeMap<OrderId, Order>,
}

impl Facts {
    /// The signed orders of the interval's book, by their ids.
    #[must_use]
    pub fn orders(&self) -> &BTreeMap<OrderId, Order> {
        &self.orders
    }

    /// The trades between them.
    #[must_use]
    pub fn trades(&self) -> &[Trade] {
        &self.trades
    }
}

/// Opens an interval's entries and checks them: signatures, the trades against their orders and the clearing.
///
/// # Errors
/// Something does not hold, or is not opened.
pub fn facts(
    leaves: &Leaves,
    registry: &Registry,
    clearing: &Clearing,
    opened: &OpenedInterval,
) -> Result<Facts, Fault> {
    let start = opened.interval.start();
    if clearing.interval != opened.interval {
        return Err(wrong("the clearing is of another interval"));
    }
    let orders = leaves.open(Log::Market, Kind::Order, start, &opened.orders)?;
    let orders = signed_orders(registry, start, &orders)?;
    let trades = leaves.open(Log::Market, Kind::Trade, start, &opened.trades)?;
    let trades = each_trade(&trades)?;
    let by_id = orders.iter().map(|(id, order)| (*id, order)).collect();
    bargain::check(clearing, &trades, &by_id).map_err(Fault::Wrong)?;
    let volume: i128 = trades.iter().map(|t| i128::from(t.energy.wh())).sum();
    if volume != i128::from(clearing.volume.wh()) {
        return Err(wrong(format!(
            "the trades move {volume} Wh, the clearing says {}",
            clearing.volume
        )));
    }
    let readings = leaves.open(Log::Readings, Kind::Reading, start, &opened.readings)?;
    let readings = signed_readings(registry, start, &readings)?;
    let mut facts = Facts {
        clearing: clearing.clone(),
        trades,
        readings,
        earlier: BTreeMap::new(),
        earlier_opened: BTreeSet::new(),
        orders,
    };
    earlier(leaves, registry, opened, &mut facts)?;
    Ok(facts)
}

/// Readings of the same interval on other days: those of a day count only where all of it is opened.
fn earlier(
    leaves: &Leaves,
    registry: &Registry,
    opened: &OpenedInterval,
    facts: &mut Facts,
) -> Result<(), Fault> {
    for start in substitutes_from(opened.interval.start()) {
        let of_day = |content: &[u8]| {
            let reading = Signed::<Reading>::from_bytes(content.to_vec());
            let reading = reading.claimed().ok();
            reading.is_some_and(|reading| reading.interval.start() == start)
        };
        let day = opened.earlier.iter().filter(|one| of_day(&one.content));
        let day: Vec<_> = day.cloned().collect();
        let readings = match leaves.open(Log::Readings, Kind::Reading, start, &day) {
            Ok(readings) => signed_readings(registry, start, &readings)?,
            Err(Fault::Sealed(_)) => continue,
            Err(fault) => return Err(fault),
        };
        facts.earlier_opened.insert(start.unix_s());
        let keyed = readings
            .into_iter()
            .map(|(point, read)| ((start.unix_s(), point), read));
        facts.earlier.extend(keyed);
    }
    Ok(())
}

/// Where a substitute comes from: the same interval a week before, else a day before.
pub(super) fn substitutes_from(start: Timestamp) -> [Timestamp; 2] {
    const DAY_S: i64 = 86_400;
    [start.plus_s(-7 * DAY_S), start.plus_s(-DAY_S)]
}

fn signed_orders(
    registry: &Registry,
    start: Timestamp,
    opened: &[(u64, &[u8])],
) -> Result<BTreeMap<OrderId, Order>, Fault> {
    let mut orders = BTreeMap::new();
    for (index, content) in opened {
        let name = |why: &str| wrong(format!("order {index} of the market log: {why}"));
        let (order, holder) = registry
            .verified::<Order>(content, start)
            .map_err(|f| match f {
                Fault::Wrong(why) | Fault::Sealed(why) => name(&why),
            })?;
        if let Some(ended) = registry.ended_before(order.signer(), start) {
            let why =
                format!("its key had ended at {ended}, before the gate of its interval opened");
            return Err(name(&why));
        }
        let order = order.message();
        if !is_participant(holder, &order.participant) {
            return Err(name("it is signed with another's key"));
        }
        orders.insert(order.id(), order.clone());
    }
    Ok(orders)
}

/// A trade is logged once for each of its parties, one behind the other; trades keep the log's order.
fn each_trade(opened: &[(u64, &[u8])]) -> Result<Vec<Trade>, Fault> {
    let mut trades: Vec<Trade> = Vec::with_capacity(opened.len() / 2);
    for pair in opened.chunks(2) {
        let [(index, content), (_, second)] = pair else {
            return Err(wrong("a trade is logged for one of its parties only"));
        };
        let trade: Trade = minicbor::decode(content)
            .map_err(|_| wrong(format!("entry {index} of the market log is no trade")))?;
        let twice = content == second && trade.to_cbor() == *content;
        if !twice || trades.iter().any(|known| known.id == trade.id) {
            let why = format!("trade {} is not logged once for each party", trade.id);
            return Err(wrong(why));
        }
        trades.push(trade);
    }
    Ok(trades)
}

fn signed_readings(
    registry: &Registry,
    start: Timestamp,
    opened: &[(u64, &[u8])],
) -> Result<BTreeMap<PointId, Read>, Fault> {
    let mut readings = BTreeMap::new();
    for (index, content) in opened {
        let name = |why: &str| wrong(format!("reading {index} of the readings log: {why}"));
        // A record that came later may have added the point: then the reading was taken after that.
        let end = Signed::<Reading>::from_bytes(content.to_vec())
            .claimed()
            .map_err(|e| name(&e.to_string()))?
            .interval
            .end();
        let verified = registry.verified::<Reading>(content, end);
        let (reading, holder) = verified.map_err(|f| match f {
            Fault::Wrong(why) | Fault::Sealed(why) => name(&why),
        })?;
        if registry.is_too_late(reading.signer(), reading.message(), *index) {
            return Err(name(
                "it was taken in after its key had been revoked for it",
            ));
        }
        let reading = reading.message();
        if reading.interval.start() != start {
            return Err(name("it is of another interval"));
        }
        if signs_for(holder, &reading.point).is_none() {
            return Err(name("its key does not sign for its point"));
        }
        let counted = |obis| reading.energy(obis).unwrap_or(Energy::ZERO);
        let metered = Metered {
            imported: counted(Obis::IMPORT),
            exported: counted(Obis::EXPORT),
            quality: reading.quality,
            reading: Digest32::of(content),
        };
        let read = Read {
            index: *index,
            metered,
        };
        if readings.insert(reading.point.clone(), read).is_some() {
            return Err(name(&format!("{} has two readings", reading.point)));
        }
    }
    Ok(readings)
}
