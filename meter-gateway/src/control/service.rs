//! The task that takes commands, keeps leases and has the devices' registers written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::command::{Ack, Act, Command, Limit, Outcome, Refusal, SetPoint};
use domain::ids::{CommunityId, Digest32, GatewayId};
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use runtime::clock::Clock;
use runtime::mqtt::{MqttHandle, QoS};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::lease::{Action, Engine, Input, Key, Lease, List, Traits, Work};
use super::limits::{Rules, decide};
use super::program::{self, Verdict};
use super::store::{Change, Known, Store, answer_again};
use crate::bus::Desk;
use crate::device::modbus::ModbusError;
use crate::profile::control::{Control, Target};
use crate::status::Shared;

/// Commands that may wait; more are dropped and counted, and the platform sends again.
pub const COMMANDS_MAX: usize = 64;
/// Results that may wait: there is at most one work under way per device and set-point.
const DONE_MAX: usize = 256;
/// A command may be issued this much after our own time.
const CLOCK_SKEW_MAX_MS: i64 = 60_000;
/// How often the leases are looked at, in the clock's time, and its bounds on the wall.
const TICK_MS: i64 = 500;
const TICK_WALL_MIN: Duration = Duration::from_millis(50);
const TICK_WALL_MAX: Duration = Duration::from_millis(500);
/// Failures that mean that the device may be another one when it answers again.
const LOST: [&str; 5] = ["connect", "timeout", "transport", "word_count", "offline"];

/// A message from the gateway's command topic.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it.
    pub retain: bool,
}

/// A device that may be controlled.
#[derive(Clone, Debug)]
pub struct Controlled {
    /// Its name in the configuration.
    pub name: String,
    /// Its limits.
    pub rules: Rules,
    /// Its profile's controls.
    pub controls: Vec<Control>,
}

impl Controlled {
    /// The control that takes a set-point.
    fn control(&self, set_point: SetPoint) -> Option<&Control> {
        self.controls.iter().find(|c| c.takes(set_point))
    }

    /// The traits of every target that may be controlled.
    fn targets(&self) -> impl Iterator<Item = (Target, Traits)> {
        let of = |target: &Target| {
            let control = self.controls.iter().find(|c| c.target == *target)?;
            Some((*target, Traits::of(control, self.rules.fail_safe_required)))
        };
        self.rules.targets.iter().filter_map(of)
    }
}

/// Who may command, and who answers.
#[derive(Clone, Debug)]
pub struct Parties {
    /// The community.
    pub community: CommunityId,
    /// This gateway.
    pub gateway: GatewayId,
    /// The operator's key.
    pub operator_key: PublicKey,
    /// This gateway's key.
    pub key: SigningKey,
}

/// Where answers go.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The link to the broker.
    pub handle: MqttHandle,
    /// The topic.
    pub topic: String,
}

struct Done {
    key: Key,
    token: u64,
    result: Result<Option<Verdict>, ()>,
}

/// Time for leases: the clock's, but it goes on where a clock that was set back stands still, so that
/// no lease becomes longer.
struct LeaseClock {
    clock: Clock,
    base: Timestamp,
    started: Instant,
}

impl LeaseClock {
    fn new(clock: Clock) -> Self {
        LeaseClock {
            base: clock.now(),
            started: Instant::now(),
            clock,
        }
    }

    fn now(&self) -> Timestamp {
        let wall_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let passed_ms = wall_ms.saturating_mul(i64::from(self.clock.speed()));
        self.clock.now().max(self.base.plus_ms(passed_ms))
    }
}

/// The task.
pub struct Controller {
    time: LeaseClock,
    parties: Parties,
    devices: BTreeMap<usize, Arc<Controlled>>,
    engine: Engine,
    store: Store,
    desk: Desk,
    answers: Answers,
    status: Shared,
    /// Per device: failures that mean a lost connection, and when it was read last.
    health: BTreeMap<usize, (u64, Option<Timestamp>)>,
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
}

