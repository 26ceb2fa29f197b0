//! The books against those who would change them: the database refuses, or the check at start finds it.

use domain::key_record::{Holder, KeyRecord};
use domain::order::Side;
use domain::posting::Run;
use domain::signed::{PublicKey, SigningKey};
use runtime::args;
use settlement::log::checkpoint::{Checkpoint, Log};
use settlement::log::tree::verify_consistency;
use settlement::service::{
    BooksError, EnrolOutcome, check_books, consistency, enrol, gateway_of_key, latest_checkpoint,
    participant_key, registered_points,
};

use crate::world::{World, interval, order_key, who};

async fn settled(mut world: World) -> World {
    world.deposit("home-a", "10").await;
    let bid = world.order("home-a", Side::Bid, 0, 1000, "0.2");
    let offer = world.order("home-b", Side::Offer, 0, 1000, "0.1");
    world.hold(&bid).await;
    let outcome = world.outcome(0, &[bid, offer], &[(0, 1, 1000)], "0.15");
    world.contract(&outcome).await;
    world.meter("home-a", 0, 900, 0).await;
    world.run(&outcome, Run::Provisional).await;
    world.checkpoint(interval(1).start()).await;
    world
}

async fn append_only_and_guarded(world: World) {
    for sql in [
        "UPDATE settle_postings SET amount = amount + 1",
        "DELETE FROM settle_postings",
        "UPDATE settle_log_entries SET idx = idx + 1000",
        "DELETE FROM settle_log_entries",
        "UPDATE settle_checkpoints SET note = ''",
        "DELETE FROM settle_key_records",
        "DELETE FROM settle_orders",
        "UPDATE settle_trades SET start_s = 0",
        "UPDATE settle_runs SET postings = 0",
        "DELETE FROM settle_lines",
        "UPDATE settle_readings SET imported_wh = 0",
        "DELETE FROM settle_readings",
        "UPDATE settle_balances SET debits = credits + 1 WHERE chart = 100 AND asset = 1",
    ] {
        let mut tx = world.db.begin().await.unwrap();
        assert!(tx.execute(sql, args![]).await.is_err(), "{sql}");
    }
    check_books(&world.db).await.unwrap();
}

#[tokio::test]
async fn nothing_posted_or_logged_can_be_changed_on_sqlite() {
    append_only_and_guarded(settled(World::on_sqlite(&["home-a", "home-b"]).await).await).await;
}

#[tokio::test]
async fn nothing_posted_or_logged_can_be_changed_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a", "home-b"]).await {
        append_only_and_guarded(settled(world).await).await;
    }
}

#[tokio::test]
async fn the_check_at_start_names_what_was_changed() {
    let world = settled(World::on_sqlite(&["home-a", "home-b"]).await).await;
    let change = async |sql: &'static str| {
        let mut tx = world.db.begin().await.unwrap();
        assert!(tx.execute(sql, args![]).await.unwrap() > 0, "{sql}");
        tx.commit().await.unwrap();
    };
    change("UPDATE settle_balances SET credits = credits + 5 WHERE chart = 220").await;
    let error = check_books(&world.db).await.unwrap_err();
    assert!(
        matches!(error, BooksError::NotZero { sum: 5, .. }),
        "{error}"
    );
    change("UPDATE settle_balances SET credits = credits - 5 WHERE chart = 210 AND asset = 1")
        .await;
    let error = check_books(&world.db).await.unwrap_err();
    assert!(matches!(error, BooksError::Balance { .. }), "{error}");
    change("UPDATE settle_balances SET credits = credits + 5 WHERE chart = 210 AND asset = 1")
        .await;
    change("UPDATE settle_balances SET credits = credits - 5 WHERE chart = 220").await;
    check_books(&world.db).await.unwrap();
}

