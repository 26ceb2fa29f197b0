//! A gateway with 1,000 metering points, with the programs as people run them: enrolled with a claim code,
//! every interval of every point signed, delivered and in the platform's books, true to the watt-hour.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domain::ids::{Digest32, to_hex};

use domain::reading::{Obis, Reading};
use domain::signed::Signed;
use runtime::args;
use runtime::db::Db;

use crate::keys::{Lane, PASSWORD};

const POINTS: usize = 1000;
/// Units on one address: Modbus knows 247 at most.
const UNITS: usize = 200;
const INTERVAL_S: u32 = 60;

/// Milliseconds since 1970, the one clock of this machine.
#[allow(
    clippy::disallowed_methods,
    reason = "the truth that the readings are held against"
)]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// What the counter of point `n` truly shows at a time, in milliwatt-hours: each runs at another power.
fn truth_mwh(n: usize, at_ms: i64, from_ms: i64) -> i64 {
    let n = i64::try_from(n).unwrap();
    (1_000 + n) * 1_000 + (3_000 + 5 * n) * (at_ms - from_ms) / 3_600
}

/// SDM630s, `UNITS` of them behind one address.
fn meters(block: usize, from_ms: i64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap(), block, from_ms));
        }
    });
    address
}

#[allow(
    clippy::cast_precision_loss,
    reason = "the meters show single precision"
)]
fn serve(mut stream: TcpStream, block: usize, from_ms: i64) {
    stream.set_nodelay(true).unwrap();
    let mut request = [0; 12];
    while stream.read_exact(&mut request).is_ok() {
        let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
        let (first, count) = (word(8), word(10));
        let n = block * UNITS + usize::from(request[6]) - 1;
        let counter = truth_mwh(n, now_ms(), from_ms) as f32 / 1e6;
        let bytes = (first..first + count).flat_map(|address| {
            let value: f32 = match address & !1 {
                0x34 => (3_000 + 5 * n) as f32,
                0x48 => counter,
                0x4a => 0.0,
                _ => f32::NAN,
            };
            let bytes = value.to_be_bytes();
            let half = usize::from(address & 1) * 2;
            [bytes[half], bytes[half + 1]]
        });
        let bytes: Vec<u8> = bytes.collect();
        let length = u16::try_from(bytes.len() + 3).unwrap().to_be_bytes();
        let head = [0, 0, length[0], length[1], request[6], request[7]];
        let mut answer = [&request[..2], &head].concat();
        answer.push(u8::try_from(bytes.len()).unwrap());
        answer.extend(bytes);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn role(n: usize) -> &'static str {
    if n == 0 { "connection" } else { "submeter" }
}

fn site() -> String {
    let password = to_hex(&Digest32::of(PASSWORD.as_bytes()).0);
    let mut points = String::new();
    for n in 0..POINTS {
        let point = format!(
            "{{ id = \"p-{n}\", role = \"{}\", participant = \"home-1\", rating_w = 20000 }},\n",
            role(n)
        );
        points.push_str(&point);
    }
    format!(
        "community = \"lane\"\ninterval_length_s = {INTERVAL_S}\ngate_closure_s = 5\n\
         [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
         [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n\
         [[participants]]\nid = \"home-1\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"10\"\n\
         [[gateways]]\nid = \"gw-1\"\npassword_sha256 = \"{password}\"\npoints = [\n{points}]\n"
    )
}

fn gateway(broker: &str, operator: &str, from_ms: i64) -> String {
    let (host, port) = broker.rsplit_once(':').unwrap();
    let mut text = format!(
        "community = \"lane\"\ngateway = \"gw-1\"\ndata_dir = \"gateway\"\n\
         interval_length_s = {INTERVAL_S}\npoll_interval_s = 15\noperator_key = \"{operator}\"\n\
         [mqtt]\nhost = \"{host}\"\nport = {port}\nuser = \"gw-1\"\npassword = \"{PASSWORD}\"\n"
    );
    let addresses: Vec<String> = (0..POINTS / UNITS).map(|b| meters(b, from_ms)).collect();
    for n in 0..POINTS {
        let (address, unit) = (&addresses[n / UNITS], n % UNITS + 1);
        write!(
            text,
            "[[devices]]\nname = \"m-{n}\"\nprofile = \"eastron-sdm630\"\npoint = \"p-{n}\"\n\
             role = \"{}\"\nrating_w = 20000\naddress = \"{address}\"\nunit = {unit}\n",
            role(n)
        )
        .unwrap();
    }
    text
}

/// All accepted readings in the platform's books, point by point.
async fn books(path: &Path) -> BTreeMap<String, Vec<Reading>> {
    let db = Db::open(&path.to_string_lossy()).await.unwrap();
    let sql = "SELECT point, bytes FROM settle_readings WHERE reason IS NULL
        ORDER BY point, sequence";
    let rows: Vec<(String, Vec<u8>)> = db.fetch_all(sql, args![]).await.unwrap();
    db.close().await;
    let mut books: BTreeMap<String, Vec<Reading>> = BTreeMap::new();
    for (point, signed) in rows {
        let reading = Signed::<Reading>::from_bytes(signed).stored().unwrap();
        books.entry(point).or_default().push(reading);
    }
    books
}

async fn count(path: &Path, sql: &'static str) -> i64 {
    let db = Db::open(&path.to_string_lossy()).await.unwrap();
    let (count,): (i64,) = db.fetch_one(sql, args![]).await.unwrap();
    db.close().await;
    count
}

#[tokio::test]
async fn a_thousand_points_of_one_gateway_are_in_the_books_true_to_the_watt_hour() {
    if std::env::var_os("COMMONWATT_SLOW").is_none() {
        println!("skipped: set COMMONWATT_SLOW=1 to run a gateway with 1,000 points for minutes");
        return;
    }
    let (mut lane, from_ms) = (Lane::new(), now_ms());
    fs::write(lane.path("site.toml"), site()).unwrap();
    let mut platform = lane.serve();
    let broker = platform.said("broker").replace("mqtt://", "");
    let code = lane.claim();
    let operator = fs::read_to_string(lane.path("platform/operator.pub")).unwrap();
    let text = gateway(&broker, operator.trim(), from_ms);
    fs::write(lane.path("gateway.toml"), text).unwrap();
    let mut gateway = lane.gateway(Some(&format!("{code}\n")));
    gateway.logs("the platform has enrolled this gateway's key");

    let path = lane.path("platform/commonwatt.db");
    let complete = "SELECT COUNT(*) FROM (SELECT point FROM settle_readings
        WHERE reason IS NULL GROUP BY point HAVING COUNT(*) >= 2)";
    let end_ms = now_ms() + 400_000;
    while count(&path, complete).await < i64::try_from(POINTS).unwrap() {
        assert!(now_ms() < end_ms, "{}", gateway.log());
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    gateway.stop();
    platform.stop();

    let refused = "SELECT (SELECT COUNT(*) FROM settle_readings WHERE reason IS NOT NULL)
        + (SELECT COUNT(*) FROM settle_refused)";
    assert_eq!(count(&path, refused).await, 0);
    let books = books(&path).await;
    assert_eq!(books.len(), POINTS);
    for n in 0..POINTS {
        let readings = &books[&format!("p-{n}")];
        for pair in readings.windows(2) {
            assert_eq!(pair[0].sequence + 1, pair[1].sequence);
            assert_eq!(pair[0].interval.end(), pair[1].interval.start());
            assert_eq!(pair[0].registers[0].end, pair[1].registers[0].start);
        }
        for reading in readings {
            let (interval, import) = (reading.interval, &reading.registers[0]);
            assert_eq!(import.obis, Obis::IMPORT);
            for (shown, at) in [
                (import.start, interval.start()),
                (import.end, interval.end()),
            ] {
                let off_mwh = shown.wh() * 1000 - truth_mwh(n, at.unix_ms(), from_ms);
                assert!(off_mwh.abs() <= 1000, "p-{n} is {off_mwh} mWh off at {at}");
            }
        }
    }
}
