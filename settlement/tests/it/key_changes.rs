//! What a receipt shows of keys that were changed or revoked, and what it cannot be made to show.

use domain::ids::{Digest32, TradeId};
use domain::key_record::{Holder, KeyRecord};
use domain::order::Side;
use domain::posting::Run;
use domain::receipt::{KeyChange, Receipt};
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use settlement::prove::{proofs, to_text, verify};
use settlement::service::{enrol, receipt};

use crate::keys::{Keys, at, code, key};
use crate::own_keys::{bring, home, introduction};
use crate::world::{Outcome, World, order_key, who};

const HOMES: [&str; 2] = ["home-a", "home-b"];
const NONE_SHOWN: &str =
    "the receipt shows no change or revocation; that there was none it cannot show";
const NOT_SHOWN: &str = "; that the reading had come before that was said is not shown";

/// A trade of home-a in an interval, settled and under a checkpoint; the order is signed with this key.
async fn traded(world: &mut World, n: i64, own: &SigningKey) -> TradeId {
    let outcome = settled(world, n, own).await;
    world.checkpoint(at(n + 1)).await;
    outcome.trades[0].id
}

/// The same without a checkpoint.
pub(crate) async fn settled(world: &mut World, n: i64, own: &SigningKey) -> Outcome {
    let bid = world.order("home-a", Side::Bid, n, 1000, "0.2");
    let offer = world.order("home-b", Side::Offer, n, 1000, "0.1");
    world.hold(&bid).await;
    let mut outcome = world.outcome(n, &[bid.clone(), offer], &[(0, 1, 900)], "0.15");
    let signed = Signed::sign(own, &world.community.id, &bid);
    outcome.orders[0].2 = signed.as_bytes().to_vec();
    world.contract(&outcome).await;
    world.meter("home-a", n, 950, 0).await;
    world.run(&outcome, Run::Provisional).await;
    outcome
}

/// Where the gateway's new key takes up the chain of home-a.
fn taken_up(world: &mut World, n: i64) -> (u64, Digest32) {
    let next = world.read("home-a", n, 0, 0);
    (next.sequence, next.previous)
}

pub(crate) async fn receipt_of(world: &World, trade: TradeId) -> Receipt {
    let made = receipt(&world.db, &world.community, trade, &who("home-a")).await;
    made.unwrap().unwrap()
}

/// What the verifier says of changed keys, or where it stops and why.
fn told(receipt: &Receipt) -> String {
    let report = verify(&to_text(receipt).unwrap(), None);
    match report.first_failure() {
        Some((step, why)) => format!("FAILS {step}: {why}"),
        None => {
            let step = report.steps.iter().find(|(name, _)| *name == "key changes");
            step.unwrap().1.clone().unwrap()
        }
    }
}

