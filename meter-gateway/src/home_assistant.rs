//! Home Assistant finds the gateway's devices by itself: a retained description of every value on its
//! discovery topics, and the values on a live topic of the device at the home's own broker. Nothing
//! here is signed or settled.
//!
//! A device's main values are described at once, the others when they first have a value: not every
//! device has all that its profile knows.
//!
//! What is missing, old or not to be trusted is null, never 0: Home Assistant takes every drop of a
//! counter for a reset and would count energy that never flowed.

mod describe;
mod guard;
mod remember;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use domain::ids::GatewayId;
use domain::time::Timestamp;
use runtime::mqtt::QoS;
use serde_json::{Map, Value, json};

use crate::device::Identity;
use crate::home::HomeLink;
use crate::profile::Quantity;
use crate::record::Device;
use describe::{About, Sensor, slug};
use guard::Guard;
use remember::Remembered;
pub(crate) use remember::was_used;

/// The device's values expire after so many of the longest gaps between two reports.
const EXPIRE_GAPS: i64 = 2;
/// Values expire at the earliest after this.
const EXPIRE_MIN_S: i64 = 60;

/// Shows the devices to Home Assistant.
#[derive(Debug)]
pub(crate) struct HomeAssistant {
    link: HomeLink,
    prefix: String,
    shown: Vec<Shown>,
    remembered: Remembered,
    /// What is still to be published on this connection, so that a full queue only delays it.
    todo: VecDeque<Task>,
    /// The connection that `todo` was made for.
    connection: u64,
}

/// One device as it is shown.
#[derive(Debug)]
struct Shown {
    about: About,
    topic: String,
    sensors: Vec<Sensor>,
    /// What has not had a value yet, ever.
    unseen: Vec<Sensor>,
    guards: BTreeMap<Quantity, Guard>,
    identity: Option<Identity>,
}

#[derive(Debug)]
enum Task {
    /// Takes back the description of a value that is not there any more.
    Clear(String),
    /// Describes a device's value.
    Describe { device: usize, sensor: usize },
}

impl HomeAssistant {
    /// Shows `devices` under `prefix`; without a prefix it only takes back what was shown before.
    pub(crate) fn new(
        link: HomeLink,
        prefix: Option<&str>,
        gateway: &GatewayId,
        devices: &[Device],
        data_dir: &Path,
    ) -> Self {
        let mut remembered = Remembered::open(data_dir);
        let shown: Vec<Shown> = match prefix {
            Some(prefix) => devices
                .iter()
                .map(|device| Shown::of(device, gateway, |topic| remembered.has(topic), prefix))
                .collect(),
            None => Vec::new(),
        };
        let prefix = prefix.unwrap_or_default().to_owned();
        let topics = shown.iter().flat_map(|one| one.config_topics(&prefix));
        remembered.show_only(topics.collect());
        HomeAssistant {
            link,
            prefix,
            shown,
            remembered,
            todo: VecDeque::new(),
            connection: 0,
        }
    }

    /// Publishes what is fresh of a device at `now_ms` of the watch; describes it again where it turned out to be another.
    pub(crate) fn show(&mut self, index: usize, device: &Device, now_ms: i64) {
        self.look(index, device);
        self.describe();
        let is_there = *self.link.connections.borrow() > 0;
        let Some(shown) = self.shown.get_mut(index) else {
            return;
        };
        let payload = shown.payload(device, now_ms).to_string();
        if is_there {
            // A full queue drops live values first; the next ones are on their way.
            let _ = self
                .link
                .handle
                .publish(&shown.topic, payload, QoS::AtMostOnce, false);
        }
    }

    /// Notes which device it is; its description names maker, model and serial number.
    pub(crate) fn identify(&mut self, index: usize, identity: &Identity) {
        let Some(shown) = self.shown.get_mut(index) else {
            return;
        };
        if shown.identity.as_ref() != Some(identity) {
            shown.identity = Some(identity.clone());
            self.describe_again(index);
        }
    }

