//! Checking, offline, that a clearing is in a community's market log.

use domain::ids::CommunityId;
use domain::receipt::{CLEARING_FORMAT, ClearingRecord};
use domain::signed::PublicKey;
use domain::trade::Clearing;

use super::included;
use crate::log::checkpoint::{Checkpoint, Log};
use crate::log::entry::{Entry, Kind, PUBLIC};

/// The clearing of a record, and the key of the operator who signed for it, if the record holds. Given a
/// key to compare with, it must be that one.
///
/// # Errors
/// What does not hold, in words.
pub fn verify_record(
    record: &ClearingRecord,
    pinned: Option<PublicKey>,
) -> Result<(Clearing, PublicKey), String> {
    if record.format != CLEARING_FORMAT {
        return Err(format!("the format is not {CLEARING_FORMAT}"));
    }
    let community = CommunityId::new(&record.community).map_err(|e| e.to_string())?;
    let key = PublicKey::from_bytes(&record.operator_key.0).map_err(|e| e.to_string())?;
    if pinned.is_some_and(|pinned| pinned != key) {
        return Err(
            "the record names another operator's key than the one that was given".to_owned(),
        );
    }
    let origin = Log::Market.origin(&community);
    let checkpoint =
        Checkpoint::open(&record.market_checkpoint, &origin, key).map_err(|e| e.to_string())?;
    let clearing = &record.clearing.content;
    let content = clearing.to_cbor();
    let entry = Entry::new(Kind::Clearing, clearing.interval.start(), PUBLIC, &content);
    included(&entry, &record.clearing.place, &checkpoint)?;
    Ok((clearing.clone(), key))
}
