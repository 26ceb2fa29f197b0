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
        ledger: None,
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
        .due(now_ms, usize::MAX)
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
    let first = spool.due(0, usize::MAX).await.unwrap();
    assert_eq!(first.len(), 64);
    let order: Vec<i64> = first.iter().map(|o| o.sequence).collect();
    assert_eq!(order[..7], [200, 199, 198, 197, 196, 1, 2]);
    spool.sent(&first, 10);
    assert_eq!(due(&spool, 20).await, [0; 0], "enough is under way");
    assert_eq!(
        due(&spool, 10 + RETRY_MIN_MS).await.len(),
        64,
        "sent again after the wait"
    );
    spool.sent(&spool.due(6_000, usize::MAX).await.unwrap(), 6_000);
    let others = due(&spool, 6_000 + RETRY_MIN_MS).await;
    assert!(
        others.len() == 64 && others.iter().all(|one| !order.contains(one)),
        "the wait doubles, and repeats hold up no others: {others:?}"
    );
    spool.forget_sent();
    assert_eq!(due(&spool, 6_001).await, order);
}

#[tokio::test]
async fn only_what_is_accepted_leaves_and_what_is_missing_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path(), 10).await;
    spool.sent(&spool.due(0, usize::MAX).await.unwrap(), 1);
    let now = Timestamp::EPOCH;
    spool
        .apply(&[word(None, vec![], vec![])], now, 1)
        .await
        .unwrap();
    assert_eq!(spool.counts().await.unwrap(), (10, 0));
    let rejected = vec![(2, Rejection::TooLate), (9, Rejection::Implausible)];
    let said = word(Some(7), vec![(6, 6), (4, 5)], rejected);
    let said = [said];
    let refused = spool.apply(&said, now, 100).await.unwrap();
    let expected = [(2, Rejection::TooLate), (9, Rejection::Implausible)];
    assert_eq!(
        refused,
        expected.map(|(sequence, reason)| put_aside(sequence, reason))
    );
    assert_eq!(
        due(&spool, 100).await,
        [0; 0],
        "the missing were only just sent"
    );
    let again = spool.apply(&said, now, RESEND_GRACE_MS + 1).await.unwrap();
    assert_eq!(again, Vec::<Refused>::new(), "only what is new is news");
    assert_eq!(due(&spool, RESEND_GRACE_MS + 1).await, [6, 4, 5]);
    spool.forget_sent();
    assert_eq!(due(&spool, 1).await, [10, 8, 6, 4, 5]);
    let refused = spool.refused().await.unwrap();
    let rows: Vec<(i64, &str)> = refused.iter().map(|(_, s, r)| (*s, r.as_str())).collect();
    assert_eq!(rows, [(2, "too_late"), (9, "implausible")]);
}

/// A refused reading of [`filled`], whose bytes are no signed message.
fn put_aside(sequence: u64, reason: Rejection) -> Refused {
    Refused {
        point: point(),
        sequence,
        reason,
        signer: None,
    }
}

#[tokio::test]
async fn many_that_are_refused_at_one_time_leave_the_newest_thousand_and_their_signers() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path(), 1_099).await;
    let mut state = spool.load(&point()).await.unwrap();
    let key = SigningKey::from_bytes(&[7; 32]);
    let community = CommunityId::new("c").unwrap();
    let signed = Signed::sign(&key, &community, word(None, vec![], vec![]).message());
    let next = NewReading {
        sequence: state.chain.next_sequence,
        interval: Interval::new(0, 900).unwrap(),
        signed: Signed::from_bytes(signed.as_bytes().to_vec()),
    };
    state.chain.next_sequence += 1;
    spool.store(&point(), &state, &[next]).await.unwrap();
    let refuse = |numbers: std::ops::RangeInclusive<u64>| {
        let rejected = numbers.map(|n| (n, Rejection::KeyRevoked));
        word(None, vec![], rejected.collect())
    };
    let words: Vec<_> = (0..22)
        .map(|part| refuse(part * 50 + 1..=part * 50 + 50))
        .collect();
    let refused = spool.apply(&words, Timestamp::EPOCH, 1).await.unwrap();
    let last = refused.last().unwrap();
    assert_eq!((refused.len(), last.sequence), (1_100, 1_100));
    assert_eq!(last.signer, Some(PublicKey::of(&key).id()));
    let kept = spool.refused().await.unwrap();
    let kept: Vec<i64> = kept.iter().map(|(_, sequence, _)| *sequence).collect();
    assert_eq!(kept, (101..=1_100).collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_word_about_readings_never_made_here_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path(), 3).await;
    let rejected = |sequence| vec![(sequence, Rejection::Equivocation)];
    for (said, known) in [
        (word(Some(4), vec![], rejected(2)), 4),
        (word(Some(2), vec![], rejected(9)), 9),
    ] {
        let answer = spool
            .apply(std::slice::from_ref(&said), Timestamp::EPOCH, 1)
            .await;
        let Err(SpoolError::Older { known: k, made, .. }) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!((k, made), (known, 3));
        assert_eq!(spool.counts().await.unwrap(), (3, 0));
    }
    let said = word(Some(3), vec![], vec![]);
    spool
        .apply(std::slice::from_ref(&said), Timestamp::EPOCH, 1)
        .await
        .unwrap();
    assert_eq!(spool.counts().await.unwrap(), (0, 0));
    let empty = tempfile::tempdir().unwrap();
    let deleted = Spool::open(empty.path(), 10).await.unwrap();
    let answer = deleted
        .apply(std::slice::from_ref(&said), Timestamp::EPOCH, 1)
        .await;
    assert!(matches!(answer, Err(SpoolError::Older { made: 0, .. })));
}

