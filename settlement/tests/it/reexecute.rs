//! An auditor with the logs and what opens them settles every run again, and finds whatever was changed.

use std::collections::BTreeMap;

use domain::ids::{CommunityId, Digest32, PointId};
use domain::introduction::{Introduction, KeyRequest, PointStart};
use domain::openings::{Opened, OpenedInterval, Openings};
use domain::order::Side;
use domain::posting::Run;
use domain::receipt::{Line, Salt};
use domain::revocation::Revocation;
use domain::run_record::RunRecord;
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::terms::Terms;
use domain::trade::Clearing;
use runtime::args;
use settlement::log::checkpoint::Log;
use settlement::log::entry::{Entry, Kind, PUBLIC};
use settlement::reexecute::{Executor, Fault, Leaves, Registry, Settled, facts};
use settlement::service::{forget, introduce, openings};

use crate::key_changes::{new_participant_key, settled};
use crate::own_keys::{bring, home, introduction};
use crate::world::{World, interval, order_key, price, who};

const DAY: i64 = 96;

/// What an auditor has: the logs' entries, the clearings, and what the operator handed over.
#[derive(Clone)]
struct Case {
    entries: BTreeMap<(u8, u64), Entry>,
    clearings: BTreeMap<i64, Clearing>,
    openings: Openings,
    operator: PublicKey,
}

/// Two intervals a day apart: in the second one a home is silent at first, and speaks before the next run.
async fn street(mut world: World) -> (World, Case) {
    world.deposit("home-a", "10").await;
    let mut clearings = BTreeMap::new();
    for n in [0, DAY] {
        let bid = world.order("home-a", Side::Bid, n, 1000, "0.2");
        let offer = world.order("home-b", Side::Offer, n, 1000, "0.1");
        world.hold(&bid).await;
        let outcome = world.outcome(n, &[bid, offer], &[(0, 1, 900)], "0.15");
        world.contract(&outcome).await;
        world.meter("home-a", n, 950, 0).await;
        world.meter("home-b", n, 0, 930).await;
        let late = world.read("home-c", n, 330, 0);
        world.meter("feeder", n, 400, 20).await;
        if n == 0 {
            world.accept(&late).await;
        }
        world.run(&outcome, Run::Provisional).await;
        if n == DAY {
            world.accept(&late).await;
        }
        world.run(&outcome, Run::Initial).await;
        world.run(&outcome, Run::Final).await;
        clearings.insert(outcome.clearing.interval.start_s(), outcome.clearing);
    }
    world.checkpoint(interval(DAY + 1).start()).await;
    let case = case(&world, clearings).await;
    (world, case)
}

async fn case(world: &World, clearings: BTreeMap<i64, Clearing>) -> Case {
    let sql = "SELECT log, idx, leaf FROM settle_log_entries ORDER BY log, idx";
    let rows: Vec<(i64, i64, Vec<u8>)> = world.db.fetch_all(sql, args![]).await.unwrap();
    let entry = |(log, index, leaf): (i64, i64, Vec<u8>)| {
        let key = (u8::try_from(log).unwrap(), u64::try_from(index).unwrap());
        (key, Entry::from_leaf(&leaf).unwrap())
    };
    let range = (interval(0).start(), interval(DAY + 9).start());
    let (db, operator) = (&world.db, &world.community.operator);
    Case {
        entries: rows.into_iter().map(entry).collect(),
        clearings,
        openings: openings(db, "street", operator, range).await.unwrap(),
        operator: PublicKey::of(operator),
    }
}

const HOMES: [&str; 3] = ["home-a", "home-b", "home-c"];

impl Case {
    fn registry(&self) -> Result<(Leaves, Registry), Fault> {
        let mut leaves = Leaves::default();
        for ((log, index), entry) in &self.entries {
            let log = Log::ALL.into_iter().find(|l| l.code() == *log).unwrap();
            leaves.take(log, *index, entry);
        }
        let community = CommunityId::new("street").unwrap();
        let registry = Registry::read(&leaves, &community, self.operator, &self.openings)?;
        Ok((leaves, registry))
    }

