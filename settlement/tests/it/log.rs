//! The logs as they are served: tiles that lead to the signed roots.

use std::collections::BTreeMap;

use domain::signed::PublicKey;
use settlement::log::checkpoint::{Checkpoint, Log};
use settlement::log::reader::{Tiled, replay};
use settlement::log::tile::{Tile, tiles};
use settlement::service::{accept_reading, latest_checkpoint, tile};

use crate::world::{World, interval, sign};

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
