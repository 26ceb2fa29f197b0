//! Why a signed message was not accepted, by name. Returned to the sender and stored.

use std::fmt;

/// A named reason. The two marked as flags are accepted all the same, and shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rejection {
    /// The signature does not verify.
    BadSignature,
    /// No key of this name is enrolled.
    UnknownKey,
    /// The key is no longer valid, or not yet.
    KeyRevoked,
    /// Signed for another community, or the key may not sign for this point or participant.
    WrongNetwork,
    /// Not the one valid encoding.
    NotDeterministic,
    /// The sequence was used by a message that is no longer kept.
    SeqReplay,
    /// The sequence was used by another message: both are kept as evidence.
    Equivocation,
    /// The interval is covered by another accepted reading.
    IntervalOverlap,
    /// The interval does not have the community's length.
    IntervalUnaligned,
    /// The interval has not ended yet, or lies too far ahead.
    Future,
    /// The interval is closed for this.
    TooLate,
    /// A register falls, or does not start where it ended.
    ValueRegression,
    /// More than the point's rating allows.
    Implausible,
    /// Flag: the chain of digests has a gap.
    ChainBreak,
    /// Flag: the gateway's clock is not synchronised.
    ClockUnsynced,
    /// The gate of this interval is not open.
    GateClosed,
    /// Above the participant's limits.
    OverLimit,
    /// The participant's tokens do not cover it.
    InsufficientFunds,
    /// The message is too large.
    TooLarge,
    /// Too many messages in too short a time.
    RateLimited,
    /// The order to be cancelled or replaced is not in the book of this interval.
    UnknownOrder,
    /// The market's mechanism cannot heed what the order wishes beyond price.
    WishUnheeded,
}

impl Rejection {
    /// All reasons; the position is the number on the wire.
    pub const ALL: [Rejection; 22] = [
        Rejection::BadSignature,
        Rejection::UnknownKey,
        Rejection::KeyRevoked,
        Rejection::WrongNetwork,
        Rejection::NotDeterministic,
        Rejection::SeqReplay,
        Rejection::Equivocation,
        Rejection::IntervalOverlap,
        Rejection::IntervalUnaligned,
        Rejection::Future,
        Rejection::TooLate,
        Rejection::ValueRegression,
        Rejection::Implausible,
        Rejection::ChainBreak,
        Rejection::ClockUnsynced,
        Rejection::GateClosed,
        Rejection::OverLimit,
        Rejection::InsufficientFunds,
        Rejection::TooLarge,
        Rejection::RateLimited,
        Rejection::UnknownOrder,
        Rejection::WishUnheeded,
    ];

    /// The name on the wire, in the store and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Rejection::BadSignature => "bad_signature",
            Rejection::UnknownKey => "unknown_key",
            Rejection::KeyRevoked => "key_revoked",
            Rejection::WrongNetwork => "wrong_network",
            Rejection::NotDeterministic => "not_deterministic",
            Rejection::SeqReplay => "seq_replay",
            Rejection::Equivocation => "equivocation",
            Rejection::IntervalOverlap => "interval_overlap",
            Rejection::IntervalUnaligned => "interval_unaligned",
            Rejection::Future => "future",
            Rejection::TooLate => "too_late",
            Rejection::ValueRegression => "value_regression",
            Rejection::Implausible => "implausible",
            Rejection::ChainBreak => "chain_break",
            Rejection::ClockUnsynced => "clock_unsynced",
            Rejection::GateClosed => "gate_closed",
            Rejection::OverLimit => "over_limit",
            Rejection::InsufficientFunds => "insufficient_funds",
            Rejection::TooLarge => "too_large",
            Rejection::RateLimited => "rate_limited",
            Rejection::UnknownOrder => "unknown_order",
            Rejection::WishUnheeded => "wish_unheeded",
        }
    }

    /// The reason of a name; `None` for an unknown one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Rejection::ALL.into_iter().find(|r| r.name() == name)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<&crate::signed::SignedError> for Rejection {
    fn from(error: &crate::signed::SignedError) -> Self {
        use crate::signed::SignedError;
        match error {
            SignedError::TooLarge { .. } => Rejection::TooLarge,
            SignedError::BadKey => Rejection::UnknownKey,
            SignedError::Malformed | SignedError::Payload(_) | SignedError::NotDeterministic => {
                Rejection::NotDeterministic
            }
            SignedError::BadSignature => Rejection::BadSignature,
        }
    }
}
