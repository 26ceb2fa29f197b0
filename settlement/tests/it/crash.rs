//! A process that is killed in the middle of its work, again and again, ends with the ledger and the logs of one that
//! never was.
//!
//! The worker is this test's own program, started with a database to work on. It always begins with the first step:
//! what is in the books already must have no effect. Each round begins with the same seed, is killed a few times while
//! there is work left, and is then held against a run that nobody interrupted.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use domain::money::Money;
use domain::order::{Order, Side};
use domain::posting::Run;
use domain::reading::Reading;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};
use settlement::service::{
    Moment, NewTokenRequest, TokenKind, TokenState, accept_reading, bond_stake, cancel_tokens,
    check_books_whole, checkpoint, confirm_tokens, contract, issue_stake, release_unbonded,
    request_tokens, run_interval, token_requests, unbond_stake,
};

use crate::world::{Outcome, START_S, World, interval, sign, who};

const DATABASE: &str = "COMMONWATT_CRASH_DATABASE";
const HOMES: [&str; 3] = ["home-a", "home-b", "home-c"];
const INTERVALS: i64 = 2;
/// Rounds, and in the long form of the test: each has three to five kills.
const ROUNDS: usize = 6;
const ROUNDS_SLOW: usize = 520;
/// Rounds at work at a time.
const LANES: usize = 2;
/// Kills that have to be made in the long form.
const KILLS_SLOW: u64 = 2000;

fn at() -> Moment {
    let time = Timestamp::from_unix_s(START_S);
    Moment {
        people: time,
        books: time,
    }
}

/// One commit, which signs what the logs grew by, as the platform does.
macro_rules! step {
    ($world:expr, $now:expr, $tx:ident => $work:expr) => {{
        let mut $tx = $world.db.begin().await.unwrap();
        $work;
        sign_heads(&mut $tx, &$world, $now).await;
        $tx.commit().await.unwrap();
    }};
}

async fn sign_heads(tx: &mut Tx, world: &World, now: Timestamp) {
    checkpoint(tx, &world.community, now).await.unwrap();
}

/// What a worker is killed in.
async fn work(path: &str) {
    let mut world = World::at(path, &HOMES).await;
    world.community.terms.holdback_bp = 1000;
    world.deposit("home-a", "3").await;
    tokens(&world).await;
    stake(&world).await;
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
        // Home c is heard of an interval later: what stood in for it is corrected, and what was held back is paid.
        if let Some((outcome, reading)) = late.replace((outcome, c)) {
            take(&world, &reading).await;
            settle(&world, &outcome, Run::Initial).await;
            settle(&world, &outcome, Run::Final).await;
        }
    }
}

/// Tokens in, out, and not out after all, each asked for by one operator and ended by another.
async fn tokens(world: &World) {
    use TokenKind::{Deposit, Payout, Withdrawal};
    for (kind, nano, reference) in [
        (Deposit, 2_000_000_000, "in"),
        (Payout, 0, "where"),
        (Withdrawal, 700_000_000, "out"),
        (Withdrawal, 100_000_000, "stays"),
    ] {
        let new = NewTokenRequest {
            kind,
            participant: who("home-a"),
            amount: Money::from_nano(nano),
            reference: reference.to_owned(),
            payout: (kind == Payout).then(|| "account 1".to_owned()),
        };
        let known = token_requests(&world.db, None).await.unwrap();
        let ended = |r: &&settlement::service::TokenRequest| {
            r.asked == new && r.state == TokenState::Cancelled
        };
        if known.iter().find(ended).is_some() {
            continue;
        }
        let id;
        step!(world, at().books, tx => {
            id = request_tokens(&mut tx, at(), "ann", &new).await.unwrap().id;
        });
        step!(world, at().books, tx => match reference {
            "stays" => drop(cancel_tokens(&mut tx, at(), "ben", id).await.unwrap()),
            _ => drop(confirm_tokens(&mut tx, at(), "ben", id).await.unwrap()),
        });
    }
}

