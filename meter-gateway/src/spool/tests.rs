//! The outbox: what is stored, what is sent again, what is deleted and when.

use super::*;
use domain::ids::{CommunityId, GatewayId};
use domain::rejection::Rejection;
use domain::signed::{PublicKey, SigningKey};

fn point() -> PointId {
    PointId::new("home-1").unwrap()
}

fn word(
    accepted_up_to: Option<u64>,
    missing: Vec<(u64, u64)>,
    rejected: Vec<(u64, Rejection)>,
) -> Verified<Acceptance> {
    let gateway = GatewayId::new("gw").unwrap();
    let issued_at = Timestamp::EPOCH;
    let word = Acceptance {
        gateway,
        point: point(),
        accepted_up_to,
        missing,
        rejected,
        issued_at,
    };
    let (key, community) = (
        SigningKey::from_bytes(&[1; 32]),
        CommunityId::new("c").unwrap(),
    );
    Signed::sign(&key, &community, &word)
        .verify(PublicKey::of(&key), &community)
        .unwrap()
}

/// An outbox with readings 1 to `count`, one for each interval.
async fn filled(dir: &Path, count: u64) -> Spool {
    let spool = Spool::open(dir, 10_000).await.unwrap();
    let mut state = PointState::default();
    let readings: Vec<NewReading> = (1..=count)
        .map(|sequence| NewReading {
            sequence,
            interval: Interval::new(i64::try_from(sequence).unwrap() * 900, 900).unwrap(),
            signed: Signed::from_bytes(sequence.to_be_bytes().to_vec()),
        })
        .collect();
    state.chain.next_sequence = count + 1;
    spool.store(&point(), &state, &readings).await.unwrap();
    spool
}

async fn due(spool: &Spool, now_ms: i64) -> Vec<i64> {
    spool
        .due(now_ms)
        .await
        .unwrap()
        .iter()
        .map(|o| o.sequence)
        .collect()
}

#[tokio::test]
async fn state_and_readings_survive_together() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path(), 3).await;
    spool.close().await;
    let spool = Spool::open(dir.path(), 10_000).await.unwrap();
    let state = spool.load(&point()).await.unwrap();
    assert_eq!(state.chain.next_sequence, 4);
    assert_eq!(
        spool.load(&PointId::new("other").unwrap()).await.unwrap(),
        PointState::default()
    );
    assert_eq!(spool.counts().await.unwrap(), (3, 0));
}

#[tokio::test]
async fn a_sequence_is_never_stored_twice_and_the_state_does_not_move_then() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path(), 3).await;
    let mut state = spool.load(&point()).await.unwrap();
    state.chain.next_sequence = 9;
    let again = NewReading {
        sequence: 3,
        interval: Interval::new(0, 900).unwrap(),
        signed: Signed::from_bytes(vec![9]),
    };
    assert!(matches!(
        spool.store(&point(), &state, &[again]).await,
        Err(SpoolError::Db(_))
    ));
    assert_eq!(spool.load(&point()).await.unwrap().chain.next_sequence, 4);
}

#[tokio::test]
async fn the_newest_go_first_and_history_follows_in_order_and_in_portions() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path(), 200).await;
    let first = spool.due(0).await.unwrap();
    assert_eq!(first.len(), 64);
    let order: Vec<i64> = first.iter().map(|o| o.sequence).collect();
    assert_eq!(order[..7], [200, 199, 198, 197, 196, 1, 2]);
    spool.sent(&first, 10).await.unwrap();
    assert_eq!(due(&spool, 20).await, [0; 0], "enough is under way");
    assert_eq!(
        due(&spool, 10 + RETRY_MIN_MS).await.len(),
        64,
        "sent again after the wait"
    );
    spool
        .sent(&spool.due(6_000).await.unwrap(), 6_000)
        .await
        .unwrap();
    assert_eq!(
        due(&spool, 6_000 + RETRY_MIN_MS).await.len(),
        0,
        "the wait doubles"
    );
    spool.forget_sent().await.unwrap();
    assert_eq!(due(&spool, 6_001).await, order);
}

#[tokio::test]
async fn only_what_is_accepted_leaves_and_what_is_missing_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path(), 10).await;
    spool.sent(&spool.due(0).await.unwrap(), 1).await.unwrap();
    let now = Timestamp::EPOCH;
    spool
        .apply(&word(None, vec![], vec![]), now, 1)
        .await
        .unwrap();
    assert_eq!(spool.counts().await.unwrap(), (10, 0));
    let rejected = vec![(2, Rejection::TooLate), (9, Rejection::Implausible)];
    let said = word(Some(7), vec![(6, 6), (4, 5)], rejected);
    spool.apply(&said, now, 100).await.unwrap();
    assert_eq!(
        due(&spool, 100).await,
        [0; 0],
        "the missing were only just sent"
    );
    spool.apply(&said, now, RESEND_GRACE_MS + 1).await.unwrap();
    assert_eq!(due(&spool, RESEND_GRACE_MS + 1).await, [6, 4, 5]);
    spool.forget_sent().await.unwrap();
    assert_eq!(due(&spool, 1).await, [10, 8, 6, 4, 5]);
    let refused = spool.refused().await.unwrap();
    let rows: Vec<(i64, &str)> = refused.iter().map(|(_, s, r)| (*s, r.as_str())).collect();
    assert_eq!(rows, [(2, "too_late"), (9, "implausible")]);
}

#[tokio::test]
async fn a_full_outbox_deletes_nothing_and_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 3).await.close().await;
    let spool = Spool::open(dir.path(), 3).await.unwrap();
    let state = spool.load(&point()).await.unwrap();
    let more = NewReading {
        sequence: 4,
        interval: Interval::new(0, 900).unwrap(),
        signed: Signed::from_bytes(vec![4]),
    };
    let refused = spool.store(&point(), &state, &[more]).await;
    assert!(matches!(refused, Err(SpoolError::Full(3))));
    assert_eq!(spool.counts().await.unwrap(), (3, 0));
}
