//! What a charger's own meter has signed, on its way to the platform: the text as the charger gave it, in the gateway's
//! envelope; and the platform's word that it is kept.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::ids::{Digest32, GatewayId, PointId, digest_parts};
use crate::ocmf::{Ocmf, PublicKey};
use crate::signed::{Kind, Message, decode, encode};
use crate::time::Timestamp;

/// Longest text in bytes.
pub const TEXT_MAX_BYTES: usize = 12 * 1024;
/// Most keys.
pub const KEYS_MAX: usize = 8;
/// Longest reason in bytes.
pub const REASON_MAX_BYTES: usize = 200;

const VERSION: u8 = 1;

/// A text that a charger's meter has signed. It has no number of its own: said twice, it means the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChargerRecord {
    /// The gateway that the charger is connected to; the signature must be with its key.
    pub gateway: GatewayId,
    /// The charger's metering point.
    pub point: PointId,
    /// When the gateway heard it.
    pub heard_at: Timestamp,
    /// The number of the transaction between charger and gateway.
    pub transaction: Option<i64>,
    /// The text as it came, in OCMF where it is to be checked.
    pub text: String,
    /// The keys that the gateway's owner has entered for the charger's meter.
    pub keys: Vec<PublicKey>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct RecordWire {
    #[n(1)]
    version: u8,
    #[n(2)]
    gateway: GatewayId,
    #[n(3)]
    point: PointId,
    #[n(4)]
    heard_at_ms: i64,
    #[n(5)]
    transaction: Option<i64>,
    #[n(6)]
    text: String,
    #[n(7)]
    keys: Vec<ByteVec>,
}

impl ChargerRecord {
    /// Whether it fits into a message; what does not stays at the gateway.
    #[must_use]
    pub fn fits(text: &str, keys: &[PublicKey]) -> bool {
        (1..=TEXT_MAX_BYTES).contains(&text.len()) && keys.len() <= KEYS_MAX
    }

    /// What makes it the same record: its point, its text and what is known of it, whenever it is heard again.
    #[must_use]
    pub fn id(&self) -> Digest32 {
        let transaction = self.transaction.map(i64::to_be_bytes);
        let keys: Vec<Vec<u8>> = self.keys.iter().map(PublicKey::to_der).collect();
        let mut parts = vec![
            self.point.as_str().as_bytes(),
            self.text.as_bytes(),
            transaction.as_ref().map_or(&[], |number| number.as_slice()),
        ];
        parts.extend(keys.iter().map(Vec::as_slice));
        Digest32(digest_parts("commonwatt/charger-record/v2", &parts))
    }

    /// Of what time it speaks: that of its readings, or where their clock is not to be trusted, or there are none, that at
    /// which it was heard.
    #[must_use]
    pub fn span(&self) -> (Timestamp, Timestamp) {
        let heard = (self.heard_at, self.heard_at);
        let Ok(ocmf) = Ocmf::from_text(&self.text) else {
            return heard;
        };
        let told = ocmf
            .readings
            .iter()
            .all(|reading| "IS".contains(reading.clock));
        let times = || ocmf.readings.iter().map(|reading| reading.at);
        match (times().min(), times().max()) {
            (Some(first), Some(last)) if told => (first, last),
            _ => heard,
        }
    }

    /// The text, read, and the key that has signed it.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn check(&self) -> Result<(Ocmf, &PublicKey), String> {
        let ocmf = Ocmf::from_text(&self.text).map_err(|error| error.to_string())?;
        let mut why = "no key of this charger's meter is known".to_owned();
        for key in &self.keys {
            match ocmf.check_signature(key) {
                Ok(_) => return Ok((ocmf, key)),
                Err(reason) => why = reason,
            }
        }
        Err(why)
    }
}

impl Message for ChargerRecord {
    const KIND: Kind = Kind::ChargerRecord;

    fn to_cbor(&self) -> Vec<u8> {
        let keys = self.keys.iter().map(|key| ByteVec::from(key.to_der()));
        encode(&RecordWire {
            version: VERSION,
            gateway: self.gateway.clone(),
            point: self.point.clone(),
            heard_at_ms: self.heard_at.unix_ms(),
            transaction: self.transaction,
            text: self.text.clone(),
            keys: keys.collect(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: RecordWire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(Error::message("a charger's record of an unknown version"));
        }
        let keys = wire.keys.iter().map(|key| PublicKey::from_der(key));
        let keys = keys.collect::<Option<Vec<_>>>();
        let keys = keys.ok_or_else(|| Error::message("a charger's key that is none"))?;
        if !ChargerRecord::fits(&wire.text, &keys) {
            return Err(Error::message(
                "a charger's record that is too long or empty",
            ));
        }
        Ok(ChargerRecord {
            gateway: wire.gateway,
            point: wire.point,
            heard_at: Timestamp::from_unix_ms(wire.heard_at_ms),
            transaction: wire.transaction,
            text: wire.text,
            keys,
        })
    }
}

/// The platform's word on a charger's record: it is kept, or why it never will be. Only this lets a gateway stop sending it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChargerReceipt {
    /// The gateway.
    pub gateway: GatewayId,
    /// SHA-256 of the signed record.
    pub record: Digest32,
    /// When this was said.
    pub at: Timestamp,
    /// Why it is not kept.
    pub refused: Option<String>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct ReceiptWire {
    #[n(1)]
    version: u8,
    #[n(2)]
    gateway: GatewayId,
    #[n(3)]
    record: Digest32,
    #[n(4)]
    at_ms: i64,
    #[n(5)]
    refused: Option<String>,
}

impl Message for ChargerReceipt {
    const KIND: Kind = Kind::ChargerReceipt;

    fn to_cbor(&self) -> Vec<u8> {
        encode(&ReceiptWire {
            version: VERSION,
            gateway: self.gateway.clone(),
            record: self.record,
            at_ms: self.at.unix_ms(),
            refused: self.refused.clone(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: ReceiptWire = decode(bytes)?;
        let fits = |why: &String| (1..=REASON_MAX_BYTES).contains(&why.len());
        if wire.version != VERSION || !wire.refused.iter().all(fits) {
            return Err(Error::message(
                "a receipt for a charger's record of an unknown version or with another reason than a short one",
            ));
        }
        Ok(ChargerReceipt {
            gateway: wire.gateway,
            record: wire.record,
            at: Timestamp::from_unix_ms(wire.at_ms),
            refused: wire.refused,
        })
    }
}
