//! The cheapest use of a battery over what a home expects: an exact dynamic programme over levels of content, in
//! integers. Cost of an interval: what is drawn from the grid at its price, less what is fed in at its price,
//! in nano-token (Wh times micro-token per kWh). Never charges and discharges at once.
//!
//! value(t, s) = min over d of cost(t, d) + value(t + 1, s + d), where d levels up take more AC energy than they
//! store and d levels down give less. The cost of a step depends on d and not on s, so that an interval is
//! levels × steps additions.

/// Levels of content.
pub const LEVELS_MAX: usize = 256;
/// Levels that one interval may move up or down.
pub const STEPS_MAX: usize = 64;

/// A battery as the programme sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ladder {
    /// Levels, empty and full included; at least 1.
    pub levels: usize,
    /// Wh of content between two levels.
    pub level_wh: i64,
    /// Levels that one interval can charge and discharge.
    pub up: usize,
    /// See `up`.
    pub down: usize,
    /// Of 1000 Wh charged this is stored, and of 1000 Wh taken out this is given; 1 to 1000.
    pub charge_permille: i64,
    /// See `charge_permille`.
    pub discharge_permille: i64,
}

impl Ladder {
    /// AC energy of `steps` levels: above zero it is drawn (rounded up), below zero it is given (rounded down).
    #[must_use]
    pub fn ac_wh(&self, steps: i64) -> i64 {
        let content_wh = steps * self.level_wh;
        if content_wh >= 0 {
            let permille = self.charge_permille.clamp(1, 1000);
            (content_wh * 1000 + permille - 1) / permille
        } else {
            -(-content_wh * self.discharge_permille.clamp(0, 1000) / 1000)
        }
    }

    /// The same with all counts within their limits.
    fn bounded(self) -> Ladder {
        let levels = self.levels.clamp(1, LEVELS_MAX);
        Ladder {
            levels,
            up: self.up.min(STEPS_MAX).min(levels - 1),
            down: self.down.min(STEPS_MAX).min(levels - 1),
            level_wh: self.level_wh.max(0),
            ..self
        }
    }
}

/// What is expected of one interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// Lacking (above zero) or over before the battery, in Wh.
    pub net_wh: i64,
    /// Price of what is drawn and of what is fed in, in micro-token per kWh.
    pub draw_micro: i64,
    /// See `draw_micro`.
    pub feed_micro: i64,
}

impl Expected {
    /// Cost of the interval when the battery adds `ac_wh`, in nano-token.
    #[must_use]
    pub fn cost_nano(&self, ac_wh: i64) -> i64 {
        let net_wh = self.net_wh + ac_wh;
        net_wh.saturating_mul(if net_wh > 0 {
            self.draw_micro
        } else {
            self.feed_micro
        })
    }
}

/// The best that can be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Levels to go up (above zero) or down in the first interval. Of several equally good ones that which moves
    /// least, and then the one down.
    pub first: i64,
    /// Cost over the whole horizon, less what the content at its end is worth, in nano-token.
    pub cost_nano: i64,
}

/// The programme with its memory, used again and again.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    value: Vec<i64>,
    next: Vec<i64>,
    costs: Vec<i64>,
}

impl Planner {
    /// The best plan from level `start`; at the end each level above the lowest is worth `end_nano`.
    pub fn plan(
        &mut self,
        ladder: &Ladder,
        start: usize,
        ahead: &[Expected],
        end_nano: i64,
    ) -> Plan {
        let ladder = ladder.bounded();
        let start = start.min(ladder.levels - 1);
        self.next.clear();
        let worth = |level: usize| {
            end_nano
                .saturating_mul(i64::try_from(level).unwrap_or(0))
                .saturating_neg()
        };
        self.next.extend((0..ladder.levels).map(worth));
        let Some((first, later)) = ahead.split_first() else {
            return Plan {
                first: 0,
                cost_nano: self.next[start],
            };
        };
        for expected in later.iter().rev() {
            self.price(&ladder, expected);
            self.value.clear();
            for level in 0..ladder.levels {
                let (from, to, cost_from) = reach(&ladder, level);
                let costs = &self.costs[cost_from..];
                let best = self.next[from..=to]
                    .iter()
                    .zip(costs)
                    .map(|(v, c)| v.saturating_add(*c))
                    .min();
                self.value.push(best.unwrap_or(i64::MAX));
            }
            std::mem::swap(&mut self.value, &mut self.next);
        }
        self.price(&ladder, first);
        let (from, to, cost_from) = reach(&ladder, start);
        let options = (from..=to).map(|level| {
            let cost = self.next[level].saturating_add(self.costs[cost_from + level - from]);
            (cost, level.abs_diff(start), level)
        });
        let (cost_nano, _, level) = options.min().unwrap_or((i64::MAX, 0, start));
        let signed = |level: usize| i64::try_from(level).unwrap_or(0);
        Plan {
            first: signed(level) - signed(start),
            cost_nano,
        }
    }