    /// Finds values that the device turns out to have.
    fn look(&mut self, index: usize, device: &Device) {
        let Some(shown) = self.shown.get_mut(index) else {
            return;
        };
        let is_new = |sensor: &mut Sensor| device.last.number(sensor.quantity).is_some();
        let new: Vec<Sensor> = shown.unseen.extract_if(.., is_new).collect();
        if new.is_empty() {
            return;
        }
        let topics = new
            .iter()
            .map(|s| shown.about.config_topic(&self.prefix, *s));
        self.remembered.show(topics);
        shown.sensors.extend(new);
        self.describe_again(index);
    }

    fn describe_again(&mut self, device: usize) {
        self.todo
            .retain(|task| !matches!(task, Task::Describe { device: d, .. } if *d == device));
        if self.connection > 0 {
            let sensors = 0..self.shown[device].sensors.len();
            self.todo
                .extend(sensors.map(|sensor| Task::Describe { device, sensor }));
        }
    }

    /// Describes everything on a new connection, as far as the link takes it now.
    pub(crate) fn describe(&mut self) {
        let connection = *self.link.connections.borrow();
        if connection != self.connection {
            self.connection = connection;
            self.todo = if connection == 0 {
                VecDeque::new()
            } else {
                self.everything()
            };
        }
        while let Some(task) = self.todo.front() {
            let (topic, payload) = match task {
                Task::Clear(topic) => (topic.clone(), String::new()),
                Task::Describe { device, sensor } => self.description(*device, *sensor),
            };
            if self
                .link
                .handle
                .publish(topic, payload, QoS::AtLeastOnce, true)
                .is_err()
            {
                return;
            }
            self.todo.pop_front();
        }
    }

    fn everything(&self) -> VecDeque<Task> {
        let gone = self
            .remembered
            .gone()
            .map(|topic| Task::Clear(topic.to_owned()));
        let here = self.shown.iter().enumerate().flat_map(|(device, shown)| {
            (0..shown.sensors.len()).map(move |sensor| Task::Describe { device, sensor })
        });
        gone.chain(here).collect()
    }

    /// Topic and text of a description. The indices are our own.
    fn description(&self, device: usize, sensor: usize) -> (String, String) {
        let shown = &self.shown[device];
        let sensor = &shown.sensors[sensor];
        let config = sensor.config(
            &shown.about,
            (&shown.topic, &self.link.state_topic),
            shown.identity.as_ref(),
        );
        (
            shown.about.config_topic(&self.prefix, *sensor),
            config.to_string(),
        )
    }
}

impl Shown {
    fn of(
        device: &Device,
        gateway: &GatewayId,
        was_shown: impl Fn(&str) -> bool,
        prefix: &str,
    ) -> Self {
        let expire_s = (device.limits.max_gap_ms * EXPIRE_GAPS / 1000).max(EXPIRE_MIN_S);
        let (name, profile) = (&device.config.name, &device.config.profile);
        let about = About::new(gateway, (name, profile), device.profile.kind, expire_s);
        let quantities: BTreeSet<Quantity> =
            device.profile.points.iter().map(|p| p.quantity).collect();
        let all = quantities.into_iter().filter_map(Sensor::of);
        let (sensors, unseen): (Vec<Sensor>, Vec<Sensor>) =
            all.partition(|s| s.is_main() || was_shown(&about.config_topic(prefix, *s)));
        let counters = sensors.iter().chain(&unseen).filter(|s| s.is_counter());
        let guard = |sensor: &Sensor| Guard::new(device.config.rating_w, sensor.per_wh());
        Shown {
            topic: format!("commonwatt/{gateway}/{}/live", slug(name)),
            guards: counters.map(|s| (s.quantity, guard(s))).collect(),
            about,
            sensors,
            unseen,
            identity: None,
        }
    }

    fn config_topics(&self, prefix: &str) -> impl Iterator<Item = String> {
        self.sensors
            .iter()
            .map(move |s| self.about.config_topic(prefix, *s))
    }

