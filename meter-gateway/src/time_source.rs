//! How good this computer's clock is: it is held against an NTP server, and never set. Only a recent
//! check that found it within the error of the configuration makes a reading's time `Synchronised`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::reading::{ClockStamp, ClockState};
use domain::time::Timestamp;
use rsntp::{AsyncSntpClient, Config, SynchronizationError};
use runtime::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::status::Shared;

/// Time between two checks, in seconds.
pub const CHECK_EVERY_S: u64 = 300;
/// Time until the next check after one that failed, in seconds.
const RETRY_S: u64 = 60;
/// A check is worth nothing any more after so many milliseconds.
pub const CHECK_MAX_AGE_MS: i64 = 3 * 300_000;
/// How far a clock may run away between two checks, in millionths.
const DRIFT_PPM: i64 = 100;
/// How long a server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How often somebody looks whether the clock was set, which makes the last check worthless.
const NAP: Duration = Duration::from_secs(1);
/// No gateway ran before that day, so a clock that says so knows nothing.
const FIRST_DAY: Timestamp = Timestamp::from_unix_s(1_750_000_000);

/// The last check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Check {
    elapsed_ms: i64,
    /// The clock's steps up to then.
    steps: u64,
    /// How far the clock was off, the uncertainty of the answer included.
    error_ms: i64,
}

/// What is known about the clock; shared by who checks and who signs.
#[derive(Clone, Debug, Default)]
pub struct TimeSource(Arc<Mutex<Option<Check>>>);

/// Whether a text names a server.
#[must_use]
pub fn is_server(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "123"));
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/') && is_port
}

impl TimeSource {
    /// Takes in that the clock was found to be off by `error_ms` at most.
    pub fn checked(&self, clock: &Clock, error_ms: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Check {
            elapsed_ms: clock.elapsed_ms(),
            steps: clock.steps(),
            error_ms: error_ms.max(1),
        });
    }

    /// The stamp of a reading that is signed now. `limit_ms` is the largest error to be expected.
    #[must_use]
    pub fn stamp(&self, clock: &Clock, limit_ms: u32) -> ClockStamp {
        let signed_at = clock.now();
        let check = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, error_ms) = if clock.speed() != 1 {
            (ClockState::Relative, limit_ms)
        } else if signed_at < FIRST_DAY {
            (ClockState::Unknown, u32::MAX)
        } else {
            match check.and_then(|check| check.error_now(clock)) {
                Some(error_ms) if error_ms <= limit_ms => (ClockState::Synchronised, error_ms),
                Some(error_ms) => (ClockState::Informative, error_ms),
                None => (ClockState::Informative, limit_ms),
            }
        };
        ClockStamp {
            signed_at,
            state,
            error_ms,
        }
    }
}

impl Check {
    /// The error that the clock may have by now; none where the check says nothing any more.
    fn error_now(&self, clock: &Clock) -> Option<u32> {
        let age_ms = clock.elapsed_ms().saturating_sub(self.elapsed_ms);
        let is_valid = self.steps == clock.steps() && age_ms <= CHECK_MAX_AGE_MS;
        let drift_ms = age_ms.max(0) * DRIFT_PPM / 1_000_000;
        let error_ms = self.error_ms.saturating_add(drift_ms);
        is_valid.then(|| u32::try_from(error_ms).unwrap_or(u32::MAX))
    }
}

/// Asks a server once; the answer is the largest error the clock can have, in milliseconds.
///
/// # Errors
/// It does not answer, or knows the time no better itself.
pub async fn ask(server: &str) -> Result<i64, SynchronizationError> {
    let config = Config::default().timeout(ANSWER_MAX);
    let result = AsyncSntpClient::with_config(config)
        .synchronize(server)
        .await?;
    let ms = |duration: rsntp::SntpDuration| {
        let duration = duration.abs_as_std_duration().unwrap_or(Duration::MAX);
        i64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
    };
    let half_way_ms = ms(result.round_trip_delay()) / 2 + 1;
    Ok(ms(result.clock_offset()).saturating_add(half_way_ms))
}

