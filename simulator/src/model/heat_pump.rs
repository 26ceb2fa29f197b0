//! A heat pump, the house that it warms, and its hot water.
//!
//! House: one resistance and one capacity (1R1C), solved exactly over the interval:
//! T' = T∞ + (T − T∞)·exp(−h/RC) with T∞ = T_out + R·(Q + gains). Machine: a share η of Carnot,
//! COP = η·T_sup/(T_sup − T_src), held within 1 and 7. Thermostat: modulating, aims at the set point
//! at the end of the interval.

use super::Carry;
use super::random::Draws;
use crate::number::single;

/// Limits of the coefficient of performance.
const COP_MIN: f64 = 1.0;
const COP_MAX: f64 = 7.0;
/// 0 °C in kelvin.
const KELVIN: f64 = 273.15;
/// Temperature at which hot water is made, in °C.
const HOT_WATER_C: f64 = 55.0;

/// COP with this source and supply temperature, both in °C, at a share `eta` of Carnot (0.4 is usual).
#[must_use]
pub fn cop(eta: f64, source_c: f64, supply_c: f64) -> f64 {
    let lift = supply_c - source_c;
    if lift <= 0.0 {
        return COP_MAX;
    }
    (eta * (supply_c + KELVIN) / lift).clamp(COP_MIN, COP_MAX)
}

/// A house and its machine.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HeatedHouse {
    /// Kelvin between inside and outside for each watt: 1/R is the loss (150 W/K is a new house).
    pub resistance_k_per_w: f64,
    /// Heat that one kelvin holds, in Wh/K.
    pub capacity_wh_per_k: f64,
    /// What the thermostat aims at, in °C.
    pub set_point_c: f64,
    /// How far below the set point is still comfortable, in K.
    pub comfort_k: f64,
    /// Supply temperature of the heating, in °C.
    pub supply_c: f64,
    /// Greatest electric power, in W.
    pub electric_w: f64,
    /// Share of Carnot.
    pub eta: f64,
    /// Heat that the hot-water tank holds when full, in Wh.
    pub tank_wh: f64,
}

/// What a heated house remembers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HeatState {
    /// Inside, in °C.
    pub inside_c: f64,
    /// Heat in the tank, in Wh.
    pub tank_wh: f64,
    carry: Carry,
}

/// What comes from outside in one interval.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HeatNow {
    /// Outside air (the source), in °C.
    pub outside_c: f64,
    /// Sun and people, in W of heat.
    pub gains_w: f64,
    /// Hot water drawn, in Wh of heat.
    pub hot_water_wh: f64,
    /// Electric power that is allowed now, in W; `None` is all (a dimmed device has 4200 W).
    pub limit_w: Option<f64>,
    /// Length of the interval in seconds.
    pub length_s: u32,
}

/// What happened in one interval.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct HeatFlow {
    /// Electricity, in Wh.
    pub used_wh: i32,
    /// Kelvin-hours below the comfort band.
    pub cold_kh: f64,
    /// Hot water that was wanted and not warm, in Wh.
    pub unserved_wh: f64,
}

impl HeatedHouse {
    /// The house at its set point with a full tank.
    #[must_use]
    pub fn begin(&self) -> HeatState {
        HeatState {
            inside_c: self.set_point_c,
            tank_wh: self.tank_wh,
            carry: Carry::default(),
        }
    }

    /// Inside temperature after `hours` with this much heat (machine and gains), in W.
    #[must_use]
    pub fn inside_after_c(&self, inside_c: f64, outside_c: f64, heat_w: f64, hours: f64) -> f64 {
        let end_c = outside_c + self.resistance_k_per_w * heat_w;
        end_c + (inside_c - end_c) * self.kept(hours)
    }

    /// Share of a temperature difference that is left after `hours`.
    fn kept(&self, hours: f64) -> f64 {
        libm::exp(-hours / (self.resistance_k_per_w * self.capacity_wh_per_k))
    }

    /// Heat that brings the house to its set point in `hours`, in W; not below zero.
    fn wanted_w(&self, inside_c: f64, now: &HeatNow, hours: f64) -> f64 {
        let kept = self.kept(hours);
        let end_c = (self.set_point_c - inside_c * kept) / (1.0 - kept);
        ((end_c - now.outside_c) / self.resistance_k_per_w - now.gains_w).max(0.0)
    }

    /// One interval: hot water first, then the house, as far as the power goes.
    pub fn step(&self, state: &mut HeatState, now: &HeatNow) -> HeatFlow {
        let hours = f64::from(now.length_s) / 3600.0;
        if hours <= 0.0 {
            return HeatFlow::default();
        }
        let most_wh = now
            .limit_w
            .unwrap_or(self.electric_w)
            .clamp(0.0, self.electric_w)
            * hours;
        let served_wh = now.hot_water_wh.clamp(0.0, state.tank_wh);
        state.tank_wh -= served_wh;
        let tank_cop = cop(self.eta, now.outside_c, HOT_WATER_C);
        let tank_used_wh = ((self.tank_wh - state.tank_wh).max(0.0) / tank_cop).min(most_wh);
        state.tank_wh += tank_used_wh * tank_cop;
        let house_cop = cop(self.eta, now.outside_c, self.supply_c);
        let wanted_wh = self.wanted_w(state.inside_c, now, hours) * hours;
        let house_used_wh = (wanted_wh / house_cop).min(most_wh - tank_used_wh);
        let heat_w = house_used_wh * house_cop / hours + now.gains_w;
        state.inside_c = self.inside_after_c(state.inside_c, now.outside_c, heat_w, hours);
        let below_k = self.set_point_c - self.comfort_k - state.inside_c;
        HeatFlow {
            used_wh: state.carry.whole_wh(single(tank_used_wh + house_used_wh)),
            cold_kh: below_k.max(0.0) * hours,
            unserved_wh: (now.hot_water_wh - served_wh).max(0.0),
        }
    }
}

