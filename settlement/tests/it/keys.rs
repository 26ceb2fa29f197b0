//! How gateways' keys come and go: by claim code, by the key before, by the operator's revocation; on
//! both databases.

use domain::claim::{Claim, ClaimCode};
use domain::ids::{Digest32, GatewayId, PointId};
use domain::introduction::{
    HANDOVERS_MAX, HANDOVERS_SPAN_S, Introduction, KeyRefused, KeyRequest, PointStart,
};
use domain::key_holder::KeyHolder;
use domain::key_record::{Holder, KeyRecord};
use domain::reading::Reading;
use domain::rejection::Rejection;
use domain::revocation::Revocation;
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use settlement::service::{
    CLAIM_ATTEMPTS_MAX, ReadingOutcome, Refusal, Revoked, ServiceError, acceptance, gateway_keys,
    gateway_public_key, introduce, open_claim, open_claims, revoke,
};

use crate::world::{START_S, World, interval, sign};

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn code(seed: u8) -> ClaimCode {
    ClaimCode::from_random([seed; 16])
}

pub(crate) fn at(n: i64) -> Timestamp {
    interval(n).start()
}

/// The world with what this file does to it.
pub(crate) struct Keys(pub(crate) World);

impl Keys {
    async fn on_sqlite() -> Self {
        Keys(World::on_sqlite(&["home-a"]).await)
    }

    fn holder(&self) -> KeyHolder {
        self.0.gateway.clone().into()
    }

    pub(crate) fn claim_key(&self, code: &ClaimCode) -> SigningKey {
        code.key(&self.0.community.id, &self.holder())
    }

    pub(crate) fn signed_claim(
        &self,
        code: &ClaimCode,
        now: Timestamp,
        life_s: i64,
    ) -> Signed<Claim> {
        let claim = Claim {
            holder: self.holder(),
            key: PublicKey::of(&self.claim_key(code)),
            issued_at: now,
            expires_at: now.plus_s(life_s),
        };
        Signed::sign(&self.0.community.operator, &self.0.community.id, &claim)
    }

    pub(crate) async fn open_claim(
        &self,
        signed: &Signed<Claim>,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let mut tx = self.0.db.begin().await.unwrap();
        let done = open_claim(&mut tx, &self.0.community, now, signed).await;
        tx.commit().await.unwrap();
        done.map(drop)
    }

    pub(crate) fn request(
        &self,
        new: &SigningKey,
        by: &SigningKey,
        start: (u64, Digest32),
    ) -> KeyRequest {
        KeyRequest {
            key: PublicKey::of(new),
            holder: self.holder(),
            introducer: PublicKey::of(by).id(),
            points: vec![PointStart {
                point: PointId::new("home-a").unwrap(),
                first_sequence: start.0,
                previous: start.1,
            }],
            made_at: at(0),
        }
    }

    pub(crate) fn introduction(
        &self,
        request: &KeyRequest,
        new: &SigningKey,
        by: &SigningKey,
    ) -> Signed<Introduction> {
        let community = &self.0.community.id;
        let introduction = Introduction {
            key: PublicKey::of(new),
            request: Signed::sign(new, community, request),
        };
        Signed::sign(by, community, &introduction)
    }

    pub(crate) async fn bring(
        &self,
        signed: &Signed<Introduction>,
        now: Timestamp,
    ) -> Result<KeyRecord, Refusal> {
        let World { db, community, .. } = &self.0;
        let points = self.0.points(&["home-a"]);
        let mut tx = db.begin().await.unwrap();
        let answer = introduce(&mut tx, community, now, &self.holder(), &points, signed).await;
        tx.commit().await.unwrap();
        let record = answer.unwrap()?;
        let operator = PublicKey::of(&community.operator);
        Ok(record
            .verify(operator, &community.id)
            .unwrap()
            .message()
            .clone())
    }

    async fn refused(&self, signed: &Signed<Introduction>, now: Timestamp) -> KeyRefused {
        self.bring(signed, now).await.unwrap_err().reason
    }

