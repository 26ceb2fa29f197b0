//! A witness's rule (C2SP tlog-witness): sign a checkpoint only if its tree begins with the tree that was
//! signed before.
//!
//! Pure: who calls [`AddCheckpoint::advance`] must keep what it was given and what follows in one step.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::ids::Digest32;

use super::checkpoint::{Checkpoint, is_signed};
use super::note::{NOTE_MAX_BYTES, Note, VerifierKey};
use super::tree::{Frontier, verify_consistency};

/// Most hashes in a request.
const PATH_MAX: usize = 63;
/// Longest request that is read.
pub const REQUEST_MAX_BYTES: usize = NOTE_MAX_BYTES + (PATH_MAX + 2) * 64;

/// A request to sign a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddCheckpoint {
    /// The size that the witness has signed before, as the log believes.
    pub old: u64,
    /// The proof that the tree of that size is the beginning.
    pub path: Vec<Digest32>,
    /// The checkpoint.
    pub note: Note,
}

/// Why a witness does not sign.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Status 400.
    #[error("not a request of the form `old <size>`, hashes, an empty line, a signed checkpoint")]
    Malformed,
    /// Status 404.
    #[error("no log with this origin is known here")]
    UnknownLog,
    /// Status 403.
    #[error("the checkpoint is not signed with the key that is known for this log")]
    NotSigned,
    /// Status 409: the witness has signed for another size.
    #[error("the newest checkpoint that was signed here has size {0}")]
    OtherSize(u64),
    /// Status 409 as well: same size, other root. Both checkpoints together are proof against the log.
    #[error("a checkpoint of this size with another root was signed here: the log has forked")]
    Fork(u64),
    /// Status 422.
    #[error("the proof does not show that the log only grew")]
    NotConsistent,
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Refusal::Malformed => 400,
            Refusal::NotSigned => 403,
            Refusal::UnknownLog => 404,
            Refusal::OtherSize(_) | Refusal::Fork(_) => 409,
            Refusal::NotConsistent => 422,
        }
    }
}

impl AddCheckpoint {
    /// The body of the request.
    #[must_use]
    pub fn to_text(&self) -> String {
        let path = self.path.iter().map(|hash| STANDARD.encode(hash.0) + "\n");
        let (old, note) = (self.old, self.note.to_text());
        format!("old {old}\n{}\n{note}", path.collect::<String>())
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let read = || {
            let (head, note) = text.split_once("\n\n")?;
            let mut lines = head.split('\n');
            let old = lines.next()?.strip_prefix("old ")?.parse().ok()?;
            let hash = |line: &str| {
                let bytes = STANDARD.decode(line).ok()?;
                bytes.try_into().ok().map(Digest32)
            };
            let path: Vec<Digest32> = lines.map(hash).collect::<Option<_>>()?;
            let note = Note::parse(note)?;
            let read = AddCheckpoint { old, path, note };
            (read.path.len() <= PATH_MAX && read.to_text() == text).then_some(read)
        };
        read().ok_or(Refusal::Malformed)
    }

