//! Receipts as text, and their verifier: pure, without network or database, one named step after the
//! other.
//!
//! The verifier reads a receipt, writes it again and compares, so there is one text for a receipt, save
//! for white space between its parts; and every value in it is either signed, or opened against a
//! commitment in a log whose root the operator signed, or computed again.

mod content;
mod keys;
mod record;
mod tlog;

use domain::ids::CommunityId;
use domain::key_record::{Holder, KeyRecord};
use domain::receipt::{FORMAT, KeyEntry, Place, Receipt, Salt};
use domain::signed::{Message, PublicKey, Signed, SignedError, Verified};
use domain::time::Timestamp;

use crate::log::checkpoint::{Checkpoint, Log};
use crate::log::entry::{Entry, Kind, PUBLIC};
use crate::log::note::Note;
use crate::log::policy::Policy;
use crate::log::tree::verify_inclusion;

pub use record::verify_record;
pub use tlog::{proofs, verify_proof};

/// Longest receipt that is read.
pub const RECEIPT_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What the verifier found: each step by name with what it established, or why it failed. The steps
/// after a failed one are not tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The steps in order.
    pub steps: Vec<(&'static str, Result<String, String>)>,
    /// Whether a key was given to compare the operator's with. Without one, a receipt that holds is
    /// only consistent: anybody can make one with a key of their own.
    pub pinned: bool,
}

impl Report {
    /// Whether every step holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.first_failure().is_none()
    }

    /// The step that failed, and why.
    #[must_use]
    pub fn first_failure(&self) -> Option<(&'static str, &str)> {
        self.steps.iter().find_map(|(name, result)| match result {
            Ok(_) => None,
            Err(why) => Some((*name, why.as_str())),
        })
    }
}

/// The receipt's text: JSON for people to read and for [`verify`].
///
/// # Errors
/// The receipt has a value that JSON cannot hold; none of its types has one.
pub fn to_text(receipt: &Receipt) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(receipt).map(|text| text + "\n")
}

/// What a reader trusts beforehand.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trusted {
    /// The operator's key.
    pub operator: Option<PublicKey>,
    /// Which witnesses must have signed the ledger log's checkpoint.
    pub policy: Policy,
}

impl Trusted {
    /// The operator's key for a log, where one is known; it must not differ between key and policy.
    ///
    /// # Errors
    /// It differs, or the policy names logs and not this one.
    pub fn key_of(&self, origin: &str) -> Result<Option<PublicKey>, String> {
        match (self.operator, self.policy.log_key(origin)?) {
            (Some(one), Some(other)) if one != other => {
                Err("the policy names another key than the one that was given".to_owned())
            }
            (one, other) => Ok(one.or(other)),
        }
    }
}

/// Verifies a receipt's text. With `pinned`, the operator's key must be this one.
#[must_use]
pub fn verify(text: &str, pinned: Option<PublicKey>) -> Report {
    let policy = Policy::default();
    verify_with(
        text,
        &Trusted {
            operator: pinned,
            policy,
        },
    )
}

/// Verifies a receipt's text against what the reader trusts.
#[must_use]
pub fn verify_with(text: &str, trusted: &Trusted) -> Report {
    let mut report = Report {
        steps: Vec::new(),
        pinned: false,
    };
    let steps = &mut report.steps;
    let receipt = match read(text) {
        Ok(receipt) => receipt,
        Err(why) => {
            steps.push(("format", Err(why)));
            return report;
        }
    };
    steps.push(("format", Ok(format!("{FORMAT} of {}", receipt.participant))));
    let trust = match Trust::establish(&receipt, trusted, steps) {
        Ok((trust, pinned)) => {
            report.pinned = pinned;
            trust
        }
        Err((name, why)) => {
            steps.push((name, Err(why)));
            return report;
        }
    };
    for (name, check) in content::CHECKS {
        let result = check(&receipt, &trust);
        let failed = result.is_err();
        steps.push((name, result));
        if failed {
            break;
        }
    }
    report
}

