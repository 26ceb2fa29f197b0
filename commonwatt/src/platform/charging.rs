//! Charging sessions on this platform: what time, readings and drivers do to them, and what they do to money and
//! to the station.
//!
//! A session counts by the station's signed interval readings and nothing else: it begins at the end of the
//! interval in which it was taken, and ends at the last interval that was metered. Every event is stored before its
//! effects count, in one transaction with them; after a restart the sessions are their events again.

mod amend;
mod correct;
pub(crate) mod drivers;
mod energy;
mod entry;
mod offers;
mod plan;
pub(crate) mod records;
mod shown;
mod story;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context;
use domain::energy::Energy;
use domain::ids::{GatewayId, ParticipantId, PointId};
use domain::money::{Money, Price};
use domain::reading::{Obis, Reading};
use domain::time::{Interval, Timestamp};
use runtime::db::{Source, Tx};
use settlement::charging::ocmf::Signer;
use settlement::charging::profit::Cost;
use settlement::charging::promise::{Payer, Promise};
use settlement::charging::session::{Effect, Event, Session, State, is_full};
use settlement::charging::split::{PassThrough, split};
use settlement::service::{self as books, StoredSession};

use super::Shared;

pub(crate) use amend::{Amended, Wanted, change};
pub(crate) use correct::{Corrected, correct, credits};
pub(super) use energy::carry;
use offers::PLAN_POWER_MAX_W;
pub(crate) use offers::{AHEAD_S, Choice, Offered, Place, expected, offers, place, places, take};
pub(crate) use shown::{ocmf, receipt};
pub(crate) use story::{Story, story};

/// Sessions that may run at the same time; a further one is refused.
const RUNNING_MAX: usize = 1_000;
/// Offers that stand at the same time; the oldest is forgotten.
const OFFERS_MAX: usize = 4_096;

/// Later than any reading.
const END: Timestamp = Timestamp::from_unix_ms(i64::MAX);

/// What is kept in memory of charging.
pub(crate) struct Desk {
    offers: Mutex<BTreeMap<(Timestamp, String), Offered>>,
    running: tokio::sync::Mutex<BTreeMap<String, Running>>,
    signer: Signer,
    /// Stations that still let a driver in and could not be told that nobody comes any more.
    left_open: Mutex<BTreeSet<String>>,
    /// Stations whose session has ended and that have not confirmed yet that they give nothing.
    over: Mutex<BTreeMap<String, plan::Over>>,
}

/// A session that has not ended.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) promise: Promise,
    pub(crate) session: Session,
    seq: u64,
    /// Until when the station was told to wait.
    told_until: Option<Timestamp>,
    /// The interval for which its energy was ordered last.
    ordered: Option<Interval>,
    /// The command by which the station lets the driver in.
    let_in: Option<entry::LetIn>,
}

impl Desk {
    /// A desk with the key that signs OCMF, made at first use.
    pub(super) fn open(key: &Path) -> anyhow::Result<Desk> {
        if !key.exists() {
            let hex = domain::ids::to_hex(&Signer::generate()?);
            crate::site::write_private(key, &(hex + "\n"))?;
        }
        let text = std::fs::read_to_string(key)
            .with_context(|| format!("cannot read {}", key.display()))?;
        let signer = hex(text.trim()).and_then(|bytes| Signer::from_pkcs8(&bytes).ok());
        let signer = signer.with_context(|| {
            format!(
                "{} holds no key: restore it, or remove it to make a new one",
                key.display()
            )
        })?;
        Ok(Desk {
            offers: Mutex::default(),
            running: tokio::sync::Mutex::default(),
            signer,
            left_open: Mutex::default(),
            over: Mutex::default(),
        })
    }

