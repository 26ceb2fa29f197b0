//! The logs as they are served: tiles that lead to the signed roots.

use std::collections::BTreeMap;

use domain::signed::{PublicKey, SigningKey};
use settlement::log::checkpoint::{Checkpoint, Log};
use settlement::log::cosignature::cosign;
use settlement::log::note::{Note, VerifierKey};
use settlement::log::policy::Policy;
use settlement::log::reader::{Tiled, replay};
use settlement::log::tile::{Tile, tiles};
use settlement::prove::{Trusted, proofs, to_text, verify_proof, verify_with};
use settlement::service::{
    accept_reading, cosigned_size, keep_cosignature, latest_checkpoint, log_proof,
    published_checkpoint, receipt, root_at, tile,
};

use crate::receipts::settled;
use crate::world::{World, interval, sign, who};

/// More readings than a tile has places.
const READINGS: i64 = 300;

async fn street() -> World {
    let mut world = World::on_sqlite(&["home-a"]).await;
    let mut tx = world.db.begin().await.unwrap();
    for n in 0..READINGS {
        let reading = world.read("home-a", n, 10, 0);
        let bytes = sign(&world.gateway_key, &world.community, &reading);
        let now = interval(n).end().plus_s(5);
        accept_reading(&mut tx, &world.community, now, &world.gateway, bytes)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    world.checkpoint(interval(READINGS).start()).await;
    world
}

#[tokio::test]
async fn every_log_can_be_rebuilt_from_its_tiles() {
    let mut world = street().await;
    let key = PublicKey::of(&world.community.operator);
    for log in [Log::Readings, Log::Ledger] {
        let note = latest_checkpoint(&world.db, log).await.unwrap().unwrap();
        let head = Checkpoint::open(&note, &log.origin(&world.community.id), key).unwrap();
        let mut served: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for part in tiles(head.size) {
            let bytes = tile(&world.db, log, part).await.unwrap();
            served.insert(part.path(), bytes.unwrap());
        }
        let mut source = |path: &str| served.get(path).cloned().ok_or("not there".to_owned());
        let mut entries = 0;
        let roots = replay(&mut source, head.size, &[], |_, leaf| {
            assert_eq!(leaf.len(), settlement::log::entry::LEAF_BYTES);
            entries += 1;
        });
        assert_eq!(roots.unwrap()[&head.size], head.root);
        assert_eq!(entries, head.size);
        assert_eq!(Tiled::new(&mut source, head.size).root(), Ok(head.root));
    }
    // What no checkpoint covers yet is not served.
    let next = Tile::parse("tile/entries/001.p/45").unwrap();
    world.meter("home-a", READINGS, 10, 0).await;
    let early = tile(&world.db, Log::Readings, next).await.unwrap();
    assert_eq!(early, None);
    world.checkpoint(interval(READINGS + 1).start()).await;
    let now = tile(&world.db, Log::Readings, next).await.unwrap();
    assert!(now.is_some());
}

fn witness(seed: u8) -> (SigningKey, VerifierKey, String) {
    let (key, name) = (
        SigningKey::from_bytes(&[seed; 32]),
        format!("w{seed}.example"),
    );
    let vkey = VerifierKey::of_witness(&name, PublicKey::of(&key)).unwrap();
    (key, vkey, name)
}

fn trusted(world: &World, witnesses: Vec<VerifierKey>) -> Trusted {
    Trusted {
        operator: Some(PublicKey::of(&world.community.operator)),
        policy: Policy::all_of(witnesses),
    }
}

async fn cosign_newest(world: &World, seed: u8) -> u64 {
    let (key, _, name) = witness(seed);
    let note = latest_checkpoint(&world.db, Log::Ledger).await.unwrap();
    let note = Note::parse(&note.unwrap()).unwrap();
    let (_, head) = Checkpoint::read_body(&note.body).unwrap();
    let now = interval(2).start();
    let line = cosign(&note.body, &name, &key, now).unwrap();
    let mut tx = world.db.begin().await.unwrap();
    keep_cosignature(&mut tx, now, Log::Ledger, head.size, &line)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    head.size
}

#[tokio::test]
async fn witnesses_are_shown_and_asked_for() {
    let (world, before) = settled(true).await;
    let (one, two) = (witness(41).1, witness(42).1);
    let size = cosign_newest(&world, 41).await;
    let seen = cosigned_size(&world.db, Log::Ledger, "w41.example").await;
    assert_eq!(seen.unwrap(), Some(size));
    // A newer checkpoint without witnesses is not shown while this one is young.
    world.checkpoint(interval(1).start().plus_s(1)).await;
    let (shown, note) = published_checkpoint(&world.db, Log::Ledger)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((shown, note.lines().count()), (size, 6), "{note}");
    let trade = before.trade.content.id;
    let receipt = receipt(&world.db, &world.community, trade, &who("home-a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(receipt.ledger_checkpoint, note);
    let text = to_text(&receipt).unwrap();
    let met = verify_with(&text, &trusted(&world, vec![one.clone()]));
    assert!(met.holds() && met.steps[3].0 == "witnesses", "{met:?}");
    let unmet = verify_with(&text, &trusted(&world, vec![one.clone(), two]));
    assert_eq!(unmet.first_failure().unwrap().0, "witnesses");
    // A receipt from before there were witnesses holds for those who ask for none.
    let old = to_text(&before).unwrap();
    assert!(verify_with(&old, &trusted(&world, Vec::new())).holds());
    assert!(!verify_with(&old, &trusted(&world, vec![one])).holds());
}

#[tokio::test]
async fn logs_that_nobody_signs_for_are_shown_as_the_ledger_has_taken_them_in() {
    let (mut world, _) = settled(true).await;
    let shown = async |world: &World| {
        let shown = published_checkpoint(&world.db, Log::Readings).await;
        shown.unwrap().unwrap().0
    };
    let before = shown(&world).await;
    cosign_newest(&world, 41).await;
    world.meter("home-a", 5, 10, 0).await;
    world.checkpoint(interval(1).start().plus_s(2)).await;
    let newest = latest_checkpoint(&world.db, Log::Readings).await.unwrap();
    assert_ne!(
        newest.unwrap().lines().nth(1),
        Some(before.to_string().as_str())
    );
    assert_eq!(shown(&world).await, before);
    cosign_newest(&world, 41).await;
    assert_eq!(shown(&world).await, before + 1);
}

#[tokio::test]
async fn every_entry_of_a_receipt_is_a_proof_of_its_own() {
    let (world, receipt) = settled(true).await;
    let trusted = trusted(&world, Vec::new());
    let all = proofs(&receipt).unwrap();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let expect = [
        "trade",
        "clearing",
        "order",
        "reading",
        "line-provisional",
        "run-provisional",
        "participant-key",
        "gateway-key",
        "readings-checkpoint",
        "market-checkpoint",
    ];
    assert_eq!(names, expect);
    for (name, proof) in &all {
        let text = proof.to_text();
        let report = verify_proof(&text, &trusted);
        assert!(report.holds(), "{name}: {report:?}");
        let stranger = verify_proof(&text, &Trusted::default());
        assert_eq!(stranger.first_failure().unwrap().0, "operator key");
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                let report = verify_proof(&changed, &trusted);
                assert!(!report.holds(), "{name}: byte {index} of {text}");
            }
        }
    }
    // What the platform proves about an entry to anybody is that it is there.
    let sealed = log_proof(&world.db, Log::Market, 0, None).await.unwrap();
    let report = verify_proof(&sealed.unwrap().to_text(), &trusted);
    let last = report.steps.last().unwrap();
    assert!(report.holds() && last.1.as_ref().unwrap().starts_with("sealed"));
    let beyond = log_proof(&world.db, Log::Market, 99, None).await.unwrap();
    assert!(beyond.is_none());
    assert!(
        log_proof(&world.db, Log::Market, 0, Some(1))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(root_at(&world.db, Log::Market, 99).await.unwrap(), None);
}