fn read(text: &str) -> Result<Receipt, String> {
    if text.len() > RECEIPT_MAX_BYTES {
        return Err(format!("longer than {RECEIPT_MAX_BYTES} bytes"));
    }
    let receipt: Receipt = serde_json::from_str(text).map_err(|e| format!("not a receipt: {e}"))?;
    if receipt.format != FORMAT {
        return Err(format!("the format is not {FORMAT}"));
    }
    let again = serde_json::to_string(&receipt).map_err(|e| e.to_string())?;
    if text != again && without_white_space(text) != without_white_space(&again) {
        return Err(
            "not the text that its values have: something is written another way".to_owned(),
        );
    }
    Ok(receipt)
}

/// JSON text without the white space between its parts.
fn without_white_space(text: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        let white = matches!(c, ' ' | '\n' | '\r' | '\t');
        let kept = in_string || !white;
        if in_string {
            in_string = escaped || *c != '"';
            escaped = !escaped && *c == '\\';
        } else {
            in_string = *c == '"';
        }
        kept
    };
    text.chars().filter(keep).collect()
}

/// What everything else is checked against.
struct Trust {
    community: CommunityId,
    operator: PublicKey,
    readings: Checkpoint,
    market: Checkpoint,
    ledger: Checkpoint,
    participant: KeyRecord,
    gateway: Option<KeyRecord>,
}

