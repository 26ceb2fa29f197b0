//! Register words to exact numbers: nothing is lost on the way from a device's counter to a whole
//! watt-hour, and what a device calls "not available" is no value, never 0.

use std::str::FromStr;

use serde::Deserialize;

/// Longest text in one value, in words: what one request can bring.
const TEXT_MAX_WORDS: u16 = 125;

/// How a value lies in its registers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum WordType {
    /// Unsigned, one word.
    #[default]
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
    /// IEEE 754 double precision, four words.
    F64,
    /// A coil or a discrete input, 0 or 1.
    Bit,
    /// One word with an ASCII letter in its low byte.
    Letter,
    /// Text in so many words; `text(20)` in a profile is 20 bytes, which are 10 words.
    Text(u16),
}

impl WordType {
    /// Number of registers.
    #[must_use]
    pub const fn words(self) -> u16 {
        match self {
            WordType::U16 | WordType::I16 | WordType::Bit | WordType::Letter => 1,
            WordType::U32 | WordType::I32 | WordType::F32 => 2,
            WordType::U64 | WordType::I64 | WordType::F64 => 4,
            WordType::Text(words) => words,
        }
    }

    /// Whether it is text instead of a number.
    #[must_use]
    pub const fn is_text(self) -> bool {
        matches!(self, WordType::Text(_) | WordType::Letter)
    }
}

impl FromStr for WordType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = text
            .strip_prefix("text(")
            .and_then(|rest| rest.strip_suffix(')')?.parse::<u16>().ok());
        Ok(match (text, bytes) {
            ("u16", _) => WordType::U16,
            ("i16", _) => WordType::I16,
            ("u32", _) => WordType::U32,
            ("i32", _) => WordType::I32,
            ("u64", _) => WordType::U64,
            ("i64", _) => WordType::I64,
            ("f32", _) => WordType::F32,
            ("f64", _) => WordType::F64,
            ("bit", _) => WordType::Bit,
            ("letter", _) => WordType::Letter,
            (_, Some(bytes)) if bytes % 2 == 0 && (1..=TEXT_MAX_WORDS).contains(&(bytes / 2)) => {
                WordType::Text(bytes / 2)
            }
            _ => {
                return Err(format!(
                    "`{text}` is no type; there are u16 i16 u32 i32 u64 i64 f32 f64 bit letter, \
                     and text(20) for 20 bytes, an even number up to 250"
                ));
            }
        })
    }
}

impl TryFrom<String> for WordType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Everything about how a value lies in its registers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Encoding {
    /// Its type.
    pub word_type: WordType,
    /// Its word order.
    pub word_order: WordOrder,
    /// Whether the two bytes of each word are the wrong way round.
    pub swap_bytes: bool,
    /// The bits that hold the value, which begins at the lowest of them; none means all.
    pub bits: Option<u64>,
    /// Raw values, of the whole registers, that mean "not available".
    pub sentinels: Vec<u64>,
}

impl Encoding {
    /// How many values its registers can tell apart, and whether half of them lie below zero; none
    /// where no counter fills them in its life, or not all bits are the value's.
    #[must_use]
    pub fn range(&self) -> Option<(Exact, bool)> {
        let (bits, is_signed) = match self.word_type {
            _ if self.bits.is_some() => return None,
            WordType::U16 => (16, false),
            WordType::I16 => (16, true),
            WordType::U32 => (32, false),
            WordType::I32 => (32, true),
            _ => return None,
        };
        Some((Exact::whole(1 << bits), is_signed))
    }
}

/// Why a point has no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoValue {
    /// It was not read: the device does not have it.
    #[error("the device does not have it")]
    Absent,
    /// The device says that it is not available.
    #[error("the device says: not available")]
    Sentinel,
    /// NaN, or an infinite number.
    #[error("not a number")]
    NotANumber,
    /// Its scale factor is not available, or beyond 10^±10.
    #[error("its scale factor is not available")]
    NoScale,
    /// A negative counter, a charge above 100 %, or beyond the bounds in the profile.
    #[error("out of its range")]
    OutOfRange,
    /// Empty text, or no letter.
    #[error("no text")]
    NoText,
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

impl WordOrder {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            WordOrder::HighFirst => WordOrder::LowFirst,
            WordOrder::LowFirst => WordOrder::HighFirst,
        }
    }
}

/// An exact number: mantissa × 2^exp2 × 10^exp10.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exact {
    mantissa: i128,
    exp2: i32,
    exp10: i32,
}

