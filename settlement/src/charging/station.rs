//! What a station asks, from the OCPI tariff that its owners wrote down.
//!
//! A price has to be known before the plug, so not every tariff will do: energy may cost more at some times of the
//! day or week than at others, but nothing may depend on what a session turns out to be (its power, length or
//! energy). Prices stand before tax, nothing is rounded up to steps, and no energy costs nothing.

use chrono_tz::Tz;
use domain::money::{Money, MoneyError, Price};
use domain::time::Timestamp;

use super::offer::Expected;
use super::tariff::{Component, Dimension, Element, Moment, Restrictions, Tariff, TaxRule};

/// Whose affair it is what the energy costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EnergyPrice {
    /// The tariff's price of a kWh comes on top of what the energy is expected to cost.
    #[default]
    PassedOn,
    /// The tariff's price of a kWh has the energy in it.
    Included,
}

impl EnergyPrice {
    /// Its word in files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            EnergyPrice::PassedOn => "passed-on",
            EnergyPrice::Included => "included",
        }
    }

    /// The choice of a word; none for an unknown one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let mut all = [EnergyPrice::PassedOn, EnergyPrice::Included].into_iter();
        all.find(|one| one.word() == word)
    }
}

/// What a station asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Station {
    /// Its name: that of its meter's point.
    pub id: String,
    /// ISO 4217.
    pub currency: String,
    /// Its power.
    pub power_max_w: u32,
    /// Whether the energy's cost comes on top.
    pub energy: EnergyPrice,
    /// Once a session, before tax.
    pub start_fee: Money,
    /// For an hour of charging, before tax.
    pub time_per_hour: Money,
    /// For an hour of parking after the grace time, before tax.
    pub parking_per_hour: Money,
    /// Free parking.
    pub parking_grace_s: u32,
    /// In millionths.
    pub tax_ppm: u32,
    /// No session costs more, with tax.
    pub most: Option<Money>,
    /// The elements that price energy, by local time.
    elements: Vec<Element>,
    zone: Tz,
}

/// What the site says about a station beside its tariff.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    /// Its name.
    pub id: String,
    /// Its power.
    pub power_max_w: u32,
    /// Whether the energy's cost comes on top.
    pub energy: EnergyPrice,
    /// Free parking.
    pub parking_grace_s: u32,
    /// The zone of the tariff's times.
    pub zone: Tz,
}

/// Why a tariff cannot be promised before the plug.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StationError {
    /// Prices with tax in them.
    #[error("`tax_included` is YES: write prices before tax, and `tax_included` NO or N/A")]
    TaxIncluded,
    /// Prices with different taxes.
    #[error("elements[{element}]: all prices need one tax rate, here is another than before")]
    TaxDiffers {
        /// Place of the element.
        element: usize,
    },
    /// Reservations.
    #[error("elements[{element}]: reservations are not offered, leave the element out")]
    Reservation {
        /// Place of the element.
        element: usize,
    },
    /// Something that depends on the session.
    #[error(
        "elements[{element}]: restrictions by energy, power, current or duration cannot be promised before the plug; \
         restrict by time of day, date or weekday"
    )]
    Conditional {
        /// Place of the element.
        element: usize,
    },
    /// A price other than that of energy that is not there at all times.
    #[error(
        "elements[{element}]: {dimension} must hold at all times, only ENERGY may change with the time"
    )]
    Timed {
        /// Place of the element.
        element: usize,
        /// Which price.
        dimension: &'static str,
    },
    /// A price that is rounded up.
    #[error("elements[{element}]: step_size {step} rounds up what the car took; only 1 is offered")]
    Step {
        /// Place of the element.
        element: usize,
        /// What is said.
        step: u32,
    },
    /// More decimals than a price has.
    #[error("elements[{element}]: a price of a kWh has at most six decimals")]
    TooFine {
        /// Place of the element.
        element: usize,
    },
    /// A price below zero.
    #[error("elements[{element}]: {dimension} is below zero")]
    BelowZero {
        /// Place of the element.
        element: usize,
        /// Which price.
        dimension: &'static str,
    },
    /// A least price.
    #[error("`min_price` is above zero, and a session without energy costs nothing: leave it out")]
    MinPrice,
    /// Nothing for energy.
    #[error("no element prices ENERGY")]
    NoEnergy,
    /// No power.
    #[error("a station needs some power")]
    NoPower,
    /// An amount that does not fit.
    #[error("a price is out of range")]
    Range,
}

impl StationError {
    /// The element it is about, where it is about one.
    #[must_use]
    pub const fn element(&self) -> Option<usize> {
        match self {
            StationError::TaxDiffers { element }
            | StationError::Reservation { element }
            | StationError::Conditional { element }
            | StationError::Timed { element, .. }
            | StationError::Step { element, .. }
            | StationError::TooFine { element }
            | StationError::BelowZero { element, .. } => Some(*element),
            _ => None,
        }
    }
}

