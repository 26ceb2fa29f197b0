//! A process that is killed again and again, in the middle of whatever it does, ends with the ledger and the
//! logs of one that never was.
//!
//! The worker is this test's own program, started with a database to work on. It always begins with the first step:
//! what is in the books already must have no effect.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use domain::order::{Order, Side};
use domain::posting::Run;
use domain::reading::Reading;
use runtime::args;
use runtime::db::Db;
use settlement::service::{accept_reading, check_books, checkpoint, contract, run_interval};

use crate::world::{Outcome, World, interval, sign};

const DATABASE: &str = "COMMONWATT_CRASH_DATABASE";
const HOMES: [&str; 3] = ["home-a", "home-b", "home-c"];
const INTERVALS: i64 = 6;
/// Times that the worker is killed, and in the long form of the test.
const KILLS: u64 = 12;
const KILLS_SLOW: u64 = 1500;
/// Longest life of a worker that is killed; it needs about as long for all of its work.
const LIFE_MAX_MS: u64 = 400;

/// What a worker is killed in: each step is one commit, and signs what the logs grew by, as the platform does.
async fn work(path: &str) {
    let mut world = World::at(path, &HOMES).await;
    world.deposit("home-a", "3").await;
    let mut late: Option<(Outcome, Reading)> = None;
    for n in 0..INTERVALS {
        let bid = world.order("home-a", Side::Bid, n, 1000 + n, "0.2");
        let offer = world.order("home-b", Side::Offer, n, 900, "0.1");
        for order in [&bid, &offer] {
            world.hold(order).await;
        }
        let outcome = cleared(&world, n, &[bid, offer]).await;
        let c = world.read("home-c", n, 300 + n, 0);
        for reading in [
            world.read("home-a", n, 1200, 0),
            world.read("home-b", n, 0, 1100 + n),
            world.read("feeder", n, 400, 0),
        ] {
            take(&world, &reading).await;
        }
        settle(&world, &outcome, Run::Provisional).await;
        // Home c is heard of an interval later, and the interval is corrected.
        if let Some((outcome, reading)) = late.replace((outcome, c)) {
            take(&world, &reading).await;
            settle(&world, &outcome, Run::Initial).await;
        }
    }
}

async fn cleared(world: &World, n: i64, orders: &[Order]) -> Outcome {
    let outcome = world.outcome(n, orders, &[(0, 1, 900)], "0.15");
    let (clearing, trades) = (&outcome.clearing, &outcome.trades);
    let (community, now) = (&world.community, interval(n).start().plus_s(-300));
    let mut tx = world.db.begin().await.unwrap();
    contract(&mut tx, community, now, clearing, trades, &outcome.orders)
        .await
        .unwrap();
    checkpoint(&mut tx, community, now).await.unwrap();
    tx.commit().await.unwrap();
    outcome
}

async fn take(world: &World, reading: &Reading) {
    let bytes = sign(&world.gateway_key, &world.community, reading);
    let now = interval(INTERVALS).end();
    let mut tx = world.db.begin().await.unwrap();
    accept_reading(&mut tx, &world.community, now, &world.gateway, bytes)
        .await
        .unwrap();
    checkpoint(&mut tx, &world.community, now).await.unwrap();
    tx.commit().await.unwrap();
}

async fn settle(world: &World, outcome: &Outcome, run: Run) {
    let (clearing, trades) = (&outcome.clearing, &outcome.trades);
    let (community, at) = (&world.community, clearing.interval);
    let now = settlement::run::due_at(run, at);
    let mut tx = world.db.begin().await.unwrap();
    run_interval(&mut tx, community, now, at, run, clearing, trades)
        .await
        .unwrap();
    checkpoint(&mut tx, community, now).await.unwrap();
    tx.commit().await.unwrap();
}

/// Everything that must not depend on when the process was killed.
#[derive(PartialEq, Eq, Debug)]
struct Head {
    logs: Vec<(i64, i64, Vec<u8>)>,
    postings: Vec<(Vec<u8>, i64, String, String)>,
    balances: Vec<(i64, i64, String, i64, i64)>,
    runs: Vec<(i64, i64, Vec<u8>)>,
}

async fn head(path: &str) -> Head {
    let db = Db::open(path).await.unwrap();
    check_books(&db).await.unwrap();
    let logs = "SELECT log, size, peaks FROM settle_logs ORDER BY log";
    let postings = "SELECT id, amount, debit_owner, credit_owner FROM settle_postings ORDER BY id";
    let balances = "SELECT asset, chart, owner, credits, debits FROM settle_balances
        ORDER BY asset, chart, owner";
    let runs = "SELECT start_s, run, inputs FROM settle_runs ORDER BY start_s, run";
    Head {
        logs: db.fetch_all(logs, args![]).await.unwrap(),
        postings: db.fetch_all(postings, args![]).await.unwrap(),
        balances: db.fetch_all(balances, args![]).await.unwrap(),
        runs: db.fetch_all(runs, args![]).await.unwrap(),
    }
}

fn on_runtime<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(future)
}

/// The worker, where a database is named; as a test of its own it has nothing to do.
#[test]
fn worker() {
    if let Some(path) = std::env::var_os(DATABASE) {
        on_runtime(work(path.to_str().unwrap()));
    }
}

fn start(path: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::worker"])
        .env(DATABASE, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A street of homes with its keys and secrets; both lives begin with a copy of it.
fn enrolled(folder: &Path) -> [String; 2] {
    let seed = folder.join("seed.db");
    on_runtime(async {
        World::at(seed.to_str().unwrap(), &HOMES).await;
    });
    ["killed.db", "whole.db"].map(|name| {
        let to = folder.join(name);
        for part in ["", "-wal", "-shm"] {
            let from = format!("{}{part}", seed.display());
            if Path::new(&from).exists() {
                std::fs::copy(from, format!("{}{part}", to.display())).unwrap();
            }
        }
        to.display().to_string()
    })
}

#[test]
fn a_process_that_is_killed_again_and_again_ends_with_the_same_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let [killed, whole] = enrolled(folder.path());
    let slow = std::env::var_os("COMMONWATT_SLOW").is_some();
    let kills = if slow { KILLS_SLOW } else { KILLS };
    let mut random: u64 = 7;
    for kill in 0..kills {
        // Any generator will do: Knuth's MMIX.
        random = random.wrapping_mul(6_364_136_223_846_793_005);
        random = random.wrapping_add(1_442_695_040_888_963_407);
        let mut child = start(&killed);
        sleep(Duration::from_millis((random >> 33) % LIFE_MAX_MS));
        child.kill().unwrap();
        child.wait().unwrap();
        if kill % 100 == 99 {
            eprintln!("killed {} times", kill + 1);
        }
    }
    assert!(start(&killed).wait().unwrap().success());
    assert!(start(&whole).wait().unwrap().success());
    let (killed, whole) = on_runtime(async { (head(&killed).await, head(&whole).await) });
    assert_eq!(
        whole.runs.len(),
        2 * 6 - 1,
        "all intervals, and all but the last corrected"
    );
    assert_eq!(killed, whole);
}