    /// The log that signed the checkpoint, and what the checkpoint says.
    ///
    /// # Errors
    /// The log is unknown, or has not signed.
    pub fn open<'k>(
        &self,
        logs: &'k [VerifierKey],
    ) -> Result<(&'k VerifierKey, Checkpoint), Refusal> {
        let body = Checkpoint::read_body(&self.note.body);
        let (origin, checkpoint) = body.ok_or(Refusal::Malformed)?;
        let mut known = logs.iter().filter(|log| log.name() == origin).peekable();
        if known.peek().is_none() {
            return Err(Refusal::UnknownLog);
        }
        let signer = known.find(|log| is_signed(&self.note, log));
        Ok((signer.ok_or(Refusal::NotSigned)?, checkpoint))
    }

    /// Whether the witness, which has signed `seen` before, may sign `next`.
    ///
    /// # Errors
    /// Another size than the log believes, a fork, or a proof that does not hold.
    pub fn advance(&self, next: Checkpoint, seen: Option<Checkpoint>) -> Result<(), Refusal> {
        if self.old > next.size {
            return Err(Refusal::Malformed);
        }
        if next.size == 0 && next.root != Frontier::default().root() {
            return Err(Refusal::NotConsistent);
        }
        let size = seen.map_or(0, |seen| seen.size);
        if self.old != size {
            return Err(Refusal::OtherSize(size));
        }
        match seen.filter(|seen| seen.size > 0) {
            // A tree without entries is the beginning of every tree.
            None if self.path.is_empty() => Ok(()),
            None => Err(Refusal::NotConsistent),
            Some(seen) if seen.size == next.size && seen.root != next.root => {
                Err(Refusal::Fork(size))
            }
            Some(seen) => {
                let grew =
                    verify_consistency(seen.size, seen.root, next.size, next.root, &self.path);
                grew.then_some(()).ok_or(Refusal::NotConsistent)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Frontier, Node, consistency_plan, leaf_hash};
    use super::*;
    use domain::signed::{PublicKey, SigningKey};
    use std::collections::BTreeMap;

    struct Log {
        nodes: BTreeMap<Node, Digest32>,
        heads: Vec<Checkpoint>,
    }

    fn log(salt: &str, size: u64) -> Log {
        let mut frontier = Frontier::default();
        let head = |f: &Frontier| Checkpoint {
            size: f.size(),
            root: f.root(),
        };
        let (mut nodes, mut heads) = (BTreeMap::new(), vec![head(&frontier)]);
        for n in 0..size {
            nodes.extend(frontier.append(leaf_hash(format!("{salt} {n}").as_bytes())));
            heads.push(head(&frontier));
        }
        Log { nodes, heads }
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[6; 32])
    }

    impl Log {
        fn request(&self, old: u64, size: usize) -> AddCheckpoint {
            let next = self.heads[size];
            let plan = consistency_plan(old, next.size);
            let path = plan.map(|plan| plan.path(|node| self.nodes.get(&node).copied()).unwrap());
            AddCheckpoint {
                old,
                path: path.unwrap_or_default(),
                note: Note::parse(&next.sign("log", &key())).unwrap(),
            }
        }
    }

    #[test]
    fn a_log_that_only_grows_is_signed_for() {
        let (log, fork) = (log("a", 20), log("b", 20));
        let judge = |request: &AddCheckpoint, seen: Option<usize>| {
            let (_, next) = Checkpoint::read_body(&request.note.body).unwrap();
            request.advance(next, seen.map(|size| log.heads[size]))
        };
        for size in 0..=20 {
            assert_eq!(judge(&log.request(0, size), None), Ok(()));
            for old in 0..=size {
                let request = log.request(old as u64, size);
                assert_eq!(judge(&request, Some(old)), Ok(()), "{old} {size}");
            }
        }
        let refused = |request: AddCheckpoint, seen, refusal, status| {
            assert_eq!(judge(&request, seen), Err(refusal));
            assert_eq!(judge(&request, seen).unwrap_err().status(), status);
        };
        refused(log.request(3, 9), Some(7), Refusal::OtherSize(7), 409);
        refused(log.request(3, 9), None, Refusal::OtherSize(0), 409);
        // Backwards.
        refused(log.request(5, 5), Some(7), Refusal::OtherSize(7), 409);
        refused(log.request(7, 5), Some(7), Refusal::Malformed, 400);
        refused(fork.request(7, 7), Some(7), Refusal::Fork(7), 409);
        refused(fork.request(7, 9), Some(7), Refusal::NotConsistent, 422);
        let mut padded = log.request(0, 9);
        padded.path.push(Digest32([0; 32]));
        refused(padded, None, Refusal::NotConsistent, 422);
    }

    #[test]
    fn a_log_without_entries_has_the_empty_root() {
        let request = log("a", 0).request(0, 0);
        let empty = Frontier::default().root();
        let head = |root| Checkpoint { size: 0, root };
        assert_eq!(request.advance(head(empty), None), Ok(()));
        let other = head(Digest32([7; 32]));
        assert_eq!(request.advance(other, None), Err(Refusal::NotConsistent));
    }

    #[test]
    fn a_request_is_read_as_it_is_written_and_opened_with_the_known_key() {
        let log = log("a", 9);
        let request = log.request(7, 9);
        let text = request.to_text();
        assert!(text.starts_with("old 7\n"), "{text}");
        assert_eq!(AddCheckpoint::parse(&text), Ok(request.clone()));
        for bad in [
            String::new(),
            text.replacen("old 7", "old 07", 1),
            text.replacen("old", "new", 1),
            text.replacen('\n', "\nAAAA\n", 1),
        ] {
            assert_eq!(AddCheckpoint::parse(&bad), Err(Refusal::Malformed), "{bad}");
        }
        // The hashes as a part of the note: no checkpoint begins like that.
        let other = AddCheckpoint::parse(&text.replacen('\n', "\n\n", 1)).unwrap();
        assert_eq!(other.open(&[]), Err(Refusal::Malformed));
        let vkey = |origin, seed| {
            let key = PublicKey::of(&SigningKey::from_bytes(&[seed; 32]));
            VerifierKey::of_log(origin, key).unwrap()
        };
        let keys = [vkey("other", 6), vkey("log", 5), vkey("log", 6)];
        assert_eq!(request.open(&keys), Ok((&keys[2], log.heads[9])));
        assert_eq!(request.open(&keys[..2]), Err(Refusal::NotSigned));
        assert_eq!(request.open(&keys[..1]), Err(Refusal::UnknownLog));
    }
}
