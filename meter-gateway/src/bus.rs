//! Who talks on a line, and when: one task owns each line, so that two devices behind one gateway
//! never speak at once. A device that fails is asked less and less often, and the others go on.

pub mod agenda;
pub mod job;
mod poller;
pub mod stream;

use domain::time::Timestamp;
use runtime::clock::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::device::address::Address;
use crate::device::modbus::{Line, ModbusError};
use crate::poll::{Sample, Watch};
use agenda::{Agenda, Next, Outcome};
pub use job::{Answer, Desk, JOBS_MAX, Job, Place, STEPS_MAX, Step};
pub use poller::Poller;
pub(crate) use poller::fetch;

/// Longest time a failing device is left alone, in milliseconds of the clock.
pub const BACK_OFF_MAX_MS: i64 = 300_000;
/// After so many jobs a device is polled, if one is due.
pub const JOBS_IN_A_ROW_MAX: u32 = 8;
/// Shortest time between two polls of a device on the wall, however fast the clock runs.
pub const POLL_MIN_WALL_MS: i64 = 250;
/// Longest time on the wall without a look at whether the clock was set.
const NAP_MAX_WALL_MS: i64 = 1000;

/// What became of one poll, or of one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Position of the device in the configuration.
    pub device: usize,
    /// The sample, or the kind of failure.
    pub outcome: Result<Sample, &'static str>,
    /// When that was, by the watch.
    pub watch: Watch,
}

impl Report {
    /// What was heard of a device just now.
    pub(crate) fn new(device: usize, outcome: Result<Sample, &'static str>, clock: &Clock) -> Self {
        let read_at = outcome.as_ref().map_or(clock.now(), |s| s.read_at);
        Report {
            device,
            watch: Watch::of(read_at, clock),
            outcome,
        }
    }
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
        self.next(now).max(now.plus_ms(self.wait_ms(failures)))
    }

    /// How long a device that has failed `failures` times in a row is left alone.
    #[must_use]
    pub fn wait_ms(&self, failures: u32) -> i64 {
        let doublings = failures.saturating_sub(1).min(16);
        let wait_ms = if failures < 2 {
            0
        } else {
            self.poll_ms << doublings
        };
        wait_ms.min(BACK_OFF_MAX_MS.max(self.poll_ms))
    }
}

/// How long a line that has nothing to do for `ahead_ms` rests, in milliseconds of the clock.
fn nap_ms(ahead_ms: i64, speed: u32) -> i64 {
    ahead_ms.min(NAP_MAX_WALL_MS * i64::from(speed))
}

/// What a line's task works with.
struct LineTask {
    line: Line,
    pollers: Vec<Poller>,
    agenda: Agenda,
    /// The time that the agenda was asked for last.
    looked: Timestamp,
    clock: Clock,
    reports: mpsc::Sender<Report>,
    jobs: mpsc::Receiver<Job>,
    /// Jobs done since the last poll.
    jobs_in_a_row: u32,
}

/// Polls the devices of one line and does the jobs that come for them, until `shutdown`.
pub async fn run_line(
    address: Address,
    pollers: Vec<Poller>,
    schedule: Schedule,
    clock: Clock,
    reports: mpsc::Sender<Report>,
    jobs: mpsc::Receiver<Job>,
    shutdown: CancellationToken,
) {
    let begun = clock.steady();
    let mut task = LineTask {
        line: Line::to(address).at_speed(clock.speed()),
        agenda: Agenda::new(schedule, pollers.len(), begun),
        looked: begun,
        pollers,
        clock,
        reports,
        jobs,
        jobs_in_a_row: 0,
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = async { while task.turn().await {} } => {}
    }
}

impl LineTask {
    /// The time for the agenda: also while the clock stands still, polls go on.
    fn now(&mut self) -> Timestamp {
        let now = self.clock.steady();
        let back_ms = self.looked.ms_since(now);
        if back_ms > 0 {
            self.agenda.set_back(now, back_ms);
        }
        self.looked = now;
        now
    }

