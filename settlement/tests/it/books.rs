//! The books against those who would change them: the database refuses, or the check at start finds it.

use std::num::NonZeroU32;

use domain::key_record::{Holder, KeyRecord};
use domain::order::Side;
use domain::posting::{Asset, Chart, Run};
use domain::signed::{PublicKey, SigningKey};
use runtime::args;
use settlement::log::checkpoint::{Checkpoint, Log};
use settlement::log::tree::verify_consistency;
use settlement::service::{
    BooksError, EnrolOutcome, Portions, check_books, check_books_at_start, check_books_in_portions,
    check_books_whole, consistency, enrol, gateway_of_key, has_uncleared_holds, latest_checkpoint,
    participant_keys, registered_points, release_uncleared,
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
    if world.db.is_sqlite() {
        // Where triggers do not reach what REPLACE deletes, this would change every amount.
        let sql = "INSERT OR REPLACE INTO settle_postings SELECT id, asset, debit_chart, debit_owner, credit_chart,
             credit_owner, amount + 1, purpose, start_s, length_s, run, reference, at_ms FROM settle_postings";
        let mut tx = world.db.begin().await.unwrap();
        let why = tx.execute(sql, args![]).await.unwrap_err().to_string();
        assert!(why.contains("append-only"), "{why}");
    }
    world.check().await;
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
    world.check().await;
}

