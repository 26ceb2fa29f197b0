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
/// What a low-voltage network has between phase and neutral, and how far it may be from that (EN 50160).
const NOMINAL_MV: i64 = 230_000;
const VOLTAGE_PERMILLE: i64 = 100;
/// With less room than this for the books there are days left, not weeks.
const STORAGE_LOW_MIB: i64 = 2048;
/// For so many looks after a start, what was said before is held for alarms that are not found yet: live values take a
/// while to come.
const REMEMBERED_LOOKS: u32 = 12;
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
    LimitNotHeld,
    VoltageOutside,
    ForecastOverload,
    CheckpointLate,
    MarketShare,
    KeysUnfit,
    StorageLow,
    MetersSilent,
    SignatureBurst,
    ClockDrift,
}

impl Kind {
    pub(crate) const ALL: [Kind; 13] = [
        Kind::LedgerInconsistent,
        Kind::FeederOverloaded,
        Kind::MarketNotCleared,
        Kind::LimitNotHeld,
        Kind::VoltageOutside,
        Kind::ForecastOverload,
        Kind::CheckpointLate,
        Kind::MarketShare,
        Kind::KeysUnfit,
        Kind::StorageLow,
        Kind::MetersSilent,
        Kind::SignatureBurst,
        Kind::ClockDrift,
    ];

    pub(crate) const fn priority(self) -> Priority {
        match self {
            Kind::LedgerInconsistent | Kind::FeederOverloaded => Priority::High,
            Kind::MarketNotCleared
            | Kind::LimitNotHeld
            | Kind::VoltageOutside
            | Kind::ForecastOverload
            | Kind::CheckpointLate
            | Kind::MarketShare
            | Kind::KeysUnfit => Priority::Medium,
            Kind::StorageLow | Kind::MetersSilent | Kind::SignatureBurst | Kind::ClockDrift => {
                Priority::Low
            }
        }
    }

    /// Its word, for programs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Kind::LedgerInconsistent => "ledger_inconsistent",
            Kind::FeederOverloaded => "feeder_overloaded",
            Kind::MarketNotCleared => "market_not_cleared",
            Kind::LimitNotHeld => "limit_not_held",
            Kind::VoltageOutside => "voltage_outside",
            Kind::ForecastOverload => "forecast_overload",
            Kind::CheckpointLate => "checkpoint_late",
            Kind::MarketShare => "market_share",
            Kind::KeysUnfit => "keys_unfit",
            Kind::StorageLow => "storage_low",
            Kind::MetersSilent => "meters_silent",
            Kind::SignatureBurst => "signature_burst",
            Kind::ClockDrift => "clock_drift",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// How many minutes its cause has to last before it is an alarm.
    const fn lasts_min(self) -> i64 {
        match self {
            Kind::FeederOverloaded => 1,
            Kind::VoltageOutside => 10,
            _ => 0,
        }
    }

