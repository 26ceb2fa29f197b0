//! What is put before a driver: the stations, what a kWh will cost, and three offers.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::PoisonError;

use anyhow::Context;
use domain::energy::Energy;
use domain::ids::{ParticipantId, PointId};
use domain::money::Price;
use domain::time::{Interval, Timestamp};
use market_engine::standing::{self, Deadline, Outlook, Progress, Standing};
use settlement::charging::offer::{Expected, Offer, Plan, fill, offer};
use settlement::charging::promise::{Payer, Promise};
use settlement::charging::station::Station;

use super::{OFFERS_MAX, device_of};
use crate::platform::Shared;
use crate::platform::core::gate_closes;
use crate::view::Fresh;

/// How far ahead prices are told and plans go.
pub(crate) const AHEAD_S: i64 = 12 * 3_600;
/// How long an offer stands.
const OFFER_LIFE_S: i64 = 300;
/// Clearings from which prices are expected: a week of quarter-hours.
const LOOK_BACK: u32 = 672;
/// What plans reckon with; most cars take no more.
pub(super) const PLAN_POWER_MAX_W: u32 = 11_000;
/// A station of the community.
pub(crate) struct Place {
    pub(crate) station: Station,
    pub(crate) host: ParticipantId,
    /// The feeder's point that it hangs on.
    pub(crate) feeder: Option<PointId>,
    /// Whether it buys its energy by itself.
    pub(crate) buys: bool,
    pub(crate) power: Option<Fresh>,
    /// Whether no session runs there.
    pub(crate) is_free: bool,
}

/// Every station of the site, with what its gateway says of it.
pub(crate) async fn places(shared: &Shared) -> Vec<Place> {
    let running = shared.charging.running.lock().await;
    let mut found = Vec::new();
    for station in &shared.site.stations {
        let id = station.asks.id.as_str();
        let live = device_of(shared, id).and_then(|(gateway, device)| {
            let mut chargers = shared.live.chargers(&gateway).into_iter();
            chargers.find(|(name, _)| *name == device)
        });
        found.push(Place {
            station: station.asks.clone(),
            host: station.host.clone(),
            feeder: station.feeder.clone(),
            buys: station.buyer.is_some(),
            power: live.and_then(|(_, device)| device.power_w),
            is_free: !running.values().any(|one| one.promise.quote.station == id),
        });
    }
    found.sort_by(|a, b| a.station.id.cmp(&b.station.id));
    found
}

/// One station; none where there is none of this name.
pub(crate) async fn place(shared: &Shared, id: &str) -> Option<Place> {
    let all = places(shared).await;
    all.into_iter().find(|place| place.station.id == id)
}

/// Which offer it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    Now,
    Cheapest,
    MostLocal,
}

impl Choice {
    pub(crate) const ALL: [Choice; 3] = [Choice::Now, Choice::Cheapest, Choice::MostLocal];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Choice::Now => "now",
            Choice::Cheapest => "cheapest",
            Choice::MostLocal => "most_local",
        }
    }
}

/// An offer that stands.
#[derive(Clone)]
pub(crate) struct Offered {
    pub(crate) id: String,
    pub(crate) choice: Choice,
    pub(crate) offer: Offer,
    pub(crate) station: Station,
    pub(crate) offered_at: Timestamp,
    pub(crate) valid_until: Timestamp,
}

/// What is expected from the interval of `now` on: the utility's price where the gate has closed, and for later ones
/// what the same time of day did in the week before.
pub(crate) async fn expected(shared: &Shared, now: Timestamp) -> anyhow::Result<Vec<Expected>> {
    let length_s = shared.market.rules.interval_length_s;
    let first = Interval::containing(now, length_s)?;
    let recent = market_engine::service::recent_clearings(&shared.db, LOOK_BACK).await?;
    let mut by_time: BTreeMap<i64, Vec<(Option<Price>, i64)>> = BTreeMap::new();
    for clearing in recent {
        let seen = (clearing.price, clearing.volume.wh());
        let time = clearing.interval.start_s().rem_euclid(86_400);
        by_time.entry(time).or_default().push(seen);
    }
    let station_wh = i64::from(PLAN_POWER_MAX_W) * i64::from(length_s) / 3_600;
    let count = AHEAD_S / i64::from(length_s);
    let one = |n: i64| {
        let interval = first.offset(n);
        let tariff = shared.site.tariff_at(interval);
        let fee = shared.site.largest_fee(tariff.network_fee);
        let time = interval.start_s().rem_euclid(86_400);
        // Behind a closed gate nothing can be ordered: what is taken in addition comes from the utility.
        let is_open = now < gate_closes(shared, interval);
        let seen = by_time.get(&time).filter(|_| is_open);
        let seen = seen.cloned().unwrap_or_default();
        let days = i64::try_from(seen.len()).unwrap_or(i64::MAX).max(1);
        let prices: Vec<i64> = seen
            .iter()
            .filter_map(|(p, _)| Some(p.as_ref()?.micro_per_kwh()))
            .collect();
        let mean = prices
            .iter()
            .sum::<i64>()
            .checked_div(i64::try_from(prices.len()).unwrap_or(0));
        let local = mean.and_then(|micro| Price::from_micro_per_kwh(micro).checked_add(fee));
        // As much as was traded at that time, and no more than the station takes.
        let traded = seen.iter().map(|(_, wh)| *wh).sum::<i64>() / days;
        let permille = traded.saturating_mul(1_000) / station_wh.max(1);
        Ok(Expected {
            interval,
            local,
            utility: tariff.retail,
            local_permille: u32::try_from(permille.clamp(0, 1_000)).unwrap_or(0),
        })
    };
    (0..=count).map(one).collect()
}

