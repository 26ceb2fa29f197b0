//! Before the plug: the price now and for the next hours, and offers with a ceiling each.
//!
//! A kWh costs the driver what the energy is expected to cost, never more than the utility's, and what the station's
//! tariff asks on top, or what that asks alone ([`super::station`]). A plan says in which intervals the car charges; where the plan comes from (as soon as possible,
//! the market's deadline rule, the most local intervals) is the caller's affair. The ceiling is what the bill can
//! come to at the dearest price from the plan's first to its last interval, with the start fee and an hour of parking.

use domain::energy::Energy;
use domain::money::{Money, MoneyError, Price};
use domain::time::{Interval, Timestamp};

use super::session::Session;
use super::station::Station;
use super::terms::{PRICES_MAX, Quote};

/// What is expected of an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// Which.
    pub interval: Interval,
    /// What a neighbour's kWh will probably cost, network fee included; none where nothing is known.
    pub local: Option<Price>,
    /// What the utility's costs.
    pub utility: Price,
    /// How much of the energy will probably be local, in thousandths.
    pub local_permille: u32,
}

impl Expected {
    /// What a kWh will probably cost the station.
    #[must_use]
    pub fn cost(&self) -> Price {
        self.local
            .map_or(self.utility, |local| local.min(self.utility))
    }
}

/// Energy by interval, in order.
pub type Plan = Vec<(Interval, Energy)>;

/// Fills intervals in the order of `rank`, the earlier of equals first, until the energy is planned. What does not
/// fit until `by` is left out, so the plan can come to less.
pub fn fill<K: Ord>(
    now: Timestamp,
    by: Timestamp,
    energy: Energy,
    power_w: u32,
    expected: &[Expected],
    rank: impl Fn(&Expected) -> K,
) -> Plan {
    let room = |e: &Expected| {
        let from = e.interval.start().max(now);
        let ms = e.interval.end().min(by).ms_since(from).max(0);
        i64::from(power_w).saturating_mul(ms) / 3_600_000
    };
    let mut order: Vec<&Expected> = expected.iter().filter(|e| room(e) > 0).collect();
    order.sort_by_key(|e| (rank(e), e.interval));
    let (mut plan, mut left_wh) = (Plan::new(), energy.wh());
    for one in order {
        let wh = room(one).min(left_wh);
        if wh > 0 {
            plan.push((one.interval, Energy::from_wh(wh)));
            left_wh -= wh;
        }
    }
    plan.sort_by_key(|(interval, _)| *interval);
    plan
}

/// What is put before the driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// When it charges.
    pub plan: Plan,
    /// How much in all.
    pub energy: Energy,
    /// What it will probably cost, with tax.
    pub expected: Money,
    /// What it costs at most, with tax.
    pub ceiling: Money,
    /// When it will be done.
    pub ready_by: Timestamp,
    /// How much of it will probably be local, in thousandths.
    pub local_permille: u32,
    /// The price of a kWh in every interval from the plan's first on, before tax.
    pub prices: Vec<(Interval, Price)>,
}

/// Prices a plan. None where the plan is empty.
///
/// # Errors
/// An amount that does not fit.
pub fn offer(
    station: &Station,
    expected: &[Expected],
    plan: Plan,
) -> Result<Option<Offer>, MoneyError> {
    let (Some(first), Some(last)) = (plan.first(), plan.last()) else {
        return Ok(None);
    };
    let (first, last) = (first.0, last.0);
    let mut energy = Energy::ZERO;
    let (mut cost, mut local_wh) = (0_i128, 0_i128);
    let mut dearest = Price::ZERO;
    let mut prices = Vec::new();
    for one in expected
        .iter()
        .filter(|e| e.interval >= first)
        .take(PRICES_MAX)
    {
        let price = station.price(one)?;
        prices.push((one.interval, price));
        if one.interval <= last {
            dearest = dearest.max(price);
        }
        let planned = plan.iter().find(|(interval, _)| *interval == one.interval);
        if let Some((_, planned)) = planned {
            energy = energy.checked_add(*planned).ok_or(MoneyError::Overflow)?;
            cost += i128::from(price.amount(*planned)?.nano());
            local_wh += i128::from(planned.wh()) * i128::from(one.local_permille);
        }
    }
    if !energy.is_positive() {
        return Ok(None);
    }
    let cost = Money::from_ratio(cost, 1)?;
    let sum = |parts: &[Money]| {
        let mut parts = parts.iter().copied();
        let sum = parts.try_fold(Money::ZERO, Money::checked_add);
        station.with_tax(sum.ok_or(MoneyError::Overflow)?)
    };
    let hours_of = |ms: i64| {
        Money::from_ratio(
            i128::from(station.time_per_hour.nano()) * i128::from(ms),
            3_600_000,
        )
    };
    let planned_ms = plan.iter().map(|(i, _)| i.end().ms_since(i.start())).sum();
    let most = [
        dearest.amount(energy)?,
        station.start_fee,
        hours_of(last.end().ms_since(first.start()))?,
        station.parking_per_hour,
    ];
    let ceiling = whole_cents_up(sum(&most)?)?;
    let ceiling = station.most.map_or(ceiling, |most| most.min(ceiling));
    let expected = sum(&[cost, station.start_fee, hours_of(planned_ms)?])?;
    let permille = local_wh / i128::from(energy.wh());
    Ok(Some(Offer {
        energy,
        expected: expected.min(ceiling),
        ceiling,
        ready_by: last.end(),
        local_permille: u32::try_from(permille).unwrap_or(1_000).min(1_000),
        prices,
        plan,
    }))
}

