//! Where the sun stands, seen from a place, and how much air its light passes.
//!
//! Position: Grena 3 (Grena, Solar Energy 86, 2012; 0.01° over 2010–2110) by the crate
//! `solar-positioning`. Refraction: NREL SPA's formula at 1013.25 hPa and 12 °C. Light outside the
//! air: Spencer 1971. Airmass: Kasten and Young 1989.

use chrono::{DateTime, Datelike};
use solar_positioning::time::JulianDate;
use solar_positioning::{Location, SolarPositions};

/// Difference of terrestrial time and UT1 in these years, good to a few seconds.
const DELTA_T_S: f64 = 69.0;
/// Julian date of 1970-01-01T00:00:00Z.
const UNIX_EPOCH_JD: f64 = 2_440_587.5;
/// Light on a plane that faces the sun outside the air, at the mean distance, in W/m² (Spencer's).
const SOLAR_CONSTANT_W_PER_M2: f64 = 1366.1;
/// Below this elevation (half the disc and the refraction at the horizon) nothing of the sun is seen.
const LOWEST_REFRACTED_DEG: f64 = -0.833_67;

/// A place on the globe.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Place {
    /// Degrees north.
    pub latitude_deg: f64,
    /// Degrees east.
    pub longitude_deg: f64,
    /// Metres above the sea.
    pub altitude_m: f64,
}

impl Place {
    /// Air pressure at this altitude as a share of that at sea level (international standard atmosphere).
    #[must_use]
    pub fn pressure_share(self) -> f64 {
        let pressure_pa = 100.0
            * libm::pow(
                (44_331.514 - self.altitude_m) / 11_880.516,
                1.0 / 0.190_263_2,
            );
        pressure_pa / 101_325.0
    }
}

/// The sun at one instant and place, as a vector of length 1 to where it is seen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sun {
    /// Its part to the east.
    pub east: f64,
    /// Its part to the north.
    pub north: f64,
    /// Its part upwards: the cosine of the zenith angle, with refraction unless it is the unrefracted one.
    pub up: f64,
    /// Zenith angle with refraction, in degrees.
    pub zenith_deg: f64,
    /// Zenith angle without refraction, in degrees.
    pub true_zenith_deg: f64,
    /// Degrees from north over east.
    pub azimuth_deg: f64,
    /// Light on a plane that faces the sun outside the air on this day, in W/m².
    pub outside_w_per_m2: f64,
}

impl Sun {
    /// The sun at an instant and a place. For energies take the middle of the interval. `None`
    /// outside the years 2010 to 2109 or off the globe.
    #[must_use]
    pub fn at(unix_s: i64, place: Place) -> Option<Sun> {
        let julian = JulianDate::new(unix_s as f64 / 86_400.0 + UNIX_EPOCH_JD, DELTA_T_S).ok()?;
        let location = Location {
            latitude: place.latitude_deg,
            longitude: place.longitude_deg,
        };
        let position = SolarPositions::grena3()
            .at_from_julian(julian, location, 0.0, None)
            .ok()?;
        let day = DateTime::from_timestamp(unix_s, 0)?.ordinal();
        Some(Sun::standing(
            position.zenith_angle(),
            position.azimuth(),
            outside_w_per_m2(day),
        ))
    }

    /// The sun at a known true zenith angle and azimuth.
    #[must_use]
    pub fn standing(true_zenith_deg: f64, azimuth_deg: f64, outside_w_per_m2: f64) -> Sun {
        let refraction_deg = refraction_deg(90.0 - true_zenith_deg);
        Sun::seen(
            true_zenith_deg,
            refraction_deg,
            azimuth_deg,
            outside_w_per_m2,
        )
    }

    /// The same sun without refraction. Measured light is split by it and falls on planes from there: that is
    /// how the stations' and pvlib's numbers are made.
    #[must_use]
    pub fn unrefracted(self) -> Sun {
        Sun::seen(
            self.true_zenith_deg,
            0.0,
            self.azimuth_deg,
            self.outside_w_per_m2,
        )
    }

    fn seen(
        true_zenith_deg: f64,
        refraction_deg: f64,
        azimuth_deg: f64,
        outside_w_per_m2: f64,
    ) -> Sun {
        let zenith_deg = true_zenith_deg - refraction_deg;
        let (sin_zenith, up) = libm::sincos(zenith_deg.to_radians());
        let (sin_azimuth, cos_azimuth) = libm::sincos(azimuth_deg.to_radians());
        Sun {
            east: sin_zenith * sin_azimuth,
            north: sin_zenith * cos_azimuth,
            up,
            zenith_deg,
            true_zenith_deg,
            azimuth_deg,
            outside_w_per_m2,
        }
    }

