//! A broker, and a platform that verifies every reading strictly and answers as it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::acceptance::Acceptance;
use domain::charger_record::{ChargerReceipt, ChargerRecord};
use domain::ids::{CommunityId, Digest32, GatewayId, PointId};
use domain::reading::Reading;
use domain::rejection::Rejection;
use domain::signed::{PublicKey, Signed, SigningKey, Verified};
use domain::time::Timestamp;
use runtime::broker::{Access, AccessList, Broker, Limits};
use runtime::mqtt::{MqttEvent, MqttHandle, MqttLink, MqttOptions, QoS};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const COMMUNITY: &str = "elm-street";
pub(crate) const GATEWAY: &str = "gw-1";

/// How the platform answers a reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Answer,
    Silent,
    Late,
    /// This sequence is refused; the others are answered.
    Reject(u64),
    /// Readings are thrown away unread.
    Deaf,
}

#[derive(Default)]
pub(crate) struct Books {
    /// Accepted readings by point and sequence.
    pub(crate) readings: BTreeMap<(PointId, u64), Verified<Reading>>,
    rejected: BTreeMap<(PointId, u64), Rejection>,
    /// Readings that came again.
    pub(crate) repeats: u64,
    /// What chargers' meters have signed, in the order in which it came; what came again is there again.
    pub(crate) records: Vec<Verified<ChargerRecord>>,
    /// What must never happen.
    pub(crate) violations: Vec<String>,
    /// Live values and states, newest last.
    pub(crate) live: Vec<serde_json::Value>,
    pub(crate) states: Vec<serde_json::Value>,
}

pub(crate) struct Platform {
    pub(crate) address: SocketAddr,
    pub(crate) operator: SigningKey,
    pub(crate) books: Arc<Mutex<Books>>,
    gateway_key: Option<PublicKey>,
    mode: Arc<Mutex<Mode>>,
    broker: Option<(CancellationToken, JoinHandle<()>)>,
    desk: CancellationToken,
    stop: CancellationToken,
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn access() -> Arc<AccessList> {
    let list = AccessList::new();
    let all = |filters: &[&str]| filters.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>();
    let gateway = Access {
        read: all(&[
            "cw/v1/elm-street/%u/receipt",
            "cw/v1/elm-street/%u/credential",
            "cw/v1/elm-street/%u/charger-receipt",
            "shelly/#",
        ]),
        write: all(&["cw/v1/elm-street/%u/+"]),
    };
    list.add(GATEWAY, b"secret", gateway).unwrap();
    let every = all(&["#"]);
    list.add(
        "platform",
        b"secret",
        Access {
            read: every.clone(),
            write: every,
        },
    )
    .unwrap();
    Arc::new(list)
}

pub(crate) fn link(
    address: SocketAddr,
    client_id: &str,
    subscriptions: &[&str],
    stop: &CancellationToken,
) -> (MqttHandle, mpsc::Receiver<MqttEvent>) {
    let options = MqttOptions {
        host: address.ip().to_string(),
        port: address.port(),
        client_id: client_id.into(),
        user: "platform".into(),
        password: "secret".into(),
        subscriptions: subscriptions
            .iter()
            .map(|s| ((*s).into(), QoS::AtLeastOnce))
            .collect(),
        tls: None,
        last_will: None,
        keep_alive_s: 5,
        max_packet_bytes: 65_536,
    };
    MqttLink::start(options, stop.clone())
}

impl Platform {
    pub(crate) async fn start(gateway_key: PublicKey) -> Self {
        let mut platform = Platform {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            operator: SigningKey::from_bytes(&[42; 32]),
            books: Arc::default(),
            gateway_key: None,
            mode: Arc::new(Mutex::new(Mode::Answer)),
            broker: None,
            desk: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        platform.gateway_key = Some(gateway_key);
        platform.start_broker().await;
        platform.open();
        platform
    }

    /// Begins to listen, with the books as they are.
    pub(crate) fn open(&mut self) {
        self.desk = self.stop.child_token();
        let kinds = ["reading", "live", "state", "charger"];
        let filters = kinds.map(|kind| format!("cw/v1/+/+/{kind}"));
        let filters = filters.each_ref().map(String::as_str);
        let (handle, mut events) = link(self.address, "platform", &filters, &self.desk);
        let desk = Desk {
            handle,
            gateway_key: self.gateway_key.unwrap(),
            operator: self.operator.clone(),
            books: self.books.clone(),
            mode: self.mode.clone(),
        };
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let MqttEvent::Message { topic, payload, .. } = event {
                    desk.take(&topic, payload).await;
                }
            }
        });
    }

    /// Is away: nobody subscribes to readings.
    pub(crate) fn close(&mut self) {
        self.desk.cancel();
    }

    /// Ends the broker as a power cut would, in the middle of whatever it does.
    pub(crate) fn kill_broker(&mut self) {
        if let Some((_, task)) = self.broker.take() {
            task.abort();
        }
    }

    pub(crate) async fn start_broker(&mut self) {
        let broker = Broker::bind(self.address, access(), Limits::default())
            .await
            .unwrap();
        self.address = broker.local_addr();
        let stop = self.stop.child_token();
        let task = tokio::spawn(broker.run(stop.clone()));
        self.broker = Some((stop, task));
    }

    pub(crate) fn stop_broker(&mut self) {
        if let Some((stop, _)) = self.broker.take() {
            stop.cancel();
        }
    }

    pub(crate) fn answer(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Intervals in the books of `point` so far.
    pub(crate) fn count(&self, point: &str) -> usize {
        let books = self.books.lock().unwrap();
        books
            .readings
            .keys()
            .filter(|(p, _)| p.as_str() == point)
            .count()
    }

    /// All of a point's readings, after checking that sequence, chain and registers have no hole.
    pub(crate) fn checked(&self, point: &str) -> Vec<Reading> {
        let readings = self.chained(point);
        assert_whole(&readings);
        readings
    }

    /// All of a point's readings, after checking sequence and chain.
    pub(crate) fn chained(&self, point: &str) -> Vec<Reading> {
        let books = self.books.lock().unwrap();
        assert_eq!(books.violations, Vec::<String>::new());
        let of_point = books
            .readings
            .iter()
            .filter(|((p, _), _)| p.as_str() == point);
        let verified: Vec<&Verified<Reading>> = of_point.map(|(_, v)| v).collect();
        let mut previous = Digest32([0; 32]);
        for (index, one) in verified.iter().enumerate() {
            assert_eq!(one.message().sequence, u64::try_from(index).unwrap() + 1);
            assert_eq!(one.message().previous, previous, "the chain holds");
            previous = one.digest();
        }
        verified.into_iter().map(|v| v.message().clone()).collect()
    }
}

