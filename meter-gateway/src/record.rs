//! The way of a sample through the gateway: measured, signed, stored and shown.

mod keep;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::energy::{Energy, Power};
use runtime::clock::Clock;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::{Report, Schedule};
use crate::config::DeviceConfig;
use crate::home_assistant::HomeAssistant;
use crate::live::{Live, LiveDevice};
use crate::measure::{Counter, CounterEnd, CounterSample, Limits, MeterMark};
use crate::poll::{LastSeen, Sample, Watch};
use crate::profile::{EnergySource, Kind, Profile, Quantity};
use crate::sign::Signer;
use crate::spool::{NewState, PointState, Spool};
use crate::status::{Shared, Status};
use crate::time_source::TimeSource;
use keep::News;

/// Reports that are taken in together at most: what they bring is stored with one sync of the disk.
const TOGETHER_MAX: usize = 256;

/// A device and what is remembered of it.
pub(crate) struct Device {
    pub(crate) config: DeviceConfig,
    pub(crate) profile: Arc<Profile>,
    pub(crate) limits: Limits,
    pub(crate) signer: Option<Signer>,
    /// `None` until it is read from the outbox, and again after a failure.
    pub(crate) state: Option<PointState>,
    /// Whether its newest sample lacks a register that was measured before.
    pub(crate) is_lacking: bool,
    pub(crate) last: LastSeen,
    pub(crate) watched: Watched,
}

fn counter(shown: Energy) -> Option<Counter> {
    shown.wh().checked_mul(1000).map(Counter::open)
}

/// The looks that a device's measuring goes on from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Watched {
    /// At the newest sample that was measured.
    last: Option<Watch>,
    /// At the newest one in the state that is stored.
    stored: Option<Watch>,
}

impl Device {
    /// The counters of a sample that was taken in at `watch`, the one before it at `before`.
    fn counters(&self, sample: &Sample, before: Option<Watch>, watch: Watch) -> CounterSample {
        let values = &sample.values;
        let power_w = values.power.map(Power::w);
        let session = values.details.get(&Quantity::SessionEnergy);
        let session = session.map(|mwh| Counter {
            mwh: *mwh,
            end: CounterEnd::Session,
        });
        let is_by_session = self.profile.energy_source() == Some(EnergySource::Sessions);
        let import = values.import_counter;
        let export = values.export_counter;
        CounterSample {
            read_at: sample.read_at,
            import: import
                .or_else(|| values.import.and_then(counter))
                .or(session.filter(|_| is_by_session)),
            export: export.or_else(|| values.export.and_then(counter)),
            import_w: match self.profile.kind {
                Kind::Meter | Kind::Charger => power_w,
                Kind::Inverter | Kind::Battery => power_w.map(i64::saturating_neg),
            },
            meter: sample.identity.as_ref().map(|identity| MeterMark {
                body: identity.body(),
                hash: identity.hash(),
            }),
            waited_ms: before.map(|before| watch.elapsed_ms.saturating_sub(before.elapsed_ms)),
            clock_stepped: before.is_some_and(|before| watch.steps != before.steps),
        }
    }
}

/// The task that turns samples into stored readings and live values.
pub(crate) struct Recorder {
    pub(crate) clock: Clock,
    pub(crate) clock_error_ms: u32,
    pub(crate) time_source: TimeSource,
    pub(crate) spool: Spool,
    pub(crate) live: Live,
    pub(crate) wake: Arc<Notify>,
    pub(crate) status: Shared,
    pub(crate) devices: Vec<Device>,
    pub(crate) schedule: Schedule,
    pub(crate) home_assistant: Option<HomeAssistant>,
}

