//! SunSpec: finding the chain of models in a device's registers. Lengths are taken from the device
//! (some announce others than the standard says), unknown models are skipped. What is in the models
//! is in [`table`].

pub mod table;

use super::Read;
use super::modbus::{Line, ModbusError};
use crate::profile::{ModbusRules, Point, Source, SunspecPlace};

/// Where the chain may begin.
pub const BASES: [u16; 3] = [40000, 50000, 0];
/// `SunS`.
pub const MARKER: [u16; 2] = [0x5375, 0x6e53];
/// Most models in a chain; a longer one is taken for a device that answers nonsense.
pub const MODELS_MAX: usize = 64;
/// The common model with the identification.
const COMMON: u16 = 1;
const END: u16 = 0xffff;

/// A model in a device's chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Model {
    /// Its number.
    pub id: u16,
    /// Address of its ID register.
    pub address: u16,
    /// Length behind ID and length register, as announced.
    pub length: u16,
}

/// The exponent in a scale factor register; `None` for "not available" and beyond ±10.
#[must_use]
pub fn scale_factor(word: u16) -> Option<i32> {
    let exponent = i16::from_be_bytes(word.to_be_bytes());
    (-10..=10)
        .contains(&exponent)
        .then_some(i32::from(exponent))
}

/// A step of the walk: what to do after a model's header was seen.
enum Next {
    Model(Model, u16),
    End,
}

fn step(address: u16, header: &[u16]) -> Option<Next> {
    let &[id, length] = header else { return None };
    if id == END {
        return Some(Next::End);
    }
    let after = address.checked_add(2)?.checked_add(length)?;
    Some(Next::Model(
        Model {
            id,
            address,
            length,
        },
        after,
    ))
}

/// Walks the chain in registers that are at hand; `None` where there is none.
pub fn walk<'a>(get: impl Fn(u16, u16) -> Option<&'a [u16]>) -> Option<Vec<Model>> {
    let base = BASES
        .into_iter()
        .find(|base| get(*base, 2) == Some(&MARKER[..]))?;
    let mut models = Vec::new();
    let mut address = base + 2;
    while models.len() < MODELS_MAX {
        match step(address, get(address, 2)?)? {
            Next::End => return Some(models),
            Next::Model(model, after) => {
                models.push(model);
                address = after;
            }
        }
    }
    None
}

/// Walks the chain of a device on `line`.
///
/// # Errors
/// The line fails, or the device has no chain at any of [`BASES`].
pub async fn discover(
    line: &mut Line,
    unit: u8,
    rules: &ModbusRules,
) -> Result<Vec<Model>, ModbusError> {
    for base in BASES {
        match line.read(unit, 3, base, 2, rules).await {
            Ok(words) if words == MARKER => return follow(line, unit, rules, base + 2).await,
            // A device may answer any exception for addresses that it does not have.
            Ok(_) | Err(ModbusError::Exception(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(ModbusError::NoSunspec)
}

async fn follow(
    line: &mut Line,
    unit: u8,
    rules: &ModbusRules,
    mut address: u16,
) -> Result<Vec<Model>, ModbusError> {
    let mut models = Vec::new();
    while models.len() < MODELS_MAX {
        let header = line.read(unit, 3, address, 2, rules).await?;
        match step(address, &header).ok_or(ModbusError::NoSunspec)? {
            Next::End => return Ok(models),
            Next::Model(model, after) => {
                models.push(model);
                address = after;
            }
        }
    }
    Err(ModbusError::NoSunspec)
}

/// Where `point` is on a device whose values are in `models[main]`; `None` where the device does not
/// have its model, or that is too short for it. The common model is the nearest in front: a meter
/// behind an inverter has its own.
pub(super) fn locate(point: &Point, models: &[Model], main: usize) -> Option<Read> {
    let Source::Sunspec {
        model,
        group,
        place,
    } = &point.source
    else {
        return None;
    };
    let holder = match model {
        None => models.get(main)?,
        Some(COMMON) => models.get(..main)?.iter().rev().find(|m| m.id == COMMON)?,
        Some(id) => models.iter().find(|m| m.id == *id)?,
    };
    let (encoding, offset, scale_offset) = match place {
        SunspecPlace::Offset {
            offset,
            scale_offset,
        } => (point.encoding.clone(), *offset, *scale_offset),
        SunspecPlace::Names(names) => {
            let table = table::table(holder.id)?;
            let find = |name: &String| table.find(*group, name);
            let (found, offset) = names.iter().find_map(find)?;
            (found.encoding(), offset, table.scale_offset(found))
        }
    };
    let size = holder.length.checked_add(2)?;
    let last = offset.checked_add(encoding.word_type.words())?;
    if last > size || scale_offset.is_some_and(|scale| scale >= size) {
        return None;
    }
    Some(Read {
        point: point.clone(),
        encoding,
        unit: None,
        function: 3,
        address: holder.address.checked_add(offset)?,
        scale_address: match scale_offset {
            Some(scale) => Some(holder.address.checked_add(scale)?),
            None => None,
        },
        negative: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(words: &[u16], base: u16) -> Option<Vec<Model>> {
        walk(|address, count| {
            let start = usize::from(address.checked_sub(base)?);
            words.get(start..start + usize::from(count))
        })
    }

    #[test]
    fn the_chain_is_walked_by_announced_lengths() {
        let chain = [
            MARKER[0], MARKER[1], 1, 1, 9, 64001, 0, 103, 2, 9, 9, END, 0,
        ];
        for base in BASES {
            let found = models(&chain, base).unwrap();
            let seen: Vec<_> = found
                .iter()
                .map(|m| (m.id, m.address - base, m.length))
                .collect();
            assert_eq!(seen, [(1, 2, 1), (64001, 5, 0), (103, 7, 2)]);
        }
        assert_eq!(models(&chain, 30000), None);
        assert_eq!(models(&chain[..9], 0), None, "the chain breaks off");
        let endless = [&MARKER[..], &[7, 0].repeat(MODELS_MAX + 1)[..]].concat();
        assert_eq!(models(&endless, 0), None);
    }

    #[test]
    fn scale_factors_have_a_range() {
        assert_eq!(scale_factor(0xfffe), Some(-2));
        assert_eq!([scale_factor(0x8000), scale_factor(11)], [None; 2]);
    }
}
