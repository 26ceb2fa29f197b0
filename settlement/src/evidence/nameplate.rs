//! More energy than a point can carry, and whose word that rests on.
//!
//! What a point can carry is in the record of its gateway's key, which the operator signs. Two things a record cannot
//! show by itself: that no later one counted instead, and that it was there in time. For the first the operator gives its
//! signed word; if it lies, any record of the key that stood in its ledger log and counted instead proves that
//! ([`judge_word`]). For the second there is the gateway's own signature under a checkpoint with the record in it, from
//! before the interval ended: so no operator can make up a lower rating afterwards, and a gateway that signs for no
//! checkpoint is never proven to have exceeded anything.

use domain::ids::{CommunityId, Digest32};
use domain::key_record::{Holder, KeyRecord};
use domain::log::cosignature::{cosigned_at, gateway_witness};
use domain::log::note::Note;
use domain::reading::{Obis, Reading};
use domain::record_word::RecordWord;
use domain::signed::PublicKey;

use super::{BadEvidence, Fault, Finding, community, message, not, opened, public_key};
use crate::accept::largest_wh;
use crate::log::checkpoint::{Checkpoint, Log};
use crate::log::entry::{Entry, Kind, PUBLIC};
use crate::log::proof::LogProof;
use crate::log::tree::verify_inclusion;

/// The community and its operator, by their texts.
struct Of {
    community: CommunityId,
    operator: PublicKey,
}

impl Of {
    fn read([of, operator]: [&String; 2]) -> Result<Of, BadEvidence> {
        Ok(Of {
            community: community(of)?,
            operator: public_key("operator_key", operator)?,
        })
    }

    fn record(&self, text: &str) -> Result<(KeyRecord, Vec<u8>), Fault> {
        let bytes = message("key_record", text)?;
        let record = opened::<KeyRecord>(&bytes, self.operator, &self.community);
        let record = record.map_err(|e| not(format!("the key record: {e}")))?;
        Ok((record.message().clone(), bytes))
    }

    fn word(&self, text: &str) -> Result<RecordWord, Fault> {
        let bytes = message("word", text)?;
        let word = opened::<RecordWord>(&bytes, self.operator, &self.community);
        let word = word.map_err(|e| not(format!("the operator's word: {e}")))?;
        Ok(word.message().clone())
    }

    /// Where a record stands in the ledger log, and the note that shows it.
    fn placed(&self, text: &str, record: &KeyRecord, signed: &[u8]) -> Result<(u64, Note), Fault> {
        let proof = LogProof::parse(text);
        let proof = proof.ok_or_else(|| BadEvidence("proof is no tlog-proof".to_owned()))?;
        let origin = Log::Ledger.origin(&self.community);
        let opened = Checkpoint::open_cosigned(&proof.note, &origin, self.operator);
        let (head, note) = opened.map_err(|e| not(format!("the proof: {e}")))?;
        let leaf = Entry::new(Kind::Key, record.valid_from, PUBLIC, signed).leaf_hash();
        if !verify_inclusion(leaf, proof.index, head.size, &proof.path, head.root) {
            return Err(not("the proof does not show the record in the ledger log"));
        }
        Ok((proof.index, note))
    }
}

/// Judges a reading above what its key's record allows.
pub(super) fn judge(
    of: [&String; 2],
    record: &str,
    reading: &str,
    [word, proof]: [&String; 2],
) -> Finding {
    let of = Of::read(of)?;
    let (record, signed) = of.record(record)?;
    let reading = message("reading", reading)?;
    let reading = opened::<Reading>(&reading, record.key, &of.community)
        .map_err(|e| not(format!("the reading: {e}")))?;
    let reading = reading.message();
    let what = above(&record, reading)?;
    if word.is_empty() {
        return Err(not(format!(
            "{what}; but a later record may have raised the rating, and the operator's word that none did is missing"
        )));
    }
    let word = of.word(word)?;
    let counted = (word.key, word.record, word.valid_from, word.instant);
    let end = reading.interval.end();
    if counted
        != (
            record.key.id(),
            Digest32::of(&signed),
            record.valid_from,
            end,
        )
    {
        return Err(not(
            "the operator's word is on another record, or on another instant than the interval's end",
        ));
    }
    let (index, note) = of.placed(proof, &record, &signed)?;
    if index != word.index {
        return Err(not("the operator's word is on another place of the log"));
    }
    let gateway = gateway_witness(&of.community, record.key)
        .ok_or_else(|| not("the gateway's key has no name in the log"))?;
    let mut lines = note.signatures.iter();
    let known = lines.find_map(|line| cosigned_at(&note.body, line, &gateway));
    match known {
        Some(at) if at <= end => Ok((
            format!("key {}", record.key.id()),
            format!(
                "{what}; the gateway has signed for that record's place in the ledger log at {at}, and the operator \
                 says that no other record counted"
            ),
        )),
        Some(_) | None => Err(not(format!(
            "{what}; but nothing shows that the gateway knew of that record before the interval ended"
        ))),
    }
}

/// What a reading says against the record; not, where it is within it.
fn above(record: &KeyRecord, reading: &Reading) -> Result<String, Fault> {
    if record.valid_from > reading.interval.end() {
        return Err(not("the record is of a later time than the reading"));
    }
    let Holder::Gateway { gateway, points } = &record.holder else {
        return Err(not("the record is not that of a gateway's key"));
    };
    let point = points.iter().find(|p| p.point == reading.point);
    let point = point.ok_or_else(|| not("the record does not have the reading's point"))?;
    let most = largest_wh(point.rating_w, reading.interval.length_s());
    let above = [Obis::IMPORT, Obis::EXPORT]
        .into_iter()
        .filter_map(|obis| reading.energy(obis))
        .find(|energy| energy.wh() > most);
    let energy = above.ok_or_else(|| not(format!("no register counted more than {most} Wh")))?;
    Ok(format!(
        "by the record of {} the point {} of gateway {gateway} has {} W and cannot carry more than {most} Wh, and \
         reading {} says {energy} in {}",
        record.valid_from, point.point, point.rating_w, reading.sequence, reading.interval
    ))
}

/// Judges a word of the operator against a record that counted instead.
pub(super) fn judge_word(of: [&String; 2], word: &str, record: &str, proof: &str) -> Finding {
    let of = Of::read(of)?;
    let word = of.word(word)?;
    let (record, signed) = of.record(record)?;
    let (index, _) = of.placed(proof, &record, &signed)?;
    if !word.is_refuted_by(&record, index) {
        return Err(not(
            "the record does not contradict the operator's word: another key's, of another time, no newer, or not \
             in the log when the word was given",
        ));
    }
    let what = format!(
        "signed that of key {} the record at place {} of the ledger log counted at {}, where the newer one at place \
         {index}, valid from {}, did",
        word.key, word.index, word.instant, record.valid_from
    );
    Ok(("the operator".to_owned(), what))
}
