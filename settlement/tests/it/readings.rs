//! Readings at the door: what is taken, what is refused by which name, and what is told the gateway.

use domain::acceptance::Acceptance;
use domain::ids::{GatewayId, PointId};
use domain::key_record::{Holder, KeyRecord};
use domain::reading::Reading;
use domain::rejection::Rejection;
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use settlement::service::{ReadingOutcome, Whose, accept_reading, acceptance, enrol, history};

use crate::world::{World, interval, sign, who};

fn refused(outcome: ReadingOutcome) -> Rejection {
    match outcome {
        ReadingOutcome::Rejected { reason, .. } => reason,
        other => panic!("not refused: {other:?}"),
    }
}

async fn told(world: &World, point: &str) -> Acceptance {
    told_at(world, point, Timestamp::from_unix_s(1)).await
}

async fn told_at(world: &World, point: &str, now: Timestamp) -> Acceptance {
    let point = PointId::new(point).unwrap();
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
    let heard = told(&world, "home-a").await;
    assert_eq!(heard.rejected, [(1, Rejection::Equivocation)]);
    assert!(matches!(
        world.accept(&reading).await,
        ReadingOutcome::Again { sequence: 1, .. }
    ));
    assert_eq!(told(&world, "home-a").await.rejected, []);
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
    world.check().await;
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
    world.check().await;
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

#[tokio::test]
async fn more_rejections_than_fit_are_told_in_parts() {
    let mut world = World::on_sqlite(&["home-a"]).await;
    let mut readings: Vec<Reading> = (0..140).map(|n| world.read("home-a", n, 10, 0)).collect();
    let mut tx = world.db.begin().await.unwrap();
    let now = interval(140).end();
    for (n, reading) in readings.iter_mut().enumerate() {
        if n % 2 == 1 {
            // More than the point's rating allows.
            reading.registers[1].end = domain::energy::Energy::from_wh(9_000_000);
        }
        let bytes = sign(&world.gateway_key, &world.community, reading);
        accept_reading(&mut tx, &world.community, now, &world.gateway, bytes)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    let heard = told_at(&world, "home-a", now).await;
    assert_eq!((heard.rejected.len(), heard.missing.len()), (64, 0));
    let unnamed: Vec<u64> = (1..=70)
        .map(|n| 2 * n)
        .filter(|s| heard.rejected.iter().all(|(named, _)| named != s))
        .collect();
    assert_eq!(heard.accepted_up_to, Some(unnamed[0] - 1));
    // What the gateway did not hear it asks again, and then hears; what it does not, it has heard.
    world
        .accept_bytes(
            sign(&world.gateway_key, &world.community, &readings[139]),
            now.plus_s(1),
        )
        .await;
    let heard = told_at(&world, "home-a", now.plus_s(1)).await;
    assert_eq!(heard.rejected.last().unwrap().0, 140);
    let later = told_at(&world, "home-a", now.plus_s(2 * 86_400)).await;
    assert_eq!(later.accepted_up_to, Some(140));
}

#[tokio::test]
async fn a_reading_from_the_future_claims_nothing() {
    let mut world = World::on_sqlite(&["home-a"]).await;
    let reading = world.read("home-a", 0, 10, 0);
    let bytes = sign(&world.gateway_key, &world.community, &reading);
    let early = world.accept_bytes(bytes.clone(), interval(0).start()).await;
    assert!(
        matches!(&early, ReadingOutcome::Rejected { point: Some(_), .. }),
        "{early:?}"
    );
    assert_eq!(refused(early), Rejection::Future);
    let heard = told(&world, "home-a").await;
    assert_eq!((heard.accepted_up_to, heard.rejected), (None, vec![]));
    assert!(matches!(
        world.accept_bytes(bytes, interval(0).end()).await,
        ReadingOutcome::Accepted { .. }
    ));
}

#[tokio::test]
async fn a_reading_from_before_the_enrolment_is_answered_by_name() {
    let mut world = World::on_sqlite(&["home-a"]).await;
    let reading = world.read("home-a", -8, 10, 0);
    let outcome = world.accept(&reading).await;
    let answered = matches!(&outcome, ReadingOutcome::Rejected { point: Some(_), .. });
    assert!(answered, "{outcome:?}");
    assert_eq!(refused(outcome), Rejection::TooLate);
    let heard = told(&world, "home-a").await;
    assert_eq!(
        (heard.accepted_up_to, heard.rejected),
        (Some(1), vec![(1, Rejection::TooLate)])
    );
}

#[tokio::test]
async fn a_flood_of_refused_readings_uses_up_sequences_but_keeps_no_bytes() {
    let mut world = World::on_sqlite(&["home-a"]).await;
    let mut tx = world.db.begin().await.unwrap();
    tx.execute(
        "INSERT INTO settle_counters (name, value) VALUES ('rejected/home-a', 10000)",
        runtime::args![],
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let mut reading = world.read("home-a", 0, 10, 0);
    reading.registers[1].end = domain::energy::Energy::from_wh(9_000_000);
    for _ in 0..2 {
        assert_eq!(
            refused(world.accept(&reading).await),
            Rejection::RateLimited
        );
    }
    let heard = told(&world, "home-a").await;
    assert_eq!(
        (heard.accepted_up_to, heard.missing, heard.rejected),
        (Some(1), vec![], vec![(1, Rejection::RateLimited)])
    );
    let kept: Vec<(Vec<u8>,)> = world
        .db
        .fetch_all("SELECT bytes FROM settle_readings", runtime::args![])
        .await
        .unwrap();
    assert_eq!(kept, [(vec![],)]);
}

/// Enrols a newer key for the gateway, with the same points.
async fn replace_key(world: &mut World, n: i64) {
    let points = world.points(&["home-a"]);
    world.gateway_key = SigningKey::from_bytes(&[42; 32]);
    let record = KeyRecord {
        key: PublicKey::of(&world.gateway_key),
        holder: Holder::Gateway {
            gateway: world.gateway.clone(),
            points,
        },
        valid_from: interval(n).start(),
    };
    let mut tx = world.db.begin().await.unwrap();
    enrol(&mut tx, &world.community, interval(n).start(), record)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn lost_disk(mut world: World) {
    for n in 0..5 {
        world.meter("home-a", n, 10, 0).await;
    }
    replace_key(&mut world, 5).await;
    world.forget_meter("home-a");
    assert_eq!(told(&world, "home-a").await.accepted_up_to, None);
    let lost: Vec<Reading> = (4..8).map(|n| world.read("home-a", n, 10, 0)).collect();
    for n in [3, 1] {
        let outcome = world.accept(&lost[n]).await;
        let taken = matches!(outcome, ReadingOutcome::Accepted { .. });
        assert!(taken, "{outcome:?}");
    }
    let heard = told(&world, "home-a").await;
    assert_eq!(
        (heard.accepted_up_to, heard.missing),
        (Some(4), vec![(1, 1), (3, 3)])
    );
    // Its interval is in the books already, under the old key.
    let twice = Reading {
        interval: interval(4),
        ..lost[0].clone()
    };
    let outcome = world.accept_bytes(
        sign(&world.gateway_key, &world.community, &twice),
        interval(9).end(),
    );
    assert_eq!(refused(outcome.await), Rejection::IntervalOverlap);
    // What the old key sends under the same sequence takes nothing away from that answer.
    let old = SigningKey::from_bytes(&[2; 32]);
    let other = Reading {
        interval: interval(3),
        ..twice
    };
    let other = sign(&old, &world.community, &other);
    let outcome = world.accept_bytes(other, interval(9).end()).await;
    assert_eq!(refused(outcome), Rejection::Equivocation);
    world.accept(&lost[2]).await;
    let heard = told(&world, "home-a").await;
    assert_eq!((heard.accepted_up_to, heard.missing), (Some(4), vec![]));
    assert_eq!(heard.rejected, [(1, Rejection::IntervalOverlap)]);
    world.check().await;
}

#[tokio::test]
async fn a_gateway_that_lost_its_disk_begins_anew_with_a_new_key() {
    lost_disk(World::on_sqlite(&["home-a"]).await).await;
}

#[tokio::test]
async fn a_gateway_that_lost_its_disk_begins_anew_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a"]).await {
        lost_disk(world).await;
    }
}

#[tokio::test]
async fn what_an_older_key_signed_is_confirmed_when_it_comes_again() {
    let mut world = World::on_sqlite(&["home-a"]).await;
    let old: Vec<Reading> = (0..3).map(|n| world.read("home-a", n, 10, 0)).collect();
    let old_key = world.gateway_key.clone();
    world.accept(&old[0]).await;
    replace_key(&mut world, 3).await;
    let new = world.read("home-a", 3, 10, 0);
    let now = interval(3).end();
    for reading in [&old[1], &old[0]] {
        let bytes = sign(&old_key, &world.community, reading);
        world.accept_bytes(bytes, now).await;
    }
    assert_eq!(told(&world, "home-a").await.accepted_up_to, Some(2));
    world.accept(&new).await;
    let heard = told(&world, "home-a").await;
    assert_eq!(
        (heard.accepted_up_to, heard.missing),
        (Some(4), vec![(3, 3)])
    );
}
