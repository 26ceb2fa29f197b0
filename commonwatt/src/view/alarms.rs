//! The operator's alarms: what asks for a response, with its consequence, what to do and by when. The rules
//! are pure; everything that asks for no response is an event and not here.

use std::collections::{BTreeMap, VecDeque};

use domain::time::Timestamp;

/// Most happenings that are remembered; the oldest is forgotten.
pub(crate) const HISTORY_MAX: usize = 500;
/// Over this span the rate of alarms is counted.
pub(crate) const RATE_MS: i64 = 3_600_000;
/// About one in ten minutes is what one person can answer for long (EEMUA 191).
pub(crate) const RATE_GOOD: usize = 6;
/// A meter that says nothing for this long is silent.
const SILENT_MS: i64 = 3_600_000;
/// From this share of a feeder's points on, silence is the feeder's and not a meter's: one in three.
const SILENT_SHARE: i64 = 3;
/// So many messages that nobody vouches for in an hour are a burst.
const BURST: i64 = 20;
/// So many thousandths of the readings with a clock that nobody checked ask for a look.
const DRIFT_PERMILLE: i64 = 200;
/// A checkpoint is late after so many intervals.
const CHECKPOINT_LATE_INTERVALS: i64 = 3;

/// How soon somebody has to respond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Priority {
    High,
    Medium,
    Low,
}

/// The alarms there are, the most urgent first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    LedgerInconsistent,
    FeederOverloaded,
    MarketNotCleared,
    ForecastOverload,
    CheckpointLate,
    MarketShare,
    MetersSilent,
    SignatureBurst,
    ClockDrift,
}

impl Kind {
    pub(crate) const ALL: [Kind; 9] = [
        Kind::LedgerInconsistent,
        Kind::FeederOverloaded,
        Kind::MarketNotCleared,
        Kind::ForecastOverload,
        Kind::CheckpointLate,
        Kind::MarketShare,
        Kind::MetersSilent,
        Kind::SignatureBurst,
        Kind::ClockDrift,
    ];

    pub(crate) const fn priority(self) -> Priority {
        match self {
            Kind::LedgerInconsistent | Kind::FeederOverloaded => Priority::High,
            Kind::MarketNotCleared
            | Kind::ForecastOverload
            | Kind::CheckpointLate
            | Kind::MarketShare => Priority::Medium,
            Kind::MetersSilent | Kind::SignatureBurst | Kind::ClockDrift => Priority::Low,
        }
    }

    /// How long a person has.
    pub(crate) const fn respond_min(self) -> i64 {
        match self {
            Kind::FeederOverloaded => 1,
            Kind::LedgerInconsistent => 5,
            Kind::MarketNotCleared => 10,
            Kind::CheckpointLate => 15,
            Kind::ForecastOverload => 30,
            Kind::SignatureBurst | Kind::MarketShare => 60,
            Kind::MetersSilent => 240,
            Kind::ClockDrift => 1440,
        }
    }
}

/// What the rules look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Power at the feeder now (import above zero) and what it may carry.
    pub(crate) feeder_w: Option<i64>,
    pub(crate) feeder_rating_w: i64,
    /// The most that is forecast for the next two hours.
    pub(crate) forecast_w: Option<i64>,
    /// For each point, how long ago its newest reading came; none where none ever came.
    pub(crate) silent_ms: Vec<Option<i64>>,
    /// Messages of the last hour that no enrolled key vouches for.
    pub(crate) unproven: i64,
    /// Readings of the last hours, and those with a clock that nobody checked.
    pub(crate) readings: i64,
    pub(crate) unsynchronised: i64,
    /// Whether every interval whose gate has closed is cleared.
    pub(crate) cleared: bool,
    pub(crate) interval_ms: i64,
    /// How long ago the ledger's newest checkpoint was signed.
    pub(crate) checkpoint_ms: Option<i64>,
    /// Whether all balances sum to zero.
    pub(crate) sums_to_zero: bool,
    /// The largest share of a side that was told at the newest gate, in thousandths.
    pub(crate) share_permille: Option<i64>,
}

