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
//! - `progress.rs`: what was reached, by orders and meters; `power.rs`: what a battery has to do for it; `accept.rs`: which wishes may stand; `words.rs`: why.
//!
//! Prices are without the network's fee on a neighbour's energy, as the limits of orders are.

mod accept;
mod battery;
mod deadline;
mod power;
mod progress;
mod words;

use domain::energy::Energy;
use domain::money::Price;
use domain::order::Side;
pub use domain::standing_order::{Battery, Deadline, Standing};
use domain::time::{Interval, Timestamp};

pub use accept::{STANDING_MAX, STANDS_MAX_S, check};
pub use battery::{charged, discharged, with_network_fee};
pub use power::{Home, Traded, power_w};
pub use progress::{Measured, Ordered, progress};
pub use words::sentence;

/// Most intervals of one question: two days of quarter-hours. Later ones are passed over.
pub const HORIZON_MAX: usize = 192;

/// Most steps of a battery's charge; a larger battery has larger steps.
pub const BATTERY_STEPS_MAX: i64 = 200;

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
/// two. What begins before `now` or ends after the wish is passed over, and so is what is beyond [`HORIZON_MAX`].
#[must_use]
pub fn place(
    now: Timestamp,
    standing: &Standing,
    progress: Progress,
    open: &[Outlook],
) -> Vec<Placement> {
    let until = standing.until();
    let ahead = open
        .iter()
        .filter(|o| o.interval.start() >= now && o.interval.end() <= until);
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
