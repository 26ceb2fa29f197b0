//! The autopilot: from what a home did lately to one bid or one offer, with the reason in plain words.
//!
//! The forecast is the home's most recent metered interval, moved by how the same time of day changed
//! yesterday. Limits follow the home's wishes, but are never worse than the utility.

use domain::energy::Energy;
use domain::ids::{ParticipantId, PointId};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::time::Interval;

use crate::accept::energy_max_wh;

/// A forecast below this is not worth an order.
pub const TINY_WH: i64 = 20;

/// A metered interval older than this says nothing about now.
const HISTORY_MAX_S: i64 = 86_400;

/// A metered interval younger than this, with yesterday known, makes a forecast a good one.
const FRESH_S: i64 = 2 * 3600;

const DAY_S: i64 = 86_400;

/// What a home wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preferences {
    /// Most it pays a neighbour per kWh.
    pub max_buy: Price,
    /// Least it wants from a neighbour per kWh.
    pub min_sell: Price,
}

/// What the utility and the network ask and pay at that time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UtilityPrices {
    /// Price of energy from the utility, all in.
    pub retail: Price,
    /// What the utility pays for energy.
    pub feed_in: Price,
    /// Network fee that comes on top of a neighbour's price.
    pub network_fee: Price,
}

/// What a home's meter counted in one interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metered {
    /// When.
    pub interval: Interval,
    /// Energy that came in.
    pub imported: Energy,
    /// Energy that went out.
    pub exported: Energy,
}

impl Metered {
    fn net_wh(&self) -> Option<i64> {
        self.exported.checked_sub(self.imported).map(Energy::wh)
    }
}

/// All that the autopilot looks at.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// Whose home it is.
    pub participant: &'a ParticipantId,
    /// Its connection to the street.
    pub point: &'a PointId,
    /// Rating of that connection.
    pub rating_w: u32,
    /// The interval to order for.
    pub interval: Interval,
    /// The participant's next free sequence.
    pub sequence: u64,
    /// What the home wants.
    pub preferences: Preferences,
    /// The utility's prices.
    pub utility: UtilityPrices,
    /// The home's own accepted readings, in any order; a missing one is simply not there.
    pub history: &'a [Metered],
}

/// An order that the autopilot would place, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The order, not signed yet.
    pub order: Order,
    /// One sentence for the people who live there.
    pub reason: String,
}

/// How far a forecast can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Sureness {
    /// An old reading, or nothing known of yesterday.
    Rough,
    /// A recent reading and yesterday.
    Good,
}

impl Sureness {
    /// In plain words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Sureness::Rough => "a rough guess",
            Sureness::Good => "fairly sure",
        }
    }
}

/// The expected net energy (export − import) of an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forecast {
    /// Above zero the home has energy over, below it lacks some.
    pub net_wh: i64,
    /// Whether yesterday's change was known.
    pub with_yesterday: bool,
    /// How far to trust it.
    pub sureness: Sureness,
}

/// Forecasts an interval; `None` where no metered interval of the last day is known.
#[must_use]
pub fn forecast(interval: Interval, history: &[Metered]) -> Option<Forecast> {
    let length_s = interval.length_s();
    let of = |wanted: Interval| {
        history
            .iter()
            .find(|m| m.interval == wanted)
            .and_then(Metered::net_wh)
    };
    let before = |m: &&Metered| m.interval.length_s() == length_s && m.interval < interval;
    let latest = history.iter().filter(before).max_by_key(|m| m.interval)?;
    let age_s = interval.start_s() - latest.interval.start_s();
    if age_s > HISTORY_MAX_S {
        return None;
    }
    let latest_wh = latest.net_wh()?;
    let day = -DAY_S / i64::from(length_s);
    let yesterday = of(interval.offset(day)).zip(of(latest.interval.offset(day)));
    let change = yesterday.and_then(|(then, at_latest)| then.checked_sub(at_latest));
    let sure = change.is_some() && age_s <= FRESH_S;
    Some(Forecast {
        net_wh: latest_wh.checked_add(change.unwrap_or(0))?,
        with_yesterday: change.is_some(),
        sureness: if sure {
            Sureness::Good
        } else {
            Sureness::Rough
        },
    })
}

/// One bid or one offer, or nothing where nothing is known or the energy is not worth it.
#[must_use]
pub fn propose(inputs: &Inputs<'_>) -> Vec<Proposal> {
    let Some(forecast) = forecast(inputs.interval, inputs.history) else {
        return Vec::new();
    };
    let most_wh = energy_max_wh(inputs.rating_w, inputs.interval.length_s());
    let energy_wh = forecast.net_wh.saturating_abs().min(most_wh);
    if energy_wh < TINY_WH {
        return Vec::new();
    }
    let side = if forecast.net_wh > 0 {
        Side::Offer
    } else {
        Side::Bid
    };
    let Some(limit) = limit(side, inputs.preferences, inputs.utility) else {
        return Vec::new();
    };
    let order = Order {
        participant: inputs.participant.clone(),
        point: inputs.point.clone(),
        side,
        interval: inputs.interval,
        energy: Energy::from_wh(energy_wh),
        limit,
        sequence: inputs.sequence,
        replaces: None,
    };
    vec![Proposal {
        reason: reason(&order, forecast),
        order,
    }]
}