    pub(crate) async fn revoke(
        &self,
        of: &SigningKey,
        from_sequence: u64,
        from: Timestamp,
    ) -> Result<Revoked, ServiceError> {
        let word = Revocation {
            key: PublicKey::of(of).id(),
            holder: self.holder(),
            from_sequence,
            from,
            reason: "the box was stolen".to_owned(),
            issued_at: from,
        };
        let signed = Signed::sign(&self.0.community.operator, &self.0.community.id, &word);
        self.say(&signed, from).await
    }

    async fn say(
        &self,
        signed: &Signed<Revocation>,
        now: Timestamp,
    ) -> Result<Revoked, ServiceError> {
        let mut tx = self.0.db.begin().await.unwrap();
        let revoked = revoke(&mut tx, &self.0.community, now, signed).await;
        tx.commit().await.unwrap();
        revoked
    }

    /// The fate of a reading under a key: the flags, or why it was refused.
    async fn take(&self, by: &SigningKey, reading: &Reading) -> Result<Vec<Rejection>, Rejection> {
        let bytes = sign(by, &self.0.community, reading);
        match self.0.accept_bytes(bytes, at(10)).await {
            ReadingOutcome::Accepted { flags, .. } => Ok(flags),
            ReadingOutcome::Again { .. } => Ok(Vec::new()),
            ReadingOutcome::Rejected { reason, .. } => Err(reason),
        }
    }

    /// The readings of intervals 0 to `count`, and the first `old` of them signed with the old key.
    fn chain(&mut self, count: i64, old: i64, new: &SigningKey) -> Vec<Reading> {
        let mut previous = Digest32([0; 32]);
        let chained = (0..count).map(|n| {
            let reading = Reading {
                previous,
                ..self.0.read("home-a", n, 10, 0)
            };
            let by = if n < old { &self.0.gateway_key } else { new };
            previous = Digest32::of(&sign(by, &self.0.community, &reading));
            reading
        });
        chained.collect()
    }
}

/// A gateway changes its key so often in a day and no more; the key before goes on until the next one is in.
async fn a_gateways_key_is_changed_so_often_in_a_day(mut keys: Keys) {
    let (minute, start) = (|n: i64| at(0).plus_s(60 * n), (1, Digest32([0; 32])));
    let mut last = keys.0.gateway_key.clone();
    let most = u8::try_from(HANDOVERS_MAX).unwrap();
    for n in 0..most {
        let next = key(100 + n);
        let word = keys.introduction(&keys.request(&next, &last, start), &next, &last);
        keys.bring(&word, minute(n.into())).await.unwrap();
        last = next;
    }
    let next = key(90);
    let word = keys.introduction(&keys.request(&next, &last, start), &next, &last);
    let refused = keys.bring(&word, minute(most.into())).await.unwrap_err();
    let until = minute(0).plus_s(HANDOVERS_SPAN_S);
    assert_eq!(
        (refused.reason, refused.again_at),
        (KeyRefused::RateLimited, Some(until))
    );
    assert!(!refused.detail.contains("claim"), "{}", refused.detail);
    let before = keys.0.read("home-a", 1, 10, 0);
    assert_eq!(keys.take(&last, &before).await, Ok(vec![]));
    let record = keys.bring(&word, until).await.unwrap();
    assert_eq!(record.key, PublicKey::of(&next));
    keys.0.check().await;
}

#[tokio::test]
async fn a_gateways_key_is_changed_so_often_in_a_day_on_sqlite() {
    a_gateways_key_is_changed_so_often_in_a_day(Keys::on_sqlite().await).await;
}

#[tokio::test]
async fn a_gateways_key_is_changed_so_often_in_a_day_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a"]).await {
        a_gateways_key_is_changed_so_often_in_a_day(Keys(world)).await;
    }
}