impl Recorder {
    pub(crate) async fn run(
        mut self,
        mut heard: mpsc::Receiver<Report>,
        shutdown: CancellationToken,
    ) {
        let mut look_at = self.next_look();
        let mut reports = Vec::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                count = heard.recv_many(&mut reports, TOGETHER_MAX) => match count {
                    0 => break,
                    _ => self.take(&mut reports).await,
                },
                () = tokio::time::sleep_until(look_at) => {
                    // Devices that only speak when they like may have fallen silent.
                    for index in 0..self.devices.len() {
                        if self.devices[index].config.prefix.is_some() {
                            self.show(index);
                        }
                    }
                    if let Some(assistant) = &mut self.home_assistant {
                        assistant.describe();
                    }
                    look_at = self.next_look();
                }
            }
        }
        self.keep_states().await;
    }

    /// When silent devices are looked at next; also while the clock stands still.
    fn next_look(&self) -> Instant {
        let now = self.clock.steady();
        let ahead_ms = self.schedule.next(now).ms_since(now);
        Instant::now() + self.clock.wall(ahead_ms)
    }

    /// After an orderly end measuring goes on where it was, and not at the last edge.
    async fn keep_states(&self) {
        let states: Vec<NewState<'_>> = self
            .devices
            .iter()
            .filter_map(|device| {
                let signer = device.signer.as_ref()?;
                Some((&signer.point, device.state.as_ref()?, &[][..]))
            })
            .collect();
        for part in states.chunks(TOGETHER_MAX) {
            if let (Err(error), [(first, ..), others @ ..]) =
                (self.spool.store_all(part).await, part)
            {
                let others = others.len();
                tracing::warn!(others, "{first}: its state is not kept: {error}");
            }
        }
    }

    /// Takes in what was reported together, and stores what it brings with one sync of the disk.
    async fn take(&mut self, reports: &mut Vec<Report>) {
        let mut news = News::new();
        let mut devices = BTreeSet::new();
        let clock = self.time_source.stamp(&self.clock, self.clock_error_ms);
        for report in reports.drain(..) {
            let Report {
                device,
                outcome,
                watch,
            } = report;
            devices.insert(device);
            match outcome {
                Ok(sample) => {
                    self.see(device, &sample, watch);
                    let measured = self.measure((device, &sample, watch), clock, &mut news);
                    if let Err(error) = measured.await {
                        tracing::error!("{}: {error}", self.devices[device].config.name);
                        self.status.count_error("outbox");
                    }
                }
                Err(kind) => {
                    let count = |s: &mut Status| {
                        *s.devices[device].errors.entry(kind).or_default() += 1;
                    };
                    self.status.update(count);
                }
            }
        }
        self.status.update(|s| s.clock = Some(clock));
        self.keep(news).await;
        for index in devices {
            let device = &mut self.devices[index];
            let state = device.state.as_ref();
            if state.is_some_and(|s| s.measure.doubts_counters()) {
                device.last.doubt_counters();
            }
            self.show(index);
        }
    }

    fn see(&mut self, index: usize, sample: &Sample, watch: Watch) {
        self.devices[index].last.update(sample, watch.elapsed_ms);
        if let (Some(assistant), Some(identity)) = (&mut self.home_assistant, &sample.identity) {
            assistant.identify(index, identity);
        }
        self.status.update(|s| {
            s.devices[index].samples += 1;
            s.devices[index].last_read_at = Some(sample.read_at);
            s.devices[index].last_read_ms = Some(watch.elapsed_ms);
        });
    }

    fn show(&mut self, index: usize) {
        let now_ms = self.clock.elapsed_ms();
        if let Some(assistant) = &mut self.home_assistant {
            assistant.show(index, &self.devices[index], now_ms);
        }
        let Device {
            config,
            profile,
            limits,
            last,
            ..
        } = &self.devices[index];
        let device = LiveDevice {
            name: &config.name,
            kind: profile.kind,
            point: &config.point,
            role: config.role.word(),
            set_points: config.limits.as_ref().map_or(&[], |l| &l.set_points),
            max_age_ms: limits.max_gap_ms,
        };
        self.live.publish(device, last, now_ms);
    }
}
