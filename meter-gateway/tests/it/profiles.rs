//! Every Modbus profile over a real connection: a server made of its dump answers, and the poller must
//! find what the dump says. What the dump does not have, the device refuses with exception 2.

use std::collections::HashMap;
use std::future::Ready;
use std::sync::Arc;

use domain::time::Timestamp;
use meter_gateway::bus::Poller;
use meter_gateway::device::dump;
use meter_gateway::device::modbus::Line;
use meter_gateway::profile::{BUILT_IN, Dump, Link, Profile};
use runtime::clock::Clock;
use tokio::net::TcpListener;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::Server;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

/// The unit that the device is configured with.
const UNIT: u8 = 7;

/// Words by unit, function and address.
#[derive(Clone)]
struct Answers(Arc<HashMap<(u8, u8, u16), u16>>);

impl Answers {
    fn of(dump: &Dump) -> Self {
        let mut words = HashMap::new();
        for run in &dump.registers {
            let unit = run.unit_id.unwrap_or(UNIT);
            let own = dump::words_of(&run.words).unwrap();
            for (address, word) in (run.address..=u16::MAX).zip(own) {
                words.insert((unit, run.function, address), word);
            }
        }
        Answers(Arc::new(words))
    }

    fn words(
        &self,
        unit: u8,
        function: u8,
        address: u16,
        count: u16,
    ) -> Result<Vec<u16>, ExceptionCode> {
        let word = |i| self.0.get(&(unit, function, address + i)).copied();
        let words: Vec<_> = (0..count).map(word).collect();
        if words.iter().all(Option::is_none) {
            return Err(ExceptionCode::IllegalDataAddress);
        }
        Ok(words.into_iter().map(|w| w.unwrap_or(0xdead)).collect())
    }
}

impl Service for Answers {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let unit = request.slave;
        let words = |function, address, count| self.words(unit, function, address, count);
        let bits = |words: Vec<u16>| words.into_iter().map(|w| w == 1).collect();
        std::future::ready(match request.request {
            Request::ReadCoils(a, n) => words(1, a, n).map(|w| Response::ReadCoils(bits(w))),
            Request::ReadDiscreteInputs(a, n) => {
                words(2, a, n).map(|w| Response::ReadDiscreteInputs(bits(w)))
            }
            Request::ReadHoldingRegisters(a, n) => {
                words(3, a, n).map(Response::ReadHoldingRegisters)
            }
            Request::ReadInputRegisters(a, n) => words(4, a, n).map(Response::ReadInputRegisters),
            _ => Err(ExceptionCode::IllegalFunction),
        })
    }
}

async fn serve(dump: &Dump) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answers = Answers::of(dump);
    tokio::spawn(async move {
        let connected = |stream, _| {
            let answers = answers.clone();
            async move { Ok(Some((answers, stream))) }
        };
        Server::new(listener).serve(&connected, |_| ()).await
    });
    address
}

/// The parts that speak Modbus; of a station, its first connector.
fn profiles() -> Vec<Profile> {
    let parts = |(name, text): &(&str, &str)| Profile::all_from_toml(text, name).unwrap();
    let all = BUILT_IN.iter().flat_map(parts);
    all.map(|profile| profile.at_connector(1))
        .filter(|profile| profile.modbus().is_some())
        .map(|mut profile| {
            if let Link::Modbus(rules) | Link::Sunspec(rules) = &mut profile.link {
                // The server here needs no time.
                (rules.gap_ms, rules.connect_delay_ms) = (0, 0);
            }
            profile
        })
        .collect()
}

#[tokio::test]
async fn every_modbus_profile_finds_the_values_of_its_dumps_on_a_server() {
    let clock = Clock::scaled(Timestamp::from_unix_s(1_782_000_000), 1);
    let profiles = profiles();
    assert!(profiles.len() >= 40, "{} parts", profiles.len());
    for profile in profiles {
        for dump in &profile.dumps {
            let address = serve(dump).await;
            let mut line = Line::new(&address);
            let mut poller = Poller::new(0, Arc::new(profile.clone()), UNIT);
            let what = format!("{}: {}", profile.name, dump.note);
            let sample = poller.poll(&mut line, &clock).await;
            let sample = sample.unwrap_or_else(|error| panic!("{what}: {error}"));
            let has_serial = dump.expect.serial.is_some();
            let found = dump::found(sample.values, sample.identity.unwrap_or_default());
            let mut expected = dump.expect.clone();
            if !has_serial {
                // Without a serial number nothing is told apart, so the rest is not passed on.
                (expected.maker, expected.model, expected.firmware) = (None, None, None);
            }
            assert_eq!(found, expected, "{what}");
        }
    }
}
