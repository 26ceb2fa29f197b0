//! What Home Assistant sees of a gateway at the home's broker: ours, and Mosquitto where it is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meter_gateway::Gateway;
use meter_gateway::config::{HomeAssistantConfig, HomeMqttConfig};
use runtime::mqtt::MqttEvent;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::device::{Device, Fault, Make};
use crate::gateway::{clock, config, device_config, platform, until};
use crate::home::{broker, home_mqtt, somebody_at};
use crate::platform::Platform;

const LIVE: &str = "commonwatt/gw-1/home-1/live";
const IMPORT: &str = "homeassistant/sensor/commonwatt_gw-1_home-1/import_wh/config";
const POWER: &str = "homeassistant/sensor/commonwatt_gw-1_home-1/power_w/config";
const GONE: &str = "homeassistant/sensor/commonwatt_gw-1_home-2/import_wh/config";

/// The newest message of every topic, and the smallest import that was ever shown.
#[derive(Default)]
struct Seen {
    newest: BTreeMap<String, Vec<u8>>,
    least_import_wh: Option<i64>,
}

#[derive(Clone, Default)]
struct Assistant(Arc<Mutex<Seen>>);

impl Assistant {
    fn start(address: SocketAddr, stop: &CancellationToken) -> Self {
        let assistant = Assistant::default();
        let topics = ["homeassistant/#", "commonwatt/#"];
        let (handle, mut events) = somebody_at(address, "assistant", &topics, stop);
        let seen = assistant.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let MqttEvent::Message { topic, payload, .. } = event {
                    seen.take(topic, payload);
                }
            }
            drop(handle);
        });
        assistant
    }

    fn take(&self, topic: String, payload: Vec<u8>) {
        let mut seen = self.0.lock().unwrap();
        if topic == LIVE {
            let value: Value = serde_json::from_slice(&payload).unwrap();
            let import = value["import_wh"].as_i64();
            seen.least_import_wh = [seen.least_import_wh, import].into_iter().flatten().min();
        }
        seen.newest.insert(topic, payload);
    }

    fn newest(&self, topic: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().newest.get(topic).cloned()
    }

    fn json(&self, topic: &str) -> Value {
        let payload = self.newest(topic).filter(|payload| !payload.is_empty());
        payload.map_or(Value::Null, |p| serde_json::from_slice(&p).unwrap())
    }

    fn shows(&self, key: &str) -> bool {
        self.json(LIVE)[key].is_number()
    }

    /// Whether the newest message has the key, and null in it.
    fn lacks(&self, topic: &str, key: &str) -> bool {
        self.json(topic).get(key).is_some_and(Value::is_null)
    }
}

/// Renders the templates as Home Assistant would, where Jinja is there.
fn check_templates(assistant: &Assistant) {
    const RENDER: &str = "\
import json, sys
try:
    import jinja2
except ImportError:
    print('skipped: no jinja2'); sys.exit(0)
template, live = sys.argv[1:]
values = json.loads(live)
env = jinja2.Environment()
shown = env.from_string(template).render(value_json=values)
missing = env.from_string(template).render(value_json=dict.fromkeys(values))
assert float(shown) > 0, shown
assert missing == 'None', missing
";
    for topic in [IMPORT, POWER] {
        let template = assistant.json(topic)["value_template"]
            .as_str()
            .unwrap()
            .to_owned();
        let live = assistant.json(LIVE).to_string();
        let ran = Command::new("python3")
            .args(["-c", RENDER, &template, &live])
            .output();
        let Ok(ran) = ran else {
            return eprintln!("skipped: there is no python3");
        };
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{template} on {live}: {said}");
    }
}

async fn in_a_home(address: SocketAddr, home: HomeMqttConfig, dir: &std::path::Path) {
    let stop = CancellationToken::new();
    let assistant = Assistant::start(address, &stop);
    let clock = clock();
    let device = Device::start(&clock, Make::Sdm630).await;
    let platform: Platform = platform(dir).await;
    let meter = device_config("home-1", "eastron-sdm630", Some(&device.address));
    let other = device_config("home-2", "eastron-sdm630", Some("127.0.0.1:1"));
    let mut config = config(dir, &platform, vec![meter, other]);
    config.home_mqtt = Some(home);
    let discovery_prefix = "homeassistant".to_owned();
    config.home_assistant = Some(HomeAssistantConfig { discovery_prefix });

    let life = CancellationToken::new();
    let gateway = Gateway::start(config.clone(), clock.clone(), life.clone())
        .await
        .unwrap();
    until("descriptions", || assistant.newest(GONE).is_some()).await;
    let description = assistant.json(IMPORT);
    assert_eq!(description["device_class"], "energy");
    assert_eq!(description["state_class"], "total_increasing");
    assert_eq!(description["state_topic"], LIVE);
    assert_eq!(description["availability_topic"], "commonwatt/gw-1/state");
    assert_eq!(assistant.json(POWER)["state_class"], "measurement");
    until("values", || {
        assistant.shows("import_wh") && assistant.shows("power_w")
    })
    .await;
    check_templates(&assistant);
    let absent = "commonwatt/gw-1/home-2/live";
    until("null from the start", || {
        assistant.lacks(absent, "import_wh")
    })
    .await;

    device.set(Fault::Zero);
    until("null instead of 0", || {
        assistant.lacks(LIVE, "import_wh") && assistant.shows("power_w")
    })
    .await;
    device.set(Fault::None);
    until("the counter again", || assistant.shows("import_wh")).await;
    device.set(Fault::Silent);
    until("old values are null", || {
        assistant.lacks(LIVE, "import_wh") && assistant.lacks(LIVE, "power_w")
    })
    .await;
    let least_wh = assistant.0.lock().unwrap().least_import_wh;
    assert!(least_wh.unwrap() >= crate::device::BASE_WH, "{least_wh:?}");

    life.cancel();
    gateway.wait().await.unwrap();
    until("absence", || {
        assistant.newest("commonwatt/gw-1/state").as_deref() == Some(b"offline")
    })
    .await;
    config.devices.truncate(1);
    let gateway = Gateway::start(config, clock, stop.clone()).await.unwrap();
    until("the removed device is taken back", || {
        assistant
            .newest(GONE)
            .is_some_and(|payload| payload.is_empty())
    })
    .await;
    let late = Assistant::start(address, &stop);
    until("retained descriptions", || late.newest(IMPORT).is_some()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        late.newest(GONE),
        None,
        "nothing is kept of the removed device"
    );
    stop.cancel();
    gateway.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn home_assistant_sees_null_instead_of_glitches_and_forgets_removed_devices() {
    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let address = broker(SocketAddr::from(([127, 0, 0, 1], 0)), &stop).await;
    in_a_home(address, home_mqtt(address), dir.path()).await;
    stop.cancel();
}

/// A program that ends with its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_with_mosquitto_in_the_home() {
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let settings = dir.path().join("mosquitto.conf");
    let text = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\n",
        address.port()
    );
    std::fs::write(&settings, text).unwrap();
    let mosquitto = Command::new("mosquitto")
        .args(["-c", settings.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn();
    let Ok(mosquitto) = mosquitto else {
        return eprintln!("skipped: mosquitto is not installed");
    };
    let _mosquitto = Killed(mosquitto);
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let home = HomeMqttConfig {
        user: None,
        password: None,
        ..home_mqtt(address)
    };
    let data = dir.path().join("data");
    in_a_home(address, home, &data).await;
}
