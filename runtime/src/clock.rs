//! The clock that services ask. It runs at wall speed or faster, and never goes backwards.
//!
//! A [`ClockFile`] makes virtual time durable: times are handed out only up to a lease that is
//! already on disk, so after a crash the clock resumes at a time that nobody has seen passed. The
//! price is a jump forward of at most one lease ([`LEASE_WALL_MS`] of wall time) after a crash.
//!
//! The computer's clock is held against a watch that nobody sets: [`Clock::steps`] says how often it was
//! set, [`Clock::elapsed_ms`] how much time has truly passed.

mod file;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domain::time::Timestamp;
use tokio::time::Instant;

pub use file::{ClockError, ClockFile, LEASE_WALL_MS};

/// The longest single nap of a sleep, so that a step of the system clock is noticed.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// How long a sleeper waits before it looks again while the clock stands still at its lease.
const LEASE_NAP: Duration = Duration::from_millis(20);

/// From so many ms on a difference between clock and watch is a step; what corrects a clock by less
/// lets it run a little faster or slower for a while.
pub const STEP_MIN_MS: i64 = 500;

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
    System {
        anchor: std::time::Instant,
    },
    Scaled {
        start: Timestamp,
        anchor: Instant,
        /// What a test has set the clock by.
        set_by_ms: AtomicI64,
    },
}

/// What the source shows, and the watch beside it.
#[derive(Clone, Copy, Debug)]
struct Look {
    raw: Timestamp,
    elapsed_ms: i64,
    /// How long it took to look at both.
    slack_ms: i64,
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
    /// The look before.
    looked: Option<Look>,
    /// What [`Clock::steady`] last saw `now` move to, and when by the watch.
    moved: (Timestamp, i64),
    /// How often the source was set.
    steps: u64,
}

impl Clock {
    /// The computer's clock in UTC. When it is set back, `now` stands still until it catches up; by
    /// more than 5 s, that is logged as a warning, once.
    #[must_use]
    pub fn system() -> Self {
        let anchor = std::time::Instant::now();
        Clock::new(Source::System { anchor }, 1, None)
    }

    /// Virtual time that starts at `start` and runs `speed` times as fast as the wall (0 counts as 1).
    #[must_use]
    pub fn scaled(start: Timestamp, speed: u32) -> Self {
        Clock::new(
            Source::Scaled {
                start,
                anchor: Instant::now(),
                set_by_ms: AtomicI64::new(0),
            },
            speed.max(1),
            None,
        )
    }

    fn new(source: Source, speed: u32, lease: Option<Timestamp>) -> Self {
        let latest = match source {
            Source::System { .. } => Timestamp::EPOCH,
            Source::Scaled { start, .. } => start,
        };
        let bounds = Mutex::new(Bounds {
            latest,
            lease,
            frozen: false,
            warned: false,
            looked: None,
            moved: (latest, 0),
            steps: 0,
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
            set_by_ms: AtomicI64::new(0),
        };
        Clock::new(source, speed.max(1), Some(lease))
    }

    /// The time now. Never earlier than any time this clock gave before.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let look = self.look();
        self.note(look);
        self.observe(look.raw)
    }

    /// The time by which a schedule goes on: `now()`, and while that stands still because the clock was
    /// set back, on from there by the watch. When `now()` moves again, this falls back to it.
    #[must_use]
    pub fn steady(&self) -> Timestamp {
        let look = self.look();
        self.note(look);
        let now = self.observe(look.raw);
        let mut bounds = self.bounds();
        if now != bounds.moved.0 {
            bounds.moved = (now, look.elapsed_ms);
        }
        match look.elapsed_ms.saturating_sub(bounds.moved.1) {
            standing_ms if standing_ms >= STEP_MIN_MS => now.plus_ms(standing_ms),
            _ => now,
        }
    }

