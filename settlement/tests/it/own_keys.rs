//! How participants' keys come and go: by claim code, by the key before, by the operator's revocation; on both databases.

use domain::claim::Claim;
use domain::ids::{Digest32, GatewayId, PointId};
use domain::introduction::{
    HANDOVERS_MAX, HANDOVERS_SPAN_S, Introduction, KeyRefused, KeyRequest, PointStart,
};
use domain::key_holder::KeyHolder;
use domain::key_record::{Holder, KeyRecord};
use domain::revocation::Revocation;
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Db;
use settlement::service::{
    Refusal, ServiceError, check_books, introduce, open_claim, open_claims, participant_keys,
    revoke,
};
use settlement::store::MIGRATIONS;

use crate::keys::{at, code, key};
use crate::world::{World, order_key, who};

pub(crate) fn home(name: &str) -> KeyHolder {
    who(name).into()
}

/// The new key's request for this holder, and the word of the key that vouches.
pub(crate) fn introduction(
    world: &World,
    holder: &KeyHolder,
    new: &SigningKey,
    by: &SigningKey,
) -> Signed<Introduction> {
    let start = PointStart {
        point: PointId::new("home-a").unwrap(),
        first_sequence: 1,
        previous: Digest32([0; 32]),
    };
    let points = holder.gateway().map(|_| start);
    let request = KeyRequest {
        key: PublicKey::of(new),
        holder: holder.clone(),
        introducer: PublicKey::of(by).id(),
        points: points.into_iter().collect(),
        made_at: at(0),
    };
    let introduction = Introduction {
        key: request.key,
        request: Signed::sign(new, &world.community.id, &request),
    };
    Signed::sign(by, &world.community.id, &introduction)
}

/// Brings an introduction; what a case changes can be left out of the books.
pub(crate) async fn bring(
    world: &World,
    holder: &KeyHolder,
    signed: &Signed<Introduction>,
    (now, keep): (Timestamp, bool),
) -> Result<KeyRecord, Refusal> {
    let points = match holder {
        KeyHolder::Gateway(_) => world.points(&["home-a"]),
        KeyHolder::Participant(_) => Vec::new(),
    };
    let community = &world.community;
    let mut tx = world.db.begin().await.unwrap();
    let answer = introduce(&mut tx, community, now, holder, &points, signed).await;
    if keep {
        tx.commit().await.unwrap();
    }
    let operator = PublicKey::of(&community.operator);
    let record = answer.unwrap()?.verify(operator, &community.id).unwrap();
    Ok(record.message().clone())
}

async fn claimed(world: &World, holder: &KeyHolder, seed: u8, now: Timestamp) -> SigningKey {
    let key = code(seed).key(&world.community.id, holder);
    let claim = Claim {
        holder: holder.clone(),
        key: PublicKey::of(&key),
        issued_at: now,
        expires_at: now.plus_s(900),
    };
    let signed = Signed::sign(&world.community.operator, &world.community.id, &claim);
    let mut tx = world.db.begin().await.unwrap();
    let open = open_claim(&mut tx, &world.community, now, &signed).await;
    open.unwrap();
    tx.commit().await.unwrap();
    key
}

async fn revoked(world: &World, holder: &KeyHolder, key: &SigningKey) -> Result<(), ServiceError> {
    let word = Revocation {
        key: PublicKey::of(key).id(),
        holder: holder.clone(),
        from_sequence: 0,
        from: at(4),
        reason: "the phone was stolen".to_owned(),
        issued_at: at(4),
    };
    let signed = Signed::sign(&world.community.operator, &world.community.id, &word);
    let mut tx = world.db.begin().await.unwrap();
    let done = revoke(&mut tx, &world.community, at(4), &signed).await;
    tx.commit().await.unwrap();
    done.map(drop)
}

/// Each of a participant's keys that the registry has: the key, and whether it counts.
async fn states(world: &World, name: &str) -> Vec<(PublicKey, bool)> {
    let all = participant_keys(&world.db).await.unwrap();
    let own = all.iter().filter(|key| key.participant == who(name));
    own.map(|key| (key.key, key.is_valid())).collect()
}