/// The limit of an order: the home's wish, but never worse than what the utility asks or pays.
#[must_use]
pub fn limit(side: Side, preferences: Preferences, utility: UtilityPrices) -> Option<Price> {
    match side {
        Side::Bid => {
            let worth = utility.retail.checked_sub(utility.network_fee)?;
            Some(preferences.max_buy.min(worth))
        }
        Side::Offer => Some(preferences.min_sell.max(utility.feed_in)),
    }
}

fn reason(order: &Order, forecast: Forecast) -> String {
    let basis = if forecast.with_yesterday {
        "going by its last measured values and the same time yesterday"
    } else {
        "going by its last measured values only"
    };
    let sure = forecast.sureness.words();
    let (energy, limit) = (order.energy, order.limit.short());
    match order.side {
        Side::Offer => format!(
            "Your home will probably have {energy} to spare ({sure}, {basis}), so we offer it to \
             your neighbours for at least {limit} a kWh."
        ),
        Side::Bid => format!(
            "Your home will probably need {energy} ({sure}, {basis}), so we ask your neighbours for \
             it at no more than {limit} a kWh."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(n: i64) -> Interval {
        Interval::new(1_782_000_000, 900).unwrap().offset(n)
    }

    fn metered(n: i64, net_wh: i64) -> Metered {
        Metered {
            interval: interval(n),
            imported: Energy::from_wh((-net_wh).max(0)),
            exported: Energy::from_wh(net_wh.max(0)),
        }
    }

    fn proposed(rating_w: u32, history: &[Metered]) -> Option<(Side, i64, i64, String)> {
        let micro = Price::from_micro_per_kwh;
        let inputs = Inputs {
            participant: &ParticipantId::new("home-03").unwrap(),
            point: &PointId::new("home-03").unwrap(),
            rating_w,
            interval: interval(0),
            sequence: 9,
            preferences: Preferences {
                max_buy: micro(400_000),
                min_sell: micro(10_000),
            },
            utility: UtilityPrices {
                retail: micro(320_000),
                feed_in: micro(80_000),
                network_fee: micro(50_000),
            },
            history,
        };
        let mut proposals = propose(&inputs);
        assert!(proposals.len() <= 1);
        proposals.pop().map(|p| {
            assert_eq!((p.order.sequence, p.order.interval), (9, interval(0)));
            (
                p.order.side,
                p.order.energy.wh(),
                p.order.limit.micro_per_kwh(),
                p.reason,
            )
        })
    }

    #[test]
    fn the_last_interval_moves_as_yesterday_did() {
        let history = [
            metered(-2, 300),
            metered(-96, 700),
            metered(-98, 500),
            metered(-3, 9_999),
        ];
        let (side, energy, limit, reason) = proposed(10_000, &history).unwrap();
        // 300 Wh, and yesterday it rose by 200 Wh; the wish of 0.01 is raised to the feed-in price.
        assert_eq!((side, energy, limit), (Side::Offer, 500, 80_000));
        assert_eq!(
            reason,
            "Your home will probably have 500 Wh to spare (fairly sure, going by its last measured \
             values and the same time yesterday), so we offer it to your neighbours for at least \
             0.08 a kWh."
        );
    }

    #[test]
    fn without_yesterday_the_last_interval_stands_and_is_called_a_guess() {
        let (side, energy, limit, reason) = proposed(10_000, &[metered(-1, -420)]).unwrap();
        // A wish of 0.40 is lowered to retail − network fee.
        assert_eq!((side, energy, limit), (Side::Bid, 420, 270_000));
        assert!(reason.contains("a rough guess"), "{reason}");
    }

    #[test]
    fn nothing_is_proposed_for_the_unknown_and_the_tiny() {
        assert_eq!(proposed(10_000, &[]), None);
        assert_eq!(
            proposed(10_000, &[metered(-97, 5_000), metered(1, 5_000)]),
            None
        );
        assert_eq!(proposed(10_000, &[metered(-1, TINY_WH - 1)]), None);
        assert!(proposed(10_000, &[metered(-1, -TINY_WH)]).is_some());
        assert_eq!(proposed(0, &[metered(-1, 5_000)]), None);
    }

    #[test]
    fn the_connection_limits_the_energy() {
        let (_, energy, ..) = proposed(10_000, &[metered(-1, 5_000)]).unwrap();
        assert_eq!(energy, 2_500);
    }
}