impl Station {
    /// A station with this tariff.
    ///
    /// # Errors
    /// The tariff cannot be promised; which element it is and why.
    pub fn new(site: Site, tariff: &Tariff) -> Result<Station, StationError> {
        if site.power_max_w == 0 {
            return Err(StationError::NoPower);
        }
        if tariff.tax == TaxRule::Included {
            return Err(StationError::TaxIncluded);
        }
        if tariff.min_price.is_some_and(|l| l.before_tax > Money::ZERO) {
            return Err(StationError::MinPrice);
        }
        for (place, element) in tariff.elements.iter().enumerate() {
            check(place, element)?;
        }
        let tax_ppm = one_tax(tariff)?;
        let prices = |e: &&Element| {
            e.components
                .iter()
                .any(|c| c.dimension == Dimension::Energy)
        };
        let elements: Vec<Element> = tariff.elements.iter().filter(prices).cloned().collect();
        if elements.is_empty() {
            return Err(StationError::NoEnergy);
        }
        let mut station = Station {
            id: site.id,
            currency: tariff.currency.clone(),
            power_max_w: site.power_max_w,
            energy: site.energy,
            start_fee: always(tariff, Dimension::Flat)?,
            time_per_hour: always(tariff, Dimension::Time)?,
            parking_per_hour: always(tariff, Dimension::ParkingTime)?,
            parking_grace_s: site.parking_grace_s,
            tax_ppm,
            most: None,
            elements,
            zone: site.zone,
        };
        if let Some(limit) = tariff.max_price {
            let with_tax = station.with_tax(limit.before_tax);
            let with_tax = with_tax.map_err(|_| StationError::Range)?;
            station.most = Some(limit.after_tax.unwrap_or(with_tax).min(with_tax));
        }
        Ok(station)
    }

    /// What the tariff asks for a kWh at this instant, before tax; nothing where no element holds.
    #[must_use]
    pub fn asked(&self, at: Timestamp) -> Price {
        let local = at.to_chrono().unwrap_or_default().with_timezone(&self.zone);
        let moment = Moment {
            local: local.naive_local(),
            energy: 0,
            duration_ns: 0,
            current: None,
            power: None,
            reservation: None,
        };
        let mut holding = self
            .elements
            .iter()
            .filter(|e| e.restrictions.hold(&moment));
        let component = holding.find_map(|e| energy_of(&e.components));
        component.map_or(Price::ZERO, |c| {
            Price::from_micro_per_kwh(c.price.nano() / 1_000)
        })
    }

    /// What a kWh costs the driver in this interval, before tax: the price at its start counts.
    ///
    /// # Errors
    /// The price does not fit.
    pub fn price(&self, expected: &Expected) -> Result<Price, MoneyError> {
        let cost = match self.energy {
            EnergyPrice::PassedOn => expected.cost(),
            EnergyPrice::Included => Price::ZERO,
        };
        let asked = self.asked(expected.interval.start());
        cost.checked_add(asked).ok_or(MoneyError::Overflow)
    }

    /// The same with tax, as it is shown: rounded up to the tick.
    ///
    /// # Errors
    /// The price does not fit.
    pub fn all_in(&self, expected: &Expected) -> Result<Price, MoneyError> {
        let product = i128::from(self.price(expected)?.micro_per_kwh()) * i128::from(self.whole());
        let up = -(-product).div_euclid(1_000_000);
        let micro = i64::try_from(up).map_err(|_| MoneyError::Overflow)?;
        Ok(Price::from_micro_per_kwh(micro))
    }

    /// One and the tax, in millionths.
    fn whole(&self) -> i64 {
        1_000_000 + i64::from(self.tax_ppm)
    }

    pub(super) fn with_tax(&self, before_tax: Money) -> Result<Money, MoneyError> {
        Money::from_ratio(
            i128::from(before_tax.nano()) * i128::from(self.whole()),
            1_000_000,
        )
    }
}

fn energy_of(components: &[Component]) -> Option<&Component> {
    components.iter().find(|c| c.dimension == Dimension::Energy)
}

/// What is wrong with an element by itself.
fn check(element: usize, of: &Element) -> Result<(), StationError> {
    let r = &of.restrictions;
    if r.reservation.is_some() {
        return Err(StationError::Reservation { element });
    }
    let timed = Restrictions {
        start_time: r.start_time,
        end_time: r.end_time,
        start_date: r.start_date,
        end_date: r.end_date,
        days: r.days.clone(),
        ..Restrictions::default()
    };
    if timed != *r {
        return Err(StationError::Conditional { element });
    }
    for component in &of.components {
        let dimension = component.dimension.word();
        if component.price < Money::ZERO {
            return Err(StationError::BelowZero { element, dimension });
        }
        if component.step > 1 {
            let step = component.step;
            return Err(StationError::Step { element, step });
        }
        if component.dimension == Dimension::Energy && component.price.nano() % 1_000 != 0 {
            return Err(StationError::TooFine { element });
        }
    }
    Ok(())
}