/// Every interval is there once, and each register begins where it ended.
pub(crate) fn assert_whole(readings: &[Reading]) {
    for pair in readings.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        assert_eq!(a.interval.next(), b.interval, "every interval once");
        assert_eq!((a.era, a.registers[0].end), (b.era, b.registers[0].start));
    }
}

struct Desk {
    handle: MqttHandle,
    gateway_key: PublicKey,
    operator: SigningKey,
    books: Arc<Mutex<Books>>,
    mode: Arc<Mutex<Mode>>,
}

impl Desk {
    async fn take(&self, topic: &str, payload: Vec<u8>) {
        let mode = *self.mode.lock().unwrap();
        match topic.rsplit('/').next() {
            Some("live") => {
                self.books
                    .lock()
                    .unwrap()
                    .live
                    .push(serde_json::from_slice(&payload).unwrap());
            }
            Some("state") => {
                self.books
                    .lock()
                    .unwrap()
                    .states
                    .push(serde_json::from_slice(&payload).unwrap());
            }
            _ if mode == Mode::Deaf => {}
            Some("charger") => self.keep_record(payload),
            _ => {
                if let Some(word) = self.book(payload, mode) {
                    self.say(word, mode).await;
                }
            }
        }
    }

    /// Keeps a charger's record. The first answer is lost on its way.
    fn keep_record(&self, payload: Vec<u8>) {
        let community = CommunityId::new(COMMUNITY).unwrap();
        let signed: Signed<ChargerRecord> = Signed::from_bytes(payload);
        let verified = signed.verify(self.gateway_key, &community).unwrap();
        let word = ChargerReceipt {
            gateway: GatewayId::new(GATEWAY).unwrap(),
            record: verified.digest(),
            at: Timestamp::EPOCH,
            refused: None,
        };
        let records = &mut self.books.lock().unwrap().records;
        records.push(verified);
        if records.len() > 1 {
            let signed = Signed::sign(&self.operator, &community, &word);
            let topic = format!("cw/v1/{COMMUNITY}/{GATEWAY}/charger-receipt");
            let sent = self
                .handle
                .publish(topic, signed.as_bytes(), QoS::AtLeastOnce, false);
            sent.unwrap();
        }
    }

    fn book(&self, payload: Vec<u8>, mode: Mode) -> Option<Acceptance> {
        let community = CommunityId::new(COMMUNITY).unwrap();
        let signed: Signed<Reading> = Signed::from_bytes(payload);
        let mut books = self.books.lock().unwrap();
        let verified = match signed.verify(self.gateway_key, &community) {
            Ok(verified) => verified,
            Err(error) => {
                books.violations.push(error.to_string());
                return None;
            }
        };
        let key = (
            verified.message().point.clone(),
            verified.message().sequence,
        );
        if mode == Mode::Reject(key.1) || books.rejected.contains_key(&key) {
            books.rejected.insert(key.clone(), Rejection::Implausible);
        } else if let Some(known) = books.readings.get(&key) {
            if known.signed().as_bytes() == verified.signed().as_bytes() {
                books.repeats += 1;
            } else {
                books.violations.push(format!("{key:?} was signed twice"));
            }
        } else {
            books.readings.insert(key.clone(), verified);
        }
        Some(acceptance(&books, key.0))
    }

    async fn say(&self, word: Acceptance, mode: Mode) {
        if mode == Mode::Silent {
            return;
        }
        if mode == Mode::Late {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let community = CommunityId::new(COMMUNITY).unwrap();
        let signed = Signed::sign(&self.operator, &community, &word);
        let topic = format!("cw/v1/{COMMUNITY}/{GATEWAY}/receipt");
        let _ = self
            .handle
            .publish(topic, signed.as_bytes(), QoS::AtLeastOnce, false);
    }
}

fn acceptance(books: &Books, point: PointId) -> Acceptance {
    let mine = |(p, sequence): &(PointId, u64)| (*p == point).then_some(*sequence);
    let rejected: Vec<(u64, Rejection)> = books
        .rejected
        .iter()
        .filter_map(|(k, r)| Some((mine(k)?, *r)))
        .collect();
    let mut known: Vec<u64> = books.readings.keys().filter_map(mine).collect();
    known.extend(rejected.iter().map(|(s, _)| *s));
    known.sort_unstable();
    let mut missing = Vec::new();
    let mut next = 1;
    for sequence in &known {
        if *sequence > next {
            missing.push((next, sequence - 1));
        }
        next = sequence + 1;
    }
    let gateway = GatewayId::new(GATEWAY).unwrap();
    let issued_at = Timestamp::EPOCH;
    Acceptance {
        gateway,
        point,
        accepted_up_to: known.last().copied(),
        missing,
        rejected,
        issued_at,
        ledger: None,
    }
}