    /// How often the source of this clock was set, forwards or backwards, by [`STEP_MIN_MS`] or more.
    /// Looked at with every `now()`.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.bounds().steps
    }

    /// Milliseconds of this clock's time since it was made, by a watch that nobody sets.
    #[must_use]
    pub fn elapsed_ms(&self) -> i64 {
        self.look().elapsed_ms
    }

    /// Sets the source of a scaled clock forwards or backwards, as somebody does with a real one.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_by(&self, ms: i64) {
        if let Source::Scaled { set_by_ms, .. } = &self.inner.source {
            set_by_ms.fetch_add(ms, Ordering::Relaxed);
        }
    }

    fn bounds(&self) -> MutexGuard<'_, Bounds> {
        self.inner
            .bounds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares what clock and watch have done since the look before.
    fn note(&self, look: Look) {
        let mut bounds = self.bounds();
        let Some(before) = bounds.looked.replace(look) else {
            return;
        };
        let watch_ms = look.elapsed_ms.saturating_sub(before.elapsed_ms);
        let step_ms = look.raw.ms_since(before.raw).saturating_sub(watch_ms);
        let slack_ms = before.slack_ms.saturating_add(look.slack_ms);
        if step_ms.saturating_abs() >= STEP_MIN_MS.saturating_add(slack_ms) {
            bounds.steps = bounds.steps.saturating_add(1);
            drop(bounds);
            tracing::warn!(step_ms, "the clock was set; the interval says so");
        }
    }

    /// `now()` where the source says `raw`.
    fn observe(&self, raw: Timestamp) -> Timestamp {
        let mut bounds = self.bounds();
        let allowed = bounds.lease.map_or(raw, |lease| raw.min(lease));
        bounds.latest = bounds.latest.max(allowed);
        let latest = bounds.latest;
        if matches!(self.inner.source, Source::System { .. }) {
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

    /// Waits for `virtual_ms` of this clock's time by the watch, whatever is done to the clock.
    pub async fn rest_ms(&self, virtual_ms: i64) {
        tokio::time::sleep(self.wall(virtual_ms)).await;
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
        self.look().raw
    }

    fn look(&self) -> Look {
        let ms = |ms: u128| i64::try_from(ms).unwrap_or(i64::MAX);
        match &self.inner.source {
            Source::System { anchor } => {
                let before = anchor.elapsed();
                let raw = system_now();
                let after = anchor.elapsed();
                Look {
                    raw,
                    elapsed_ms: ms(before.as_millis()),
                    slack_ms: ms(after.saturating_sub(before).as_millis()),
                }
            }
            Source::Scaled {
                start,
                anchor,
                set_by_ms,
            } => {
                // Multiplied in microseconds, so that a fast clock still moves smoothly.
                let virtual_us = anchor.elapsed().as_micros() * u128::from(self.inner.speed);
                let elapsed_ms = ms(virtual_us / 1000);
                Look {
                    raw: start
                        .plus_ms(elapsed_ms)
                        .plus_ms(set_by_ms.load(Ordering::Relaxed)),
                    elapsed_ms,
                    slack_ms: 0,
                }
            }
        }
    }

    fn extend_lease(&self, lease: Timestamp) {
        let mut bounds = self.bounds();
        if !bounds.frozen {
            bounds.lease = Some(lease);
        }
    }

    /// Stops the clock for good and returns the last time it will ever give.
    fn freeze(&self) -> Timestamp {
        let last = self.now();
        let mut bounds = self.bounds();
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
    async fn a_clock_that_is_set_is_found_out_and_the_watch_runs_on() {
        let clock = Clock::scaled(START, 60);
        let minute = || async {
            tokio::time::advance(Duration::from_secs(1)).await;
            let _ = clock.now();
        };
        let _ = clock.now();
        minute().await;
        assert_eq!((clock.steps(), clock.elapsed_ms()), (0, 60_000));
        clock.set_by(3_600_000);
        minute().await;
        assert_eq!((clock.steps(), clock.elapsed_ms()), (1, 120_000));
        assert_eq!(clock.now(), START.plus_s(3720));
        minute().await;
        clock.set_by(-600_000);
        minute().await;
        assert_eq!((clock.steps(), clock.elapsed_ms()), (2, 240_000));
        assert_eq!(clock.now(), START.plus_s(3780), "it stands still");
        clock.set_by(STEP_MIN_MS - 1);
        minute().await;
        assert_eq!(clock.steps(), 2, "that is no step");
    }

    #[tokio::test(start_paused = true)]
    async fn a_schedule_goes_on_while_the_clock_stands_still() {
        let clock = Clock::scaled(START, 1);
        let second = || async {
            tokio::time::advance(Duration::from_secs(1)).await;
            clock.steady().ms_since(START) / 1000
        };
        assert_eq!((second().await, second().await), (1, 2));
        clock.set_by(-3_000);
        let steady = [second().await, second().await, second().await];
        assert_eq!((steady, clock.now()), ([3, 4, 5], START.plus_s(2)));
        assert_eq!(
            (second().await, second().await),
            (3, 4),
            "back to the clock, which moves again"
        );
        clock.set_by(60_000);
        assert_eq!(second().await, 65);
    }

    #[test]
    fn the_system_clock_of_a_well_machine_makes_no_steps() {
        let clock = Clock::system();
        for _ in 0..1000 {
            let _ = clock.now();
        }
        assert_eq!(clock.steps(), 0);
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
