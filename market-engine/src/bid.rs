//! The autopilot: from what a home did on earlier days to one bid or one offer, with the reason in plain
//! words.
//!
//! What is expected is `forecast.rs`'s. The order is for the middle of it. Its limit follows from how far the
//! home lets the autopilot go, and is never worse than the utility: a bid never costs more than the utility
//! would with all fees, an offer never brings less than it pays. So no order that is filled leaves a home
//! worse off than without the market. What the community has agreed on bounds it, too: an order beyond that
//! would be refused whole.

use std::collections::BTreeMap;
use std::fmt;

use domain::energy::Energy;
use domain::ids::{ParticipantId, PointId};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::time::Interval;

use crate::accept::energy_max_wh;
use crate::forecast::{Confidence, Forecast, Past, Sky, forecast, is_weekend};
use crate::market::Rules;

/// A forecast below this is not worth an order.
pub const TINY_WH: i64 = 20;

/// How far the autopilot may go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Level {
    /// It says what it would order, and orders nothing.
    Suggest,
    /// It orders within the home's own limits.
    #[default]
    WithinLimits,
    /// It orders up to what the utility asks and pays, so that whatever is better than the utility trades.
    Full,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Level::Suggest => "suggest",
            Level::WithinLimits => "within-limits",
            Level::Full => "full",
        }
    }

    /// The level of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Level::Suggest, Level::WithinLimits, Level::Full];
        all.into_iter().find(|level| level.word() == word)
    }
}

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
    /// How far it lets the autopilot go.
    pub level: Level,
    /// What the home wants.
    pub preferences: Preferences,
    /// The utility's prices.
    pub utility: UtilityPrices,
    /// What the community has agreed on.
    pub rules: &'a Rules,
    /// What the home's own accepted readings come to, in any order; a missing one is simply not there.
    pub history: &'a [Past],
    /// What its roof would give under a clear sky, where that is known.
    pub clear_sky_wh: &'a BTreeMap<Interval, i64>,
}

/// An order that the autopilot would place, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The order, not signed yet.
    pub order: Order,
    /// One sentence for the people who live there.
    pub reason: String,
    /// Whether the home lets the autopilot order it; if not, it is a suggestion.
    pub to_be_placed: bool,
}

impl Proposal {
    /// The same with so much energy at most, which is all that the community still lets one household have of a side;
    /// none where that is not worth an order.
    #[must_use]
    pub fn within_share(mut self, most: Energy) -> Option<Self> {
        if self.order.energy <= most {
            return Some(self);
        }
        if most.wh() < TINY_WH {
            return None;
        }
        self.order.energy = most;
        let side = self.order.side.word();
        self.reason += &format!(
            " Only {} Wh are ordered, as nobody may hold a larger share of the {side}s.",
            most.wh()
        );
        Some(self)
    }
}

/// Why an autopilot orders nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoOrder {
    /// No metered interval of the last day.
    Unknown,
    /// Less than [`TINY_WH`], or no more is allowed.
    Tiny(Side),
    /// The home's limit and the community's prices exclude each other.
    Price(Side, Price),
}

impl fmt::Display for NoOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoOrder::Unknown => f.write_str("nothing was metered in the last day to go by"),
            NoOrder::Tiny(side) => write!(f, "its {} would be below {TINY_WH} Wh", side.word()),
            NoOrder::Price(Side::Bid, most) => {
                write!(
                    f,
                    "it pays {most} at most, less than the community's price floor"
                )
            }
            NoOrder::Price(Side::Offer, least) => {
                write!(
                    f,
                    "it asks for {least} at least, more than the community's price cap"
                )
            }
        }
    }
}

/// One bid or one offer; or why there is none.
///
/// # Errors
/// Nothing is known, the energy is not worth it, or the community's rules leave no room for it.
pub fn propose(inputs: &Inputs<'_>) -> Result<Proposal, NoOrder> {
    let seen = (inputs.history, inputs.clear_sky_wh);
    let forecast = forecast(inputs.interval, seen.0, seen.1).ok_or(NoOrder::Unknown)?;
    let side = if forecast.mid_wh > 0 {
        Side::Offer
    } else {
        Side::Bid
    };
    let energy_wh = forecast.mid_wh.saturating_abs();
    if energy_wh < TINY_WH {
        return Err(NoOrder::Tiny(side));
    }
    let wished = limit(side, inputs.level, inputs.preferences, inputs.utility);
    let wished = wished.ok_or(NoOrder::Unknown)?;
    let limit = agreed(side, wished, inputs.rules).ok_or(NoOrder::Price(side, wished))?;
    let energy_wh = energy_wh.min(most_wh(side, limit, inputs));
    if energy_wh < TINY_WH {
        return Err(NoOrder::Tiny(side));
    }
    let order = Order {
        participant: inputs.participant.clone(),
        point: inputs.point.clone(),
        side,
        interval: inputs.interval,
        energy: Energy::from_wh(energy_wh),
        limit,
        sequence: inputs.sequence,
        replaces: None,
        preference: domain::order::Preference::default(),
    };
    Ok(Proposal {
        reason: reason(&order, inputs.level, forecast),
        order,
        to_be_placed: inputs.level != Level::Suggest,
    })
}

