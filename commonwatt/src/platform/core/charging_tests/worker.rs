//! The worker that keeps chargers' records: what it does when its queue is full, and that what it cannot keep holds up
//! nothing behind it.

use std::collections::BTreeSet;

use domain::charger_record::{ChargerReceipt, ChargerRecord};
use domain::ocmf;
use runtime::broker::Access;
use runtime::mqtt::{MqttEvent, MqttHandle, MqttLink, MqttOptions, QoS};

use super::records::record;
use super::*;
use crate::platform::ingest::{self, Doors};

const PATIENCE: Duration = Duration::from_secs(60);

fn signer() -> ocmf::Signer {
    ocmf::Signer::from_pkcs8(&ocmf::Signer::generate().unwrap()).unwrap()
}

#[tokio::test]
async fn a_record_that_finds_the_queue_full_holds_up_nothing_and_may_come_again() {
    let bench = Bench::new().await;
    let shared = bench.shared();
    let (commands, _core) = mpsc::channel(1);
    let (readings, mut arrived) = mpsc::channel(1);
    let (records, mut waiting) = mpsc::channel(1);
    let (words, _said) = crate::platform::witnesses::gateways::queue();
    let doors = Doors {
        commands,
        readings,
        records,
        words,
    };
    let message = |kind: &str, payload: &[u8], retain: bool| MqttEvent::Message {
        topic: format!("cw/v1/{}/gw-1/{kind}", shared.site.community),
        payload: payload.to_vec(),
        retain,
    };
    let all = async {
        ingest::take(shared, &doors, message("charger", b"retained", true)).await;
        ingest::take(shared, &doors, message("charger", b"first", false)).await;
        ingest::take(shared, &doors, message("charger", b"second", false)).await;
        ingest::take(shared, &doors, message("reading", b"reading", false)).await;
    };
    let all = tokio::time::timeout(PATIENCE, all).await;
    all.expect("a full queue held up what came behind it");
    assert!(arrived.try_recv().is_ok());
    assert_eq!(waiting.try_recv().unwrap().1, b"first");
    assert!(waiting.try_recv().is_err(), "what finds no room is dropped");
    ingest::take(shared, &doors, message("charger", b"second", false)).await;
    assert_eq!(waiting.try_recv().unwrap().1, b"second");
}

