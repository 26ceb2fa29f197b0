//! A home battery in whole watt-seconds: it soaks up what the panels leave over, covers what they
//! lack, and feeds the street while it is well charged. What goes in comes out, stays, or is lost.

use crate::number::bounded;
use crate::random::Draws;
use crate::scenario::BatteryScenario;
use crate::world::STEP_S;

/// Below this charge, in per mille, a battery keeps its energy for its own home.
const STREET_RESERVE_PER_MILLE: i64 = 250;

/// A battery and what has passed through it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatteryState {
    /// Usable energy.
    pub capacity_wh: i64,
    /// Largest AC power, either way.
    pub power_max_w: i64,
    /// AC power now; discharging positive, charging negative.
    pub power_w: i64,
    /// Energy inside.
    pub stored_ws: i64,
    /// AC energy taken in since it was built.
    pub in_ws: i64,
    /// AC energy given out since it was built.
    pub out_ws: i64,
    /// Energy that became heat since the simulation started.
    pub loss_ws: i64,
    street_w: i64,
    one_way_per_mille: i64,
}

impl BatteryState {
    /// A battery some way through its life and partly charged.
    pub(crate) fn new(scenario: &BatteryScenario, initial: &mut Draws) -> BatteryState {
        let capacity_ws = scenario.capacity_wh * 3600;
        let in_wh = initial.whole(400_000, 3_000_000);
        let efficiency_per_mille = bounded(scenario.efficiency * 1000.0, 1000);
        BatteryState {
            capacity_wh: scenario.capacity_wh,
            power_max_w: scenario.power_w,
            power_w: 0,
            stored_ws: capacity_ws / 1000 * initial.whole(300, 600),
            in_ws: in_wh * 3600,
            out_ws: in_wh * efficiency_per_mille / 1000 * 3600,
            loss_ws: 0,
            street_w: scenario.street_w,
            one_way_per_mille: bounded((scenario.efficiency.sqrt() * 1000.0).floor(), 1000),
        }
    }

    /// Charge in per mille of the capacity.
    #[must_use]
    pub fn soc_per_mille(&self) -> i64 {
        self.stored_ws / (self.capacity_wh * 36 / 10)
    }

    /// One step: `deficit_w` is what the home lacks without battery and car (negative: has left over),
    /// `ev_w` what its car draws, `window_w` the least and the largest power that it was told to have.
    /// Gives the AC power, discharging positive.
    ///
    /// The battery does not feed the car: moving energy from one battery to another only loses some.
    pub(crate) fn step(&mut self, deficit_w: i64, ev_w: i64, (least_w, most_w): (i64, i64)) -> i64 {
        let surplus_w = -(deficit_w + ev_w);
        let wanted_w = if surplus_w > 0 {
            -surplus_w
        } else if deficit_w > 0 || ev_w == 0 {
            let to_street = ev_w == 0 && self.soc_per_mille() > STREET_RESERVE_PER_MILLE;
            let to_street_w = if to_street { self.street_w } else { 0 };
            deficit_w.max(0) + to_street_w
        } else {
            0
        };
        let wanted_w = wanted_w.clamp(least_w, most_w);
        self.power_w = if wanted_w < 0 {
            -self.charge(-wanted_w)
        } else {
            self.discharge(wanted_w)
        };
        let capacity_ws = self.capacity_wh * 3600;
        assert!(
            (0..=capacity_ws).contains(&self.stored_ws),
            "a battery left its limits"
        );
        self.power_w
    }

    fn charge(&mut self, wanted_w: i64) -> i64 {
        let room_ws = self.capacity_wh * 3600 - self.stored_ws;
        let fits_w = room_ws * 1000 / self.one_way_per_mille / STEP_S;
        let power_w = wanted_w.min(self.power_max_w).min(fits_w);
        let taken_ws = power_w * STEP_S;
        let kept_ws = taken_ws * self.one_way_per_mille / 1000;
        self.stored_ws += kept_ws;
        self.loss_ws += taken_ws - kept_ws;
        self.in_ws += taken_ws;
        power_w
    }