/// The most energy of one order: what the connection carries, and what the community has agreed on.
fn most_wh(side: Side, limit: Price, inputs: &Inputs<'_>) -> i64 {
    let carried = energy_max_wh(inputs.rating_w, inputs.interval.length_s());
    let agreed = inputs.rules.energy_per_participant_max.map(Energy::wh);
    let most = agreed.map_or(carried, |most| most.min(carried));
    match (side, inputs.rules.money_per_participant_max) {
        // A micro-token per kWh is a nano-token per Wh.
        (Side::Bid, Some(money)) if limit > Price::ZERO => {
            most.min(money.nano().div_euclid(limit.micro_per_kwh()))
        }
        _ => most,
    }
}

/// The limit as the community takes it, never beyond the home's own; `None` where that cannot be.
fn agreed(side: Side, limit: Price, rules: &Rules) -> Option<Price> {
    let (floor, cap) = (rules.price_floor, rules.price_cap);
    match side {
        Side::Bid => Some(limit.min(cap)).filter(|limit| *limit >= floor),
        Side::Offer => Some(limit.max(floor)).filter(|limit| *limit <= cap),
    }
}

/// The limit of an order: the home's wish, or all that beats the utility, and never worse than that.
#[must_use]
pub fn limit(
    side: Side,
    level: Level,
    preferences: Preferences,
    utility: UtilityPrices,
) -> Option<Price> {
    let full = level == Level::Full;
    match side {
        Side::Bid => {
            let worth = utility.retail.checked_sub(utility.network_fee)?;
            Some(if full {
                worth
            } else {
                preferences.max_buy.min(worth)
            })
        }
        Side::Offer if full => Some(utility.feed_in),
        Side::Offer => Some(preferences.min_sell.max(utility.feed_in)),
    }
}

/// What is ordered, and what it goes by.
fn reason(order: &Order, level: Level, forecast: Forecast) -> String {
    let (energy, limit) = (amount(order.energy), order.limit.short());
    let what = match (order.side, level) {
        (Side::Offer, Level::Suggest) => {
            format!("You could sell up to {energy} at {limit} or more")
        }
        (Side::Offer, _) => format!("Selling up to {energy} at {limit} or more"),
        (Side::Bid, Level::Suggest) => format!("You could buy up to {energy} at {limit} or less"),
        (Side::Bid, _) => format!("Buying up to {energy} at {limit} or less"),
    };
    format!("{what}: {}.", basis(order, forecast))
}

fn basis(order: &Order, forecast: Forecast) -> String {
    let second_of_day = order.interval.start_s().rem_euclid(86_400);
    let (hour, minute) = (second_of_day / 3_600, second_of_day / 60 % 60);
    // A few days are no habit.
    let how = match forecast.days {
        5.. => "usually",
        _ => "probably",
    };
    let does = match order.side {
        Side::Offer if forecast.sky.is_some() => format!("roof {how} has that much left"),
        Side::Offer => format!("home {how} has that much left"),
        Side::Bid => format!("home {how} needs that much"),
    };
    if forecast.days == 0 {
        let will = match order.side {
            Side::Offer => "have that much left",
            Side::Bid => "need that much",
        };
        return format!(
            "your home will {will} if it goes on as just now; there is no earlier day to go by yet"
        );
    }
    let when = match (order.side, forecast.sky) {
        (_, Some(Sky::Clear)) => "on a clear day",
        (_, Some(Sky::Mixed)) => "on a day with some cloud",
        (_, Some(Sky::Dull)) => "on a dull day",
        (_, None) if is_weekend(order.interval) => "at the weekend",
        (_, None) => "on a weekday",
    };
    let sure = match (forecast.confidence, forecast.days) {
        (Confidence::Good, _) => String::new(),
        (Confidence::Fair, 5..) => {
            let [low, high] = [forecast.low_wh, forecast.high_wh].map(i64::saturating_abs);
            let (least, most) = (low.min(high), low.max(high));
            let range = [least, most].map(|wh| amount(Energy::from_wh(wh)));
            if (forecast.low_wh < 0) == (forecast.high_wh < 0) {
                format!(", but it may be anything from {} to {}", range[0], range[1])
            } else {
                ", but days differ much".to_owned()
            }
        }
        (_, 1) => ", going by a single day".to_owned(),
        (_, days) => format!(", going by {days} days only"),
    };
    format!("your {does} at {hour:02}:{minute:02} {when}{sure}")
}