impl Controller {
    /// Takes up the leases that were open when the gateway stopped.
    ///
    /// # Errors
    /// The database fails.
    pub async fn open(
        clock: Clock,
        parties: Parties,
        devices: BTreeMap<usize, Controlled>,
        store: Store,
        (desk, answers, status): (Desk, Answers, Shared),
    ) -> Result<Self, runtime::db::DbError> {
        let time = LeaseClock::new(clock);
        let traits = devices.iter().flat_map(|(index, device)| {
            device
                .targets()
                .map(|(target, traits)| ((*index, target), traits))
        });
        let mut engine = Engine::new(traits);
        let now = time.now();
        for (name, target, lease) in store.leases().await? {
            let found = devices.iter().find(|(_, d)| d.name == name);
            let known = found.filter(|(_, d)| d.targets().any(|(t, _)| t == target));
            match known {
                Some((index, device)) => {
                    // A clock that comes up far behind must not make a lease longer.
                    let last = now.plus_s(device.rules.max_lease_s).unix_ms();
                    let is_allowed =
                        is_still_allowed(device, &lease) && lease.expires_at_ms <= last;
                    engine.restore(now, (*index, target), lease, is_allowed);
                }
                None => {
                    let what = target.word();
                    tracing::error!(
                        "there was a lease on {what} of {name}, which this gateway no longer controls: \
                         look at the device whether it still has the set-point"
                    );
                    store.forget(&name, target).await?;
                }
            }
        }
        let devices = devices.into_iter().map(|(i, d)| (i, Arc::new(d)));
        Ok(Controller {
            time,
            parties,
            devices: devices.collect(),
            engine,
            store,
            desk,
            answers,
            status,
            health: BTreeMap::new(),
            done: mpsc::channel(DONE_MAX),
        })
    }

