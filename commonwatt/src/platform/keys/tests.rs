//! What a flood of words about keys costs: the rest of the minute, and never the books.

use domain::ids::PointId;
use domain::introduction::{KeyRequest, PointStart};
use domain::signed::{Message, PublicKey, SigningKey};
use runtime::mqtt::MqttEvent;

use super::*;
use crate::platform::Platform;
use crate::platform::door::Door;
use crate::platform::ingest::key_may_in;
use crate::platform::key_ring::tests::Bench;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// A new key of `holder`, introduced by one that nobody knows.
fn introduction(platform: &Platform, holder: KeyHolder) -> Vec<u8> {
    let (community, new, by) = (&platform.shared.community.id, key(50), key(51));
    let points = holder.gateway().map(|_| PointStart {
        point: PointId::new("ann.meter").unwrap(),
        first_sequence: 1,
        previous: Digest32([0; 32]),
    });
    let request = KeyRequest {
        key: PublicKey::of(&new),
        holder,
        introducer: PublicKey::of(&by).id(),
        points: points.into_iter().collect(),
        made_at: platform.shared.clock.now(),
    };
    let introduction = Introduction {
        key: PublicKey::of(&new),
        request: Signed::sign(&new, community, &request),
    };
    Signed::sign(&by, community, &introduction)
        .as_bytes()
        .to_vec()
}

fn gateway(name: &str) -> GatewayId {
    GatewayId::new(name).unwrap()
}

#[tokio::test]
async fn a_gateway_that_floods_its_topic_with_keys_keeps_no_other_waiting() {
    let bench = Bench::new(None);
    let platform = bench.open().await;
    let shared = &platform.shared;
    let mut door = Door::default();
    let mut knock = |topic: &str, payload: &[u8]| {
        let message = MqttEvent::Message {
            topic: format!("cw/v1/lane/{topic}"),
            payload: payload.to_vec(),
            retain: false,
        };
        key_may_in(shared, &mut door, &message)
    };
    let mine = introduction(&platform, gateway("gw-1").into());
    assert_eq!(knock("gw-1/enrol", &mine), Ok(()));
    // What shows by itself that it is refused is answered by name, and the books know nothing of it.
    let theirs = introduction(&platform, gateway("gw-2").into());
    for (rubbish, reason) in [
        (&b"no introduction"[..], KeyRefused::NotDeterministic),
        (&*theirs, KeyRefused::WrongNetwork),
    ] {
        let Err(Some(Told::Key(told, answer))) = knock("gw-1/enrol", rubbish) else {
            panic!("{reason}");
        };
        assert_eq!(told, gateway("gw-1"));
        let operator = PublicKey::of(&shared.community.operator);
        let answer = Signed::<KeyRefusal>::from_bytes(answer);
        let answer = answer.verify(operator, &shared.community.id).unwrap();
        assert_eq!(answer.message().reason, reason);
        assert_eq!(answer.message().introduction, Digest32::of(rubbish));
    }
    let answered = (3..100).take_while(|_| knock("gw-1/enrol", b"no introduction") != Err(None));
    assert_eq!(3 + answered.count(), 12);
    assert_eq!(knock("gw-1/enrol", &mine), Err(None));
    assert_eq!(knock("gw-2/enrol", &theirs), Ok(()));
    assert_eq!(knock("gw-1/reading", b"a reading"), Ok(()));
    assert_eq!(knock("gw-3/enrol", &mine), Err(None), "the site has none");
}