async fn a_claim_code_lets_one_key_in_once(keys: Keys) {
    let (new, code) = (key(11), code(1));
    let claim = keys.claim_key(&code);
    let request = keys.request(&new, &claim, (1, Digest32([0; 32])));
    let introduction = keys.introduction(&request, &new, &claim);
    assert_eq!(
        keys.refused(&introduction, at(0)).await,
        KeyRefused::ClaimUnknown
    );
    let word = keys.signed_claim(&code, at(0), 900);
    keys.open_claim(&word, at(0)).await.unwrap();
    assert_eq!(open_claims(&keys.0.db, at(0)).await.unwrap().len(), 1);
    let record = keys.bring(&introduction, at(0)).await.unwrap();
    assert_eq!(
        (record.key, record.valid_from),
        (PublicKey::of(&new), at(0))
    );
    // The same again is answered the same; the code lets in nothing else, and is not revived.
    assert_eq!(keys.bring(&introduction, at(1)).await.unwrap(), record);
    keys.open_claim(&word, at(1)).await.unwrap();
    let other = keys.request(&key(12), &claim, (1, Digest32([0; 32])));
    let other = keys.introduction(&other, &key(12), &claim);
    assert_eq!(keys.refused(&other, at(0)).await, KeyRefused::ClaimUsed);
    assert!(open_claims(&keys.0.db, at(0)).await.unwrap().is_empty());
    let all = gateway_keys(&keys.0.db).await.unwrap();
    let states: Vec<_> = all.iter().map(|k| (k.kid, k.replaced)).collect();
    assert_eq!(
        states,
        [
            (PublicKey::of(&keys.0.gateway_key).id(), Some(at(0))),
            (PublicKey::of(&new).id(), None)
        ]
    );
    keys.0.check().await;
}

#[tokio::test]
async fn a_claim_code_lets_one_key_in_once_on_sqlite() {
    a_claim_code_lets_one_key_in_once(Keys::on_sqlite().await).await;
}

#[tokio::test]
async fn a_claim_code_lets_one_key_in_once_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a"]).await {
        a_claim_code_lets_one_key_in_once(Keys(world)).await;
    }
}

#[tokio::test]
async fn codes_expire_replace_each_other_and_bear_few_mistakes() {
    let keys = Keys::on_sqlite().await;
    let bring = |code: ClaimCode, now| {
        let keys = &keys;
        async move {
            let claim = keys.claim_key(&code);
            let request = keys.request(&key(11), &claim, (1, Digest32([0; 32])));
            let introduction = keys.introduction(&request, &key(11), &claim);
            keys.refused(&introduction, now).await
        }
    };
    keys.open_claim(&keys.signed_claim(&code(1), at(0), 900), at(0))
        .await
        .unwrap();
    assert_eq!(bring(code(1), at(1)).await, KeyRefused::ClaimExpired);
    keys.open_claim(&keys.signed_claim(&code(2), at(1), 9000), at(1))
        .await
        .unwrap();
    keys.open_claim(&keys.signed_claim(&code(3), at(1), 9000), at(1))
        .await
        .unwrap();
    assert_eq!(
        bring(code(2), at(1)).await,
        KeyRefused::ClaimExpired,
        "a newer code ends it"
    );
    for wrong in 0..CLAIM_ATTEMPTS_MAX {
        let wrong = code(100 + u8::try_from(wrong).unwrap());
        assert_eq!(bring(wrong, at(1)).await, KeyRefused::ClaimUnknown);
    }
    assert_eq!(bring(code(3), at(1)).await, KeyRefused::ClaimExhausted);
    // Only the operator's word of just now makes one.
    let old = keys.signed_claim(&code(4), at(0), 90_000);
    let late = keys.open_claim(&old, at(9)).await.unwrap_err().to_string();
    assert!(late.contains("within the last hour"), "{late}");
    let long = keys.signed_claim(&code(4), at(0), 40 * 86_400);
    assert!(keys.open_claim(&long, at(0)).await.is_err());
    let mut forged = keys.signed_claim(&code(4), at(0), 900).as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = keys.open_claim(&Signed::from_bytes(forged), at(0)).await;
    assert!(forged.unwrap_err().to_string().contains("not the operator"));
}

