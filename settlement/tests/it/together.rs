//! Readings that are taken in together have the outcomes and leave the books of readings taken one by one.

use domain::key_record::{Holder, KeyRecord};
use domain::reading::Reading;
use domain::signed::{PublicKey, SigningKey};
use domain::time::Timestamp;
use proptest::prelude::*;
use runtime::args;
use settlement::service::{
    Arrived, KnownKeys, ReadingOutcome, accept_readings, check_signatures, enrol,
};

use crate::world::{START_S, World, cases, interval, sign};

const HOMES: [&str; 2] = ["home-a", "home-b"];
const READINGS: usize = 8;

/// What arrives: which point's which reading, and what was done to it on the way.
#[derive(Clone, Debug)]
enum Sent {
    Good(usize, usize),
    /// Another value under a sequence that an honest reading has.
    Twice(usize, usize),
    /// A value that falls.
    Falling(usize, usize),
    /// Under the gateway's newer key.
    Newer(usize, usize),
    Garbage(u8),
    Unsigned(usize, usize),
}

fn sent() -> impl Strategy<Value = Sent> {
    let which = || (0..HOMES.len(), 0..READINGS);
    prop_oneof![
        8 => which().prop_map(|(home, n)| Sent::Good(home, n)),
        1 => which().prop_map(|(home, n)| Sent::Twice(home, n)),
        1 => which().prop_map(|(home, n)| Sent::Falling(home, n)),
        2 => which().prop_map(|(home, n)| Sent::Newer(home, n)),
        1 => any::<u8>().prop_map(Sent::Garbage),
        1 => which().prop_map(|(home, n)| Sent::Unsigned(home, n)),
    ]
}

struct Books {
    world: World,
    readings: Vec<Vec<Reading>>,
    newer: SigningKey,
}

impl Books {
    async fn new() -> Self {
        let mut world = World::on_sqlite(&HOMES).await;
        let mut readings = Vec::new();
        for home in HOMES {
            let reading = |n| world.read(home, n, 100 + n, 7);
            readings.push((0..8).map(reading).collect());
        }
        let newer = SigningKey::from_bytes(&[9; 32]);
        let record = KeyRecord {
            key: PublicKey::of(&newer),
            holder: Holder::Gateway {
                gateway: world.gateway.clone(),
                points: world.points(&HOMES),
            },
            valid_from: interval(5).start(),
        };
        let now = Timestamp::from_unix_s(START_S - 60);
        let mut tx = world.db.begin().await.unwrap();
        enrol(&mut tx, &world.community, now, record).await.unwrap();
        tx.commit().await.unwrap();
        Books {
            world,
            readings,
            newer,
        }
    }

    fn bytes(&self, sent: &Sent) -> Vec<u8> {
        let (key, community) = (&self.world.gateway_key, &self.world.community);
        let changed = |home: usize, n: usize, by: i64| {
            let mut reading = self.readings[home][n].clone();
            let end = reading.registers[0].end.wh() + by;
            reading.registers[0].end = domain::energy::Energy::from_wh(end);
            reading
        };
        match sent {
            Sent::Good(home, n) => sign(key, community, &self.readings[*home][*n]),
            Sent::Twice(home, n) => sign(key, community, &changed(*home, *n, 1)),
            Sent::Falling(home, n) => sign(key, community, &changed(*home, *n, -500)),
            Sent::Newer(home, n) => sign(&self.newer, community, &self.readings[*home][*n]),
            Sent::Garbage(byte) => vec![*byte; 40],
            Sent::Unsigned(home, n) => {
                let stranger = SigningKey::from_bytes(&[77; 32]);
                sign(&stranger, community, &self.readings[*home][*n])
            }
        }
    }

    /// Takes all in batches of this size, with signatures checked before or not.
    async fn take(&self, all: &[Sent], size: usize, checked: bool) -> Vec<ReadingOutcome> {
        let (world, now) = (&self.world, interval(20).end());
        let (mut outcomes, mut known) = (Vec::new(), KnownKeys::up_to(size % 3));
        for some in all.chunks(size) {
            let arrived = |sent| Arrived::new(world.gateway.clone(), self.bytes(sent));
            let mut batch: Vec<Arrived> = some.iter().map(arrived).collect();
            if checked {
                let keys = known.of(&world.db, &batch).await.unwrap();
                let fresh = KnownKeys::default().of(&world.db, &batch).await.unwrap();
                assert!(fresh.iter().all(|(kid, key)| keys.get(kid) == Some(key)));
                check_signatures(&mut batch, &keys, &world.community.id);
            }
            let mut tx = world.db.begin().await.unwrap();
            let taken = accept_readings(&mut tx, &world.community, now, &mut batch).await;
            outcomes.extend(taken.unwrap());
            tx.commit().await.unwrap();
        }
        outcomes
    }

    async fn left(&self) -> Vec<Vec<(String, i64, Vec<u8>, String, i64)>> {
        let mut left = Vec::new();
        for sql in [
            "SELECT point, sequence, digest, COALESCE(reason, '') || '/' || flags, COALESCE(log_index, -1)
             FROM settle_readings ORDER BY point, kid, sequence",
            "SELECT point, first, kid, '', up_to FROM settle_progress ORDER BY point, kid",
            "SELECT point, sequence, kid, COALESCE(reason, ''), asked_ms FROM settle_answers
             ORDER BY point, sequence",
            "SELECT gateway, slot, bytes, reason, at_ms FROM settle_refused ORDER BY slot",
            "SELECT point, sequence, second, '', at_ms FROM settle_evidence ORDER BY point, kid, sequence",
            "SELECT name, value, CAST('' AS BLOB), '', 0 FROM settle_counters ORDER BY name",
            "SELECT '', start_s, CAST('' AS BLOB), '', readings FROM settle_intervals ORDER BY start_s",
        ] {
            left.push(self.world.db.fetch_all(sql, args![]).await.unwrap());
        }
        self.world.check().await;
        left
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(6)))]
    #[test]
    fn taken_together_is_taken_one_by_one(
        all in proptest::collection::vec(sent(), 1..60),
        size in 2_usize..60,
        checked in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (one, together) = runtime.block_on(async {
            let (one, together) = (Books::new().await, Books::new().await);
            let outcomes = (one.take(&all, 1, false).await, together.take(&all, size, checked).await);
            ((outcomes.0, one.left().await), (outcomes.1, together.left().await))
        });
        prop_assert_eq!(one, together);
    }
}
