//! What is changed of a session: a driver's other wishes while the car charges, and an operator's correction of what was
//! paid.

use domain::energy::Energy;
use domain::money::Money;
use domain::reading::Reading;
use domain::time::Timestamp;
use settlement::charging::offer::{Plan, Replan, replan};
use settlement::charging::session::{Event, Session, State};
use settlement::charging::split::Credit;
use settlement::charging::terms::Terms;
use settlement::service as books;

use super::{
    PLAN_POWER_MAX_W, Running, Shared, find, import_end, metered, plan, readings_of, step,
};

/// What a driver wants instead; what is not said stays.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Wanted {
    pub(crate) energy: Option<Energy>,
    pub(crate) by: Option<Timestamp>,
    /// The ceiling that the driver agrees to, where it has to rise.
    pub(crate) ceiling: Option<Money>,
}

/// What came of it.
pub(crate) enum Amended {
    /// So it stands now.
    Changed(Box<Running>),
    /// There is no such session, or it runs no more.
    NotRunning,
    /// The energy does not fit into the time, or the time is not one for which prices were promised.
    DoesNotFit(String),
    /// It may cost up to this, which the driver has not agreed to.
    NeedsConsent(Money),
    /// The payer does not have what has to be held in addition.
    NoFunds,
}

/// Changes what a running session is to bring. Prices stay as they were promised; the ceiling rises only by consent, and
/// only with the hold.
pub(crate) async fn change(
    shared: &Shared,
    name: &str,
    wanted: Wanted,
    now: Timestamp,
) -> anyhow::Result<Amended> {
    let mut running = shared.charging.running.lock().await;
    let Some(one) = running.get(name) else {
        return Ok(Amended::NotRunning);
    };
    let mut one = one.clone();
    let mut tx = shared.db.begin().await?;
    for (at, event) in metered(shared, &one).await? {
        step(&mut tx, shared, &mut one, at, event).await?;
    }
    if !matches!(one.session.state(), State::Authorised | State::Active) {
        return Ok(Amended::NotRunning);
    }
    let (plan, event, more) = match reconsidered(shared, &one.session, wanted, now)? {
        Ok(reconsidered) => reconsidered,
        Err(refused) => return Ok(refused),
    };
    let (_, seq) = books::charging_changed(&shared.db, name).await?;
    if seq >= books::CORRECTIONS_MAX as u64 {
        return Ok(Amended::DoesNotFit(
            "a session is changed at most 64 times.".to_owned(),
        ));
    }
    if !books::charging_change(&mut tx, now, &one.promise, (seq, &plan), more).await? {
        return Ok(Amended::NoFunds);
    }
    one.promise.plan = plan;
    step(&mut tx, shared, &mut one, now, event).await?;
    tx.commit().await?;
    plan::tell(shared, &mut one, now).await;
    running.insert(name.to_owned(), one.clone());
    Ok(Amended::Changed(Box::new(one)))
}

/// The plan of other wishes, what the session is told of them, and what has to be held in addition; or why not.
fn reconsidered(
    shared: &Shared,
    session: &Session,
    wanted: Wanted,
    now: Timestamp,
) -> anyhow::Result<Result<(Plan, Event, Money), Amended>> {
    let quote = &session.terms().quote;
    let energy = wanted.energy.unwrap_or(quote.energy);
    let by = wanted.by.unwrap_or(quote.ready_by);
    let Some((last, _)) = quote.prices.last() else {
        return Ok(Err(Amended::NotRunning));
    };
    if by <= now || by > last.end() {
        let end = last.end();
        let why = format!("by: a time after {now} and not after {end}.");
        return Ok(Err(Amended::DoesNotFit(why)));
    }
    let power_w = quote.power_max_w.min(PLAN_POWER_MAX_W);
    let Replan {
        plan,
        needs,
        missing,
    } = replan(session, now, (by, power_w), energy)?;
    if missing.is_positive() {
        let fits = Energy::from_wh(energy.wh().saturating_sub(missing.wh()));
        return Ok(Err(Amended::DoesNotFit(format!(
            "until {by} only {fits} fit."
        ))));
    }
    let most = shared
        .site
        .station(&quote.station)
        .and_then(|s| s.asks.most);
    let needs = most.map_or(needs, |most| needs.min(most.max(quote.ceiling)));
    if needs > quote.ceiling && wanted.ceiling.is_none_or(|agreed| agreed < needs) {
        return Ok(Err(Amended::NeedsConsent(needs)));
    }
    let ceiling = needs.max(quote.ceiling);
    let more = Money::from_nano(ceiling.nano().saturating_sub(quote.ceiling.nano()));
    let event = Event::Changed {
        energy_wh: energy.wh(),
        ready_by_ms: by.unix_ms(),
        ceiling_nano: ceiling.nano(),
    };
    Ok(Ok((plan, event, more)))
}

/// What came of a correction.
pub(crate) enum Corrected {
    /// It is booked.
    Booked(Credit),
    /// There is no such session, or nothing was paid in it.
    Nothing,
    /// What is charged would not become less.
    NotLess(Money),
    /// It was corrected too often.
    TooOften,
}