#[tokio::test]
async fn an_introduction_needs_both_signatures_and_its_own_gateway_and_points() {
    let keys = Keys::on_sqlite().await;
    let (new, claim) = (key(11), keys.claim_key(&code(1)));
    keys.open_claim(&keys.signed_claim(&code(1), at(0), 900), at(0))
        .await
        .unwrap();
    let good = keys.request(&new, &claim, (1, Digest32([0; 32])));
    let mut broken = keys.introduction(&good, &new, &claim).as_bytes().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let broken = Signed::from_bytes(broken);
    assert_eq!(keys.refused(&broken, at(0)).await, KeyRefused::BadSignature);
    // The new key's request signed by somebody else: the header names another key.
    let community = &keys.0.community.id;
    let stolen = Introduction {
        key: PublicKey::of(&new),
        request: Signed::sign(&key(12), community, &good),
    };
    let stolen = Signed::sign(&claim, community, &stolen);
    assert_eq!(
        keys.refused(&stolen, at(0)).await,
        KeyRefused::NotDeterministic
    );
    let elsewhere = KeyRequest {
        introducer: PublicKey::of(&key(12)).id(),
        ..good.clone()
    };
    let elsewhere = keys.introduction(&elsewhere, &new, &claim);
    assert_eq!(
        keys.refused(&elsewhere, at(0)).await,
        KeyRefused::BadSignature
    );
    let foreign = KeyRequest {
        holder: GatewayId::new("gateway-2").unwrap().into(),
        ..good.clone()
    };
    let foreign = keys.introduction(&foreign, &new, &claim);
    assert_eq!(
        keys.refused(&foreign, at(0)).await,
        KeyRefused::WrongNetwork
    );
    let mut strange = good.clone();
    strange.points[0].point = PointId::new("home-b").unwrap();
    let strange = keys.introduction(&strange, &new, &claim);
    assert_eq!(
        keys.refused(&strange, at(0)).await,
        KeyRefused::PointsRefused
    );
    let by_participant = crate::world::order_key("home-a");
    let order_key = keys.request(&new, &by_participant, (1, Digest32([0; 32])));
    let order_key = keys.introduction(&order_key, &new, &by_participant);
    assert_eq!(
        keys.refused(&order_key, at(0)).await,
        KeyRefused::WrongNetwork
    );
    let nonsense = Signed::from_bytes(vec![1, 2, 3]);
    assert_eq!(
        keys.refused(&nonsense, at(0)).await,
        KeyRefused::NotDeterministic
    );
    // None of that used the code.
    keys.bring(&keys.introduction(&good, &new, &claim), at(0))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_no_gateway_made_is_no_wrong_code() {
    let keys = Keys::on_sqlite().await;
    let (new, claim, wrong) = (key(11), keys.claim_key(&code(1)), keys.claim_key(&code(2)));
    let word = keys.signed_claim(&code(1), at(0), 900);
    keys.open_claim(&word, at(0)).await.unwrap();
    let community = &keys.0.community.id;
    let mistyped = keys.request(&new, &wrong, (1, Digest32([0; 32])));
    let stolen = Introduction {
        key: PublicKey::of(&new),
        request: Signed::sign(&key(12), community, &mistyped),
    };
    let elsewhere = KeyRequest {
        holder: GatewayId::new("gateway-2").unwrap().into(),
        ..mistyped.clone()
    };
    let good = keys.request(&new, &claim, (1, Digest32([0; 32])));
    let another_kind = Signed::sign(&wrong, community, &good).as_bytes().to_vec();
    let garbage = [
        (vec![1, 2, 3], KeyRefused::NotDeterministic),
        (another_kind, KeyRefused::NotDeterministic),
        (
            Signed::sign(&wrong, community, &stolen).as_bytes().to_vec(),
            KeyRefused::NotDeterministic,
        ),
        (
            keys.introduction(&good, &new, &wrong).as_bytes().to_vec(),
            KeyRefused::BadSignature,
        ),
        (
            keys.introduction(&elsewhere, &new, &wrong)
                .as_bytes()
                .to_vec(),
            KeyRefused::WrongNetwork,
        ),
    ];
    let attempts = async || open_claims(&keys.0.db, at(0)).await.unwrap()[0].attempts;
    for (bytes, reason) in garbage {
        let refused = keys.refused(&Signed::from_bytes(bytes), at(0)).await;
        assert_eq!((refused, attempts().await), (reason, 0));
    }
    let mistyped = keys.introduction(&mistyped, &new, &wrong);
    let refused = keys.refused(&mistyped, at(0)).await;
    assert_eq!((refused, attempts().await), (KeyRefused::ClaimUnknown, 1));
}

#[tokio::test]
async fn the_introduction_of_a_key_that_is_revoked_by_now_gives_no_record() {
    let keys = Keys::on_sqlite().await;
    let (new, claim) = (key(11), keys.claim_key(&code(1)));
    keys.open_claim(&keys.signed_claim(&code(1), at(0), 900), at(0))
        .await
        .unwrap();
    let request = keys.request(&new, &claim, (1, Digest32([0; 32])));
    let introduction = keys.introduction(&request, &new, &claim);
    keys.bring(&introduction, at(0)).await.unwrap();
    keys.revoke(&new, 1, at(1)).await.unwrap();
    assert_eq!(
        keys.refused(&introduction, at(2)).await,
        KeyRefused::KeyTaken
    );
}

async fn a_rotation_loses_nothing(mut keys: Keys) {
    let (old, new) = (keys.0.gateway_key.clone(), key(11));
    let readings = keys.chain(6, 3, &new);
    assert_eq!(keys.take(&old, &readings[0]).await, Ok(vec![]));
    // What the new key signs waits until it is enrolled, which may be long after it began to sign.
    assert_eq!(
        keys.take(&new, &readings[3]).await,
        Err(Rejection::UnknownKey)
    );
    let handover = (readings[3].sequence, readings[3].previous);
    let request = keys.request(&new, &old, handover);
    let introduction = keys.introduction(&request, &new, &old);
    let record = keys.bring(&introduction, at(5)).await.unwrap();
    assert_eq!(record.key, PublicKey::of(&new));
    assert_eq!(keys.bring(&introduction, at(6)).await.unwrap(), record);
    // Newest first, as after an outage; what the old key signed before comes last.
    for n in [3, 4, 5] {
        assert_eq!(keys.take(&new, &readings[n]).await, Ok(vec![]), "{n}");
    }
    for n in [1, 2, 0] {
        assert_eq!(keys.take(&old, &readings[n]).await, Ok(vec![]), "{n}");
    }
    // The old key's time is over by sequence, and it vouches for nobody any more.
    let beyond = Reading {
        sequence: readings[3].sequence,
        ..readings[2].clone()
    };
    assert_eq!(keys.take(&old, &beyond).await, Err(Rejection::KeyRevoked));
    let second = keys.request(&key(12), &old, handover);
    let second = keys.introduction(&second, &key(12), &old);
    assert_eq!(keys.refused(&second, at(6)).await, KeyRefused::KeyReplaced);
    let back = keys.request(&old, &new, handover);
    let back = keys.introduction(&back, &old, &new);
    assert_eq!(keys.refused(&back, at(6)).await, KeyRefused::KeyTaken);
    let mut source = &keys.0.db;
    let point = PointId::new("home-a").unwrap();
    let World {
        community, gateway, ..
    } = &keys.0;
    let word = acceptance(&mut source, community, at(6), gateway, &point);
    let operator = PublicKey::of(&community.operator);
    let word = word.await.unwrap().verify(operator, &community.id).unwrap();
    let word = word.message();
    assert_eq!((word.accepted_up_to, &word.missing), (Some(6), &vec![]));
    keys.0.check().await;
}

#[tokio::test]
async fn a_rotation_loses_nothing_on_sqlite() {
    a_rotation_loses_nothing(Keys::on_sqlite().await).await;
}

#[tokio::test]
async fn a_rotation_loses_nothing_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a"]).await {
        a_rotation_loses_nothing(Keys(world)).await;
    }
}

