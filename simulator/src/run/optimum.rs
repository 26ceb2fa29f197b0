//! What the community would pay if all its batteries were one, planned with perfect foresight: the yardstick
//! between being alone and the best that can be done. By the exact programme of `strategy::planner`, over
//! levels of content.

use super::engine::Outcome;
use crate::number::{bounded, float};
use crate::strategy::planner::{Expected, LEVELS_MAX, Ladder, Planner, STEPS_MAX};

/// Longest run for which it is computed: a month of quarter hours.
pub const INTERVALS_MAX: usize = 3000;
/// What is in every battery at the start, of its capacity.
pub(super) const FIRST_CONTENT: f64 = 0.5;

/// Fewest levels that one interval's most energy has to be: with fewer, the plan is held back by the levels
/// more than by the battery, and its cost bounds nothing.
const STEP_LEVELS_MIN: usize = 16;

/// All batteries as one, in intervals of a length.
fn ladder(outcome: &Outcome, length_s: i64) -> Option<Ladder> {
    let batteries = || {
        outcome
            .homes
            .iter()
            .filter_map(|home| home.battery.as_ref())
    };
    let capacity_wh: i64 = batteries().map(|b| b.capacity_wh).sum();
    let most_wh = batteries().map(|b| b.power_w).sum::<i64>() * length_s / 3600;
    // One battery that is as good as the best of them.
    let best = batteries().map(|b| b.efficiency).fold(0.0, f64::max);
    let permille = bounded(libm::sqrt(best) * 1000.0, 1000).max(1);
    let levels_max = i64::try_from(LEVELS_MAX).unwrap_or(1);
    let steps_max = i64::try_from(STEPS_MAX).unwrap_or(1);
    let down_wh = most_wh * 1000 / permille;
    let level_wh = (capacity_wh / (levels_max - 1))
        .max(down_wh / steps_max)
        .max(1);
    let whole = |wh: i64| usize::try_from(wh / level_wh).unwrap_or(0);
    (capacity_wh > 0).then(|| Ladder {
        levels: whole(capacity_wh) + 1,
        level_wh,
        up: whole(most_wh * permille / 1000),
        down: whole(down_wh),
        charge_permille: permille,
        discharge_permille: permille,
    })
}

/// The cost of the best plan in nano-tokens; none for runs that are too long, and where the levels are coarse
/// beside what the batteries move in an interval. Network fees are left out, and
/// what is in the batteries at the end is worth nothing, as in the run's own cost.
#[must_use]
pub fn cost_nano(outcome: &Outcome) -> Option<i64> {
    let first = outcome.rows.first()?;
    if outcome.rows.len() > INTERVALS_MAX {
        return None;
    }
    let expected = |row: &super::engine::IntervalRow| Expected {
        net_wh: row.load_wh + row.ev_wh + row.heat_wh - row.pv_wh - row.curtailed_wh,
        draw_micro: row.retail.micro_per_kwh(),
        feed_micro: row.feed_in.micro_per_kwh(),
    };
    let ahead: Vec<Expected> = outcome.rows.iter().map(expected).collect();
    let Some(ladder) = ladder(outcome, i64::from(first.moment.interval.length_s())) else {
        return Some(ahead.iter().map(|e| e.cost_nano(0)).sum());
    };
    if ladder.up.min(ladder.down) < STEP_LEVELS_MIN {
        return None;
    }
    let top = i64::try_from(ladder.levels - 1).unwrap_or(0);
    let start = usize::try_from(bounded(float(top) * FIRST_CONTENT, top)).unwrap_or(0);
    Some(Planner::default().plan(&ladder, start, &ahead, 0).cost_nano)
}
