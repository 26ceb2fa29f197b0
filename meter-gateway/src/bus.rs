//! Who talks on a line, and when: one task owns each line, so that two devices behind one gateway
//! never speak at once. A device that fails is asked less and less often, and the others go on.

pub mod job;
mod poller;

use domain::time::Timestamp;
use runtime::clock::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::device::address::Address;
use crate::device::modbus::{Line, ModbusError};
use crate::poll::Sample;
pub use job::{Answer, Desk, JOBS_MAX, Job, Place, STEPS_MAX, Step};
pub use poller::Poller;

/// Longest time a failing device is left alone, in milliseconds of the clock.
pub const BACK_OFF_MAX_MS: i64 = 300_000;
/// Shortest time between two polls of a device on the wall, however fast the clock runs.
pub const POLL_MIN_WALL_MS: i64 = 250;
/// What became of one poll, or of one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Position of the device in the configuration.
    pub device: usize,
    /// The sample, or the kind of failure.
    pub outcome: Result<Sample, &'static str>,
}

/// When devices are polled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// Time between polls.
    pub poll_ms: i64,
    /// Length of an interval: right after each edge there is a poll.
    pub interval_ms: i64,
}

impl Schedule {
    /// The schedule for a clock of this speed.
    #[must_use]
    pub fn new(poll_interval_s: u32, interval_length_s: u32, speed: u32) -> Self {
        let floor_ms = POLL_MIN_WALL_MS * i64::from(speed);
        Schedule {
            poll_ms: (i64::from(poll_interval_s) * 1000).max(floor_ms),
            interval_ms: i64::from(interval_length_s) * 1000,
        }
    }

    /// The next poll after `now`: at a multiple of the poll interval, or at an interval's edge.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let after = |step_ms: i64| {
            let ms = now.unix_ms();
            ms.saturating_sub(ms.rem_euclid(step_ms))
                .saturating_add(step_ms)
        };
        Timestamp::from_unix_ms(after(self.poll_ms).min(after(self.interval_ms)))
    }

    /// The next poll of a device that has failed `failures` times in a row.
    #[must_use]
    pub fn next_after_failures(&self, now: Timestamp, failures: u32) -> Timestamp {
        let doublings = failures.saturating_sub(1).min(16);
        let wait_ms = if failures < 2 {
            0
        } else {
            self.poll_ms << doublings
        };
        self.next(now)
            .max(now.plus_ms(wait_ms.min(BACK_OFF_MAX_MS.max(self.poll_ms))))
    }
}

/// What a line's task works with.
struct LineTask {
    line: Line,
    pollers: Vec<Poller>,
    schedule: Schedule,
    clock: Clock,
    reports: mpsc::Sender<Report>,
}

/// Polls the devices of one line and does the jobs that come for them, until `shutdown`.
pub async fn run_line(
    address: Address,
    pollers: Vec<Poller>,
    schedule: Schedule,
    clock: Clock,
    reports: mpsc::Sender<Report>,
    mut jobs: mpsc::Receiver<Job>,
    shutdown: CancellationToken,
) {
    let mut task = LineTask {
        line: Line::to(address),
        pollers,
        schedule,
        clock,
        reports,
    };
    while let Some((next, due)) = task.next() {
        let clock = task.clock.clone();
        let turn = async {
            tokio::select! {
                // Who writes wants it done; a poll can wait.
                biased;
                Some(job) = jobs.recv() => {
                    task.work(job).await;
                    true
                }
                () = clock.sleep_until(due) => task.poll(next).await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            is_heard = turn => if !is_heard { return },
        }
    }
}

impl LineTask {
    /// The device that is polled next, and when.
    fn next(&self) -> Option<(usize, Timestamp)> {
        let due = |(index, poller): (usize, &Poller)| (index, poller.due);
        self.pollers
            .iter()
            .enumerate()
            .map(due)
            .min_by_key(|(_, due)| *due)
    }

    /// Polls a device; false where nobody listens to what it says.
    async fn poll(&mut self, index: usize) -> bool {
        let outcome = self.pollers[index].poll(&mut self.line, &self.clock).await;
        self.note(index, outcome.as_ref().err());
        let poller = &mut self.pollers[index];
        poller.due = self
            .schedule
            .next_after_failures(self.clock.now(), poller.failures);
        let report = Report {
            device: poller.device,
            outcome: outcome.map_err(|error| error.kind()),
        };
        self.reports.send(report).await.is_ok()
    }

    async fn work(&mut self, job: Job) {
        let index = self.pollers.iter().position(|p| p.device == job.device);
        let answer = match index {
            Some(index) => {
                let answer = self.pollers[index].work(&mut self.line, &job.steps).await;
                match &answer {
                    // Nothing was sent.
                    Err(ModbusError::NoRequest { .. }) => {}
                    // A device that refuses answers.
                    Ok(_) | Err(ModbusError::Exception(_) | ModbusError::NoPlace(_)) => {
                        self.note(index, None);
                    }
                    Err(error) => self.note(index, Some(error)),
                }
                answer
            }
            None => Err(ModbusError::NoLine),
        };
        // Who asked may have gone; the work is done all the same.
        let _ = job.answer.send(answer);
    }

    /// Counts the failures of a device in a row.
    fn note(&mut self, index: usize, error: Option<&ModbusError>) {
        let poller = &mut self.pollers[index];
        match error {
            None => poller.failures = 0,
            // A busy device is well: it is asked again at its next turn.
            Some(ModbusError::Busy) => {}
            Some(error) => {
                poller.failures = poller.failures.saturating_add(1);
                let (device, failures) = (poller.device, poller.failures);
                tracing::warn!(device, failures, "{}: {error}", self.line.address());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_aligned_and_edges_have_one_of_their_own() {
        let at = Timestamp::from_unix_s;
        let schedule = Schedule::new(7, 900, 1);
        assert_eq!(schedule.next(at(0)), at(7));
        assert_eq!(schedule.next(at(897)), at(900));
        assert_eq!(schedule.next(at(900)), at(903));
        assert_eq!(
            Schedule::new(1, 900, 60).poll_ms,
            15_000,
            "250 ms on the wall"
        );
    }

    #[test]
    fn failing_devices_are_left_alone_longer_and_longer() {
        let schedule = Schedule::new(10, 900, 1);
        let now = Timestamp::from_unix_s(10_000_000);
        let waits: Vec<i64> = (0..8)
            .map(|failures| schedule.next_after_failures(now, failures).ms_since(now) / 1000)
            .collect();
        assert_eq!(waits, [10, 10, 20, 40, 80, 160, 300, 300]);
    }
}
