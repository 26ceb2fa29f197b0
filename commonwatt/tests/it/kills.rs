//! The platform with its broker, and the gateway, killed again and again as the programs that people run:
//! every interval is in the books once, and the books hold what the meter counted.

use std::thread::sleep;
use std::time::Duration;

use runtime::args;
use runtime::db::Db;

use crate::keys::{INTERVAL_S, Lane};

/// Times that each program is killed.
const KILLS: u32 = 6;
/// Energy of an interval at the meter's 6 kW.
const INTERVAL_WH: f64 = 6000.0 * INTERVAL_S as f64 / 3600.0;

/// Begin and energy of every accepted reading, as they are in the books.
async fn books(path: &str) -> Vec<(i64, i64)> {
    let db = Db::open(path).await.unwrap();
    let accepted =
        "SELECT start_s, imported_wh FROM settle_readings WHERE reason IS NULL ORDER BY start_s";
    db.fetch_all(accepted, args![]).await.unwrap()
}

#[test]
fn a_platform_and_a_gateway_that_are_killed_again_and_again_lose_and_repeat_nothing() {
    if std::env::var_os("COMMONWATT_SLOW").is_none() {
        eprintln!("skipped: set COMMONWATT_SLOW=1");
        return;
    }
    let (mut lane, mut platform) = Lane::begin();
    let code = lane.claim();
    let mut gateway = lane.gateway(Some(&format!("{code}\n")));
    let mut newest = lane.accepted(&[], 0);
    for round in 0..KILLS {
        platform.kill();
        // Long enough for an interval that only the outbox holds, or hardly any time at all.
        sleep(Duration::from_millis(if round % 2 == 0 {
            12_000
        } else {
            300
        }));
        platform = lane.serve();
        gateway.kill();
        sleep(Duration::from_millis(u64::from(round) * 700));
        gateway = lane.gateway(None);
        newest = lane.accepted(&[], newest);
    }
    gateway.stop();
    platform.stop();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let path = lane.path("platform/commonwatt.db").display().to_string();
    let readings = runtime.block_on(books(&path));
    assert!(readings.len() > KILLS as usize, "{readings:?}");
    for pair in readings.windows(2) {
        assert_eq!(pair[0].0 + i64::from(INTERVAL_S), pair[1].0, "{readings:?}");
    }
    let counted: i64 = readings.iter().map(|(_, wh)| wh).sum();
    let truth = INTERVAL_WH * readings.len() as f64;
    assert!(
        (counted as f64 - truth).abs() < 3.0,
        "{counted} Wh of {truth} Wh"
    );
}