#[tokio::test]
async fn nobody_introduces_a_key_for_another_holder() {
    let world = World::on_sqlite(&["home-a", "home-b"]).await;
    let (a, b) = (home("home-a"), home("home-b"));
    let gateway = KeyHolder::Gateway(world.gateway.clone());
    let [key_a, key_b] = ["home-a", "home-b"].map(order_key);
    let gateway_key = world.gateway_key.clone();
    let (claim_a, claim_b) = (
        claimed(&world, &a, 1, at(0)).await,
        claimed(&world, &b, 2, at(0)).await,
    );
    let claim_gateway = claimed(&world, &gateway, 1, at(0)).await;
    let no_claim = code(9).key(&world.community.id, &a);
    let (new, elsewhere) = (key(11), Err(KeyRefused::WrongNetwork));
    let table = [
        ("its key before", &a, &key_a, &new, Ok(())),
        ("its claim code", &a, &claim_a, &new, Ok(())),
        ("a neighbour's key", &a, &key_b, &new, elsewhere),
        ("a neighbour's code", &a, &claim_b, &new, elsewhere),
        ("a gateway's key", &a, &gateway_key, &new, elsewhere),
        ("a gateway's code", &a, &claim_gateway, &new, elsewhere),
        (
            "a participant's key for a gateway",
            &gateway,
            &key_a,
            &new,
            elsewhere,
        ),
        (
            "a participant's code for a gateway",
            &gateway,
            &claim_a,
            &new,
            elsewhere,
        ),
        (
            "no code",
            &a,
            &no_claim,
            &new,
            Err(KeyRefused::ClaimUnknown),
        ),
        (
            "a neighbour's key as the new one",
            &a,
            &claim_a,
            &key_b,
            Err(KeyRefused::KeyTaken),
        ),
        (
            "a gateway's key as the new one",
            &a,
            &claim_a,
            &gateway_key,
            Err(KeyRefused::KeyTaken),
        ),
        (
            "the same key once more",
            &a,
            &key_a,
            &key_a,
            Err(KeyRefused::KeyTaken),
        ),
    ];
    for (what, holder, by, new, expect) in table {
        let signed = introduction(&world, holder, new, by);
        let got = bring(&world, holder, &signed, (at(0), false)).await;
        let got = got.map(drop).map_err(|refusal| refusal.reason);
        assert_eq!(got, expect, "{what}");
    }
    // Meant for one holder, brought as another's.
    let signed = introduction(&world, &b, &new, &key_b);
    let got = bring(&world, &a, &signed, (at(0), false)).await;
    assert_eq!(got.unwrap_err().reason, KeyRefused::WrongNetwork);
}

/// Why a new key of home-a is not let in on another's word.
async fn refusal(world: &World, new: &SigningKey, by: &SigningKey, now: Timestamp) -> KeyRefused {
    let signed = introduction(world, &home("home-a"), new, by);
    let answer = bring(world, &home("home-a"), &signed, (now, true)).await;
    answer.unwrap_err().reason
}

/// With both keys; said again it gives the record again. The key before vouches for nobody any more, and does not come back.
async fn handed_over(world: &World, old: &SigningKey, new: &SigningKey) -> Signed<Introduction> {
    let (a, public) = (home("home-a"), PublicKey::of);
    let signed = introduction(world, &a, new, old);
    let record = bring(world, &a, &signed, (at(2), true)).await.unwrap();
    assert_eq!(record.holder, Holder::Participant(who("home-a")));
    assert_eq!((record.key, record.valid_from), (public(new), at(2)));
    let again = bring(world, &a, &signed, (at(3), true)).await;
    assert_eq!(again, Ok(record));
    assert_eq!(
        states(world, "home-a").await,
        [(public(old), false), (public(new), true)]
    );
    assert_eq!(
        states(world, "home-b").await,
        [(public(&order_key("home-b")), true)]
    );
    let replaced = refusal(world, &key(12), old, at(3)).await;
    assert_eq!(replaced, KeyRefused::KeyReplaced);
    let back = refusal(world, old, new, at(3)).await;
    assert_eq!(back, KeyRefused::KeyTaken);
    signed
}

