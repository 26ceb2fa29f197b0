//! Devices that speak by themselves over MQTT: whose message it is, what it says, and when it was said.
//! A retained message is not fresh: it was said at some other time, and nobody knows when.

mod gather;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use domain::time::Timestamp;
use runtime::clock::Clock;
use runtime::mqtt::QoS;
use tokio::sync::mpsc;

use crate::bus::Report;
use crate::device::mqtt::{Found, Payload};
use crate::poll::Sample;
use crate::profile::mqtt::{JsonPath, MqttRules, Presence, is_meant};
use crate::profile::{Link, Point, Profile, Quantity, Source};
use gather::Gather;

pub use gather::GATHER_MAX_MS;

/// When a message comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Moment {
    /// The time, which a sample bears.
    now: Timestamp,
    /// The time that goes on also while the clock stands still.
    steady: Timestamp,
    /// By the watch, which nobody sets.
    watch_ms: i64,
}

impl Moment {
    fn of(clock: &Clock) -> Self {
        Moment {
            now: clock.now(),
            steady: clock.steady(),
            watch_ms: clock.elapsed_ms(),
        }
    }
}

/// One value of a device at its place on this device.
#[derive(Clone, Debug)]
struct Leaf {
    point: Point,
    topic: String,
    json: Option<JsonPath>,
}

/// A device that reports over MQTT.
#[derive(Clone, Debug)]
pub struct MqttDevice {
    /// Position in the configuration.
    device: usize,
    prefix: String,
    rules: MqttRules,
    /// What is subscribed to for its presence.
    presence_filter: Option<String>,
    leaves: Vec<Leaf>,
    gather: Gather,
    /// Digest of the last payload with a time stamp, for each leaf's topic.
    stamped: Vec<(String, u64)>,
}

impl MqttDevice {
    /// The device at position `device` of the configuration; none where its profile knows no MQTT.
    #[must_use]
    pub fn new(
        device: usize,
        profile: &Profile,
        prefix: &str,
        connector: Option<u16>,
    ) -> Option<Self> {
        let channel = connector.unwrap_or(1).saturating_sub(1);
        let Link::Mqtt(rules) = &profile.link else {
            return None;
        };
        let leaf = |point: &Point| match &point.source {
            Source::Message(place) => Some(Leaf {
                point: point.clone(),
                topic: place.topic.filled(prefix, channel),
                json: place.json.as_ref().map(|path| path.filled(channel)),
            }),
            _ => None,
        };
        let leaves: Vec<Leaf> = profile.points.iter().filter_map(leaf).collect();
        let presence = rules.presence.as_ref();
        Some(MqttDevice {
            device,
            prefix: prefix.to_owned(),
            rules: rules.clone(),
            presence_filter: presence.map(|p| p.topic.filled(prefix, channel)),
            gather: Gather::new(&leaves),
            leaves,
            stamped: Vec::new(),
        })
    }

    /// The topics it is heard on.
    #[must_use]
    pub fn topics(&self) -> BTreeSet<String> {
        let topics = self.leaves.iter().map(|leaf| &leaf.topic);
        topics.chain(&self.presence_filter).cloned().collect()
    }

