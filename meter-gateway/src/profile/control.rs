//! The `[[control]]` tables of a profile: which set-points a device takes, and how they are written,
//! read back, kept alive and given back.
//!
//! A control has lists of writes, each done in order: `write` for a value, `pause` for the value 0
//! where 0 is not simply another value, `revert` at the end of a lease, and `fail_safe` before the
//! first one on a connection: what the device does by itself when nobody talks to it any more. A write
//! with a `check` is read back. Several controls of one set-point are alternatives: the first one whose
//! registers the device has is used.

use domain::command::SetPoint;
use serde::Deserialize;

use super::{DumpRegisters, Kind};
use crate::device::decode::{WordOrder, WordType};
use crate::toml_file::{TomlError, wrong_value};

/// Most controls in a profile.
pub const CONTROLS_MAX: usize = 8;
/// Most writes in one list: with what is read before them they are one job on the line.
pub const WRITES_MAX: usize = 12;
/// Shortest and longest validity and heartbeat in seconds.
const PERIOD_S: std::ops::RangeInclusive<u32> = 2..=3600;
/// Longest time that a device may need until it shows what it was told.
const SETTLE_MAX_MS: u32 = 30_000;
/// Least current at which charging is defined (IEC 61851); below it there is only pausing.
pub const CURRENT_MIN_MA: i64 = 6_000;

/// What is controlled: there is one lease at a time for each on a device.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A battery's power.
    BatteryPower,
    /// A charger's largest current.
    ChargerCurrent,
    /// An inverter's largest generation.
    GenerationLimit,
    /// Whether a charger lets a driver in.
    ChargerSession,
}

impl Target {
    /// What a set-point controls.
    #[must_use]
    pub const fn of(set_point: SetPoint) -> Self {
        match set_point {
            SetPoint::BatteryPowerW => Target::BatteryPower,
            SetPoint::ChargerCurrentMa => Target::ChargerCurrent,
            SetPoint::GenerationLimitW | SetPoint::GenerationLimitPermille => {
                Target::GenerationLimit
            }
            SetPoint::ChargerSession => Target::ChargerSession,
        }
    }

    /// The word in profiles and configurations.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Target::BatteryPower => "battery-power",
            Target::ChargerCurrent => "charger-current",
            Target::GenerationLimit => "generation-limit",
            Target::ChargerSession => "charger-session",
        }
    }

    const fn belongs_to(self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Target::BatteryPower, Kind::Battery)
                | (
                    Target::ChargerCurrent | Target::ChargerSession,
                    Kind::Charger
                )
                | (Target::GenerationLimit, Kind::Inverter)
        )
    }
}

/// Where a register is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spot {
    /// A fixed address.
    Register {
        /// Function code it is read with.
        function: u8,
        /// Address on the wire, counted from 0.
        address: u16,
        /// Another unit than the device's own.
        unit_id: Option<u8>,
    },
    /// A register relative to the ID register of a SunSpec model.
    Sunspec {
        /// The model.
        model: u16,
        /// Offset of the value.
        offset: u16,
        /// Offset of its scale factor, which is read together with the value.
        scale_offset: Option<u16>,
    },
}

/// The unit of a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A raw number.
    Raw,
    /// The unit of the set-point (W, mA) or of the time (s), times this power of ten.
    Power(i32),
    /// Percent of the full scale.
    Percent,
}

/// A decimal factor: `mantissa` × 10^`exp10`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// Its digits.
    pub mantissa: i64,
    /// Its power of ten.
    pub exp10: i32,
}

impl Scale {
    /// The factor that a text like `0.25` says; `None` for anything else, 0 and below.
    #[must_use]
    pub fn from_decimal(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !is_plain(whole) || !is_plain(fraction) || text.len() > 12 {
            return None;
        }
        let mantissa = format!("{whole}{fraction}").parse().ok()?;
        let exp10 = -i32::try_from(fraction.len()).ok()?;
        (mantissa > 0).then_some(Scale { mantissa, exp10 })
    }
}

