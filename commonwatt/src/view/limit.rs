//! Which limits are in force, and what one at a feeder would mean for what is forecast there: before anybody acts.

use std::collections::BTreeMap;

use domain::command::{Ack, Act, Outcome, SetPoint};
use domain::ids::GatewayId;
use domain::time::{Interval, Timestamp};

use super::grid;
use crate::platform::Shared;
use crate::platform::control::Kept;

/// A lease is never longer, so what was told before is over.
pub(crate) const LEASE_S: i64 = domain::command::LEASE_MAX_S;
/// Commands that are looked at for what is in force.
pub(crate) const COMMANDS_MAX: u32 = 2_000;
/// The forecast's reach.
pub(crate) const AHEAD_S: i64 = 12 * 3_600;

/// A device's set-point.
type Place = (GatewayId, String, SetPoint);

/// The newest command of every set-point, where it is a lease that has not ended.
pub(crate) fn in_force(commands: &[Kept], now: Timestamp) -> Vec<&Kept> {
    let mut newest: BTreeMap<Place, &Kept> = BTreeMap::new();
    for kept in commands {
        let command = &kept.command;
        let place = (
            command.gateway.clone(),
            command.device.clone(),
            command.act.set_point(),
        );
        let known = newest.entry(place).or_insert(kept);
        if known.command.sequence < command.sequence {
            *known = kept;
        }
    }
    let holds = |kept: &&Kept| match kept.command.act {
        Act::Set { expires_at, .. } => expires_at > now && !is_refused(&kept.answers),
        Act::Release { .. } => false,
    };
    newest.into_values().filter(holds).collect()
}

fn is_refused(answers: &[Ack]) -> bool {
    let newest = answers.last().map(|ack| ack.outcome);
    matches!(newest, Some(Outcome::Refused(_) | Outcome::Ended { .. }))
}

/// What is forecast at the first feeder, from the interval that runs on.
pub(crate) async fn forecast(
    shared: &Shared,
    now: Timestamp,
) -> anyhow::Result<Vec<(Interval, Band)>> {
    let Some(feeder) = grid::feeders(&shared.site).next() else {
        return Ok(Vec::new());
    };
    let past = grid::metered(shared, &feeder.point, grid::forecast_from(now), now).await?;
    let length_s = shared.market.rules.interval_length_s;
    let first = Interval::containing(now, length_s)?;
    let count = AHEAD_S / i64::from(length_s.max(1));
    Ok(grid::ahead(&past, first, count).into_iter().collect())
}

/// Net import that is forecast for an interval, least, middle and most, in watts.
pub(crate) type Band = (i64, i64, i64);

/// A limit: as much may be imported, as much exported; none where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limit {
    pub(crate) import_w: Option<i64>,
    pub(crate) export_w: Option<i64>,
}

impl Limit {
    /// How much a net import is beyond the limit.
    fn beyond_w(self, net_w: i64) -> i64 {
        let over = self.import_w.map_or(0, |most| net_w.saturating_sub(most));
        let under = self
            .export_w
            .map_or(0, |most| net_w.saturating_neg().saturating_sub(most));
        over.max(under).max(0)
    }
}

/// What the limit would mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Preview {
    /// Intervals that were looked at.
    pub(crate) intervals: usize,
    /// Those of them that are forecast beyond the limit.
    pub(crate) beyond: usize,
    /// Energy that would have to move or be left out: least, middle, most.
    pub(crate) wh: (i64, i64, i64),
    /// The most that is forecast in either direction, with its sign.
    pub(crate) peak_w: i64,
}

/// Holds what is forecast for a time against a limit.
pub(crate) fn preview(
    forecast: &[(Interval, Band)],
    (from, to): (Timestamp, Timestamp),
    limit: Limit,
) -> Preview {
    let mut seen = Preview::default();
    let within = forecast
        .iter()
        .filter(|(interval, _)| interval.end() > from && interval.start() < to);
    for (interval, (low, mid, high)) in within {
        let wh = |w: i64| limit.beyond_w(w) * i64::from(interval.length_s()) / 3_600;
        // A limit on exports is broken most where the least is imported.
        let (a, b, c) = (wh(*low), wh(*mid), wh(*high));
        seen.intervals += 1;
        seen.beyond += usize::from(b > 0);
        seen.wh.0 += a.min(b).min(c);
        seen.wh.1 += b;
        seen.wh.2 += a.max(b).max(c);
        if mid.abs() > seen.peak_w.abs() {
            seen.peak_w = *mid;
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::command::Command;
    use domain::ids::Digest32;

    fn kept(sequence: u64, device: &str, act: Act) -> Kept {
        Kept {
            digest: Digest32([0; 32]),
            command: Command {
                gateway: GatewayId::new("gw-1").unwrap(),
                device: device.to_owned(),
                sequence,
                issued_at: Timestamp::from_unix_s(0),
                act,
            },
            answers: Vec::new(),
        }
    }

    #[test]
    fn the_newest_command_of_a_set_point_holds_until_it_ends_or_is_released() {
        let set_point = SetPoint::ChargerCurrentMa;
        let set = |until| Act::Set {
            set_point,
            value: 0,
            expires_at: Timestamp::from_unix_s(until),
        };
        let release = Act::Release { set_point };
        let now = Timestamp::from_unix_s(100);
        let count = |commands: &[Kept]| in_force(commands, now).len();
        assert_eq!(count(&[kept(1, "a", set(200)), kept(1, "b", set(200))]), 2);
        assert_eq!(count(&[kept(1, "a", set(100))]), 0, "over");
        let pair = [kept(2, "a", release), kept(1, "a", set(200))];
        assert_eq!(count(&pair), 0, "released");
        let pair = [kept(2, "a", set(200)), kept(1, "a", release)];
        assert_eq!(count(&pair), 1);
    }

    #[test]
    fn energy_beyond_a_limit_is_counted_in_its_direction_with_its_band() {
        let at = |n: i64| Interval::new(n * 900, 900).unwrap();
        let forecast = [
            (at(0), (8_000, 10_000, 16_000)),
            (at(1), (-9_000, -6_000, 2_000)),
            (at(2), (0, 0, 0)),
        ];
        let limit = |import_w, export_w| Limit { import_w, export_w };
        let preview = |limit| {
            let all = (at(0).start(), at(2).end());
            preview(&forecast, all, limit)
        };
        let import = preview(limit(Some(8_000), None));
        assert_eq!((import.intervals, import.beyond), (3, 1));
        assert_eq!(import.wh, (0, 500, 2_000));
        assert_eq!(import.peak_w, 10_000);
        let export = preview(limit(None, Some(5_000)));
        assert_eq!((export.beyond, export.wh), (1, (0, 250, 1_000)));
        assert_eq!(preview(limit(None, None)).beyond, 0);
    }
}
