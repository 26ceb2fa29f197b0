//! The task that takes commands, keeps leases and has the devices' registers written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domain::command::{Ack, Act, Command, End, Limit, Outcome, Refusal, Revert, SetPoint};
use domain::ids::{CommunityId, Digest32, GatewayId};
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use runtime::clock::Clock;
use runtime::mqtt::{MqttHandle, QoS};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::lease::{Action, Engine, Input, Key, Lease, List, Now, Traits, Work};
use super::limits::{Rules, decide};
use super::program::{self, Local, Verdict};
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
/// How often the time is noted beside open leases.
const SEEN_EVERY_MS: i64 = 60_000;
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

/// A device that its profile could control.
#[derive(Clone, Debug)]
pub struct Controlled {
    /// Its name in the configuration.
    pub name: String,
    /// Its limits; none where nothing is allowed.
    pub rules: Option<Rules>,
    /// Its profile's controls.
    pub controls: Vec<Control>,
    /// What the limits were under which something was lent that is not allowed any more.
    pub former: BTreeMap<Target, Local>,
}

impl Controlled {
    /// A device with its limits of today.
    #[must_use]
    pub fn new(name: String, rules: Option<Rules>, controls: Vec<Control>) -> Self {
        Controlled {
            name,
            rules,
            controls,
            former: BTreeMap::new(),
        }
    }

    /// The control that takes a set-point.
    fn control(&self, set_point: SetPoint) -> Option<&Control> {
        self.controls.iter().find(|c| c.takes(set_point))
    }

    /// Its limits, where they allow this.
    fn rules_for(&self, target: Target) -> Option<&Rules> {
        self.rules.as_ref().filter(|r| r.targets.contains(&target))
    }

    /// The numbers that a target's registers are written with.
    fn local(&self, target: Target) -> Option<&Local> {
        let today = self.rules_for(target).map(|rules| &rules.local);
        today.or_else(|| self.former.get(&target))
    }

    /// Whether a lease of an earlier start can be ended here: by the limits of today, or by those it
    /// began under. A row of an older program does not know them.
    fn can_give_back(&self, target: Target, lease: &Lease) -> bool {
        let is_limited = self.rules_for(target).is_some() || lease.local.is_some();
        is_limited && self.controls.iter().any(|c| c.target == target)
    }

