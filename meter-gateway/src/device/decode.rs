//! Register words to exact numbers: nothing is lost on the way from a device's counter to a whole
//! watt-hour, and what a device calls "not available" is no value, never 0.

use serde::Deserialize;

/// How a value lies in its registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WordType {
    /// Unsigned, one word.
    U16,
    /// Signed, one word.
    I16,
    /// Unsigned, two words.
    U32,
    /// Signed, two words.
    I32,
    /// Unsigned, four words.
    U64,
    /// Signed, four words.
    I64,
    /// IEEE 754 single precision, two words.
    F32,
    /// Text of 8 words.
    Text8,
    /// Text of 16 words.
    Text16,
}

impl WordType {
    /// Number of registers.
    #[must_use]
    pub const fn words(self) -> u16 {
        match self {
            WordType::U16 | WordType::I16 => 1,
            WordType::U32 | WordType::I32 | WordType::F32 => 2,
            WordType::U64 | WordType::I64 => 4,
            WordType::Text8 => 8,
            WordType::Text16 => 16,
        }
    }
}

/// Which word of a value of several words comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WordOrder {
    /// The most significant word has the lowest address.
    #[default]
    HighFirst,
    /// The least significant word has the lowest address.
    LowFirst,
}

/// An exact number: mantissa × 2^exp2 × 10^exp10.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exact {
    mantissa: i128,
    exp2: i32,
    exp10: i32,
}

/// Most decimal digits a shift by a power of ten may have; devices stay below 20.
const EXP10_MAX: i32 = 18;

impl Exact {
    /// A whole number.
    #[must_use]
    pub const fn whole(value: i64) -> Self {
        Exact {
            mantissa: value as i128,
            exp2: 0,
            exp10: 0,
        }
    }

    /// The exact value of a float; `None` for NaN and infinities.
    #[must_use]
    pub fn from_f32_bits(bits: u32) -> Option<Self> {
        let (exponent, fraction) = ((bits >> 23) & 0xff, i128::from(bits & 0x7f_ffff));
        if exponent == 0xff {
            return None;
        }
        let implicit = if exponent == 0 { 0 } else { 1 << 23 };
        let mantissa = fraction + implicit;
        let exp2 = i32::try_from(exponent.max(1)).ok()? - 150;
        let signed = if bits >> 31 == 1 { -mantissa } else { mantissa };
        Some(Exact {
            mantissa: signed,
            exp2,
            exp10: 0,
        })
    }

    /// The number that a decimal text like `-12.50` says; `None` for anything else.
    #[must_use]
    pub fn from_decimal(text: &str) -> Option<Self> {
        let (negative, digits) = text
            .strip_prefix('-')
            .map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let fits = whole.len() + fraction.len() <= 30;
        if whole.is_empty() || !fits || !plain(whole) || !plain(fraction) {
            return None;
        }
        let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
        let exp10 = -i32::try_from(fraction.len()).ok()?;
        Some(Exact {
            mantissa: if negative { -mantissa } else { mantissa },
            exp2: 0,
            exp10,
        })
    }

    /// This number × 10^`exponent`.
    #[must_use]
    pub const fn shifted(self, exponent: i32) -> Self {
        Exact {
            exp10: self.exp10.saturating_add(exponent),
            ..self
        }
    }

    /// This number × `other`; `None` where it does not fit.
    #[must_use]
    pub fn times(self, other: Exact) -> Option<Self> {
        Some(Exact {
            mantissa: self.mantissa.checked_mul(other.mantissa)?,
            exp2: self.exp2.checked_add(other.exp2)?,
            exp10: self.exp10.checked_add(other.exp10)?,
        })
    }

    /// The nearest whole number, halves towards plus infinity; `None` where it does not fit.
    ///
    /// Rounding never turns the order of two numbers round, so a counter stays monotone.
    #[must_use]
    pub fn rounded(self) -> Option<i64> {
        if self.mantissa == 0 {
            return Some(0);
        }
        let zeros = i32::try_from(self.mantissa.trailing_zeros()).ok()?;
        let drop = if self.exp2 < 0 {
            zeros.min(-self.exp2)
        } else {
            0
        };
        let (mantissa, exp2) = (self.mantissa >> drop, self.exp2 + drop);
        let numerator = mantissa
            .checked_mul(power(2, exp2.max(0))?)?
            .checked_mul(power(10, self.exp10.clamp(0, i32::MAX))?)?;
        let denominator = power(2, (-exp2).max(0))
            .zip(power(10, self.exp10.saturating_neg().max(0)))
            .and_then(|(two, ten)| two.checked_mul(ten)?.checked_mul(2));
        let Some(denominator) = denominator else {
            // So small a fraction that no counter or power can mean anything by it.
            return (numerator.unsigned_abs() < 1 << 100).then_some(0);
        };
        let whole = numerator.checked_mul(2)?.checked_add(denominator / 2)?;
        i64::try_from(whole.div_euclid(denominator)).ok()
    }
}

fn power(base: i128, exponent: i32) -> Option<i128> {
    if base == 10 && exponent > EXP10_MAX {
        return None;
    }
    base.checked_pow(u32::try_from(exponent).ok()?)
}