    fn audit(&self) -> Result<Vec<Settled>, Fault> {
        let (leaves, registry) = self.registry()?;
        let mut known = Vec::new();
        for opened in &self.openings.intervals {
            let clearing = &self.clearings[&opened.interval.start_s()];
            known.push((opened, facts(&leaves, &registry, clearing, opened)?));
        }
        let mut executor = Executor::default();
        let mut runs: Vec<_> = Vec::new();
        for (opened, facts) in &known {
            runs.extend(opened.runs.iter().map(|run| (run, facts)));
        }
        runs.sort_by_key(|(run, _)| run.index);
        let run = |(run, facts)| executor.run(&leaves, &registry, facts, run);
        runs.into_iter().map(run).collect()
    }

    fn wrong(&self) -> String {
        match self.audit() {
            Err(Fault::Wrong(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn sealed(&self) -> String {
        match self.audit() {
            Err(Fault::Sealed(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn second(&mut self) -> &mut OpenedInterval {
        &mut self.openings.intervals[1]
    }

    /// The log commits to something else, as that of an operator who cheats.
    fn commit(&mut self, log: Log, kind: Kind, index: u64, salt: Salt, content: &[u8]) {
        let entry = self.entries.get_mut(&(log.code(), index)).unwrap();
        *entry = Entry::new(kind, entry.start, salt, content);
    }

    /// A line of the second interval as the operator would like it.
    fn cheat_line(&mut self, run: usize, line: usize, change: impl Fn(&mut Line)) {
        let opened = &mut self.second().runs[run].lines[line];
        let mut content: Line = minicbor::decode(&opened.content).unwrap();
        change(&mut content);
        opened.content = content.to_cbor();
        let (index, salt, content) = (opened.index, opened.salt, opened.content.clone());
        self.commit(Log::Ledger, Kind::Line, index, salt, &content);
    }

    fn cheat_record(&mut self, run: usize, change: impl Fn(&mut RunRecord)) {
        let opened = &mut self.second().runs[run];
        change(&mut opened.record);
        let (index, content) = (opened.index, opened.record.to_cbor());
        self.commit(Log::Ledger, Kind::Run, index, PUBLIC, &content);
    }
}

#[tokio::test]
async fn every_run_is_settled_again_to_the_same_bytes() {
    let (_world, case) = street(World::on_sqlite(&HOMES).await).await;
    let settled = case.audit().unwrap();
    let lines: Vec<usize> = settled.iter().map(|s| s.lines).collect();
    // What nothing changed for has no line; the silent home has one in the provisional run and is corrected.
    assert_eq!((settled.len(), lines[0], lines[1], lines[3]), (6, 3, 0, 3));
    assert!(lines[4] >= 1, "{lines:?}");
    let substituted: Vec<usize> = settled.iter().map(|s| s.substituted).collect();
    assert_eq!(substituted, [0, 0, 0, 1, 0, 0]);
    assert!(
        settled
            .iter()
            .all(|s| s.steps_closed == 0 && s.inputs_compared)
    );
}

#[tokio::test]
async fn terms_steps_and_holdback_are_settled_again_too() {
    let terms = Terms {
        community_fee_bp: 150,
        holdback_bp: 1000,
        spread: price("0.01"),
        ..Terms::default()
    };
    let text = "time_zone = \"Europe/Berlin\"\n[[version]]\nname = \"steps\"\nvalid_from = \"2026-01-01T00:00:00Z\"\n\
        feed_in = \"0.08\"\nnetwork_fee = \"0.07\"\nkind = \"tiered\"\n[[version.step]]\nfrom_kwh = 0\nretail = \"0.30\"\n\
        [[version.step]]\nfrom_kwh = 1\nretail = \"0.40\"\n";
    let mut none = |_: &str| Err("no file".to_owned());
    let tariffs = settlement::tariff::Tariffs::from_toml(text, &mut none).unwrap();
    let (_world, case) = street(World::under(&HOMES, tariffs, terms).await).await;
    let settled = case.audit().unwrap();
    assert!(
        settled
            .iter()
            .all(|s| s.steps_closed == 0 && s.inputs_compared),
        "{settled:?}"
    );
    // Without the first interval, where homes stood on the steps is believed, and said so.
    let mut later = case.clone();
    later.openings.intervals.remove(0);
    let settled = later.audit().unwrap();
    assert!(settled.iter().all(|s| s.steps_closed == 1), "{settled:?}");
    assert!(
        settled[0].inputs_compared,
        "each home has a line: {settled:?}"
    );
    // Where it makes no difference to anybody's money, the digest of the run's inputs still tells.
    later.openings.intervals[0].runs.truncate(1);
    let opened = &mut later.openings.intervals[0].runs[0].lines[1];
    let mut line: Line = minicbor::decode(&opened.content).unwrap();
    line.tiers.as_mut().unwrap().used_wh = domain::energy::Energy::from_wh(7);
    opened.content = line.to_cbor();
    let (index, salt, content) = (opened.index, opened.salt, opened.content.clone());
    later.commit(Log::Ledger, Kind::Line, index, salt, &content);
    assert!(
        later.wrong().contains("its inputs are not those"),
        "{}",
        later.wrong()
    );
    // With it, another place on the steps is found.
    let mut cheated = case;
    cheated.cheat_line(0, 0, |line| {
        line.tiers.as_mut().unwrap().used_wh = domain::energy::Energy::from_wh(5000);
    });
    assert!(cheated.wrong().contains("home-a"), "{}", cheated.wrong());
}

#[tokio::test]
async fn whatever_the_operator_changed_is_found_and_named() {
    let (_world, good) = street(World::on_sqlite(&HOMES).await).await;
    let after = |change: &dyn Fn(&mut Case)| {
        let mut case = good.clone();
        change(&mut case);
        case.wrong()
    };
    let posting = after(&|case| case.cheat_line(0, 1, |line| line.postings[0].amount += 1));
    assert!(
        posting.starts_with("home-b:") && posting.contains("the log has"),
        "{posting}"
    );
    let flow = after(&|case| {
        case.cheat_line(0, 0, |line| {
            line.delivery.imported = domain::energy::Energy::from_wh(951);
        });
    });
    assert!(flow.contains("the signed readings and trades"), "{flow}");
    let tariff = after(&|case| case.cheat_record(0, |record| record.rules.retail = price("0.33")));
    assert!(tariff.contains("other prices"), "{tariff}");
    let inputs = after(&|case| case.cheat_record(0, |record| record.inputs = Digest32([9; 32])));
    assert!(inputs.contains("inputs are not those"), "{inputs}");
    let outcome = after(&|case| case.cheat_record(0, |record| record.outcome = Digest32([9; 32])));
    assert!(outcome.contains("in nobody's line"), "{outcome}");
    let program = after(&|case| case.cheat_record(1, |record| record.program.push('x')));
    assert!(program.contains("inputs are not those"), "{program}");
    let earlier = after(&|case| case.cheat_record(0, |record| record.readings_size = 1));
    assert!(earlier.contains("fewer readings"), "{earlier}");
    let reading = after(&|case| {
        let opened = &mut case.second().readings[0];
        let last = opened.content.len() - 1;
        opened.content[last] ^= 1;
        let (index, salt, content) = (opened.index, opened.salt, opened.content.clone());
        case.commit(Log::Readings, Kind::Reading, index, salt, &content);
    });
    assert!(reading.starts_with("reading "), "{reading}");
    let handed = after(&|case| {
        let content = &mut case.second().orders[0].content;
        content[40] ^= 1;
    });
    assert!(
        handed.contains("not the order that was handed over"),
        "{handed}"
    );
}

#[tokio::test]
async fn what_is_not_opened_is_said_and_not_held_against_anybody() {
    let (world, good) = street(World::on_sqlite(&HOMES).await).await;
    let mut case = good.clone();
    case.second().readings.pop();
    assert_eq!(case.sealed(), "1 of 4 reading entries are not opened");
    let mut case = good.clone();
    case.second().runs[0].lines.remove(1);
    assert_eq!(case.sealed(), "1 of 3 lines are not opened");
    let mut case = good.clone();
    case.second().runs.remove(0);
    assert!(
        case.sealed().contains("a run before it"),
        "{}",
        case.sealed()
    );
    let mut case = good.clone();
    case.openings.keys.pop();
    assert!(
        case.sealed().contains("key records are not opened"),
        "{}",
        case.sealed()
    );
    let mut case = good.clone();
    case.second().earlier.clear();
    assert!(
        case.sealed().contains("a substitute for home-c"),
        "{}",
        case.sealed()
    );
    // Who was forgotten cannot be opened any more, by the operator neither.
    let mut tx = world.db.begin().await.unwrap();
    forget(&mut tx, &who("home-c")).await.unwrap();
    tx.commit().await.unwrap();
    let case = self::case(&world, good.clearings).await;
    assert_eq!(case.sealed(), "1 of 4 reading entries are not opened");
}

/// An order that the gate was not open for while its key counted cannot have been taken; one that may have come before the
/// change of keys is no fault.
#[tokio::test]
async fn an_order_under_a_key_that_did_not_count_is_found() {
    let (old, new) = (order_key("home-a"), SigningKey::from_bytes(&[12; 32]));
    let table = [
        (&old, DAY + 2, None),
        (&old, DAY + 3, Some("its key had ended at")),
        (&new, 2, None),
        (&new, 1, Some("and counts only from")),
        (&new, DAY + 3, None),
    ];
    for (own, n, expect) in table {
        let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
        world.deposit("home-a", "10").await;
        new_participant_key(&world, &new, interval(2).start()).await;
        let cleared = settled(&mut world, n, own).await.clearing;
        world.checkpoint(interval(n + 1).start()).await;
        let clearings = BTreeMap::from([(cleared.interval.start_s(), cleared)]);
        let case = case(&world, clearings).await;
        match expect {
            Some(expect) => assert!(case.wrong().contains(expect), "{}", case.wrong()),
            None => assert_eq!(case.audit().map(|runs| runs.len()), Ok(1), "{n}"),
        }
    }
}

#[tokio::test]
async fn a_participants_rotation_shows_the_signatures_of_both_keys() {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    world.deposit("home-a", "10").await;
    let (old, new) = (order_key("home-a"), SigningKey::from_bytes(&[12; 32]));
    let before = settled(&mut world, 0, &old).await.clearing;
    let (a, b) = (home("home-a"), home("home-b"));
    let signed = introduction(&world, &a, &new, &old);
    bring(&world, &a, &signed, (interval(1).start(), true))
        .await
        .unwrap();
    let after = settled(&mut world, 2, &new).await.clearing;
    world.checkpoint(interval(3).start()).await;
    let cleared = [before, after].map(|one| (one.interval.start_s(), one));
    let case = case(&world, BTreeMap::from(cleared)).await;
    assert_eq!(case.audit().map(|runs| runs.len()), Ok(2));
    let count = case.registry().unwrap().1.count();
    assert_eq!((count.rotated, count.claimed), (1, 0));
    // One that lets a home's key in on a neighbour's word is found, whatever the operator wrote into the log.
    let strange = [
        (
            introduction(&world, &a, &new, &order_key("home-b")),
            "another holder's",
        ),
        (
            introduction(&world, &b, &new, &order_key("home-b")),
            "not in the registry",
        ),
    ];
    for (signed, expect) in strange {
        let mut case = case.clone();
        let content = signed.as_bytes().to_vec();
        let index = case.openings.introductions[0].index;
        case.openings.introductions[0].content.clone_from(&content);
        let entry = Entry::new(Kind::Introduction, interval(0).start(), PUBLIC, &content);
        case.entries.insert((Log::Ledger.code(), index), entry);
        match case.registry().map(drop) {
            Err(Fault::Wrong(why)) => assert!(why.contains(expect), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

/// The operator's word that the gateway's key counts no longer, signed.
fn revocation(world: &World, from_sequence: u64) -> (Revocation, Vec<u8>) {
    let word = Revocation {
        key: PublicKey::of(&world.gateway_key).id(),
        holder: world.gateway.clone().into(),
        from_sequence,
        from: interval(9999).start(),
        reason: "stolen".to_owned(),
        issued_at: interval(0).start(),
    };
    let signed = Signed::sign(&world.community.operator, &world.community.id, &word);
    (word, signed.as_bytes().to_vec())
}

#[tokio::test]
async fn a_reading_that_was_taken_in_after_its_keys_revocation_is_found() {
    let (world, mut case) = street(World::on_sqlite(&HOMES).await).await;
    // The word stands where the first interval's last run stood: what came later is beyond it.
    let index = case.openings.intervals[0].runs.remove(2).index;
    let place = (Log::Ledger.code(), index);
    let mut put = |from_sequence| {
        let (word, content) = revocation(&world, from_sequence);
        let entry = Entry::new(Kind::Revocation, word.from, PUBLIC, &content);
        case.entries.insert(place, entry);
        let salt = PUBLIC;
        case.openings.revocations = vec![Opened {
            index,
            salt,
            content,
        }];
        case.clone()
    };
    let why = put(2).wrong();
    assert!(why.contains("after its key had been revoked"), "{why}");
    // Sequences below the word's are not covered: then only the run is missing that stood there.
    let counted = put(3).registry().unwrap().1.count();
    assert_eq!((counted.revocations, counted.rotated), (1, 0));
    assert!(put(3).audit().is_ok());
}

#[tokio::test]
async fn a_rotation_shows_the_signatures_of_both_keys() {
    let world = World::on_sqlite(&HOMES).await;
    let (new, id) = (SigningKey::from_bytes(&[9; 32]), &world.community.id);
    let request = KeyRequest {
        key: PublicKey::of(&new),
        holder: world.gateway.clone().into(),
        introducer: PublicKey::of(&world.gateway_key).id(),
        points: vec![PointStart {
            point: PointId::new("home-a").unwrap(),
            first_sequence: 1,
            previous: Digest32([0; 32]),
        }],
        made_at: interval(0).start(),
    };
    let introduction = Introduction {
        key: request.key,
        request: Signed::sign(&new, id, &request),
    };
    let signed = Signed::sign(&world.gateway_key, id, &introduction);
    let (points, now) = (world.points(&HOMES), interval(0).start());
    let mut tx = world.db.begin().await.unwrap();
    let (community, holder) = (&world.community, &request.holder);
    let record = introduce(&mut tx, community, now, holder, &points, &signed).await;
    assert!(record.unwrap().is_ok());
    tx.commit().await.unwrap();
    world.checkpoint(interval(1).start()).await;
    let case = case(&world, BTreeMap::new()).await;
    let count = case.registry().unwrap().1.count();
    assert_eq!((count.rotated, count.claimed), (1, 0));
    let changed = |content: Vec<u8>| {
        let mut case = case.clone();
        let index = case.openings.introductions[0].index;
        case.openings.introductions[0].content.clone_from(&content);
        let entry = Entry::new(Kind::Introduction, request.made_at, PUBLIC, &content);
        case.entries.insert((Log::Ledger.code(), index), entry);
        match case.registry().map(drop) {
            Err(Fault::Wrong(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    // Neither signature may be another's.
    let stranger = SigningKey::from_bytes(&[77; 32]);
    let by_stranger = Introduction {
        key: request.key,
        request: Signed::sign(&stranger, id, &request),
    };
    let old = changed(
        Signed::sign(&world.gateway_key, id, &by_stranger)
            .as_bytes()
            .to_vec(),
    );
    assert!(old.contains("the new key's request"), "{old}");
    let mut last = signed.as_bytes().to_vec();
    let end = last.len() - 1;
    last[end] ^= 1;
    let both = changed(last);
    assert!(both.contains("the old key's signature"), "{both}");
    let mut gone = case.clone();
    gone.openings.introductions.clear();
    assert!(matches!(gone.registry().map(drop), Err(Fault::Sealed(_))));
}
