//! Signatures: a message of some kind, its signed bytes, and the proof that they were verified.
//!
//! The wire form is a tagged `COSE_Sign1` (RFC 9052): protected header `{1: -8, 3: content type,
//! 4: kid}`, empty unprotected header, the payload in deterministic CBOR, and the external data
//! `commonwatt/<community>/<kind>/v1`, so that a message of one community or kind is no message of
//! another. Exactly one byte string is valid for a message and a key: anything else is refused before
//! the signature is looked at.

use std::fmt;
use std::marker::PhantomData;

pub use ed25519_dalek::SigningKey;
use ed25519_dalek::{Signature, Signer, VerifyingKey};

use crate::ids::{CommunityId, Digest32, KeyId};

mod wire;

use wire::Parts;

/// Longest signed message in bytes, except of those that list a gateway's points.
pub const MESSAGE_MAX_BYTES: usize = 16 * 1024;
/// Longest signed message that lists a gateway's points: 1,024 of them with the longest names.
pub const POINTS_MESSAGE_MAX_BYTES: usize = 160 * 1024;

/// What a signed message is about. Part of what is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A meter reading.
    Reading,
    /// A bid or an offer.
    Order,
    /// A participant takes an order back.
    Cancel,
    /// A participant asks for its own orders.
    OrderQuery,
    /// A participant's wish over many intervals.
    StandingOrder,
    /// A participant takes such a wish back.
    StandingCancel,
    /// The platform's word on which readings it has accepted.
    Receipt,
    /// A key and what it may sign for.
    Key,
    /// A command to a device.
    Command,
    /// A gateway's answer to a command.
    Ack,
    /// What a charger's own meter has signed.
    ChargerRecord,
    /// The platform's word that it keeps that.
    ChargerReceipt,
    /// The operator's word that a gateway may enrol with a code.
    Claim,
    /// A new key's request for itself.
    KeyRequest,
    /// A known key's word for a new one.
    Introduction,
    /// The operator's word that a key was not let in.
    KeyRefusal,
    /// The operator's word that a key counts no longer.
    Revocation,
    /// The operator's word on which record of a key counted.
    RecordWord,
}

impl Kind {
    /// The word in the external data and in the content type.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Reading => "reading",
            Kind::Order => "order",
            Kind::Cancel => "cancel",
            Kind::OrderQuery => "order-query",
            Kind::StandingOrder => "standing-order",
            Kind::StandingCancel => "standing-cancel",
            Kind::Receipt => "receipt",
            Kind::Key => "key",
            Kind::Command => "command",
            Kind::Ack => "ack",
            Kind::ChargerRecord => "charger-record",
            Kind::ChargerReceipt => "charger-receipt",
            Kind::Claim => "claim",
            Kind::KeyRequest => "key-request",
            Kind::Introduction => "introduction",
            Kind::KeyRefusal => "key-refusal",
            Kind::Revocation => "revocation",
            Kind::RecordWord => "record-word",
        }
    }

    /// Longest message of this kind in bytes; a longer one is refused unread.
    #[must_use]
    pub const fn max_bytes(self) -> usize {
        match self {
            Kind::Key | Kind::KeyRequest | Kind::Introduction => POINTS_MESSAGE_MAX_BYTES,
            _ => MESSAGE_MAX_BYTES,
        }
    }

    fn content_type(self) -> String {
        format!("application/vnd.commonwatt.{}+cbor", self.word())
    }

    fn external_data(self, community: &CommunityId) -> Vec<u8> {
        format!("commonwatt/{community}/{}/v1", self.word()).into_bytes()
    }
}

/// A noun that can be signed.
pub trait Message: Sized {
    /// Its kind.
    const KIND: Kind;

    /// The payload: a CBOR map with ascending integer keys, shortest integers, definite lengths.
    fn to_cbor(&self) -> Vec<u8>;

    /// Reads a payload. Determinism is checked by the caller, by encoding again.
    ///
    /// # Errors
    /// The bytes are not such a map, or a value is outside its range.
    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error>;
}