type Steps = Vec<(&'static str, Result<String, String>)>;

impl Trust {
    fn establish(
        receipt: &Receipt,
        trusted: &Trusted,
        steps: &mut Steps,
    ) -> Result<(Self, bool), (&'static str, String)> {
        let (community, operator, pinned) =
            operator_key(receipt, trusted, steps).map_err(|why| ("operator key", why))?;
        let ([readings, market, ledger], note) =
            checkpoints(receipt, &community, operator).map_err(|why| ("checkpoints", why))?;
        let sizes = (readings.size, market.size, ledger.size);
        let detail = format!("signed at sizes {sizes:?}, and linked");
        steps.push(("checkpoints", Ok(detail)));
        if trusted.policy.wants_witnesses() {
            let told = trusted.policy.check(&note, None);
            steps.push(("witnesses", Ok(told.map_err(|why| ("witnesses", why))?)));
        }
        let key = |entry: &KeyEntry| {
            key_record(entry, &community, operator, &ledger).map_err(|why| ("keys", why))
        };
        let participant = key(&receipt.participant_key)?;
        let interval = receipt.trade.content.interval;
        if participant.valid_from > interval.start() {
            let from = participant.valid_from;
            let why = format!("the participant's key is valid only from {from} on");
            return Err(("keys", why));
        }
        if participant.holder != Holder::Participant(receipt.participant.clone()) {
            return Err((
                "keys",
                "the participant's key is held by somebody else".to_owned(),
            ));
        }
        let gateway = receipt.gateway_key.as_ref().map(key).transpose()?;
        if gateway.is_some() != receipt.reading.is_some() {
            return Err((
                "keys",
                "a gateway's key belongs to a reading, and only there".to_owned(),
            ));
        }
        steps.push((
            "keys",
            Ok("signed by the operator, and in the ledger log".to_owned()),
        ));
        let trust = Trust {
            community,
            operator,
            readings,
            market,
            ledger,
            participant,
            gateway,
        };
        Ok((trust, pinned))
    }
}

/// The three signed roots, and the ledger's note; the ledger's must cover the other two.
fn checkpoints(
    receipt: &Receipt,
    community: &CommunityId,
    operator: PublicKey,
) -> Result<([Checkpoint; 3], Note), String> {
    let open = |log: Log, note: &str| {
        Checkpoint::open(note, &log.origin(community), operator).map_err(|e| e.to_string())
    };
    let readings = open(Log::Readings, &receipt.readings_checkpoint.note)?;
    let market = open(Log::Market, &receipt.market_checkpoint.note)?;
    let origin = Log::Ledger.origin(community);
    let (ledger, note) = Checkpoint::open_cosigned(&receipt.ledger_checkpoint, &origin, operator)
        .map_err(|e| e.to_string())?;
    for entry in [&receipt.readings_checkpoint, &receipt.market_checkpoint] {
        let note = entry.note.as_bytes();
        let leaf = Entry::new(Kind::Checkpoint, Timestamp::EPOCH, PUBLIC, note);
        included(&leaf, &entry.place, &ledger)
            .map_err(|why| format!("a checkpoint in the ledger log: {why}"))?;
    }
    Ok(([readings, market, ledger], note))
}

/// The community, the operator's key, and whether it was compared with a known one.
fn operator_key(
    receipt: &Receipt,
    trusted: &Trusted,
    steps: &mut Steps,
) -> Result<(CommunityId, PublicKey, bool), String> {
    let community = CommunityId::new(receipt.community.as_str()).map_err(|e| e.to_string())?;
    let operator =
        PublicKey::from_bytes(&receipt.operator_key.0).map_err(|error| error.to_string())?;
    let pinned = trusted.key_of(&Log::Ledger.origin(&community))?;
    let detail = match pinned {
        Some(key) if key == operator => "the pinned key".to_owned(),
        Some(key) => return Err(format!("not the pinned key {}", key.id())),
        None => {
            use base64::{Engine, engine::general_purpose::STANDARD};
            let text = STANDARD.encode(operator.to_bytes());
            format!("{text}, not compared: compare it with the one the operator publishes")
        }
    };
    steps.push(("operator key", Ok(detail)));
    Ok((community, operator, pinned.is_some()))
}

fn key_record(
    entry: &KeyEntry,
    community: &CommunityId,
    operator: PublicKey,
    ledger: &Checkpoint,
) -> Result<KeyRecord, String> {
    let verified = open_signed::<KeyRecord>(&entry.signed, operator, community)
        .map_err(|e| format!("the key record: {e}"))?;
    let record = verified.message().clone();
    let leaf = Entry::new(Kind::Key, record.valid_from, PUBLIC, &entry.signed);
    included(&leaf, &entry.place, ledger).map_err(|why| format!("the key record: {why}"))?;
    Ok(record)
}

fn open_signed<T: Message>(
    signed: &[u8],
    key: PublicKey,
    community: &CommunityId,
) -> Result<Verified<T>, SignedError> {
    Signed::from_bytes(signed.to_vec()).verify(key, community)
}

fn included(entry: &Entry, place: &Place, log: &Checkpoint) -> Result<(), String> {
    let found = verify_inclusion(
        entry.leaf_hash(),
        place.index,
        log.size,
        &place.path,
        log.root,
    );
    if found {
        Ok(())
    } else {
        Err("it is not in the log under this root".to_owned())
    }
}

/// Checks that the opened `content` is committed to in a log.
fn opened(
    kind: Kind,
    start: Timestamp,
    content: &[u8],
    salt: Salt,
    place: &Place,
    log: &Checkpoint,
) -> Result<(), String> {
    included(&Entry::new(kind, start, salt, content), place, log)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, this: &T, that: &T) -> Result<(), String> {
    if this == that {
        Ok(())
    } else {
        Err(format!("{what}: {this:?} is not {that:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_dropped_outside_strings_only() {
        for (text, expect) in [
            ("{ \"a b\" : 1 }\n", "{\"a b\":1}"),
            (r#"[ "x\" y" , "\\" ]"#, r#"["x\" y","\\"]"#),
        ] {
            assert_eq!(without_white_space(text), expect);
        }
    }

    #[test]
    fn what_is_no_receipt_fails_at_the_first_step() {
        for text in [
            "",
            "{}",
            "[1]",
            "null",
            "{\"format\":\"commonwatt-receipt/v1\"}",
        ] {
            assert_eq!(
                verify(text, None).first_failure().map(|(step, _)| step),
                Some("format")
            );
        }
    }
}
