//! The operator's word that a key counts no longer, signed and kept in the log like the key itself.

use minicbor::{Decode, Encode};

use crate::ids::{GatewayId, KeyId, ParticipantId};
use crate::key_holder::KeyHolder;
use crate::reading::Reading;
use crate::signed::{Kind, Message, decode, encode};
use crate::time::Timestamp;

/// Longest reason in bytes.
pub const REASON_MAX_BYTES: usize = 200;

/// From where on a gateway's or a participant's key counts no longer.
///
/// A participant's ends with this word: nothing that it signs is taken after it, whatever the sequence. A gateway's, by
/// sequence and by time, as who has stolen a key sets the clock as they like, but
/// finds the sequences that are in the books already taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revocation {
    /// The key.
    pub key: KeyId,
    /// Whose it is.
    pub holder: KeyHolder,
    /// Readings with this sequence or a higher one are refused, for each of the key's points.
    pub from_sequence: u64,
    /// Readings of intervals that end later are refused too.
    pub from: Timestamp,
    /// Why, for people.
    pub reason: String,
    /// When this was said.
    pub issued_at: Timestamp,
}

impl Revocation {
    /// Whether a reading under the key is beyond the point from which it counts no longer.
    #[must_use]
    pub fn covers(&self, reading: &Reading) -> bool {
        reading.sequence >= self.from_sequence || reading.interval.end() > self.from
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
    gateway: Option<GatewayId>,
    #[n(4)]
    from_sequence: u64,
    #[n(5)]
    from_ms: i64,
    #[n(6)]
    reason: String,
    #[n(7)]
    issued_at_ms: i64,
    #[n(8)]
    participant: Option<ParticipantId>,
}

const VERSION: u8 = 1;

impl Message for Revocation {
    const KIND: Kind = Kind::Revocation;

    fn to_cbor(&self) -> Vec<u8> {
        encode(&Wire {
            version: VERSION,
            key: self.key,
            gateway: self.holder.gateway().cloned(),
            from_sequence: self.from_sequence,
            from_ms: self.from.unix_ms(),
            reason: self.reason.clone(),
            issued_at_ms: self.issued_at.unix_ms(),
            participant: self.holder.participant().cloned(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let wire: Wire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(minicbor::decode::Error::message(
                "a revocation of an unknown version",
            ));
        }
        if wire.reason.is_empty() || wire.reason.len() > REASON_MAX_BYTES {
            return Err(minicbor::decode::Error::message(
                "a revocation gives its reason in 1 to 200 bytes",
            ));
        }
        Ok(Revocation {
            key: wire.key,
            holder: KeyHolder::of_claims(wire.gateway, wire.participant)?,
            from_sequence: wire.from_sequence,
            from: Timestamp::from_unix_ms(wire.from_ms),
            reason: wire.reason,
            issued_at: Timestamp::from_unix_ms(wire.issued_at_ms),
        })
    }
}
