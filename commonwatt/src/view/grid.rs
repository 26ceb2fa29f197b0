//! What the operator sees: the feeder's past and forecast, how complete the data is, what the alarms look at.

use std::collections::BTreeMap;

use domain::ids::PointId;
use domain::key_record::{PointRecord, PointRole};
use domain::time::{Interval, Timestamp};
use market_engine::forecast::{DAYS_MAX, Past, forecast};
use market_engine::service::Share;
use settlement::service::{MeteredInterval, PointState, Whose};

use super::Street;
use super::alarms::Seen;
use crate::platform::Shared;
use crate::site::Site;

/// A reading comes within this after its interval, or is late.
pub(crate) const LATE_S: i64 = 300;
/// How far back alarms look for readings.
const ALARM_LOOK_BACK_S: i64 = 2 * 3600;
/// A voltage that was read before this long ago says nothing of now.
const VOLTAGE_FRESH_S: i64 = 300;
/// How far ahead a load is forecast for an alarm.
const ALARM_AHEAD_INTERVALS: i64 = 8;

/// The feeder's points: the transformer's meters.
pub(crate) fn feeders(site: &Site) -> impl Iterator<Item = &PointRecord> {
    site.points().filter(|p| p.role == PointRole::Feeder)
}

/// How many readings a point should have delivered for `[from, now)` by now.
pub(crate) fn expected(state: &PointState, from: Timestamp, now: Timestamp, length_s: u32) -> i64 {
    let length_s = i64::from(length_s.max(1));
    let from = from.max(state.since).unix_s();
    let to = now.plus_s(-LATE_S).unix_s();
    // Whole intervals that began at or after `from` and ended by `to`.
    (to.div_euclid(length_s) - (from + length_s - 1).div_euclid(length_s)).max(0)
}

/// A share in thousandths, 1000 only where nothing is missing; `None` where nothing was due.
pub(crate) fn completeness(accepted: i64, expected: i64) -> Option<i64> {
    if expected <= 0 {
        return None;
    }
    Some((accepted.saturating_mul(1000) / expected).min(1000))
}

/// The completeness of all points together.
pub(crate) fn complete(
    states: &[PointState],
    from: Timestamp,
    now: Timestamp,
    length_s: u32,
) -> Option<i64> {
    let due = |state: &PointState| expected(state, from, now, length_s);
    let all: i64 = states.iter().map(due).sum();
    // What came beyond what was due by now fills no other point's gap.
    let came: i64 = states.iter().map(|s| s.accepted.min(due(s))).sum();
    completeness(came, all)
}

/// Power in watts, from energy in an interval.
pub(crate) fn watts(wh: i64, length_s: u32) -> i64 {
    wh.saturating_mul(3600) / i64::from(length_s.max(1))
}

/// Net import of a metered interval in watts.
pub(crate) fn net_watts(metered: &MeteredInterval) -> i64 {
    let net = metered.imported.wh().saturating_sub(metered.exported.wh());
    watts(net, metered.interval.length_s())
}

/// What a point metered since `from`, oldest first.
pub(crate) async fn metered(
    shared: &Shared,
    point: &PointId,
    from: Timestamp,
    to: Timestamp,
) -> anyhow::Result<Vec<MeteredInterval>> {
    Ok(settlement::service::history(&shared.db, Whose::Point(point), from, to).await?)
}

/// Least, middle and most net import that is forecast for the `count` intervals from `first`, in watts.
pub(crate) fn ahead(
    past: &[MeteredInterval],
    first: Interval,
    count: i64,
) -> BTreeMap<Interval, (i64, i64, i64)> {
    let past: Vec<Past> = past
        .iter()
        .map(|m| Past {
            interval: m.interval,
            net_wh: m.exported.wh().saturating_sub(m.imported.wh()),
            sun_wh: None,
        })
        .collect();
    let length_s = first.length_s();
    let of = |interval: Interval| {
        let f = forecast(interval, &past, &BTreeMap::new())?;
        let import = |wh: i64| watts(wh.saturating_neg(), length_s);
        Some((
            interval,
            (import(f.high_wh), import(f.mid_wh), import(f.low_wh)),
        ))
    };
    (0..count).filter_map(|n| of(first.offset(n))).collect()
}

/// How far back a forecast looks.
pub(crate) fn forecast_from(now: Timestamp) -> Timestamp {
    now.plus_s(-DAYS_MAX * 86_400)
}

