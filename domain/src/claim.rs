//! A one-time code that lets a gateway's or a participant's new key in, and the operator's word that there is one.
//!
//! The code is never sent and never stored. It is the seed of a key pair: the operator's word holds the
//! public half, and whoever claims shows that it knows the code by signing with the other half.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::ids::{CommunityId, GatewayId, ParticipantId, digest_parts};
use crate::key_holder::KeyHolder;
use crate::signed::{Kind, Message, PublicKey, SigningKey, decode, encode};
use crate::time::Timestamp;

/// Characters of a code that are drawn at random: 100 bits, so that nobody finds it by trying.
const DRAWN: usize = 20;
/// Characters behind them that show a typing mistake.
const CHECK: usize = 4;
/// The digits: 0-9 and A-Z without I, L, O and U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A claim code: 24 characters in groups of four, of which the last four check the others.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimCode(String);

/// Why a text is no claim code. The text itself is not repeated: it may be nearly right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClaimCodeError {
    /// Another number of characters.
    #[error("a claim code has 24 characters in groups of four, this one has {0}")]
    Length(usize),
    /// A character that no code has.
    #[error("a claim code has the characters 0-9 and A-Z without U, character {0} is none of them")]
    Character(usize),
    /// The check does not fit.
    #[error("the claim code is mistyped: its last four characters do not fit the others")]
    Check,
}

impl ClaimCode {
    /// The code of these random bytes; the highest 28 bits of the 128 are not used.
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        let mut rest = u128::from_be_bytes(random);
        let mut drawn = [0; DRAWN];
        for digit in drawn.iter_mut().rev() {
            *digit = DIGITS[(rest % 32) as usize];
            rest /= 32;
        }
        let drawn: String = drawn.into_iter().map(char::from).collect();
        let check = check_of(&drawn);
        ClaimCode(drawn + &check)
    }

    /// The key pair that only who knows the code has.
    #[must_use]
    pub fn key(&self, community: &CommunityId, holder: &KeyHolder) -> SigningKey {
        let what = match holder {
            KeyHolder::Gateway(_) => "commonwatt/claim-key/v1",
            KeyHolder::Participant(_) => "commonwatt/participant-claim-key/v1",
        };
        let parts = [community.as_str(), holder.name(), &self.0].map(str::as_bytes);
        SigningKey::from_bytes(&digest_parts(what, &parts))
    }

    /// The code in groups, for the one person who types it in.
    #[must_use]
    pub fn reveal(&self) -> String {
        let groups = self.0.as_bytes().chunks(4).map(String::from_utf8_lossy);
        groups.collect::<Vec<_>>().join("-")
    }
}

fn check_of(drawn: &str) -> String {
    let digest = digest_parts("commonwatt/claim-code/v1", &[drawn.as_bytes()]);
    let digit = |byte: &u8| char::from(DIGITS[usize::from(byte % 32)]);
    digest[..CHECK].iter().map(digit).collect()
}

/// Never shows the code.
impl fmt::Debug for ClaimCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimCode")
    }
}

/// Reads what a person typed: lower case, spaces and dashes, and O for 0, I or L for 1 are all fine.
impl FromStr for ClaimCode {
    type Err = ClaimCodeError;

    fn from_str(text: &str) -> Result<Self, ClaimCodeError> {
        let mut code = String::with_capacity(DRAWN + CHECK);
        for typed in text.chars().filter(|c| *c != '-' && !c.is_whitespace()) {
            let digit = match typed.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            if !u8::try_from(digit).is_ok_and(|digit| DIGITS.contains(&digit)) {
                return Err(ClaimCodeError::Character(code.len() + 1));
            }
            code.push(digit);
        }
        if code.len() != DRAWN + CHECK {
            return Err(ClaimCodeError::Length(code.len()));
        }
        if code[DRAWN..] != check_of(&code[..DRAWN]) {
            return Err(ClaimCodeError::Check);
        }
        Ok(ClaimCode(code))
    }
}

/// The operator's word that whoever signs with this key knows a gateway's or a participant's claim code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Who may claim.
    pub holder: KeyHolder,
    /// The public half of [`ClaimCode::key`].
    pub key: PublicKey,
    /// When this was said.
    pub issued_at: Timestamp,
    /// From when on the code is worth nothing.
    pub expires_at: Timestamp,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire {
    #[n(1)]
    version: u8,
    #[n(2)]
    gateway: Option<GatewayId>,
    #[n(3)]
    key: PublicKey,
    #[n(4)]
    issued_at_ms: i64,
    #[n(5)]
    expires_at_ms: i64,
    #[n(6)]
    participant: Option<ParticipantId>,
}

const VERSION: u8 = 1;

impl Message for Claim {
    const KIND: Kind = Kind::Claim;

    fn to_cbor(&self) -> Vec<u8> {
        encode(&Wire {
            version: VERSION,
            gateway: self.holder.gateway().cloned(),
            key: self.key,
            issued_at_ms: self.issued_at.unix_ms(),
            expires_at_ms: self.expires_at.unix_ms(),
            participant: self.holder.participant().cloned(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let wire: Wire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(minicbor::decode::Error::message(
                "a claim of an unknown version",
            ));
        }
        Ok(Claim {
            holder: KeyHolder::of_claims(wire.gateway, wire.participant)?,
            key: wire.key,
            issued_at: Timestamp::from_unix_ms(wire.issued_at_ms),
            expires_at: Timestamp::from_unix_ms(wire.expires_at_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it_and_no_mistake_passes() {
        let code = ClaimCode::from_random([0x5a; 16]);
        let shown = code.reveal();
        assert_eq!((shown.len(), shown.matches('-').count()), (29, 5));
        assert_eq!(shown.parse(), Ok(code.clone()));
        let sloppy = shown.to_lowercase().replace('-', " ").replace('1', "l");
        assert_eq!(sloppy.replace('0', "o").parse(), Ok(code.clone()));
        for at in (0..shown.len()).filter(|at| shown.as_bytes()[*at] != b'-') {
            let other = if shown.as_bytes()[at] == b'7' {
                "8"
            } else {
                "7"
            };
            let mut wrong = shown.clone();
            wrong.replace_range(at..=at, other);
            assert_eq!(
                wrong.parse::<ClaimCode>(),
                Err(ClaimCodeError::Check),
                "{at}"
            );
        }
        assert_eq!("ABC".parse::<ClaimCode>(), Err(ClaimCodeError::Length(3)));
        assert_eq!(
            "AB*".parse::<ClaimCode>(),
            Err(ClaimCodeError::Character(3))
        );
        assert!(!format!("{code:?}").contains(&shown[..4]));
    }

    #[test]
    fn a_code_is_for_one_holder_of_one_community() {
        let code = ClaimCode::from_random([7; 16]);
        let key = |community: &str, holder: KeyHolder| {
            let community = CommunityId::new(community).unwrap();
            code.key(&community, &holder).to_bytes()
        };
        let gateway = |name: &str| KeyHolder::Gateway(GatewayId::new(name).unwrap());
        let home = |name: &str| KeyHolder::Participant(ParticipantId::new(name).unwrap());
        let one = key("lane", gateway("gw-1"));
        assert_eq!(one, key("lane", gateway("gw-1")));
        assert_ne!(one, key("lane", gateway("gw-2")));
        assert_ne!(one, key("road", gateway("gw-1")));
        assert_ne!(one, key("lane", home("gw-1")));
    }
}
