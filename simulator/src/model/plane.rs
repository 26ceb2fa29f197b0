//! Light on a tilted plane: beam by the angle of incidence, sky light isotropic or after Hay and Davies
//! 1980, and light thrown back by the ground.
//!
//! A plane is a vector; so is the sun. For each plane and interval the light is three factors
//! ([`PlaneNow`]), without an angle function, and the light on the plane their sum of products with
//! beam, diffuse and global light.

use super::clear_sky::Light;
use super::sun::Sun;

/// Share of the light on the ground that is thrown back, unless a scenario says otherwise.
pub const ALBEDO: f64 = 0.2;
/// The least cosine of the zenith angle by which circumsolar light is divided (89°).
const COS_ZENITH_MIN: f64 = 0.017_45;

/// How sky light is spread over the sky.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkyModel {
    /// Evenly.
    #[default]
    Isotropic,
    /// A share of it comes from around the sun: the beam's share of the light outside the air.
    HayDavies,
}

/// A plane that does not move.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Plane {
    east: f64,
    north: f64,
    up: f64,
    albedo: f64,
}

/// What one plane gets of each kind of light in one interval.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct PlaneNow {
    /// Of the beam: the cosine of the angle of incidence.
    pub beam: f64,
    /// Of diffuse light.
    pub diffuse: f64,
    /// Of global light, by way of the ground.
    pub ground: f64,
}

impl Plane {
    /// A plane tilted from the horizontal, facing `azimuth_deg` (from north over east).
    #[must_use]
    pub fn new(tilt_deg: f64, azimuth_deg: f64, albedo: f64) -> Plane {
        let (sin_tilt, up) = libm::sincos(tilt_deg.to_radians());
        let (sin_azimuth, cos_azimuth) = libm::sincos(azimuth_deg.to_radians());
        Plane {
            east: sin_tilt * sin_azimuth,
            north: sin_tilt * cos_azimuth,
            up,
            albedo,
        }
    }

    /// Cosine of the angle between sun and normal; negative behind the plane.
    #[inline]
    #[must_use]
    pub fn cos_incidence(self, sun: Sun) -> f64 {
        self.east * sun.east + self.north * sun.north + self.up * sun.up
    }

    /// What this plane gets of each kind of light, under an isotropic sky.
    #[inline]
    #[must_use]
    pub fn isotropic(self, sun: Sun) -> PlaneNow {
        PlaneNow {
            beam: self.cos_incidence(sun).max(0.0),
            diffuse: (1.0 + self.up) / 2.0,
            ground: self.albedo * (1.0 - self.up) / 2.0,
        }
    }

    /// The same after Hay and Davies, where `beam_w_per_m2` says how much of the sky's light comes
    /// from around the sun.
    #[inline]
    #[must_use]
    pub fn hay_davies(self, sun: Sun, beam_w_per_m2: f64) -> PlaneNow {
        let even = self.isotropic(sun);
        let around_sun = beam_w_per_m2 / sun.outside_w_per_m2;
        let ratio = even.beam / sun.up.max(COS_ZENITH_MIN);
        PlaneNow {
            diffuse: around_sun * ratio + (1.0 - around_sun) * even.diffuse,
            ..even
        }
    }

    /// The factors under the named sky.
    #[inline]
    #[must_use]
    pub fn now(self, sky: SkyModel, sun: Sun, beam_w_per_m2: f64) -> PlaneNow {
        match sky {
            SkyModel::Isotropic => self.isotropic(sun),
            SkyModel::HayDavies => self.hay_davies(sun, beam_w_per_m2),
        }
    }
}

impl PlaneNow {
    /// Light on the plane, in W/m².
    #[inline]
    #[must_use]
    pub fn light_w_per_m2(self, light: Light) -> f64 {
        self.beam * light.beam + self.diffuse * light.diffuse + self.ground * light.global
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIGHT: Light = Light {
        global: 700.0,
        beam: 692.820_323_027_550_9,
        diffuse: 100.0,
    };

    /// 30° from the zenith in the south: 700 = 692.8 · cos 30° + 100.
    fn sun() -> Sun {
        Sun {
            up: 0.75_f64.sqrt(),
            north: -0.5,
            east: 0.0,
            ..Sun::standing(30.0, 180.0, 1361.0)
        }
    }

    #[test]
    fn a_horizontal_plane_gets_the_global_light() {
        let plane = Plane::new(0.0, 123.0, ALBEDO);
        assert!((plane.isotropic(sun()).light_w_per_m2(LIGHT) - 700.0).abs() < 1e-9);
        assert!((plane.hay_davies(sun(), LIGHT.beam).light_w_per_m2(LIGHT) - 700.0).abs() < 1e-9);
    }

    #[test]
    fn a_plane_that_faces_the_sun_gets_the_whole_beam() {
        let now = Plane::new(30.0, 180.0, 0.0).isotropic(sun());
        assert!((now.beam - 1.0).abs() < 1e-12);
        let closed_form = LIGHT.beam + 100.0 * (1.0 + 30.0_f64.to_radians().cos()) / 2.0;
        assert!((now.light_w_per_m2(LIGHT) - closed_form).abs() < 1e-9);
    }

    #[test]
    fn a_wall_with_its_back_to_the_sun_sees_half_the_sky_and_the_ground() {
        let now = Plane::new(90.0, 0.0, 0.2).isotropic(sun());
        assert!((now.light_w_per_m2(LIGHT) - (50.0 + 0.1 * 700.0)).abs() < 1e-9);
    }

    #[test]
    fn light_around_the_sun_favours_planes_that_face_it() {
        let facing = Plane::new(40.0, 180.0, ALBEDO);
        let averted = Plane::new(40.0, 0.0, ALBEDO);
        let gain = |plane: Plane| {
            plane.now(SkyModel::HayDavies, sun(), LIGHT.beam).diffuse
                - plane.now(SkyModel::Isotropic, sun(), LIGHT.beam).diffuse
        };
        assert!(gain(facing) > 0.0 && gain(averted) < 0.0);
    }
}
