//! Light under a clear sky, and light split into beam and diffuse.
//!
//! Clear sky: Haurwitz 1945 (horizontal light only), and Ineichen and Perez 2002 with Linke turbidity
//! (without their later enhancement). Split: Erbs, Klein and Duffie 1982, or closure where two of the
//! three are measured.

use super::sun::{Place, Sun};

/// From this zenith angle on (without refraction) the split is not trusted: all light is diffuse.
pub const SPLIT_ZENITH_MAX_DEG: f64 = 87.0;
/// The least cosine of the zenith angle in a clearness index.
const COS_ZENITH_MIN: f64 = 0.065;
/// The most beam that closure believes, in W/m².
const CLOSURE_BEAM_MAX_W_PER_M2: f64 = 1200.0;

/// Light at one instant and place, in W/m².
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Light {
    /// On a horizontal plane (GHI).
    pub global: f64,
    /// From the sun's disc, on a plane that faces it (DNI).
    pub beam: f64,
    /// From the rest of the sky, on a horizontal plane (DHI).
    pub diffuse: f64,
}

/// Haurwitz: 1098 · cos z · exp(−0.059 / cos z), on a horizontal plane, in W/m².
#[must_use]
pub fn haurwitz_w_per_m2(sun: Sun) -> f64 {
    if sun.up <= 0.0 {
        return 0.0;
    }
    1098.0 * sun.up * libm::exp(-0.059 / sun.up)
}

/// Ineichen and Perez with a Linke turbidity (2 very clear, 3 usual, 5 hazy).
///
/// GHI = c₁·I₀·cos z·exp(−c₂·m·(f₁ + f₂·(T − 1))) with f₁ = exp(−h/8000), f₂ = exp(−h/1250),
/// c₁ = 5.09e−5·h + 0.868, c₂ = 3.92e−5·h + 0.0387, m the airmass at the place's pressure; the beam is
/// the smaller one of I₀·(0.664 + 0.163/f₁)·exp(−0.09·m·(T − 1)) and of what GHI allows.
#[must_use]
pub fn ineichen(sun: Sun, place: Place, turbidity: f64) -> Light {
    let (Some(relative), true) = (sun.airmass(), sun.up > 0.0) else {
        return Light::default();
    };
    let airmass = relative * place.pressure_share();
    let altitude_m = place.altitude_m;
    let f1 = libm::exp(-altitude_m / 8000.0);
    let f2 = libm::exp(-altitude_m / 1250.0);
    let c1 = 5.09e-5 * altitude_m + 0.868;
    let c2 = 3.92e-5 * altitude_m + 0.0387;
    let global = c1
        * sun.outside_w_per_m2
        * sun.up
        * libm::exp(-c2 * airmass * (f1 + f2 * (turbidity - 1.0)));
    let by_air = sun.outside_w_per_m2
        * (0.664 + 0.163 / f1)
        * libm::exp(-0.09 * airmass * (turbidity - 1.0));
    let share = 1.0 - (0.1 - 0.2 * libm::exp(-turbidity)) / (0.1 + 0.882 / f1);
    let by_global = global * (share / sun.up).max(0.0);
    let beam = by_air.min(by_global);
    Light {
        global,
        beam,
        diffuse: global - beam * sun.up,
    }
}

/// Erbs: how much of the light on a horizontal plane is diffuse, from the share of it that comes
/// through the air at all.
#[inline]
#[must_use]
pub fn erbs_diffuse_share(clearness: f64) -> f64 {
    if clearness <= 0.22 {
        1.0 - 0.09 * clearness
    } else if clearness <= 0.8 {
        ((12.336 * clearness - 16.638) * clearness + 4.388) * clearness * clearness
            - 0.1604 * clearness
            + 0.9511
    } else {
        0.165
    }
}

/// Light on a horizontal plane split by Erbs.
#[inline]
#[must_use]
pub fn erbs(global: f64, sun: Sun) -> Light {
    let outside = sun.outside_w_per_m2 * sun.up.max(COS_ZENITH_MIN);
    let clearness = (global / outside).clamp(0.0, 1.0);
    let diffuse = global * erbs_diffuse_share(clearness);
    split(global, diffuse, sun, f64::INFINITY)
}

/// Light with measured global and diffuse parts: the beam is what closes the sum.
#[must_use]
pub fn closure(global: f64, diffuse: f64, sun: Sun) -> Light {
    let light = split(global, diffuse, sun, CLOSURE_BEAM_MAX_W_PER_M2);
    Light { diffuse, ..light }
}

/// The beam that is left beside `diffuse`; all is diffuse where the sun is too low.
#[inline]
fn split(global: f64, diffuse: f64, sun: Sun, beam_max: f64) -> Light {
    if global.is_nan() || global <= 0.0 {
        return Light::default();
    }
    if sun.true_zenith_deg >= SPLIT_ZENITH_MAX_DEG || global <= diffuse {
        return Light {
            global,
            beam: 0.0,
            diffuse: global,
        };
    }
    Light {
        global,
        beam: ((global - diffuse) / sun.up).min(beam_max),
        diffuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEA: Place = Place {
        latitude_deg: 50.0,
        longitude_deg: 10.0,
        altitude_m: 0.0,
    };

    fn sun(zenith_deg: f64) -> Sun {
        Sun::standing(zenith_deg, 180.0, 1361.0)
    }

    #[test]
    fn haurwitz_overhead_is_its_closed_form() {
        let overhead = haurwitz_w_per_m2(sun(0.0));
        assert!((overhead - 1098.0 * (-0.059_f64).exp()).abs() < 1e-6);
        assert!(haurwitz_w_per_m2(sun(95.0)).abs() < 1e-12);
    }

    #[test]
    fn ineichen_closes_and_falls_with_turbidity() {
        for zenith in [0.0, 30.0, 60.0, 80.0, 89.0] {
            let mut last = f64::INFINITY;
            for turbidity in [2.0, 3.0, 5.0] {
                let light = ineichen(sun(zenith), SEA, turbidity);
                let sum = light.diffuse + light.beam * sun(zenith).up;
                assert!((sum - light.global).abs() < 1e-9);
                assert!(light.global < last && light.beam <= 1361.0 && light.diffuse >= 0.0);
                last = light.global;
            }
        }
        assert_eq!(ineichen(sun(95.0), SEA, 3.0), Light::default());
    }

    #[test]
    fn erbs_is_continuous_and_between_0_and_1() {
        for joint in [0.22, 0.8] {
            let (below, above) = (erbs_diffuse_share(joint), erbs_diffuse_share(joint + 1e-9));
            assert!(
                (below - above).abs() < 5e-3,
                "{below} and {above} at {joint}"
            );
        }
        for step in 0..=100_i32 {
            let share = erbs_diffuse_share(f64::from(step) / 100.0);
            assert!((0.1..=1.0).contains(&share));
        }
    }

    #[test]
    fn a_split_keeps_all_of_the_light() {
        for global in [10.0, 200.0, 500.0, 900.0] {
            let light = erbs(global, sun(50.0));
            assert!((light.diffuse + light.beam * sun(50.0).up - global).abs() < 1e-9);
        }
        assert_eq!(erbs(50.0, sun(89.0)).diffuse.to_bits(), 50.0_f64.to_bits());
        assert_eq!(erbs(f64::NAN, sun(30.0)), Light::default());
        assert!(closure(300.0, 320.0, sun(30.0)).beam.abs() < 1e-12);
    }
}
