//! Forecasts of one home and one interval, from its own meters: integers, no model to be trained.
//!
//! **What the home uses.** The same time of earlier days, the younger the heavier (an eighth less a day), days
//! of the same kind – weekday or weekend – four times as heavy as others. How far the newest metered interval
//! was off its own usual value is carried over, and fades within three hours.
//!
//! **Sun.** What a roof gave is compared with what it would give under a clear sky; the share of a clear sky
//! in the last three hours, and at this time of earlier days, times the clear sky of the interval. The clear
//! sky is the caller's (its physics are floats); where the caller has none, it is the most that the roof gave
//! at this time of day, give or take an interval, in the last days.
//!
//! **How sure.** Each part has a low, a middle and a high value: weighted quarters of what was seen. They are
//! added up, which overstates the range. A missing interval is missing, never zero; without any earlier day
//! the newest value stands, as a rough guess.

use std::collections::BTreeMap;

use domain::money::Price;
use domain::time::Interval;

/// How far back a forecast looks, in days.
pub const DAYS_MAX: i64 = 28;

const DAY_S: i64 = 86_400;

/// A metered interval older than this says nothing about now.
const LATEST_MAX_S: i64 = DAY_S;

/// How long the sky, and what is unusual now, lasts.
const LASTING_S: i64 = 3 * 3_600;

/// How much of what is unusual in the newest interval is carried over to the next, in thousandths.
const CARRIED_PERMILLE: i64 = 750;

/// A roof that gives less than this under a clear sky says nothing about the sky.
const DIM_WH: i64 = 20;

/// Light from clouds' edges adds to a clear sky's, in thousandths, up to this.
const SHARE_MAX: i64 = 1_500;

/// A range within this many watt-hours is narrow, however small the energy.
const NARROW_WH: i64 = 60;

/// More energy than any home moves in an interval; what is beyond counts as this much.
const WH_MAX: i64 = 1_000_000_000;

const YESTERDAY_WEIGHT: i64 = 1 << 20;

/// What a home's meters counted in one interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Past {
    /// When.
    pub interval: Interval,
    /// Given to the street, less taken from it.
    pub net_wh: i64,
    /// What the roof gave, where it has a meter of its own.
    pub sun_wh: Option<i64>,
}

/// How far a forecast can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Confidence {
    /// Hardly any day to go by.
    Rough,
    /// Some days, or days that differ much.
    Fair,
    /// Enough days that are alike.
    Good,
}

/// How much of a clear sky is expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sky {
    /// Nearly all of it.
    Clear,
    /// A good part.
    Mixed,
    /// Little.
    Dull,
}

/// The expected net energy (export − import) of an interval: below zero the home lacks some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forecast {
    /// Probably not less than this.
    pub low_wh: i64,
    /// As likely more as less.
    pub mid_wh: i64,
    /// Probably not more than this.
    pub high_wh: i64,
    /// How far to trust it.
    pub confidence: Confidence,
    /// Earlier days that were seen at this time of day.
    pub days: u32,
    /// The sky, where the roof will give anything.
    pub sky: Option<Sky>,
}

/// Forecasts an interval; `None` where no metered interval of the last day is known. `clear_sky_wh` holds
/// what the roof would give under a clear sky, for any intervals.
#[must_use]
pub fn forecast(
    interval: Interval,
    past: &[Past],
    clear_sky_wh: &BTreeMap<Interval, i64>,
) -> Option<Forecast> {
    let seen = Seen::new(interval, past, clear_sky_wh);
    let latest = *seen.past.values().next_back()?;
    let age_s = interval.start_s() - latest.interval.start_s();
    if age_s > LATEST_MAX_S {
        return None;
    }
    let days = seen.same_time(interval).count();
    let rest = seen.rest(&latest, age_s);
    let sun = seen.sun(&latest);
    let [low_wh, mid_wh, high_wh] = [0, 1, 2].map(|n| rest[n] + sun.map_or(0, |(sun, _)| sun[n]));
    let narrow = high_wh - low_wh <= NARROW_WH.max(mid_wh.abs() / 2);
    let confidence = match days {
        0 | 1 => Confidence::Rough,
        2..5 => Confidence::Fair,
        _ if narrow => Confidence::Good,
        _ => Confidence::Fair,
    };
    Some(Forecast {
        low_wh,
        mid_wh,
        high_wh,
        confidence,
        days: u32::try_from(days).unwrap_or(u32::MAX),
        sky: sun.and_then(|(_, sky)| sky),
    })
}

