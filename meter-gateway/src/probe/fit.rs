//! Whether a profile fits what was read: pure, from its points' words and values.

use crate::commission::{FREQUENCY_MHZ, PHASE_MV};
use crate::device::decode::NoValue;
use crate::device::{Decoded, Explained};
use crate::profile::{Dimension, Quantity};

/// Powers above this are no household's, in W.
const POWER_W_MAX: i64 = 10_000_000;
/// Counters above this are no meter's, in Wh.
const COUNTER_WH_MAX: i64 = 1_000_000_000_000;
/// Currents above this are no household's, in mA.
const CURRENT_MA_MAX: i64 = 10_000_000;

/// How well a profile fits; a larger one is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Score {
    /// Values that prove something: a mains voltage, a frequency, a counter, a known state.
    pub proofs: usize,
    /// Points with a value other than zero, in permille of all.
    pub told_permille: usize,
    /// Points with a value.
    pub values: usize,
    /// Points that were asked for.
    pub asked: usize,
}

/// One point with its words and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShownPoint {
    /// What it tells.
    pub quantity: Quantity,
    /// Function code and address, as in `4:72`.
    pub place: String,
    /// Its raw words; empty where it was not read.
    pub words: Vec<u16>,
    /// The word of its scale factor.
    pub scale_word: Option<u16>,
    /// Its value with its unit, or why it has none.
    pub value: Result<String, NoValue>,
    number: Option<i64>,
    is_known_state: bool,
}

impl ShownPoint {
    pub(super) fn of(explained: &Explained<'_>) -> Self {
        let quantity = explained.quantity();
        let number = match &explained.outcome {
            Ok(Decoded::Number(number)) => Some(*number),
            _ => None,
        };
        let states = &explained.point.states;
        let is_known_state = match &explained.outcome {
            Ok(Decoded::Text(text)) => states.iter().any(|(_, name)| name == text),
            _ => false,
        };
        let value = explained.outcome.clone().map(|decoded| match decoded {
            Decoded::Number(number) => quantity.dimension().show(number),
            Decoded::Text(text) => text,
        });
        ShownPoint {
            quantity,
            place: explained.place(),
            words: explained.words.clone(),
            scale_word: explained.scale_word,
            value,
            number,
            is_known_state,
        }
    }

    /// Whether its value cannot be.
    fn is_impossible(&self) -> bool {
        let Some(number) = self.number.filter(|n| *n != 0) else {
            return false;
        };
        let within = |most: i64| (-most..=most).contains(&number);
        let mains_voltage = matches!(
            self.quantity,
            Quantity::Voltage | Quantity::VoltageL1 | Quantity::VoltageL2 | Quantity::VoltageL3
        );
        match self.quantity.dimension() {
            Dimension::Voltage if mains_voltage => !PHASE_MV.contains(&number),
            Dimension::Frequency => !FREQUENCY_MHZ.contains(&number),
            Dimension::Counter => number > COUNTER_WH_MAX,
            Dimension::WholePower => !within(POWER_W_MAX),
            Dimension::Power | Dimension::Apparent | Dimension::Reactive => {
                !within(POWER_W_MAX * 1000)
            }
            Dimension::Current => !within(CURRENT_MA_MAX),
            // A power factor goes from −1 to 1; a health may be called a little more than whole.
            Dimension::Ratio => !within(1100),
            _ => false,
        }
    }

    /// Whether its value is one that hardly comes about by chance.
    fn is_proof(&self) -> bool {
        let Some(number) = self.number else {
            return self.is_known_state;
        };
        match self.quantity.dimension() {
            Dimension::Voltage | Dimension::Frequency => number != 0,
            Dimension::Counter => number > 0,
            Dimension::Permille => number > 0,
            _ => false,
        }
    }
}

/// How well a profile fits; none where a value cannot be.
pub(super) fn score(points: &[ShownPoint]) -> Option<Score> {
    if points.iter().any(ShownPoint::is_impossible) {
        return None;
    }
    let count = |test: &dyn Fn(&ShownPoint) -> bool| points.iter().filter(|p| test(p)).count();
    let told = count(&|p| p.value.is_ok() && p.number != Some(0));
    Some(Score {
        proofs: count(&ShownPoint::is_proof),
        told_permille: (told * 1000).checked_div(points.len())?,
        values: count(&|p| p.value.is_ok()),
        asked: points.len(),
    })
}
