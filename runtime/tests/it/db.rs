//! The same checks against SQLite and, where it is installed, PostgreSQL.

use std::sync::LazyLock;

use runtime::args;
use runtime::db::{Args, Db, DbError, Listed, Migration};

const GATEWAY: Migration = Migration {
    version: 1001,
    description: "readings",
    sqlite: "CREATE TABLE reading (id INTEGER PRIMARY KEY, point TEXT NOT NULL UNIQUE, \
             bytes BLOB NOT NULL, wh INTEGER) STRICT; CREATE INDEX by_point ON reading (point);",
    postgres: "CREATE TABLE reading (id BIGINT PRIMARY KEY, point TEXT NOT NULL UNIQUE, \
               bytes BYTEA NOT NULL, wh BIGINT); CREATE INDEX by_point ON reading (point);",
};
const MARKET: Migration = Migration {
    version: 2001,
    description: "counter",
    sqlite: "CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT",
    postgres: "CREATE TABLE counter (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)",
};
const INSERT: &str = "INSERT INTO reading (id, point, bytes, wh) VALUES ($1, $2, $3, $4)";
const SELECT: &str = "SELECT id, point, bytes, wh FROM reading ORDER BY id";
type Reading = (i64, String, Vec<u8>, Option<i64>);

static READINGS: LazyLock<Listed> =
    LazyLock::new(|| Listed::insert("reading", &["id", "point", "bytes", "wh"], ""));
static COUNTERS: LazyLock<Listed> = LazyLock::new(|| Listed::insert("counter", &["id", "n"], ""));
static ASKED: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT asked.id, r.point, r.bytes, r.wh
         FROM asked LEFT JOIN reading r ON r.id = asked.id WHERE asked.id IS NOT NULL";
    Listed::over("asked", &["id"], select)
});

async fn sqlite() -> (tempfile::TempDir, Db) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path().join("test.db").to_str().unwrap())
        .await
        .unwrap();
    (folder, db)
}

/// Everything that must hold on both databases.
async fn check(db: &Db) {
    two_migration_sets_share_a_database(db).await;
    rows_come_back_as_written(db).await;
    a_dropped_transaction_leaves_nothing(db).await;
    a_duplicate_is_a_unique_violation(db).await;
    concurrent_writers_all_succeed(db).await;
    lists_come_back_as_written(db).await;
    what_is_written_together_says_what_failed(db).await;
}

/// A list's rows as they are read: of what was asked for, all, with anything that a text or bytes can hold.
async fn lists_come_back_as_written(db: &Db) {
    let texts = [
        "a,b;c",
        "it's \"so\"",
        "NULL",
        "X'00'",
        "",
        "größer ⚡",
        "line\nbreak",
    ];
    let blobs = [vec![], vec![0, 255, 44, 59], b"NULL".to_vec()];
    let numbers = [None, Some(0), Some(-1), Some(i64::MIN), Some(i64::MAX)];
    let row = |n: usize| {
        let id = i64::try_from(n).unwrap() + 100;
        let text = format!("{}{n}", texts[n % texts.len()]);
        (
            id,
            text,
            blobs[n % blobs.len()].clone(),
            numbers[n % numbers.len()],
        )
    };
    let rows: Vec<Reading> = (0..300).map(row).collect();
    let values = |(id, point, bytes, wh): &Reading| args![*id, point, bytes.clone(), *wh];
    let mut tx = db.begin().await.unwrap();
    READINGS
        .all(&mut tx, rows.iter().map(values).collect())
        .await
        .unwrap();
    type Found = (i64, Option<String>, Option<Vec<u8>>, Option<i64>);
    let asked = || (99..401).map(|id: i64| args![id]).collect::<Vec<Args>>();
    let mut found: Vec<Found> = ASKED.fetch(&mut tx, asked()).await.unwrap();
    found.sort();
    let known = rows
        .into_iter()
        .map(|(id, point, bytes, wh)| (id, Some(point), Some(bytes), wh));
    let nothing = |id| (id, None, None, None);
    let expected: Vec<Found> = [nothing(99)]
        .into_iter()
        .chain(known)
        .chain([nothing(400)])
        .collect();
    assert_eq!(found, expected);
    assert_eq!(ASKED.fetch::<Found>(&mut tx, Vec::new()).await.unwrap(), []);
}

