//! The way of a sample through the gateway: measured, signed, stored and shown.

use std::sync::Arc;

use domain::energy::{Energy, Power};
use runtime::clock::Clock;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::bus::{Report, Schedule};
use crate::config::DeviceConfig;
use crate::home_assistant::HomeAssistant;
use crate::live::{Live, LiveDevice};
use crate::measure::{Counter, CounterEnd, CounterSample, Limits, MeterMark};
use crate::poll::{LastSeen, Sample};
use crate::profile::{EnergySource, Kind, Profile, Quantity};
use crate::sign::Signer;
use crate::spool::{NewReading, PointState, Spool, SpoolError};
use crate::status::Shared;
use crate::time_source::TimeSource;

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
    /// When the newest sample was measured.
    pub(crate) watch: Option<Watch>,
}

fn counter(shown: Energy) -> Option<Counter> {
    shown.wh().checked_mul(1000).map(Counter::open)
}

/// What a point's samples are held against besides their own stamps.
#[derive(Clone, Copy)]
pub(crate) struct Watch {
    elapsed_ms: i64,
    steps: u64,
}

impl Device {
    fn counters(&self, sample: &Sample, watch: Watch) -> CounterSample {
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
            waited_ms: self
                .watch
                .map(|before| watch.elapsed_ms.saturating_sub(before.elapsed_ms)),
            clock_stepped: self.watch.is_some_and(|before| watch.steps != before.steps),
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
        let mut look_at = self.schedule.next(self.clock.now());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                report = heard.recv() => match report {
                    Some(report) => self.take(report).await,
                    None => break,
                },
                () = self.clock.sleep_until(look_at) => {
                    // Devices that only speak when they like may have fallen silent.
                    for index in 0..self.devices.len() {
                        if self.devices[index].config.prefix.is_some() {
                            self.show(index);
                        }
                    }
                    if let Some(assistant) = &mut self.home_assistant {
                        assistant.describe();
                    }
                    look_at = self.schedule.next(self.clock.now());
                }
            }
        }
        self.keep_states().await;
    }

    /// After an orderly end measuring goes on where it was, and not at the last edge.
    async fn keep_states(&self) {
        for device in &self.devices {
            if let (Some(signer), Some(state)) = (&device.signer, &device.state)
                && let Err(error) = self.spool.store(&signer.point, state, &[]).await
            {
                tracing::warn!("{}: its state is not kept: {error}", device.config.name);
            }
        }
    }

    async fn take(&mut self, report: Report) {
        let index = report.device;
        match report.outcome {
            Ok(sample) => {
                self.devices[index].last.update(&sample);
                if let (Some(assistant), Some(identity)) =
                    (&mut self.home_assistant, &sample.identity)
                {
                    assistant.identify(index, identity);
                }
                self.status.update(|s| {
                    s.devices[index].samples += 1;
                    s.devices[index].last_read_at = Some(sample.read_at);
                });
                if let Err(error) = self.record(index, &sample).await {
                    tracing::error!("{}: {error}", self.devices[index].config.name);
                    self.status.count_error("outbox");
                }
                let device = &mut self.devices[index];
                let state = device.state.as_ref();
                if state.is_some_and(|s| s.measure.doubts_counters()) {
                    device.last.doubt_counters();
                }
            }
            Err(kind) => {
                self.status
                    .update(|s| *s.devices[index].errors.entry(kind).or_default() += 1);
            }
        }
        self.show(index);
    }

    fn show(&mut self, index: usize) {
        let now = self.clock.now();
        if let Some(assistant) = &mut self.home_assistant {
            assistant.show(index, &self.devices[index], now);
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
            max_age_ms: limits.max_gap_ms,
        };
        self.live.publish(device, last, now);
    }

    /// Measures, signs and stores. What cannot be stored has not happened: the state stays, and the
    /// next sample is measured from there.
    async fn record(&mut self, index: usize, sample: &Sample) -> Result<(), SpoolError> {
        let clock = self.time_source.stamp(&self.clock, self.clock_error_ms);
        self.status.update(|s| s.clock = Some(clock));
        let device = &mut self.devices[index];
        let Some(signer) = &device.signer else {
            return Ok(());
        };
        let before = match device.state.take() {
            Some(state) => state,
            None => self.spool.load(&signer.point).await?,
        };
        let watch = Watch {
            elapsed_ms: self.clock.elapsed_ms(),
            steps: self.clock.steps(),
        };
        let counters = device.counters(sample, watch);
        let is_lacking = before.measure.misses_a_register_in(&counters);
        if is_lacking {
            self.status.update(|s| {
                *s.devices[index]
                    .errors
                    .entry("register_missing")
                    .or_default() += 1;
            });
        }
        if is_lacking && !device.is_lacking {
            let name = &device.config.name;
            tracing::warn!("{name}: a register is missing that was measured before");
        }
        device.is_lacking = is_lacking;
        let mut after = before.clone();
        let measured = after.measure.push(&counters, &device.limits);
        let mut readings = Vec::with_capacity(measured.len());
        for one in measured {
            let interval = one.interval;
            let (sequence, signed) = signer.sign(&mut after.chain, one, clock);
            readings.push(NewReading {
                sequence,
                interval,
                signed,
            });
        }
        if !readings.is_empty() || after.measure.progress() != before.measure.progress() {
            match self.spool.store(&signer.point, &after, &readings).await {
                Ok(()) => {}
                Err(error @ SpoolError::Full(_)) => {
                    device.state = Some(before);
                    return Err(error);
                }
                // Whether it was stored is not certain: the state is read again.
                Err(error) => return Err(error),
            }
            let signed = u64::try_from(readings.len()).unwrap_or(0);
            self.status.update(|s| s.readings_signed += signed);
            self.wake.notify_one();
        }
        (device.state, device.watch) = (Some(after), Some(watch));
        Ok(())
    }
}
