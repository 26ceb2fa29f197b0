//! A Modbus line that believes nothing: every call has a timeout, word counts, the echo of writes and
//! the bytes on the wire are checked, and after anything but a proper answer the connection is
//! dropped, so that a late answer can never become another register's value. On a serial line, where
//! dropping does not silence the device, nothing is asked before the line is quiet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_modbus::client::{Client, Context, rtu, tcp};
use tokio_modbus::slave::{Slave, SlaveContext};
use tokio_modbus::{ExceptionCode, Request, Response};

use super::address::Address;
use super::wire::{self, NOISE_MAX_BYTES, QUIET, Watch, Watched};
use crate::profile::{ModbusRules, WORDS_PER_READ_MAX};

/// Most registers that one Modbus request may write.
pub const WORDS_PER_WRITE_MAX: u16 = 123;
/// Most coils or discrete inputs that one Modbus request may read.
pub const BITS_PER_READ_MAX: u16 = 2000;

/// What can go wrong on a line.
#[derive(Debug, thiserror::Error)]
pub enum ModbusError {
    /// No connection.
    #[error("cannot connect to {address}: {source}; is the device on, and the address right?")]
    Connect {
        /// The line's address.
        address: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("no answer within {0} ms")]
    Timeout(u64),
    /// The connection broke, or an answer was not for this request.
    #[error("the connection failed: {0}")]
    Transport(tokio_modbus::Error),
    /// An answer with another number of registers.
    #[error("asked for {asked} registers and got {got}")]
    WrongCount {
        /// Registers asked for.
        asked: u16,
        /// Registers in the answer.
        got: usize,
    },
    /// More bytes than the answer has.
    #[error("{0} bytes came with the answer that do not belong to it")]
    Surplus(usize),
    /// The device confirms another write than was sent.
    #[error("wrote to register {address}, and the device confirms another write")]
    WrongEcho {
        /// The first register written to.
        address: u16,
    },
    /// The device refuses.
    #[error("the device answers exception {0}")]
    Exception(u8),
    /// The device has no time now.
    #[error("the device is busy")]
    Busy,
    /// A gateway on the way does not reach the device.
    #[error("a gateway on the line answers exception {0}: it does not reach the device")]
    Gateway(u8),
    /// Not a SunSpec device.
    #[error("the device has no SunSpec chain at 40000, 50000 or 0")]
    NoSunspec,
    /// A SunSpec device of another kind.
    #[error("the device has none of the SunSpec models {0:?}")]
    NoModel(Vec<u16>),
    /// The device has no such model, or the model is shorter.
    #[error("the device does not have {0:?}")]
    NoPlace(crate::bus::job::Place),
    /// A request that Modbus does not know.
    #[error("function {function} with {count} values is no Modbus request that can be sent")]
    NoRequest {
        /// Function code.
        function: u8,
        /// Registers or coils.
        count: usize,
    },
    /// The device's line has more waiting jobs than it takes.
    #[error("the line has too many jobs waiting; try again later")]
    QueueFull,
    /// No line serves the device (any more).
    #[error("no line serves this device")]
    NoLine,
}

impl ModbusError {
    /// One word for counting.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            ModbusError::Connect { .. } => "connect",
            ModbusError::Timeout(_) => "timeout",
            ModbusError::Transport(_) => "transport",
            ModbusError::WrongCount { .. } => "word_count",
            ModbusError::Surplus(_) => "surplus",
            ModbusError::WrongEcho { .. } => "write_echo",
            ModbusError::Exception(_) => "exception",
            ModbusError::Busy => "busy",
            ModbusError::Gateway(_) => "gateway",
            ModbusError::NoSunspec | ModbusError::NoModel(_) => "model",
            ModbusError::NoPlace(_) | ModbusError::NoRequest { .. } => "request",
            ModbusError::QueueFull => "queue_full",
            ModbusError::NoLine => "no_line",
        }
    }
}

/// Silence between requests to different units of an RTU line: the one that has just answered must
/// have let go of the wires.
const UNIT_CHANGE: Duration = Duration::from_millis(20);
/// Shortest silence between frames of an RTU line.
const SILENCE_MIN: Duration = Duration::from_micros(1750);

/// One connection to one device, or to several behind a gateway or on a serial port.
pub struct Line {
    address: Address,
    connection: Option<Connection>,
    generation: u64,
    last_answer: Option<(Instant, u8)>,
    /// When a unit failed to answer, until it has answered again.
    failures: BTreeMap<u8, Instant>,
    /// How much faster than the wall its devices' time runs: 1 but for simulated ones.
    speed: u32,
}

struct Connection {
    context: Context,
    watch: Arc<Watch>,
}

