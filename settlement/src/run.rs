//! When an interval is settled: soon with what is there, and again later for what came since.

use domain::posting::Run;
use domain::time::{Interval, Timestamp};

/// The provisional run waits this long for meters; it does not wait where all have spoken.
pub const PROVISIONAL_WAIT_S: i64 = 300;

const DAY_S: i64 = 86_400;

/// When `run` is due for `interval` at the latest.
#[must_use]
pub fn due_at(run: Run, interval: Interval) -> Timestamp {
    let wait_s = match run {
        Run::Provisional => PROVISIONAL_WAIT_S,
        Run::Initial => DAY_S,
        Run::Final => 10 * DAY_S,
        Run::TrueUp => 60 * DAY_S,
    };
    interval.end().plus_s(wait_s)
}

/// The run after `done`, and when it is due; `complete` says that all connections and the feeder have
/// been read. `None` after the last.
#[must_use]
pub fn next(interval: Interval, done: Option<Run>, complete: bool) -> Option<(Run, Timestamp)> {
    let run = Run::ALL
        .into_iter()
        .find(|run| done.is_none_or(|d| *run > d))?;
    match run {
        Run::Provisional if complete => Some((run, interval.end())),
        _ => Some((run, due_at(run, interval))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_follow_each_other() {
        let interval = Interval::new(0, 900).unwrap();
        let s = |s| Timestamp::from_unix_s(s);
        assert_eq!(
            next(interval, None, false),
            Some((Run::Provisional, s(1200)))
        );
        assert_eq!(next(interval, None, true), Some((Run::Provisional, s(900))));
        assert_eq!(
            next(interval, Some(Run::Provisional), true),
            Some((Run::Initial, s(87_300)))
        );
        assert_eq!(
            next(interval, Some(Run::Final), true),
            Some((Run::TrueUp, s(5_184_900)))
        );
        assert_eq!(next(interval, Some(Run::TrueUp), true), None);
    }
}
