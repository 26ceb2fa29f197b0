//! Keys of OCMF: ECDSA on secp256r1 (to sign and to check) and on secp384r1 (to check).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER_PERMISSIVE;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA256_ASN1, EcdsaKeyPair,
    KeyPair, UnparsedPublicKey,
};

/// What stands before the point of a key on secp256r1 in a SubjectPublicKeyInfo.
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same for secp384r1.
const P384_HEAD: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
/// Bytes of an uncompressed point.
const P256_POINT_BYTES: usize = 65;
const P384_POINT_BYTES: usize = 97;

/// Why there is no key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Text that holds no key.
    #[error(
        "this is no key on secp256r1 or secp384r1: expected its DER in hex or base64, or a PEM file"
    )]
    NotOne,
    /// Bytes that hold no private key.
    #[error("this is no private key on secp256r1 in PKCS#8")]
    NotPrivate,
    /// The system has no random numbers, or a signature could not be made.
    #[error("no signature could be made: the system gave no random numbers")]
    NoRandom,
}

/// A station's public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    point: Vec<u8>,
}

impl PublicKey {
    /// Reads a key: SubjectPublicKeyInfo or the bare point, in hex, base64 or PEM.
    ///
    /// # Errors
    /// It is none.
    pub fn from_text(text: &str) -> Result<PublicKey, KeyError> {
        let lines = text.lines().filter(|l| !l.starts_with("-----"));
        let bare: String = lines
            .flat_map(str::chars)
            .filter(|c| !c.is_whitespace())
            .collect();
        let candidates = [from_hex(&bare), from_base64(&bare)];
        let mut keys = candidates.into_iter().flatten().filter_map(|bytes| {
            let bare = || PublicKey::of_point(&bytes);
            PublicKey::from_der(&bytes).or_else(bare)
        });
        keys.next().ok_or(KeyError::NotOne)
    }

    /// Reads a SubjectPublicKeyInfo.
    #[must_use]
    pub fn from_der(bytes: &[u8]) -> Option<PublicKey> {
        let key = PublicKey::of_point(
            bytes
                .strip_prefix(&P256_HEAD[..])
                .or_else(|| bytes.strip_prefix(&P384_HEAD[..]))?,
        )?;
        // A head goes with one curve.
        (key.to_der() == bytes).then_some(key)
    }

    fn of_point(point: &[u8]) -> Option<PublicKey> {
        let sized = matches!(point.len(), P256_POINT_BYTES | P384_POINT_BYTES);
        (sized && point.first() == Some(&4)).then(|| PublicKey {
            point: point.to_vec(),
        })
    }

    /// The algorithm that goes with it, in OCMF's words.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.point.len() {
            P384_POINT_BYTES => "ECDSA-secp384r1-SHA256",
            _ => "ECDSA-secp256r1-SHA256",
        }
    }

    /// Whether `signature` (ASN.1) is one of `message` by this key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = match self.point.len() {
            P384_POINT_BYTES => UnparsedPublicKey::new(&ECDSA_P384_SHA256_ASN1, &self.point),
            _ => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point),
        };
        key.verify(message, signature).is_ok()
    }

    /// SubjectPublicKeyInfo.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let head: &[u8] = match self.point.len() {
            P384_POINT_BYTES => &P384_HEAD,
            _ => &P256_HEAD,
        };
        [head, &self.point].concat()
    }

    /// SubjectPublicKeyInfo in hex, as it is printed on stations.
    #[must_use]
    pub fn to_hex(&self) -> String {
        crate::ids::to_hex(&self.to_der())
    }

    /// SubjectPublicKeyInfo as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let text = STANDARD.encode(self.to_der());
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem += line;
            pem.push('\n');
            rest = after;
        }
        pem + "-----END PUBLIC KEY-----\n"
    }
}

/// A key on secp256r1 that signs.
pub struct Signer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    /// A new private key in PKCS#8.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Vec<u8>, KeyError> {
        let made =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        made.map(|key| key.as_ref().to_vec())
            .map_err(|_| KeyError::NoRandom)
    }

    /// The signer of a private key in PKCS#8.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Signer, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, bytes, &random);
        let pair = pair.map_err(|_| KeyError::NotPrivate)?;
        Ok(Signer { pair, random })
    }

    /// Its public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey {
            point: self.pair.public_key().as_ref().to_vec(),
        }
    }

    /// A signature (ASN.1) of `message`.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let made = self.pair.sign(&self.random, message);
        made.map(|s| s.as_ref().to_vec())
            .map_err(|_| KeyError::NoRandom)
    }
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
}

pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
