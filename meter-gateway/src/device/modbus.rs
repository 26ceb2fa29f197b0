//! A Modbus TCP line that believes nothing: every call has a timeout, the word count is checked, and
//! after anything but a proper answer the connection is dropped, so that a late answer can never
//! become another register's value.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_modbus::client::{Client, Context, tcp};
use tokio_modbus::slave::{Slave, SlaveContext};
use tokio_modbus::{ExceptionCode, Request, Response};

use crate::profile::ModbusRules;

/// What can go wrong on a line.
#[derive(Debug, thiserror::Error)]
pub enum ModbusError {
    /// No connection.
    #[error("cannot connect to {address}: {source}; is the device on, and the address right?")]
    Connect {
        /// Host and port.
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
    /// The device refuses.
    #[error("the device answers exception {0}")]
    Exception(u8),
    /// The device has no time now.
    #[error("the device is busy")]
    Busy,
    /// Not a SunSpec device.
    #[error("the device has no SunSpec chain at 40000, 50000 or 0")]
    NoSunspec,
    /// A SunSpec device of another kind.
    #[error("the device has none of the SunSpec models {0:?}")]
    NoModel(Vec<u16>),
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
            ModbusError::Exception(_) => "exception",
            ModbusError::Busy => "busy",
            ModbusError::NoSunspec | ModbusError::NoModel(_) => "model",
        }
    }
}

/// One TCP connection to one device, or to several behind a gateway.
pub struct Line {
    address: String,
    context: Option<Context>,
    generation: u64,
    last_answer: Option<Instant>,
}

impl Line {
    /// A line to `host:port`, not connected yet.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Line {
            address: address.to_owned(),
            context: None,
            generation: 0,
            last_answer: None,
        }
    }

    /// Connects where there is no connection, and returns its number: another number is another
    /// connection, behind which another device may answer.
    ///
    /// # Errors
    /// No connection within the device's timeout.
    pub async fn connect(&mut self, rules: &ModbusRules) -> Result<u64, ModbusError> {
        if self.context.is_none() {
            let limit = Duration::from_millis(rules.timeout_ms);
            let failed = |source| ModbusError::Connect {
                address: self.address.clone(),
                source,
            };
            let stream = timeout(limit, TcpStream::connect(&self.address))
                .await
                .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
                .map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            self.context = Some(tcp::attach(stream));
            self.generation += 1;
        }
        Ok(self.generation)
    }

    /// Reads `count` registers from `address` of `unit`.
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
        self.connect(rules).await?;
        if let Some(last) = self.last_answer {
            sleep_until(last + Duration::from_millis(rules.gap_ms)).await;
        }
        // The connection is put back only after a proper answer. Also where this future is dropped
        // half way, the connection goes with it.
        let Some(mut context) = self.context.take() else {
            return Err(ModbusError::Timeout(rules.timeout_ms));
        };
        context.set_slave(Slave(unit));
        let request = match function {
            4 => Request::ReadInputRegisters(address, count),
            _ => Request::ReadHoldingRegisters(address, count),
        };
        let limit = Duration::from_millis(rules.timeout_ms);
        let answer = timeout(limit, context.call(request)).await;
        self.last_answer = Some(Instant::now());
        let response = answer
            .map_err(|_| ModbusError::Timeout(rules.timeout_ms))?
            .map_err(ModbusError::Transport)?;
        match response {
            Ok(Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words)) => {
                if words.len() != usize::from(count) {
                    return Err(ModbusError::WrongCount {
                        asked: count,
                        got: words.len(),
                    });
                }
                self.context = Some(context);
                Ok(words)
            }
            Ok(_) => Err(ModbusError::WrongCount {
                asked: count,
                got: 0,
            }),
            Err(code) => {
                self.context = Some(context);
                match code {
                    ExceptionCode::Acknowledge | ExceptionCode::ServerDeviceBusy => {
                        Err(ModbusError::Busy)
                    }
                    other => Err(ModbusError::Exception(other.into())),
                }
            }
        }
    }
}