/// The alarms that stand, each with a number that says how bad it is: a share in thousandths, or a count.
pub(crate) fn standing(seen: &Seen) -> BTreeMap<Kind, i64> {
    let load = |w: i64| w.saturating_abs().saturating_mul(1000) / seen.feeder_rating_w.max(1);
    let over = |w: Option<i64>| w.map(load).filter(|permille| *permille > 1000);
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let silent = seen
        .silent_ms
        .iter()
        .filter(|age| age.is_none_or(|age| age > SILENT_MS));
    let silent = count(silent.count());
    let points = count(seen.silent_ms.len());
    let drift = seen.unsynchronised.saturating_mul(1000) / seen.readings.max(1);
    let late = seen
        .checkpoint_ms
        .filter(|age| *age > seen.interval_ms.saturating_mul(CHECKPOINT_LATE_INTERVALS));
    let rules = [
        (Kind::LedgerInconsistent, (!seen.sums_to_zero).then_some(1)),
        (Kind::FeederOverloaded, over(seen.feeder_w)),
        (Kind::MarketNotCleared, (!seen.cleared).then_some(1)),
        (
            Kind::ForecastOverload,
            over(seen.forecast_w).filter(|_| over(seen.feeder_w).is_none()),
        ),
        (Kind::CheckpointLate, late.map(|age| age / 60_000)),
        (Kind::MarketShare, seen.share_permille),
        (
            Kind::MetersSilent,
            (silent > 0 && silent.saturating_mul(SILENT_SHARE) >= points).then_some(silent),
        ),
        (
            Kind::SignatureBurst,
            (seen.unproven >= BURST).then_some(seen.unproven),
        ),
        (Kind::ClockDrift, (drift >= DRIFT_PERMILLE).then_some(drift)),
    ];
    rules
        .into_iter()
        .filter_map(|(kind, bad)| Some((kind, bad?)))
        .collect()
}

/// An alarm that stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Open {
    pub(crate) since: Timestamp,
    pub(crate) bad: i64,
}

/// An alarm that came or went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Happening {
    pub(crate) at: Timestamp,
    pub(crate) kind: Kind,
    pub(crate) came: bool,
}

/// What stands, and what came and went since the platform started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board {
    pub(crate) open: BTreeMap<Kind, Open>,
    /// Oldest first.
    pub(crate) history: VecDeque<Happening>,
    /// Since when it watches.
    pub(crate) since: Option<Timestamp>,
}

impl Board {
    /// Takes in what the rules find now.
    pub(crate) fn take(&mut self, now: Timestamp, found: &BTreeMap<Kind, i64>) {
        self.since.get_or_insert(now);
        for kind in Kind::ALL {
            let came = match (found.get(&kind), self.open.get_mut(&kind)) {
                (Some(bad), Some(open)) => {
                    open.bad = *bad;
                    continue;
                }
                (Some(bad), None) => {
                    self.open.insert(
                        kind,
                        Open {
                            since: now,
                            bad: *bad,
                        },
                    );
                    true
                }
                (None, Some(_)) => {
                    self.open.remove(&kind);
                    false
                }
                (None, None) => continue,
            };
            if self.history.len() >= HISTORY_MAX {
                self.history.pop_front();
            }
            self.history.push_back(Happening {
                at: now,
                kind,
                came,
            });
        }
    }

