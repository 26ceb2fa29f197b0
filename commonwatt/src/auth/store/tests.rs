//! Accounts in both databases: links once, sessions rotated, tokens within roles, and a list that only grows.

use super::*;

const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);
const HOUR_S: i64 = 3600;

fn new(name: &str, roles: &str, participant: Option<&str>) -> Account {
    Account {
        name: name.to_owned(),
        roles: Roles::from_words(roles).unwrap(),
        participant: participant.map(|id| ParticipantId::new(id).unwrap()),
        language: None,
    }
}

async fn life_of_an_account(db: &Db) {
    db.migrate(super::super::MIGRATIONS).await.unwrap();
    let ann = new("ann", "home", Some("home-01"));
    assert!(add(db, START, &ann).await.unwrap());
    assert!(!add(db, START, &ann).await.unwrap(), "again, no effect");
    assert!(add(db, START, &new("ann", "operator", None)).await.is_err());
    for bad in [
        new("bob", "", None),
        new("bob", "home", None),
        new("bob", "driver", Some("home-01")),
        new("Bob Smith", "driver", None),
    ] {
        assert!(add(db, START, &bad).await.is_err(), "{bad:?}");
    }

    let until = START.plus_s(HOUR_S);
    assert_eq!(link(db, (START, until), "nobody").await.unwrap(), None);
    let first = link(db, (START, until), "ann").await.unwrap().unwrap();
    assert_eq!(of_link(db, START, &first).await.unwrap(), Some(ann.clone()));
    assert_eq!(of_link(db, until, &first).await.unwrap(), None, "too late");
    let enter = async |secret: &str, before: Option<&str>| {
        sign_in(db, START, secret, before, "192.0.2.1")
            .await
            .unwrap()
    };
    let (who, one) = enter(&first, None).await.unwrap();
    assert_eq!(who, ann);
    assert_eq!(enter(&first, None).await, None, "a link is good once");
    assert_eq!(enter(&one, None).await, None, "a session is no link");
    let seen_at = async |session: &str, at| of_session(db, at, session).await.unwrap();
    assert_eq!(seen_at(&one, START).await, Some((ann.clone(), false)));
    assert_eq!(
        seen_at(&one, START.plus_s(300)).await,
        Some((ann.clone(), true))
    );
    let day_31 = START.plus_s(31 * 24 * HOUR_S);
    assert_eq!(seen_at(&one, day_31).await, None, "nobody came for a month");
    seen(db, START.plus_s(2 * 24 * HOUR_S), &one).await.unwrap();
    assert!(seen_at(&one, day_31).await.is_some());

    let second = link(db, (START, until), "ann").await.unwrap().unwrap();
    let (_, two) = enter(&second, Some(&one)).await.unwrap();
    assert_eq!(seen_at(&one, START).await, None, "the session is a new one");
    let by = By {
        account: "ann",
        address: "192.0.2.1",
    };
    sign_out(db, START, &two, by).await.unwrap();
    assert_eq!(seen_at(&two, START).await, None);

    token_within_roles(db).await;
    a_passkey(db, until).await;
    the_end(db, &ann).await;
}

/// What is revoked is over, and who did what stays.
async fn the_end(db: &Db, ann: &Account) {
    let until = START.plus_s(HOUR_S);
    let seen_at = async |session: &str, at| of_session(db, at, session).await.unwrap();
    let enter = async |secret: &str, before: Option<&str>| {
        sign_in(db, START, secret, before, "192.0.2.1")
            .await
            .unwrap()
    };
    let third = link(db, (START, until), "ann").await.unwrap().unwrap();
    let (_, three) = enter(&third, None).await.unwrap();
    assert!(revoke(db, START, "ann").await.unwrap());
    assert!(!revoke(db, START, "ann").await.unwrap());
    assert_eq!(seen_at(&three, START).await, None);
    assert_eq!(passkey::list(db, "ann").await.unwrap(), []);
    assert!(add(db, START, ann).await.is_err(), "never given twice");

    let deeds = audit(db, i64::MAX, 100).await.unwrap();
    assert_eq!(deeds.first().unwrap().action, "account revoked");
    assert_eq!(deeds.last().unwrap().action, "account added");
    let staff = audit_of_staff(db, 100).await.unwrap();
    assert!(deeds.iter().any(|deed| deed.account == "ann"));
    assert!(staff.iter().all(|deed| deed.account == OPERATOR));
    assert_eq!(
        staff.last(),
        deeds.last(),
        "a home's own deeds are left out"
    );
    let page = audit(db, deeds[1].id, 2).await.unwrap();
    assert_eq!(page, deeds[2..4]);
    for change in [
        "UPDATE account_audit SET detail = ''",
        "DELETE FROM account_audit",
    ] {
        let mut tx = db.begin().await.unwrap();
        assert!(tx.execute(change, args![]).await.is_err(), "{change}");
    }
    let all = list(db, "", 10).await.unwrap();
    assert_eq!((all.len(), all[0].revoked), (1, Some(START)));
}

