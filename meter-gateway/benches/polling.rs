//! SunSpec devices polled per second, beside a bare loop over tokio-modbus that does the same reads in
//! the same run; and the memory of the gateway's process with 1, 100 and 1,000 devices.
//!
//! `cargo bench -p meter-gateway --bench polling` prints medians of several alternating rounds.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a bench may fail, and prints ratios"
)]

use std::fmt::Write as _;
use std::future::Ready;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meter_gateway::bus::Poller;
use meter_gateway::device::modbus::Line;
use meter_gateway::profile::{Link, Profile};
use runtime::clock::Clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_modbus::client::{Context, Reader, tcp};
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::Server;
use tokio_modbus::slave::{Slave, SlaveContext};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

const DEVICES: u8 = 32;
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(500);
const BASE: u16 = 40_000;
/// How long a process runs before its memory is read; each device is polled twice in it.
const SETTLE: Duration = Duration::from_secs(15);

/// A read that the server has answered: unit, address, count.
type Asked = (u8, u16, u16);

/// Inverters with a common model and model 103, one behind each unit.
#[derive(Clone)]
struct Inverters {
    words: Arc<Vec<u16>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Inverters {
    fn new() -> Self {
        let mut words = vec![0x5375, 0x6e53, 1, 66];
        words.extend([0x4142; 66]);
        words.extend([103, 50]);
        words.extend([0; 50]);
        words.extend([0xffff, 0]);
        Inverters {
            words: Arc::new(words),
            asked: Arc::default(),
        }
    }
}

impl Service for Inverters {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let Request::ReadHoldingRegisters(address, count) = request.request else {
            return std::future::ready(Err(ExceptionCode::IllegalFunction));
        };
        let mut asked = self.asked.lock().unwrap();
        if asked.len() < 1000 {
            asked.push((request.slave, address, count));
        }
        let start = usize::from(address.wrapping_sub(BASE));
        let words = self.words.get(start..start + usize::from(count));
        let answer = words.map(|words| Response::ReadHoldingRegisters(words.to_vec()));
        std::future::ready(answer.ok_or(ExceptionCode::IllegalDataAddress))
    }
}

/// Starts the server in a thread of its own.
fn serve(inverters: Inverters) -> String {
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender
                .send(listener.local_addr().unwrap().to_string())
                .unwrap();
            let connected = |stream: TcpStream, _| {
                stream.set_nodelay(true).unwrap();
                let inverters = inverters.clone();
                async move { Ok(Some((inverters, stream))) }
            };
            Server::new(listener)
                .serve(&connected, |_| ())
                .await
                .unwrap();
        });
    });
    address.recv().unwrap()
}

/// Devices per second that `round` polls, one pass over all of them at a time.
async fn per_second(mut pass: impl AsyncFnMut()) -> f64 {
    let start = Instant::now();
    let mut passes = 0_u32;
    while start.elapsed() < ROUND {
        pass().await;
        passes += 1;
    }
    f64::from(passes * u32::from(DEVICES)) / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The profile that is polled with, and without pauses: the bare loop makes none either.
fn profile() -> Arc<Profile> {
    let mut profile = Profile::built_in("sunspec-inverter").unwrap();
    if let Link::Sunspec(rules) = &mut profile.link {
        rules.gap_ms = 0;
    }
    Arc::new(profile)
}

async fn bare_read(context: &mut Context, (unit, address, count): Asked) {
    context.set_slave(Slave(unit));
    let words = context.read_holding_registers(address, count).await;
    assert_eq!(words.unwrap().unwrap().len(), usize::from(count));
}

fn print(what: &str, ours: Vec<f64>, theirs: Vec<f64>) {
    let ratios = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
    println!("{what}:");
    println!("  gateway       {:>8.0} devices/s", median(ours));
    println!("  bare loop     {:>8.0} devices/s", median(theirs));
    println!("  ratio         {:>8.2} (goal 0.90)", median(ratios));
}

/// All devices behind one connection. Returns the reads of one pass.
async fn one_connection(address: &str, asked: &Mutex<Vec<Asked>>) -> Vec<Asked> {
    let (profile, clock) = (profile(), Clock::system());
    let poller = |unit: u8| Poller::new(usize::from(unit), profile.clone(), unit);
    let mut pollers: Vec<Poller> = (1..=DEVICES).map(poller).collect();
    let mut line = Line::new(address);
    for _ in 0..2 {
        asked.lock().unwrap().clear();
        for poller in &mut pollers {
            poller.poll(&mut line, &clock).await.unwrap();
        }
    }
    let reads = asked.lock().unwrap().clone();
    let mut bare = bare(address).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let pass = async || {
            for poller in &mut pollers {
                poller.poll(&mut line, &clock).await.unwrap();
            }
        };
        ours.push(per_second(pass).await);
        let pass = async || {
            for read in &reads {
                bare_read(&mut bare, *read).await;
            }
        };
        theirs.push(per_second(pass).await);
    }
    let per_device = reads.len() as f64 / f64::from(DEVICES);
    let what = format!("SunSpec inverters, {per_device} read(s) each, all on one connection");
    print(&what, ours, theirs);
    reads
}

