//! Standing orders on this platform: shortly before a gate closes each orders for that interval, signed with its
//! participant's key, through the same door as any other order.
//!
//! What one orders is `market_engine::standing`'s; here is gathered what the rule looks at: the prices that are
//! expected, what was traded, and what meters and batteries say. An order and the note about it are one
//! transaction, so nothing is ordered twice, whenever the platform stops.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use domain::cancel::Cancel;
use domain::energy::Energy;
use domain::ids::{OrderId, ParticipantId, PointId};
use domain::key_record::PointRole;
use domain::money::Price;
use domain::rejection::Rejection;
use domain::signed::{Message, Signed};
use domain::standing_order::{Standing, StandingOrder};
use domain::time::{Interval, Timestamp};
use market_engine::service::Outcome;
use market_engine::service::standing::{self as market, Part, Stood};
use market_engine::standing::{
    HORIZON_MAX, Measured, Outlook, Placement, Progress, place, with_network_fee,
};
use runtime::db::Tx;
use settlement::service::Whose;

use super::Shared;
use super::core::{AUTOPILOT_LEAD_S, gate_closes, next_to_close};
use super::orders::{self, OrderAnswer};
use crate::live::{Device, DeviceKind};

/// The numbers of standing orders' orders begin here, above the autopilots'.
pub(crate) const STANDING_SEQUENCES: u64 = 1 << 41;
/// Most orders of one participant's standing orders for one interval.
const TRIES_MAX: u64 = 256;
/// Clearings from which prices are expected: a week of quarter-hours.
const LOOK_BACK: u32 = 672;
/// A battery's word on how full it is counts so long.
const FULLNESS_MAX_S: i64 = 900;

/// A standing order with what became of it and what comes next.
pub(crate) struct Shown {
    pub(crate) stood: Stood,
    pub(crate) parts: Vec<Part>,
    pub(crate) progress: Progress,
    /// What should stand now; only the nearest is ordered.
    pub(crate) plan: Vec<Placement>,
}

impl Shown {
    /// How it stands, in a word: standing, met, over, withdrawn or replaced.
    pub(crate) fn state(&self, now: Timestamp) -> &'static str {
        let (stood, reached) = (&self.stood, self.progress.energy);
        match (&stood.order.wish, stood.replaced_by) {
            (_, Some(_)) => "replaced",
            (_, None) if !stood.stands => "withdrawn",
            (Standing::Deadline(deadline), None) if reached >= deadline.energy => "met",
            (wish, None) if wish.until() <= now => "over",
            _ => "standing",
        }
    }
}

/// Which standing orders have been asked for the interval that closes next.
#[derive(Default)]
pub(super) struct Asked {
    interval: Option<Interval>,
    done: BTreeSet<OrderId>,
}

/// Lets every standing order order once for the interval that closes next. One that fails is asked again, and keeps
/// no other from ordering.
pub(super) async fn beat(shared: &Shared, asked: &mut Asked, now: Timestamp) -> anyhow::Result<()> {
    let open = next_to_close(shared, now)?;
    if now < gate_closes(shared, open).plus_s(-AUTOPILOT_LEAD_S) {
        return Ok(());
    }
    if asked.interval != Some(open) {
        *asked = Asked {
            interval: Some(open),
            ..Asked::default()
        };
    }
    let mut due = market::standing(&shared.db, now).await?;
    due.retain(|stood| !asked.done.contains(&stood.order.id()));
    if due.is_empty() {
        return Ok(());
    }
    let outlook = outlook(shared, now).await?;
    let mut failed = false;
    for stood in due {
        match order_for(shared, &stood, open, &outlook, now).await {
            Ok(()) => {
                asked.done.insert(stood.order.id());
            }
            Err(error) => {
                let (participant, sequence) = (&stood.order.participant, stood.order.sequence);
                tracing::error!(%participant, sequence, "a standing order could not order: {error:#}");
                failed = true;
            }
        }
    }
    anyhow::ensure!(!failed, "not every standing order could order");
    Ok(())
}

async fn order_for(
    shared: &Shared,
    stood: &Stood,
    open: Interval,
    outlook: &[Outlook],
    now: Timestamp,
) -> anyhow::Result<()> {
    let (participant, sequence) = (&stood.order.participant, stood.order.sequence);
    if !may_say(shared, participant) {
        tracing::warn!(%participant, sequence, "nobody can sign what this standing order orders");
        return Ok(());
    }
    let parts = market::parts(&shared.db, stood).await?;
    let is_here = |part: &Part| part.standing == sequence && part.ordered.interval == open;
    if parts.iter().any(is_here) {
        return Ok(());
    }
    let (progress, plan) = planned(shared, stood, &parts, outlook, now).await?;
    let start = u64::try_from(open.start_s()).context("an interval before 1970")?;
    let numbers = STANDING_SEQUENCES + start * TRIES_MAX;
    let mut tx = shared.db.begin().await?;
    let due = market::orders_for(
        &mut tx,
        &shared.market,
        stood,
        (open, numbers),
        (progress, plan.as_slice()),
    );
    let mut due = due.await?;
    due.retain(|(order, ..)| order.sequence < numbers + TRIES_MAX);
    let said = due
        .iter()
        .map(|(order, ..)| say(shared, &order.participant, order));
    let messages = said.collect::<anyhow::Result<Vec<_>>>()?;
    let answers = orders::take(&mut tx, shared, now, &messages).await?;
    for ((order, placed, why), answer) in due.iter().zip(answers) {
        let refused = match answer {
            OrderAnswer::Refused(reason) => Some(reason),
            _ => None,
        };
        if let Some(reason) = refused {
            tracing::warn!(%participant, sequence, %reason, "a standing order's order was refused");
        }
        market::note(&mut tx, stood, order, (placed, why.as_str()), refused).await?;
    }
    Ok(tx.commit().await?)
}

