//! What a driver changes of a session while the car charges: other wishes.

use domain::energy::Energy;
use domain::money::Money;
use domain::time::Timestamp;
use settlement::charging::offer::{Plan, Replan, replan};
use settlement::charging::session::{Event, Session, State};
use settlement::service as books;

use super::{PLAN_POWER_MAX_W, Running, Shared, plan, read, step};

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
    let (_, seq) = books::charging_changed(&shared.db, name).await?;
    let mut tx = shared.db.begin().await?;
    read(&mut tx, shared, &mut one).await?;
    if !matches!(one.session.state(), State::Authorised | State::Active) {
        return Ok(Amended::NotRunning);
    }
    let (plan, event, more) = match reconsidered(shared, &one.session, wanted, now)? {
        Ok(reconsidered) => reconsidered,
        Err(refused) => return Ok(refused),
    };
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
