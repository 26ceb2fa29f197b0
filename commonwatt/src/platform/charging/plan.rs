//! A plan is kept by the station's own current limit: a lease of 0 A for every interval that is not in it. And what
//! keeps the car from charging otherwise: the operator's own limit (the grid has no room), or a station without power.

use std::sync::PoisonError;

use domain::command::{Act, Command, LEASE_MAX_S, SetPoint};
use domain::ids::Digest32;
use domain::signed::Signed;
use domain::time::{Interval, Timestamp};
use settlement::charging::session::{Event, State};

use super::{Running, device_of};
use crate::platform::{Shared, control};

/// How long a station is kept from charging after a session was stopped.
const STOPPED_S: i64 = 900;

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

/// The sequence of the last command to a station that was a session's own, since the platform runs.
fn last_own(shared: &Shared, station: &str) -> Option<u64> {
    let own = shared.charging.own.lock();
    own.unwrap_or_else(PoisonError::into_inner)
        .get(station)
        .copied()
}

fn note_own(shared: &Shared, station: &str, sequence: u64) {
    let own = shared.charging.own.lock();
    let mut own = own.unwrap_or_else(PoisonError::into_inner);
    own.insert(station.to_owned(), sequence);
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
    let own = last_own(shared, station);
    // No lease is longer, so no command before that stands.
    let since = now.plus_s(-LEASE_MAX_S);
    let newest = control::newest(
        &shared.db,
        &gateway,
        (&device, SetPoint::ChargerCurrentMa),
        since,
    );
    let grid = newest
        .await?
        .is_some_and(|command| is_limit(&command, own, now));
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
fn is_limit(command: &Command, own: Option<u64>, now: Timestamp) -> bool {
    match command.act {
        Act::Set {
            value, expires_at, ..
        } => value < CURRENT_MIN_MA && now < expires_at && own != Some(command.sequence),
        Act::Release { .. } => false,
    }
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

/// Tells the station what the plan says; once for an interval.
pub(super) async fn tell(shared: &Shared, one: &mut Running, now: Timestamp) {
    let is_running = matches!(one.session.state(), State::Authorised | State::Active);
    if is_running && waits_at(one, now) {
        let length_s = shared.market.rules.interval_length_s;
        let Ok(interval) = Interval::containing(now, length_s) else {
            return;
        };
        // A little beyond the interval, so that the next lease comes before this one ends.
        let until = interval.end().plus_s(i64::from(length_s) / 5);
        if one.told_until.is_none_or(|told| told < until) {
            one.told_until = Some(until);
            hold_back(shared, one, now, until).await;
        }
    } else if one.told_until.take().is_some() {
        release(shared, one, now).await;
    }
}

/// Stops the station for a while: the session was ended before the car was full.
pub(super) async fn end(shared: &Shared, one: &Running, now: Timestamp) {
    hold_back(shared, one, now, now.plus_s(STOPPED_S)).await;
}

/// Lets the station charge: a session begins there.
pub(super) async fn allow(shared: &Shared, one: &Running, now: Timestamp) {
    if last_own(shared, &one.promise.quote.station).is_some() {
        release(shared, one, now).await;
    }
}

async fn hold_back(shared: &Shared, one: &Running, now: Timestamp, until: Timestamp) {
    let act = Act::Set {
        set_point: SetPoint::ChargerCurrentMa,
        value: 0,
        expires_at: until,
    };
    send(shared, one, now, act).await;
}

async fn release(shared: &Shared, one: &Running, now: Timestamp) {
    let set_point = SetPoint::ChargerCurrentMa;
    send(shared, one, now, Act::Release { set_point }).await;
}

/// A command that does not get there is no error of the session: its meter counts what flows.
pub(super) async fn send(
    shared: &Shared,
    one: &Running,
    now: Timestamp,
    act: Act,
) -> Option<Digest32> {
    let (gateway, device) = device_of(shared, &one.promise.quote.station)?;
    let command = Command {
        gateway,
        device,
        sequence: shared.charging.next_sequence(now),
        issued_at: now,
        act,
    };
    if act.set_point() == SetPoint::ChargerCurrentMa {
        note_own(shared, &one.promise.quote.station, command.sequence);
    }
    let signed = Signed::sign(&shared.community.operator, &shared.site.community, &command);
    match control::forward(shared, signed.as_bytes().to_vec()).await {
        Ok(command) => Some(command.digest()),
        Err(error) => {
            let session = &one.promise.quote.session;
            tracing::warn!(session, "the station could not be told: {error}");
            None
        }
    }
}
