//! Readings at the door: what is taken, what is refused by which name, and what is told the gateway.

use domain::acceptance::Acceptance;
use domain::ids::{GatewayId, PointId};
use domain::reading::Reading;
use domain::rejection::Rejection;
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use settlement::service::{
    ReadingOutcome, Whose, accept_reading, acceptance, check_books, history,
};

use crate::world::{World, interval, sign, who};

fn refused(outcome: ReadingOutcome) -> Rejection {
    match outcome {
        ReadingOutcome::Rejected { reason, .. } => reason,
        other => panic!("not refused: {other:?}"),
    }
}

async fn told(world: &World, point: &str) -> Acceptance {
    let point = PointId::new(point).unwrap();
    let now = Timestamp::from_unix_s(1);
    let mut source = &world.db;
    let signed = acceptance(&mut source, &world.community, now, &world.gateway, &point);
    let operator = PublicKey::of(&world.community.operator);
    signed
        .await
        .unwrap()
        .verify(operator, &world.community.id)
        .unwrap()
        .message()
        .clone()
}

#[tokio::test]
async fn what_does_not_come_from_the_enrolled_key_is_refused_and_kept() {
    let mut world = World::on_sqlite(&["home-a"]).await;
    let reading = world.read("home-a", 0, 10, 0);
    let late = interval(0).end();
    let bytes = sign(&world.gateway_key, &world.community, &reading);
    let stranger = sign(
        &SigningKey::from_bytes(&[9; 32]),
        &world.community,
        &reading,
    );
    assert_eq!(
        refused(world.accept_bytes(stranger, late).await),
        Rejection::UnknownKey
    );
    let mut broken = bytes.clone();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(
        refused(world.accept_bytes(broken, late).await),
        Rejection::BadSignature
    );
    assert_eq!(
        refused(world.accept_bytes(vec![0; 17_000], late).await),
        Rejection::TooLarge
    );
    let order_key = crate::world::order_key("home-a");
    let by_order_key = sign(&order_key, &world.community, &reading);
    assert_eq!(
        refused(world.accept_bytes(by_order_key, late).await),
        Rejection::WrongNetwork
    );
    let mut tx = world.db.begin().await.unwrap();
    let other = GatewayId::new("gateway-2").unwrap();
    let outcome = accept_reading(&mut tx, &world.community, late, &other, bytes.clone()).await;
    assert_eq!(refused(outcome.unwrap()), Rejection::WrongNetwork);
    tx.commit().await.unwrap();
    let foreign = Reading {
        point: PointId::new("elsewhere").unwrap(),
        ..reading.clone()
    };
    assert_eq!(
        refused(world.accept(&foreign).await),
        Rejection::WrongNetwork
    );
    let kept: (i64,) = world
        .db
        .fetch_one("SELECT COUNT(*) FROM settle_refused", runtime::args![])
        .await
        .unwrap();
    assert_eq!(kept, (6,));
    // None of it took the honest reading's place.
    let accepted = world.accept_bytes(bytes, late).await;
    assert!(
        matches!(accepted, ReadingOutcome::Accepted { sequence: 1, .. }),
        "{accepted:?}"
    );
}

#[tokio::test]
async fn the_same_again_has_no_effect_and_another_is_evidence() {
    let mut world = World::on_sqlite(&["home-a"]).await;
    let reading = world.read("home-a", 0, 10, 0);
    assert!(matches!(
        world.accept(&reading).await,
        ReadingOutcome::Accepted { .. }
    ));
    assert!(matches!(
        world.accept(&reading).await,
        ReadingOutcome::Again { sequence: 1, .. }
    ));
    let mut forked = reading.clone();
    forked.registers[0].end = domain::energy::Energy::from_wh(1011);
    for _ in 0..2 {
        assert_eq!(
            refused(world.accept(&forked).await),
            Rejection::Equivocation
        );
    }
    let evidence: Vec<(Vec<u8>, Vec<u8>)> = world
        .db
        .fetch_all(
            "SELECT first, second FROM settle_evidence",
            runtime::args![],
        )
        .await
        .unwrap();
    let both = [&reading, &forked].map(|r| sign(&world.gateway_key, &world.community, r));
    assert_eq!(evidence, [(both[0].clone(), both[1].clone())]);
    let to = interval(9).start();
    let home = who("home-a");
    let seen = history(
        &world.db,
        Whose::Participant(&home),
        interval(0).start(),
        to,
    );
    let seen = seen.await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].imported.wh(), seen[0].exported.wh()), (10, 0));
    check_books(&world.db).await.unwrap();
}

#[tokio::test]
async fn an_acceptance_names_gaps_and_rejections() {
    let mut world = World::on_sqlite(&["home-a"]).await;
    assert_eq!(told(&world, "home-a").await.accepted_up_to, None);
    let readings: Vec<Reading> = (0..6).map(|n| world.read("home-a", n, 10, 0)).collect();
    for n in [0, 3, 5] {
        assert!(matches!(
            world.accept(&readings[n]).await,
            ReadingOutcome::Accepted { .. }
        ));
    }
    let heard = told(&world, "home-a").await;
    assert_eq!(
        (heard.accepted_up_to, heard.missing),
        (Some(6), vec![(2, 3), (5, 5)])
    );
    let mut implausible = readings[4].clone();
    implausible.registers[0].start = domain::energy::Energy::from_wh(7);
    assert_eq!(
        refused(world.accept(&implausible).await),
        Rejection::ValueRegression
    );
    assert_eq!(
        refused(world.accept(&implausible).await),
        Rejection::ValueRegression
    );
    assert!(matches!(
        world.accept(&readings[1]).await,
        ReadingOutcome::Accepted { .. }
    ));
    let heard = told(&world, "home-a").await;
    assert_eq!(
        (heard.accepted_up_to, heard.missing),
        (Some(6), vec![(3, 3)])
    );
    assert_eq!(heard.rejected, [(5, Rejection::ValueRegression)]);
    check_books(&world.db).await.unwrap();
}

#[tokio::test]
async fn more_gaps_than_fit_are_told_in_parts() {
    let mut world = World::on_sqlite(&["home-a"]).await;
    let readings: Vec<Reading> = (0..140).map(|n| world.read("home-a", n, 10, 0)).collect();
    let mut tx = world.db.begin().await.unwrap();
    for reading in readings.iter().step_by(2) {
        let bytes = Signed::sign(&world.gateway_key, &world.community.id, reading);
        let now = reading.interval.end();
        let bytes = bytes.as_bytes().to_vec();
        let outcome = accept_reading(&mut tx, &world.community, now, &world.gateway, bytes).await;
        assert!(matches!(outcome.unwrap(), ReadingOutcome::Accepted { .. }));
    }
    tx.commit().await.unwrap();
    let heard = told(&world, "home-a").await;
    assert_eq!(heard.missing.len(), 64);
    assert_eq!(
        (heard.missing[63], heard.accepted_up_to),
        ((128, 128), Some(129))
    );
}
