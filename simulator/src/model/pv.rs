//! A plant of one or several planes on one inverter: the PVWatts chain (Dobos, NREL 2014) with cell
//! temperatures of the Sandia model (King et al. 2004, open rack, glass and polymer).
//!
//! T = G·exp(a + b·v) + T_air + G/1000·ΔT; P_dc = G/1000·P₀·(1 + γ·(T − 25 °C))·(1 − losses);
//! η = η_nom/0.9637·(−0.0162·ζ − 0.0059/ζ + 0.9858) with ζ = P_dc/P_dc0; clipped at the inverter's AC power.

use super::Carry;

/// Sandia's a, b and ΔT for open rack, glass and polymer.
const CELL_A: f64 = -3.56;
const CELL_B: f64 = -0.075;
const CELL_STEP_C: f64 = 3.0;
/// Nominal efficiency of the reference inverter in PVWatts.
const REFERENCE_EFFICIENCY: f64 = 0.9637;
/// System losses of PVWatts' default set: soiling 2, shading 3, mismatch 2, wiring 2, connections 0.5,
/// light-induced 1.5, nameplate 1, availability 3 %.
pub const LOSSES: f64 = 0.140_757;

/// Air and wind, as cells feel them: computed once an interval.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cooling {
    air_c: f64,
    /// Cell above air for each W/m².
    cell_c_per_w_per_m2: f64,
}

impl Cooling {
    /// Air in °C, wind in m/s (10 m above the ground).
    #[must_use]
    pub fn new(air_c: f64, wind_ms: f64) -> Cooling {
        Cooling {
            air_c,
            cell_c_per_w_per_m2: libm::exp(CELL_A + CELL_B * wind_ms) + CELL_STEP_C / 1000.0,
        }
    }

    /// Cell temperature in °C.
    #[inline]
    #[must_use]
    pub fn cell_c(self, light_w_per_m2: f64) -> f64 {
        self.air_c + light_w_per_m2 * self.cell_c_per_w_per_m2
    }
}

/// Panels and inverter of one plant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Plant {
    /// DC power of each plane's panels at 1000 W/m² and 25 °C, in W.
    pub dc_w: f64,
    /// Change of DC power with cell temperature, per kelvin (−0.0035 is usual).
    pub gamma_per_k: f64,
    /// Share of DC power that is lost before the inverter ([`LOSSES`] is usual).
    pub losses: f64,
    inverter: Inverter,
}

/// The part of a plant that makes AC.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Inverter {
    ac_w: f64,
    dc_w: f64,
    efficiency: f64,
}

impl Inverter {
    /// An inverter of `ac_w` watts and a nominal efficiency (0.96 is usual).
    #[must_use]
    pub fn new(ac_w: f64, efficiency: f64) -> Inverter {
        Inverter {
            ac_w,
            dc_w: ac_w / efficiency,
            efficiency,
        }
    }

    /// AC power for a DC power, in W.
    #[inline]
    #[must_use]
    pub fn ac_w(self, dc_w: f64) -> f64 {
        if dc_w.is_nan() || dc_w <= 0.0 {
            return 0.0;
        }
        // dc · η(ζ) with ζ = dc / dc0, multiplied out so that nothing is divided by a small ζ.
        let zeta = dc_w / self.dc_w;
        let curve = (-0.0162 * zeta + 0.9858) * dc_w - 0.0059 * self.dc_w;
        (self.efficiency / REFERENCE_EFFICIENCY * curve).clamp(0.0, self.ac_w)
    }
}

impl Plant {
    /// A plant with γ = −0.35 %/K and the default losses.
    #[must_use]
    pub fn new(dc_w: f64, inverter: Inverter) -> Plant {
        Plant {
            dc_w,
            gamma_per_k: -0.0035,
            losses: LOSSES,
            inverter,
        }
    }

    /// DC power before losses of `share` of the panels, in W.
    #[inline]
    #[must_use]
    pub fn dc_w(&self, share: f64, light_w_per_m2: f64, cooling: Cooling) -> f64 {
        let warm = 1.0 + self.gamma_per_k * (cooling.cell_c(light_w_per_m2) - 25.0);
        light_w_per_m2 / 1000.0 * self.dc_w * share * warm
    }

    /// AC power with all panels in one plane, in W.
    #[inline]
    #[must_use]
    pub fn ac_w(&self, light_w_per_m2: f64, cooling: Cooling) -> f64 {
        self.inverter
            .ac_w(self.dc_w(1.0, light_w_per_m2, cooling) * (1.0 - self.losses))
    }

