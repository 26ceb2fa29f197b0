//! A witness's word on a checkpoint (C2SP tlog-cosignature, `cosignature/v1` with Ed25519): at this time,
//! this was the largest tree of the log that it knew, and it only ever grew.

use ed25519_dalek::Signer;

use super::note::{Algorithm, NoteSignature, VerifierKey};
use crate::ids::{CommunityId, KeyId};
use crate::signed::{PublicKey, SigningKey};
use crate::time::Timestamp;

/// Bytes of a cosignature: the time in seconds, and the signature.
const COSIGNATURE_BYTES: usize = 8 + 64;

fn message(body: &str, time_s: u64) -> String {
    format!("cosignature/v1\ntime {time_s}\n{body}")
}

/// Signs for the body of a checkpoint's note; `None` where `name` is no name for a key, or the time is
/// before the epoch.
#[must_use]
pub fn cosign(body: &str, name: &str, key: &SigningKey, now: Timestamp) -> Option<NoteSignature> {
    let time_s = u64::try_from(now.unix_s()).ok()?;
    let witness = VerifierKey::of_witness(name, PublicKey::of(key))?;
    let signature = key.sign(message(body, time_s).as_bytes()).to_bytes();
    Some(NoteSignature {
        name: name.to_owned(),
        id: witness.id(),
        bytes: [&time_s.to_be_bytes()[..], &signature].concat(),
    })
}

/// When a witness signed for the body; `None` where this is not its valid signature.
#[must_use]
pub fn cosigned_at(body: &str, line: &NoteSignature, witness: &VerifierKey) -> Option<Timestamp> {
    if witness.algorithm() != Algorithm::Witness
        || !line.is_by(witness)
        || line.bytes.len() != COSIGNATURE_BYTES
    {
        return None;
    }
    let (time_s, signature) = line.bytes.split_first_chunk::<8>()?;
    let time_s = u64::from_be_bytes(*time_s);
    let signature = signature.try_into().ok()?;
    let signed = message(body, time_s);
    let holds = witness.key().verifies(signed.as_bytes(), signature);
    let time_s = i64::try_from(time_s).ok()?;
    holds.then(|| Timestamp::from_unix_s(time_s))
}

/// The beginning of the names under which a community's gateways sign for its log.
fn gateway_prefix(community: &CommunityId) -> String {
    format!("commonwatt/{community}/gateway/")
}

/// The verifier key of a gateway as a witness: the key that it signs readings with, under a name that says no more
/// than that key's short name, since checkpoints are public and a home's gateway is nobody's business.
///
/// One key can serve both, since nothing that is signed for one purpose can be taken for the other: a cosignature is
/// over a text that begins with `cosignature/v1`, every other message of a gateway over a CBOR array (a
/// COSE `Sig_structure`), whose first byte is 0x84 and never the letter `c`.
#[must_use]
pub fn gateway_witness(community: &CommunityId, key: PublicKey) -> Option<VerifierKey> {
    let name = format!("{}{}", gateway_prefix(community), key.id());
    VerifierKey::of_witness(&name, key)
}

/// The short name of the key in the name of a gateway's cosignature; `None` where it is another's.
#[must_use]
pub fn cosigning_gateway(community: &CommunityId, name: &str) -> Option<KeyId> {
    let hex = name.strip_prefix(&gateway_prefix(community))?;
    hex.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_signs_under_the_short_name_of_its_key() {
        let street = CommunityId::new("street").unwrap();
        let lane = CommunityId::new("lane").unwrap();
        let key = PublicKey::of(&SigningKey::from_bytes(&[5; 32]));
        let witness = gateway_witness(&street, key).unwrap();
        assert_eq!(cosigning_gateway(&street, witness.name()), Some(key.id()));
        assert_eq!(cosigning_gateway(&lane, witness.name()), None);
        assert_eq!(
            cosigning_gateway(&street, "commonwatt/street/gateway/x"),
            None
        );
    }

    #[test]
    fn what_is_signed_for_a_log_is_no_message_and_the_other_way_round() {
        use crate::signed::Signed;

        let (key, street) = (
            SigningKey::from_bytes(&[5; 32]),
            CommunityId::new("street").unwrap(),
        );
        let cancel = crate::cancel::Cancel {
            participant: crate::ids::ParticipantId::new("cosignature").unwrap(),
            sequence: 1,
            interval: crate::time::Interval::new(0, 900).unwrap(),
        };
        let signed = Signed::sign(&key, &street, &cancel);
        let signature = &signed.as_bytes()[signed.as_bytes().len() - 64..];
        let witness = VerifierKey::of_witness("w", PublicKey::of(&key)).unwrap();
        let line = NoteSignature {
            name: "w".to_owned(),
            id: witness.id(),
            bytes: [&[0; 8][..], signature].concat(),
        };
        assert_eq!(cosigned_at("log\n7\nroot\n", &line, &witness), None);
        // And a cosignature under a message's header and payload verifies for no message.
        let line = cosign("log\n7\nroot\n", "w", &key, Timestamp::EPOCH).unwrap();
        let mut forged = signed.as_bytes().to_vec();
        let at = forged.len() - 64;
        forged[at..].copy_from_slice(&line.bytes[8..]);
        let forged: Signed<crate::cancel::Cancel> = Signed::from_bytes(forged);
        assert!(forged.verify(PublicKey::of(&key), &street).is_err());
    }

    #[test]
    fn a_cosignature_is_of_one_witness_for_one_body_and_time() {
        let key = SigningKey::from_bytes(&[5; 32]);
        let witness = VerifierKey::of_witness("w.example/1", PublicKey::of(&key)).unwrap();
        let now = Timestamp::from_unix_s(1_782_000_000);
        let line = cosign("log\n7\nroot\n", "w.example/1", &key, now).unwrap();
        assert_eq!(cosigned_at("log\n7\nroot\n", &line, &witness), Some(now));
        assert_eq!(cosigned_at("log\n8\nroot\n", &line, &witness), None);
        let other = VerifierKey::of_witness("w.example/2", PublicKey::of(&key)).unwrap();
        assert_eq!(cosigned_at("log\n7\nroot\n", &line, &other), None);
        // A log's key with the same name and bytes is another key.
        let log = VerifierKey::of_log("w.example/1", PublicKey::of(&key)).unwrap();
        assert_eq!(cosigned_at("log\n7\nroot\n", &line, &log), None);
        for index in 0..line.bytes.len() {
            let mut changed = line.clone();
            changed.bytes[index] ^= 1;
            assert_eq!(cosigned_at("log\n7\nroot\n", &changed, &witness), None);
        }
        assert_eq!(cosign("", "two words", &key, now), None);
        assert_eq!(cosign("", "w", &key, Timestamp::from_unix_s(-1)), None);
    }
}
