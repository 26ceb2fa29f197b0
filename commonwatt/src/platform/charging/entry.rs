//! Stations that let drivers in by the platform's word (those that speak OCPP): open while a session runs, closed at
//! its end. Such a station says, signed by its gateway, when the driver's transaction has ended there.

use std::sync::PoisonError;

use domain::command::{Act, LEASE_MAX_S, Outcome, SetPoint};
use domain::ids::Digest32;
use domain::time::Timestamp;

use super::{Running, device_of, is_running, plan};
use crate::platform::{Shared, control};

/// The lease is this much shorter than the longest one, so that clocks need not agree.
const MARGIN_S: i64 = 60;
/// A session may last longer than a lease: with less than this left, the lease is renewed.
const RENEW_S: i64 = LEASE_MAX_S / 2;
const SET_POINT: SetPoint = SetPoint::ChargerSession;

/// The command by which a station lets a driver in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LetIn {
    command: Digest32,
    pub(super) since: Timestamp,
    until: Timestamp,
}

/// Whether a session's station is one of those.
pub(super) fn takes_sessions(shared: &Shared, one: &Running) -> bool {
    let device = device_of(shared, &one.promise.quote.station);
    let says_so = device.is_some_and(|(gateway, device)| shared.live.lets_in(&gateway, &device));
    // After a start nothing was heard of it yet.
    says_so || one.let_in.is_some()
}

/// What a session has told its station last, where it still lets a driver in.
pub(super) async fn opened(
    shared: &Shared,
    station: &str,
    now: Timestamp,
) -> anyhow::Result<Option<LetIn>> {
    let last = plan::last_own(shared, (station, SET_POINT), now).await?;
    Ok(last.and_then(|last| {
        let (_, until) = last.held(now).filter(|(value, _)| *value == 1)?;
        Some(LetIn {
            command: last.digest,
            since: last.command.issued_at,
            until,
        })
    }))
}

/// Lets nobody in any more. What cannot be said now is said later ([`close_again`]).
pub(super) async fn close(shared: &Shared, station: &str, now: Timestamp) {
    let set_point = SET_POINT;
    let sent = plan::send(shared, station, now, Act::Release { set_point }).await;
    let open = shared.charging.left_open.lock();
    let mut open = open.unwrap_or_else(PoisonError::into_inner);
    match sent {
        Some(_) => drop(open.remove(station)),
        None => drop(open.insert(station.to_owned())),
    }
}

/// Closes the stations that could not be told, unless a new session runs there.
pub(super) async fn close_again(shared: &Shared, busy: &[String], now: Timestamp) {
    let open = shared.charging.left_open.lock();
    let open = open.unwrap_or_else(PoisonError::into_inner).clone();
    for station in open.iter().filter(|station| !busy.contains(station)) {
        close(shared, station, now).await;
    }
}

/// Opens the station for a session that has begun, for as long as it runs, and closes it where that is over.
pub(super) async fn tell(shared: &Shared, one: &mut Running, now: Timestamp) {
    let is_due = |known: LetIn| known.until.ms_since(now) < RENEW_S * 1_000;
    if is_running(one) && one.let_in.is_none_or(is_due) && takes_sessions(shared, one) {
        let until = now.plus_s(LEASE_MAX_S - MARGIN_S);
        let act = Act::Set {
            set_point: SET_POINT,
            value: 1,
            expires_at: until,
        };
        let sent = plan::send(shared, &one.promise.quote.station, now, act).await;
        let known = |command| LetIn {
            command,
            since: now,
            until,
        };
        one.let_in = sent.map(known).or(one.let_in);
    } else if !is_running(one) && one.let_in.take().is_some() {
        close(shared, &one.promise.quote.station, now).await;
    }
}

/// Whether the driver's transaction has ended at the station, or may not go on there.
pub(super) async fn has_left(shared: &Shared, one: &Running) -> anyhow::Result<bool> {
    let Some(let_in) = one.let_in.filter(|_| is_running(one)) else {
        return Ok(false);
    };
    let answers = control::answers(&shared.db, let_in.command).await?;
    let ends = |outcome: Outcome| match outcome {
        Outcome::NotConfirmed { value } => value == Some(0),
        Outcome::Ended { .. } => true,
        _ => false,
    };
    Ok(answers.into_iter().flatten().any(|ack| ends(ack.outcome)))
}