/// The expected local price of an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PriceForecast {
    /// Probably not less than this.
    pub low: Price,
    /// As likely more as less.
    pub mid: Price,
    /// Probably not more than this.
    pub high: Price,
    /// How far to trust it.
    pub confidence: Confidence,
    /// Earlier days with a price at this time of day.
    pub days: u32,
}

/// Forecasts an interval's price from earlier ones by the same rule as energy: the same time of earlier days, and how
/// unusual the newest one was. An interval without a trade has no price and says nothing. `None` where there was no price
/// in the last day.
#[must_use]
pub fn forecast_price(interval: Interval, past: &[(Interval, Price)]) -> Option<PriceForecast> {
    let past: Vec<Past> = past
        .iter()
        .map(|(interval, price)| Past {
            interval: *interval,
            net_wh: price.micro_per_kwh(),
            sun_wh: None,
        })
        .collect();
    let expected = forecast(interval, &past, &BTreeMap::new())?;
    let [low, mid, high] =
        [expected.low_wh, expected.mid_wh, expected.high_wh].map(Price::from_micro_per_kwh);
    Some(PriceForecast {
        low,
        mid,
        high,
        confidence: expected.confidence,
        days: expected.days,
    })
}

/// Low, middle and high.
type Range = [i64; 3];

/// What is known before an interval.
struct Seen<'a> {
    interval: Interval,
    past: BTreeMap<Interval, Past>,
    clear_sky_wh: &'a BTreeMap<Interval, i64>,
}

impl<'a> Seen<'a> {
    fn new(interval: Interval, past: &[Past], clear_sky_wh: &'a BTreeMap<Interval, i64>) -> Self {
        let from_s = interval.start_s() - DAYS_MAX * DAY_S;
        let before = past.iter().filter(|p| {
            let same_length = p.interval.length_s() == interval.length_s();
            same_length && p.interval < interval && p.interval.start_s() >= from_s
        });
        let bounded = |p: &Past| Past {
            net_wh: p.net_wh.clamp(-WH_MAX, WH_MAX),
            sun_wh: p.sun_wh.map(|wh| wh.clamp(0, WH_MAX)),
            ..*p
        };
        Seen {
            interval,
            past: before.map(|p| (p.interval, bounded(p))).collect(),
            clear_sky_wh,
        }
    }

    /// The same time of earlier days, youngest first, with its weight.
    fn same_time(&self, interval: Interval) -> impl Iterator<Item = (&Past, i64)> {
        let a_day = DAY_S / i64::from(interval.length_s());
        let mut weight = YESTERDAY_WEIGHT;
        let days = (1..=DAYS_MAX).map(move |day| {
            let here = weight;
            weight = weight * 7 / 8;
            (interval.offset(-day * a_day), here)
        });
        days.filter_map(move |(then, weight)| {
            let alike = if is_weekend(then) == is_weekend(interval) {
                4
            } else {
                1
            };
            Some((self.past.get(&then)?, weight * alike))
        })
    }

    /// What the home does beside its roof: below zero what it uses.
    fn rest(&self, latest: &Past, age_s: i64) -> Range {
        let of = |p: &Past| p.net_wh - p.sun_wh.unwrap_or(0);
        let usual = |interval| {
            let samples = self.same_time(interval).map(|(p, weight)| (of(p), weight));
            range(samples.collect())
        };
        let Some(usual_now) = usual(self.interval) else {
            return [of(latest); 3];
        };
        let unusual = usual(latest.interval).map_or(0, |[_, mid, _]| of(latest) - mid);
        let lasts = CARRIED_PERMILLE * (LASTING_S - age_s).max(0) / LASTING_S;
        usual_now.map(|wh| wh + unusual * lasts / 1000)
    }

