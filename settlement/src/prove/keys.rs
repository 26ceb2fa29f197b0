//! How the keys of a receipt came to stand in the place of others, and whether one was revoked.

use domain::ids::KeyId;
use domain::introduction::Introduction;
use domain::key_holder::KeyHolder;
use domain::key_record::KeyRecord;
use domain::reading::Reading;
use domain::receipt::{KeyChange, KeyEntry, KeyHistory, Receipt, RevocationEntry, SignedEntry};
use domain::revocation::Revocation;
use domain::signed::Signed;
use domain::time::Timestamp;

use super::{Trust, included, key_record, open_signed, opened, same};
use crate::log::checkpoint::{Checkpoint, Log};
use crate::log::entry::{Entry, Kind, PUBLIC};

/// Every change of a key that the receipt shows, with both signatures where one key vouched for the other, and every
/// revocation, with whether the reading is shown to have come before it.
pub(super) fn key_changes(receipt: &Receipt, trust: &Trust) -> Result<String, String> {
    let mut told = Vec::new();
    if let Some(history) = &receipt.participant_key_history {
        let own = Own {
            record: &trust.participant,
            index: receipt.participant_key.place.index,
            reading: None,
        };
        let words = own.history(history, trust);
        told.extend(words.map_err(|why| format!("the participant's key: {why}"))?);
    }
    if let Some(history) = &receipt.gateway_key_history {
        let (Some(record), Some(key), Some(reading)) =
            (&trust.gateway, &receipt.gateway_key, &receipt.reading)
        else {
            return Err("a gateway's key has a history, and is not there".to_owned());
        };
        let own = Own {
            record,
            index: key.place.index,
            reading: Some(reading),
        };
        let words = own.history(history, trust);
        told.extend(words.map_err(|why| format!("the gateway's key: {why}"))?);
    }
    Ok(match told.is_empty() {
        true => "the receipt shows no change or revocation; that there was none it cannot show"
            .to_owned(),
        false => told.join("; "),
    })
}

/// The key that is used in the receipt.
struct Own<'a> {
    record: &'a KeyRecord,
    index: u64,
    reading: Option<&'a SignedEntry>,
}

/// A key record and its place in the ledger log.
type Placed<'a> = (&'a KeyRecord, u64);

impl Own<'_> {
    fn history(&self, history: &KeyHistory, trust: &Trust) -> Result<Vec<String>, String> {
        if *history == KeyHistory::default() {
            return Err("its history is empty".to_owned());
        }
        let own = (self.record, self.index);
        let mut told = Vec::new();
        if let Some(change) = &history.before {
            let other = other(change, trust)?;
            told.push(changed(
                (&other, change.key.place.index),
                own,
                change,
                trust,
            )?);
        }
        if let Some(change) = &history.after {
            let other = other(change, trust)?;
            told.push(changed(
                own,
                (&other, change.key.place.index),
                change,
                trust,
            )?);
        }
        let mut before = None;
        for entry in &history.revocations {
            let index = entry.word.place.index;
            if before.is_some_and(|before| before >= index) {
                return Err("its revocations are not in the order of the log".to_owned());
            }
            before = Some(index);
            told.push(self.revoked(entry, trust)?);
        }
        Ok(told)
    }

    fn revoked(&self, entry: &RevocationEntry, trust: &Trust) -> Result<String, String> {
        let signed = &entry.word.signed;
        let word = open_signed::<Revocation>(signed, trust.operator, &trust.community)
            .map_err(|e| format!("a revocation: {e}"))?;
        let word = word.message();
        let leaf = Entry::new(Kind::Revocation, word.from, PUBLIC, signed);
        included(&leaf, &entry.word.place, &trust.ledger)
            .map_err(|why| format!("a revocation: {why}"))?;
        let Some(reading) = self.reading.filter(|_| word.key == self.record.key.id()) else {
            return Err("the revocation is of another key".to_owned());
        };
        let signed = open_signed::<Reading>(&reading.signed, self.record.key, &trust.community);
        let signed = signed.map_err(|e| e.to_string())?;
        let message = signed.message();
        let (sequence, from, why) = (word.from_sequence, word.from, &word.reason);
        let told = format!("revoked from sequence {sequence} and {from} on ({why})");
        match (word.covers(message), &entry.reading_before) {
            (false, None) => Ok(format!("{told}, which the reading is before")),
            (false, Some(_)) => Err("it is shown without need when the reading came".to_owned()),
            (true, None) => Ok(format!(
                "{told}; that the reading had come before that was said is not shown"
            )),
            (true, Some(before)) => {
                let index = before.checkpoint.place.index;
                if index >= entry.word.place.index || before.place.index != reading.place.index {
                    return Err(format!("{told} before the reading came"));
                }
                let note = &before.checkpoint.note;
                let leaf = Entry::new(Kind::Checkpoint, Timestamp::EPOCH, PUBLIC, note.as_bytes());
                included(&leaf, &before.checkpoint.place, &trust.ledger)
                    .map_err(|why| format!("a checkpoint of the readings: {why}"))?;
                let origin = Log::Readings.origin(&trust.community);
                let log = Checkpoint::open(note, &origin, trust.operator);
                let log = log.map_err(|e| e.to_string())?;
                let (start, salt) = (message.interval.start(), reading.salt);
                opened(
                    Kind::Reading,
                    start,
                    &reading.signed,
                    salt,
                    &before.place,
                    &log,
                )?;
                Ok(format!("{told}, which was said after the reading had come"))
            }
        }
    }
}

