//! Gathers what the page shows, and what the autopilots know.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use domain::ids::{ParticipantId, PointId};
use domain::key_record::PointRole;
use domain::time::{Interval, Timestamp};
use market_engine::bid::{Inputs, NoOrder, Preferences, Proposal, UtilityPrices, propose};
use market_engine::forecast::{DAYS_MAX, Past};
use settlement::log::checkpoint::Log;
use settlement::service::{MeteredInterval, ParticipantMoney, Whose};

use super::Shared;
use super::alone::MonthBefore;
use super::core::{AUTOPILOT_SEQUENCES, gate_closes, next_to_close};
use crate::live::DeviceKind;
use crate::site::{Gateway, Participant};
use crate::view::{self, calendar};

/// Intervals in the price chart: a day.
const PRICE_POINTS: u32 = 96;
/// How far back an autopilot looks.
const HISTORY_S: i64 = DAYS_MAX * 86_400;
/// How many intervals back the newest settled one is looked for.
const SETTLED_WITHIN: i64 = 8;

/// What was gathered before and is still true: pictures come several times a second, runs and clearings
/// once an interval.
#[derive(Default)]
pub(super) struct Known {
    day: Option<KnownDay>,
    month: MonthBefore,
    cleared: Option<view::Cleared>,
}

/// Everybody's money of the settled intervals of a day.
struct KnownDay {
    from: Timestamp,
    to: Timestamp,
    /// Runs that settled or corrected an interval in it.
    runs: i64,
    money: BTreeMap<ParticipantId, view::Day>,
}

/// The street as it stands now.
pub(super) async fn gather(shared: &Shared, known: &mut Known) -> anyhow::Result<view::Street> {
    let now = shared.clock.now();
    let open = next_to_close(shared, now)?;
    let tariff = shared.site.tariff_at(open);
    let today = day_start(shared, now);
    let settled = settled_until(shared, now, today).await?;
    let money = day_money(shared, known, today, settled).await?;
    let feeder = shared
        .site
        .gateways
        .iter()
        .find(|g| g.points.iter().any(|p| p.role == PointRole::Feeder));
    let gateways = gateways_of_homes(shared);
    let home = |participant: &Participant| {
        let day = money.get(&participant.id).copied().unwrap_or_default();
        home(
            shared,
            participant,
            gateways.get(&participant.id).copied(),
            day,
        )
    };
    Ok(view::Street {
        community: shared.site.community.to_string(),
        now,
        speed: shared.clock.speed(),
        open,
        gate_closes: gate_closes(shared, open),
        retail: tariff.retail,
        feed_in: tariff.feed_in,
        homes: shared.site.participants.iter().map(home).collect(),
        feeder_w: feeder.and_then(|g| power(shared, g, DeviceKind::Meter)),
        orders: open_orders(shared, open).await?,
        suggestions: shared.suggestions(open),
        cleared: last_cleared(shared, &mut known.cleared).await?,
        prices: prices(shared).await?,
        settled,
        log: log(shared).await?,
    })
}

/// The gateway at each home's connection.
fn gateways_of_homes(shared: &Shared) -> BTreeMap<&ParticipantId, &Gateway> {
    let mut homes = BTreeMap::new();
    for gateway in &shared.site.gateways {
        let connections = gateway.points.iter();
        let connections = connections.filter(|point| point.role == PointRole::Connection);
        for home in connections.filter_map(|point| point.participant.as_ref()) {
            homes.entry(home).or_insert(gateway);
        }
    }
    homes
}

/// Where today began on the site's clock.
fn day_start(shared: &Shared, now: Timestamp) -> Timestamp {
    let zone = shared.site.time_zone;
    calendar::day(zone, calendar::date(zone, now)).from
}

fn power(shared: &Shared, gateway: &Gateway, kind: DeviceKind) -> Option<view::Fresh> {
    shared
        .live
        .of(&gateway.id)
        .into_iter()
        .find(|d| d.kind == kind)?
        .power_w
}

