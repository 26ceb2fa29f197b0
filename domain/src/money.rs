//! Price and money as integers, and the only place that rounds.
//!
//! | left | op | right | gives |
//! |---|---|---|---|
//! | `Price` (µtoken/kWh = ntoken/Wh) | × | `Energy` (Wh) | `Money` (ntoken), exact |
//! | `Price` | × | `Price` | nothing: not a price |
//! | `Money` | ± | `Money` | `Option<Money>` (checked) |
//!
//! Rounding happens in [`Price::midpoint_floor`], [`Price::between_floor`], [`Money::percent_floor`],
//! [`Money::from_ratio`], [`split_largest_remainder`] and nowhere else. `rust_decimal` is used for text at the edge only.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use sha2::{Digest, Sha256};

use crate::energy::{Energy, checked_sums};

/// Micro-tokens in a token: the scale of a price.
pub const MICRO_PER_TOKEN: i64 = 1_000_000;
/// Nano-tokens in a token: the scale of money.
pub const NANO_PER_TOKEN: i64 = 1_000_000_000;

/// A price in micro-tokens per kilowatt-hour, which is the same number in nano-tokens per watt-hour.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(transparent)]
pub struct Price(#[n(0)] i64);

impl Price {
    /// Free of charge.
    pub const ZERO: Price = Price(0);

    /// A price from micro-tokens per kWh.
    #[must_use]
    pub const fn from_micro_per_kwh(micro: i64) -> Self {
        Price(micro)
    }

    /// Micro-tokens per kWh.
    #[must_use]
    pub const fn micro_per_kwh(self) -> i64 {
        self.0
    }

    /// What `energy` costs at this price: an exact product.
    ///
    /// # Errors
    /// The product does not fit 64 bits.
    pub fn amount(self, energy: Energy) -> Result<Money, MoneyError> {
        self.0
            .checked_mul(energy.wh())
            .map(Money)
            .ok_or(MoneyError::Overflow)
    }

    /// The middle of two prices, floored to the tick of one micro-token per kWh.
    #[must_use]
    pub fn midpoint_floor(self, other: Price) -> Price {
        Price(i64::midpoint_floor(self.0, other.0))
    }

    /// `self + k × (to − self)` floored to the tick, with `k` in millionths (0 ..= 1 000 000).
    ///
    /// # Errors
    /// `k` is above one.
    pub fn between_floor(self, to: Price, k_millionths: u32) -> Result<Price, MoneyError> {
        if k_millionths > 1_000_000 {
            return Err(MoneyError::ShareAboveOne(k_millionths));
        }
        let span = i128::from(to.0) - i128::from(self.0);
        let step = (span * i128::from(k_millionths)).div_euclid(1_000_000);
        i64::try_from(i128::from(self.0) + step)
            .map(Price)
            .map_err(|_| MoneyError::Overflow)
    }

    /// The price for a sentence: trailing zeros cut, two decimals kept: `0.113`, `0.08`.
    #[must_use]
    pub fn short(self) -> String {
        let text = self.to_string();
        let cut = text.trim_end_matches('0');
        let decimals = cut.len() - cut.find('.').map_or(cut.len(), |dot| dot + 1);
        text[..cut.len() + 2_usize.saturating_sub(decimals)].to_owned()
    }
}

/// Floored midpoint of two integers without overflow.
trait MidpointFloor {
    fn midpoint_floor(a: i64, b: i64) -> i64;
}

impl MidpointFloor for i64 {
    fn midpoint_floor(a: i64, b: i64) -> i64 {
        // Bits in common, plus half of the bits that differ; `>>` floors also below zero.
        (a & b) + ((a ^ b) >> 1)
    }
}

impl fmt::Display for Price {
    /// Tokens per kWh with six decimals: `0.132000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, 6)
    }
}

impl FromStr for Price {
    type Err = MoneyError;

    /// Tokens per kWh with up to six decimals.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        parse_scaled(text, 6).map(Price)
    }
}

