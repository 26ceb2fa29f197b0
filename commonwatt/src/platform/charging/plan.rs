//! A plan is kept by the station's own current limit: a lease of 0 A for every interval that is not in it.

use domain::command::{Act, Command, SetPoint};
use domain::signed::Signed;
use domain::time::{Interval, Timestamp};
use settlement::charging::session::{Event, State};

use super::{Running, device_of};
use crate::platform::{Shared, control};

/// How long a station is kept from charging after a session was stopped.
const STOPPED_S: i64 = 900;

/// Whether a session is active in an interval in which its plan lets the car wait.
fn waits_at(one: &Running, now: Timestamp) -> bool {
    let plan = &one.promise.plan;
    let later = plan.iter().any(|(interval, _)| interval.start() > now);
    let planned = plan.iter().any(|(interval, _)| interval.contains(now));
    later && !planned
}

/// Whether the session waits by its plan at this moment, by what it was told.
pub(super) fn waits(one: &Running) -> bool {
    one.told_until.is_some()
}

/// What the plan says to a session now.
pub(super) fn due(one: &Running, now: Timestamp) -> Vec<Event> {
    match (one.session.state(), waits_at(one, now)) {
        (State::Active, true) => vec![Event::PlanPause],
        (State::Active, false) => vec![Event::PlanResume],
        _ => Vec::new(),
    }
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
async fn send(shared: &Shared, one: &Running, now: Timestamp, act: Act) {
    let Some((gateway, device)) = device_of(shared, &one.promise.quote.station) else {
        return;
    };
    let command = Command {
        gateway,
        device,
        sequence: u64::try_from(now.unix_ms()).unwrap_or(0),
        issued_at: now,
        act,
    };
    let signed = Signed::sign(&shared.community.operator, &shared.site.community, &command);
    if let Err(error) = control::forward(shared, signed.as_bytes().to_vec()).await {
        let session = &one.promise.quote.session;
        tracing::warn!(session, "the station could not be told: {error}");
    }
}
