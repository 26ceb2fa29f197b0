//! The operator's word on which record of a key counted at an instant, signed.
//!
//! A record alone does not show that no later one took its place. Nothing in a log can show that something is not
//! there, so the operator says it, by places in its own ledger log. A lie can be proven: by any record of the
//! key that stands in that part of the log and counted instead.

use minicbor::{Decode, Encode};

use crate::ids::{Digest32, KeyId};
use crate::key_record::KeyRecord;
use crate::signed::{Kind, Message, decode, encode};
use crate::time::Timestamp;

/// Of all records of a key among the first `size` entries of the ledger log, this one counted at `instant`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordWord {
    /// The key.
    pub key: KeyId,
    /// The instant.
    pub instant: Timestamp,
    /// SHA-256 of the signed record.
    pub record: Digest32,
    /// When the record is valid from.
    pub valid_from: Timestamp,
    /// Its place in the ledger log.
    pub index: u64,
    /// Entries of the ledger log that were looked at.
    pub size: u64,
    /// When this was said.
    pub issued_at: Timestamp,
}

impl RecordWord {
    /// Whether another record of the key at this place of the log makes the word a lie: it was there, counted at the
    /// instant, and is newer.
    #[must_use]
    pub fn is_refuted_by(&self, record: &KeyRecord, index: u64) -> bool {
        record.key.id() == self.key
            && index < self.size
            && record.valid_from <= self.instant
            && (record.valid_from, index) > (self.valid_from, self.index)
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire {
    #[n(1)]
    version: u8,
    #[n(2)]
    key: KeyId,
    #[n(3)]
    instant_ms: i64,
    #[n(4)]
    record: Digest32,
    #[n(5)]
    valid_from_ms: i64,
    #[n(6)]
    index: u64,
    #[n(7)]
    size: u64,
    #[n(8)]
    issued_at_ms: i64,
}

const VERSION: u8 = 1;

impl Message for RecordWord {
    const KIND: Kind = Kind::RecordWord;

    fn to_cbor(&self) -> Vec<u8> {
        encode(&Wire {
            version: VERSION,
            key: self.key,
            instant_ms: self.instant.unix_ms(),
            record: self.record,
            valid_from_ms: self.valid_from.unix_ms(),
            index: self.index,
            size: self.size,
            issued_at_ms: self.issued_at.unix_ms(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: Wire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(Error::message("a word on a record of an unknown version"));
        }
        if wire.index >= wire.size || wire.valid_from_ms > wire.instant_ms {
            return Err(Error::message("a record that cannot have counted"));
        }
        Ok(RecordWord {
            key: wire.key,
            instant: Timestamp::from_unix_ms(wire.instant_ms),
            record: wire.record,
            valid_from: Timestamp::from_unix_ms(wire.valid_from_ms),
            index: wire.index,
            size: wire.size,
            issued_at: Timestamp::from_unix_ms(wire.issued_at_ms),
        })
    }
}
