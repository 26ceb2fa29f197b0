//! Who talks on a line, and when: one task owns each line, so that two devices behind one gateway
//! never speak at once. A device that fails is asked less and less often, and the others go on.

use std::sync::Arc;

use domain::time::Timestamp;
use runtime::clock::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::device::modbus::{Line, ModbusError};
use crate::device::{Identity, Plan, Registers, sunspec};
use crate::poll::Sample;
use crate::profile::{Link, ModbusRules, Profile};

/// Longest time a failing device is left alone, in milliseconds of the clock.
pub const BACK_OFF_MAX_MS: i64 = 300_000;
/// Shortest time between two polls of a device on the wall, however fast the clock runs.
pub const POLL_MIN_WALL_MS: i64 = 250;
/// After so many polls a device is asked again who it is.
const IDENTITY_EVERY_POLLS: u32 = 90;

/// The exception of a device that does not know an address.
const NO_SUCH_ADDRESS: u8 = 2;

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

/// A device on a line.
#[derive(Debug)]
pub struct Poller {
    device: usize,
    profile: Arc<Profile>,
    unit: u8,
    session: Option<Session>,
    failures: u32,
    due: Timestamp,
}

/// What is known about a device as long as the connection lasts.
#[derive(Debug)]
struct Session {
    connection: u64,
    values: Plan,
    identification: Plan,
    identity: Option<Identity>,
    polls: u32,
}

impl Poller {
    /// A device that will be polled as soon as its line runs.
    #[must_use]
    pub fn new(device: usize, profile: Arc<Profile>, unit: u8) -> Self {
        let due = Timestamp::from_unix_ms(i64::MIN);
        Poller {
            device,
            profile,
            unit,
            session: None,
            failures: 0,
            due,
        }
    }

    /// Asks the device for all its values.
    ///
    /// # Errors
    /// The first thing that went wrong; no half a sample is made.
    pub async fn poll(&mut self, line: &mut Line, clock: &Clock) -> Result<Sample, ModbusError> {
        let profile = self.profile.clone();
        let (Link::Modbus(rules) | Link::Sunspec(rules)) = &profile.link else {
            return Err(ModbusError::NoSunspec);
        };
        let connection = line.connect(rules).await?;
        let mut session = match self.session.take() {
            Some(session) if session.connection == connection => session,
            _ => begin(line, self.unit, &profile, rules, connection).await?,
        };
        let sample = Self::ask(line, self.unit, rules, &mut session, clock).await;
        // A device that answers, if only with a refusal, is still the same one. Where it does not
        // know an address, its models may have moved: they are looked for again.
        let is_known = match &sample {
            Ok(_) | Err(ModbusError::Busy) => true,
            Err(ModbusError::Exception(code)) => *code != NO_SUCH_ADDRESS,
            Err(_) => false,
        };
        self.session = Some(session).filter(|_| is_known);
        sample
    }

    async fn ask(
        line: &mut Line,
        unit: u8,
        rules: &ModbusRules,
        session: &mut Session,
        clock: &Clock,
    ) -> Result<Sample, ModbusError> {
        if session.polls.is_multiple_of(IDENTITY_EVERY_POLLS) {
            let found = fetch(line, unit, rules, &mut session.identification).await?;
            let identity = found.identity(&session.identification);
            // Without a serial number one meter cannot be told from another of its kind.
            session.identity = Some(identity).filter(|id| !id.serial.is_empty());
        }
        session.polls = session.polls.wrapping_add(1);
        let asked = clock.now();
        let found = fetch(line, unit, rules, &mut session.values).await?;
        let read_at = asked.plus_ms(clock.now().ms_since(asked) / 2);
        let values = found.values(&session.values);
        let identity = session.identity.clone();
        Ok(Sample {
            read_at,
            values,
            identity,
        })
    }
}

/// Finds out what a device has, on a new connection.
async fn begin(
    line: &mut Line,
    unit: u8,
    profile: &Profile,
    rules: &ModbusRules,
    connection: u64,
) -> Result<Session, ModbusError> {
    let (values, identification) = if rules.models.is_empty() {
        Plan::fixed(profile)
    } else {
        let models = sunspec::discover(line, unit, rules).await?;
        Plan::sunspec(profile, &models).ok_or_else(|| ModbusError::NoModel(rules.models.clone()))?
    };
    Ok(Session {
        connection,
        values,
        identification,
        identity: None,
        polls: 0,
    })
}

/// Sends a plan's requests. An optional one that the device does not know is not sent again.
async fn fetch(
    line: &mut Line,
    unit: u8,
    rules: &ModbusRules,
    plan: &mut Plan,
) -> Result<Registers, ModbusError> {
    let mut found = Registers::default();
    let mut known = Vec::with_capacity(plan.blocks.len());
    for block in &plan.blocks {
        match line
            .read(unit, block.function, block.address, block.count, rules)
            .await
        {
            Ok(words) => {
                found.add(block.function, block.address, words);
                known.push(*block);
            }
            Err(ModbusError::Exception(NO_SUCH_ADDRESS)) if block.optional => {}
            Err(error) => return Err(error),
        }
    }
    plan.blocks = known;
    Ok(found)
}

/// Polls the devices of one line until `shutdown`.
pub async fn run_line(
    address: String,
    mut pollers: Vec<Poller>,
    schedule: Schedule,
    clock: Clock,
    reports: mpsc::Sender<Report>,
    shutdown: CancellationToken,
) {
    let mut line = Line::new(&address);
    loop {
        let Some(poller) = pollers.iter_mut().min_by_key(|poller| poller.due) else {
            return;
        };
        let polled = async {
            clock.sleep_until(poller.due).await;
            let outcome = poller.poll(&mut line, &clock).await;
            let now = clock.now();
            match &outcome {
                Ok(_) => poller.failures = 0,
                // A busy device is well: it is asked again at its next turn.
                Err(ModbusError::Busy) => {}
                Err(error) => {
                    poller.failures = poller.failures.saturating_add(1);
                    let (device, failures) = (poller.device, poller.failures);
                    tracing::warn!(device, failures, "{address}: {error}");
                }
            }
            poller.due = schedule.next_after_failures(now, poller.failures);
            let outcome = outcome.map_err(|error| error.kind());
            reports
                .send(Report {
                    device: poller.device,
                    outcome,
                })
                .await
                .is_ok()
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            heard = polled => if !heard { return },
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
