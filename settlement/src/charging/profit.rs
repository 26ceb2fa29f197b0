//! A month of a station: what its sessions brought and for what, who got it, and whether the station is worth its costs.
//!
//! A month counts what was booked in it: a session with its payment, its energy with the settlement runs, a correction
//! when it was made. So a month that is over stays as it is, in the ledger, here and on an owner's statement. What was
//! paid, less what was given back, is tax, energy, network fee and shares together, to the last unit ([`Month::check`]).

mod show;

use std::collections::{BTreeMap, BTreeSet};

use domain::energy::Energy;
use domain::money::{Money, MoneyError, Price};

use super::rate::{Bill, What};
use super::split::{Credit, Split};
use super::tariff::Dimension;
pub use show::{Report, Row};

/// A year's figures are twelve equal months, to the last unit.
const MONTHS: i64 = 12;

/// What was asked for, by what it was for, before tax.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Income {
    /// Energy.
    pub energy: Money,
    /// Time in which cars charged.
    pub time: Money,
    /// Time in which full cars stayed.
    pub parking: Money,
    /// What is asked once a session.
    pub flat: Money,
    /// What ceilings took off (below zero), and what a bill below zero was lifted by.
    pub limits: Money,
}

impl Income {
    /// All of it.
    ///
    /// # Errors
    /// An amount that does not fit.
    pub fn total(&self) -> Result<Money, MoneyError> {
        sum(&[self.energy, self.time, self.parking, self.flat, self.limits])
    }
}

/// What energy came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// To neighbours and the utility.
    pub energy: Money,
    /// For the network.
    pub network_fee: Money,
}

impl Cost {
    /// Both.
    ///
    /// # Errors
    /// An amount that does not fit.
    pub fn total(&self) -> Result<Money, MoneyError> {
        sum(&[self.energy, self.network_fee])
    }

    fn add(&mut self, more: Cost) -> Result<(), MoneyError> {
        add(&mut self.energy, more.energy)?;
        add(&mut self.network_fee, more.network_fee)
    }
}

/// A station's month.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Month {
    /// Sessions that were paid.
    pub sessions: u32,
    /// Their energy.
    pub energy: Energy,
    /// What they brought before tax.
    pub income: Income,
    /// The tax on it.
    pub tax: Money,
    /// Sessions whose payment was refused at their end.
    pub unpaid: u32,
    /// What is owed for them; it is no part of the income.
    pub owed: Money,
    /// Corrections that were made.
    pub credits: u32,
    /// What they gave back, tax included.
    pub refunded: Money,
    /// The tax in that.
    pub refunded_tax: Money,
    /// What the energy of sessions cost.
    pub cost: Cost,
    /// What the energy cost that the station took while no session ran: its host's.
    pub outside: Cost,
    /// What is left to each owner, and below zero what an owner carries.
    pub shares: BTreeMap<String, Money>,
    /// Who bore what flowed outside of sessions: the hosts of the month.
    pub hosts: BTreeSet<String>,
}

/// A month whose parts are not the whole.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MonthError {
    /// The parts are not what was paid.
    #[error(
        "a station's month does not add up: {paid} were paid, and tax, energy, network fee and shares are {parts}"
    )]
    Parts {
        /// What was paid, less what was given back.
        paid: Money,
        /// What became of it.
        parts: Money,
    },
    /// An amount that does not fit.
    #[error(transparent)]
    Money(#[from] MoneyError),
}

impl Month {
    /// Adds a session that was paid. `cost` is what is passed through for its energy at once; a station that buys by
    /// itself has none here, it is carried with the settlement runs.
    ///
    /// # Errors
    /// An amount that does not fit.
    pub fn sale(
        &mut self,
        bill: &Bill,
        energy: Energy,
        cost: Cost,
        split: &Split,
    ) -> Result<(), MoneyError> {
        self.sessions += 1;
        self.energy = self
            .energy
            .checked_add(energy)
            .ok_or(MoneyError::Overflow)?;
        for line in &bill.lines {
            let part = match line.what {
                What::Charge(Dimension::Energy) => &mut self.income.energy,
                What::Charge(Dimension::ParkingTime) => &mut self.income.parking,
                What::Charge(Dimension::Flat) => &mut self.income.flat,
                What::Charge(Dimension::Time) | What::Reservation(_) => &mut self.income.time,
                What::MinPrice | What::MaxPrice => &mut self.income.limits,
            };
            add(part, line.before_tax)?;
        }
        // What was held and could be taken may be less than the bill.
        let short = split.paid.checked_sub(bill.total);
        add(&mut self.income.limits, short.ok_or(MoneyError::Overflow)?)?;
        add(&mut self.tax, split.pass_through.tax)?;
        self.cost.add(cost)?;
        self.share(&split.owners, false)
    }

