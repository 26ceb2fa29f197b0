//! A standing order: a wish over many intervals, signed once, that the market turns into orders for one interval
//! each; and taking it back.

use minicbor::{Decode, Encode};

use crate::energy::Energy;
use crate::ids::{OrderId, ParticipantId, PointId, timed_id};
use crate::money::Price;
use crate::signed::{Kind, Message, decode, encode};
use crate::time::Timestamp;

/// A wish over many intervals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// So much energy until then.
    Deadline(Deadline),
    /// Energy bought low and sold later.
    Battery(Battery),
}

impl Standing {
    /// `deadline` or `battery`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Standing::Deadline(_) => "deadline",
            Standing::Battery(_) => "battery",
        }
    }

    /// Until when it stands: an interval that ends later gets no order.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        match self {
            Standing::Deadline(deadline) => deadline.by,
            Standing::Battery(battery) => battery.until,
        }
    }
}

/// So much energy until then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadline {
    /// How much, in all.
    pub energy: Energy,
    /// Until when it has to be there; an interval that ends later does not count. Signed in whole seconds.
    pub by: Timestamp,
    /// Most power.
    pub power_max_w: u32,
    /// Most it pays a neighbour per kWh.
    pub limit: Price,
    /// Whether it is more important to have the energy by then than to pay no more than the limit.
    pub must: bool,
}

/// A battery that trades.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Battery {
    /// Least energy to be kept in it.
    pub least: Energy,
    /// Most energy that it holds.
    pub most: Energy,
    /// Most power into it, at the meter.
    pub charge_max_w: u32,
    /// Most power out of it, at the meter.
    pub discharge_max_w: u32,
    /// What is lost from the meter and back, in basis points; all of it is counted on the way in.
    pub loss_basis_points: u32,
    /// Least gain per kWh sold, over what the energy cost with its losses: wear, say.
    pub margin: Price,
    /// Until when it trades; an interval that ends later does not count. Signed in whole seconds.
    pub until: Timestamp,
}

/// A standing order of a participant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StandingOrder {
    /// Whose it is; the signature must be with this participant's key.
    pub participant: ParticipantId,
    /// Through which metering point the energy flows: its orders' point.
    pub point: PointId,
    /// The participant's own number for it, in a row of its own beside that of orders; each is used once.
    pub sequence: u64,
    /// The sequence of the participant's own standing order that this one takes the place of. What was reached
    /// under that one counts for this one; of a battery what it has ordered for intervals that have not ended.
    pub replaces: Option<u64>,
    /// What is wished.
    pub wish: Standing,
    /// What is there already when it is signed: in the battery, or of the deadline's energy.
    pub begins_with: Energy,
    /// Of a battery: the energy in it when it says that it is full. Where none is said, its own word on how full
    /// it is does not count.
    pub capacity: Option<Energy>,
    /// Of a deadline: the meter behind the point that counts what has come. Where none is named, what was
    /// bought counts.
    pub counted_at: Option<PointId>,
}

impl StandingOrder {
    /// Its name: the same for the same participant and sequence, ordered by its end.
    #[must_use]
    pub fn id(&self) -> OrderId {
        let sequence = self.sequence.to_be_bytes();
        let parts: [&[u8]; 2] = [self.participant.as_str().as_bytes(), &sequence];
        let until = Timestamp::from_unix_s(self.wish.until().unix_s());
        OrderId(timed_id(until, STANDING_TAG, "standing-order", &parts))
    }
}

/// The tag of standing orders' ids in [`timed_id`].
const STANDING_TAG: u16 = 8;

