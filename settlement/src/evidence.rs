//! Proof that somebody broke a rule, as a file that stands for itself, and the one judge of such files.
//!
//! Everything that a verdict needs is in the file: what was signed, by which key, and for what the registry
//! says, the operator's signed record and word. So anybody comes to the same verdict, offline. What cannot be decided
//! like this (losses on a feeder, readings that are late) is no evidence.

mod nameplate;

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::ids::{CommunityId, Digest32};
use domain::order::Order;
use domain::reading::{Obis, Reading};
use domain::signed::{Message, PublicKey, Signed, SignedError, Verified};
use serde::{Deserialize, Serialize};

use crate::log::checkpoint::{Checkpoint, is_signed};
use crate::log::cosignature::cosigned_at;
use crate::log::entry::Kind;
use crate::log::note::{Algorithm, Note, VerifierKey};
use crate::log::proof::LogProof;
use crate::log::tree::consistency_roots;

/// The format's name; the judge refuses any other.
pub const FORMAT: &str = "commonwatt-evidence/v1";
/// Longest evidence that is read.
pub const EVIDENCE_MAX_BYTES: usize = 1024 * 1024;

/// A case. Keys and signed messages are base64, hashes lower-case hex.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Evidence {
    /// Two messages of one signer with the same number and other bytes.
    Equivocation {
        /// [`FORMAT`].
        format: String,
        /// For which community they were signed.
        community: String,
        /// The signer's public key.
        key: String,
        /// A signed reading or order.
        first: String,
        /// Another one.
        second: String,
    },
    /// A register that went backwards although the meter was the same.
    RegisterRollback {
        /// [`FORMAT`].
        format: String,
        /// For which community they were signed.
        community: String,
        /// The signer's public key.
        key: String,
        /// The reading with the lower sequence.
        earlier: String,
        /// The one with the higher; none where a register went backwards within the other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        later: Option<String>,
    },
    /// More energy than the point can carry.
    AboveNameplate {
        /// [`FORMAT`].
        format: String,
        /// For which community they were signed.
        community: String,
        /// The operator's public key.
        operator_key: String,
        /// The signed record of the reading's key: it has the point's rating.
        key_record: String,
        /// The signed reading.
        reading: String,
        /// The operator's signed word that at the end of the reading's interval no other record counted; without it
        /// nothing is proven.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        word: String,
        /// The record's place in the ledger log (a C2SP tlog-proof), under a checkpoint that the gateway itself had
        /// signed by then: it knew of the record, and nobody has dated it back.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        proof: String,
    },
    /// A word of the operator on which record of a key counted, and another record that counted instead.
    FalseRecordWord {
        /// [`FORMAT`].
        format: String,
        /// For which community they were signed.
        community: String,
        /// The operator's public key.
        operator_key: String,
        /// The operator's signed word.
        word: String,
        /// The signed record.
        key_record: String,
        /// Its place in the ledger log (a C2SP tlog-proof).
        proof: String,
    },
    /// Two checkpoints of a log of which neither is the beginning of the other.
    OperatorFork {
        /// [`FORMAT`].
        format: String,
        /// The log's verifier key.
        log: String,
        /// A signed checkpoint.
        first: String,
        /// Another one.
        second: String,
        /// Where the sizes differ, the hashes by which the larger tree has another beginning than the smaller
        /// one: as in a proof of consistency, with the hash it starts from always first.
        beginning: Vec<String>,
    },
    /// Two such checkpoints, both signed by one witness.
    WitnessFork {
        /// [`FORMAT`].
        format: String,
        /// The witness's verifier key.
        witness: String,
        /// A cosigned checkpoint.
        first: String,
        /// Another one.
        second: String,
        /// As of [`Evidence::OperatorFork`].
        beginning: Vec<String>,
    },
}

/// A key's record with its place in the ledger log, and the operator's word on which record counted.
#[derive(Clone, Copy, Debug)]
pub struct RecordShown<'a> {
    /// The signed record.
    pub signed: &'a [u8],
    /// The signed [`RecordWord`](domain::record_word::RecordWord).
    pub word: &'a [u8],
    /// The tlog-proof of the record.
    pub proof: &'a str,
}

/// What the judge says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The rule was broken by the holder of this key.
    Proven {
        /// Whose key it is, as far as the evidence says.
        offender: String,
        /// What was done.
        what: String,
    },
    /// The evidence does not show it.
    NotProven {
        /// Why not.
        why: String,
    },
}

/// A file that is no evidence of this format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a {FORMAT} file: {0}")]
pub struct BadEvidence(String);

