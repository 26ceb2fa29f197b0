//! Energy in whole watt-hours and power in whole watts.
//!
//! | left | op | right | gives |
//! |---|---|---|---|
//! | `Energy` | ± | `Energy` | `Option<Energy>` (checked) |
//! | `Energy` | × | `Price` | `Money` (exact, in [`crate::money`]) |
//!
//! Energy is a difference of cumulative registers, so it is exact; a rounded energy does not exist.

use std::fmt;

/// Sum and difference of a unit, checked.
macro_rules! checked_sums {
    ($($name:ident)*) => {$(
        impl $name {
            /// Sum; `None` where it does not fit 64 bits.
            #[must_use]
            pub const fn checked_add(self, other: $name) -> Option<$name> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Some($name(sum)),
                    None => None,
                }
            }

            /// Difference; `None` where it does not fit 64 bits.
            #[must_use]
            pub const fn checked_sub(self, other: $name) -> Option<$name> {
                match self.0.checked_sub(other.0) {
                    Some(difference) => Some($name(difference)),
                    None => None,
                }
            }
        }
    )*};
}
pub(crate) use checked_sums;

/// An amount of energy in watt-hours. Negative only where a difference is meant.
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
pub struct Energy(#[n(0)] i64);

impl Energy {
    /// No energy.
    pub const ZERO: Energy = Energy(0);

    /// Energy from watt-hours.
    #[must_use]
    pub const fn from_wh(wh: i64) -> Self {
        Energy(wh)
    }

    /// Watt-hours.
    #[must_use]
    pub const fn wh(self) -> i64 {
        self.0
    }

    /// The smaller of two energies.
    #[must_use]
    pub fn min(self, other: Energy) -> Energy {
        Ord::min(self, other)
    }

    /// Whether this is more than nothing.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }
}

checked_sums! { Energy }

impl fmt::Display for Energy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Wh", self.0)
    }
}

/// Power in watts. What a positive value means is said where the value is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Power(i64);

impl Power {
    /// No power.
    pub const ZERO: Power = Power(0);

    /// Power from watts.
    #[must_use]
    pub const fn from_w(w: i64) -> Self {
        Power(w)
    }

    /// Watts.
    #[must_use]
    pub const fn w(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} W", self.0)
    }
}
