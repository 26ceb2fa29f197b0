//! An OCPI tariff: elements with prices, each under restrictions, the first that holds for its dimension.
//!
//! At every moment each dimension (energy, charging time, parking time, flat) has at most one price: the first
//! element in the list that prices it and whose restrictions all hold. [`Tariff::active`] answers that.
//! What a reservation costs is in elements of its own, which never price a session, nor a session's elements
//! a reservation.

mod read;
mod write;

pub(in crate::charging) use read::money as read_money;

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Weekday};
use domain::money::Money;
use domain::time::Timestamp;

/// What a price is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dimension {
    /// Once a session.
    Flat,
    /// Per kWh.
    Energy,
    /// Per hour in which the car charges.
    Time,
    /// Per hour in which the car is connected and asks for no power.
    ParkingTime,
}

impl Dimension {
    /// All dimensions, in the order of a bill.
    pub const ALL: [Dimension; 4] = [
        Dimension::Flat,
        Dimension::Energy,
        Dimension::Time,
        Dimension::ParkingTime,
    ];

    /// The word in OCPI.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Dimension::Flat => "FLAT",
            Dimension::Energy => "ENERGY",
            Dimension::Time => "TIME",
            Dimension::ParkingTime => "PARKING_TIME",
        }
    }
}

/// Whether prices hold taxes already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaxRule {
    /// Taxes come on top (OCPI 2.2.1 always, 2.3 `NO`).
    OnTop,
    /// Taxes are in the prices (2.3 `YES`).
    Included,
    /// There are no taxes (2.3 `N/A`).
    None,
}

/// A tariff.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tariff {
    /// Its name.
    pub id: String,
    /// ISO 4217.
    pub currency: String,
    /// Whether taxes are in the prices.
    pub tax: TaxRule,
    /// What is charged when; earlier elements go before later ones.
    pub elements: Vec<Element>,
    /// A session costs at least this.
    pub min_price: Option<Limit>,
    /// A session costs at most this.
    pub max_price: Option<Limit>,
    /// From when it holds.
    pub valid_from: Option<Timestamp>,
    /// Until when it holds.
    pub valid_until: Option<Timestamp>,
}

/// The least or most that a session costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Before taxes.
    pub before_tax: Money,
    /// With taxes, where it is said.
    pub after_tax: Option<Money>,
}

/// Prices that hold together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Element {
    /// The prices, one for each dimension at most.
    pub components: Vec<Component>,
    /// When they hold.
    pub restrictions: Restrictions,
}

/// One price.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Component {
    /// What for.
    pub dimension: Dimension,
    /// Per kWh, per hour, or once.
    pub price: Money,
    /// The tax in millionths of the price before tax; none where no tax applies.
    pub tax_ppm: Option<u32>,
    /// What is used is rounded up to a multiple of so many Wh or seconds, once a session; 0 and 1 the same for energy
    /// in whole Wh.
    pub step: u32,
}

/// What a reservation's element is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reservation {
    /// A charger is kept free.
    Reserved,
    /// It was kept free and nobody came.
    Expired,
}

/// When an element holds. What is not said does not restrict.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restrictions {
    /// Local time of day from which; with a later one than the end it goes over midnight.
    pub start_time: Option<NaiveTime>,
    /// Local time of day until which; midnight is the end of the day.
    pub end_time: Option<NaiveTime>,
    /// First local day.
    pub start_date: Option<NaiveDate>,
    /// First local day on which it holds no longer.
    pub end_date: Option<NaiveDate>,
    /// From so much energy on, in nano-kWh.
    pub min_energy: Option<i128>,
    /// Below so much energy, in nano-kWh.
    pub max_energy: Option<i128>,
    /// At so much current or more, in nano-ampere over all phases.
    pub min_current: Option<i128>,
    /// Below so much current.
    pub max_current: Option<i128>,
    /// At so much power or more, in nano-kW.
    pub min_power: Option<i128>,
    /// Below so much power.
    pub max_power: Option<i128>,
    /// From so many seconds of the session on.
    pub min_duration_s: Option<u32>,
    /// Before so many seconds of the session.
    pub max_duration_s: Option<u32>,
    /// On these local weekdays; on all where the list is empty.
    pub days: Vec<Weekday>,
    /// For a reservation and not for a session.
    pub reservation: Option<Reservation>,
}