#[tokio::test]
async fn a_changed_log_entry_is_found() {
    let world = settled(World::on_sqlite(&["home-a", "home-b"]).await).await;
    let mut tx = world.db.begin().await.unwrap();
    tx.execute("DROP TRIGGER settle_log_entries_no_update", args![])
        .await
        .unwrap();
    let changed = tx
        .execute(
            "UPDATE settle_log_entries SET leaf = $1 WHERE log = 3 AND idx = 1",
            args![[0_u8; 42]],
        )
        .await;
    assert_eq!(changed.unwrap(), 1);
    tx.commit().await.unwrap();
    let error = check_books(&world.db).await.unwrap_err();
    assert!(
        matches!(error, BooksError::Log { log: "ledger", .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_log_only_grows() {
    let mut world = settled(World::on_sqlite(&["home-a", "home-b"]).await).await;
    let operator = PublicKey::of(&world.community.operator);
    let origin = Log::Readings.origin(&world.community.id);
    let head = async |world: &World| {
        let note = latest_checkpoint(&world.db, Log::Readings)
            .await
            .unwrap()
            .unwrap();
        Checkpoint::open(&note, &origin, operator).unwrap()
    };
    let old = head(&world).await;
    for n in 1..8 {
        world.meter("home-a", n, 100, 0).await;
    }
    world.checkpoint(interval(8).start()).await;
    world.checkpoint(interval(8).start()).await;
    let new = head(&world).await;
    assert_eq!((old.size, new.size), (1, 8));
    let path = consistency(&world.db, Log::Readings, old.size, new.size)
        .await
        .unwrap()
        .unwrap();
    assert!(verify_consistency(
        old.size, old.root, new.size, new.root, &path
    ));
    assert!(
        consistency(&world.db, Log::Readings, 1, 9)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_key_is_enrolled_once_and_replaced_by_a_newer_one() {
    let world = World::on_sqlite(&["home-a", "home-b"]).await;
    let now = interval(0).start();
    let record = |name: &str, key: &SigningKey| KeyRecord {
        key: PublicKey::of(key),
        holder: Holder::Participant(who(name)),
        valid_from: now,
    };
    let mut tx = world.db.begin().await.unwrap();
    let again = enrol(
        &mut tx,
        &world.community,
        now,
        record("home-a", &order_key("home-a")),
    )
    .await;
    assert_eq!(again.unwrap(), EnrolOutcome::Again);
    let taken = enrol(
        &mut tx,
        &world.community,
        now,
        record("home-b", &order_key("home-a")),
    )
    .await;
    assert!(taken.is_err(), "a key has one holder");
    let newer = SigningKey::from_bytes(&[5; 32]);
    let new = enrol(&mut tx, &world.community, now, record("home-a", &newer)).await;
    assert_eq!(new.unwrap(), EnrolOutcome::Enrolled);
    tx.commit().await.unwrap();
    let key = participant_key(&world.db, &who("home-a")).await.unwrap();
    assert_eq!(key, Some(PublicKey::of(&newer)));
    let gateway = PublicKey::of(&world.gateway_key).id();
    assert_eq!(
        gateway_of_key(&world.db, gateway).await.unwrap(),
        Some(world.gateway.clone())
    );
    let points = registered_points(&world.db).await.unwrap();
    let names: Vec<&str> = points.iter().map(|p| p.point.as_str()).collect();
    assert_eq!(names, ["feeder", "home-a", "home-b"]);
    check_books(&world.db).await.unwrap();
}

#[tokio::test]
async fn a_gateways_record_is_renewed_but_a_known_point_stays_whose_it_is() {
    let world = World::on_sqlite(&["home-a", "home-b"]).await;
    let now = interval(0).start();
    let give = async |points| {
        let record = KeyRecord {
            key: PublicKey::of(&world.gateway_key),
            holder: Holder::Gateway {
                gateway: world.gateway.clone(),
                points,
            },
            valid_from: now,
        };
        let mut tx = world.db.begin().await.unwrap();
        let outcome = enrol(&mut tx, &world.community, now, record).await;
        if outcome.is_ok() {
            tx.commit().await.unwrap();
        }
        outcome.map_err(|error| error.to_string())
    };
    let three = || world.points(&["home-a", "home-b", "home-c"]);
    let two = world.points(&["home-a", "home-b"]);
    assert_eq!(give(two).await, Ok(EnrolOutcome::Again));
    assert_eq!(give(three()).await, Ok(EnrolOutcome::Renewed));
    let mut rated = three();
    rated[1].rating_w = 7000;
    assert_eq!(give(rated.clone()).await, Ok(EnrolOutcome::Renewed));
    assert_eq!(give(rated).await, Ok(EnrolOutcome::Again));
    let points = registered_points(&world.db).await.unwrap();
    assert_eq!((points.len(), points[1].rating_w), (4, 7000));
    let mut sold = three();
    sold[1].participant = Some(who("home-d"));
    let why = give(sold).await.unwrap_err();
    let says = "was the connection of home-a and is now given as the connection of home-d";
    assert!(why.contains(says), "{why}");
    let mut turned = three();
    turned[1].role = domain::key_record::PointRole::Submeter;
    let why = give(turned).await.unwrap_err();
    assert!(why.contains("the submeter of home-a"), "{why}");
    let mut many = three();
    let feeder = many[0].clone();
    many.extend((0..domain::key_record::POINTS_MAX).map(|n| {
        let mut extra = feeder.clone();
        extra.point = domain::ids::PointId::new(format!("extra-{n}")).unwrap();
        extra
    }));
    let why = give(many).await.unwrap_err();
    assert!(why.contains("1024 points"), "{why}");
    check_books(&world.db).await.unwrap();
}

#[tokio::test]
async fn a_deposit_is_made_once_and_a_changed_one_is_explained() {
    let world = World::on_sqlite(&["home-a"]).await;
    let give = async |amount: &str| {
        let mut tx = world.db.begin().await.unwrap();
        let amount = amount.parse().unwrap();
        let (now, who) = (interval(0).start(), who("home-a"));
        let done = settlement::service::deposit(&mut tx, now, &who, amount, "opening").await;
        tx.commit().await.unwrap();
        done.map_err(|error| error.to_string())
    };
    assert_eq!(give("0").await, Ok(()));
    assert_eq!(give("5").await, Ok(()));
    assert_eq!(give("5").await, Ok(()));
    for other in ["6", "0"] {
        let why = give(other).await.unwrap_err();
        let named = ["home-a", "5.000000000", &format!("{other}.000000000")];
        assert!(named.iter().all(|word| why.contains(word)), "{why}");
    }
    check_books(&world.db).await.unwrap();
}