/// `340 Wh`, `1.2 kWh`, `1.25 kWh`.
fn amount(energy: Energy) -> String {
    let wh = energy.wh();
    if wh < 1_000 {
        return energy.to_string();
    }
    let text = format!("{}.{:02}", wh / 1_000, wh % 1_000 / 10);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} kWh")
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::money::Money;

    /// Monday, 13:15.
    fn interval(n: i64) -> Interval {
        Interval::new(1_782_134_100, 900).unwrap().offset(n)
    }

    fn past(n: i64, net_wh: i64, sun_wh: Option<i64>) -> Past {
        Past {
            interval: interval(n),
            net_wh,
            sun_wh,
        }
    }

    fn every_day(days: i64, net_wh: i64, sun_wh: Option<i64>) -> Vec<Past> {
        let day = |d| {
            [
                past(-96 * d, net_wh, sun_wh),
                past(-96 * d - 1, net_wh, sun_wh),
            ]
        };
        let mut history: Vec<Past> = (1..=days).flat_map(day).collect();
        history.push(past(-1, net_wh, sun_wh));
        history
    }

    fn proposed_at(level: Level, rating_w: u32, history: &[Past]) -> Option<Proposal> {
        proposed_under(&Rules::default(), level, rating_w, history).ok()
    }

    fn proposed_under(
        rules: &Rules,
        level: Level,
        rating_w: u32,
        history: &[Past],
    ) -> Result<Proposal, NoOrder> {
        let micro = Price::from_micro_per_kwh;
        let inputs = Inputs {
            participant: &ParticipantId::new("home-03").unwrap(),
            point: &PointId::new("home-03").unwrap(),
            rating_w,
            interval: interval(0),
            sequence: 9,
            level,
            preferences: Preferences {
                max_buy: micro(220_000),
                min_sell: micro(100_000),
            },
            utility: UtilityPrices {
                retail: micro(320_000),
                feed_in: micro(80_000),
                network_fee: micro(50_000),
            },
            rules,
            history,
            clear_sky_wh: &BTreeMap::new(),
        };
        propose(&inputs).inspect(|p| {
            assert_eq!((p.order.sequence, p.order.interval), (9, interval(0)));
        })
    }

    fn proposed(history: &[Past]) -> Option<(Side, i64, i64, String)> {
        proposed_at(Level::WithinLimits, 22_000, history).map(|p| {
            let limit = p.order.limit.micro_per_kwh();
            (p.order.side, p.order.energy.wh(), limit, p.reason)
        })
    }

    #[test]
    fn a_reason_says_what_is_ordered_and_what_it_goes_by() {
        let reason = |history: &[Past]| proposed(history).unwrap().3;
        assert_eq!(
            reason(&every_day(6, 1_200, Some(1_500))),
            "Selling up to 1.2 kWh at 0.10 or more: your roof usually has that much left at 13:15 on a clear day."
        );
        assert_eq!(
            reason(&every_day(6, -345, None)),
            "Buying up to 345 Wh at 0.22 or less: your home usually needs that much at 13:15 on a weekday."
        );
        assert_eq!(
            reason(&every_day(1, -345, None)),
            "Buying up to 345 Wh at 0.22 or less: your home probably needs that much at 13:15 on a weekday, \
             going by a single day."
        );
        assert_eq!(
            reason(&[past(-1, 1_250, None)]),
            "Selling up to 1.25 kWh at 0.10 or more: your home will have that much left if it goes on as \
             just now; there is no earlier day to go by yet."
        );
        let mut wild = every_day(6, 500, None);
        wild.extend((1..4).map(|d| past(-96 * d, 1_500, None)));
        assert_eq!(
            reason(&wild),
            "Selling up to 500 Wh at 0.10 or more: your home usually has that much left at 13:15 on a weekday, \
             but it may be anything from 500 Wh to 1.5 kWh."
        );
    }

    #[test]
    fn a_level_sets_the_limit_and_none_is_worse_than_the_utility() {
        let micro = Price::from_micro_per_kwh;
        let utility = UtilityPrices {
            retail: micro(320_000),
            feed_in: micro(80_000),
            network_fee: micro(50_000),
        };
        let of = |side, level, wish| {
            let preferences = Preferences {
                max_buy: micro(wish),
                min_sell: micro(wish),
            };
            limit(side, level, preferences, utility)
                .unwrap()
                .micro_per_kwh()
        };
        for level in [Level::Suggest, Level::WithinLimits] {
            assert_eq!(of(Side::Bid, level, 220_000), 220_000);
            assert_eq!(of(Side::Bid, level, 400_000), 270_000);
            assert_eq!(of(Side::Offer, level, 100_000), 100_000);
            assert_eq!(of(Side::Offer, level, 10_000), 80_000);
        }
        assert_eq!(of(Side::Bid, Level::Full, 1), 270_000);
        assert_eq!(of(Side::Offer, Level::Full, 900_000), 80_000);
    }

    #[test]
    fn a_suggestion_is_not_to_be_placed() {
        let history = every_day(6, -345, None);
        let placed = |level| proposed_at(level, 22_000, &history).unwrap();
        let suggested = placed(Level::Suggest);
        assert!(!suggested.to_be_placed && placed(Level::Full).to_be_placed);
        assert!(
            suggested
                .reason
                .starts_with("You could buy up to 345 Wh at 0.22 or less: your")
        );
        for level in [Level::Suggest, Level::WithinLimits, Level::Full] {
            assert_eq!(Level::from_word(level.word()), Some(level));
        }
        assert_eq!(Level::from_word("all"), None);
    }

    #[test]
    fn nothing_is_proposed_for_the_unknown_and_the_tiny() {
        assert_eq!(proposed(&[]), None);
        assert_eq!(
            proposed(&[past(-97, 5_000, None), past(1, 5_000, None)]),
            None
        );
        assert_eq!(proposed(&[past(-1, TINY_WH - 1, None)]), None);
        assert!(proposed(&[past(-1, -TINY_WH, None)]).is_some());
        assert_eq!(proposed_at(Level::Full, 0, &[past(-1, 5_000, None)]), None);
    }

    #[test]
    fn the_connection_limits_the_energy() {
        let proposal = proposed_at(Level::Full, 10_000, &[past(-1, 5_000, None)]).unwrap();
        assert_eq!(proposal.order.energy.wh(), 2_500);
    }

    #[test]
    fn what_the_community_has_agreed_on_bounds_an_order_or_says_why_there_is_none() {
        let micro = Price::from_micro_per_kwh;
        let check = |rules: Rules, net_wh: i64, expect: &str| {
            let history = [past(-1, net_wh, None)];
            let got = proposed_under(&rules, Level::WithinLimits, 10_000, &history);
            let told = match got {
                Ok(p) => format!("{} {}", p.order.energy, p.order.limit),
                Err(why) => why.to_string(),
            };
            assert_eq!(told, expect);
        };
        let all = Rules::default();
        check(all, -1_000, "1000 Wh 0.220000");
        let energy = Rules {
            energy_per_participant_max: Some(Energy::from_wh(300)),
            ..all
        };
        check(energy, -1_000, "300 Wh 0.220000");
        check(energy, 1_000, "300 Wh 0.100000");
        // 0.05 tokens pay for 227 Wh at 0.22; an offer costs nothing.
        let money = |micro: i64| Rules {
            money_per_participant_max: Some(Money::from_nano(micro * 1_000)),
            ..all
        };
        check(money(50_000), -1_000, "227 Wh 0.220000");
        check(money(50_000), 1_000, "1000 Wh 0.100000");
        check(money(4_000), -1_000, "its bid would be below 20 Wh");
        let prices = |price_floor, price_cap| Rules {
            price_floor: micro(price_floor),
            price_cap: micro(price_cap),
            ..all
        };
        check(prices(150_000, 180_000), -1_000, "1000 Wh 0.180000");
        check(prices(150_000, 180_000), 1_000, "1000 Wh 0.150000");
        check(
            prices(230_000, 400_000),
            -1_000,
            "it pays 0.220000 at most, less than the community's price floor",
        );
        check(
            prices(0, 90_000),
            1_000,
            "it asks for 0.100000 at least, more than the community's price cap",
        );
    }
}
