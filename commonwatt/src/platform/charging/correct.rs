//! What is corrected of a session that was paid: by the operator's word, and by itself when a reading came late.

use std::collections::BTreeSet;

use domain::money::Money;
use domain::reading::Reading;
use domain::time::{Interval, Timestamp};
use runtime::db::Tx;
use settlement::charging::rate::Bill;
use settlement::charging::session::{Event, Session, State, is_full};
use settlement::charging::split::Credit;
use settlement::charging::terms::{Quote, Terms};
use settlement::service as books;

use super::{Running, Shared, find, import_end, readings_of, replayed};

/// Why a session is corrected that nobody has asked to correct.
const CAME_LATE: &str = "A reading of the meter came late.";

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
/// the books by now.
pub(crate) async fn correct(
    shared: &Shared,
    name: &str,
    wanted: (Option<Money>, &str),
    now: Timestamp,
) -> anyhow::Result<Corrected> {
    // Nobody else books a correction meanwhile.
    let _running = shared.charging.running.lock().await;
    let Some(payment) = payment(shared, name).await? else {
        return Ok(Corrected::Nothing);
    };
    let mut tx = shared.db.begin().await?;
    let corrected = book(&mut tx, &payment, wanted, now).await?;
    tx.commit().await?;
    Ok(corrected)
}

/// Rates those sessions anew of which a reading came late, once they have ended. One that fails holds up no other.
pub(super) async fn rate_anew(
    shared: &Shared,
    runs: impl Fn(&str) -> bool,
    now: Timestamp,
) -> anyhow::Result<()> {
    let (mut after, mut failed) = (String::new(), false);
    loop {
        let names = books::charging_late(&shared.db, &after).await?;
        let Some(last) = names.last() else { break };
        after.clone_from(last);
        for name in names.iter().filter(|name| !runs(name)) {
            if let Err(error) = rate_one_anew(shared, name, now).await {
                tracing::error!(session = name, "not rated anew, later again: {error:#}");
                failed = true;
            }
        }
    }
    anyhow::ensure!(!failed, "not every session was rated anew");
    Ok(())
}

async fn rate_one_anew(shared: &Shared, name: &str, now: Timestamp) -> anyhow::Result<()> {
    let payment = payment(shared, name).await?;
    let mut tx = shared.db.begin().await?;
    books::charging_rates_anew(&mut tx, name).await?;
    let corrected = match &payment {
        Some(payment) => book(&mut tx, payment, (None, CAME_LATE), now).await?,
        None => Corrected::Nothing,
    };
    tx.commit().await?;
    if matches!(corrected, Corrected::TooOften) {
        tracing::warn!(
            session = name,
            "a reading came late, and it was corrected as often as one can be"
        );
    }
    Ok(())
}

/// A session that was paid, with what was corrected of it. Nothing of it changes but by a correction.
struct Payment {
    one: Running,
    events: Vec<(Timestamp, Event)>,
    /// As it was offered, before any change.
    first: Quote,
    bill: Bill,
    credits: Vec<Credit>,
}

/// What was paid for a session; nothing where there is no such session, or nothing was paid in it. Read before anything is
/// written, so that nobody waits for a connection while it keeps others from writing.
async fn payment(shared: &Shared, name: &str) -> anyhow::Result<Option<Payment>> {
    let Some(stored) = books::charging_session(&shared.db, name).await? else {
        return Ok(None);
    };
    let events = stored.events.clone();
    let first = stored.promise.quote.clone();
    let one = replayed(stored)?;
    let paid = matches!(one.session.state(), State::Closed(_)) && one.session.debt() == Money::ZERO;
    let bill = one
        .session
        .bill()
        .filter(|bill| paid && bill.total > Money::ZERO);
    let Some(bill) = bill.cloned() else {
        return Ok(None);
    };
    Ok(Some(Payment {
        credits: books::charging_credits(&shared.db, name).await?,
        one,
        events,
        first,
        bill,
    }))
}

