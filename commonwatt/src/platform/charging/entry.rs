//! Stations that let drivers in by the platform's word (those that speak OCPP): open while a session runs, closed at
//! its end. Such a station says, signed by its gateway, when the driver's transaction has ended there.

use domain::command::{Act, LEASE_MAX_S, Outcome, SetPoint};
use domain::time::Timestamp;
use settlement::charging::session::State;

use super::{Running, device_of, plan};
use crate::platform::{Shared, control};

/// The lease is this much shorter than the longest one, so that clocks need not agree.
const MARGIN_S: i64 = 60;

/// Whether a session's station is one of those.
pub(super) fn takes_sessions(shared: &Shared, one: &Running) -> bool {
    let device = device_of(shared, &one.promise.quote.station);
    device.is_some_and(|(gateway, device)| shared.live.lets_in(&gateway, &device))
}

/// Opens the station for a session that has begun, and closes it where that is over.
pub(super) async fn tell(shared: &Shared, one: &mut Running, now: Timestamp) {
    let set_point = SetPoint::ChargerSession;
    let is_running = matches!(one.session.state(), State::Authorised | State::Active);
    if is_running && one.let_in.is_none() && takes_sessions(shared, one) {
        let act = Act::Set {
            set_point,
            value: 1,
            expires_at: now.plus_s(LEASE_MAX_S - MARGIN_S),
        };
        one.let_in = plan::send(shared, one, now, act).await;
    } else if !is_running && one.let_in.take().is_some() {
        plan::send(shared, one, now, Act::Release { set_point }).await;
    }
}

/// Whether the driver's transaction has ended at the station, or may not go on there.
pub(super) async fn has_left(shared: &Shared, one: &Running) -> anyhow::Result<bool> {
    let is_running = matches!(one.session.state(), State::Authorised | State::Active);
    let Some(command) = one.let_in.filter(|_| is_running) else {
        return Ok(false);
    };
    let answers = control::answers(&shared.db, command).await?;
    let ends = |outcome: Outcome| match outcome {
        Outcome::NotConfirmed { value } => value == Some(0),
        Outcome::Ended { .. } => true,
        _ => false,
    };
    Ok(answers.into_iter().flatten().any(|ack| ends(ack.outcome)))
}
