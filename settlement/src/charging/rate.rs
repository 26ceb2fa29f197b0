//! The bill of a session: a line for each price in force, and a total that is the sum of its lines.
//!
//! - Which price is in force is decided at the start of each period of the record. Periods with no other price for
//!   the same thing between them make one line, so that splitting a period changes nothing. Where a price changes inside
//!   a period, the record should have begun a new one there, and a note says so.
//! - A step (`step_size`) counts once a session for energy and once for the times: of the parking time where any
//!   was charged, otherwise of the charging time. The session's whole amount is rounded up, and what that adds is
//!   in the last line. A reservation's time is stepped by itself.
//! - A line's amount is rounded once, half up to the nano-unit, and so is its tax. OCPI leaves rounding open.
//! - `min_price` and `max_price` bound the total before taxes and the total with taxes each by itself, in a line
//!   of their own. A limit that does not say its amount with taxes carries the bill's average tax.

mod show;

use chrono::NaiveDateTime;
use chrono_tz::Tz;
use domain::money::{Money, MoneyError};
use domain::time::Timestamp;

use super::record::{Period, Record, ns_between};
use super::tariff::{Active, Component, Dimension, Moment, Tariff, TaxRule};
use super::{HOUR_S, NANO};

/// A millionth is the unit of a tax.
const PPM: i128 = 1_000_000;

/// What a line is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A price of the tariff.
    Charge(Dimension),
    /// A price of the tariff for a reservation.
    Reservation(Dimension),
    /// The session costs at least so much.
    MinPrice,
    /// The session costs at most so much.
    MaxPrice,
}

/// A line of a bill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// What for.
    pub what: What,
    /// From when the price was in force.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// How much was used: nano-kWh, nanoseconds, or 1.
    pub used: i128,
    /// How much is charged, with what the step adds.
    pub billed: i128,
    /// The price and its tax; none for what `min_price` and `max_price` do.
    pub component: Option<Component>,
    /// The amount before taxes.
    pub before_tax: Money,
    /// The tax on it.
    pub tax: Money,
}

/// A session's bill.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bill {
    /// The tariff's name.
    pub tariff: String,
    /// The currency.
    pub currency: String,
    /// The lines, by what they are for and then by time.
    pub lines: Vec<Line>,
    /// The sum of the lines before taxes.
    pub before_tax: Money,
    /// The sum of the taxes.
    pub tax: Money,
    /// What the driver pays.
    pub total: Money,
    /// Energy, in nano-kWh.
    pub energy: i128,
    /// Charging time, in nanoseconds.
    pub time_ns: i128,
    /// Parking time, in nanoseconds.
    pub parking_ns: i128,
    /// What was odd about the record.
    pub notes: Vec<String>,
}

/// Why there is no bill.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RateError {
    /// Record and tariff do not fit.
    #[error("the record is in {record} and the tariff in {tariff}: nothing is converted here")]
    Currency {
        /// The record's.
        record: String,
        /// The tariff's.
        tariff: String,
    },
    /// No tariff holds when the session begins.
    #[error("none of the {count} tariffs holds at {start}, when the session begins")]
    NoTariff {
        /// How many there are.
        count: usize,
        /// When.
        start: Timestamp,
    },
    /// An amount that does not fit.
    #[error("an amount of this bill is too large for 64 bits")]
    TooLarge,
}

impl From<MoneyError> for RateError {
    fn from(_: MoneyError) -> Self {
        RateError::TooLarge
    }
}

/// The first tariff that holds when the session begins.
///
/// # Errors
/// There is none.
pub fn choose<'t>(tariffs: &'t [Tariff], record: &Record) -> Result<&'t Tariff, RateError> {
    let start = record.start();
    let holding = tariffs.iter().find(|t| t.holds_at(start));
    holding.ok_or(RateError::NoTariff {
        count: tariffs.len(),
        start,
    })
}

/// The bill of `record` by `tariff`, with local times in `zone`.
///
/// # Errors
/// Another currency, or an amount that does not fit.
pub fn rate(record: &Record, tariff: &Tariff, zone: Tz) -> Result<Bill, RateError> {
    if let Some(currency) = &record.currency
        && *currency != tariff.currency
    {
        return Err(RateError::Currency {
            record: currency.clone(),
            tariff: tariff.currency.clone(),
        });
    }
    let mut notes = Vec::new();
    let mut stretches = collect(record, tariff, zone, &mut notes);
    step(&mut stretches, record);
    let mut lines = Vec::with_capacity(stretches.len());
    for stretch in &stretches {
        lines.push(line(stretch, tariff.tax)?);
    }
    // In the order of a bill, by time within each.
    lines.sort_by_key(|l: &Line| (bill_order(l.what), l.from));
    bound(&mut lines, record, tariff)?;
    let sum = |part: fn(&Line) -> Money| {
        let mut amounts = lines.iter().map(part);
        amounts.try_fold(Money::ZERO, Money::checked_add)
    };
    let (before_tax, tax) = sum(|l| l.before_tax)
        .zip(sum(|l| l.tax))
        .ok_or(RateError::TooLarge)?;
    let of = |part: fn(&Period) -> i128| record.periods.iter().map(part).sum();
    Ok(Bill {
        tariff: tariff.id.clone(),
        currency: tariff.currency.clone(),
        before_tax,
        tax,
        total: before_tax.checked_add(tax).ok_or(RateError::TooLarge)?,
        energy: of(|p| p.energy),
        time_ns: of(|p| p.time_ns),
        parking_ns: of(|p| p.parking_ns),
        lines,
        notes,
    })
}

