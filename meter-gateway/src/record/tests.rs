//! What is stored together, what is not, and what each device goes on from.

use domain::energy::Energy;
use domain::quality::Quality;
use domain::reading::Reading;
use domain::signed::{Signed, SigningKey};
use domain::time::Timestamp;
use runtime::args;
use runtime::mqtt::{MqttLink, MqttOptions};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::config::Config;
use crate::device::Values;
use crate::service;
use crate::spool::tests::set_pages_max;

const HEAD: &str = r#"
community = "elm-street"
gateway = "gw-1"
data_dir = "state"
interval_length_s = 60
poll_interval_s = 10
operator_key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
mqtt = { host = "127.0.0.1", user = "gw-1" }
"#;
/// An interval's edge.
const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);
/// Time between two samples.
const STEP_S: i64 = 30;
/// What every meter counts in that time.
const STEP_WH: i64 = 100;

fn offline() -> Live {
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
    Live::new(handle, "live".into(), Arc::new(AtomicBool::new(false)))
}

/// A recorder of so many meters over an outbox of so many readings.
async fn recorder(dir: &Path, meters: usize, max_rows: i64) -> Recorder {
    let mut text = HEAD.to_owned();
    for n in 0..meters {
        write!(
            text,
            "[[devices]]\nname = \"m-{n}\"\nprofile = \"eastron-sdm630\"\npoint = \"p-{n}\"\n\
             role = \"connection\"\nrating_w = 17000\naddress = \"127.0.0.1:1502\"\nunit = {}\n",
            n + 1
        )
        .unwrap();
    }
    let config = Config::from_toml(&text, "gateway.toml").unwrap();
    let schedule = Schedule::new(10, 60, 1);
    let key = SigningKey::from_bytes(&[5; 32]);
    let devices = service::devices(&config, Some(&key), schedule).unwrap();
    let status = Shared::default();
    let one = || crate::status::DeviceStatus::default();
    status.update(|s| s.devices = devices.iter().map(|_| one()).collect());
    Recorder {
        clock: Clock::scaled(START, 1),
        clock_error_ms: 1000,
        time_source: TimeSource::default(),
        spool: Spool::open(dir, max_rows).await.unwrap(),
        live: offline(),
        wake: Arc::default(),
        status,
        devices,
        schedule,
        home_assistant: None,
    }
}

impl Recorder {
    /// Every meter's sample number `step`, all of them taken in together.
    async fn step(&mut self, step: i64) {
        let values = Values {
            import: Some(Energy::from_wh(1_000 + step * STEP_WH)),
            export: Some(Energy::from_wh(0)),
            ..Values::default()
        };
        let sample = Sample {
            read_at: START.plus_s(step * STEP_S),
            values,
            identity: None,
        };
        let report = |device| Report::new(device, Ok(sample.clone()), &self.clock);
        let mut reports = (0..self.devices.len()).map(report).collect();
        self.take(&mut reports).await;
        assert!(reports.is_empty());
    }

    /// The readings in the outbox, point by point.
    async fn stored(&self) -> Vec<(String, Reading)> {
        let sql = "SELECT point, message FROM gateway_outbox ORDER BY point, sequence";
        let rows: Vec<(String, Vec<u8>)> = self.spool.db().fetch_all(sql, args![]).await.unwrap();
        let open = |(point, bytes)| (point, Signed::from_bytes(bytes).stored().unwrap());
        rows.into_iter().map(open).collect()
    }
}

/// Energy of a point's readings, which must be a chain without a hole.
fn sum_wh(stored: &[(String, Reading)], point: &str) -> i64 {
    let own: Vec<&Reading> = stored
        .iter()
        .filter(|(of, _)| of == point)
        .map(|(_, reading)| reading)
        .collect();
    for pair in own.windows(2) {
        assert_eq!(pair[0].sequence + 1, pair[1].sequence);
        assert_eq!(pair[0].interval.end(), pair[1].interval.start());
    }
    own.iter()
        .map(|r| r.registers[0].end.wh() - r.registers[0].start.wh())
        .sum()
}