/// Most decimal digits a shift by a power of ten may have; devices stay below 20.
const EXP10_MAX: i32 = 37;

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

    /// The exact value of a double; `None` for NaN and infinities.
    #[must_use]
    pub fn from_f64_bits(bits: u64) -> Option<Self> {
        let (exponent, fraction) = ((bits >> 52) & 0x7ff, i128::from(bits & ((1 << 52) - 1)));
        if exponent == 0x7ff {
            return None;
        }
        let implicit = if exponent == 0 { 0 } else { 1 << 52 };
        let mantissa = fraction + implicit;
        let exp2 = i32::try_from(exponent.max(1)).ok()? - 1075;
        Some(Exact {
            mantissa: if bits >> 63 == 1 { -mantissa } else { mantissa },
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

    /// The number as a decimal with up to six digits behind the point; `None` where it does not fit.
    #[must_use]
    pub fn decimal(self) -> Option<String> {
        const UNIT: u64 = 1_000_000;
        let micro = self.shifted(6).rounded()?;
        let (whole, rest) = (micro.unsigned_abs() / UNIT, micro.unsigned_abs() % UNIT);
        let sign = if micro < 0 { "-" } else { "" };
        let text = format!("{sign}{whole}.{rest:06}");
        Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
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

    /// The sum of both; `None` where it does not fit.
    #[must_use]
    pub fn plus(self, other: Exact) -> Option<Self> {
        let (exp2, exp10) = (self.exp2.min(other.exp2), self.exp10.min(other.exp10));
        let aligned = |number: Exact| {
            let twos = power(2, number.exp2.checked_sub(exp2)?)?;
            let tens = power(10, number.exp10.checked_sub(exp10)?)?;
            number.mantissa.checked_mul(twos)?.checked_mul(tens)
        };
        let mantissa = aligned(self)?.checked_add(aligned(other)?)?;
        Some(Exact {
            mantissa,
            exp2,
            exp10,
        })
    }

    /// Whether it is more than 0.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.mantissa > 0
    }

    /// The nearest whole number, halves towards plus infinity; `None` where it does not fit.
    ///
    /// Rounding never turns the order of two numbers round, so a counter stays monotone.
    #[must_use]
    pub fn rounded(self) -> Option<i64> {
        self.rounded_in_64_bits()
            .or_else(|| self.rounded_in_128_bits())
    }

    /// The same where 64 bits and a small power of ten are enough, as for nearly every device: this is
    /// most of what decoding costs.
    fn rounded_in_64_bits(self) -> Option<i64> {
        const TENS: [i64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
        if self.exp2 != 0 {
            return None;
        }
        let mantissa = i64::try_from(self.mantissa).ok()?;
        let tens = *TENS.get(usize::try_from(self.exp10.unsigned_abs()).ok()?)?;
        if self.exp10 >= 0 {
            return mantissa.checked_mul(tens);
        }
        let doubled = mantissa.checked_mul(2)?.checked_add(tens)?;
        Some(doubled.div_euclid(2 * tens))
    }

    fn rounded_in_128_bits(self) -> Option<i64> {
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

/// The unsigned integer in `words` once order and bytes are set right.
#[must_use]
pub fn raw(words: &[u16], encoding: &Encoding) -> u64 {
    let swap = encoding.swap_bytes;
    let right = |word: u16| if swap { word.swap_bytes() } else { word };
    let join = |sum: u64, word: &u16| sum << 16 | u64::from(right(*word));
    match encoding.word_order {
        WordOrder::HighFirst => words.iter().fold(0, join),
        WordOrder::LowFirst => words.iter().rev().fold(0, join),
    }
}

/// The number in `words`.
///
/// # Errors
/// A wrong number of words, a sentinel, NaN, infinity, text, or a number beyond `i64`.
pub fn number(words: &[u16], encoding: &Encoding) -> Result<Exact, NoValue> {
    let word_type = encoding.word_type;
    if words.len() != usize::from(word_type.words()) {
        return Err(NoValue::Absent);
    }
    if word_type.is_text() || words.len() > 4 {
        return Err(NoValue::NotANumber);
    }
    let raw = raw(words, encoding);
    if encoding.sentinels.contains(&raw) {
        return Err(NoValue::Sentinel);
    }
    if let Some(bits) = encoding.bits {
        let value = (raw & bits) >> bits.trailing_zeros().min(63);
        return Ok(whole(value));
    }
    let bytes = raw.to_be_bytes();
    let [.., b4, b5, b6, b7] = bytes;
    let number = match word_type {
        WordType::U16 | WordType::U32 | WordType::U64 => Some(whole(raw)),
        WordType::Bit => Some(whole(raw & 1)),
        WordType::I16 => Some(whole(i16::from_be_bytes([b6, b7]))),
        WordType::I32 => Some(whole(i32::from_be_bytes([b4, b5, b6, b7]))),
        WordType::I64 => Some(whole(i64::from_be_bytes(bytes))),
        WordType::F32 => Exact::from_f32_bits(u32::from_be_bytes([b4, b5, b6, b7])),
        WordType::F64 => Exact::from_f64_bits(raw),
        WordType::Letter | WordType::Text(_) => None,
    };
    number.ok_or(NoValue::NotANumber)
}

fn whole(value: impl Into<i128>) -> Exact {
    Exact {
        mantissa: value.into(),
        exp2: 0,
        exp10: 0,
    }
}

/// The printable text in `words`, up to the first zero byte; of a letter's word, the letter.
///
/// # Errors
/// A wrong number of words, nothing printable, or no letter.
pub fn text(words: &[u16], encoding: &Encoding) -> Result<String, NoValue> {
    if words.len() != usize::from(encoding.word_type.words()) {
        return Err(NoValue::Absent);
    }
    let swap = encoding.swap_bytes;
    let right = |word: &u16| if swap { word.swap_bytes() } else { *word };
    let bytes: Vec<u8> = words.iter().flat_map(|w| right(w).to_be_bytes()).collect();
    if encoding.word_type == WordType::Letter {
        return match bytes.as_slice() {
            [_, letter] if letter.is_ascii_uppercase() => Ok(char::from(*letter).to_string()),
            _ => Err(NoValue::NoText),
        };
    }
    let said = bytes.into_iter().take_while(|b| *b != 0);
    let printable: String = said
        .filter(|b| (0x20..0x7f).contains(b))
        .map(char::from)
        .collect();
    let text = printable.trim();
    if text.is_empty() {
        return Err(NoValue::NoText);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wh(kwh: f32) -> Option<i64> {
        Exact::from_f32_bits(kwh.to_bits())?.shifted(3).rounded()
    }

    proptest! {
        #[test]
        fn the_quick_way_to_round_says_the_same(
            mantissa in prop_oneof![-1000_i128..1000, any::<i64>().prop_map(i128::from), any::<i128>()],
            exp10 in -9_i32..9,
        ) {
            let number = Exact { mantissa, exp2: 0, exp10 };
            if let Some(quick) = number.rounded_in_64_bits() {
                prop_assert_eq!(Some(quick), number.rounded_in_128_bits());
            }
            let is_small = mantissa.abs() < 1_000_000 && (-6..=6).contains(&exp10);
            prop_assert!(!is_small || number.rounded_in_64_bits().is_some());
        }
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
        let get = |words: &[u16], word_type, word_order| {
            let encoding = Encoding {
                word_type,
                word_order,
                ..Encoding::default()
            };
            number(words, &encoding).ok()?.rounded()
        };
        let (high, low) = (WordOrder::HighFirst, WordOrder::LowFirst);
        assert_eq!(get(&[0xffff], WordType::I16, high), Some(-1));
        assert_eq!(get(&[1, 2], WordType::U32, high), Some(65_538));
        assert_eq!(get(&[2, 1], WordType::U32, low), Some(65_538));
        assert_eq!(get(&[0xffff, 0xfffe], WordType::I32, high), Some(-2));
        assert_eq!(get(&[0, 0, 1, 0], WordType::I64, high), Some(65_536));
        assert_eq!(get(&[0xffff; 4], WordType::U64, high), None, "does not fit");
        assert_eq!(get(&[1], WordType::U32, high), None, "a word is missing");
    }

    #[test]
    fn sums_lose_nothing() {
        let sum = |a: &str, b: &str| {
            let (a, b) = (Exact::from_decimal(a)?, Exact::from_decimal(b)?);
            a.plus(b)?.shifted(3).rounded()
        };
        assert_eq!(sum("0.1", "0.2"), Some(300));
        assert_eq!(sum("1500", "-400.4"), Some(1_099_600));
        assert_eq!(sum("999999999999999999999999999999", "0.001"), None);
        let half = Exact::from_f32_bits(0.5f32.to_bits()).unwrap();
        let tenth = Exact::from_decimal("0.1").unwrap();
        assert_eq!(
            half.plus(tenth).and_then(|n| n.shifted(3).rounded()),
            Some(600)
        );
    }

    #[test]
    fn decimals_are_read_exactly() {
        let get = |text| Exact::from_decimal(text)?.rounded();
        assert_eq!(get("12345.67"), Some(12_346));
        assert_eq!(get("-0.5"), Some(0));
        assert_eq!(get("17"), Some(17));
        assert_eq!(get("12345.6700000000000000000"), Some(12_346));
        for bad in ["", "-", "1e3", "1.2.3", "NaN", "+1", " 1"] {
            assert_eq!(get(bad), None, "{bad}");
        }
    }

    #[test]
    fn text_ends_at_zero_and_a_letter_is_one() {
        let get = |words: &[u16], word_type: &str, swap_bytes| {
            let encoding = Encoding {
                word_type: word_type.parse().unwrap(),
                swap_bytes,
                ..Encoding::default()
            };
            text(words, &encoding)
        };
        let is = |text: &str| Ok(text.to_owned());
        assert_eq!(get(&[0x4142, 0x4320, 0x0041], "text(6)", false), is("ABC"));
        assert_eq!(get(&[0x4241, 0x2043], "text(4)", true), is("ABC"));
        assert_eq!(get(&[0, 0], "text(4)", false), Err(NoValue::NoText));
        assert_eq!(get(&[0x0043], "letter", false), is("C"));
        assert_eq!(get(&[0x0003], "letter", false), Err(NoValue::NoText));
        for bad in ["text(5)", "text(0)", "text(252)", "text16", "f23"] {
            assert!(bad.parse::<WordType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn some_bits_of_a_register_are_a_value_of_their_own() {
        let encoding = Encoding {
            word_type: WordType::U32,
            bits: Some(0x7f00),
            sentinels: vec![0xffff_ffff],
            ..Encoding::default()
        };
        let get = |words: &[u16]| number(words, &encoding).map(|n| n.rounded());
        assert_eq!(get(&[0xffff, 0x84ff]), Ok(Some(4)));
        assert_eq!(get(&[0xffff, 0xffff]), Err(NoValue::Sentinel));
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

        #[test]
        fn integers_come_back_from_any_order(
            value in any::<i64>(),
            low_first in any::<bool>(),
            swap_bytes in any::<bool>(),
        ) {
            let word_order = if low_first { WordOrder::LowFirst } else { WordOrder::HighFirst };
            let there_and_back = |word_type: WordType, value: i64| {
                let bytes = value.to_be_bytes();
                let width = usize::from(word_type.words()) * 2;
                let mut words: Vec<u16> = bytes[8 - width..]
                    .chunks(2)
                    .map(|b| if swap_bytes { [b[1], b[0]] } else { [b[0], b[1]] })
                    .map(u16::from_be_bytes)
                    .collect();
                if low_first {
                    words.reverse();
                }
                let encoding = Encoding { word_type, word_order, swap_bytes, ..Encoding::default() };
                number(&words, &encoding).ok()?.rounded()
            };
            let [.., a, b] = value.to_be_bytes();
            let low16 = i64::from(u16::from_be_bytes([a, b]));
            let low32 = value & 0xffff_ffff;
            prop_assert_eq!(there_and_back(WordType::U16, low16), Some(low16));
            prop_assert_eq!(there_and_back(WordType::U32, low32), Some(low32));
            prop_assert_eq!(there_and_back(WordType::U64, value & i64::MAX), Some(value & i64::MAX));
            let sign16 = i64::from(i16::from_be_bytes([a, b]));
            prop_assert_eq!(there_and_back(WordType::I16, sign16), Some(sign16));
            let sign32 = (value << 32) >> 32;
            prop_assert_eq!(there_and_back(WordType::I32, sign32), Some(sign32));
            prop_assert_eq!(there_and_back(WordType::I64, value), Some(value));
        }

        #[test]
        fn doubles_of_whole_numbers_are_exact(value in -(1i64 << 53)..(1i64 << 53)) {
            #[allow(clippy::cast_precision_loss, reason = "within 53 bits")]
            let bits = (value as f64).to_bits();
            prop_assert_eq!(Exact::from_f64_bits(bits).unwrap().rounded(), Some(value));
        }

        #[test]
        fn any_words_decode_without_panic_and_no_sentinel_to_a_value(
            words in prop::collection::vec(any::<u16>(), 0..6),
            code in 0usize..10,
            exponent in -12i32..12,
        ) {
            let types = ["u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "bit", "letter"];
            let mut encoding = Encoding {
                word_type: types[code].parse().unwrap(),
                ..Encoding::default()
            };
            let _ = text(&words, &encoding);
            if let Ok(exact) = number(&words, &encoding) {
                let _ = (exact.shifted(exponent).rounded(), exact.shifted(exponent).decimal());
                encoding.sentinels = vec![raw(&words, &encoding)];
                prop_assert_eq!(number(&words, &encoding), Err(NoValue::Sentinel));
            }
        }
    }
}