    /// Adds a session whose payment was refused, for which so much is owed.
    ///
    /// # Errors
    /// An amount that does not fit.
    pub fn unpaid(&mut self, debt: Money) -> Result<(), MoneyError> {
        self.unpaid += 1;
        add(&mut self.owed, debt)
    }

    /// Adds a correction, as it was split.
    ///
    /// # Errors
    /// An amount that does not fit.
    pub fn credit(&mut self, credit: &Credit, split: &Split) -> Result<(), MoneyError> {
        self.credits += 1;
        add(&mut self.refunded, credit.refund())?;
        add(&mut self.refunded_tax, split.pass_through.tax)?;
        self.share(&split.owners, true)
    }

    /// Adds what a settlement run came to for a station that buys by itself, as it was carried to `parts`; outside of
    /// sessions that is the host.
    ///
    /// # Errors
    /// An amount that does not fit.
    pub fn carried(
        &mut self,
        in_session: bool,
        cost: Cost,
        parts: &[(String, Money)],
    ) -> Result<(), MoneyError> {
        match in_session {
            true => self.cost.add(cost)?,
            false => {
                self.hosts
                    .extend(parts.iter().map(|(name, _)| name.clone()));
                self.outside.add(cost)?;
            }
        }
        self.share(parts, false)
    }

    fn share(&mut self, parts: &[(String, Money)], back: bool) -> Result<(), MoneyError> {
        for (name, part) in parts {
            let part = if back { negative(*part)? } else { *part };
            add(self.shares.entry(name.clone()).or_default(), part)?;
        }
        Ok(())
    }

    /// What the station was paid in all, tax included, less what was given back.
    ///
    /// # Errors
    /// An amount that does not fit.
    pub fn revenue(&self) -> Result<Money, MoneyError> {
        sum(&[self.income.total()?, self.tax, negative(self.refunded)?])
    }

    /// What is left for the owners.
    ///
    /// # Errors
    /// An amount that does not fit.
    pub fn shared(&self) -> Result<Money, MoneyError> {
        let parts: Vec<Money> = self.shares.values().copied().collect();
        sum(&parts)
    }

    /// Holds the parts against the whole.
    ///
    /// # Errors
    /// They are not it.
    pub fn check(&self) -> Result<(), MonthError> {
        let paid = self.revenue()?;
        let parts = sum(&[
            self.tax,
            negative(self.refunded_tax)?,
            self.cost.total()?,
            self.outside.total()?,
            self.shared()?,
        ])?;
        match paid == parts {
            true => Ok(()),
            false => Err(MonthError::Parts { paid, parts }),
        }
    }
}

/// What the owners reckon with, for a year.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// What keeping the station costs.
    pub maintenance_per_year: Money,
    /// What the money in it costs: a year's part of what it was bought for, and interest.
    pub capital_per_year: Money,
}

/// A year's figure as its `number`th month has it, 1 to 12: twelve of them are the year, to the last unit.
fn of_month(year: Money, number: u32) -> Money {
    let until = |months: i64| i128::from(year.nano()) * i128::from(months) / i128::from(MONTHS);
    let number = i64::from(number).clamp(1, MONTHS);
    // A twelfth of a 64-bit number is one.
    Money::from_nano(i64::try_from(until(number) - until(number - 1)).unwrap_or_default())
}

/// How much energy a month needs until its costs are covered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakEven {
    /// So much, at what a kWh has left beyond its own cost.
    At(Energy),
    /// No amount is enough: a kWh brings no more than it costs.
    Never,
    /// Nothing was charged, so nothing is known of a kWh.
    Unknown,
}

