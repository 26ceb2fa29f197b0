//! Devices that speak by themselves over MQTT: whose message it is, and what it says. A retained
//! message is not fresh: it was said at some other time, and nobody knows when.

use std::sync::Arc;

use domain::time::Timestamp;
use runtime::clock::Clock;
use runtime::mqtt::QoS;
use tokio::sync::mpsc;

use crate::bus::Report;
use crate::device::{Values, mqtt};
use crate::poll::Sample;
use crate::profile::{Link, Profile};

/// A device that reports over MQTT.
#[derive(Clone, Debug)]
pub struct MqttDevice {
    /// Position in the configuration.
    pub device: usize,
    /// Its profile.
    pub profile: Arc<Profile>,
    /// Its topic prefix.
    pub prefix: String,
}

impl MqttDevice {
    fn presence(&self) -> Option<(&str, &str)> {
        match &self.profile.link {
            Link::Mqtt(rules) => Some((&rules.presence_topic, &rules.presence_up)),
            _ => None,
        }
    }

    /// The topics it is heard on.
    fn subscriptions(&self) -> Vec<(String, QoS)> {
        let presence = self.presence().map(|(topic, _)| topic);
        let topics = mqtt::topics(&self.profile).into_iter().chain(presence);
        topics
            .map(|topic| (format!("{}/{topic}", self.prefix), QoS::AtMostOnce))
            .collect()
    }

    /// What a message on one of its topics says; none where it says nothing new.
    fn hear(&self, topic: &str, payload: &[u8], retain: bool, now: Timestamp) -> Option<Report> {
        let topic = topic.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        let report = |outcome| {
            Some(Report {
                device: self.device,
                outcome,
            })
        };
        if let Some((presence, up)) = self.presence()
            && topic == presence
        {
            return if payload == up.as_bytes() {
                None
            } else {
                report(Err("offline"))
            };
        }
        if retain {
            return None;
        }
        let mut values = Values::default();
        match mqtt::decode(&self.profile, topic, payload, &mut values) {
            Ok(()) if values == Values::default() => None,
            Ok(()) => report(Ok(Sample {
                read_at: now,
                values,
                identity: None,
            })),
            Err(_) => report(Err("payload")),
        }
    }
}

/// The devices that are heard on one broker.
#[derive(Debug)]
pub struct Listener {
    devices: Vec<MqttDevice>,
    clock: Clock,
    reports: mpsc::Sender<Report>,
}

impl Listener {
    /// Sends what `devices` say to `reports`.
    #[must_use]
    pub fn new(devices: Vec<MqttDevice>, clock: Clock, reports: mpsc::Sender<Report>) -> Self {
        Listener {
            devices,
            clock,
            reports,
        }
    }

    /// The topics that the devices are heard on.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<(String, QoS)> {
        self.devices
            .iter()
            .flat_map(MqttDevice::subscriptions)
            .collect()
    }

    /// Takes in a message from the broker; those of other senders say nothing.
    pub async fn hear(&self, topic: &str, payload: &[u8], retain: bool) {
        let now = self.clock.now();
        for device in &self.devices {
            if let Some(report) = device.hear(topic, payload, retain, now) {
                // The receiver is gone only at the end.
                let _ = self.reports.send(report).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::energy::Power;

    #[test]
    fn a_retained_report_is_not_fresh_but_retained_absence_counts() {
        let profile = Arc::new(Profile::built_in("shelly-pro-3em").unwrap());
        let device = MqttDevice {
            device: 3,
            profile,
            prefix: "shelly".into(),
        };
        let now = Timestamp::from_unix_s(5);
        let power = br#"{"total_act_power": 12.0}"#;
        let report = device
            .hear("shelly/status/em:0", power, false, now)
            .unwrap();
        let sample = report.outcome.unwrap();
        assert_eq!(
            (sample.values.power, sample.read_at),
            (Some(Power::from_w(12)), now)
        );
        assert_eq!(device.hear("shelly/status/em:0", power, true, now), None);
        assert_eq!(device.hear("shelly2/status/em:0", power, false, now), None);
        assert_eq!(device.hear("shelly/online", b"true", true, now), None);
        let gone = device.hear("shelly/online", b"false", true, now).unwrap();
        assert_eq!((gone.device, gone.outcome), (3, Err("offline")));
        assert_eq!(device.subscriptions().len(), 3);
    }
}
