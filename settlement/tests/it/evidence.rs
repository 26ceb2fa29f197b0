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
use domain::signed::{Message, PublicKey, Signed, SigningKey};
use serde_json::{Value, json};
use settlement::evidence::{Evidence, FORMAT, Verdict, judge};
use settlement::log::checkpoint::Checkpoint;
use settlement::log::cosignature::cosign;
use settlement::log::note::{Note, VerifierKey};
use settlement::log::tree::{Frontier, Node, consistency_plan, leaf_hash};

use crate::world::{interval, who};

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

fn nameplate(rating_w: u32, reading: &Reading) -> Value {
    let point = PointRecord {
        point: PointId::new("home-a").unwrap(),
        role: PointRole::Connection,
        participant: Some(who("home-a")),
        rating_w,
    };
    let record = KeyRecord {
        key: PublicKey::of(&key(2)),
        holder: Holder::Gateway {
            gateway: GatewayId::new("gateway-1").unwrap(),
            points: vec![point],
        },
        valid_from: interval(0).start(),
    };
    json!({ "kind": "above_nameplate", "format": FORMAT, "community": "street",
            "operator_key": public(1), "key_record": sign(1, &record), "reading": sign(2, reading) })
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
fn cases() -> Vec<(&'static str, &'static str, Value)> {
    let mut cases = messages();
    cases.extend(forks());
    cases
}

fn messages() -> Vec<(&'static str, &'static str, Value)> {
    let (proven, not, bad) = ("proven", "not_proven", "bad");
    let [one, other] = [reading(4, 1000, 10), reading(4, 1000, 11)];
    let next = reading(5, 1011, 10);
    let mut exchanged = reading(5, 3, 10);
    exchanged.era = 1;
    let mut unknown = nameplate(1000, &reading(4, 0, 900));
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
            "a register that fell, the wrong way round",
            not,
            rollback(&reading(5, 1009, 10), &one),
        ),
        (
            "more than the rating of this record allows",
            not,
            nameplate(1000, &reading(4, 0, 327)),
        ),
        (
            "what the rating just allows",
            not,
            nameplate(1000, &reading(4, 0, 326)),
        ),
        ("a reading under a later record", not, {
            let mut early = reading(1, 0, 900);
            early.interval = interval(-2);
            nameplate(1000, &early)
        }),
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

#[tokio::test]
async fn what_was_refused_proves_itself_where_it_can() {
    use domain::rejection::Rejection;
    use settlement::service::{ReadingOutcome, reading_cases, refusal_cases};

    let mut world = crate::world::World::on_sqlite(&["home-a", "home-b"]).await;
    world.meter("home-a", 0, 100, 0).await;
    let next = world.read("home-a", 1, 10, 0);
    let refused = |outcome| match outcome {
        ReadingOutcome::Rejected { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    // A register that stands below where it stood, and one that jumped ahead: only the first is proof.
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
    // Too much energy is refused and proves nothing to others: a later record may have raised the rating.
    let kinds: Vec<&str> = cases.iter().map(Evidence::kind).collect();
    assert_eq!(kinds, ["register_rollback"]);
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

#[test]
fn the_judge_says_what_the_committed_files_expect() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/evidence.json");
    let cases = cases();
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
    for (name, expected, evidence) in cases() {
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
                // A witness's fork needs no signature of the operator; nothing else may be changed.
                let same = told == Verdict::Proven { offender, what };
                assert!(
                    same && name.starts_with("a witness"),
                    "{name}: byte {index}"
                );
            }
        }
    }
}
