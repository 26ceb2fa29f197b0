//! A battery with exact books: AC energy in whole Wh, what is stored in whole µWh. Nothing is stored that
//! was not charged, and every µWh that goes missing is counted as a loss.
//!
//! soc' = soc·(1 − σ) + η_c·p_c − p_d/η_d, with least and greatest content, separate powers for
//! charging and discharging, standby power (drawn from the home), and optional ageing: the content
//! shrinks with every kWh that is discharged and with every year.

/// µWh in a Wh.
const UWH_PER_WH: i64 = 1_000_000;
/// The greatest content of one battery, in Wh: what is stored stays far inside an `i64`.
pub const CAPACITY_MAX_WH: i64 = 1_000_000_000;
/// Scale of self-discharge: parts of 2³² of the content in one interval.
const SELF_DISCHARGE_BITS: u32 = 32;
/// Seconds in a year of 365 days.
const YEAR_S: f64 = 31_536_000.0;

/// What is written on a battery.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BatterySpec {
    /// Usable between empty and full when new, in Wh.
    pub capacity_wh: i64,
    /// Greatest charging and discharging power at the AC side, in W.
    pub charge_w: i64,
    /// See `charge_w`.
    pub discharge_w: i64,
    /// AC to store and store to AC, each above 0 and at most 1.
    pub charge_efficiency: f64,
    /// See `charge_efficiency`.
    pub discharge_efficiency: f64,
    /// Least and greatest content as a share of the capacity.
    pub soc_min: f64,
    /// See `soc_min`.
    pub soc_max: f64,
    /// Power that the system draws at the AC side all the time, in W.
    pub standby_w: f64,
    /// Share of the content lost in a month of 30 days.
    pub self_discharge_per_month: f64,
    /// Share of the capacity lost in one full cycle, and in a year.
    pub ageing_per_cycle: f64,
    /// See `ageing_per_cycle`.
    pub ageing_per_year: f64,
}

impl BatterySpec {
    /// A home battery: 95 % each way, no standby, no self-discharge, no ageing.
    #[must_use]
    pub fn simple(capacity_wh: i64, power_w: i64) -> BatterySpec {
        BatterySpec {
            capacity_wh,
            charge_w: power_w,
            discharge_w: power_w,
            charge_efficiency: 0.95,
            discharge_efficiency: 0.95,
            soc_min: 0.0,
            soc_max: 1.0,
            standby_w: 0.0,
            self_discharge_per_month: 0.0,
            ageing_per_cycle: 0.0,
            ageing_per_year: 0.0,
        }
    }
}

/// Why a battery cannot be.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum BatteryError {
    /// A value outside what is possible.
    #[error("`{key}` of a battery is {value}, which is not within {low} and {high}")]
    OutOfRange {
        /// The field of [`BatterySpec`].
        key: &'static str,
        /// What was given.
        value: f64,
        /// The least value that is possible.
        low: f64,
        /// The greatest one.
        high: f64,
    },
}

/// A battery made ready for intervals of one length: everything in integers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Battery {
    /// Greatest AC energy in one interval.
    charge_wh: i64,
    discharge_wh: i64,
    /// Stored for each Wh charged, and taken for each Wh discharged.
    stored_uwh_per_wh: i64,
    taken_uwh_per_wh: i64,
    min_uwh: i64,
    max_uwh: i64,
    standby_uwh: i64,
    self_discharge: i64,
    /// Content that is lost for good: for each Wh discharged, and in each interval.
    aged_uwh_per_wh: i64,
    aged_uwh: i64,
}

/// What is in a battery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatteryState {
    /// Content in µWh.
    pub stored_uwh: i64,
    /// Capacity lost to age so far, in µWh.
    pub aged_uwh: i64,
    /// Standby energy that is not a whole Wh yet.
    standby_uwh: i64,
}

/// What a battery did in one interval, at the AC side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BatteryFlow {
    /// Drawn to charge, in Wh.
    pub charged_wh: i64,
    /// Given, in Wh.
    pub discharged_wh: i64,
    /// Drawn for standby, in Wh.
    pub standby_wh: i64,
    /// Lost inside: conversion, self-discharge, in µWh. Standby is not in it.
    pub lost_uwh: i64,
}

