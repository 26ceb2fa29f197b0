//! A command to a device behind a gateway, and the gateway's signed answer to it.
//!
//! Every set-point is a lease: it has an end, and at the end the device gets its own value back. A
//! command's sequence is higher than that of every command its gateway has taken before; the same
//! bytes again are answered again and do nothing.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::ids::{Digest32, GatewayId};
use crate::signed::{Kind, Message, decode, encode};
use crate::time::Timestamp;

/// Longest lease: what shall last longer is renewed by another command.
pub const LEASE_MAX_S: i64 = 24 * 3600;
/// Longest name of a device in a command, in bytes.
pub const DEVICE_NAME_MAX_BYTES: usize = 64;

/// What a command sets, with the unit of its value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SetPoint {
    /// Power of a battery in watts: discharging positive, charging negative, 0 holds it still.
    BatteryPowerW,
    /// Largest current of a charger in milliamperes per phase; 0 pauses.
    ChargerCurrentMa,
    /// Largest generation of an inverter in watts.
    GenerationLimitW,
    /// Largest generation of an inverter in thousandths of its largest power.
    GenerationLimitPermille,
    /// Whether a charger lets a driver in: 1 for one charging transaction; its end is the end of the lease.
    ChargerSession,
}

impl SetPoint {
    /// All set-points; the position is the number on the wire.
    pub const ALL: [SetPoint; 5] = [
        SetPoint::BatteryPowerW,
        SetPoint::ChargerCurrentMa,
        SetPoint::GenerationLimitW,
        SetPoint::GenerationLimitPermille,
        SetPoint::ChargerSession,
    ];

    /// The word in configurations and answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            SetPoint::BatteryPowerW => "battery-power-w",
            SetPoint::ChargerCurrentMa => "charger-current-ma",
            SetPoint::GenerationLimitW => "generation-limit-w",
            SetPoint::GenerationLimitPermille => "generation-limit-permille",
            SetPoint::ChargerSession => "charger-session",
        }
    }

    /// The set-point of a word; `None` for an unknown one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        SetPoint::ALL.into_iter().find(|s| s.word() == word)
    }

    /// The unit of its value.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            SetPoint::BatteryPowerW | SetPoint::GenerationLimitW => "W",
            SetPoint::ChargerCurrentMa => "mA",
            SetPoint::GenerationLimitPermille => "‰",
            SetPoint::ChargerSession => "",
        }
    }

    const fn number(self) -> u8 {
        match self {
            SetPoint::BatteryPowerW => 0,
            SetPoint::ChargerCurrentMa => 1,
            SetPoint::GenerationLimitW => 2,
            SetPoint::GenerationLimitPermille => 3,
            SetPoint::ChargerSession => 4,
        }
    }
}

impl fmt::Display for SetPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What a command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Hold a value until the lease ends.
    Set {
        /// What is set.
        set_point: SetPoint,
        /// To which value, in the set-point's unit.
        value: i64,
        /// End of the lease.
        expires_at: Timestamp,
    },
    /// End the lease now.
    Release {
        /// Of what.
        set_point: SetPoint,
    },
}

impl Act {
    /// What is set or released.
    #[must_use]
    pub const fn set_point(self) -> SetPoint {
        match self {
            Act::Set { set_point, .. } | Act::Release { set_point } => set_point,
        }
    }
}

/// A command to one device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// The gateway that shall carry it out.
    pub gateway: GatewayId,
    /// The device's name in the gateway's configuration.
    pub device: String,
    /// Higher than every sequence before, at this gateway.
    pub sequence: u64,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// What it does.
    pub act: Act,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct CommandWire {
    #[n(1)]
    version: u8,
    #[n(2)]
    gateway: GatewayId,
    #[n(3)]
    device: String,
    #[n(4)]
    sequence: u64,
    #[n(5)]
    issued_at_ms: i64,
    #[n(6)]
    set_point: u8,
    #[n(7)]
    value: Option<i64>,
    #[n(8)]
    expires_at_ms: Option<i64>,
}

const VERSION: u8 = 1;

impl Message for Command {
    const KIND: Kind = Kind::Command;