#[tokio::test]
async fn whose_word_it_is_shows_before_the_writer_hears_of_it() {
    let bench = Bench::new(None);
    let platform = bench.open().await;
    let shared = &platform.shared;
    let (now, ann) = (shared.clock.now(), ParticipantId::new("ann").unwrap());
    let revocation = |issued_at| Revocation {
        key: PublicKey::of(&key(60)).id(),
        holder: ann.clone().into(),
        from_sequence: 0,
        from: issued_at,
        reason: "lost".to_owned(),
        issued_at,
    };
    let claim = Claim {
        holder: ann.clone().into(),
        key: PublicKey::of(&key(60)),
        issued_at: now,
        expires_at: now.plus_s(900),
    };
    fn bytes<T: Message>(shared: &Shared, by: &SigningKey, word: &T) -> Vec<u8> {
        let signed = Signed::sign(by, &shared.community.id, word);
        signed.as_bytes().to_vec()
    }
    let operator = &shared.community.operator;
    let why = |word: KeyWord| word.refused_unasked(shared).unwrap_or_default();
    // The registry has no such key: that is for the books to say.
    let fresh = bytes(shared, operator, &revocation(now));
    assert_eq!(why(KeyWord::Revocation(fresh)), "");
    assert_eq!(why(KeyWord::Claim(bytes(shared, operator, &claim))), "");
    let own = introduction(&platform, ann.clone().into());
    assert_eq!(why(KeyWord::Introduction(own)), "");
    // Old words are public in the ledger log, so whoever likes has some.
    let old = bytes(shared, operator, &revocation(now.plus_s(-7200)));
    let old = why(KeyWord::Revocation(old));
    assert!(old.contains("say it again"), "{old}");
    let stranger = key(61);
    for word in [
        KeyWord::Revocation(bytes(shared, &stranger, &revocation(now))),
        KeyWord::Claim(bytes(shared, &stranger, &claim)),
        KeyWord::Claim(b"rubbish".to_vec()),
    ] {
        let why = why(word);
        assert!(why.contains("not the operator's word"), "{why}");
    }
    let nobody = ParticipantId::new("nobody").unwrap();
    let strange = why(KeyWord::Introduction(introduction(
        &platform,
        nobody.into(),
    )));
    assert!(strange.contains("no participant nobody"), "{strange}");
}

#[tokio::test]
async fn a_revocation_that_is_said_again_takes_no_turn_of_the_writers() {
    let bench = Bench::new(None);
    let platform = bench.open().await;
    let shared = &platform.shared;
    let now = shared.clock.now();
    let word = |key: &SigningKey| {
        let revocation = Revocation {
            key: PublicKey::of(key).id(),
            holder: ParticipantId::new("ann").unwrap().into(),
            from_sequence: 0,
            from: now,
            reason: "stolen".to_owned(),
            issued_at: now,
        };
        let community = &shared.community;
        let signed = Signed::sign(&community.operator, &community.id, &revocation);
        signed.as_bytes().to_vec()
    };
    let known = |word: &[u8]| KeyWord::Revocation(word.to_vec()).answer_unasked(shared);
    let stands = word(&shared.key_of_home(0));
    assert_eq!(known(&stands), None);
    let first = say(shared, KeyWord::Revocation(stands.clone()));
    let first = first.await.unwrap();
    assert!(matches!(first, KeyAnswer::Done(_)), "{first:?}");
    assert_eq!(known(&stands).as_ref(), Some(&first));
    // From the books it is the same.
    let again = say(shared, KeyWord::Revocation(stands.clone()));
    assert_eq!(again.await.unwrap(), first);
    // What was refused may stand once the key is there, so the books are asked each time.
    let strange = word(&key(60));
    let refused = say(shared, KeyWord::Revocation(strange.clone()));
    assert!(matches!(refused.await.unwrap(), KeyAnswer::Refused(_)));
    assert_eq!(known(&strange), None);
    // Bytes that stand as a revocation are no claim.
    let claim = KeyWord::Claim(stands).answer_unasked(shared);
    assert!(matches!(claim, Some(KeyAnswer::Refused(_))), "{claim:?}");
}

#[test]
fn so_many_answers_are_remembered_and_the_oldest_is_forgotten() {
    let said = Said::default();
    let word = |n: usize| Digest32::of(&n.to_be_bytes());
    for n in 0..=SAID_MAX {
        said.keep(word(n), &json!(n));
    }
    said.keep(word(SAID_MAX), &json!("the same word"));
    assert_eq!(said.answer(word(0)), None);
    assert_eq!(said.answer(word(1)), Some(json!(1)));
    assert_eq!(said.answer(word(SAID_MAX)), Some(json!("the same word")));
}