/// The unsigned integer in `words`, most significant first after `order` is applied.
#[must_use]
pub fn raw(words: &[u16], order: WordOrder) -> u64 {
    let join = |sum: u64, word: &u16| sum << 16 | u64::from(*word);
    match order {
        WordOrder::HighFirst => words.iter().fold(0, join),
        WordOrder::LowFirst => words.iter().rev().fold(0, join),
    }
}

/// The number in `words`: `None` for a wrong number of words, a sentinel, NaN, infinity, and text.
#[must_use]
pub fn number(
    words: &[u16],
    word_type: WordType,
    order: WordOrder,
    sentinels: &[u64],
) -> Option<Exact> {
    if words.len() != usize::from(word_type.words()) || words.len() > 4 {
        return None;
    }
    let raw = raw(words, order);
    if sentinels.contains(&raw) {
        return None;
    }
    let bytes = raw.to_be_bytes();
    let low2 = [bytes[6], bytes[7]];
    let low4 = [bytes[4], bytes[5], bytes[6], bytes[7]];
    let whole = |mantissa: i128| {
        Some(Exact {
            mantissa,
            exp2: 0,
            exp10: 0,
        })
    };
    match word_type {
        WordType::U16 | WordType::U32 | WordType::U64 => whole(i128::from(raw)),
        WordType::I16 => whole(i128::from(i16::from_be_bytes(low2))),
        WordType::I32 => whole(i128::from(i32::from_be_bytes(low4))),
        WordType::I64 => whole(i128::from(i64::from_be_bytes(bytes))),
        WordType::F32 => Exact::from_f32_bits(u32::from_be_bytes(low4)),
        WordType::Text8 | WordType::Text16 => None,
    }
}

/// The text in `words` up to the first zero byte, without blanks at its ends; control characters
/// and what is not ASCII are left out.
#[must_use]
pub fn text(words: &[u16]) -> String {
    let bytes = words
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .take_while(|b| *b != 0);
    let printable = bytes.filter(|b| (0x20..0x7f).contains(b)).map(char::from);
    printable.collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wh(kwh: f32) -> Option<i64> {
        Exact::from_f32_bits(kwh.to_bits())?.shifted(3).rounded()
    }

    #[test]
    fn floats_become_the_nearest_watt_hour() {
        assert_eq!(wh(1234.567), Some(1_234_567));
        assert_eq!(wh(0.0005), Some(1)); // the float is 0.000500000023…
        assert_eq!(wh(0.000_49), Some(0));
        assert_eq!(wh(99_999.99), Some(99_999_992)); // the step of this float is 7.8 Wh
        assert_eq!(wh(-2.25), Some(-2250));
        assert_eq!(wh(f32::MIN_POSITIVE), Some(0));
        assert_eq!([wh(f32::NAN), wh(f32::INFINITY), wh(f32::MAX)], [None; 3]);
    }

    #[test]
    fn integers_take_their_width_sign_and_order() {
        let get = |words: &[u16], t, order| number(words, t, order, &[])?.rounded();
        let (high, low) = (WordOrder::HighFirst, WordOrder::LowFirst);
        assert_eq!(get(&[0xffff], WordType::I16, high), Some(-1));
        assert_eq!(get(&[1, 2], WordType::U32, high), Some(65_538));
        assert_eq!(get(&[2, 1], WordType::U32, low), Some(65_538));
        assert_eq!(get(&[0xffff, 0xfffe], WordType::I32, high), Some(-2));
        assert_eq!(get(&[0, 0, 1, 0], WordType::I64, high), Some(65_536));
        assert_eq!(get(&[0xffff; 4], WordType::U64, high), None, "does not fit");
        assert_eq!(get(&[1], WordType::U32, high), None, "a word is missing");
        assert_eq!(number(&[0x8000], WordType::I16, high, &[0x8000]), None);
    }

    #[test]
    fn decimals_are_read_exactly() {
        let get = |text| Exact::from_decimal(text)?.rounded();
        assert_eq!(get("12345.67"), Some(12_346));
        assert_eq!(get("-0.5"), Some(0));
        assert_eq!(get("17"), Some(17));
        for bad in ["", "-", "1e3", "1.2.3", "NaN", "+1", " 1"] {
            assert_eq!(get(bad), None, "{bad}");
        }
    }

    #[test]
    fn text_ends_at_zero() {
        assert_eq!(text(&[0x4142, 0x4320, 0x0041]), "ABC");
        assert_eq!(text(&[0, 0]), "");
    }

    proptest! {
        #[test]
        fn a_float_counter_stays_monotone(a in 0.0f32..1e6, b in 0.0f32..1e6) {
            let (low, high) = if a <= b { (a, b) } else { (b, a) };
            prop_assert!(wh(low) <= wh(high));
            let error = (f64::from(a) * 1000.0 - wh(a).unwrap() as f64).abs();
            prop_assert!(error <= 0.5 + 1e-6);
        }

        #[test]
        fn powers_of_ten_lose_nothing(value in any::<i32>(), exponent in 0i32..9) {
            let scaled = Exact::whole(i64::from(value)).shifted(exponent).rounded().unwrap();
            prop_assert_eq!(scaled, i64::from(value) * 10i64.pow(exponent.unsigned_abs()));
            let back = Exact::whole(scaled).shifted(-exponent).rounded();
            prop_assert_eq!(back, Some(i64::from(value)));
        }
    }
}
