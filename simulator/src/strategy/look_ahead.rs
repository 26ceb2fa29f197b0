//! A battery with a plan: in each interval the cheapest use over what its home expects (load, sun, tariff), by the exact
//! dynamic programme of [`super::planner`]; only the first step is taken, then it plans anew.

use super::planner::{Expected, Ladder, Planner};
use super::{AHEAD_MAX, BatteryPlan, Decision, Own, OwnBattery, Public, Wish, honest_limit, side};

/// Levels of content that the plan tells apart.
const LEVELS: i64 = 33;

/// The planner's memory; it remembers nothing of the market.
#[derive(Clone, Debug, Default)]
pub struct LookAhead {
    planner: Planner,
    ahead: Vec<Expected>,
}

impl LookAhead {
    /// What it does in an interval: the battery's step, and an honest order for what is lacking or over with it.
    pub fn decide(&mut self, public: &Public<'_>, own: &Own<'_>) -> Decision {
        let planned = own
            .battery
            .map(|battery| self.step_wh(public, own, &battery));
        let (net_wh, battery) = match planned {
            Some(step_wh) => (own.expected_wh + step_wh, BatteryPlan::Fixed(step_wh)),
            None => (own.expected_wh, BatteryPlan::Follow),
        };
        Decision {
            wish: Wish::of(net_wh, honest_limit(side(net_wh), public)),
            battery,
        }
    }

    /// AC energy of the best first step, in Wh.
    fn step_wh(&mut self, public: &Public<'_>, own: &Own<'_>, battery: &OwnBattery) -> i64 {
        self.ahead.clear();
        let tariff = public
            .tariff_ahead
            .iter()
            .zip(own.expected_ahead_wh)
            .take(AHEAD_MAX);
        self.ahead
            .extend(tariff.map(|((pays, takes), net_wh)| Expected {
                net_wh: *net_wh,
                draw_micro: takes.micro_per_kwh(),
                feed_micro: pays.micro_per_kwh(),
            }));
        let Some(first) = self.ahead.first_mut() else {
            // Nothing is known of the future: the battery follows the home.
            return own.following_wh() - own.expected_wh;
        };
        first.net_wh = own.expected_wh;
        let ladder = ladder(battery);
        if ladder.level_wh == 0 {
            return 0;
        }
        let start = usize::try_from(battery.stored_wh / ladder.level_wh).unwrap_or(0);
        let plan = self
            .planner
            .plan(&ladder, start, &self.ahead, end_nano(&self.ahead, &ladder));
        // Between two levels the plan has no step: there the battery follows the home exactly.
        let following_wh = own.following_wh() - own.expected_wh;
        let (below_wh, above_wh) = (ladder.ac_wh(plan.first - 1), ladder.ac_wh(plan.first + 1));
        if below_wh < following_wh && following_wh < above_wh {
            return following_wh;
        }
        ladder
            .ac_wh(plan.first)
            .clamp(-battery.ready_wh, battery.room_wh)
    }
}

/// The battery as levels.
fn ladder(battery: &OwnBattery) -> Ladder {
    let level_wh = battery.capacity_wh.max(0) / (LEVELS - 1);
    let steps = |content_wh: i64| {
        let whole = if level_wh > 0 {
            content_wh / level_wh
        } else {
            0
        };
        usize::try_from(whole.clamp(0, LEVELS - 1)).unwrap_or(0)
    };
    Ladder {
        levels: usize::try_from(LEVELS).unwrap_or(1),
        level_wh,
        up: steps(battery.charge_wh * battery.charge_permille / 1000),
        down: steps(battery.discharge_wh * 1000 / battery.discharge_permille.max(1)),
        charge_permille: battery.charge_permille,
        discharge_permille: battery.discharge_permille,
    }
}

/// What one level is worth at the end of the horizon: it saves drawing at the mean of the middle between both
/// prices, less the loss of discharging.
fn end_nano(ahead: &[Expected], ladder: &Ladder) -> i64 {
    let sum: i128 = ahead
        .iter()
        .map(|expected| i128::from(expected.draw_micro) + i128::from(expected.feed_micro))
        .sum();
    let count = i128::try_from(ahead.len().max(1)).unwrap_or(1);
    let middle = i64::try_from(sum / (2 * count)).unwrap_or(0);
    middle.saturating_mul(-ladder.ac_wh(-1))
}
