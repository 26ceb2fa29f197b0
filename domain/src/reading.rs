//! A reading: what one meter counted in one interval, with everything needed to doubt it.

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

use crate::energy::Energy;
use crate::ids::{DeviceId, Digest32, PointId};
use crate::quality::Quality;
use crate::signed::{Kind, Message, decode, encode};
use crate::time::{Interval, Timestamp};

/// Most registers in one reading.
pub const REGISTERS_MAX: usize = 16;

/// Which quantity a register counts, as the OBIS code C.D.E in the low three bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct Obis(#[n(0)] pub u32);

impl Obis {
    /// 1.8.0: active energy imported through the point.
    pub const IMPORT: Obis = Obis(0x01_08_00);
    /// 2.8.0: active energy exported through the point.
    pub const EXPORT: Obis = Obis(0x02_08_00);
}

/// The DLMS unit code of the watt-hour, the only unit in use.
pub const UNIT_WH: u8 = 30;

/// A cumulative register at both ends of the interval, in watt-hours.
///
/// `end` of one reading is `start` of the next in the same era: anyone can check that nothing was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    /// Which quantity.
    pub obis: Obis,
    /// Register at the start of the interval.
    pub start: Energy,
    /// Register at the end of the interval.
    pub end: Energy,
}

/// A register travels as `[obis, start, end, exponent of ten, unit]`; exponent 0 and unit Wh for now.
impl<C> Encode<C> for Register {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(5)?;
        self.obis.encode(e, ctx)?;
        e.i64(self.start.wh())?
            .i64(self.end.wh())?
            .i8(0)?
            .u8(UNIT_WH)?
            .ok()
    }
}

impl<'b, C> Decode<'b, C> for Register {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let wrong = |text| Err(minicbor::decode::Error::message(text));
        if d.array()? != Some(5) {
            return wrong("a register is [obis, start, end, exponent, unit]");
        }
        let obis = Obis(d.u32()?);
        let (start, end) = (Energy::from_wh(d.i64()?), Energy::from_wh(d.i64()?));
        if d.i8()? != 0 || d.u8()? != UNIT_WH {
            return wrong("a register counts watt-hours: exponent 0, unit 30");
        }
        Ok(Register { obis, start, end })
    }
}

/// How the gateway's clock stood when it signed. The words are those of OCMF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockState {
    /// Nothing is known about the clock.
    Unknown,
    /// Set from a source that nobody vouches for.
    Informative,
    /// Synchronised with a checked source.
    Synchronised,
    /// Running relative to an earlier synchronisation.
    Relative,
}

impl ClockState {
    const ALL: [ClockState; 4] = [
        ClockState::Unknown,
        ClockState::Informative,
        ClockState::Synchronised,
        ClockState::Relative,
    ];

    /// The number that is signed.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            ClockState::Unknown => 0,
            ClockState::Informative => 1,
            ClockState::Synchronised => 2,
            ClockState::Relative => 3,
        }
    }

    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            ClockState::Unknown => "unknown",
            ClockState::Informative => "informative",
            ClockState::Synchronised => "synchronised",
            ClockState::Relative => "relative",
        }
    }
}

/// When the reading was signed, by which clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockStamp {
    /// The gateway's time at signing.
    pub signed_at: Timestamp,
    /// How far that time can be trusted.
    pub state: ClockState,
    /// Largest expected error of that time in milliseconds.
    pub error_ms: u32,
}

impl<C> Encode<C> for ClockStamp {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let ms = self.signed_at.unix_ms();
        e.array(3)?
            .i64(ms)?
            .u8(self.state.code())?
            .u32(self.error_ms)?
            .ok()
    }
}

impl<'b, C> Decode<'b, C> for ClockStamp {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.array()? != Some(3) {
            return Err(minicbor::decode::Error::message(
                "a clock is [signed at, state, error]",
            ));
        }
        let signed_at = Timestamp::from_unix_ms(d.i64()?);
        let code = d.u8()?;
        let state = ClockState::ALL.into_iter().find(|s| s.code() == code);
        let state = state.ok_or_else(|| minicbor::decode::Error::message("unknown clock state"))?;
        Ok(ClockStamp {
            signed_at,
            state,
            error_ms: d.u32()?,
        })
    }
}

/// Where the numbers come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MeasurementClass {
    /// Power integrated over time by the gateway: there was no counter.
    IntegratedPower,
    /// The meter's own counter.
    MeterCounter,
}