/// A passkey signs its owner in while its counter is the one that was looked at.
async fn a_passkey(db: &Db, now: Timestamp) {
    let by = By {
        account: "ann",
        address: "192.0.2.1",
    };
    let key = |id: u8| passkey::Passkey {
        id: vec![id; 16],
        user_handle: vec![7; 32],
        transports: 1,
        fixed: vec![1, 2],
        changing: vec![1],
    };
    let add = async |id: u8| passkey::add(db, now, by, "phone", &key(id)).await;
    assert!(add(1).await.unwrap());
    assert!(!add(1).await.unwrap(), "there already");
    let known = passkey::of_id(db, &[1; 16]).await.unwrap().unwrap();
    assert_eq!((&known.passkey, known.used), (&key(1), None));
    let enter = async |changing: Vec<u8>| {
        let entered = passkey::sign_in(db, now, (&known, changing), None, "192.0.2.1");
        entered.await.unwrap()
    };
    let (who, session) = enter(vec![2]).await.unwrap();
    assert_eq!(who.name, "ann");
    assert!(of_session(db, now, &session).await.unwrap().is_some());
    assert_eq!(enter(vec![2]).await, None, "the counter has moved on");
    for id in 2..=u8::try_from(passkey::PASSKEYS_MAX).unwrap() {
        assert!(add(id).await.unwrap());
    }
    assert!(add(200).await.is_err(), "one too many");
    let remove = async |account: &str| {
        let removed = passkey::remove(db, now, (account, by), &[2; 16]);
        removed.await.unwrap()
    };
    assert!(!remove("bob").await, "another's");
    assert!(remove("ann").await && !remove("ann").await);
    let newest = &audit(db, i64::MAX, 1).await.unwrap()[0];
    assert_eq!(
        (newest.action.as_str(), newest.detail.as_str()),
        ("passkey removed", "ann phone")
    );
}

async fn token_within_roles(db: &Db) {
    let wish = |scopes: &str| NewToken {
        account: "ann",
        name: "home automation",
        scopes: Roles::from_words(scopes).unwrap(),
        read_only: true,
        expires: START.plus_s(HOUR_S),
    };
    assert!(add_token(db, START, &wish("operator")).await.is_err());
    let (id, token) = add_token(db, START, &wish("")).await.unwrap().unwrap();
    let (who, found, read_only) = of_token(db, START, &token).await.unwrap().unwrap();
    assert_eq!((who.name.as_str(), &found, read_only), ("ann", &id, true));
    assert_eq!(
        who.participant,
        Some(ParticipantId::new("home-01").unwrap())
    );
    let later = START.plus_s(HOUR_S);
    assert_eq!(of_token(db, later, &token).await.unwrap(), None, "expired");
    assert_eq!(of_token(db, START, &id).await.unwrap(), None);
    assert!(!revoke_token(db, START, "bob", &id).await.unwrap());
    assert!(revoke_token(db, START, "ann", &id).await.unwrap());
    assert!(!revoke_token(db, START, "ann", &id).await.unwrap());
    assert_eq!(of_token(db, START, &token).await.unwrap(), None);
    assert_eq!(tokens(db, "ann").await.unwrap()[0].revoked, Some(START));
}

#[tokio::test]
async fn the_life_of_an_account_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path().join("a.db").to_str().unwrap())
        .await
        .unwrap();
    life_of_an_account(&db).await;
    let until = START.plus_s(HOUR_S);
    let bob = new("bob", "driver", None);
    add(&db, START, &bob).await.unwrap();
    let mut links = Vec::new();
    for n in 0..=LINKS_MAX {
        let at = START.plus_s(n);
        links.push(link(&db, (at, until), "bob").await.unwrap().unwrap());
    }
    let oldest = of_link(&db, START, &links[0]).await.unwrap();
    assert_eq!(oldest, None, "the oldest link made room");
    assert!(of_link(&db, START, &links[1]).await.unwrap().is_some());
}

#[tokio::test]
async fn the_life_of_an_account_in_postgres() {
    let Some(server) = runtime::testing::postgres() else {
        return;
    };
    let db = Db::open(&server.url()).await.unwrap();
    life_of_an_account(&db).await;
    db.close().await;
}
