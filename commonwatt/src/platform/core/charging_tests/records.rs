//! What a charger's own meter has signed: kept once, answered each time, and shown in the session's receipt.

use domain::charger_record::{ChargerReceipt, ChargerRecord};
use domain::ocmf;
use settlement::charging::receipt;

use super::*;
use crate::platform::door::Door;
use crate::platform::ingest::record_may_in;
use runtime::mqtt::MqttEvent;

/// 5.5 kWh from shortly before the session on, in the charger's transaction 7.
pub(super) fn record(signer: &ocmf::Signer) -> ChargerRecord {
    let session = ocmf::Session {
        station: "CP-1",
        meter: "1EMH0001",
        user: "commonwatt",
        page: 7,
        readings: [
            (interval(0).end().plus_s(-60), 1_000),
            (interval(2).end().plus_s(-5), 6_500),
        ],
        synchronised: true,
    };
    ChargerRecord {
        gateway: GatewayId::new("gw-1").unwrap(),
        point: domain::ids::PointId::new(STATION).unwrap(),
        heard_at: interval(2).end(),
        transaction: Some(7),
        text: ocmf::write(&session, signer).unwrap(),
        keys: vec![signer.public()],
    }
}

/// The platform's answer to a record that a key has signed and gateway 1 brings.
async fn brings(
    bench: &Bench,
    key: &SigningKey,
    record: &ChargerRecord,
) -> anyhow::Result<ChargerReceipt> {
    let (shared, gateway) = (bench.shared(), GatewayId::new("gw-1").unwrap());
    let community = &shared.site.community;
    let signed = Signed::sign(key, community, record).as_bytes().to_vec();
    let answer = charging::records::hear(shared, &gateway, signed.clone()).await?;
    let operator = PublicKey::of(&shared.community.operator);
    let answer = Signed::<ChargerReceipt>::from_bytes(answer).verify(operator, community);
    let answer = answer.unwrap().message().clone();
    assert_eq!(answer.record, Digest32::of(&signed));
    Ok(answer)
}

/// What the car before had: much more, over a longer time, and it went when this one came.
async fn before_it(bench: &Bench, signer: &ocmf::Signer) {
    let session = ocmf::Session {
        station: "CP-1",
        meter: "1EMH0001",
        user: "somebody else",
        page: 6,
        readings: [
            (interval(-20).end(), 0),
            (interval(0).end().plus_s(20), 40_000),
        ],
        synchronised: true,
    };
    let record = ChargerRecord {
        transaction: Some(6),
        text: ocmf::write(&session, signer).unwrap(),
        ..record(signer)
    };
    let answer = brings(bench, &gateway_key(), &record).await.unwrap();
    assert_eq!(answer.refused, None);
}