/// What restrictions ask for: the session at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Local time.
    pub local: NaiveDateTime,
    /// Energy so far, in nano-kWh.
    pub energy: i128,
    /// Time since the session began, in nanoseconds.
    pub duration_ns: i128,
    /// Least and most current in this stretch, where it is known.
    pub current: Option<(i128, i128)>,
    /// Least and most power in this stretch, where it is known.
    pub power: Option<(i128, i128)>,
    /// Which kind of reservation this is, where it is one.
    pub reservation: Option<Reservation>,
}

/// A price in force: its element's place, and the price.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Active {
    /// Place of the element in the tariff.
    pub element: usize,
    /// The price.
    pub component: Component,
}

impl Tariff {
    /// Whether the tariff holds for a session that begins at `start`.
    #[must_use]
    pub fn holds_at(&self, start: Timestamp) -> bool {
        self.valid_from.is_none_or(|from| from <= start)
            && self.valid_until.is_none_or(|until| start < until)
    }

    /// The price of `dimension` at `moment`, if anything is charged for it then.
    ///
    /// An expired reservation is priced by the elements for that, and what they do not price by those for
    /// reservations.
    #[must_use]
    pub fn active(&self, dimension: Dimension, moment: &Moment) -> Option<Active> {
        let own = self.first(dimension, moment);
        if own.is_some() || moment.reservation != Some(Reservation::Expired) {
            return own;
        }
        let reserved = Moment {
            reservation: Some(Reservation::Reserved),
            ..*moment
        };
        self.first(dimension, &reserved)
    }

    fn first(&self, dimension: Dimension, moment: &Moment) -> Option<Active> {
        let elements = self.elements.iter().enumerate();
        let mut holding = elements.filter(|(_, e)| e.restrictions.hold(moment));
        holding.find_map(|(element, e)| {
            let mut components = e.components.iter();
            let component = *components.find(|c| c.dimension == dimension)?;
            Some(Active { element, component })
        })
    }

    /// Whether any element is restricted by current or power.
    #[must_use]
    pub fn asks_for_load(&self) -> bool {
        self.elements.iter().any(|e| {
            let r = &e.restrictions;
            [r.min_current, r.max_current, r.min_power, r.max_power]
                .iter()
                .any(Option::is_some)
        })
    }
}

impl Restrictions {
    /// Whether all of them hold. Current or power that nobody measured restricts nothing.
    #[must_use]
    pub fn hold(&self, moment: &Moment) -> bool {
        let within = |min: Option<i128>, max: Option<i128>, least: i128, most: i128| {
            min.is_none_or(|m| most >= m) && max.is_none_or(|m| least < m)
        };
        let load = |min, max, known: Option<(i128, i128)>| {
            known.is_none_or(|(least, most)| within(min, max, least, most))
        };
        let seconds = |s: Option<u32>| s.map(|s| i128::from(s) * super::NANO);
        let (day, ns) = (moment.local.date(), moment.duration_ns);
        self.reservation == moment.reservation
            && self.time_of_day_holds(moment.local.time())
            && self.start_date.is_none_or(|from| from <= day)
            && self.end_date.is_none_or(|until| day < until)
            && (self.days.is_empty() || self.days.contains(&day.weekday()))
            && within(
                self.min_energy,
                self.max_energy,
                moment.energy,
                moment.energy,
            )
            && within(
                seconds(self.min_duration_s),
                seconds(self.max_duration_s),
                ns,
                ns,
            )
            && load(self.min_current, self.max_current, moment.current)
            && load(self.min_power, self.max_power, moment.power)
    }

    fn time_of_day_holds(&self, time: NaiveTime) -> bool {
        let start = self.start_time.unwrap_or(NaiveTime::MIN);
        // Until midnight means until the end of the day.
        match self.end_time.filter(|end| *end != NaiveTime::MIN) {
            None => start <= time,
            Some(end) if end < start => start <= time || time < end,
            Some(end) => start <= time && time < end,
        }
    }
}