fn bill_order(what: What) -> (u8, Option<Dimension>) {
    match what {
        What::Reservation(dimension) => (0, Some(dimension)),
        What::Charge(dimension) => (1, Some(dimension)),
        What::MinPrice | What::MaxPrice => (2, None),
    }
}

/// A price in force over some periods.
struct Stretch {
    what: What,
    active: Active,
    from: Timestamp,
    to: Timestamp,
    used: i128,
    added: i128,
}

/// The session as it stands at the start of a period.
struct Progress {
    energy: i128,
    began: Timestamp,
}

impl Progress {
    fn moment(&self, record: &Record, period: &Period, at: Timestamp, zone: Tz) -> Moment {
        Moment {
            local: local(at, zone),
            energy: self.energy,
            duration_ns: ns_between(self.began, at),
            current: period.current,
            power: period.power,
            reservation: record.reservation(period),
        }
    }
}

fn local(at: Timestamp, zone: Tz) -> NaiveDateTime {
    let utc = at.to_chrono().unwrap_or_default();
    utc.with_timezone(&zone).naive_local()
}

/// The prices in force, period by period, equal neighbours as one.
fn collect(record: &Record, tariff: &Tariff, zone: Tz, notes: &mut Vec<String>) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut progress = Progress {
        energy: 0,
        began: record.start(),
    };
    let ends = record.periods.iter().skip(1).map(|p| p.start);
    let ends = ends.chain([record.end]);
    for (place, (period, end)) in record.periods.iter().zip(ends).enumerate() {
        if period.reserved_ns == 0 && place > 0 && record.periods[place - 1].reserved_ns > 0 {
            progress.began = period.start;
        }
        let moment = progress.moment(record, period, period.start, zone);
        let reserved = moment.reservation.is_some();
        for dimension in Dimension::ALL {
            let used = match dimension {
                Dimension::Flat => 1,
                Dimension::Energy => period.energy,
                Dimension::Time if reserved => period.reserved_ns,
                Dimension::Time => period.time_ns,
                Dimension::ParkingTime => period.parking_ns,
            };
            let what = if reserved {
                What::Reservation(dimension)
            } else {
                What::Charge(dimension)
            };
            let Some(active) = tariff.active(dimension, &moment).filter(|_| used > 0) else {
                continue;
            };
            add(&mut stretches, what, active, used, (period.start, end));
        }
        progress.energy += period.energy;
        if changes_inside(record, tariff, zone, place, &progress, &moment, end) {
            notes.push(format!(
                "a price changes inside period {place}: the record should begin a new period there; the price at its start was taken"
            ));
        }
    }
    let silent = |p: &Period| p.energy > 0 && p.current.is_none() && p.power.is_none();
    if tariff.asks_for_load() && record.periods.iter().any(silent) {
        notes.push(
            "the tariff asks for current or power, and not every period says it: such restrictions were taken to hold there"
                .to_owned(),
        );
    }
    stretches
}

fn add(
    stretches: &mut Vec<Stretch>,
    what: What,
    active: Active,
    used: i128,
    (from, to): (Timestamp, Timestamp),
) {
    let flat = matches!(
        what,
        What::Charge(Dimension::Flat) | What::Reservation(Dimension::Flat)
    );
    let last = stretches.iter_mut().rfind(|s| s.what == what);
    match last {
        // Once a session, whatever follows.
        Some(_) if flat => {}
        Some(last) if last.active == active => {
            last.used += used;
            last.to = to;
        }
        _ => stretches.push(Stretch {
            what,
            active,
            from,
            to: if flat { from } else { to },
            used,
            added: 0,
        }),
    }
}

/// Whether another price would be in force a moment before the period's end.
fn changes_inside(
    record: &Record,
    tariff: &Tariff,
    zone: Tz,
    place: usize,
    after: &Progress,
    start: &Moment,
    end: Timestamp,
) -> bool {
    let period = &record.periods[place];
    if end <= period.start {
        return false;
    }
    let mut last = after.moment(record, period, end.plus_ms(-1), zone);
    last.energy = (after.energy - 1).max(start.energy);
    let used = [
        (Dimension::Energy, period.energy),
        (Dimension::Time, period.time_ns.max(period.reserved_ns)),
        (Dimension::ParkingTime, period.parking_ns),
    ];
    used.into_iter()
        .filter(|(_, used)| *used > 0)
        .any(|(dimension, _)| tariff.active(dimension, start) != tariff.active(dimension, &last))
}

