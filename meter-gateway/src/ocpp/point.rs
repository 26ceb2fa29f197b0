//! The rules of one charge point: what it says, what it is told, and what becomes of its transactions. Pure: texts,
//! jobs and time go in, and what is to be done comes out, in order.
//!
//! - A transaction is kept before its number is given out. The same start again (a charger repeats what it could not
//!   deliver) gets the same number, the same stop has no effect. What could not be kept is kept when it is said again.
//! - There is one call of ours under way at a time, as OCPP-J has it; three in a row without an answer end the connection.
//! - A value that is not of this minute is no sample: after an outage chargers send what they had kept.
//! - A connector is opened for one transaction by its `charger-session` lease, and to cards that are always welcome.

mod asks;
mod calls;
mod jobs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use domain::ids::Digest32;
use domain::ocmf::PublicKey;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::frame::{self, Code, Frame};
use crate::device::{Identity, Values};

use asks::Ask;
use jobs::Running;

/// Calls that may wait for their turn; a further one is dropped.
pub const ASKS_MAX: usize = 64;
/// How long an answer may take.
pub const ANSWER_MS: i64 = 30_000;
/// Calls without an answer, one after the other, that end a connection.
const SILENT_MAX: u32 = 3;
/// How far a value's time may be from ours.
pub const FRESH_MS: i64 = 60_000;
/// How long a charger that is back may take to say that it has started.
const GREET_MS: i64 = 10_000;
/// Answers that are remembered, for calls that come twice.
const ANSWERED_MAX: usize = 32;
/// Transactions that are remembered.
pub const TRANSACTIONS_MAX: usize = 256;
/// The card of those whom the platform has let in.
pub const SESSION_TAG: &str = "commonwatt";
/// Pause before a charger that has taken a remote start is asked for it again: by then a car that was waited for is there.
const START_AGAIN_MS: i64 = 30_000;
/// Pause before a transaction that goes on is ended again.
const STOP_AGAIN_MS: i64 = 60_000;

/// What a charge point is told by the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Whether every card may charge.
    pub open_to_everybody: bool,
    /// The cards that may always charge.
    pub id_tags: Vec<String>,
    /// How often it shall say that it is there.
    pub heartbeat_s: u32,
    /// How often it shall say its meter values.
    pub meter_interval_s: u32,
    /// The keys of its meters.
    pub keys: Vec<PublicKey>,
}

/// Where time stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// By the clock.
    pub now: Timestamp,
    /// By a watch that nobody sets.
    pub steady: Timestamp,
}

/// A transaction, as the charger has said it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transaction {
    /// Its number.
    pub id: i64,
    /// Where.
    pub connector: i64,
    /// Whose card.
    pub tag: String,
    /// When it began, as the charger has written it.
    pub started: String,
    /// The counter then.
    pub meter_start_wh: i64,
    /// Whether the card may charge.
    pub accepted: bool,
    /// Whether the platform had let it in.
    pub by_session: bool,
    /// How it ended.
    pub stop: Option<Stop>,
}

/// The end of a transaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stop {
    /// When, as the charger has written it.
    pub at: String,
    /// The counter then.
    pub meter_wh: i64,
    /// Why, in the standard's word.
    pub reason: String,
}

/// Whether a connector is open to a driver whom the platform has let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Opening {
    /// It is not.
    #[default]
    Closed,
    /// For the next transaction.
    Open,
    /// The transaction runs.
    InUse,
    /// The transaction has ended; the lease has not.
    Used,
}