/// An amount of money in nano-tokens.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(transparent)]
pub struct Money(#[n(0)] i64);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);

    /// Money from nano-tokens.
    #[must_use]
    pub const fn from_nano(nano: i64) -> Self {
        Money(nano)
    }

    /// Nano-tokens.
    #[must_use]
    pub const fn nano(self) -> i64 {
        self.0
    }

    /// `numerator / denominator` nano-tokens, rounded half up.
    ///
    /// # Errors
    /// The denominator is not above zero, or the result does not fit.
    pub fn from_ratio(numerator: i128, denominator: i128) -> Result<Money, MoneyError> {
        if denominator <= 0 {
            return Err(MoneyError::BadSplit);
        }
        let (whole, rest) = (
            numerator.div_euclid(denominator),
            numerator.rem_euclid(denominator),
        );
        let up = i128::from(rest >= denominator - rest);
        i64::try_from(whole + up)
            .map(Money)
            .map_err(|_| MoneyError::Overflow)
    }

    /// A percentage fee in basis points of this amount, floored: the remainder stays with the payer.
    ///
    /// # Errors
    /// The fee does not fit 64 bits.
    pub fn percent_floor(self, basis_points: u32) -> Result<Money, MoneyError> {
        let fee = (i128::from(self.0) * i128::from(basis_points)).div_euclid(10_000);
        i64::try_from(fee)
            .map(Money)
            .map_err(|_| MoneyError::Overflow)
    }
}

impl fmt::Display for Money {
    /// Tokens with nine decimals: `1.320000000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, 9)
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    /// Tokens with up to nine decimals.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        parse_scaled(text, 9).map(Money)
    }
}

/// Splits `total` over `weights` so that the parts sum to `total` exactly.
///
/// Each part is floored, and what is left goes one by one to the largest remainders. Equal remainders
/// are ordered by SHA-256 of `salt ‖ index key`, so that over many intervals nobody is favoured.
/// `keys[i]` names the party of `weights[i]`. All weights zero gives all parts zero only for a zero
/// total.
///
/// # Errors
/// A negative weight or total, keys and weights of different length, or a total that nobody can take.
pub fn split_largest_remainder(
    total: i64,
    weights: &[i64],
    keys: &[&[u8]],
    salt: &[u8],
) -> Result<Vec<i64>, MoneyError> {
    if weights.len() != keys.len() {
        return Err(MoneyError::BadSplit);
    }
    let mut parts = Vec::new();
    let key = |index: usize| keys[index];
    split_into(
        total,
        weights,
        key,
        salt,
        &mut Remainders::default(),
        &mut parts,
    )?;
    Ok(parts)
}

/// Memory that splits use again: what each part's division left over, and whose it is.
#[derive(Clone, Debug, Default)]
pub struct Remainders {
    list: Vec<(u128, usize)>,
}

/// [`split_largest_remainder`] into memory of the caller, with a key asked for only where remainders tie.
///
/// # Errors
/// A negative weight or total, or a total that nobody can take.
pub fn split_into<K: AsRef<[u8]>>(
    total: i64,
    weights: &[i64],
    key: impl Fn(usize) -> K,
    salt: &[u8],
    remainders: &mut Remainders,
    parts: &mut Vec<i64>,
) -> Result<(), MoneyError> {
    if total < 0 || weights.iter().any(|w| *w < 0) {
        return Err(MoneyError::BadSplit);
    }
    let sum: i128 = weights.iter().map(|w| i128::from(*w)).sum();
    parts.clear();
    if i128::from(total) == sum {
        parts.extend_from_slice(weights);
        return Ok(());
    }
    if sum == 0 {
        return Err(MoneyError::BadSplit);
    }
    let given = floors(total, weights, sum.cast_unsigned(), remainders, parts)?;
    let left = usize::try_from(i128::from(total) - given).map_err(|_| MoneyError::Overflow)?;
    give_rest(left, key, salt, &mut remainders.list, parts);
    assert_eq!(
        parts.iter().map(|p| i128::from(*p)).sum::<i128>(),
        i128::from(total)
    );
    Ok(())
}

