//! A battery's plan: an exact dynamic programme, backwards from the end of the horizon.
//!
//! Its charge is counted in steps (whole watt-hours, at most [`BATTERY_STEPS_MAX`] of them), from what is in
//! it now. `worth[n][level]` is the most that can be earned from interval `n` on with that charge: bought at
//! the expected price, sold at it less the margin. At the end a charge up to what is in it now is worth what
//! that cost, and more is worth nothing: so it only buys what it can sell, or what it sold for more than
//! buying it back costs. Of equal plans the one that moves less, and buys rather than sells, is taken. All
//! worth is in micro-token per kWh × Wh × [`WHOLE`]-ths kept, so that losses are exact.
//!
//! The limits follow from the same table: a bid pays at most what its last step will earn, an offer asks at
//! least what its last step would earn later, and never less than what the dearest energy in the battery
//! cost, losses and margin included.

use domain::energy::Energy;
use domain::money::Price;
use domain::order::Side;

use super::{BATTERY_STEPS_MAX, Battery, Outlook, Placement, Progress, Why, most_wh};

const WHOLE: i64 = 10_000;

/// What energy bought at the meter at this price costs when it comes out again, ceiled.
fn cost_out(battery: &Battery, price: Price) -> Option<Price> {
    let kept = i128::from(kept(battery)?);
    let cost = (i128::from(price.micro_per_kwh()) * i128::from(WHOLE) + kept - 1).div_euclid(kept);
    i64::try_from(cost).ok().map(Price::from_micro_per_kwh)
}

/// The same battery where neighbours' energy costs this network fee on top: what it sells has to earn that, too.
#[must_use]
pub fn with_network_fee(battery: Battery, fee: Price) -> Battery {
    let margin = cost_out(&battery, fee).and_then(|fee| battery.margin.checked_add(fee));
    Battery {
        margin: margin.unwrap_or(battery.margin),
        ..battery
    }
}

/// What is in the battery after buying so much at the meter, at this price.
#[must_use]
pub fn charged(
    battery: &Battery,
    progress: Progress,
    energy: Energy,
    price: Price,
) -> Option<Progress> {
    let stored = i128::from(energy.wh()) * i128::from(kept(battery)?) / i128::from(WHOLE);
    let stored = Energy::from_wh(i64::try_from(stored).ok()?);
    Some(Progress {
        energy: progress.energy.checked_add(stored)?,
        cost: cost_out(battery, price)?.max(progress.cost),
    })
}

/// What is in the battery after selling so much; an empty one has no cost.
#[must_use]
pub fn discharged(battery: &Battery, progress: Progress, energy: Energy) -> Option<Progress> {
    let energy = progress.energy.checked_sub(energy)?;
    let cost = if energy <= battery.least {
        Price::ZERO
    } else {
        progress.cost
    };
    Some(Progress { energy, cost })
}

/// The part of bought energy that is kept, in basis points; none for a battery that keeps nothing.
fn kept(battery: &Battery) -> Option<i64> {
    Some(WHOLE - i64::from(battery.loss_basis_points)).filter(|kept| *kept > 0)
}

/// Levels of charge, a step apart.
struct Levels {
    step_wh: i64,
    /// Where it is now, and where it may be: up to `most`, and down to `least` by selling.
    now: usize,
    most: usize,
    least: usize,
    kept: i64,
}

impl Levels {
    fn of(battery: &Battery, energy: Energy) -> Option<Self> {
        let (least, most) = (battery.least.wh(), battery.most.wh());
        let range = most.checked_sub(least).filter(|range| *range > 0)?;
        // Whatever was read, there is no more in it than it holds, and no less than nothing.
        let now = energy.wh().clamp(0, most.max(0));
        let step_wh =
            range.div_euclid(BATTERY_STEPS_MAX) + i64::from(range % BATTERY_STEPS_MAX > 0);
        let (above, below) = (now.saturating_sub(least), most.saturating_sub(now));
        let steps = |wh: i64| usize::try_from(wh.max(0) / step_wh).ok();
        let here = steps(above)?;
        Some(Levels {
            step_wh,
            now: here,
            most: here + steps(below)?.min(usize::try_from(BATTERY_STEPS_MAX).ok()?),
            // Below its least charge it may only buy until it is above.
            least: steps(above.saturating_neg().saturating_add(step_wh - 1))?,
            kept: kept(battery)?,
        })
    }

    /// Energy at the meter that these steps take to come in.
    fn bought_wh(&self, steps: usize) -> i64 {
        let stored = i128::from(self.sold_wh(steps)) * i128::from(WHOLE);
        let kept = i128::from(self.kept);
        i64::try_from((stored + kept - 1).div_euclid(kept)).unwrap_or(i64::MAX)
    }

    /// Energy at the meter that these steps bring.
    fn sold_wh(&self, steps: usize) -> i64 {
        i64::try_from(steps).map_or(i64::MAX, |steps| steps.saturating_mul(self.step_wh))
    }

    fn sold_wh_times(&self, steps: usize, factor: i64) -> i128 {
        i128::from(self.sold_wh(steps)) * i128::from(factor)
    }