/// What the alarms' rules look at now.
pub(crate) async fn seen(shared: &Shared, street: &Street) -> anyhow::Result<Seen> {
    let (db, now) = (&shared.db, street.now);
    let from = now.plus_s(-ALARM_LOOK_BACK_S);
    let states = settlement::service::point_states(db, None, from, now).await?;
    let unproven = settlement::service::unproven_since(db, now.plus_s(-3600)).await?;
    let feeder = feeders(&shared.site).next();
    let forecast_w = match feeder {
        Some(feeder) => {
            let past = metered(shared, &feeder.point, forecast_from(now), now).await?;
            let first = Interval::containing(now, street.open.length_s())?.next();
            let bands = ahead(&past, first, ALARM_AHEAD_INTERVALS);
            bands
                .values()
                .map(|(_, mid, _)| *mid)
                .max_by_key(|w| w.abs())
        }
        None => None,
    };
    let newest_cleared = street.prices.last().map(|point| point.interval);
    let shares = match newest_cleared {
        Some(interval) => market_engine::service::share_alarms(db, interval).await?,
        None => Vec::new(),
    };
    Ok(Seen {
        feeder_w: street.feeder_w.map(|w| w.value),
        feeder_rating_w: feeder.map_or(1, |f| i64::from(f.rating_w)),
        forecast_w,
        silent_ms: silence(&states, now),
        unproven: unproven.iter().map(|(_, _, count, _)| count).sum(),
        readings: states.iter().map(|s| s.accepted).sum(),
        // The demo's fast clock is nobody's to check.
        unsynchronised: match street.speed {
            1 => states.iter().map(|s| s.unsynchronised).sum(),
            _ => 0,
        },
        // The interval whose gate has just closed is given until the next one's to be cleared.
        cleared: newest_cleared.is_none_or(|newest| newest >= street.open.offset(-2)),
        interval_ms: i64::from(street.open.length_s()) * 1000,
        checkpoint_ms: street.log.checkpoint_at.map(|at| now.ms_since(at)),
        share_permille: shares.iter().map(Share::permille).max(),
        sums_to_zero: settlement::service::balances_sum_to_zero(db).await?,
        voltage_mv: shared.live.voltage_mv(now.plus_s(-VOLTAGE_FRESH_S)),
        not_held: crate::platform::control::not_held(db, now).await?,
        keys_unfit: i64::try_from(shared.keys().unfit()).unwrap_or(i64::MAX),
        free_mib: shared.free_mib(),
    })
}

/// For each point that has had time to report, how long ago its newest reading came.
fn silence(states: &[PointState], now: Timestamp) -> Vec<Option<i64>> {
    let had_time = |s: &&PointState| now.ms_since(s.since) > ALARM_LOOK_BACK_S * 1000;
    let age = |s: &PointState| s.newest.map(|(_, came)| now.ms_since(came));
    states.iter().filter(had_time).map(age).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::GatewayId;

    fn state(since_s: i64, accepted: i64) -> PointState {
        PointState {
            point: PointId::new("p").unwrap(),
            gateway: GatewayId::new("g").unwrap(),
            role: PointRole::Connection,
            participant: None,
            rating_w: 1,
            since: Timestamp::from_unix_s(since_s),
            accepted,
            estimated: 0,
            unsynchronised: 0,
            refused: 0,
            newest: None,
        }
    }

    #[test]
    fn what_was_due_begins_with_the_point_and_ends_before_the_newest_interval() {
        let at = Timestamp::from_unix_s;
        assert_eq!(
            expected(&state(0, 0), at(0), at(86_400), 900),
            95,
            "the last one may still come"
        );
        assert_eq!(expected(&state(0, 0), at(0), at(86_400 + 300), 900), 96);
        assert_eq!(
            expected(&state(450, 0), at(0), at(2_100), 900),
            1,
            "half an interval is none"
        );
        assert_eq!(expected(&state(9_000, 0), at(0), at(2_000), 900), 0);
    }

    #[test]
    fn one_point_s_surplus_fills_no_other_s_gap() {
        let (from, now) = (Timestamp::from_unix_s(0), Timestamp::from_unix_s(9_300));
        let share = |states: &[PointState]| complete(states, from, now, 900);
        assert_eq!(share(&[state(0, 10), state(0, 10)]), Some(1000));
        assert_eq!(share(&[state(0, 11), state(0, 9)]), Some(950));
        assert_eq!(share(&[]), None);
    }

    #[test]
    fn energy_of_an_interval_is_power() {
        assert_eq!(watts(250, 900), 1000);
        assert_eq!(watts(-500, 1800), -1000);
    }
}
