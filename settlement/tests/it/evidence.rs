//! Evidence: every kind, proven and not proven, from committed files that this code writes.
//!
//! `COMMONWATT_WRITE_VECTORS=1 cargo test -p settlement --test it evidence` writes them anew.

use std::collections::BTreeMap;
use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::energy::Energy;
use domain::ids::{CommunityId, DeviceId, Digest32, GatewayId, PointId};
use domain::key_record::{Holder, KeyRecord, PointRecord, PointRole};
use domain::order::{Order, Side};
use domain::quality::Quality;
use domain::reading::{ClockStamp, ClockState, MeasurementClass, Obis, Reading, Register};
use domain::record_word::RecordWord;
use domain::signed::{Message, PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use serde_json::{Value, json};
use settlement::evidence::{Evidence, FORMAT, Verdict, judge};
use settlement::log::checkpoint::Checkpoint;
use settlement::log::cosignature::{cosign, gateway_witness};
use settlement::log::entry::{Entry, Kind, PUBLIC};
use settlement::log::note::{Note, VerifierKey};
use settlement::log::proof::{LogProof, Opening, extra};
use settlement::log::tree::{Frontier, Node, consistency_plan, inclusion_plan, leaf_hash};

use settlement::log::checkpoint::Log;
use settlement::service::{
    Found, GatewayCosignature, ReadingOutcome, cases, found_in_readings, keep_found,
    keep_gateway_cosignatures, latest_checkpoint, log_proof, public_cases, reading_cases,
    refusal_cases,
};

use crate::world::{World, interval, who};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn street() -> CommunityId {
    CommunityId::new("street").unwrap()
}

fn reading(sequence: u64, start_wh: i64, passed_wh: i64) -> Reading {
    let gateway = GatewayId::new("gateway-1").unwrap();
    Reading {
        device: DeviceId::derive(&street(), &gateway, "home-a"),
        point: PointId::new("home-a").unwrap(),
        sequence,
        interval: interval(i64::try_from(sequence).unwrap()),
        registers: vec![Register {
            obis: Obis::IMPORT,
            start: Energy::from_wh(start_wh),
            end: Energy::from_wh(start_wh + passed_wh),
        }],
        era: 0,
        quality: Quality::MEASURED,
        clock: ClockStamp {
            signed_at: interval(i64::try_from(sequence).unwrap()).end(),
            state: ClockState::Synchronised,
            error_ms: 20,
        },
        meter_hash: [3; 8],
        class: MeasurementClass::MeterCounter,
        previous: Digest32([0; 32]),
        profile: [4; 8],
    }
}

fn order(sequence: u64, energy_wh: i64) -> Order {
    Order {
        participant: who("home-a"),
        point: PointId::new("home-a").unwrap(),
        side: Side::Bid,
        interval: interval(0),
        energy: Energy::from_wh(energy_wh),
        limit: "0.2".parse().unwrap(),
        sequence,
        replaces: None,
        preference: domain::order::Preference::default(),
    }
}

fn sign<T: Message>(seed: u8, message: &T) -> String {
    STANDARD.encode(Signed::sign(&key(seed), &street(), message).as_bytes())
}

fn public(seed: u8) -> String {
    STANDARD.encode(PublicKey::of(&key(seed)).to_bytes())
}

fn twice(first: &str, second: &str) -> Value {
    json!({ "kind": "equivocation", "format": FORMAT, "community": "street", "key": public(2),
            "first": first, "second": second })
}

fn rollback(earlier: &Reading, later: &Reading) -> Value {
    json!({ "kind": "register_rollback", "format": FORMAT, "community": "street", "key": public(2),
            "earlier": sign(2, earlier), "later": sign(2, later) })
}

fn within(reading: &Reading) -> Value {
    json!({ "kind": "register_rollback", "format": FORMAT, "community": "street", "key": public(2),
            "earlier": sign(2, reading) })
}

/// A record of the gateway's key.
fn record(rating_w: u32, valid_from: Timestamp) -> KeyRecord {
    let point = PointRecord {
        point: PointId::new("home-a").unwrap(),
        role: PointRole::Connection,
        participant: Some(who("home-a")),
        rating_w,
    };
    KeyRecord {
        key: PublicKey::of(&key(2)),
        holder: Holder::Gateway {
            gateway: GatewayId::new("gateway-1").unwrap(),
            points: vec![point],
        },
        valid_from,
    }
}

/// A ledger log with two records of the key: the second one raises the rating an hour later.
fn records() -> [KeyRecord; 2] {
    let start = interval(0).start();
    [record(1000, start), record(5000, start.plus_s(4500))]
}

/// The place of one of [`records`] in that log: the third and the fifth of six entries, under a checkpoint with the
/// gateway's signature of a time.
fn placed(which: usize, signer: u8, signed_at: Timestamp) -> String {
    let leaf = |n: usize| match n {
        2 | 4 => {
            let record = &records()[n / 2 - 1];
            let signed = Signed::sign(&key(1), &street(), record);
            Entry::new(Kind::Key, record.valid_from, PUBLIC, signed.as_bytes()).leaf_hash()
        }
        n => leaf_hash(&[u8::try_from(n).unwrap()]),
    };
    let (mut frontier, mut nodes) = (Frontier::default(), BTreeMap::new());
    for n in 0..6 {
        nodes.extend(frontier.append(leaf(n)));
    }
    let index = 2 * (u64::try_from(which).unwrap() + 1);
    let plan = inclusion_plan(index, 6).unwrap();
    let head = Checkpoint {
        size: 6,
        root: frontier.root(),
    };
    let note = head.sign("commonwatt/street/ledger", &key(1));
    let mut note = Note::parse(&note).unwrap();
    let witness = gateway_witness(&street(), PublicKey::of(&key(2))).unwrap();
    let line = cosign(&note.body, witness.name(), &key(signer), signed_at);
    note.signatures.push(line.unwrap());
    let proof = LogProof {
        extra: None,
        index,
        path: plan.path(|node| nodes.get(&node).copied()).unwrap(),
        note: note.to_text(),
    };
    proof.to_text()
}

fn word(which: usize, instant: Timestamp) -> RecordWord {
    let record = &records()[which];
    let signed = Signed::sign(&key(1), &street(), record);
    RecordWord {
        key: record.key.id(),
        instant,
        record: Digest32::of(signed.as_bytes()),
        valid_from: record.valid_from,
        index: 2 * (u64::try_from(which).unwrap() + 1),
        size: 6,
        issued_at: instant.plus_s(10),
    }
}

/// Without the operator's word, as programs from before it wrote it.
fn unsaid(reading: &Reading) -> Value {
    json!({ "kind": "above_nameplate", "format": FORMAT, "community": "street",
            "operator_key": public(1), "key_record": sign(1, &records()[0]), "reading": sign(2, reading) })
}

fn nameplate(reading: &Reading) -> Value {
    let mut case = unsaid(reading);
    case["word"] = json!(sign(1, &word(0, reading.interval.end())));
    case["proof"] = json!(placed(0, 2, interval(1).start()));
    case
}

fn with(mut case: Value, member: &str, text: String) -> Value {
    case[member] = json!(text);
    case
}

fn false_word(word: &RecordWord, which: usize) -> Value {
    json!({ "kind": "false_record_word", "format": FORMAT, "community": "street", "operator_key": public(1),
            "word": sign(1, word), "key_record": sign(1, &records()[which]),
            "proof": placed(which, 2, interval(1).start()) })
}

struct Tree {
    nodes: BTreeMap<Node, Digest32>,
    heads: Vec<Checkpoint>,
}

/// A log whose entries from the fourth on depend on `salt`.
fn tree(salt: &str) -> Tree {
    let mut frontier = Frontier::default();
    let (mut nodes, mut heads) = (BTreeMap::new(), Vec::new());
    for n in 0..9 {
        let salt = if n < 3 { "same" } else { salt };
        heads.push(Checkpoint {
            size: frontier.size(),
            root: frontier.root(),
        });
        nodes.extend(frontier.append(leaf_hash(format!("{salt} {n}").as_bytes())));
    }
    Tree { nodes, heads }
}

impl Tree {
    /// The hashes by which this tree of `size` entries begins with `old`, the start always first.
    fn beginning(&self, old: u64, size: u64) -> Vec<String> {
        let plan = consistency_plan(old, size).unwrap();
        let path = plan.path(|node| self.nodes.get(&node).copied()).unwrap();
        let start = old
            .is_power_of_two()
            .then(|| self.heads[usize::try_from(old).unwrap()].root);
        let all = start.into_iter().chain(path);
        all.map(|hash| hash.to_string()).collect()
    }

    fn note(&self, size: usize) -> String {
        self.heads[size].sign("commonwatt/street/ledger", &key(1))
    }

    fn cosigned(&self, size: usize) -> String {
        let mut note = Note::parse(&self.note(size)).unwrap();
        let line = cosign(&note.body, "w.example", &key(5), interval(0).start());
        note.signatures.push(line.unwrap());
        note.to_text()
    }
}

fn fork(first: &str, second: &str, beginning: &[String]) -> Value {
    let log = VerifierKey::of_log("commonwatt/street/ledger", PublicKey::of(&key(1))).unwrap();
    json!({ "kind": "operator_fork", "format": FORMAT, "log": log.to_string(),
            "first": first, "second": second, "beginning": beginning })
}

fn witness_fork(first: &str, second: &str, beginning: &[String]) -> Value {
    let witness = VerifierKey::of_witness("w.example", PublicKey::of(&key(5))).unwrap();
    json!({ "kind": "witness_fork", "format": FORMAT, "witness": witness.to_string(),
            "first": first, "second": second, "beginning": beginning })
}

/// Name, expected verdict, evidence.
fn all_cases() -> Vec<(&'static str, &'static str, Value)> {
    let mut cases = messages();
    cases.extend(ratings());
    cases.extend(forks());
    cases
}

/// A case against a rating in which one member is another's.
fn altered_ratings() -> Vec<(&'static str, &'static str, Value)> {
    let (not, bad) = ("not_proven", "bad");
    let above = reading(3, 0, 327);
    let end = above.interval.end();
    let mut elsewhere = word(0, end);
    elsewhere.index = 3;
    let other_record = word(1, reading(6, 0, 900).interval.end());
    let altered = [
        (
            "a word on another instant",
            not,
            "word",
            sign(1, &word(0, end.plus_s(1))),
        ),
        (
            "a word on another record",
            not,
            "word",
            sign(1, &other_record),
        ),
        ("a word on another place", not, "word", sign(1, &elsewhere)),
        (
            "a word that the gateway has signed",
            not,
            "word",
            sign(2, &word(0, end)),
        ),
        ("a word that is none", not, "word", "AAAA".to_owned()),
        ("a place that is none", bad, "proof", "hello".to_owned()),
        (
            "the place of another record",
            not,
            "proof",
            placed(1, 2, interval(1).start()),
        ),
        (
            "a record that the gateway has signed for afterwards",
            not,
            "proof",
            placed(0, 2, end.plus_s(1)),
        ),
        (
            "a record that another gateway has signed for",
            not,
            "proof",
            placed(0, 3, interval(1).start()),
        ),
        (
            "a reading of another gateway",
            not,
            "reading",
            sign(3, &above),
        ),
    ];
    let altered = altered.into_iter().map(|(name, verdict, member, text)| {
        (name, verdict, with(nameplate(&above), member, text))
    });
    altered.collect()
}

/// Readings of one interval in the first hour against [`records`], and words on which of these counted.
fn ratings() -> Vec<(&'static str, &'static str, Value)> {
    let (proven, not) = ("proven", "not_proven");
    let above = reading(3, 0, 327);
    let allowed = nameplate(&reading(3, 0, 326));
    let mut ratings = vec![
        (
            "more than the rating that counted",
            proven,
            nameplate(&above),
        ),
        ("what the rating just allows", not, allowed),
        (
            "more than the rating, without the operator's word",
            not,
            unsaid(&above),
        ),
    ];
    ratings.extend(altered_ratings());
    ratings.push(("a reading under a later record", not, {
        let mut early = reading(1, 0, 900);
        early.interval = interval(-2);
        unsaid(&early)
    }));
    ratings.extend(lies());
    ratings
}

/// By the operator's word a reading is above the rating; the later record shows that the word is a lie.
fn lies() -> Vec<(&'static str, &'static str, Value)> {
    let (proven, not) = ("proven", "not_proven");
    let later = reading(6, 0, 900);
    let lie = word(0, later.interval.end());
    let early = RecordWord {
        size: 4,
        ..lie.clone()
    };
    let of_another_time = word(0, reading(3, 0, 327).interval.end());
    vec![
        (
            "more than the rating that was raised, by a lie",
            proven,
            nameplate(&later),
        ),
        ("the lie", proven, false_word(&lie, 1)),
        ("a word and its own record", not, false_word(&lie, 0)),
        (
            "a word and a record of a later time",
            not,
            false_word(&of_another_time, 1),
        ),
        (
            "a word from before the record was there",
            not,
            false_word(&early, 1),
        ),
    ]
}

fn messages() -> Vec<(&'static str, &'static str, Value)> {
    let (proven, not, bad) = ("proven", "not_proven", "bad");
    let [one, other] = [reading(4, 1000, 10), reading(4, 1000, 11)];
    let next = reading(5, 1011, 10);
    let mut exchanged = reading(5, 3, 10);
    exchanged.era = 1;
    let mut unknown = nameplate(&reading(3, 0, 900));
    unknown["more"] = json!(1);
    let mut later = twice(&sign(2, &one), &sign(2, &other));
    later["format"] = json!("commonwatt-evidence/v2");
    vec![
        (
            "two readings with one sequence",
            proven,
            twice(&sign(2, &one), &sign(2, &other)),
        ),
        (
            "two orders with one sequence",
            proven,
            twice(&sign(2, &order(1, 5)), &sign(2, &order(1, 6))),
        ),
        (
            "the same reading twice",
            not,
            twice(&sign(2, &one), &sign(2, &one)),
        ),
        (
            "two readings with two sequences",
            not,
            twice(&sign(2, &one), &sign(2, &next)),
        ),
        (
            "a reading and an order",
            not,
            twice(&sign(2, &one), &sign(2, &order(4, 5))),
        ),
        (
            "one of them by another key",
            not,
            twice(&sign(2, &one), &sign(3, &other)),
        ),
        ("a message that is none", not, twice(&sign(2, &one), "AAAA")),
        (
            "a message that is not base64",
            bad,
            twice(&sign(2, &one), "!"),
        ),
        ("a format of the future", bad, later),
        (
            "a register that fell",
            proven,
            rollback(&one, &reading(5, 1009, 10)),
        ),
        (
            "a register that went on",
            not,
            rollback(&one, &reading(5, 1010, 10)),
        ),
        (
            "a register that fell with another meter",
            not,
            rollback(&one, &exchanged),
        ),
        (
            "a register that fell within one reading",
            proven,
            within(&reading(4, 1000, -1)),
        ),
        (
            "one reading in which no register fell",
            not,
            within(&reading(4, 1000, 0)),
        ),
        (
            "a register that fell, the wrong way round",
            not,
            rollback(&reading(5, 1009, 10), &one),
        ),
        ("a member that the format does not have", bad, unknown),
    ]
}

fn forks() -> Vec<(&'static str, &'static str, Value)> {
    let (proven, not, bad) = ("proven", "not_proven", "bad");
    let (a, b) = (tree("a"), tree("b"));
    let same = b.beginning(3, 7);
    let mut wrong = b.beginning(5, 7);
    wrong[1] = Digest32([7; 32]).to_string();
    let operator_only = witness_fork(&a.note(6), &b.note(6), &[]);
    let mut other_key = fork(&a.note(6), &b.note(6), &[]);
    let key = VerifierKey::of_log("commonwatt/street/ledger", PublicKey::of(&key(9))).unwrap();
    other_key["log"] = json!(key.to_string());
    vec![
        (
            "two roots of one size",
            proven,
            fork(&a.note(6), &b.note(6), &[]),
        ),
        (
            "a larger tree with another beginning",
            proven,
            fork(&a.note(5), &b.note(7), &b.beginning(5, 7)),
        ),
        (
            "the same, larger one first",
            proven,
            fork(&b.note(7), &a.note(5), &b.beginning(5, 7)),
        ),
        (
            "another beginning of a power of two",
            proven,
            fork(&a.note(4), &b.note(8), &b.beginning(4, 8)),
        ),
        (
            "a tree that only grew",
            not,
            fork(&a.note(3), &b.note(7), &same),
        ),
        (
            "one checkpoint twice",
            not,
            fork(&a.note(6), &a.note(6), &[]),
        ),
        (
            "hashes of another tree",
            not,
            fork(&a.note(5), &b.note(7), &a.beginning(5, 7)),
        ),
        ("a changed hash", not, fork(&a.note(5), &b.note(7), &wrong)),
        ("no hashes", not, fork(&a.note(5), &b.note(7), &[])),
        ("not the operator's checkpoints", not, other_key),
        (
            "a checkpoint that is no note",
            bad,
            fork("hello", &b.note(7), &[]),
        ),
        (
            "a hash that is none",
            bad,
            fork(&a.note(5), &b.note(7), &["zz".to_owned()]),
        ),
        (
            "a witness that signed for both",
            proven,
            witness_fork(&a.cosigned(6), &b.cosigned(6), &[]),
        ),
        (
            "a witness that signed for a growing log",
            not,
            witness_fork(&a.cosigned(3), &b.cosigned(7), &same),
        ),
        ("a witness that signed for none", not, operator_only),
    ]
}

#[test]
fn the_operators_lie_is_made_of_the_case_and_of_a_proof_of_the_other_record() {
    let read = |case: &Value| Evidence::read(&case.to_string()).unwrap();
    let later = nameplate(&reading(6, 0, 900));
    let opened = |which: usize| {
        let record = &records()[which];
        let opening = Opening {
            salt: PUBLIC,
            content: Signed::sign(&key(1), &street(), record).as_bytes().to_vec(),
        };
        let entry = Entry::new(Kind::Key, record.valid_from, PUBLIC, &opening.content);
        let mut proof = LogProof::parse(&placed(which, 2, interval(1).start())).unwrap();
        proof.extra = Some(extra(&entry, Some(&opening)));
        proof.to_text()
    };
    let judged = |case: &Value, proof: &str| judge(&read(case).against(proof).unwrap()).unwrap();
    let Verdict::Proven { offender, .. } = judged(&later, &opened(1)) else {
        panic!("the lie is not proven");
    };
    assert_eq!(offender, "the operator");
    let honest = nameplate(&reading(3, 0, 327));
    for (case, which) in [(&later, 0), (&honest, 1)] {
        let verdict = judged(case, &opened(which));
        assert!(matches!(verdict, Verdict::NotProven { .. }), "{verdict:?}");
    }
    let sealed = placed(1, 2, interval(1).start());
    assert!(read(&later).against(&sealed).is_err());
    assert!(read(&later).against("hello").is_err());
    let other = twice(&sign(2, &order(1, 5)), &sign(2, &order(1, 6)));
    assert!(read(&other).against(&opened(1)).is_err());
}

#[tokio::test]
async fn what_was_refused_proves_itself_where_it_can() {
    use domain::rejection::Rejection;

    let mut world = crate::world::World::on_sqlite(&["home-a", "home-b"]).await;
    world.meter("home-a", 0, 100, 0).await;
    let next = world.read("home-a", 1, 10, 0);
    let refused = |outcome| match outcome {
        ReadingOutcome::Rejected { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    // A register that stands below where it stood, and one that jumped ahead and fell within the reading: each is proof.
    for (sequence, moved) in [(2, -50), (3, 70)] {
        let mut wrong = next.clone();
        wrong.sequence = sequence;
        wrong.interval = interval(i64::try_from(sequence).unwrap() - 1);
        let start = wrong.registers[0].start.wh() + moved;
        wrong.registers[0].start = Energy::from_wh(start);
        wrong.registers[0].end = Energy::from_wh(start + if moved > 0 { -1 } else { 10 });
        let reason = refused(world.accept(&wrong).await);
        assert_eq!(reason, Rejection::ValueRegression);
    }
    let mut large = world.read("home-b", 0, 1, 0);
    large.registers[0].end = Energy::from_wh(1_000_000);
    assert_eq!(refused(world.accept(&large).await), Rejection::Implausible);
    let cases = refusal_cases(&world.db, &world.community.id).await;
    let cases = cases.unwrap();
    // Too much energy is refused and proves nothing by itself: a later record may have raised the rating.
    let kinds: Vec<&str> = cases.iter().map(Evidence::kind).collect();
    assert_eq!(kinds, ["register_rollback", "register_rollback"]);
    for case in &cases {
        let verdict = judge(&Evidence::read(&case.to_text()).unwrap()).unwrap();
        assert!(matches!(verdict, Verdict::Proven { .. }), "{verdict:?}");
    }
    let twice = reading_cases(&world.db, &world.community.id).await.unwrap();
    assert!(twice.is_empty());
    let mut other = reading(1, 5, 5);
    other.interval = interval(0);
    other.device = next.device;
    assert_eq!(refused(world.accept(&other).await), Rejection::Equivocation);
    let twice = reading_cases(&world.db, &world.community.id).await.unwrap();
    assert!(matches!(judge(&twice[0]), Ok(Verdict::Proven { .. })));
}

/// The gateway signs for the newest head of the ledger log at this time.
async fn gateway_signs(world: &World, at: Timestamp) {
    let note = latest_checkpoint(&world.db, Log::Ledger).await.unwrap();
    let note = Note::parse(&note.unwrap()).unwrap();
    let (_, head) = Checkpoint::read_body(&note.body).unwrap();
    let key = PublicKey::of(&world.gateway_key);
    let witness = gateway_witness(&world.community.id, key).unwrap();
    let line = cosign(&note.body, witness.name(), &world.gateway_key, at);
    let signed = GatewayCosignature {
        size: head.size,
        gateway: world.gateway.clone(),
        kid: key.id(),
        line: line.unwrap(),
    };
    let mut tx = world.db.begin().await.unwrap();
    keep_gateway_cosignatures(&mut tx, at, &[signed])
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn found(world: &World, now: Timestamp) -> Vec<Found> {
    let found = found_in_readings(&world.db, &world.community, now, Timestamp::EPOCH).await;
    let (found, is_all) = found.unwrap();
    assert!(is_all);
    found
}

async fn keep(world: &World, now: Timestamp, all: &[Found]) -> usize {
    let mut tx = world.db.begin().await.unwrap();
    let new = keep_found(&mut tx, now, all).await.unwrap();
    tx.commit().await.unwrap();
    new
}

async fn not_known_in_time(mut world: World) {
    let (start, end) = (interval(0).start(), interval(0).end());
    let mut large = world.read("home-b", 0, 1, 0);
    large.registers[0].end = Energy::from_wh(1_000_000);
    assert!(matches!(
        world.accept(&large).await,
        ReadingOutcome::Rejected { .. }
    ));
    // Nothing shows that the gateway knew of its rating: no proof, and after an hour nobody looks any more.
    assert_eq!(found(&world, end).await, []);
    world.checkpoint(start).await;
    gateway_signs(&world, end.plus_s(1)).await;
    assert_eq!(found(&world, end).await, []);
    let waited = found(&world, end.plus_s(7200)).await;
    assert_eq!((waited.len(), &waited[0].evidence), (1, &None));
}

#[tokio::test]
async fn a_gateway_that_has_signed_too_late_is_not_proven_to_have_exceeded_its_rating() {
    not_known_in_time(World::on_sqlite(&["home-a", "home-b"]).await).await;
}

async fn kept_and_logged(mut world: World) {
    let (start, end) = (interval(0).start(), interval(0).end());
    world.checkpoint(start).await;
    gateway_signs(&world, start).await;
    let mut large = world.read("home-b", 0, 1, 0);
    large.registers[0].end = Energy::from_wh(1_000_000);
    assert!(matches!(
        world.accept(&large).await,
        ReadingOutcome::Rejected { .. }
    ));
    let mut fell = world.read("home-a", 0, 1, 0);
    fell.registers[0].end = Energy::from_wh(fell.registers[0].start.wh() - 1);
    assert!(matches!(
        world.accept(&fell).await,
        ReadingOutcome::Rejected { .. }
    ));
    let all = found(&world, end).await;
    let kinds = |all: &[Found]| {
        let kinds = all.iter().filter_map(|f| Some(f.evidence.as_ref()?.kind()));
        let mut kinds: Vec<&str> = kinds.collect();
        kinds.sort_unstable();
        kinds.join(" ")
    };
    assert_eq!(kinds(&all), "above_nameplate register_rollback");
    let owners: Vec<_> = all.iter().map(|found| found.owner.clone()).collect();
    assert!(owners.contains(&Some(who("home-a"))) && owners.contains(&Some(who("home-b"))));
    assert_eq!(keep(&world, end, &all).await, 2);
    // Once: neither found again nor kept again, nor written out as something new.
    assert_eq!(found(&world, end).await, []);
    assert_eq!(keep(&world, end, &all).await, 0);
    let id = &world.community.id;
    assert_eq!(refusal_cases(&world.db, id).await.unwrap(), []);
    world.checkpoint(end).await;
    gateway_signs(&world, end).await;
    let cases = cases(&world.db).await.unwrap();
    assert_eq!(cases.len(), 2);
    assert!(public_cases(&world.db).await.unwrap().is_empty());
    for case in cases {
        let verdict = judge(&Evidence::read(&case.text).unwrap());
        assert!(matches!(verdict, Ok(Verdict::Proven { .. })), "{verdict:?}");
        let index = case.log_index.unwrap();
        let proof = log_proof(&world.db, Log::Ledger, index, None).await;
        let (entry, _) = proof.unwrap().unwrap().entry().unwrap();
        // Sealed: a household's messages are in it.
        assert_eq!(entry.kind, Kind::Evidence);
        let open = Entry::new(Kind::Evidence, entry.start, PUBLIC, case.text.as_bytes());
        assert_ne!(open, entry);
    }
}

#[tokio::test]
async fn a_reading_above_the_rating_is_proven_kept_and_logged() {
    kept_and_logged(World::on_sqlite(&["home-a", "home-b"]).await).await;
    if let Some(world) = World::on_postgres(&["home-a", "home-b"]).await {
        kept_and_logged(world).await;
    }
}

#[test]
fn the_judge_says_what_the_committed_files_expect() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/evidence.json");
    let cases = all_cases();
    let written: Vec<Value> = cases
        .iter()
        .map(|(name, verdict, evidence)| json!({ "name": name, "verdict": verdict, "evidence": evidence }))
        .collect();
    let text = serde_json::to_string_pretty(&written).unwrap() + "\n";
    if std::env::var_os("COMMONWATT_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        committed, text,
        "the committed vectors are not what this code writes"
    );
    for (name, expected, evidence) in cases {
        let read = Evidence::read(&evidence.to_string());
        let verdict = match read.and_then(|evidence| judge(&evidence)) {
            Ok(Verdict::Proven { .. }) => "proven",
            Ok(Verdict::NotProven { .. }) => "not_proven",
            Err(_) => "bad",
        };
        assert_eq!(verdict, expected, "{name}");
        if let Ok(read) = Evidence::read(&evidence.to_string()) {
            assert_eq!(Evidence::read(&read.to_text()), Ok(read));
        }
    }
}

#[test]
fn no_bit_of_a_proof_can_be_flipped_into_another_accusation() {
    for (name, expected, evidence) in all_cases() {
        if expected != "proven" {
            continue;
        }
        let text = evidence.to_string();
        let read = Evidence::read(&text).unwrap();
        let told = judge(&read).unwrap();
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            let Ok(changed) = Evidence::read(&changed) else {
                continue;
            };
            if changed != read
                && let Ok(Verdict::Proven { offender, what }) = judge(&changed)
            {
                // A witness's fork needs no signature of the operator, and the operator's lie none of a gateway; nothing
                // else may be changed.
                let same = told == Verdict::Proven { offender, what };
                assert!(
                    same && (name.starts_with("a witness") || name == "the lie"),
                    "{name}: byte {index}"
                );
            }
        }
    }
}
