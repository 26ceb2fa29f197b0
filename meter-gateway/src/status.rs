//! What a running gateway shows of itself: counters and ages, no personal values.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::time::Timestamp;

/// A device in the status.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceStatus {
    /// Its name.
    pub name: String,
    /// When it was read last; its age is what a person wants to know.
    pub last_read_at: Option<Timestamp>,
    /// Samples so far.
    pub samples: u64,
    /// Failures so far, by kind.
    pub errors: BTreeMap<&'static str, u64>,
}

/// The state of a gateway.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Its devices.
    pub devices: Vec<DeviceStatus>,
    /// Whether the broker is there.
    pub connected: bool,
    /// Readings waiting for the platform's word.
    pub waiting: i64,
    /// Readings that the platform has refused (the newest thousand).
    pub refused: i64,
    /// Readings signed since the start.
    pub readings_signed: u64,
    /// Readings sent since the start, repeats included.
    pub readings_sent: u64,
    /// Acceptances believed since the start.
    pub acceptances: u64,
    /// Other failures by kind.
    pub errors: BTreeMap<&'static str, u64>,
}

/// The one status that all tasks write to.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Status>>);

impl Shared {
    /// A copy of the status.
    #[must_use]
    pub fn get(&self) -> Status {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn count_error(&self, kind: &'static str) {
        self.update(|status| *status.errors.entry(kind).or_default() += 1);
    }
}
