//! Meters that speak by themselves, on TCP and on a serial port.

use std::sync::Arc;
use std::time::Duration;

use domain::energy::Energy;
use domain::time::Timestamp;
use meter_gateway::bus::stream::{Port, run_port};
use meter_gateway::bus::{Report, Schedule};
use meter_gateway::device::address::Address;
use meter_gateway::device::telegram::{Language, TelegramRules};
use meter_gateway::profile::{Link, Profile};
use runtime::clock::Clock;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::by_hand::serial_pair;

fn telegram(import_wh: u32) -> Vec<u8> {
    let kwh = format!("{:06}.{:03}", import_wh / 1000, import_wh % 1000);
    let body = format!(
        "/ABC5\\example\r\n\r\n0-0:1.0.0(000101000000W)\r\n0-0:96.1.1(4530303132333435)\r\n\
         1-0:1.8.1({kwh}*kWh)\r\n1-0:1.8.2(000001.000*kWh)\r\n1-0:2.8.1(000000.000*kWh)\r\n\
         1-0:2.8.2(000000.000*kWh)\r\n1-0:1.7.0(00.500*kW)\r\n1-0:2.7.0(00.000*kW)\r\n!"
    );
    let mut crc = 0_u16;
    for byte in body.bytes() {
        crc ^= u16::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xa001
            } else {
                crc >> 1
            };
        }
    }
    format!("{body}{crc:04X}\r\n").into_bytes()
}

/// Listens at an address as two devices; the clock is 1000 times as fast as the wall.
fn listen(address: &str, silence_s: u32) -> (mpsc::Receiver<Report>, Clock, CancellationToken) {
    let profile = Arc::new(Profile::built_in("dsmr-p1").unwrap());
    assert!(matches!(profile.link, Link::Telegram(Language::P1, _)));
    let port = Port {
        address: address.parse::<Address>().unwrap(),
        language: Language::P1,
        rules: TelegramRules {
            checksum: true,
            silence_s,
        },
        devices: vec![(3, profile.clone()), (7, profile)],
    };
    let clock = Clock::scaled(Timestamp::from_unix_s(1_782_000_000), 1000);
    let (reports, heard) = mpsc::channel(64);
    let shutdown = CancellationToken::new();
    let schedule = Schedule {
        poll_ms: 1000,
        interval_ms: 900_000,
    };
    tokio::spawn(run_port(
        port,
        schedule,
        clock.clone(),
        reports,
        shutdown.clone(),
    ));
    (heard, clock, shutdown)
}

async fn next(heard: &mut mpsc::Receiver<Report>) -> Report {
    let wait = tokio::time::timeout(Duration::from_secs(5), heard.recv());
    wait.await.unwrap().unwrap()
}

#[tokio::test]
async fn a_meter_is_heard_from_the_middle_of_a_telegram_on_and_again_after_it_was_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (mut heard, clock, shutdown) = listen(&format!("tcp://{address}"), 30);
    let before = clock.now();
    let (mut meter, _) = listener.accept().await.unwrap();
    let whole = telegram(1_000_000);
    meter.write_all(&whole[100..]).await.unwrap();
    meter.write_all(&whole[..50]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(40)).await;
    let late = clock.now();
    meter.write_all(&whole[50..]).await.unwrap();
    for device in [3, 7] {
        let report = next(&mut heard).await;
        let sample = report.outcome.unwrap();
        assert_eq!(report.device, device);
        assert_eq!(sample.values.import, Some(Energy::from_wh(1_001_000)));
        assert_eq!(sample.identity.unwrap().serial, "E0012345");
        // It has the time at which it began to come in, and not the meter's, which says 2000.
        assert!(before <= sample.read_at && sample.read_at < late);
    }
    let mut broken = telegram(2_000_000);
    broken[120] ^= 4;
    meter.write_all(&broken).await.unwrap();
    assert_eq!(next(&mut heard).await.outcome, Err("checksum"));
    assert_eq!(next(&mut heard).await.outcome, Err("checksum"));
    drop(meter);
    assert_eq!(next(&mut heard).await.outcome, Err("transport"));
    assert_eq!(next(&mut heard).await.outcome, Err("transport"));
    let (mut meter, _) = listener.accept().await.unwrap();
    meter.write_all(&telegram(3_000_000)).await.unwrap();
    let sample = next(&mut heard).await.outcome.unwrap();
    assert_eq!(sample.values.import, Some(Energy::from_wh(3_001_000)));
    shutdown.cancel();
}

#[tokio::test]
async fn a_silent_meter_is_a_time_out_and_a_serial_port_is_opened_again() {
    let (near, far, path) = serial_pair();
    let (mut heard, _, shutdown) = listen(&format!("serial:{path}?baud=115200"), 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    near.write_all(&telegram(5000)).await.unwrap();
    let sample = next(&mut heard).await.outcome.unwrap();
    assert_eq!(sample.values.import, Some(Energy::from_wh(6000)));
    assert_eq!(next(&mut heard).await.device, 7);
    assert_eq!(next(&mut heard).await.outcome, Err("timeout"));
    assert_eq!(next(&mut heard).await.outcome, Err("timeout"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    near.write_all(&telegram(6000)).await.unwrap();
    let sample = next(&mut heard).await.outcome.unwrap();
    assert_eq!(sample.values.import, Some(Energy::from_wh(7000)));
    shutdown.cancel();
    drop(far);
}