/// Checks the clock again and again until `shutdown`, and at once after it was set.
pub async fn run(
    server: String,
    source: TimeSource,
    clock: Clock,
    limit_ms: u32,
    status: Shared,
    shutdown: CancellationToken,
) {
    let mut was_good = true;
    loop {
        let steps = clock.steps();
        let asked = tokio::select! {
            () = shutdown.cancelled() => return,
            asked = ask(&server) => asked,
        };
        let problem = match asked {
            Ok(error_ms) => {
                source.checked(&clock, error_ms);
                let is_off = error_ms > i64::from(limit_ms);
                is_off.then(|| format!("the clock is {error_ms} ms off; its readings are flagged"))
            }
            Err(error) => Some(format!("{error}; readings are flagged until it answers")),
        };
        if let Some(problem) = &problem {
            status.count_error("time_source");
            if was_good {
                tracing::warn!("time server {server}: {problem}");
            }
        }
        was_good = problem.is_none();
        let wait_s = if was_good { CHECK_EVERY_S } else { RETRY_S };
        let wait = async {
            for _ in 0..wait_s {
                tokio::time::sleep(NAP).await;
                // A step is seen when somebody asks for the time.
                let _ = clock.now();
                if clock.steps() != steps {
                    return;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = wait => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UdpSocket;

    const LIMIT_MS: u32 = 1000;

    #[test]
    fn servers_are_hosts_with_or_without_a_port() {
        for good in ["pool.ntp.org", "127.0.0.1:1123", "ntp:123"] {
            assert!(is_server(good), "{good}");
        }
        for bad in ["", ":123", "a b", "ntp://x", "ntp:0", "ntp:x"] {
            assert!(!is_server(bad), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_recent_check_within_the_limit_is_synchronised() {
        let clock = Clock::scaled(Timestamp::from_unix_s(1_782_000_000), 1);
        let source = TimeSource::default();
        let stamp = || {
            let stamp = source.stamp(&clock, LIMIT_MS);
            (stamp.state, stamp.error_ms)
        };
        assert_eq!(stamp(), (ClockState::Informative, LIMIT_MS));
        source.checked(&clock, 7);
        assert_eq!(stamp(), (ClockState::Synchronised, 7));
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(
            stamp(),
            (ClockState::Synchronised, 67),
            "it may have drifted"
        );
        tokio::time::advance(Duration::from_secs(301)).await;
        assert_eq!(stamp(), (ClockState::Informative, LIMIT_MS), "too old");
        source.checked(&clock, 3_600_000);
        assert_eq!(stamp(), (ClockState::Informative, 3_600_000));
        source.checked(&clock, 7);
        clock.set_by(2000);
        assert_eq!(stamp().0, ClockState::Informative, "it was set since");
        let fast = Clock::scaled(Timestamp::from_unix_s(1_782_000_000), 60);
        assert_eq!(source.stamp(&fast, 5).state, ClockState::Relative);
        let first = Clock::scaled(Timestamp::from_unix_s(60), 1);
        assert_eq!(source.stamp(&first, 5).state, ClockState::Unknown);
    }

    /// Answers like an NTP server whose clock is `ahead_ms` ahead of this computer's; `stratum` 16
    /// does not know the time.
    async fn serve(ahead_ms: i64, stratum: u8) -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let clock = Clock::system();
        tokio::spawn(async move {
            let mut request = [0; 48];
            while let Ok((_, from)) = socket.recv_from(&mut request).await {
                let ms = clock.now().plus_ms(ahead_ms).unix_ms();
                let seconds = u32::try_from(ms / 1000 + 2_208_988_800).unwrap();
                let fraction = u32::try_from((ms % 1000) * (1 << 32) / 1000).unwrap();
                let mut answer = [0; 48];
                (answer[0], answer[1]) = (0x24, stratum);
                answer[24..32].copy_from_slice(&request[40..48]);
                for at in [16, 32, 40] {
                    answer[at..at + 4].copy_from_slice(&seconds.to_be_bytes());
                    answer[at + 4..at + 8].copy_from_slice(&fraction.to_be_bytes());
                }
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_server_tells_how_far_the_clock_is_off() {
        let good = ask(&serve(0, 1).await).await.unwrap();
        assert!((1..500).contains(&good), "{good}");
        for ahead_ms in [90_000, -90_000] {
            let off = ask(&serve(ahead_ms, 2).await).await.unwrap();
            assert!((89_000..91_000).contains(&off), "{off}");
        }
        assert!(ask(&serve(0, 16).await).await.is_err());
    }

    #[tokio::test]
    async fn the_clock_is_checked_as_soon_as_the_gateway_runs() {
        let (source, clock) = (TimeSource::default(), Clock::system());
        let (status, stop) = (Shared::default(), CancellationToken::new());
        let wrong = serve(90_000, 1).await;
        let task = run(
            wrong,
            source.clone(),
            clock.clone(),
            LIMIT_MS,
            status.clone(),
            stop.clone(),
        );
        let task = tokio::spawn(task);
        while !status.get().errors.contains_key("time_source") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let stamp = source.stamp(&clock, LIMIT_MS);
        assert_eq!(stamp.state, ClockState::Informative);
        assert!(stamp.error_ms > 80_000);
        stop.cancel();
        task.await.unwrap();
    }
}
