//! How a gateway's or a participant's new key comes in: it asks for itself, and a key that the platform knows already
//! vouches for it. At enrolment that is the key of a claim code, at rotation the holder's old key.

use std::fmt;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::ids::{CommunityId, Digest32, GatewayId, KeyId, ParticipantId, PointId};
use crate::key_holder::KeyHolder;
use crate::key_record::POINTS_MAX;
use crate::signed::{Kind, Message, PublicKey, Signed, SignedError, Verified, decode, encode};
use crate::time::Timestamp;

/// Longest explanation of a refusal, in bytes.
pub const DETAIL_MAX_BYTES: usize = 300;

/// So often a holder's key hands over to its next one in [`HANDOVERS_SPAN_S`]: each stays in the ledger log and in
/// the holder's history for ever. What the operator lets in with a claim code is not counted.
pub const HANDOVERS_MAX: usize = 8;
/// The time in which a holder's handovers are counted.
pub const HANDOVERS_SPAN_S: i64 = 24 * 3600;

/// A new key's own request, signed with the new key: the proof that somebody has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRequest {
    /// The new key.
    pub key: PublicKey,
    /// Whose it is.
    pub holder: KeyHolder,
    /// The key that will vouch for it.
    pub introducer: KeyId,
    /// The points that a gateway's key will sign for, and where it takes up each one's chain; none of a participant's.
    pub points: Vec<PointStart>,
    /// When it was made, by the holder's clock.
    pub made_at: Timestamp,
}

/// Where a key takes up a point's chain. Travels as `[point, first sequence, previous]`.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct PointStart {
    /// The point.
    #[n(0)]
    pub point: PointId,
    /// The first sequence under the new key; the key before signs below it only.
    #[n(1)]
    pub first_sequence: u64,
    /// SHA-256 of the last signed reading before it; all zero where there is none.
    #[n(2)]
    pub previous: Digest32,
}

/// The known key's word for the new one: the request, signed once more.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// The new key, by which the request is verified.
    pub key: PublicKey,
    /// The request.
    pub request: Signed<KeyRequest>,
}

impl Introduction {
    /// Verifies the new key's own request: the proof that who introduces it did not make it up.
    ///
    /// # Errors
    /// The request does not verify under the new key, or is for another one.
    pub fn verify_request(
        &self,
        community: &CommunityId,
    ) -> Result<Verified<KeyRequest>, SignedError> {
        let request = self.request.verify(self.key, community)?;
        if request.message().key != self.key {
            return Err(SignedError::BadKey);
        }
        Ok(request)
    }
}

/// The operator's word that a key was not let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRefusal {
    /// The gateway that is told.
    pub gateway: GatewayId,
    /// SHA-256 of the signed introduction.
    pub introduction: Digest32,
    /// Why.
    pub reason: KeyRefused,
    /// The same in a sentence.
    pub detail: String,
    /// When this was said.
    pub issued_at: Timestamp,
}

/// Why a key was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyRefused {
    /// Neither a claim code of this holder nor a key that is enrolled.
    ClaimUnknown,
    /// The code has let in a key already.
    ClaimUsed,
    /// The code is too old.
    ClaimExpired,
    /// Too many wrong codes were tried before.
    ClaimExhausted,
    /// The key that vouches is revoked.
    KeyRevoked,
    /// The key that vouches has a successor already.
    KeyReplaced,
    /// The new key is known, and was revoked, replaced or somebody else's.
    KeyTaken,
    /// Meant for another holder.
    WrongNetwork,
    /// A signature does not verify.
    BadSignature,
    /// Not the one encoding.
    NotDeterministic,
    /// A point that is not this gateway's.
    PointsRefused,
    /// The holder's key was changed too often of late.
    RateLimited,
}

impl KeyRefused {
    /// All reasons.
    pub const ALL: [KeyRefused; 12] = [
        KeyRefused::ClaimUnknown,
        KeyRefused::ClaimUsed,
        KeyRefused::ClaimExpired,
        KeyRefused::ClaimExhausted,
        KeyRefused::KeyRevoked,
        KeyRefused::KeyReplaced,
        KeyRefused::KeyTaken,
        KeyRefused::WrongNetwork,
        KeyRefused::BadSignature,
        KeyRefused::NotDeterministic,
        KeyRefused::PointsRefused,
        KeyRefused::RateLimited,
    ];