/// The floored parts, what each leaves over, and their sum. In 64 bits where all products fit them.
fn floors(
    total: i64,
    weights: &[i64],
    sum: u128,
    remainders: &mut Remainders,
    parts: &mut Vec<i64>,
) -> Result<i128, MoneyError> {
    remainders.list.clear();
    let total = total.unsigned_abs();
    let mut given = 0_i128;
    if let (Ok(sum), Some(_)) = (
        u64::try_from(sum),
        sum.checked_mul(u128::from(total))
            .filter(|p| u64::try_from(*p).is_ok()),
    ) {
        for (index, weight) in weights.iter().enumerate() {
            let product = total * weight.unsigned_abs();
            let (part, rest) = (product / sum, product % sum);
            given += i128::from(part);
            parts.push(i64::try_from(part).map_err(|_| MoneyError::Overflow)?);
            if rest > 0 {
                remainders.list.push((u128::from(rest), index));
            }
        }
        return Ok(given);
    }
    for (index, weight) in weights.iter().enumerate() {
        let product = u128::from(total) * u128::from(weight.unsigned_abs());
        let (part, rest) = (product / sum, product % sum);
        let part = i64::try_from(part).map_err(|_| MoneyError::Overflow)?;
        given += i128::from(part);
        parts.push(part);
        if rest > 0 {
            remainders.list.push((rest, index));
        }
    }
    Ok(given)
}

/// Gives one each to the `left` largest remainders. Only those that tie at the last place are ordered by
/// their digest, which takes longer than all the rest.
fn give_rest<K: AsRef<[u8]>>(
    left: usize,
    key: impl Fn(usize) -> K,
    salt: &[u8],
    list: &mut [(u128, usize)],
    parts: &mut [i64],
) {
    if left == 0 {
        return;
    }
    let (larger, last, _) = list.select_nth_unstable_by(left - 1, |a, b| b.0.cmp(&a.0));
    let last = last.0;
    for (remainder, index) in larger.iter() {
        if *remainder > last {
            parts[*index] += 1;
        }
    }
    let above = larger.iter().filter(|(r, _)| *r > last).count();
    let mut tied: Vec<usize> = list
        .iter()
        .filter(|(r, _)| *r == last)
        .map(|(_, i)| *i)
        .collect();
    if tied.len() > left - above {
        tied.sort_by_cached_key(|index| -> ([u8; 32], usize) {
            let hash = Sha256::new().chain_update(salt).chain_update(key(*index));
            (hash.finalize().into(), *index)
        });
    }
    for index in tied.into_iter().take(left - above) {
        parts[index] += 1;
    }
}

checked_sums! { Price Money }

fn write_scaled(f: &mut fmt::Formatter<'_>, value: i64, decimals: u32) -> fmt::Result {
    f.pad(&Decimal::from_i128_with_scale(i128::from(value), decimals).to_string())
}

fn parse_scaled(text: &str, decimals: u32) -> Result<i64, MoneyError> {
    let wrong = || MoneyError::NotANumber {
        text: text.to_owned(),
        decimals,
    };
    let plain = text.strip_prefix('-').unwrap_or(text);
    let shape_ok = plain.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && plain.starts_with(|c: char| c.is_ascii_digit());
    if !shape_ok {
        return Err(wrong());
    }
    let value = Decimal::from_str_exact(text)
        .map_err(|_| wrong())?
        .normalize();
    if value.scale() > decimals {
        return Err(wrong());
    }
    let scaled = value
        .mantissa()
        .checked_mul(10_i128.pow(decimals - value.scale()));
    scaled
        .and_then(|v| i64::try_from(v).ok())
        .ok_or(MoneyError::Overflow)
}

