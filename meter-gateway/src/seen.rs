//! What this gateway has seen of its operator's ledger log: every gateway is a witness of its own operator.
//!
//! It remembers the newest checkpoint that it was shown, on disk before it believes it, so that no power cut and no
//! restart makes it forget what it has told. A later one must begin with it; one that contradicts
//! it is not believed, nor is the acceptance that brought it, so the outbox keeps its readings, and both
//! checkpoints are kept as evidence. Who is shown another log than the neighbours, or an old one again,
//! so has it in the operator's own signature.
//!
//! It says so to others as well, in the way of any witness (C2SP cosignature/v1): what it remembers it signs with its
//! own key, so that a reader of the log can ask that so many gateways have seen it. Only what is on disk is signed for.

use std::io;
use std::path::{Path, PathBuf};

use domain::acceptance::LedgerHead;
use domain::ids::CommunityId;
use domain::log::checkpoint::{Checkpoint, Log};
use domain::log::cosignature::{cosign, gateway_witness};
use domain::log::note::{Note, VerifierKey};
use domain::log::tree::{consistency_roots, verify_consistency};
use domain::signed::{PublicKey, SigningKey};
use domain::time::Timestamp;
use serde_json::{Value, json};

/// The file in the data folder with the newest checkpoint, behind a line that says when it was issued.
const SEEN_FILE: &str = "ledger.seen";
/// Its first line begins so.
const ISSUED: &str = "issued ";
/// The checkpoint alone, as earlier versions have kept it.
const EARLIER_FILE: &str = "ledger.note";
/// The file with the two that contradict each other.
const EVIDENCE_FILE: &str = "ledger-fork.json";
/// Longest evidence that is said: two notes of the operator, and the hashes between them.
const EVIDENCE_MAX_BYTES: usize = 16 * 1024;

/// A gateway's key with the name that it signs for the log under.
#[derive(Debug)]
struct Cosigner {
    name: String,
    key: SigningKey,
}

/// The newest checkpoint that was seen.
#[derive(Debug)]
pub struct Seen {
    folder: PathBuf,
    origin: String,
    key: PublicKey,
    /// Signs for what was seen; none where the gateway's owner does not want that.
    cosigner: Option<Cosigner>,
    /// Two checkpoints that contradict each other, once there are such.
    fork: Option<Value>,
    kept: Option<(String, Checkpoint)>,
    /// When the newest acceptance with a checkpoint was signed: an older one that comes late says nothing new.
    newest: Option<Timestamp>,
    /// The size that the platform was last told.
    said: Option<u64>,
    /// Why something could not be written down.
    trouble: Option<io::Error>,
}

/// What a checkpoint turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// It is what was seen, or begins with it.
    Fine,
    /// It says nothing new: it is smaller than what was seen, and older by its own word.
    Late,
    /// It cannot be compared with what was seen: the platform proved from another size.
    Unproven,
    /// It could not be written down, and is as good as not heard: it will come again.
    NotKept,
    /// It contradicts what was seen.
    Contradiction(String),
}

impl Seen {
    /// What the data folder remembers; a file that is none of this operator's is as good as none.
    #[must_use]
    pub fn open(folder: &Path, community: &CommunityId, key: PublicKey) -> Self {
        let origin = Log::Ledger.origin(community);
        let read = |file| std::fs::read_to_string(folder.join(file)).ok();
        let opened = |text: &str| {
            let checkpoint = Checkpoint::open(text, &origin, key).ok()?;
            Some((text.to_owned(), checkpoint))
        };
        let newest = read(SEEN_FILE).and_then(|text| {
            let (issued, note) = text.strip_prefix(ISSUED)?.split_once('\n')?;
            Some((opened(note)?, Timestamp::from_unix_ms(issued.parse().ok()?)))
        });
        let (kept, newest) = match newest {
            Some((kept, issued_at)) => (Some(kept), Some(issued_at)),
            None => (read(EARLIER_FILE).and_then(|text| opened(&text)), None),
        };
        let fork = read(EVIDENCE_FILE).filter(|text| text.len() <= EVIDENCE_MAX_BYTES);
        Seen {
            folder: folder.to_owned(),
            origin,
            key,
            cosigner: None,
            fork: fork.and_then(|text| serde_json::from_str(&text).ok()),
            kept,
            newest,
            said: None,
            trouble: None,
        }
    }

