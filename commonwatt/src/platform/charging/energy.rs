//! The energy of a session at a station with a connection of its own: bought interval by interval in the auction, by
//! the deadline order that the session's plan is, and settled like any participant's.
//!
//! What is ordered goes through the same door as every order, with a hold that comes out of the driver's. Whatever a
//! settlement run posts for the station is carried to the session's owners at once, in the run's own transaction: they
//! have promised the price. Outside sessions it is the host's.

use anyhow::Context;
use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::{Money, Price};
use domain::order::{Order, Side};
use domain::posting::Run;
use domain::signed::Signed;
use domain::time::{Interval, Timestamp};
use market_engine::standing::{self, Deadline, Outlook, Progress, Standing};
use runtime::db::Tx;
use settlement::charging::session::State;
use settlement::service::{self as books, Carrier};

use super::{Running, Shared, replayed};
use crate::platform::core::{AUTOPILOT_LEAD_S, AUTOPILOT_SEQUENCES, gate_closes, next_to_close};
use crate::platform::orders::{self, OrderAnswer};
use crate::platform::standing::STANDING_SEQUENCES;
use crate::site::Station;

/// Places the session's order for the interval whose gate closes next, once, when the autopilots place theirs. An order that is refused is told and not
/// tried again: what was not bought is a deviation like anybody's.
pub(super) async fn order(
    shared: &Shared,
    one: &mut Running,
    now: Timestamp,
) -> anyhow::Result<()> {
    if !one.promise.buys || one.session.state() != State::Active {
        return Ok(());
    }
    let open = next_to_close(shared, now)?;
    if one.ordered == Some(open) || now < gate_closes(shared, open).plus_s(-AUTOPILOT_LEAD_S) {
        return Ok(());
    }
    let buyer = &one.promise.host;
    // A sequence is used once: what was ordered before a restart stands.
    let ordered = market_engine::service::ordered(&shared.db, open, STANDING_SEQUENCES).await?;
    if !ordered.contains(buyer) {
        let wanted = wanted(shared, one, open, now);
        if let Some((energy, limit)) = wanted {
            place(shared, one, open, (energy, limit), now).await?;
        }
    }
    one.ordered = Some(open);
    Ok(())
}

/// What the deadline rule orders for an interval: the session's plan, less what has come and what is planned for the
/// intervals whose gates have closed.
fn wanted(
    shared: &Shared,
    one: &Running,
    open: Interval,
    now: Timestamp,
) -> Option<(Energy, Price)> {
    let (quote, plan) = (&one.promise.quote, &one.promise.plan);
    let read_until = one.session.readings()?[1].0;
    let power_w = one
        .session
        .power_w()
        .map_or(quote.power_max_w, |w| w.min(quote.power_max_w));
    let energy_in =
        |interval: Interval| i64::from(power_w) * i64::from(interval.length_s()) / 3_600;
    // Time goes on between the last reading and this gate: by plan, or at full power where the plan is over.
    let last = plan.last()?.0;
    let mut coming_wh = one.session.energy().wh();
    let mut between = Interval::containing(read_until, open.length_s()).ok()?;
    while between < open {
        let planned = plan.iter().any(|(interval, _)| *interval == between);
        if planned || between > last {
            coming_wh = coming_wh.saturating_add(energy_in(between));
        }
        between = between.next();
    }
    let outlook = |interval: Interval| {
        let (tariff, fee) = shared.site.tariff_and_fee_at(interval);
        Some(Outlook {
            interval,
            price: None,
            utility_buy: tariff.retail.checked_sub(fee)?,
            utility_sell: tariff.feed_in,
        })
    };
    // The plan has chosen the intervals; a car that is behind it goes on until it is done.
    let mut ahead: Vec<Outlook> = plan
        .iter()
        .filter(|(interval, _)| *interval >= open)
        .filter_map(|(interval, _)| outlook(*interval))
        .collect();
    if ahead.is_empty() {
        ahead.extend(outlook(open));
    }
    let deadline = Standing::Deadline(Deadline {
        energy: quote.energy,
        by: ahead.last()?.interval.end(),
        power_max_w: power_w,
        limit: ahead.iter().map(|o| o.utility_buy).max()?,
        must: true,
    });
    let progress = Progress {
        energy: Energy::from_wh(coming_wh.min(quote.energy.wh())),
        ..Progress::default()
    };
    let placed = standing::place(now, &deadline, progress, &ahead);
    let mut due = placed.iter().filter(|p| p.interval == open);
    let first = due.next()?;
    let more: i64 = due.map(|p| p.energy.wh()).sum();
    Some((
        Energy::from_wh(first.energy.wh().saturating_add(more)),
        first.limit.clamp(
            shared.market.rules.price_floor,
            shared.market.rules.price_cap,
        ),
    ))
}

