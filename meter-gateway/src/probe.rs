//! Finding out what is behind an address: which units answer, which SunSpec models they have, which
//! profiles fit, and what the registers say. It only reads.
//!
//! A profile fits where all its requests are answered, no value is impossible, and enough values prove
//! something: a mains voltage, a mains frequency, a counter that has counted, a known state. A device
//! that answers every address with zeros fits nothing.

mod fit;
mod show;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::bus::fetch;
use crate::device::address::Address;
use crate::device::modbus::{Line, ModbusError};
use crate::device::sunspec::{self, Model, table};
use crate::device::{Block, Identity, Plan, Registers};
use crate::profile::{BUILT_IN, Kind, Link, ModbusRules, Profile, Transport, WORDS_PER_READ_MAX};

pub use fit::{Score, ShownPoint};

/// Units that are asked where none is named, besides those that profiles name.
const UNITS_COMMON: [u8; 4] = [1, 2, 3, 0];
/// Devices that a unit may be, the likeliest first.
pub const DEVICES_MAX: usize = 4;
/// Values that prove something, of which a device needs at least so many.
const PROOFS_MIN: usize = 2;
/// Pause between two requests where no profile names one.
const GAP_MS: u64 = 10;

/// What to look for, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where.
    pub address: Address,
    /// The units to ask; none for all that profiles know.
    pub units: Vec<u8>,
    /// How long a unit may take to answer.
    pub timeout: Duration,
}

/// What one unit is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The unit.
    pub unit: u8,
    /// Its SunSpec models; empty where it has no chain.
    pub models: Vec<FoundModel>,
    /// Profiles that fit, the best first.
    pub fits: Vec<Fit>,
    /// An earlier unit that answers alike: many devices do not look at the unit.
    pub same_as: Option<u8>,
}

/// A SunSpec model with what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundModel {
    /// The model.
    pub model: Model,
    /// Its name in the standard, where it is known.
    pub name: Option<&'static str>,
    /// Its points; empty where the model is not known.
    pub points: Vec<table::Shown>,
}

/// A profile that fits, and what it makes of the registers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fit {
    /// The profile as `gateway.toml` names it.
    pub profile: String,
    /// What the device is then.
    pub kind: Kind,
    /// How well it fits.
    pub score: Score,
    /// Its identification.
    pub identity: Identity,
    /// Its values.
    pub points: Vec<ShownPoint>,
}

/// Why nothing was looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody listens there.
    #[error("{0}")]
    Line(#[from] ModbusError),
}

/// The profiles that come with the gateway and are spoken to over Modbus, each part by itself.
///
/// A profile that cannot be read is left out; a test makes sure that there is none.
fn modbus_profiles() -> Vec<Profile> {
    let parts = BUILT_IN.iter().flat_map(|(name, text)| {
        Profile::all_from_toml(text, &format!("{name}.toml")).unwrap_or_default()
    });
    let modbus = parts.filter(|p| p.modbus().is_some());
    // Of a station with several connectors, the first.
    modbus.map(|p| p.at_connector(1)).collect()
}

/// Asks every unit what it is. `say` hears about each unit before it is asked.
///
/// # Errors
/// Nobody listens at the address.
pub async fn probe(options: &Options, mut say: impl FnMut(u8)) -> Result<Vec<Found>, ProbeError> {
    let profiles = modbus_profiles();
    let mut line = Line::to(options.address.clone());
    let rules = rules(options, None);
    line.connect(&rules).await?;
    let mut found: Vec<Found> = Vec::new();
    for unit in units(options, &profiles) {
        say(unit);
        let Some(mut one) = ask(&mut line, unit, options, &profiles, &rules).await else {
            continue;
        };
        one.same_as = found
            .iter()
            .find(|other| alike(other, &one))
            .map(|other| other.unit);
        found.push(one);
    }
    Ok(found)
}

/// Whether two units are one device: its serial number or its counters are the same.
fn alike(a: &Found, b: &Found) -> bool {
    let print = |found: &Found| {
        let best = found.fits.first()?;
        let telling = |p: &&ShownPoint| p.quantity.is_counter();
        let counters: Vec<String> = best
            .points
            .iter()
            .filter(telling)
            .filter_map(|p| p.value.clone().ok())
            .collect();
        let serial = best.identity.serial.clone();
        (!serial.is_empty() || !counters.is_empty()).then_some((
            best.profile.clone(),
            serial,
            counters,
        ))
    };
    print(a).is_some_and(|a| Some(a) == print(b))
}

fn units(options: &Options, profiles: &[Profile]) -> Vec<u8> {
    if !options.units.is_empty() {
        return options.units.clone();
    }
    let named = profiles.iter().filter_map(|p| p.modbus()?.unit_id);
    let mut seen = BTreeSet::new();
    let all = UNITS_COMMON.into_iter().chain(named);
    all.filter(|unit| seen.insert(*unit)).collect()
}

/// The rules of a profile, with our patience; rules to look around with where there is no profile.
fn rules(options: &Options, profile: Option<&ModbusRules>) -> ModbusRules {
    let timeout_ms = u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX);
    match profile {
        Some(rules) => ModbusRules {
            timeout_ms: rules.timeout_ms.min(timeout_ms),
            ..rules.clone()
        },
        None => ModbusRules::plain(GAP_MS, timeout_ms),
    }
}

