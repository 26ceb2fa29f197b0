//! Tariffs over time: versions that hold from an interval on, each flat, by time of use, dynamic or tiered.

use std::collections::BTreeMap;

use chrono::{NaiveDate, Weekday};
use domain::energy::Energy;
use domain::money::Price;
use domain::terms::Step;
use domain::time::{Interval, Timestamp};

use super::Tariff;
use crate::calendar::{LocalMonth, LocalTime, Zone};

/// Most versions of a tariff.
pub const VERSIONS_MAX: usize = 256;
/// Most periods of a time-of-use tariff.
pub const PERIODS_MAX: usize = 64;
/// Most prices of a dynamic tariff: ten years of quarter-hours.
pub const PRICES_MAX: usize = 10 * 366 * 96;

/// A community's tariff with all its versions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tariffs {
    pub(super) zone: Zone,
    /// In the order of their beginning; there is at least one.
    pub(super) versions: Vec<Version>,
}

/// A tariff that holds from an instant on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Version {
    /// None for a tariff that is one for all time.
    pub(super) name: Option<String>,
    pub(super) valid_from: Timestamp,
    /// Its prices where its kind says nothing else.
    pub(super) base: Tariff,
    pub(super) kind: Kind,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Flat,
    TimeOfUse {
        periods: Vec<Period>,
        holidays: Vec<NaiveDate>,
    },
    Dynamic(Dynamic),
    Tiered(Vec<Step>),
}

/// Prices for a part of some days; the first period that fits counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Period {
    pub(super) days: Vec<DayType>,
    /// Minutes since local midnight, from included, to excluded; past midnight where `to` is not above `from`.
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) prices: Tariff,
}

/// Kinds of days. A holiday is no workday and no weekend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DayType {
    Workday,
    Weekend,
    Holiday,
    Weekday(Weekday),
}

/// A price for each interval of a market, with what is added to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Dynamic {
    /// The market's price by the start of its interval in unix seconds.
    pub(super) prices: BTreeMap<i64, Price>,
    /// How long each price holds, in seconds.
    pub(super) length_s: u32,
    /// What retail is above it: levies, network, margin.
    pub(super) markup: Price,
    /// What feed-in is below it; none where feed-in has its own fixed price.
    pub(super) feed_in_discount: Option<Price>,
}

/// The tariff of one interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effective {
    /// Its prices; with steps, retail is the first step's.
    pub tariff: Tariff,
    /// The version's name; with `/fallback` behind it where a dynamic tariff has no price for the interval, and with
    /// `/before` where the interval lies before the first version.
    pub version: Option<String>,
    /// The steps of a tiered tariff.
    pub steps: Vec<Step>,
    /// With steps: when the local month began, whose consumption they count.
    pub month_from: Option<Timestamp>,
}

impl From<Tariff> for Tariffs {
    /// One flat tariff for all time.
    fn from(base: Tariff) -> Self {
        let version = Version {
            name: None,
            valid_from: Timestamp::from_unix_ms(i64::MIN),
            base,
            kind: Kind::Flat,
        };
        Tariffs {
            zone: Zone::UTC,
            versions: vec![version],
        }
    }
}

impl From<Tariff> for Effective {
    fn from(tariff: Tariff) -> Self {
        Effective {
            tariff,
            version: None,
            steps: Vec::new(),
            month_from: None,
        }
    }
}

impl Tariffs {
    /// The tariff that holds for an interval: the interval's start decides. There is always one, so that no reading
    /// has to wait for a price; where it is not the one that should hold, the version's name says so.
    #[must_use]
    pub fn at(&self, interval: Interval) -> Effective {
        let start = interval.start();
        let begun = self.versions.partition_point(|v| v.valid_from <= start);
        let version = &self.versions[begun.saturating_sub(1)];
        let said = |what: &str| version.name.as_ref().map(|name| format!("{name}/{what}"));
        let mut effective = Effective {
            version: version.name.clone(),
            ..Effective::from(version.base)
        };
        if begun == 0 {
            effective.version = said("before");
        }
        match &version.kind {
            Kind::Flat => {}
            Kind::TimeOfUse { periods, holidays } => {
                let local = self.zone.local(start);
                let period = local.and_then(|at| periods.iter().find(|p| p.has(&at, holidays)));
                effective.tariff = period.map_or(version.base, |p| p.prices);
            }
            Kind::Dynamic(dynamic) => match dynamic.at(start, version.base) {
                Some(tariff) => effective.tariff = tariff,
                None => effective.version = said("fallback"),
            },
            Kind::Tiered(steps) => {
                let month = LocalMonth::containing(start, self.zone);
                let bounds = month.and_then(|month| month.bounds());
                effective.month_from = bounds.ok().map(|(from, _)| from);
                effective.steps.clone_from(steps);
            }
        }
        effective
    }

    /// Whether any version has steps, which count what was supplied since the month began.
    #[must_use]
    pub fn has_steps(&self) -> bool {
        let mut kinds = self.versions.iter().map(|v| &v.kind);
        kinds.any(|kind| matches!(kind, Kind::Tiered(_)))
    }

    /// The newest version's prices where its kind says nothing else.
    #[must_use]
    pub fn base(&self) -> Tariff {
        self.versions[self.versions.len() - 1].base
    }
}

impl Period {
    fn has(&self, local: &LocalTime, holidays: &[NaiveDate]) -> bool {
        let holiday = holidays.contains(&local.date);
        let day = self.days.is_empty() || self.days.iter().any(|d| d.has(local.weekday, holiday));
        let (from, to, at) = (self.from, self.to, local.minute);
        let time = if from < to {
            from <= at && at < to
        } else {
            at >= from || at < to
        };
        day && time
    }
}

impl DayType {
    fn has(self, weekday: Weekday, holiday: bool) -> bool {
        let weekend = matches!(weekday, Weekday::Sat | Weekday::Sun);
        match self {
            DayType::Workday => !weekend && !holiday,
            DayType::Weekend => weekend && !holiday,
            DayType::Holiday => holiday,
            DayType::Weekday(day) => weekday == day && !holiday,
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "workday" => DayType::Workday,
            "weekend" => DayType::Weekend,
            "holiday" => DayType::Holiday,
            "mon" => DayType::Weekday(Weekday::Mon),
            "tue" => DayType::Weekday(Weekday::Tue),
            "wed" => DayType::Weekday(Weekday::Wed),
            "thu" => DayType::Weekday(Weekday::Thu),
            "fri" => DayType::Weekday(Weekday::Fri),
            "sat" => DayType::Weekday(Weekday::Sat),
            "sun" => DayType::Weekday(Weekday::Sun),
            _ => return None,
        })
    }
}

impl Dynamic {
    /// The prices at an instant; none where the market's price is not known, or absurdly large.
    fn at(&self, start: Timestamp, base: Tariff) -> Option<Tariff> {
        let at = start.unix_s();
        let (from, price) = self.prices.range(..=at).next_back()?;
        if at - from >= i64::from(self.length_s) {
            return None;
        }
        let feed_in = match self.feed_in_discount {
            Some(discount) => price.checked_sub(discount)?,
            None => base.feed_in,
        };
        Some(Tariff {
            retail: price.checked_add(self.markup)?,
            feed_in,
            network_fee: base.network_fee,
        })
    }
}

/// A step from its beginning in kilowatt-hours.
pub(super) fn step(from_kwh: i64, retail: Price) -> Option<Step> {
    let from_wh = Energy::from_wh(from_kwh.checked_mul(1000)?);
    Some(Step { from_wh, retail })
}