/// How a number lies in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    /// Where.
    pub spot: Spot,
    /// Its type.
    pub word_type: WordType,
    /// Its word order.
    pub word_order: WordOrder,
    /// Raw value × this is in `unit`.
    pub scale: Scale,
    /// Its unit.
    pub unit: Unit,
}

/// Where a written value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// A fixed raw number; with a mask, only these bits are changed.
    Constant {
        /// The number.
        raw: i64,
        /// The bits that are written; the others stay as they are read right before.
        mask: Option<u16>,
    },
    /// A number that the lease or the configuration knows.
    Of(Source),
}

/// What a number means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The set-point's value.
    SetPoint,
    /// The set-point's value with the other sign.
    Opposite,
    /// The charging part of a battery's power, never negative.
    Charge,
    /// The discharging part of a battery's power, never negative.
    Discharge,
    /// The configuration's largest charging power.
    MaxCharge,
    /// The configuration's largest discharging power.
    MaxDischarge,
    /// The current that the configuration gives back at the end of a lease.
    RevertCurrent,
    /// The current that the configuration wants when nobody talks to the charger.
    FailSafeCurrent,
    /// How long the device believes a set-point.
    Validity,
}

impl Source {
    /// Whether it follows from the value of the command.
    #[must_use]
    pub const fn is_commanded(self) -> bool {
        matches!(
            self,
            Source::SetPoint | Source::Opposite | Source::Charge | Source::Discharge
        )
    }
}

/// How a value that is read back is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// It is what was written.
    #[default]
    Exact,
    /// It may also be less: a thin cable, another limit.
    AtMost,
}

/// A write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    /// Function code: 5, 6 or 16.
    pub function: u8,
    /// Where, and in which form.
    pub to: Register,
    /// What.
    pub value: Value,
    /// Where it is read back.
    pub check: Option<(Register, Match)>,
    /// Newer firmware counts in another unit: where the register reads at least so much, this is its scale.
    pub finer: Option<(u16, Scale)>,
}

/// A set-point of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Control {
    /// What is controlled.
    pub target: Target,
    /// Least value in the target's unit (W, mA, and for generation ‰).
    pub min: i64,
    /// Largest value.
    pub max: i64,
    /// How long the device believes a set-point; it is written again before half of it.
    pub validity_s: Option<u32>,
    /// How long it may take until the device shows what it was told.
    pub settle_ms: u32,
    /// For a value.
    pub write: Vec<Write>,
    /// For 0, where that is done otherwise.
    pub pause: Vec<Write>,
    /// At the end of a lease.
    pub revert: Vec<Write>,
    /// Before the first lease of a connection.
    pub fail_safe: Vec<Write>,
    /// What must be written again and again while a lease lasts, and how often.
    pub heartbeat: Option<(Write, u32)>,
    /// 100 % of what `unit = "%"` means, in W.
    pub full_scale: Option<Register>,
    /// The device's own largest charging power, in W.
    pub most_charge: Option<Register>,
    /// The device's own largest discharging power, in W.
    pub most_discharge: Option<Register>,
    /// Values and the writes they must lead to.
    pub examples: Vec<Example>,
}

impl Control {
    /// Whether it can be told a value of this set-point.
    #[must_use]
    pub fn takes(&self, set_point: SetPoint) -> bool {
        let in_percent = |w: &Write| w.to.unit == Unit::Percent;
        let needs_scale =
            set_point == SetPoint::GenerationLimitW && self.write.iter().any(in_percent);
        Target::of(set_point) == self.target && (!needs_scale || self.full_scale.is_some())
    }

    /// Whether the device gives a set-point up by itself when nobody talks to it any more.
    #[must_use]
    pub fn ends_by_itself(&self) -> bool {
        self.validity_s.is_some() || self.heartbeat.is_some() || !self.fail_safe.is_empty()
    }

