//! What became of a session, for its driver: what happened when, and how much of its energy was local.

use domain::energy::Energy;
use domain::ids::PointId;
use domain::time::{Interval, Timestamp};
use settlement::charging::session::Event;
use settlement::service as books;

use super::{Running, import_end};
use crate::platform::Shared;

/// A session's story so far.
pub(crate) struct Story {
    /// What was stored, in order.
    pub(crate) events: Vec<(Timestamp, Event)>,
    /// Of the energy in settled intervals, how much at least did not come from the utility, and how much that is in all.
    pub(crate) local: (Energy, Energy),
}

impl Story {
    /// How long the grid kept the car from charging, until `now` where it still does.
    pub(crate) fn paused_by_grid_s(&self, now: Timestamp) -> i64 {
        let (mut paused_ms, mut since) = (0_i64, None);
        for (at, event) in &self.events {
            match event {
                Event::GridPause => since = since.or(Some(*at)),
                _ if event.ends_grid_pause() => {
                    paused_ms += since.take().map_or(0, |from| at.ms_since(from));
                }
                _ => {}
            }
        }
        paused_ms += since.map_or(0, |from| now.ms_since(from));
        paused_ms / 1_000
    }
}

/// Reads it.
pub(crate) async fn story(shared: &Shared, one: &Running) -> anyhow::Result<Story> {
    let stored = books::charging_session(&shared.db, &one.promise.quote.session).await?;
    let used = used(shared, one).await?;
    Ok(Story {
        events: stored.map_or_else(Vec::new, |stored| stored.events),
        local: local(shared, one, &used).await?,
    })
}

/// What the station's signed meter counted, interval by interval.
async fn used(shared: &Shared, one: &Running) -> anyhow::Result<Vec<(Interval, Energy)>> {
    let Some([first, last]) = one.session.readings() else {
        return Ok(Vec::new());
    };
    let point = PointId::new(&one.promise.quote.station)?;
    let (mut used, mut before_wh) = (Vec::new(), first.1);
    for (_, reading) in books::charging_readings(&mut &shared.db, &point, (first.0, last.0)).await?
    {
        let Some(end_wh) = import_end(&reading).filter(|_| reading.interval.end() <= last.0) else {
            continue;
        };
        let wh = end_wh.saturating_sub(before_wh).max(0);
        used.push((reading.interval, Energy::from_wh(wh)));
        before_wh = end_wh;
    }
    Ok(used)
}

/// What the house around the charger took from the utility is counted as the car's first, so the share is one that
/// holds however one looks at it.
async fn local(
    shared: &Shared,
    one: &Running,
    used: &[(Interval, Energy)],
) -> anyhow::Result<(Energy, Energy)> {
    let (Some((first, _)), Some((last, _))) = (used.first(), used.last()) else {
        return Ok((Energy::ZERO, Energy::ZERO));
    };
    let (from, to) = (first.start(), last.end());
    let lines = books::lines_of(&shared.db, &one.promise.host, from, to).await?;
    let (mut local, mut known) = (0_i64, 0_i64);
    for (interval, energy) in used {
        let Some(line) = lines.iter().find(|line| line.interval == *interval) else {
            continue;
        };
        let delivery = &line.delivery;
        let utility = delivery.imported.wh().saturating_sub(delivery.bought.wh());
        known += energy.wh();
        local += energy.wh() - energy.wh().min(utility.max(0));
    }
    Ok((Energy::from_wh(local), Energy::from_wh(known)))
}
