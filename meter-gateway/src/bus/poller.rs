//! A device on a line, and what is known of it as long as the connection lasts.

use std::sync::Arc;

use runtime::clock::Clock;

use crate::device::modbus::{Line, ModbusError};
use crate::device::sunspec::{self, Model};
use crate::device::{Identity, Plan, Registers, Values};
use crate::poll::Sample;
use crate::profile::{Link, ModbusRules, Profile};

/// After so many polls a device is asked again who it is.
const IDENTITY_EVERY_POLLS: u32 = 90;

/// The exception of a device that does not know an address.
const NO_SUCH_ADDRESS: u8 = 2;

/// A device on a line.
#[derive(Debug)]
pub struct Poller {
    pub(super) device: usize,
    pub(super) profile: Arc<Profile>,
    pub(super) unit: u8,
    session: Option<Session>,
}

/// What is known about a device as long as the connection lasts.
#[derive(Debug)]
pub(super) struct Session {
    connection: u64,
    pub(super) models: Vec<Model>,
    values: Plan,
    identification: Plan,
    identity: Option<Identity>,
    polls: u32,
}

impl Poller {
    /// A device that will be polled as soon as its line runs.
    #[must_use]
    pub fn new(device: usize, profile: Arc<Profile>, unit: u8) -> Self {
        Poller {
            device,
            profile,
            unit,
            session: None,
        }
    }

    /// Position of the device in the configuration.
    #[must_use]
    pub fn device(&self) -> usize {
        self.device
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
        let unit = self.unit;
        let session = self.session(line, rules).await?;
        let sample = Self::ask(line, unit, rules, session, clock).await;
        // A device that answers, if only with a refusal, is still the same one. Where it does not
        // know an address, its models may have moved: they are looked for again.
        let is_known = match &sample {
            Ok(_) | Err(ModbusError::Busy) => true,
            Err(ModbusError::Exception(code)) => *code != NO_SUCH_ADDRESS,
            Err(_) => false,
        };
        if !is_known {
            self.session = None;
        }
        sample
    }

    /// What is known about the device on the line's connection; asks it where that is nothing.
    pub(super) async fn session(
        &mut self,
        line: &mut Line,
        rules: &ModbusRules,
    ) -> Result<&mut Session, ModbusError> {
        let connection = line.connect(rules).await?;
        let session = match self.session.take() {
            Some(session) if session.connection == connection => session,
            _ => begin(line, self.unit, &self.profile, rules, connection).await?,
        };
        Ok(self.session.insert(session))
    }

    async fn ask(
        line: &mut Line,
        unit: u8,
        rules: &ModbusRules,
        session: &mut Session,
        clock: &Clock,
    ) -> Result<Sample, ModbusError> {
        let mut seldom = Values::default();
        if session.polls.is_multiple_of(IDENTITY_EVERY_POLLS) {
            let found = fetch(line, unit, rules, &mut session.identification).await?;
            seldom = found.values(&session.identification);
            let identity = found.identity(&session.identification);
            // Without a serial number one meter cannot be told from another of its kind.
            session.identity = Some(identity).filter(|id| !id.serial.is_empty());
        }
        session.polls = session.polls.wrapping_add(1);
        let asked = clock.now();
        let found = fetch(line, unit, rules, &mut session.values).await?;
        let read_at = asked.plus_ms(clock.now().ms_since(asked) / 2);
        let mut values = found.values(&session.values);
        values.add_details(seldom);
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
    let (models, (values, identification)) = if rules.models.is_empty() {
        (Vec::new(), Plan::fixed(profile))
    } else {
        let models = sunspec::discover(line, unit, rules).await?;
        let plans = Plan::sunspec(profile, &models)
            .ok_or_else(|| ModbusError::NoModel(rules.models.clone()))?;
        (models, plans)
    };
    Ok(Session {
        connection,
        models,
        values,
        identification,
        identity: None,
        polls: 0,
    })
}

/// Sends a plan's requests. An optional one that the device does not know is not sent again.
pub(crate) async fn fetch(
    line: &mut Line,
    unit: u8,
    rules: &ModbusRules,
    plan: &mut Plan,
) -> Result<Registers, ModbusError> {
    let mut found = Registers::default();
    let mut unknown = Vec::new();
    for block in &plan.blocks {
        match line
            .read(
                block.unit.unwrap_or(unit),
                block.function,
                block.address,
                block.count,
                rules,
            )
            .await
        {
            Ok(words) => found.add(block, words),
            Err(ModbusError::Exception(NO_SUCH_ADDRESS)) if block.optional => unknown.push(*block),
            Err(error) => return Err(error),
        }
    }
    plan.blocks.retain(|block| !unknown.contains(block));
    Ok(found)
}