    /// Whether 0 is a value that it can be told.
    #[must_use]
    pub fn takes_zero(&self) -> bool {
        !self.pause.is_empty() || (self.min <= 0 && self.max >= 0)
    }

    /// Moves all fixed addresses; `false` where one would leave the address space.
    pub(crate) fn shift(&mut self, by: u16) -> bool {
        let beat = self.heartbeat.as_mut().map(|(write, _)| write);
        let lists = [
            &mut self.write,
            &mut self.pause,
            &mut self.revert,
            &mut self.fail_safe,
        ];
        let writes = lists.into_iter().flatten().chain(beat);
        let written = writes.flat_map(|w| {
            let checked = w.check.as_mut().map(|(register, _)| register);
            [Some(&mut w.to), checked].into_iter().flatten()
        });
        let limits = [
            &mut self.full_scale,
            &mut self.most_charge,
            &mut self.most_discharge,
        ];
        let mut is_inside = true;
        for register in written.chain(limits.into_iter().flatten()) {
            if let Spot::Register { address, .. } = &mut register.spot {
                let moved = address.checked_add(by);
                is_inside &= moved.is_some();
                *address = moved.unwrap_or(*address);
            }
        }
        is_inside
    }

    /// The list for a value.
    #[must_use]
    pub fn list_for(&self, value: i64) -> &[Write] {
        if value == 0 && !self.pause.is_empty() {
            &self.pause
        } else {
            &self.write
        }
    }
}

/// A value and the writes that it must lead to.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The value, in the unit of `of`.
    #[serde(default)]
    pub value: i64,
    /// Which list: `set` (the default), `revert`, `fail-safe` or `heartbeat`.
    #[serde(default = "set_word")]
    pub list: String,
    /// The set-point's word, where the target has several.
    pub of: Option<String>,
    /// What is read before, in the order in which it is asked for.
    #[serde(default)]
    pub registers: Vec<DumpRegisters>,
    /// Function, address (or model+offset) and words, all but the first and the last in hex.
    pub writes: Vec<String>,
}

fn set_word() -> String {
    "set".to_owned()
}