/// Encodes with minicbor into a vector, which cannot fail.
///
/// # Panics
/// Never: a vector takes every byte, and the nouns' encodings raise no errors of their own.
pub fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    // Most values fit at once: growing by pieces takes longer than encoding.
    let mut out = Vec::with_capacity(128);
    match minicbor::encode(value, &mut out) {
        Ok(()) => out,
        // A `Vec` as a sink has no error, and our `Encode` impls raise none of their own.
        Err(error) => unreachable!("encoding into memory failed: {error}"),
    }
}

/// Decodes with minicbor and refuses bytes behind the value.
pub(crate) fn decode<'b, T: minicbor::Decode<'b, ()>>(
    bytes: &'b [u8],
) -> Result<T, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode()?;
    if decoder.position() != bytes.len() {
        return Err(minicbor::decode::Error::message("bytes behind the end"));
    }
    Ok(value)
}

/// Messages that stand one after another (a CBOR sequence, RFC 8742), each as its bytes; `None` where they are more than
/// `most`, or the bytes are no such thing.
#[must_use]
pub fn split_sequence(bytes: &[u8], most: usize) -> Option<Vec<&[u8]>> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let mut parts = Vec::new();
    while decoder.position() < bytes.len() {
        let start = decoder.position();
        decoder.skip().ok()?;
        let part = bytes.get(start..decoder.position())?;
        if parts.len() >= most {
            return None;
        }
        parts.push(part);
    }
    Some(parts)
}

/// A public key that is fit to sign evidence: on the curve, and not of small order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// A key from its 32 bytes.
    ///
    /// # Errors
    /// The bytes are no point of the curve, or a weak one, on which a signature proves nothing.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SignedError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| SignedError::BadKey)?;
        if key.is_weak() {
            Err(SignedError::BadKey)
        } else {
            Ok(PublicKey(key))
        }
    }

    /// The public half of `key`.
    #[must_use]
    pub fn of(key: &SigningKey) -> Self {
        PublicKey(key.verifying_key())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The short name of this key.
    #[must_use]
    pub fn id(self) -> KeyId {
        let digest = Digest32::of(self.0.as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&digest.0[..8]);
        KeyId(id)
    }

    /// Checks a bare signature over `message` strictly (`verify_strict`).
    #[must_use]
    pub fn verifies(self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0
            .verify_strict(message, &Signature::from_bytes(signature))
            .is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl<C> minicbor::Encode<C> for PublicKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(self.0.as_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for PublicKey {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let wrong = || minicbor::decode::Error::message("not a usable Ed25519 public key");
        let bytes: &[u8; 32] = d.bytes()?.try_into().map_err(|_| wrong())?;
        PublicKey::from_bytes(bytes).map_err(|_| wrong())
    }
}

/// Signed bytes that say they hold a `T`. Nothing about them is believed yet.
pub struct Signed<T> {
    bytes: Vec<u8>,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Signed::from_bytes(self.bytes.clone())
    }
}

impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({} bytes)", self.bytes.len())
    }
}