    /// What a message says; nothing where it is not about this device, or says nothing new.
    fn hear(
        &mut self,
        topic: &str,
        bytes: &[u8],
        retain: bool,
        now: Moment,
    ) -> Vec<Result<Sample, &'static str>> {
        let is_presence = |filter: &String| is_meant(filter, topic);
        let is_own = self.leaves.iter().any(|leaf| leaf.topic == topic);
        if self.presence_filter.as_ref().is_some_and(is_presence) {
            return self.presence(bytes);
        }
        // What is retained was said at some other time. An empty one is how retained ones are deleted.
        if !is_own || retain || bytes.is_empty() {
            return Vec::new();
        }
        let Ok(payload) = Payload::new(bytes) else {
            return vec![Err("payload")];
        };
        let clock_offset_ms = match self.freshness(topic, payload, bytes, now.steady) {
            Ok(offset) => offset,
            Err(kind) => return vec![Err(kind)],
        };
        let mut found: Vec<(usize, Found)> = Vec::new();
        for (index, leaf) in self.leaves.iter().enumerate() {
            if leaf.topic == topic {
                match payload.find(leaf.json.as_ref()) {
                    Ok(one) => found.push((index, one)),
                    Err(_) => return vec![Err("payload")],
                }
            }
        }
        let gathered = self.gather.take(&self.leaves, found, now);
        let samples = gathered.samples.into_iter().map(|mut sample| {
            let offset = clock_offset_ms.map(|ms| (Quantity::ClockOffset, ms));
            sample.values.details.extend(offset);
            Ok(sample)
        });
        let incomplete = gathered.incomplete.then_some(Err("incomplete"));
        samples.chain(incomplete).collect()
    }

    /// Takes in a word about whether the device is there.
    fn presence(&mut self, bytes: &[u8]) -> Vec<Result<Sample, &'static str>> {
        let Some(presence) = &self.rules.presence else {
            return Vec::new();
        };
        match is_there(presence, &self.prefix, bytes) {
            Some(false) => {
                self.gather.forget();
                vec![Err("offline")]
            }
            _ => Vec::new(),
        }
    }

    /// How far the device's clock is ahead of ours, if it says so; and whether the report is one that
    /// was kept somewhere and comes again.
    fn freshness(
        &mut self,
        topic: &str,
        payload: Payload<'_>,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<Option<i64>, &'static str> {
        let Some(stamp) = &self.rules.stamp else {
            return Ok(None);
        };
        let Some(said_at) = payload.time(&stamp.json, stamp.unit) else {
            return Ok(None);
        };
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let digest = hasher.finish();
        match self.stamped.iter_mut().find(|(on, _)| on == topic) {
            Some((_, last)) if *last == digest => return Err("repeated"),
            Some((_, last)) => *last = digest,
            None => self.stamped.push((topic.to_owned(), digest)),
        }
        let age_ms = now.ms_since(said_at);
        let max_age_ms = stamp.max_age_s.map(|s| i64::from(s) * 1000);
        if max_age_ms.is_some_and(|max_ms| age_ms > max_ms) {
            return Err("old");
        }
        Ok(Some(age_ms.saturating_neg()))
    }
}

/// Whether a word on a presence topic says that the device is there; none where it is not about it.
fn is_there(presence: &Presence, prefix: &str, bytes: &[u8]) -> Option<bool> {
    let payload = Payload::new(bytes).ok()?;
    let says = |path: &JsonPath, word: &str| matches!(payload.find(Some(path)), Ok(Found::Text(text)) if text == word);
    if !presence.about.is_empty() && !presence.about.iter().any(|path| says(path, prefix)) {
        return None;
    }
    match &presence.json {
        Some(path) if payload.is_object() => Some(says(path, &presence.up)),
        // Who deletes a retained word says nothing.
        _ if bytes.is_empty() => None,
        _ => Some(bytes == presence.up.as_bytes()),
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
        let each: BTreeSet<String> = self.devices.iter().flat_map(MqttDevice::topics).collect();
        each.into_iter().map(|f| (f, QoS::AtMostOnce)).collect()
    }

    /// Takes in a message from the broker; those of other senders say nothing.
    pub async fn hear(&mut self, topic: &str, payload: &[u8], retain: bool) {
        let now = Moment::of(&self.clock);
        for device in &mut self.devices {
            for outcome in device.hear(topic, payload, retain, now) {
                let report = Report::new(device.device, outcome, &self.clock);
                // The receiver is gone only at the end.
                let _ = self.reports.send(report).await;
            }
        }
    }

    /// The connection broke: what was said in halves is forgotten, its other half may have been lost.
    pub fn lost(&mut self) {
        for device in &mut self.devices {
            device.gather.forget();
        }
    }
}
