//! A log's checkpoint: its size and root in a C2SP signed note, signed by the operator with Ed25519; below
//! that, by witnesses.

use crate::ids::{CommunityId, Digest32};
use crate::signed::{PublicKey, SigningKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::Signer;

use super::note::{Algorithm, Note, VerifierKey, key_id};

/// Longest note of the operator alone that is read.
const OWN_NOTE_MAX_BYTES: usize = 1024;

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

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn body(&self, origin: &str) -> String {
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
        let mut signature = key_id(origin, Algorithm::Log, PublicKey::of(key)).to_vec();
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
        if id != key_id(origin, Algorithm::Log, key) {
            return Err(NoteError::OtherKey);
        }
        let signature = signature.try_into().map_err(|_| NoteError::BadSignature)?;
        if !key.verifies(checkpoint.body(origin).as_bytes(), signature) {
            return Err(NoteError::BadSignature);
        }
        Ok(checkpoint)
    }

    /// Reads and verifies a note that may have witnesses' signatures below the operator's. Of those it is
    /// only known that they have the form of one.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_cosigned(
        text: &str,
        origin: &str,
        key: PublicKey,
    ) -> Result<(Self, Note), NoteError> {
        let format = || NoteError::Format(origin.to_owned());
        let note = Note::parse(text).ok_or_else(format)?;
        let own = note.signatures.first().ok_or_else(format)?;
        let own = format!("{}\n{}", note.body, own.line());
        Ok((Checkpoint::open(&own, origin, key)?, note))
    }

    /// Origin and checkpoint in the body of any log's note; lines below its first three may say more.
    #[must_use]
    pub fn read_body(body: &str) -> Option<(&str, Self)> {
        let (origin, rest) = body.split_once('\n')?;
        let (size, rest) = rest.split_once('\n')?;
        let (root, _) = rest.split_once('\n')?;
        let root = Digest32(STANDARD.decode(root).ok()?.try_into().ok()?);
        let size = size.parse().ok()?;
        let read = Checkpoint { size, root };
        // Encoding again refuses leading zeros and plus signs in the size.
        let exact = !origin.is_empty() && body.starts_with(&read.body(origin));
        exact.then_some((origin, read))
    }
}

/// Whether one of a note's signatures is a log's, and holds.
#[must_use]
pub fn is_signed(note: &Note, log: &VerifierKey) -> bool {
    let holds = |bytes: &[u8]| {
        let signature = bytes.try_into();
        signature.is_ok_and(|signature| log.key().verifies(note.body.as_bytes(), signature))
    };
    log.algorithm() == Algorithm::Log
        && note
            .signatures
            .iter()
            .any(|line| line.is_by(log) && holds(&line.bytes))
}

fn parse(note: &str, origin: &str) -> Option<(Checkpoint, Vec<u8>)> {
    if note.len() > OWN_NOTE_MAX_BYTES {
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
        let log = VerifierKey::of_log(&origin, public).unwrap();
        let read = Note::parse(&note).unwrap();
        assert!(is_signed(&read, &log));
        assert!(!is_signed(
            &read,
            &VerifierKey::of_log(&origin, other).unwrap()
        ));
        assert!(!is_signed(
            &read,
            &VerifierKey::of_witness(&origin, public).unwrap()
        ));
        let body = checkpoint.body(&origin);
        assert_eq!(
            Checkpoint::read_body(&body),
            Some((origin.as_str(), checkpoint))
        );
        let more = format!("{body}more\n");
        assert_eq!(
            Checkpoint::read_body(&more),
            Some((origin.as_str(), checkpoint))
        );
        for bad in [
            "",
            "a\n7\n",
            "\n7\nAwM=\n",
            &body.replace("\n7\n", "\n+7\n"),
        ] {
            assert_eq!(Checkpoint::read_body(bad), None);
        }
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

    #[test]
    fn witnesses_sign_below_the_operator() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let checkpoint = Checkpoint {
            size: 7,
            root: Digest32([3; 32]),
        };
        let own = checkpoint.sign("log", &key);
        let mut note = Note::parse(&own).unwrap();
        let line = super::super::cosignature::cosign(
            &note.body,
            "w",
            &SigningKey::from_bytes(&[8; 32]),
            crate::time::Timestamp::from_unix_s(7),
        );
        note.signatures.push(line.unwrap());
        let open = |note: &Note| {
            Checkpoint::open_cosigned(&note.to_text(), "log", PublicKey::of(&key)).map(|(c, _)| c)
        };
        assert_eq!(open(&note), Ok(checkpoint));
        let text = note.to_text();
        assert!(Checkpoint::open(&text, "log", PublicKey::of(&key)).is_err());
        note.signatures.swap(0, 1);
        assert!(open(&note).is_err());
    }
}