    /// Works until `shutdown`. Leases stay in the database: the devices' own fail-safes act while
    /// nobody is there, and the next start takes the leases up again.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Incoming>,
        shutdown: CancellationToken,
    ) {
        let tick = self.time.clock.wall(TICK_MS);
        let mut ticks = interval(tick.clamp(TICK_WALL_MIN, TICK_WALL_MAX));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {
                    self.look_at_devices().await;
                    self.apply(Input::Tick).await;
                }
                Some(done) = self.done.1.recv() => {
                    let Done { key, token, result } = done;
                    self.apply(Input::Done { key, token, result }).await;
                }
                command = commands.recv() => match command {
                    Some(command) => self.take(command).await,
                    None => return,
                },
            }
        }
    }

    /// Tells the engine which devices answer. A device that failed and answers again within a tick
    /// was lost in between.
    async fn look_at_devices(&mut self) {
        let status = self.status.get();
        let mut events = Vec::new();
        for index in self.devices.keys() {
            let Some(device) = status.devices.get(*index) else {
                continue;
            };
            let failures = LOST.iter().filter_map(|kind| device.errors.get(kind)).sum();
            let before = self.health.insert(*index, (failures, device.last_read_at));
            let (failures_before, read_before) = before.unwrap_or_default();
            if failures > failures_before {
                events.push(Input::Lost(*index));
            }
            if device.last_read_at > read_before {
                events.push(Input::Connected(*index));
            }
        }
        for event in events {
            self.apply(event).await;
        }
    }

    async fn apply(&mut self, input: Input) {
        for action in self.engine.apply(self.time.now(), input) {
            match action {
                Action::Ack { command, outcome } => self.say(command, outcome),
                Action::Forget((device, target)) => {
                    if let Some(device) = self.devices.get(&device)
                        && let Err(error) = self.store.forget(&device.name, target).await
                    {
                        tracing::error!("a lease that is over could not be deleted: {error}");
                        self.status.count_error("control_store");
                    }
                }
                Action::Do {
                    key,
                    work,
                    wanted,
                    token,
                } => {
                    let Some(device) = self.devices.get(&key.0) else {
                        continue;
                    };
                    let (device, desk) = (Arc::clone(device), self.desk.clone());
                    let (status, done) = (self.status.clone(), self.done.0.clone());
                    tokio::spawn(async move {
                        let result = perform(&desk, key.0, &device, work, wanted).await;
                        let result = result.map_err(|error| {
                            tracing::warn!("{}: {work:?}: {error}", device.name);
                            status.count_error("control_write");
                        });
                        // The controller is gone only at the end.
                        let _ = done.send(Done { key, token, result }).await;
                    });
                }
            }
        }
    }

    fn say(&self, command: Digest32, outcome: Outcome) {
        let Parties {
            community,
            gateway,
            key,
            ..
        } = &self.parties;
        let (word, reason) = (outcome.word(), outcome.reason().unwrap_or_default());
        tracing::info!("command {command:.8}: {word} {reason}");
        match outcome {
            Outcome::Refused(_) => self.status.count_error("command_refused"),
            Outcome::NotConfirmed { .. } => self.status.count_error("control_not_confirmed"),
            _ => {}
        }
        let ack = Ack {
            gateway: gateway.clone(),
            command,
            at: self.time.clock.now(),
            outcome,
        };
        let signed = Signed::sign(key, community, &ack).as_bytes().to_vec();
        let Answers { handle, topic } = &self.answers;
        if handle
            .publish(topic, signed, QoS::AtLeastOnce, false)
            .is_err()
        {
            tracing::warn!("an answer to a command could not be sent: the link is full or gone");
            self.status.count_error("ack_lost");
        }
    }

    async fn take(&mut self, incoming: Incoming) {
        let digest = Digest32::of(&incoming.payload);
        match self.decide(incoming, digest).await {
            Err(reason) => self.say(digest, Outcome::Refused(reason)),
            Ok(Taken::Again(refused)) => {
                let lease = self.lease_of(digest).cloned();
                self.say(digest, answer_again(refused, lease.as_ref()));
            }
            Ok(Taken::Lease(key, lease, clamped_by)) => {
                let value = Some(lease.value);
                self.say(digest, Outcome::Accepted { value, clamped_by });
                self.apply(Input::Lease(key, lease)).await;
            }
            Ok(Taken::Release(key)) => {
                let (value, clamped_by) = (None, None);
                self.say(digest, Outcome::Accepted { value, clamped_by });
                self.apply(Input::Release(key)).await;
            }
        }
    }

    fn lease_of(&self, command: Digest32) -> Option<&Lease> {
        let keys = self.devices.iter();
        let keys = keys.flat_map(|(i, d)| d.rules.targets.iter().map(move |t| (*i, *t)));
        keys.filter_map(|key| self.engine.lease(key))
            .find(|lease| lease.command == command)
    }

    /// Verifies a command and keeps what follows from it. After `Ok` it is durable.
    async fn decide(&self, incoming: Incoming, digest: Digest32) -> Result<Taken, Refusal> {
        if incoming.retain {
            return Err(Refusal::Retained);
        }
        let Parties {
            community,
            gateway,
            operator_key,
            ..
        } = &self.parties;
        let signed = Signed::<Command>::from_bytes(incoming.payload);
        let verified = signed.verify(*operator_key, community).map_err(|error| {
            tracing::warn!("a command was not believed: {error}");
            Refusal::BadSignature
        })?;
        let command = verified.message();
        if command.gateway != *gateway {
            return Err(Refusal::WrongGateway);
        }
        let failed = |error: runtime::db::DbError| {
            tracing::error!("a command could not be kept: {error}");
            Refusal::Unavailable
        };
        match self
            .store
            .known(command.sequence, digest)
            .await
            .map_err(failed)?
        {
            Known::New => {}
            Known::Again(refused) => return Ok(Taken::Again(refused)),
            Known::Replayed => return Err(Refusal::SeqReplay),
        }
        let judged = self.judge(command, digest);
        let change = match &judged {
            // Nothing is claimed by what comes from a time that has not come: a wrong clock at the
            // operator's would shut out all commands until then.
            Err(Refusal::Future) => return judged,
            Err(reason) => Change::Refused(*reason),
            Ok(Taken::Lease((index, target), lease, _)) => {
                Change::Lease(self.name(*index), *target, lease)
            }
            Ok(Taken::Release(key)) => match self.engine.lease(*key) {
                Some(lease) => {
                    let mut lease = lease.clone();
                    lease.released = true;
                    let change = Change::Lease(self.name(key.0), key.1, &lease);
                    self.store
                        .take(command.sequence, digest, change)
                        .await
                        .map_err(failed)?;
                    return judged;
                }
                None => Change::Refused(Refusal::NoLease),
            },
            Ok(Taken::Again(_)) => return judged,
        };
        let kept = self.store.take(command.sequence, digest, change).await;
        kept.map_err(failed)?;
        judged
    }

    fn name(&self, index: usize) -> &str {
        self.devices.get(&index).map_or("", |d| &d.name)
    }

    /// What a believed command leads to.
    fn judge(&self, command: &Command, digest: Digest32) -> Result<Taken, Refusal> {
        let now = self.time.now();
        if command.issued_at > now.plus_ms(CLOCK_SKEW_MAX_MS) {
            return Err(Refusal::Future);
        }
        let found = self.devices.iter().find(|(_, d)| d.name == command.device);
        let Some((index, device)) = found else {
            let is_known = self.status.get();
            let is_known = is_known.devices.iter().any(|d| d.name == command.device);
            return Err(match is_known {
                true => Refusal::NotAllowed,
                false => Refusal::UnknownDevice,
            });
        };
        let target = Target::of(command.act.set_point());
        if !device.rules.targets.contains(&target) {
            return Err(Refusal::NotAllowed);
        }
        let key = (*index, target);
        let Act::Set {
            set_point,
            value,
            expires_at,
        } = command.act
        else {
            return match self.engine.lease(key) {
                Some(_) => Ok(Taken::Release(key)),
                None => Err(Refusal::NoLease),
            };
        };
        let length_ms = expires_at.ms_since(command.issued_at);
        if length_ms <= 0 || length_ms > device.rules.max_lease_s * 1000 {
            return Err(Refusal::LeaseTooLong);
        }
        if expires_at <= now {
            return Err(Refusal::Expired);
        }
        let control = device.control(set_point).ok_or(Refusal::NotSupported)?;
        let (value, clamped_by) = decide(&device.rules, control, set_point, value)?;
        let lease = Lease {
            command: digest,
            set_point,
            value,
            // Where our clock is behind, the lease is not longer for it.
            expires_at_ms: expires_at.min(now.plus_ms(length_ms)).unix_ms(),
            released: false,
        };
        Ok(Taken::Lease(key, lease, clamped_by))
    }
}