    /// How many steps fit into this much energy at the meter.
    fn fitting(&self, most_wh: i64, wh: impl Fn(&Self, usize) -> i64) -> usize {
        let levels: Vec<usize> = (0..=self.most).collect();
        levels
            .partition_point(|steps| wh(self, *steps) <= most_wh)
            .saturating_sub(1)
    }
}

/// One interval's choices.
struct Choice {
    buy_steps_max: usize,
    sell_steps_max: usize,
    buy: i128,
    /// Less the margin; none where it would be below what the energy in the battery cost.
    sell: Option<i128>,
}

impl Choice {
    fn of(battery: &Battery, progress: Progress, levels: &Levels, outlook: &Outlook) -> Self {
        let (micro, interval) = (|p: Price| i128::from(p.micro_per_kwh()), outlook.interval);
        let sell = micro(outlook.sell()) - micro(battery.margin);
        Choice {
            buy_steps_max: levels
                .fitting(most_wh(battery.charge_max_w, interval), Levels::bought_wh),
            sell_steps_max: levels
                .fitting(most_wh(battery.discharge_max_w, interval), Levels::sold_wh),
            buy: micro(outlook.buy()),
            sell: Some(sell).filter(|sell| *sell >= micro(progress.cost)),
        }
    }

    /// The best level to go to from `level`, and what it is worth.
    fn best(&self, levels: &Levels, level: usize, after: &[i128]) -> (usize, i128) {
        let mut best = (level, after[level]);
        let top = levels.most.min(level + self.buy_steps_max);
        for (to, then) in after.iter().enumerate().take(top + 1).skip(level + 1) {
            let worth = then - self.buy * levels.sold_wh_times(to - level, WHOLE);
            if worth > best.1 {
                best = (to, worth);
            }
        }
        let Some(sell) = self.sell else { return best };
        let bottom = levels.least.max(level.saturating_sub(self.sell_steps_max));
        let below = after.iter().enumerate().take(level).skip(bottom);
        for (to, then) in below.rev() {
            let worth = then + sell * levels.sold_wh_times(level - to, levels.kept);
            if worth > best.1 {
                best = (to, worth);
            }
        }
        best
    }
}

pub(super) fn place(battery: &Battery, progress: Progress, ahead: &[Outlook]) -> Vec<Placement> {
    let Some(levels) = Levels::of(battery, progress.energy) else {
        return Vec::new();
    };
    let choice = |outlook| Choice::of(battery, progress, &levels, outlook);
    let choices: Vec<Choice> = ahead.iter().map(choice).collect();
    let worth = worth(&levels, progress, &choices);
    let mut level = levels.now;
    let mut cost = if level > levels.least {
        progress.cost
    } else {
        Price::ZERO
    };
    let mut orders = Vec::new();
    for ((outlook, choice), after) in ahead.iter().zip(&choices).zip(&worth[1..]) {
        let (to, _) = choice.best(&levels, level, after);
        let order = if to > level {
            buy(&levels, outlook, after, (level, to))
        } else if to < level {
            sell(battery, &levels, outlook, after, (level, to), cost)
        } else {
            continue;
        };
        if order.side == Side::Bid {
            cost = cost_out(battery, order.limit).map_or(cost, |dear| dear.max(cost));
        }
        level = to;
        orders.push(order);
    }
    orders
}

/// The table, one row for each interval and one for the end.
fn worth(levels: &Levels, progress: Progress, choices: &[Choice]) -> Vec<Vec<i128>> {
    let cost = i128::from(progress.cost.micro_per_kwh());
    let kept = |level: usize| cost * levels.sold_wh_times(level.min(levels.now), levels.kept);
    let mut rows = vec![(0..=levels.most).map(kept).collect::<Vec<i128>>()];
    for choice in choices.iter().rev() {
        let after = &rows[rows.len() - 1];
        let best = |level| choice.best(levels, level, after).1;
        rows.push((0..=levels.most).map(best).collect());
    }
    rows.reverse();
    rows
}

fn buy(
    levels: &Levels,
    outlook: &Outlook,
    after: &[i128],
    (from, to): (usize, usize),
) -> Placement {
    let energy_wh = levels.bought_wh(to - from);
    let earns = (after[to] - after[to - 1]).div_euclid(levels.sold_wh_times(1, WHOLE));
    Placement {
        interval: outlook.interval,
        side: Side::Bid,
        energy: Energy::from_wh(energy_wh),
        limit: price(earns).min(outlook.utility_buy),
        why: Why::BuyLow,
    }
}

fn sell(
    battery: &Battery,
    levels: &Levels,
    outlook: &Outlook,
    after: &[i128],
    (from, to): (usize, usize),
    cost: Price,
) -> Placement {
    let step = levels.sold_wh_times(1, levels.kept);
    let later = (after[to + 1] - after[to] + step - 1).div_euclid(step);
    let least = i128::from(cost.micro_per_kwh()).max(later);
    let least = least + i128::from(battery.margin.micro_per_kwh());
    Placement {
        interval: outlook.interval,
        side: Side::Offer,
        energy: Energy::from_wh(levels.sold_wh(from - to)),
        limit: price(least).max(outlook.utility_sell),
        why: Why::SellHigh,
    }
}

fn price(micro: i128) -> Price {
    let fits = i64::try_from(micro.clamp(i64::MIN.into(), i64::MAX.into()));
    Price::from_micro_per_kwh(fits.unwrap_or_default())
}
