//! Electric cars: when they are plugged in and how much they want ([`sessions`]), how they are charged
//! ([`Charger`]), and what was left undone at departure.
//!
//! Energy is whole Wh at the meter's side. A car charges or it does not: between nothing and the least
//! power (6 A: 1.38 kW on one phase, 4.14 kW on three) there is nothing.

pub mod sessions;

/// One visit of a car.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// When it is plugged in.
    pub arrival_unix_s: i64,
    /// When it is unplugged.
    pub departure_unix_s: i64,
    /// What it wants to have until then, in Wh.
    pub energy_wh: i64,
}

/// How a plugged car is charged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChargePolicy {
    /// At full power from arrival on.
    #[default]
    Uncontrolled,
    /// Only with what the roof has left over.
    Surplus,
    /// In the cheapest intervals of the time that is left; at equal prices the earlier ones.
    Tariff,
    /// With what the roof has left over, and at full power when the time would otherwise not suffice.
    Deadline,
}

/// A charging point in intervals of one length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Charger {
    /// The least energy of an interval in which it charges, in Wh.
    pub least_wh: i64,
    /// The most, in Wh.
    pub most_wh: i64,
}

/// What a policy may know besides the car.
#[derive(Clone, Copy, Debug)]
pub struct ChargeNow<'a> {
    /// Whole intervals from now to departure, this one included.
    pub intervals_left: i64,
    /// Left over at home in this interval, in Wh.
    pub surplus_wh: i64,
    /// Prices of this interval and of those after it, in micro-token per kWh, as far as they are known.
    pub prices: &'a [i64],
}

/// A car at a charging point.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Plugged {
    /// What it still wants, in Wh.
    pub left_wh: i64,
}

impl Charger {
    /// A charging point with these powers, in W.
    #[must_use]
    pub fn new(least_w: i64, most_w: i64, length_s: u32) -> Charger {
        let energy = |power_w: i64| power_w.max(0) * i64::from(length_s) / 3600;
        Charger {
            least_wh: energy(least_w.min(most_w)),
            most_wh: energy(most_w),
        }
    }

    /// Charges for one interval; gives the energy in Wh.
    #[inline]
    pub fn step(&self, policy: ChargePolicy, car: &mut Plugged, now: &ChargeNow<'_>) -> i64 {
        if car.left_wh <= 0 || now.intervals_left <= 0 {
            return 0;
        }
        let wish_wh = match policy {
            ChargePolicy::Uncontrolled => self.most_wh,
            ChargePolicy::Surplus => now.surplus_wh,
            ChargePolicy::Tariff if self.is_cheap(car.left_wh, now) => self.most_wh,
            ChargePolicy::Tariff => 0,
            ChargePolicy::Deadline if self.is_urgent(car.left_wh, now.intervals_left) => {
                self.most_wh
            }
            ChargePolicy::Deadline => now.surplus_wh,
        };
        let charged_wh = self.allowed_wh(wish_wh, car.left_wh);
        car.left_wh -= charged_wh;
        charged_wh
    }

    /// The wish within what the point can do. The last bit of a car's wish may be below the least energy:
    /// the point charges for a part of the interval then.
    fn allowed_wh(&self, wish_wh: i64, left_wh: i64) -> i64 {
        if wish_wh < self.least_wh.min(left_wh) {
            return 0;
        }
        wish_wh.clamp(0, self.most_wh).min(left_wh)
    }

    /// Intervals at full power that `left_wh` needs.
    fn needed(&self, left_wh: i64) -> i64 {
        if self.most_wh == 0 {
            return i64::MAX;
        }
        left_wh.div_euclid(self.most_wh) + i64::from(left_wh.rem_euclid(self.most_wh) > 0)
    }

    /// Waiting one more interval would leave too little time.
    fn is_urgent(&self, left_wh: i64, intervals_left: i64) -> bool {
        self.needed(left_wh) >= intervals_left
    }