fn home(
    shared: &Shared,
    participant: &Participant,
    gateway: Option<&Gateway>,
    day: view::Day,
) -> view::Home {
    let devices = gateway.map(|g| shared.live.of(&g.id)).unwrap_or_default();
    let of = |kind| devices.iter().find(|d| d.kind == kind);
    let chargers = gateway.map(|g| (g, shared.live.chargers(&g.id)));
    let car = chargers.and_then(|(gateway, chargers)| {
        let is_own = |name: &str| !is_apart(gateway, name, &participant.id);
        chargers.into_iter().find(|(name, _)| is_own(name))
    });
    view::Home {
        id: participant.id.clone(),
        net_w: of(DeviceKind::Meter).and_then(|d| d.power_w),
        sun_w: of(DeviceKind::Inverter).and_then(|d| d.power_w),
        battery_w: of(DeviceKind::Battery).and_then(|d| d.power_w),
        soc_permille: of(DeviceKind::Battery).and_then(|d| d.soc_permille),
        car_w: car.as_ref().and_then(|(_, device)| device.power_w),
        has_sun: of(DeviceKind::Inverter).is_some(),
        has_battery: of(DeviceKind::Battery).is_some(),
        has_car: car.is_some(),
        day,
    }
}

/// Whether a device has a connection that is not this home's: a public station that the home's gateway reads.
fn is_apart(gateway: &Gateway, device: &str, home: &ParticipantId) -> bool {
    let mut points = gateway.points.iter();
    points.any(|p| {
        let (_, name) = p.point.as_str().rsplit_once('.').unwrap_or_default();
        let is_connection = p.role == PointRole::Connection;
        is_connection && name == device && p.participant.as_ref() != Some(home)
    })
}

/// The end of the newest interval that is settled; the start of the day where none is.
async fn settled_until(
    shared: &Shared,
    now: Timestamp,
    today: Timestamp,
) -> anyhow::Result<Timestamp> {
    let length_s = shared.market.rules.interval_length_s;
    let current = Interval::containing(now, length_s)?;
    let from = current.offset(1 - SETTLED_WITHIN).start();
    let newest = settlement::service::newest_settled(&shared.db, from, current.end()).await?;
    Ok(newest.map_or(today, |start| start.plus_s(i64::from(length_s))))
}

/// Every participant's settled money of `[from, to)`, beside what the utility alone would have meant. Only
/// what was settled since the last time is read, unless a run has corrected what was before.
async fn day_money<'k>(
    shared: &Shared,
    Known {
        day: known, month, ..
    }: &'k mut Known,
    from: Timestamp,
    to: Timestamp,
) -> anyhow::Result<&'k BTreeMap<ParticipantId, view::Day>> {
    let runs_until = async |end| settlement::service::runs_between(&shared.db, from, end).await;
    let kept = known.take();
    let kept = match kept.filter(|day| day.from == from && day.to <= to) {
        Some(day) => (runs_until(day.to).await? == day.runs).then_some(day),
        None => None,
    };
    let mut day = kept.unwrap_or(KnownDay {
        from,
        to: from,
        runs: 0,
        money: BTreeMap::new(),
    });
    if day.to < to {
        // Counted first: a run that comes meanwhile is looked at the next time.
        day.runs = runs_until(to).await?;
        let energy = month.energy_between(shared, &day.money, (from, day.to), to);
        let energy = energy.await?;
        for (home, more) in money_between(shared, (day.to, to), energy).await? {
            let sum = match day.money.get(&home) {
                Some(before) => before.plus(&more).context("the day's money overflows")?,
                None => more,
            };
            day.money.insert(home, sum);
        }
        day.to = to;
    }
    Ok(&known.insert(day).money)
}

/// Every participant's settled money of `[from, to)`, read anew, with what its energy comes to with the utility alone.
async fn money_between(
    shared: &Shared,
    (from, to): (Timestamp, Timestamp),
    mut energy: BTreeMap<ParticipantId, view::Day>,
) -> anyhow::Result<BTreeMap<ParticipantId, view::Day>> {
    let mut days = BTreeMap::new();
    for money in settlement::service::day_money(&shared.db, from, to).await? {
        let ParticipantMoney {
            participant,
            sold,
            bought,
            fees,
            pool,
            utility,
            net,
        } = money;
        let day = view::Day {
            sold,
            bought,
            fees,
            pool,
            utility,
            net,
            ..energy.remove(&participant).unwrap_or_default()
        };
        days.insert(participant, day);
    }
    days.extend(energy);
    Ok(days)
}

async fn open_orders(shared: &Shared, open: Interval) -> anyhow::Result<Vec<view::OrderLine>> {
    let placed = market_engine::service::orders(&shared.db, open).await?;
    let line = |placed: market_engine::service::PlacedOrder| view::OrderLine {
        participant: placed.order.participant,
        side: placed.order.side,
        energy: placed.order.energy,
        limit: placed.order.limit,
        filled: None,
    };
    Ok(placed.into_iter().map(line).collect())
}

