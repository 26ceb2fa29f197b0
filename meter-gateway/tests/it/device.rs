//! A device on Modbus TCP with faults that can be switched on: its counter runs with the clock.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::time::Timestamp;
use runtime::clock::Clock;
use tokio::net::TcpListener;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::Server;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_util::sync::CancellationToken;

pub(crate) const POWER_W: i64 = 6000;
pub(crate) const BASE_WH: i64 = 1_000_000;
/// A SunSpec address space begins here.
pub(crate) const SUNSPEC_BASE: u16 = 40000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    Late,
    Silent,
    OneWordShort,
    NotANumber,
    Zero,
    StepBack,
    Frozen(i64),
    IllegalAddress,
    Busy,
}

/// What kind of device it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Make {
    Sdm630,
    /// Registers from [`SUNSPEC_BASE`] + shift.
    Sunspec {
        words: Vec<u16>,
        shift: u16,
    },
}

pub(crate) struct Device {
    pub(crate) address: String,
    pub(crate) connections: Arc<AtomicU32>,
    pub(crate) requests: Arc<AtomicU32>,
    state: Arc<State>,
    stop: CancellationToken,
}

struct State {
    clock: Clock,
    start: Timestamp,
    fault: Mutex<Fault>,
    make: Mutex<Make>,
    requests: Arc<AtomicU32>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Device {
    pub(crate) async fn start(clock: &Clock, make: Make) -> Self {
        let requests = Arc::<AtomicU32>::default();
        let state = Arc::new(State {
            clock: clock.clone(),
            start: clock.now(),
            fault: Mutex::new(Fault::None),
            make: Mutex::new(make),
            requests: requests.clone(),
        });
        let mut device = Device {
            address: String::new(),
            connections: Arc::default(),
            requests,
            state,
            stop: CancellationToken::new(),
        };
        device.listen("127.0.0.1:0").await;
        device
    }

    async fn listen(&mut self, address: &str) {
        let listener = TcpListener::bind(address).await.unwrap();
        self.address = listener.local_addr().unwrap().to_string();
        let (state, connections, stop) = (
            self.state.clone(),
            self.connections.clone(),
            self.stop.clone(),
        );
        tokio::spawn(async move {
            let connected = |stream, _| {
                connections.fetch_add(1, Ordering::Relaxed);
                let service = Answers(state.clone());
                async move { Ok(Some((service, stream))) }
            };
            let server = Server::new(listener);
            tokio::select! {
                _ = server.serve(&connected, |_| ()) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Off and on again: every connection breaks.
    pub(crate) async fn restart(&mut self) {
        self.stop.cancel();
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.stop = CancellationToken::new();
        let address = self.address.clone();
        self.listen(&address).await;
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    pub(crate) fn become_make(&self, make: Make) {
        *self.state.make.lock().unwrap() = make;
    }

    /// The counter as it truly is at `t`.
    pub(crate) fn true_wh(&self, t: Timestamp) -> i64 {
        self.state.true_wh(t)
    }

    pub(crate) fn now_wh(&self) -> i64 {
        self.state.true_wh(self.state.clock.now())
    }
}

impl State {
    fn true_wh(&self, t: Timestamp) -> i64 {
        BASE_WH + POWER_W * t.ms_since(self.start) / 3_600_000
    }

    fn words(&self, address: u16, count: u16) -> Option<Vec<u16>> {
        match &*self.make.lock().unwrap() {
            Make::Sdm630 => Some((address..address + count).map(|a| self.sdm630(a)).collect()),
            Make::Sunspec { words, shift } => {
                let start = usize::from(address.checked_sub(SUNSPEC_BASE + shift)?);
                words
                    .get(start..start + usize::from(count))
                    .map(<[u16]>::to_vec)
            }
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "the meter's own imprecision")]
    fn sdm630(&self, address: u16) -> u16 {
        let import = match *self.fault.lock().unwrap() {
            Fault::NotANumber => f32::NAN,
            Fault::Zero => 0.0,
            Fault::StepBack => (self.true_wh(self.clock.now()) - 5000) as f32 / 1000.0,
            Fault::Frozen(wh) => wh as f32 / 1000.0,
            _ => self.true_wh(self.clock.now()) as f32 / 1000.0,
        };
        let value = match address & !1 {
            0x34 => POWER_W as f32,
            0x48 => import,
            0x4a => 7.0,
            _ => f32::NAN,
        };
        let bytes = value.to_be_bytes();
        let word = usize::from(address & 1) * 2;
        u16::from_be_bytes([bytes[word], bytes[word + 1]])
    }
}

struct Answers(Arc<State>);

impl Service for Answers {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Pin<Box<dyn Future<Output = Result<Option<Response>, ExceptionCode>> + Send>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let state = self.0.clone();
        state.requests.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let fault = *state.fault.lock().unwrap();
            let (address, count, input) = match request.request {
                Request::ReadInputRegisters(address, count) => (address, count, true),
                Request::ReadHoldingRegisters(address, count) => (address, count, false),
                _ => return Err(ExceptionCode::IllegalFunction),
            };
            match fault {
                Fault::Late => tokio::time::sleep(Duration::from_millis(1400)).await,
                Fault::Silent => return Ok(None),
                Fault::IllegalAddress => return Err(ExceptionCode::IllegalDataAddress),
                Fault::Busy => return Err(ExceptionCode::ServerDeviceBusy),
                _ => {}
            }
            let Some(mut words) = state.words(address, count) else {
                return Err(ExceptionCode::IllegalDataAddress);
            };
            if fault == Fault::OneWordShort {
                words.pop();
            }
            let answer = if input {
                Response::ReadInputRegisters
            } else {
                Response::ReadHoldingRegisters
            };
            Ok(Some(answer(words)))
        })
    }
}