    /// Air that the light passes, relative to the sun overhead at sea level; `None` below the horizon.
    /// Kasten and Young 1989: 1 / (cos z + 0.50572 · (96.07995° − z)^−1.6364).
    #[must_use]
    pub fn airmass(self) -> Option<f64> {
        (self.zenith_deg <= 90.0)
            .then(|| 1.0 / (self.up + 0.505_72 * libm::pow(96.079_95 - self.zenith_deg, -1.6364)))
    }
}

/// How much higher the sun is seen than it stands, in degrees (NREL SPA; Meeus).
fn refraction_deg(elevation_deg: f64) -> f64 {
    if elevation_deg < LOWEST_REFRACTED_DEG {
        return 0.0;
    }
    let angle = (elevation_deg + 10.3 / (elevation_deg + 5.11)).to_radians();
    1013.25 / 1010.0 * (283.0 / 285.0) * 1.02 / (60.0 * libm::tan(angle))
}

/// Light outside the air on a day of the year (1 to 366), in W/m²: Spencer's Fourier series of the
/// sun's distance.
#[must_use]
pub fn outside_w_per_m2(day_of_year: u32) -> f64 {
    let b = 2.0 * std::f64::consts::PI * (f64::from(day_of_year) - 1.0) / 365.0;
    let (sin, cos) = libm::sincos(b);
    let (sin_2, cos_2) = libm::sincos(2.0 * b);
    SOLAR_CONSTANT_W_PER_M2
        * (1.000_11 + 0.034_221 * cos + 0.001_28 * sin + 0.000_719 * cos_2 + 7.7e-5 * sin_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EQUATOR: Place = Place {
        latitude_deg: 0.0,
        longitude_deg: 0.0,
        altitude_m: 0.0,
    };

    #[test]
    fn at_the_equinox_the_sun_stands_overhead_at_the_equator() {
        // 2024-03-20T12:07:25Z: noon at longitude 0 on the day of the equinox (03:06 UTC).
        let sun = Sun::at(1_710_936_445, EQUATOR).unwrap();
        assert!(sun.zenith_deg < 0.3, "{sun:?}");
        assert!((sun.up - 1.0).abs() < 1e-4);
        let evening = Sun::at(1_710_936_445 + 3 * 3600, EQUATOR).unwrap();
        assert!((evening.true_zenith_deg - 45.0).abs() < 0.3, "{evening:?}");
        assert!(evening.east < -0.7, "in the evening it stands in the west");
    }

    #[test]
    fn airmass_is_one_overhead_two_at_sixty_degrees_and_38_at_the_horizon() {
        let airmass = |zenith| Sun::standing(zenith, 180.0, 1361.0).airmass();
        assert!((airmass(0.0).unwrap() - 1.0).abs() < 1e-3);
        assert!((airmass(60.0).unwrap() - 1.994).abs() < 3e-3);
        let horizon = Sun::standing(90.573, 180.0, 1361.0);
        assert!(
            horizon.zenith_deg < 90.2 && horizon.zenith_deg > 89.8,
            "{horizon:?}"
        );
        assert!(airmass(95.0).is_none());
    }

    #[test]
    fn january_is_nearer_to_the_sun_than_july() {
        assert!((outside_w_per_m2(3) / 1366.1 - 1.035).abs() < 1e-3);
        assert!((outside_w_per_m2(185) / 1366.1 - 0.966).abs() < 2e-3);
    }

    #[test]
    fn pressure_falls_with_altitude() {
        assert!((EQUATOR.pressure_share() - 1.0).abs() < 1e-4);
        let quito = Place {
            altitude_m: 2850.0,
            ..EQUATOR
        };
        assert!((quito.pressure_share() - 0.705).abs() < 0.005);
    }

    #[test]
    fn years_outside_the_formula_have_no_sun() {
        assert!(Sun::at(-10_000_000_000, EQUATOR).is_none());
        assert!(
            Sun::at(
                0,
                Place {
                    latitude_deg: 91.0,
                    ..EQUATOR
                }
            )
            .is_none()
        );
    }
}