/// Weights of the hours of a local day in the use of hot water: showers in the morning, dishes at night.
const TAPS: [f64; 24] = [
    0.4, 0.2, 0.1, 0.1, 0.2, 0.8, 2.2, 2.8, 2.0, 1.4, 1.1, 1.0, //
    1.1, 1.0, 0.8, 0.8, 0.9, 1.2, 1.6, 1.8, 1.6, 1.3, 1.0, 0.6,
];

/// Hot water that a household draws in one interval, in Wh of heat: on average `daily_wh` a day, in
/// uneven portions.
pub fn hot_water_wh(daily_wh: f64, second_of_day: u32, length_s: u32, draws: &mut Draws) -> f64 {
    let hour = usize::try_from(second_of_day / 3600).map_or(0, |hour| hour % 24);
    let share = TAPS[hour] / TAPS.iter().sum::<f64>() * f64::from(length_s) / 3600.0;
    daily_wh * share * draws.exponential()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::random::Stream;

    #[test]
    fn a_household_draws_its_daily_hot_water_on_average() {
        let stream = Stream::new(3, "taps");
        let days = 400;
        let sum: f64 = (0..days * 96)
            .map(|i| hot_water_wh(6000.0, i % 96 * 900, 900, &mut stream.at(1, i64::from(i))))
            .sum();
        assert!((sum / f64::from(days) / 6000.0 - 1.0).abs() < 0.03);
    }

    const HOUSE: HeatedHouse = HeatedHouse {
        resistance_k_per_w: 1.0 / 150.0,
        capacity_wh_per_k: 10_000.0,
        set_point_c: 21.0,
        comfort_k: 1.0,
        supply_c: 35.0,
        electric_w: 3_000.0,
        eta: 0.4,
        tank_wh: 8_000.0,
    };

    fn winter(outside_c: f64) -> HeatNow {
        HeatNow {
            outside_c,
            gains_w: 0.0,
            hot_water_wh: 0.0,
            limit_w: None,
            length_s: 900,
        }
    }

    #[test]
    fn cop_is_a_share_of_carnot_within_its_limits() {
        assert!((cop(0.4, 0.0, 35.0) - 0.4 * 308.15 / 35.0).abs() < 1e-12);
        assert!(
            (cop(0.4, 34.0, 35.0) - 7.0).abs() < 1e-12
                && (cop(0.4, 40.0, 35.0) - 7.0).abs() < 1e-12
        );
        assert!((cop(0.1, -20.0, 60.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_unheated_house_cools_along_its_exponential() {
        // R·C = 66.7 h; after that time 1/e of the difference is left.
        let after = HOUSE.inside_after_c(21.0, 0.0, 0.0, 10_000.0 / 150.0);
        assert!((after - 21.0 / std::f64::consts::E).abs() < 1e-9);
    }

    #[test]
    fn in_balance_the_machine_gives_what_the_walls_lose() {
        let mut state = HOUSE.begin();
        let used: i32 = (0..96)
            .map(|_| HOUSE.step(&mut state, &winter(0.0)).used_wh)
            .sum();
        let closed_form = 150.0 * 21.0 * 24.0 / cop(0.4, 0.0, 35.0);
        assert!(
            (f64::from(used) - closed_form).abs() < 2.0,
            "{used}, not {closed_form}"
        );
        assert!((state.inside_c - 21.0).abs() < 1e-9);
    }

    #[test]
    fn a_dimmed_machine_lets_the_house_get_cold_and_says_so() {
        let mut state = HOUSE.begin();
        let dimmed = HeatNow {
            limit_w: Some(300.0),
            ..winter(-10.0)
        };
        let cold: f64 = (0..192)
            .map(|_| HOUSE.step(&mut state, &dimmed).cold_kh)
            .sum();
        assert!(
            cold > 1.0 && state.inside_c < 20.0,
            "{cold} Kh, {} °C",
            state.inside_c
        );
    }

    #[test]
    fn hot_water_is_made_again_and_what_is_missing_is_counted() {
        let mut state = HOUSE.begin();
        let bath = HeatNow {
            hot_water_wh: 9_000.0,
            gains_w: 9_000.0,
            ..winter(10.0)
        };
        let flow = HOUSE.step(&mut state, &bath);
        assert!((flow.unserved_wh - 1000.0).abs() < 1e-9);
        let warm = HeatNow {
            gains_w: 9_000.0,
            ..winter(10.0)
        };
        let used: i32 = (0..20).map(|_| HOUSE.step(&mut state, &warm).used_wh).sum();
        let closed_form = 8_000.0 / cop(0.4, 10.0, 55.0);
        assert!((f64::from(used + flow.used_wh) - closed_form).abs() < 2.0);
    }
}
