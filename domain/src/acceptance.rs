//! The platform's signed word on which of a point's readings it has accepted.
//!
//! Only this empties a gateway's outbox.

use minicbor::{Decode, Encode};

use crate::ids::{Digest32, GatewayId, PointId};
use crate::log::tree::PATH_MAX;
use crate::rejection::Rejection;
use crate::signed::{Kind, Message, decode, encode};
use crate::time::Timestamp;

/// Most missing ranges, and most rejections, in one acceptance; the rest follows in the next.
pub const LIST_MAX: usize = 64;
/// Longest note of a checkpoint in an acceptance: one with the operator's signature alone.
const NOTE_MAX_BYTES: usize = 1024;

/// The ledger log's newest checkpoint, with the proof that it began like one that the gateway has seen.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct LedgerHead {
    /// The signed note.
    #[n(1)]
    pub note: String,
    /// Entries of the tree that the proof starts from; zero where there is none.
    #[n(2)]
    pub old: u64,
    /// The proof of RFC 6962.
    #[n(3)]
    pub path: Vec<Digest32>,
}

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
    /// How far the ledger log is: every gateway watches that it only grows.
    pub ledger: Option<LedgerHead>,
}

impl LedgerHead {
    fn is_too_long(&self) -> bool {
        self.note.len() > NOTE_MAX_BYTES || self.path.len() > PATH_MAX
    }
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
    #[n(8)]
    ledger: Option<LedgerHead>,
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
            ledger: self.ledger.clone(),
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
        if wire.ledger.as_ref().is_some_and(LedgerHead::is_too_long) {
            return Err(Error::message("an acceptance with too long a proof"));
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
            ledger: wire.ledger,
        })
    }
}
