//! Two orders under one number, found and kept.

use domain::energy::Energy;
use domain::ids::{ParticipantId, PointId};
use domain::money::Price;
use domain::order::Side;
use domain::signed::SigningKey;
use domain::time::Interval;
use runtime::args;
use settlement::evidence::{Verdict, judge};

use super::*;
use crate::platform::witnesses::tests::{Bench, START};

fn order(key: &SigningKey, community: &CommunityId, energy_wh: i64) -> Vec<u8> {
    let order = Order {
        participant: ParticipantId::new("ann").unwrap(),
        point: PointId::new("ann.meter").unwrap(),
        side: Side::Bid,
        interval: Interval::containing(START.plus_s(3600), 900).unwrap(),
        energy: Energy::from_wh(energy_wh),
        limit: Price::from_micro_per_kwh(200_000),
        sequence: 7,
        replaces: None,
        preference: domain::order::Preference::default(),
    };
    Signed::sign(key, community, &order).as_bytes().to_vec()
}

/// Lists two orders under one number, as the market does.
async fn listed(shared: &Shared, kept: &[u8], other: Vec<u8>) {
    let sql = "INSERT INTO market_evidence (participant, sequence, digest, kept, other, seen_at_ms)
         VALUES ('ann', 7, $1, $2, $3, $4)";
    let digest = Digest32::of(&other).0;
    let row = args![digest, kept, other, START.unix_ms()];
    let mut tx = shared.db.begin().await.unwrap();
    tx.execute(sql, row).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn two_orders_under_one_number_are_kept_once_and_logged() {
    let bench = Bench::new(false).await;
    let shared = &bench.shared;
    let mut looked = Looked::default();
    assert_eq!(look(shared, &mut looked).await.unwrap(), (0, 0));
    let key = &shared.key_of_home(0);
    let kept = order(key, &shared.community.id, 10);
    for energy_wh in [11, 12] {
        listed(shared, &kept, order(key, &shared.community.id, energy_wh)).await;
    }
    let (seen, new) = look(shared, &mut looked).await.unwrap();
    assert!(seen == 2 && new >= 1, "{seen} {new}");
    // Neither by the same look nor after a start.
    for looked in [&mut looked, &mut Looked::default()] {
        assert_eq!(look(shared, looked).await.unwrap(), (0, 0));
    }
    let cases = service::cases(&shared.db).await.unwrap();
    assert_eq!(cases.len(), new);
    for case in cases {
        let verdict = judge(&Evidence::read(&case.text).unwrap());
        assert!(matches!(verdict, Ok(Verdict::Proven { .. })), "{verdict:?}");
        assert!(case.log_index.is_some());
    }
    assert!(service::public_cases(&shared.db).await.unwrap().is_empty());
    // Under the key that took another's place the number proves nothing.
    let next = SigningKey::from_bytes(&[9; 32]);
    listed(shared, &kept, order(&next, &shared.community.id, 13)).await;
    assert_eq!(look(shared, &mut looked).await.unwrap(), (0, 0));
    // What was kept cannot be changed.
    for sql in [
        "DELETE FROM market_evidence",
        "UPDATE market_evidence SET seen_at_ms = 0",
        "DELETE FROM settle_case_entries",
        "DELETE FROM settle_case_sources",
    ] {
        let mut tx = shared.db.begin().await.unwrap();
        assert!(tx.execute(sql, args![]).await.is_err(), "{sql}");
    }
}