    /// The traits of every target that the device has, allowed or not: what was lent before is given back.
    /// Where several controls have one, those of the first, which is the one that is tried first.
    pub(super) fn targets(&self) -> impl Iterator<Item = (Target, Traits)> {
        let of = |control: &Control| {
            let rules = self.rules_for(control.target);
            let is_required = rules.is_none_or(|rules| rules.fail_safe_required);
            (control.target, Traits::of(control, is_required))
        };
        let mut known = BTreeSet::new();
        let firsts = self.controls.iter();
        firsts.filter(move |c| known.insert(c.target)).map(of)
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

/// The task.
pub struct Controller {
    clock: Clock,
    parties: Parties,
    devices: BTreeMap<usize, Arc<Controlled>>,
    engine: Engine,
    store: Store,
    desk: Desk,
    answers: Answers,
    status: Shared,
    /// Per device: failures that mean a lost connection, and when it was read last.
    health: BTreeMap<usize, (u64, Option<i64>)>,
    /// By the watch, when the time was noted last beside open leases.
    seen_at: Option<Timestamp>,
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
        mut devices: BTreeMap<usize, Controlled>,
        store: Store,
        (desk, answers, status): (Desk, Answers, Shared),
    ) -> Result<Self, runtime::db::DbError> {
        let traits = devices.iter().flat_map(|(index, device)| {
            let of = |(target, traits)| ((*index, target), traits);
            device.targets().map(of)
        });
        let mut engine = Engine::new(traits);
        let now = time_of(&clock);
        let is_set_back = store.last_seen().await?.is_some_and(|at| at > now.clock);
        let mut lost = Vec::new();
        for (name, target, lease) in store.leases().await? {
            let mut named = devices.iter_mut().filter(|(_, d)| d.name == name);
            let found = named.find(|(_, d)| d.can_give_back(target, &lease));
            if let Some((index, device)) = found {
                let over = match is_set_back {
                    true => Some(End::Expired),
                    false => no_longer(device, target, &lease, now.clock),
                };
                if let Some(local) = lease.local {
                    device.former.insert(target, local);
                }
                engine.restore(now, (*index, target), lease, over);
            } else {
                let what = target.word();
                tracing::error!(
                    "there was a lease on {what} of {name}, which this gateway no longer has, or has no \
                     limits for: look at the device whether it still has the set-point"
                );
                lost.push(lease.command);
                store.forget(&name, target).await?;
            }
        }
        let devices = devices.into_iter().map(|(i, d)| (i, Arc::new(d)));
        let controller = Controller {
            clock,
            parties,
            devices: devices.collect(),
            engine,
            store,
            desk,
            answers,
            status,
            health: BTreeMap::new(),
            seen_at: None,
            done: mpsc::channel(DONE_MAX),
        };
        for command in lost {
            let (why, revert) = (End::NotAllowed, Revert::Unconfirmed);
            controller.say(command, Outcome::Ended { why, revert });
        }
        Ok(controller)
    }

    /// Works until `shutdown`. Leases stay in the database: the devices' own fail-safes act while
    /// nobody is there, and the next start takes the leases up again.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Incoming>,
        shutdown: CancellationToken,
    ) {
        let tick = self.clock.wall(TICK_MS);
        let mut ticks = interval(tick.clamp(TICK_WALL_MIN, TICK_WALL_MAX));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {
                    self.look_at_devices().await;
                    self.apply(Input::Tick).await;
                    self.note_time().await;
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

    /// Notes from time to time how late it was when leases were still open.
    async fn note_time(&mut self) {
        let now = time_of(&self.clock);
        let is_fresh = |at: Timestamp| now.watch.ms_since(at) < SEEN_EVERY_MS;
        if self.engine.open() == 0 || self.seen_at.is_some_and(is_fresh) {
            return;
        }
        self.seen_at = Some(now.watch);
        if let Err(error) = self.store.saw(now.clock).await {
            tracing::error!("the time could not be noted beside the leases: {error}");
            self.status.count_error("control_store");
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
            let before = self.health.insert(*index, (failures, device.last_read_ms));
            let (failures_before, read_before) = before.unwrap_or_default();
            if failures > failures_before {
                events.push(Input::Lost(*index));
            }
            if device.last_read_ms > read_before {
                events.push(Input::Connected(*index));
            }
        }
        for event in events {
            self.apply(event).await;
        }
    }

    async fn apply(&mut self, input: Input) {
        for action in self.engine.apply(time_of(&self.clock), input) {
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
            at: self.clock.now(),
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

    pub(super) async fn take(&mut self, incoming: Incoming) {
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
                self.seen_at = None;
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
        let keys = keys.flat_map(|(i, d)| d.targets().map(move |(t, _)| (*i, t)));
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
        let is_future = command.issued_at > self.clock.now().plus_ms(CLOCK_SKEW_MAX_MS);
        let judged = self.judge(command, digest, is_future);
        let change = match &judged {
            // The platform's sequences are its time: by one from a time that has not come nothing is
            // claimed, or all commands until then would be shut out. A release is done all the same;
            // sent again it can only give a device back once more.
            Err(_) if is_future => return Err(Refusal::Future),
            Err(reason) => Change::Refused(*reason),
            Ok(Taken::Lease((index, target), lease, _)) => {
                Change::Lease(self.name(*index), *target, lease)
            }
            Ok(Taken::Release(key)) => match self.engine.lease(*key) {
                Some(lease) => {
                    let mut lease = lease.clone();
                    lease.released = true;
                    let (name, target) = (self.name(key.0), key.1);
                    let change = Change::Lease(name, target, &lease);
                    let kept = match is_future {
                        true => self.store.release(name, target, &lease).await,
                        false => self.store.take(command.sequence, digest, change).await,
                    };
                    kept.map_err(failed)?;
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
    fn judge(
        &self,
        command: &Command,
        digest: Digest32,
        is_future: bool,
    ) -> Result<Taken, Refusal> {
        let now = self.clock.now();
        let is_release = matches!(command.act, Act::Release { .. });
        // What only gives a device back is done whatever our clock says.
        if !is_release && is_future {
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
        let rules = device.rules_for(target).ok_or(Refusal::NotAllowed)?;
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
        if length_ms <= 0 || length_ms > rules.max_lease_s * 1000 {
            return Err(Refusal::LeaseTooLong);
        }
        if expires_at <= now {
            return Err(Refusal::Expired);
        }
        let control = device.control(set_point).ok_or(Refusal::NotSupported)?;
        let (value, clamped_by) = decide(rules, control, set_point, value)?;
        let lease = Lease {
            command: digest,
            set_point,
            value,
            // Where our clock is behind, the lease is not longer for it.
            expires_at_ms: expires_at.min(now.plus_ms(length_ms)).unix_ms(),
            released: false,
            local: Some(rules.local),
        };
        Ok(Taken::Lease(key, lease, clamped_by))
    }
}

enum Taken {
    Again(Option<Refusal>),
    Lease(Key, Lease, Option<Limit>),
    Release(Key),
}

fn time_of(clock: &Clock) -> Now {
    Now {
        clock: clock.now(),
        watch: Timestamp::from_unix_ms(clock.elapsed_ms()),
    }
}

/// Why a lease of an earlier start is over: it does not fit the limits of today.
fn no_longer(device: &Controlled, target: Target, lease: &Lease, now: Timestamp) -> Option<End> {
    let is_still_allowed = || {
        let rules = device.rules_for(target)?;
        let control = device.control(lease.set_point)?;
        let decided = decide(rules, control, lease.set_point, lease.value);
        // A clock that comes up far behind must not make a lease longer.
        let last = now.plus_s(rules.max_lease_s).unix_ms();
        (decided == Ok((lease.value, None)) && lease.expires_at_ms <= last).then_some(())
    };
    is_still_allowed().is_none().then_some(End::NotAllowed)
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
    let local = device.local(control.target);
    let local = local.ok_or(program::ProgramError::OverLimit)?;
    let program = program::program(control, list, wanted, local, &answers)?;
    if let Work::Check(_) = work {
        let answers = desk.run(index, program.checks()).await?;
        return Ok(Some(program.judge(&answers)));
    }
    desk.run(index, program.steps).await?;
    Ok(None)
}
