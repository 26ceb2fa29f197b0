//! The few places where a float of the physics becomes an integer, or the other way round.
//! Everything that is counted afterwards is exact.

/// The largest power this crate handles, in watts: far above any street, far below any overflow.
pub(crate) const POWER_MAX_W: i64 = 10_000_000;

/// A power rounded down to whole watts; what is no number is 0.
pub(crate) fn whole_watts(power_w: f64) -> i64 {
    bounded(power_w.floor(), POWER_MAX_W)
}

/// `value` rounded to the nearest integer, held within ±`limit`; what is no number is 0.
pub(crate) fn bounded(value: f64, limit: i64) -> i64 {
    let limit_f = float(limit);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "held within ±limit, which is an i64"
    )]
    let whole = value.clamp(-limit_f, limit_f).round() as i64;
    whole
}

/// An integer as a float; exact below 2^53, which every value here is.
pub(crate) fn float(value: i64) -> f64 {
    value as f64
}

/// `value` with the precision of a float32 register.
pub(crate) fn single(value: f64) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "losing precision is what is wanted"
    )]
    let single = value as f32;
    single
}

/// `value` as the register type `T`, held at the ends of its range: a register shows its largest
/// value where the physics goes beyond it, as real devices do.
pub(crate) fn saturate<T: TryFrom<i64> + Bounded>(value: i64) -> T {
    T::try_from(value).unwrap_or(if value < 0 { T::LOWEST } else { T::HIGHEST })
}

/// The ends of an integer type.
pub(crate) trait Bounded {
    /// The smallest value.
    const LOWEST: Self;
    /// The largest value.
    const HIGHEST: Self;
}

macro_rules! bounded_types {
    ($($t:ty),*) => {$(
        impl Bounded for $t {
            const LOWEST: Self = <$t>::MIN;
            const HIGHEST: Self = <$t>::MAX;
        }
    )*};
}
bounded_types!(u16, i16, u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_become_integers_within_limits() {
        assert_eq!(whole_watts(1234.9), 1234);
        assert_eq!(whole_watts(f64::NAN), 0);
        assert_eq!(whole_watts(f64::INFINITY), POWER_MAX_W);
        assert_eq!(bounded(-7.6, 100), -8);
    }

    #[test]
    fn registers_stop_at_their_ends() {
        assert_eq!(saturate::<i16>(-40_000), i16::MIN);
        assert_eq!(saturate::<u16>(70_000), u16::MAX);
        assert_eq!(saturate::<u16>(-1), 0);
        assert_eq!(saturate::<u32>(12), 12);
    }
}
