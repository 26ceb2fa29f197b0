//! The lease engine: what happens next to every controlled device. Pure: time and events go in, what is
//! to be done comes out.
//!
//! A lease goes through up to three lists of the device's profile: the fail-safe (once per connection),
//! the value, and at its end the revert. Each list is written, and after the time that the device needs
//! it is read back. What fails is tried again a few times and then reported; the revert is tried until the device answers, and given up,
//! with a word about it, where it does not read back.

use std::collections::BTreeMap;

use domain::command::{End, Outcome, Revert, SetPoint};
use domain::ids::Digest32;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::program::{Local, Verdict};
use crate::profile::control::{Control, Target};

/// How often a list is written before the failure is reported.
pub const TRIES_MAX: u32 = 3;
/// Pause before the next try; it grows with every one.
const RETRY_MS: i64 = 1_000;
/// Longest pause between two tries to give a device its own value back.
pub const REVERT_RETRY_MAX_MS: i64 = 60_000;
/// How often a value is read back while a lease holds.
const CHECK_EVERY_MS: i64 = 60_000;

/// Which device, and what of it.
pub type Key = (usize, Target);

/// A set-point on loan, as it is kept durably.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// Digest of the signed command, in hex in the store.
    #[serde(with = "as_hex")]
    pub command: Digest32,
    /// The set-point's word.
    #[serde(with = "as_word")]
    pub set_point: SetPoint,
    /// The value after the local limits.
    pub value: i64,
    /// When it ends, in unix milliseconds.
    pub expires_at_ms: i64,
    /// Whether a command has released it before.
    pub released: bool,
    /// The numbers of the configuration that it began under: where the configuration has none any more,
    /// the device gets its own value back by these. None in what older programs have kept.
    pub local: Option<Local>,
}

/// What the time is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// By the clock, which can be set, and stands still when it was set back.
    pub clock: Timestamp,
    /// By a watch that nobody sets; only differences mean something.
    pub watch: Timestamp,
}

/// What a control of a device is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traits {
    /// How long the device believes a value.
    pub validity_ms: Option<i64>,
    /// How often a sign of life is written.
    pub heartbeat_ms: Option<i64>,
    /// How long the device needs to show a value.
    pub settle_ms: i64,
    /// Whether it has a fail-safe.
    pub has_fail_safe: bool,
    /// Whether a fail-safe that cannot be verified stands in the way.
    pub fail_safe_required: bool,
}

impl Traits {
    /// The traits of a control.
    #[must_use]
    pub fn of(control: &Control, fail_safe_required: bool) -> Self {
        let ms = |seconds: u32| i64::from(seconds) * 1000;
        Traits {
            validity_ms: control.validity_s.map(ms),
            heartbeat_ms: control.heartbeat.map(|(_, period_s)| ms(period_s)),
            settle_ms: i64::from(control.settle_ms),
            has_fail_safe: !control.fail_safe.is_empty(),
            fail_safe_required,
        }
    }
}

/// A list of the profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum List {
    /// What the device does by itself.
    FailSafe,
    /// The lease's value.
    Value,
    /// The device's own value.
    Revert,
}

/// What is to be done at a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Write a list.
    Write(List),
    /// Read a list back.
    Check(List),
    /// Write the sign of life.
    Heartbeat,
}

/// What the engine wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Do this; exactly one [`Input::Done`] follows.
    Do {
        /// Where.
        key: Key,
        /// What.
        work: Work,
        /// For which value.
        wanted: (SetPoint, i64),
        /// To be given back.
        token: u64,
    },
    /// Tell the platform about this command.
    Ack {
        /// Which.
        command: Digest32,
        /// What.
        outcome: Outcome,
    },
    /// The lease is over and reverted: forget it.
    Forget(Key),
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A lease begins, and is kept durably already.
    Lease(Key, Lease),
    /// A lease is released, which is kept durably already.
    Release(Key),
    /// A device answers.
    Connected(usize),
    /// A device does not answer.
    Lost(usize),
    /// Time has passed.
    Tick,
    /// Work is done; an error is a failure to write or to read.
    Done {
        /// Where.
        key: Key,
        /// Which work.
        token: u64,
        /// A verdict for a check, none for a write.
        result: Result<Option<Verdict>, ()>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Write,
    Check,
    /// Nothing to do before it is time to write or to read back again.
    Rest,
}

/// A lease under way.
#[derive(Clone, Debug)]
struct Run {
    lease: Lease,
    /// When it ends at the latest, by the watch.
    ends_at: Timestamp,
    list: List,
    stage: Stage,
    /// Not before this.
    due: Timestamp,
    tries: u32,
    /// How often a revert was written and did not read back.
    misses: u32,
    written_at: Option<Timestamp>,
    beat_at: Timestamp,
    /// What was said last about the value.
    reported: Option<bool>,
    /// Whether it was said that the revert has to wait.
    pending: bool,
    over: Option<End>,
    /// Whether anything was written to the device.
    touched: bool,
}

