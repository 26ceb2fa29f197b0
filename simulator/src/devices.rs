//! The devices of the street. Each file turns a state into what the real device would show: register
//! images for Modbus, JSON for MQTT. What a device can be told, it says here too; the meters are read-only.

mod electric;
mod keba;
mod sdm630;
pub(crate) mod server;
pub(crate) mod shelly;
mod sunspec;

use tokio_modbus::ExceptionCode;

use crate::journal::{Asset, Told};
use crate::world::World;

/// Most registers in one Modbus answer.
const READ_WORDS_MAX: u16 = 125;

/// Which of the two register tables of Modbus a request means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Table {
    /// Function code 3.
    Holding,
    /// Function code 4.
    Input,
}

/// A Modbus device and where in the world its values come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ModbusDevice {
    /// SunSpec inverter of a home.
    Inverter(usize),
    /// SunSpec meter of a home.
    HomeMeter(usize),
    /// SunSpec meter at the transformer.
    FeederMeter,
    /// SDM630 meter of a home.
    Sdm630(usize),
    /// SunSpec battery of a home.
    Battery(usize),
    /// KEBA charger of a home.
    Keba(usize),
}

impl ModbusDevice {
    /// The unit id the device answers to.
    pub(crate) const fn unit(self) -> u8 {
        match self {
            ModbusDevice::Keba(_) => keba::UNIT,
            _ => 1,
        }
    }

    /// Answers a read request from the present state.
    pub(crate) fn read(
        self,
        world: &World,
        table: Table,
        address: u16,
        count: u16,
    ) -> Result<Vec<u16>, ExceptionCode> {
        if count == 0 || count > READ_WORDS_MAX {
            return Err(ExceptionCode::IllegalDataValue);
        }
        match (self, table) {
            (ModbusDevice::Sdm630(home), Table::Input) => {
                sdm630::read(&world.home(home).meter, address, count)
            }
            (ModbusDevice::Keba(home), Table::Holding) => {
                let charger = world.home(home).charger.as_ref();
                let charger = charger.ok_or(ExceptionCode::ServerDeviceFailure)?;
                let setting = &world.home(home).settings.charger;
                keba::read((charger, setting, world.now().unix_s()), address, count)
            }
            (ModbusDevice::Sdm630(_), Table::Holding) | (_, Table::Input) => {
                Err(ExceptionCode::IllegalFunction)
            }
            (_, Table::Holding) => {
                let words = self
                    .sunspec_words(world)
                    .ok_or(ExceptionCode::ServerDeviceFailure)?;
                slice(sunspec::BASE, &words, address, count)
            }
        }
    }

    /// What the writes of a request mean to the world; a device that takes none knows no such function.
    pub(crate) fn told(
        self,
        now_s: i64,
        address: u16,
        words: &[u16],
    ) -> Result<Vec<Told>, ExceptionCode> {
        let (home, asset, first) = match self {
            ModbusDevice::Keba(_) if words.len() != 1 => {
                return Err(ExceptionCode::IllegalFunction);
            }
            ModbusDevice::Keba(home) => (home, Asset::Charger, 0),
            ModbusDevice::Inverter(home) => (home, Asset::Inverter, sunspec::LIMIT_AT),
            ModbusDevice::Battery(home) => (home, Asset::Battery, sunspec::RATES_AT),
            ModbusDevice::HomeMeter(_) | ModbusDevice::FeederMeter | ModbusDevice::Sdm630(_) => {
                return Err(ExceptionCode::IllegalFunction);
            }
        };
        let offset = address.checked_sub(first);
        let offset = offset.ok_or(ExceptionCode::IllegalDataAddress)?;
        let one = |(register, word): (u16, &u16)| Told {
            at_s: now_s,
            home,
            asset,
            register,
            word: *word,
        };
        Ok((offset..=u16::MAX).zip(words).map(one).collect())
    }

    fn sunspec_words(self, world: &World) -> Option<Vec<u16>> {
        match self {
            ModbusDevice::Inverter(index) => {
                let home = world.home(index);
                let limit = (&home.settings.inverter, world.now().unix_s());
                home.pv
                    .as_ref()
                    .map(|pv| sunspec::inverter_words(home.id.as_str(), pv, limit))
            }
            ModbusDevice::HomeMeter(index) => {
                let home = world.home(index);
                Some(sunspec::meter_words(
                    home.id.as_str(),
                    &home.meter,
                    sunspec::HOME_W_SF,
                ))
            }
            ModbusDevice::FeederMeter => {
                let meter = world.feeder().meter;
                Some(sunspec::meter_words("feeder", &meter, sunspec::FEEDER_W_SF))
            }
            ModbusDevice::Battery(index) => {
                let home = world.home(index);
                let rates = (&home.settings.battery, world.now().unix_s());
                home.battery
                    .as_ref()
                    .map(|b| sunspec::battery_words(home.id.as_str(), b, rates))
            }
            ModbusDevice::Sdm630(_) | ModbusDevice::Keba(_) => None,
        }
    }
}

/// The part of an image that begins at `base` which a request asks for; reading past either end is
/// answered like a real device does.
fn slice(base: u16, words: &[u16], address: u16, count: u16) -> Result<Vec<u16>, ExceptionCode> {
    let start = address
        .checked_sub(base)
        .ok_or(ExceptionCode::IllegalDataAddress)?;
    let start = usize::from(start);
    let part = words.get(start..start + usize::from(count));
    part.map(<[u16]>::to_vec)
        .ok_or(ExceptionCode::IllegalDataAddress)
}

/// Splits 32 bits into two registers, most significant first.
const fn split_u32(value: u32) -> [u16; 2] {
    let [a, b, c, d] = value.to_be_bytes();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}
