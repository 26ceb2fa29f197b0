//! A meter that speaks by itself: one task listens on its port and reports what it says, as often as
//! other devices are polled. What comes in has its time from when it began to arrive; the meter's own
//! clock is not looked at.

use std::sync::Arc;
use std::time::Duration;

use domain::time::Timestamp;
use runtime::clock::Clock;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Report, Schedule};
use crate::device::address::Address;
use crate::device::telegram::{Language, Reader, Telegram, TelegramRules};
use crate::device::wire::{self, Stream};
use crate::poll::Sample;
use crate::profile::Profile;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A meter's port, and the devices that are read from it.
pub struct Port {
    /// Where it is.
    pub address: Address,
    /// What it speaks.
    pub language: Language,
    /// How.
    pub rules: TelegramRules,
    /// Position and profile of the devices.
    pub devices: Vec<(usize, Arc<Profile>)>,
}

/// Why a port has nothing more to say.
enum End {
    /// A failure of this kind.
    Failed(&'static str),
    /// Nobody listens any more.
    Unheard,
}

/// Listens on a port until `shutdown`.
pub async fn run_port(
    port: Port,
    schedule: Schedule,
    clock: Clock,
    reports: mpsc::Sender<Report>,
    shutdown: CancellationToken,
) {
    let listen = async {
        let mut ear = Ear {
            port,
            schedule,
            clock,
            reports,
            due: Timestamp::from_unix_ms(i64::MIN),
            failures: 0,
        };
        while ear.listen().await {}
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = listen => {}
    }
}

struct Ear {
    port: Port,
    schedule: Schedule,
    clock: Clock,
    reports: mpsc::Sender<Report>,
    /// The first telegram that begins at or after this time is reported.
    due: Timestamp,
    failures: u32,
}

impl Ear {
    /// Connects and listens until that fails; false where nobody wants to hear.
    async fn listen(&mut self) -> bool {
        let address = self.port.address.clone();
        let stream = timeout(CONNECT_TIMEOUT, wire::open(&address)).await;
        let kind = match stream {
            Ok(Ok(stream)) => match self.hear(stream).await {
                End::Failed(kind) => kind,
                End::Unheard => return false,
            },
            Ok(Err(error)) => {
                tracing::warn!("{address}: cannot connect: {error}; is the meter's port on?");
                "connect"
            }
            Err(_) => "connect",
        };
        self.failures = self.failures.saturating_add(1);
        if !self.fail(kind).await {
            return false;
        }
        let now = self.clock.now();
        let again = self.schedule.next_after_failures(now, self.failures);
        self.clock.rest_ms(again.ms_since(now)).await;
        true
    }

    async fn hear(&mut self, mut stream: Box<dyn Stream>) -> End {
        let mut reader = Reader::new(self.port.language, self.port.rules);
        let silence = Duration::from_secs(u64::from(self.port.rules.silence_s));
        let mut patience = Instant::now() + silence;
        let mut bytes = [0; 512];
        loop {
            let read = match timeout_at(patience, stream.read(&mut bytes)).await {
                Ok(Ok(read)) if read > 0 => read,
                Ok(_) => return End::Failed("transport"),
                Err(_) => return End::Failed("timeout"),
            };
            let now = self.clock.now();
            for byte in bytes.iter().take(read) {
                let is_heard = match reader.push(*byte, now) {
                    None => true,
                    Some(Ok(telegram)) => {
                        patience = Instant::now() + silence;
                        self.failures = 0;
                        self.report(&telegram).await
                    }
                    Some(Err(broken)) => {
                        tracing::warn!("{}: {broken}", self.port.address);
                        self.fail(broken.kind()).await
                    }
                };
                if !is_heard {
                    return End::Unheard;
                }
            }
        }
    }

    async fn report(&mut self, telegram: &Telegram) -> bool {
        // While the clock stands still, the schedule goes on.
        let ahead_ms = self.clock.steady().ms_since(self.clock.now());
        let begun_at = telegram.begun_at.plus_ms(ahead_ms);
        let early_ms = self.due.ms_since(begun_at);
        // More than that: the clock was set back.
        if (1..=self.schedule.poll_ms).contains(&early_ms) {
            return true;
        }
        self.due = self.schedule.next(begun_at);
        for (device, profile) in &self.port.devices {
            let identity = telegram.identity(profile);
            let sample = Sample {
                read_at: telegram.begun_at,
                values: telegram.values(profile),
                identity: Some(identity).filter(|id| !id.serial.is_empty()),
            };
            let report = Report::new(*device, Ok(sample), &self.clock);
            if self.reports.send(report).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn fail(&self, kind: &'static str) -> bool {
        for (device, _) in &self.port.devices {
            let report = Report::new(*device, Err(kind), &self.clock);
            if self.reports.send(report).await.is_err() {
                return false;
            }
        }
        true
    }
}