    /// The key that checks this platform's OCMF, in hex.
    pub(crate) fn ocmf_key(&self) -> String {
        self.signer.public().to_hex()
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let byte = |place: usize| u8::from_str_radix(text.get(place..place + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// The stored session as it stands.
fn replayed(stored: StoredSession) -> anyhow::Result<Running> {
    let session = stored.session()?;
    let seq = u64::try_from(stored.events.len()).unwrap_or(u64::MAX);
    let mut promise = stored.promise;
    // The driver may have changed it since.
    promise.quote.clone_from(&session.terms().quote);
    Ok(Running {
        promise,
        session,
        seq,
        told_until: None,
        ordered: None,
        let_in: None,
    })
}

/// Takes up the sessions that had not ended when the platform stopped, however long ago, and what their stations were
/// told. A damaged one is left out, and said: its money stays held until somebody has looked.
pub(super) async fn load(shared: &Shared) -> anyhow::Result<()> {
    let mut running = shared.charging.running.lock().await;
    let mut after = String::new();
    loop {
        let page = books::charging_unfinished(&shared.db, &after).await?;
        let Some((last, _)) = page.last() else {
            break;
        };
        after.clone_from(last);
        for (session, stored) in page {
            match stored.map_err(anyhow::Error::from).and_then(replayed) {
                Ok(one) if matches!(one.session.state(), State::Closed(_)) => {}
                Ok(one) => drop(running.insert(session, one)),
                Err(error) => tracing::error!(
                    session,
                    "a charging session is damaged and not taken up, what it holds stays held: {error:#}"
                ),
            }
        }
    }
    let now = shared.clock.now();
    for station in &shared.site.stations {
        let name = station.asks.id.as_str();
        let mut own = running.values_mut();
        let one = own.find(|one| one.promise.quote.station == name);
        take_up(shared, name, one, now).await?;
    }
    Ok(())
}

/// What a station was told before the platform stopped: its session goes on from that, and where none runs any more it
/// lets nobody in.
async fn take_up(
    shared: &Shared,
    station: &str,
    one: Option<&mut Running>,
    now: Timestamp,
) -> anyhow::Result<()> {
    let opened = entry::opened(shared, station, now).await?;
    let told_until = plan::told_until(shared, station, now).await?;
    match one {
        Some(one) => {
            let is_its = |at: Timestamp| at >= one.promise.quote.offered_at;
            one.let_in = opened.filter(|opened| is_its(opened.since));
            one.told_until = told_until;
            if opened.is_some() && one.let_in.is_none() {
                entry::close(shared, station, now).await;
            }
        }
        None if opened.is_some() => entry::close(shared, station, now).await,
        None => plan::ended_before(shared, station, now).await?,
    }
    Ok(())
}

/// A session by its name, running or ended; none where there is none.
pub(crate) async fn find(shared: &Shared, session: &str) -> anyhow::Result<Option<Running>> {
    if let Some(one) = shared.charging.running.lock().await.get(session) {
        return Ok(Some(one.clone()));
    }
    let stored = books::charging_session(&shared.db, session).await?;
    stored.map(replayed).transpose()
}

/// The session that runs at a station.
pub(crate) async fn session_at(shared: &Shared, station: &str) -> Option<String> {
    let running = shared.charging.running.lock().await;
    let mut there = running
        .iter()
        .filter(|(_, one)| one.promise.quote.station == station);
    there.next().map(|(name, _)| name.clone())
}

/// Sessions that were offered in `[from, to)`, newest first: those that a household pays, or all.
pub(crate) async fn listed(
    shared: &Shared,
    payer: Option<&ParticipantId>,
    span: (Timestamp, Timestamp),
    after: Option<&(Timestamp, String)>,
    limit: u32,
) -> anyhow::Result<Vec<Running>> {
    let stored = books::charging_list(&shared.db, payer, span, after, limit).await?;
    stored.into_iter().map(replayed).collect()
}

/// What time and readings do to every session that runs. One that fails holds up no other.
pub(super) async fn beat(shared: &Shared, now: Timestamp) -> anyhow::Result<()> {
    offers::forget_old(shared, now);
    let mut running = shared.charging.running.lock().await;
    let names: Vec<String> = running.keys().cloned().collect();
    let mut failed = false;
    for name in names {
        let Some(one) = running.get(&name) else {
            continue;
        };
        match advance(shared, one.clone(), now).await {
            Ok(next) if matches!(next.session.state(), State::Closed(_)) => {
                running.remove(&name);
            }
            Ok(next) => {
                running.insert(name, next);
            }
            Err(error) => {
                tracing::error!(
                    session = name,
                    "a charging session failed, trying again: {error:#}"
                );
                failed = true;
            }
        }
    }
    let busy: Vec<_> = running
        .values()
        .map(|one| one.promise.host.clone())
        .collect();
    energy::sweep(shared, &busy, now).await?;
    let stations = running.values().map(|one| &one.promise.quote.station);
    let stations: Vec<String> = stations.cloned().collect();
    entry::close_again(shared, &stations, now).await;
    if let Err(error) = plan::end_again(shared, &stations, now).await {
        tracing::error!("not every station knows that its session is over: {error:#}");
        failed = true;
    }
    correct::rate_anew(shared, |name| running.contains_key(name), now).await?;
    anyhow::ensure!(!failed, "not every charging session went on");
    Ok(())
}

async fn advance(shared: &Shared, mut one: Running, now: Timestamp) -> anyhow::Result<Running> {
    let was_running = is_running(&one);
    let standing = plan::standing(shared, &one, now).await?;
    let left = entry::has_left(shared, &one).await?.then_some(Event::Stop);
    let mut tx = shared.db.begin().await?;
    read(&mut tx, shared, &mut one).await?;
    for event in plan::due(&one, now, standing).into_iter().chain(left) {
        step(&mut tx, shared, &mut one, now, event).await?;
    }
    step(&mut tx, shared, &mut one, now, Event::Tick).await?;
    tx.commit().await?;
    tell(shared, &mut one, was_running, now).await;
    // The session's own steps are kept by now; an order that fails is tried again at the next beat.
    if let Err(error) = energy::order(shared, &mut one, now).await {
        let session = &one.promise.quote.session;
        tracing::error!(session, "its energy could not be ordered: {error:#}");
    }
    Ok(one)
}

/// Whether a car may charge for it.
fn is_running(one: &Running) -> bool {
    matches!(one.session.state(), State::Authorised | State::Active)
}

/// Tells the station what has become of its session. One that opens by the platform's word is closed at the end; any
/// other gives nothing for a while, whatever has ended the session.
async fn tell(shared: &Shared, one: &mut Running, was_running: bool, now: Timestamp) {
    let has_ended = was_running && !is_running(one);
    match has_ended && !entry::takes_sessions(shared, one) {
        true => plan::end(shared, one, now).await,
        false => plan::tell(shared, one, now).await,
    }
    entry::tell(shared, one, now).await;
}

/// Takes in the readings that are new to a session. No other is stored before the transaction ends: one that is not seen
/// here comes late, and is noted as such.
async fn read(tx: &mut Tx, shared: &Shared, one: &mut Running) -> anyhow::Result<()> {
    books::charging_alone(tx).await?;
    for (at, event) in metered(shared, tx, one).await? {
        step(tx, shared, one, at, event).await?;
    }
    Ok(())
}

/// The events of the readings that are new to a session.
async fn metered(
    shared: &Shared,
    source: &mut impl Source,
    one: &Running,
) -> anyhow::Result<Vec<(Timestamp, Event)>> {
    let (mut last, mut started) = match (one.session.state(), one.session.readings()) {
        (State::Authorised, _) => (one.promise.quote.offered_at, None),
        (State::Active, Some([first, last])) => (last.0, Some([first.1, last.1])),
        _ => return Ok(Vec::new()),
    };
    let point = PointId::new(&one.promise.quote.station)?;
    let from = last.plus_s(-i64::from(shared.market.rules.interval_length_s));
    let mut events = Vec::new();
    let waits = plan::waits(one);
    for (_, reading) in books::charging_readings(source, &point, (from, END)).await? {
        let (end, register) = (reading.interval.end(), import_end(&reading));
        let Some(register_wh) = register.filter(|_| end > last) else {
            continue;
        };
        let event = match started {
            None => Event::Started { register_wh },
            Some(before_wh) => Event::Reading {
                register_wh,
                full: is_full(
                    before_wh,
                    register_wh,
                    waits || plan::waits_at(one, reading.interval.start()),
                ),
            },
        };
        let first_wh = started.map_or(register_wh, |[first_wh, _]| first_wh);
        started = Some([first_wh, register_wh]);
        last = end;
        events.push((end, event));
    }
    Ok(events)
}

/// The readings of the intervals from a session's beginning to its end that are in the books.
async fn readings_of(source: &mut impl Source, one: &Running) -> anyhow::Result<Vec<Reading>> {
    let Some([first, last]) = one.session.readings() else {
        return Ok(Vec::new());
    };
    let point = PointId::new(&one.promise.quote.station)?;
    let found = books::charging_readings(source, &point, (first.0, last.0)).await?;
    Ok(found.into_iter().map(|(_, reading)| reading).collect())
}

fn import_end(reading: &Reading) -> Option<i64> {
    let import = reading.registers.iter().find(|r| r.obis == Obis::IMPORT);
    import.map(|r| r.end.wh())
}

/// One event with its effects, and with the events that follow from them.
async fn step(
    tx: &mut Tx,
    shared: &Shared,
    one: &mut Running,
    at: Timestamp,
    event: Event,
) -> anyhow::Result<()> {
    let mut open = VecDeque::from([event]);
    while let Some(event) = open.pop_front() {
        let before = one.session.clone();
        let effects = one.session.apply(at, event);
        if effects.is_empty() && one.session == before {
            continue;
        }
        let session = one.promise.quote.session.clone();
        books::charging_event(tx, &session, one.seq, at, event).await?;
        one.seq += 1;
        one.promise.quote.clone_from(&one.session.terms().quote);
        for effect in effects {
            match effect {
                Effect::PlaceHold(amount) => {
                    let held = books::charging_hold(tx, at, &one.promise, amount).await?;
                    open.push_back(if held {
                        Event::HoldPlaced
                    } else {
                        Event::HoldRefused
                    });
                }
                Effect::Settle { capture, .. } if is_refused(&one.promise, capture) => {
                    open.push_back(Event::CaptureRefused);
                }
                Effect::Settle { capture, release } => {
                    pay(tx, shared, one, at, capture, release).await?;
                    open.push_back(Event::Captured);
                }
                Effect::Forbid => one.told_until = None,
                Effect::Allow => {}
                Effect::Debt(amount) => {
                    tracing::warn!(session, %amount, "a session is not paid: its hold is given back, and this is owed");
                }
            }
        }
        let state = one.session.state();
        tracing::info!(session, ?event, ?state, energy = %one.session.energy(), "charging");
    }
    Ok(())
}

/// Whether the payer's bank refuses the payment. The session then gives the hold back whole and ends with a debt.
fn is_refused(promise: &Promise, capture: Money) -> bool {
    promise.payer == Payer::RefusingCard && capture > Money::ZERO
}

/// Takes the payment out of the hold and splits it.
async fn pay(
    tx: &mut Tx,
    shared: &Shared,
    one: &Running,
    at: Timestamp,
    capture: Money,
    release: Money,
) -> anyhow::Result<()> {
    let parts = match one.session.bill().filter(|_| capture > Money::ZERO) {
        None => None,
        Some(bill) => {
            // What a station buys by itself is carried to the owners run by run, as it is settled.
            let cost = match one.promise.buys {
                true => Cost::default(),
                false => energy_cost(shared, one).await?,
            };
            let pass_through = PassThrough {
                energy: cost.energy,
                network_fee: cost.network_fee,
                tax: bill.tax,
            };
            let salt = &one.promise.quote.session;
            Some(split(capture, pass_through, &one.promise.owners, salt)?)
        }
    };
    Ok(books::charging_settle(tx, at, &one.promise, parts.as_ref(), release).await?)
}

/// What the energy of a session cost behind its host's meter: in each interval the local price with the network fee
/// where there was one, and never more than the utility's.
async fn energy_cost(shared: &Shared, one: &Running) -> anyhow::Result<Cost> {
    let mut cost = Cost::default();
    let Some([first, last]) = one.session.readings() else {
        return Ok(cost);
    };
    let mut before_wh = first.1;
    let add = |sum: &mut Money, part| {
        *sum = sum
            .checked_add(part)
            .context("the energy's cost does not fit")?;
        anyhow::Ok(())
    };
    for reading in readings_of(&mut &shared.db, one).await? {
        let Some(end_wh) = import_end(&reading).filter(|_| reading.interval.end() <= last.0) else {
            continue;
        };
        let energy = Energy::from_wh(end_wh.saturating_sub(before_wh).max(0));
        before_wh = end_wh;
        let cleared = market_engine::service::clearing(&shared.db, reading.interval).await?;
        let tariff = shared.site.tariff_at(reading.interval);
        let fee = shared.site.largest_fee(tariff.network_fee);
        let local = cleared.and_then(|c| c.clearing.price);
        let is_cheaper = |p: &Price| p.checked_add(fee).is_some_and(|all| all < tariff.retail);
        match local.filter(is_cheaper) {
            Some(local) => {
                add(&mut cost.energy, local.amount(energy)?)?;
                add(&mut cost.network_fee, fee.amount(energy)?)?;
            }
            None => add(&mut cost.energy, tariff.retail.amount(energy)?)?,
        }
    }
    Ok(cost)
}

/// Opens a session on an offer that was taken: its promise is kept and its ceiling held, or it is refused.
pub(crate) async fn open(
    shared: &Shared,
    promise: Promise,
    now: Timestamp,
) -> anyhow::Result<Option<Running>> {
    let mut running = shared.charging.running.lock().await;
    let busy = running
        .values()
        .any(|one| one.promise.quote.station == promise.quote.station);
    if busy || running.len() >= RUNNING_MAX {
        return Ok(None);
    }
    let name = promise.quote.session.clone();
    let mut one = replayed(StoredSession {
        promise,
        events: Vec::new(),
    })?;
    let mut tx = shared.db.begin().await?;
    books::charging_open(&mut tx, &one.promise).await?;
    step(&mut tx, shared, &mut one, now, Event::Accepted).await?;
    tx.commit().await?;
    if !matches!(one.session.state(), State::Closed(_)) {
        plan::allow(shared, &one, now).await;
        running.insert(name, one.clone());
    }
    Ok(Some(one))
}

/// Stops a session; none where none of this name runs.
pub(crate) async fn stop(
    shared: &Shared,
    session: &str,
    now: Timestamp,
) -> anyhow::Result<Option<Running>> {
    let mut running = shared.charging.running.lock().await;
    let Some(one) = running.get(session) else {
        return Ok(None);
    };
    let mut one = one.clone();
    let was_running = is_running(&one);
    let mut tx = shared.db.begin().await?;
    read(&mut tx, shared, &mut one).await?;
    step(&mut tx, shared, &mut one, now, Event::Stop).await?;
    tx.commit().await?;
    tell(shared, &mut one, was_running, now).await;
    match one.session.state() {
        State::Closed(_) => drop(running.remove(session)),
        _ => drop(running.insert(session.to_owned(), one.clone())),
    }
    Ok(Some(one))
}

/// The station that a promise is about, with its gateway and its device's name.
fn device_of(shared: &Shared, station: &str) -> Option<(GatewayId, String)> {
    let gateways = shared.site.gateways.iter();
    let mut found = gateways.filter(|g| g.points.iter().any(|p| p.point.as_str() == station));
    let gateway = found.next()?;
    let (_, device) = station.rsplit_once('.')?;
    Some((gateway.id.clone(), device.to_owned()))
}
