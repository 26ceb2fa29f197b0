//! The way of a sample through the gateway: measured, signed, stored and shown.

use std::sync::Arc;

use domain::energy::{Energy, Power};
use domain::reading::{ClockStamp, ClockState};
use runtime::clock::Clock;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::bus::{Report, Schedule};
use crate::config::DeviceConfig;
use crate::home_assistant::HomeAssistant;
use crate::live::{Live, LiveDevice};
use crate::measure::{Counter, CounterSample, Limits, MeterMark};
use crate::poll::{LastSeen, Sample};
use crate::profile::{Kind, Profile};
use crate::sign::Signer;
use crate::spool::{NewReading, PointState, Spool, SpoolError};
use crate::status::Shared;

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
}

fn counter(shown: Energy) -> Option<Counter> {
    shown.wh().checked_mul(1000).map(Counter::open)
}

impl Device {
    fn counters(&self, sample: &Sample) -> CounterSample {
        let values = &sample.values;
        let power_w = values.power.map(Power::w);
        CounterSample {
            read_at: sample.read_at,
            import: values.import.and_then(counter),
            export: values.export.and_then(counter),
            import_w: match self.profile.kind {
                Kind::Meter | Kind::Charger => power_w,
                Kind::Inverter | Kind::Battery => power_w.map(i64::saturating_neg),
            },
            meter: sample.identity.as_ref().map(|identity| MeterMark {
                body: identity.body(),
                hash: identity.hash(),
            }),
            waited_ms: None,
            clock_stepped: false,
        }
    }
}

/// The task that turns samples into stored readings and live values.
pub(crate) struct Recorder {
    pub(crate) clock: Clock,
    pub(crate) clock_error_ms: u32,
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
                () = shutdown.cancelled() => return,
                report = heard.recv() => match report {
                    Some(report) => self.take(report).await,
                    None => return,
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
        let clock = self.stamp();
        self.status.update(|s| s.clock = Some(clock));
        let device = &mut self.devices[index];
        let Some(signer) = &device.signer else {
            return Ok(());
        };
        let before = match device.state.take() {
            Some(state) => state,
            None => self.spool.load(&signer.point).await?,
        };
        let counters = device.counters(sample);
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
        device.state = Some(after);
        Ok(())
    }

    fn stamp(&self) -> ClockStamp {
        let state = if self.clock.speed() == 1 {
            ClockState::Informative
        } else {
            ClockState::Relative
        };
        ClockStamp {
            signed_at: self.clock.now(),
            state,
            error_ms: self.clock_error_ms,
        }
    }
}
