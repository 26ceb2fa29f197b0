//! From a value to registers and back: what must be read before a write, the words that are written,
//! and whether what is read back is what was meant. Exact integers, rounded towards zero, so that a
//! register never asks for more power than the command.

use domain::command::{Limit, SetPoint};
use serde::{Deserialize, Serialize};

use crate::bus::{Place, Step};
use crate::device::decode::{self, Encoding, Exact, WordOrder, WordType};
use crate::device::sunspec;
use crate::profile::control::{
    CURRENT_MIN_MA, Control, Match, Register, Source, Spot, Target, Unit, Value, Write,
};

/// One percent, as percentages are counted here: in ten-thousandths.
const PERCENT: i128 = 10_000;
/// Decimals that a float is written with.
const FLOAT_DECIMALS: i32 = 6;

/// What the gateway's configuration says about a device; what it does not say is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Local {
    /// Largest charging power of a battery in watts.
    pub max_charge_w: i64,
    /// Largest discharging power of a battery in watts.
    pub max_discharge_w: i64,
    /// Largest current of a charger in milliamperes.
    pub max_current_ma: i64,
    /// What a charger may draw when no lease holds.
    pub revert_current_ma: i64,
    /// What a charger may draw when nobody talks to it.
    pub fail_safe_current_ma: i64,
    /// Largest power of the device in watts.
    pub rating_w: i64,
}

/// Why a value does not become registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProgramError {
    /// A scale factor or a limit that the device does not tell.
    #[error("the device does not tell a scale factor or a limit that is needed to write to it")]
    NotTold,
    /// The register has no room for the value.
    #[error("the value does not fit into its register")]
    TooLarge,
    /// The value is not inside the local limits: a bug, and nothing is written.
    #[error("the value is outside of the local limits; nothing was written")]
    OverLimit,
}

/// A command's value, or none for a list that needs none.
pub type Wanted = Option<(SetPoint, i64)>;

/// A register as it was read.
struct Seen<'a> {
    words: &'a [u16],
    exponent: i32,
}

/// The words to be written, and what must read back afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// The writes.
    pub steps: Vec<Step>,
    checks: Vec<Check>,
    /// 100 %, largest charging and largest discharging power, as the device tells them.
    full_w: Option<i64>,
    most_charge_w: i64,
    most_discharge_w: i64,
    rating_w: i64,
    wanted: Wanted,
    /// What the device told of itself has lowered the value.
    is_lowered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Check {
    register: Register,
    how: Match,
    value: Value,
    /// What was written, counted in the register's unit.
    written: i64,
    /// The coarsest step of both registers, in the same unit.
    step: i64,
}

/// What a read-back says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Whether all checks hold.
    pub holds: bool,
    /// The set-point that the device shows, in the command's unit.
    pub value: Option<i64>,
    /// The limit that the device told, where the value was lowered to it.
    pub clamped_by: Option<Limit>,
}

fn place(spot: Spot, offset: u16) -> Place {
    match spot {
        Spot::Register {
            function,
            address,
            unit_id,
        } => Place::Register {
            function,
            address,
            unit: unit_id,
        },
        Spot::Sunspec { model, .. } => Place::Sunspec { model, offset },
    }
}

/// First offset and number of words of a register together with its scale factor.
fn span(register: &Register) -> (u16, u16) {
    let words = register.word_type.words();
    match register.spot {
        Spot::Sunspec {
            offset,
            scale_offset: Some(scale),
            ..
        } => {
            let first = offset.min(scale);
            let end = offset.saturating_add(words).max(scale.saturating_add(1));
            (first, end - first)
        }
        Spot::Sunspec { offset, .. } => (offset, words),
        Spot::Register { .. } => (0, words),
    }
}

fn read(register: &Register) -> Step {
    let (first, count) = span(register);
    Step::Read {
        place: place(register.spot, first),
        count,
    }
}

fn see<'a>(register: &Register, answer: &'a [u16]) -> Option<Seen<'a>> {
    let (first, count) = span(register);
    let words = usize::from(register.word_type.words());
    if answer.len() != usize::from(count) {
        return None;
    }
    let part = |offset: u16, len: usize| {
        let start = usize::from(offset - first);
        answer.get(start..start + len)
    };
    let (value, exponent) = match register.spot {
        Spot::Sunspec {
            offset,
            scale_offset: Some(scale),
            ..
        } => {
            let factor = part(scale, 1)?.first().copied()?;
            (part(offset, words)?, sunspec::scale_factor(factor)?)
        }
        _ => (answer, 0),
    };
    Some(Seen {
        words: value,
        exponent,
    })
}