    /// What the roof will give, and under which sky; `None` for a home without a metered roof.
    fn sun(&self, latest: &Past) -> Option<(Range, Option<Sky>)> {
        let has_roof = self.past.values().any(|p| p.sun_wh.is_some());
        if !has_roof {
            return None;
        }
        let Some(clear_wh) = self.clear_sky(self.interval) else {
            return Some(([latest.sun_wh.unwrap_or(0); 3], None));
        };
        let from_s = self.interval.start_s() - LASTING_S;
        let lately = self
            .past
            .values()
            .filter(|p| p.interval.start_s() >= from_s);
        let lately = lately.map(|p| (p, YESTERDAY_WEIGHT * 32));
        let shares = lately.chain(self.same_time(self.interval));
        let shares = shares.filter_map(|(p, weight)| {
            let clear_wh = self.clear_sky(p.interval).filter(|wh| *wh >= DIM_WH)?;
            Some(((p.sun_wh? * 1000 / clear_wh).min(SHARE_MAX), weight))
        });
        let Some(shares) = range(shares.collect()) else {
            return Some(([clear_wh.min(latest.sun_wh.unwrap_or(0)); 3], None));
        };
        let sky = match shares[1] {
            800.. => Sky::Clear,
            400..800 => Sky::Mixed,
            _ => Sky::Dull,
        };
        let gives = clear_wh >= DIM_WH;
        Some((
            shares.map(|share| clear_wh * share / 1000),
            gives.then_some(sky),
        ))
    }

    /// What the roof gives under a clear sky: the caller's word, or the most that it gave at about this time.
    fn clear_sky(&self, interval: Interval) -> Option<i64> {
        if let Some(wh) = self.clear_sky_wh.get(&interval) {
            return Some((*wh).clamp(0, WH_MAX));
        }
        let a_day = DAY_S / i64::from(interval.length_s());
        let near = (1..=DAYS_MAX).flat_map(|day| (-1..=1).map(move |by| by - day * a_day));
        near.filter_map(|n| self.past.get(&interval.offset(n))?.sun_wh)
            .max()
    }
}

/// Saturday or Sunday, in UTC. The first of January 1970 was a Thursday.
pub(crate) fn is_weekend(interval: Interval) -> bool {
    (interval.start_s().div_euclid(DAY_S) + 3).rem_euclid(7) >= 5
}