/// It vouches for nobody, and the introduction that let it in gives no record.
async fn ended(world: &World, key_of_a: &SigningKey, let_in: &Signed<Introduction>) {
    let a = home("home-a");
    let stranger = revoked(world, &a, &order_key("home-b")).await.unwrap_err();
    assert!(
        stranger
            .to_string()
            .contains("participant home-a has no key"),
        "{stranger}"
    );
    let other = KeyHolder::Gateway(GatewayId::new("home-a").unwrap());
    assert!(
        revoked(world, &other, key_of_a).await.is_err(),
        "not a gateway's"
    );
    revoked(world, &a, key_of_a).await.unwrap();
    revoked(world, &a, key_of_a).await.unwrap();
    let states = states(world, "home-a").await;
    assert!(states.iter().all(|(_, valid)| !valid));
    let next = refusal(world, &key(12), key_of_a, at(5)).await;
    assert_eq!(next, KeyRefused::KeyRevoked);
    let again = bring(world, &a, let_in, (at(5), true)).await.unwrap_err();
    assert_eq!(again.reason, KeyRefused::KeyTaken);
}

/// Wrong codes use nothing up: whoever likes may bring them. A newer code ends the one before; a code is good once.
async fn let_in_by_code(world: &World) {
    let a = home("home-a");
    let claim = claimed(world, &a, 1, at(5)).await;
    for n in 20..35 {
        let wrong = code(n).key(&world.community.id, &a);
        let wrong = refusal(world, &key(12), &wrong, at(5)).await;
        assert_eq!(wrong, KeyRefused::ClaimUnknown);
    }
    let open = open_claims(&world.db, at(5)).await.unwrap();
    assert_eq!((open.len(), &open[0].holder), (1, &a));
    let newer = claimed(world, &a, 2, at(5)).await;
    let late = refusal(world, &key(12), &claim, at(5)).await;
    assert_eq!(late, KeyRefused::ClaimExpired);
    let fits = introduction(world, &a, &key(12), &newer);
    let record = bring(world, &a, &fits, (at(5), true)).await.unwrap();
    let enrolled = (PublicKey::of(&key(12)), at(5));
    assert_eq!((record.key, record.valid_from), enrolled);
    let twice = refusal(world, &key(13), &newer, at(5)).await;
    assert_eq!(twice, KeyRefused::ClaimUsed);
}

async fn a_participants_key_lives_as_a_gateways_does(world: World) {
    let (old, new) = (order_key("home-a"), key(11));
    let signed = handed_over(&world, &old, &new).await;
    ended(&world, &new, &signed).await;
    let_in_by_code(&world).await;
    let states = states(&world, "home-a").await;
    let states: Vec<bool> = states.iter().map(|one| one.1).collect();
    assert_eq!(states, [false, false, true]);
    check_books(&world.db).await.unwrap();
}

#[tokio::test]
async fn a_participants_key_lives_as_a_gateways_does_on_sqlite() {
    a_participants_key_lives_as_a_gateways_does(World::on_sqlite(&["home-a", "home-b"]).await)
        .await;
}

#[tokio::test]
async fn a_participants_key_lives_as_a_gateways_does_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a", "home-b"]).await {
        a_participants_key_lives_as_a_gateways_does(world).await;
    }
}

