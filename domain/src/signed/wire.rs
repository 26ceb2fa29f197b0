//! The wire form of signed messages: a tagged `COSE_Sign1` (RFC 9052), of which exactly one is valid for a payload, a kind
//! and a key. The lengths are the shortest, so whoever writes it the same way writes the same bytes.

use minicbor::Decoder;
use minicbor::data::Tag;
use minicbor::encode::{Encoder, Error};

use super::Kind;
use crate::ids::KeyId;

/// The tag of a `COSE_Sign1`.
const SIGN1: Tag = Tag::new(18);
/// Labels of the protected header, and the algorithm EdDSA.
const ALGORITHM: u8 = 1;
const CONTENT_TYPE: u8 = 3;
const KEY_ID: u8 = 4;
const EDDSA: i8 = -8;

/// What a signed message is made of, as its bytes say.
pub(super) struct Parts<'b> {
    pub(super) protected: &'b [u8],
    pub(super) payload: &'b [u8],
    pub(super) signature: [u8; 64],
}

impl<'b> Parts<'b> {
    /// Takes the bytes apart; `None` where they are no `COSE_Sign1` with a payload and 64 bytes of signature.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Self> {
        let mut decoder = Decoder::new(bytes);
        let is_sign1 = decoder.tag().ok()? == SIGN1 && decoder.array().ok()? == Some(4);
        let protected = decoder.bytes().ok()?;
        let is_open_header_empty = decoder.map().ok()? == Some(0);
        let payload = decoder.bytes().ok()?;
        let signature = decoder.bytes().ok()?.try_into().ok()?;
        let is_all = decoder.position() == bytes.len();
        (is_sign1 && is_open_header_empty && is_all).then_some(Parts {
            protected,
            payload,
            signature,
        })
    }

    /// The content type and the key's name that the protected header claims.
    pub(super) fn header(&self) -> Option<(&'b str, KeyId)> {
        let mut decoder = Decoder::new(self.protected);
        let is_ours = decoder.map().ok()? == Some(3)
            && decoder.u8().ok()? == ALGORITHM
            && decoder.i8().ok()? == EDDSA
            && decoder.u8().ok()? == CONTENT_TYPE;
        let content_type = decoder.str().ok()?;
        let is_key_id = decoder.u8().ok()? == KEY_ID;
        let kid = KeyId(decoder.bytes().ok()?.try_into().ok()?);
        (is_ours && is_key_id).then_some((content_type, kid))
    }
}

/// The protected header: `{1: -8, 3: content type, 4: kid}`.
pub(super) fn protected(kind: Kind, signer: KeyId) -> Vec<u8> {
    written(64, |e| {
        e.map(3)?.u8(ALGORITHM)?.i8(EDDSA)?;
        e.u8(CONTENT_TYPE)?.str(&kind.content_type())?;
        e.u8(KEY_ID)?.bytes(&signer.0)?;
        Ok(())
    })
}

/// What is signed: the `Sig_structure` of RFC 9052, 4.4, with no other signers.
pub(super) fn to_sign(protected: &[u8], external: &[u8], payload: &[u8]) -> Vec<u8> {
    written(protected.len() + external.len() + payload.len() + 32, |e| {
        e.array(4)?.str("Signature1")?;
        e.bytes(protected)?.bytes(external)?.bytes(payload)?;
        Ok(())
    })
}

/// The message as it travels.
pub(super) fn sealed(protected: &[u8], payload: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    written(protected.len() + payload.len() + 96, |e| {
        e.tag(SIGN1)?.array(4)?.bytes(protected)?.map(0)?;
        e.bytes(payload)?.bytes(signature)?;
        Ok(())
    })
}

fn written(
    about_bytes: usize,
    write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Result<(), Error<std::convert::Infallible>>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(about_bytes);
    match write(&mut Encoder::new(&mut out)) {
        Ok(()) => out,
        // A `Vec` as a sink has no error.
        Err(error) => unreachable!("writing into memory failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coset::{CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn another_implementation_of_cose_writes_the_same(
            kid: [u8; 8],
            payload in proptest::collection::vec(any::<u8>(), 0..70_000),
            external in proptest::collection::vec(any::<u8>(), 0..300),
            halves: [[u8; 32]; 2],
        ) {
            let signature: [u8; 64] = halves.concat().try_into().unwrap();
            for kind in [Kind::Reading, Kind::ChargerReceipt, Kind::StandingOrder] {
                let header = HeaderBuilder::new()
                    .algorithm(iana::Algorithm::EdDSA)
                    .content_type(kind.content_type())
                    .key_id(kid.to_vec())
                    .build();
                let mut theirs = CoseSign1Builder::new()
                    .protected(header)
                    .payload(payload.clone())
                    .build();
                let own = protected(kind, KeyId(kid));
                prop_assert_eq!(to_sign(&own, &external, &payload), theirs.tbs_data(&external));
                theirs.signature = signature.to_vec();
                let bytes = sealed(&own, &payload, &signature);
                prop_assert_eq!(&bytes, &theirs.to_tagged_vec().unwrap());
                let parts = Parts::read(&bytes).unwrap();
                prop_assert_eq!(parts.payload, &payload);
                prop_assert_eq!(parts.signature, signature);
                let content_type = kind.content_type();
                prop_assert_eq!(parts.header(), Some((content_type.as_str(), KeyId(kid))));
            }
        }
    }

    #[test]
    fn what_is_no_such_message_is_not_taken_apart() {
        let bytes = sealed(&protected(Kind::Order, KeyId([1; 8])), b"payload", &[7; 64]);
        for cut in 0..bytes.len() {
            assert!(Parts::read(&bytes[..cut]).is_none(), "{cut} bytes");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Parts::read(&longer).is_none());
        let untagged = &bytes[1..];
        assert!(Parts::read(untagged).is_none());
    }
}