/// A control as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawControl {
    /// The part of the device that it belongs to; none where the file has one part.
    #[serde(default)]
    pub(super) part: Option<String>,
    set_point: Target,
    min: i64,
    max: i64,
    validity_s: Option<u32>,
    #[serde(default)]
    settle_ms: u32,
    write: Vec<RawWrite>,
    #[serde(default)]
    pause: Vec<RawWrite>,
    revert: Vec<RawWrite>,
    #[serde(default)]
    fail_safe: Vec<RawWrite>,
    heartbeat: Option<RawHeartbeat>,
    full_scale: Option<RawRegister>,
    most_charge: Option<RawRegister>,
    most_discharge: Option<RawRegister>,
    example: Vec<Example>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHeartbeat {
    period_s: u32,
    write: RawWrite,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegister {
    function: Option<u8>,
    address: Option<u16>,
    unit_id: Option<u8>,
    model: Option<u16>,
    offset: Option<u16>,
    scale_offset: Option<u16>,
    #[serde(rename = "type")]
    word_type: Option<WordType>,
    word_order: Option<WordOrder>,
    scale: Option<String>,
    unit: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCheck {
    #[serde(default, rename = "match")]
    how: Match,
    function: Option<u8>,
    address: Option<u16>,
    offset: Option<u16>,
    scale_offset: Option<u16>,
    #[serde(rename = "type")]
    word_type: Option<WordType>,
    scale: Option<String>,
    unit: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFiner {
    at_least: u16,
    scale: String,
}

// Written out instead of flattened: serde cannot flatten and deny unknown keys at once.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWrite {
    function: Option<u8>,
    address: Option<u16>,
    unit_id: Option<u8>,
    model: Option<u16>,
    offset: Option<u16>,
    scale_offset: Option<u16>,
    #[serde(rename = "type")]
    word_type: Option<WordType>,
    word_order: Option<WordOrder>,
    scale: Option<String>,
    unit: Option<String>,
    value: Option<Source>,
    constant: Option<i64>,
    mask: Option<u16>,
    finer: Option<RawFiner>,
    check: Option<RawCheck>,
}

impl RawWrite {
    fn register(&self) -> RawRegister {
        RawRegister {
            function: None,
            address: self.address,
            unit_id: self.unit_id,
            model: self.model,
            offset: self.offset,
            scale_offset: self.scale_offset,
            word_type: self.word_type,
            word_order: self.word_order,
            scale: self.scale.clone(),
            unit: self.unit.clone(),
        }
    }

    /// The register to check, which is like the written one except where it says otherwise.
    fn checked(&self, check: &RawCheck) -> RawRegister {
        let own = self.register();
        let scale_offset = match check.offset {
            Some(_) => check.scale_offset,
            None => check.scale_offset.or(own.scale_offset),
        };
        RawRegister {
            function: check.function,
            address: check.address.or(own.address),
            offset: check.offset.or(own.offset),
            scale_offset,
            word_type: check.word_type.or(own.word_type),
            scale: check.scale.clone().or(own.scale),
            unit: check.unit.clone().or(own.unit),
            ..own
        }
    }
}

/// What is wrong: the key, and what would be right.
type Wrong = (&'static str, String);

fn wrong<T>(key: &'static str, message: impl Into<String>) -> Result<T, Wrong> {
    Err((key, message.into()))
}

/// Reads and checks the controls of a profile or of one part of it.
pub(super) fn check_controls(
    raw: &[RawControl],
    kind: Kind,
    part: Option<&str>,
    (text, file): (&str, &str),
) -> Result<Vec<Control>, TomlError> {
    let at = |index: usize, (key, message): Wrong| {
        wrong_value(text, file, ("control", index), key, message)
    };
    let own = raw.iter().enumerate();
    let own = own.filter(|(_, control)| control.part.as_deref() == part);
    let mut controls: Vec<Control> = Vec::new();
    for (index, control) in own {
        if controls.len() == CONTROLS_MAX {
            return Err(at(index, ("[[control]]", "at most 8 controls".into())));
        }
        let control = check_control(control, kind).map_err(|e| at(index, e))?;
        let before = controls.iter().find(|c| c.target == control.target);
        let traits = |c: &Control| {
            let beat = c.heartbeat.map(|(_, period_s)| period_s);
            let (zero, safe) = (c.takes_zero(), c.fail_safe.is_empty());
            (c.min, c.max, c.validity_s, c.settle_ms, beat, zero, safe)
        };
        if before.is_some_and(|before| traits(before) != traits(&control)) {
            let rule =
                "alternatives of one set-point share range, validity, heartbeat and fail-safe";
            return Err(at(index, ("set_point", rule.into())));
        }
        controls.push(control);
    }
    Ok(controls)
}

fn check_control(raw: &RawControl, kind: Kind) -> Result<Control, Wrong> {
    let target = raw.set_point;
    if !target.belongs_to(kind) {
        let rule = format!("a {} has no {}", kind.word(), target.word());
        return wrong("set_point", rule);
    }
    if raw.min > raw.max {
        return wrong("min", "the least value is above the largest");
    }
    if target == Target::ChargerCurrent && raw.min < CURRENT_MIN_MA {
        let rule = "charging is defined from 6000 mA on; 0 goes by `pause`";
        return wrong("min", rule);
    }
    if target == Target::GenerationLimit && (raw.min < 0 || raw.max > 1000) {
        return wrong("max", "0 to 1000 permille of the largest power");
    }
    if raw.validity_s.is_some_and(|s| !PERIOD_S.contains(&s)) {
        return wrong("validity_s", "2 to 3600 seconds");
    }
    if raw.settle_ms > SETTLE_MAX_MS {
        return wrong("settle_ms", "at most 30000 milliseconds");
    }
    let register = |key: &'static str, raw: &Option<RawRegister>| {
        let Some(raw) = raw else { return Ok(None) };
        let read = check_register(raw, Target::BatteryPower, true);
        read.map(Some).map_err(|(_, message)| (key, message))
    };
    let heartbeat = match &raw.heartbeat {
        None => None,
        Some(beat) if !PERIOD_S.contains(&beat.period_s) => {
            return wrong("heartbeat", "period_s is 2 to 3600 seconds");
        }
        Some(beat) => Some((
            check_write(&beat.write, target).map_err(|(_, m)| ("heartbeat", m))?,
            beat.period_s,
        )),
    };
    let control = Control {
        target,
        min: raw.min,
        max: raw.max,
        validity_s: raw.validity_s,
        settle_ms: raw.settle_ms,
        write: check_writes("write", &raw.write, target)?,
        pause: check_writes("pause", &raw.pause, target)?,
        revert: check_writes("revert", &raw.revert, target)?,
        fail_safe: check_writes("fail_safe", &raw.fail_safe, target)?,
        heartbeat,
        full_scale: register("full_scale", &raw.full_scale)?,
        most_charge: register("most_charge", &raw.most_charge)?,
        most_discharge: register("most_discharge", &raw.most_discharge)?,
        examples: raw.example.clone(),
    };
    check_whole(&control)?;
    Ok(control)
}

fn check_writes(key: &'static str, raw: &[RawWrite], target: Target) -> Result<Vec<Write>, Wrong> {
    if raw.len() > WRITES_MAX {
        return wrong(key, "at most 12 writes");
    }
    let number = |(index, (_, message)): (usize, Wrong)| {
        let text = format!("write {}: {message}", index + 1);
        (key, text)
    };
    let one = |(index, write)| check_write(write, target).map_err(|e| number((index, e)));
    let writes = raw.iter().enumerate().map(one);
    let writes = writes.collect::<Result<Vec<_>, _>>()?;
    if !writes.is_empty() && !writes.iter().any(|w| w.check.is_some()) {
        return wrong(
            key,
            "one of the writes needs a check: what is set is read back",
        );
    }
    Ok(writes)
}

/// What can only be seen of a control as a whole.
fn check_whole(control: &Control) -> Result<(), Wrong> {
    if control.write.is_empty() || control.revert.is_empty() {
        return wrong("write", "a control needs `write` and `revert`");
    }
    let commanded = |w: &Write| matches!(w.value, Value::Of(source) if source.is_commanded());
    let shown = |w: &Write| commanded(w) && w.check.is_some();
    if !control.write.iter().any(shown) {
        return wrong("write", "the set-point's own write needs a check");
    }
    if control
        .revert
        .iter()
        .chain(&control.fail_safe)
        .any(commanded)
    {
        return wrong("revert", "without a lease there is no set-point to write");
    }
    let percent = |w: &Write| w.to.unit == Unit::Percent;
    let is_battery = control.target == Target::BatteryPower;
    if is_battery && control.full_scale.is_none() && control.write.iter().any(percent) {
        return wrong(
            "full_scale",
            "percent of what? Name the register with the full scale",
        );
    }
    let is_validity = |w: &Write| w.value == Value::Of(Source::Validity);
    let lists = [&control.write, &control.revert, &control.fail_safe];
    if control.validity_s.is_none() && lists.into_iter().flatten().any(is_validity) {
        return wrong("validity_s", "it is written, so it must be given");
    }
    if control.examples.is_empty() {
        return wrong(
            "example",
            "a control shows with [[control.example]] what it writes",
        );
    }
    Ok(())
}

fn check_write(raw: &RawWrite, target: Target) -> Result<Write, Wrong> {
    let to = check_register(&raw.register(), target, false)?;
    let value = match (raw.value, raw.constant, raw.mask) {
        (Some(source), None, None) => Value::Of(source),
        (None, Some(constant), mask) => Value::Constant {
            raw: constant,
            mask,
        },
        _ => {
            return wrong(
                "value",
                "either value or constant; a mask goes with a constant",
            );
        }
    };
    let is_single = to.word_type.words() == 1;
    let function = match raw.function {
        None if is_single => 6,
        None => 16,
        Some(function @ (5 | 6)) if is_single => function,
        Some(16) => 16,
        Some(5 | 6) => return wrong("function", "5 and 6 write one register; use 16"),
        _ => return wrong("function", "5 (coil), 6 (one register) or 16 (several)"),
    };
    let to = match to.spot {
        Spot::Register {
            address, unit_id, ..
        } => Register {
            spot: Spot::Register {
                function: if function == 5 { 1 } else { 3 },
                address,
                unit_id,
            },
            ..to
        },
        Spot::Sunspec { .. } => to,
    };
    let has_unit = to.unit != Unit::Raw;
    if matches!(value, Value::Of(_)) != has_unit {
        return wrong("unit", "a value has a unit, a constant has none");
    }
    let check = match &raw.check {
        None => None,
        Some(check) => {
            let mut register = raw.checked(check);
            if register.function.is_none() && register.address.is_some() {
                register.function = Some(if function == 5 { 1 } else { 3 });
            }
            Some((check_register(&register, target, true)?, check.how))
        }
    };
    let finer = match &raw.finer {
        None => None,
        Some(_) if !is_single => return wrong("finer", "only for one register"),
        Some(finer) => Some((finer.at_least, decimal(&finer.scale)?)),
    };
    Ok(Write {
        function,
        to,
        value,
        check,
        finer,
    })
}

fn decimal(text: &str) -> Result<Scale, Wrong> {
    let said = format!("`{text}` is not a decimal like \"0.1\"");
    Scale::from_decimal(text).ok_or(("scale", said))
}

fn check_register(raw: &RawRegister, target: Target, is_read: bool) -> Result<Register, Wrong> {
    let spot = match (raw.address, raw.model, raw.offset) {
        (Some(address), None, None) => Spot::Register {
            function: match (raw.function, is_read) {
                (Some(function @ (1 | 3 | 4)), true) => function,
                (None, _) => 3,
                _ => return wrong("function", "1 (coil), 3 (holding) or 4 (input)"),
            },
            address,
            unit_id: raw.unit_id,
        },
        (None, Some(model), Some(offset)) => Spot::Sunspec {
            model,
            offset,
            scale_offset: raw.scale_offset,
        },
        _ => {
            return wrong(
                "address",
                "either an address, or a SunSpec model and offset",
            );
        }
    };
    let word_type = raw.word_type.unwrap_or(WordType::U16);
    let is_number = matches!(
        word_type,
        WordType::U16 | WordType::I16 | WordType::U32 | WordType::I32 | WordType::F32
    );
    if !is_number {
        return wrong("type", "u16, i16, u32, i32 or f32");
    }
    let unit = match (raw.unit.as_deref(), target) {
        (None, _) => Unit::Raw,
        (Some("W"), Target::BatteryPower | Target::GenerationLimit) => Unit::Power(0),
        (Some("kW"), Target::BatteryPower | Target::GenerationLimit) => Unit::Power(3),
        (Some("%"), Target::BatteryPower | Target::GenerationLimit) => Unit::Percent,
        (Some("mA"), Target::ChargerCurrent) => Unit::Power(0),
        (Some("A"), Target::ChargerCurrent) => Unit::Power(3),
        (Some("s"), _) => Unit::Power(0),
        (Some("ms"), _) => Unit::Power(-3),
        (Some(other), _) => {
            let rule = format!("`{other}` is no unit of {}", target.word());
            return wrong("unit", rule);
        }
    };
    Ok(Register {
        spot,
        word_type,
        word_order: raw.word_order.unwrap_or_default(),
        scale: decimal(raw.scale.as_deref().unwrap_or("1"))?,
        unit,
    })
}