enum Taken {
    Again(Option<Refusal>),
    Lease(Key, Lease, Option<Limit>),
    Release(Key),
}

/// Whether a lease of an earlier start fits the limits of today.
fn is_still_allowed(device: &Controlled, lease: &Lease) -> bool {
    let control = device.control(lease.set_point);
    let decided = control.map(|c| decide(&device.rules, c, lease.set_point, lease.value));
    decided == Some(Ok((lease.value, None)))
}

/// Does work at a device, by the first control whose registers the device has.
async fn perform(
    desk: &Desk,
    index: usize,
    device: &Controlled,
    work: Work,
    wanted: (SetPoint, i64),
) -> Result<Option<Verdict>, String> {
    let alternatives = device.controls.iter().filter(|c| c.takes(wanted.0));
    let mut outcome = Err("the profile has no such control".to_owned());
    for control in alternatives {
        outcome = match attempt(desk, index, device, control, work, wanted).await {
            Ok(done) => return Ok(done),
            Err(Failure::Modbus(ModbusError::NoPlace(place))) => {
                Err(format!("the device has no {place:?}"))
            }
            Err(failure) => return Err(failure.to_string()),
        };
    }
    outcome
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Modbus(#[from] ModbusError),
    #[error("{0}")]
    Program(#[from] program::ProgramError),
}

async fn attempt(
    desk: &Desk,
    index: usize,
    device: &Controlled,
    control: &Control,
    work: Work,
    wanted: (SetPoint, i64),
) -> Result<Option<Verdict>, Failure> {
    let beat;
    let (list, wanted) = match work {
        Work::Write(List::Value) | Work::Check(List::Value) => {
            (control.list_for(wanted.1), Some(wanted))
        }
        Work::Write(List::FailSafe) | Work::Check(List::FailSafe) => (&control.fail_safe[..], None),
        Work::Write(List::Revert) | Work::Check(List::Revert) => (&control.revert[..], None),
        Work::Heartbeat => {
            beat = control.heartbeat.map(|(write, _)| write);
            (beat.as_slice(), None)
        }
    };
    let questions = program::questions(control, list);
    let answers = if questions.is_empty() {
        Vec::new()
    } else {
        desk.run(index, questions).await?
    };
    let local = &device.rules.local;
    let program = program::program(control, list, wanted, local, &answers)?;
    if let Work::Check(_) = work {
        let answers = desk.run(index, program.checks()).await?;
        return Ok(Some(program.judge(&answers)));
    }
    desk.run(index, program.steps).await?;
    Ok(None)
}