async fn what_is_written_together_says_what_failed(db: &Db) {
    let reading = |id: i64| args![id, format!("point {id}"), vec![1_u8], Option::<i64>::None];
    let readings = |ids: std::ops::Range<i64>| ids.map(reading).collect::<Vec<Args>>();
    let counters = |ids: std::ops::Range<i64>| ids.map(|id| args![id, id]).collect::<Vec<Args>>();
    let mut tx = db.begin().await.unwrap();
    let lists: Vec<(&'static Listed, Vec<Args>)> = vec![
        (&READINGS, readings(1_000..1_600)),
        (&COUNTERS, counters(1_000..1_003)),
        (&READINGS, Vec::new()),
        (&COUNTERS, counters(2_000..4_000)),
        (&READINGS, readings(1_600..1_601)),
    ];
    Listed::together(&mut tx, lists).await.unwrap();
    let (readings_kept, counters_kept): (i64, i64) = tx
        .fetch_one(
            "SELECT (SELECT COUNT(*) FROM reading WHERE id >= 1000), (SELECT COUNT(*) FROM counter WHERE id >= 1000)",
            args![],
        )
        .await
        .unwrap();
    assert_eq!((readings_kept, counters_kept), (601, 2_003));
    let three = |id| -> Vec<(&'static Listed, Vec<Args>)> {
        vec![
            (&READINGS, readings(id..id + 1)),
            (&COUNTERS, counters(id - 1_000..id - 999)),
            (&READINGS, readings(id + 1..id + 2)),
        ]
    };
    let refused = Listed::together(&mut tx, three(2_000)).await.unwrap_err();
    assert!(refused.is_unique_violation(), "{refused}");
    assert!(
        refused.to_string().contains("INSERT INTO counter"),
        "{refused}"
    );
}

async fn two_migration_sets_share_a_database(db: &Db) {
    db.migrate(&[MARKET]).await.unwrap();
    db.migrate(&[GATEWAY]).await.unwrap();
    db.migrate(&[GATEWAY]).await.unwrap();
    let changed = Migration {
        sqlite: "SELECT 1",
        postgres: "SELECT 1",
        ..MARKET
    };
    let refused = db.migrate(&[changed]).await.unwrap_err();
    assert!(matches!(refused, DbError::Migrate { .. }));
    assert!(refused.to_string().contains("2001"), "{refused}");
}

async fn rows_come_back_as_written(db: &Db) {
    let mut tx = db.begin().await.unwrap();
    let first = args![1_i64, "a", [0_u8, 255], Option::<i64>::None];
    assert_eq!(tx.execute(INSERT, first).await.unwrap(), 1);
    tx.execute(INSERT, args![2_i64, "b", Vec::new(), -7_i64])
        .await
        .unwrap();
    let inside: Vec<Reading> = tx.fetch_all(SELECT, args![]).await.unwrap();
    assert_eq!(inside.len(), 2);
    tx.commit().await.unwrap();
    let rows: Vec<Reading> = db.fetch_all(SELECT, args![]).await.unwrap();
    let expected = [
        (1, "a".into(), vec![0, 255], None),
        (2, "b".into(), vec![], Some(-7)),
    ];
    assert_eq!(rows, expected);
    let sum = "SELECT CAST(SUM(wh) AS BIGINT), COUNT(*) FROM reading WHERE point = $1";
    assert_eq!(
        db.fetch_one::<(Option<i64>, i64)>(sum, args!["b"])
            .await
            .unwrap(),
        (Some(-7), 1)
    );
    let none = db.fetch_optional::<(i64,)>("SELECT id FROM reading WHERE id = $1", args![9_i64]);
    assert_eq!(none.await.unwrap(), None);
    let missing = db
        .fetch_one::<(i64,)>("SELECT id FROM reading WHERE id = 9", args![])
        .await;
    assert!(matches!(missing, Err(DbError::NoRow { .. })));
    let wrong_type = db
        .fetch_all::<(String,)>("SELECT id FROM reading", args![])
        .await;
    assert!(matches!(wrong_type, Err(DbError::Query { .. })));
}

async fn a_dropped_transaction_leaves_nothing(db: &Db) {
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, args![3_i64, "c", b"x", 1_i64])
        .await
        .unwrap();
    drop(tx);
    // The writer is free again, and the row is gone.
    db.begin().await.unwrap().commit().await.unwrap();
    assert_eq!(
        db.fetch_all::<Reading>(SELECT, args![])
            .await
            .unwrap()
            .len(),
        2
    );
}