    /// The name that is told.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            KeyRefused::ClaimUnknown => "claim_unknown",
            KeyRefused::ClaimUsed => "claim_used",
            KeyRefused::ClaimExpired => "claim_expired",
            KeyRefused::ClaimExhausted => "claim_exhausted",
            KeyRefused::KeyRevoked => "key_revoked",
            KeyRefused::KeyReplaced => "key_replaced",
            KeyRefused::KeyTaken => "key_taken",
            KeyRefused::WrongNetwork => "wrong_network",
            KeyRefused::BadSignature => "bad_signature",
            KeyRefused::NotDeterministic => "not_deterministic",
            KeyRefused::PointsRefused => "points_refused",
            KeyRefused::RateLimited => "rate_limited",
        }
    }

    /// The reason of a name; `None` for an unknown one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        KeyRefused::ALL.into_iter().find(|r| r.name() == name)
    }
}

impl fmt::Display for KeyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const VERSION: u8 = 1;

fn version(found: u8) -> Result<(), minicbor::decode::Error> {
    if found == VERSION {
        Ok(())
    } else {
        Err(minicbor::decode::Error::message("an unknown version"))
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct RequestWire {
    #[n(1)]
    version: u8,
    #[n(2)]
    key: PublicKey,
    #[n(3)]
    gateway: Option<GatewayId>,
    #[n(4)]
    introducer: KeyId,
    #[n(5)]
    points: Option<Vec<PointStart>>,
    #[n(6)]
    made_at_ms: i64,
    #[n(7)]
    participant: Option<ParticipantId>,
}

impl Message for KeyRequest {
    const KIND: Kind = Kind::KeyRequest;

    fn to_cbor(&self) -> Vec<u8> {
        encode(&RequestWire {
            version: VERSION,
            key: self.key,
            gateway: self.holder.gateway().cloned(),
            introducer: self.introducer,
            points: self.holder.gateway().map(|_| self.points.clone()),
            made_at_ms: self.made_at.unix_ms(),
            participant: self.holder.participant().cloned(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let wire: RequestWire = decode(bytes)?;
        version(wire.version)?;
        let holder = KeyHolder::of_claims(wire.gateway, wire.participant)?;
        let fits = match (&holder, &wire.points) {
            (KeyHolder::Gateway(_), Some(points)) => (1..=POINTS_MAX).contains(&points.len()),
            (KeyHolder::Participant(_), None) => true,
            _ => false,
        };
        if !fits {
            return Err(minicbor::decode::Error::message(
                "a gateway's key request is for 1 to 1024 points, a participant's for none",
            ));
        }
        let points = wire.points.unwrap_or_default();
        if !points.is_sorted_by(|a, b| a.point < b.point) {
            return Err(minicbor::decode::Error::message(
                "points ascend by name, each once",
            ));
        }
        Ok(KeyRequest {
            key: wire.key,
            holder,
            introducer: wire.introducer,
            points,
            made_at: Timestamp::from_unix_ms(wire.made_at_ms),
        })
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct IntroductionWire {
    #[n(1)]
    version: u8,
    #[n(2)]
    key: PublicKey,
    #[n(3)]
    request: ByteVec,
}

impl Message for Introduction {
    const KIND: Kind = Kind::Introduction;

    fn to_cbor(&self) -> Vec<u8> {
        encode(&IntroductionWire {
            version: VERSION,
            key: self.key,
            request: self.request.as_bytes().to_vec().into(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let wire: IntroductionWire = decode(bytes)?;
        version(wire.version)?;
        Ok(Introduction {
            key: wire.key,
            request: Signed::from_bytes(wire.request.into()),
        })
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct RefusalWire {
    #[n(1)]
    version: u8,
    #[n(2)]
    gateway: GatewayId,
    #[n(3)]
    introduction: Digest32,
    #[n(4)]
    reason: String,
    #[n(5)]
    detail: String,
    #[n(6)]
    issued_at_ms: i64,
}

impl Message for KeyRefusal {
    const KIND: Kind = Kind::KeyRefusal;

    fn to_cbor(&self) -> Vec<u8> {
        encode(&RefusalWire {
            version: VERSION,
            gateway: self.gateway.clone(),
            introduction: self.introduction,
            reason: self.reason.name().to_owned(),
            detail: self.detail.clone(),
            issued_at_ms: self.issued_at.unix_ms(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let wire: RefusalWire = decode(bytes)?;
        version(wire.version)?;
        let reason = KeyRefused::from_name(&wire.reason);
        let reason = reason
            .ok_or_else(|| minicbor::decode::Error::message("unknown reason of a refusal"))?;
        if wire.detail.len() > DETAIL_MAX_BYTES {
            return Err(minicbor::decode::Error::message(
                "a refusal's detail is too long",
            ));
        }
        Ok(KeyRefusal {
            gateway: wire.gateway,
            introduction: wire.introduction,
            reason,
            detail: wire.detail,
            issued_at: Timestamp::from_unix_ms(wire.issued_at_ms),
        })
    }
}