/// The values that a quarter, a half and three quarters of the weight do not exceed.
fn range(mut samples: Vec<(i64, i64)>) -> Option<Range> {
    samples.sort_unstable();
    let total: i64 = samples.iter().map(|(_, weight)| weight).sum();
    let quarter = |quarters: i64| {
        let mut below = 0;
        let reached = |(_, weight): &&(i64, i64)| {
            below += weight;
            below * 4 >= total * quarters
        };
        samples.iter().find(reached).map(|(value, _)| *value)
    };
    Some([quarter(1)?, quarter(2)?, quarter(3)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Monday noon.
    fn interval(n: i64) -> Interval {
        Interval::new(1_782_129_600, 900).unwrap().offset(n)
    }

    fn past(n: i64, net_wh: i64) -> Past {
        Past {
            interval: interval(n),
            net_wh,
            sun_wh: None,
        }
    }

    fn mid(past: &[Past]) -> Option<i64> {
        forecast(interval(0), past, &BTreeMap::new()).map(|f| f.mid_wh)
    }

    #[test]
    fn a_price_is_expected_from_the_same_time_of_earlier_days() {
        let at = |day: i64| Interval::new(day * DAY_S + 43_200, 900).unwrap();
        let price = |day: i64| (at(day), Price::from_micro_per_kwh(100_000 + day * 1_000));
        let past: Vec<_> = (0..7).map(price).collect();
        let expected = forecast_price(at(7), &past).unwrap();
        assert!(expected.low <= expected.mid && expected.mid <= expected.high);
        assert!(expected.low >= past[0].1 && expected.high <= past[6].1);
        assert_eq!((expected.days, expected.confidence), (7, Confidence::Good));
        assert_eq!(forecast_price(at(7), &[]), None);
        assert_eq!(forecast_price(at(9), &past), None, "too long ago");
    }

    #[test]
    fn a_monday_is_a_weekday() {
        let weekend: Vec<bool> = (0..7).map(|day| is_weekend(interval(day * 96))).collect();
        assert_eq!(weekend, [false, false, false, false, false, true, true]);
    }

    #[test]
    fn earlier_days_count_by_age_and_kind() {
        // Sunday and Saturday weigh less together than one Friday, although that is older.
        let history = [
            past(-96, 900),
            past(-192, 900),
            past(-288, -200),
            past(-2, -100),
        ];
        assert_eq!(mid(&history), Some(-200));
        let got = forecast(interval(0), &history, &BTreeMap::new()).unwrap();
        assert_eq!(
            (got.days, got.confidence, got.sky),
            (3, Confidence::Fair, None)
        );
    }

    #[test]
    fn what_is_unusual_now_is_carried_over_and_fades() {
        let day = |d: i64| {
            [
                past(-96 * d, -300),
                past(-96 * d - 1, -200),
                past(-96 * d - 11, -200),
            ]
        };
        let history: Vec<Past> = (1..8).flat_map(day).collect();
        assert_eq!(mid(&history), Some(-300));
        let with = |n| {
            let mut history = history.clone();
            history.push(past(n, -800));
            mid(&history)
        };
        // 600 Wh more than usual: 750 ‰ × 165 of 180 minutes of it, then nearly nothing.
        assert_eq!(with(-1), Some(-300 - 412));
        assert_eq!(with(-11), Some(-300 - 37));
    }

    #[test]
    fn without_an_earlier_day_the_newest_value_stands() {
        let got = forecast(
            interval(0),
            &[past(-1, -420), past(-3, 9)],
            &BTreeMap::new(),
        )
        .unwrap();
        assert_eq!((got.low_wh, got.mid_wh, got.high_wh), (-420, -420, -420));
        assert_eq!((got.days, got.confidence), (0, Confidence::Rough));
        assert_eq!(mid(&[]), None);
        assert_eq!(mid(&[past(-97, 5_000), past(1, 5_000)]), None);
    }

    #[test]
    fn the_sky_of_the_last_hours_counts_more_than_that_of_earlier_days() {
        let sunny = |n: i64, sun: i64| Past {
            interval: interval(n),
            net_wh: sun - 100,
            sun_wh: Some(sun),
        };
        let mut history: Vec<Past> = (1..10).map(|d| sunny(-96 * d, 1_000)).collect();
        history.extend((1..10).map(|d| sunny(-96 * d - 1, 1_000)));
        history.push(sunny(-96 - 2, 1_000));
        history.push(sunny(-1, 980));
        let got = forecast(interval(0), &history, &BTreeMap::new()).unwrap();
        assert_eq!((got.mid_wh, got.sky), (980 - 100, Some(Sky::Clear)));
        history.pop();
        history.push(sunny(-1, 300));
        let got = forecast(interval(0), &history, &BTreeMap::new()).unwrap();
        assert_eq!((got.mid_wh, got.sky), (300 - 100, Some(Sky::Dull)));
        // With the caller's clear sky the first day knows the sky, too.
        let clear = BTreeMap::from([(interval(0), 800), (interval(-1), 1_000)]);
        let got = forecast(interval(0), &[sunny(-1, 500)], &clear).unwrap();
        assert_eq!((got.mid_wh, got.sky), (400 - 100, Some(Sky::Mixed)));
        // At night a roof gives nothing, whatever the sky of the afternoon.
        let clear = BTreeMap::from([(interval(0), 0), (interval(-1), 1_000)]);
        let got = forecast(interval(0), &[sunny(-1, 500)], &clear).unwrap();
        assert_eq!((got.mid_wh, got.sky), (-100, None));
    }

    proptest! {
        #[test]
        fn any_history_gives_an_ordered_range_whatever_its_order(
            values in proptest::collection::vec((-300_i64..3, any::<i64>(), proptest::option::of(any::<i64>())), 0..60),
            clear in proptest::collection::btree_map(-300_i64..3, any::<i64>(), 0..40),
        ) {
            let past: BTreeMap<i64, Past> = values
                .iter()
                .map(|(n, net_wh, sun_wh)| (*n, Past { interval: interval(*n), net_wh: *net_wh, sun_wh: *sun_wh }))
                .collect();
            let clear: BTreeMap<Interval, i64> = clear.iter().map(|(n, wh)| (interval(*n), *wh)).collect();
            let mut past: Vec<Past> = past.into_values().collect();
            let got = forecast(interval(0), &past, &clear);
            past.reverse();
            prop_assert_eq!(got, forecast(interval(0), &past, &clear));
            if let Some(got) = got {
                prop_assert!(got.low_wh <= got.mid_wh && got.mid_wh <= got.high_wh);
            }
        }

        #[test]
        fn a_home_that_is_the_same_every_day_is_foreseen_exactly(
            wh in -5_000_i64..5_000, sun in proptest::option::of(0_i64..5_000), days in 5_i64..29,
        ) {
            let same = |n| Past { interval: interval(n), net_wh: wh, sun_wh: sun };
            let past: Vec<Past> = (1..=days * 96).map(|n| same(-n)).collect();
            let got = forecast(interval(0), &past, &BTreeMap::new()).unwrap();
            prop_assert_eq!((got.low_wh, got.mid_wh, got.high_wh), (wh, wh, wh));
            prop_assert_eq!(got.confidence, Confidence::Good);
        }
    }
}