/// Statements that somebody runs behind the platform's back, and what the check says then.
async fn found(world: &World, statements: &[&'static str]) -> String {
    changed(world, statements).await;
    check_books(&world.db).await.unwrap_err().to_string()
}

async fn changed(world: &World, statements: &[&'static str]) {
    let mut tx = world.db.begin().await.unwrap();
    for sql in statements {
        assert!(
            tx.execute(sql, args![]).await.unwrap() > 0 || sql.starts_with("DROP"),
            "{sql}"
        );
    }
    tx.commit().await.unwrap();
}

/// Changes of rows that leave every sum and every root as it was, and what is said of each.
const CHANGES: [(&[&str], &str); 12] = [
    (
        &[
            "DROP TRIGGER settle_postings_no_update",
            "UPDATE settle_postings SET amount = amount + 7 WHERE purpose = 7",
            "UPDATE settle_balances SET credits = credits + 7 WHERE chart = 130 AND owner = 'home-a'",
            "UPDATE settle_balances SET debits = debits + 7 WHERE chart = 210 AND asset = 1",
        ],
        "the postings of the provisional run of the interval that starts at unix second 1782000000",
    ),
    (
        &[
            "DROP TRIGGER settle_readings_no_update",
            "UPDATE settle_readings SET imported_wh = imported_wh + 7",
        ],
        "the reading of home-a in the interval that starts at unix second 1782000000 has 907 Wh in",
    ),
    (
        &[
            "DROP TRIGGER settle_readings_no_update",
            "UPDATE settle_readings SET bytes = CAST(bytes || X'00' AS BLOB)",
        ],
        "the reading of home-a in the interval that starts at unix second 1782000000 is not what entry 0",
    ),
    (
        &[
            "DROP TRIGGER settle_readings_no_delete",
            "DELETE FROM settle_readings",
        ],
        "entry 0 of the readings log (reading of the interval that starts at unix second 1782000000) has no row",
    ),
    (
        &["INSERT INTO settle_readings SELECT point, sequence + 9, digest, reason, flags, start_s + 9000, length_s, era,
           registers, imported_wh, exported_wh, quality, kid, received_ms, bytes, log_index FROM settle_readings"],
        "the tables have 2 rows of what the logs call `reading`",
    ),
    (
        &[
            "DROP TRIGGER settle_lines_no_update",
            "UPDATE settle_lines SET content = CAST(content || X'00' AS BLOB) WHERE participant = 'home-b'",
        ],
        "the settlement line of home-b in run 0",
    ),
    (
        &[
            "DROP TRIGGER settle_trades_no_update",
            "UPDATE settle_trades SET content = CAST(content || X'00' AS BLOB)",
        ],
        "is not what entry 3 of the market log commits to",
    ),
    (
        &["DROP TRIGGER settle_orders_no_delete", "DELETE FROM settle_orders"],
        "entry 0 of the market log (order of the interval",
    ),
    (
        &["UPDATE settle_points SET rating_w = 1 WHERE point = 'home-a'"],
        "point home-a is registered otherwise",
    ),
    (
        &["UPDATE settle_intervals SET feed_in = feed_in + 1"],
        "other prices or terms than its provisional run had",
    ),
    (
        &["UPDATE settle_last_run SET content = (SELECT content FROM settle_last_run ORDER BY start_s LIMIT 1)"],
        "has another delivery of home-a than its line",
    ),
    (
        &["DROP TRIGGER settle_openings_no_update", "UPDATE settle_openings SET at_ms = at_ms + 1"],
        "the tokens of home-a under `opening`",
    ),
];

#[tokio::test]
async fn a_row_that_is_not_what_was_logged_is_named() {
    for (statements, said) in CHANGES {
        let mut world = settled(World::on_sqlite(&["home-a", "home-b"]).await).await;
        if said.contains("another delivery") {
            let second = world.outcome(1, &[], &[], "0.15");
            world.contract(&second).await;
            world.meter("home-a", 1, 500, 0).await;
            world.run(&second, Run::Provisional).await;
        }
        let operator = &world.community.operator;
        check_books_at_start(&world.db, operator).await.unwrap();
        changed(&world, statements).await;
        check_books(&world.db).await.unwrap();
        let why = check_books_whole(&world.db, operator).await.unwrap_err();
        assert!(why.to_string().contains(said), "{statements:?}: {why}");
        // Whatever was checked before: these are among the newest.
        let at_start = check_books_at_start(&world.db, operator).await;
        assert_eq!(
            at_start.is_err(),
            !said.contains("2 rows"),
            "{statements:?}"
        );
        let one_by_one = Portions {
            part: NonZeroU32::MIN,
            recent: 1000,
        };
        let in_portions = check_books_in_portions(&world.db, operator, one_by_one).await;
        assert_eq!(
            in_portions.map_err(|error| error.to_string()),
            at_start.map_err(|error| error.to_string()),
            "{statements:?}"
        );
    }
}

/// Moves what a reading's row says, as somebody does who gets around the triggers.
async fn moved(world: &World, n: i64, by_wh: i64) {
    let mut tx = world.db.begin().await.unwrap();
    let (before, after) = match world.db.is_sqlite() {
        true => (
            "DROP TRIGGER IF EXISTS settle_readings_no_update",
            "SELECT 1",
        ),
        false => (
            "ALTER TABLE settle_readings DISABLE TRIGGER USER",
            "ALTER TABLE settle_readings ENABLE TRIGGER USER",
        ),
    };
    tx.execute(before, args![]).await.unwrap();
    let sql = "UPDATE settle_readings SET imported_wh = imported_wh + $1 WHERE start_s = $2";
    let args = args![by_wh, interval(n).start_s()];
    assert_eq!(tx.execute(sql, args).await.unwrap(), 1);
    tx.execute(after, args![]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn goes_on(mut world: World) {
    for n in 1..6 {
        world.meter("home-a", n, 900, 0).await;
    }
    let operator = world.community.operator.clone();
    let start = async |world: &World, operator: &SigningKey, recent: u32| -> Result<(), String> {
        let part = NonZeroU32::new(2).unwrap();
        let portions = Portions { part, recent };
        let checked = check_books_in_portions(&world.db, operator, portions).await;
        checked.map_err(|error| error.to_string())
    };
    let mark = async |world: &World| -> Option<i64> {
        let sql = "SELECT size FROM settle_checked WHERE log = $1";
        let args = args![i64::from(Log::Readings.code())];
        let row: Option<(i64,)> = world.db.fetch_optional(sql, args).await.unwrap();
        row.map(|(size,)| size)
    };
    let named = |n: i64| format!("starts at unix second {}", interval(n).start_s());
    moved(&world, 3, 7).await;
    for _ in 0..2 {
        let why = start(&world, &operator, 0).await.unwrap_err();
        assert!(why.contains(&named(3)), "{why}");
        assert_eq!(mark(&world).await, Some(2), "what held before, and no more");
    }
    moved(&world, 3, -7).await;
    moved(&world, 0, 7).await;
    start(&world, &operator, 0).await.unwrap();
    assert_eq!(
        mark(&world).await,
        Some(6),
        "it went on from there, and did not begin anew"
    );
    let whole = check_books_whole(&world.db, &operator).await.unwrap_err();
    assert!(whole.to_string().contains(&named(0)), "{whole}");
    // The newest are looked at again; another's marks count for nothing.
    let other = SigningKey::from_bytes(&[9; 32]);
    for (operator, recent) in [(&operator, 6), (&other, 0)] {
        let why = start(&world, operator, recent).await.unwrap_err();
        assert!(why.contains(&named(0)), "{why}");
        assert_eq!(mark(&world).await, Some(6));
    }
    moved(&world, 0, -7).await;
    world.meter("home-a", 6, 900, 0).await;
    start(&world, &operator, 0).await.unwrap();
    assert_eq!(mark(&world).await, Some(7));
    world.check().await;
}

#[tokio::test]
async fn a_start_that_ends_on_the_way_goes_on_where_it_was_on_sqlite() {
    goes_on(settled(World::on_sqlite(&["home-a", "home-b"]).await).await).await;
}

#[tokio::test]
async fn a_start_that_ends_on_the_way_goes_on_where_it_was_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a", "home-b"]).await {
        goes_on(settled(world).await).await;
    }
}

#[tokio::test]
async fn entries_of_who_was_forgotten_are_no_finding() {
    let world = settled(World::on_sqlite(&["home-a", "home-b"]).await).await;
    let mut tx = world.db.begin().await.unwrap();
    settlement::service::forget(&mut tx, &who("home-a"))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    world.check().await;
}

#[tokio::test]
async fn a_deposit_that_nobody_asked_for_is_found() {
    let world = settled(World::on_sqlite(&["home-a", "home-b"]).await).await;
    let why = found(
        &world,
        &[
            "INSERT INTO settle_postings (id, asset, debit_chart, debit_owner, credit_chart, credit_owner, amount,
             purpose, at_ms) VALUES (X'00000000000010011122334455667788', 1, 600, '-', 100, 'home-b', 7, 1, 0)",
            "UPDATE settle_balances SET debits = debits + 7 WHERE chart = 600",
            "UPDATE settle_balances SET credits = credits + 7 WHERE chart = 100 AND owner = 'home-b'",
        ],
    )
    .await;
    let told = [
        "deposit of 7 nano-tokens",
        "600/-",
        "100/home-b",
        "no request",
    ];
    assert!(told.iter().all(|word| why.contains(word)), "{why}");
}

#[tokio::test]
async fn an_opening_deposit_that_is_larger_than_it_was_logged_is_found() {
    let world = settled(World::on_sqlite(&["home-a", "home-b"]).await).await;
    let why = found(
        &world,
        &[
            "DROP TRIGGER settle_postings_no_update",
            "UPDATE settle_postings SET amount = amount + 7 WHERE purpose = 1",
            "UPDATE settle_balances SET debits = debits + 7 WHERE chart = 600",
            "UPDATE settle_balances SET credits = credits + 7 WHERE chart = 100 AND owner = 'home-a'",
        ],
    )
    .await;
    assert!(why.contains("deposit of 10000000007"), "{why}");
}

#[tokio::test]
async fn opening_deposits_of_before_stand_and_are_logged_when_they_are_named_again() {
    let world = settled(World::on_sqlite(&["home-a", "home-b"]).await).await;
    let logged = async || -> Vec<(i64,)> {
        let sql = "SELECT log_index FROM settle_openings WHERE log_index >= 0";
        world.db.fetch_all(sql, args![]).await.unwrap()
    };
    assert_eq!(
        logged().await.len(),
        1,
        "an auditor sees the tokens that were given"
    );
    // As the migration leaves the books of a program that logged none.
    let mut tx = world.db.begin().await.unwrap();
    for sql in [
        "DROP TRIGGER settle_openings_no_update",
        "UPDATE settle_openings SET log_index = -1",
    ] {
        tx.execute(sql, args![]).await.unwrap();
    }
    tx.commit().await.unwrap();
    check_books(&world.db).await.unwrap();
    for _ in 0..2 {
        world.deposit("home-a", "10").await;
        assert_eq!(logged().await.len(), 1);
    }
    check_books(&world.db).await.unwrap();
}

#[tokio::test]
async fn tokens_that_are_held_for_nothing_are_found() {
    let mut world = settled(World::on_sqlite(&["home-a", "home-b"]).await).await;
    let bid = world.order("home-a", Side::Bid, 1, 1000, "0.2");
    assert!(world.hold(&bid).await);
    world.check().await;
    let why = found(
        &world,
        &["UPDATE settle_holds SET amount = amount - 7 WHERE is_open = 1"],
    )
    .await;
    assert!(why.contains("105/home-a stand 270000000"), "{why}");
    // Its trades hold as much when it is contracted, and nothing once they are paid.
    found(&world, &["UPDATE settle_holds SET is_open = 0"]).await;
}

async fn passed_over(mut world: World) {
    world.deposit("home-a", "10").await;
    let bid = world.order("home-a", Side::Bid, 0, 1000, "0.2");
    assert!(world.hold(&bid).await);
    let release = async |world: &World, now| {
        let mut tx = world.db.begin().await.unwrap();
        let released = release_uncleared(&mut tx, now).await.unwrap();
        tx.commit().await.unwrap();
        released
    };
    let late = interval(400).end();
    let stays = "the market may yet come to it, however late";
    assert_eq!(release(&world, late).await, 0, "{stays}");
    let next = world.outcome(1, &[], &[], "0.15");
    world.contract(&next).await;
    assert_eq!(
        release(&world, interval(0).start()).await,
        0,
        "it has not ended"
    );
    assert!(has_uncleared_holds(&world.db, late).await.unwrap());
    assert_eq!(release(&world, interval(0).end()).await, 1);
    assert!(!has_uncleared_holds(&world.db, late).await.unwrap());
    assert_eq!(release(&world, late).await, 0);
    let held = world.balance(Asset::Token, Chart::Held, "home-a").await;
    let free = world
        .balance(Asset::Token, Chart::Available, "home-a")
        .await;
    assert_eq!((held, free), (0, 10_000_000_000));
    world.check().await;
}

#[tokio::test]
async fn what_is_held_for_an_interval_that_was_passed_over_is_given_back_on_sqlite() {
    passed_over(World::on_sqlite(&["home-a"]).await).await;
}

#[tokio::test]
async fn what_is_held_for_an_interval_that_was_passed_over_is_given_back_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a"]).await {
        passed_over(world).await;
    }
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
    let keys = participant_keys(&world.db).await.unwrap();
    let own = keys.iter().filter(|key| key.participant == who("home-a"));
    let own: Vec<_> = own.map(|key| (key.key, key.is_valid())).collect();
    let before = PublicKey::of(&order_key("home-a"));
    assert_eq!(own, [(before, false), (PublicKey::of(&newer), true)]);
    let gateway = PublicKey::of(&world.gateway_key).id();
    assert_eq!(
        gateway_of_key(&world.db, gateway).await.unwrap(),
        Some(world.gateway.clone())
    );
    let points = registered_points(&world.db).await.unwrap();
    let names: Vec<&str> = points.iter().map(|p| p.point.as_str()).collect();
    assert_eq!(names, ["feeder", "home-a", "home-b"]);
    world.check().await;
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
    world.check().await;
}

#[tokio::test]
async fn a_deposit_is_made_once_and_a_changed_one_is_explained() {
    let world = World::on_sqlite(&["home-a"]).await;
    let give = async |amount: &str| {
        let mut tx = world.db.begin().await.unwrap();
        let amount = amount.parse().unwrap();
        let (now, who) = (interval(0).start(), who("home-a"));
        let done = settlement::service::opening_deposit(&mut tx, now, &who, amount).await;
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
    world.check().await;
}