    /// Does what is next; false where nobody listens any more.
    async fn turn(&mut self) -> bool {
        // Who writes wants it done, a poll can wait; but not for ever.
        if self.jobs_in_a_row < JOBS_IN_A_ROW_MAX
            && let Ok(job) = self.jobs.try_recv()
        {
            self.work(job).await;
            return true;
        }
        self.jobs_in_a_row = 0;
        let now = self.now();
        match self.agenda.next(now) {
            Next::Poll(index) => self.poll(index).await,
            Next::Wait(until) => {
                // The clock may be set in the meantime: it is looked at again soon.
                let wait_ms = nap_ms(until.ms_since(now), self.clock.speed());
                let job = tokio::select! {
                    job = self.jobs.recv(), if !self.jobs.is_closed() => job,
                    () = self.clock.rest_ms(wait_ms) => None,
                };
                if let Some(job) = job {
                    self.work(job).await;
                }
                true
            }
        }
    }

    /// Polls a device; false where nobody listens to what it says.
    async fn poll(&mut self, index: usize) -> bool {
        let begun = self.now();
        let outcome = self.pollers[index].poll(&mut self.line, &self.clock).await;
        if let Err(error @ ModbusError::Connect { .. }) = &outcome {
            return self.line_failed(error).await;
        }
        let now = self.now();
        let how = match &outcome {
            Ok(_) => Outcome::Answered,
            Err(ModbusError::Busy) => Outcome::Busy,
            Err(_) => Outcome::Failed,
        };
        self.agenda.done(index, begun, now, how);
        if let Err(error) = &outcome {
            self.warn(index, error);
        }
        let outcome = outcome.map_err(|error| error.kind());
        self.report(index, outcome).await
    }

    async fn work(&mut self, job: Job) {
        self.jobs_in_a_row += 1;
        let index = self.pollers.iter().position(|p| p.device == job.device);
        let answer = match index {
            Some(index) => {
                let answer = self.pollers[index].work(&mut self.line, &job.steps).await;
                match &answer {
                    // A device that refuses answers.
                    Ok(_) | Err(ModbusError::Exception(_) | ModbusError::NoPlace(_)) => {
                        self.agenda.lives(index);
                    }
                    // Whoever asked decides what to do; the polls find out how the device is.
                    Err(error) => self.warn(index, error),
                }
                answer
            }
            None => Err(ModbusError::NoLine),
        };
        // Who asked may have gone; the work is done all the same.
        let _ = job.answer.send(answer);
    }

    /// Nothing is at the address: all devices that were due have failed.
    async fn line_failed(&mut self, error: &ModbusError) -> bool {
        tracing::warn!("{}: {error}", self.line.address());
        let now = self.now();
        for index in self.agenda.line_failed(now) {
            if !self.report(index, Err(error.kind())).await {
                return false;
            }
        }
        true
    }

    async fn report(&mut self, index: usize, outcome: Result<Sample, &'static str>) -> bool {
        let device = self.pollers[index].device;
        let report = Report::new(device, outcome, &self.clock);
        self.reports.send(report).await.is_ok()
    }

    fn warn(&self, index: usize, error: &ModbusError) {
        let (device, failures) = (self.pollers[index].device, self.agenda.failures(index));
        tracing::warn!(device, failures, "{}: {error}", self.line.address());
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
    fn a_fast_clock_does_not_make_an_idle_line_restless() {
        for (speed, ahead_ms, on_the_wall_ms) in [
            (1, 400, 400),
            (1, 60_000, 1000),
            (600, 60_000, 100),
            (600, 6_000_000, 1000),
        ] {
            let nap = Clock::scaled(Timestamp::EPOCH, speed).wall(nap_ms(ahead_ms, speed));
            assert_eq!(nap.as_millis(), on_the_wall_ms, "{ahead_ms} at {speed}");
        }
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
