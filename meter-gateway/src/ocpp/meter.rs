//! What a charger's meter values say: numbers with measurand, phase and unit, and texts that its meter has signed.
//! What is not understood is left out, for itself: one strange value does not cost the others.

use domain::energy::{Energy, Power};
use domain::ocmf::{Ocmf, PublicKey};
use domain::time::Timestamp;
use ocpp_types::v16::common::{
    Format, Location, Measurand, Phase, SampledValueItem, SampledValueItemUnit as Unit,
};
use serde_json::Value;

use crate::device::Values;
use crate::device::decode::Exact;
use crate::measure::Counter;
use crate::profile::Quantity;

/// Most meter values in one message, and values in one of them, that are looked at.
pub const VALUES_MAX: usize = 128;

/// What was measured at one time.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Measured {
    /// When, by the charger's clock.
    pub at: Option<Timestamp>,
    /// The numbers.
    pub values: Values,
    /// Texts of the charger's meter, as they came.
    pub signed: Vec<String>,
    /// Values that were not understood.
    pub strange: u32,
}

/// Reads the `meterValue` or `transactionData` of a message.
#[must_use]
pub fn read(list: &Value) -> Vec<Measured> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().take(VALUES_MAX).map(read_one).collect()
}

fn read_one(value: &Value) -> Measured {
    let mut found = Measured {
        at: value["timestamp"].as_str().and_then(|t| t.parse().ok()),
        ..Measured::default()
    };
    let mut phases = [None; 3];
    let list = value["sampledValue"].as_array();
    for item in list.into_iter().flatten().take(VALUES_MAX) {
        let Some(item) = understood(item) else {
            found.strange += 1;
            continue;
        };
        if item.format == Some(Format::SignedData) {
            found.signed.push(item.value);
        } else if take(&item, &mut found.values, &mut phases).is_none() {
            found.strange += 1;
        }
    }
    // A station without a whole counter has one for each phase.
    if let (None, [Some(a), Some(b), Some(c)]) = (found.values.import_counter, phases) {
        set_import(&mut found.values, a.saturating_add(b).saturating_add(c));
    }
    found
}

/// A value by the standard's schema; a number where a text should be is taken as its text.
fn understood(item: &Value) -> Option<SampledValueItem> {
    let mut item = item.clone();
    if let Some(number) = item["value"].as_number().map(ToString::to_string) {
        item["value"] = Value::String(number);
    }
    serde_json::from_value(item).ok()
}

fn set_import(values: &mut Values, mwh: i64) {
    values.import_counter = Some(Counter::open(mwh));
    values.import = Some(Energy::from_wh(mwh.div_euclid(1_000)));
}

/// Puts a number where it belongs; none where it is none, or has another unit than its measurand.
fn take(item: &SampledValueItem, values: &mut Values, phases: &mut [Option<i64>; 3]) -> Option<()> {
    let raw = Exact::from_decimal(item.value.trim())?;
    let milli = |exponent: i32| raw.shifted(exponent + 3).rounded();
    // What is measured where the cable of the grid comes in is not what goes into the car.
    if !matches!(item.location, None | Some(Location::Outlet)) {
        return Some(());
    }
    let measurand = item.measurand.as_ref();
    let measurand = measurand.unwrap_or(&Measurand::EnergyActiveImportRegister);
    let phase = match item.phase {
        None => None,
        Some(Phase::L1 | Phase::L1N) => Some(0),
        Some(Phase::L2 | Phase::L2N) => Some(1),
        Some(Phase::L3 | Phase::L3N) => Some(2),
        Some(_) => return Some(()),
    };
    let of = |whole, parts: [Quantity; 3]| phase.map_or(whole, |n: usize| parts[n]);
    use Quantity as Q;
    let (quantity, value) = match (measurand, item.unit.as_ref()) {
        (Measurand::EnergyActiveImportRegister, unit) => {
            let mwh = energy(unit, milli).filter(|mwh| *mwh >= 0)?;
            match phase {
                None => set_import(values, mwh),
                Some(n) => phases[n] = Some(mwh),
            }
            return Some(());
        }
        (Measurand::EnergyActiveExportRegister, unit) if phase.is_none() => {
            let mwh = energy(unit, milli).filter(|mwh| *mwh >= 0)?;
            values.export_counter = Some(Counter::open(mwh));
            values.export = Some(Energy::from_wh(mwh.div_euclid(1_000)));
            return Some(());
        }
        (Measurand::PowerActiveImport, unit) => {
            let mw = power(unit, milli)?;
            if phase.is_none() {
                values.power = Some(Power::from_w(mw.div_euclid(1_000)));
                return Some(());
            }
            (of(Q::PowerL1, [Q::PowerL1, Q::PowerL2, Q::PowerL3]), mw)
        }
        (Measurand::CurrentImport, None | Some(Unit::A)) => (
            of(Q::Current, [Q::CurrentL1, Q::CurrentL2, Q::CurrentL3]),
            milli(0)?,
        ),
        (Measurand::Voltage, None | Some(Unit::V)) => (
            of(Q::Voltage, [Q::VoltageL1, Q::VoltageL2, Q::VoltageL3]),
            milli(0)?,
        ),
        (Measurand::CurrentOffered, None | Some(Unit::A)) => (Q::CurrentLimit, milli(0)?),
        (Measurand::Frequency, _) => (Q::Frequency, milli(0)?),
        (Measurand::PowerFactor, _) if phase.is_none() => (Q::PowerFactor, milli(0)?),
        (Measurand::Temperature, None | Some(Unit::Celsius)) => (Q::Temperature, milli(0)?),
        (Measurand::SoC, _) => {
            let permille = raw
                .shifted(1)
                .rounded()
                .filter(|p| (0..=1000).contains(p))?;
            values.soc_permille = u16::try_from(permille).ok();
            return Some(());
        }
        // Known to the standard, and nothing of ours.
        _ => return Some(()),
    };
    values.details.insert(quantity, value);
    Some(())
}

fn energy(unit: Option<&Unit>, milli: impl Fn(i32) -> Option<i64>) -> Option<i64> {
    match unit {
        None | Some(Unit::Wh) => milli(0),
        Some(Unit::KWh) => milli(3),
        Some(_) => None,
    }
}

fn power(unit: Option<&Unit>, milli: impl Fn(i32) -> Option<i64>) -> Option<i64> {
    match unit {
        None | Some(Unit::W) => milli(0),
        Some(Unit::KW) => milli(3),
        Some(_) => None,
    }
}

/// Whether a signed text is the charger's: an OCMF text that one of `keys` has signed, with readings.
///
/// # Errors
/// Why it is not believed.
pub fn check_signed(text: &str, keys: &[PublicKey]) -> Result<Ocmf, String> {
    let ocmf = Ocmf::from_text(text).map_err(|error| error.to_string())?;
    if keys.is_empty() {
        return Err("no key of this charger is known: write it as ocmf_keys".to_owned());
    }
    let mut why = String::new();
    for key in keys {
        match ocmf.check_signature(key) {
            Ok(_) => return Ok(ocmf),
            Err(reason) => why = reason,
        }
    }
    Err(why)
}