/// A home changes its key so often in a day and no more; an operator's code lets in whatever the number.
async fn a_key_is_changed_so_often_in_a_day(world: World) {
    let (a, minute) = (home("home-a"), |n: i64| at(2).plus_s(60 * n));
    let (mut last, mut last_word) = (order_key("home-a"), None);
    let most = u8::try_from(HANDOVERS_MAX).unwrap();
    for n in 0..most {
        let next = key(100 + n);
        let signed = introduction(&world, &a, &next, &last);
        let now = minute(n.into());
        bring(&world, &a, &signed, (now, true)).await.unwrap();
        (last, last_word) = (next, Some(signed));
    }
    let (next, now) = (key(90), minute(most.into()));
    let signed = introduction(&world, &a, &next, &last);
    let refused = bring(&world, &a, &signed, (now, true)).await.unwrap_err();
    let until = minute(0).plus_s(HANDOVERS_SPAN_S);
    assert_eq!(
        (refused.reason, refused.again_at),
        (KeyRefused::RateLimited, Some(until))
    );
    assert!(
        refused.detail.contains(&format!("after {until}, or make")),
        "{}",
        refused.detail
    );
    // Saying the last one again is no change, and the neighbour has changed nothing yet.
    let again = bring(&world, &a, &last_word.unwrap(), (now, true)).await;
    assert_eq!(again.unwrap().key, PublicKey::of(&last));
    let b = introduction(&world, &home("home-b"), &key(91), &order_key("home-b"));
    bring(&world, &home("home-b"), &b, (now, true))
        .await
        .unwrap();
    let just_before = until.plus_ms(-1);
    let refused = bring(&world, &a, &signed, (just_before, true)).await;
    assert_eq!(refused.unwrap_err().reason, KeyRefused::RateLimited);
    let record = bring(&world, &a, &signed, (until, true)).await.unwrap();
    assert_eq!(record.key, PublicKey::of(&next));
    let claim = claimed(&world, &a, 1, until).await;
    let by_code = introduction(&world, &a, &key(92), &claim);
    bring(&world, &a, &by_code, (until, true)).await.unwrap();
    world.check().await;
}

#[tokio::test]
async fn a_key_is_changed_so_often_in_a_day_on_sqlite() {
    a_key_is_changed_so_often_in_a_day(World::on_sqlite(&["home-a", "home-b"]).await).await;
}

#[tokio::test]
async fn a_key_is_changed_so_often_in_a_day_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a", "home-b"]).await {
        a_key_is_changed_so_often_in_a_day(world).await;
    }
}

/// Books from before participants could be named.
async fn codes_and_revocations_of_before_are_kept(db: Db) {
    let before = MIGRATIONS.iter().filter(|step| step.version < 3200);
    let before: Vec<_> = before.cloned().collect();
    db.migrate(&before).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.execute(
        "INSERT INTO settle_claims (kid, gateway, public, signed, issued_ms, expires_ms, attempts)
         VALUES ($1, 'gw-1', $1, $1, 1, 9, 2)",
        args![[7; 8]],
    )
    .await
    .unwrap();
    tx.execute(
        "INSERT INTO settle_revocations
         (kid, log_index, digest, gateway, from_sequence, from_ms, reason, signed, at_ms)
         VALUES ($1, 3, $1, 'gw-1', 4, 5, 'stolen', $1, 6)",
        args![[7; 8]],
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    db.migrate(MIGRATIONS).await.unwrap();
    let open = open_claims(&db, Timestamp::from_unix_ms(2)).await.unwrap();
    let gateway = KeyHolder::Gateway(GatewayId::new("gw-1").unwrap());
    assert_eq!(
        (open.len(), &open[0].holder, open[0].attempts),
        (1, &gateway, 2)
    );
    let kept: Vec<(String, i64, i64, String)> = db
        .fetch_all(
            "SELECT gateway, from_sequence, from_ms, reason FROM settle_revocations",
            args![],
        )
        .await
        .unwrap();
    assert_eq!(kept, [("gw-1".to_owned(), 4, 5, "stolen".to_owned())]);
    for statement in [
        "DELETE FROM settle_revocations",
        "UPDATE settle_revocations SET from_sequence = 99",
    ] {
        let mut tx = db.begin().await.unwrap();
        assert!(tx.execute(statement, args![]).await.is_err(), "{statement}");
    }
}

#[tokio::test]
async fn codes_and_revocations_of_before_are_kept_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old.db");
    let db = Db::open(file.to_str().unwrap()).await.unwrap();
    codes_and_revocations_of_before_are_kept(db).await;
}

#[tokio::test]
async fn codes_and_revocations_of_before_are_kept_on_postgres() {
    if let Some(server) = runtime::testing::postgres() {
        let db = Db::open(&server.url()).await.unwrap();
        codes_and_revocations_of_before_are_kept(db).await;
    }
}