    /// Costs of an interval by steps, from the most down to the most up.
    fn price(&mut self, ladder: &Ladder, expected: &Expected) {
        self.costs.clear();
        let signed = |steps: usize| i64::try_from(steps).unwrap_or(0);
        let steps = -signed(ladder.down)..=signed(ladder.up);
        self.costs
            .extend(steps.map(|step| expected.cost_nano(ladder.ac_wh(step))));
    }
}

/// Lowest and highest level that can be reached from one, and where the costs of getting there begin.
fn reach(ladder: &Ladder, level: usize) -> (usize, usize, usize) {
    let from = level.saturating_sub(ladder.down);
    let to = (level + ladder.up).min(ladder.levels - 1);
    (from, to, from + ladder.down - level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All ways, one by one.
    fn brute_force(ladder: &Ladder, level: usize, ahead: &[Expected], end_nano: i64) -> i64 {
        let Some((now, later)) = ahead.split_first() else {
            return -end_nano * i64::try_from(level).unwrap();
        };
        let signed = |value: usize| i64::try_from(value).unwrap();
        (0..ladder.levels)
            .filter(|to| *to <= level + ladder.up && *to + ladder.down >= level)
            .map(|to| {
                let step = signed(to) - signed(level);
                now.cost_nano(ladder.ac_wh(step)) + brute_force(ladder, to, later, end_nano)
            })
            .min()
            .unwrap()
    }

    proptest! {
        #[test]
        fn the_plan_is_the_best_of_all_ways(
            levels in 1_usize..6,
            up in 0_usize..4,
            down in 0_usize..4,
            permille in (500_i64..=1000, 500_i64..=1000),
            end_nano in -50_000_i64..50_000,
            start in 0_usize..5,
            ahead in proptest::collection::vec((-900_i64..900, -200_i64..400, -200_i64..400), 0..6),
        ) {
            let ladder = Ladder {
                levels,
                level_wh: 300,
                up: up.min(levels - 1),
                down: down.min(levels - 1),
                charge_permille: permille.0,
                discharge_permille: permille.1,
            };
            let start = start.min(levels - 1);
            let ahead: Vec<Expected> = ahead
                .iter()
                .map(|(net_wh, draw_micro, feed_micro)| Expected {
                    net_wh: *net_wh,
                    draw_micro: *draw_micro,
                    feed_micro: *feed_micro,
                })
                .collect();
            let plan = Planner::default().plan(&ladder, start, &ahead, end_nano);
            prop_assert_eq!(plan.cost_nano, brute_force(&ladder, start, &ahead, end_nano));
            // The first step leads to a way of that cost.
            if let Some((now, later)) = ahead.split_first() {
                let to = usize::try_from(i64::try_from(start).unwrap() + plan.first).unwrap();
                let rest = brute_force(&ladder, to, later, end_nano);
                prop_assert_eq!(plan.cost_nano, now.cost_nano(ladder.ac_wh(plan.first)) + rest);
            }
        }
    }

    #[test]
    fn it_charges_when_cheap_and_discharges_when_dear() {
        let ladder = Ladder {
            levels: 5,
            level_wh: 1000,
            up: 1,
            down: 1,
            charge_permille: 900,
            discharge_permille: 900,
        };
        let at = |draw_micro| Expected {
            net_wh: 1000,
            draw_micro,
            feed_micro: 0,
        };
        let mut planner = Planner::default();
        let prices = [at(100_000), at(300_000)];
        assert_eq!(planner.plan(&ladder, 0, &prices, 0).first, 1);
        assert_eq!(planner.plan(&ladder, 1, &prices[1..], 0).first, -1);
        // A difference that the losses eat: 1112 Wh bought for 900 Wh given.
        let flat = [at(100_000), at(120_000)];
        assert_eq!(planner.plan(&ladder, 0, &flat, 0).first, 0);
        // Worth less than nothing: it charges although nothing is left over.
        assert_eq!(
            planner
                .plan(&ladder, 0, &[at(-100_000), at(50_000)], 0)
                .first,
            1
        );
    }

    #[test]
    fn ac_energy_is_rounded_to_the_losers_side() {
        let ladder = Ladder {
            levels: 2,
            level_wh: 100,
            up: 1,
            down: 1,
            charge_permille: 950,
            discharge_permille: 950,
        };
        assert_eq!(
            (ladder.ac_wh(1), ladder.ac_wh(-1), ladder.ac_wh(0)),
            (106, -95, 0)
        );
    }
}