/// Another plan for a session that runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replan {
    /// When it charges from now on.
    pub plan: Plan,
    /// What it may cost in all, with tax: what it has come to, and the rest at the dearest price on the way.
    pub needs: Money,
    /// Energy that does not fit into the time.
    pub missing: Energy,
}

/// Plans the rest of a session anew: `energy` in all until `by`, cheapest first by the prices that were promised.
///
/// # Errors
/// An amount that does not fit.
pub fn replan(
    session: &Session,
    now: Timestamp,
    (by, power_w): (Timestamp, u32),
    energy: Energy,
) -> Result<Replan, MoneyError> {
    let quote = &session.terms().quote;
    let rest = energy
        .checked_sub(session.energy())
        .ok_or(MoneyError::Overflow)?;
    let rest = rest.max(Energy::ZERO);
    let last = quote.prices.last().map_or(Price::ZERO, |(_, price)| *price);
    let length_s = quote
        .prices
        .first()
        .map_or(domain::time::DEFAULT_INTERVAL_S, |(i, _)| i.length_s());
    let mut ahead: Vec<Expected> = Vec::new();
    let mut next = Interval::containing(now, length_s).ok();
    while let Some(interval) = next.filter(|i| i.start() < by && ahead.len() < PRICES_MAX) {
        let promised = quote.prices.iter().find(|(i, _)| *i == interval);
        ahead.push(Expected {
            interval,
            local: None,
            utility: promised.map_or(last, |(_, price)| *price),
            local_permille: 0,
        });
        next = Some(interval.next());
    }
    let plan = fill(now, by, rest, power_w, &ahead, Expected::cost);
    let planned: i64 = plan.iter().map(|(_, e)| e.wh()).sum();
    let until = plan.last().map_or(now, |(i, _)| i.end());
    let on_the_way = ahead.iter().filter(|e| e.interval.start() < until);
    let dearest = on_the_way.map(Expected::cost).max().unwrap_or(last);
    let so_far = session.bill_so_far().map_err(|_| MoneyError::Overflow)?;
    let hours = i128::from(until.ms_since(now).max(0));
    let mut more = vec![
        dearest.amount(rest)?.max(Money::ZERO),
        Money::from_ratio(i128::from(quote.time_per_hour.nano()) * hours, 3_600_000)?,
        quote.parking_per_hour,
    ];
    if so_far.is_none() {
        more.push(quote.start_fee);
    }
    let mut before_tax = more.into_iter();
    let before_tax = before_tax
        .try_fold(Money::ZERO, Money::checked_add)
        .ok_or(MoneyError::Overflow)?;
    let whole = 1_000_000 + i128::from(quote.tax_ppm);
    let more = Money::from_ratio(i128::from(before_tax.nano()) * whole, 1_000_000)?;
    let needs = so_far
        .map_or(Money::ZERO, |bill| bill.total)
        .checked_add(more);
    Ok(Replan {
        plan,
        needs: whole_cents_up(needs.ok_or(MoneyError::Overflow)?)?,
        missing: Energy::from_wh(rest.wh().saturating_sub(planned)),
    })
}

/// A ceiling is a round number that people can keep in mind.
fn whole_cents_up(amount: Money) -> Result<Money, MoneyError> {
    const CENT_NANO: i64 = 10_000_000;
    let cents = amount
        .nano()
        .checked_add(CENT_NANO - 1)
        .ok_or(MoneyError::Overflow)?;
    Ok(Money::from_nano(cents.div_euclid(CENT_NANO) * CENT_NANO))
}

