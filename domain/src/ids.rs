//! Names and numbers of things: each kind its own type, so that one cannot be taken for another.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Longest text id in bytes.
pub const ID_MAX_BYTES: usize = 64;

/// Why an id was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdError {
    /// Text that is not a valid id.
    #[error(
        "`{0}` is not an id: 1 to 64 of the characters a-z 0-9 - _ . are allowed, the first one of a-z 0-9"
    )]
    Text(String),
    /// Text that is not the hex digits of a fixed-length id.
    #[error("`{text}` is not an id of {bytes} bytes in lower-case hex")]
    Hex {
        /// The text as it was given.
        text: String,
        /// Bytes that are wanted.
        bytes: usize,
    },
}

fn check_text(text: &str) -> Result<(), IdError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    // A name that begins with a dot or a dash would be a folder, an option, or the mark for nobody.
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !begins || text.len() > ID_MAX_BYTES || !text.bytes().all(allowed) {
        return Err(IdError::Text(text.chars().take(ID_MAX_BYTES).collect()));
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta] $name:ident),* $(,)?) => {$(
        #[$doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(CompactString);

        impl $name {
            /// An id from text.
            ///
            /// # Errors
            /// The text is empty, too long, has characters other than a-z 0-9 - _ . or does not begin
            /// with a-z 0-9.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                check_text(text)?;
                Ok($name(CompactString::new(text)))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                $name::new(text)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                $name::new(d.str()?).map_err(minicbor::decode::Error::message)
            }
        }
    )*};
}

text_id! {
    /// A community: one market, one set of logs.
    CommunityId,
    /// A participant: a household, a charger's owner, anyone who buys or sells.
    ParticipantId,
    /// A gateway: the box that reads meters and signs what it reads.
    GatewayId,
    /// A metering point: the place where energy is counted, whatever meter hangs there.
    PointId,
}

/// Lower-case hex of `bytes`.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Exactly `N` bytes from lower-case hex.
///
/// # Errors
/// Another length, or a character that is not 0-9 a-f.
pub fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let mut bytes = [0; N];
    // Into so much room nothing of another length may be decoded.
    let fits = text.len() == N * 2;
    if !fits || HEXLOWER.decode_mut(text.as_bytes(), &mut bytes).is_err() {
        return Err(IdError::Hex {
            text: text.chars().take(ID_MAX_BYTES * 2).collect(),
            bytes: N,
        });
    }
    Ok(bytes)
}

macro_rules! byte_id {
    ($(#[$doc:meta] $name:ident[$len:literal]),* $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                from_hex(text).map($name)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?;
                bytes.try_into().map($name).map_err(|_| {
                    minicbor::decode::Error::message(concat!(stringify!($name), " of wrong length"))
                })
            }
        }
    )*};
}

byte_id! {
    /// A measuring device; never reused, and survives a change of its key.
    DeviceId[16],
    /// An order, deterministic from its content's signer and sequence.
    OrderId[16],
    /// A trade, deterministic from its interval and its two orders.
    TradeId[16],
    /// A posting, deterministic from what it posts.
    PostingId[16],
    /// First 8 bytes of SHA-256 of a public key: a hint for looking the key up, not an authentication.
    KeyId[8],
    /// A SHA-256 digest.
    Digest32[32],
}

impl DeviceId {
    /// The id of the device called `name` behind `gateway`.
    #[must_use]
    pub fn derive(community: &CommunityId, gateway: &GatewayId, name: &str) -> Self {
        let parts = [
            community.as_str().as_bytes(),
            gateway.as_str().as_bytes(),
            name.as_bytes(),
        ];
        let mut id = [0; 16];
        id.copy_from_slice(&digest_parts("device", &parts)[..16]);
        DeviceId(id)
    }
}

impl Digest32 {
    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Digest32(Sha256::digest(bytes).into())
    }
}

/// SHA-256 over a domain word and length-prefixed parts, so that no two lists of parts collide.
#[must_use]
pub fn digest_parts(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(&domain.as_bytes()).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A 128-bit id that is deterministic (a retry gives the same) and ordered by time (an index grows at
/// its end): 48 bits of unix milliseconds, 16 bits of `tag`, 64 bits of [`digest_parts`].
#[must_use]
pub fn timed_id(
    start: crate::time::Timestamp,
    tag: u16,
    domain: &str,
    parts: &[&[u8]],
) -> [u8; 16] {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&start.unix_ms().to_be_bytes()[2..]);
    id[6..8].copy_from_slice(&tag.to_be_bytes());
    id[8..].copy_from_slice(&digest_parts(domain, parts)[..8]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn text_ids_take_only_safe_characters() {
        assert!(ParticipantId::new("home-03").is_ok());
        for bad in [
            "",
            "Home",
            "a b",
            "a/b",
            "a+b",
            "#",
            "ä",
            "-",
            ".",
            "..",
            "-a",
            "_a",
            &"x".repeat(65),
        ] {
            assert!(ParticipantId::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn hex_is_strict() {
        let id = KeyId([0, 1, 2, 3, 0xfc, 0xfd, 0xfe, 0xff]);
        assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
        for bad in [
            "",
            "00010203fcfdfeff0",
            "00010203FCFDFEFF",
            "0001020 fcfdfeff",
        ] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn timed_ids_sort_by_time_and_repeat() {
        let id = |ms, part: &[u8]| timed_id(Timestamp::from_unix_ms(ms), 1, "x", &[part]);
        assert_eq!(id(5, b"a"), id(5, b"a"));
        assert_ne!(id(5, b"a"), id(5, b"b"));
        assert!(id(1_782_000_000_000, b"z") < id(1_782_000_000_001, b"a"));
    }
}
