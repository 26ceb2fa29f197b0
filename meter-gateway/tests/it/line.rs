//! One Modbus line against devices that misbehave.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::energy::{Energy, Power};
use domain::time::Timestamp;
use meter_gateway::bus::Poller;
use meter_gateway::device::decode::WordOrder;
use meter_gateway::device::modbus::{Line, ModbusError};
use meter_gateway::profile::{ModbusRules, Profile};
use runtime::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::device::{Device, Fault, Make, POWER_W};

const RULES: ModbusRules = ModbusRules {
    transports: Vec::new(),
    serial: None,
    unit_id: None,
    function: None,
    word_order: WordOrder::HighFirst,
    connect_delay_ms: 0,
    keep_alive_s: None,
    offset_per_connector: None,
    max_words: 125,
    one_value_per_read: false,
    max_hole_words: 0,
    gap_ms: 1,
    timeout_ms: 200,
    models: Vec::new(),
};

fn clock() -> Clock {
    Clock::scaled(Timestamp::from_unix_s(1_782_000_000), 1)
}

/// Answers each request 300 ms late, with the asked address as the value and, like some real
/// servers, with the transaction id of the newest request on that connection.
async fn answer_late_with_the_newest_id(mut stream: TcpStream) {
    let mut requests: Vec<[u8; 12]> = Vec::new();
    let mut request = [0; 12];
    stream.read_exact(&mut request).await.unwrap();
    requests.push(request);
    let wait = tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut request));
    if matches!(wait.await, Ok(Ok(_))) {
        requests.push(request);
    }
    let newest = *requests.last().unwrap();
    for old in requests {
        let answer = [
            newest[0], newest[1], 0, 0, 0, 5, old[6], old[7], 2, old[8], old[9],
        ];
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_late_answer_never_becomes_another_registers_value() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer_late_with_the_newest_id(stream));
        }
    });
    let mut line = Line::new(&address);
    for register in [111, 222, 333] {
        let answer = line.read(1, 3, register, 1, &RULES).await;
        assert!(
            matches!(answer, Err(ModbusError::Timeout(200))),
            "{answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let patient = ModbusRules {
        timeout_ms: 2000,
        ..RULES
    };
    assert_eq!(line.read(1, 3, 444, 1, &patient).await.unwrap(), [444]);
}

#[tokio::test]
async fn a_wrong_word_count_drops_the_connection_and_exceptions_keep_it() {
    let device = Device::start(&clock(), Make::Sdm630).await;
    let mut line = Line::new(&device.address);
    let connection = line.connect(&RULES).await.unwrap();
    device.set(Fault::Busy);
    assert!(matches!(
        line.read(1, 4, 0x48, 2, &RULES).await,
        Err(ModbusError::Busy)
    ));
    device.set(Fault::IllegalAddress);
    assert!(matches!(
        line.read(1, 4, 0x48, 2, &RULES).await,
        Err(ModbusError::Exception(2))
    ));
    assert_eq!(line.connect(&RULES).await.unwrap(), connection);
    device.set(Fault::OneWordShort);
    let short = line.read(1, 4, 0x48, 4, &RULES).await;
    assert!(
        matches!(short, Err(ModbusError::WrongCount { asked: 4, got: 3 })),
        "{short:?}"
    );
    assert_eq!(line.connect(&RULES).await.unwrap(), connection + 1);
    device.set(Fault::Silent);
    assert!(matches!(
        line.read(1, 4, 0x48, 2, &RULES).await,
        Err(ModbusError::Timeout(_))
    ));
    device.set(Fault::None);
    assert_eq!(
        line.read(1, 4, 0x34, 2, &RULES).await.unwrap(),
        [0x45bb, 0x8000]
    );
    drop(device);
    let nobody = Line::new("127.0.0.1:1").read(1, 4, 0, 1, &RULES).await;
    assert!(
        matches!(nobody, Err(ModbusError::Connect { .. })),
        "{nobody:?}"
    );
}

#[tokio::test]
async fn a_poll_brings_all_values_and_no_zeros_for_missing_ones() {
    let clock = clock();
    let device = Device::start(&clock, Make::Sdm630).await;
    let profile = Arc::new(Profile::built_in("eastron-sdm630").unwrap());
    let mut poller = Poller::new(0, profile, 1);
    let mut line = Line::new(&device.address);
    let sample = poller.poll(&mut line, &clock).await.unwrap();
    assert_eq!(sample.values.power, Some(Power::from_w(POWER_W)));
    assert_eq!(sample.values.export, Some(Energy::from_wh(7000)));
    assert!(sample.values.import.unwrap().wh() >= crate::device::BASE_WH);
    device.set(Fault::NotANumber);
    let sample = poller.poll(&mut line, &clock).await.unwrap();
    assert_eq!(
        (sample.values.import, sample.values.export),
        (None, Some(Energy::from_wh(7000)))
    );
}

