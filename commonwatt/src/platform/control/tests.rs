//! Commands and answers in the books, on both databases.

use std::path::Path;

use domain::command::{Act, Outcome, SetPoint};
use domain::ids::ParticipantId;
use domain::key_record::{Holder, KeyRecord};
use domain::revocation::Revocation;
use domain::signed::SigningKey;
use domain::time::Timestamp;
use runtime::clock::Clock;
use settlement::log::checkpoint::Log;

use super::*;
use crate::platform::Platform;
use crate::platform::keys::say;
use crate::platform::{KeyAnswer, KeyWord};
use crate::site::{DataDir, Site, public_key_text};

const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);

/// A platform whose two gateways are enrolled.
struct Bench {
    platform: Platform,
    _dir: tempfile::TempDir,
}

fn gateway(number: u8) -> GatewayId {
    GatewayId::new(format!("gw-{number}")).unwrap()
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn site() -> Site {
    let mut text = "community = \"lane\"\nparticipants = []\n\
        [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
        [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n"
        .to_owned();
    for number in [1, 2] {
        text += &format!(
            "[[gateways]]\nid = \"gw-{number}\"\npublic_key = \"{}\"\npassword_sha256 = \"{}\"\npoints = []\n",
            public_key_text(PublicKey::of(&key(number))),
            "0".repeat(64)
        );
    }
    Site::from_toml(&text, Path::new("site.toml")).unwrap()
}

impl Bench {
    async fn on(db: Db) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, _lock) = DataDir::take(dir.path()).unwrap();
        let clock = Clock::scaled(START, 1);
        let platform = crate::platform::open(site(), &data, db, clock).await;
        Bench {
            platform: platform.unwrap(),
            _dir: dir,
        }
    }

    fn command(&self, sequence: u64, to: GatewayId) -> Vec<u8> {
        let community = &self.platform.shared.community;
        let command = Command {
            gateway: to,
            device: "battery".into(),
            sequence,
            issued_at: START,
            act: Act::Set {
                set_point: SetPoint::BatteryPowerW,
                value: 2_000,
                expires_at: START.plus_s(900),
            },
        };
        let signed = Signed::sign(&community.operator, &community.id, &command);
        signed.as_bytes().to_vec()
    }

    /// An answer to a command, signed by gateway `by` and sent as `sender`.
    async fn answer(&self, command: Digest32, by: u8, sender: u8) -> anyhow::Result<()> {
        let ack = Ack {
            gateway: gateway(sender),
            command,
            at: START,
            outcome: Outcome::Confirmed {
                value: 2_000,
                clamped_by: None,
            },
        };
        let community = &self.platform.shared.community.id;
        let payload = Signed::sign(&key(by), community, &ack).as_bytes().to_vec();
        hear(&self.platform.shared, &gateway(sender), payload).await
    }

    async fn revoke(&self, number: u8) {
        let community = &self.platform.shared.community;
        let word = Revocation {
            key: PublicKey::of(&key(number)).id(),
            holder: gateway(number).into(),
            from_sequence: 1,
            from: START,
            reason: "the box was stolen".into(),
            issued_at: START,
        };
        let signed = Signed::sign(&community.operator, &community.id, &word);
        let word = KeyWord::Revocation(signed.as_bytes().to_vec());
        let said = say(&self.platform.shared, word).await.unwrap();
        assert!(matches!(said, KeyAnswer::Done(_)), "{said:?}");
    }

    async fn is_refused(&self, sql: &'static str) -> String {
        let mut tx = self.platform.shared.db.begin().await.unwrap();
        tx.execute(sql, args![]).await.unwrap_err().to_string()
    }
}

/// Of the battery behind gateway 1, with the word of whose it is.
async fn last_word(shared: &Shared, s: i64) -> Option<(u64, Option<&'static str>)> {
    let battery = ("battery", SetPoint::BatteryPowerW);
    let last = last(&shared.db, &gateway(1), battery, START.plus_s(s)).await;
    last.unwrap()
        .map(|last| (last.command.sequence, last.origin.word()))
}

