//! Watching the configured devices for a while, for the commissioning check: they are read as the
//! gateway reads them, but nothing is signed, stored or sent.
//!
//! Devices with fixed registers are read a second time with the words of their numbers in the opposite
//! order, so that a wrong word order can be told from a wrong scale.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runtime::clock::Clock;
use runtime::mqtt::{MqttEvent, MqttLink, MqttOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bus::{Report, Schedule};
use crate::commission::{Observation, Subject};
use crate::config::Config;
use crate::device::Identity;
use crate::listen::Listener;
use crate::poll::Sample;
use crate::profile::Quantity;
use crate::record::Device;
use crate::service::{self, GatewayError};

/// Devices are watched at least so often.
const POLL_S_MAX: u32 = 5;
/// Most observations that are kept of a device; the watch ends for it then.
pub const OBSERVATIONS_MAX: usize = 10_000;
/// Reports that may wait.
const REPORTS_MAX: usize = 256;
const KEEP_ALIVE_S: u16 = 30;
/// Largest packet from the broker.
const PACKET_MAX_BYTES: u32 = 64 * 1024;

/// A device as it was watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its name in the configuration.
    pub name: String,
    /// Its profile.
    pub profile: String,
    /// What is known about it beforehand.
    pub subject: Subject,
    /// What it says it is.
    pub identity: Option<Identity>,
    /// What it said.
    pub own: Vec<Observation>,
    /// The same with words in the opposite order; empty where that means nothing.
    pub swapped: Vec<Observation>,
    /// What went wrong, by kind.
    pub errors: BTreeMap<&'static str, u64>,
}

impl Watched {
    fn of(device: &Device) -> Self {
        Watched {
            name: device.config.name.clone(),
            profile: device.config.profile.clone(),
            subject: Subject {
                kind: device.profile.kind,
                rating_w: device.config.rating_w,
                resolution_wh: device.profile.resolution_wh(),
            },
            identity: None,
            own: Vec::new(),
            swapped: Vec::new(),
            errors: BTreeMap::new(),
        }
    }
}

impl Observation {
    fn of(sample: &Sample) -> Self {
        let detail = |quantity| sample.values.details.get(&quantity).copied();
        let watts = |quantity| detail(quantity).map(|mw| mw / 1000);
        let single_mv = detail(Quantity::Voltage);
        Observation {
            at_ms: sample.read_at.unix_ms(),
            import_wh: sample.values.import.map(|e| e.wh()),
            export_wh: sample.values.export.map(|e| e.wh()),
            power_w: sample.values.power.map(|p| p.w()),
            phase_w: [Quantity::PowerL1, Quantity::PowerL2, Quantity::PowerL3].map(watts),
            phase_mv: [
                detail(Quantity::VoltageL1).or(single_mv),
                detail(Quantity::VoltageL2),
                detail(Quantity::VoltageL3),
            ],
            frequency_mhz: detail(Quantity::Frequency),
        }
    }
}

/// Watches all devices of a configuration for a time.
///
/// # Errors
/// A profile cannot be used, a running gateway uses the same data folder, or a password file cannot be read.
pub async fn watch(
    config: &Config,
    lasting: Duration,
    clock: &Clock,
) -> Result<Vec<Watched>, GatewayError> {
    config.validate()?;
    // Some devices take one connection only: the gateway would be thrown out, or we.
    let lock = config.data_dir.exists().then(|| service::lock(config));
    let _lock = lock.transpose()?;
    let poll_s = config.poll_interval_s.min(POLL_S_MAX);
    let schedule = Schedule::new(poll_s, config.interval_length_s, clock.speed());
    let own = service::devices(config, None, schedule)?;
    let mut watched: Vec<Watched> = own.iter().map(Watched::of).collect();
    let count = own.len();
    let all = with_shadows(own, service::devices(config, None, schedule)?);
    let shutdown = CancellationToken::new();
    let (reports, mut heard) = mpsc::channel(REPORTS_MAX);
    let mut tasks = JoinSet::new();
    let _desk = service::start_lines(&all, schedule, clock, &reports, &mut tasks, &shutdown);
    let listener = service::listener(&all, clock, reports);
    listen(config, listener, &mut tasks, &shutdown)?;
    let end = tokio::time::Instant::now() + lasting;
    while let Ok(Some(report)) = tokio::time::timeout_at(end, heard.recv()).await {
        take(&mut watched, count, report);
    }
    shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(watched)
}

/// The devices, and behind them those of which the words can be read in the opposite order; a device
/// without a shadow has one in its place that nobody reads.
fn with_shadows(mut all: Vec<Device>, shadows: Vec<Device>) -> Vec<Device> {
    for mut shadow in shadows {
        match shadow.profile.with_words_swapped() {
            Some(swapped) => shadow.profile = Arc::new(swapped),
            None => shadow.config.address = None,
        }
        shadow.config.prefix = None;
        all.push(shadow);
    }
    all
}

/// Hears devices that speak over MQTT: at the home's broker where there is one, else at the platform's.
fn listen(
    config: &Config,
    mut listener: Listener,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Result<(), GatewayError> {
    let subscriptions = listener.subscriptions();
    if subscriptions.is_empty() {
        return Ok(());
    }
    let at = service::device_broker(config)?;
    let options = MqttOptions {
        host: at.host,
        port: at.port,
        tls: at.tls,
        user: at.user,
        password: at.password,
        // Not the gateway's own id: a gateway elsewhere keeps its connection.
        client_id: format!("cw-{}-{}-check", config.community, config.gateway),
        subscriptions,
        last_will: None,
        keep_alive_s: KEEP_ALIVE_S,
        max_packet_bytes: PACKET_MAX_BYTES,
    };
    let (_handle, mut events) = MqttLink::start(options, shutdown.clone());
    tasks.spawn(async move {
        // The link closes the queue when it is told to end.
        while let Some(event) = events.recv().await {
            match event {
                MqttEvent::Message {
                    topic,
                    payload,
                    retain,
                } => listener.hear(&topic, &payload, retain).await,
                MqttEvent::Disconnected { reason } => tracing::warn!("no broker: {reason}"),
                MqttEvent::SubscribeRefused { filter, reason } => {
                    tracing::warn!("the broker refused the subscription to {filter}: {reason}");
                }
                _ => {}
            }
        }
    });
    Ok(())
}

/// Files a report under its device; those from `count` on are shadows.
fn take(watched: &mut [Watched], count: usize, report: Report) {
    let is_shadow = report.device >= count;
    let Some(device) = watched.get_mut(report.device % count.max(1)) else {
        return;
    };
    match (report.outcome, is_shadow) {
        (Ok(sample), true) if device.swapped.len() < OBSERVATIONS_MAX => {
            device.swapped.push(Observation::of(&sample));
        }
        (Ok(sample), false) if device.own.len() < OBSERVATIONS_MAX => {
            device.own.push(Observation::of(&sample));
            device.identity = sample.identity.or(device.identity.take());
        }
        // What goes wrong with a shadow has gone wrong with the device as well.
        (Err(kind), false) => *device.errors.entry(kind).or_default() += 1,
        _ => {}
    }
}