    /// Signs for what was seen with the gateway's own key.
    #[must_use]
    pub fn cosigning(mut self, community: &CommunityId, key: SigningKey) -> Self {
        let witness = gateway_witness(community, PublicKey::of(&key));
        self.cosigner = witness.map(|witness| Cosigner {
            name: witness.name().to_owned(),
            key,
        });
        self
    }

    /// The newest checkpoint that was seen, with the operator's signature and this gateway's. It is on disk, so no
    /// other tree is ever signed for that does not begin with it.
    #[must_use]
    pub fn cosigned(&self, now: Timestamp) -> Option<String> {
        let (cosigner, (text, _)) = (self.cosigner.as_ref()?, self.kept.as_ref()?);
        let mut note = Note::parse(text)?;
        let line = cosign(&note.body, &cosigner.name, &cosigner.key, now)?;
        note.signatures.push(line);
        Some(note.to_text())
    }

    /// The evidence of two checkpoints that contradict each other, in the form of `commonwatt judge`.
    #[must_use]
    pub fn fork(&self) -> Option<&Value> {
        self.fork.as_ref()
    }

    /// Entries of the newest tree that was seen.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.kept.as_ref().map(|(_, checkpoint)| checkpoint.size)
    }

    /// Whether the platform was not yet told how far that is.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.said != self.size()
    }

    /// The platform is told now.
    pub fn is_said(&mut self) {
        self.said = self.size();
    }

    /// Why the last word could not be written down, once. What was found out counts all the same.
    pub fn trouble(&mut self) -> Option<io::Error> {
        self.trouble.take()
    }

    /// Compares the checkpoint of an acceptance with what was seen, and remembers it where it is newer.
    pub fn hear(&mut self, head: &LedgerHead, issued_at: Timestamp) -> Heard {
        let next = match Checkpoint::open(&head.note, &self.origin, self.key) {
            Ok(next) => next,
            Err(error) => return Heard::Contradiction(error.to_string()),
        };
        let late = self.newest.is_some_and(|newest| issued_at < newest);
        let Some((_, kept)) = &self.kept else {
            return self.remember(head, next, issued_at);
        };
        let kept = *kept;
        if next.size < kept.size && late {
            return Heard::Late;
        }
        if next.size < kept.size {
            let why = format!("it has {} entries and had {}", next.size, kept.size);
            return self.contradicts(head, why);
        }
        if next.size == kept.size {
            return match next.root == kept.root {
                true => Heard::Fine,
                false => self.contradicts(head, "it has another root at the same size".to_owned()),
            };
        }
        if head.old != kept.size {
            return Heard::Unproven;
        }
        match verify_consistency(kept.size, kept.root, next.size, next.root, &head.path) {
            true => self.remember(head, next, issued_at),
            false => {
                let why = format!(
                    "it does not begin with the {} entries that were seen",
                    kept.size
                );
                self.contradicts(head, why)
            }
        }
    }

    /// Written down first, in one step with the time it was issued at, and believed then.
    fn remember(&mut self, head: &LedgerHead, next: Checkpoint, issued_at: Timestamp) -> Heard {
        let newest = self
            .newest
            .map_or(issued_at, |newest| newest.max(issued_at));
        let text = format!("{ISSUED}{}\n{}", newest.unix_ms(), head.note);
        let file = self.folder.join(SEEN_FILE);
        if let Err(error) = runtime::durable::write(&file, text, 0o644) {
            self.trouble = Some(error);
            return Heard::NotKept;
        }
        self.kept = Some((head.note.clone(), next));
        self.newest = Some(newest);
        Heard::Fine
    }

    /// Keeps both checkpoints in the form of `commonwatt judge`. Two of one size are proof by themselves, and two sizes
    /// with the hashes by which the larger tree begins. Where these did not come, the log itself has them.
    fn contradicts(&mut self, head: &LedgerHead, why: String) -> Heard {
        let file = self.folder.join(EVIDENCE_FILE);
        if self.fork.is_none()
            && let Some((kept, _)) = &self.kept
        {
            let log = VerifierKey::of_log(&self.origin, self.key);
            let evidence = json!({
                "kind": "operator_fork",
                "format": "commonwatt-evidence/v1",
                "log": log.map(|log| log.to_string()),
                "first": kept,
                "second": head.note,
                "beginning": self.beginning(head),
            });
            self.trouble = runtime::durable::write(&file, format!("{evidence:#}\n"), 0o644).err();
            self.fork = Some(evidence);
            // The platform, and whoever listens there, is told at once.
            self.said = None;
        }
        Heard::Contradiction(why)
    }

    /// The hashes that came with a head, where they lead to its root.
    fn beginning(&self, head: &LedgerHead) -> Vec<String> {
        let next = Checkpoint::open(&head.note, &self.origin, self.key);
        let leads = next.is_ok_and(|next| {
            let roots = consistency_roots(head.old, next.size, &head.path);
            self.size() == Some(head.old) && roots.is_some_and(|(_, whole)| whole == next.root)
        });
        let path = head.path.iter().filter(|_| leads);
        path.map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::Digest32;
    use domain::log::tree::{Frontier, Node, consistency_plan, leaf_hash};
    use domain::signed::SigningKey;
    use std::collections::BTreeMap;

    use super::*;

    struct Ledger {
        nodes: BTreeMap<Node, Digest32>,
        heads: Vec<Checkpoint>,
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }

    fn street() -> CommunityId {
        CommunityId::new("street").unwrap()
    }

    fn ledger(salt: &str) -> Ledger {
        let mut frontier = Frontier::default();
        let (mut nodes, mut heads) = (BTreeMap::new(), Vec::new());
        for n in 0..12 {
            let (size, root) = (frontier.size(), frontier.root());
            heads.push(Checkpoint { size, root });
            nodes.extend(frontier.append(leaf_hash(format!("{salt} {n}").as_bytes())));
        }
        Ledger { nodes, heads }
    }

    impl Ledger {
        fn head(&self, old: u64, size: usize) -> LedgerHead {
            let plan = consistency_plan(old, self.heads[size].size);
            let path = plan.map(|plan| plan.path(|n| self.nodes.get(&n).copied()).unwrap());
            LedgerHead {
                note: self.heads[size].sign("commonwatt/street/ledger", &key()),
                old,
                path: path.unwrap_or_default(),
            }
        }
    }

    fn at(s: i64) -> Timestamp {
        Timestamp::from_unix_s(s)
    }

    #[test]
    fn a_ledger_that_grows_is_followed_and_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Seen::open(folder.path(), &street(), PublicKey::of(&key()));
        let (ledger, mut seen) = (ledger("a"), open());
        assert_eq!(seen.size(), None);
        assert_eq!(seen.hear(&ledger.head(0, 3), at(1)), Heard::Fine);
        assert_eq!(open().size(), Some(3));
        assert_eq!(seen.hear(&ledger.head(3, 7), at(2)), Heard::Fine);
        assert_eq!(seen.hear(&ledger.head(7, 7), at(2)), Heard::Fine);
        // Of another size: it waits for a proof from where it stands.
        assert_eq!(seen.hear(&ledger.head(3, 9), at(3)), Heard::Unproven);
        assert_eq!(seen.hear(&ledger.head(0, 9), at(3)), Heard::Unproven);
        assert_eq!(seen.size(), Some(7));
        // A word from before that comes late.
        assert_eq!(seen.hear(&ledger.head(0, 3), at(1)), Heard::Late);
        assert!(!folder.path().join(EVIDENCE_FILE).exists());
        // Nor is it taken for an older state after a restart: what was newest is on disk.
        let mut started = open();
        assert_eq!(started.size(), Some(7));
        assert_eq!(started.hear(&ledger.head(0, 3), at(1)), Heard::Late);
        let file = folder.path().join(SEEN_FILE);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, "damaged").unwrap();
        assert_eq!(open().size(), None);
        // What an earlier version has kept counts.
        let (_, note) = text.split_once('\n').unwrap();
        std::fs::write(folder.path().join(EARLIER_FILE), note).unwrap();
        assert_eq!(open().size(), Some(7));
    }

    #[test]
    fn only_what_is_remembered_is_signed_for() {
        use domain::log::cosignature::cosigned_at;

        let folder = tempfile::tempdir().unwrap();
        let own = SigningKey::from_bytes(&[2; 32]);
        let witness = gateway_witness(&street(), PublicKey::of(&own)).unwrap();
        let open = || Seen::open(folder.path(), &street(), PublicKey::of(&key()));
        let (ledger, mut seen) = (ledger("a"), open().cosigning(&street(), own.clone()));
        assert_eq!(seen.cosigned(at(1)), None, "nothing was seen yet");
        seen.hear(&ledger.head(0, 3), at(1));
        let signed_for = |seen: &Seen, now| {
            let note = Note::parse(&seen.cosigned(now)?)?;
            let (_, checkpoint) = Checkpoint::read_body(&note.body)?;
            let mut lines = note.signatures.iter();
            let when = lines.find_map(|line| cosigned_at(&note.body, line, &witness));
            Some((checkpoint, when))
        };
        let three = ledger.heads[3];
        assert_eq!(signed_for(&seen, at(5)), Some((three, Some(at(5)))));
        // One that could not be written down is not signed for, nor is one that contradicts.
        let beside = folder.path().join(SEEN_FILE).with_extension("new");
        std::fs::create_dir(&beside).unwrap();
        assert_eq!(seen.hear(&ledger.head(3, 7), at(2)), Heard::NotKept);
        std::fs::remove_dir(&beside).unwrap();
        seen.hear(&self::ledger("b").head(3, 7), at(2));
        assert_eq!(signed_for(&seen, at(6)), Some((three, Some(at(6)))));
        assert_eq!(open().cosigned(at(6)), None, "its owner does not want it");
        let again = open().cosigning(&street(), own);
        assert_eq!(signed_for(&again, at(7)), Some((three, Some(at(7)))));
    }

    #[test]
    fn a_contradiction_is_told_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Seen::open(folder.path(), &street(), PublicKey::of(&key()));
        let (one, other) = (ledger("a"), ledger("b"));
        let mut seen = open();
        seen.hear(&one.head(0, 7), at(1));
        seen.is_said();
        assert!(!seen.is_news() && seen.fork().is_none());
        let Heard::Contradiction(_) = seen.hear(&other.head(7, 9), at(2)) else {
            panic!("it was not seen");
        };
        assert!(seen.is_news());
        let fork = seen.fork().unwrap().clone();
        // The hashes that came lead to the larger tree, and to another beginning: that is the proof.
        assert!(!fork["beginning"].as_array().unwrap().is_empty());
        assert_eq!(open().fork(), Some(&fork));
        // The first case stays.
        seen.is_said();
        seen.hear(&other.head(7, 8), at(3));
        assert!(!seen.is_news());
        assert_eq!(seen.fork(), Some(&fork));
    }

    #[test]
    fn what_cannot_be_written_down_is_not_believed() {
        let ledger = ledger("a");
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Seen::open(folder.path(), &street(), PublicKey::of(&key()));
        assert_eq!(seen.hear(&ledger.head(0, 3), at(1)), Heard::Fine);
        // A folder in the way of the file that is written beside.
        let beside = folder.path().join(SEEN_FILE).with_extension("new");
        std::fs::create_dir(&beside).unwrap();
        assert_eq!(seen.hear(&ledger.head(3, 7), at(2)), Heard::NotKept);
        assert!(seen.trouble().is_some());
        assert_eq!(seen.size(), Some(3));
        std::fs::remove_dir(&beside).unwrap();
        assert_eq!(seen.hear(&ledger.head(3, 7), at(2)), Heard::Fine);
        assert_eq!(seen.size(), Some(7));
    }

    #[test]
    fn what_contradicts_is_named_and_kept() {
        let (one, other) = (ledger("a"), ledger("b"));
        for (head, part) in [
            (other.head(7, 7), "another root"),
            (other.head(7, 9), "does not begin"),
            (one.head(0, 5), "had 7"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut seen = Seen::open(folder.path(), &street(), PublicKey::of(&key()));
            seen.hear(&one.head(0, 7), at(1));
            let Heard::Contradiction(why) = seen.hear(&head, at(2)) else {
                panic!("{part} was not seen");
            };
            assert!(why.contains(part), "{why}");
            assert_eq!(seen.size(), Some(7));
            let kept = std::fs::read_to_string(folder.path().join(EVIDENCE_FILE)).unwrap();
            let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
            assert_eq!(kept["second"], head.note);
        }
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Seen::open(folder.path(), &street(), PublicKey::of(&key()));
        // A folder that takes no file changes nothing in what was found out.
        let gone = tempfile::tempdir().unwrap();
        let mut blind = Seen::open(gone.path(), &street(), PublicKey::of(&key()));
        blind.hear(&one.head(0, 7), at(1));
        assert!(blind.trouble().is_none());
        drop(gone);
        let heard = blind.hear(&other.head(7, 7), at(2));
        assert!(matches!(heard, Heard::Contradiction(_)), "{heard:?}");
        assert!(blind.trouble().is_some() && blind.trouble().is_none());
        let mut strange = one.head(0, 3);
        strange.note.push('x');
        let heard = seen.hear(&strange, at(1));
        assert!(matches!(heard, Heard::Contradiction(_)), "{heard:?}");
    }
}