#[derive(Clone, Debug)]
struct Slot {
    traits: Traits,
    is_safe: bool,
    busy: Option<(u64, Work)>,
    /// The work that is under way belongs to a lease that was replaced.
    is_stale: bool,
    run: Option<Run>,
}

/// The leases of one gateway.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    slots: BTreeMap<Key, Slot>,
    connected: BTreeMap<usize, bool>,
    next_token: u64,
}

impl Engine {
    /// An engine for these controls.
    #[must_use]
    pub fn new(controls: impl IntoIterator<Item = (Key, Traits)>) -> Self {
        let slot = |(key, traits)| {
            let slot = Slot {
                traits,
                is_safe: false,
                busy: None,
                is_stale: false,
                run: None,
            };
            (key, slot)
        };
        Engine {
            slots: controls.into_iter().map(slot).collect(),
            ..Engine::default()
        }
    }

    /// Takes up a lease that was open when the gateway stopped: it goes on until its end, or the device
    /// gets its own value back at once where it is over.
    pub fn restore(&mut self, now: Now, key: Key, lease: Lease, over: Option<End>) {
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        let mut run = Run::new(lease, now, &slot.traits);
        // What the last process has written, nobody knows: what lasts is looked at first.
        run.touched = true;
        run.written_at = slot.traits.validity_ms.is_none().then_some(now.watch);
        let released = run.lease.released.then_some(End::Released);
        if let Some(why) = released.or(over) {
            run.end(why, now.watch);
        }
        slot.run = Some(run);
    }

    /// The lease on a set-point, if there is one that is not over.
    #[must_use]
    pub fn lease(&self, key: Key) -> Option<&Lease> {
        let run = self.slots.get(&key)?.run.as_ref()?;
        run.over.is_none().then_some(&run.lease)
    }

    /// Number of leases, those included that are not reverted yet.
    #[must_use]
    pub fn open(&self) -> usize {
        self.slots.values().filter(|s| s.run.is_some()).count()
    }

    /// What follows from an event at `now`.
    pub fn apply(&mut self, at: Now, input: Input) -> Vec<Action> {
        let now = at.watch;
        let mut actions = Vec::new();
        match input {
            Input::Lease(key, lease) => self.begin(at, key, lease, &mut actions),
            Input::Release(key) => {
                let slot = self.slots.get_mut(&key);
                if let Some(run) = slot.and_then(|slot| slot.run.as_mut()) {
                    run.lease.released = true;
                    run.end(End::Released, now);
                }
            }
            Input::Connected(device) => self.connect(now, device),
            Input::Lost(device) => {
                self.connected.insert(device, false);
            }
            Input::Tick => {}
            Input::Done { key, token, result } => {
                if let Some(slot) = self.slots.get_mut(&key)
                    && let Some((_, work)) = slot.busy.take_if(|(known, _)| *known == token)
                {
                    let is_stale = std::mem::take(&mut slot.is_stale);
                    if !is_stale && slot.done(now, work, result, &mut actions) {
                        slot.run = None;
                        actions.push(Action::Forget(key));
                    }
                }
            }
        }
        self.go_on(at, &mut actions);
        actions
    }

    fn begin(&mut self, now: Now, key: Key, lease: Lease, actions: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        let old = slot.run.take();
        let mut run = Run::new(lease, now, &slot.traits);
        slot.is_stale = slot.busy.is_some();
        if let Some(old) = old {
            let why = old.over.unwrap_or(End::Replaced);
            actions.push(Action::Ack {
                command: old.lease.command,
                outcome: Outcome::Ended {
                    why,
                    revert: Revert::NotNeeded,
                },
            });
            run.touched = old.touched;
            // A revert may have switched the fail-safe off.
            slot.is_safe &= old.over.is_none();
            let is_same =
                (old.lease.set_point, old.lease.value) == (run.lease.set_point, run.lease.value);
            let is_safe = slot.is_safe || !slot.traits.has_fail_safe;
            let is_written = old.written_at.is_some() && old.list == List::Value;
            if is_same && is_safe && old.over.is_none() && is_written {
                // A renewal writes nothing that holds already.
                (run.list, run.stage) = (List::Value, Stage::Check);
                (run.written_at, run.beat_at) = (old.written_at, old.beat_at);
            }
        }
        slot.run = Some(run);
    }

    fn connect(&mut self, now: Timestamp, device: usize) {
        if self.connected.insert(device, true) == Some(true) {
            return;
        }
        for (_, slot) in self.slots.iter_mut().filter(|(key, _)| key.0 == device) {
            slot.is_safe = false;
            if let Some(run) = &mut slot.run {
                run.start_over(now, &slot.traits);
            }
        }
    }