#[tokio::test]
async fn samples_of_one_device_that_wait_together_are_measured_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = recorder(dir.path(), 1, 100).await;
    let mut reports = Vec::new();
    for step in 0..6 {
        let values = Values {
            import: Some(Energy::from_wh(step * STEP_WH)),
            ..Values::default()
        };
        let read_at = START.plus_s(step * STEP_S);
        let outcome = Ok(Sample {
            read_at,
            values,
            identity: None,
        });
        reports.push(Report::new(0, outcome, &recorder.clock));
    }
    recorder.take(&mut reports).await;
    let stored = recorder.stored().await;
    assert_eq!(
        (stored.len(), sum_wh(&stored, "p-0")),
        (2, 4 * STEP_WH),
        "{stored:?}"
    );
    assert_eq!(recorder.status.get().readings_signed, 2);
}

#[tokio::test]
async fn what_fits_a_nearly_full_outbox_is_stored_and_the_others_lose_no_energy() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = recorder(dir.path(), 5, 3).await;
    for step in 0..=5 {
        recorder.step(step).await;
    }
    let stored = recorder.stored().await;
    let points: Vec<&str> = stored.iter().map(|(point, _)| point.as_str()).collect();
    assert_eq!(points, ["p-0", "p-1", "p-2"], "what fits");
    recorder.spool.close().await;
    recorder.spool = Spool::open(dir.path(), 100).await.unwrap();
    for step in 6..=11 {
        recorder.step(step).await;
    }
    let stored = recorder.stored().await;
    for n in 0..5 {
        assert_eq!(sum_wh(&stored, &format!("p-{n}")), 10 * STEP_WH);
    }
}

#[tokio::test]
async fn a_point_whose_reading_is_there_already_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = recorder(dir.path(), 3, 100).await;
    let mut tx = recorder.spool.db().begin().await.unwrap();
    let odd = "INSERT INTO gateway_outbox (point, sequence, interval_start_s, message)
        VALUES ('p-1', 1, 0, $1)";
    tx.execute(odd, args![vec![0_u8]]).await.unwrap();
    tx.commit().await.unwrap();
    for step in 0..=5 {
        recorder.step(step).await;
    }
    for (point, next) in [("p-0", 3), ("p-1", 1), ("p-2", 3)] {
        let point = domain::ids::PointId::new(point).unwrap();
        let state = recorder.spool.load(&point).await.unwrap();
        assert_eq!(state.chain.next_sequence, next, "{point}");
    }
}

/// Lets every commit fail from now on, and after that none.
async fn set_commits(spool: &Spool, fail: bool) {
    let doomed = [
        "CREATE TABLE absent (id INTEGER PRIMARY KEY)",
        "CREATE TABLE doomed (id INTEGER REFERENCES absent (id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TRIGGER doom AFTER UPDATE ON gateway_point
            BEGIN INSERT INTO doomed VALUES (1); END",
    ];
    let spared = ["DROP TRIGGER doom"];
    let mut tx = spool.db().begin().await.unwrap();
    for sql in if fail { &doomed[..] } else { &spared[..] } {
        tx.execute(sql, args![]).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn after_a_failed_commit_every_state_is_read_again_and_no_energy_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = recorder(dir.path(), 3, 1_000).await;
    for step in 0..=7 {
        recorder.step(step).await;
    }
    set_commits(&recorder.spool, true).await;
    let mut step = 8;
    while !recorder.status.get().errors.contains_key("outbox") {
        assert!(step < 20, "no commit fails");
        recorder.step(step).await;
        step += 1;
    }
    let is_unknown =
        |device: &Device| device.state.is_none() && device.watched.last == device.watched.stored;
    assert!(recorder.devices.iter().all(is_unknown));
    set_commits(&recorder.spool, false).await;
    for step in step..=21 {
        recorder.step(step).await;
    }
    let stored = recorder.stored().await;
    for n in 0..3 {
        assert_eq!(sum_wh(&stored, &format!("p-{n}")), 20 * STEP_WH);
    }
}

#[tokio::test]
async fn what_a_full_disk_refuses_has_not_happened_and_no_energy_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = recorder(dir.path(), 40, 10_000).await;
    for step in 0..=7 {
        recorder.step(step).await;
    }
    set_pages_max(&recorder.spool, "PRAGMA max_page_count = 1").await;
    let mut step = 8;
    let known = |recorder: &Recorder| -> Vec<_> {
        let devices = recorder.devices.iter();
        devices.map(|d| (d.state.clone(), d.watched)).collect()
    };
    let mut before = known(&recorder);
    while !recorder.status.get().errors.contains_key("outbox") {
        assert!(step < 100, "the disk never fills up");
        before = known(&recorder);
        recorder.step(step).await;
        step += 1;
    }
    assert!(known(&recorder) == before && before.iter().all(|(state, _)| state.is_some()));
    let kept = recorder.stored().await.len();
    assert_eq!(kept % 40, 0, "all of an edge or nothing: {kept}");
    set_pages_max(&recorder.spool, "PRAGMA max_page_count = 1000000").await;
    let last = step + 20 - step % 2;
    for step in step..=last + 1 {
        recorder.step(step).await;
    }
    let stored = recorder.stored().await;
    for n in 0..40 {
        assert_eq!(sum_wh(&stored, &format!("p-{n}")), last * STEP_WH);
    }
}

