//! Jobs on a connector's own registers: a current limit, its end, and whether a driver is let in.

use std::collections::VecDeque;

use super::{Moment, NotDone, Opening, Out, Point};
use crate::bus::{Place, Step};
use crate::ocpp::profile::{FREE, LIMIT, OPEN};

/// A job under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Running {
    job: u64,
    connector: i64,
    steps: VecDeque<Step>,
    answers: Vec<Vec<u16>>,
}

/// What a step needs.
enum Worked {
    Answered(Vec<u16>),
    /// The charger was asked.
    Waits,
    Failed(NotDone),
}

impl Point {
    /// A job for a device; [`Out::Done`] follows, once.
    pub fn work(&mut self, at: Moment, job: u64, device: usize, steps: Vec<Step>) -> Vec<Out> {
        let mut out = Vec::new();
        let found = self.connectors.iter().find(|(_, c)| c.device == device);
        let Some((connector, _)) = found else {
            return vec![Out::Done(job, Err(NotDone::NoPlace))];
        };
        if !self.is_connected() {
            return vec![Out::Done(job, Err(NotDone::Silent))];
        }
        let is_first = self.jobs.is_empty();
        self.jobs.push_back(Running {
            job,
            connector: *connector,
            steps: steps.into(),
            answers: Vec::new(),
        });
        if is_first {
            self.advance(at, &mut out);
        }
        self.ask_next(at, &mut out);
        out
    }

    /// The charger has answered the step that waited.
    pub(super) fn go_on(&mut self, at: Moment, outcome: Result<(), NotDone>, out: &mut Vec<Out>) {
        match outcome {
            Ok(()) => {
                if let Some(running) = self.jobs.front_mut() {
                    running.answers.push(Vec::new());
                }
            }
            Err(why) => {
                if let Some(running) = self.jobs.pop_front() {
                    out.push(Out::Done(running.job, Err(why)));
                }
            }
        }
        self.advance(at, out);
    }

    /// All jobs end: the charger is gone.
    pub(super) fn fail_jobs(&mut self) -> Vec<Out> {
        let failed = |running: Running| Out::Done(running.job, Err(NotDone::Silent));
        self.jobs.drain(..).map(failed).collect()
    }

    fn advance(&mut self, at: Moment, out: &mut Vec<Out>) {
        while let Some(running) = self.jobs.front_mut() {
            let Some(step) = running.steps.pop_front() else {
                if let Some(done) = self.jobs.pop_front() {
                    out.push(Out::Done(done.job, Ok(done.answers)));
                }
                continue;
            };
            let connector = running.connector;
            match self.step(at, connector, &step) {
                Worked::Waits => return,
                Worked::Answered(words) => {
                    if let Some(running) = self.jobs.front_mut() {
                        running.answers.push(words);
                    }
                }
                Worked::Failed(why) => {
                    if let Some(failed) = self.jobs.pop_front() {
                        out.push(Out::Done(failed.job, Err(why)));
                    }
                }
            }
        }
    }

    fn step(&mut self, at: Moment, number: i64, step: &Step) -> Worked {
        let no_place = Worked::Failed(NotDone::NoPlace);
        let Some(connector) = self.connectors.get(&number) else {
            return no_place;
        };
        let (limit_ma, opening) = (connector.limit_ma, connector.opening);
        let asked = |fits| match fits {
            true => Worked::Waits,
            false => Worked::Failed(NotDone::Silent),
        };
        match step {
            Step::Read {
                place: Place::Register { address, .. },
                count,
            } => match (*address, *count) {
                (LIMIT, 2) => {
                    let shown = limit_ma.and_then(|ma| u32::try_from(ma).ok());
                    let [a, b, c, d] = shown.unwrap_or(u32::MAX).to_be_bytes();
                    Worked::Answered(vec![u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
                }
                (FREE, 1) => Worked::Answered(vec![u16::from(limit_ma.is_some())]),
                (OPEN, 1) => {
                    let is_open = matches!(opening, Opening::Open | Opening::InUse);
                    Worked::Answered(vec![u16::from(is_open)])
                }
                _ => no_place,
            },
            Step::Write {
                place: Place::Register { address, .. },
                words,
                ..
            } => match (*address, words.as_slice()) {
                (LIMIT, [high, low]) => {
                    let limit_ma = (i64::from(*high) << 16) + i64::from(*low);
                    asked(self.ask_to_limit(at, number, limit_ma))
                }
                (FREE, [_]) => asked(self.ask_to_free(number)),
                (OPEN, [is_open]) => {
                    self.open(at, number, *is_open == 1);
                    Worked::Answered(Vec::new())
                }
                _ => no_place,
            },
            _ => no_place,
        }
    }

    /// Lets a driver in, or no more. What the lease has let in once, it does not let in again.
    fn open(&mut self, at: Moment, number: i64, is_open: bool) {
        let Some(connector) = self.connectors.get_mut(&number) else {
            return;
        };
        if !is_open {
            connector.opening = Opening::Closed;
            connector.stop_asked_at = None;
            connector.start_asked_at = None;
        } else if connector.opening == Opening::Closed {
            let running = connector.transaction;
            connector.opening = match running {
                Some(_) => Opening::InUse,
                None => Opening::Open,
            };
            if let Some(running) = running.and_then(|id| self.transaction(id)) {
                running.by_session = true;
            } else {
                self.ask_to_start(at, number);
            }
        }
    }
}