impl Battery {
    /// The battery in intervals of `length_s`.
    ///
    /// # Errors
    /// A value that no battery has, by its name.
    pub fn new(spec: &BatterySpec, length_s: u32) -> Result<Battery, BatteryError> {
        check(spec)?;
        let share = |of: f64| micro(of * spec.capacity_wh as f64);
        let length = i64::from(length_s);
        let cycle_uwh_per_wh = spec.ageing_per_cycle * UWH_PER_WH as f64;
        Ok(Battery {
            charge_wh: spec.charge_w * length / 3600,
            discharge_wh: spec.discharge_w * length / 3600,
            // Both rounded to the loss's side, so that rounding never makes energy.
            stored_uwh_per_wh: micro(spec.charge_efficiency),
            taken_uwh_per_wh: micro_up(1.0 / spec.discharge_efficiency),
            min_uwh: share(spec.soc_min),
            max_uwh: share(spec.soc_max),
            standby_uwh: micro(spec.standby_w * f64::from(length_s) / 3600.0),
            self_discharge: crate::number::bounded(
                spec.self_discharge_per_month / 2_592_000.0
                    * f64::from(length_s)
                    * (1_u64 << SELF_DISCHARGE_BITS) as f64,
                1 << SELF_DISCHARGE_BITS,
            ),
            aged_uwh_per_wh: crate::number::bounded(cycle_uwh_per_wh, UWH_PER_WH),
            aged_uwh: micro(
                spec.ageing_per_year * spec.capacity_wh as f64 * f64::from(length_s) / YEAR_S,
            ),
        })
    }

    /// A state with this share between least and greatest content.
    #[must_use]
    pub fn filled(&self, share: f64) -> BatteryState {
        let room = (self.max_uwh - self.min_uwh) as f64;
        BatteryState {
            stored_uwh: self.min_uwh
                + crate::number::bounded(room * share.clamp(0.0, 1.0), self.max_uwh),
            aged_uwh: 0,
            standby_uwh: 0,
        }
    }

    /// The greatest content at this age, in µWh.
    #[inline]
    #[must_use]
    pub fn full_uwh(&self, state: &BatteryState) -> i64 {
        (self.max_uwh - state.aged_uwh).max(self.min_uwh)
    }

    /// What can be charged in one interval, in Wh.
    #[inline]
    #[must_use]
    pub fn room_wh(&self, state: &BatteryState) -> i64 {
        let room_uwh = (self.full_uwh(state) - state.stored_uwh).max(0);
        if room_uwh >= self.charge_wh * self.stored_uwh_per_wh {
            self.charge_wh
        } else {
            room_uwh / self.stored_uwh_per_wh
        }
    }

    /// What can be discharged in one interval, in Wh.
    #[inline]
    #[must_use]
    pub fn ready_wh(&self, state: &BatteryState) -> i64 {
        let ready_uwh = (state.stored_uwh - self.min_uwh).max(0);
        if ready_uwh >= self.discharge_wh * self.taken_uwh_per_wh {
            self.discharge_wh
        } else {
            ready_uwh / self.taken_uwh_per_wh
        }
    }

    /// One interval: charges `wish_wh` where it is positive and discharges where it is negative, as far
    /// as power and content allow. Never both.
    #[inline]
    pub fn step(&self, state: &mut BatteryState, wish_wh: i64) -> BatteryFlow {
        let before_uwh = state.stored_uwh;
        let mut flow = BatteryFlow::default();
        if wish_wh > 0 {
            flow.charged_wh = wish_wh.min(self.room_wh(state));
            state.stored_uwh += flow.charged_wh * self.stored_uwh_per_wh;
        } else if wish_wh < 0 {
            flow.discharged_wh = wish_wh.saturating_neg().min(self.ready_wh(state));
            state.stored_uwh -= flow.discharged_wh * self.taken_uwh_per_wh;
        }
        state.stored_uwh -= self.faded_uwh(state.stored_uwh);
        state.aged_uwh += self.aged_uwh + flow.discharged_wh * self.aged_uwh_per_wh;
        // What an aged battery can no longer hold is lost, not kept beyond its edge.
        state.stored_uwh = state.stored_uwh.min(self.full_uwh(state).max(0));
        state.standby_uwh += self.standby_uwh;
        if state.standby_uwh >= UWH_PER_WH {
            flow.standby_wh = state.standby_uwh / UWH_PER_WH;
            state.standby_uwh -= flow.standby_wh * UWH_PER_WH;
        }
        flow.lost_uwh =
            before_uwh - state.stored_uwh + (flow.charged_wh - flow.discharged_wh) * UWH_PER_WH;
        flow
    }

