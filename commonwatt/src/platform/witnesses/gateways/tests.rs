//! A platform and what its gateway says of the ledger log.

use domain::log::cosignature::cosign;
use domain::signed::{PublicKey, SigningKey};
use serde_json::json;
use settlement::evidence::{Verdict, judge};

use super::super::tests::{Bench, START, gateway_key};
use super::*;

fn gateway() -> GatewayId {
    GatewayId::new("gw-1").unwrap()
}

/// A note with a gateway's signature.
fn cosigned(note: &str, key: &SigningKey, now: Timestamp) -> String {
    let community = domain::ids::CommunityId::new("lane").unwrap();
    let witness = gateway_witness(&community, PublicKey::of(key)).unwrap();
    let mut note = Note::parse(note).unwrap();
    let line = cosign(&note.body, witness.name(), key, now);
    note.signatures.push(line.unwrap());
    note.to_text()
}

impl Bench {
    /// The newest head of the books.
    async fn head(&self) -> (String, Checkpoint) {
        let db = &self.shared.db;
        let note = service::latest_checkpoint(db, Log::Ledger).await.unwrap();
        let note = note.unwrap();
        let parsed = Note::parse(&note).unwrap();
        let (_, head) = Checkpoint::read_body(&parsed.body).unwrap();
        (note, head)
    }

    /// A head that the operator has signed, and these books do not have.
    fn another(&self, size: u64) -> String {
        let root = Digest32([7; 32]);
        let origin = Log::Ledger.origin(&self.shared.community.id);
        Checkpoint { size, root }.sign(&origin, &self.shared.community.operator)
    }

    async fn says(&self, head: String) -> anyhow::Result<bool> {
        let word = Word {
            gateway: gateway(),
            head: Some(head),
            fork: None,
        };
        let kept = look(&self.shared, &word).await?;
        let is_kept = kept.is_some();
        keep(&self.shared, kept.into_iter().collect()).await?;
        Ok(is_kept)
    }

    async fn kinds(&self) -> Vec<String> {
        let cases = service::cases(&self.shared.db).await.unwrap();
        for case in &cases {
            let evidence = Evidence::read(&case.text).unwrap();
            assert!(matches!(judge(&evidence), Ok(Verdict::Proven { .. })));
        }
        let mut kinds: Vec<String> = cases.into_iter().map(|case| case.kind).collect();
        kinds.sort();
        kinds
    }
}

#[tokio::test]
async fn what_a_gateway_signs_is_shown_under_the_checkpoint() {
    let bench = Bench::new(false).await;
    let (note, head) = bench.head().await;
    assert!(
        bench
            .says(cosigned(&note, &gateway_key(), START))
            .await
            .unwrap()
    );
    let db = &bench.shared.db;
    let shown = service::published_checkpoint(db, Log::Ledger).await;
    let (size, shown) = shown.unwrap().unwrap();
    let community = &bench.shared.community.id;
    let witness = gateway_witness(community, PublicKey::of(&gateway_key())).unwrap();
    assert_eq!(size, head.size);
    assert!(
        shown.contains(&format!("\u{2014} {} ", witness.name())),
        "{shown}"
    );
    assert!(!shown.contains("gw-1"), "a home's gateway is not named");
    let listed = service::gateway_witnesses(db, community).await.unwrap();
    assert_eq!((listed[0].size, &listed[0].key), (head.size, &witness));
    assert_eq!(bench.shared.watch.alarm(), None);
    // One more entry, and the newest head with no signature: the signed one is shown.
    bench.grow().await;
    let shown = service::published_checkpoint(db, Log::Ledger).await;
    assert_eq!(shown.unwrap().unwrap().0, head.size);
}

#[tokio::test]
async fn a_word_that_is_not_the_gateways_own_counts_for_nothing() {
    let bench = Bench::new(false).await;
    let (note, _) = bench.head().await;
    let strange = SigningKey::from_bytes(&[8; 32]);
    let foreign = {
        let parsed = Note::parse(&note).unwrap();
        let (origin, head) = Checkpoint::read_body(&parsed.body).unwrap();
        head.sign(origin, &strange)
    };
    let late = START.plus_s(AHEAD_MAX_S + 60);
    let mut changed = cosigned(&note, &gateway_key(), START);
    let at = changed.len() - 12;
    let other = if &changed[at..=at] == "A" { "B" } else { "A" };
    changed.replace_range(at..=at, other);
    for (head, part) in [
        ("hello".to_owned(), "no signed note"),
        (note.clone(), "no gateway has signed"),
        (cosigned(&note, &strange, START), "is not enrolled"),
        (
            cosigned(&foreign, &gateway_key(), START),
            "not signed by this operator",
        ),
        (cosigned(&note, &gateway_key(), late), "its clock is wrong"),
        (changed, "does not hold"),
    ] {
        let told = bench.says(head).await.unwrap_err().to_string();
        assert!(told.contains(part), "{told}");
    }
    let listed = service::gateway_witnesses(&bench.shared.db, &bench.shared.community.id).await;
    assert!(listed.unwrap().is_empty());
    assert_eq!(
        (bench.shared.watch.alarm(), bench.kinds().await.len()),
        (None, 0)
    );
}

