//! Orders as participants send them, over HTTP, MQTT and the command line; a clearing that anybody checks;
//! and what stands after the platform was killed in the middle of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::cancel::Cancel;
use domain::energy::Energy;
use domain::ids::{CommunityId, ParticipantId, PointId};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::signed::{Message, PublicKey, Signed, SigningKey};
use domain::standing_order::{Deadline, Standing, StandingCancel, StandingOrder};
use domain::time::{Interval, Timestamp};
use runtime::clock::Clock;
use runtime::mqtt::{MqttEvent, MqttLink, MqttOptions, QoS};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::demo::program;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(90);
/// Short intervals, so that a test sees them cleared.
const LENGTH_S: u32 = 10;
/// SHA-256 of `secret`.
const PASSWORD_SHA256: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

fn site(participants: u32) -> String {
    let member = |n: u32| {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        let key = PublicKey::of(&SigningKey::from_bytes(&seed));
        let key = STANDARD.encode(key.to_bytes());
        format!(
            "[[participants]]\nid = \"home-{n}\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"1000\"\n\
             [[gateways]]\nid = \"gw-{n}\"\npublic_key = \"{key}\"\npassword_sha256 = \"{PASSWORD_SHA256}\"\n\
             points = [{{ id = \"home-{n}.meter\", role = \"connection\", participant = \"home-{n}\", \
             rating_w = 3600000 }}]\n"
        )
    };
    let members: String = (1..=participants).map(member).collect();
    format!(
        "community = \"lane\"\ninterval_length_s = {LENGTH_S}\ngate_closure_s = 4\n\
         [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
         [market]\norders_max = 4096\nchanges_max = 4096\nmessages_per_minute_max = 1000000\n\
         [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n{members}"
    )
}

/// A running platform; killed when the test ends.
pub(crate) struct Serve {
    child: Child,
    pub(crate) url: String,
    broker: String,
    pub(crate) data: PathBuf,
}

impl Serve {
    pub(crate) fn start(folder: &Path, participants: u32) -> Serve {
        Serve::start_with(folder, participants, "")
    }

    /// A platform with more in its site's file.
    pub(crate) fn start_with(folder: &Path, participants: u32, more: &str) -> Serve {
        let (file, data) = (folder.join("site.toml"), folder.join("data"));
        std::fs::write(&file, site(participants) + more).unwrap();
        let mut child = Command::new(program())
            .args(["serve", "--config"])
            .arg(&file)
            .arg("--data-dir")
            .arg(&data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let mut said = |part: &str| {
            let line = lines.find(|line| line.starts_with(part));
            let line = line.expect("the platform ended before it was ready");
            line.split_whitespace()
                .nth(1)
                .unwrap()
                .trim_end_matches('/')
                .to_owned()
        };
        let (broker, url) = (said("broker"), said("page"));
        Serve {
            child,
            url,
            broker,
            data,
        }
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut answer = agent().get(format!("{}{path}", self.url)).call().unwrap();
        answer.body_mut().read_to_string().unwrap()
    }

    /// The start of the interval that begins at least so many seconds from now.
    pub(crate) fn interval_in(&self, s: i64) -> Interval {
        let about: Value = serde_json::from_str(&self.get("/api/v1/platform")).unwrap();
        let now: Timestamp = about["now"].as_str().unwrap().parse().unwrap();
        Interval::containing(now.plus_s(s), LENGTH_S)
            .unwrap()
            .next()
    }

    fn key(&self, n: u32) -> PathBuf {
        self.data.join(format!("participants/home-{n}.key"))
    }

    /// `commonwatt order …` of a participant.
    pub(crate) fn order(&self, n: u32, words: &[&str]) -> Output {
        let (name, key) = (format!("home-{n}"), self.key(n));
        let mut args = vec![
            "order",
            words[0],
            "--url",
            &self.url,
            "--participant",
            &name,
        ];
        args.extend(["--key", key.to_str().unwrap()]);
        args.extend(&words[1..]);
        Command::new(program()).args(args).output().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // Already gone where the test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .into()
}

pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn community() -> CommunityId {
    CommunityId::new("lane").unwrap()
}

fn order(n: u32, sequence: u64, side: Side, interval: Interval, micro: i64) -> Order {
    Order {
        participant: ParticipantId::new(format!("home-{n}")).unwrap(),
        point: PointId::new(format!("home-{n}.meter")).unwrap(),
        side,
        interval,
        energy: Energy::from_wh(1),
        limit: Price::from_micro_per_kwh(micro),
        sequence,
        replaces: None,
        preference: domain::order::Preference::default(),
    }
}

fn signed<T: Message>(key: &SigningKey, message: &T) -> Vec<u8> {
    Signed::sign(key, &community(), message).as_bytes().to_vec()
}

#[test]
fn participants_order_and_take_back_and_anybody_checks_the_clearing() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(folder.path(), 2);
    let start = serve.interval_in(20).start().to_string();
    let place = |n, side, wh, limit, more: &[&str]| {
        let mut words = vec![
            "place",
            "--interval",
            &start,
            "--side",
            side,
            "--energy-wh",
            wh,
            "--limit",
            limit,
        ];
        words.extend(more);
        let output = serve.order(n, &words);
        (output.status.code(), said(&output))
    };
    let ok = |(code, told): (Option<i32>, String), expect: &str| {
        assert!(code == Some(0) && told.contains(expect), "{told}");
    };
    ok(place(1, "bid", "500", "0.20", &[]), "accepted: 500 Wh bid");
    ok(
        place(1, "bid", "700", "0.22", &["--replaces", "1"]),
        "sequence 2",
    );
    ok(place(1, "bid", "100", "0.21", &[]), "sequence 3");
    ok(place(2, "offer", "600", "0.10", &[]), "accepted");
    ok(
        place(2, "offer", "600", "0.10", &["--sequence", "1"]),
        "again",
    );
    let (code, told) = place(1, "bid", "20000", "0.20", &[]);
    assert!(
        code == Some(1) && told.contains("metering point carries"),
        "{told}"
    );
    let (code, told) = place(1, "bid", "5", "0.20", &["--replaces", "1"]);
    assert!(
        code == Some(1) && told.contains("not in the book"),
        "{told}"
    );
    let cancelled = serve.order(1, &["cancel", "--sequence", "3", "--interval", &start]);
    assert!(
        said(&cancelled).contains("withdrawn"),
        "{}",
        said(&cancelled)
    );
    let list = said(&serve.order(1, &["list", "--format", "csv"]));
    let rows: Vec<&str> = list
        .lines()
        .map(|line| line.split(',').nth(5).unwrap())
        .collect();
    assert_eq!(
        rows,
        ["state", "withdrawn", "standing", "withdrawn"],
        "{list}"
    );
    // Another's key opens nothing.
    let key = serve.key(2);
    let other = [
        "list",
        "--url",
        &serve.url,
        "--participant",
        "home-1",
        "--key",
        key.to_str().unwrap(),
    ];
    let other = Command::new(program())
        .arg("order")
        .args(other)
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(1), "{}", said(&other));

    let book = wait_for("the clearing", || {
        let open: Value =
            serde_json::from_str(&serve.get(&format!("/api/v1/orders?interval={start}"))).unwrap();
        open["book"].as_str().map(|path| serve.get(path))
    });
    assert!(!book.contains("home-"), "{book}");
    let address = format!("{}/api/v1/markets/{start}/book", serve.url);
    let answer = agent().get(address).call().unwrap();
    let kept = answer.headers()["cache-control"].to_str().unwrap();
    assert_eq!(kept, "public, max-age=31536000, immutable");
    let pinned = serve.data.join("operator.pub");
    let check = |from: &str, more: &[&str]| {
        let args = [
            "clear",
            "--from-log",
            from,
            "--key",
            pinned.to_str().unwrap(),
        ];
        Command::new(program())
            .args(args)
            .args(more)
            .output()
            .unwrap()
    };
    let same = check(&serve.url, &["--interval", &start]);
    assert!(
        same.status.success() && said(&same).ends_with("same\n"),
        "{}",
        said(&same)
    );
    assert!(said(&same).contains("2 orders, 600 Wh"), "{}", said(&same));

    let record = folder.path().join("record.json");
    std::fs::write(
        &record,
        serve.get(&format!("/api/v1/markets/{start}/clearing")),
    )
    .unwrap();
    let file = folder.path().join("book.json");
    let with_record = ["--record", record.to_str().unwrap()];
    std::fs::write(&file, &book).unwrap();
    assert!(check(file.to_str().unwrap(), &with_record).status.success());
    let other = serve.interval_in(3600).start().to_string();
    let told = check(file.to_str().unwrap(), &["--interval", &other]);
    assert!(
        told.status.code() == Some(1) && said(&told).contains("step `interval` failed"),
        "{}",
        said(&told)
    );
    let forged = book.replacen("\"volume_wh\":600", "\"volume_wh\":500", 1);
    assert_ne!(forged, book);
    std::fs::write(&file, forged).unwrap();
    let told = check(file.to_str().unwrap(), &with_record);
    assert_eq!(told.status.code(), Some(1));
    assert!(
        said(&told).contains("volume_wh: the book says 500"),
        "{}",
        said(&told)
    );
    let late = serve.order(1, &["cancel", "--sequence", "2", "--interval", &start]);
    assert!(said(&late).contains("is closed"), "{}", said(&late));
}

#[test]
fn a_gateway_brings_orders_over_mqtt_and_is_answered_on_its_own_topic() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(folder.path(), 2);
    let interval = serve.interval_in(40);
    let key = runtime::key_file::read(&serve.key(1)).unwrap();
    let bid = order(1, 1, Side::Bid, interval, 200_000);
    let cancel = Cancel {
        participant: bid.participant.clone(),
        sequence: 1,
        interval,
    };
    let wish = StandingOrder {
        participant: bid.participant.clone(),
        point: bid.point.clone(),
        sequence: 1,
        replaces: None,
        wish: Standing::Deadline(Deadline {
            energy: Energy::from_wh(500),
            by: interval.offset(300).start(),
            power_max_w: 11_000,
            limit: bid.limit,
            must: false,
        }),
        begins_with: Energy::ZERO,
        capacity: None,
        counted_at: None,
    };
    let unwish = StandingCancel {
        participant: bid.participant.clone(),
        sequence: 1,
    };
    let messages = [
        signed(&key, &bid),
        signed(&key, &cancel),
        signed(&key, &wish),
        signed(&key, &unwish),
        b"no message".to_vec(),
    ];
    let address = serve.broker.trim_start_matches("mqtt://").to_owned();
    let (host, port) = address.rsplit_once(':').unwrap();
    let options = MqttOptions {
        subscriptions: vec![("cw/v1/lane/gw-1/order-answer".to_owned(), QoS::AtLeastOnce)],
        host: host.to_owned(),
        port: port.parse().unwrap(),
        client_id: "gw-1".to_owned(),
        user: "gw-1".to_owned(),
        password: "secret".to_owned(),
        tls: None,
        last_will: None,
        keep_alive_s: 30,
        max_packet_bytes: 64 * 1024,
    };
    let outcomes = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let stop = CancellationToken::new();
        let (link, mut events) = MqttLink::start(options, stop.clone());
        let mut outcomes = Vec::new();
        let mut left = messages.into_iter();
        let talk = async {
            while let Some(event) = events.recv().await {
                match event {
                    MqttEvent::Message { payload, .. } => {
                        let answer: Value = serde_json::from_slice(&payload).unwrap();
                        outcomes.push(answer["outcome"].as_str().unwrap().to_owned());
                    }
                    MqttEvent::Connected => {}
                    _ => continue,
                }
                match left.next() {
                    Some(message) => {
                        // One after the other: the cancel is about the order before it.
                        let topic = "cw/v1/lane/gw-1/order".to_owned();
                        link.publish(topic, message, QoS::AtLeastOnce, false)
                            .unwrap();
                    }
                    None => break,
                }
            }
        };
        tokio::time::timeout(PATIENCE, talk).await.unwrap();
        stop.cancel();
        outcomes
    });
    let expect = ["accepted", "withdrawn", "accepted", "withdrawn", "refused"];
    assert_eq!(outcomes, expect);
}