impl<T> Signed<T> {
    /// Bytes that came from somewhere.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Signed {
            bytes,
            kind: PhantomData,
        }
    }

    /// The bytes, as they travel.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T: Message> Signed<T> {
    /// Which key the message claims to be signed with: for looking the key up, no more.
    ///
    /// # Errors
    /// The bytes are too many, or no signed message.
    pub fn claimed_signer(&self) -> Result<KeyId, SignedError> {
        let claimed = self.parse()?.header();
        let (_, kid) = claimed.ok_or(SignedError::NotDeterministic)?;
        Ok(kid)
    }

    /// Which kind of message it claims to be, of those that participants sign about orders: for choosing
    /// how to read it, no more.
    #[must_use]
    pub fn claimed_kind(&self) -> Option<Kind> {
        let (claimed, _) = self.parse().ok()?.header()?;
        let about_orders = [
            Kind::Order,
            Kind::Cancel,
            Kind::OrderQuery,
            Kind::StandingOrder,
            Kind::StandingCancel,
        ];
        about_orders
            .into_iter()
            .find(|kind| kind.content_type() == claimed)
    }

    /// The message in bytes that were verified before they were stored.
    ///
    /// # Errors
    /// They are not such a message any more.
    pub fn stored(&self) -> Result<T, SignedError> {
        self.claimed()
    }

    /// What these bytes say, whoever has signed them: for finding out who might have, no more.
    ///
    /// # Errors
    /// The bytes are too many, or no such message.
    pub fn claimed(&self) -> Result<T, SignedError> {
        let parsed = self.parse()?;
        T::from_cbor(parsed.payload).map_err(|e| SignedError::Payload(e.to_string()))
    }

    fn parse(&self) -> Result<Parts<'_>, SignedError> {
        let (bytes, max_bytes) = (self.bytes.len(), T::KIND.max_bytes());
        if bytes > max_bytes {
            return Err(SignedError::TooLarge { bytes, max_bytes });
        }
        Parts::read(&self.bytes).ok_or(SignedError::Malformed)
    }

    /// Signs `message` for `community`.
    #[must_use]
    pub fn sign(key: &SigningKey, community: &CommunityId, message: &T) -> Self {
        let protected = wire::protected(T::KIND, PublicKey::of(key).id());
        let (external, payload) = (T::KIND.external_data(community), message.to_cbor());
        let signature = key.sign(&wire::to_sign(&protected, &external, &payload));
        Signed::from_bytes(wire::sealed(&protected, &payload, &signature.to_bytes()))
    }

    /// Verifies strictly, and so makes the only kind of value that the rules work on.
    ///
    /// # Errors
    /// Too large, malformed, not deterministic, another key or kind or community, a bad signature.
    pub fn verify(
        &self,
        key: PublicKey,
        community: &CommunityId,
    ) -> Result<Verified<T>, SignedError> {
        let Parts {
            payload, signature, ..
        } = self.parse()?;
        let message = T::from_cbor(payload).map_err(|e| SignedError::Payload(e.to_string()))?;
        let signer = key.id();
        let (protected, payload) = (wire::protected(T::KIND, signer), message.to_cbor());
        if wire::sealed(&protected, &payload, &signature) != self.bytes {
            return Err(SignedError::NotDeterministic);
        }
        let external = T::KIND.external_data(community);
        if !key.verifies(&wire::to_sign(&protected, &external, &payload), &signature) {
            return Err(SignedError::BadSignature);
        }
        Ok(Verified {
            message,
            signer,
            digest: Digest32::of(&self.bytes),
            signed: self.clone(),
        })
    }
}

/// A message whose signature was verified. Only [`Signed::verify`] makes one.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    message: T,
    signer: KeyId,
    digest: Digest32,
    signed: Signed<T>,
}

impl<T> Verified<T> {
    /// The message.
    pub fn message(&self) -> &T {
        &self.message
    }

    /// The key that signed it.
    pub fn signer(&self) -> KeyId {
        self.signer
    }

    /// The signed bytes, for keeping and for proving.
    pub fn signed(&self) -> &Signed<T> {
        &self.signed
    }

    /// SHA-256 of the signed bytes: the name of exactly this message.
    pub fn digest(&self) -> Digest32 {
        self.digest
    }
}

/// Why signed bytes were not accepted as a message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignedError {
    /// Longer than messages of this kind may be.
    #[error("the signed message has {bytes} bytes, more than the {max_bytes} allowed")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// See [`Kind::max_bytes`].
        max_bytes: usize,
    },
    /// Not a tagged `COSE_Sign1` with a payload and a 64-byte signature.
    #[error("the bytes are not a tagged COSE_Sign1 with a payload and an Ed25519 signature")]
    Malformed,
    /// The payload is not what its kind demands.
    #[error("the payload is not valid: {0}")]
    Payload(String),
    /// Not the one encoding of this message under this key and kind.
    #[error("not the deterministic encoding of this message, or another key or kind in its header")]
    NotDeterministic,
    /// The signature does not verify for this key and community.
    #[error("the signature does not verify for this key and community")]
    BadSignature,
    /// Bytes that are no usable public key.
    #[error("not a usable Ed25519 public key (no point of the curve, or of small order)")]
    BadKey,
}