/// Home-a's new key by the operator's word, from then on.
pub(crate) async fn new_participant_key(world: &World, new: &SigningKey, from: Timestamp) {
    let record = KeyRecord {
        key: PublicKey::of(new),
        holder: Holder::Participant(who("home-a")),
        valid_from: from,
    };
    let mut tx = world.db.begin().await.unwrap();
    enrol(&mut tx, &world.community, from, record)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// One trade before both keys of home-a change, and one after.
pub(crate) async fn changed() -> (Keys, [TradeId; 2]) {
    let mut keys = Keys(World::on_sqlite(&HOMES).await);
    keys.0.deposit("home-a", "10").await;
    let first = traded(&mut keys.0, 0, &order_key("home-a")).await;
    assert_eq!(told(&receipt_of(&keys.0, first).await), NONE_SHOWN);
    let (old, new) = (keys.0.gateway_key.clone(), key(11));
    let handover = taken_up(&mut keys.0, 1);
    let request = keys.request(&new, &old, handover);
    let introduction = keys.introduction(&request, &new, &old);
    keys.bring(&introduction, at(1)).await.unwrap();
    keys.0.gateway_key = new;
    new_participant_key(&keys.0, &key(12), at(1)).await;
    let second = traded(&mut keys.0, 2, &key(12)).await;
    (keys, [first, second])
}

#[tokio::test]
async fn a_rotation_is_shown_with_both_signatures_on_both_sides_of_it() {
    let (keys, [first, second]) = changed().await;
    let id = |key: &SigningKey| PublicKey::of(key).id();
    let own = format!(
        "key {} took the place of {} by the operator's word alone",
        id(&key(12)),
        id(&order_key("home-a"))
    );
    let gateway = format!(
        "key {} took the place of {}, and both have signed for that",
        id(&key(11)),
        id(&SigningKey::from_bytes(&[2; 32]))
    );
    let expected = format!("{own}; {gateway}");
    let [before, after] = [
        receipt_of(&keys.0, first).await,
        receipt_of(&keys.0, second).await,
    ];
    assert_eq!(told(&before), expected);
    assert_eq!(told(&after), expected);
    let history = after.gateway_key_history.as_ref().unwrap();
    assert!(history.before.is_some() && history.after.is_none());
    // Each entry can be had as a proof of its own.
    let names: Vec<String> = proofs(&after).unwrap().into_iter().map(|p| p.0).collect();
    for name in ["gateway-key-before", "gateway-key-before-introduction"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
}

/// A participant's own rotation, shown in the receipts of an order before and of one after it; and the audit agrees.
#[tokio::test]
async fn a_participants_rotation_is_shown_with_both_signatures() {
    let mut world = World::on_sqlite(&HOMES).await;
    world.deposit("home-a", "10").await;
    let (old, new, home) = (order_key("home-a"), key(12), home("home-a"));
    let first = traded(&mut world, 0, &old).await;
    let signed = introduction(&world, &home, &new, &old);
    bring(&world, &home, &signed, (at(1), true)).await.unwrap();
    let second = traded(&mut world, 2, &new).await;
    let id = |key: &SigningKey| PublicKey::of(key).id();
    let expected = format!(
        "key {} took the place of {}, and both have signed for that",
        id(&new),
        id(&old)
    );
    for trade in [first, second] {
        assert_eq!(told(&receipt_of(&world, trade).await), expected);
    }
    let good = receipt_of(&world, second).await;
    let failing = |change: &dyn Fn(&mut KeyChange)| {
        let mut receipt = good.clone();
        let history = receipt.participant_key_history.as_mut().unwrap();
        change(history.before.as_mut().unwrap());
        told(&receipt)
    };
    // The old key's signature is the last part of the introduction.
    let why = failing(&|change| {
        let entry = change.introduction.as_mut().unwrap();
        *entry.signed.last_mut().unwrap() ^= 1;
    });
    assert!(
        why.starts_with("FAILS key changes: the participant's key"),
        "{why}"
    );
    let word = failing(&|change| change.introduction = None);
    assert!(word.ends_with("by the operator's word alone"), "{word}");
}

#[tokio::test]
async fn a_change_of_keys_cannot_be_made_up() {
    let (keys, [first, second]) = changed().await;
    let (other, good) = (
        receipt_of(&keys.0, first).await,
        receipt_of(&keys.0, second).await,
    );
    let failing = |change: &dyn Fn(&mut Receipt)| {
        let mut receipt = good.clone();
        change(&mut receipt);
        told(&receipt)
    };
    let before = |receipt: &mut Receipt| -> KeyChange {
        let history = receipt.gateway_key_history.as_mut().unwrap();
        history.before.clone().unwrap()
    };
    let why = failing(&|r| {
        let change = before(r);
        r.gateway_key_history.as_mut().unwrap().after = Some(change);
    });
    assert!(why.contains("does not follow"), "{why}");
    let why = failing(&|r| {
        let change = before(r);
        r.participant_key_history.as_mut().unwrap().before = Some(change);
    });
    assert!(why.contains("of the same holder"), "{why}");
    let why = failing(&|r| {
        let history = r.gateway_key_history.as_mut().unwrap();
        let entry = history.before.as_mut().unwrap().introduction.as_mut();
        entry.unwrap().place.index -= 1;
    });
    assert!(
        why.contains("its introduction: it is not in the log"),
        "{why}"
    );
    let why = failing(&|r| {
        // The old key's signature is the last part of the introduction.
        let history = r.gateway_key_history.as_mut().unwrap();
        let entry = history.before.as_mut().unwrap().introduction.as_mut();
        *entry.unwrap().signed.last_mut().unwrap() ^= 1;
    });
    assert!(
        why.starts_with("FAILS key changes: the gateway's key"),
        "{why}"
    );
    let why = failing(&|r| r.gateway_key_history = Some(domain::receipt::KeyHistory::default()));
    assert!(why.contains("is empty"), "{why}");
    let why = failing(&|r| r.gateway_key_history = other.gateway_key_history.clone());
    assert!(why.contains("FAILS key changes"), "{why}");
}

/// The receipt of a reading whose key was revoked afterwards, and replaced on the word of a claim.
pub(crate) async fn revoked() -> Receipt {
    let mut keys = Keys(World::on_sqlite(&HOMES).await);
    keys.0.deposit("home-a", "10").await;
    let trade = traded(&mut keys.0, 0, &order_key("home-a")).await;
    let old = keys.0.gateway_key.clone();
    keys.revoke(&old, 9, at(5)).await.unwrap();
    keys.revoke(&old, 1, at(5)).await.unwrap();
    let claim = keys.claim_key(&code(1));
    let signed = keys.signed_claim(&code(1), at(5), 900);
    keys.open_claim(&signed, at(5)).await.unwrap();
    let request = keys.request(&key(11), &claim, (1, Digest32([0; 32])));
    let introduction = keys.introduction(&request, &key(11), &claim);
    keys.bring(&introduction, at(5)).await.unwrap();
    keys.0.checkpoint(at(6)).await;
    receipt_of(&keys.0, trade).await
}

/// Reading, then revocation: what was taken in before stays, and the receipt shows that it was before.
#[tokio::test]
async fn a_revoked_key_is_shown_with_what_came_before_the_word() {
    let receipt = revoked().await;
    let text = told(&receipt);
    for part in [
        "by a key that is not shown (",
        "; its signature was not checked), and has signed for itself; ",
        "revoked from sequence 9 and ",
        "(the box was stolen), which the reading is before; ",
        "revoked from sequence 1 and ",
        "(the box was stolen), which was said after the reading had come",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let failing = |change: &dyn Fn(&mut Receipt)| {
        let mut receipt = receipt.clone();
        change(&mut receipt);
        told(&receipt)
    };
    let words = |r: &mut Receipt| r.gateway_key_history.as_mut().unwrap().revocations.clone();
    let put = |r: &mut Receipt, words| r.gateway_key_history.as_mut().unwrap().revocations = words;
    let why = failing(&|r| {
        let mut words = words(r);
        words[1].reading_before = None;
        put(r, words);
    });
    assert!(why.ends_with(NOT_SHOWN), "{why}");
    // Who has a receipt can leave all of that out: then the verifier does not say that there was nothing.
    assert_eq!(failing(&|r| r.gateway_key_history = None), NONE_SHOWN);
    let why = failing(&|r| {
        let mut words = words(r);
        words[0].reading_before = words[1].reading_before.clone();
        put(r, words);
    });
    assert!(why.contains("shown without need"), "{why}");
    // A later checkpoint of the readings shows nothing.
    let why = failing(&|r| {
        let mut words = words(r);
        let index = words[1].word.place.index + 1;
        let before = words[1].reading_before.as_mut().unwrap();
        before.checkpoint = r.readings_checkpoint.clone();
        before.checkpoint.place.index = index;
        put(r, words);
    });
    assert!(why.contains("before the reading came"), "{why}");
    let why = failing(&|r| {
        let mut words = words(r);
        words.reverse();
        put(r, words);
    });
    assert!(why.contains("not in the order of the log"), "{why}");
}

/// Books of older programs have no checkpoint between a reading and the word that covers it.
#[tokio::test]
async fn a_reading_without_a_checkpoint_before_the_word_is_not_shown_to_have_come_before() {
    let mut keys = Keys(World::on_sqlite(&HOMES).await);
    keys.0.deposit("home-a", "10").await;
    let outcome = settled(&mut keys.0, 0, &order_key("home-a")).await;
    let trade = outcome.trades[0].id;
    let old = keys.0.gateway_key.clone();
    keys.revoke(&old, 1, at(5)).await.unwrap();
    keys.0.checkpoint(at(6)).await;
    let text = told(&receipt_of(&keys.0, trade).await);
    assert!(text.starts_with("revoked from sequence 1 and "), "{text}");
    assert!(text.ends_with(NOT_SHOWN), "{text}");
}

/// A reading that was taken in although its key had been revoked for it: only an operator who cheats has such books.
#[tokio::test]
async fn a_reading_that_came_after_the_word_is_not_shown_to_have_come_before() {
    let mut keys = Keys(World::on_sqlite(&HOMES).await);
    keys.0.deposit("home-a", "10").await;
    let old = keys.0.gateway_key.clone();
    keys.revoke(&old, 1, at(0)).await.unwrap();
    let mut tx = keys.0.db.begin().await.unwrap();
    let aside = "CREATE TABLE kept AS SELECT * FROM settle_revocations";
    for sql in [
        aside,
        "DROP TRIGGER settle_revocations_no_delete",
        "DELETE FROM settle_revocations",
    ] {
        tx.execute(sql, runtime::args![]).await.unwrap();
    }
    tx.commit().await.unwrap();
    let trade = traded(&mut keys.0, 0, &order_key("home-a")).await;
    let mut tx = keys.0.db.begin().await.unwrap();
    for sql in [
        "INSERT INTO settle_revocations SELECT * FROM kept",
        "DROP TABLE kept",
    ] {
        tx.execute(sql, runtime::args![]).await.unwrap();
    }
    tx.commit().await.unwrap();
    let why = told(&receipt_of(&keys.0, trade).await);
    assert!(why.ends_with(NOT_SHOWN), "{why}");
}