impl MeasurementClass {
    /// The number that is signed.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            MeasurementClass::IntegratedPower => 0,
            MeasurementClass::MeterCounter => 1,
        }
    }
}

/// One metering point's signed claim about one interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The device that counted.
    pub device: DeviceId,
    /// The point it counts for; sequence and chain are per point.
    pub point: PointId,
    /// One more than the point's reading before; a gap is missing evidence.
    pub sequence: u64,
    /// When.
    pub interval: Interval,
    /// The registers at both ends.
    pub registers: Vec<Register>,
    /// One more at each reset or exchange of the meter; differences are taken inside an era only.
    pub era: u32,
    /// How the value came to be.
    pub quality: Quality,
    /// When it was signed, and how good that time is.
    pub clock: ClockStamp,
    /// First 8 bytes of a digest over maker, model, serial and firmware: shows an exchange of the meter.
    pub meter_hash: [u8; 8],
    /// Counter or integrated power.
    pub class: MeasurementClass,
    /// SHA-256 of the point's signed reading before; all zero for the first.
    pub previous: Digest32,
    /// First 8 bytes of a digest over the decoding rules that made these numbers.
    pub profile: [u8; 8],
}

impl Reading {
    /// Energy that passed in the interval by `obis`; `None` where the register is missing or falls.
    #[must_use]
    pub fn energy(&self, obis: Obis) -> Option<Energy> {
        let register = self.registers.iter().find(|r| r.obis == obis)?;
        register
            .end
            .checked_sub(register.start)
            .filter(|e| e.wh() >= 0)
    }
}

/// The claim table: integer keys, ascending. Key 13 (digest of a meter's own signed original) is free.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire {
    #[n(1)]
    version: u8,
    #[n(2)]
    device: DeviceId,
    #[n(3)]
    point: ByteVec,
    #[n(4)]
    sequence: u64,
    #[n(5)]
    interval_start_s: i64,
    #[n(6)]
    interval_length_s: u32,
    #[n(7)]
    registers: Vec<Register>,
    #[n(8)]
    era: u32,
    #[n(9)]
    quality: Quality,
    #[n(10)]
    clock: ClockStamp,
    #[n(11)]
    meter_hash: ByteArray<8>,
    #[n(12)]
    class: u8,
    #[n(14)]
    previous: Digest32,
    #[n(15)]
    profile: ByteArray<8>,
}

/// The version of the claim table.
const VERSION: u8 = 1;

impl Message for Reading {
    const KIND: Kind = Kind::Reading;

    fn to_cbor(&self) -> Vec<u8> {
        encode(&Wire {
            version: VERSION,
            device: self.device,
            point: self.point.as_str().as_bytes().to_vec().into(),
            sequence: self.sequence,
            interval_start_s: self.interval.start_s(),
            interval_length_s: self.interval.length_s(),
            registers: self.registers.clone(),
            era: self.era,
            quality: self.quality,
            clock: self.clock,
            meter_hash: self.meter_hash.into(),
            class: self.class.code(),
            previous: self.previous,
            profile: self.profile.into(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let wire: Wire = decode(bytes)?;
        if wire.version != VERSION {
            return Err(Error::message("a reading of an unknown version"));
        }
        if wire.registers.is_empty() || wire.registers.len() > REGISTERS_MAX {
            return Err(Error::message("a reading has 1 to 16 registers"));
        }
        if wire.quality == Quality::default() {
            return Err(Error::message("a reading says how its values came to be"));
        }
        if !wire.registers.is_sorted_by(|a, b| a.obis < b.obis) {
            return Err(Error::message("registers ascend by OBIS code, each once"));
        }
        let point = String::from_utf8(wire.point.to_vec())
            .map_err(|_| Error::message("a metering point is text"))?;
        Ok(Reading {
            device: wire.device,
            point: PointId::new(point).map_err(Error::message)?,
            sequence: wire.sequence,
            interval: Interval::new(wire.interval_start_s, wire.interval_length_s)
                .map_err(Error::message)?,
            registers: wire.registers,
            era: wire.era,
            quality: wire.quality,
            clock: wire.clock,
            meter_hash: wire.meter_hash.into(),
            class: match wire.class {
                0 => MeasurementClass::IntegratedPower,
                1 => MeasurementClass::MeterCounter,
                _ => return Err(Error::message("unknown measurement class")),
            },
            previous: wire.previous,
            profile: wire.profile.into(),
        })
    }
}
