//! Signed notes (C2SP signed-note): a text, and lines under it that each are somebody's signature; and
//! the keys to check them with, as people copy them.

use std::fmt;
use std::str::FromStr;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use crate::ids::to_hex;
use crate::signed::PublicKey;

/// Longest note that is read, with all its signatures.
pub const NOTE_MAX_BYTES: usize = 16 * 1024;
/// Most signatures under a note.
pub const SIGNATURES_MAX: usize = 64;

/// What a signature says, by the type of its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Algorithm {
    /// Plain Ed25519: the log's own word.
    Log,
    /// `cosignature/v1`: a witness's word, with the time at which it was given.
    Witness,
}

impl Algorithm {
    const fn code(self) -> u8 {
        match self {
            Algorithm::Log => 1,
            Algorithm::Witness => 4,
        }
    }
}

/// A name and a key that together make a signature's line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    name: String,
    algorithm: Algorithm,
    key: PublicKey,
}

/// Why a text is no verifier key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a verifier key: name+id+key, as `commonwatt witness` prints its own")]
pub struct VerifierKeyError(String);

fn is_name(name: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    !name.is_empty() && name.len() <= 255 && name.chars().all(allowed)
}

impl VerifierKey {
    /// The key of a log with this origin.
    #[must_use]
    pub fn of_log(origin: &str, key: PublicKey) -> Option<Self> {
        VerifierKey::new(origin, Algorithm::Log, key)
    }

    /// The key of a witness with this name.
    #[must_use]
    pub fn of_witness(name: &str, key: PublicKey) -> Option<Self> {
        VerifierKey::new(name, Algorithm::Witness, key)
    }

    fn new(name: &str, algorithm: Algorithm, key: PublicKey) -> Option<Self> {
        let name = is_name(name).then(|| name.to_owned())?;
        Some(VerifierKey {
            name,
            algorithm,
            key,
        })
    }

    /// The name: a log's origin, or a witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its signatures say.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// The short name of name, type and key, which begins each of its signatures.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, self.algorithm, self.key)
    }
}

pub(super) fn key_id(name: &str, algorithm: Algorithm, key: PublicKey) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', algorithm.code()])
        .chain_update(key.to_bytes())
        .finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut material = vec![self.algorithm.code()];
        material.extend(self.key.to_bytes());
        let (name, id) = (&self.name, to_hex(&self.id()));
        write!(f, "{name}+{id}+{}", STANDARD.encode(material))
    }
}

impl FromStr for VerifierKey {
    type Err = VerifierKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            // The key may have a plus sign in it, the name has none.
            let mut parts = text.splitn(3, '+');
            let (name, _, material) = (parts.next()?, parts.next()?, parts.next()?);
            let material = STANDARD.decode(material).ok()?;
            let (code, key) = material.split_first()?;
            let algorithms = [Algorithm::Log, Algorithm::Witness];
            let algorithm = algorithms.into_iter().find(|a| a.code() == *code)?;
            let key = PublicKey::from_bytes(key.try_into().ok()?).ok()?;
            let read = VerifierKey::new(name, algorithm, key)?;
            (read.to_string() == text).then_some(read)
        };
        read().ok_or_else(|| VerifierKeyError(text.chars().take(255).collect()))
    }
}

/// A signature under a note.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoteSignature {
    /// Whose it says it is.
    pub name: String,
    /// [`VerifierKey::id`].
    pub id: [u8; 4],
    /// What follows the id.
    pub bytes: Vec<u8>,
}

impl NoteSignature {
    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        let bytes = [&self.id[..], &self.bytes].concat();
        format!("\u{2014} {} {}\n", self.name, STANDARD.encode(bytes))
    }

    /// Reads a line with its end.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (name, bytes) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = STANDARD.decode(bytes.strip_suffix('\n')?).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        let read = NoteSignature {
            name: name.to_owned(),
            id: *id,
            bytes: bytes.to_vec(),
        };
        (is_name(name) && !read.bytes.is_empty()).then_some(read)
    }

    /// Whether it says that this key made it.
    #[must_use]
    pub fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name && self.id == key.id()
    }
}

/// A note, of which nothing is believed yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The text that is signed, with the end of its last line.
    pub body: String,
    /// The signatures.
    pub signatures: Vec<NoteSignature>,
}

impl Note {
    /// Reads a note; `None` where the text is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let strange = |c: char| c.is_control() && c != '\n';
        if text.len() > NOTE_MAX_BYTES || text.contains(strange) {
            return None;
        }
        let (body, lines) = text
            .rsplit_once("\n\n")
            .filter(|(body, _)| !body.is_empty())?;
        let signatures: Option<Vec<_>> = lines
            .split_inclusive('\n')
            .map(NoteSignature::parse)
            .collect();
        let signatures = signatures.filter(|s| (1..=SIGNATURES_MAX).contains(&s.len()))?;
        Some(Note {
            body: format!("{body}\n"),
            signatures,
        })
    }

    /// The text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines = self.signatures.iter().map(NoteSignature::line);
        format!("{}\n{}", self.body, lines.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signed::SigningKey;

    fn key(seed: u8) -> PublicKey {
        PublicKey::of(&SigningKey::from_bytes(&[seed; 32]))
    }

    #[test]
    fn a_verifier_key_has_one_text() {
        let log = VerifierKey::of_log("commonwatt/street/ledger", key(1)).unwrap();
        let witness = VerifierKey::of_witness("commonwatt/street/ledger", key(1)).unwrap();
        assert_ne!(log.id(), witness.id());
        for good in [&log, &witness] {
            let text = good.to_string();
            assert_eq!(text.parse::<VerifierKey>().as_ref(), Ok(good));
            for index in 0..text.len() * 8 {
                let mut bytes = text.clone().into_bytes();
                bytes[index / 8] ^= 1 << (index % 8);
                let read = String::from_utf8(bytes).map(|text| text.parse::<VerifierKey>());
                assert!(!matches!(read, Ok(Ok(_))), "bit {index}");
            }
        }
        for name in ["", "two words", "a+b", "line\n", &"x".repeat(256)] {
            assert_eq!(VerifierKey::of_log(name, key(1)), None);
        }
        let told = "nonsense".parse::<VerifierKey>().unwrap_err().to_string();
        assert!(told.contains("`nonsense`"), "{told}");
    }

    #[test]
    fn a_note_is_read_as_it_is_written() {
        let line = |name: &str| NoteSignature {
            name: name.to_owned(),
            id: [1, 2, 3, 4],
            bytes: vec![5; 64],
        };
        let note = Note {
            body: "log\n7\n\nan empty line above\n".to_owned(),
            signatures: vec![line("a"), line("b.example/w")],
        };
        assert_eq!(Note::parse(&note.to_text()), Some(note.clone()));
        let good = note.to_text();
        for bad in [
            String::new(),
            "no signature\n\n".to_owned(),
            "\n\n".to_owned() + &line("a").line(),
            good.replace("\u{2014} a ", "- a "),
            good.replace("\u{2014} a ", "\u{2014} a  "),
            good.replace("\u{2014} a ", "\u{2014} "),
            good.trim_end().to_owned(),
            good.clone() + "\n",
            good.replace("log", "l\tog"),
            good.replace("log", &"l".repeat(NOTE_MAX_BYTES)),
            good.clone() + &line("c").line().repeat(SIGNATURES_MAX),
        ] {
            assert_ne!(Note::parse(&bad), Some(note.clone()), "{bad}");
            let again = Note::parse(&bad).map(|read| read.to_text());
            assert!(again.is_none(), "{bad}");
        }
    }
}