/// The register's power of ten in its own unit.
fn exponent_of(register: &Register, exponent: i32) -> i32 {
    register.scale.exp10
        + exponent
        + match register.unit {
            Unit::Raw => 0,
            Unit::Power(power) => power,
            Unit::Percent => 4,
        }
}

/// What a register says, counted in its unit (W, mA, s; percent in ten-thousandths).
fn number(register: &Register, seen: &Seen<'_>) -> Option<i64> {
    let encoding = Encoding {
        word_type: register.word_type,
        word_order: register.word_order,
        ..Encoding::default()
    };
    let raw = decode::number(seen.words, &encoding).ok()?;
    let factor = Exact::whole(register.scale.mantissa);
    let exponent = exponent_of(register, seen.exponent);
    raw.times(factor)?.shifted(exponent).rounded()
}

fn power_of_ten(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent.max(0)).ok()?)
}

/// `quantity` (counted in the register's unit) × 10^`decimals` as a raw number, towards zero.
fn raw_of(register: &Register, exponent: i32, quantity: i64, decimals: i32) -> Option<i128> {
    let exponent = exponent_of(register, exponent) - decimals;
    let up = i128::from(quantity).checked_mul(power_of_ten(-exponent)?)?;
    let down = i128::from(register.scale.mantissa).checked_mul(power_of_ten(exponent)?)?;
    Some(up / down)
}

/// The register's smallest step, counted in its unit; at least 1.
fn step_of(register: &Register, exponent: i32) -> i64 {
    if register.word_type == WordType::F32 {
        return 1;
    }
    let exact = Exact::whole(register.scale.mantissa).shifted(exponent_of(register, exponent));
    exact.rounded().unwrap_or(1).max(1)
}

fn words_of(register: &Register, exponent: i32, quantity: i64) -> Option<Vec<u16>> {
    let whole = || raw_of(register, exponent, quantity, 0);
    let high_first = match register.word_type {
        WordType::U16 => vec![u16::try_from(whole()?).ok()?],
        WordType::I16 => {
            let word = i16::try_from(whole()?).ok()?;
            vec![u16::from_be_bytes(word.to_be_bytes())]
        }
        WordType::U32 => split(u32::try_from(whole()?).ok()?),
        WordType::I32 => {
            let long = i32::try_from(whole()?).ok()?;
            split(u32::from_be_bytes(long.to_be_bytes()))
        }
        WordType::F32 => {
            let scaled = raw_of(register, exponent, quantity, FLOAT_DECIMALS)?;
            // Through text, which rounds to the nearest float and cannot cast anything away.
            let text = format!("{scaled}e-{FLOAT_DECIMALS}");
            split(text.parse::<f32>().ok()?.to_bits())
        }
        _ => return None,
    };
    Some(match register.word_order {
        WordOrder::HighFirst => high_first,
        WordOrder::LowFirst => high_first.into_iter().rev().collect(),
    })
}

