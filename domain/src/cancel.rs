//! A cancel: a participant takes one of its orders back before the gate of its interval closes.

use minicbor::{Decode, Encode};

use crate::ids::{OrderId, ParticipantId};
use crate::order::id_of;
use crate::signed::{Kind, Message, decode, encode};
use crate::time::Interval;

/// Takes an order back. It has no number of its own: said twice, it means the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cancel {
    /// Whose order it is; the signature must be with this participant's key.
    pub participant: ParticipantId,
    /// The order's sequence.
    pub sequence: u64,
    /// The order's interval.
    pub interval: Interval,
}

impl Cancel {
    /// The order that is taken back.
    #[must_use]
    pub fn order(&self) -> OrderId {
        id_of(&self.participant, self.sequence, self.interval)
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire {
    #[n(1)]
    version: u8,
    #[n(2)]
    participant: ParticipantId,
    #[n(4)]
    sequence: u64,
    #[n(5)]
    interval_start_s: i64,
    #[n(6)]
    interval_length_s: u32,
}

const VERSION: u8 = 1;

impl Message for Cancel {
    const KIND: Kind = Kind::Cancel;

    fn to_cbor(&self) -> Vec<u8> {
        encode(&Wire {
            version: VERSION,
            participant: self.participant.clone(),
            sequence: self.sequence,
            interval_start_s: self.interval.start_s(),
            interval_length_s: self.interval.length_s(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: Wire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(Error::message("a cancel of an unknown version"));
        }
        Ok(Cancel {
            participant: wire.participant,
            sequence: wire.sequence,
            interval: Interval::new(wire.interval_start_s, wire.interval_length_s)
                .map_err(Error::message)?,
        })
    }
}
