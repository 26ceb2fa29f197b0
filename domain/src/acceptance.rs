//! The platform's signed word on which of a point's readings it has accepted.
//!
//! Only this empties a gateway's outbox.

use minicbor::{Decode, Encode};

use crate::ids::{GatewayId, PointId};
use crate::rejection::Rejection;
use crate::signed::{Kind, Message, decode, encode};
use crate::time::Timestamp;

/// Most missing ranges, and most rejections, in one acceptance; the rest follows in the next.
pub const LIST_MAX: usize = 64;

/// What stands accepted for one metering point, of the readings under its gateway's newest key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acceptance {
    /// The gateway that is told.
    pub gateway: GatewayId,
    /// The point.
    pub point: PointId,
    /// Every sequence up to and including this one is in the platform's books, except those in
    /// `missing` and those that were rejected; `None` before the first.
    pub accepted_up_to: Option<u64>,
    /// Ranges `(first, last)` below `accepted_up_to` that have not arrived.
    pub missing: Vec<(u64, u64)>,
    /// Sequences whose message was rejected, each with the reason. It is not accepted later either. By
    /// the reason `equivocation`, another message with this sequence came before.
    pub rejected: Vec<(u64, Rejection)>,
    /// When this was said.
    pub issued_at: Timestamp,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire {
    #[n(1)]
    version: u8,
    #[n(2)]
    gateway: GatewayId,
    #[n(3)]
    point: PointId,
    #[n(4)]
    accepted_up_to: Option<u64>,
    #[n(5)]
    missing: Vec<(u64, u64)>,
    #[n(6)]
    rejected: Vec<(u64, String)>,
    #[n(7)]
    issued_at_ms: i64,
}

const VERSION: u8 = 1;

impl Message for Acceptance {
    const KIND: Kind = Kind::Receipt;

    fn to_cbor(&self) -> Vec<u8> {
        let name = |(sequence, reason): &(u64, Rejection)| (*sequence, reason.name().to_owned());
        encode(&Wire {
            version: VERSION,
            gateway: self.gateway.clone(),
            point: self.point.clone(),
            accepted_up_to: self.accepted_up_to,
            missing: self.missing.clone(),
            rejected: self.rejected.iter().map(name).collect(),
            issued_at_ms: self.issued_at.unix_ms(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: Wire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(Error::message("an acceptance of an unknown version"));
        }
        if wire.missing.len() > LIST_MAX || wire.rejected.len() > LIST_MAX {
            return Err(Error::message("an acceptance with too long a list"));
        }
        let reason = |(sequence, name): (u64, String)| {
            let known = Rejection::from_name(&name);
            known
                .map(|r| (sequence, r))
                .ok_or_else(|| Error::message("unknown rejection"))
        };
        Ok(Acceptance {
            gateway: wire.gateway,
            point: wire.point,
            accepted_up_to: wire.accepted_up_to,
            missing: wire.missing,
            rejected: wire
                .rejected
                .into_iter()
                .map(reason)
                .collect::<Result<_, _>>()?,
            issued_at: Timestamp::from_unix_ms(wire.issued_at_ms),
        })
    }
}
