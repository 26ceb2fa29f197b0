//! Speed of the logs: a million entries appended and signed for, a receipt verified, a tile read, each beside the
//! bare hashes or signatures that it cannot do without.
//!
//! `cargo bench -p settlement --bench log`

#![allow(
    clippy::unwrap_used,
    reason = "a benchmark ends where something is not as it must be"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use domain::ids::Digest32;
use domain::order::Side;
use domain::posting::Run;
use domain::signed::{PublicKey, SigningKey};
use domain::time::Timestamp;
use settlement::evidence::{Evidence, judge};
use settlement::log::checkpoint::Checkpoint;
use settlement::log::entry::{Entry, Kind, LEAF_BYTES};
use settlement::log::tree::{Frontier, leaf_hash};
use settlement::prove::{to_text, verify};
use settlement::service::receipt;

#[allow(
    dead_code,
    clippy::panic,
    reason = "the street of the tests, of which a part is used here"
)]
#[path = "../tests/it/world.rs"]
mod world;

use world::{World, interval, who};

const LEAVES: u64 = 1_000_000;

fn time<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

/// The shortest of several runs: what disturbs a run only makes it longer.
fn best<T>(runs: u32, mut work: impl FnMut() -> T) -> Duration {
    let all = (0..runs).map(|_| time(|| black_box(work())).0);
    all.min().unwrap_or_default()
}

fn append() {
    let entry = |n: u64| Entry {
        kind: Kind::Reading,
        start: Timestamp::from_unix_s(i64::try_from(n).unwrap() * 900),
        commitment: Digest32([7; 32]),
    };
    let key = SigningKey::from_bytes(&[1; 32]);
    let appended = best(3, || {
        let mut frontier = Frontier::default();
        for n in 0..LEAVES {
            frontier.append(entry(n).leaf_hash());
        }
        let (size, root) = (frontier.size(), frontier.root());
        Checkpoint { size, root }.sign("log", &key)
    });
    // A tree of n leaves has n leaf hashes and n - 1 hashes of two.
    let hashes = best(3, || {
        let leaf = [3; LEAF_BYTES];
        let pair = [5; 64];
        for _ in 0..LEAVES {
            black_box(leaf_hash(black_box(&leaf)));
            black_box(leaf_hash(black_box(&pair)));
        }
    });
    println!(
        "{LEAVES} entries appended and signed for: {} ms; the bare hashes: {} ms; ratio {:.2}",
        appended.as_millis(),
        hashes.as_millis(),
        hashes.as_secs_f64() / appended.as_secs_f64()
    );
}

async fn street() -> (World, String) {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    world.deposit("home-a", "10").await;
    let bid = world.order("home-a", Side::Bid, 0, 1000, "0.2");
    let offer = world.order("home-b", Side::Offer, 0, 1000, "0.1");
    world.hold(&bid).await;
    let outcome = world.outcome(0, &[bid, offer], &[(0, 1, 900)], "0.15");
    world.contract(&outcome).await;
    world.meter("home-a", 0, 950, 0).await;
    world.meter("home-b", 0, 0, 930).await;
    world.run(&outcome, Run::Provisional).await;
    world.checkpoint(interval(1).start()).await;
    let trade = outcome.trades[0].id;
    let found = receipt(&world.db, &world.community, trade, &who("home-a")).await;
    let text = to_text(&found.unwrap().unwrap()).unwrap();
    (world, text)
}

fn proofs() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (world, text) = runtime.block_on(street());
    let key = PublicKey::of(&world.community.operator);
    assert!(verify(&text, Some(key)).holds());
    let verified = best(200, || verify(&text, Some(key)));
    let message = [7; 300];
    let signature = {
        use ed25519_dalek::Signer;
        world.community.operator.sign(&message).to_bytes()
    };
    let bare = best(200, || key.verifies(&message, &signature));
    println!(
        "a receipt of {} bytes verified: {} us; one bare signature: {} us",
        text.len(),
        verified.as_micros(),
        bare.as_micros()
    );
    let vectors = include_str!("../tests/vectors/evidence.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
    let case = Evidence::read(&vectors[0]["evidence"].to_string()).unwrap();
    let judged = best(200, || judge(&case));
    println!("evidence of two readings judged: {} us", judged.as_micros());
}

fn main() {
    append();
    proofs();
}