/// Corrects what was paid for a session to `total`, or, where nothing is said, to what its readings come to that are in
/// the books by now. Nothing is collected after the end: it only ever becomes less.
pub(crate) async fn correct(
    shared: &Shared,
    name: &str,
    (total, reason): (Option<Money>, &str),
    now: Timestamp,
) -> anyhow::Result<Corrected> {
    // Nobody else books a correction meanwhile.
    let _running = shared.charging.running.lock().await;
    let Some(stored) = books::charging_session(&shared.db, name).await? else {
        return Ok(Corrected::Nothing);
    };
    let one = super::replayed(stored.clone())?;
    let paid = matches!(one.session.state(), State::Closed(_)) && one.session.debt() == Money::ZERO;
    let Some(bill) = one
        .session
        .bill()
        .filter(|bill| paid && bill.total > Money::ZERO)
    else {
        return Ok(Corrected::Nothing);
    };
    let before = books::charging_credits(&shared.db, name).await?;
    if before.len() >= books::CORRECTIONS_MAX {
        return Ok(Corrected::TooOften);
    }
    let (stands, tax) = before
        .iter()
        .fold((bill.total, bill.tax), |(_, tax), credit| {
            let tax = tax.nano().saturating_sub(credit.tax_nano);
            (
                Money::from_nano(credit.new_total_nano),
                Money::from_nano(tax),
            )
        });
    let new_total = match total {
        Some(total) => total,
        None => {
            let first = stored.promise.quote.clone();
            let readings = readings_of(shared, &one).await?;
            rerated(Terms::new(first)?, &stored.events, &readings)
        }
    };
    let Some(credit) = Credit::new(now, reason, (stands, tax), new_total)? else {
        return Ok(Corrected::NotLess(stands));
    };
    let mut tx = shared.db.begin().await?;
    books::charging_credit(&mut tx, now, &one.promise, before.len() as u64, &credit).await?;
    tx.commit().await?;
    tracing::info!(session = name, refund = %credit.refund(), reason, "a session's payment is corrected");
    Ok(Corrected::Booked(credit))
}

/// What a session comes to when every reading that is in the books by now had come in time.
fn rerated(terms: Terms, events: &[(Timestamp, Event)], readings: &[Reading]) -> Money {
    let mut session = Session::new(terms);
    let mut late = readings
        .iter()
        .filter_map(|r| Some((r.interval.end(), import_end(r)?)))
        .peekable();
    let mut before = None;
    for (at, event) in events {
        while let Some((end, register_wh)) = late.next_if(|(end, _)| end <= at) {
            let [first, last] = match session.readings() {
                Some(readings) if readings[1].0 < end => readings,
                _ => continue,
            };
            // The event of this very reading knows whether the car was held back.
            let known = events.iter().find_map(|(at, event)| match event {
                Event::Reading { full, .. } if *at == end => Some(*full),
                _ => None,
            });
            let still = register_wh == last.1 && last.1 > first.1;
            let full = known.unwrap_or(still && before == Some(true));
            before = Some(full);
            session.apply(end, Event::Reading { register_wh, full });
        }
        if !matches!(event, Event::Reading { .. }) {
            session.apply(*at, *event);
        }
    }
    session.bill().map_or(Money::ZERO, |bill| bill.total)
}

/// A session that has ended, with its corrections.
pub(crate) async fn credits(shared: &Shared, name: &str) -> anyhow::Result<Vec<Credit>> {
    match find(shared, name).await? {
        Some(_) => Ok(books::charging_credits(&shared.db, name).await?),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::money::Price;
    use domain::time::Interval;
    use settlement::charging::terms::Quote;

    #[test]
    fn nothing_new_in_the_books_changes_no_bill() {
        let first = Interval::new(1_782_000_000, 900).unwrap();
        let terms = Terms::new(Quote {
            session: "s".to_owned(),
            station: "c".to_owned(),
            currency: "EUR".to_owned(),
            prices: vec![(first, Price::from_micro_per_kwh(300_000))],
            start_fee: Money::ZERO,
            time_per_hour: Money::ZERO,
            parking_per_hour: Money::ZERO,
            parking_grace_s: 0,
            tax_ppm: 0,
            energy: Energy::from_wh(9_000),
            power_max_w: 11_000,
            ceiling: Money::from_nano(9_000_000_000),
            offered_at: first.start(),
            valid_until: first.end(),
            ready_by: first.offset(8).end(),
        })
        .unwrap();
        let at = |n: i64| first.offset(n).start();
        let reading = |register_wh| Event::Reading {
            register_wh,
            full: false,
        };
        let events = [
            (at(0), Event::Accepted),
            (at(0), Event::HoldPlaced),
            (at(0), Event::Started { register_wh: 0 }),
            (at(1), reading(1_000)),
            (at(2), reading(2_000)),
            (at(2), Event::Stop),
            (at(2), Event::Captured),
        ];
        // The events' readings themselves are not in the books here: only what is there counts.
        assert_eq!(rerated(terms, &events, &[]), Money::ZERO);
    }
}
