//! A key and what it may sign for, signed by the operator and kept in the log.

use minicbor::{Decode, Encode};

use crate::ids::{GatewayId, ParticipantId, PointId};
use crate::signed::{Kind, Message, PublicKey, decode, encode};
use crate::time::Timestamp;

/// Most metering points behind one gateway key.
pub const POINTS_MAX: usize = 1024;

/// Who holds a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Holder {
    /// A gateway, which signs readings for these points.
    Gateway {
        /// The gateway.
        gateway: GatewayId,
        /// Its points.
        points: Vec<PointRecord>,
    },
    /// A participant, who signs orders.
    Participant(ParticipantId),
}

/// A metering point and its registered facts.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct PointRecord {
    /// The point.
    #[n(1)]
    pub point: PointId,
    /// What it is for.
    #[n(2)]
    pub role: PointRole,
    /// Whose it is; none for the feeder.
    #[n(3)]
    pub participant: Option<ParticipantId>,
    /// Largest power through the point in watts: a reading above it is implausible.
    #[n(4)]
    pub rating_w: u32,
}

/// What a metering point is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum PointRole {
    /// A participant's connection to the street: this one is settled.
    #[n(0)]
    Connection,
    /// The street's connection to the grid: losses are found against it.
    #[n(1)]
    Feeder,
    /// A meter behind a connection (inverter, charger): evidence and display, not settled.
    #[n(2)]
    Submeter,
}

/// An enrolled key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRecord {
    /// The public key.
    pub key: PublicKey,
    /// Who holds it, and what it may sign for.
    pub holder: Holder,
    /// From when on.
    pub valid_from: Timestamp,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire {
    #[n(1)]
    version: u8,
    #[n(2)]
    key: PublicKey,
    #[n(3)]
    valid_from_ms: i64,
    #[n(4)]
    gateway: Option<GatewayId>,
    #[n(5)]
    points: Option<Vec<PointRecord>>,
    #[n(6)]
    participant: Option<ParticipantId>,
}

const VERSION: u8 = 1;

impl Message for KeyRecord {
    const KIND: Kind = Kind::Key;

    fn to_cbor(&self) -> Vec<u8> {
        let (gateway, points, participant) = match &self.holder {
            Holder::Gateway { gateway, points } => (Some(gateway), Some(points), None),
            Holder::Participant(participant) => (None, None, Some(participant)),
        };
        encode(&Wire {
            version: VERSION,
            key: self.key,
            valid_from_ms: self.valid_from.unix_ms(),
            gateway: gateway.cloned(),
            points: points.cloned(),
            participant: participant.cloned(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: Wire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(Error::message("a key record of an unknown version"));
        }
        let holder = match (wire.gateway, wire.points, wire.participant) {
            (Some(gateway), Some(points), None) if points.len() <= POINTS_MAX => {
                Holder::Gateway { gateway, points }
            }
            (None, None, Some(participant)) => Holder::Participant(participant),
            _ => {
                return Err(Error::message(
                    "a key is held by one gateway or one participant",
                ));
            }
        };
        let valid_from = Timestamp::from_unix_ms(wire.valid_from_ms);
        Ok(KeyRecord {
            key: wire.key,
            holder,
            valid_from,
        })
    }
}