#[tokio::test]
async fn an_unanswered_point_does_not_hold_up_a_fresh_reading_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path(), 64).await;
    let mut now_ms = 1;
    for _ in 0..3 {
        let mut sent = 0;
        loop {
            let due = spool.due(now_ms, usize::MAX).await.unwrap();
            let repeats = due.iter().filter(|out| out.attempts > 1).count();
            assert!(repeats <= REPEATS_MAX, "{repeats} repeats at once");
            if due.is_empty() {
                break;
            }
            sent += due.len();
            spool.sent(&due, now_ms);
        }
        assert_eq!(sent, 64);
        now_ms += RETRY_MAX_MS;
    }
    now_ms -= RETRY_MAX_MS - 1;
    assert_eq!(due(&spool, now_ms).await, [0; 0]);
    let other = PointId::new("home-2").unwrap();
    let mut state = PointState::default();
    state.chain.next_sequence = 2;
    let fresh = NewReading {
        sequence: 1,
        interval: Interval::new(65 * 900, 900).unwrap(),
        signed: Signed::from_bytes(vec![1]),
    };
    spool.store(&other, &state, &[fresh]).await.unwrap();
    let due = spool.due(now_ms, usize::MAX).await.unwrap();
    assert_eq!((due.len(), due[0].point.as_str()), (1, "home-2"));
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

#[tokio::test]
async fn history_waits_for_its_turn_and_the_last_hour_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path(), 20).await;
    let due = spool.due(0, 2).await.unwrap();
    let order: Vec<(i64, bool)> = due.iter().map(|o| (o.sequence, o.is_history)).collect();
    let recent = [20, 19, 18, 17, 16].map(|sequence| (sequence, false));
    assert_eq!(order[..5], recent);
    assert_eq!(order[5..], [(1, true), (2, true)]);
    spool.sent(&due, 0);
    spool.unsent("home-1", 18);
    let again = spool.due(1, 0).await.unwrap();
    assert_eq!(
        (again.len(), again[0].sequence, again[0].attempts),
        (1, 18, 0)
    );
}

/// Lets the database grow to so many pages; SQLite then says that the disk is full.
pub(crate) async fn set_pages_max(spool: &Spool, sql: &'static str) {
    let mut tx = spool.db.begin().await.unwrap();
    let rows: Vec<(i64,)> = tx.fetch_all(sql, args![]).await.unwrap();
    assert_eq!(rows.len(), 1);
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_stops_new_intervals_only_and_nothing_is_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path(), 50).await;
    set_pages_max(&spool, "PRAGMA max_page_count = 1").await;
    let before = spool.load(&point()).await.unwrap();
    let mut state = before.clone();
    let (mut stored, mut refusals) = (50, 0);
    while refusals < 3 {
        let sequence = state.chain.next_sequence;
        state.chain.next_sequence += 1;
        let reading = NewReading {
            sequence,
            interval: Interval::new(i64::try_from(sequence).unwrap() * 900, 900).unwrap(),
            signed: Signed::from_bytes(vec![7; 700]),
        };
        match spool.store(&point(), &state, &[reading]).await {
            Ok(()) => stored = sequence,
            Err(error) => {
                assert!(matches!(error, SpoolError::Db(_)), "{error}");
                assert!(error.to_string().contains("disk is full"), "{error}");
                refusals += 1;
                // The writer's connection is a new one after this.
                set_pages_max(&spool, "PRAGMA max_page_count = 1").await;
                // As the recorder does: what was not stored has not happened.
                state = spool.load(&point()).await.unwrap();
            }
        }
        assert_eq!(state.chain.next_sequence, stored + 1);
    }
    let waiting = i64::try_from(stored).unwrap();
    assert_eq!(spool.counts().await.unwrap(), (waiting, 0));
    assert_eq!(spool.backlog().await.unwrap().waiting, waiting);
    // What is there is sent and, here, deleting finds room: the outbox empties.
    let due = spool.due(1, usize::MAX).await.unwrap().len();
    assert_eq!(due, usize::try_from(stored).unwrap().min(IN_FLIGHT_MAX));
    let said = word(Some(stored), vec![], vec![]);
    spool
        .apply(std::slice::from_ref(&said), Timestamp::EPOCH, 1)
        .await
        .unwrap();
    assert_eq!(spool.counts().await.unwrap(), (0, 0));
    set_pages_max(&spool, "PRAGMA max_page_count = 1000000").await;
    state.chain.next_sequence += 1;
    let next = NewReading {
        sequence: stored + 1,
        interval: Interval::new(0, 900).unwrap(),
        signed: Signed::from_bytes(vec![7; 700]),
    };
    spool.store(&point(), &state, &[next]).await.unwrap();
    assert_eq!(spool.counts().await.unwrap(), (1, 0));
}

