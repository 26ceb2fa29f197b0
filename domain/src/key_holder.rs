//! Whose a key is: a gateway's, which signs readings, or a participant's, who signs orders.

use std::fmt;

use minicbor::decode::Error;

use crate::ids::{GatewayId, ParticipantId};
use crate::key_record::Holder;

/// Whose key it is. Messages about keys name a gateway under one claim or a participant under another, never both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum KeyHolder {
    /// A gateway.
    Gateway(GatewayId),
    /// A participant.
    Participant(ParticipantId),
}

impl KeyHolder {
    /// The gateway, if it is one.
    #[must_use]
    pub const fn gateway(&self) -> Option<&GatewayId> {
        match self {
            KeyHolder::Gateway(gateway) => Some(gateway),
            KeyHolder::Participant(_) => None,
        }
    }

    /// The participant, if it is one.
    #[must_use]
    pub const fn participant(&self) -> Option<&ParticipantId> {
        match self {
            KeyHolder::Gateway(_) => None,
            KeyHolder::Participant(participant) => Some(participant),
        }
    }

    /// `gateway` or `participant`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            KeyHolder::Gateway(_) => "gateway",
            KeyHolder::Participant(_) => "participant",
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            KeyHolder::Gateway(gateway) => gateway.as_str(),
            KeyHolder::Participant(participant) => participant.as_str(),
        }
    }

    /// Reads the two claims of a message.
    pub(crate) fn of_claims(
        gateway: Option<GatewayId>,
        participant: Option<ParticipantId>,
    ) -> Result<Self, Error> {
        match (gateway, participant) {
            (Some(gateway), None) => Ok(KeyHolder::Gateway(gateway)),
            (None, Some(participant)) => Ok(KeyHolder::Participant(participant)),
            _ => Err(Error::message("it is about one gateway or one participant")),
        }
    }
}

/// `gw-7`, or `participant home-3`.
impl fmt::Display for KeyHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyHolder::Gateway(gateway) => write!(f, "{gateway}"),
            KeyHolder::Participant(participant) => write!(f, "participant {participant}"),
        }
    }
}

impl From<GatewayId> for KeyHolder {
    fn from(gateway: GatewayId) -> Self {
        KeyHolder::Gateway(gateway)
    }
}

impl From<ParticipantId> for KeyHolder {
    fn from(participant: ParticipantId) -> Self {
        KeyHolder::Participant(participant)
    }
}

impl From<&Holder> for KeyHolder {
    fn from(holder: &Holder) -> Self {
        match holder {
            Holder::Gateway { gateway, .. } => gateway.clone().into(),
            Holder::Participant(participant) => participant.clone().into(),
        }
    }
}
