//! Deadlines: the cheapest intervals first, and at the limit as long as there is time.
//!
//! What is missing goes to intervals by expected price, the earlier of equals first, each up to the most power. An
//! interval's order is at the limit, or at the tariff where that is less: a bid never pays a neighbour more
//! than the utility asks.
//!
//! Slack is what the later intervals can still bring by themselves. What is missing beyond it is a last
//! chance, and an order of its own: with `must` its limit is the tariff, so that what the market does not
//! give comes from the utility at the same price, and the energy is there by the deadline. Without `must`
//! the limit stays, and the energy may not come.

use domain::energy::Energy;
use domain::order::Side;

use super::{Deadline, Outlook, Placement, Progress, Why, most_wh};

pub(super) fn place(deadline: &Deadline, progress: Progress, ahead: &[Outlook]) -> Vec<Placement> {
    let missing_wh = deadline.energy.wh().saturating_sub(progress.energy.wh());
    let room = |o: &Outlook| most_wh(deadline.power_max_w, o.interval);
    let planned = cheapest_first(ahead, missing_wh.max(0), room);
    let mut later_wh: i64 = ahead.iter().map(room).sum();
    let mut short_wh: i64 = missing_wh.max(0);
    let mut orders = Vec::new();
    for (outlook, planned_wh) in ahead.iter().zip(planned) {
        later_wh -= room(outlook);
        // Without this much now, the rest could not be had in time even at full power. The plan has it.
        let urgent_wh = (short_wh - later_wh).clamp(0, planned_wh);
        // What is planned is taken to come; the next question knows better.
        short_wh -= planned_wh;
        let limit = deadline.limit.min(outlook.utility_buy);
        let last_limit = if deadline.must {
            outlook.utility_buy
        } else {
            limit
        };
        for (energy_wh, limit, why) in [
            (urgent_wh, last_limit, Why::LastChance),
            (planned_wh - urgent_wh, limit, Why::Cheap),
        ] {
            if energy_wh > 0 {
                orders.push(Placement {
                    interval: outlook.interval,
                    side: Side::Bid,
                    energy: Energy::from_wh(energy_wh),
                    limit,
                    why,
                });
            }
        }
    }
    orders
}

/// How much of `missing_wh` goes to each interval.
fn cheapest_first(ahead: &[Outlook], missing_wh: i64, room: impl Fn(&Outlook) -> i64) -> Vec<i64> {
    let mut by_price: Vec<usize> = (0..ahead.len()).collect();
    by_price.sort_by_key(|place| (ahead[*place].buy(), *place));
    let (mut planned, mut left_wh) = (vec![0; ahead.len()], missing_wh);
    for place in by_price {
        planned[place] = room(&ahead[place]).min(left_wh);
        left_wh -= planned[place];
    }
    planned
}