async fn the_last_word_to_a_set_point_is_found_whoever_said_it(bench: Bench) {
    let shared = &bench.platform.shared;
    assert_eq!(last_word(shared, 0).await, None);
    // As a program before has kept them.
    let mut tx = shared.db.begin().await.unwrap();
    for sequence in [20, 10] {
        let bytes = bench.command(sequence, gateway(1));
        let digest = Digest32::of(&bytes).0;
        let sql = "INSERT INTO control_command (digest, gateway, message, taken_ms) VALUES ($1, $2, $3, $4)";
        let values = args![digest, "gw-1", bytes, START.unix_ms()];
        tx.execute(sql, values).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(last_word(shared, 0).await, Some((20, None)));
    forward(shared, bench.command(30, gateway(1)))
        .await
        .unwrap();
    forward(shared, bench.command(40, gateway(2)))
        .await
        .unwrap();
    assert_eq!(last_word(shared, 0).await, Some((30, None)));
    let act = Act::Release {
        set_point: SetPoint::BatteryPowerW,
    };
    let place = (gateway(1), "battery".to_owned());
    let told = tell(shared, Origin::Market, place.clone(), START, act).await;
    let sequence = told.unwrap().message().sequence;
    assert_eq!(last_word(shared, 0).await, Some((sequence, Some("market"))));
    let told = tell(shared, Origin::Session, place, START, act).await;
    assert_eq!(told.unwrap().message().sequence, sequence + 1);
    assert_eq!(
        last_word(shared, 0).await,
        Some((sequence + 1, Some("session")))
    );
    assert_eq!(last_word(shared, LEASE_MAX_S + 60).await, None);
}

/// A device that was told `act` at second 130 and did not answer is told the same every minute: that is no new time to
/// do it each time.
async fn told_again_and_again(shared: &Shared, act: Act) {
    for s in [190, 250, 310] {
        let (at, place) = (START.plus_s(s), (gateway(1), "cellar".to_owned()));
        tell(shared, Origin::Market, place, at, act).await.unwrap();
        let open = not_held(&shared.db, at.plus_s(1)).await.unwrap();
        assert_eq!(open, i64::from(s + 1 >= 130 + 120), "second {s}");
    }
}

async fn what_was_commanded_and_answered_is_kept_as_it_came(bench: Bench) {
    let shared = &bench.platform.shared;
    let bytes = bench.command(1, gateway(1));
    let command = forward(shared, bytes.clone()).await.unwrap().digest();
    forward(shared, bytes.clone()).await.unwrap();
    let nobody = forward(shared, bench.command(2, gateway(3))).await;
    assert!(matches!(nobody, Err(NotForwarded::NoGateway(_))));
    let mut forged = bytes;
    *forged.last_mut().unwrap() ^= 1;
    let forged = forward(shared, forged).await;
    assert!(matches!(forged, Err(NotForwarded::NotBelieved(_))));

    let open = async |s| not_held(&shared.db, START.plus_s(s)).await.unwrap();
    assert_eq!(open(60).await, 0, "the device still has time");
    assert_eq!(open(121).await, 1, "nobody has confirmed it");
    bench.answer(command, 1, 1).await.unwrap();
    bench.answer(command, 1, 1).await.unwrap();
    assert_eq!(open(121).await, 0, "the device shows it");
    let strange = Digest32([7; 32]);
    for (command, by, sender) in [(command, 2, 1), (command, 2, 2), (strange, 1, 1)] {
        let error = bench.answer(command, by, sender).await.unwrap_err();
        assert!(error.to_string().contains("did not go to"), "{error}");
    }
    assert_eq!(answers(&shared.db, strange).await.unwrap(), None);
    let heard = answers(&shared.db, command).await.unwrap().unwrap();
    assert_eq!(heard.len(), 1, "the same twice is one: {heard:?}");

    let place = (gateway(1), "cellar".to_owned());
    let act = Act::Set {
        set_point: SetPoint::BatteryPowerW,
        value: 1_500,
        expires_at: START.plus_s(500),
    };
    let traded = tell(shared, Origin::Market, place.clone(), START, act).await;
    let traded = traded.unwrap().digest();
    assert_eq!(
        (open(60).await, open(121).await, open(500).await),
        (0, 1, 0)
    );
    let later = START.plus_s(130);
    tell(shared, Origin::Market, place, later, act)
        .await
        .unwrap();
    assert_eq!(open(131).await, 1, "it did not follow before either");
    bench.answer(traded, 1, 1).await.unwrap();
    assert_eq!((open(131).await, open(251).await), (0, 1));
    told_again_and_again(shared, act).await;

    let second = forward(shared, bench.command(3, gateway(1))).await;
    let second = second.unwrap().digest();
    bench.revoke(1).await;
    let error = bench.answer(second, 1, 1).await.unwrap_err().to_string();
    assert!(error.contains("revoked"), "{error}");
    assert_eq!(answers(&shared.db, second).await.unwrap(), Some(Vec::new()));
    assert_eq!(
        (open(121).await, open(900).await),
        (1, 0),
        "until the lease ends"
    );

    for sql in [
        "UPDATE control_command SET taken_ms = 0",
        "DELETE FROM control_command",
        "UPDATE control_ack SET heard_ms = 0",
        "DELETE FROM control_ack",
    ] {
        let error = bench.is_refused(sql).await;
        assert!(error.contains("is append-only"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn what_was_commanded_and_answered_is_kept_as_it_came_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("books.db").display().to_string();
    let bench = Bench::on(Db::open(&file).await.unwrap()).await;
    what_was_commanded_and_answered_is_kept_as_it_came(bench).await;
}

#[tokio::test]
async fn what_was_commanded_and_answered_is_kept_as_it_came_on_postgres() {
    let Some(server) = runtime::testing::postgres() else {
        return;
    };
    let bench = Bench::on(Db::open(&server.url()).await.unwrap()).await;
    let emptied = bench.is_refused("TRUNCATE control_ack").await;
    assert!(emptied.contains("is append-only"), "{emptied}");
    what_was_commanded_and_answered_is_kept_as_it_came(bench).await;
}

#[tokio::test]
async fn the_heads_are_signed_before_a_key_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("books.db").display().to_string();
    let bench = Bench::on(Db::open(&file).await.unwrap()).await;
    let shared = &bench.platform.shared;
    // The ledger log grows, and no head says so yet.
    let record = KeyRecord {
        key: PublicKey::of(&key(9)),
        holder: Holder::Participant(ParticipantId::new("ann").unwrap()),
        valid_from: START,
    };
    let mut tx = shared.db.begin().await.unwrap();
    let enrolled = settlement::service::enrol(&mut tx, &shared.community, START, record).await;
    enrolled.unwrap();
    tx.commit().await.unwrap();
    bench.revoke(1).await;
    let (heads,): (i64,) = shared
        .db
        .fetch_one(
            "SELECT COUNT(*) FROM settle_checkpoints c JOIN settle_revocations r ON r.log_index = c.size
             WHERE c.log = $1",
            args![i64::from(Log::Ledger.code())],
        )
        .await
        .unwrap();
    assert_eq!(heads, 1);
}

#[tokio::test]
async fn the_last_word_to_a_set_point_is_found_whoever_said_it_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("books.db").display().to_string();
    let bench = Bench::on(Db::open(&file).await.unwrap()).await;
    the_last_word_to_a_set_point_is_found_whoever_said_it(bench).await;
}

#[tokio::test]
async fn the_last_word_to_a_set_point_is_found_whoever_said_it_on_postgres() {
    let Some(server) = runtime::testing::postgres() else {
        return;
    };
    let bench = Bench::on(Db::open(&server.url()).await.unwrap()).await;
    the_last_word_to_a_set_point_is_found_whoever_said_it(bench).await;
}