    fn discharge(&mut self, wanted_w: i64) -> i64 {
        let can_w = self.stored_ws * self.one_way_per_mille / 1000 / STEP_S;
        let power_w = wanted_w.min(self.power_max_w).min(can_w);
        let given_ws = power_w * STEP_S;
        // Rounded up, so that the loss is never negative.
        let drawn_ws = (given_ws * 1000 + self.one_way_per_mille - 1) / self.one_way_per_mille;
        self.stored_ws -= drawn_ws;
        self.loss_ws += drawn_ws - given_ws;
        self.out_ws += given_ws;
        power_w
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Stream;

    /// As much as it can, either way.
    const FREE: (i64, i64) = (-3000, 3000);

    fn battery(efficiency: f64) -> BatteryState {
        let scenario = BatteryScenario {
            capacity_wh: 5000,
            power_w: 3000,
            efficiency,
            street_w: 400,
        };
        BatteryState::new(&scenario, &mut Stream::new(1, "battery").at(0))
    }

    #[test]
    fn it_charges_from_surplus_covers_deficit_and_feeds_the_street() {
        let mut b = battery(0.9);
        assert_eq!(b.step(-1000, 0, FREE), -1000);
        assert_eq!(b.step(-9000, 0, FREE), -3000);
        assert_eq!(
            b.step(600, 0, FREE),
            1000,
            "600 W for the home and 400 W for the street"
        );
        assert_eq!(
            b.step(600, 7000, FREE),
            600,
            "nothing for the car, nothing past it"
        );
        assert_eq!(b.step(-600, 7000, FREE), 0, "the car takes the surplus");
        b.stored_ws = 5000 * 36 * 20;
        assert_eq!(
            b.step(600, 0, FREE),
            600,
            "at 20 % it keeps the rest for its own home"
        );
    }

    #[test]
    fn it_does_what_it_is_told_as_far_as_it_can() {
        let mut b = battery(0.9);
        assert_eq!(
            b.step(-1000, 0, (1200, 1200)),
            1200,
            "in spite of a surplus"
        );
        assert_eq!(b.step(600, 0, (-800, -800)), -800, "in spite of a need");
        assert_eq!(b.step(600, 0, (0, 0)), 0);
        assert_eq!(b.step(-9000, 0, (-500, 3000)), -500, "no more than that");
        b.stored_ws = 0;
        assert_eq!(
            b.step(600, 0, (1200, 1200)),
            0,
            "nothing comes from nothing"
        );
    }

    #[test]
    fn a_full_cycle_loses_what_the_efficiency_says() {
        let mut b = battery(0.9);
        while b.step(20_000, 0, FREE) > 0 {}
        let (in_0, out_0) = (b.in_ws, b.out_ws);
        while b.step(-3000, 0, FREE) < 0 {}
        assert_eq!(
            b.soc_per_mille(),
            999 + i64::from(b.stored_ws == 18_000_000)
        );
        while b.step(20_000, 0, FREE) > 0 {}
        let per_mille = (b.out_ws - out_0) * 1000 / (b.in_ws - in_0);
        assert!((895..=900).contains(&per_mille), "{per_mille}");
    }

    proptest! {
        #[test]
        fn energy_is_conserved_to_the_watt_second(
            steps in prop::collection::vec((-12_000_i64..12_000, 0_i64..11_000), 1..400),
            efficiency in 0.5_f64..=1.0,
        ) {
            let mut b = battery(efficiency);
            let before = b.clone();
            for (deficit_w, ev_w) in steps {
                let loss_ws = b.loss_ws;
                let power_w = b.step(deficit_w, ev_w, FREE);
                prop_assert!(power_w.abs() <= 3000);
                prop_assert!(b.loss_ws >= loss_ws);
            }
            let stored = b.stored_ws - before.stored_ws;
            let passed = (b.in_ws - before.in_ws) - (b.out_ws - before.out_ws);
            prop_assert_eq!(passed, stored + b.loss_ws);
        }
    }
}
