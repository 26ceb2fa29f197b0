//! A day without broker, a day without platform, and a gateway that is killed at any moment: every
//! interval arrives once.
//!
//! The gateway is a process of its own, this test binary again, so that it can be killed as a power
//! cut would. Model time runs fast: a day of quarter hours takes 48 s, which is done where
//! `COMMONWATT_SLOW` is set; else the outages are six intervals long.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use domain::signed::PublicKey;
use domain::time::Timestamp;
use meter_gateway::{Config, Gateway, open_key};
use runtime::clock::Clock;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::device::{Device, Make};
use crate::gateway::{config, device_config, until};
use crate::platform::Platform;

/// Half a second is a quarter of an hour.
const SPEED: u32 = 1800;
const INTERVAL: Duration = Duration::from_millis(500);
const START_S: i64 = 1_782_000_000;
const CONFIG: &str = "COMMONWATT_TEST_GATEWAY";
const SINCE: &str = "COMMONWATT_TEST_SINCE_MS";
/// A stamp may be off by a few hundred real milliseconds on a busy machine.
const TOLERANCE_WH: i64 = 2_000;

/// Model time since the test began; the same in all its processes.
fn clock(since_ms: i64) -> Clock {
    let passed_ms = Clock::system().now().unix_ms() - since_ms;
    let model_ms = START_S * 1000 + passed_ms * i64::from(SPEED);
    Clock::scaled(Timestamp::from_unix_ms(model_ms), SPEED)
}

/// The gateway's process; nothing where it is run as a test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_of_a_gateway() {
    let (Ok(file), Ok(since_ms)) = (std::env::var(CONFIG), std::env::var(SINCE)) else {
        return;
    };
    let text = std::fs::read_to_string(&file).unwrap();
    let config = Config::from_toml(&text, &file).unwrap();
    let clock = clock(since_ms.parse().unwrap());
    let gateway = Gateway::start(config, clock, CancellationToken::new()).await;
    gateway.unwrap().wait().await.unwrap();
}

fn spawn(dir: &Path, since_ms: i64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "outage::the_process_of_a_gateway"])
        .env(CONFIG, dir.join("gateway.toml"))
        .env(SINCE, since_ms.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// A gateway that is killed again and again, at moments that look random.
struct Victim<'a> {
    dir: &'a Path,
    since_ms: i64,
    child: Child,
    kills: u64,
}

impl Victim<'_> {
    /// Lets it run for so long, killing it every 0.3 to 2.3 s.
    async fn suffer(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.kills += 1;
            let life = Duration::from_millis(300 + self.kills * 7919 % 2000);
            sleep(life.min(end - Instant::now())).await;
            self.child.kill().await.unwrap();
            self.child = spawn(self.dir, self.since_ms);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_without_broker_and_a_day_without_platform_cost_no_interval() {
    let slow = std::env::var_os("COMMONWATT_SLOW").is_some();
    let intervals = if slow { 96 } else { 6 };
    let outage = INTERVAL * intervals;
    let dir = tempfile::tempdir().unwrap();
    let since_ms = Clock::system().now().unix_ms();
    let device = Device::start(&clock(since_ms), Make::Sdm630).await;
    let mut platform = Platform::start(PublicKey::of(&open_key(dir.path()).unwrap())).await;
    let meter = device_config("home-1", "eastron-sdm630", Some(&device.address));
    let mut config = config(dir.path(), &platform, vec![meter]);
    (config.interval_length_s, config.poll_interval_s) = (900, 225);
    std::fs::write(dir.path().join("gateway.toml"), config.to_toml().unwrap()).unwrap();
    let mut gateway = Victim {
        dir: dir.path(),
        since_ms,
        child: spawn(dir.path(), since_ms),
        kills: 0,
    };
    until("first readings", || platform.count("home-1") > 1).await;

    gateway.suffer(INTERVAL * 4).await;
    platform.kill_broker();
    gateway.suffer(outage).await;
    platform.start_broker().await;
    gateway.suffer(INTERVAL * 4).await;
    platform.close();
    gateway.suffer(outage).await;
    platform.open();
    // Broker and gateway die together, too.
    for _ in 0..3 {
        platform.kill_broker();
        gateway.suffer(INTERVAL).await;
        platform.start_broker().await;
        sleep(INTERVAL).await;
    }
    gateway.child.kill().await.unwrap();

    let stop = CancellationToken::new();
    let last = Gateway::start(config, clock(since_ms), stop.clone())
        .await
        .unwrap();
    let passed = usize::try_from(Clock::system().now().unix_ms() - since_ms).unwrap() / 500;
    let most_waited = Instant::now() + Duration::from_secs(90);
    while platform.count("home-1") + 3 < passed || last.status().waiting > 0 {
        let (count, status) = (platform.count("home-1"), last.status());
        assert!(
            Instant::now() < most_waited,
            "{count} of {passed}, {status:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    last.wait().await.unwrap();
    let readings = platform.checked("home-1");
    assert!(
        readings.len() + 3 >= passed,
        "{} of {passed}",
        readings.len()
    );
    for edge in [
        readings.first().unwrap().interval.start(),
        readings.last().unwrap().interval.start(),
    ] {
        let reading = readings
            .iter()
            .find(|r| r.interval.start() == edge)
            .unwrap();
        let (said, truth) = (reading.registers[0].start.wh(), device.true_wh(edge));
        assert!(
            (said - truth).abs() <= TOLERANCE_WH,
            "{said} Wh instead of {truth} Wh"
        );
    }
    println!(
        "{} kills, {} intervals, each once",
        gateway.kills,
        readings.len()
    );
}
