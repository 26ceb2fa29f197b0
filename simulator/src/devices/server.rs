//! Serves one Modbus device on the loopback interface. Every request first brings the world to the
//! present and is then answered from it, so a device is never older than the question.

use std::future::{Ready, ready};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runtime::clock::Clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_modbus::server::{Service, tcp::Server};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_util::sync::CancellationToken;

use super::{ModbusDevice, Table};
use crate::journal::Journal;
use crate::setpoint::NotTaken;
use crate::world::World;

/// Most connections one device keeps open; a further one is closed at once, like real devices do.
pub const CONNECTIONS_MAX: usize = 8;
/// Pause after the listener failed (for example without free file handles) before it listens again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// The world as its devices share it, with the clock that says how far it has come.
#[derive(Clone)]
pub(crate) struct LiveWorld {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) clock: Clock,
    /// Where what devices are told is recorded; without a record they take nothing.
    pub(crate) journal: Option<Arc<Mutex<Journal>>>,
}

impl LiveWorld {
    /// Brings the world to the present and looks at it; `None` once the world has broken one of its
    /// invariants, since half a step may then be missing from its registers.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&World) -> T) -> Option<T> {
        let mut world = self.world.lock().ok()?;
        world.advance_to(self.clock.now());
        Some(at(&world))
    }

    /// Lets a device be told something: recorded first, so that a restarted street knows it too.
    fn tell(&self, device: ModbusDevice, address: u16, words: &[u16]) -> Result<(), ExceptionCode> {
        let journal = self.journal.as_ref();
        let journal = journal.ok_or(ExceptionCode::IllegalFunction)?;
        let broken = ExceptionCode::ServerDeviceFailure;
        let (Ok(mut world), Ok(mut journal)) = (self.world.lock(), journal.lock()) else {
            return Err(broken);
        };
        world.advance_to(self.clock.now());
        let told = device.told(world.now().unix_s(), address, words)?;
        let home = told.first().ok_or(ExceptionCode::IllegalDataValue)?.home;
        let mut settings = world.home(home).settings;
        for one in &told {
            settings.tell(one).map_err(|not_taken| match not_taken {
                NotTaken::Address => ExceptionCode::IllegalDataAddress,
                NotTaken::Value => ExceptionCode::IllegalDataValue,
            })?;
        }
        journal.add(&told).map_err(|error| {
            tracing::error!(?device, "nothing was told: {error}");
            broken
        })?;
        world.set(home, settings);
        Ok(())
    }
}

/// One connection to a device. The permit frees its place when the connection ends.
struct Connection {
    device: ModbusDevice,
    live: LiveWorld,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn answer(&self, call: &SlaveRequest<'_>) -> Result<Response, ExceptionCode> {
        if call.slave != self.device.unit() {
            return Err(ExceptionCode::GatewayTargetDevice);
        }
        let read = |table, address, count| {
            let answer = self
                .live
                .look(|world| self.device.read(world, table, address, count));
            answer.unwrap_or(Err(ExceptionCode::ServerDeviceFailure))
        };
        match call.request {
            Request::ReadHoldingRegisters(address, count) => {
                read(Table::Holding, address, count).map(Response::ReadHoldingRegisters)
            }
            Request::ReadInputRegisters(address, count) => {
                read(Table::Input, address, count).map(Response::ReadInputRegisters)
            }
            Request::WriteSingleRegister(address, word) => {
                self.live.tell(self.device, address, &[word])?;
                Ok(Response::WriteSingleRegister(address, word))
            }
            Request::WriteMultipleRegisters(address, ref words) => {
                self.live.tell(self.device, address, words)?;
                // A request has at most 123 words.
                let count = u16::try_from(words.len()).unwrap_or(0);
                Ok(Response::WriteMultipleRegisters(address, count))
            }
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }
}

impl Service for Connection {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, call: Self::Request) -> Self::Future {
        ready(self.answer(&call))
    }
}

/// Opens a port for a device and serves it until `shutdown`.
pub(crate) async fn start(
    device: ModbusDevice,
    live: LiveWorld,
    shutdown: CancellationToken,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let serving = serve(device, live, Server::new(listener));
        // Dropping the server also ends its connections.
        shutdown.run_until_cancelled(serving).await;
    });
    Ok(address)
}

async fn serve(device: ModbusDevice, live: LiveWorld, server: Server) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connect = |stream: TcpStream, peer: SocketAddr| {
        let place = Arc::clone(&places).try_acquire_owned();
        let live = live.clone();
        async move {
            let Ok(place) = place else {
                tracing::debug!(?device, %peer, "refused: {CONNECTIONS_MAX} connections are open");
                return Ok(None);
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(?device, %peer, %error, "answers to this client may be late");
            }
            Ok(Some((
                Connection {
                    device,
                    live,
                    _place: place,
                },
                stream,
            )))
        }
    };
    loop {
        let on_broken = move |error| tracing::debug!(?device, %error, "connection ended");
        if let Err(error) = server.serve(&connect, on_broken).await {
            tracing::warn!(?device, %error, "stopped listening; trying again");
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}