/// Signs an order and brings it to the market's door, with what it needs advanced out of the driver's hold.
async fn place(
    shared: &Shared,
    one: &Running,
    open: Interval,
    (energy, limit): (Energy, Price),
    now: Timestamp,
) -> anyhow::Result<()> {
    let (buyer, session) = (&one.promise.host, &one.promise.quote.session);
    let keys = shared.keys();
    let Some(key) = keys.held(buyer) else {
        tracing::warn!(%session, %buyer, "nobody can sign for the station: the energy comes from the utility");
        return Ok(());
    };
    let (_, fee) = shared.site.tariff_and_fee_at(open);
    let dearest = limit.checked_add(fee).context("a limit does not fit")?;
    let mut tx = shared.db.begin().await?;
    let room = books::charging_to_advance(&mut tx, &one.promise).await?;
    let energy = affordable(energy, dearest, room);
    if !energy.is_positive() {
        tracing::info!(%session, "the hold is spent: the rest comes from the utility");
        return Ok(());
    }
    let needs = dearest.amount(energy)?.max(Money::ZERO);
    if !books::charging_advance(&mut tx, now, &one.promise, needs).await? {
        return Ok(());
    }
    let order = Order {
        participant: buyer.clone(),
        point: domain::ids::PointId::new(&one.promise.quote.station)?,
        side: Side::Bid,
        interval: open,
        energy,
        limit,
        sequence: AUTOPILOT_SEQUENCES + u64::try_from(open.start_s()).unwrap_or(0),
        replaces: None,
        preference: domain::order::Preference::default(),
    };
    let signed = Signed::sign(key, &shared.site.community, &order);
    let message = orders::read_any(shared, signed.as_bytes().to_vec());
    match orders::take_one(&mut tx, shared, now, &message).await? {
        OrderAnswer::Accepted(_) | OrderAnswer::Again { .. } => {
            tx.commit().await?;
            tracing::info!(%session, interval = %open, %energy, %limit, "ordered for a session");
        }
        // Nothing is committed: the advance stays in the hold.
        refused => tracing::warn!(%session, ?refused, "a session's order was refused"),
    }
    Ok(())
}

/// As much of the energy as the money is enough for.
fn affordable(energy: Energy, price: Price, money: Money) -> Energy {
    if price <= Price::ZERO {
        return energy;
    }
    let most = money.nano().max(0) / price.micro_per_kwh();
    Energy::from_wh(energy.wh().min(most))
}

/// Carries what a run has posted for every station of an interval, in the run's own transaction. A later run goes where the
/// first one went, whatever became of session and station since.
pub(in crate::platform) async fn carry(
    tx: &mut Tx,
    shared: &Shared,
    now: Timestamp,
    (interval, run): (Interval, Run),
) -> anyhow::Result<()> {
    let before = books::stations_carried(tx, interval).await?;
    for carried in &before {
        let today = shared.site.stations.iter();
        let mut today = today.filter(|s| s.buyer.as_ref() == Some(&carried.station));
        let host = today.next().map(|station| &station.host);
        let to = (carried.session.as_ref(), carried.bearer.as_ref().or(host));
        carry_one(tx, shared, now, (&carried.station, interval, run), to).await?;
    }
    for station in &shared.site.stations {
        let Some(buyer) = &station.buyer else {
            continue;
        };
        if before.iter().any(|carried| carried.station == *buyer) {
            continue;
        }
        let Some(line) = books::station_line(tx, buyer, interval, run).await? else {
            continue;
        };
        let session = session_of(shared, station, interval, line.delivery.bought).await?;
        let to = (session.as_ref(), Some(&station.host));
        carry_one(tx, shared, now, (buyer, interval, run), to).await?;
    }
    Ok(())
}

/// Carries a station's line, where the run has one, to a session's owners, or else to who bears it without one.
async fn carry_one(
    tx: &mut Tx,
    shared: &Shared,
    now: Timestamp,
    (station, interval, run): (&ParticipantId, Interval, Run),
    (session, bearer): (Option<&String>, Option<&ParticipantId>),
) -> anyhow::Result<()> {
    let Some(line) = books::station_line(tx, station, interval, run).await? else {
        return Ok(());
    };
    let stored = match session {
        Some(session) => books::charging_session(&shared.db, session).await?,
        None => None,
    };
    let carrier = match (&stored, bearer) {
        (Some(stored), _) => {
            Carrier::Session(&stored.promise.quote.session, &stored.promise.owners)
        }
        (None, Some(bearer)) => Carrier::Host(bearer),
        (None, None) => {
            tracing::warn!(%station, %interval, "it has left site.toml, and who bore its energy was not kept: the run stays on its own statement");
            return Ok(());
        }
    };
    Ok(books::station_carry(tx, now, &line, carrier).await?)
}

/// The session that an interval of a station belongs to: the newest one before it, while it runs, and afterwards where
/// energy was bought for it.
async fn session_of(
    shared: &Shared,
    station: &Station,
    interval: Interval,
    bought: Energy,
) -> anyhow::Result<Option<String>> {
    let newest = books::charging_newest(&shared.db, &station.asks.id, interval.start()).await?;
    let Some(one) = newest.map(replayed).transpose()? else {
        return Ok(None);
    };
    Ok(covers(&one, interval, bought).then(|| one.promise.quote.session.clone()))
}

fn covers(one: &Running, interval: Interval, bought: Energy) -> bool {
    let offered = Interval::containing(one.promise.quote.offered_at, interval.length_s());
    let begun = offered.is_ok_and(|offered| interval.start() >= offered.end());
    match (one.session.state(), one.session.readings()) {
        (State::Settling(_) | State::Closed(_), Some([first, last])) => {
            let within = interval.start() >= first.0 && interval.end() <= last.0;
            within || (begun && bought.is_positive())
        }
        (State::Settling(_) | State::Closed(_), None) => false,
        _ => begun,
    }
}

/// Takes what stations without a session have left to spend off their accounts.
pub(super) async fn sweep(
    shared: &Shared,
    busy: &[ParticipantId],
    now: Timestamp,
) -> anyhow::Result<()> {
    let idle = shared.site.stations.iter().filter_map(|s| s.buyer.as_ref());
    let mut tx = shared.db.begin().await?;
    for buyer in idle.filter(|buyer| !busy.contains(buyer)) {
        books::station_sweep(&mut tx, now, buyer).await?;
    }
    Ok(tx.commit().await?)
}
