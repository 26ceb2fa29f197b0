//! Batteries that do what they have traded. In an interval in which a battery's standing order has bought or sold, it is
//! told to charge or discharge so that its home's meter comes to what the home has traded: a set-point on lease until
//! the interval's end, by the way of every command.
//!
//! A home allows that twice: `battery` in `site.toml` names the device, and `[devices.limits]` in the gateway's own
//! `gateway.toml` says what it may be told at all. How full it is stays the battery's affair: one that is empty gives
//! nothing, its home's meter counts that, and it is settled as a deviation like anybody's.

use std::collections::{BTreeMap, BTreeSet};

use domain::command::{Act, SetPoint};
use domain::ids::ParticipantId;
use domain::order::Side;
use domain::time::{Interval, Timestamp};
use market_engine::service::standing as market;
use market_engine::standing::{Home, Traded, power_w};

use super::Shared;
use super::control::{self, Origin};
use crate::live::Device;
use crate::site::BatteryPlace;

/// A home's need is looked at so often in an interval.
const PARTS: i64 = 3;
/// A need that has changed by less changes nothing.
const STEP_W: i64 = 100;
/// A device's word on its power counts so long.
const FRESH_S: i64 = 180;

/// Which batteries have been looked at in the part of an interval that runs.
#[derive(Default)]
pub(super) struct Told {
    part: Option<Part>,
    done: BTreeSet<ParticipantId>,
}

/// A part of an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part {
    interval: Interval,
    start: Timestamp,
}

impl Part {
    fn at(now: Timestamp, length_s: u32) -> anyhow::Result<Part> {
        let interval = Interval::containing(now, length_s)?;
        let part_s = (i64::from(length_s) / PARTS).max(1);
        let into_s = now.ms_since(interval.start()) / 1_000;
        let start = interval.start().plus_s(into_s / part_s * part_s);
        Ok(Part { interval, start })
    }
}

/// Tells each battery what it has traded, once in each part of the interval that runs. One that cannot be told is tried
/// again, and holds up no other.
pub(super) async fn beat(shared: &Shared, told: &mut Told, now: Timestamp) -> anyhow::Result<()> {
    let part = Part::at(now, shared.market.rules.interval_length_s)?;
    if told.part != Some(part) {
        *told = Told {
            part: Some(part),
            ..Told::default()
        };
    }
    let homes = shared.site.participants.iter();
    let named = homes.filter_map(|home| Some((&home.id, home.battery.as_ref()?)));
    let waiting: Vec<_> = named.filter(|(id, _)| !told.done.contains(*id)).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let Some(sold_wh) = sold(shared, part.interval).await? else {
        return Ok(());
    };
    let traded = market::battery_trades(&shared.db, part.interval).await?;
    let mut failed = false;
    for (id, place) in waiting {
        let own = traded.iter().filter(|one| one.participant == *id);
        let own: Vec<Traded> = own.cloned().collect();
        let home = needs_w(shared, id, place, now).map(|needs_w| Home {
            sold_wh: sold_wh.get(id).copied().unwrap_or(0),
            needs_w,
        });
        match follow(shared, place, (&own, home), (part, now)).await {
            Ok(()) => drop(told.done.insert(id.clone())),
            Err(error) => {
                tracing::error!(participant = %id, "its battery could not be told what it has traded: {error:#}");
                failed = true;
            }
        }
    }
    anyhow::ensure!(!failed, "not every battery could be told");
    Ok(())
}

/// What everybody has sold in an interval less what they have bought; none before it is cleared.
async fn sold(
    shared: &Shared,
    interval: Interval,
) -> anyhow::Result<Option<BTreeMap<ParticipantId, i64>>> {
    let cleared = market_engine::service::clearing(&shared.db, interval).await?;
    Ok(cleared.map(|cleared| {
        let mut sold_wh: BTreeMap<ParticipantId, i64> = BTreeMap::new();
        for one in cleared.orders {
            let wh = match one.order.side {
                Side::Offer => one.filled.wh(),
                Side::Bid => one.filled.wh().saturating_neg(),
            };
            let sum = sold_wh.entry(one.order.participant).or_default();
            *sum = sum.saturating_add(wh);
        }
        sold_wh
    }))
}

/// What a home needs now beside its battery: what its meter draws and its battery gives.
fn needs_w(
    shared: &Shared,
    participant: &ParticipantId,
    place: &BatteryPlace,
    now: Timestamp,
) -> Option<i64> {
    let connection = &shared.site.connection_of(participant)?.point;
    let mut gateways = shared.site.gateways.iter();
    let gateway = gateways.find(|g| g.points.iter().any(|p| p.point == *connection))?;
    let (_, meter) = connection.as_str().rsplit_once('.')?;
    let power_w = |device: Option<Device>| {
        let power = device?.power_w?;
        let age_s = now.ms_since(power.read_at).abs() / 1_000;
        (age_s <= FRESH_S).then_some(power.value)
    };
    let drawn_w = power_w(shared.live.device(&gateway.id, meter))?;
    let given_w = power_w(shared.live.device(&place.gateway, &place.device))?;
    drawn_w.checked_add(given_w)
}

/// Tells a battery what to do until the end of the interval. The operator's own set-point comes first.
async fn follow(
    shared: &Shared,
    place: &BatteryPlace,
    (traded, home): (&[Traded], Option<Home>),
    (part, now): (Part, Timestamp),
) -> anyhow::Result<()> {
    let (set_point, interval) = (SetPoint::BatteryPowerW, part.interval);
    let Some(value) = power_w(traded, home, interval.length_s()) else {
        return Ok(());
    };
    let BatteryPlace { gateway, device } = place;
    let last = control::last(&shared.db, gateway, (device, set_point), now).await?;
    if let Some(last) = last {
        let held = last.held(now);
        if last.origin != Origin::Market && held.is_some() {
            tracing::warn!(%gateway, device, "the operator holds this battery: it does not do what it has traded");
            return Ok(());
        }
        // Where the platform has started again since, it was told before.
        let is_told = last.origin == Origin::Market && last.command.issued_at >= part.start;
        let is_near = |(known, _): (i64, Timestamp)| known.abs_diff(value) < STEP_W.unsigned_abs();
        if is_told || held.is_some_and(is_near) {
            return Ok(());
        }
    }
    let act = Act::Set {
        set_point,
        value,
        expires_at: interval.end(),
    };
    let at = (gateway.clone(), device.clone());
    control::tell(shared, Origin::Market, at, now, act).await?;
    tracing::info!(%gateway, device, %interval, power_w = value, "a battery does what it has traded");
    Ok(())
}

#[cfg(test)]
mod tests;
