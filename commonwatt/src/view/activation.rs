//! What devices were told, beside what their own meters counted then.

use domain::command::{Act, Outcome};
use domain::energy::Energy;
use domain::ids::PointId;
use domain::time::Timestamp;
use settlement::service::Whose;

use crate::platform::Shared;
use crate::platform::control::Kept;

/// How far back a list of activations goes where nothing else is asked for.
pub(crate) const HISTORY_S: i64 = 7 * 86_400;

/// A command with what the device's own meter counted in its time.
pub(crate) struct Activation {
    pub(crate) kept: Kept,
    /// Taken and given in whole intervals of its time, where the device has a meter.
    pub(crate) metered: Option<(Energy, Energy)>,
}

impl Activation {
    /// Whether the device has shown that it holds what it was told.
    pub(crate) fn is_confirmed(&self) -> bool {
        let mut outcomes = self.kept.answers.iter().map(|ack| ack.outcome);
        outcomes.any(|outcome| matches!(outcome, Outcome::Confirmed { .. }))
    }
}

/// These commands with what was metered.
pub(crate) async fn of(
    shared: &Shared,
    commands: Vec<Kept>,
    now: Timestamp,
) -> anyhow::Result<Vec<Activation>> {
    let mut all = Vec::with_capacity(commands.len());
    for kept in commands {
        all.push(Activation {
            metered: metered(shared, &kept, now).await?,
            kept,
        });
    }
    Ok(all)
}

/// What the device's meter counted in the whole intervals of a lease.
async fn metered(
    shared: &Shared,
    kept: &Kept,
    now: Timestamp,
) -> anyhow::Result<Option<(Energy, Energy)>> {
    let command = &kept.command;
    let Act::Set { expires_at, .. } = command.act else {
        return Ok(None);
    };
    let gateways = shared.site.gateways.iter();
    let mut points = gateways.filter(|g| g.id == command.gateway);
    let point: Option<PointId> = points.find_map(|gateway| {
        let mut points = gateway.points.iter();
        let of_device = points.find(|p| {
            let named = p.point.as_str().rsplit_once('.');
            named.is_some_and(|(_, name)| name == command.device)
        });
        of_device.map(|p| p.point.clone())
    });
    let Some(point) = point else {
        return Ok(None);
    };
    let ended = kept.answers.iter().find_map(|ack| {
        let is_end = matches!(ack.outcome, Outcome::Ended { .. });
        is_end.then_some(ack.at)
    });
    let to = ended.unwrap_or(expires_at).min(expires_at).min(now);
    let whose = Whose::Point(&point);
    let history = settlement::service::history(&shared.db, whose, command.issued_at, to).await?;
    let within = history.iter().filter(|m| m.interval.end() <= to);
    let (mut taken, mut given, mut any) = (0_i64, 0_i64, false);
    for metered in within {
        taken = taken.saturating_add(metered.imported.wh());
        given = given.saturating_add(metered.exported.wh());
        any = true;
    }
    Ok(any.then(|| (Energy::from_wh(taken), Energy::from_wh(given))))
}
