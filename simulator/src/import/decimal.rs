//! Decimal numbers as they stand in files, read exactly to whole millionths.

/// Digits that are looked at; more would not change a millionth of anything here.
const DIGITS_MAX: u32 = 24;

/// `text` × `factor`, rounded half away from zero. `None` where it is no number or too large.
///
/// Read as whole numbers, not through a float: 0.143 × 1,000,000,000 is 143,000,000.
#[must_use]
pub fn times(text: &str, factor: i64) -> Option<i64> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let (mut mantissa, mut taken, mut scale) = (0_i128, 0_u32, 0_i32);
    for (at, digit) in whole.bytes().chain(part.bytes()).enumerate() {
        if !digit.is_ascii_digit() {
            return None;
        }
        let after = i32::from(at >= whole.len());
        if taken < DIGITS_MAX {
            mantissa = mantissa * 10 + i128::from(digit - b'0');
            taken += u32::from(mantissa != 0);
            scale += after;
        } else {
            scale += after - 1;
        }
    }
    let value = scaled(mantissa, exponent.checked_sub(scale)?, factor)?;
    i64::try_from(if negative { -value } else { value }).ok()
}

/// `mantissa` × 10^`exponent` × `factor`, rounded.
fn scaled(mantissa: i128, exponent: i32, factor: i64) -> Option<i128> {
    let product = mantissa.checked_mul(i128::from(factor))?;
    let power = exponent.unsigned_abs();
    if exponent >= 0 {
        return match product {
            0 => Some(0),
            _ => product.checked_mul(10_i128.checked_pow(power)?),
        };
    }
    let Some(divisor) = 10_i128.checked_pow(power) else {
        return Some(0);
    };
    Some((product + divisor / 2) / divisor)
}

/// A float × `factor`, rounded; `None` where the product does not fit.
#[must_use]
pub fn rounded(value: f64) -> Option<i64> {
    /// The largest whole number up to which floats have every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let rounded = value.round();
    if !(-EXACT..=EXACT).contains(&rounded) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole, and within ±2^53")]
    Some(rounded as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly() {
        for (text, factor, expected) in [
            ("0.143", 1_000_000_000, 143_000_000),
            ("-0.0005", 1_000_000, -500),
            ("1e-05", 1_000_000_000, 10_000),
            ("2.5E3", 10, 25_000),
            (".5", 10, 5),
            ("5.", 10, 50),
            ("0", 7, 0),
            ("0.0000000005", 1_000_000_000, 1),
            ("0.00000000049", 1_000_000_000, 0),
            ("+12", 1, 12),
            ("0.14299999999999999999999999999999999", 1_000, 143),
            ("1e-400", 1_000, 0),
        ] {
            assert_eq!(times(text, factor), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "",
            "-",
            ".",
            "1,5",
            "Null",
            "NaN",
            "inf",
            "1e",
            "0x10",
            "1e400",
            "99999999999999999999",
        ] {
            assert_eq!(times(text, 1), None, "{text}");
        }
    }
}
