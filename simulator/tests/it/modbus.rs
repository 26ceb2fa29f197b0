//! The Modbus devices: values, exceptions, limits.

use std::time::Duration;

use domain::time::Timestamp;
use simulator::scenario::Scenario;
use simulator::street::{CONNECTIONS_MAX, DeviceKind};
use simulator::world::World;
use tokio_modbus::ExceptionCode;
use tokio_modbus::client::Writer;

use crate::support::{
    ANSWER_LIMIT, Client, long, scaled, signed, standing_street, start, start_recorded,
};

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
async fn a_keba_shows_one_value_a_read_and_takes_no_orders_without_a_record() {
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
    let last = 40_000 + 2 + 68 + 52 + 32 + 26 + 2 - 1;
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
        client.holding(last - 100, 125).await,
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

/// A folder for a record; gone with the test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("street-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left there harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How far into its day the street is when the car of home-03 has just begun to charge.
fn charging_ahead_s() -> i64 {
    let mut scenario = Scenario::street_10().unwrap();
    scenario.site.start = "2026-06-21T07:00:00Z".parse().unwrap();
    let mut world = World::new(&scenario, 17);
    let is_charging = |ahead_s: &i64| {
        world.advance_to(scenario.site.start.plus_s(*ahead_s));
        world.home(2).charger.as_ref().unwrap().power_w > 6_500
    };
    (0..48 * 3600).step_by(60).find(is_charging).unwrap()
}

async fn write(client: &mut Client, address: u16, word: u16) -> Result<(), ExceptionCode> {
    let call = client.context().write_single_register(address, word);
    call.await.unwrap()
}

#[tokio::test]
async fn told_devices_do_it_and_a_restarted_street_remembers() {
    let folder = Folder::new("told");
    let record = folder.0.join("told.jsonl");
    let run = start_recorded(charging_ahead_s(), 1, Some(&record)).await;
    let mut charger = run.client(Some("home-03"), "charger").await;
    for (address, word) in [(5016, 6_000), (5018, 300), (5004, 8_000)] {
        write(&mut charger, address, word).await.unwrap();
    }
    let refused = write(&mut charger, 5004, 5_999).await;
    assert_eq!(refused, Err(ExceptionCode::IllegalDataValue));
    let refused = write(&mut charger, 1100, 8_000).await;
    assert_eq!(refused, Err(ExceptionCode::IllegalDataAddress));
    let several = charger
        .context()
        .write_multiple_registers(5004, &[8_000, 0]);
    assert_eq!(several.await.unwrap(), Err(ExceptionCode::IllegalFunction));
    let mut value = async |address| i64::from(long(&charger.holding(address, 2).await.unwrap()));
    assert_eq!(
        (value(1100).await, value(1600).await, value(1602).await),
        (8_000, 6_000, 300)
    );

    let mut battery = run.client(Some("home-04"), "battery").await;
    let rates_at = 40_000 + 2 + 68 + 64;
    let minus = (-3_000_i16).cast_unsigned();
    let rates = [3_000, minus];
    let telling = battery
        .context()
        .write_multiple_registers(rates_at + 12, &rates);
    telling.await.unwrap().unwrap();
    write(&mut battery, rates_at + 5, 3).await.unwrap();
    let shown = battery.sunspec_model(124).await;
    assert_eq!(
        (shown[5], shown[12], signed(shown[13]), signed(shown[25])),
        (3, 3_000, -3_000, -2)
    );

    let mut inverter = run.client(Some("home-02"), "inverter").await;
    let limit_at = 40_000 + 2 + 68 + 52 + 32;
    write(&mut inverter, limit_at + 5, 1_000).await.unwrap();
    write(&mut inverter, limit_at + 9, 1).await.unwrap();
    let mut meter = run.client(Some("home-02"), "meter").await;
    let refused = write(&mut meter, 40_072, 1).await;
    assert_eq!(refused, Err(ExceptionCode::IllegalFunction));

    let later = {
        let mut world = run.world.lock().unwrap();
        let told_at = world.now();
        world.advance_to(told_at.plus_s(60));
        let charging = world.home(2).charger.as_ref().unwrap().power_w;
        assert_eq!(
            charging,
            8_000 * 690 / 1000,
            "the car charges with what it was told"
        );
        let battery = world.home(3).battery.as_ref().unwrap();
        assert_eq!(battery.power_w, battery.power_max_w * 3 / 10);
        let pv = world.home(1).pv.as_ref().unwrap();
        assert!(pv.power_w <= pv.rating_w / 10);
        world.advance_to(told_at.plus_s(400));
        let charging = world.home(2).charger.as_ref().unwrap().power_w;
        assert_eq!(
            charging,
            6_000 * 690 / 1000,
            "nobody has talked to it: its fail-safe"
        );
        told_at.plus_s(7_200)
    };
    let start: Timestamp = "2026-06-21T07:00:00Z".parse().unwrap();
    let ahead_s = later.unix_s() - start.unix_s();
    run.world.lock().unwrap().advance_to(later);
    let again = start_recorded(ahead_s, 1, Some(&record)).await;
    let (before, after) = (run.world.lock().unwrap(), again.world.lock().unwrap());
    assert!(
        before.homes().eq(after.homes()),
        "the same street, to the watt-second"
    );
    assert_eq!(before.feeder(), after.feeder());
}

#[tokio::test]
async fn an_inverter_generates_no_more_than_it_was_told() {
    let folder = Folder::new("limit");
    let run = start_recorded(4 * 3600, 1, Some(&folder.0.join("told.jsonl"))).await;
    let mut inverter = run.client(Some("home-02"), "inverter").await;
    let limit_at = 40_000 + 2 + 68 + 52 + 32;
    for (offset, word) in [(5, 1_000), (7, 60), (9, 1)] {
        write(&mut inverter, limit_at + offset, word).await.unwrap();
    }
    let mut world = run.world.lock().unwrap();
    let free = world.home(1).pv.clone().unwrap();
    assert!(free.power_w > free.rating_w / 5, "noon in June");
    let told_at = world.now();
    world.advance_to(told_at.plus_s(30));
    assert_eq!(
        world.home(1).pv.as_ref().unwrap().power_w,
        free.rating_w / 10
    );
    world.advance_to(told_at.plus_s(70));
    assert!(
        world.home(1).pv.as_ref().unwrap().power_w > free.rating_w / 5,
        "its time is over"
    );
}