/// The newest clearing, which is for an interval to come. A clearing never changes.
async fn last_cleared(
    shared: &Shared,
    known: &mut Option<view::Cleared>,
) -> anyhow::Result<Option<view::Cleared>> {
    let newest = market_engine::service::recent_clearings(&shared.db, 1).await?;
    let Some(newest) = newest.into_iter().next() else {
        return Ok(None);
    };
    if known
        .as_ref()
        .is_some_and(|k| k.interval == newest.interval)
    {
        return Ok(known.clone());
    }
    let Some(cleared) = market_engine::service::clearing(&shared.db, newest.interval).await? else {
        return Ok(None);
    };
    let orders = cleared.orders.into_iter().map(|o| view::OrderLine {
        participant: o.order.participant,
        side: o.order.side,
        energy: o.order.energy,
        limit: o.order.limit,
        filled: Some(o.filled),
    });
    *known = Some(view::Cleared {
        interval: cleared.clearing.interval,
        price: cleared.clearing.price,
        volume: cleared.clearing.volume,
        orders: orders.collect(),
        trades: cleared.trades.into_iter().map(trade_line).collect(),
    });
    Ok(known.clone())
}

pub(crate) fn trade_line(trade: domain::trade::Trade) -> view::TradeLine {
    view::TradeLine {
        id: trade.id,
        interval: trade.interval,
        buyer: trade.buyer,
        seller: trade.seller,
        energy: trade.energy,
        price: trade.price,
    }
}

async fn prices(shared: &Shared) -> anyhow::Result<Vec<view::PricePoint>> {
    let recent = market_engine::service::recent_clearings(&shared.db, PRICE_POINTS).await?;
    let point = |c: domain::trade::Clearing| view::PricePoint {
        interval: c.interval,
        price: c.price,
        volume: c.volume,
    };
    let mut points: Vec<_> = recent.into_iter().map(point).collect();
    points.sort_by_key(|p| p.interval);
    Ok(points)
}

async fn log(shared: &Shared) -> anyhow::Result<view::Log> {
    let newest = async |log| settlement::service::checkpoint_time(&shared.db, log).await;
    let size = |newest: Option<(Timestamp, u64)>| newest.map_or(0, |(_, size)| size);
    let ledger = newest(Log::Ledger).await?;
    Ok(view::Log {
        checkpoint_at: ledger.map(|(at, _)| at),
        readings: size(newest(Log::Readings).await?),
        market: size(newest(Log::Market).await?),
        ledger: size(ledger),
        operator_key: crate::site::public_key_text(domain::signed::PublicKey::of(
            &shared.community.operator,
        )),
    })
}

/// What a participant's autopilot would order for an interval; `None` where it orders nothing.
pub(super) async fn proposal(
    shared: &Shared,
    participant: &Participant,
    interval: Interval,
    now: Timestamp,
) -> anyhow::Result<Option<Proposal>> {
    let Some(point) = shared.site.connection_of(&participant.id) else {
        return Ok(None);
    };
    let history = past(shared, participant, &point.point, now).await?;
    let tariff = shared.site.tariff_at(interval);
    let proposed = propose(&Inputs {
        participant: &participant.id,
        point: &point.point,
        rating_w: point.rating_w,
        interval,
        sequence: AUTOPILOT_SEQUENCES + u64::try_from(interval.start_s()).unwrap_or(0),
        level: participant.autopilot,
        preferences: Preferences {
            max_buy: participant.max_buy,
            min_sell: participant.min_sell,
        },
        utility: UtilityPrices {
            retail: tariff.retail,
            feed_in: tariff.feed_in,
            network_fee: shared.site.largest_fee(tariff.network_fee),
        },
        rules: &shared.market.rules,
        history: &history,
        // Where no roof's clear sky is known, the forecast takes it from what the roof gave.
        clear_sky_wh: &BTreeMap::new(),
    });
    let told = |why: &NoOrder| match why {
        NoOrder::Price(..) => {
            tracing::info!(participant = %participant.id, "its autopilot orders nothing: {why}");
        }
        _ => tracing::debug!(participant = %participant.id, "its autopilot orders nothing: {why}"),
    };
    let Ok(proposal) = proposed.inspect_err(told) else {
        return Ok(None);
    };
    let which = (interval, proposal.order.side);
    let rules = &shared.market.rules;
    let room =
        market_engine::service::share_room(&shared.db, rules, &participant.id, which).await?;
    Ok(match room {
        Some(room) => proposal.within_share(room),
        None => Some(proposal),
    })
}