/// A common model with this serial number, `filler` words of an unknown model, and model 802.
fn battery(serial: &str, filler: u16, soc: u16) -> Vec<u16> {
    let mut words = vec![0x5375, 0x6e53, 1, 66];
    let mut common = vec![0; 66];
    for (index, pair) in serial.as_bytes().chunks(2).enumerate() {
        common[48 + index] = u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
    }
    words.extend(common);
    words.extend([64001, filler]);
    words.extend(vec![9; usize::from(filler)]);
    let mut model = vec![0; 64];
    (model[0], model[1], model[11], model[56], model[47]) = (802, 62, soc, 0xffff, 0x8000);
    words.extend(model);
    words.extend([0xffff, 0]);
    words
}

#[tokio::test]
async fn sunspec_models_are_found_again_after_a_reconnect() {
    let clock = clock();
    let make = |serial, filler, soc, shift| Make::Sunspec {
        words: battery(serial, filler, soc),
        shift,
    };
    let mut device = Device::start(&clock, make("AB1", 3, 875, 0)).await;
    let profile = Arc::new(Profile::built_in("sunspec-battery-802").unwrap());
    let mut poller = Poller::new(0, profile, 1);
    let mut line = Line::new(&device.address);
    let sample = poller.poll(&mut line, &clock).await.unwrap();
    assert_eq!(
        (sample.values.soc_permille, sample.values.power),
        (Some(875), None)
    );
    assert_eq!(sample.identity.unwrap().serial, "AB1");
    device.become_make(make("CD2", 11, 120, 10_000));
    device.restart().await;
    // That the connection has ended is noticed before anything is asked on it.
    let sample = poller.poll(&mut line, &clock).await.unwrap();
    assert_eq!(sample.values.soc_permille, Some(120));
    assert_eq!(sample.identity.unwrap().serial, "CD2");
    let other = Arc::new(Profile::built_in("sunspec-meter").unwrap());
    let wrong = Poller::new(0, other, 1).poll(&mut line, &clock).await;
    assert!(matches!(wrong, Err(ModbusError::NoModel(_))), "{wrong:?}");
}

#[tokio::test]
async fn a_busy_sunspec_device_is_not_explored_again() {
    let clock = clock();
    let words = battery("AB1", 3, 875);
    let device = Device::start(&clock, Make::Sunspec { words, shift: 0 }).await;
    let profile = Arc::new(Profile::built_in("sunspec-battery-802").unwrap());
    let mut poller = Poller::new(0, profile, 1);
    let mut line = Line::new(&device.address);
    poller.poll(&mut line, &clock).await.unwrap();
    device.requests.store(0, Ordering::Relaxed);
    poller.poll(&mut line, &clock).await.unwrap();
    let of_one_poll = device.requests.swap(0, Ordering::Relaxed);
    device.set(Fault::Busy);
    let busy = poller.poll(&mut line, &clock).await;
    assert!(matches!(busy, Err(ModbusError::Busy)), "{busy:?}");
    device.set(Fault::None);
    device.requests.store(0, Ordering::Relaxed);
    let sample = poller.poll(&mut line, &clock).await.unwrap();
    assert_eq!(sample.identity.unwrap().serial, "AB1");
    assert_eq!(device.requests.load(Ordering::Relaxed), of_one_poll);
    device.set(Fault::IllegalAddress);
    let moved = poller.poll(&mut line, &clock).await;
    assert!(matches!(moved, Err(ModbusError::Exception(2))), "{moved:?}");
    device.set(Fault::None);
    device.requests.store(0, Ordering::Relaxed);
    poller.poll(&mut line, &clock).await.unwrap();
    assert!(device.requests.load(Ordering::Relaxed) > of_one_poll);
}

#[tokio::test]
async fn exception_2_on_an_optional_point_is_no_error() {
    let text = r#"
name = "test"
kind = "meter"
link = "modbus"
dump = []
[modbus]
max_words = 10
gap_ms = 1
timeout_ms = 500
[[point]]
quantity = "import"
function = 3
address = 40000
type = "u32"
unit = "Wh"
[[point]]
quantity = "export"
function = 3
address = 7
type = "u32"
unit = "Wh"
optional = true
"#;
    let clock = clock();
    let words = vec![1, 2];
    let device = Device::start(&clock, Make::Sunspec { words, shift: 0 }).await;
    let mut line = Line::new(&device.address);
    let profile = Arc::new(Profile::from_toml(text, "test.toml").unwrap());
    let mut poller = Poller::new(0, profile, 1);
    let sample = poller.poll(&mut line, &clock).await.unwrap();
    assert_eq!(
        (sample.values.import, sample.values.export),
        (Some(Energy::from_wh(65_538)), None)
    );
    let must = text.replace("optional = true", "optional = false");
    let profile = Arc::new(Profile::from_toml(&must, "test.toml").unwrap());
    let refused = Poller::new(0, profile, 1).poll(&mut line, &clock).await;
    assert!(
        matches!(refused, Err(ModbusError::Exception(2))),
        "{refused:?}"
    );
}
