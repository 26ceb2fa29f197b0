//! Standing orders: "20 kWh by 07:00, at most 11 kW, at most 0.18", and a battery that buys low and sells
//! later. Both stand over the open intervals; [`place`] turns them into orders for one interval each.
//!
//! A rule sees the open intervals with what is expected of them ([`Outlook`]) and what was reached so far
//! ([`Progress`]), and answers with the orders that should stand now. The caller asks again whenever
//! something changes: after a clearing, a reading, another forecast. Nothing is remembered in between, so
//! the same question has the same answer. Only the nearest interval's order has to be placed; those for later
//! ones are a plan, and a clearing over several intervals at once could take the same standing order and
//! answer with the same list.
//!
//! - `deadline.rs`: what is still missing goes to the cheapest intervals first; what fits nowhere else is
//!   bought at once, at up to the tariff, so that the deadline is met where the utility allows it.
//! - `battery.rs`: an exact dynamic programme over the horizon, in steps of whole watt-hours.
//!
//! Prices are without the network's fee on a neighbour's energy, as the limits of orders are.

mod battery;
mod deadline;

use domain::energy::Energy;
use domain::money::Price;
use domain::order::Side;
use domain::time::{Interval, Timestamp};

/// Most intervals of one question: two days of quarter-hours. Later ones are passed over.
pub const HORIZON_MAX: usize = 192;

/// Most steps of a battery's charge; a larger battery has larger steps.
pub const BATTERY_STEPS_MAX: i64 = 200;

/// A wish over many intervals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// So much energy until then.
    Deadline(Deadline),
    /// Energy bought low and sold later.
    Battery(Battery),
}

/// So much energy until then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadline {
    /// How much, in all.
    pub energy: Energy,
    /// Until when it has to be there; an interval that ends later does not count.
    pub by: Timestamp,
    /// Most power.
    pub power_max_w: u32,
    /// Most it pays a neighbour per kWh.
    pub limit: Price,
    /// Whether it is more important to have the energy by then than to pay no more than the limit.
    pub must: bool,
}

/// A battery that trades.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Battery {
    /// Least energy to be kept in it.
    pub least: Energy,
    /// Most energy that it holds.
    pub most: Energy,
    /// Most power into it, at the meter.
    pub charge_max_w: u32,
    /// Most power out of it, at the meter.
    pub discharge_max_w: u32,
    /// What is lost from the meter and back, in basis points; all of it is counted on the way in.
    pub loss_basis_points: u32,
    /// Least gain per kWh sold, over what the energy cost with its losses: wear, say.
    pub margin: Price,
}

/// What was reached so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Deadline: energy that has come or is bought for intervals that are closed. Battery: energy in it
    /// when the first open interval begins, with what closed intervals bring.
    pub energy: Energy,
    /// Battery: the highest price per kWh, losses counted, at which energy in it was bought; nothing is
    /// sold below it.
    pub cost: Price,
}

/// An open interval with what is expected of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outlook {
    /// Which.
    pub interval: Interval,
    /// The local price that is expected; none where nothing is known, then the utility's counts.
    pub price: Option<Price>,
    /// What a neighbour's energy may cost before the utility is cheaper: retail less network fee.
    pub utility_buy: Price,
    /// What the utility pays.
    pub utility_sell: Price,
}

impl Outlook {
    /// What a kWh will probably cost here: never more than the utility's.
    fn buy(&self) -> Price {
        self.price
            .map_or(self.utility_buy, |p| p.min(self.utility_buy))
    }

    /// What a kWh will probably bring here: never less than the utility pays.
    fn sell(&self) -> Price {
        self.price
            .map_or(self.utility_sell, |p| p.max(self.utility_sell))
    }
}

/// Why an order is placed in its interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It is among the cheapest in which the energy still fits.
    Cheap,
    /// There is no time left to wait for a better one.
    LastChance,
    /// To sell it later for more.
    BuyLow,
    /// It cost less.
    SellHigh,
}

/// An order for one interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// When.
    pub interval: Interval,
    /// Buy or sell.
    pub side: Side,
    /// How much.
    pub energy: Energy,
    /// A bid pays at most this per kWh, an offer receives at least this.
    pub limit: Price,
    /// Why.
    pub why: Why,
}

/// The orders that should stand now, in the order of the intervals: one for each at most, for a deadline
/// two. What begins before `now` is passed over, and so is what is beyond [`HORIZON_MAX`].
#[must_use]
pub fn place(
    now: Timestamp,
    standing: &Standing,
    progress: Progress,
    open: &[Outlook],
) -> Vec<Placement> {
    let ahead = open.iter().filter(|o| o.interval.start() >= now);
    let mut ahead: Vec<Outlook> = ahead.copied().collect();
    ahead.sort_by_key(|o| o.interval);
    ahead.dedup_by_key(|o| o.interval);
    ahead.truncate(HORIZON_MAX);
    match standing {
        Standing::Deadline(deadline) => deadline::place(deadline, progress, &ahead),
        Standing::Battery(battery) => battery::place(battery, progress, &ahead),
    }
}

/// The most energy at this power in an interval, floored.
fn most_wh(power_w: u32, interval: Interval) -> i64 {
    crate::accept::energy_max_wh(power_w, interval.length_s())
}