/// Books a correction. Nothing is collected after the end: what was paid only ever becomes less.
async fn book(
    tx: &mut Tx,
    payment: &Payment,
    (total, reason): (Option<Money>, &str),
    now: Timestamp,
) -> anyhow::Result<Corrected> {
    let Payment {
        one,
        events,
        first,
        bill,
        credits,
    } = payment;
    if credits.len() >= books::CORRECTIONS_MAX {
        return Ok(Corrected::TooOften);
    }
    let (stands, tax) = credits
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
            let readings = readings_of(tx, one).await?;
            let register = |r: &Reading| Some((r.interval, import_end(r)?));
            let readings: Vec<_> = readings.iter().filter_map(register).collect();
            rerated(Terms::new(first.clone())?, events, &readings)?
        }
    };
    let Some(credit) = Credit::new(now, reason, (stands, tax), new_total)? else {
        return Ok(Corrected::NotLess(stands));
    };
    books::charging_credit(tx, now, &one.promise, credits.len() as u64, &credit).await?;
    let session = &one.promise.quote.session;
    tracing::info!(session, refund = %credit.refund(), reason, "a session's payment is corrected");
    Ok(Corrected::Booked(credit))
}

/// What a session comes to when every reading that is in the books by now had come in time: its events once more in
/// their order, with the readings that it had not seen before the first event that is not before them. A reading is the
/// register at its interval's end, in Wh.
fn rerated(
    terms: Terms,
    events: &[(Timestamp, Event)],
    readings: &[(Interval, i64)],
) -> anyhow::Result<Money> {
    let read = |(at, event): &(Timestamp, Event)| {
        matches!(event, Event::Started { .. } | Event::Reading { .. }).then_some(*at)
    };
    let seen: BTreeSet<Timestamp> = events.iter().filter_map(read).collect();
    let mut late = readings
        .iter()
        .filter(|(interval, _)| !seen.contains(&interval.end()))
        .peekable();
    let mut session = Session::new(terms);
    // Whether the next reading follows another one than when it was judged.
    let mut follows_late = false;
    for (at, event) in events {
        while let Some(&(interval, register_wh)) = late.next_if(|(i, _)| i.end() <= *at) {
            let end = interval.end();
            if session.readings().is_some_and(|[_, last]| last.0 < end) {
                let full = shows_full(&session, events, register_wh, end);
                session.apply(end, Event::Reading { register_wh, full });
                follows_late = true;
            }
        }
        let event = match *event {
            Event::Reading { register_wh, full } if follows_late => {
                follows_late = false;
                Event::Reading {
                    register_wh,
                    full: full || shows_full(&session, events, register_wh, *at),
                }
            }
            other => other,
        };
        session.apply(*at, event);
    }
    // With what is known now it may not have come to the end that it had, such as its ceiling: then as far as it was read.
    let so_far = session.bill_so_far()?;
    let bill = session.bill().or(so_far.as_ref());
    Ok(bill.map_or(Money::ZERO, |bill| bill.total))
}

/// Whether a reading after the session's last shows a car that asks for no power: by the plan in its events, which may let
/// it wait.
fn shows_full(
    session: &Session,
    events: &[(Timestamp, Event)],
    register_wh: i64,
    end: Timestamp,
) -> bool {
    let Some([first, last]) = session.readings() else {
        return false;
    };
    let middle = last.0.plus_ms(end.ms_since(last.0) / 2);
    let plans = events.iter().filter(|(at, _)| *at <= middle);
    let mut waits = plans.filter_map(|(_, event)| match event {
        Event::PlanPause => Some(true),
        Event::PlanResume => Some(false),
        _ => None,
    });
    let waits = waits.next_back().unwrap_or(false);
    is_full([first.1, last.1], register_wh, waits)
}

/// A session that has ended, with its corrections.
pub(crate) async fn credits(shared: &Shared, name: &str) -> anyhow::Result<Vec<Credit>> {
    match find(shared, name).await? {
        Some(_) => Ok(books::charging_credits(&shared.db, name).await?),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests;