/// The three offers for so much energy until then; where two would be the same, both stand.
pub(crate) async fn offers(
    shared: &Shared,
    place: &Place,
    energy: Energy,
    by: Timestamp,
    now: Timestamp,
) -> anyhow::Result<(Vec<Expected>, Vec<Offered>)> {
    let expected = expected(shared, now).await?;
    let station = &place.station;
    let power_w = station.power_max_w.min(PLAN_POWER_MAX_W);
    let mut made = Vec::new();
    for choice in Choice::ALL {
        let plan = match choice {
            Choice::Now => fill(now, by, energy, power_w, &expected, |_| 0),
            Choice::Cheapest => cheapest(now, by, energy, power_w, &expected),
            Choice::MostLocal => fill(now, by, energy, power_w, &expected, |e| {
                (Reverse(e.local_permille), e.cost())
            }),
        };
        let Some(offer) = offer(station, &expected, plan)? else {
            continue;
        };
        made.push(Offered {
            id: crate::demo::random_password()?,
            choice,
            offer,
            station: station.clone(),
            offered_at: now,
            valid_until: now.plus_s(OFFER_LIFE_S),
        });
    }
    let mut kept = shared
        .charging
        .offers
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for one in &made {
        kept.insert((one.valid_until, one.id.clone()), one.clone());
        if kept.len() > OFFERS_MAX {
            kept.pop_first();
        }
    }
    Ok((expected, made))
}

/// The plan of the market's deadline order: the same rule that orders energy by a time. All prices are with the network
/// fee here, so the rule weighs neighbours and utility as the host pays them.
fn cheapest(
    now: Timestamp,
    by: Timestamp,
    energy: Energy,
    power_max_w: u32,
    expected: &[Expected],
) -> Plan {
    let open = |e: &Expected| Outlook {
        interval: e.interval,
        price: e.local,
        utility_buy: e.utility,
        // A deadline sells nothing.
        utility_sell: Price::ZERO,
    };
    let open: Vec<Outlook> = expected.iter().map(open).collect();
    let dearest = expected.iter().map(|e| e.utility).max();
    let deadline = Standing::Deadline(Deadline {
        energy,
        by,
        power_max_w,
        limit: dearest.unwrap_or(Price::ZERO),
        must: true,
    });
    let mut plan = Plan::new();
    for placed in standing::place(now, &deadline, Progress::default(), &open) {
        match plan.last_mut() {
            Some((interval, wh)) if *interval == placed.interval => {
                *wh = wh.checked_add(placed.energy).unwrap_or(*wh);
            }
            _ => plan.push((placed.interval, placed.energy)),
        }
    }
    plan
}

/// Forgets the offers that ran out.
pub(super) fn forget_old(shared: &Shared, now: Timestamp) {
    let mut kept = shared
        .charging
        .offers
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    *kept = kept.split_off(&(now, String::new()));
}

/// The promise of an offer that somebody takes; none where it does not stand any more. An offer is taken once.
pub(crate) fn take(
    shared: &Shared,
    id: &str,
    payer: Payer,
    now: Timestamp,
) -> anyhow::Result<Option<Promise>> {
    let taken = {
        let mut kept = shared
            .charging
            .offers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = kept
            .iter()
            .find(|((until, _), one)| one.id == id && now < *until);
        let key = found.map(|(key, _)| key.clone());
        key.and_then(|key| kept.remove(&key))
    };
    let Some(taken) = taken else {
        return Ok(None);
    };
    let station = shared.site.station(&taken.station.id);
    let station = station.context("the station is not in the site any more")?;
    let times = (taken.offered_at, taken.valid_until);
    // The session's name is as hard to guess as the offer's was: whoever has it may see and stop the session.
    let quote = taken.offer.quote(&taken.station, taken.id.clone(), times);
    Ok(Some(Promise {
        quote,
        plan: taken.offer.plan,
        payer,
        owners: station.owners.clone(),
        buys: station.buyer.is_some(),
        host: station.buyer.as_ref().unwrap_or(&station.host).clone(),
    }))
}