async fn a_revoked_key_ends_by_sequence_and_by_time(mut keys: Keys) {
    let (old, new) = (keys.0.gateway_key.clone(), key(11));
    let readings = keys.chain(6, 6, &new);
    for reading in [&readings[0], &readings[3]] {
        assert!(keys.take(&old, reading).await.is_ok());
    }
    let stranger = keys.revoke(&key(77), 1, at(4)).await.unwrap_err();
    assert!(stranger.to_string().contains("has no key"), "{stranger}");
    let trusted = async |keys: &Keys, key: &SigningKey| {
        let kid = PublicKey::of(key).id();
        let held = gateway_public_key(&keys.0.db, kid).await.unwrap();
        held.map(|(gateway, _)| gateway)
    };
    assert_eq!(trusted(&keys, &old).await, Some(keys.0.gateway.clone()));
    // By time: no sequence helps where the interval ends later.
    let by_time = keys.revoke(&old, 100, at(5)).await.unwrap();
    assert_eq!(by_time.already_accepted, 0);
    assert_eq!(
        trusted(&keys, &old).await,
        None,
        "its answers count no more"
    );
    assert_eq!(
        keys.take(&old, &readings[5]).await,
        Err(Rejection::KeyRevoked)
    );
    // By sequence, and then both words hold.
    let revoked = keys.revoke(&old, 4, at(5)).await.unwrap();
    assert_eq!(revoked.already_accepted, 1, "what is in the books stays");
    // Said again, it changes nothing: no third entry.
    let again = Signed::sign(
        &keys.0.community.operator,
        &keys.0.community.id,
        &revoked.revocation,
    );
    assert_eq!(keys.say(&again, at(5)).await.unwrap(), revoked);
    let (count,): (i64,) = keys
        .0
        .db
        .fetch_one("SELECT COUNT(*) FROM settle_revocations", runtime::args![])
        .await
        .unwrap();
    assert_eq!(count, 2);
    // Earlier sequences that are still on their way are taken; later ones, and later times, are not.
    assert!(keys.take(&old, &readings[2]).await.is_ok());
    assert_eq!(
        keys.take(&old, &readings[4]).await,
        Err(Rejection::KeyRevoked)
    );
    assert_eq!(
        keys.take(&old, &readings[3]).await,
        Ok(vec![]),
        "it was accepted before"
    );
    // It vouches for nobody; a claim code lets in another key, which begins anew, and the gap shows.
    let request = keys.request(&new, &old, (5, readings[4].previous));
    let introduction = keys.introduction(&request, &new, &old);
    assert_eq!(
        keys.refused(&introduction, at(6)).await,
        KeyRefused::KeyRevoked
    );
    let claim = keys.claim_key(&code(1));
    keys.open_claim(&keys.signed_claim(&code(1), at(6), 900), at(6))
        .await
        .unwrap();
    let request = keys.request(&new, &claim, (1, Digest32([0; 32])));
    keys.bring(&keys.introduction(&request, &new, &claim), at(6))
        .await
        .unwrap();
    let first = Reading {
        sequence: 1,
        interval: interval(7),
        previous: Digest32([0; 32]),
        ..readings[5].clone()
    };
    assert_eq!(
        keys.take(&new, &first).await,
        Ok(vec![Rejection::ChainBreak])
    );
    let listed = gateway_keys(&keys.0.db).await.unwrap();
    let word = listed[0].revoked.as_ref().unwrap();
    assert_eq!((word.from_sequence, word.from), (4, at(5)));
    assert!(listed[1].revoked.is_none() && listed[1].replaced.is_none());
    keys.0.check().await;
}

