//! From a meter's registers on the wire to intervals, against a truth that is known to the watt-hour:
//! the meter is scripted, every fault is real on a real connection, and only the time is the test's.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::energy::Power;
use domain::quality::Quality;
use domain::reading::MeasurementClass;
use domain::time::Timestamp;
use meter_gateway::bus::Poller;
use meter_gateway::device::modbus::Line;
use meter_gateway::measure::{CounterSample, Limits, Measured, MeterMark, State};
use meter_gateway::poll::Sample;
use meter_gateway::profile::Profile;
use runtime::clock::Clock;
use tokio::net::TcpListener;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::Server;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

const START_S: i64 = 1_782_000_000;
const POWER_W: i64 = 7200;
/// Tenths of a watt-hour in the ten seconds between two polls.
const TENTHS_PER_POLL: u64 = 200;

const PROFILE: &str = r#"
name = "scripted"
kind = "meter"
link = "modbus"
dump = []
[modbus]
max_words = 20
max_hole_words = 20
gap_ms = 0
timeout_ms = 60
[[point]]
quantity = "import"
function = 3
address = 0
scale_address = 2
type = "u32"
unit = "Wh"
missing = [0xFFFFFFFF]
[[point]]
quantity = "power"
function = 3
address = 3
type = "i32"
unit = "W"
positive = "import"
[[point]]
quantity = "serial"
function = 3
address = 10
type = "u32"
"#;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    Busy,
    Late,
    Silent,
    OneWordShort,
    NotAvailable,
    Shows(u64),
    /// What the counter showed before this fault.
    Frozen,
}

/// The meter: its true counter in tenths of a watt-hour, which its register shows modulo 2^32.
#[derive(Debug)]
struct Meter {
    tenths: u64,
    frozen: u64,
    serial: u32,
    /// Power of ten of what is in the register, -1 or 0.
    exponent: i16,
    fault: Fault,
}

impl Meter {
    fn words(&self) -> Vec<u16> {
        let tenths = match self.fault {
            Fault::Shows(tenths) => tenths,
            Fault::Frozen => self.frozen,
            _ => self.tenths,
        };
        // Inside it counts tenths, whatever it shows.
        let tenths = tenths % (1 << 32);
        let shown = if self.exponent == 0 {
            tenths / 10
        } else {
            tenths
        };
        let raw = match self.fault {
            Fault::NotAvailable => u32::MAX,
            _ => u32::try_from(shown).unwrap(),
        };
        let mut words = vec![0; 12];
        let mut put = |at: usize, value: u32| {
            let bytes = value.to_be_bytes();
            words[at] = u16::from_be_bytes([bytes[0], bytes[1]]);
            words[at + 1] = u16::from_be_bytes([bytes[2], bytes[3]]);
        };
        put(0, raw);
        put(3, u32::try_from(POWER_W).unwrap());
        put(10, self.serial);
        words[2] = self.exponent.cast_unsigned();
        words
    }
}

struct Answers(Arc<Mutex<Meter>>);

impl Service for Answers {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Pin<Box<dyn Future<Output = Result<Option<Response>, ExceptionCode>> + Send>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let Request::ReadHoldingRegisters(address, count) = request.request else {
            return Box::pin(ready(Err(ExceptionCode::IllegalFunction)));
        };
        let (fault, all) = {
            let meter = self.0.lock().unwrap();
            (meter.fault, meter.words())
        };
        let first = usize::from(address);
        let mut words = all[first..first + usize::from(count)].to_vec();
        Box::pin(async move {
            match fault {
                Fault::Busy => return Err(ExceptionCode::ServerDeviceBusy),
                Fault::Late => tokio::time::sleep(Duration::from_millis(120)).await,
                Fault::Silent => return Ok(None),
                Fault::OneWordShort => drop(words.pop()),
                _ => {}
            }
            Ok(Some(Response::ReadHoldingRegisters(words)))
        })
    }
}

/// The meter, its line, and what was measured so far.
struct Bench {
    meter: Arc<Mutex<Meter>>,
    poller: Poller,
    line: Line,
    clock: Clock,
    now_s: i64,
    /// The true counter at each poll.
    truth: Vec<(i64, u64)>,
    state: State,
    done: Vec<Measured>,
    failures: usize,
}

const LIMITS: Limits = Limits {
    interval_length_s: 300,
    max_gap_ms: 30_000,
    rating_w: 20_000,
    resolution_wh: 1,
    class: MeasurementClass::MeterCounter,
};

fn counters(at_s: i64, sample: &Sample) -> CounterSample {
    CounterSample {
        read_at: Timestamp::from_unix_s(at_s),
        import: sample.values.import_counter,
        export: sample.values.export_counter,
        import_w: sample.values.power.map(Power::w),
        meter: sample.identity.as_ref().map(|identity| MeterMark {
            body: identity.body(),
            hash: identity.hash(),
        }),
        waited_ms: None,
        clock_stepped: false,
    }
}

