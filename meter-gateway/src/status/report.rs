//! A gateway at one moment, as JSON: what `commonwatt gateway status` prints and the metrics are made
//! of. What is not known is null or not there, never 0.

use std::collections::BTreeMap;

use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DeviceStatus, Status, Who};
use crate::spool::Backlog;

/// A gateway at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Its community.
    pub community: String,
    /// Its name.
    pub gateway: String,
    /// Id of the key it signs with; none where there is no key yet.
    pub key_id: Option<String>,
    /// Its outbox; none where it cannot be read.
    pub outbox: Option<Outbox>,
    /// What only a running gateway knows; none where it does not run.
    pub running: Option<Running>,
}

/// Readings that are not in the platform's books yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outbox {
    /// How many wait for the platform's word.
    pub waiting: i64,
    /// How long ago the oldest one's interval ended; none where nothing waits.
    pub oldest_age_ms: Option<i64>,
    /// How many the platform refused (the newest thousand).
    pub refused: i64,
}

/// What only a running gateway knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Running {
    /// Its program's version.
    pub version: String,
    /// The time of this report.
    pub at_ms: i64,
    /// How long it has been running.
    pub uptime_ms: i64,
    /// Its clock; none before the first sample.
    pub clock: Option<ClockReport>,
    /// Its broker.
    pub broker: Broker,
    /// Readings signed since the start.
    pub readings_signed: u64,
    /// Readings sent since the start, repeats included.
    pub readings_sent: u64,
    /// Acceptances believed since the start.
    pub acceptances: u64,
    /// Its devices.
    pub devices: Vec<DeviceReport>,
    /// Failures that belong to no device, since the start, by kind.
    pub errors: BTreeMap<String, u64>,
}

/// How the clock stood at the last sample.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClockReport {
    /// The state's word, as in the readings.
    pub state: String,
    /// Largest expected error.
    pub error_ms: u32,
}

/// The link to the broker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Broker {
    /// Host and port.
    pub address: String,
    /// Whether it is there.
    pub connected: bool,
    /// For how long that has been so; none before the first connection was tried.
    pub since_ms: Option<i64>,
    /// Why it is not there.
    pub error: Option<String>,
}

/// A device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Its profile.
    pub profile: String,
    /// Age of its last value; none where it was never read.
    pub value_age_ms: Option<i64>,
    /// Samples since the start.
    pub samples: u64,
    /// Failures since the start, by kind.
    pub errors: BTreeMap<String, u64>,
}

impl Outbox {
    /// The backlog as it looks at `now`.
    #[must_use]
    pub fn at(backlog: Backlog, interval_length_s: u32, now: Timestamp) -> Self {
        let age = |start: Timestamp| {
            let end = start.plus_s(i64::from(interval_length_s));
            now.ms_since(end).max(0)
        };
        Outbox {
            waiting: backlog.waiting,
            oldest_age_ms: backlog.oldest_start.map(age),
            refused: backlog.refused,
        }
    }
}

impl Report {
    pub(super) fn running(
        who: &Who,
        status: &Status,
        backlog: Option<Backlog>,
        (now, now_ms): (Timestamp, i64),
    ) -> Self {
        let running = Running {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at_ms: now.unix_ms(),
            uptime_ms: now.ms_since(who.started_at),
            clock: status.clock.map(|stamp| ClockReport {
                state: stamp.state.word().to_owned(),
                error_ms: stamp.error_ms,
            }),
            broker: Broker {
                address: who.broker.clone(),
                connected: status.connected,
                since_ms: status.link_since.map(|at| now.ms_since(at).max(0)),
                error: status.link_error.clone(),
            },
            readings_signed: status.readings_signed,
            readings_sent: status.readings_sent,
            acceptances: status.acceptances,
            devices: status.devices.iter().map(|d| device(d, now_ms)).collect(),
            errors: by_kind(&status.errors),
        };
        Report {
            community: who.community.clone(),
            gateway: who.gateway.clone(),
            key_id: Some(who.key.to_string()),
            outbox: backlog.map(|backlog| Outbox::at(backlog, who.interval_length_s, now)),
            running: Some(running),
        }
    }
}

fn device(device: &DeviceStatus, now_ms: i64) -> DeviceReport {
    DeviceReport {
        name: device.name.clone(),
        kind: device.kind.to_owned(),
        profile: device.profile.clone(),
        value_age_ms: device
            .last_read_ms
            .map(|at_ms| now_ms.saturating_sub(at_ms).max(0)),
        samples: device.samples,
        errors: by_kind(&device.errors),
    }
}

fn by_kind(errors: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    errors
        .iter()
        .map(|(kind, count)| ((*kind).to_owned(), *count))
        .collect()
}
