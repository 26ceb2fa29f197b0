//! A platform and its witness, over HTTP: signing, and what the witness knows against the books.

use std::path::Path;

use domain::signed::SigningKey;
use domain::time::Timestamp;
use runtime::clock::Clock;
use runtime::db::Db;

use super::*;
use crate::platform::Platform;
use crate::site::{DataDir, Site};
use crate::witness::{Witness as Watcher, WitnessFile, serve};

pub(in crate::platform) const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);

pub(in crate::platform) struct Bench {
    pub(in crate::platform) shared: Arc<Shared>,
    url: String,
    dir: tempfile::TempDir,
    _lock: std::fs::File,
}

fn witness_key() -> SigningKey {
    SigningKey::from_bytes(&[4; 32])
}

pub(super) fn gateway_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn site(url: &str) -> Site {
    let witness = VerifierKey::of_witness("w.example", PublicKey::of(&witness_key())).unwrap();
    let key = crate::site::public_key_text(PublicKey::of(&gateway_key()));
    let text = format!(
        "community = \"lane\"\n\
         [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
         [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n\
         [[witnesses]]\nkey = \"{witness}\"\nurl = \"{url}\"\n\
         [[participants]]\nid = \"ann\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"1\"\n\
         [[gateways]]\nid = \"gw-1\"\npublic_key = \"{key}\"\npassword_sha256 = \"{}\"\n\
         points = [{{ id = \"ann.meter\", role = \"connection\", participant = \"ann\", rating_w = 10000 }}]\n",
        "0".repeat(64)
    );
    let site = Site::from_toml(&text, Path::new("site.toml")).unwrap();
    assert!(site.to_toml().unwrap().contains("[[witnesses]]"));
    site
}

impl Bench {
    /// A platform whose witness listens only where `watched`.
    pub(in crate::platform) async fn new(watched: bool) -> Bench {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let (data, lock) = DataDir::take(&dir.path().join("data")).unwrap();
        let db = Db::open(&data.database()).await.unwrap();
        let platform = crate::platform::open(site(&url), &data, db, Clock::scaled(START, 1)).await;
        let Platform { shared, .. } = platform.unwrap();
        if watched {
            let logs = Log::ALL.map(|log| format!("\"{}\"", log_key(&shared, log).unwrap()));
            let text = format!(
                "name = \"w.example\"\nlisten = \"127.0.0.1:0\"\nlogs = [{}]\n",
                logs.join(", ")
            );
            let file: WitnessFile = toml::from_str(&text).unwrap();
            let folder = dir.path().join("witness");
            let witness = Watcher::open(&file, witness_key(), &folder, Clock::system());
            let stop = CancellationToken::new();
            tokio::spawn(serve(Arc::new(witness.unwrap()), listener, stop));
        }
        Bench {
            shared,
            url,
            dir,
            _lock: lock,
        }
    }

    async fn ask(&self) -> Told {
        ask(&self.shared, &self.shared.site.witnesses[0], Log::Ledger).await;
        self.shared.watch.told("w.example", Log::Ledger)
    }

    /// Shows the witness a tree that the operator has signed, and these books do not have.
    async fn show_another(&self, size: u64) {
        let other = Checkpoint {
            size,
            root: Digest32([7; 32]),
        };
        let origin = Log::Ledger.origin(&self.shared.community.id);
        let note = other.sign(&origin, &self.shared.community.operator);
        let asked = AddCheckpoint {
            old: 0,
            path: Vec::new(),
            note: Note::parse(&note).unwrap(),
        };
        let url = format!("{}/add-checkpoint", self.url);
        let (status, _) = heard(None, move |agent| agent.post(&url).send(asked.to_text()))
            .await
            .unwrap();
        assert_eq!(status, 200);
    }

    pub(super) async fn grow(&self) {
        self.enrol(9).await;
        let mut tx = self.shared.db.begin().await.unwrap();
        let (community, now) = (&self.shared.community, self.shared.clock.now());
        service::checkpoint(&mut tx, community, now).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn enrol(&self, seed: u8) {
        let mut tx = self.shared.db.begin().await.unwrap();
        let now = self.shared.clock.now();
        let record = domain::key_record::KeyRecord {
            key: PublicKey::of(&SigningKey::from_bytes(&[seed; 32])),
            holder: domain::key_record::Holder::Participant(
                domain::ids::ParticipantId::new(format!("ann-{seed}")).unwrap(),
            ),
            valid_from: now,
        };
        let community = &self.shared.community;
        service::enrol(&mut tx, community, now, record)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_witness_signs_and_its_signature_is_shown() {
    let bench = Bench::new(true).await;
    let first = bench.ask().await;
    assert_eq!(first.trouble, None);
    bench.grow().await;
    let second = bench.ask().await;
    assert!(
        second.size > first.size && second.trouble.is_none(),
        "{second:?}"
    );
    let shown = service::published_checkpoint(&bench.shared.db, Log::Ledger).await;
    let (size, note) = shown.unwrap().unwrap();
    assert_eq!(
        (size, note.contains("\u{2014} w.example ")),
        (second.size, true)
    );
    assert_eq!(bench.shared.watch.alarm(), None);
}

#[tokio::test]
async fn a_witness_that_is_ahead_of_a_question_is_no_contradiction() {
    let bench = Bench::new(true).await;
    bench.grow().await;
    let told = bench.ask().await;
    assert!(told.size > 0 && told.trouble.is_none(), "{told:?}");
    // Somebody else had it sign the newest while an older one was on its way: the books lead to it.
    let witness = &bench.shared.site.witnesses[0];
    contradiction(&bench.shared, witness, Log::Ledger)
        .await
        .unwrap();
    assert_eq!(bench.shared.watch.alarm(), None);
}

#[test]
fn a_gateway_is_shown_one_head_until_it_says_that_it_has_seen_it() {
    let (watch, gateway) = (Watch::default(), GatewayId::new("gateway-1").unwrap());
    let head = LedgerHead {
        note: "a".to_owned(),
        old: 0,
        path: Vec::new(),
    };
    assert_eq!(watch.on_its_way(&gateway), None);
    watch.shows(&gateway, Some(&head));
    assert_eq!(watch.on_its_way(&gateway), Some(head));
    assert_eq!(watch.seen(&gateway), None, "what was sent was not seen");
    watch.has_seen(&gateway, 7);
    assert_eq!(watch.on_its_way(&gateway), None);
    assert_eq!(watch.seen(&gateway), Some(7));
}

#[tokio::test]
async fn a_witness_that_does_not_answer_is_named_and_stops_nothing() {
    let bench = Bench::new(false).await;
    // The listener went away with the first bind.
    let told = bench.ask().await;
    assert!(told.trouble.is_some() && told.size == 0, "{told:?}");
    assert!(!bench.shared.watch.stands_still());
}

#[tokio::test]
async fn a_fork_is_kept_and_stops_the_market_for_good() {
    let bench = Bench::new(true).await;
    bench.grow().await;
    bench.show_another(1).await;
    let told = bench.ask().await;
    assert!(told.trouble.unwrap().contains("only grew"));
    let alarm = bench.shared.watch.alarm().unwrap();
    assert!(alarm.contains("signed two trees"), "{alarm}");
    let cases = service::cases(&bench.shared.db).await.unwrap();
    let evidence = Evidence::read(&cases[0].text).unwrap();
    assert!(matches!(judge(&evidence), Ok(Verdict::Proven { .. })));
    // No head is signed any more, and one case is enough, whatever else is signed.
    let newest = async || service::latest_checkpoint(&bench.shared.db, Log::Ledger).await;
    let before = newest().await.unwrap();
    bench.enrol(10).await;
    let mut tx = bench.shared.db.begin().await.unwrap();
    sign_heads(&mut tx, &bench.shared, START).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(newest().await.unwrap(), before);
    bench.grow().await;
    assert_ne!(newest().await.unwrap(), before);
    bench.ask().await;
    assert_eq!(service::cases(&bench.shared.db).await.unwrap().len(), 1);
    // Nothing is cleared any more, also not after a start.
    let later = START.plus_s(7200);
    let before = market_engine::service::recent_clearings(&bench.shared.db, 9).await;
    crate::platform::core::clear(&bench.shared, later)
        .await
        .unwrap();
    let after = market_engine::service::recent_clearings(&bench.shared.db, 9).await;
    assert_eq!(before.unwrap().len(), after.unwrap().len());
    let (db, url) = (bench.shared.db.clone(), bench.url.clone());
    let data = bench.dir.path().join("data");
    drop(bench._lock);
    let (data, _lock) = DataDir::take(&data).unwrap();
    let again = crate::platform::open(site(&url), &data, db, Clock::scaled(START, 1)).await;
    let alarm = again.unwrap().shared.watch.alarm().unwrap();
    assert!(alarm.contains("hold the proof"), "{alarm}");
}

#[tokio::test]
async fn books_that_are_older_than_what_was_signed_stop_the_market() {
    let bench = Bench::new(true).await;
    bench.show_another(1_000_000).await;
    assert!(bench.ask().await.trouble.is_some());
    let alarm = bench.shared.watch.alarm().unwrap();
    assert!(alarm.contains("they are older"), "{alarm}");
    // It is no proof of anything: the books may only have been set back.
    assert!(service::cases(&bench.shared.db).await.unwrap().is_empty());
    assert!(bench.shared.watch.stands_still());
    // A start does not forget it, also where the witness does not answer any more.
    let (db, data) = (bench.shared.db.clone(), bench.dir.path().join("data"));
    drop(bench._lock);
    let (data, _lock) = DataDir::take(&data).unwrap();
    let gone = site("http://127.0.0.1:9");
    let again = crate::platform::open(gone, &data, db, Clock::scaled(START, 1)).await;
    let alarm = again.unwrap().shared.watch.alarm().unwrap();
    assert!(
        alarm.starts_with("since ") && alarm.contains("they are older"),
        "{alarm}"
    );
}

#[tokio::test]
async fn books_that_lead_to_what_was_shown_go_on() {
    let bench = Bench::new(false).await;
    bench.grow().await;
    let shared = &bench.shared;
    let note = service::latest_checkpoint(&shared.db, Log::Ledger)
        .await
        .unwrap();
    let shown = SetBack {
        log: Log::Ledger,
        witness: "w.example".to_owned(),
        note: note.unwrap(),
        at: START,
    };
    let mut tx = shared.db.begin().await.unwrap();
    service::keep_set_back(&mut tx, &shown).await.unwrap();
    tx.commit().await.unwrap();
    remember(shared).await.unwrap();
    assert_eq!(shared.watch.alarm(), None);
}
