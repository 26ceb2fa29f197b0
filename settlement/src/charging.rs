//! Charging a car: what a session costs by its tariff, line by line.
//!
//! In flow order: [`tariff`] (what is charged when, read from OCPI 2.2.1 or 2.3), [`record`] (what happened, read
//! from an OCPI charging record), [`rate`] (the bill). Around it: [`terms`] (what a driver was promised, as [`promise`] keeps it, of what [`offer`] puts
//! forward for a [`station`]), [`session`] (from the offer to the payment), [`split`] (who gets what of it), [`profit`] (a station's
//! month, and whether it is worth its costs), [`receipt`] (what the driver keeps), [`ocmf`] (signed readings in the form that transparency software reads). All of it is pure and in integers: nano-units of the
//! currency, nano-kWh and nanoseconds, so that a price per hour needs no rounding before the end of its line.

pub mod offer;
pub mod profit;
pub mod promise;
pub mod rate;
pub mod receipt;
pub mod record;
pub mod session;
pub mod split;
pub mod station;
pub mod tariff;
pub mod terms;

pub use domain::json::FileError;
pub use domain::ocmf;

/// Nano-units in a unit: of money, kWh, ampere, kilowatt, and nanoseconds in a second.
pub const NANO: i128 = 1_000_000_000;
/// Seconds in an hour, by which a price per hour is divided.
pub const HOUR_S: i128 = 3_600;

/// A number of nano-units with as many decimals as it has, `least` at least.
#[must_use]
pub fn decimal(nano: i128, least: usize) -> String {
    let (sign, whole) = (if nano < 0 { "-" } else { "" }, nano.unsigned_abs());
    let unit = NANO.unsigned_abs();
    let digits = format!("{:09}", whole % unit);
    let cut = digits.trim_end_matches('0').len().max(least);
    let point = if cut > 0 { "." } else { "" };
    format!("{sign}{}{point}{}", whole / unit, &digits[..cut])
}
