//! The gateway against a Modbus server that others wrote: pymodbus, where Python has it
//! (`COMMONWATT_PYTHON` names the interpreter). The meter's truth is known to the watt-hour.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use domain::quality::Quality;
use domain::reading::{Obis, Reading};
use meter_gateway::Gateway;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::gateway::{clock, config, device_config, emptied, platform, until};
use crate::platform::assert_whole;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/pymodbus_meter.py");
const SPEED: u32 = 60;
const POWER_W: i64 = 6000;
const BASE_WH: i64 = 1_000_000;
/// How far two programs' clocks and a busy machine may be apart, as energy.
const TOLERANCE_WH: i64 = 60;

struct Meter {
    process: Child,
    orders: ChildStdin,
    address: String,
    start_ms: i64,
}

impl Drop for Meter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Meter {
    /// None, with a printed reason, where there is no such pymodbus.
    fn start(start_ms: i64) -> Option<Self> {
        let python = std::env::var("COMMONWATT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let import = "from pymodbus.simulator import SimDevice";
        let has_it = Command::new(&python).args(["-c", import]).output();
        if !has_it.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: {python} has no pymodbus with a simulator");
            return None;
        }
        let mut process = Command::new(python)
            .args([SCRIPT, &start_ms.to_string(), &SPEED.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let said = process.stdout.take().unwrap();
        BufReader::new(said).read_line(&mut port).unwrap();
        Some(Meter {
            orders: process.stdin.take().unwrap(),
            process,
            address: format!("127.0.0.1:{}", port.trim()),
            start_ms,
        })
    }

    fn order(&mut self, fault: &str) {
        writeln!(self.orders, "{fault}").unwrap();
    }

    async fn suffer(&mut self, fault: &str, ms: u64) {
        self.order(fault);
        sleep(Duration::from_millis(ms)).await;
        self.order("none");
        // Five samples in a row confirm what came after a gap.
        sleep(Duration::from_millis(1700)).await;
    }

    fn check(&self, readings: &[Reading]) {
        for reading in readings {
            let since_ms = reading.interval.start().unix_ms() - self.start_ms;
            let truth = BASE_WH + POWER_W * since_ms / 3_600_000;
            let start = reading.registers[0].start.wh();
            assert!(
                (start - truth).abs() <= TOLERANCE_WH + 60,
                "{start} instead of {truth}"
            );
        }
        let (first, last) = (readings.first().unwrap(), readings.last().unwrap());
        let energies = readings
            .iter()
            .map(|r| r.energy(Obis::IMPORT).unwrap().wh());
        let counted: i64 = energies.sum();
        let ends = last.registers[0].end.wh() - first.registers[0].start.wh();
        let ms = last.interval.end().ms_since(first.interval.start());
        let truth = POWER_W * ms / 3_600_000;
        assert!(
            (counted - truth).abs() <= TOLERANCE_WH,
            "{counted} of {truth} Wh"
        );
        assert_eq!(counted, ends, "what the intervals add up to");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_meter_that_others_wrote_is_read_to_the_watt_hour_through_its_faults() {
    let clock = clock();
    let Some(mut meter) = Meter::start(clock.now().unix_ms()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let platform = platform(dir.path()).await;
    let device = device_config("home-1", "schneider-iem3000", Some(&meter.address));
    let config = config(dir.path(), &platform, vec![device]);
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config, clock, stop.clone()).await.unwrap();
    until("a first reading", || platform.count("home-1") > 1).await;
    for (fault, ms) in [
        ("zero", 400),
        ("nan", 400),
        ("step_back", 400),
        ("spike", 400),
        ("busy", 400),
        ("illegal", 400),
        ("late", 3000),
        ("frozen", 1500),
    ] {
        meter.suffer(fault, ms).await;
    }
    let errors = gateway.status().devices[0].errors.clone();
    for kind in ["busy", "exception", "timeout"] {
        assert!(errors.contains_key(kind), "no {kind} in {errors:?}");
    }
    let before = platform.count("home-1");
    meter.suffer("reset", 100).await;
    until("readings after the reset", || {
        platform.count("home-1") >= before + 4
    })
    .await;
    emptied(|| gateway.status()).await;
    stop.cancel();
    gateway.wait().await.unwrap();

    let readings = platform.chained("home-1");
    let first_era = readings[0].era;
    let (old, new): (Vec<_>, Vec<_>) = readings
        .into_iter()
        .partition(|r| r.era == first_era && !r.quality.has(Quality::RESET));
    assert_whole(&old);
    meter.check(&old);
    assert!(new.iter().any(|r| r.quality.has(Quality::RESET)));
    for reading in new {
        let wh = reading.energy(Obis::IMPORT).unwrap().wh();
        assert!((0..=POWER_W / 60 + TOLERANCE_WH).contains(&wh), "{wh} Wh");
    }
}