    /// How many came in the last hour.
    pub(crate) fn rate(&self, now: Timestamp) -> usize {
        let recent = |h: &&Happening| h.came && now.ms_since(h.at) <= RATE_MS;
        self.history.iter().filter(recent).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm() -> Seen {
        Seen {
            feeder_w: Some(-30_000),
            feeder_rating_w: 160_000,
            forecast_w: Some(50_000),
            silent_ms: vec![Some(60_000); 21],
            unproven: 0,
            readings: 1000,
            unsynchronised: 3,
            cleared: true,
            interval_ms: 900_000,
            checkpoint_ms: Some(20_000),
            sums_to_zero: true,
            share_permille: None,
        }
    }

    fn found(change: impl FnOnce(&mut Seen)) -> Vec<(Kind, i64)> {
        let mut seen = calm();
        change(&mut seen);
        standing(&seen).into_iter().collect()
    }

    #[test]
    fn a_calm_street_has_no_alarm_and_an_unknown_value_is_none() {
        assert_eq!(found(|_| {}), []);
        assert_eq!(
            found(|s| {
                s.feeder_w = None;
                s.forecast_w = None;
                s.checkpoint_ms = None;
                s.readings = 0;
                s.unsynchronised = 0;
            }),
            []
        );
    }

    #[test]
    fn each_rule_has_its_threshold() {
        assert_eq!(found(|s| s.feeder_w = Some(160_000)), []);
        assert_eq!(
            found(|s| s.feeder_w = Some(-160_200)),
            [(Kind::FeederOverloaded, 1001)]
        );
        assert_eq!(
            found(|s| s.forecast_w = Some(200_000)),
            [(Kind::ForecastOverload, 1250)]
        );
        let both = found(|s| {
            s.feeder_w = Some(200_000);
            s.forecast_w = Some(200_000);
        });
        assert_eq!(
            both,
            [(Kind::FeederOverloaded, 1250)],
            "one cause, one alarm"
        );
        assert_eq!(
            found(|s| s.silent_ms[0] = None),
            [],
            "one meter is an event"
        );
        assert_eq!(
            found(|s| s.silent_ms[..7].fill(Some(3_600_001))),
            [(Kind::MetersSilent, 7)]
        );
        assert_eq!(found(|s| s.unproven = 19), []);
        assert_eq!(found(|s| s.unproven = 20), [(Kind::SignatureBurst, 20)]);
        assert_eq!(found(|s| s.unsynchronised = 199), []);
        assert_eq!(found(|s| s.unsynchronised = 200), [(Kind::ClockDrift, 200)]);
        assert_eq!(found(|s| s.cleared = false), [(Kind::MarketNotCleared, 1)]);
        assert_eq!(
            found(|s| s.share_permille = Some(640)),
            [(Kind::MarketShare, 640)]
        );
        assert_eq!(found(|s| s.checkpoint_ms = Some(2_700_000)), []);
        assert_eq!(
            found(|s| s.checkpoint_ms = Some(2_760_000)),
            [(Kind::CheckpointLate, 46)]
        );
        assert_eq!(
            found(|s| s.sums_to_zero = false),
            [(Kind::LedgerInconsistent, 1)]
        );
    }

    #[test]
    fn an_alarm_comes_once_goes_once_and_is_counted_for_an_hour() {
        let mut board = Board::default();
        let at = |min: i64| Timestamp::from_unix_s(min * 60);
        let bad = |n| BTreeMap::from([(Kind::FeederOverloaded, n)]);
        board.take(at(0), &bad(1100));
        board.take(at(1), &bad(1200));
        let open = board.open[&Kind::FeederOverloaded];
        assert_eq!((open.since, open.bad), (at(0), 1200));
        board.take(at(2), &BTreeMap::new());
        assert!(board.open.is_empty());
        assert_eq!(board.history.len(), 2);
        assert_eq!((board.rate(at(60)), board.rate(at(61))), (1, 0));
        for n in 0..2 * i64::try_from(HISTORY_MAX).unwrap() {
            let found = if n % 2 == 0 { bad(1) } else { BTreeMap::new() };
            board.take(at(n), &found);
        }
        assert_eq!(board.history.len(), HISTORY_MAX);
    }

    #[test]
    fn priorities_are_few_at_the_top_and_every_alarm_has_a_time() {
        let high = Kind::ALL
            .iter()
            .filter(|k| k.priority() == Priority::High)
            .count();
        assert_eq!(high, 2);
        assert!(Kind::ALL.iter().all(|k| k.respond_min() > 0));
    }
}