    fn go_on(&mut self, at: Now, actions: &mut Vec<Action>) {
        let now = at.watch;
        let mut forgotten = Vec::new();
        for (key, slot) in &mut self.slots {
            let is_connected = self.connected.get(&key.0) == Some(&true);
            let Some(run) = &mut slot.run else { continue };
            if run.over.is_none() && run.is_expired(at) {
                run.end(End::Expired, now);
            }
            if let Some(why) = run.over {
                let mut say = |revert| {
                    actions.push(Action::Ack {
                        command: run.lease.command,
                        outcome: Outcome::Ended { why, revert },
                    });
                };
                if !run.touched && slot.busy.is_none() {
                    say(Revert::NotNeeded);
                    forgotten.push(*key);
                    continue;
                }
                if !is_connected && !run.pending {
                    say(Revert::Pending);
                    run.pending = true;
                }
            }
            if slot.busy.is_some() || !is_connected {
                continue;
            }
            if let Some(work) = run.next(now, &slot.traits, slot.is_safe) {
                let token = self.next_token;
                self.next_token += 1;
                slot.busy = Some((token, work));
                run.touched |= !matches!(work, Work::Check(_));
                actions.push(Action::Do {
                    key: *key,
                    work,
                    wanted: (run.lease.set_point, run.lease.value),
                    token,
                });
            }
        }
        for key in forgotten {
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.run = None;
            }
            actions.push(Action::Forget(key));
        }
    }
}

impl Run {
    fn new(lease: Lease, at: Now, traits: &Traits) -> Self {
        let now = at.watch;
        let left_ms = lease.expires_at_ms.saturating_sub(at.clock.unix_ms());
        let mut run = Run {
            lease,
            ends_at: now.plus_ms(left_ms),
            list: List::Value,
            stage: Stage::Write,
            due: now,
            tries: 0,
            misses: 0,
            written_at: None,
            beat_at: now,
            reported: None,
            pending: false,
            over: None,
            touched: false,
        };
        run.start_over(now, traits);
        run.stage = Stage::Write;
        run
    }

    /// The clock says so; or, where that was set back, the watch.
    fn is_expired(&self, now: Now) -> bool {
        now.clock.unix_ms() >= self.lease.expires_at_ms || now.watch >= self.ends_at
    }

    /// On a new connection: the device may be another one by now, or have lost what it was told.
    fn start_over(&mut self, now: Timestamp, traits: &Traits) {
        (self.due, self.beat_at) = (now, now);
        (self.tries, self.misses) = (0, 0);
        if self.over.is_some() {
            (self.list, self.stage) = (List::Revert, Stage::Write);
        } else if traits.has_fail_safe {
            (self.list, self.stage) = (List::FailSafe, Stage::Write);
        } else {
            // What keeps its value for ever may keep it in flash: it is written only if it is lost.
            let is_kept = traits.validity_ms.is_none() && self.written_at.is_some();
            self.list = List::Value;
            self.stage = if is_kept { Stage::Check } else { Stage::Write };
        }
    }

    fn end(&mut self, why: End, now: Timestamp) {
        if self.over.is_none() {
            self.over = Some(why);
            (self.list, self.stage) = (List::Revert, Stage::Write);
            (self.due, self.tries) = (now, 0);
        }
    }

    /// When the value is written again, at two fifths of its validity: before half of it.
    fn refresh_at(&self, traits: &Traits) -> Option<Timestamp> {
        let written_at = self.written_at?;
        Some(written_at.plus_ms(traits.validity_ms? * 2 / 5))
    }

    fn next(&mut self, now: Timestamp, traits: &Traits, is_safe: bool) -> Option<Work> {
        if self.over.is_none() {
            if traits.heartbeat_ms.is_some() && now >= self.beat_at {
                return Some(Work::Heartbeat);
            }
            if self.list == List::FailSafe && is_safe {
                (self.list, self.stage) = (List::Value, Stage::Write);
            }
            let is_stale = self.refresh_at(traits).is_some_and(|at| now >= at);
            if self.list == List::Value && self.stage != Stage::Write && is_stale {
                (self.stage, self.due, self.tries) = (Stage::Write, now, 0);
            }
        }
        if now < self.due {
            return None;
        }
        match self.stage {
            Stage::Write => Some(Work::Write(self.list)),
            Stage::Check => Some(Work::Check(self.list)),
            Stage::Rest if self.list == List::Value && self.reported == Some(true) => {
                self.stage = Stage::Check;
                Some(Work::Check(self.list))
            }
            Stage::Rest => None,
        }
    }
}