    /// This interval is among the cheapest ones that are needed until departure. Intervals without a
    /// known price count as dearer than all others.
    fn is_cheap(&self, left_wh: i64, now: &ChargeNow<'_>) -> bool {
        let needed = self.needed(left_wh);
        if needed >= now.intervals_left {
            return true;
        }
        let Some((price, ahead)) = now.prices.split_first() else {
            return self.is_urgent(left_wh, now.intervals_left);
        };
        let until = usize::try_from(now.intervals_left - 1).unwrap_or(usize::MAX);
        let cheaper = ahead
            .iter()
            .take(until)
            .filter(|other| *other < price)
            .count();
        i64::try_from(cheaper).is_ok_and(|cheaper| cheaper < needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 11 kW and 4.14 kW in quarter hours: 2750 and 1035 Wh.
    fn wallbox() -> Charger {
        Charger::new(4140, 11_000, 900)
    }

    fn charge(
        policy: ChargePolicy,
        left_wh: i64,
        surplus: &[i64],
        prices: &[i64],
    ) -> (Vec<i64>, i64) {
        let mut car = Plugged { left_wh };
        let course = (0..surplus.len())
            .map(|index| {
                let now = ChargeNow {
                    intervals_left: i64::try_from(surplus.len() - index).unwrap(),
                    surplus_wh: surplus[index],
                    prices: prices.get(index..).unwrap_or(&[]),
                };
                wallbox().step(policy, &mut car, &now)
            })
            .collect();
        (course, car.left_wh)
    }

    #[test]
    fn uncontrolled_charges_at_once() {
        let (course, left) = charge(ChargePolicy::Uncontrolled, 6000, &[0; 5], &[]);
        assert_eq!((course, left), (vec![2750, 2750, 500, 0, 0], 0));
    }

    #[test]
    fn surplus_waits_for_enough_sun_and_leaves_the_rest_unserved() {
        let (course, left) = charge(ChargePolicy::Surplus, 6000, &[0, 1000, 1500, 4000, 0], &[]);
        assert_eq!((course, left), (vec![0, 0, 1500, 2750, 0], 1750));
    }

    #[test]
    fn the_tariff_policy_takes_the_cheapest_intervals_also_below_zero() {
        let (course, left) = charge(
            ChargePolicy::Tariff,
            5000,
            &[0; 5],
            &[300, 100, 300, -50, 100],
        );
        assert_eq!((course, left), (vec![0, 2750, 0, 2250, 0], 0));
        let (equal, _) = charge(ChargePolicy::Tariff, 5000, &[0; 4], &[7; 4]);
        assert_eq!(equal, [2750, 2250, 0, 0]);
        let (unknown, left) = charge(ChargePolicy::Tariff, 5000, &[0; 4], &[]);
        assert_eq!((unknown, left), (vec![0, 0, 2750, 2250], 0));
    }

    #[test]
    fn the_deadline_policy_prefers_the_sun_and_is_done_in_time() {
        let (course, left) = charge(ChargePolicy::Deadline, 6500, &[0, 1200, 0, 0, 0], &[]);
        assert_eq!((course, left), (vec![0, 1200, 0, 2750, 2550], 0));
    }

    proptest! {
        #[test]
        fn nothing_is_charged_that_the_point_cannot_or_the_car_does_not_want(
            left_wh in 0_i64..60_000,
            surplus in proptest::collection::vec(-3000_i64..9000, 1..40),
            prices in proptest::collection::vec(-500_i64..500, 40),
        ) {
            use ChargePolicy::{Deadline, Surplus, Tariff, Uncontrolled};
            for policy in [Uncontrolled, Surplus, Tariff, Deadline] {
                let (course, unserved) = charge(policy, left_wh, &surplus, &prices);
                prop_assert_eq!(course.iter().sum::<i64>() + unserved, left_wh);
                prop_assert!(course.iter().all(|wh| (0..=2750).contains(wh)));
                let could = 2750 * i64::try_from(surplus.len()).unwrap();
                if policy != Surplus {
                    prop_assert_eq!(unserved, (left_wh - could).max(0), "{:?}", policy);
                }
            }
        }
    }
}