/// What a home has taken for its deadlines in the intervals in which these have bought: what their own meter counted, or
/// without one what was bought; at most what came through the connection at all.
async fn for_deadlines(
    shared: &Shared,
    participant: &ParticipantId,
    metered: &[MeteredInterval],
    from: Timestamp,
    now: Timestamp,
) -> anyhow::Result<BTreeMap<Interval, i64>> {
    let imported: BTreeMap<Interval, i64> = metered
        .iter()
        .map(|m| (m.interval, m.imported.wh()))
        .collect();
    let mut counted: BTreeMap<PointId, BTreeMap<Interval, i64>> = BTreeMap::new();
    let mut taken: BTreeMap<Interval, i64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let bought = market_engine::service::standing::deadlines_bought(&shared.db, participant, from);
    for one in bought.await? {
        if let Some(point) = &one.counted_at
            && !counted.contains_key(point)
        {
            let whose = Whose::Point(point);
            let metered = settlement::service::history(&shared.db, whose, from, now).await?;
            let of_point = metered.iter().map(|m| (m.interval, m.imported.wh()));
            counted.insert(point.clone(), of_point.collect());
        }
        let meter = one.counted_at.as_ref().and_then(|point| counted.get(point));
        let wh = match meter.and_then(|meter| meter.get(&one.interval)) {
            // What a meter counted is there once, however many orders it was for.
            Some(_) if !seen.insert((one.counted_at.clone(), one.interval)) => continue,
            Some(wh) => *wh,
            None => one.energy.wh(),
        };
        let most = imported.get(&one.interval).copied().unwrap_or(0);
        let sum = taken.entry(one.interval).or_default();
        *sum = sum.saturating_add(wh).min(most);
    }
    Ok(taken)
}

/// What a home's meters counted: at its connection, and behind it what comes from its roof. What its standing orders have
/// brought to the meter is other energy: a battery's, which its order sells again by itself, and a car's.
async fn past(
    shared: &Shared,
    home: &Participant,
    connection: &PointId,
    now: Timestamp,
) -> anyhow::Result<Vec<Past>> {
    let (from, participant) = (now.plus_s(-HISTORY_S), &home.id);
    let of = async |point| {
        settlement::service::history(&shared.db, Whose::Point(point), from, now).await
    };
    let mut sun: BTreeMap<Interval, i64> = BTreeMap::new();
    let behind = shared
        .site
        .points()
        .filter(|p| p.role == PointRole::Submeter && p.participant.as_ref() == Some(participant));
    for point in behind {
        let metered = of(&point.point).await?;
        let given: i128 = metered.iter().map(|m| i128::from(m.exported.wh())).sum();
        let taken: i128 = metered.iter().map(|m| i128::from(m.imported.wh())).sum();
        // A roof gives more than it takes; a charger or a battery does not.
        if given > taken {
            for m in metered {
                let wh = sun.entry(m.interval).or_default();
                *wh = wh.saturating_add(m.exported.wh());
            }
        }
    }
    let mut brought: BTreeMap<Interval, i64> = BTreeMap::new();
    if home.battery.is_some() {
        let traded =
            market_engine::service::standing::battery_trades_of(&shared.db, participant, from);
        for one in traded.await? {
            let wh = brought.entry(one.interval).or_default();
            *wh = wh.saturating_add(one.sold_wh());
        }
    }
    let metered = of(connection).await?;
    for (interval, wh) in for_deadlines(shared, participant, &metered, from, now).await? {
        let brought = brought.entry(interval).or_default();
        *brought = brought.saturating_sub(wh);
    }
    let net = |m: &MeteredInterval| {
        let given = m.exported.checked_sub(m.imported)?.wh();
        given.checked_sub(brought.get(&m.interval).copied().unwrap_or(0))
    };
    let past = metered.into_iter().filter_map(|m| {
        Some(Past {
            interval: m.interval,
            net_wh: net(&m)?,
            sun_wh: sun.get(&m.interval).copied(),
        })
    });
    Ok(past.collect())
}