#[tokio::test]
async fn a_revoked_key_ends_by_sequence_and_by_time_on_sqlite() {
    a_revoked_key_ends_by_sequence_and_by_time(Keys::on_sqlite().await).await;
}

#[tokio::test]
async fn a_revoked_key_ends_by_sequence_and_by_time_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a"]).await {
        a_revoked_key_ends_by_sequence_and_by_time(Keys(world)).await;
    }
}

#[tokio::test]
async fn what_is_said_about_keys_cannot_be_unsaid() {
    let keys = Keys::on_sqlite().await;
    let old = keys.0.gateway_key.clone();
    keys.revoke(&old, 1, Timestamp::from_unix_s(START_S))
        .await
        .unwrap();
    for statement in [
        "DELETE FROM settle_revocations",
        "UPDATE settle_revocations SET from_sequence = 99",
    ] {
        let mut tx = keys.0.db.begin().await.unwrap();
        let refused = tx.execute(statement, runtime::args![]).await.unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
    let holder = Holder::Gateway {
        gateway: keys.0.gateway.clone(),
        points: keys.0.points(&["home-a"]),
    };
    let record = KeyRecord {
        key: PublicKey::of(&old),
        holder,
        valid_from: at(0),
    };
    let mut tx = keys.0.db.begin().await.unwrap();
    settlement::service::enrol(&mut tx, &keys.0.community, at(0), record)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(
        gateway_keys(&keys.0.db).await.unwrap()[0].revoked.is_some(),
        "entering it again does not revive it"
    );
}