    /// A battery that follows the home: charges what is left over and covers what is missing.
    #[inline]
    pub fn follow(&self, state: &mut BatteryState, net_wh: i64) -> BatteryFlow {
        self.step(state, net_wh.saturating_neg())
    }

    /// Self-discharge of one interval.
    #[inline]
    fn faded_uwh(&self, stored_uwh: i64) -> i64 {
        if self.self_discharge == 0 {
            return 0;
        }
        let product = i128::from(stored_uwh) * i128::from(self.self_discharge);
        i64::try_from(product >> SELF_DISCHARGE_BITS).unwrap_or(0)
    }
}

/// Whole µ of a number, rounded down; the callers hold it within CAPACITY_MAX_WH.
fn micro(value: f64) -> i64 {
    crate::number::bounded(
        (value * UWH_PER_WH as f64).floor(),
        CAPACITY_MAX_WH * UWH_PER_WH,
    )
}

/// The same rounded up.
fn micro_up(value: f64) -> i64 {
    crate::number::bounded(
        (value * UWH_PER_WH as f64).ceil(),
        CAPACITY_MAX_WH * UWH_PER_WH,
    )
}

fn check(spec: &BatterySpec) -> Result<(), BatteryError> {
    let capacity_max = CAPACITY_MAX_WH as f64;
    for (key, value, low, high) in [
        ("capacity_wh", spec.capacity_wh as f64, 0.0, capacity_max),
        ("charge_w", spec.charge_w as f64, 0.0, capacity_max),
        ("discharge_w", spec.discharge_w as f64, 0.0, capacity_max),
        ("charge_efficiency", spec.charge_efficiency, 0.01, 1.0),
        ("discharge_efficiency", spec.discharge_efficiency, 0.01, 1.0),
        ("soc_min", spec.soc_min, 0.0, 1.0),
        ("soc_max", spec.soc_max, spec.soc_min, 1.0),
        ("standby_w", spec.standby_w, 0.0, 100_000.0),
        (
            "self_discharge_per_month",
            spec.self_discharge_per_month,
            0.0,
            1.0,
        ),
        ("ageing_per_cycle", spec.ageing_per_cycle, 0.0, 1.0),
        ("ageing_per_year", spec.ageing_per_year, 0.0, 1.0),
    ] {
        if !(low..=high).contains(&value) {
            return Err(BatteryError::OutOfRange {
                key,
                value,
                low,
                high,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quarter(spec: &BatterySpec) -> Battery {
        Battery::new(spec, 900).unwrap()
    }

    #[test]
    fn a_round_trip_gives_the_product_of_the_efficiencies() {
        let battery = quarter(&BatterySpec::simple(10_000, 5_000));
        let mut state = battery.filled(0.0);
        let charged: i64 = (0..8)
            .map(|_| battery.step(&mut state, 1000).charged_wh)
            .sum();
        assert_eq!(charged, 8000);
        let given: i64 = (0..8)
            .map(|_| battery.step(&mut state, -5000).discharged_wh)
            .sum();
        // 8000 · 0.95 · 0.95 = 7220.
        assert!((7219..=7220).contains(&given), "{given} Wh");
    }

    #[test]
    fn power_and_content_bound_what_happens() {
        let spec = BatterySpec {
            soc_min: 0.1,
            soc_max: 0.9,
            ..BatterySpec::simple(10_000, 4_000)
        };
        let battery = quarter(&spec);
        let mut state = battery.filled(0.0);
        assert_eq!(state.stored_uwh, 1_000_000_000);
        assert_eq!(
            battery.step(&mut state, -500).discharged_wh,
            0,
            "it is empty"
        );
        assert_eq!(
            battery.step(&mut state, 5_000).charged_wh,
            1000,
            "4 kW for 15 min"
        );
        let mut full = battery.filled(1.0);
        assert_eq!(full.stored_uwh, 9_000_000_000);
        assert_eq!(battery.step(&mut full, 100).charged_wh, 0, "it is full");
        assert_eq!(battery.follow(&mut full, 300).discharged_wh, 300);
        assert_eq!(battery.follow(&mut full, -200).charged_wh, 200);
    }

    #[test]
    fn standby_self_discharge_and_age_are_what_the_label_says() {
        let spec = BatterySpec {
            standby_w: 10.0,
            self_discharge_per_month: 0.03,
            ageing_per_year: 0.02,
            ageing_per_cycle: 0.0001,
            ..BatterySpec::simple(10_000, 5_000)
        };
        let battery = quarter(&spec);
        let mut state = battery.filled(0.5);
        let month: i64 = (0..2880)
            .map(|_| battery.step(&mut state, 0).standby_wh)
            .sum();
        assert_eq!(month, 7200, "10 W for 30 days");
        let left = state.stored_uwh as f64 / 5e9;
        assert!((left - (-0.03_f64).exp()).abs() < 1e-4, "{left}");
        let aged_wh = state.aged_uwh as f64 / 1e6;
        assert!((aged_wh - 200.0 * 30.0 / 365.0).abs() < 0.1, "{aged_wh} Wh");
        let mut cycled = battery.filled(1.0);
        let before = cycled.aged_uwh;
        let given = battery.step(&mut cycled, -1250).discharged_wh;
        assert_eq!(cycled.aged_uwh - before - battery.aged_uwh, given * 100);
    }

    #[test]
    fn a_battery_that_cannot_be_is_refused_by_name() {
        let bad = BatterySpec {
            charge_efficiency: 1.2,
            ..BatterySpec::simple(10_000, 5_000)
        };
        let error = Battery::new(&bad, 900).unwrap_err().to_string();
        assert!(
            error.contains("charge_efficiency") && error.contains("1.2"),
            "{error}"
        );
        let bad = BatterySpec {
            soc_min: f64::NAN,
            ..BatterySpec::simple(10_000, 5_000)
        };
        assert!(Battery::new(&bad, 900).is_err());
    }

    proptest! {
        #[test]
        fn no_energy_comes_from_nothing(
            capacity in 1_i64..50_000,
            power in 0_i64..30_000,
            efficiencies in (0.5_f64..=1.0, 0.5_f64..=1.0),
            ageing in (0.0_f64..0.01, 0.0_f64..0.5, 0.0_f64..0.3),
            wishes in proptest::collection::vec(-9000_i64..9000, 1..60),
        ) {
            let battery = quarter(&BatterySpec {
                charge_efficiency: efficiencies.0,
                discharge_efficiency: efficiencies.1,
                ageing_per_cycle: ageing.0,
                ageing_per_year: ageing.1,
                self_discharge_per_month: ageing.2,
                ..BatterySpec::simple(capacity, power)
            });
            let mut state = battery.filled(0.5);
            for wish in wishes {
                let before = state;
                let flow = battery.step(&mut state, wish);
                prop_assert!(flow.lost_uwh >= 0);
                prop_assert!(flow.charged_wh == 0 || flow.discharged_wh == 0);
                prop_assert!(flow.charged_wh <= wish.max(0) && flow.discharged_wh <= (-wish).max(0));
                prop_assert!(flow.charged_wh.max(flow.discharged_wh) <= power / 4);
                prop_assert!((0..=capacity * UWH_PER_WH).contains(&state.stored_uwh));
                prop_assert_eq!(
                    before.stored_uwh + flow.charged_wh * UWH_PER_WH,
                    state.stored_uwh + flow.discharged_wh * UWH_PER_WH + flow.lost_uwh
                );
            }
        }
    }
}