impl Slot {
    /// Takes in what became of some work; `true` where the lease is over and done with.
    fn done(
        &mut self,
        now: Timestamp,
        work: Work,
        result: Result<Option<Verdict>, ()>,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(run) = &mut self.run else {
            return false;
        };
        let list = match work {
            Work::Heartbeat => {
                let wait_ms = match result {
                    Ok(_) => self.traits.heartbeat_ms.unwrap_or(RETRY_MS),
                    Err(()) => RETRY_MS,
                };
                run.beat_at = now.plus_ms(wait_ms);
                return false;
            }
            Work::Write(list) | Work::Check(list) => list,
        };
        if list != run.list {
            // The lease has ended while this was under way: its revert comes next.
            return false;
        }
        match (work, result) {
            (Work::Write(_), Ok(_)) => {
                if list == List::Value {
                    run.written_at = Some(now);
                }
                run.stage = Stage::Check;
                run.due = now.plus_ms(self.traits.settle_ms);
                false
            }
            (_, Ok(Some(verdict))) if verdict.holds => {
                run.tries = 0;
                self.passed(now, verdict, actions)
            }
            (Work::Write(_), Err(())) => self.failed(now, Stage::Write, None, actions),
            (_, Ok(verdict)) => {
                let shown = Some(verdict.and_then(|v| v.value));
                self.failed(now, Stage::Write, shown, actions)
            }
            (_, Err(())) => self.failed(now, Stage::Check, None, actions),
        }
    }

    fn passed(&mut self, now: Timestamp, verdict: Verdict, actions: &mut Vec<Action>) -> bool {
        let Some(run) = &mut self.run else {
            return false;
        };
        let command = run.lease.command;
        match run.list {
            List::FailSafe => {
                self.is_safe = true;
                (run.list, run.stage, run.due) = (List::Value, Stage::Write, now);
                false
            }
            List::Value => {
                (run.stage, run.due) = (Stage::Rest, now.plus_ms(CHECK_EVERY_MS));
                if run.reported != Some(true) {
                    run.reported = Some(true);
                    let value = verdict.value.unwrap_or(run.lease.value);
                    let clamped_by = verdict.clamped_by;
                    let outcome = Outcome::Confirmed { value, clamped_by };
                    actions.push(Action::Ack { command, outcome });
                }
                false
            }
            List::Revert => {
                self.is_safe = false;
                let why = run.over.unwrap_or(End::Expired);
                let revert = Revert::Confirmed;
                let outcome = Outcome::Ended { why, revert };
                actions.push(Action::Ack { command, outcome });
                true
            }
        }
    }

    /// `shown` is what was read where something else than expected was read.
    fn failed(
        &mut self,
        now: Timestamp,
        again: Stage,
        shown: Option<Option<i64>>,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(run) = &mut self.run else {
            return false;
        };
        run.tries = run.tries.saturating_add(1);
        run.misses += u32::from(shown.is_some());
        run.stage = again;
        let doublings = run.tries.min(10);
        run.due = now.plus_ms((RETRY_MS << doublings >> 1).min(REVERT_RETRY_MAX_MS));
        if run.tries < TRIES_MAX {
            return false;
        }
        let command = run.lease.command;
        match run.list {
            List::Revert => {
                let why = run.over.unwrap_or(End::Expired);
                // What could not be written or read says nothing about the device.
                let is_done = run.misses >= TRIES_MAX;
                let revert = match is_done {
                    true => Revert::Unconfirmed,
                    false => Revert::Pending,
                };
                if is_done || !run.pending {
                    run.pending = true;
                    let outcome = Outcome::Ended { why, revert };
                    actions.push(Action::Ack { command, outcome });
                }
                self.is_safe &= !is_done;
                return is_done;
            }
            List::FailSafe if !self.traits.fail_safe_required => {
                self.is_safe = true;
                (run.list, run.stage, run.due) = (List::Value, Stage::Write, now);
                run.tries = 0;
                return false;
            }
            List::FailSafe | List::Value => {}
        }
        // Enough: what is not believed now is tried again when the value is due again, on the next
        // connection, or by the next command.
        run.stage = Stage::Rest;
        if run.reported != Some(false) {
            run.reported = Some(false);
            let value = shown.flatten().filter(|_| run.list == List::Value);
            let outcome = Outcome::NotConfirmed { value };
            actions.push(Action::Ack { command, outcome });
        }
        false
    }
}

/// Digests are hex in the store.
mod as_hex {
    use domain::ids::Digest32;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(digest: &Digest32, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Digest32, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// Set-points are words in the store.
mod as_word {
    use domain::command::SetPoint;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(set_point: &SetPoint, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(set_point.word())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SetPoint, D::Error> {
        let word = String::deserialize(d)?;
        SetPoint::from_word(&word).ok_or_else(|| de::Error::custom("an unknown set-point"))
    }
}
