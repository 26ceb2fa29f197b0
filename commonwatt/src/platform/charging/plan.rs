//! A plan is kept by the station's own current limit: a lease of 0 A for every interval that is not in it. And what
//! keeps the car from charging otherwise: the operator's own limit (the grid has no room), or a station without power.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use domain::command::{Ack, Act, Outcome, Refusal, SetPoint};
use domain::ids::Digest32;
use domain::time::{Interval, Timestamp};
use settlement::charging::session::{Event, State};
use settlement::service as books;

use super::{Running, device_of, is_running};
use crate::platform::control::{Last, Origin};
use crate::platform::{Shared, control};

/// How long a station is kept from charging after a session was stopped.
const STOPPED_S: i64 = 900;
/// A station that has not confirmed this is told again after so long.
const TOLD_AGAIN_S: i64 = 60;

/// Whether a session is active in an interval in which its plan lets the car wait.
pub(super) fn waits_at(one: &Running, now: Timestamp) -> bool {
    let plan = &one.promise.plan;
    let later = plan.iter().any(|(interval, _)| interval.start() > now);
    let planned = plan.iter().any(|(interval, _)| interval.contains(now));
    later && !planned
}

/// Whether the session waits by its plan at this moment, by what it was told.
pub(super) fn waits(one: &Running) -> bool {
    one.told_until.is_some()
}

/// With less current than this no car charges, in mA.
const CURRENT_MIN_MA: i64 = 6_000;
/// A station of whose device nothing was heard for so long, while others behind its gateway were, has no power.
const POWERLESS_S: i64 = 300;

/// What stands against charging, beside the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Against {
    /// The operator has told the station to give less than a car needs.
    grid: bool,
    /// Whether the station's device is silent while its gateway is not; none where nothing is known.
    powerless: Option<bool>,
}

/// The last word to a station about a set-point, where it was a session's own.
pub(super) async fn last_own(
    shared: &Shared,
    (station, set_point): (&str, SetPoint),
    now: Timestamp,
) -> anyhow::Result<Option<Last>> {
    let Some((gateway, device)) = device_of(shared, station) else {
        return Ok(None);
    };
    let last = control::last(&shared.db, &gateway, (&device, set_point), now).await?;
    Ok(last.filter(|last| last.origin == Origin::Session))
}

/// Until when a station was told by a session to give nothing, where that time is not over.
pub(super) async fn told_until(
    shared: &Shared,
    station: &str,
    now: Timestamp,
) -> anyhow::Result<Option<Timestamp>> {
    let last = last_own(shared, (station, SetPoint::ChargerCurrentMa), now).await?;
    Ok(last.and_then(|last| last.held(now)).map(|(_, until)| until))
}

/// What stands against charging at this moment.
pub(super) async fn standing(
    shared: &Shared,
    one: &Running,
    now: Timestamp,
) -> anyhow::Result<Against> {
    let station = &one.promise.quote.station;
    let Some((gateway, device)) = device_of(shared, station) else {
        return Ok(Against {
            grid: false,
            powerless: None,
        });
    };
    let current = (device.as_str(), SetPoint::ChargerCurrentMa);
    let last = control::last(&shared.db, &gateway, current, now).await?;
    let grid = last.is_some_and(|last| is_limit(&last, now));
    let heard = shared.live.heard(&gateway);
    let last = heard
        .iter()
        .find(|(name, _)| *name == device)
        .map(|(_, at)| *at);
    let others = heard
        .iter()
        .filter(|(name, _)| *name != device)
        .map(|(_, at)| *at)
        .max();
    let powerless = last.zip(others);
    Ok(Against {
        grid,
        powerless: powerless.map(|(last, others)| others.ms_since(last) >= POWERLESS_S * 1_000),
    })
}

/// Whether a command that is not the session's own keeps the car from charging now.
fn is_limit(last: &Last, now: Timestamp) -> bool {
    let held = last.held(now);
    last.origin != Origin::Session && held.is_some_and(|(value, _)| value < CURRENT_MIN_MA)
}

/// What plan, grid and power say to a session now; what it knows already changes nothing.
pub(super) fn due(one: &Running, now: Timestamp, against: Against) -> Vec<Event> {
    if one.session.state() != State::Active {
        return Vec::new();
    }
    let mut events = vec![
        if waits_at(one, now) {
            Event::PlanPause
        } else {
            Event::PlanResume
        },
        if against.grid {
            Event::GridPause
        } else {
            Event::GridResume
        },
    ];
    events.extend(against.powerless.map(|lost| match lost {
        true => Event::PowerLost,
        false => Event::PowerBack,
    }));
    events
}

/// Tells the station what the plan says, or to give nothing more where the car has what was wished for; once for an
/// interval.
pub(super) async fn tell(shared: &Shared, one: &mut Running, now: Timestamp) {
    if is_running(one) && (one.session.has_enough() || waits_at(one, now)) {
        let length_s = shared.market.rules.interval_length_s;
        let Ok(interval) = Interval::containing(now, length_s) else {
            return;
        };
        // A little beyond the interval, so that the next lease comes before this one ends.
        let until = interval.end().plus_s(i64::from(length_s) / 5);
        if one.told_until.is_none_or(|told| told < until)
            && hold_back(shared, &one.promise.quote.station, now, until)
                .await
                .is_some()
        {
            one.told_until = Some(until);
        }
    } else if one.told_until.is_some() && release(shared, one, now).await {
        one.told_until = None;
    }
}

/// A station that is to give nothing for a while: its session has ended, and the car may still be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over {
    until: Timestamp,
    /// The command that has told it, and when.
    told: Option<(Digest32, Timestamp)>,
}