/// The tax of all prices, in millionths.
fn one_tax(tariff: &Tariff) -> Result<u32, StationError> {
    if tariff.tax == TaxRule::None {
        return Ok(0);
    }
    let mut tax = None;
    for (element, of) in tariff.elements.iter().enumerate() {
        for component in &of.components {
            let own = component.tax_ppm.unwrap_or(0);
            if *tax.get_or_insert(own) != own {
                return Err(StationError::TaxDiffers { element });
            }
        }
    }
    Ok(tax.unwrap_or(0))
}

/// A price that holds at all times; zero where there is none.
fn always(tariff: &Tariff, dimension: Dimension) -> Result<Money, StationError> {
    let mut elements = tariff.elements.iter().enumerate();
    let found = elements.find_map(|(element, of)| {
        let component = of.components.iter().find(|c| c.dimension == dimension)?;
        Some((element, of, component.price))
    });
    match found {
        None => Ok(Money::ZERO),
        Some((_, of, price)) if of.restrictions == Restrictions::default() => Ok(price),
        Some((element, ..)) => Err(StationError::Timed {
            element,
            dimension: dimension.word(),
        }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use domain::time::Interval;

    pub(in crate::charging) const TARIFF: &str = r#"{"id":"t","currency":"EUR","tax_included":"NO","elements":[
        {"price_components":[{"type":"ENERGY","price":0.10,"vat":19,"step_size":1}],
         "restrictions":{"start_time":"17:00","end_time":"20:00","day_of_week":["MONDAY"]}},
        {"price_components":[{"type":"ENERGY","price":0.04,"vat":19,"step_size":1},
         {"type":"FLAT","price":0.30,"vat":19,"step_size":1},
         {"type":"PARKING_TIME","price":1.00,"vat":19,"step_size":1}]}]}"#;

    pub(in crate::charging) fn site(energy: EnergyPrice) -> Site {
        Site {
            id: "charger-1".to_owned(),
            power_max_w: 11_000,
            energy,
            parking_grace_s: 3_600,
            zone: chrono_tz::Europe::Berlin,
        }
    }

    fn tariff(text: &str) -> Tariff {
        Tariff::from_json(text).unwrap().remove(0)
    }

    #[test]
    fn energy_costs_more_at_its_local_times_and_its_cost_is_passed_on_or_not() {
        let expected = |at: &str| Expected {
            interval: Interval::containing(at.parse().unwrap(), 900).unwrap(),
            local: None,
            utility: Price::from_micro_per_kwh(300_000),
            local_permille: 0,
        };
        let station = Station::new(site(EnergyPrice::PassedOn), &tariff(TARIFF)).unwrap();
        let micro =
            |station: &Station, at: &str| station.price(&expected(at)).unwrap().micro_per_kwh();
        // A Monday of summer time: 17:00 is 15:00 UTC.
        assert_eq!(micro(&station, "2026-06-22T14:45:00Z"), 340_000);
        assert_eq!(micro(&station, "2026-06-22T15:00:00Z"), 400_000);
        assert_eq!(micro(&station, "2026-06-23T15:00:00Z"), 340_000);
        let included = Station::new(site(EnergyPrice::Included), &tariff(TARIFF)).unwrap();
        assert_eq!(micro(&included, "2026-06-22T15:00:00Z"), 100_000);
        assert_eq!(
            (station.tax_ppm, station.start_fee.nano()),
            (190_000, 300_000_000)
        );
    }

    #[test]
    fn what_cannot_be_promised_is_refused_by_name() {
        let refused = |from: &str, to: &str| {
            let text = TARIFF.replacen(from, to, 1);
            assert_ne!(text, TARIFF, "{from}");
            Station::new(site(EnergyPrice::PassedOn), &tariff(&text)).unwrap_err()
        };
        let first = "\"start_time\":\"17:00\"";
        assert_eq!(
            refused(first, "\"max_kwh\":5"),
            StationError::Conditional { element: 0 }
        );
        assert_eq!(
            refused(first, "\"reservation\":\"RESERVATION\""),
            StationError::Reservation { element: 0 }
        );
        assert_eq!(refused("\"NO\"", "\"YES\""), StationError::TaxIncluded);
        assert_eq!(
            refused("\"vat\":19", "\"vat\":7"),
            StationError::TaxDiffers { element: 1 }
        );
        assert_eq!(
            refused("\"step_size\":1", "\"step_size\":500"),
            StationError::Step {
                element: 0,
                step: 500
            }
        );
        assert_eq!(
            refused("0.10", "0.1000001"),
            StationError::TooFine { element: 0 }
        );
        assert_eq!(
            refused("\"currency\"", "\"min_price\":1,\"currency\""),
            StationError::MinPrice
        );
        let timed = "{\"type\":\"FLAT\",\"price\":1,\"vat\":19,\"step_size\":1},{\"type\":\"ENERGY\",\"price\":0.10";
        assert_eq!(
            refused("{\"type\":\"ENERGY\",\"price\":0.10", timed),
            StationError::Timed {
                element: 0,
                dimension: "FLAT"
            }
        );
    }
}