/// A gateway's end of a broker at whose other end the platform is.
struct Line {
    link: MqttHandle,
    events: mpsc::Receiver<MqttEvent>,
    community: domain::ids::CommunityId,
    operator: PublicKey,
    stop: CancellationToken,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Line {
    /// The platform hears, and so does the gateway.
    async fn open(bench: &Bench) -> Line {
        let (shared, stop) = (&bench.core.shared, CancellationToken::new());
        let here = "127.0.0.1:0".parse().unwrap();
        let (broker, users) = crate::broker::bind_plainly(here).await.unwrap();
        ingest::admit(&users, &shared.site, b"platform").unwrap();
        let every = || vec!["#".to_owned()];
        let access = Access {
            read: every(),
            write: every(),
        };
        users.add("world", b"secret", access).unwrap();
        let platform = ingest::options(&shared.site, broker.local_addr(), "platform");
        let topic = format!("cw/v1/{}/gw-1/charger-receipt", shared.site.community);
        let gateway = MqttOptions {
            subscriptions: vec![(topic, QoS::AtLeastOnce)],
            client_id: "gw-1".to_owned(),
            user: "world".to_owned(),
            password: "secret".to_owned(),
            ..platform.clone()
        };
        tokio::spawn(broker.run(stop.clone()));
        let (ingested, ended) = (Arc::clone(shared), stop.clone());
        tokio::spawn(async move {
            let (commands, _core) = mpsc::channel(1);
            let (_told, tells) = ingest::told_queue();
            let (_forward, forwards) = mpsc::channel(1);
            let told = (tells, forwards);
            let done = ingest::run(ingested, platform, commands, told, ended).await;
            done.unwrap();
        });
        let (link, events) = MqttLink::start(gateway, stop.clone());
        Line {
            link,
            events,
            community: shared.site.community.clone(),
            operator: PublicKey::of(&shared.community.operator),
            stop,
        }
    }

    fn brings(&self, payload: &[u8]) {
        let topic = format!("cw/v1/{}/gw-1/charger", self.community);
        let sent = self.link.publish(topic, payload, QoS::AtLeastOnce, false);
        sent.unwrap();
    }

    fn signs(&self, key: &SigningKey, record: &ChargerRecord) -> Vec<u8> {
        let signed = Signed::sign(key, &self.community, record);
        signed.as_bytes().to_vec()
    }

    /// The next receipt, if one comes within this time.
    async fn hears(&mut self, within: Duration) -> Option<ChargerReceipt> {
        let next = async {
            loop {
                match self.events.recv().await {
                    Some(MqttEvent::Message { payload, .. }) => return payload,
                    Some(_) => {}
                    None => std::future::pending().await,
                }
            }
        };
        let payload = tokio::time::timeout(within, next).await.ok()?;
        let receipt = Signed::<ChargerReceipt>::from_bytes(payload);
        let receipt = receipt.verify(self.operator, &self.community).unwrap();
        Some(receipt.message().clone())
    }

    /// Brings a record until it is answered, as a gateway does; the records that were answered until then.
    async fn until_answered(&mut self, payload: &[u8]) -> BTreeSet<Digest32> {
        let wanted = Digest32::of(payload);
        let mut answered = BTreeSet::new();
        for _ in 0..30 {
            self.brings(payload);
            while let Some(receipt) = self.hears(Duration::from_secs(2)).await {
                assert_eq!(receipt.refused, None);
                answered.insert(receipt.record);
                if receipt.record == wanted {
                    return answered;
                }
            }
        }
        panic!("it was never answered");
    }
}

#[tokio::test]
async fn a_forged_record_and_one_that_finds_no_room_today_hold_up_no_other() {
    let bench = Bench::new().await;
    let shared = bench.shared();
    let mut line = Line::open(&bench).await;
    let full = record(&signer());
    let of_another = |point: &str| ChargerRecord {
        point: domain::ids::PointId::new(point).unwrap(),
        ..full.clone()
    };
    let first = line.signs(&gateway_key(), &of_another("ann.meter"));
    let answered = line.until_answered(&first).await;
    assert_eq!(answered, BTreeSet::from([Digest32::of(&first)]));

    let now_ms = shared.clock.now().unix_ms();
    let mut tx = shared.db.begin().await.unwrap();
    for n in 0..books::CHARGER_RECORDS_PER_DAY_MAX {
        tx.execute(
            "INSERT INTO settle_charger_records (point, id, from_ms, to_ms, received_ms, message)
             VALUES ($1, $2, 0, 0, $3, $2)",
            runtime::args![STATION, n.to_be_bytes().to_vec(), now_ms],
        )
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    let forged = line.signs(&SigningKey::from_bytes(&[8; 32]), &of_another("bob.meter"));
    line.brings(b"no message at all");
    line.brings(&forged);
    line.brings(&line.signs(&gateway_key(), &full));
    let good = line.signs(&gateway_key(), &of_another("bob.meter"));
    let mut answered = line.until_answered(&good).await;
    // The record from before may have been brought more than once.
    answered.remove(&Digest32::of(&first));
    assert_eq!(answered, BTreeSet::from([Digest32::of(&good)]));
    // What was not answered is not in the books either.
    let (kept,): (i64,) = shared
        .db
        .fetch_one(
            "SELECT COUNT(*) FROM settle_charger_records",
            runtime::args![],
        )
        .await
        .unwrap();
    assert_eq!(kept, books::CHARGER_RECORDS_PER_DAY_MAX + 2);
}