/// Adds to the last line of a dimension what rounds the session's amount up to its step.
fn step(stretches: &mut [Stretch], record: &Record) {
    let of = |part: fn(&Period) -> i128| record.periods.iter().map(part).sum::<i128>();
    let has = |what: What| stretches.iter().any(|s| s.what == what);
    let parking = What::Charge(Dimension::ParkingTime);
    let time = What::Charge(Dimension::Time);
    let reserved = What::Reservation(Dimension::Time);
    let times = if has(parking) {
        (parking, of(|p| p.parking_ns), NANO)
    } else {
        (time, of(|p| p.time_ns), NANO)
    };
    let energy = What::Charge(Dimension::Energy);
    // A step of energy is in Wh, of which a thousand are a kWh.
    let sums = [
        (energy, of(|p| p.energy), NANO / 1_000),
        times,
        (reserved, of(|p| p.reserved_ns), NANO),
    ];
    for (what, sum, unit) in sums {
        let Some(last) = stretches.iter_mut().rfind(|s| s.what == what) else {
            continue;
        };
        let step = i128::from(last.active.component.step) * unit;
        if step > 0 {
            let short = sum.rem_euclid(step);
            last.added = if short == 0 { 0 } else { step - short };
        }
    }
}

fn line(stretch: &Stretch, tax: TaxRule) -> Result<Line, RateError> {
    let component = stretch.active.component;
    let billed = stretch.used + stretch.added;
    let per = match component.dimension {
        Dimension::Flat => 1,
        Dimension::Energy => NANO,
        Dimension::Time | Dimension::ParkingTime => NANO * HOUR_S,
    };
    let product = i128::from(component.price.nano()).checked_mul(billed);
    let product = product.ok_or(RateError::TooLarge)?;
    let amount = Money::from_ratio(product, per)?;
    let ppm = match tax {
        TaxRule::None => 0,
        TaxRule::OnTop | TaxRule::Included => i128::from(component.tax_ppm.unwrap_or(0)),
    };
    let share = |numerator: i128, denominator: i128| {
        let ratio = product
            .checked_mul(numerator)
            .zip(per.checked_mul(denominator));
        let (share, whole) = ratio.ok_or(RateError::TooLarge)?;
        Ok::<Money, RateError>(Money::from_ratio(share, whole)?)
    };
    let (before_tax, tax) = if tax == TaxRule::Included {
        let before_tax = share(PPM, PPM + ppm)?;
        let tax = amount.checked_sub(before_tax).ok_or(RateError::TooLarge)?;
        (before_tax, tax)
    } else {
        (amount, share(ppm, PPM)?)
    };
    Ok(Line {
        what: stretch.what,
        from: stretch.from,
        to: stretch.to,
        used: stretch.used,
        billed,
        component: Some(component),
        before_tax,
        tax,
    })
}

/// Adds the lines that bring the total to `min_price` or `max_price`.
fn bound(lines: &mut Vec<Line>, record: &Record, tariff: &Tariff) -> Result<(), RateError> {
    let sum = |lines: &[Line], part: fn(&Line) -> Money| -> i128 {
        lines.iter().map(|l| i128::from(part(l).nano())).sum()
    };
    for (what, limit) in [
        (What::MinPrice, tariff.min_price),
        (What::MaxPrice, tariff.max_price),
    ] {
        let Some(limit) = limit else { continue };
        let before = sum(lines, |l| l.before_tax);
        let after = before + sum(lines, |l| l.tax);
        let beyond = |amount: i128, limit: i128| match what {
            What::MinPrice => amount.max(limit),
            _ => amount.min(limit),
        };
        let new_before = beyond(before, i128::from(limit.before_tax.nano()));
        let new_after = match limit.after_tax {
            Some(with_tax) => beyond(after, i128::from(with_tax.nano())).max(new_before),
            None => with_average_tax((before, after), new_before)?,
        };
        if (new_before, new_after) != (before, after) {
            let small = |amount: i128| {
                let amount = i64::try_from(amount).map(Money::from_nano);
                amount.map_err(|_| RateError::TooLarge)
            };
            lines.push(Line {
                what,
                from: record.start(),
                to: record.end,
                used: 1,
                billed: 1,
                component: None,
                before_tax: small(new_before - before)?,
                tax: small((new_after - new_before) - (after - before))?,
            });
        }
    }
    Ok(())
}

/// The total with taxes where the limit speaks only of the one before: at the bill's average tax.
fn with_average_tax((before, after): (i128, i128), new_before: i128) -> Result<i128, RateError> {
    if new_before == before {
        return Ok(after);
    }
    if before <= 0 {
        return Ok(new_before);
    }
    let product = new_before.checked_mul(after).ok_or(RateError::TooLarge)?;
    let with_tax = Money::from_ratio(product, before)?;
    Ok(i128::from(with_tax.nano()).max(new_before))
}

#[cfg(test)]
mod tests;
