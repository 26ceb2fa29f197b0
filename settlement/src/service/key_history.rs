//! Which keys a receipt's keys took the place of, which took theirs, and what revoked them.

use domain::ids::KeyId;
use domain::reading::Reading;
use domain::receipt::{
    CheckpointEntry, KeyChange, KeyEntry, KeyHistory, ReadingBefore, RevocationEntry,
};
use domain::revocation::Revocation;
use domain::signed::Signed;
use runtime::args;
use runtime::db::Db;

use super::ServiceError;
use super::error::{corrupt, number, stored};
use super::logs::place;
use crate::log::checkpoint::Log;

/// A reading of a receipt and its place in the readings log.
pub(super) struct Received<'a> {
    pub(super) message: &'a Reading,
    pub(super) index: u64,
}

/// The history of a key as far as a ledger log of `size` entries has it; `None` where there is none.
pub(super) async fn key_history(
    db: &Db,
    size: u64,
    kid: KeyId,
    reading: Option<Received<'_>>,
) -> Result<Option<KeyHistory>, ServiceError> {
    let desk = Desk { db, size };
    // All keys of the holder, in the order in which the log has them.
    let keys: Vec<(Vec<u8>, i64, i64)> = db
        .fetch_all(
            "SELECT k.kid, MIN(r.log_index) AS first, MAX(r.log_index) FROM settle_keys k
             JOIN settle_key_records r ON r.kid = k.kid
             WHERE k.gateway = (SELECT gateway FROM settle_keys WHERE kid = $1)
             OR k.participant = (SELECT participant FROM settle_keys WHERE kid = $1)
             GROUP BY k.kid ORDER BY first",
            args![kid.0],
        )
        .await?;
    let own = keys.iter().position(|(key, ..)| *key == kid.0);
    let own = own.ok_or_else(|| corrupt("a key without a record"))?;
    let mut history = KeyHistory::default();
    if let Some((before, _, last)) = own.checked_sub(1).and_then(|before| keys.get(before)) {
        history.before = desk.change((before, *last), &kid.0).await?;
    }
    if let Some((after, first, _)) = keys.get(own + 1) {
        history.after = desk.change((after, *first), after).await?;
    }
    if let Some(reading) = reading {
        history.revocations = desk.revocations(kid, &reading).await?;
    }
    Ok(Some(history).filter(|history| *history != KeyHistory::default()))
}

struct Desk<'a> {
    db: &'a Db,
    size: u64,
}

impl Desk<'_> {
    async fn entry(&self, signed: Vec<u8>, index: i64) -> Result<Option<KeyEntry>, ServiceError> {
        let place = place(self.db, Log::Ledger, index, self.size).await?;
        Ok(place.map(|place| KeyEntry { signed, place }))
    }

    /// The change to or from a key whose record has this place; `new` is the newer key of the two.
    async fn change(
        &self,
        (kid, record): (&[u8], i64),
        new: &[u8],
    ) -> Result<Option<KeyChange>, ServiceError> {
        let (signed,): (Vec<u8>,) = self
            .db
            .fetch_one(
                "SELECT signed FROM settle_key_records WHERE kid = $1 AND log_index = $2",
                args![kid, record],
            )
            .await?;
        let Some(key) = self.entry(signed, record).await? else {
            return Ok(None);
        };
        let introduced: Option<(Vec<u8>, i64)> = self
            .db
            .fetch_optional(
                "SELECT signed, log_index FROM settle_introductions
                 WHERE kid = $1 AND log_index IS NOT NULL ORDER BY log_index LIMIT 1",
                args![new],
            )
            .await?;
        let introduction = match introduced {
            Some((signed, index)) => self.entry(signed, index).await?,
            None => None,
        };
        Ok(Some(KeyChange { key, introduction }))
    }

    async fn revocations(
        &self,
        kid: KeyId,
        reading: &Received<'_>,
    ) -> Result<Vec<RevocationEntry>, ServiceError> {
        let rows: Vec<(Vec<u8>, i64)> = self
            .db
            .fetch_all(
                "SELECT signed, log_index FROM settle_revocations WHERE kid = $1 ORDER BY log_index",
                args![kid.0],
            )
            .await?;
        let mut words = Vec::with_capacity(rows.len());
        for (signed, index) in rows {
            let word = Signed::<Revocation>::from_bytes(signed.clone()).claimed();
            let word = word.map_err(|_| corrupt("a revocation is no signed message"))?;
            let Some(entry) = self.entry(signed, index).await? else {
                break;
            };
            let reading_before = match word.covers(reading.message) {
                true => self.reading_before(index, reading.index).await?,
                false => None,
            };
            words.push(RevocationEntry {
                word: entry,
                reading_before,
            });
        }
        Ok(words)
    }

    /// The first checkpoint of the readings that has the reading, if the ledger log took it in before this place.
    async fn reading_before(
        &self,
        word: i64,
        reading: u64,
    ) -> Result<Option<ReadingBefore>, ServiceError> {
        let reading = stored(reading)?;
        let row: Option<(i64, String, i64)> = self
            .db
            .fetch_optional(
                "SELECT size, note, ledger_index FROM settle_checkpoints
                 WHERE log = $1 AND size > $2 AND ledger_index < $3 ORDER BY size LIMIT 1",
                args![i64::from(Log::Readings.code()), reading, word],
            )
            .await?;
        let Some((size, note, index)) = row else {
            return Ok(None);
        };
        let linked = place(self.db, Log::Ledger, index, self.size).await?;
        let size = number(size, "a log's size")?;
        let found = place(self.db, Log::Readings, reading, size).await?;
        let (Some(linked), Some(found)) = (linked, found) else {
            return Ok(None);
        };
        Ok(Some(ReadingBefore {
            checkpoint: CheckpointEntry {
                note,
                place: linked,
            },
            place: found,
        }))
    }
}
