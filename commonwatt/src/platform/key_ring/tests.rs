//! Key files that are lost, changed or put back: the registry decides, and no home's file stops the street.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use domain::cancel::Cancel;
use domain::claim::{Claim, ClaimCode};
use domain::energy::Energy;
use domain::ids::{Digest32, PointId, to_hex};
use domain::introduction::{Introduction, KeyRequest};
use domain::key_holder::KeyHolder;
use domain::money::Price;
use domain::order::{Order, Preference, Side};
use domain::rejection::Rejection;
use domain::revocation::Revocation;
use domain::signed::Signed;
use domain::standing_order::{Deadline, Standing, StandingCancel, StandingOrder};
use domain::time::Interval;
use runtime::args;
use runtime::clock::Clock;
use runtime::db::Db;

use super::*;
use crate::platform::orders::{self, OrderAnswer, OrderMessage};
use crate::platform::{KeyAnswer, KeyWord, Platform, keys, standing};
use crate::site::{DataDir, public_key_text};

const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);
const HOMES: [&str; 2] = ["ann", "bob"];

pub(crate) fn site(participants: [&str; 2]) -> Site {
    let mut text = "community = \"lane\"\n\
         [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
         [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n"
        .to_owned();
    for ((n, home), more) in (1_u8..).zip(HOMES).zip(participants) {
        let key = public_key_text(PublicKey::of(&SigningKey::from_bytes(&[n; 32])));
        text += &format!(
            "[[participants]]\nid = \"{home}\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"1000\"\n{more}\
             [[gateways]]\nid = \"gw-{n}\"\npublic_key = \"{key}\"\npassword_sha256 = \"{}\"\n\
             points = [{{ id = \"{home}.meter\", role = \"connection\", participant = \"{home}\", rating_w = 4000 }}]\n",
            "0".repeat(64)
        );
    }
    Site::from_toml(&text, Path::new("site.toml")).unwrap()
}

pub(crate) fn id(home: &str) -> ParticipantId {
    ParticipantId::new(home).unwrap()
}

pub(crate) fn bid(home: &str, sequence: u64) -> Order {
    Order {
        participant: id(home),
        point: PointId::new(format!("{home}.meter")).unwrap(),
        side: Side::Bid,
        interval: Interval::containing(START.plus_s(3600), 900).unwrap(),
        energy: Energy::from_wh(10),
        limit: Price::from_micro_per_kwh(200_000),
        sequence,
        replaces: None,
        preference: Preference::default(),
    }
}

fn standing_order() -> StandingOrder {
    StandingOrder {
        participant: id("ann"),
        point: PointId::new("ann.meter").unwrap(),
        sequence: 1,
        replaces: None,
        wish: Standing::Deadline(Deadline {
            energy: Energy::from_wh(900),
            by: START.plus_s(36_000),
            power_max_w: 4_000,
            limit: Price::from_micro_per_kwh(180_000),
            must: false,
        }),
        begins_with: Energy::ZERO,
        capacity: None,
        counted_at: None,
    }
}

/// A data folder with its books, and platforms that are opened on it one after the other.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    url: Option<String>,
}

impl Bench {
    pub(crate) fn new(url: Option<&str>) -> Bench {
        Bench {
            dir: tempfile::tempdir().unwrap(),
            url: url.map(str::to_owned),
        }
    }

    pub(crate) async fn open(&self) -> Platform {
        self.open_with(site(["", ""])).await
    }

    pub(crate) async fn open_with(&self, site: Site) -> Platform {
        let (data, _lock) = DataDir::take(self.dir.path()).unwrap();
        let file = data.database();
        let db = Db::open(self.url.as_deref().unwrap_or(&file))
            .await
            .unwrap();
        let clock = Clock::scaled(START, 1);
        crate::platform::open(site, &data, db, clock).await.unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("participants").join(name)
    }