    /// How long a person has.
    pub(crate) const fn respond_min(self) -> i64 {
        match self {
            Kind::FeederOverloaded => 1,
            Kind::LedgerInconsistent => 5,
            Kind::MarketNotCleared | Kind::LimitNotHeld => 10,
            Kind::CheckpointLate | Kind::VoltageOutside => 15,
            Kind::ForecastOverload => 30,
            Kind::SignatureBurst | Kind::MarketShare | Kind::KeysUnfit => 60,
            Kind::MetersSilent | Kind::StorageLow => 240,
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
    /// Of the meters' voltages, the one that is furthest from nominal, in mV.
    pub(crate) voltage_mv: Option<i64>,
    /// Set-points whose lease runs and that no device is known to hold.
    pub(crate) not_held: i64,
    /// Homes for which the platform should sign and cannot.
    pub(crate) keys_unfit: i64,
    /// Room that is left for the books.
    pub(crate) free_mib: Option<i64>,
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
    let off = |mv: i64| mv.abs_diff(NOMINAL_MV).saturating_mul(1000) / NOMINAL_MV.unsigned_abs();
    let off = seen
        .voltage_mv
        .map(|mv| i64::try_from(off(mv)).unwrap_or(i64::MAX));
    let rules = [
        (Kind::LedgerInconsistent, (!seen.sums_to_zero).then_some(1)),
        (Kind::FeederOverloaded, over(seen.feeder_w)),
        (Kind::MarketNotCleared, (!seen.cleared).then_some(1)),
        (
            Kind::ForecastOverload,
            over(seen.forecast_w).filter(|_| over(seen.feeder_w).is_none()),
        ),
        (
            Kind::LimitNotHeld,
            (seen.not_held > 0).then_some(seen.not_held),
        ),
        (
            Kind::VoltageOutside,
            off.filter(|off| *off > VOLTAGE_PERMILLE),
        ),
        (
            Kind::StorageLow,
            seen.free_mib.filter(|free| *free < STORAGE_LOW_MIB),
        ),
        (Kind::CheckpointLate, late.map(|age| age / 60_000)),
        (Kind::MarketShare, seen.share_permille),
        (
            Kind::KeysUnfit,
            (seen.keys_unfit > 0).then_some(seen.keys_unfit),
        ),
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Open {
    pub(crate) since: Timestamp,
    pub(crate) bad: i64,
    /// What an operator said to it. It counts until the alarm goes: one that comes again is another.
    pub(crate) said: Option<Said>,
    /// Whether anybody ever said something to it, which is kept.
    spoken_to: bool,
}

impl Open {
    /// Whether it is put aside.
    pub(crate) fn is_aside(&self) -> bool {
        self.said.as_ref().is_some_and(|said| said.until.is_some())
    }
}

/// That somebody has seen an alarm, or puts it aside. Times are people's, not the demo's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Said {
    pub(crate) account: String,
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
    /// Until when it is put aside.
    pub(crate) until: Option<Timestamp>,
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
    /// Since when a cause is there that has not lasted long enough.
    pending: BTreeMap<Kind, Timestamp>,
    /// Oldest first.
    pub(crate) history: VecDeque<Happening>,
    /// Since when it watches.
    pub(crate) since: Option<Timestamp>,
    /// What was said before the platform started, to alarms that stood then.
    remembered: BTreeMap<Kind, (Timestamp, Said)>,
    looks: u32,
}

impl Board {
    /// Goes on with what was said before the platform started: an alarm that still stands is the same one.
    pub(crate) fn remember_said(&mut self, said: BTreeMap<Kind, (Timestamp, Said)>) {
        self.remembered = said;
    }

    /// Takes in what the rules find now, and gives the alarms that somebody spoke to and that are gone.
    pub(crate) fn take(
        &mut self,
        now: Timestamp,
        found: &BTreeMap<Kind, i64>,
    ) -> Vec<(Kind, Timestamp)> {
        let mut gone = Vec::new();
        self.since.get_or_insert(now);
        self.looks = self.looks.saturating_add(1);
        if self.looks > REMEMBERED_LOOKS {
            let lost = std::mem::take(&mut self.remembered);
            gone.extend(lost.into_iter().map(|(kind, (since, _))| (kind, since)));
        }
        for kind in Kind::ALL {
            match (found.get(&kind), self.open.get_mut(&kind)) {
                (Some(bad), Some(open)) => open.bad = *bad,
                (Some(bad), None) => self.begins(now, kind, *bad),
                (None, Some(_)) => {
                    let was = self.open.remove(&kind);
                    let spoken_to = was.filter(|open| open.spoken_to);
                    gone.extend(spoken_to.map(|open| (kind, open.since)));
                    self.remember(now, kind, false);
                }
                (None, None) => {
                    self.pending.remove(&kind);
                }
            }
        }
        gone
    }

    /// Opens an alarm once its cause has lasted.
    fn begins(&mut self, now: Timestamp, kind: Kind, bad: i64) {
        if let Some((since, said)) = self.remembered.remove(&kind) {
            let open = Open {
                since,
                bad,
                said: Some(said),
                spoken_to: true,
            };
            self.open.insert(kind, open);
            return;
        }
        let since = *self.pending.entry(kind).or_insert(now);
        if now.ms_since(since) < kind.lasts_min() * 60_000 {
            return;
        }
        self.pending.remove(&kind);
        let open = Open {
            since: now,
            bad,
            said: None,
            spoken_to: false,
        };
        self.open.insert(kind, open);
        self.remember(now, kind, true);
    }

    fn remember(&mut self, at: Timestamp, kind: Kind, came: bool) {
        if self.history.len() >= HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(Happening { at, kind, came });
    }

    /// Takes in what somebody says to an alarm, and gives since when that stands; none where it does not.
    pub(crate) fn say(&mut self, kind: Kind, said: Said) -> Option<Timestamp> {
        let open = self.open.get_mut(&kind)?;
        open.said = Some(said);
        open.spoken_to = true;
        Some(open.since)
    }

    /// What was put aside for a time that is over asks again.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        for open in self.open.values_mut() {
            open.said = open
                .said
                .take()
                .filter(|said| said.until.is_none_or(|until| until > now));
        }
    }

    /// The alarms that ask for a response: those that nobody has put aside.
    pub(crate) fn asking(&self) -> impl Iterator<Item = (Kind, &Open)> {
        let open = self.open.iter().filter(|(_, open)| !open.is_aside());
        open.map(|(kind, open)| (*kind, open))
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
            voltage_mv: Some(232_000),
            not_held: 0,
            keys_unfit: 0,
            free_mib: Some(50_000),
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
                s.voltage_mv = None;
                s.free_mib = None;
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
        for (mv, off) in [(207_000, None), (206_700, Some(101)), (253_300, Some(101))] {
            let expected: Vec<_> = off
                .map(|off| (Kind::VoltageOutside, off))
                .into_iter()
                .collect();
            assert_eq!(found(|s| s.voltage_mv = Some(mv)), expected, "{mv}");
        }
        assert_eq!(found(|s| s.not_held = 2), [(Kind::LimitNotHeld, 2)]);
        assert_eq!(found(|s| s.keys_unfit = 3), [(Kind::KeysUnfit, 3)]);
        assert_eq!(found(|s| s.free_mib = Some(2048)), []);
        assert_eq!(
            found(|s| s.free_mib = Some(2047)),
            [(Kind::StorageLow, 2047)]
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
        let bad = |n| BTreeMap::from([(Kind::ForecastOverload, n)]);
        board.take(at(0), &bad(1100));
        board.take(at(1), &bad(1200));
        let open = &board.open[&Kind::ForecastOverload];
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
    fn a_cause_that_does_not_last_is_no_alarm() {
        let mut board = Board::default();
        let at = |min: i64| Timestamp::from_unix_s(min * 60);
        let off = BTreeMap::from([(Kind::VoltageOutside, 110)]);
        board.take(at(0), &off);
        board.take(at(9), &off);
        board.take(at(10), &BTreeMap::new());
        board.take(at(11), &off);
        board.take(at(20), &off);
        assert!(board.open.is_empty() && board.history.is_empty());
        board.take(at(21), &off);
        assert_eq!(board.open[&Kind::VoltageOutside].since, at(21));
    }

    #[test]
    fn what_is_put_aside_asks_again_when_its_time_is_over_and_when_it_comes_again() {
        let mut board = Board::default();
        let at = |min: i64| Timestamp::from_unix_s(min * 60);
        let bad = BTreeMap::from([(Kind::StorageLow, 100)]);
        let said = |until| Said {
            account: "ann".to_owned(),
            reason: "a disk is ordered".to_owned(),
            at: at(0),
            until,
        };
        assert_eq!(
            board.say(Kind::StorageLow, said(None)),
            None,
            "it does not stand"
        );
        board.take(at(0), &bad);
        assert_eq!(board.say(Kind::StorageLow, said(None)), Some(at(0)));
        board.wake(at(1000));
        assert_eq!(board.asking().count(), 1, "seen is not solved");
        assert!(board.open[&Kind::StorageLow].said.is_some());
        board.say(Kind::StorageLow, said(Some(at(60))));
        board.wake(at(59));
        assert_eq!(board.asking().count(), 0);
        board.wake(at(60));
        assert_eq!(board.asking().count(), 1, "its time is over");
        board.say(Kind::StorageLow, said(Some(at(600))));
        board.take(at(61), &BTreeMap::new());
        board.take(at(62), &bad);
        assert_eq!(board.asking().count(), 1, "another one");
    }

    #[test]
    fn what_was_said_before_a_start_counts_while_the_alarm_still_stands() {
        let at = |min: i64| Timestamp::from_unix_s(min * 60);
        let said = Said {
            account: "ann".to_owned(),
            reason: "a disk is ordered".to_owned(),
            at: at(3),
            until: Some(at(900)),
        };
        let before = |kind| BTreeMap::from([(kind, (at(2), said.clone()))]);
        let bad = BTreeMap::from([(Kind::StorageLow, 100)]);
        let mut board = Board::default();
        board.remember_said(before(Kind::StorageLow));
        assert_eq!(board.take(at(10), &BTreeMap::new()), [], "not found yet");
        assert_eq!(board.take(at(11), &bad), []);
        let open = &board.open[&Kind::StorageLow];
        assert_eq!((open.since, open.said.as_ref()), (at(2), Some(&said)));
        assert_eq!((board.asking().count(), board.rate(at(11))), (0, 0));
        assert_eq!(
            board.take(at(12), &BTreeMap::new()),
            [(Kind::StorageLow, at(2))]
        );
        board.take(at(13), &bad);
        assert_eq!(board.asking().count(), 1, "another one");

        let mut board = Board::default();
        board.remember_said(before(Kind::FeederOverloaded));
        let gone: Vec<_> = (0..20).flat_map(|n| board.take(at(n), &bad)).collect();
        assert_eq!(
            gone,
            [(Kind::FeederOverloaded, at(2))],
            "it is not found any more"
        );
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