    /// AC power of several planes on one inverter, in W: pairs of the panels' share and the light on them.
    #[inline]
    #[must_use]
    pub fn ac_of_planes_w(
        &self,
        planes: impl IntoIterator<Item = (f64, f64)>,
        cooling: Cooling,
    ) -> f64 {
        let dc_w: f64 = planes
            .into_iter()
            .map(|(share, light)| self.dc_w(share, light, cooling))
            .sum();
        self.inverter.ac_w(dc_w * (1.0 - self.losses))
    }
}

/// Energy of an AC power over an interval, in whole Wh.
#[inline]
pub fn energy_wh(carry: &mut Carry, ac_w: f64, length_s: u32) -> i32 {
    carry.whole_wh(crate::number::single(ac_w * f64::from(length_s) / 3600.0))
}

/// What a plant may produce beside `used_wh` at home when no more than `export_limit_wh` may be fed in.
/// The rest is curtailed.
#[inline]
#[must_use]
pub fn limited_wh(produced_wh: i32, used_wh: i32, export_limit_wh: Option<i32>) -> i32 {
    export_limit_wh.map_or(produced_wh, |limit| {
        produced_wh.min(used_wh.max(0).saturating_add(limit.max(0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plant(dc_w: f64, ac_w: f64) -> Plant {
        Plant::new(dc_w, Inverter::new(ac_w, 0.96))
    }

    #[test]
    fn cells_are_warmed_by_light_and_cooled_by_wind() {
        let calm = Cooling::new(20.0, 0.0).cell_c(1000.0);
        let closed_form = 1000.0 * (-3.56_f64).exp() + 20.0 + 3.0;
        assert!((calm - closed_form).abs() < 1e-9);
        assert!(Cooling::new(20.0, 8.0).cell_c(1000.0) < calm - 10.0);
    }

    #[test]
    fn the_inverter_is_pvwatts_in_its_own_terms() {
        let inverter = Inverter::new(4000.0, 0.96);
        let dc0_w: f64 = 4000.0 / 0.96;
        for dc_w in [100.0, 1000.0, 3000.0] {
            let zeta = dc_w / dc0_w;
            let eta = 0.96 / 0.9637 * (-0.0162 * zeta - 0.0059 / zeta + 0.9858);
            assert!((inverter.ac_w(dc_w) - eta * dc_w).abs() < 1e-9);
        }
        assert!((inverter.ac_w(9000.0) - 4000.0).abs() < 1e-9, "it clips");
        assert!(inverter.ac_w(0.0).abs() < 1e-12 && inverter.ac_w(5.0).abs() < 1e-12);
        assert!(inverter.ac_w(f64::NAN).abs() < 1e-12);
    }

    #[test]
    fn at_test_conditions_the_panels_have_their_rating() {
        // Air so cold that the cell has 25 °C.
        let air_c = 25.0 - (1000.0 * (-3.56_f64 - 0.075).exp() + 3.0);
        let cooling = Cooling::new(air_c, 1.0);
        assert!((plant(5000.0, 4000.0).dc_w(1.0, 1000.0, cooling) - 5000.0).abs() < 1e-6);
    }

    #[test]
    fn planes_share_the_inverter() {
        let cooling = Cooling::new(15.0, 2.0);
        let one = plant(8000.0, 8000.0);
        let halves = one.ac_of_planes_w([(0.5, 600.0), (0.5, 600.0)], cooling);
        assert!((halves - one.ac_w(600.0, cooling)).abs() < 1e-9);
        let small = plant(8000.0, 3000.0);
        assert!(
            (small.ac_of_planes_w([(0.5, 900.0), (0.5, 900.0)], cooling) - 3000.0).abs() < 1e-9
        );
    }

    #[test]
    fn an_export_limit_curtails_what_the_home_does_not_use() {
        assert_eq!(limited_wh(900, 200, Some(300)), 500);
        assert_eq!(limited_wh(900, 700, Some(300)), 900);
        assert_eq!(limited_wh(900, 0, None), 900);
        assert_eq!(limited_wh(900, 0, Some(0)), 0);
    }

    #[test]
    fn four_quarter_hours_are_an_hour() {
        let mut carry = Carry::default();
        let hour: i32 = (0..4).map(|_| energy_wh(&mut carry, 1001.0, 900)).sum();
        assert_eq!(hour, 1001);
    }
}