    pub(crate) fn write(&self, name: &str, key: &SigningKey) {
        let file = self.file(name);
        fs::write(&file, to_hex(&key.to_bytes())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn signed<T: domain::signed::Message>(platform: &Platform, key: &SigningKey, said: &T) -> Vec<u8> {
    let signed = Signed::sign(key, &platform.shared.site.community, said);
    signed.as_bytes().to_vec()
}

/// What comes of a message.
async fn taken(platform: &Platform, message: &OrderMessage) -> OrderAnswer {
    let shared = &platform.shared;
    let mut tx = shared.db.begin().await.unwrap();
    let answer = orders::take_one(&mut tx, shared, START, message).await;
    tx.commit().await.unwrap();
    answer.unwrap()
}

/// What comes of a signed order: its acceptance, or why not.
pub(crate) async fn ordered(
    platform: &Platform,
    key: &SigningKey,
    order: &Order,
) -> Result<(), Rejection> {
    let message = orders::read(&platform.shared, signed(platform, key, order));
    match taken(platform, &message).await {
        OrderAnswer::Accepted(_) => Ok(()),
        OrderAnswer::Refused(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

fn other() -> SigningKey {
    SigningKey::from_bytes(&[77; 32])
}

/// The keys of a home, and whether each counts.
pub(crate) async fn states(platform: &Platform, home: &str) -> Vec<bool> {
    let keys = participant_keys(&platform.shared.db).await.unwrap();
    let own = keys.iter().filter(|key| key.participant == id(home));
    own.map(ParticipantKey::is_valid).collect()
}

fn why(platform: &Platform, home: &str) -> String {
    let keys = platform.shared.keys();
    keys.unfit.get(&id(home)).cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_lost_key_file_changes_no_key_and_stops_no_other_home() {
    let bench = Bench::new(None);
    let platform = bench.open().await;
    let key = platform.shared.key_of_home(0);
    assert_eq!(platform.shared.keys().unfit(), 0);
    drop(platform);
    fs::remove_file(bench.file("ann.key")).unwrap();
    let platform = bench.open().await;
    assert!(!bench.file("ann.key").exists(), "none is made in its place");
    assert_eq!(states(&platform, "ann").await, [true]);
    let said = why(&platform, "ann");
    assert!(said.contains("ann.key is missing"), "{said}");
    assert!(said.contains(&PublicKey::of(&key).id().to_string()));
    assert!(!standing::may_say(&platform.shared, &id("ann")));
    // Who has the key orders all the same, and the neighbour has nothing to do with it.
    assert_eq!(ordered(&platform, &key, &bid("ann", 1)).await, Ok(()));
    let bob = platform.shared.key_of_home(1);
    assert_eq!(ordered(&platform, &bob, &bid("bob", 1)).await, Ok(()));
    // The file is back: no restart is needed.
    bench.write("ann.key", &key);
    platform.shared.renew_keys().await.unwrap();
    assert_eq!(platform.shared.keys().unfit(), 0);
    assert!(standing::may_say(&platform.shared, &id("ann")));
}

#[tokio::test]
async fn another_key_in_the_file_is_no_new_key() {
    let bench = Bench::new(None);
    let platform = bench.open().await;
    let key = platform.shared.key_of_home(0);
    drop(platform);
    bench.write("ann.key", &other());
    let platform = bench.open().await;
    assert_eq!(states(&platform, "ann").await, [true]);
    let said = why(&platform, "ann");
    for part in [&other(), &key].map(|key| PublicKey::of(key).id().to_string()) {
        assert!(said.contains(&part), "{part} in {said}");
    }
    let strange = ordered(&platform, &other(), &bid("ann", 1)).await;
    assert_eq!(strange, Err(Rejection::UnknownKey));
    assert_eq!(ordered(&platform, &key, &bid("ann", 1)).await, Ok(()));
    // A file that others can read is not used either, and says so.
    bench.write("bob.key", &platform.shared.key_of_home(1));
    drop(platform);
    fs::set_permissions(bench.file("bob.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let platform = bench.open().await;
    assert!(why(&platform, "bob").contains("chmod 600"));
}

/// As programs of before did it at their start when a file was lost.
async fn replaced_by_word(platform: &Platform, new: &SigningKey) {
    let shared = &platform.shared;
    let record = KeyRecord {
        key: PublicKey::of(new),
        holder: Holder::Participant(id("ann")),
        valid_from: shared.clock.now(),
    };
    let (mut tx, now) = (shared.db.begin().await.unwrap(), shared.clock.now());
    let enrolled = settlement::service::enrol(&mut tx, &shared.community, now, record).await;
    enrolled.unwrap();
    tx.commit().await.unwrap();
    shared.renew_keys().await.unwrap();
}

async fn a_replaced_key_orders_nothing(url: Option<&str>) {
    let bench = Bench::new(url);
    let platform = bench.open().await;
    let old = platform.shared.key_of_home(0);
    assert_eq!(ordered(&platform, &old, &bid("ann", 1)).await, Ok(()));
    let message = orders::read(&platform.shared, signed(&platform, &old, &bid("ann", 2)));
    replaced_by_word(&platform, &other()).await;
    let ended = Err(Rejection::KeyRevoked);
    assert_eq!(ordered(&platform, &old, &bid("ann", 2)).await, ended);
    // What was checked before the change and waits to be taken is looked at again.
    let message = message.unless_ended(&platform.shared.keys());
    let refused = OrderAnswer::Refused(Rejection::KeyRevoked);
    assert_eq!(taken(&platform, &message).await, refused);
    assert_eq!(ordered(&platform, &other(), &bid("ann", 2)).await, Ok(()));
    let said = why(&platform, "ann");
    assert!(said.contains("put the file with that key back"), "{said}");
    drop(platform);
    // An old file that is put back does not bring its key back.
    let platform = bench.open().await;
    assert_eq!(states(&platform, "ann").await, [false, true]);
    assert_eq!(ordered(&platform, &old, &bid("ann", 3)).await, ended);
    assert!(!standing::may_say(&platform.shared, &id("ann")));
    assert_eq!(ordered(&platform, &other(), &bid("ann", 3)).await, Ok(()));
}

/// Whoever heard no answer sends an order once more, and may have changed its key meanwhile.
async fn what_was_taken_is_answered_again(url: Option<&str>) {
    let bench = Bench::new(url);
    let platform = bench.open().await;
    let old = platform.shared.key_of_home(0);
    let (placed, wish) = (bid("ann", 1), standing_order());
    let first = signed(&platform, &old, &placed);
    let standing = signed(&platform, &old, &wish);
    let sent = async |bytes: &[u8]| {
        let message = orders::read(&platform.shared, bytes.to_vec());
        taken(&platform, &message).await
    };
    let accepted = OrderAnswer::Accepted(placed.id());
    assert_eq!(sent(&first).await, accepted);
    assert_eq!(sent(&standing).await, OrderAnswer::Accepted(wish.id()));
    // One waits to be taken while the key changes.
    let waits = orders::read(&platform.shared, first.clone());
    replaced_by_word(&platform, &other()).await;
    let again = |order, stands| OrderAnswer::Again { order, stands };
    let waits = waits.unless_ended(&platform.shared.keys());
    assert_eq!(taken(&platform, &waits).await, again(placed.id(), true));
    assert_eq!(sent(&first).await, again(placed.id(), true));
    assert_eq!(sent(&standing).await, again(wish.id(), true));
    // Nothing new, also under a number that was used or is the autopilot's, and no cancel.
    let cancel = Cancel {
        participant: id("ann"),
        sequence: 1,
        interval: placed.interval,
    };
    let dearer = Order {
        limit: Price::from_micro_per_kwh(190_000),
        ..placed.clone()
    };
    let larger = StandingOrder {
        sequence: 2,
        ..wish.clone()
    };
    let refused = OrderAnswer::Refused(Rejection::KeyRevoked);
    for bytes in [
        signed(&platform, &old, &bid("ann", 2)),
        signed(&platform, &old, &bid("ann", 1 << 40)),
        signed(&platform, &old, &dearer),
        signed(&platform, &old, &larger),
        signed(&platform, &old, &cancel),
    ] {
        assert_eq!(sent(&bytes).await, refused);
    }
    let sql = "SELECT COUNT(*) FROM market_evidence";
    let (evidence,): (i64,) = platform.shared.db.fetch_one(sql, args![]).await.unwrap();
    assert_eq!(evidence, 0);
    // It is out of the book by the next key's word, and that is what is said of it then; also when that is revoked.
    let cancelled = sent(&signed(&platform, &other(), &cancel)).await;
    assert_eq!(cancelled, OrderAnswer::Withdrawn(placed.id()));
    assert_eq!(sent(&first).await, again(placed.id(), false));
    assert_eq!(revoked(&platform, &other()).await, Ok(()));
    assert_eq!(sent(&first).await, again(placed.id(), false));
}

/// The same of cancels: of an order, of one that had not come, and of a standing order.
async fn a_cancel_that_was_taken_is_answered_again(url: Option<&str>) {
    let bench = Bench::new(url);
    let platform = bench.open().await;
    let (old, wish) = (platform.shared.key_of_home(0), standing_order());
    let sent = async |bytes: &[u8]| {
        let message = orders::read(&platform.shared, bytes.to_vec());
        taken(&platform, &message).await
    };
    for order in [bid("ann", 1), bid("ann", 2)] {
        let accepted = OrderAnswer::Accepted(order.id());
        assert_eq!(sent(&signed(&platform, &old, &order)).await, accepted);
    }
    let standing = sent(&signed(&platform, &old, &wish)).await;
    assert_eq!(standing, OrderAnswer::Accepted(wish.id()));
    let cancel = |sequence| Cancel {
        participant: id("ann"),
        sequence,
        interval: bid("ann", 1).interval,
    };
    let unstand = StandingCancel {
        participant: id("ann"),
        sequence: wish.sequence,
    };
    let said = [
        (signed(&platform, &old, &cancel(1)), cancel(1).order()),
        (signed(&platform, &old, &cancel(7)), cancel(7).order()),
        (signed(&platform, &old, &unstand), wish.id()),
    ];
    for (bytes, order) in &said {
        assert_eq!(sent(bytes).await, OrderAnswer::Withdrawn(*order));
    }
    // One waits to be taken while the key changes.
    let waits = orders::read(&platform.shared, said[0].0.clone());
    replaced_by_word(&platform, &other()).await;
    let again = |order| OrderAnswer::Again {
        order,
        stands: false,
    };
    let waits = waits.unless_ended(&platform.shared.keys());
    assert_eq!(taken(&platform, &waits).await, again(said[0].1));
    for (bytes, order) in &said {
        assert_eq!(sent(bytes).await, again(*order));
    }
    // With that key nothing new is taken back, and nothing is told of what the next key has taken back.
    let (refused, by_old) = (Rejection::KeyRevoked, signed(&platform, &old, &cancel(2)));
    assert_eq!(sent(&by_old).await, OrderAnswer::Refused(refused));
    let by_next = sent(&signed(&platform, &other(), &cancel(2))).await;
    assert_eq!(by_next, OrderAnswer::Withdrawn(cancel(2).order()));
    assert_eq!(sent(&by_old).await, OrderAnswer::Refused(refused));
}

#[tokio::test]
async fn a_cancel_that_was_taken_is_answered_again_on_sqlite() {
    a_cancel_that_was_taken_is_answered_again(None).await;
}

#[tokio::test]
async fn a_cancel_that_was_taken_is_answered_again_on_postgres() {
    if let Some(cluster) = runtime::testing::postgres() {
        a_cancel_that_was_taken_is_answered_again(Some(&cluster.url())).await;
    }
}

#[tokio::test]
async fn what_was_taken_is_answered_again_on_sqlite() {
    what_was_taken_is_answered_again(None).await;
}

#[tokio::test]
async fn what_was_taken_is_answered_again_on_postgres() {
    if let Some(cluster) = runtime::testing::postgres() {
        what_was_taken_is_answered_again(Some(&cluster.url())).await;
    }
}

#[tokio::test]
async fn a_replaced_key_orders_nothing_on_sqlite() {
    a_replaced_key_orders_nothing(None).await;
}

#[tokio::test]
async fn a_replaced_key_orders_nothing_on_postgres() {
    if let Some(cluster) = runtime::testing::postgres() {
        a_replaced_key_orders_nothing(Some(&cluster.url())).await;
    }
}

/// A new key's introduction, by the key that vouches.
fn introduction(platform: &Platform, new: &SigningKey, by: &SigningKey) -> Vec<u8> {
    let community = &platform.shared.site.community;
    let request = KeyRequest {
        key: PublicKey::of(new),
        holder: id("ann").into(),
        introducer: PublicKey::of(by).id(),
        points: Vec::new(),
        made_at: START,
    };
    let introduction = Introduction {
        key: PublicKey::of(new),
        request: Signed::sign(new, community, &request),
    };
    let signed = Signed::sign(by, community, &introduction);
    signed.as_bytes().to_vec()
}

async fn said(platform: &Platform, word: KeyWord) -> Result<(), String> {
    match keys::say(&platform.shared, word).await.unwrap() {
        KeyAnswer::Done(_) => Ok(()),
        KeyAnswer::Refused(why) | KeyAnswer::Later(why, _) => Err(why),
        KeyAnswer::Unavailable => panic!("the database does not answer"),
    }
}

/// A word of the operator, said now.
fn word<T: domain::signed::Message>(platform: &Platform, word: &T) -> Vec<u8> {
    let community = &platform.shared.community;
    let signed = Signed::sign(&community.operator, &community.id, word);
    signed.as_bytes().to_vec()
}

async fn revoked(platform: &Platform, key: &SigningKey) -> Result<(), String> {
    let now = platform.shared.clock.now();
    let revocation = Revocation {
        key: PublicKey::of(key).id(),
        holder: id("ann").into(),
        from_sequence: 0,
        from: now,
        reason: "the phone was stolen".to_owned(),
        issued_at: now,
    };
    said(platform, KeyWord::Revocation(word(platform, &revocation))).await
}

async fn code(platform: &Platform, holder: KeyHolder) -> (SigningKey, Result<(), String>) {
    let now = platform.shared.clock.now();
    let code = ClaimCode::from_random([5; 16]);
    let key = code.key(&platform.shared.site.community, &holder);
    let claim = Claim {
        holder,
        key: PublicKey::of(&key),
        issued_at: now,
        expires_at: now.plus_s(900),
    };
    let done = said(platform, KeyWord::Claim(word(platform, &claim))).await;
    (key, done)
}

/// Before, between and after, with a restart behind each step.
async fn a_key_is_rotated_revoked_and_claimed(url: Option<&str>) {
    let bench = Bench::new(url);
    let platform = bench.open().await;
    let (first, ended) = (platform.shared.key_of_home(0), Err(Rejection::KeyRevoked));
    assert_eq!(ordered(&platform, &first, &bid("ann", 1)).await, Ok(()));
    // The next key waits beside the file, as `commonwatt participant rotate-key` makes it.
    let second = other();
    bench.write("ann.key.next", &second);
    let word = KeyWord::Introduction(introduction(&platform, &second, &first));
    assert_eq!(said(&platform, word).await, Ok(()));
    assert_eq!(platform.shared.keys().unfit(), 0);
    assert_eq!(platform.shared.key_of_home(0), second);
    assert_eq!(ordered(&platform, &first, &bid("ann", 2)).await, ended);
    assert_eq!(ordered(&platform, &second, &bid("ann", 2)).await, Ok(()));
    drop(platform);
    // Whoever rotated was stopped before the file was in its place: the platform goes on with the key that counts.
    let platform = bench.open().await;
    assert_eq!(platform.shared.key_of_home(0), second);
    assert_eq!(ordered(&platform, &first, &bid("ann", 3)).await, ended);
    assert_eq!(ordered(&platform, &second, &bid("ann", 3)).await, Ok(()));
    let stranger = SigningKey::from_bytes(&[5; 32]);
    let word = KeyWord::Introduction(introduction(&platform, &stranger, &first));
    let again = said(&platform, word).await.unwrap_err();
    assert!(again.starts_with("key_replaced: "), "{again}");

    assert!(
        revoked(&platform, &SigningKey::from_bytes(&[6; 32]))
            .await
            .is_err()
    );
    assert_eq!(revoked(&platform, &second).await, Ok(()));
    assert_eq!(ordered(&platform, &second, &bid("ann", 4)).await, ended);
    assert!(!standing::may_say(&platform.shared, &id("ann")));
    let told = why(&platform, "ann");
    assert!(
        told.contains("was revoked (the phone was stolen)"),
        "{told}"
    );
    assert!(told.contains("keys claim --participant ann"), "{told}");
    drop(platform);
    let platform = bench.open().await;
    assert_eq!(states(&platform, "ann").await, [false, false]);
    assert_eq!(ordered(&platform, &second, &bid("ann", 4)).await, ended);

    // A lost or stolen key is replaced with a claim code; what it was is of no matter.
    let third = SigningKey::from_bytes(&[78; 32]);
    let nobody = code(&platform, id("zoe").into()).await.1.unwrap_err();
    assert!(
        nobody.contains("site.toml has no participant zoe"),
        "{nobody}"
    );
    let (claim, done) = code(&platform, id("ann").into()).await;
    assert_eq!(done, Ok(()));
    fs::remove_file(bench.file("ann.key.next")).unwrap();
    bench.write("ann.key", &third);
    let word = KeyWord::Introduction(introduction(&platform, &third, &claim));
    assert_eq!(said(&platform, word).await, Ok(()));
    assert_eq!(platform.shared.key_of_home(0), third);
    assert_eq!(ordered(&platform, &third, &bid("ann", 4)).await, Ok(()));
    drop(platform);
    let platform = bench.open().await;
    assert_eq!(platform.shared.keys().unfit(), 0);
    assert_eq!(states(&platform, "ann").await, [false, false, true]);
    assert_eq!(ordered(&platform, &second, &bid("ann", 5)).await, ended);
    assert_eq!(ordered(&platform, &third, &bid("ann", 5)).await, Ok(()));
    let garbage = said(&platform, KeyWord::Introduction(vec![1, 2, 3])).await;
    assert!(garbage.unwrap_err().contains("no introduction"));
}

#[tokio::test]
async fn a_key_is_rotated_revoked_and_claimed_on_sqlite() {
    a_key_is_rotated_revoked_and_claimed(None).await;
}

#[tokio::test]
async fn a_key_is_rotated_revoked_and_claimed_on_postgres() {
    if let Some(cluster) = runtime::testing::postgres() {
        a_key_is_rotated_revoked_and_claimed(Some(&cluster.url())).await;
    }
}

#[tokio::test]
async fn a_home_that_signs_for_itself_keeps_its_key() {
    let bench = Bench::new(None);
    let named = public_key_text(PublicKey::of(&other()));
    let line = format!("public_key = \"{named}\"\n");
    let platform = bench.open_with(site([&line, ""])).await;
    assert!(!bench.file("ann.key").exists() && bench.file("bob.key").exists());
    assert_eq!(platform.shared.keys().unfit(), 0, "nothing is missing");
    assert_eq!(ordered(&platform, &other(), &bid("ann", 1)).await, Ok(()));
    // What the platform would have to sign for it is refused, with a sentence.
    assert!(!standing::may_say(&platform.shared, &id("ann")));
    let signed = signed(&platform, &other(), &standing_order());
    let message = orders::read(&platform.shared, signed);
    let OrderMessage::Refused { reason, .. } = message else {
        panic!("a standing order that nobody can carry out is taken");
    };
    let sentence = orders::answer_body(&OrderAnswer::Refused(reason), Digest32([0; 32]));
    let sentence = sentence["detail"].as_str().unwrap();
    assert!(
        sentence.contains("does not hold the participant's key"),
        "{sentence}"
    );
    drop(platform);
    // Another key in the site is no rotation: the registry's counts until the other is let in.
    let another = public_key_text(PublicKey::of(&SigningKey::from_bytes(&[78; 32])));
    let line = format!("public_key = \"{another}\"\n");
    let platform = bench.open_with(site([&line, ""])).await;
    assert_eq!(states(&platform, "ann").await, [true]);
    assert_eq!(ordered(&platform, &other(), &bid("ann", 2)).await, Ok(()));
}
