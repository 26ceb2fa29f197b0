//! Device models of the fast simulator: pure functions of parameters, state and random numbers that
//! are looked up. Physics is in floats, what leaves a device is in whole watt-hours.
//!
//! What all homes of a place share is computed once an interval (where the sun stands, the light of
//! the sky, the rhythm of the day); what is left for each home is a few multiplications.
//!
//! | file | turns | into |
//! |---|---|---|
//! | [`random`] | seed × stream × home × interval | random numbers |
//! | [`sun`] | instant × place | where the sun stands, airmass, light outside the air |
//! | [`clear_sky`] | sun | light under a clear sky; light split into beam and diffuse |
//! | [`plane`] | light × tilt and azimuth | light on a plane |
//! | [`pv`] | light on planes, air, wind | power and energy of a plant |
//! | [`weather`], [`clouds`] | a file, or a process | air, wind and light of an interval |
//! | [`load`], [`bdew`] | rhythm of the day | energy that a household uses |
//! | [`battery`] | wished energy | energy charged and discharged, with exact books |
//! | [`ev`] | sessions × policy | energy charged, and what was left unserved |
//! | [`heat_pump`] | weather, hot water | electricity, and how cold it got |
//! | [`forecast`] | the true course | what a home expects |
//!
//! Every function of angles, roots and exponentials is one of `libm`, not of the platform: the same
//! scenario gives the same bytes on every machine.

pub mod battery;
pub mod bdew;
pub mod clear_sky;
pub mod clouds;
pub mod ev;
pub mod forecast;
pub mod heat_pump;
pub mod load;
pub mod plane;
pub mod pv;
pub mod random;
pub mod sun;
pub mod weather;

/// Whole watt-hours out of a stream of fractions: what is not whole yet is carried to the next
/// interval, so that the sum over a year is right to one watt-hour.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Carry(f32);

impl Carry {
    /// The whole watt-hours of `energy_wh` and of what was carried before. What is no number, or
    /// below zero, is nothing.
    #[inline]
    pub fn whole_wh(&mut self, energy_wh: f32) -> i32 {
        let total = energy_wh.clamp(0.0, WH_MAX) + self.0;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "held below WH_MAX, which is far inside an i32; what is no number becomes 0"
        )]
        let whole = total as i32;
        let rest = total - whole as f32;
        self.0 = if rest > 0.0 { rest } else { 0.0 };
        whole
    }
}

/// The most energy that a device moves in one interval, in Wh: 16 MW for an hour.
pub const WH_MAX: f32 = 16_000_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_carried_and_none_is_lost() {
        let mut carry = Carry::default();
        let sum: i32 = (0..3600).map(|_| carry.whole_wh(0.667)).sum();
        assert!((2400..=2402).contains(&sum), "{sum} Wh of 2401.2 Wh");
    }

    #[test]
    fn what_is_no_energy_is_none() {
        let mut carry = Carry::default();
        for bad in [f32::NAN, -5.0, f32::NEG_INFINITY] {
            assert_eq!(carry.whole_wh(bad), 0);
        }
        assert_eq!(carry.whole_wh(f32::INFINITY), 16_000_000);
        assert_eq!(carry.whole_wh(3.0), 3);
    }
}
