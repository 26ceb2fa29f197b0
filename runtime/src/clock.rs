//! The clock that services ask. It runs at wall speed or faster, and never goes backwards.
//!
//! A [`ClockFile`] makes virtual time durable: times are handed out only up to a lease that is
//! already on disk, so after a crash the clock resumes at a time that nobody has seen passed. The
//! price is a jump forward of at most one lease ([`LEASE_WALL_MS`] of wall time) after a crash.

mod file;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domain::time::Timestamp;
use tokio::time::Instant;

pub use file::{ClockError, ClockFile, LEASE_WALL_MS};

/// The longest single nap of a sleep, so that a step of the system clock is noticed.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// How long a sleeper waits before it looks again while the clock stands still at its lease.
const LEASE_NAP: Duration = Duration::from_millis(20);

/// How far the system clock may be set back before that is worth a warning.
const SET_BACK_TOLERANCE_MS: i64 = 5_000;

/// A source of `now`. Clones share the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    speed: u32,
    bounds: Mutex<Bounds>,
}

#[derive(Debug)]
enum Source {
    System,
    Scaled { start: Timestamp, anchor: Instant },
}

#[derive(Debug)]
struct Bounds {
    /// The latest time handed out; the next one is not before it.
    latest: Timestamp,
    /// No time after this one is handed out; `None` without a clock file.
    lease: Option<Timestamp>,
    /// Set at the orderly end: the lease is not renewed any more.
    frozen: bool,
    /// That the system clock was set back has been said; forgotten once it has caught up.
    warned: bool,
}

impl Clock {
    /// The computer's clock in UTC. When it is set back, `now` stands still until it catches up; by
    /// more than 5 s, that is logged as a warning, once.
    #[must_use]
    pub fn system() -> Self {
        Clock::new(Source::System, 1, None)
    }

    /// Virtual time that starts at `start` and runs `speed` times as fast as the wall (0 counts as 1).
    #[must_use]
    pub fn scaled(start: Timestamp, speed: u32) -> Self {
        Clock::new(
            Source::Scaled {
                start,
                anchor: Instant::now(),
            },
            speed.max(1),
            None,
        )
    }

    fn new(source: Source, speed: u32, lease: Option<Timestamp>) -> Self {
        let latest = match source {
            Source::System => Timestamp::EPOCH,
            Source::Scaled { start, .. } => start,
        };
        let bounds = Mutex::new(Bounds {
            latest,
            lease,
            frozen: false,
            warned: false,
        });
        Clock {
            inner: Arc::new(Inner {
                source,
                speed,
                bounds,
            }),
        }
    }

    fn leased(start: Timestamp, speed: u32, lease: Timestamp) -> Self {
        let source = Source::Scaled {
            start,
            anchor: Instant::now(),
        };
        Clock::new(source, speed.max(1), Some(lease))
    }

