//! Follows the utility's tariff: charges in the cheapest quarter of the published intervals and discharges in
//! the dearest, bids and offers a little better than the utility.

use domain::money::Price;
use domain::order::Side;

use super::{AHEAD_MAX, BatteryPlan, Decision, Own, Public, Wish, honest_limit, side};

/// How far a limit is from the utility's price towards the other one, in millionths.
const BETTER_MILLIONTHS: u32 = 100_000;
/// Share of the published intervals that are cheap, and that are dear.
const EXTREME_SHARE: usize = 4;

/// What it does in an interval.
#[must_use]
pub fn decide(public: &Public<'_>, own: &Own<'_>) -> Decision {
    let (net_wh, battery) = match (own.battery, place(public)) {
        (Some(battery), Place::Cheap) => (
            own.expected_wh + battery.room_wh,
            BatteryPlan::Fixed(battery.room_wh),
        ),
        // What is stored waits for the dear hours.
        (Some(_), Place::Middle) if own.expected_wh > 0 => (own.expected_wh, BatteryPlan::Fixed(0)),
        _ => (own.following_wh(), BatteryPlan::Follow),
    };
    Decision {
        wish: Wish::of(net_wh, limit(side(net_wh), public)),
        battery,
    }
}

/// Where this interval's tariff stands among those that are published.
enum Place {
    Cheap,
    Middle,
    Dear,
}

fn place(public: &Public<'_>) -> Place {
    let ahead = &public.tariff_ahead[..public.tariff_ahead.len().min(AHEAD_MAX)];
    let now = public.utility_takes;
    let below = ahead.iter().filter(|(_, takes)| *takes < now).count();
    let above = ahead.iter().filter(|(_, takes)| *takes > now).count();
    let few = ahead.len() / EXTREME_SHARE;
    // With a flat tariff there is nothing to wait for.
    let flat = above == 0 && below == 0;
    if above > 0 && below < few {
        Place::Cheap
    } else if flat || (below > 0 && above < few) {
        Place::Dear
    } else {
        Place::Middle
    }
}

fn limit(side: Side, public: &Public<'_>) -> Price {
    if public.utility_pays > public.utility_takes {
        return honest_limit(side, public);
    }
    let (utility, other) = match side {
        Side::Bid => (public.utility_takes, public.utility_pays),
        Side::Offer => (public.utility_pays, public.utility_takes),
    };
    utility
        .between_floor(other, BETTER_MILLIONTHS)
        .unwrap_or(utility)
}
