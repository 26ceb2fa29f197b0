//! A running street and a Modbus client that decodes what it reads.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runtime::broker::{Access, AccessList, Broker, Limits};
use runtime::clock::Clock;
use simulator::journal::Journal;
use simulator::scenario::Scenario;
use simulator::street::{BrokerAccess, DeviceKind, Endpoint, Street};
use simulator::world::World;
use tokio_modbus::client::tcp::connect_slave;
use tokio_modbus::client::{Context, Reader};
use tokio_modbus::{ExceptionCode, Slave};
use tokio_util::sync::CancellationToken;

/// How long a device may take to answer on the loopback interface.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(5);

pub(crate) struct Running {
    pub(crate) street: Street,
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) clock: Clock,
    pub(crate) shutdown: CancellationToken,
    pub(crate) broker: BrokerAccess,
}

/// A broker with one user for the meters and one, `reader`, who may read them; it stops with the test.
async fn start_broker() -> BrokerAccess {
    let users = AccessList::new();
    let access = |read: &str, write: &str| {
        let list = |filter: &str| vec![filter.to_owned()];
        Access {
            read: list(read),
            write: list(write),
        }
    };
    users
        .add("meters", b"secret", access("none", "shelly/#"))
        .unwrap();
    users
        .add("reader", b"secret", access("shelly/#", "none"))
        .unwrap();
    let local = "127.0.0.1:0".parse().unwrap();
    let broker = Broker::bind(local, Arc::new(users), Limits::default())
        .await
        .unwrap();
    let port = broker.local_addr().port();
    tokio::spawn(broker.run(CancellationToken::new()));
    let [host, user, password] = ["127.0.0.1", "meters", "secret"].map(str::to_owned);
    BrokerAccess {
        host,
        port,
        user,
        password,
    }
}

/// A street at noon whose clock is still in the morning: its registers stand still.
pub(crate) async fn standing_street() -> Running {
    start(4 * 3600, 1).await
}

/// A street that is `ahead_s` into its day, with a clock that starts at the scenario's start.
pub(crate) async fn start(ahead_s: i64, speed: u32) -> Running {
    start_recorded(ahead_s, speed, None).await
}

/// The same, where devices can be told something.
pub(crate) async fn start_recorded(ahead_s: i64, speed: u32, record: Option<&Path>) -> Running {
    let record = record.map(|path| Journal::open(path).unwrap());
    let mut scenario = Scenario::street_10().unwrap();
    scenario.site.start = "2026-06-21T07:00:00Z".parse().unwrap();
    let mut world = World::new(&scenario, 17);
    let journal = record.map(|(journal, told)| {
        world.replay(told);
        journal
    });
    world.advance_to(scenario.site.start.plus_s(ahead_s));
    let world = Arc::new(Mutex::new(world));
    let clock = Clock::scaled(scenario.site.start, speed);
    let shutdown = CancellationToken::new();
    let broker = start_broker().await;
    let starting = Street::start(
        Arc::clone(&world),
        clock.clone(),
        broker.clone(),
        journal,
        shutdown.clone(),
    );
    let street = starting.await.unwrap();
    Running {
        street,
        world,
        clock,
        shutdown,
        broker,
    }
}

impl Running {
    /// Address and unit of a device; `home` is `None` for the feeder.
    pub(crate) fn find(&self, home: Option<&str>, name: &str) -> (DeviceKind, SocketAddr, u8) {
        let device = self
            .street
            .devices
            .iter()
            .find(|d| d.home.as_ref().map(|id| id.as_str()) == home && d.name == name);
        let device = device.unwrap_or_else(|| panic!("{home:?} has no {name}"));
        match device.address {
            Endpoint::Modbus { addr, unit } => (device.kind, addr, unit),
            Endpoint::Mqtt { .. } => panic!("{home:?} {name} is not on Modbus"),
        }
    }

    pub(crate) async fn client(&self, home: Option<&str>, name: &str) -> Client {
        let (_, addr, unit) = self.find(home, name);
        Client::connect(addr, unit).await
    }
}

pub(crate) struct Client {
    context: Context,
}

pub(crate) type Answer = Result<Vec<u16>, ExceptionCode>;

impl Client {
    pub(crate) async fn connect(addr: SocketAddr, unit: u8) -> Client {
        Client {
            context: connect_slave(addr, Slave(unit)).await.unwrap(),
        }
    }

    /// Gives up with `None` where the connection is gone.
    pub(crate) async fn try_holding(&mut self, address: u16, count: u16) -> Option<Answer> {
        let call = self.context.read_holding_registers(address, count);
        tokio::time::timeout(ANSWER_LIMIT, call)
            .await
            .expect("no answer in time")
            .ok()
    }

    pub(crate) async fn holding(&mut self, address: u16, count: u16) -> Answer {
        self.try_holding(address, count)
            .await
            .expect("the connection is gone")
    }

    pub(crate) async fn input(&mut self, address: u16, count: u16) -> Answer {
        let call = self.context.read_input_registers(address, count);
        tokio::time::timeout(ANSWER_LIMIT, call)
            .await
            .expect("no answer in time")
            .unwrap()
    }

    pub(crate) async fn input_f32(&mut self, address: u16) -> f32 {
        f32::from_bits(long(&self.input(address, 2).await.unwrap()))
    }

    pub(crate) fn context(&mut self) -> &mut Context {
        &mut self.context
    }

    /// Finds a SunSpec model by walking the chain and reads all of it.
    pub(crate) async fn sunspec_model(&mut self, id: u16) -> Vec<u16> {
        assert_eq!(self.holding(40_000, 2).await.unwrap(), [0x5375, 0x6E53]);
        let mut at = 40_002;
        loop {
            let head = self.holding(at, 2).await.unwrap();
            assert_ne!(head[0], 0xFFFF, "the chain ends without model {id}");
            if head[0] == id {
                return self.holding(at, head[1] + 2).await.unwrap();
            }
            at += 2 + head[1];
        }
    }
}

pub(crate) fn long(words: &[u16]) -> u32 {
    u32::from(words[0]) << 16 | u32::from(words[1])
}

/// A signed register with its scale factor, which must not be negative.
pub(crate) fn scaled(value: u16, scale: u16) -> i64 {
    i64::from(signed(value)) * 10_i64.pow(u32::from(scale))
}

pub(crate) fn signed(word: u16) -> i16 {
    i16::from_be_bytes(word.to_be_bytes())
}
