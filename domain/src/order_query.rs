//! An order query: a participant asks for its own orders. Signed, since what somebody ordered is nobody else's.

use minicbor::{Decode, Encode};

use crate::ids::ParticipantId;
use crate::signed::{Kind, Message, decode, encode};
use crate::time::Timestamp;

/// How far a query's time may be from the platform's, either way: a copy of it opens nothing later.
pub const QUERY_AGE_MAX_S: i64 = 300;

/// Asks for the orders of one participant in the intervals that start in `[from, to)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderQuery {
    /// Who asks; the signature must be with this participant's key.
    pub participant: ParticipantId,
    /// First instant asked about.
    pub from: Timestamp,
    /// First instant not asked about.
    pub to: Timestamp,
    /// When it was signed, by the platform's clock.
    pub issued_at: Timestamp,
}

impl OrderQuery {
    /// Whether it was signed about now.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.ms_since(self.issued_at).saturating_abs() <= QUERY_AGE_MAX_S * 1000
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire {
    #[n(1)]
    version: u8,
    #[n(2)]
    participant: ParticipantId,
    #[n(3)]
    from_s: i64,
    #[n(4)]
    to_s: i64,
    #[n(5)]
    issued_at_ms: i64,
}

const VERSION: u8 = 1;

impl Message for OrderQuery {
    const KIND: Kind = Kind::OrderQuery;

    fn to_cbor(&self) -> Vec<u8> {
        encode(&Wire {
            version: VERSION,
            participant: self.participant.clone(),
            from_s: self.from.unix_s(),
            to_s: self.to.unix_s(),
            issued_at_ms: self.issued_at.unix_ms(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: Wire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(Error::message("an order query of an unknown version"));
        }
        let instant = |s: i64| {
            let ms = s
                .checked_mul(1000)
                .ok_or_else(|| Error::message("a time out of range"))?;
            Ok::<_, Error>(Timestamp::from_unix_ms(ms))
        };
        Ok(OrderQuery {
            participant: wire.participant,
            from: instant(wire.from_s)?,
            to: instant(wire.to_s)?,
            issued_at: Timestamp::from_unix_ms(wire.issued_at_ms),
        })
    }
}