#[tokio::test]
async fn what_finds_no_room_today_is_not_answered() {
    let bench = Bench::new().await;
    let signer = ocmf::Signer::from_pkcs8(&ocmf::Signer::generate().unwrap()).unwrap();
    let good = record(&signer);
    let now_ms = bench.shared().clock.now().unix_ms();
    let mut tx = bench.shared().db.begin().await.unwrap();
    for n in 0..settlement::service::CHARGER_RECORDS_PER_DAY_MAX {
        let id = n.to_be_bytes().to_vec();
        tx.execute(
            "INSERT INTO settle_charger_records (point, id, from_ms, to_ms, received_ms, message)
             VALUES ($1, $2, 0, 0, $3, $2)",
            runtime::args![STATION, id, now_ms],
        )
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    let why = brings(&bench, &gateway_key(), &good).await.unwrap_err();
    assert!(why.to_string().contains("too many today"), "{why}");
    // It comes again, and a day later there is room.
    let bench = bench.restarts(START.plus_s(86_401)).await;
    let answer = brings(&bench, &gateway_key(), &good).await.unwrap();
    assert_eq!(answer.refused, None);
}

#[tokio::test]
async fn a_gateway_that_brings_too_many_records_is_not_heard_for_the_rest_of_the_minute() {
    let bench = Bench::new().await;
    let shared = bench.shared();
    let message = |gateway: &str, kind: &str| MqttEvent::Message {
        topic: format!("cw/v1/{}/{gateway}/{kind}", shared.site.community),
        payload: Vec::new(),
        retain: false,
    };
    let mut door = Door::default();
    let mut is_in = |event| record_may_in(shared, &mut door, &event);
    let heard = (0..200)
        .filter(|_| is_in(message("gw-1", "charger")))
        .count();
    // The test may go on into the next minute.
    assert!(heard == 60 || heard == 120, "{heard}");
    assert!(is_in(message("gw-1", "reading")));
    assert!(!is_in(message("gw-9", "charger")), "nobody knows it");
}

async fn only_its_own_gateway_brings(bench: &Bench, good: &ChargerRecord) {
    let foreign = ChargerRecord {
        point: domain::ids::PointId::new("carl.charger").unwrap(),
        ..good.clone()
    };
    let answer = brings(bench, &gateway_key(), &foreign).await.unwrap();
    assert_eq!(
        answer.refused.as_deref(),
        Some("this gateway has no such point")
    );
    let stranger = SigningKey::from_bytes(&[8; 32]);
    assert!(
        brings(bench, &stranger, good).await.is_err(),
        "a key that nobody knows"
    );
    let of_another = ChargerRecord {
        gateway: GatewayId::new("gw-2").unwrap(),
        ..good.clone()
    };
    assert!(brings(bench, &gateway_key(), &of_another).await.is_err());
}

#[tokio::test]
async fn what_a_chargers_meter_has_signed_is_in_the_receipt_of_its_session() {
    let mut bench = Bench::new().await;
    bench.begins(promise()).await;
    for n in 0..=2 {
        bench.reads("ann.meter", n, 0).await;
        bench.reads(STATION, n, 2_750 * i64::from(n > 0)).await;
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    let now = interval(2).end().plus_s(20);
    charging::stop(bench.shared(), SESSION, now)
        .await
        .unwrap()
        .unwrap();

    let signer = ocmf::Signer::from_pkcs8(&ocmf::Signer::generate().unwrap()).unwrap();
    let good = record(&signer);
    before_it(&bench, &signer).await;
    // The owner enters the key after the charger has said it first.
    let unknown = ChargerRecord {
        keys: Vec::new(),
        ..good.clone()
    };
    brings(&bench, &gateway_key(), &unknown).await.unwrap();
    for _ in 0..2 {
        let answer = brings(&bench, &gateway_key(), &good).await.unwrap();
        assert_eq!(answer.refused, None);
    }
    only_its_own_gateway_brings(&bench, &good).await;

    let shared = bench.shared();
    let one = charging::find(shared, SESSION).await.unwrap().unwrap();
    let operator = Some(PublicKey::of(&shared.community.operator));
    let told = async || {
        let text = charging::receipt(shared, &one).await.unwrap().unwrap();
        let report = receipt::verify(&text, operator);
        assert_eq!(report.first_failure(), None, "{report:?}");
        let step = report
            .steps
            .into_iter()
            .find(|(step, _)| *step == "charger");
        step.unwrap().1.unwrap()
    };
    let said = told().await;
    let key = signer.public().to_hex();
    assert!(
        said.contains(&format!("meter 1EMH0001, key {key}")),
        "{said}"
    );
    assert!(
        said.contains("counted 5500 Wh and agrees with 5500 Wh"),
        "{said}"
    );
    let texts = charging::records::texts(shared, &one).await.unwrap();
    assert_eq!(texts, Some(format!("{}\n", good.text)));
    // A text that was changed before it came here is not shown, and why.
    let changed = ChargerRecord {
        text: good.text.replacen("6500", "5500", 1),
        ..good
    };
    assert_ne!(changed.text, texts.unwrap().trim_end());
    let answer = brings(&bench, &gateway_key(), &changed).await.unwrap();
    assert_eq!(answer.refused, None, "it is evidence");
    let said = told().await;
    assert!(
        said.contains("not believed") && said.contains("the text was changed"),
        "{said}"
    );
}