/// What the load generator knows after its work.
#[derive(Default)]
struct Sent {
    /// Orders that were answered with 201 or 200.
    accepted: Mutex<Vec<Order>>,
    next: AtomicU64,
    stop: AtomicBool,
}

/// Sends one order after the other, each until it is answered, to whatever platform is at `url`.
fn send(sent: &Sent, url: &Mutex<String>, key: &SigningKey, n: u32) {
    let agent = agent();
    while !sent.stop.load(Ordering::Relaxed) {
        let sequence = sent.next.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Clock::system().now();
        let ahead = 10 + i64::try_from(sequence % 30).unwrap();
        let interval = Interval::containing(now.plus_s(ahead), LENGTH_S)
            .unwrap()
            .next();
        let side = if n.is_multiple_of(2) {
            Side::Bid
        } else {
            Side::Offer
        };
        let micro = 100_000 + i64::try_from(sequence % 100).unwrap() * 1000;
        let order = order(n, sequence, side, interval, micro);
        let bytes = signed(key, &order);
        while !sent.stop.load(Ordering::Relaxed) {
            let address = url.lock().unwrap().clone() + "/api/v1/orders";
            match agent.post(address).send(&bytes[..]) {
                Ok(answer) if answer.status().is_success() => {
                    sent.accepted.lock().unwrap().push(order);
                    break;
                }
                Ok(answer) if answer.status().is_client_error() => break,
                // The platform is down, or stopped before it could say: the same bytes again.
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

#[test]
fn kills_in_the_middle_of_a_gate_lose_no_answered_order_and_double_none() {
    if std::env::var_os("COMMONWATT_SLOW").is_none() {
        println!("skipped: set COMMONWATT_SLOW=1 to kill the platform six times under load");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut serve = Serve::start(folder.path(), 4);
    let url = Arc::new(Mutex::new(serve.url.clone()));
    let sent = Arc::new(Sent::default());
    let senders: Vec<_> = (1..=4)
        .map(|n| {
            let key = runtime::key_file::read(&serve.key(n)).unwrap();
            let (sent, url) = (Arc::clone(&sent), Arc::clone(&url));
            std::thread::spawn(move || send(&sent, &url, &key, n))
        })
        .collect();
    for pause_ms in [3100, 2300, 4700, 1900, 5300, 3700] {
        std::thread::sleep(Duration::from_millis(pause_ms));
        serve.kill();
        serve = Serve::start(folder.path(), 4);
        url.lock().unwrap().clone_from(&serve.url);
    }
    std::thread::sleep(Duration::from_secs(3));
    sent.stop.store(true, Ordering::Relaxed);
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
    let accepted = std::mem::take(&mut *sent.accepted.lock().unwrap());
    let last = accepted.iter().map(|order| order.interval).max().unwrap();
    wait_for("the last clearing", || {
        let state = serve.get(&format!("/api/v1/orders?interval={}", last.start()));
        let state: Value = serde_json::from_str(&state).unwrap();
        state["book"].as_str().map(|_| ())
    });
    println!(
        "{} orders were answered as accepted, over six kills",
        accepted.len()
    );
    assert!(
        accepted.len() > 200,
        "too few orders to prove anything: {}",
        accepted.len()
    );
    serve.kill();
    let file = folder.path().join("data/commonwatt.db");
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(stands(&file, &accepted));
}

/// Every answered order is in the cleared book once, the clearings are right, and so is the ledger.
async fn stands(file: &Path, accepted: &[Order]) {
    let db = runtime::db::Db::open(file.to_str().unwrap()).await.unwrap();
    settlement::service::check_books(&db).await.unwrap();
    let mut by_interval: BTreeMap<Interval, Vec<&Order>> = BTreeMap::new();
    for order in accepted {
        by_interval.entry(order.interval).or_default().push(order);
    }
    for (interval, orders) in by_interval {
        let cleared = market_engine::service::clearing(&db, interval)
            .await
            .unwrap()
            .unwrap();
        let mut ids: Vec<_> = cleared.orders.iter().map(|o| o.id).collect();
        ids.sort();
        assert!(
            ids.windows(2).all(|pair| pair[0] != pair[1]),
            "an order is there twice"
        );
        for order in orders {
            assert!(ids.binary_search(&order.id()).is_ok(), "lost: {order:?}");
        }
        let book = market_engine::service::public_book(&db, interval)
            .await
            .unwrap()
            .unwrap();
        let again = market_engine::public::rerun(&book).unwrap();
        assert_eq!((again.difference, again.orders), (None, ids.len()));
        let bought: i64 = cleared.trades.iter().map(|trade| trade.energy.wh()).sum();
        assert_eq!(bought, cleared.clearing.volume.wh());
    }
    db.close().await;
}
