//! Sun and panels: where the sun stands, what falls on a tilted plane, what the inverter feeds in.
//! Clear sky after Haurwitz, isotropic sky light, one factor for heat, dirt and wiring.

use solar_positioning::time::JulianDate;
use solar_positioning::{Location, SolarPositions};

use crate::number::{float, whole_watts};
use crate::scenario::PvScenario;
use crate::weather::Sky;

/// Difference of terrestrial time and UT1 in these years, good to a few seconds.
const DELTA_T_S: f64 = 69.0;
/// Julian date of 1970-01-01T00:00:00Z.
const UNIX_EPOCH_JD: f64 = 2_440_587.5;
/// Share of the ground's light that is thrown back onto a tilted plane.
const ALBEDO: f64 = 0.2;
/// What heat, dirt, mismatch and wiring leave of the panels' power.
const DC_FACTOR: f64 = 0.89;
/// Per mille of DC power that the inverter turns into AC.
pub(crate) const INVERTER_PER_MILLE: i64 = 970;
/// Below this the inverter sleeps.
const START_POWER_W: i64 = 15;

/// Where the sun stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Sun {
    cos_zenith: f64,
    sin_zenith: f64,
    azimuth_rad: f64,
}

impl Sun {
    /// The sun at an instant and a place; `None` outside the years 2010 to 2109 or off the globe.
    pub(crate) fn at(unix_s: i64, latitude: f64, longitude: f64) -> Option<Sun> {
        let julian = JulianDate::new(float(unix_s) / 86_400.0 + UNIX_EPOCH_JD, DELTA_T_S).ok()?;
        let place = Location {
            latitude,
            longitude,
        };
        let position = SolarPositions::grena3()
            .at_from_julian(julian, place, 0.0, None)
            .ok()?;
        let (sin_zenith, cos_zenith) = position.zenith_angle().to_radians().sin_cos();
        Some(Sun {
            cos_zenith,
            sin_zenith,
            azimuth_rad: position.azimuth().to_radians(),
        })
    }

    /// Light on a horizontal plane under a clear sky, in W/m².
    pub(crate) fn clear_sky_w_per_m2(self) -> f64 {
        if self.cos_zenith <= 0.0 {
            return 0.0;
        }
        1098.0 * self.cos_zenith * (-0.059 / self.cos_zenith).exp()
    }

    /// Cosine of the angle between the sun and a plane's normal; 0 where the sun is behind it.
    fn cos_incidence(self, tilt_rad: f64, azimuth_rad: f64) -> f64 {
        let straight = self.cos_zenith * tilt_rad.cos();
        let aside = self.sin_zenith * tilt_rad.sin() * (self.azimuth_rad - azimuth_rad).cos();
        (straight + aside).max(0.0)
    }
}

/// Light on a tilted plane, in W/m².
fn plane_w_per_m2(sun: Sun, sky: Sky, tilt_rad: f64, azimuth_rad: f64) -> f64 {
    let horizontal = sun.clear_sky_w_per_m2() * sky.clearness;
    if horizontal <= 0.0 {
        return 0.0;
    }
    let diffuse = horizontal * sky.diffuse_share;
    // Close to the horizon the division would blow up; the beam there is weak anyway.
    let beam_normal = (horizontal - diffuse) / sun.cos_zenith.max(0.05);
    let sky_view = (1.0 + tilt_rad.cos()) / 2.0;
    beam_normal * sun.cos_incidence(tilt_rad, azimuth_rad)
        + diffuse * sky_view
        + horizontal * ALBEDO * (1.0 - sky_view)
}

/// AC power of a plant, in whole watts, clipped at the inverter's rating.
pub(crate) fn power_w(plant: &PvScenario, sun: Sun, sky: Sky) -> i64 {
    let light = plane_w_per_m2(
        sun,
        sky,
        plant.tilt_deg.to_radians(),
        plant.azimuth_deg.to_radians(),
    );
    let dc_w = float(plant.peak_w) * light / 1000.0 * DC_FACTOR;
    let ac_w = whole_watts(dc_w) * INVERTER_PER_MILLE / 1000;
    if ac_w < START_POWER_W {
        0
    } else {
        ac_w.min(plant.inverter_w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAR: Sky = Sky {
        clearness: 1.0,
        diffuse_share: 0.15,
    };
    // 2026-06-21 at 51.05 N 10.30 E: the sun culminates at about 11:20 UTC.
    const NOON_S: i64 = 1_782_025_200 + 4 * 3600 + 20 * 60;

    fn plant(tilt_deg: f64, azimuth_deg: f64) -> PvScenario {
        PvScenario {
            peak_w: 10_000,
            inverter_w: 10_000,
            tilt_deg,
            azimuth_deg,
        }
    }

    fn sun(unix_s: i64) -> Sun {
        Sun::at(unix_s, 51.05, 10.30).unwrap()
    }

    #[test]
    fn the_midsummer_sun_culminates_at_90_minus_latitude_plus_declination() {
        let elevation_deg = sun(NOON_S).cos_zenith.asin().to_degrees();
        assert!(
            (elevation_deg - (90.0 - 51.05 + 23.44)).abs() < 0.1,
            "{elevation_deg}"
        );
        assert!((sun(NOON_S).azimuth_rad.to_degrees() - 180.0).abs() < 3.0);
    }

    #[test]
    fn clear_noon_is_plausible() {
        let ghi = sun(NOON_S).clear_sky_w_per_m2();
        assert!((880.0..930.0).contains(&ghi), "{ghi} W/m²");
        let south = power_w(&plant(35.0, 180.0), sun(NOON_S), CLEAR);
        assert!((7_600..9_000).contains(&south), "{south} W of 10 kWp");
        let overcast = Sky {
            clearness: 0.25,
            diffuse_share: 0.79,
        };
        let grey = power_w(&plant(35.0, 180.0), sun(NOON_S), overcast);
        assert!((1_200..2_600).contains(&grey), "{grey} W of 10 kWp");
    }

    #[test]
    fn night_is_zero_and_the_inverter_clips() {
        assert_eq!(
            power_w(&plant(35.0, 180.0), sun(NOON_S + 12 * 3600), CLEAR),
            0
        );
        let small = PvScenario {
            inverter_w: 4_000,
            ..plant(35.0, 180.0)
        };
        assert_eq!(power_w(&small, sun(NOON_S), CLEAR), 4_000);
    }

    #[test]
    fn east_earns_in_the_morning_and_west_in_the_evening() {
        let at =
            |hours: i64, azimuth| power_w(&plant(40.0, azimuth), sun(NOON_S + hours * 3600), CLEAR);
        assert!(at(-5, 90.0) > 2 * at(-5, 270.0));
        assert!(at(5, 270.0) > 2 * at(5, 90.0));
    }
}