/// Takes a standing order back, with what it has ordered where gates are still open. Said twice, it means the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StandingCancel {
    /// Whose it is; the signature must be with this participant's key.
    pub participant: ParticipantId,
    /// The standing order's sequence.
    pub sequence: u64,
}

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
    replaces: Option<u64>,
    #[n(6)]
    begins_with: Energy,
    #[n(7)]
    until_s: i64,
    #[n(8)]
    deadline: Option<DeadlineWire>,
    #[n(9)]
    battery: Option<BatteryWire>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct DeadlineWire {
    #[n(1)]
    energy: Energy,
    #[n(2)]
    power_max_w: u32,
    #[n(3)]
    limit: Price,
    #[n(4)]
    must: bool,
    #[n(5)]
    counted_at: Option<PointId>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct BatteryWire {
    #[n(1)]
    least: Energy,
    #[n(2)]
    most: Energy,
    #[n(3)]
    charge_max_w: u32,
    #[n(4)]
    discharge_max_w: u32,
    #[n(5)]
    loss_basis_points: u32,
    #[n(6)]
    margin: Price,
    #[n(7)]
    capacity: Option<Energy>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct CancelWire {
    #[n(1)]
    version: u8,
    #[n(2)]
    participant: ParticipantId,
    #[n(4)]
    sequence: u64,
}

const VERSION: u8 = 1;

/// All of a battery's loss.
const WHOLE_BASIS_POINTS: u32 = 10_000;

impl Wire {
    fn deadline(&mut self, deadline: &Deadline, counted_at: Option<PointId>) {
        self.deadline = Some(DeadlineWire {
            energy: deadline.energy,
            power_max_w: deadline.power_max_w,
            limit: deadline.limit,
            must: deadline.must,
            counted_at,
        });
    }

    fn battery(&mut self, battery: &Battery, capacity: Option<Energy>) {
        self.battery = Some(BatteryWire {
            least: battery.least,
            most: battery.most,
            charge_max_w: battery.charge_max_w,
            discharge_max_w: battery.discharge_max_w,
            loss_basis_points: battery.loss_basis_points,
            margin: battery.margin,
            capacity,
        });
    }
}

impl DeadlineWire {
    fn read(&self, by: Timestamp) -> Result<Standing, minicbor::decode::Error> {
        if !self.energy.is_positive() || self.power_max_w == 0 {
            let why = "a deadline's energy and power are above zero";
            return Err(minicbor::decode::Error::message(why));
        }
        Ok(Standing::Deadline(Deadline {
            energy: self.energy,
            by,
            power_max_w: self.power_max_w,
            limit: self.limit,
            must: self.must,
        }))
    }
}

impl BatteryWire {
    fn read(&self, until: Timestamp) -> Result<Standing, minicbor::decode::Error> {
        let wrong = minicbor::decode::Error::message;
        if self.least < Energy::ZERO || self.most <= self.least {
            return Err(wrong("a battery holds more at most than at least"));
        }
        if self.capacity.is_some_and(|capacity| capacity < self.most) {
            return Err(wrong("a battery is full above what it holds at most"));
        }
        if self.loss_basis_points >= WHOLE_BASIS_POINTS || self.margin < Price::ZERO {
            let why = "a battery's loss is below the whole, and its margin not below zero";
            return Err(wrong(why));
        }
        Ok(Standing::Battery(Battery {
            least: self.least,
            most: self.most,
            charge_max_w: self.charge_max_w,
            discharge_max_w: self.discharge_max_w,
            loss_basis_points: self.loss_basis_points,
            margin: self.margin,
            until,
        }))
    }
}

impl Message for StandingOrder {
    const KIND: Kind = Kind::StandingOrder;

    fn to_cbor(&self) -> Vec<u8> {
        let mut wire = Wire {
            version: VERSION,
            participant: self.participant.clone(),
            point: self.point.clone(),
            sequence: self.sequence,
            replaces: self.replaces,
            begins_with: self.begins_with,
            until_s: self.wish.until().unix_s(),
            deadline: None,
            battery: None,
        };
        match &self.wish {
            Standing::Deadline(deadline) => wire.deadline(deadline, self.counted_at.clone()),
            Standing::Battery(battery) => wire.battery(battery, self.capacity),
        }
        encode(&wire)
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: Wire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(Error::message("a standing order of an unknown version"));
        }
        if wire.replaces == Some(wire.sequence) {
            let why = "a standing order cannot take its own place";
            return Err(Error::message(why));
        }
        if wire.begins_with < Energy::ZERO {
            return Err(Error::message("nothing begins with less than no energy"));
        }
        let until_ms = wire.until_s.checked_mul(1000);
        let until_ms = until_ms.ok_or_else(|| Error::message("a time out of range"))?;
        let until = Timestamp::from_unix_ms(until_ms);
        let (wish, capacity, counted_at) = match (wire.deadline, wire.battery) {
            (Some(deadline), None) => (deadline.read(until)?, None, deadline.counted_at),
            (None, Some(battery)) => (battery.read(until)?, battery.capacity, None),
            _ => {
                return Err(Error::message(
                    "a standing order is a deadline or a battery",
                ));
            }
        };
        Ok(StandingOrder {
            participant: wire.participant,
            point: wire.point,
            sequence: wire.sequence,
            replaces: wire.replaces,
            wish,
            begins_with: wire.begins_with,
            capacity,
            counted_at,
        })
    }
}

impl Message for StandingCancel {
    const KIND: Kind = Kind::StandingCancel;

    fn to_cbor(&self) -> Vec<u8> {
        encode(&CancelWire {
            version: VERSION,
            participant: self.participant.clone(),
            sequence: self.sequence,
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let wire: CancelWire = decode(bytes)?;
        if wire.version != VERSION {
            let why = "a standing order's cancel of an unknown version";
            return Err(minicbor::decode::Error::message(why));
        }
        Ok(StandingCancel {
            participant: wire.participant,
            sequence: wire.sequence,
        })
    }
}