/// Stops the station for a while, until it is confirmed ([`end_again`]).
pub(super) async fn end(shared: &Shared, one: &mut Running, now: Timestamp) {
    one.told_until = None;
    let station = &one.promise.quote.station;
    stop(shared, station, now.plus_s(STOPPED_S), now).await;
}

async fn stop(shared: &Shared, station: &str, until: Timestamp, now: Timestamp) {
    let told = hold_back(shared, station, now, until).await;
    let over = Over {
        until,
        told: told.map(|command| (command, now)),
    };
    over_at(shared).insert(station.to_owned(), over);
}

fn over_at(shared: &Shared) -> MutexGuard<'_, BTreeMap<String, Over>> {
    let over = shared.charging.over.lock();
    over.unwrap_or_else(PoisonError::into_inner)
}

/// Tells stations again that have not confirmed that they give nothing, until their time is over or a new session runs
/// there.
pub(super) async fn end_again(
    shared: &Shared,
    busy: &[String],
    now: Timestamp,
) -> anyhow::Result<()> {
    let known = over_at(shared).clone();
    for (station, over) in known {
        if now >= over.until || busy.contains(&station) {
            over_at(shared).remove(&station);
            continue;
        }
        let Some((command, at)) = over.told else {
            stop(shared, &station, over.until, now).await;
            continue;
        };
        let answers = control::answers(&shared.db, command).await?;
        let settled = |ack: &Ack| match ack.outcome {
            Outcome::Confirmed { .. } | Outcome::Ended { .. } => true,
            Outcome::Refused(why) => why != Refusal::Unavailable,
            Outcome::Accepted { .. } | Outcome::NotConfirmed { .. } => false,
        };
        if answers.iter().flatten().any(settled) {
            over_at(shared).remove(&station);
        } else if now.ms_since(at) >= TOLD_AGAIN_S * 1_000 {
            stop(shared, &station, over.until, now).await;
        }
    }
    Ok(())
}

/// After a start: whether the station's last session has ended so lately that it is to give nothing still, and what it was
/// told of that.
pub(super) async fn ended_before(
    shared: &Shared,
    station: &str,
    now: Timestamp,
) -> anyhow::Result<()> {
    // A station that opens by the platform's word was closed by it.
    let opens = last_own(shared, (station, SetPoint::ChargerSession), now).await?;
    let newest = books::charging_newest(&shared.db, station, now).await?;
    let Some(stored) = newest.filter(|_| opens.is_none()) else {
        return Ok(());
    };
    let has_begun = |event: &Event| *event == Event::HoldPlaced;
    let Some(last) = stored.events.iter().map(|(at, _)| *at).max() else {
        return Ok(());
    };
    let until = last.plus_s(STOPPED_S);
    if now >= until || !stored.events.iter().any(|(_, event)| has_begun(event)) {
        return Ok(());
    }
    let told = last_own(shared, (station, SetPoint::ChargerCurrentMa), now).await?;
    let told = told.filter(|told| told.command.issued_at >= last && told.held(now).is_some());
    let told = told.map(|told| (told.digest, told.command.issued_at));
    over_at(shared).insert(station.to_owned(), Over { until, told });
    Ok(())
}

/// Lets the station charge: a session begins there, and the one before may have kept it from charging for a while.
pub(super) async fn allow(shared: &Shared, one: &Running, now: Timestamp) {
    match told_until(shared, &one.promise.quote.station, now).await {
        Ok(None) => {}
        Ok(Some(_)) => drop(release(shared, one, now).await),
        Err(error) => {
            let session = &one.promise.quote.session;
            tracing::error!(
                session,
                "its station's last command is not known: {error:#}"
            );
        }
    }
}

/// Whether another's word holds the station's current: the operator's comes first, and a gateway keeps one lease.
async fn is_held(shared: &Shared, station: &str, now: Timestamp) -> bool {
    let Some((gateway, device)) = device_of(shared, station) else {
        return false;
    };
    let place = (device.as_str(), SetPoint::ChargerCurrentMa);
    let last = control::last(&shared.db, &gateway, place, now).await;
    let last = last.ok().flatten();
    last.is_some_and(|last| last.origin != Origin::Session && last.held(now).is_some())
}

/// Lets the station give nothing for a while; the command by which it was told.
async fn hold_back(
    shared: &Shared,
    station: &str,
    now: Timestamp,
    until: Timestamp,
) -> Option<Digest32> {
    if is_held(shared, station, now).await {
        return None;
    }
    let act = Act::Set {
        set_point: SetPoint::ChargerCurrentMa,
        value: 0,
        expires_at: until,
    };
    send(shared, station, now, act).await
}

/// Takes our own word back. Whether nothing of ours holds the station any more.
async fn release(shared: &Shared, one: &Running, now: Timestamp) -> bool {
    let (station, set_point) = (&one.promise.quote.station, SetPoint::ChargerCurrentMa);
    let act = Act::Release { set_point };
    is_held(shared, station, now).await || send(shared, station, now, act).await.is_some()
}

/// A command that does not get there is no error of the session: its meter counts what flows.
pub(super) async fn send(
    shared: &Shared,
    station: &str,
    now: Timestamp,
    act: Act,
) -> Option<Digest32> {
    let place = device_of(shared, station)?;
    match control::tell(shared, Origin::Session, place, now, act).await {
        Ok(command) => Some(command.digest()),
        Err(error) => {
            tracing::warn!(station, "the station could not be told: {error}");
            None
        }
    }
}