/// What was written while the agenda was read again must be in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_that_is_stored_while_doubts_are_settled_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path(), 2_000).await;
    for round in 0..20_u64 {
        spool.agenda().is_doubtful = true;
        let writer = spool.clone();
        // More readers than connections: some read while the writer writes.
        let read = |reader: Spool| async move { reader.settle_doubts().await };
        let reading: Vec<_> = (0..9).map(|_| tokio::spawn(read(spool.clone()))).collect();
        let writing = tokio::spawn(async move {
            let mut state = PointState::default();
            let sequence = 2_001 + round;
            state.chain.next_sequence = sequence + 1;
            let fresh = NewReading {
                sequence,
                interval: Interval::new(0, 900).unwrap(),
                signed: Signed::from_bytes(vec![1]),
            };
            writer.store(&point(), &state, &[fresh]).await
        });
        for reading in reading {
            reading.await.unwrap().unwrap();
        }
        writing.await.unwrap().unwrap();
        let (waiting, _) = spool.counts().await.unwrap();
        assert_eq!(waiting, spool.backlog().await.unwrap().waiting);
    }
}

/// A file system of its own in memory, as small as a test wants it; gone with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where this is not allowed: it takes root.
    fn new(kib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(dir.path())
            .output();
        mounted
            .is_ok_and(|m| m.status.success())
            .then(|| SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}

#[tokio::test]
async fn a_disk_that_is_really_full_loses_nothing_and_what_fits_again_is_stored() {
    let Some(disk) = SmallDisk::new(1024) else {
        eprintln!("skipped: mounting a small file system takes root");
        return;
    };
    let dir = disk.0.path();
    let spool = filled(dir, 50).await;
    // Somebody else's file takes what is left.
    let ballast = dir.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    let mut state = spool.load(&point()).await.unwrap();
    let (mut stored, mut refusals) = (50, 0);
    while refusals < 3 {
        assert!(stored < 2_000, "the disk is never full");
        let sequence = state.chain.next_sequence;
        state.chain.next_sequence += 1;
        let reading = NewReading {
            sequence,
            interval: Interval::new(i64::try_from(sequence).unwrap() * 900, 900).unwrap(),
            signed: Signed::from_bytes(vec![7; 700]),
        };
        match spool.store(&point(), &state, &[reading]).await {
            Ok(()) => stored = sequence,
            Err(error) => {
                assert!(matches!(error, SpoolError::Db(_)), "{error}");
                refusals += 1;
                state = spool.load(&point()).await.unwrap();
            }
        }
        assert_eq!(state.chain.next_sequence, stored + 1);
    }
    let waiting = i64::try_from(stored).unwrap();
    assert_eq!(spool.counts().await.unwrap(), (waiting, 0));
    // The power fails at this moment; then there is room again.
    drop(spool);
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    let spool = Spool::open(dir, 10_000).await.unwrap();
    assert_eq!(spool.counts().await.unwrap(), (waiting, 0));
    let mut state = spool.load(&point()).await.unwrap();
    state.chain.next_sequence += 1;
    let next = NewReading {
        sequence: stored + 1,
        interval: Interval::new(0, 900).unwrap(),
        signed: Signed::from_bytes(vec![7; 700]),
    };
    spool.store(&point(), &state, &[next]).await.unwrap();
    assert_eq!(spool.counts().await.unwrap(), (waiting + 1, 0));
    spool.close().await;
}