/// Why a sum of money or a price was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MoneyError {
    /// The result does not fit 64 bits.
    #[error("the amount is too large: it does not fit 64 bits")]
    Overflow,
    /// Text that is not a plain decimal number of the wanted precision.
    #[error("`{text}` is not a decimal number with at most {decimals} decimals")]
    NotANumber {
        /// The text as it was given.
        text: String,
        /// Decimals that are allowed.
        decimals: u32,
    },
    /// A share above one.
    #[error("a share of {0} millionths is above one")]
    ShareAboveOne(u32),
    /// A split that has no meaning.
    #[error("this amount cannot be split: a negative part, or nobody to take it")]
    BadSplit,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_kilowatt_hour_at_13_2_cents_costs_13_2_cents() {
        let price: Price = "0.132".parse().unwrap();
        assert_eq!(price.micro_per_kwh(), 132_000);
        assert_eq!(
            price.amount(Energy::from_wh(1000)).unwrap().to_string(),
            "0.132000000"
        );
        assert_eq!(price.to_string(), "0.132000");
    }

    #[test]
    fn a_price_in_a_sentence_has_no_needless_zeros() {
        for (micro, text) in [
            (113_000, "0.113"),
            (80_000, "0.08"),
            (300_000, "0.30"),
            (0, "0.00"),
        ] {
            assert_eq!(Price::from_micro_per_kwh(micro).short(), text);
        }
        assert_eq!(Price::from_micro_per_kwh(-12_345_678).short(), "-12.345678");
    }

    #[test]
    fn a_ratio_is_rounded_half_up() {
        for (numerator, denominator, nano) in
            [(5, 2, 3), (-5, 2, -2), (7, 3, 2), (8, 3, 3), (6, 3, 2)]
        {
            let money = Money::from_ratio(numerator, denominator).unwrap();
            assert_eq!(money.nano(), nano, "{numerator}/{denominator}");
        }
        assert!(Money::from_ratio(1, 0).is_err() && Money::from_ratio(i128::MAX, 1).is_err());
    }

    #[test]
    fn text_that_is_not_a_price_is_refused() {
        for text in [
            "",
            "x",
            "1e3",
            "0.1234567",
            "+1",
            ".5",
            "1_000",
            "--1",
            "1.2.3",
            " 1",
            "NaN",
        ] {
            assert!(text.parse::<Price>().is_err(), "{text:?} was taken");
        }
        assert_eq!("-0.5".parse::<Price>().unwrap().micro_per_kwh(), -500_000);
        assert_eq!(
            "9223372036854775807".parse::<Price>(),
            Err(MoneyError::Overflow)
        );
    }

    proptest! {
        #[test]
        fn text_round_trips(nano: i64) {
            let money = Money::from_nano(nano);
            prop_assert_eq!(money.to_string().parse::<Money>().unwrap(), money);
        }

        #[test]
        fn the_middle_is_the_floored_mean(a: i64, b: i64) {
            let mean = (i128::from(a) + i128::from(b)).div_euclid(2);
            let middle = Price::from_micro_per_kwh(a).midpoint_floor(Price::from_micro_per_kwh(b));
            prop_assert_eq!(i128::from(middle.micro_per_kwh()), mean);
        }

        #[test]
        fn a_split_is_the_one_of_the_rule_as_it_is_written(
            total in 0_i64..400,
            scale in prop_oneof![Just(1_i64), Just(1_000_000_000_000)],
            weights in proptest::collection::vec(0_i64..6, 1..30),
        ) {
            let weights: Vec<i64> = weights.iter().map(|w| w * scale).collect();
            let sum: i128 = weights.iter().map(|w| i128::from(*w)).sum();
            prop_assume!(sum > 0);
            let names: Vec<[u8; 8]> = (0..weights.len() as u64).map(u64::to_be_bytes).collect();
            let keys: Vec<&[u8]> = names.iter().map(<[u8; 8]>::as_slice).collect();
            let product = |i: usize| i128::from(total) * i128::from(weights[i]);
            let mut expect: Vec<i64> =
                (0..weights.len()).map(|i| i64::try_from(product(i) / sum).unwrap()).collect();
            let left = usize::try_from(total - expect.iter().sum::<i64>()).unwrap();
            let mut order: Vec<usize> = (0..weights.len()).collect();
            order.sort_by_key(|i| {
                let tie: [u8; 32] =
                    Sha256::new().chain_update(b"salt").chain_update(keys[*i]).finalize().into();
                (std::cmp::Reverse(product(*i) % sum), tie)
            });
            for index in order.into_iter().take(left) {
                expect[index] += 1;
            }
            prop_assert_eq!(split_largest_remainder(total, &weights, &keys, b"salt").unwrap(), expect);
        }

        #[test]
        fn a_split_sums_to_the_total_and_is_within_one_of_the_share(
            total in 0_i64..1_000_000_000_000,
            weights in proptest::collection::vec(0_i64..1_000_000_000, 1..40),
        ) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let names: Vec<[u8; 8]> = (0..weights.len() as u64).map(u64::to_be_bytes).collect();
            let keys: Vec<&[u8]> = names.iter().map(<[u8; 8]>::as_slice).collect();
            let parts = split_largest_remainder(total, &weights, &keys, b"salt").unwrap();
            prop_assert_eq!(parts.iter().sum::<i64>(), total);
            let sum: i128 = weights.iter().map(|w| i128::from(*w)).sum();
            for (part, weight) in parts.iter().zip(&weights) {
                let exact = i128::from(total) * i128::from(*weight);
                prop_assert!((i128::from(*part) * sum - exact).abs() < sum);
            }
        }
    }
}
