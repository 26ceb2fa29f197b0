//! A log's checkpoint: its size and root in a C2SP signed note, signed by the operator with Ed25519.

use crate::ids::{CommunityId, Digest32};
use crate::signed::{PublicKey, SigningKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::Signer;
use sha2::{Digest, Sha256};

/// Longest note that is read.
pub const NOTE_MAX_BYTES: usize = 1024;

/// The signature type of plain Ed25519 in a signed note.
const ED25519: u8 = 1;

/// Which of a community's logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Log {
    /// Signed readings.
    Readings,
    /// Orders, trades and clearings.
    Market,
    /// Keys, settlement lines, and the checkpoints of the other two.
    Ledger,
}

impl Log {
    /// All logs; the ledger comes last because it takes in the other two's checkpoints.
    pub const ALL: [Log; 3] = [Log::Readings, Log::Market, Log::Ledger];

    /// The number that is stored.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Log::Readings => 1,
            Log::Market => 2,
            Log::Ledger => 3,
        }
    }

    /// The last word of the log's origin.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Log::Readings => "readings",
            Log::Market => "market",
            Log::Ledger => "ledger",
        }
    }

    /// The name of this log of a community: first line of its notes, and the name of its key.
    #[must_use]
    pub fn origin(self, community: &CommunityId) -> String {
        format!("commonwatt/{community}/{}", self.word())
    }
}

/// What a checkpoint says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Leaves in the tree.
    pub size: u64,
    /// Its root.
    pub root: Digest32,
}

/// Why a note is no checkpoint of a log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    /// Not the text that such a note has.
    #[error("the note is not a checkpoint of {0} in the exact text format")]
    Format(String),
    /// The key in the signature line is another.
    #[error("the note is not signed with the operator's key")]
    OtherKey,
    /// The signature does not verify.
    #[error("the signature of the note does not verify")]
    BadSignature,
}

fn key_id(origin: &str, key: PublicKey) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(origin)
        .chain_update([b'\n', ED25519])
        .chain_update(key.to_bytes())
        .finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

impl Checkpoint {
    fn body(&self, origin: &str) -> String {
        format!(
            "{origin}\n{}\n{}\n",
            self.size,
            STANDARD.encode(self.root.0)
        )
    }

    /// The signed note.
    #[must_use]
    pub fn sign(&self, origin: &str, key: &SigningKey) -> String {
        let body = self.body(origin);
        let mut signature = key_id(origin, PublicKey::of(key)).to_vec();
        signature.extend(key.sign(body.as_bytes()).to_bytes());
        format!("{body}\n\u{2014} {origin} {}\n", STANDARD.encode(signature))
    }

    /// Reads and verifies a note. Exactly one text is valid for a checkpoint and a key.
    ///
    /// # Errors
    /// Another text, another key, a signature that does not verify.
    pub fn open(note: &str, origin: &str, key: PublicKey) -> Result<Self, NoteError> {
        let (checkpoint, signature) =
            parse(note, origin).ok_or_else(|| NoteError::Format(origin.to_owned()))?;
        let (id, signature) = signature.split_at(4);
        if id != key_id(origin, key) {
            return Err(NoteError::OtherKey);
        }
        let signature = signature.try_into().map_err(|_| NoteError::BadSignature)?;
        if !key.verifies(checkpoint.body(origin).as_bytes(), signature) {
            return Err(NoteError::BadSignature);
        }
        Ok(checkpoint)
    }
}

fn parse(note: &str, origin: &str) -> Option<(Checkpoint, Vec<u8>)> {
    if note.len() > NOTE_MAX_BYTES {
        return None;
    }
    let rest = note.strip_prefix(origin)?.strip_prefix('\n')?;
    let (size, rest) = rest.split_once('\n')?;
    let (root, rest) = rest.split_once('\n')?;
    let signature = rest
        .strip_prefix("\n\u{2014} ")?
        .strip_prefix(origin)?
        .strip_prefix(' ')?;
    let signature = STANDARD.decode(signature.strip_suffix('\n')?).ok()?;
    let root = Digest32(STANDARD.decode(root).ok()?.try_into().ok()?);
    let checkpoint = Checkpoint {
        size: size.parse().ok()?,
        root,
    };
    // Encoding again refuses leading zeros and plus signs in the size.
    let exact = note.starts_with(&checkpoint.body(origin)) && signature.len() == 68;
    exact.then_some((checkpoint, signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_one_text_and_every_bit_of_it_counts() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let public = PublicKey::of(&key);
        let origin = Log::Ledger.origin(&CommunityId::new("street").unwrap());
        let checkpoint = Checkpoint {
            size: 7,
            root: Digest32([3; 32]),
        };
        let note = checkpoint.sign(&origin, &key);
        assert!(note.starts_with("commonwatt/street/ledger\n7\nAwMD"));
        assert_eq!(Checkpoint::open(&note, &origin, public), Ok(checkpoint));
        for index in 0..note.len() * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[index / 8] ^= 1 << (index % 8);
            if let Ok(text) = String::from_utf8(bytes) {
                assert!(
                    Checkpoint::open(&text, &origin, public).is_err(),
                    "bit {index}: {text}"
                );
            }
        }
        let other = PublicKey::of(&SigningKey::from_bytes(&[8; 32]));
        assert_eq!(
            Checkpoint::open(&note, &origin, other),
            Err(NoteError::OtherKey)
        );
        for wrong in [
            note.replace("\n7\n", "\n07\n"),
            format!("{note}\n"),
            String::new(),
        ] {
            assert!(matches!(
                Checkpoint::open(&wrong, &origin, public),
                Err(NoteError::Format(_))
            ));
        }
    }
}