fn other(change: &KeyChange, trust: &Trust) -> Result<KeyRecord, String> {
    key_record(&change.key, &trust.community, trust.operator, &trust.ledger)
}

/// A key in the place of an older one of the same holder.
fn changed(
    (old, old_index): Placed<'_>,
    (new, new_index): Placed<'_>,
    change: &KeyChange,
    trust: &Trust,
) -> Result<String, String> {
    let (old_kid, new_kid) = (old.key.id(), new.key.id());
    let same_holder = KeyHolder::from(&old.holder) == KeyHolder::from(&new.holder);
    if !same_holder || old_kid == new_kid || old_index >= new_index {
        return Err(format!(
            "key {new_kid} does not follow key {old_kid} of the same holder"
        ));
    }
    let told = format!("key {new_kid} took the place of {old_kid}");
    Ok(match &change.introduction {
        None => format!("{told} by the operator's word alone"),
        Some(entry) => match introducer(entry, new, trust)? {
            (by, signed) if by == old_kid => {
                let both = signed.verify(old.key, &trust.community);
                both.map_err(|e| format!("the old key's signature for the new one: {e}"))?;
                format!("{told}, and both have signed for that")
            }
            (by, _) => format!(
                "{told} by a key that is not shown ({by}; its signature was not checked), and has signed for itself"
            ),
        },
    })
}

/// Who vouches for a new key, which has signed for itself.
fn introducer(
    entry: &KeyEntry,
    new: &KeyRecord,
    trust: &Trust,
) -> Result<(KeyId, Signed<Introduction>), String> {
    let name = |why: &str| format!("its introduction: {why}");
    let signed = Signed::<Introduction>::from_bytes(entry.signed.clone());
    let introduction = signed.claimed().map_err(|e| name(&e.to_string()))?;
    let request = introduction.verify_request(&trust.community);
    let request = request.map_err(|e| name(&format!("the new key's request: {e}")))?;
    let request = request.message();
    let leaf = Entry::new(Kind::Introduction, request.made_at, PUBLIC, &entry.signed);
    included(&leaf, &entry.place, &trust.ledger).map_err(|why| name(&why))?;
    same("the key that is introduced", &request.key, &new.key)?;
    let held = KeyHolder::from(&new.holder) == request.holder;
    let by = signed.claimed_signer().map_err(|e| name(&e.to_string()))?;
    if !held || by != request.introducer {
        return Err(name(
            "it is another holder's, or signed by another key than it names",
        ));
    }
    Ok((by, signed))
}