    /// The time now. Never earlier than any time this clock gave before.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.observe(self.raw())
    }

    /// `now()` where the source says `raw`.
    fn observe(&self, raw: Timestamp) -> Timestamp {
        let mut bounds = self
            .inner
            .bounds
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let allowed = bounds.lease.map_or(raw, |lease| raw.min(lease));
        bounds.latest = bounds.latest.max(allowed);
        let latest = bounds.latest;
        if matches!(self.inner.source, Source::System) {
            let behind_ms = latest.ms_since(raw);
            if behind_ms <= 0 {
                bounds.warned = false;
            } else if behind_ms > SET_BACK_TOLERANCE_MS && !bounds.warned {
                bounds.warned = true;
                drop(bounds);
                tracing::warn!(
                    behind_ms,
                    "the system clock was set back; this service's time stands still at {latest} \
                     until it catches up: check the system clock, and restart the service once it \
                     is right"
                );
            }
        }
        latest
    }

    /// How many times as fast as the wall this clock runs.
    #[must_use]
    pub fn speed(&self) -> u32 {
        self.inner.speed
    }

    /// Waits until `now()` has reached `time`; at once where it has already. With a clock file it
    /// waits for ever after the orderly end: wait beside a shutdown token.
    pub async fn sleep_until(&self, time: Timestamp) {
        loop {
            let now = self.now();
            if now >= time {
                return;
            }
            // The raw time may be past `time` already while the lease holds `now` back.
            let ahead_ms = time.ms_since(self.raw().max(now));
            let nap = self
                .wall(ahead_ms)
                .clamp(Duration::from_millis(1), LONGEST_NAP);
            tokio::time::sleep(if ahead_ms <= 0 { LEASE_NAP } else { nap }).await;
        }
    }

    /// Waits for `virtual_ms` milliseconds of this clock's time.
    pub async fn sleep_ms(&self, virtual_ms: i64) {
        self.sleep_until(self.now().plus_ms(virtual_ms)).await;
    }

    /// How long `virtual_ms` of this clock's time take on the wall, rounded up to the microsecond
    /// (zero where negative).
    #[must_use]
    pub fn wall(&self, virtual_ms: i64) -> Duration {
        let virtual_us = u128::try_from(virtual_ms).unwrap_or(0) * 1000;
        let wall_us = virtual_us.div_ceil(u128::from(self.inner.speed));
        Duration::from_micros(u64::try_from(wall_us).unwrap_or(u64::MAX))
    }

    /// The time without lease and without the promise of never going backwards.
    fn raw(&self) -> Timestamp {
        match self.inner.source {
            Source::System => system_now(),
            Source::Scaled { start, anchor } => {
                // Multiplied in microseconds, so that a fast clock still moves smoothly.
                let virtual_us = anchor.elapsed().as_micros() * u128::from(self.inner.speed);
                start.plus_ms(i64::try_from(virtual_us / 1000).unwrap_or(i64::MAX))
            }
        }
    }

    fn extend_lease(&self, lease: Timestamp) {
        let mut bounds = self
            .inner
            .bounds
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !bounds.frozen {
            bounds.lease = Some(lease);
        }
    }

    /// Stops the clock for good and returns the last time it will ever give.
    fn freeze(&self) -> Timestamp {
        let last = self.now();
        let mut bounds = self
            .inner
            .bounds
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let last = bounds.latest.max(last);
        bounds.lease = Some(last);
        bounds.frozen = true;
        last
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place where the computer's clock is read"
)]
fn system_now() -> Timestamp {
    let unix_ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    };
    Timestamp::from_unix_ms(unix_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captured_log::CapturedLog;

    const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);

    #[tokio::test(start_paused = true)]
    async fn a_scaled_clock_runs_at_its_speed() {
        let clock = Clock::scaled(START, 60);
        assert_eq!((clock.now(), clock.speed()), (START, 60));
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(clock.now(), START.plus_s(900));
        assert_eq!(clock.wall(900_000), Duration::from_secs(15));
        assert_eq!(clock.wall(-5), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_ends_at_its_time_and_not_before() {
        let clock = Clock::scaled(START, 7);
        let wake = START.plus_s(900);
        clock.sleep_until(wake).await;
        let late_ms = clock.now().ms_since(wake);
        assert!((0..=14).contains(&late_ms), "woke {late_ms} ms late");
        clock.sleep_until(START).await;
        clock.sleep_ms(1).await;
        assert!(clock.now() > wake);
    }

    #[tokio::test]
    async fn the_system_clock_moves_and_is_of_this_century() {
        let clock = Clock::system();
        let first = clock.now();
        clock.sleep_ms(5).await;
        assert!(clock.now().ms_since(first) >= 5);
        assert!(first > Timestamp::from_unix_s(1_600_000_000));
    }

    #[test]
    fn a_system_clock_that_is_set_back_is_reported_once_and_time_stands_still() {
        let clock = Clock::system();
        let (log, _guard) = CapturedLog::start();
        for (raw_s, now_s, warnings) in [
            (100, 100, 0),
            // Five seconds are a correction, not worth a word.
            (95, 100, 0),
            (94, 100, 1),
            (40, 100, 1),
            (99, 100, 1),
            (101, 101, 1),
            // Set back again after it had caught up.
            (90, 101, 2),
        ] {
            assert_eq!(clock.observe(START.plus_s(raw_s)), START.plus_s(now_s));
            let lines = log.lines();
            assert_eq!(lines.len(), warnings, "at {raw_s} s: {lines:?}");
        }
        let first = &log.lines()[0];
        assert!(
            first.starts_with("WARN") && first.contains("restart the service"),
            "{first}"
        );
        assert!(first.contains("behind_ms=6000"), "{first}");
        let scaled = Clock::scaled(START, 1);
        assert_eq!(scaled.observe(START.plus_s(-60)), START);
        assert_eq!(log.lines().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_holds_time_back_until_it_is_extended() {
        let clock = Clock::leased(START, 10, START.plus_s(5));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), START.plus_s(5));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(START.plus_s(6)).await }
        });
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!sleeper.is_finished());
        clock.extend_lease(START.plus_s(1000));
        sleeper.await.unwrap();
        assert!(clock.now() >= START.plus_s(40));
        let last = clock.freeze();
        tokio::time::advance(Duration::from_secs(9)).await;
        clock.extend_lease(START.plus_s(2000));
        assert_eq!(clock.now(), last);
    }
}