/// What a unit is; none where nobody answers for it.
async fn ask(
    line: &mut Line,
    unit: u8,
    options: &Options,
    profiles: &[Profile],
    around: &ModbusRules,
) -> Option<Found> {
    let models = match sunspec::discover(line, unit, around).await {
        Ok(models) => models,
        Err(ModbusError::NoSunspec) => Vec::new(),
        Err(_) => return None,
    };
    let mut shown = Vec::new();
    for model in &models {
        shown.push(show_model(line, unit, model, around).await);
    }
    let mut tried = Vec::new();
    let there = profiles
        .iter()
        .filter(|p| can_be_there(p, &options.address));
    for profile in there {
        let rules = rules(options, profile.modbus());
        tried.extend(try_profile(line, unit, profile, &rules, &models).await);
    }
    let fits = best(tried, !models.is_empty());
    Some(Found {
        unit,
        models: shown,
        fits,
        same_as: None,
    })
}

/// The devices that fit best, each with all its parts that tell something: what proves one part of a
/// hybrid proves the others.
fn best(tried: Vec<Fit>, is_sunspec: bool) -> Vec<Fit> {
    let mut devices: BTreeMap<String, Vec<Fit>> = BTreeMap::new();
    for fit in tried.into_iter().filter(|fit| fit.score.values > 0) {
        devices.entry(fit.file().to_owned()).or_default().push(fit);
    }
    let proofs = |parts: &[Fit]| parts.iter().map(|fit| fit.score.proofs).sum::<usize>();
    // A SunSpec chain is a proof by itself.
    let needed = PROOFS_MIN - usize::from(is_sunspec);
    let mut devices: Vec<Vec<Fit>> = devices.into_values().collect();
    devices.retain(|parts| proofs(parts) >= needed);
    for parts in &mut devices {
        parts.sort_by(|a, b| b.score.cmp(&a.score).then(a.profile.cmp(&b.profile)));
    }
    let told = |parts: &[Fit]| parts.first().map(|fit| fit.score.told_permille);
    // A SunSpec device says who made it: a maker's own profile is for that maker's devices.
    let is_meant = |parts: &[Fit]| !is_sunspec || parts.iter().any(Fit::is_of_its_maker);
    devices.sort_by_key(|parts| std::cmp::Reverse((is_meant(parts), proofs(parts), told(parts))));
    devices.truncate(DEVICES_MAX);
    devices.into_iter().flatten().collect()
}

impl Fit {
    /// Whether the profile is for any maker's devices, or the device names the profile's maker.
    fn is_of_its_maker(&self) -> bool {
        let maker = self.file().split('-').next().unwrap_or_default();
        maker == "sunspec" || self.identity.maker.to_lowercase().contains(maker)
    }

    /// The profile's file: the device whose part this is.
    fn file(&self) -> &str {
        self.profile.split('/').next().unwrap_or_default()
    }
}

/// Whether the device of a profile can be spoken to at such an address.
fn can_be_there(profile: &Profile, address: &Address) -> bool {
    let transports = profile.modbus().map(|rules| rules.transports.as_slice());
    // A meter with a serial port is often behind a converter that speaks Modbus TCP.
    let is_framed = |t: &Transport| !matches!(address, Address::Serial(_)) || *t != Transport::Tcp;
    transports.is_some_and(|all| all.iter().any(is_framed))
}

async fn show_model(line: &mut Line, unit: u8, model: &Model, rules: &ModbusRules) -> FoundModel {
    let mut words = Vec::new();
    let size = model.length.saturating_add(2);
    while let Ok(done) = u16::try_from(words.len()) {
        let Some(address) = model.address.checked_add(done).filter(|_| done < size) else {
            break;
        };
        let count = (size - done).min(WORDS_PER_READ_MAX);
        match line.read(unit, 3, address, count, rules).await {
            Ok(more) => words.extend(more),
            Err(_) => break,
        }
    }
    FoundModel {
        model: *model,
        name: table::table(model.id).map(|table| table.name.as_str()),
        points: table::show(model, &words),
    }
}

/// What a profile makes of a unit; none where it does not fit.
async fn try_profile(
    line: &mut Line,
    unit: u8,
    profile: &Profile,
    rules: &ModbusRules,
    models: &[Model],
) -> Option<Fit> {
    let (mut values, mut identification) = match &profile.link {
        Link::Sunspec(_) => Plan::sunspec(profile, models)?,
        Link::Modbus(_) if models.is_empty() => Plan::fixed(profile),
        _ => return None,
    };
    if let Some(first) = values.blocks.first().copied() {
        // The first request decides quickly about most profiles.
        probe_block(line, unit, &first, rules).await?;
    }
    let found = fetch(line, unit, rules, &mut values).await.ok()?;
    let points: Vec<ShownPoint> = found.explain(&values).iter().map(ShownPoint::of).collect();
    let score = fit::score(&points)?;
    let named = fetch(line, unit, rules, &mut identification).await;
    let named: Registers = named.unwrap_or_default();
    let identity = named.identity(&identification);
    Some(Fit {
        profile: profile.name.clone(),
        kind: profile.kind,
        score,
        identity,
        points,
    })
}

async fn probe_block(line: &mut Line, unit: u8, block: &Block, rules: &ModbusRules) -> Option<()> {
    let unit = block.unit.unwrap_or(unit);
    let answer = line
        .read(unit, block.function, block.address, block.count, rules)
        .await;
    (answer.is_ok() || block.optional).then_some(())
}
