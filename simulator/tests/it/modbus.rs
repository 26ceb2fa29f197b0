//! The Modbus devices: values, exceptions, limits.

use std::time::Duration;

use simulator::street::{CONNECTIONS_MAX, DeviceKind};
use tokio_modbus::ExceptionCode;
use tokio_modbus::client::Writer;

use crate::support::{ANSWER_LIMIT, Client, long, scaled, signed, standing_street, start};

#[tokio::test]
async fn every_device_of_the_street_is_there() {
    let run = standing_street().await;
    let count = |kind| run.street.devices.iter().filter(|d| d.kind == kind).count();
    assert_eq!(count(DeviceKind::SunSpecInverter), 8);
    assert_eq!(count(DeviceKind::SunSpecBattery), 4);
    assert_eq!(count(DeviceKind::Keba), 2);
    assert_eq!(count(DeviceKind::Sdm630), 6);
    assert_eq!(count(DeviceKind::SunSpecMeter), 3 + 1);
    assert_eq!(run.find(None, "meter").0, DeviceKind::SunSpecMeter);
}

#[tokio::test]
async fn sunspec_devices_show_the_world() {
    let run = standing_street().await;
    let (home_2, home_4, feeder) = {
        let world = run.world.lock().unwrap();
        (world.home(1).clone(), world.home(3).clone(), world.feeder())
    };

    let meter = run
        .client(Some("home-02"), "meter")
        .await
        .sunspec_model(203)
        .await;
    assert_eq!(scaled(meter[18], meter[22]), home_2.meter.power_w);
    assert!(home_2.meter.power_w < -500, "panels feed in at noon");
    assert_eq!(i64::from(long(&meter[46..])), home_2.meter.import_wh());
    assert_eq!(i64::from(long(&meter[38..])), home_2.meter.export_wh());

    let inverter = run
        .client(Some("home-02"), "inverter")
        .await
        .sunspec_model(103)
        .await;
    let pv = home_2.pv.unwrap();
    assert_eq!(scaled(inverter[14], inverter[15]), pv.power_w);
    assert_eq!(i64::from(long(&inverter[24..])), pv.energy_ws / 3600);

    let shown = run
        .client(Some("home-04"), "battery")
        .await
        .sunspec_model(802)
        .await;
    let battery = home_4.battery.unwrap();
    assert_eq!(scaled(shown[47], shown[63]), battery.power_w);
    assert_eq!(
        (i64::from(shown[11]), signed(shown[56])),
        (battery.soc_per_mille(), -1)
    );
    assert_eq!(scaled(shown[3], shown[53]), battery.capacity_wh);

    let shown = run.client(None, "meter").await.sunspec_model(203).await;
    assert_eq!(scaled(shown[18], shown[22]), feeder.meter.power_w / 10 * 10);
    assert_eq!(i64::from(long(&shown[46..])), feeder.meter.import_wh());
    assert_eq!(i64::from(long(&shown[38..])), feeder.meter.export_wh());
}

#[tokio::test]
async fn an_sdm630_shows_the_world_in_floats() {
    let run = standing_street().await;
    let meter = run.world.lock().unwrap().home(7).meter;
    let mut client = run.client(Some("home-08"), "meter").await;
    for (address, expect) in [
        (0x0034, meter.power_w as f64),
        (0x0048, meter.import_wh() as f64 / 1000.0),
        (0x004A, meter.export_wh() as f64 / 1000.0),
        (0x0046, 50.0),
    ] {
        let shown = f64::from(client.input_f32(address).await);
        assert!(
            (shown - expect).abs() < 0.0005,
            "{address:#06x}: {shown}, not {expect}"
        );
    }
    assert!(client.input(0, 80).await.is_ok());
    assert_eq!(
        client.input(0, 81).await,
        Err(ExceptionCode::IllegalDataValue)
    );
    assert_eq!(
        client.input(0x0166, 2).await,
        Err(ExceptionCode::IllegalDataAddress)
    );
    assert_eq!(
        client.holding(0, 2).await,
        Err(ExceptionCode::IllegalFunction)
    );
}

