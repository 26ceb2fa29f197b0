//! What a driver was promised before the plug: prices by time, a ceiling, and when the offer ends.
//!
//! The promise is an OCPI tariff with times in UTC, whose `max_price` is the ceiling and whose `min_price` is zero. So the bill of a session is
//! what `commonwatt rate` makes of tariff and record, and anybody can make it again.
//!
//! **Who carries the price risk:** the owners of the station. The driver pays the promised prices and never more than
//! the ceiling, whatever the auction gives; what the energy cost beyond that is taken from the owners' share, and
//! where that is not enough from their statements ([`super::split`]).

use chrono::{Days, NaiveTime};
use domain::energy::Energy;
use domain::money::{Money, Price};
use domain::time::{Interval, Timestamp};

use super::rate::RateError;
use super::tariff::{Component, Dimension, Element, Limit, Restrictions, Tariff, TaxRule};

/// Most price steps of an offer: two days of quarter-hours.
pub const PRICES_MAX: usize = 192;

/// What a station charges, and what is asked of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quote {
    /// The name of the session that may come of it.
    pub session: String,
    /// The station.
    pub station: String,
    /// ISO 4217.
    pub currency: String,
    /// The price of a kWh before tax, interval by interval, in order. After the last one its price goes on.
    pub prices: Vec<(Interval, Price)>,
    /// Once a session, before tax.
    pub start_fee: Money,
    /// For an hour in which the car charges, before tax.
    pub time_per_hour: Money,
    /// For an hour in which the car is full and still plugged in, before tax.
    pub parking_per_hour: Money,
    /// So long after the car is full parking is free.
    pub parking_grace_s: u32,
    /// The tax on everything, in millionths.
    pub tax_ppm: u32,
    /// Most energy, at which the station stops by itself.
    pub energy: Energy,
    /// The station's power; what is reported above it is not believed.
    pub power_max_w: u32,
    /// Most that the driver pays, with tax.
    pub ceiling: Money,
    /// When it was offered.
    pub offered_at: Timestamp,
    /// Until when it can be accepted.
    pub valid_until: Timestamp,
    /// When the energy should be in the car.
    pub ready_by: Timestamp,
}

/// A promise that a session runs under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// What was offered.
    pub quote: Quote,
    /// The same as a tariff, with times in UTC.
    pub tariff: Tariff,
}

impl Terms {
    /// The promise of a quote.
    ///
    /// # Errors
    /// More than [`PRICES_MAX`] prices or none, a ceiling below zero, or an amount that does not fit.
    pub fn new(quote: Quote) -> Result<Terms, TermsError> {
        if quote.prices.is_empty() || quote.prices.len() > PRICES_MAX {
            return Err(TermsError::Prices(quote.prices.len()));
        }
        if quote.ceiling < Money::ZERO || !quote.energy.is_positive() {
            return Err(TermsError::Nothing);
        }
        let tariff = tariff(&quote)?;
        Ok(Terms { quote, tariff })
    }
}

/// Why there is no promise.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TermsError {
    /// Too many prices, or none.
    #[error("an offer has 1 to {PRICES_MAX} prices, not {0}")]
    Prices(usize),
    /// Nothing is offered.
    #[error("an offer needs some energy and a ceiling that is not below zero")]
    Nothing,
    /// A price or time that does not fit.
    #[error("a price or time of this offer is out of range")]
    Range,
}

impl From<RateError> for TermsError {
    fn from(_: RateError) -> Self {
        TermsError::Range
    }
}

fn tariff(quote: &Quote) -> Result<Tariff, TermsError> {
    let component = |dimension, price, step| Component {
        dimension,
        price,
        tax_ppm: Some(quote.tax_ppm),
        step,
    };
    let energy = |price: Price| {
        let nano = price.micro_per_kwh().checked_mul(1_000);
        let price = nano.map(Money::from_nano).ok_or(TermsError::Range)?;
        Ok::<Component, TermsError>(component(Dimension::Energy, price, 1))
    };
    let mut elements = Vec::new();
    let mut last = Price::ZERO;
    for (from, to, price) in runs(&quote.prices) {
        last = price;
        elements.push(Element {
            components: vec![energy(price)?],
            restrictions: between(from, to).ok_or(TermsError::Range)?,
        });
    }
    // What comes after the last interval, and what is asked whatever the time.
    let mut components = vec![
        energy(last)?,
        component(Dimension::Flat, quote.start_fee, 1),
        component(Dimension::ParkingTime, quote.parking_per_hour, 1),
    ];
    if quote.time_per_hour != Money::ZERO {
        components.push(component(Dimension::Time, quote.time_per_hour, 1));
    }
    elements.push(Element {
        components,
        restrictions: Restrictions::default(),
    });
    let whole = i128::from(quote.tax_ppm) + 1_000_000;
    let before_tax = Money::from_ratio(i128::from(quote.ceiling.nano()) * 1_000_000, whole);
    Ok(Tariff {
        id: quote.session.clone(),
        currency: quote.currency.clone(),
        tax: TaxRule::OnTop,
        elements,
        // Prices may be below zero, a bill never: nothing is paid out to a driver.
        min_price: Some(Limit {
            before_tax: Money::ZERO,
            after_tax: Some(Money::ZERO),
        }),
        max_price: Some(Limit {
            before_tax: before_tax.map_err(|_| TermsError::Range)?,
            after_tax: Some(quote.ceiling),
        }),
        valid_from: None,
        valid_until: None,
    })
}

/// Neighbouring intervals of one price on one day of UTC.
fn runs(prices: &[(Interval, Price)]) -> Vec<(Timestamp, Timestamp, Price)> {
    const DAY_MS: i64 = 86_400_000;
    let mut runs: Vec<(Timestamp, Timestamp, Price)> = Vec::new();
    for (interval, price) in prices {
        let day = interval.start().unix_ms().div_euclid(DAY_MS);
        match runs.last_mut() {
            Some((from, to, same))
                if same == price
                    && *to == interval.start()
                    && from.unix_ms().div_euclid(DAY_MS) == day =>
            {
                *to = interval.end();
            }
            _ => runs.push((interval.start(), interval.end(), *price)),
        }
    }
    runs
}

/// Within one day of UTC; a stretch that ends at midnight ends at 00:00.
fn between(from: Timestamp, to: Timestamp) -> Option<Restrictions> {
    let (start, end) = (from.to_chrono()?.naive_utc(), to.to_chrono()?.naive_utc());
    let not_midnight = |time: NaiveTime| Some(time).filter(|t| *t != NaiveTime::MIN);
    Some(Restrictions {
        start_time: not_midnight(start.time()),
        end_time: not_midnight(end.time()),
        start_date: Some(start.date()),
        end_date: start.date().checked_add_days(Days::new(1)),
        ..Restrictions::default()
    })
}