    fn to_cbor(&self) -> Vec<u8> {
        let (value, expires_at) = match self.act {
            Act::Set {
                value, expires_at, ..
            } => (Some(value), Some(expires_at.unix_ms())),
            Act::Release { .. } => (None, None),
        };
        encode(&CommandWire {
            version: VERSION,
            gateway: self.gateway.clone(),
            device: self.device.clone(),
            sequence: self.sequence,
            issued_at_ms: self.issued_at.unix_ms(),
            set_point: self.act.set_point().number(),
            value,
            expires_at_ms: expires_at,
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: CommandWire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(Error::message("a command of an unknown version"));
        }
        if wire.device.is_empty() || wire.device.len() > DEVICE_NAME_MAX_BYTES {
            return Err(Error::message("a device's name has 1 to 64 bytes"));
        }
        let number = usize::from(wire.set_point);
        let set_point = SetPoint::ALL.get(number).copied();
        let set_point = set_point.ok_or_else(|| Error::message("an unknown set-point"))?;
        let act = match (wire.value, wire.expires_at_ms) {
            (Some(value), Some(expires_at_ms)) => Act::Set {
                set_point,
                value,
                expires_at: Timestamp::from_unix_ms(expires_at_ms),
            },
            (None, None) => Act::Release { set_point },
            _ => return Err(Error::message("a value without an end, or the reverse")),
        };
        Ok(Command {
            gateway: wire.gateway,
            device: wire.device,
            sequence: wire.sequence,
            issued_at: Timestamp::from_unix_ms(wire.issued_at_ms),
            act,
        })
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The name on the wire and in answers.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }

            /// The one of a name; `None` for an unknown name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                $name::ALL.iter().copied().find(|one| one.name() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

named! {
    /// Why a command was refused.
    Refusal {
        /// Not signed with the operator's key for this community, or not the one valid encoding.
        BadSignature = "bad_signature",
        /// For another gateway.
        WrongGateway = "wrong_gateway",
        /// Its sequence is not above that of a command taken before.
        SeqReplay = "seq_replay",
        /// Issued at a time that has not come yet.
        Future = "future",
        /// Its lease has ended already.
        Expired = "expired",
        /// Its lease is longer than [`LEASE_MAX_S`], or ends before it begins.
        LeaseTooLong = "lease_too_long",
        /// Delivered as a retained message: nobody knows when it was said.
        Retained = "retained",
        /// No device of this name.
        UnknownDevice = "unknown_device",
        /// The gateway's configuration does not allow this set-point of this device.
        NotAllowed = "not_allowed",
        /// The device's profile does not know this set-point.
        NotSupported = "not_supported",
        /// No value within the limits comes near what was asked for.
        OutOfRange = "out_of_range",
        /// There is no lease to release.
        NoLease = "no_lease",
        /// The gateway cannot keep the lease durably now.
        Unavailable = "unavailable",
    }
}

named! {
    /// Which limit has changed a value.
    Limit {
        /// The gateway's configuration: largest charging power.
        MaxCharge = "max_charge_w",
        /// The gateway's configuration: largest discharging power.
        MaxDischarge = "max_discharge_w",
        /// The gateway's configuration: largest current.
        MaxCurrent = "max_current_a",
        /// The gateway's configuration: less than this pauses.
        MinCurrent = "min_current_a",
        /// The device's rating in the gateway's configuration.
        Rating = "rating_w",
        /// The device itself, by its profile or by its registers.
        Device = "device_range",
    }
}

named! {
    /// Why a lease has ended.
    End {
        /// Its time was over.
        Expired = "expired",
        /// A command released it.
        Released = "released",
        /// Another command took its place.
        Replaced = "replaced",
        /// The gateway's configuration does not allow it any more.
        NotAllowed = "not_allowed",
    }
}

named! {
    /// What became of the device's own value at the end of a lease.
    Revert {
        /// Written and read back.
        Confirmed = "confirmed",
        /// Written, but the device shows something else; or the gateway has no such device any more.
        Unconfirmed = "unconfirmed",
        /// Not written yet: the device does not answer, and is tried until it does. Its own fail-safe,
        /// where it has one, acts meanwhile.
        Pending = "pending",
        /// Not needed: another lease took over.
        NotNeeded = "not_needed",
    }
}

/// What the gateway says to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It will be carried out, and is kept durably.
    Accepted {
        /// The value, after local limits; none for a release.
        value: Option<i64>,
        /// The limit that has changed the value.
        clamped_by: Option<Limit>,
    },
    /// It will not be carried out.
    Refused(Refusal),
    /// The device shows the value.
    Confirmed {
        /// What was read back.
        value: i64,
        /// The limit that the device itself told, where that has changed the value.
        clamped_by: Option<Limit>,
    },
    /// The device does not show the value, after as many tries as are allowed.
    NotConfirmed {
        /// What was read back; none where nothing could be written or read.
        value: Option<i64>,
    },
    /// The lease is over.
    Ended {
        /// Why.
        why: End,
        /// What the device has now.
        revert: Revert,
    },
}

/// The gateway's answer to a command. There are several of them in a lease's life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ack {
    /// The gateway.
    pub gateway: GatewayId,
    /// SHA-256 of the signed command.
    pub command: Digest32,
    /// When this was said.
    pub at: Timestamp,
    /// What is said.
    pub outcome: Outcome,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct AckWire {
    #[n(1)]
    version: u8,
    #[n(2)]
    gateway: GatewayId,
    #[n(3)]
    command: Digest32,
    #[n(4)]
    at_ms: i64,
    #[n(5)]
    outcome: String,
    #[n(6)]
    value: Option<i64>,
    #[n(7)]
    reason: Option<String>,
    #[n(8)]
    revert: Option<String>,
}

impl Outcome {
    /// The word on the wire and in answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Accepted { .. } => "accepted",
            Outcome::Refused(_) => "refused",
            Outcome::Confirmed { .. } => "confirmed",
            Outcome::NotConfirmed { .. } => "not_confirmed",
            Outcome::Ended { .. } => "ended",
        }
    }

    /// The value it speaks of.
    #[must_use]
    pub const fn value(self) -> Option<i64> {
        match self {
            Outcome::Confirmed { value, .. } => Some(value),
            Outcome::Accepted { value, .. } | Outcome::NotConfirmed { value } => value,
            Outcome::Refused(_) | Outcome::Ended { .. } => None,
        }
    }

    /// The name of the limit, of the refusal's reason, or of why the lease has ended.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Outcome::Accepted { clamped_by, .. } | Outcome::Confirmed { clamped_by, .. } => {
                clamped_by.map(Limit::name)
            }
            Outcome::Refused(reason) => Some(reason.name()),
            Outcome::Ended { why, .. } => Some(why.name()),
            Outcome::NotConfirmed { .. } => None,
        }
    }

    /// What became of the device's own value.
    #[must_use]
    pub fn revert(self) -> Option<Revert> {
        match self {
            Outcome::Ended { revert, .. } => Some(revert),
            _ => None,
        }
    }

    fn from_parts(
        word: &str,
        value: Option<i64>,
        reason: Option<&str>,
        revert: Option<&str>,
    ) -> Option<Self> {
        Some(match (word, value, reason, revert) {
            ("accepted", value, None, None) => Outcome::Accepted {
                value,
                clamped_by: None,
            },
            ("accepted", Some(value), Some(limit), None) => Outcome::Accepted {
                value: Some(value),
                clamped_by: Some(Limit::from_name(limit)?),
            },
            ("refused", None, Some(reason), None) => Outcome::Refused(Refusal::from_name(reason)?),
            ("confirmed", Some(value), limit, None) => Outcome::Confirmed {
                value,
                clamped_by: match limit {
                    Some(limit) => Some(Limit::from_name(limit)?),
                    None => None,
                },
            },
            ("not_confirmed", value, None, None) => Outcome::NotConfirmed { value },
            ("ended", None, Some(why), Some(revert)) => Outcome::Ended {
                why: End::from_name(why)?,
                revert: Revert::from_name(revert)?,
            },
            _ => return None,
        })
    }
}

impl Message for Ack {
    const KIND: Kind = Kind::Ack;

    fn to_cbor(&self) -> Vec<u8> {
        let outcome = self.outcome;
        encode(&AckWire {
            version: VERSION,
            gateway: self.gateway.clone(),
            command: self.command,
            at_ms: self.at.unix_ms(),
            outcome: outcome.word().to_owned(),
            value: outcome.value(),
            reason: outcome.reason().map(str::to_owned),
            revert: outcome.revert().map(|revert| revert.name().to_owned()),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: AckWire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(Error::message("an answer of an unknown version"));
        }
        let (reason, revert) = (wire.reason.as_deref(), wire.revert.as_deref());
        let outcome = Outcome::from_parts(&wire.outcome, wire.value, reason, revert)
            .ok_or_else(|| Error::message("an outcome that does not exist"))?;
        Ok(Ack {
            gateway: wire.gateway,
            command: wire.command,
            at: Timestamp::from_unix_ms(wire.at_ms),
            outcome,
        })
    }
}