/// How far a case holds: the offender and the deed, or why not.
type Finding = Result<(String, String), Fault>;

enum Fault {
    Bad(BadEvidence),
    Not(String),
}

impl From<BadEvidence> for Fault {
    fn from(bad: BadEvidence) -> Self {
        Fault::Bad(bad)
    }
}

fn not(why: impl Into<String>) -> Fault {
    Fault::Not(why.into())
}

impl Evidence {
    /// Reads a file.
    ///
    /// # Errors
    /// It is none of this format.
    pub fn read(text: &str) -> Result<Self, BadEvidence> {
        if text.len() > EVIDENCE_MAX_BYTES {
            return Err(BadEvidence(format!(
                "longer than {EVIDENCE_MAX_BYTES} bytes"
            )));
        }
        let read: Evidence = serde_json::from_str(text).map_err(|e| BadEvidence(e.to_string()))?;
        match read.format() == FORMAT {
            true => Ok(read),
            false => Err(BadEvidence(format!("its format is `{}`", read.format()))),
        }
    }

    fn format(&self) -> &str {
        match self {
            Evidence::Equivocation { format, .. }
            | Evidence::RegisterRollback { format, .. }
            | Evidence::AboveNameplate { format, .. }
            | Evidence::FalseRecordWord { format, .. }
            | Evidence::OperatorFork { format, .. }
            | Evidence::WitnessFork { format, .. } => format,
        }
    }