/// Whether a station is worth its costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Profit {
    /// What was asked for before tax, less what was given back of it.
    pub income: Money,
    /// What the energy cost, in sessions and outside.
    pub energy: Money,
    /// What the network cost.
    pub network_fee: Money,
    /// The month's part of the year's maintenance.
    pub maintenance: Money,
    /// The month's part of the year's capital cost.
    pub capital: Money,
    /// What is left of the income; below zero it is a loss.
    pub result: Money,
    /// What a kWh brought before tax, all that was asked for in it.
    pub price: Option<Price>,
    /// The energy that a month needs.
    pub break_even: BreakEven,
    /// The price before tax at which this month's energy would have covered everything.
    pub break_even_price: Option<Price>,
}

impl Profit {
    /// What a month comes to with these figures; `number` is the month's in its year, 1 to 12.
    ///
    /// # Errors
    /// An amount that does not fit.
    pub fn of(month: &Month, figures: &Figures, number: u32) -> Result<Profit, MoneyError> {
        let refunded = sum(&[month.refunded, negative(month.refunded_tax)?])?;
        let income = sum(&[month.income.total()?, negative(refunded)?])?;
        let energy = sum(&[month.cost.energy, month.outside.energy])?;
        let network_fee = sum(&[month.cost.network_fee, month.outside.network_fee])?;
        let maintenance = of_month(figures.maintenance_per_year, number);
        let capital = of_month(figures.capital_per_year, number);
        let running = sum(&[energy, network_fee])?;
        let own = sum(&[maintenance, capital])?;
        // What flows outside of sessions does not grow with what is sold in them.
        let fixed = sum(&[own, month.outside.total()?])?;
        let left = sum(&[income, negative(month.cost.total()?)?])?;
        let (wh, left_nano) = (i128::from(month.energy.wh()), i128::from(left.nano()));
        let break_even = match (wh > 0, left_nano > 0) {
            _ if fixed <= Money::ZERO && left >= Money::ZERO => BreakEven::At(Energy::ZERO),
            (false, _) => BreakEven::Unknown,
            (true, false) => BreakEven::Never,
            (true, true) => {
                let needed = i128::from(fixed.nano()) * wh;
                let needed = needed.div_euclid(left_nano) + i128::from(needed % left_nano != 0);
                // More than can be counted is never reached.
                let needed = i64::try_from(needed);
                needed.map_or(BreakEven::Never, |wh| BreakEven::At(Energy::from_wh(wh)))
            }
        };
        // A nano-unit for a Wh is a micro-unit for a kWh.
        let costs = i128::from(running.nano()) + i128::from(own.nano());
        let up = |costs: i128| costs.div_euclid(wh) + i128::from(costs.rem_euclid(wh) != 0);
        Ok(Profit {
            income,
            energy,
            network_fee,
            maintenance,
            capital,
            result: sum(&[left, negative(fixed)?])?,
            price: (wh > 0)
                .then(|| price(i128::from(income.nano()).div_euclid(wh)))
                .transpose()?,
            break_even,
            break_even_price: (wh > 0).then(|| price(up(costs))).transpose()?,
        })
    }

    /// Whether it is time to warn: the month is over and a loss, or what is sold costs more than it brings already.
    #[must_use]
    pub fn warns(&self, is_over: bool) -> bool {
        self.result < Money::ZERO && (is_over || self.break_even == BreakEven::Never)
    }
}

fn price(micro_per_kwh: i128) -> Result<Price, MoneyError> {
    let micro = i64::try_from(micro_per_kwh).map_err(|_| MoneyError::Overflow)?;
    Ok(Price::from_micro_per_kwh(micro))
}

fn add(sum: &mut Money, part: Money) -> Result<(), MoneyError> {
    *sum = sum.checked_add(part).ok_or(MoneyError::Overflow)?;
    Ok(())
}

fn sum(parts: &[Money]) -> Result<Money, MoneyError> {
    let mut whole = Money::ZERO;
    for part in parts {
        add(&mut whole, *part)?;
    }
    Ok(whole)
}

fn negative(money: Money) -> Result<Money, MoneyError> {
    let nano = money.nano().checked_neg().ok_or(MoneyError::Overflow)?;
    Ok(Money::from_nano(nano))
}

#[cfg(test)]
mod tests;