async fn bare(address: &str) -> Context {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    tcp::attach(stream)
}

/// A device and what it is asked with.
struct Device {
    poller: Poller,
    line: Line,
    bare: Context,
    reads: Vec<Asked>,
}

impl Device {
    async fn poll(&mut self, clock: &Clock) {
        self.poller.poll(&mut self.line, clock).await.unwrap();
    }

    async fn poll_bare(&mut self) {
        for read in &self.reads {
            bare_read(&mut self.bare, *read).await;
        }
    }
}

/// Devices per second, each asked in a task of its own.
async fn all_at_once(devices: &mut Vec<Device>, is_bare: bool) -> f64 {
    let (clock, mut tasks, start) = (Clock::system(), JoinSet::new(), Instant::now());
    for mut device in devices.drain(..) {
        let clock = clock.clone();
        tasks.spawn(async move {
            let mut polls = 0_u32;
            while start.elapsed() < ROUND {
                if is_bare {
                    device.poll_bare().await;
                } else {
                    device.poll(&clock).await;
                }
                polls += 1;
            }
            (device, polls)
        });
    }
    let mut polls = 0;
    while let Some(done) = tasks.join_next().await {
        let (device, own) = done.unwrap();
        devices.push(device);
        polls += own;
    }
    f64::from(polls) / start.elapsed().as_secs_f64()
}

/// Every device on a connection of its own, all at the same time, as where each has its own address.
async fn own_connections(address: &str, reads: &[Asked]) {
    let (profile, clock) = (profile(), Clock::system());
    let mut devices = Vec::new();
    for unit in 1..=DEVICES {
        let of_unit = |read: &&Asked| read.0 == unit;
        let mut device = Device {
            poller: Poller::new(0, profile.clone(), unit),
            line: Line::new(address),
            bare: bare(address).await,
            reads: reads.iter().filter(of_unit).copied().collect(),
        };
        device.poll(&clock).await;
        devices.push(device);
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(all_at_once(&mut devices, false).await);
        theirs.push(all_at_once(&mut devices, true).await);
    }
    let what = "The same inverters, each on a connection of its own, all asked at the same time";
    print(what, ours, theirs);
}

/// The gateway alone, built as for a small machine.
fn program() -> PathBuf {
    let features = ["--no-default-features", "--features", "gateway,tls"];
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--profile",
            "gateway",
            "--quiet",
            "-p",
            "commonwatt",
        ])
        .args(features)
        .status();
    assert!(built.unwrap().success(), "the program does not build");
    // target/release/deps/polling-… lies two folders below target.
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().join("gateway/commonwatt")
}

fn config(devices: u32, address: &str) -> String {
    let mut text = "community = \"elm-street\"\ngateway = \"gw-1\"\ndata_dir = \"state\"\n\
         poll_interval_s = 5\noperator_key = \"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"\n\
         [mqtt]\nhost = \"127.0.0.1\"\nport = 1\nuser = \"gw-1\"\npassword = \"none\"\n"
        .to_owned();
    for n in 0..devices {
        let unit = n % 200 + 1;
        write!(
            text,
            "[[devices]]\nname = \"inverter-{n}\"\nprofile = \"sunspec-inverter\"\npoint = \"p-{n}\"\n\
             role = \"submeter\"\nrating_w = 20000\naddress = \"{address}\"\nunit = {unit}\n"
        )
        .unwrap();
    }
    text
}

/// Resident memory of a process in kB.
fn resident_kb(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

fn memory(program: &Path, address: &str) {
    let bytes = std::fs::metadata(program).unwrap().len();
    println!("the gateway alone (`--profile gateway --features gateway,tls`):");
    println!("  program       {:>8.1} MB", bytes as f64 / 1e6);
    println!("memory of its `commonwatt gateway` (goal: below 25 MB with 100 devices):");
    for devices in [1, 100, 1000] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, config(devices, address)).unwrap();
        let mut child = Command::new(program)
            .args(["gateway", "--config"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(SETTLE);
        assert!(child.try_wait().unwrap().is_none(), "the gateway has ended");
        let mega = resident_kb(child.id()) as f64 / 1000.0;
        println!("  {devices:>5} device(s) {mega:>8.1} MB");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn main() {
    let inverters = Inverters::new();
    let asked = inverters.asked.clone();
    let address = serve(inverters);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let reads = one_connection(&address, &asked).await;
        own_connections(&address, &reads).await;
    });
    memory(&program(), &address);
}
