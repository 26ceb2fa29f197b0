//! A proof that a log holds an entry, as a text that can be checked offline (C2SP tlog-proof, file name
//! `*.tlog-proof`).
//!
//! Its extra data are the entry's 42 bytes and, where the commitment is opened, salt and content behind
//! them. They are believed only as far as they lead to the root.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::ids::Digest32;
use domain::receipt::Salt;

use super::entry::{Entry, LEAF_BYTES};
use super::tree::PATH_MAX;

/// The first line.
pub const FORMAT: &str = "c2sp.org/tlog-proof@v1";
/// Longest proof that is read.
pub const PROOF_MAX_BYTES: usize = 1024 * 1024;

/// An entry's place under a signed root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogProof {
    /// The application's own data; see the module.
    pub extra: Option<Vec<u8>>,
    /// Position of the entry.
    pub index: u64,
    /// Hashes from the leaf's sibling to below the root.
    pub path: Vec<Digest32>,
    /// The signed note.
    pub note: String,
}

/// What an entry commits to, and the salt that shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Opens the commitment.
    pub salt: Salt,
    /// The content.
    pub content: Vec<u8>,
}

/// The extra data of an entry, opened or not.
#[must_use]
pub fn extra(entry: &Entry, opening: Option<&Opening>) -> Vec<u8> {
    let mut bytes = entry.leaf().to_vec();
    if let Some(Opening { salt, content }) = opening {
        bytes.extend(salt.0);
        bytes.extend(content);
    }
    bytes
}

impl LogProof {
    /// The text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let extra = self.extra.as_ref();
        let extra = extra.map(|extra| format!("extra {}\n", STANDARD.encode(extra)));
        let path = self.path.iter().map(|hash| STANDARD.encode(hash.0) + "\n");
        format!(
            "{FORMAT}\n{}index {}\n{}\n{}",
            extra.unwrap_or_default(),
            self.index,
            path.collect::<String>(),
            self.note
        )
    }

    /// Reads a text; `None` where it is no proof, or not the one text that its values have.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > PROOF_MAX_BYTES {
            return None;
        }
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        (lines.next()? == FORMAT).then_some(())?;
        let mut line = lines.next()?;
        let extra = match line.strip_prefix("extra ") {
            None => None,
            Some(extra) => {
                line = lines.next()?;
                Some(STANDARD.decode(extra).ok()?)
            }
        };
        let hash = |line: &str| {
            let bytes = STANDARD.decode(line).ok()?;
            bytes.try_into().ok().map(Digest32)
        };
        let proof = LogProof {
            extra,
            index: line.strip_prefix("index ")?.parse().ok()?,
            path: lines.map(hash).collect::<Option<_>>()?,
            note: note.to_owned(),
        };
        (proof.path.len() <= PATH_MAX && proof.to_text() == text).then_some(proof)
    }

    /// The entry in the extra data, and what it opens to; `None` where the extra data are something else.
    #[must_use]
    pub fn entry(&self) -> Option<(Entry, Option<Opening>)> {
        let (leaf, rest) = self.extra.as_ref()?.split_at_checked(LEAF_BYTES)?;
        let entry = Entry::from_leaf(leaf)?;
        if rest.is_empty() {
            return Some((entry, None));
        }
        let (salt, content) = rest.split_first_chunk::<16>()?;
        let opening = Opening {
            salt: Salt(*salt),
            content: content.to_vec(),
        };
        Some((entry, Some(opening)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Kind, PUBLIC};
    use super::*;
    use domain::time::Timestamp;

    #[test]
    fn a_proof_has_one_text() {
        let entry = Entry::new(Kind::Clearing, Timestamp::EPOCH, PUBLIC, b"content");
        let opening = Opening {
            salt: PUBLIC,
            content: b"content".to_vec(),
        };
        let mut proof = LogProof {
            extra: Some(extra(&entry, Some(&opening))),
            index: 73_894,
            path: vec![Digest32([1; 32]), Digest32([2; 32])],
            note: "log\n80000\nroot\n\n\u{2014} log abc=\n".to_owned(),
        };
        let text = proof.to_text();
        assert!(
            text.starts_with("c2sp.org/tlog-proof@v1\nextra AQQA"),
            "{text}"
        );
        assert_eq!(LogProof::parse(&text), Some(proof.clone()));
        assert_eq!(proof.entry(), Some((entry, Some(opening))));
        for (good, bad) in [
            ("@v1", "@v2"),
            ("index 7", "index 07"),
            ("index 7", "index +7"),
            ("index", "place"),
            ("extra ", "extra  "),
            ("AQEBAQ", "AQEBA"),
        ] {
            let changed = text.replacen(good, bad, 1);
            assert_ne!(changed, text, "{good}");
            assert_eq!(LogProof::parse(&changed), None, "{bad}");
        }
        proof.extra = Some(extra(&entry, None));
        assert_eq!(proof.entry(), Some((entry, None)));
        proof.extra = None;
        proof.path.clear();
        assert_eq!(LogProof::parse(&proof.to_text()), Some(proof.clone()));
        assert_eq!(proof.entry(), None);
    }
}
