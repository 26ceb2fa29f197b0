//! Whole gateways: from a device's registers to the platform's books.

use std::path::Path;
use std::time::Duration;

use domain::ids::{CommunityId, GatewayId, PointId};
use domain::quality::Quality;
use domain::reading::{ClockState, Obis, Reading};
use domain::signed::PublicKey;
use domain::time::Timestamp;
use meter_gateway::config::{DeviceConfig, MqttConfig, Role};
use meter_gateway::{Config, Gateway, GatewayError, Status, open_key};
use runtime::clock::Clock;
use runtime::mqtt::QoS;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::device::{Device, Fault, Make, POWER_W};
use crate::platform::{COMMUNITY, GATEWAY, Mode, Platform, link};

const SPEED: u32 = 60;
const INTERVAL_S: u32 = 60;
const RATING_W: u32 = 20_000;
/// How far a time stamp may be off on a busy machine, as energy.
const TOLERANCE_WH: i64 = 40;

pub(crate) fn clock() -> Clock {
    Clock::scaled(Timestamp::from_unix_s(1_782_000_000), SPEED)
}

pub(crate) fn device_config(name: &str, profile: &str, address: Option<&str>) -> DeviceConfig {
    DeviceConfig {
        charge_point: None,
        name: name.into(),
        profile: profile.into(),
        point: PointId::new(name).unwrap(),
        role: Role::Connection,
        rating_w: RATING_W,
        address: address.map(Into::into),
        unit: None,
        connector: None,
        prefix: None,
        settle_integrated_power: false,
        limits: None,
    }
}

pub(crate) fn config(dir: &Path, platform: &Platform, devices: Vec<DeviceConfig>) -> Config {
    Config {
        community: CommunityId::new(COMMUNITY).unwrap(),
        gateway: GatewayId::new(GATEWAY).unwrap(),
        data_dir: dir.to_owned(),
        profile_dir: None,
        interval_length_s: INTERVAL_S,
        poll_interval_s: 10,
        clock_error_ms: 1000,
        operator_key: PublicKey::of(&platform.operator),
        cosign_ledger: true,
        mqtt: MqttConfig {
            host: platform.address.ip().to_string(),
            port: Some(platform.address.port()),
            user: GATEWAY.into(),
            password: Some("secret".into()),
            password_file: None,
            allow_plaintext: false,
            history_per_s: 1000,
            tls: None,
        },
        home_mqtt: None,
        home_assistant: None,
        ocpp: None,
        metrics: None,
        clock: None,
        devices,
    }
}

pub(crate) async fn platform(dir: &Path) -> Platform {
    Platform::start(PublicKey::of(&open_key(dir).unwrap())).await
}

/// Waits until `ready`, and fails loudly after half a minute.
pub(crate) async fn until(what: &str, ready: impl Fn() -> bool) {
    let waiting = async {
        while !ready() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        timeout(Duration::from_secs(30), waiting).await.is_ok(),
        "{what} did not happen"
    );
}

pub(crate) async fn emptied(status: impl Fn() -> Status) {
    until("an empty outbox", || status().waiting == 0).await;
}

/// The readings' energy is the counter's difference, and no interval has a spike.
fn check_energy(readings: &[Reading], device: &Device) {
    for reading in readings {
        let wh = reading.energy(Obis::IMPORT).unwrap().wh();
        let most = i64::from(RATING_W) * i64::from(INTERVAL_S) / 3600;
        assert!(wh <= most, "{wh} Wh in {}", reading.interval);
        let start = reading.registers[0].start.wh();
        let truth = device.true_wh(reading.interval.start());
        // Before a frozen counter is noticed, up to 50 Wh may be missing for a while.
        assert!(
            (start - truth).abs() <= TOLERANCE_WH + 60,
            "{start} instead of {truth}"
        );
    }
    let (first, last) = (readings.first().unwrap(), readings.last().unwrap());
    let counted = last.registers[0].end.wh() - first.registers[0].start.wh();
    let hours_ms = last.interval.end().ms_since(first.interval.start());
    let truth = POWER_W * hours_ms / 3_600_000;
    assert!(
        (counted - truth).abs() <= TOLERANCE_WH,
        "{counted} Wh instead of {truth} Wh"
    );
}

