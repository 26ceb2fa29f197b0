//! The writer at work on a database that fails.

use std::path::Path;

use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::Price;
use domain::order::{Order, Side};
use domain::signed::{PublicKey, Signed, SigningKey};
use runtime::clock::Clock;
use runtime::db::Db;

use super::*;
use crate::platform::Platform;
use crate::site::{DataDir, Site, public_key_text};

const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);

fn site() -> Site {
    let key = public_key_text(PublicKey::of(&SigningKey::from_bytes(&[7; 32])));
    let text = format!(
        "community = \"lane\"\n\
        [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
        [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n\
        [[participants]]\nid = \"ann\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"1000\"\n\
        [[gateways]]\nid = \"gw-1\"\npublic_key = \"{key}\"\npassword_sha256 = \"{}\"\n\
        points = [{{ id = \"ann.meter\", role = \"connection\", participant = \"ann\", rating_w = 10000 }}]\n",
        "0".repeat(64)
    );
    Site::from_toml(&text, Path::new("site.toml")).unwrap()
}

fn order(platform: &Platform, sequence: u64) -> OrderMessage {
    let shared = &platform.shared;
    let order = Order {
        participant: ParticipantId::new("ann").unwrap(),
        point: PointId::new("ann.meter").unwrap(),
        side: Side::Bid,
        interval: Interval::containing(START.plus_s(3600), 900).unwrap(),
        energy: Energy::from_wh(10),
        limit: Price::from_micro_per_kwh(200_000),
        sequence,
        replaces: None,
        preference: domain::order::Preference::default(),
    };
    let key = &shared.key_of_home(0);
    let signed = Signed::sign(key, &shared.site.community, &order);
    orders::read(shared, signed.as_bytes().to_vec())
}

#[tokio::test]
async fn an_order_that_cannot_be_stored_keeps_no_other_out() {
    let dir = tempfile::tempdir().unwrap();
    let (data, _lock) = DataDir::take(dir.path()).unwrap();
    let db = Db::open(&data.database()).await.unwrap();
    let clock = Clock::scaled(START, 1);
    let mut platform = crate::platform::open(site(), &data, db.clone(), clock)
        .await
        .unwrap();
    let mut tx = db.begin().await.unwrap();
    let poison = "CREATE TRIGGER poison BEFORE INSERT ON market_order WHEN NEW.sequence = 2 \
         BEGIN SELECT RAISE(ABORT, 'poison'); END";
    tx.execute(poison, runtime::args![]).await.unwrap();
    tx.commit().await.unwrap();
    let (mut batch, mut outcomes) = (Vec::new(), Vec::new());
    for sequence in 1..=3 {
        let (answer, outcome) = oneshot::channel();
        let message = Box::new(order(&platform, sequence));
        let answer = AnswerTo::Caller(answer);
        batch.push(Command::Order { message, answer });
        outcomes.push(outcome);
    }
    platform.core.take(batch).await;
    let mut answers = Vec::new();
    for outcome in outcomes {
        answers.push(outcome.await.unwrap());
    }
    assert!(
        matches!(
            answers[..],
            [
                OrderAnswer::Accepted(_),
                OrderAnswer::Unavailable,
                OrderAnswer::Accepted(_)
            ]
        ),
        "{answers:?}"
    );
    let stored = "SELECT COUNT(*), SUM(sequence) FROM market_order";
    let stored: (i64, i64) = db.fetch_one(stored, runtime::args![]).await.unwrap();
    assert_eq!(stored, (2, 4));
    let held = "SELECT COUNT(*) FROM settle_holds WHERE is_open = 1";
    let held: (i64,) = db.fetch_one(held, runtime::args![]).await.unwrap();
    assert_eq!(held, (2,), "what was not stored holds nothing");
}

#[tokio::test]
async fn a_reading_that_cannot_be_stored_keeps_no_other_out() {
    let dir = tempfile::tempdir().unwrap();
    let (data, _lock) = DataDir::take(dir.path()).unwrap();
    let db = Db::open(&data.database()).await.unwrap();
    let clock = Clock::scaled(START, 1);
    let mut platform = crate::platform::open(site(), &data, db.clone(), clock)
        .await
        .unwrap();
    let mut tx = db.begin().await.unwrap();
    let poison = "CREATE TRIGGER poison BEFORE INSERT ON settle_refused WHEN NEW.gateway = 'gw-2' \
         BEGIN SELECT RAISE(ABORT, 'poison'); END";
    tx.execute(poison, runtime::args![]).await.unwrap();
    tx.commit().await.unwrap();
    // Bytes without a signature are kept with the reason, so each of them is a write.
    let reading = |gateway: &str| Arrived::new(GatewayId::new(gateway).unwrap(), vec![1, 2, 3]);
    let readings = ["gw-1", "gw-2", "gw-3"].map(reading).to_vec();
    let batch = Command::Readings {
        readings,
        room: None,
    };
    platform.core.take(vec![batch]).await;
    let kept: Vec<(String,)> = db
        .fetch_all(
            "SELECT gateway FROM settle_refused ORDER BY slot",
            runtime::args![],
        )
        .await
        .unwrap();
    assert_eq!(kept, [("gw-1".to_owned(),), ("gw-3".to_owned(),)]);
}
