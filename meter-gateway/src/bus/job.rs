//! Jobs: reads and writes that somebody wants done now, in turn with the polls of a device's line.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};

use super::poller::Poller;
use crate::device::modbus::{Line, ModbusError};
use crate::device::sunspec::Model;
use crate::profile::Link;

/// Jobs that may wait for one line; a line that has so many takes no more.
pub const JOBS_MAX: usize = 64;
/// Most steps of a job: a line's other devices wait as long as it lasts.
pub const STEPS_MAX: usize = 32;

/// Steps to be done one after the other, nothing in between; the first failure ends them.
#[derive(Debug)]
pub struct Job {
    /// Position of the device in the configuration.
    pub device: usize,
    /// What is to be done.
    pub steps: Vec<Step>,
    /// Where the answer goes: per step the words read, none for a write.
    pub answer: oneshot::Sender<Answer>,
}

/// What became of a job.
pub type Answer = Result<Vec<Vec<u16>>, ModbusError>;

/// One request of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Read this many registers.
    Read {
        /// From where on.
        place: Place,
        /// How many.
        count: u16,
    },
    /// Write these words; the device must confirm them.
    Write {
        /// From where on.
        place: Place,
        /// 5 (coil, 0 or 1), 6 (one register) or 16 (several).
        function: u8,
        /// The words.
        words: Vec<u16>,
    },
}

/// Where a step reads or writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A fixed address.
    Register {
        /// Function code of a read.
        function: u8,
        /// Address on the wire, counted from 0.
        address: u16,
        /// Another unit than the device's own.
        unit: Option<u8>,
    },
    /// A register relative to the ID register of the device's first model of this number.
    Sunspec {
        /// The model.
        model: u16,
        /// Offset from its ID register.
        offset: u16,
    },
}

impl Place {
    /// Function code of a read, address, unit; `None` where the device does not have it.
    fn resolve(self, count: usize, unit: u8, models: &[Model]) -> Option<(u8, u16, u8)> {
        match self {
            Place::Register {
                function,
                address,
                unit: other,
            } => Some((function, address, other.unwrap_or(unit))),
            Place::Sunspec { model, offset } => {
                let holder = models.iter().find(|m| m.id == model)?;
                let end = usize::from(offset).checked_add(count)?;
                let is_inside = end <= usize::from(holder.length) + 2;
                let address = holder.address.checked_add(offset)?;
                is_inside.then_some((3, address, unit))
            }
        }
    }
}

/// Brings jobs to the lines of their devices.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    lines: BTreeMap<usize, mpsc::Sender<Job>>,
}

impl Desk {
    /// Jobs for `device` go to the line behind `line`.
    pub fn add(&mut self, device: usize, line: mpsc::Sender<Job>) {
        self.lines.insert(device, line);
    }

    /// Has a job done and waits for its end. Who stops waiting does not stop the job.
    ///
    /// # Errors
    /// The first step that failed; or the line takes no jobs.
    pub async fn run(&self, device: usize, steps: Vec<Step>) -> Answer {
        let line = self.lines.get(&device).ok_or(ModbusError::NoLine)?;
        let (answer, done) = oneshot::channel();
        let job = Job {
            device,
            steps,
            answer,
        };
        line.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => ModbusError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => ModbusError::NoLine,
        })?;
        done.await.map_err(|_| ModbusError::NoLine)?
    }
}

impl Poller {
    /// Does the steps of a job.
    ///
    /// # Errors
    /// The first thing that went wrong; the steps behind it are not done.
    pub async fn work(&mut self, line: &mut Line, steps: &[Step]) -> Answer {
        if steps.len() > STEPS_MAX {
            let (function, count) = (0, steps.len());
            return Err(ModbusError::NoRequest { function, count });
        }
        let profile = self.profile.clone();
        let (Link::Modbus(rules) | Link::Sunspec(rules)) = &profile.link else {
            return Err(ModbusError::NoLine);
        };
        let unit = self.unit;
        let session = self.session(line, rules).await?;
        let mut answers = Vec::with_capacity(steps.len());
        for step in steps {
            let (place, count) = match step {
                Step::Read { place, count } => (place, usize::from(*count)),
                Step::Write { place, words, .. } => (place, words.len()),
            };
            let Some((read, address, unit)) = place.resolve(count, unit, &session.models) else {
                return Err(ModbusError::NoPlace(*place));
            };
            answers.push(match step {
                Step::Read { count, .. } => line.read(unit, read, address, *count, rules).await?,
                Step::Write {
                    function, words, ..
                } => {
                    line.write(unit, *function, address, words, rules).await?;
                    Vec::new()
                }
            });
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sunspec_place_lies_inside_its_model() {
        let model = |id, address, length| Model {
            id,
            address,
            length,
        };
        let models = [
            model(1, 40002, 66),
            model(123, 40070, 24),
            model(123, 50000, 24),
        ];
        let resolve =
            |model, offset, count| Place::Sunspec { model, offset }.resolve(count, 7, &models[..]);
        assert_eq!(resolve(123, 5, 1), Some((3, 40075, 7)));
        assert_eq!(resolve(123, 25, 1), Some((3, 40095, 7)));
        assert_eq!(resolve(123, 25, 2), None, "it ends behind the model");
        assert_eq!(resolve(124, 5, 1), None, "the device has no such model");
        let fixed = Place::Register {
            function: 4,
            address: 9,
            unit: Some(200),
        };
        assert_eq!(fixed.resolve(1, 7, &[]), Some((4, 9, 200)));
    }
}
