//! Every profile is found again from its own raw dump, behind a real Modbus server.

use std::future::{Ready, ready};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::Server;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

use super::*;
use crate::device::dump::words_of;
use crate::profile::Dump;

/// The unit that devices answer as.
const UNIT: u8 = 7;

/// Unit, function, first address, words.
type Run = (u8, u8, u16, Vec<u16>);

/// A device that has the registers of a dump, zeros in the holes between them, and nothing else.
#[derive(Clone)]
struct Dumped {
    runs: Arc<Vec<Run>>,
}

impl Dumped {
    fn get(
        &self,
        unit: u8,
        function: u8,
        address: u16,
        count: u16,
    ) -> Result<Vec<u16>, ExceptionCode> {
        let word = |address: u16| {
            self.runs.iter().find_map(|(u, f, start, words)| {
                let offset = usize::from(address.checked_sub(*start)?);
                words
                    .get(offset)
                    .copied()
                    .filter(|_| (*u, *f) == (unit, function))
            })
        };
        let words: Vec<_> = (address..address.saturating_add(count)).map(word).collect();
        if words.iter().any(Option::is_some) {
            Ok(words.into_iter().map(Option::unwrap_or_default).collect())
        } else {
            Err(ExceptionCode::IllegalDataAddress)
        }
    }
}

impl Service for Dumped {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Option<Response>, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let unit = request.slave;
        if self.runs.iter().all(|(u, ..)| *u != unit) {
            return ready(Err(ExceptionCode::GatewayTargetDevice));
        }
        let bits = |words: Vec<u16>| words.into_iter().map(|w| w != 0).collect();
        let answer = match request.request {
            Request::ReadHoldingRegisters(a, n) => {
                self.get(unit, 3, a, n).map(Response::ReadHoldingRegisters)
            }
            Request::ReadInputRegisters(a, n) => {
                self.get(unit, 4, a, n).map(Response::ReadInputRegisters)
            }
            Request::ReadCoils(a, n) => self
                .get(unit, 1, a, n)
                .map(|w| Response::ReadCoils(bits(w))),
            Request::ReadDiscreteInputs(a, n) => self
                .get(unit, 2, a, n)
                .map(|w| Response::ReadDiscreteInputs(bits(w))),
            _ => Err(ExceptionCode::IllegalFunction),
        };
        ready(answer.map(Some))
    }
}

async fn serve(dumped: Dumped) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let connected = move |stream, _| {
            let service = dumped.clone();
            async move { Ok(Some((service, stream))) }
        };
        Server::new(listener).serve(&connected, |_| ()).await
    });
    address.parse().unwrap()
}

fn dumped(dumps: &[&Dump]) -> Dumped {
    let run = |run: &crate::profile::DumpRegisters| {
        let unit = run.unit_id.unwrap_or(UNIT);
        (
            unit,
            run.function,
            run.address,
            words_of(&run.words).unwrap(),
        )
    };
    let runs = dumps.iter().flat_map(|dump| &dump.registers).map(run);
    Dumped {
        runs: Arc::new(runs.collect()),
    }
}

fn options(address: &Address) -> Options {
    Options {
        address: address.clone(),
        units: vec![UNIT],
        timeout: Duration::from_millis(500),
    }
}

/// Devices without voltage, frequency or counter: power and a state alone prove nothing.
const TELL_LITTLE: [&str; 1] = ["victron-ev-charging-station"];

/// A device with the first dump of each of its parts, and the names of the parts.
fn devices() -> Vec<(Vec<String>, Dumped)> {
    let mut files: BTreeMap<String, Vec<Profile>> = BTreeMap::new();
    for profile in modbus_profiles() {
        let file = profile.name.split('/').next().unwrap().to_owned();
        files.entry(file).or_default().push(profile);
    }
    let device = |parts: Vec<Profile>| {
        let dumps: Vec<&Dump> = parts.iter().map(|part| &part.dumps[0]).collect();
        let dumped = dumped(&dumps);
        (parts.iter().map(|part| part.name.clone()).collect(), dumped)
    };
    files.into_values().map(device).collect()
}

#[tokio::test]
async fn every_device_is_found_again_from_the_dumps_of_its_parts() {
    let mut probes = tokio::task::JoinSet::new();
    for (names, dumped) in devices() {
        probes.spawn(async move {
            let address = serve(dumped).await;
            let found = probe(&options(&address), |_| ()).await.unwrap();
            (names, found)
        });
    }
    let (mut count, mut first) = (0, 0);
    for (names, found) in probes.join_all().await {
        let fits: Vec<&String> = found[0].fits.iter().map(|fit| &fit.profile).collect();
        // Some parts tell nothing in their first dump, but hardly ever all.
        let is_found = names.iter().any(|name| fits.contains(&name));
        let tells_little = TELL_LITTLE.contains(&names[0].as_str());
        assert!(is_found != tells_little, "{names:?} are not among {fits:?}");
        count += 1;
        first += usize::from(fits.first().is_some_and(|best| names.contains(best)));
    }
    println!("{first} of {count} devices have their own profile in front");
    assert!(
        first * 4 >= count * 3,
        "only {first} of {count} are in front"
    );
}

#[tokio::test]
async fn what_is_there_is_printed_with_its_words_and_nothing_fits_zeros() {
    let meter = Profile::built_in("eastron-sdm630").unwrap();
    let address = serve(dumped(&[&meter.dumps[0]])).await;
    let found = probe(&options(&address), |_| ()).await.unwrap();
    let text = found[0].to_text(&address, true);
    assert!(text.contains("fits eastron-sdm630 (meter)"), "{text}");
    assert!(text.contains("449a 5225"), "{text}");
    assert!(text.contains("1234.567 kWh"), "{text}");
    let words = found[0].to_json()["fits"][0]["points"].to_string();
    assert!(words.contains("\"words\":\"449a 5225\""), "{words}");

    let everywhere = |function| (UNIT, function, 0, vec![0; 60_000]);
    let zeros = Dumped {
        runs: Arc::new((3..=4).map(everywhere).collect()),
    };
    let address = serve(zeros).await;
    let found = probe(&options(&address), |_| ()).await.unwrap();
    assert!(found[0].fits.is_empty(), "{:?}", found[0].fits);
    assert!(
        found[0]
            .to_text(&address, false)
            .contains("no profile fits")
    );
}

#[tokio::test]
async fn a_unit_that_does_not_answer_is_left_out_and_no_listener_is_an_error() {
    let meter = Profile::built_in("eastron-sdm630").unwrap();
    let address = serve(dumped(&[&meter.dumps[0]])).await;
    let units = Options {
        units: vec![6, 7, 8],
        ..options(&address)
    };
    let found = probe(&units, |_| ()).await.unwrap();
    assert_eq!(found.iter().map(|f| f.unit).collect::<Vec<_>>(), [7]);
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = probe(&options(&gone.to_string().parse().unwrap()), |_| ())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cannot connect"), "{error}");
}