fn split(long: u32) -> Vec<u16> {
    let [a, b, c, d] = long.to_be_bytes();
    vec![u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

/// Whether a register must be read before it is written.
fn is_looked_at(write: &Write) -> bool {
    let is_scaled = matches!(
        write.to.spot,
        Spot::Sunspec {
            scale_offset: Some(_),
            ..
        }
    );
    let is_masked = matches!(write.value, Value::Constant { mask: Some(_), .. });
    is_scaled || is_masked || write.finer.is_some()
}

/// Whether a list depends on the device's own limits.
fn needs_limits(list: &[Write]) -> bool {
    list.iter().any(|w| match w.value {
        Value::Of(Source::MaxCharge | Source::MaxDischarge) => true,
        Value::Of(source) => source.is_commanded() || w.to.unit == Unit::Percent,
        Value::Constant { .. } => false,
    })
}

/// The registers that a list needs to know, in order: those of its writes, then the device's limits.
fn looked_at(control: &Control, list: &[Write]) -> Vec<Register> {
    let mut registers: Vec<Register> = list
        .iter()
        .filter(|w| is_looked_at(w))
        .map(|w| w.to)
        .collect();
    if needs_limits(list) {
        registers.extend(limits(control).into_iter().flatten());
    }
    registers
}

fn limits(control: &Control) -> [Option<Register>; 3] {
    [
        control.full_scale,
        control.most_charge,
        control.most_discharge,
    ]
}

/// What must be read right before `list` is written.
#[must_use]
pub fn questions(control: &Control, list: &[Write]) -> Vec<Step> {
    looked_at(control, list).iter().map(read).collect()
}

/// Refuses what no configuration has allowed, whoever asks for it.
fn check_limits(target: Target, value: i64, local: &Local) -> Result<(), ProgramError> {
    let is_inside = match target {
        Target::BatteryPower => (-local.max_charge_w..=local.max_discharge_w).contains(&value),
        Target::ChargerCurrent => {
            value == 0 || (CURRENT_MIN_MA..=local.max_current_ma).contains(&value)
        }
        Target::GenerationLimit => value >= 0,
        Target::ChargerSession => (0..=1).contains(&value),
    };
    is_inside.then_some(()).ok_or(ProgramError::OverLimit)
}

/// The words of `list`, given the answers to its [`questions`].
///
/// # Errors
/// The device does not tell what is needed, or the value does not fit. Nothing is to be written then.
pub fn program(
    control: &Control,
    list: &[Write],
    wanted: Wanted,
    local: &Local,
    answers: &[Vec<u16>],
) -> Result<Program, ProgramError> {
    let registers = looked_at(control, list);
    if answers.len() != registers.len() {
        return Err(ProgramError::NotTold);
    }
    let pairs = registers.iter().zip(answers);
    let mut seen = pairs.map(|(register, answer)| see(register, answer));
    let mut looks = Vec::with_capacity(list.len());
    for write in list {
        looks.push(if is_looked_at(write) {
            Some(seen.next().flatten().ok_or(ProgramError::NotTold)?)
        } else {
            None
        });
    }
    let mut told = [None; 3];
    if needs_limits(list) {
        for (told, register) in told.iter_mut().zip(limits(control)) {
            if let Some(register) = register {
                let seen = seen.next().flatten().ok_or(ProgramError::NotTold)?;
                let number = number(&register, &seen).filter(|n| *n >= 0);
                *told = Some(number.ok_or(ProgramError::NotTold)?);
            }
        }
    }
    let [full, most_charge, most_discharge] = told;
    let (most_charge_w, most_discharge_w) = (
        most_charge.unwrap_or(i64::MAX),
        most_discharge.unwrap_or(i64::MAX),
    );
    let asked = wanted;
    if let Some((set_point, value)) = asked {
        check_limits(Target::of(set_point), value, local)?;
    }
    let wanted = asked.map(|(set_point, value)| {
        let full_w = full.filter(|w| *w > 0 && set_point != SetPoint::GenerationLimitPermille);
        let full_w = full_w.unwrap_or(i64::MAX);
        let (least, most) = (-most_charge_w.min(full_w), most_discharge_w.min(full_w));
        (set_point, value.clamp(least, most))
    });
    let mut made = Program {
        steps: Vec::new(),
        checks: Vec::new(),
        full_w: full,
        most_charge_w,
        most_discharge_w,
        rating_w: local.rating_w,
        wanted,
        is_lowered: wanted != asked,
    };
    for (write, look) in list.iter().zip(looks) {
        made.add(control, write, look, local)?;
    }
    Ok(made)
}

impl Program {
    fn add(
        &mut self,
        control: &Control,
        write: &Write,
        look: Option<Seen<'_>>,
        local: &Local,
    ) -> Result<(), ProgramError> {
        let (words, exponent) = look.map_or((&[][..], 0), |seen| (seen.words, seen.exponent));
        let old = words.first().copied().unwrap_or(0);
        let mut to = write.to;
        if let Some((at_least, scale)) = write.finer
            && old >= at_least
        {
            to.scale = scale;
        }
        let quantity = match write.value {
            Value::Constant { raw, mask: None } => raw,
            Value::Constant {
                raw,
                mask: Some(mask),
            } => {
                let new = u16::try_from(raw).map_err(|_| ProgramError::TooLarge)?;
                i64::from((old & !mask) | (new & mask))
            }
            Value::Of(source) => self.quantity(control, source, to.unit, local)?,
        };
        let words = words_of(&to, exponent, quantity).ok_or(ProgramError::TooLarge)?;
        if let Some((mut register, how)) = write.check {
            // The same register counts in the same unit.
            if register.spot == to.spot {
                register.scale = to.scale;
            }
            let seen = Seen {
                words: &words,
                exponent,
            };
            self.checks.push(Check {
                register,
                how,
                value: write.value,
                written: number(&to, &seen).ok_or(ProgramError::TooLarge)?,
                step: step_of(&to, exponent),
            });
        }
        let offset = match to.spot {
            Spot::Sunspec { offset, .. } => offset,
            Spot::Register { .. } => 0,
        };
        self.steps.push(Step::Write {
            place: place(to.spot, offset),
            function: write.function,
            words,
        });
        Ok(())
    }

    /// The number that a source stands for, counted in `unit`.
    fn quantity(
        &self,
        control: &Control,
        source: Source,
        unit: Unit,
        local: &Local,
    ) -> Result<i64, ProgramError> {
        let commanded = self.wanted.map(|(_, value)| value);
        let set_point = || commanded.ok_or(ProgramError::NotTold);
        let value = match source {
            Source::SetPoint => set_point()?,
            Source::Opposite => set_point()?.saturating_neg(),
            Source::Charge => set_point()?.saturating_neg().max(0),
            Source::Discharge => set_point()?.max(0),
            Source::MaxCharge => local.max_charge_w.min(self.most_charge_w),
            Source::MaxDischarge => local.max_discharge_w.min(self.most_discharge_w),
            Source::RevertCurrent => local.revert_current_ma,
            Source::FailSafeCurrent => local.fail_safe_current_ma,
            Source::Validity => i64::from(control.validity_s.unwrap_or(0)),
        };
        let is_permille = source.is_commanded()
            && matches!(self.wanted, Some((SetPoint::GenerationLimitPermille, _)));
        let (value, full) = (i128::from(value), self.full_w.filter(|w| *w > 0));
        let counted = match (unit, is_permille, full) {
            (Unit::Percent, true, _) => value * PERCENT / 10,
            (Unit::Percent, false, Some(full)) => value * 100 * PERCENT / i128::from(full),
            (Unit::Percent, false, None) => return Err(ProgramError::NotTold),
            (_, true, full) => value * i128::from(full.unwrap_or(self.rating_w)) / 1000,
            (_, false, _) => value,
        };
        i64::try_from(counted).map_err(|_| ProgramError::TooLarge)
    }

    /// What must be read back after [`Program::steps`].
    #[must_use]
    pub fn checks(&self) -> Vec<Step> {
        self.checks.iter().map(|c| read(&c.register)).collect()
    }

    /// Whether the answers to [`Program::checks`] show what was written.
    #[must_use]
    pub fn judge(&self, answers: &[Vec<u16>]) -> Verdict {
        let mut verdict = Verdict {
            holds: answers.len() == self.checks.len(),
            value: None,
            clamped_by: self.is_lowered.then_some(Limit::Device),
        };
        for (check, answer) in self.checks.iter().zip(answers) {
            let seen = see(&check.register, answer);
            let shown = seen.and_then(|seen| {
                let step = check.step.max(step_of(&check.register, seen.exponent));
                Some((number(&check.register, &seen)?, step))
            });
            let Some((shown, step)) = shown else {
                verdict.holds = false;
                continue;
            };
            verdict.holds &= check.accepts(shown, step);
            if let (Value::Of(source), Some(value)) = (check.value, self.command(check, shown)) {
                let value = match source {
                    Source::Opposite | Source::Charge => value.saturating_neg(),
                    _ => value,
                };
                let larger = |known: i64| known.unsigned_abs() >= value.unsigned_abs();
                verdict.value = verdict.value.filter(|v| larger(*v)).or(Some(value));
            }
        }
        if self.is_pause() && verdict.holds {
            verdict.value = Some(0);
        }
        verdict
    }

    fn is_pause(&self) -> bool {
        self.wanted.is_some_and(|(_, value)| value == 0)
    }

    /// A number from a checked register in the unit of the command; none where it is about something else.
    fn command(&self, check: &Check, shown: i64) -> Option<i64> {
        let Value::Of(source) = check.value else {
            return None;
        };
        let (set_point, _) = self.wanted.filter(|_| source.is_commanded())?;
        let is_permille = set_point == SetPoint::GenerationLimitPermille;
        let full = i128::from(self.full_w.unwrap_or(self.rating_w));
        let shown = i128::from(shown);
        let value = match (check.register.unit, is_permille) {
            (Unit::Percent, true) => shown * 10 / PERCENT,
            (Unit::Percent, false) => shown * full / (100 * PERCENT),
            (_, true) if full > 0 => shown * 1000 / full,
            (_, true) => return None,
            (_, false) => shown,
        };
        i64::try_from(value).ok()
    }
}

impl Check {
    fn accepts(&self, shown: i64, step: i64) -> bool {
        match (self.value, self.how) {
            (
                Value::Constant {
                    mask: Some(mask), ..
                },
                _,
            ) => {
                let mask = i64::from(mask);
                shown & mask == self.written & mask
            }
            (Value::Constant { .. }, _) => shown == self.written,
            (Value::Of(_), Match::Exact) => shown.abs_diff(self.written) <= step.unsigned_abs(),
            (Value::Of(_), Match::AtMost) => {
                (0..=self.written.saturating_add(step)).contains(&shown)
            }
        }
    }
}