    /// Every value of the device, null where it is missing, too old, or a counter that cannot be right.
    fn payload(&mut self, device: &Device, now_ms: i64) -> Value {
        let max_age_ms = device.limits.max_gap_ms;
        let mut values = Map::new();
        for sensor in &self.sensors {
            let quantity = sensor.quantity;
            let value = if quantity == Quantity::State {
                let state = device.last.state.as_ref();
                json!(state.and_then(|state| state.within(now_ms, max_age_ms)))
            } else {
                let number = device.last.number(quantity);
                json!(number.and_then(|number| {
                    let value = *number.within(now_ms, max_age_ms)?;
                    match self.guards.get_mut(&quantity) {
                        Some(guard) => guard.pass(value, number.read_ms()),
                        None => Some(value),
                    }
                }))
            };
            values.insert(sensor.key(), value);
        }
        let read_at_ms = device.last.read_at().map(Timestamp::unix_ms);
        values.insert("read_at_ms".to_owned(), json!(read_at_ms));
        Value::Object(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::config::Config;
    use crate::device::Values;
    use crate::measure::Limits;
    use crate::poll::{LastSeen, Sample};
    use crate::profile::Profile;
    use crate::record::Watched;
    use domain::reading::MeasurementClass;
    use runtime::mqtt::{MqttLink, MqttOptions};
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    const CONFIG: &str = r#"
community = "elm-street"
gateway = "gw-1"
data_dir = "state"
operator_key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
mqtt = { host = "127.0.0.1", user = "gw-1" }
[[devices]]
name = "meter"
profile = "eastron-sdm630"
point = "home-1"
role = "connection"
rating_w = 17000
address = "127.0.0.1:1502"
"#;
    fn meter() -> Device {
        let config = Config::from_toml(CONFIG, "gateway.toml").unwrap();
        let limits = Limits {
            interval_length_s: 900,
            max_gap_ms: 30_000,
            rating_w: 17_000,
            resolution_wh: 1,
            class: MeasurementClass::MeterCounter,
        };
        Device {
            config: config.devices[0].clone(),
            profile: Arc::new(Profile::built_in("eastron-sdm630").unwrap()),
            limits,
            signer: None,
            state: None,
            is_lacking: false,
            last: LastSeen::default(),
            watched: Watched::default(),
        }
    }

    fn link() -> HomeLink {
        let options = MqttOptions {
            host: "127.0.0.1".into(),
            port: 1,
            client_id: "x".into(),
            user: String::new(),
            password: String::new(),
            subscriptions: Vec::new(),
            tls: None,
            last_will: None,
            keep_alive_s: 5,
            max_packet_bytes: 1000,
        };
        let (handle, _) = MqttLink::start(options, CancellationToken::new());
        HomeLink {
            handle,
            state_topic: "state".into(),
            connections: watch::channel(0).1,
        }
    }

    #[tokio::test]
    async fn a_detail_is_described_once_it_was_seen_and_stays_so_after_a_restart() {
        let (dir, mut device) = (tempfile::tempdir().unwrap(), meter());
        let gateway = GatewayId::new("gw-1").unwrap();
        let start = |device: &Device| {
            let devices = std::slice::from_ref(device);
            HomeAssistant::new(link(), Some("ha"), &gateway, devices, dir.path())
        };
        let topics = |assistant: &HomeAssistant| -> Vec<String> {
            let topics = assistant.shown[0].config_topics("ha");
            topics
                .map(|t| t.split('/').nth(3).unwrap().to_owned())
                .collect()
        };
        let mut assistant = start(&device);
        let now_ms = 100_000;
        assistant.show(0, &device, now_ms);
        assert_eq!(topics(&assistant), ["import_wh", "export_wh", "power_w"]);
        let values = Values {
            details: [(Quantity::VoltageL1, 230_000)].into(),
            ..Values::default()
        };
        let sample = Sample {
            read_at: Timestamp::from_unix_s(100),
            values,
            identity: None,
        };
        device.last.update(&sample, now_ms);
        assistant.show(0, &device, now_ms);
        let all = ["import_wh", "export_wh", "power_w", "voltage_l1_mv"];
        assert_eq!(topics(&assistant), all);
        let payload = assistant.shown[0].payload(&device, now_ms);
        assert_eq!(payload["voltage_l1_mv"], 230_000);
        assert!(payload["power_w"].is_null(), "{payload}");
        let later = assistant.shown[0].payload(&device, now_ms + 31_000);
        assert!(later["voltage_l1_mv"].is_null(), "{later}");
        drop(assistant);
        assert_eq!(topics(&start(&meter())), all);
    }
}