#[tokio::test]
async fn a_gateway_that_was_shown_another_log_stops_the_market_and_one_that_signed_both_is_found_out()
 {
    let bench = Bench::new(false).await;
    bench.grow().await;
    let (note, head) = bench.head().await;
    assert!(
        bench
            .says(cosigned(&note, &gateway_key(), START))
            .await
            .unwrap()
    );
    let other = cosigned(&bench.another(head.size - 1), &gateway_key(), START);
    assert!(!bench.says(other.clone()).await.unwrap());
    let alarm = bench.shared.watch.alarm().unwrap();
    assert!(alarm.contains("gateway gw-1 holds a ledger log"), "{alarm}");
    assert_eq!(bench.kinds().await, ["operator_fork", "witness_fork"]);
    // Said again, it is no new case.
    bench.says(other).await.unwrap();
    assert_eq!(bench.kinds().await.len(), 2);
}

#[tokio::test]
async fn a_gateway_that_has_seen_more_than_the_books_have_stops_the_market() {
    let bench = Bench::new(false).await;
    let ahead = cosigned(&bench.another(1_000), &gateway_key(), START);
    assert!(!bench.says(ahead).await.unwrap());
    let alarm = bench.shared.watch.alarm().unwrap();
    assert!(
        alarm.contains("gateway gw-1") && alarm.contains("they are older"),
        "{alarm}"
    );
    assert!(bench.kinds().await.is_empty());
}

#[tokio::test]
async fn the_proof_that_a_gateway_holds_is_taken_over_and_no_other() {
    let bench = Bench::new(false).await;
    let (note, head) = bench.head().await;
    let log = log_key(&bench.shared, Log::Ledger).unwrap();
    let fork = |log: &VerifierKey, first: &str, second: &str| {
        Evidence::operator_fork(log, first, second, &[]).to_text()
    };
    let foreign = VerifierKey::of_log(log.name(), PublicKey::of(&gateway_key())).unwrap();
    for bad in [
        "{}".to_owned(),
        fork(&foreign, &note, &note),
        Evidence::witness_fork(&log, &note, &note, &[]).to_text(),
    ] {
        assert!(
            look_at_fork(&bench.shared, &gateway(), &bad).await.is_err(),
            "{bad}"
        );
    }
    // What proves nothing raises nothing: twice the same head of these books.
    let nothing = fork(&log, &note, &note);
    look_at_fork(&bench.shared, &gateway(), &nothing)
        .await
        .unwrap();
    assert_eq!(
        (bench.shared.watch.alarm(), bench.kinds().await.len()),
        (None, 0)
    );
    let proof = fork(&log, &bench.another(head.size), &note);
    look_at_fork(&bench.shared, &gateway(), &proof)
        .await
        .unwrap();
    assert!(bench.shared.watch.alarm().is_some());
    assert_eq!(bench.kinds().await, ["operator_fork"]);
}

#[tokio::test]
async fn a_state_is_looked_at_when_it_says_something_new() {
    let bench = Bench::new(false).await;
    let (words, mut waiting) = queue();
    let (note, _) = bench.head().await;
    let mut said = |state: Value| {
        note_word(&bench.shared, &words, &gateway(), &state);
        waiting.try_recv().is_ok()
    };
    assert!(
        !said(json!({ "state": "online" })),
        "nothing is said of the log"
    );
    let head = |now| cosigned(&note, &gateway_key(), now);
    assert!(said(json!({ "ledger_head": head(START) })));
    assert!(
        !said(json!({ "ledger_head": head(START.plus_s(9)) })),
        "the same head"
    );
    assert!(said(
        json!({ "ledger_head": head(START), "ledger_fork": {} })
    ));
    // No more than so many in a minute.
    let flood = (0..100).filter(|n| said(json!({ "ledger_head": format!("{n}") })));
    assert!(flood.count() < 100);
}

#[tokio::test]
async fn the_file_that_a_gateway_keeps_of_a_fork_is_judged_and_taken_over() {
    use domain::acceptance::LedgerHead;
    use meter_gateway::seen::{Heard as Told, Seen};

    let bench = Bench::new(false).await;
    let shared = &bench.shared;
    let (note, head) = bench.head().await;
    let folder = tempfile::tempdir().unwrap();
    let operator = PublicKey::of(&shared.community.operator);
    let mut seen = Seen::open(folder.path(), &shared.community.id, operator);
    for (note, contradicts) in [(bench.another(head.size), false), (note, true)] {
        let shown = LedgerHead {
            note,
            old: 0,
            path: Vec::new(),
        };
        let told = seen.hear(&shown, START);
        assert_eq!(matches!(told, Told::Contradiction(_)), contradicts);
    }
    let file = std::fs::read_to_string(folder.path().join("ledger-fork.json")).unwrap();
    let verdict = judge(&Evidence::read(&file).unwrap());
    assert!(matches!(verdict, Ok(Verdict::Proven { .. })), "{verdict:?}");
    let said = seen.fork().unwrap().to_string();
    look_at_fork(shared, &gateway(), &said).await.unwrap();
    assert_eq!(bench.kinds().await, ["operator_fork"]);
    assert!(shared.watch.alarm().is_some());
}
