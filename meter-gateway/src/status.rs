//! What a running gateway shows of itself: counters and ages, no personal values. All tasks write to
//! one [`Status`]; [`report`] makes of it what people, programs and Prometheus see.

pub mod page;
pub mod report;
pub mod socket;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::ids::KeyId;
use domain::reading::ClockStamp;
use domain::time::Timestamp;
use runtime::clock::Clock;

use crate::spool::Spool;
use report::Report;

/// Longest text of a failure that is kept, in bytes.
const REASON_MAX_BYTES: usize = 200;

/// A device in the status.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceStatus {
    /// Its name.
    pub name: String,
    /// Its profile's name.
    pub profile: String,
    /// What it is, in a word.
    pub kind: &'static str,
    /// When it was read last.
    pub last_read_at: Option<Timestamp>,
    /// The same by the watch: the age of its values is what a person wants to know.
    pub last_read_ms: Option<i64>,
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
    /// Since when that is so; none before the first connection was tried.
    pub link_since: Option<Timestamp>,
    /// Why the broker is not there.
    pub link_error: Option<String>,
    /// How the clock stood at the last sample.
    pub clock: Option<ClockStamp>,
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

    /// Notes that the broker is there, or why not; the time is that of the change.
    pub(crate) fn link(&self, broken: Option<&str>, now: Timestamp) {
        self.update(|status| {
            let connected = broken.is_none();
            if status.link_since.is_none() || status.connected != connected {
                status.link_since = Some(now);
            }
            status.connected = connected;
            status.link_error = broken.map(|reason| {
                let end = reason.floor_char_boundary(REASON_MAX_BYTES);
                reason[..end].to_owned()
            });
        });
    }
}

/// Who a gateway is, for its reports.
#[derive(Clone, Debug)]
pub struct Who {
    /// Its community.
    pub community: String,
    /// Its name.
    pub gateway: String,
    /// Its key's id.
    pub key: KeyId,
    /// Its broker's host and port.
    pub broker: String,
    /// Length of its intervals.
    pub interval_length_s: u32,
    /// When it started.
    pub started_at: Timestamp,
}

/// Looks at a running gateway when it is asked.
#[derive(Clone, Debug)]
pub struct Observer {
    pub(crate) who: Arc<Who>,
    pub(crate) status: Shared,
    pub(crate) spool: Spool,
    pub(crate) clock: Clock,
}

impl Observer {
    /// The gateway as it is now. An outbox that cannot be read is left out, and counted.
    pub async fn report(&self) -> Report {
        let backlog = match self.spool.backlog().await {
            Ok(backlog) => Some(backlog),
            Err(error) => {
                tracing::error!("the status has no outbox: {error}");
                self.status.count_error("outbox");
                None
            }
        };
        let times = (self.clock.now(), self.clock.elapsed_ms());
        Report::running(&self.who, &self.status.get(), backlog, times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_time_of_its_last_change() {
        let at = Timestamp::from_unix_s;
        let status = Shared::default();
        status.link(Some("no route"), at(1));
        status.link(Some(&"ä".repeat(200)), at(2));
        let broken = status.get();
        assert_eq!((broken.connected, broken.link_since), (false, Some(at(1))));
        assert_eq!(broken.link_error.unwrap().len(), REASON_MAX_BYTES);
        status.link(None, at(3));
        let well = status.get();
        assert_eq!((well.connected, well.link_since), (true, Some(at(3))));
        assert_eq!(well.link_error, None);
    }
}