/// A participant's standing orders, newest first, with what became of them.
pub(crate) async fn of(
    shared: &Shared,
    participant: &ParticipantId,
    now: Timestamp,
) -> anyhow::Result<Vec<Shown>> {
    let outlook = outlook(shared, now).await?;
    let mut all = Vec::new();
    for stood in market::of(&shared.db, participant).await? {
        let parts = market::parts(&shared.db, &stood).await?;
        let ahead: &[Outlook] = if stood.stands { &outlook } else { &[] };
        let (progress, plan) = planned(shared, &stood, &parts, ahead, now).await?;
        tokio::task::yield_now().await;
        all.push(Shown {
            stood,
            parts,
            progress,
            plan,
        });
    }
    Ok(all)
}

/// How far a standing order has come, and what it should order from now on.
async fn planned(
    shared: &Shared,
    stood: &Stood,
    parts: &[Part],
    outlook: &[Outlook],
    now: Timestamp,
) -> anyhow::Result<(Progress, Vec<Placement>)> {
    let measured = measured(shared, stood, now).await?;
    let progress = market::progress(stood, parts, measured);
    let wish = match stood.order.wish {
        Standing::Battery(battery) => {
            let fees = outlook.iter().map(|one| fee_at(shared, one.interval));
            let fee = fees.max().unwrap_or(Price::ZERO);
            Standing::Battery(with_network_fee(battery, fee))
        }
        deadline => deadline,
    };
    Ok((progress, place(now, &wish, progress, outlook)))
}

/// What the meter behind the point has counted since the standing order came, or how full the battery says it is.
async fn measured(
    shared: &Shared,
    stood: &Stood,
    now: Timestamp,
) -> anyhow::Result<Option<Measured>> {
    if let Some(point) = &stood.order.counted_at {
        return come(shared, stood, point, now).await;
    }
    let Some(capacity) = stood.order.capacity else {
        return Ok(None);
    };
    let Some(battery) = battery_of(shared, &stood.order.participant) else {
        return Ok(None);
    };
    let age_s = now.ms_since(battery.read_at) / 1_000;
    let permille = battery.soc_permille.filter(|p| (0..=1_000).contains(p));
    let fresh = permille.filter(|_| (-60..=FULLNESS_MAX_S).contains(&age_s));
    let energy = fresh.map(|permille| i128::from(capacity.wh()) * i128::from(permille) / 1_000);
    let energy = energy.and_then(|wh| i64::try_from(wh).ok());
    Ok(energy.map(|wh| Measured {
        energy: Energy::from_wh(wh),
        at: battery.read_at,
    }))
}

/// What a participant's battery says of itself: the one that does what it trades, or else the only one that there is.
fn battery_of(shared: &Shared, participant: &ParticipantId) -> Option<Device> {
    let mut homes = shared.site.participants.iter();
    let named = homes.find(|home| home.id == *participant);
    if let Some(place) = named.and_then(|home| home.battery.as_ref()) {
        return shared.live.device(&place.gateway, &place.device);
    }
    let gateways = shared.site.gateways.iter();
    let own = gateways.filter(|g| {
        let mut points = g.points.iter();
        points.any(|p| p.participant.as_ref() == Some(participant))
    });
    let devices = own.flat_map(|g| shared.live.of(&g.id));
    let batteries: Vec<_> = devices.filter(|d| d.kind == DeviceKind::Battery).collect();
    // Of several nobody knows which one is meant.
    match batteries.as_slice() {
        [battery] => Some(*battery),
        _ => None,
    }
}