impl Line {
    /// A line that speaks Modbus TCP to `host:port`, not connected yet.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Line::to(Address::Tcp(host.to_owned()))
    }

    /// A line to an address, not connected yet.
    #[must_use]
    pub fn to(address: Address) -> Self {
        Line {
            address,
            connection: None,
            generation: 0,
            last_answer: None,
            failures: BTreeMap::new(),
            speed: 1,
        }
    }

    /// The same line to devices whose time runs faster: what they want between two requests is in their time.
    #[must_use]
    pub fn at_speed(self, speed: u32) -> Self {
        let speed = speed.max(1);
        Line { speed, ..self }
    }

    /// Where it goes.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Connects where there is no connection, or only one that the other side has ended, and returns
    /// its number: another number is another connection, behind which another device may answer.
    ///
    /// # Errors
    /// No connection within the device's timeout.
    pub async fn connect(&mut self, rules: &ModbusRules) -> Result<u64, ModbusError> {
        let watch = self.connection.as_ref().map(|c| c.watch.clone());
        if let Some(watch) = watch
            && watch.begin().await.is_err()
        {
            self.connection = None;
        }
        if self.connection.is_none() {
            self.connection = Some(open(&self.address, rules).await?);
            self.generation += 1;
        }
        Ok(self.generation)
    }

    fn is_rtu(&self) -> bool {
        !matches!(self.address, Address::Tcp(_))
    }

    /// When the next request to `unit` may go out.
    fn free_at(&self, unit: u8, rules: &ModbusRules) -> Option<Instant> {
        let (last, last_unit) = self.last_answer?;
        let silence = match &self.address {
            Address::Tcp(_) => Duration::ZERO,
            Address::RtuOverTcp(_) => SILENCE_MIN,
            Address::Serial(serial) => serial.characters(35).max(SILENCE_MIN),
        };
        let change = if self.is_rtu() && unit != last_unit {
            UNIT_CHANGE
        } else {
            Duration::ZERO
        };
        let gap = Duration::from_millis(rules.gap_ms) / self.speed;
        let free = last + gap.max(silence).max(change);
        // Frames of RTU do not say which question they answer: a unit that was silent is not asked
        // anything else before it has had its time once more.
        let failure = self.failures.get(&unit).filter(|_| self.is_rtu());
        let failure = failure.map(|at| *at + Duration::from_millis(rules.timeout_ms));
        Some(failure.map_or(free, |failure| failure.max(free)))
    }

    /// Reads `count` registers (functions 3 and 4) or bits (1 and 2; one word each, 0 or 1) from
    /// `address` of `unit`.
    ///
    /// # Errors
    /// See [`ModbusError`]. Whatever is no answer to this very request drops the connection.
    pub async fn read(
        &mut self,
        unit: u8,
        function: u8,
        address: u16,
        count: u16,
        rules: &ModbusRules,
    ) -> Result<Vec<u16>, ModbusError> {
        let request = match (function, count) {
            (1, 1..=BITS_PER_READ_MAX) => Request::ReadCoils(address, count),
            (2, 1..=BITS_PER_READ_MAX) => Request::ReadDiscreteInputs(address, count),
            (3, 1..=WORDS_PER_READ_MAX) => Request::ReadHoldingRegisters(address, count),
            (4, 1..=WORDS_PER_READ_MAX) => Request::ReadInputRegisters(address, count),
            _ => {
                let count = usize::from(count);
                return Err(ModbusError::NoRequest { function, count });
            }
        };
        let words = |response| {
            let (words, expected) = match response {
                Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words) => {
                    (words, usize::from(count))
                }
                // Bits come in whole bytes.
                Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => (
                    bits.into_iter().map(u16::from).collect(),
                    usize::from(count).next_multiple_of(8),
                ),
                _ => (Vec::new(), usize::from(count)),
            };
            if words.len() == expected {
                Ok(words)
            } else {
                let (asked, got) = (count, words.len());
                Err(ModbusError::WrongCount { asked, got })
            }
        };
        let mut words = self.exchange(unit, request, rules, words).await?;
        words.truncate(usize::from(count));
        Ok(words)
    }

    /// Writes `words` from `address` of `unit` on: function 5 one coil (0 is off, 1 is on), 6 one
    /// register, 16 several. The device must confirm this very write.
    ///
    /// # Errors
    /// See [`ModbusError`]. Whatever is no answer to this very request drops the connection; whether
    /// the device has obeyed is not known then.
    pub async fn write(
        &mut self,
        unit: u8,
        function: u8,
        address: u16,
        words: &[u16],
        rules: &ModbusRules,
    ) -> Result<(), ModbusError> {
        let count = words.len();
        let fits = u16::try_from(count).ok();
        let several = fits.filter(|count| (1..=WORDS_PER_WRITE_MAX).contains(count));
        let (request, echo) = match (function, words, several) {
            (5, &[state @ 0..=1], _) => (
                Request::WriteSingleCoil(address, state == 1),
                Response::WriteSingleCoil(address, state == 1),
            ),
            (6, &[word], _) => (
                Request::WriteSingleRegister(address, word),
                Response::WriteSingleRegister(address, word),
            ),
            (16, words, Some(count)) => (
                Request::WriteMultipleRegisters(address, words.into()),
                Response::WriteMultipleRegisters(address, count),
            ),
            _ => return Err(ModbusError::NoRequest { function, count }),
        };
        let confirmed = |response| {
            if response == echo {
                Ok(())
            } else {
                Err(ModbusError::WrongEcho { address })
            }
        };
        self.exchange(unit, request, rules, confirmed).await
    }

    /// One request and its answer, as far as `check` takes it for one.
    async fn exchange<T>(
        &mut self,
        unit: u8,
        request: Request<'_>,
        rules: &ModbusRules,
        check: impl FnOnce(Response) -> Result<T, ModbusError>,
    ) -> Result<T, ModbusError> {
        if self.connection.is_none() {
            self.connect(rules).await?;
        }
        // A sleep takes a millisecond at least, also until a time that has passed.
        if let Some(free_at) = self.free_at(unit, rules)
            && free_at > Instant::now()
        {
            sleep_until(free_at).await;
        }
        // The connection is put back only after a proper answer. Also where this future is dropped
        // half way, the connection goes with it.
        let Some(mut connection) = self.connection.take() else {
            return Err(ModbusError::Timeout(rules.timeout_ms));
        };
        let broken = |source| ModbusError::Transport(tokio_modbus::Error::Transport(source));
        connection.watch.begin().await.map_err(broken)?;
        connection.context.set_slave(Slave(unit));
        let limit = Duration::from_millis(rules.timeout_ms);
        let answer = timeout(limit, connection.context.call(request)).await;
        self.last_answer = Some((Instant::now(), unit));
        let answer = answer
            .map_err(|_| ModbusError::Timeout(rules.timeout_ms))
            .and_then(|answer| answer.map_err(ModbusError::Transport));
        let mut judged =
            answer.and_then(|response| self.judge(response, connection.watch.received(), check));
        if judged.is_ok() && self.is_rtu() && self.failures.contains_key(&unit) {
            // The first answer after a silence may be the late one to the last question; then the
            // right one follows at its heels.
            sleep(QUIET).await;
            if let Err(error) = connection.watch.begin().await.map_err(broken) {
                judged = Err(error);
            }
        }
        match judged {
            Ok(outcome) => {
                self.connection = Some(connection);
                if !self.failures.is_empty() {
                    self.failures.remove(&unit);
                }
                outcome
            }
            Err(error) => {
                self.failures.insert(unit, Instant::now());
                Err(error)
            }
        }
    }

    /// What an answer of so many bytes means. Where it is none to this very request, the connection is
    /// not to be used any more.
    fn judge<T>(
        &self,
        response: Result<Response, ExceptionCode>,
        received: usize,
        check: impl FnOnce(Response) -> Result<T, ModbusError>,
    ) -> Result<Result<T, ModbusError>, ModbusError> {
        self.check_size(&response, received)?;
        Ok(match response {
            Ok(response) => Ok(check(response)?),
            Err(ExceptionCode::Acknowledge | ExceptionCode::ServerDeviceBusy) => {
                Err(ModbusError::Busy)
            }
            // The device itself may still answer the gateway, late.
            Err(
                code @ (ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice),
            ) => return Err(ModbusError::Gateway(code.into())),
            Err(code) => Err(ModbusError::Exception(code.into())),
        })
    }

    /// An answer comes alone: more bytes than it has are another answer, to nobody knows what.
    fn check_size(
        &self,
        response: &Result<Response, ExceptionCode>,
        received: usize,
    ) -> Result<(), ModbusError> {
        let pdu = match response {
            Ok(Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words)) => {
                2 + 2 * words.len()
            }
            Ok(Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits)) => {
                2 + bits.len().div_ceil(8)
            }
            Ok(_) => 5,
            Err(_) => 2,
        };
        // Unit and check sum, or the header of Modbus TCP.
        let (around, noise) = if self.is_rtu() {
            (3, NOISE_MAX_BYTES)
        } else {
            (7, 0)
        };
        match received.saturating_sub(pdu + around) {
            surplus if surplus > noise => Err(ModbusError::Surplus(surplus)),
            _ => Ok(()),
        }
    }
}

async fn open(address: &Address, rules: &ModbusRules) -> Result<Connection, ModbusError> {
    let limit = Duration::from_millis(rules.timeout_ms);
    let failed = |source| ModbusError::Connect {
        address: address.to_string(),
        source,
    };
    let mut stream = timeout(limit, wire::open(address))
        .await
        .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    sleep(Duration::from_millis(rules.connect_delay_ms)).await;
    if let Address::Tcp(_) = address {
        let watch = Watch::new(stream, 0);
        let context = tcp::attach(Watched(watch.clone()));
        return Ok(Connection { context, watch });
    }
    // What a device still says to a question of the last connection is lost here.
    wire::wait_for_quiet(&mut stream).await.map_err(failed)?;
    let watch = Watch::new(stream, NOISE_MAX_BYTES);
    let context = rtu::attach(Watched(watch.clone()));
    Ok(Connection { context, watch })
}
