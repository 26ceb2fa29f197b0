//! An order: a participant's wish to buy or sell energy in one interval, up to a limit price.

use minicbor::{Decode, Encode};

use crate::energy::Energy;
use crate::ids::{OrderId, ParticipantId, PointId, timed_id};
use crate::money::Price;
use crate::signed::{Kind, Message, decode, encode};
use crate::time::Interval;

/// An order is for an interval that starts within this time at most, in seconds: so long the gates are open.
pub const AHEAD_MAX_S: u32 = 86_400;

/// The side of an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// Wants to buy.
    Bid,
    /// Wants to sell.
    Offer,
}

impl Side {
    /// `bid` or `offer`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Side::Bid => "bid",
            Side::Offer => "offer",
        }
    }

    /// The other side.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Side::Bid => Side::Offer,
            Side::Offer => Side::Bid,
        }
    }

    /// The number that is signed and stored.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Side::Bid => 0,
            Side::Offer => 1,
        }
    }

    /// The side of a number; `None` for an unknown one.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Side::Bid),
            1 => Some(Side::Offer),
            _ => None,
        }
    }
}

/// Most partners that an order names.
pub const PARTNERS_MAX: usize = 8;

/// What an order wishes beyond price. It decides with whom served energy is traded, not who is served; only a green
/// premium can bring more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Preference {
    /// Participants to trade with if possible, most wanted first, [`PARTNERS_MAX`] at most.
    pub partners: Vec<ParticipantId>,
    /// Of a bid: offers of its own feeder come first.
    pub same_feeder: bool,
    /// Of an offer: its energy is green, by the seller's own word.
    pub green: bool,
    /// Of a bid: what it pays at most on top of its limit for green energy; not below zero.
    pub green_premium: Price,
}

impl Preference {
    /// Whether the order only wants the best price.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Preference::default()
    }

    /// Whether it may trade at another price than the one of its interval: for green energy.
    #[must_use]
    pub fn is_about_green(&self) -> bool {
        self.green || self.green_premium > Price::ZERO
    }
}

/// A bid or an offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Who buys or sells; the signature must be with this participant's key.
    pub participant: ParticipantId,
    /// Through which metering point the energy will flow.
    pub point: PointId,
    /// Buy or sell.
    pub side: Side,
    /// When the energy flows.
    pub interval: Interval,
    /// How much, at most; above zero.
    pub energy: Energy,
    /// A bid pays at most this per kWh, an offer receives at least this.
    pub limit: Price,
    /// The participant's own number; each is used once.
    pub sequence: u64,
    /// The sequence of the participant's own order in this interval that this one takes the place of.
    pub replaces: Option<u64>,
    /// What it wishes beyond price.
    pub preference: Preference,
}

impl Order {
    /// The most that a bid pays per kWh, fees aside: its limit, with its premium for green energy.
    #[must_use]
    pub fn most(&self) -> Option<Price> {
        self.limit.checked_add(self.preference.green_premium)
    }

    /// The order's name: the same for the same participant and sequence, ordered by interval.
    #[must_use]
    pub fn id(&self) -> OrderId {
        id_of(&self.participant, self.sequence, self.interval)
    }

    /// The order that this one takes the place of.
    #[must_use]
    pub fn replaced(&self) -> Option<OrderId> {
        self.replaces
            .map(|sequence| id_of(&self.participant, sequence, self.interval))
    }
}

/// The name of a participant's order in an interval.
pub(crate) fn id_of(participant: &ParticipantId, sequence: u64, interval: Interval) -> OrderId {
    let parts: [&[u8]; 2] = [participant.as_str().as_bytes(), &sequence.to_be_bytes()];
    OrderId(timed_id(interval.start(), ORDER_TAG, "order", &parts))
}

/// The tag of order ids in [`timed_id`].
const ORDER_TAG: u16 = 1;

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire {
    #[n(1)]
    version: u8,
    #[n(2)]
    participant: ParticipantId,
    #[n(3)]
    point: PointId,
    #[n(4)]
    sequence: u64,
    #[n(5)]
    interval_start_s: i64,
    #[n(6)]
    interval_length_s: u32,
    #[n(7)]
    side: u8,
    #[n(8)]
    energy: Energy,
    #[n(9)]
    limit: Price,
    #[n(10)]
    replaces: Option<u64>,
    #[n(11)]
    partners: Option<Vec<ParticipantId>>,
    #[n(12)]
    same_feeder: Option<bool>,
    #[n(13)]
    green: Option<bool>,
    #[n(14)]
    green_premium: Option<Price>,
}

impl Wire {
    /// What it wishes, if that is said as it must be: nothing that is not wished is named, and nothing of the other
    /// side.
    fn preference(&self, side: Side) -> Result<Preference, minicbor::decode::Error> {
        let partners = self.partners.clone();
        let listed = |list: &Vec<ParticipantId>| {
            (1..=PARTNERS_MAX).contains(&list.len()) && !list.contains(&self.participant)
        };
        let of_side = match side {
            Side::Bid => self.green.is_none(),
            Side::Offer => self.green_premium.is_none() && self.same_feeder.is_none(),
        };
        let said = [self.same_feeder, self.green];
        let is_said = !said.contains(&Some(false))
            && partners.as_ref().is_none_or(listed)
            && self.green_premium.is_none_or(|p| p > Price::ZERO);
        if !of_side || !is_said {
            let why = "an order's preference is not as it is said";
            return Err(minicbor::decode::Error::message(why));
        }
        Ok(Preference {
            partners: partners.unwrap_or_default(),
            same_feeder: self.same_feeder == Some(true),
            green: self.green == Some(true),
            green_premium: self.green_premium.unwrap_or(Price::ZERO),
        })
    }
}

const VERSION: u8 = 1;

impl Message for Order {
    const KIND: Kind = Kind::Order;

    fn to_cbor(&self) -> Vec<u8> {
        let preference = &self.preference;
        encode(&Wire {
            version: VERSION,
            participant: self.participant.clone(),
            point: self.point.clone(),
            sequence: self.sequence,
            interval_start_s: self.interval.start_s(),
            interval_length_s: self.interval.length_s(),
            side: self.side.code(),
            energy: self.energy,
            limit: self.limit,
            replaces: self.replaces,
            partners: Some(preference.partners.clone()).filter(|list| !list.is_empty()),
            same_feeder: Some(true).filter(|_| preference.same_feeder),
            green: Some(true).filter(|_| preference.green),
            green_premium: Some(preference.green_premium).filter(|p| *p != Price::ZERO),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: Wire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(Error::message("an order of an unknown version"));
        }
        if !wire.energy.is_positive() {
            return Err(Error::message("an order's energy is above zero"));
        }
        if wire.replaces == Some(wire.sequence) {
            return Err(Error::message("an order cannot take its own place"));
        }
        let side = Side::from_code(wire.side).ok_or_else(|| Error::message("unknown side"))?;
        let preference = wire.preference(side)?;
        Ok(Order {
            participant: wire.participant,
            point: wire.point,
            side,
            interval: Interval::new(wire.interval_start_s, wire.interval_length_s)
                .map_err(Error::message)?,
            energy: wire.energy,
            limit: wire.limit,
            sequence: wire.sequence,
            replaces: wire.replaces,
            preference,
        })
    }
}
