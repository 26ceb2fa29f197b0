//! MQTT devices of every kind at the home's broker, through junk, repetitions, absences and a restart
//! of the broker: their energy arrives in the platform's books to the watt-hour.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use domain::reading::{Obis, Reading};
use meter_gateway::Gateway;
use meter_gateway::config::HomeMqttConfig;
use runtime::mqtt::{MqttHandle, QoS};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::gateway::{clock, config, device_config, emptied, platform, until};
use crate::home::{broker, home_mqtt, somebody_at};
use crate::platform::Platform;

/// What each counter shows at first, and what each report adds while there is load.
const BASE_WH: i64 = 1_000_000;
const STEP_WH: i64 = 37;
const LOAD_ROUNDS: i64 = 24;
/// Longer than reports are apart, and shorter than the gateway calls a gap.
const ROUND: Duration = Duration::from_millis(150);

/// A device: its name and point, its profile, its prefix, and what it says at a counter.
struct Speaker {
    name: &'static str,
    profile: &'static str,
    prefix: &'static str,
    report: fn(i64) -> Vec<(String, String)>,
    /// Its words for being there and not.
    presence: (&'static str, &'static str, &'static str),
}

fn own(topic: &str, payload: String) -> (String, String) {
    (topic.to_owned(), payload)
}

const SPEAKERS: [Speaker; 5] = [
    Speaker {
        name: "shelly",
        profile: "shelly-3em-gen1",
        prefix: "shellies/shellyem3-1",
        report: |wh| {
            let total = |phase: i64| if phase == 1 { wh - 1000 } else { 500 };
            let import = (0..3).map(|n| (format!("emeter/{n}/total"), format!("{}.0", total(n))));
            let back = (0..3).map(|n| (format!("emeter/{n}/total_returned"), "0.2".into()));
            let all = import.chain(back);
            all.map(|(t, p)| (format!("shellies/shellyem3-1/{t}"), p))
                .collect()
        },
        presence: ("shellies/shellyem3-1/online", "true", "false"),
    },
    Speaker {
        name: "tasmota",
        profile: "tasmota-energy",
        prefix: "cellar",
        report: |wh| {
            let kwh = format!("{}.{:03}", wh / 1000, wh % 1000);
            let text = format!(
                r#"{{"Time":"2026-06-21T10:15:00","ENERGY":{{"Total":{kwh},"Power":[5,6]}}}}"#
            );
            vec![own("tele/cellar/SENSOR", text)]
        },
        presence: ("tele/cellar/LWT", "Online", "Offline"),
    },
    Speaker {
        name: "goe",
        profile: "go-e-charger-mqtt",
        prefix: "go-eCharger/123456",
        report: |wh| {
            vec![
                own("go-eCharger/123456/car", "2".into()),
                own("go-eCharger/123456/eto", wh.to_string()),
            ]
        },
        presence: ("go-eCharger/123456/nothing", "", ""),
    },
    Speaker {
        name: "evse",
        profile: "openevse",
        prefix: "openevse-ab12",
        report: |wh| {
            let kwh = format!("{}.{:03}", wh / 1000, wh % 1000);
            vec![
                own("openevse-ab12/temp", "false".into()),
                own("openevse-ab12/total_energy", kwh),
            ]
        },
        presence: (
            "openevse/announce/ab12",
            r#"{"state":"connected","mqtt":"openevse-ab12"}"#,
            r#"{"state":"disconnected","mqtt":"openevse-ab12"}"#,
        ),
    },
    Speaker {
        name: "plug",
        profile: "zigbee2mqtt-meter",
        prefix: "zigbee2mqtt/plug",
        report: |wh| {
            let kwh = format!("{}.{:03}", wh / 1000, wh % 1000);
            vec![own(
                "zigbee2mqtt/plug",
                format!(r#"{{"energy":{kwh},"state":"ON"}}"#),
            )]
        },
        presence: (
            "zigbee2mqtt/plug/availability",
            r#"{"state":"online"}"#,
            "offline",
        ),
    },
];

/// The home's broker: ours, or Mosquitto.
enum HomeBroker {
    Own(SocketAddr, CancellationToken),
    Mosquitto(SocketAddr, Child, tempfile::TempDir),
}

impl Drop for HomeBroker {
    fn drop(&mut self) {
        match self {
            HomeBroker::Own(_, stop) => stop.cancel(),
            HomeBroker::Mosquitto(_, child, _) => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

fn spawn_mosquitto(dir: &std::path::Path) -> Child {
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(dir.join("mosquitto.conf"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

impl HomeBroker {
    async fn own() -> Self {
        let stop = CancellationToken::new();
        let address = broker(SocketAddr::from(([127, 0, 0, 1], 0)), &stop).await;
        HomeBroker::Own(address, stop)
    }

    /// None, with a printed reason, where Mosquitto is not installed.
    fn mosquitto() -> Option<Self> {
        if Command::new("mosquitto").arg("-h").output().is_err() {
            eprintln!("skipped: mosquitto is not installed");
            return None;
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let dir = tempfile::tempdir().unwrap();
        let port = address.port();
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n");
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        let child = spawn_mosquitto(dir.path());
        Some(HomeBroker::Mosquitto(address, child, dir))
    }

    fn config(&self) -> HomeMqttConfig {
        match self {
            HomeBroker::Own(address, _) => home_mqtt(*address),
            HomeBroker::Mosquitto(address, ..) => HomeMqttConfig {
                user: None,
                password: None,
                ..home_mqtt(*address)
            },
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            HomeBroker::Own(address, _) | HomeBroker::Mosquitto(address, ..) => *address,
        }
    }

    /// Everything that was retained is gone then.
    async fn restart(&mut self) {
        match self {
            HomeBroker::Own(address, stop) => {
                stop.cancel();
                sleep(Duration::from_millis(200)).await;
                *stop = CancellationToken::new();
                broker(*address, stop).await;
            }
            HomeBroker::Mosquitto(_, child, dir) => {
                child.kill().unwrap();
                child.wait().unwrap();
                *child = spawn_mosquitto(dir.path());
            }
        }
    }
}

struct Home {
    handle: MqttHandle,
}

impl Home {
    fn say(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) {
        let _ = self.handle.publish(topic, payload, QoS::AtMostOnce, retain);
    }

    fn report(&self, wh: i64) {
        for speaker in &SPEAKERS {
            for (topic, payload) in (speaker.report)(wh) {
                self.say(&topic, payload, false);
            }
        }
    }

    async fn steady(&self, wh: i64, until: impl Fn() -> bool) {
        for _ in 0..200 {
            if until() {
                return;
            }
            self.report(wh);
            sleep(ROUND).await;
        }
        panic!("no readings although every device reports");
    }

    /// What devices, brokers and people do, each of which must not become energy.
    fn misbehave(&self, round: i64, wh: i64) {
        for speaker in &SPEAKERS {
            let (topic, payload) = (speaker.report)(wh).pop().unwrap_or_default();
            match round % 6 {
                0 => self.say(&topic, "{ not json", false),
                1 => self.say(&topic, vec![b'9'; 20_000], false),
                2 => self.say(&topic, vec![b'{'; 100_000], false),
                // The last report once more, and half a report.
                3 => self.say(&topic, payload, false),
                4 => self.say(&topic, "null", false),
                _ => self.say(speaker.presence.0, speaker.presence.2, true),
            }
            if round % 6 == 5 {
                self.say(speaker.presence.0, speaker.presence.1, true);
            }
        }
        self.say("shellies/shellyem3-1/emeter/1/total", "5.0", false);
    }
}

/// All energy of a point, whose readings follow each other without a hole.
fn energy_wh(readings: &[Reading]) -> i64 {
    for pair in readings.windows(2) {
        assert_eq!(pair[0].interval.end(), pair[1].interval.start(), "a hole");
        assert_eq!(pair[0].registers[0].end, pair[1].registers[0].start);
    }
    let energy = readings
        .iter()
        .map(|r| r.energy(Obis::IMPORT).unwrap().wh());
    energy.sum()
}

async fn live_through(mut home_broker: HomeBroker) {
    let dir = tempfile::tempdir().unwrap();
    let platform: Platform = platform(dir.path()).await;
    let stop = CancellationToken::new();
    let (handle, _events) = somebody_at(home_broker.address(), "home", &[], &stop);
    let home = Home { handle };
    // Kept from another time, with other counters.
    for speaker in &SPEAKERS {
        for (topic, payload) in (speaker.report)(BASE_WH + 55_555) {
            home.say(&topic, payload, true);
        }
        home.say(speaker.presence.0, speaker.presence.1, true);
    }
    sleep(Duration::from_millis(300)).await;
    let devices = SPEAKERS.iter().map(|speaker| {
        let mut device = device_config(speaker.name, speaker.profile, None);
        device.prefix = Some(speaker.prefix.into());
        device
    });
    let mut config = config(dir.path(), &platform, devices.collect());
    config.home_mqtt = Some(home_broker.config());
    let gateway = Gateway::start(config, clock(), stop.clone()).await.unwrap();
    let everybody_has = |count: usize| SPEAKERS.iter().all(|s| platform.count(s.name) >= count);
    home.steady(BASE_WH, || everybody_has(2)).await;
    let mut wh = BASE_WH;
    for round in 0..LOAD_ROUNDS {
        home.misbehave(round, wh);
        wh += STEP_WH;
        sleep(ROUND).await;
        home.report(wh);
        if round == LOAD_ROUNDS / 2 {
            home_broker.restart().await;
            until("the broker is back", || {
                gateway.status().errors.contains_key("home_broker")
            })
            .await;
            sleep(Duration::from_millis(500)).await;
        }
    }
    let so_far: Vec<usize> = SPEAKERS.iter().map(|s| platform.count(s.name)).collect();
    let later = || {
        SPEAKERS
            .iter()
            .zip(&so_far)
            .all(|(s, n)| platform.count(s.name) >= n + 3)
    };
    home.steady(wh, later).await;
    emptied(|| gateway.status()).await;
    let status = gateway.status();
    stop.cancel();
    gateway.wait().await.unwrap();
    for (index, speaker) in SPEAKERS.iter().enumerate() {
        let readings = platform.checked(speaker.name);
        assert_eq!(
            energy_wh(&readings),
            STEP_WH * LOAD_ROUNDS,
            "{}",
            speaker.name
        );
        let errors = &status.devices[index].errors;
        assert!(
            errors.contains_key("payload"),
            "{}: {errors:?}",
            speaker.name
        );
        if !speaker.presence.2.is_empty() {
            assert!(
                errors.contains_key("offline"),
                "{}: {errors:?}",
                speaker.name
            );
        }
    }
    assert!(status.devices[0].errors.contains_key("incomplete"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn energy_of_mqtt_devices_is_counted_to_the_watt_hour() {
    live_through(HomeBroker::own().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn energy_of_mqtt_devices_is_counted_to_the_watt_hour_at_mosquitto() {
    if let Some(mosquitto) = HomeBroker::mosquitto() {
        live_through(mosquitto).await;
    }
}

/// A client of Mosquitto at the home's broker, in the older protocol that devices speak.
fn foreign_client(program: &str, address: SocketAddr, rest: &[&str]) -> Command {
    let port = address.port().to_string();
    let mut command = Command::new(program);
    command.args([
        "-V",
        "311",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-u",
        "home",
        "-P",
        "secret",
    ]);
    command
        .args(rest)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_of_the_older_protocol_is_heard_and_its_last_will_is_its_absence() {
    if Command::new("mosquitto_pub")
        .arg("--help")
        .output()
        .is_err()
    {
        eprintln!("skipped: mosquitto_pub is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let home_broker = HomeBroker::own().await;
    let address = home_broker.address();
    let platform = platform(dir.path()).await;
    let mut shelly = device_config("home-1", "shelly-pro-3em", None);
    shelly.prefix = Some("shelly".into());
    let mut config = config(dir.path(), &platform, vec![shelly]);
    config.home_mqtt = Some(home_broker.config());
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config, clock(), stop.clone()).await.unwrap();
    let will = ["-t", "shelly/command", "-i", "shelly", "-k", "5"];
    let mut device = foreign_client("mosquitto_sub", address, &will)
        .args([
            "--will-topic",
            "shelly/online",
            "--will-payload",
            "false",
            "--will-retain",
        ])
        .spawn()
        .unwrap();
    let report = r#"{"id":0,"total_act":1000.5,"total_act_ret":0.0}"#;
    until("samples", || {
        let message = ["-t", "shelly/status/emdata:0", "-m", report];
        let said = foreign_client("mosquitto_pub", address, &message).status();
        said.unwrap().success() && gateway.status().devices[0].samples > 2
    })
    .await;
    assert_eq!(gateway.status().devices[0].errors.get("offline"), None);
    device.kill().unwrap();
    device.wait().unwrap();
    until("the last will", || {
        gateway.status().devices[0].errors.contains_key("offline")
    })
    .await;
    stop.cancel();
    gateway.wait().await.unwrap();
}