#[tokio::test]
async fn at_the_end_the_states_of_many_devices_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = recorder(dir.path(), 2, 100).await;
    for step in 0..=6 {
        recorder.step(step).await;
    }
    let seen: Vec<_> = recorder.devices.iter().map(|d| d.state.clone()).collect();
    let (_reports, heard) = mpsc::channel(1);
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let spool = recorder.spool.clone();
    recorder.run(heard, shutdown).await;
    for (n, state) in seen.into_iter().enumerate() {
        let point = domain::ids::PointId::new(format!("p-{n}")).unwrap();
        assert_eq!(Some(spool.load(&point).await.unwrap()), state);
    }
}

#[tokio::test]
async fn silent_devices_are_looked_at_in_time_while_the_clock_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = recorder(dir.path(), 1, 100).await;
    tokio::time::pause();
    let clock = Clock::scaled(START.plus_ms(9_999), 1);
    let recorder = Recorder { clock, ..recorder };
    let ahead_ms = || (recorder.next_look() - Instant::now()).as_millis();
    assert_eq!(ahead_ms(), 1);
    recorder.clock.set_by(-3_600_000);
    tokio::time::advance(std::time::Duration::from_secs(3)).await;
    assert_eq!(ahead_ms(), 7_001);
}

#[tokio::test]
async fn a_clock_that_is_set_marks_its_intervals_and_costs_no_energy() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = recorder(dir.path(), 2, 1000).await;
    for step in 0..=21 {
        // Ten minutes forward between two samples, half a minute apart as all others.
        let is_set = step >= 10;
        let values = Values {
            import: Some(Energy::from_wh(1_000 + step * STEP_WH)),
            ..Values::default()
        };
        let sample = Sample {
            read_at: START.plus_s(step * STEP_S + if is_set { 600 } else { 0 }),
            values,
            identity: None,
        };
        let watch = Watch {
            elapsed_ms: step * STEP_S * 1000,
            steps: u64::from(is_set),
        };
        let report = |device| Report {
            device,
            outcome: Ok(sample.clone()),
            watch,
        };
        recorder.take(&mut vec![report(0), report(1)]).await;
    }
    let stored = recorder.stored().await;
    for point in ["p-0", "p-1"] {
        assert_eq!(sum_wh(&stored, point), 20 * STEP_WH);
    }
    for (point, reading) in &stored {
        let start_s = reading.interval.start().ms_since(START) / 1000;
        let is_marked = reading.quality.has(Quality::CLOCK_STEP);
        // Between the samples at 270 s and at 900 s.
        assert_eq!(
            is_marked,
            (240..=900).contains(&start_s),
            "{point} {start_s}"
        );
    }
}