/// One fault after the other, each followed by a little health.
async fn suffer(device: &Device, platform: &Platform) {
    let faults = [
        (Fault::Zero, 400),
        (Fault::NotANumber, 400),
        (Fault::StepBack, 400),
        (Fault::OneWordShort, 400),
        (Fault::Busy, 400),
        (Fault::IllegalAddress, 400),
        (Fault::Late, 1600),
        (Fault::Frozen(0), 1500),
    ];
    for (fault, ms) in faults {
        device.set(match fault {
            Fault::Frozen(_) => Fault::Frozen(device.now_wh()),
            other => other,
        });
        platform.answer(if fault == Fault::Zero {
            Mode::Silent
        } else {
            Mode::Late
        });
        sleep(Duration::from_millis(ms)).await;
        device.set(Fault::None);
        // Five samples in a row confirm what came after a gap.
        sleep(Duration::from_millis(1700)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_interval_arrives_once_through_faults_silence_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let device = Device::start(&clock, Make::Sdm630).await;
    let mut platform = platform(dir.path()).await;
    let meter = device_config("home-1", "eastron-sdm630", Some(&device.address));
    let config = config(dir.path(), &platform, vec![meter]);
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config.clone(), clock.clone(), stop.clone())
        .await
        .unwrap();
    let second = Gateway::start(config.clone(), clock.clone(), stop.clone()).await;
    assert!(
        matches!(second, Err(GatewayError::Running(_))),
        "one chain, one signer"
    );
    until("a first reading", || platform.count("home-1") > 0).await;

    suffer(&device, &platform).await;
    let errors = gateway.status().devices[0].errors.clone();
    for kind in ["word_count", "busy", "exception", "timeout"] {
        assert!(errors.contains_key(kind), "no {kind} in {errors:?}");
    }

    platform.stop_broker();
    sleep(Duration::from_millis(1100)).await;
    let before = platform.count("home-1");
    stop.cancel();
    gateway.wait().await.unwrap();
    sleep(Duration::from_millis(1100)).await;
    platform.answer(Mode::Answer);
    platform.start_broker().await;
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config, clock, stop.clone()).await.unwrap();
    until("the time in between", || {
        platform.count("home-1") >= before + 5
    })
    .await;
    emptied(|| gateway.status()).await;
    stop.cancel();
    gateway.wait().await.unwrap();

    let readings = platform.checked("home-1");
    check_energy(&readings, &device);
    let seen = readings
        .iter()
        .fold(Quality::default(), |all, r| all.with(r.quality));
    for mark in [Quality::GAP, Quality::OUT_OF_RANGE, Quality::STALE] {
        assert!(seen.has(mark), "no {mark} in {seen}");
    }
    assert!(
        readings
            .iter()
            .all(|r| r.clock.state == ClockState::Relative)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_again_and_again_loses_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let device = Device::start(&clock, Make::Sdm630).await;
    let platform = platform(dir.path()).await;
    let meter = device_config("home-1", "eastron-sdm630", Some(&device.address));
    let config = config(dir.path(), &platform, vec![meter]);
    for round in 0_u64..4 {
        // The platform hears nothing in every other life, and answers nothing in the next.
        platform.answer(if round.is_multiple_of(2) {
            Mode::Deaf
        } else {
            Mode::Silent
        });
        let start = Gateway::start(config.clone(), clock.clone(), CancellationToken::new());
        let gateway = start.await.unwrap();
        let wanted = 2;
        until("some readings", || {
            gateway.status().readings_signed >= wanted
        })
        .await;
        sleep(Duration::from_millis(37 * round)).await;
        // All tasks are torn down wherever they are.
        drop(gateway);
        sleep(Duration::from_millis(300)).await;
    }
    platform.answer(Mode::Answer);
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config, clock, stop.clone()).await.unwrap();
    until("the rest", || platform.count("home-1") >= 9).await;
    emptied(|| gateway.status()).await;
    stop.cancel();
    gateway.wait().await.unwrap();
    check_energy(&platform.checked("home-1"), &device);
    assert!(
        platform.books.lock().unwrap().repeats > 0,
        "silence makes it send again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_reading_is_put_aside_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let device = Device::start(&clock, Make::Sdm630).await;
    let platform = platform(dir.path()).await;
    platform.answer(Mode::Reject(1));
    let meter = device_config("home-1", "eastron-sdm630", Some(&device.address));
    let config = config(dir.path(), &platform, vec![meter]);
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config, clock, stop.clone()).await.unwrap();
    until("two readings", || platform.count("home-1") >= 2).await;
    until("the refusal", || gateway.status().refused == 1).await;
    emptied(|| gateway.status()).await;
    stop.cancel();
    gateway.wait().await.unwrap();
    let books = platform.books.lock().unwrap();
    assert_eq!(books.violations, Vec::<String>::new());
    assert!(books.readings.keys().all(|(_, sequence)| *sequence > 1));
    assert_eq!(books.states.last().unwrap()["state"], "offline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_device_holds_up_no_other_and_mqtt_devices_are_heard() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let device = Device::start(&clock, Make::Sdm630).await;
    let dead = Device::start(&clock, Make::Sdm630).await;
    dead.set(Fault::Silent);
    let platform = platform(dir.path()).await;
    let mut shelly = device_config("home-3", "shelly-pro-3em", None);
    shelly.prefix = Some("shelly/3em".into());
    let devices = vec![
        device_config("home-1", "eastron-sdm630", Some(&device.address)),
        device_config("home-2", "eastron-sdm630", Some(&dead.address)),
        shelly,
    ];
    let config = config(dir.path(), &platform, devices);
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config, clock.clone(), stop.clone())
        .await
        .unwrap();
    let (handle, _events) = link(platform.address, "shelly", &[], &stop);
    let say = |topic: &str, text: String, retain: bool| {
        handle
            .publish(format!("shelly/3em/{topic}"), text, QoS::AtMostOnce, retain)
            .unwrap();
    };
    until("a connection", || gateway.status().connected).await;
    until("readings of both", || {
        let wh = device.now_wh();
        say(
            "status/emdata:0",
            format!(r#"{{"total_act":{wh}.25,"total_act_ret":12.5}}"#),
            false,
        );
        std::thread::sleep(Duration::from_millis(150));
        platform.count("home-1") >= 3 && platform.count("home-3") >= 2
    })
    .await;
    say("status/em:0", r#"{"total_act_power":-77.4}"#.into(), false);
    let live = |name: &str| {
        let books = platform.books.lock().unwrap();
        books
            .live
            .iter()
            .rev()
            .find(|l| l["device"] == name)
            .cloned()
            .unwrap_or_default()
    };
    until("live values", || live("home-3")["power_w"] == -77).await;
    until("silence is seen", || live("home-3")["import_wh"].is_null()).await;
    assert_eq!(live("home-1")["power_w"], POWER_W);
    assert!(live("home-2")["power_w"].is_null() && live("home-2")["quality"] == "missing");
    let status = gateway.status();
    assert!(status.devices[1].errors["timeout"] >= 2 && status.devices[1].samples == 0);
    emptied(|| gateway.status()).await;
    stop.cancel();
    gateway.wait().await.unwrap();
    check_energy(&platform.checked("home-1"), &device);
    assert_eq!(platform.checked("home-2"), []);
    assert!(
        platform
            .checked("home-3")
            .iter()
            .all(|r| r.registers.len() == 2)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_outbox_keeps_its_readings_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let device = Device::start(&clock, Make::Sdm630).await;
    let platform = platform(dir.path()).await;
    let meter = device_config("home-1", "eastron-sdm630", Some(&device.address));
    let config = config(dir.path(), &platform, vec![meter]);
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config.clone(), clock.clone(), stop.clone())
        .await
        .unwrap();
    until("readings", || platform.count("home-1") >= 2).await;
    stop.cancel();
    gateway.wait().await.unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        if file.file_name().to_string_lossy().starts_with("gateway.db") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    let known = platform.count("home-1");
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config, clock, stop.clone()).await.unwrap();
    until("the warning", || {
        gateway.status().errors.contains_key("outbox_older")
    })
    .await;
    until("more readings than before", || {
        platform.count("home-1") > known
    })
    .await;
    let kept = i64::try_from(known).unwrap();
    until("all of them kept", || gateway.status().waiting > kept).await;
    let status = gateway.status();
    assert_eq!((status.acceptances, status.refused), (0, 0));
    stop.cancel();
    gateway.wait().await.unwrap();
}