async fn a_duplicate_is_a_unique_violation(db: &Db) {
    let mut tx = db.begin().await.unwrap();
    let refused = tx
        .execute(INSERT, args![4_i64, "a", b"x", 1_i64])
        .await
        .unwrap_err();
    assert!(refused.is_unique_violation(), "{refused}");
    let nonsense = tx.execute("SELECT nonsense", args![]).await.unwrap_err();
    assert!(!nonsense.is_unique_violation());
    drop(tx);
    let mut tx = db.begin().await.unwrap();
    let ignored = "INSERT INTO reading (id, point, bytes, wh) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT DO NOTHING";
    assert_eq!(
        tx.execute(ignored, args![4_i64, "a", b"x", 1_i64])
            .await
            .unwrap(),
        0
    );
    tx.commit().await.unwrap();
}

async fn concurrent_writers_all_succeed(db: &Db) {
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO counter (id, n) VALUES (1, 0)", args![])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let writers = (0..8).map(|_| {
        let db = db.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                let mut tx = db.begin().await?;
                tx.exclusive(2000).await?;
                let read = "SELECT n FROM counter WHERE id = 1";
                let (n,) = tx.fetch_one::<(i64,)>(read, args![]).await?;
                tokio::task::yield_now().await;
                tx.execute("UPDATE counter SET n = $1 WHERE id = 1", args![n + 1])
                    .await?;
                tx.commit().await?;
                db.fetch_one::<(i64,)>(read, args![]).await?;
            }
            Ok::<(), DbError>(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    let total = db
        .fetch_one::<(i64,)>("SELECT n FROM counter", args![])
        .await
        .unwrap();
    assert_eq!(total, (80,));
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_passes_the_common_checks() {
    let (_folder, db) = sqlite().await;
    check(&db).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_passes_the_common_checks() {
    let Some(server) = runtime::testing::postgres() else {
        return;
    };
    let db = Db::open(&server.url()).await.unwrap();
    check(&db).await;
    db.close().await;
}

#[tokio::test]
async fn sqlite_is_durable_strict_and_keeps_references() {
    let (folder, db) = sqlite().await;
    db.migrate(&[GATEWAY]).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    for (pragma, expected) in [
        ("PRAGMA synchronous", 2),
        ("PRAGMA foreign_keys", 1),
        ("PRAGMA busy_timeout", 5000),
    ] {
        assert_eq!(
            tx.fetch_one::<(i64,)>(pragma, args![]).await.unwrap(),
            (expected,),
            "{pragma}"
        );
    }
    let mode = tx
        .fetch_one::<(String,)>("PRAGMA journal_mode", args![])
        .await
        .unwrap();
    assert_eq!(mode, ("wal".to_owned(),));
    let float = "INSERT INTO reading (id, point, bytes, wh) VALUES (1, 'p', x'00', 1.5)";
    let refused = tx.execute(float, args![]).await.unwrap_err().to_string();
    assert!(
        refused.contains("cannot store REAL value in INTEGER column"),
        "{refused}"
    );
    drop(tx);
    let read_only = db
        .fetch_all::<(i64,)>("DELETE FROM reading RETURNING id", args![])
        .await;
    assert!(read_only.unwrap_err().to_string().contains("readonly"));
    // A second program on the same file waits for the first one's transaction.
    let url = format!("sqlite:{}", folder.path().join("test.db").display());
    let other = Db::open(&url).await.unwrap();
    let held = db.begin().await.unwrap();
    let waiting = tokio::spawn(async move { other.begin().await.map(drop) });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    held.commit().await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let text = folder.path().join("text.db");
    std::fs::write(
        &text,
        "this is not a database, it is a text of some length".repeat(40),
    )
    .unwrap();
    for (url, said) in [
        (format!("{here}/none/a.db"), "create it first"),
        (here.to_owned(), "name a file in it"),
        (text.display().to_string(), "check that it is a SQLite file"),
        ("sqlite::memory:".to_owned(), "plain file"),
        (
            "postgres://cw:secret@127.0.0.1:1/market".to_owned(),
            "postgres://cw@127.0.0.1:1/market",
        ),
        (
            "postgres://cw:secret@127.0.0.1:nonsense/market".to_owned(),
            "write it like",
        ),
    ] {
        let error = Db::open(&url).await.unwrap_err();
        let message = error.to_string();
        assert!(message.contains(said), "{url}: {message}");
        assert!(
            !format!("{message} {error:?}").contains("secret"),
            "{url}: {message}"
        );
    }
}