    /// The kind as it is written.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Evidence::Equivocation { .. } => "equivocation",
            Evidence::RegisterRollback { .. } => "register_rollback",
            Evidence::AboveNameplate { .. } => "above_nameplate",
            Evidence::FalseRecordWord { .. } => "false_record_word",
            Evidence::OperatorFork { .. } => "operator_fork",
            Evidence::WitnessFork { .. } => "witness_fork",
        }
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Strings only: nothing in it can fail to be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Two messages of one key under one number.
    #[must_use]
    pub fn equivocation(
        community: &CommunityId,
        key: PublicKey,
        first: &[u8],
        second: &[u8],
    ) -> Self {
        Evidence::Equivocation {
            format: FORMAT.to_owned(),
            community: community.to_string(),
            key: STANDARD.encode(key.to_bytes()),
            first: STANDARD.encode(first),
            second: STANDARD.encode(second),
        }
    }

    /// Two readings of one key between which a register went backwards, or one in which it did.
    #[must_use]
    pub fn register_rollback(
        community: &CommunityId,
        key: PublicKey,
        earlier: &[u8],
        later: Option<&[u8]>,
    ) -> Self {
        Evidence::RegisterRollback {
            format: FORMAT.to_owned(),
            community: community.to_string(),
            key: STANDARD.encode(key.to_bytes()),
            earlier: STANDARD.encode(earlier),
            later: later.map(|later| STANDARD.encode(later)),
        }
    }

    /// A reading of more than the record of its key allows, with what the operator says of that record.
    #[must_use]
    pub fn above_nameplate(
        community: &CommunityId,
        operator: PublicKey,
        reading: &[u8],
        record: &RecordShown<'_>,
    ) -> Self {
        Evidence::AboveNameplate {
            format: FORMAT.to_owned(),
            community: community.to_string(),
            operator_key: STANDARD.encode(operator.to_bytes()),
            key_record: STANDARD.encode(record.signed),
            reading: STANDARD.encode(reading),
            word: STANDARD.encode(record.word),
            proof: record.proof.to_owned(),
        }
    }

    /// The operator's word in a case of a reading above the rating, held against a record of the key whose opened entry
    /// this tlog-proof shows.
    ///
    /// # Errors
    /// This case has no such word, or the proof opens no key's record.
    pub fn against(&self, proof: &str) -> Result<Self, BadEvidence> {
        let bad = |why: &str| BadEvidence(why.to_owned());
        let Evidence::AboveNameplate {
            format,
            community,
            operator_key,
            word,
            ..
        } = self
        else {
            return Err(bad("only energy above a rating has a word of the operator"));
        };
        let mut shown = LogProof::parse(proof).ok_or_else(|| bad("no tlog-proof"))?;
        let record = match shown.entry() {
            Some((entry, Some(opening))) if entry.kind == Kind::Key => opening.content,
            Some(_) | None => return Err(bad("the proof opens no key's record")),
        };
        // The record is in the case itself.
        shown.extra = None;
        Ok(Evidence::FalseRecordWord {
            format: format.clone(),
            community: community.clone(),
            operator_key: operator_key.clone(),
            word: word.clone(),
            key_record: STANDARD.encode(record),
            proof: shown.to_text(),
        })
    }

    /// Two checkpoints of a log that contradict each other.
    #[must_use]
    pub fn operator_fork(
        log: &VerifierKey,
        first: &str,
        second: &str,
        beginning: &[Digest32],
    ) -> Self {
        Evidence::OperatorFork {
            format: FORMAT.to_owned(),
            log: log.to_string(),
            first: first.to_owned(),
            second: second.to_owned(),
            beginning: beginning.iter().map(ToString::to_string).collect(),
        }
    }

    /// Two checkpoints that contradict each other, both signed by one witness.
    #[must_use]
    pub fn witness_fork(
        witness: &VerifierKey,
        first: &str,
        second: &str,
        beginning: &[Digest32],
    ) -> Self {
        Evidence::WitnessFork {
            format: FORMAT.to_owned(),
            witness: witness.to_string(),
            first: first.to_owned(),
            second: second.to_owned(),
            beginning: beginning.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Judges a case by what is in it, and nothing else.
///
/// # Errors
/// A part of the file is not what it should be, so that there is nothing to judge.
pub fn judge(evidence: &Evidence) -> Result<Verdict, BadEvidence> {
    let finding = match evidence {
        Evidence::Equivocation {
            community,
            key,
            first,
            second,
            ..
        } => equivocation(community, key, first, second),
        Evidence::RegisterRollback {
            community,
            key,
            earlier,
            later,
            ..
        } => rollback(community, key, earlier, later.as_deref()),
        Evidence::AboveNameplate {
            community,
            operator_key,
            key_record,
            reading,
            word,
            proof,
            ..
        } => nameplate::judge(
            [community, operator_key],
            key_record,
            reading,
            [word, proof],
        ),
        Evidence::FalseRecordWord {
            community,
            operator_key,
            word,
            key_record,
            proof,
            ..
        } => nameplate::judge_word([community, operator_key], word, key_record, proof),
        Evidence::OperatorFork {
            log,
            first,
            second,
            beginning,
            ..
        } => fork(log, Algorithm::Log, [first, second], beginning),
        Evidence::WitnessFork {
            witness,
            first,
            second,
            beginning,
            ..
        } => fork(witness, Algorithm::Witness, [first, second], beginning),
    };
    match finding {
        Ok((offender, what)) => Ok(Verdict::Proven { offender, what }),
        Err(Fault::Not(why)) => Ok(Verdict::NotProven { why }),
        Err(Fault::Bad(bad)) => Err(bad),
    }
}

fn public_key(member: &str, text: &str) -> Result<PublicKey, BadEvidence> {
    let bad = || BadEvidence(format!("{member} is no Ed25519 public key in base64"));
    let bytes = STANDARD.decode(text).map_err(|_| bad())?;
    let bytes = bytes.try_into().map_err(|_| bad())?;
    PublicKey::from_bytes(&bytes).map_err(|_| bad())
}

fn message(member: &str, text: &str) -> Result<Vec<u8>, BadEvidence> {
    let bad = |_| BadEvidence(format!("{member} is not base64"));
    STANDARD.decode(text).map_err(bad)
}

fn community(text: &str) -> Result<CommunityId, BadEvidence> {
    CommunityId::new(text).map_err(|e| BadEvidence(format!("community: {e}")))
}

fn opened<T: Message>(
    bytes: &[u8],
    key: PublicKey,
    community: &CommunityId,
) -> Result<Verified<T>, SignedError> {
    Signed::from_bytes(bytes.to_vec()).verify(key, community)
}

fn equivocation(of: &str, key: &str, first: &str, second: &str) -> Finding {
    let (of, key) = (community(of)?, public_key("key", key)?);
    let (first, second) = (message("first", first)?, message("second", second)?);
    if first == second {
        return Err(not("it is the same message twice"));
    }
    let number = |which: &str, bytes: &[u8]| -> Result<String, Fault> {
        if let Ok(reading) = opened::<Reading>(bytes, key, &of) {
            let (point, sequence) = (&reading.message().point, reading.message().sequence);
            return Ok(format!("reading {sequence} of {point}"));
        }
        let order = opened::<Order>(bytes, key, &of).map_err(|_| {
            not(format!(
                "the {which} message is no reading or order signed with this key for this community"
            ))
        })?;
        let (who, sequence) = (&order.message().participant, order.message().sequence);
        Ok(format!("order {sequence} of {who}"))
    };
    let (one, other) = (number("first", &first)?, number("second", &second)?);
    match one == other {
        true => Ok((
            format!("key {}", key.id()),
            format!("signed {one} twice, with different contents"),
        )),
        false => Err(not(format!("they have different numbers: {one}, {other}"))),
    }
}

fn rollback(of: &str, key: &str, earlier: &str, later: Option<&str>) -> Finding {
    let (of, key) = (community(of)?, public_key("key", key)?);
    let read = |member: &str, text: &str| {
        let bytes = message(member, text)?;
        let why = |e| not(format!("the {member} reading: {e}"));
        let verified = opened::<Reading>(&bytes, key, &of).map_err(why)?;
        Ok::<Reading, Fault>(verified.message().clone())
    };
    let earlier = read("earlier", earlier)?;
    let Some(later) = later else {
        let fell = earlier.registers.iter().find(|r| r.end < r.start);
        let fell = fell.ok_or_else(|| not("no register went backwards within the reading"))?;
        let what = format!(
            "the {} register of {} stood at {} at the beginning of reading {} and at {} at its end",
            register(fell.obis),
            earlier.point,
            fell.start,
            earlier.sequence,
            fell.end
        );
        return Ok((format!("key {}", key.id()), what));
    };
    let later = read("later", later)?;
    if earlier.point != later.point || earlier.sequence >= later.sequence {
        return Err(not(
            "they are not an earlier and a later reading of one point",
        ));
    }
    if earlier.era != later.era {
        return Err(not(
            "between them the meter was exchanged or reset, and the readings say so",
        ));
    }
    let fallen = earlier.registers.iter().find_map(|before| {
        let after = later.registers.iter().find(|r| r.obis == before.obis)?;
        (after.start < before.end).then_some((before, after))
    });
    let (before, after) = fallen.ok_or_else(|| not("no register went backwards"))?;
    let what = format!(
        "the {} register of {} stood at {} in reading {} and at {} in reading {}",
        register(before.obis),
        earlier.point,
        before.end,
        earlier.sequence,
        after.start,
        later.sequence
    );
    Ok((format!("key {}", key.id()), what))
}

fn register(obis: Obis) -> String {
    match obis {
        Obis::IMPORT => "import".to_owned(),
        Obis::EXPORT => "export".to_owned(),
        other => format!("{other:?}"),
    }
}

fn fork(key: &str, algorithm: Algorithm, notes: [&String; 2], beginning: &[String]) -> Finding {
    let key: VerifierKey = key.parse().map_err(|e| BadEvidence(format!("{e}")))?;
    if key.algorithm() != algorithm {
        return Err(BadEvidence("the verifier key is of another type".to_owned()).into());
    }
    let path: Result<Vec<Digest32>, _> = beginning.iter().map(|hash| hash.parse()).collect();
    let path = path.map_err(|e| BadEvidence(format!("beginning: {e}")))?;
    let mut read = Vec::new();
    for text in notes {
        let note = Note::parse(text);
        let note = note.ok_or_else(|| BadEvidence("a checkpoint is no signed note".to_owned()))?;
        let body = Checkpoint::read_body(&note.body);
        let (origin, checkpoint) =
            body.ok_or_else(|| BadEvidence("a note is no checkpoint".to_owned()))?;
        let signed = match algorithm {
            Algorithm::Log => is_signed(&note, &key) && origin == key.name(),
            Algorithm::Witness => {
                let mut lines = note.signatures.iter();
                lines.any(|line| cosigned_at(&note.body, line, &key).is_some())
            }
        };
        if !signed {
            return Err(not("not both checkpoints are signed with this key"));
        }
        read.push((origin.to_owned(), checkpoint));
    }
    read.sort_by_key(|(_, checkpoint)| checkpoint.size);
    let [(origin, small), (other, large)] = read.as_slice() else {
        return Err(not("not two checkpoints"));
    };
    if origin != other {
        return Err(not("they are checkpoints of two logs"));
    }
    let beginning = match small.size == large.size {
        true if path.is_empty() => large.root,
        true => return Err(not("of the same size, and yet with hashes between them")),
        false => match consistency_roots(small.size, large.size, &path) {
            Some((beginning, whole)) if whole == large.root => beginning,
            Some(_) | None => return Err(not("the hashes do not lead to the larger tree's root")),
        },
    };
    if beginning == small.root {
        return Err(not("the smaller tree is the beginning of the larger one"));
    }
    let what = format!(
        "signed two trees of {origin} of which the one with {} entries is not the beginning of the one with {}",
        small.size, large.size
    );
    Ok((format!("{} of {}", word(algorithm), key.name()), what))
}

const fn word(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Log => "the operator",
        Algorithm::Witness => "the witness",
    }
}