impl Bench {
    async fn start(tenths: u64) -> Self {
        let meter = Arc::new(Mutex::new(Meter {
            tenths,
            frozen: 0,
            serial: 4711,
            exponent: -1,
            fault: Fault::None,
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = meter.clone();
        tokio::spawn(async move {
            let connected = |stream, _| {
                let service = Answers(shared.clone());
                async move { Ok(Some((service, stream))) }
            };
            Server::new(listener)
                .serve(&connected, |_| ())
                .await
                .unwrap();
        });
        let profile = Arc::new(Profile::from_toml(PROFILE, "scripted.toml").unwrap());
        Bench {
            meter,
            poller: Poller::new(0, profile, 1),
            line: Line::new(&address),
            clock: Clock::scaled(Timestamp::from_unix_s(START_S), 1),
            now_s: START_S,
            truth: Vec::new(),
            state: State::default(),
            done: Vec::new(),
            failures: 0,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Meter)) {
        change(&mut self.meter.lock().unwrap());
    }

    /// Ten seconds pass, and the meter is polled; the state is written down and read again.
    async fn poll(&mut self, polls: usize) {
        for _ in 0..polls {
            let tenths = self.meter.lock().unwrap().tenths;
            self.truth.push((self.now_s, tenths));
            match self.poller.poll(&mut self.line, &self.clock).await {
                Ok(sample) => {
                    let text = serde_json::to_string(&self.state).unwrap();
                    self.state = serde_json::from_str(&text).unwrap();
                    let counters = counters(self.now_s, &sample);
                    self.done.extend(self.state.push(&counters, &LIMITS));
                }
                Err(_) => self.failures += 1,
            }
            self.now_s += 10;
            self.change(|meter| meter.tenths += TENTHS_PER_POLL);
        }
    }

    async fn suffer(&mut self, fault: Fault, polls: usize) {
        self.change(|meter| (meter.fault, meter.frozen) = (fault, meter.tenths));
        self.poll(polls).await;
        self.change(|meter| meter.fault = Fault::None);
        self.poll(12).await;
    }

    /// The true register at a poll, rounded as a reading is.
    fn true_wh(&self, at: Timestamp) -> i64 {
        let at_s = at.unix_ms() / 1000;
        let tenths = self.truth.iter().find(|(t, _)| *t == at_s).unwrap().1;
        i64::try_from((tenths + 5) / 10).unwrap()
    }

    fn has(&self, mark: Quality) -> bool {
        self.done.iter().any(|m| m.quality.has(mark))
    }
}

#[tokio::test]
async fn every_fault_on_the_wire_leaves_the_truth_to_the_watt_hour() {
    // 340 Wh before the register is full.
    let mut bench = Bench::start((1 << 32) - 3400).await;
    bench.poll(60).await;
    assert!(bench.has(Quality::ROLL_OVER));
    let tenths = bench.meter.lock().unwrap().tenths;
    for (fault, polls) in [
        (Fault::Busy, 2),
        (Fault::Late, 2),
        (Fault::Silent, 2),
        (Fault::OneWordShort, 2),
        (Fault::NotAvailable, 40),
        (Fault::Shows(0), 3),
        (Fault::Shows(0), 40),
        (Fault::Shows(tenths - 8000), 3),
        (Fault::Shows(tenths + 90_000_000), 4),
        (Fault::Frozen, 20),
        (Fault::Silent, 30),
    ] {
        bench.suffer(fault, polls).await;
    }
    for exponent in [0, -1, 0, -1] {
        bench.change(|meter| meter.exponent = exponent);
        bench.poll(10).await;
    }
    bench.poll(60).await;
    assert!(bench.failures > 30, "{} polls failed", bench.failures);
    assert!(bench.done.len() >= 10);
    let in_faults = Quality::GAP
        .with(Quality::OUT_OF_RANGE)
        .with(Quality::STALE);
    let mut exact = 0;
    for pair in bench.done.windows(2) {
        assert_eq!(pair[0].interval.next(), pair[1].interval);
        assert_eq!(pair[0].registers[0].end, pair[1].registers[0].start);
    }
    for m in &bench.done {
        assert_eq!(m.era, 0, "{m:?}");
        let (wh, truth) = (m.registers[0].end.wh(), bench.true_wh(m.interval.end()));
        // The load is constant, so that a straight line over an outage is the truth as well. Until a
        // frozen counter is noticed, and while it shows whole watt-hours, a little is missing.
        assert!((truth - 75..=truth).contains(&wh), "{wh} of {truth}: {m:?}");
        if wh == truth {
            exact += 1;
        }
    }
    assert!(
        exact + 3 >= bench.done.len(),
        "{exact} of {}",
        bench.done.len()
    );
    for mark in [Quality::GAP, Quality::OUT_OF_RANGE, Quality::STALE] {
        assert!(bench.has(mark), "no {mark}");
    }
    assert!(!in_faults.has(Quality::ROLL_OVER));
    let (first, last) = (&bench.done[0], bench.done.last().unwrap());
    assert_eq!(
        last.registers[0].end.wh() - first.registers[0].start.wh(),
        bench.true_wh(last.interval.end()) - bench.true_wh(first.interval.start())
    );
}

#[tokio::test]
async fn a_reset_and_another_meter_begin_eras_and_count_nothing_twice() {
    let mut bench = Bench::start(50_000_000).await;
    bench.poll(70).await;
    bench.change(|meter| meter.tenths = 300);
    bench.poll(70).await;
    // Who changes a meter takes it off the line; the new one shows more than the old.
    bench.suffer(Fault::Silent, 5).await;
    bench.change(|meter| (meter.serial, meter.tenths) = (4712, 900_000_000));
    bench.suffer(Fault::Silent, 1).await;
    bench.poll(70).await;
    let eras: Vec<u32> = bench.done.iter().map(|m| m.era).collect();
    assert!(
        eras.is_sorted() && eras.contains(&1) && *eras.last().unwrap() == 2,
        "{eras:?}"
    );
    for m in &bench.done {
        let r = &m.registers[0];
        assert!(r.end.wh() - r.start.wh() <= POWER_W * 300 / 3600, "{m:?}");
        if !m.quality.has(Quality::RESET) {
            assert_eq!(r.start.wh(), bench.true_wh(m.interval.start()));
            assert_eq!(r.end.wh(), bench.true_wh(m.interval.end()));
        }
    }
    let hashes: std::collections::BTreeSet<_> = bench.done.iter().map(|m| m.meter_hash).collect();
    assert_eq!(hashes.len(), 2);
}