impl Offer {
    /// The promise that the driver may take until `valid_until`.
    #[must_use]
    pub fn quote(
        &self,
        station: &Station,
        session: String,
        (offered_at, valid_until): (Timestamp, Timestamp),
    ) -> Quote {
        Quote {
            session,
            station: station.id.clone(),
            currency: station.currency.clone(),
            prices: self.prices.clone(),
            start_fee: station.start_fee,
            time_per_hour: station.time_per_hour,
            parking_per_hour: station.parking_per_hour,
            parking_grace_s: station.parking_grace_s,
            tax_ppm: station.tax_ppm,
            energy: self.energy,
            power_max_w: station.power_max_w,
            ceiling: self.ceiling,
            offered_at,
            valid_until,
            ready_by: self.ready_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charging::station::EnergyPrice;
    use crate::charging::station::tests::{TARIFF, site};
    use crate::charging::tariff::Tariff;
    use crate::charging::terms::Terms;
    use proptest::prelude::*;

    fn station() -> Station {
        let site = site(EnergyPrice::PassedOn);
        Station::new(site, &Tariff::from_json(TARIFF).unwrap()[0]).unwrap()
    }

    /// Local prices in thousandths, one an interval; 0 is unknown.
    fn outlook(prices: &[i64]) -> Vec<Expected> {
        let first = Interval::new(1_782_000_000, 900).unwrap();
        let one = |(n, milli): (usize, &i64)| Expected {
            interval: first.offset(i64::try_from(n).unwrap()),
            local: (*milli > 0).then(|| Price::from_micro_per_kwh(milli * 1_000)),
            utility: Price::from_micro_per_kwh(300_000),
            local_permille: u32::try_from((300 - milli.min(&300)).max(0) * 3).unwrap(),
        };
        prices.iter().enumerate().map(one).collect()
    }

    #[test]
    fn now_costs_more_than_later_and_both_have_a_ceiling() {
        let expected = outlook(&[0, 400, 100, 150, 0, 120]);
        let now = expected[0].interval.start().plus_s(450);
        let by = expected[5].interval.end();
        let energy = Energy::from_wh(4_000);
        let at_once = fill(now, by, energy, 11_000, &expected, |_| 0);
        let sizes: Vec<i64> = at_once.iter().map(|(_, e)| e.wh()).collect();
        assert_eq!(sizes, [1_375, 2_625]);
        let cheap = fill(now, by, energy, 11_000, &expected, Expected::cost);
        let starts: Vec<usize> = expected
            .iter()
            .enumerate()
            .filter(|(_, e)| cheap.iter().any(|(i, _)| *i == e.interval))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(starts, [2, 5]);
        let at_once = offer(&station(), &expected, at_once).unwrap().unwrap();
        let cheap = offer(&station(), &expected, cheap).unwrap().unwrap();
        // 4 kWh at 0.34 and the start fee, with tax; the ceiling with an hour of parking.
        assert_eq!(at_once.expected.nano(), 1_975_400_000);
        assert_eq!(at_once.ceiling.nano(), 3_170_000_000);
        assert!(cheap.expected < at_once.expected && cheap.local_permille > 500);
        // The dearest price on the way is the utility's, in the fifth interval.
        assert_eq!(cheap.ceiling, at_once.ceiling);
        assert_eq!(
            station().all_in(&expected[2]).unwrap().micro_per_kwh(),
            166_600
        );
        assert_eq!(offer(&station(), &expected, Plan::new()), Ok(None));
        let times = (now, now.plus_s(300));
        assert!(Terms::new(cheap.quote(&station(), "s".to_owned(), times)).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_expected_is_never_above_the_ceiling(
            prices in proptest::collection::vec(0_i64..600, 1..60), wh in 1_i64..60_000, into_s in 0_i64..900,
        ) {
            let expected = outlook(&prices);
            let now = expected[0].interval.start().plus_s(into_s);
            let by = expected[expected.len() - 1].interval.end();
            let plan = fill(now, by, Energy::from_wh(wh), 11_000, &expected, Expected::cost);
            let room_wh: i64 = plan.iter().map(|(_, e)| e.wh()).sum();
            prop_assert!(room_wh <= wh);
            if let Some(offer) = offer(&station(), &expected, plan).unwrap() {
                prop_assert!(offer.expected <= offer.ceiling);
                prop_assert!(offer.ready_by <= by);
            }
        }
    }
}