/// One connector.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Connector {
    device: usize,
    state: Option<String>,
    transaction: Option<i64>,
    opening: Opening,
    limit_ma: Option<i64>,
    sampled_at: Option<Timestamp>,
    stop_asked_at: Option<Timestamp>,
    start_asked_at: Option<Timestamp>,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Out {
    /// Send this.
    Send(String),
    /// A sample of a device.
    Sample(usize, Box<Values>, Option<Identity>),
    /// Something of a device is wrong; one of the words of the status.
    Failed(usize, &'static str),
    /// Keep this before anything that comes after it, and say so ([`Point::kept`]).
    Keep(Transaction),
    /// Keep a signed text: of which device where that is known, the transaction, the text, and why it is not believed.
    KeepSigned(Option<usize>, Option<i64>, String, Option<String>),
    /// A job is done.
    Done(u64, Result<Vec<Vec<u16>>, NotDone>),
    /// An operator's question is answered.
    Told(u64, Result<Value, String>),
    /// End the connection, and why.
    HangUp(&'static str),
}

/// Why a job was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotDone {
    /// The charger is not there, or does not answer.
    Silent,
    /// It does not do that.
    Refused,
    /// There is no such register.
    NoPlace,
}

/// A call of ours that waits for its answer.
#[derive(Clone, PartialEq, Debug)]
struct Asked {
    id: String,
    ask: Ask,
    due: Timestamp,
}

/// One charge point.
#[derive(Debug)]
pub struct Point {
    rules: Rules,
    connectors: BTreeMap<i64, Connector>,
    transactions: VecDeque<Transaction>,
    /// Of these, which are not known to be on disk as they stand.
    unkept: BTreeSet<i64>,
    next_id: i64,
    identity: Option<Identity>,
    connected_at: Option<Timestamp>,
    greeted: bool,
    /// Whether it knows how to be asked for a message.
    triggers: bool,
    asks: VecDeque<Ask>,
    asked: Option<Asked>,
    silent: u32,
    /// Number of our next call; with `boot`, no id comes twice.
    next_call: u64,
    boot: String,
    answered: VecDeque<(String, Digest32, String)>,
    jobs: VecDeque<Running>,
}

impl Point {
    /// A charge point with its connectors (number and device), the transactions that are known of it, oldest first,
    /// and a word that no start before has used.
    #[must_use]
    pub fn new(
        rules: Rules,
        connectors: &[(i64, usize)],
        known: Vec<Transaction>,
        boot: String,
    ) -> Self {
        let connector = |(number, device): &(i64, usize)| {
            let mut open = known.iter().rev().filter(|t| t.connector == *number);
            // Only the newest one can be under way.
            let transaction = open.next().filter(|t| t.stop.is_none()).map(|t| t.id);
            let connector = Connector {
                device: *device,
                transaction,
                ..Connector::default()
            };
            (*number, connector)
        };
        Point {
            rules,
            connectors: connectors.iter().map(connector).collect(),
            next_id: known.iter().map(|t| t.id).max().unwrap_or(0) + 1,
            transactions: known.into(),
            unkept: BTreeSet::new(),
            identity: None,
            connected_at: None,
            greeted: false,
            triggers: true,
            asks: VecDeque::new(),
            asked: None,
            silent: 0,
            next_call: 1,
            boot,
            answered: VecDeque::new(),
            jobs: VecDeque::new(),
        }
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected_at.is_some()
    }

    /// A connection begins.
    pub fn connected(&mut self, at: Moment) -> Vec<Out> {
        let mut out = self.lost();
        self.connected_at = Some(at.steady);
        // Names of calls are used once within a connection only (OCPP-J 1.6, 4.1.4).
        self.answered.clear();
        for connector in self.connectors.values_mut() {
            // How it is, it says again; whose session runs there, a lease has a minute to say again.
            connector.state = None;
            connector.start_asked_at = None;
            connector.limit_ma = None;
            connector.stop_asked_at = Some(at.steady);
        }
        out.retain(|one| !matches!(one, Out::Failed(..)));
        out
    }

    /// The connection is gone.
    pub fn lost(&mut self) -> Vec<Out> {
        let was_there = self.connected_at.take().is_some();
        self.greeted = false;
        self.silent = 0;
        let asked = self.asked.take().map(|asked| asked.ask);
        let asks: Vec<Ask> = asked.into_iter().chain(self.asks.drain(..)).collect();
        let mut out = Vec::new();
        for ask in asks {
            if let asks::Then::Tell(number) = ask.then {
                let gone = "the charger has gone away".to_owned();
                out.push(Out::Told(number, Err(gone)));
            }
        }
        out.extend(self.fail_jobs());
        if was_there {
            let failed = |c: &Connector| Out::Failed(c.device, "offline");
            out.extend(self.connectors.values().map(failed));
        }
        out
    }

    /// The charger says something.
    pub fn hear(&mut self, at: Moment, text: &str) -> Vec<Out> {
        let mut out = Vec::new();
        match frame::read(text) {
            Err(none) => {
                self.count("payload", &mut out);
                if let Some(id) = none.id {
                    let why = "a call is [2, id, action, {…}]";
                    out.push(Out::Send(frame::error(&id, Code::FormationViolation, why)));
                }
            }
            Ok(Frame::Call {
                id,
                action,
                payload,
            }) => self.take_call(
                at,
                (id, Digest32::of(text.as_bytes())),
                &action,
                payload,
                &mut out,
            ),
            Ok(Frame::Answer { id, payload }) => self.take_answer(at, &id, Ok(payload), &mut out),
            Ok(Frame::Error {
                id,
                code,
                description,
            }) => self.take_answer(at, &id, Err(format!("{code} {description}")), &mut out),
        }
        self.ask_next(at, &mut out);
        out
    }

    /// Time has passed; to be called about once a second.
    pub fn tick(&mut self, at: Moment) -> Vec<Out> {
        let mut out = Vec::new();
        let Some(connected_at) = self.connected_at else {
            return out;
        };
        if let Some(asked) = self.asked.take_if(|asked| asked.due <= at.steady) {
            self.silent += 1;
            self.count("timeout", &mut out);
            self.settle(at, asked.ask, Err("it did not answer".to_owned()), &mut out);
            if self.silent >= SILENT_MAX {
                out.push(Out::HangUp("it does not answer"));
                return out;
            }
        }
        if !self.greeted && at.steady.ms_since(connected_at) >= GREET_MS {
            self.greet();
        }
        if self.greeted {
            self.poll(at);
            self.stop_again(at);
        }
        self.ask_next(at, &mut out);
        out
    }

    /// A transaction is on disk as it stands.
    pub fn kept(&mut self, id: i64) {
        self.unkept.remove(&id);
    }

    /// Lets a transaction be kept, before anything that comes after it.
    fn keep(&mut self, transaction: Transaction, out: &mut Vec<Out>) {
        self.unkept.insert(transaction.id);
        out.push(Out::Keep(transaction));
    }

    /// The same for one that is said again, where it could not be kept before.
    fn keep_again(&mut self, known: &Transaction, out: &mut Vec<Out>) {
        if self.unkept.contains(&known.id) {
            self.keep(known.clone(), out);
        }
    }

    /// Counts a failure that is of no single connector at all of them.
    fn count(&self, kind: &'static str, out: &mut Vec<Out>) {
        let failed = |c: &Connector| Out::Failed(c.device, kind);
        out.extend(self.connectors.values().map(failed));
    }

    fn transaction(&mut self, id: i64) -> Option<&mut Transaction> {
        self.transactions.iter_mut().rev().find(|t| t.id == id)
    }
}