async fn stake(world: &World) {
    let (of, now) = (who("home-b"), at().books);
    let nano = Money::from_nano;
    let free_at = now.plus_s(3600);
    step!(world, now, tx => {
        issue_stake(&mut tx, now, &of, nano(50), "issued").await.unwrap();
        bond_stake(&mut tx, now, &of, nano(30), "bonded").await.unwrap();
    });
    step!(world, now, tx => {
        unbond_stake(&mut tx, now, &of, nano(10), "back", free_at).await.unwrap();
    });
    step!(world, free_at, tx => {
        release_unbonded(&mut tx, free_at).await.unwrap();
    });
}

async fn cleared(world: &World, n: i64, orders: &[Order]) -> Outcome {
    let outcome = world.outcome(n, orders, &[(0, 1, 900)], "0.15");
    let (clearing, trades) = (&outcome.clearing, &outcome.trades);
    let now = interval(n).start().plus_s(-300);
    step!(world, now, tx => {
        contract(&mut tx, &world.community, now, clearing, trades, &outcome.orders).await.unwrap();
    });
    outcome
}

async fn take(world: &World, reading: &Reading) {
    let bytes = sign(&world.gateway_key, &world.community, reading);
    let now = interval(INTERVALS).end();
    step!(world, now, tx => {
        let taken = accept_reading(&mut tx, &world.community, now, &world.gateway, bytes).await;
        taken.unwrap();
    });
}

async fn settle(world: &World, outcome: &Outcome, run: Run) {
    let (clearing, trades) = (&outcome.clearing, &outcome.trades);
    let at = clearing.interval;
    let now = settlement::run::due_at(run, at);
    step!(world, now, tx => {
        let done = run_interval(&mut tx, &world.community, now, at, run, clearing, trades).await;
        done.unwrap();
    });
}

/// Everything that must not depend on when the process was killed.
#[derive(PartialEq, Eq, Debug)]
struct Head {
    logs: Vec<(i64, i64, Vec<u8>)>,
    postings: Vec<(Vec<u8>, i64, String, String)>,
    balances: Vec<(i64, i64, String, i64, i64)>,
    runs: Vec<(i64, i64, Vec<u8>)>,
    asked: Vec<(Vec<u8>, i64, i64)>,
    holds: Vec<(Vec<u8>, i64, i64)>,
}