/// What a meter has counted since the interval in which the first of the chain came.
async fn come(
    shared: &Shared,
    stood: &Stood,
    point: &PointId,
    now: Timestamp,
) -> anyhow::Result<Option<Measured>> {
    let since = market::since(&shared.db, stood).await?;
    let length_s = shared.market.rules.interval_length_s;
    let from = Interval::containing(since, length_s)?.start();
    let whose = Whose::Point(point);
    let metered = settlement::service::history(&shared.db, whose, from, now).await?;
    // Behind a gap nothing is known: there what was ordered counts.
    let mut next = from;
    let known = metered.iter().take_while(|m| {
        let follows = m.interval.start() == next;
        next = m.interval.end();
        follows
    });
    let metered = &metered[..known.count()];
    let Some(last) = metered.last() else {
        return Ok(None);
    };
    let sum = |sum: Energy, one: Energy| sum.checked_add(one);
    let mut energy = metered.iter().map(|m| m.imported);
    Ok(Some(Measured {
        energy: energy
            .try_fold(Energy::ZERO, sum)
            .context("a meter's sum does not fit")?,
        at: last.interval.end(),
    }))
}

/// The intervals from the one that closes next on, with the price that is expected: the mean of the same time on
/// the days of the last week.
async fn outlook(shared: &Shared, now: Timestamp) -> anyhow::Result<Vec<Outlook>> {
    let recent = market_engine::service::recent_clearings(&shared.db, LOOK_BACK).await?;
    let time = |interval: Interval| interval.start_s().rem_euclid(86_400);
    let mut usual: BTreeMap<i64, (i128, i128)> = BTreeMap::new();
    for clearing in recent {
        if let Some(price) = clearing.price {
            let (sum, days) = usual.entry(time(clearing.interval)).or_default();
            *sum += i128::from(price.micro_per_kwh());
            *days += 1;
        }
    }
    let first = next_to_close(shared, now)?;
    let one = |n: usize| -> anyhow::Result<Outlook> {
        let interval = first.offset(i64::try_from(n)?);
        let tariff = shared.site.tariff_at(interval);
        let mean = usual
            .get(&time(interval))
            .map(|(sum, days)| sum.div_euclid(*days));
        let mean = mean.and_then(|micro| i64::try_from(micro).ok());
        let utility_buy = tariff.retail.checked_sub(fee_at(shared, interval));
        Ok(Outlook {
            interval,
            price: mean.map(Price::from_micro_per_kwh),
            utility_buy: utility_buy.context("a tariff below all numbers")?,
            utility_sell: tariff.feed_in,
        })
    };
    (0..HORIZON_MAX).map(one).collect()
}

/// The most that the network takes on top of a neighbour's price.
fn fee_at(shared: &Shared, interval: Interval) -> Price {
    let fee = shared.site.tariff_at(interval).network_fee;
    shared.site.largest_fee(fee)
}

/// Whether a standing order names a meter that may count for it: one behind its participant's own connection.
pub(super) fn may_count(shared: &Shared, order: &StandingOrder) -> bool {
    let Some(counted_at) = &order.counted_at else {
        return true;
    };
    let mut points = shared.site.points();
    points.any(|p| {
        let is_own = p.participant.as_ref() == Some(&order.participant);
        p.point == *counted_at && p.role == PointRole::Submeter && is_own
    })
}

/// Whether the platform keeps this participant's key, and so may say what the participant has asked it to.
pub(crate) fn may_say(shared: &Shared, participant: &ParticipantId) -> bool {
    shared.keys().held(participant).is_some()
}

/// A message of a participant whose wish the platform keeps: signed with its key, as its own orders are. Whoever has
/// the participant's word for it gives it to the core, or to [`orders::take`] in a transaction.
pub(crate) fn say<T: Message>(
    shared: &Shared,
    participant: &ParticipantId,
    message: &T,
) -> anyhow::Result<orders::OrderMessage> {
    let keys = shared.keys();
    let key = keys.held(participant);
    let key = key.with_context(|| format!("the platform cannot sign for {participant}"))?;
    let signed = Signed::sign(key, &shared.site.community, message);
    Ok(orders::read_any(shared, signed.as_bytes().to_vec()))
}

/// Takes out of the book what a standing order that stands no more has ordered where gates are open.
pub(super) async fn take_out(
    tx: &mut Tx,
    shared: &Shared,
    now: Timestamp,
    (participant, sequence): (&ParticipantId, u64),
) -> anyhow::Result<()> {
    // Who is heard on a standing order was counted for it; what follows from it is never too much.
    let mut setup = shared.market;
    setup.rules.messages_per_minute_max = u32::MAX;
    let open = market::open_parts(tx, &setup, now, participant, sequence).await?;
    if !may_say(shared, participant) {
        let orders = open.len();
        tracing::warn!(%participant, sequence, orders, "nobody can sign that what it ordered is taken back");
        return Ok(());
    }
    let cancel = |part: &Part| {
        let cancel = Cancel {
            participant: participant.clone(),
            sequence: part.sequence,
            interval: part.ordered.interval,
        };
        say(shared, participant, &cancel)
    };
    let cancels = open
        .iter()
        .map(cancel)
        .collect::<anyhow::Result<Vec<_>>>()?;
    for outcome in orders::together(tx, shared, &setup, now, &cancels).await? {
        match outcome {
            Outcome::Refused(Rejection::GateClosed) => {}
            Outcome::Refused(reason) => {
                anyhow::bail!(
                    "an order of {participant} could not be taken out of the book: {reason}"
                )
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