#[tokio::test]
async fn a_keba_shows_one_value_a_read_and_takes_no_orders() {
    // A quarter past one on the street's clock, or a little later: the car of home-03 is home.
    let run = start(5 * 3600 + 45 * 60, 1).await;
    let charger = run.world.lock().unwrap().home(2).charger.clone().unwrap();
    let mut client = run.client(Some("home-03"), "charger").await;
    let mut value = async |address| i64::from(long(&client.holding(address, 2).await.unwrap()));
    assert_eq!(value(1020).await, charger.power_w * 1000);
    assert_eq!(value(1036).await, charger.energy_ws / 360);
    assert_eq!(value(1502).await, charger.session_ws / 360);
    assert_eq!(value(1000).await == 3, charger.power_w > 0);
    assert_eq!(
        client.holding(1020, 4).await,
        Err(ExceptionCode::IllegalDataAddress)
    );
    assert_eq!(
        client.holding(1021, 2).await,
        Err(ExceptionCode::IllegalDataAddress)
    );
    assert_eq!(
        client.input(1020, 2).await,
        Err(ExceptionCode::IllegalFunction)
    );
    let order = client
        .context()
        .write_single_register(5004, 16_000)
        .await
        .unwrap();
    assert_eq!(order, Err(ExceptionCode::IllegalFunction));
}

#[tokio::test]
async fn wrong_units_and_addresses_are_refused() {
    let run = standing_street().await;
    let (_, addr, unit) = run.find(Some("home-01"), "inverter");
    let mut stranger = Client::connect(addr, unit + 1).await;
    assert_eq!(
        stranger.holding(40_000, 2).await,
        Err(ExceptionCode::GatewayTargetDevice)
    );
    let mut client = Client::connect(addr, unit).await;
    let last = 40_000 + 2 + 68 + 52 + 2 - 1;
    assert_eq!(client.holding(last, 1).await, Ok(vec![0]));
    assert_eq!(
        client.holding(last, 2).await,
        Err(ExceptionCode::IllegalDataAddress)
    );
    assert_eq!(
        client.holding(39_999, 2).await,
        Err(ExceptionCode::IllegalDataAddress)
    );
    assert_eq!(
        client.holding(40_000, 0).await,
        Err(ExceptionCode::IllegalDataValue)
    );
    assert_eq!(
        client.holding(40_000, 125).await,
        Err(ExceptionCode::IllegalDataAddress)
    );
    assert_eq!(
        client.input(40_000, 2).await,
        Err(ExceptionCode::IllegalFunction)
    );
}

#[tokio::test]
async fn registers_follow_the_clock() {
    let run = start(0, 3600).await;
    let mut client = run.client(Some("home-08"), "meter").await;
    let first = client.input_f32(0x0048).await;
    tokio::time::timeout(ANSWER_LIMIT, async {
        while client.input_f32(0x0048).await < first + 0.2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("a home that uses energy must count it");
    let now = run.clock.now();
    assert!(client.input_f32(0x0048).await > first);
    assert!(run.world.lock().unwrap().now() >= now.plus_s(-5));
}

#[tokio::test]
async fn connections_are_limited_and_places_come_free() {
    let run = standing_street().await;
    let (_, addr, unit) = run.find(None, "meter");
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut client = Client::connect(addr, unit).await;
        assert!(client.holding(40_000, 2).await.is_ok());
        open.push(client);
    }
    assert_eq!(
        Client::connect(addr, unit)
            .await
            .try_holding(40_000, 2)
            .await,
        None
    );
    open.pop();
    tokio::time::timeout(ANSWER_LIMIT, async {
        while Client::connect(addr, unit)
            .await
            .try_holding(40_000, 2)
            .await
            .is_none()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("a closed connection must free its place");
}

#[tokio::test]
async fn devices_stop_with_the_token() {
    let run = standing_street().await;
    let mut client = run.client(None, "meter").await;
    assert!(client.holding(40_000, 2).await.is_ok());
    run.shutdown.cancel();
    tokio::time::timeout(ANSWER_LIMIT, async {
        while client.try_holding(40_000, 2).await.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("a stopped device must close its connections");
}