async fn head(path: &str) -> Head {
    let db = Db::open(path).await.unwrap();
    let operator = domain::signed::SigningKey::from_bytes(&[1; 32]);
    check_books_whole(&db, &operator).await.unwrap();
    let logs = "SELECT log, size, peaks FROM settle_logs ORDER BY log";
    let postings = "SELECT id, amount, debit_owner, credit_owner FROM settle_postings ORDER BY id";
    let balances = "SELECT asset, chart, owner, credits, debits FROM settle_balances
        ORDER BY asset, chart, owner";
    let runs = "SELECT start_s, run, inputs FROM settle_runs ORDER BY start_s, run";
    let asked = "SELECT request, step, log_index FROM settle_token_steps ORDER BY request, step";
    let holds = "SELECT order_id, amount, is_open FROM settle_holds ORDER BY order_id";
    Head {
        logs: db.fetch_all(logs, args![]).await.unwrap(),
        postings: db.fetch_all(postings, args![]).await.unwrap(),
        balances: db.fetch_all(balances, args![]).await.unwrap(),
        runs: db.fetch_all(runs, args![]).await.unwrap(),
        asked: db.fetch_all(asked, args![]).await.unwrap(),
        holds: db.fetch_all(holds, args![]).await.unwrap(),
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

fn start(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::worker", "--test-threads", "1"])
        .env(DATABASE, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A street of homes with its keys and secrets, from which every life begins.
struct Seed {
    folder: tempfile::TempDir,
}

impl Seed {
    /// In memory where the machine has a folder there: a process is killed here, not the machine.
    fn new() -> Seed {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let seed = Seed {
            folder: folder.unwrap(),
        };
        let file = seed.folder.path().join("seed.db");
        on_runtime(async {
            World::at(file.to_str().unwrap(), &HOMES).await;
        });
        seed
    }

    fn copy(&self, name: &str) -> PathBuf {
        let to = self.folder.path().join(name);
        std::fs::create_dir(&to).unwrap();
        for file in ["seed.db", "seed.db-wal", "seed.db-shm"] {
            let from = self.folder.path().join(file);
            if from.exists() {
                std::fs::copy(from, to.join(file)).unwrap();
            }
        }
        to.join("seed.db")
    }

    /// Lets a worker do all of its work, and says how long it took.
    fn whole(&self, name: &str) -> (PathBuf, Duration) {
        let file = self.copy(name);
        let begun = Instant::now();
        assert!(start(&file).wait().unwrap().success());
        (file, begun.elapsed())
    }
}

/// Knuth's MMIX: any generator will do.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// How kills went.
#[derive(Default)]
struct Kills {
    /// All of them.
    made: AtomicU64,
    /// Those that left work undone: the worker had not ended by itself.
    at_work: AtomicU64,
    /// Those of a worker that had written something.
    after_a_write: AtomicU64,
}

/// Bytes of a database and its journal: they grow with every commit.
fn written(file: &Path) -> u64 {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
    length(file) + length(&file.with_extension("db-wal"))
}

/// Kills a worker on a fresh copy a few times at random points of its work, finishes it, and gives what it came to.
fn round(seed: &Seed, number: usize, whole: Duration, kills: &Kills) -> Head {
    let mut random = Random(number as u64 * 7919 + 7);
    let name = format!("round-{number}");
    let file = seed.copy(&name);
    for _ in 0..3 + random.below(3) {
        let before = written(&file);
        let mut child = start(&file);
        let most_us = u64::try_from(whole.as_micros()).unwrap();
        // The first quarter is the program's own start; what a killed one has committed is done sooner by the next.
        sleep(Duration::from_micros(
            most_us / 4 + random.below(most_us / 2),
        ));
        child.kill().unwrap();
        let ended_by_itself = child.wait().unwrap().success();
        let count = |counter: &AtomicU64, counts: bool| {
            counter.fetch_add(u64::from(counts), Ordering::Relaxed);
        };
        count(&kills.made, true);
        count(&kills.at_work, !ended_by_itself);
        count(&kills.after_a_write, written(&file) != before);
    }
    assert!(start(&file).wait().unwrap().success());
    let head = on_runtime(head(file.to_str().unwrap()));
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    head
}

#[test]
fn a_process_that_is_killed_again_and_again_ends_with_the_same_ledger() {
    let seed = Seed::new();
    let is_slow = std::env::var_os("COMMONWATT_SLOW").is_some();
    let rounds = if is_slow { ROUNDS_SLOW } else { ROUNDS };
    let (file, _) = seed.whole("whole");
    let expected = on_runtime(head(file.to_str().unwrap()));
    let runs = i64::try_from(expected.runs.len()).unwrap();
    assert_eq!(runs, INTERVALS + 2, "the first interval is corrected");
    // What else the machine does makes it slower: the shortest of a few times counts.
    let again = ["once", "twice", "thrice"].map(|name| seed.whole(name).1);
    let whole = again.into_iter().min().unwrap();
    let kills = Kills::default();
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (seed, kills, expected) = (&seed, &kills, &expected);
            scope.spawn(move || {
                for number in (lane..rounds).step_by(LANES) {
                    let ended = round(seed, number, whole, kills);
                    assert_eq!(ended, *expected, "round {number}");
                }
            });
        }
    });
    let [made, at_work, after_a_write] = [&kills.made, &kills.at_work, &kills.after_a_write]
        .map(|counter| counter.load(Ordering::Relaxed));
    eprintln!(
        "{made} kills in {rounds} rounds, {at_work} with work left, {after_a_write} after a write; all of the \
         work takes {whole:?}"
    );
    assert!(!is_slow || made >= KILLS_SLOW, "{made} kills");
    assert!(
        2 * at_work > made,
        "{at_work} of {made} kills left work undone"
    );
    assert!(
        4 * after_a_write > made,
        "{after_a_write} of {made} after a write"
    );
}
