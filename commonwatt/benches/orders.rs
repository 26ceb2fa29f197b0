//! The live path: orders sent by this process to a platform in another, each answered when it is verified,
//! held and on disk. Printed beside what checking the signatures alone takes.
//!
//! `cargo bench -p commonwatt --bench orders [-- CONNECTIONS ORDERS]`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement: it looks at the watch, and stops where something is missing"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::energy::Energy;
use domain::ids::{CommunityId, ParticipantId, PointId};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::{Interval, Timestamp};

const PARTICIPANTS: u32 = 100;
const CONNECTIONS: usize = 64;
const ORDERS: usize = 20_000;
const LENGTH_S: u32 = 900;

fn site() -> String {
    let member = |n: u32| {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        let key = PublicKey::of(&SigningKey::from_bytes(&seed));
        let key = STANDARD.encode(key.to_bytes());
        format!(
            "[[participants]]\nid = \"home-{n}\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"1000\"\n\
             [[gateways]]\nid = \"gw-{n}\"\npublic_key = \"{key}\"\npassword_sha256 = \"{}\"\n\
             points = [{{ id = \"home-{n}.meter\", role = \"connection\", participant = \"home-{n}\", \
             rating_w = 360000 }}]\n",
            "0".repeat(64)
        )
    };
    let members: String = (1..=PARTICIPANTS).map(member).collect();
    format!(
        "community = \"lane\"\n[tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
         [market]\nmessages_per_minute_max = 1000000\n\
         [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n\
         writes_per_minute_max = 100000000\n{members}"
    )
}

struct Serve {
    child: Child,
    address: String,
}

impl Serve {
    fn start(folder: &Path) -> Serve {
        let file = folder.join("site.toml");
        std::fs::write(&file, site()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_commonwatt"))
            .args(["serve", "--config"])
            .arg(&file)
            .arg("--data-dir")
            .arg(folder.join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let page = lines
            .find(|line| line.starts_with("page"))
            .expect("it did not start");
        let address = page
            .split("http://")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned();
        Serve { child, address }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bids and offers of all participants, spread over the intervals that are open.
fn signed_orders(folder: &Path, count: usize) -> Vec<(SigningKey, Signed<Order>)> {
    let keys: Vec<SigningKey> = (1..=PARTICIPANTS)
        .map(|n| folder.join(format!("data/participants/home-{n}.key")))
        .map(|path| runtime::key_file::read(&path).unwrap())
        .collect();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let now = Timestamp::from_unix_s(i64::try_from(now).unwrap());
    let first = Interval::containing(now, LENGTH_S).unwrap().offset(3);
    let street = CommunityId::new("lane").unwrap();
    let one = |n: usize| {
        let who = n % keys.len();
        let name = format!("home-{}", who + 1);
        let order = Order {
            participant: ParticipantId::new(&name).unwrap(),
            point: PointId::new(format!("{name}.meter")).unwrap(),
            side: if n.is_multiple_of(2) {
                Side::Bid
            } else {
                Side::Offer
            },
            interval: first.offset(i64::try_from(n / keys.len() % 90).unwrap()),
            energy: Energy::from_wh(100),
            limit: Price::from_micro_per_kwh(150_000),
            sequence: u64::try_from(n / keys.len()).unwrap() + 1,
            replaces: None,
            preference: domain::order::Preference::default(),
        };
        (keys[who].clone(), Signed::sign(&keys[who], &street, &order))
    };
    (0..count).map(one).collect()
}

/// Signatures checked per second, whole messages, on one thread.
fn verified_per_s(orders: &[(SigningKey, Signed<Order>)]) -> f64 {
    let street = CommunityId::new("lane").unwrap();
    let some = &orders[..orders.len().min(4000)];
    let start = Instant::now();
    for (key, signed) in some {
        assert!(signed.verify(PublicKey::of(key), &street).is_ok());
    }
    count(some.len()) / start.elapsed().as_secs_f64()
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap())
}

/// Sends over one connection, each order after the answer to the one before, and gives the times.
fn send(address: &str, orders: &[&[u8]]) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = vec![0; 4096];
    let mut times = Vec::with_capacity(orders.len());
    for order in orders {
        let head = format!(
            "POST /api/v1/orders HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
            order.len()
        );
        let request = [head.as_bytes(), order].concat();
        let start = Instant::now();
        stream.write_all(&request).unwrap();
        let mut have = 0;
        let status = loop {
            let read = stream.read(&mut answer[have..]).unwrap();
            assert!(read > 0, "the connection ended");
            have += read;
            if let Some(status) = whole(&answer[..have]) {
                break status;
            }
        };
        times.push(start.elapsed());
        let told = String::from_utf8_lossy(&answer[..have]);
        assert_eq!(status, 201, "{told}");
    }
    times
}

/// The status of an answer that has come whole.
fn whole(bytes: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    })?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (body.len() >= length).then_some(status)
}

fn measure(
    connections: usize,
    address: &str,
    orders: &[(SigningKey, Signed<Order>)],
) -> (f64, Vec<Duration>) {
    let start = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let sender = |n: usize| {
            let own: Vec<&[u8]> = orders
                .iter()
                .skip(n)
                .step_by(connections)
                .map(|(_, o)| o.as_bytes())
                .collect();
            scope.spawn(move || send(address, &own))
        };
        let senders: Vec<_> = (0..connections).map(sender).collect();
        senders
            .into_iter()
            .flat_map(|s| s.join().unwrap())
            .collect()
    });
    let rate = count(times.len()) / start.elapsed().as_secs_f64();
    times.sort_unstable();
    (rate, times)
}

fn main() {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let connections = numbers.first().copied().unwrap_or(CONNECTIONS);
    let total = numbers.get(1).copied().unwrap_or(ORDERS);
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(folder.path());
    let orders = signed_orders(folder.path(), total);
    let checked = verified_per_s(&orders);
    println!("checking a signed order alone, one thread: {checked:.0} per second");
    let (alone, loaded) = orders.split_at(total / 20);
    for (connections, orders) in [(1, alone), (connections, loaded)] {
        let (rate, times) = measure(connections, &serve.address, orders);
        let at =
            |permille: usize| times[(times.len() - 1) * permille / 1000].as_secs_f64() * 1000.0;
        println!(
            "{connections:>3} connections, {} orders: {rate:.0} accepted per second (1/{:.1} of checking alone), \
             answer p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms",
            orders.len(),
            checked / rate,
            at(500),
            at(990),
            at(1000)
        );
    }
}
