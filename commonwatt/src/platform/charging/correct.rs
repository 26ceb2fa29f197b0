//! What is corrected of a session that was paid: by the operator's word, and by itself when a reading came late.

use domain::money::Money;
use domain::reading::Reading;
use domain::time::Timestamp;
use runtime::db::Tx;
use settlement::charging::session::{Event, Session, State};
use settlement::charging::split::Credit;
use settlement::charging::terms::Terms;
use settlement::service as books;

use super::{Shared, find, import_end, plan, readings_of, replayed};

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
    let mut tx = shared.db.begin().await?;
    let corrected = book(&mut tx, shared, name, wanted, now).await?;
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
    let mut tx = shared.db.begin().await?;
    books::charging_rates_anew(&mut tx, name).await?;
    let corrected = book(&mut tx, shared, name, (None, CAME_LATE), now).await?;
    tx.commit().await?;
    if matches!(corrected, Corrected::TooOften) {
        tracing::warn!(
            session = name,
            "a reading came late, and it was corrected as often as one can be"
        );
    }
    Ok(())
}

/// Books a correction. Nothing is collected after the end: what was paid only ever becomes less.
async fn book(
    tx: &mut Tx,
    shared: &Shared,
    name: &str,
    (total, reason): (Option<Money>, &str),
    now: Timestamp,
) -> anyhow::Result<Corrected> {
    let Some(stored) = books::charging_session(&shared.db, name).await? else {
        return Ok(Corrected::Nothing);
    };
    let events = stored.events.clone();
    let first = stored.promise.quote.clone();
    let one = replayed(stored)?;
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
            let readings = readings_of(tx, &one).await?;
            rerated(Terms::new(first)?, &events, &readings, |at| {
                plan::waits_at(&one, at)
            })?
        }
    };
    let Some(credit) = Credit::new(now, reason, (stands, tax), new_total)? else {
        return Ok(Corrected::NotLess(stands));
    };
    books::charging_credit(tx, now, &one.promise, before.len() as u64, &credit).await?;
    tracing::info!(session = name, refund = %credit.refund(), reason, "a session's payment is corrected");
    Ok(Corrected::Booked(credit))
}

/// What a session comes to when every reading that is in the books by now had come in time.
fn rerated(
    terms: Terms,
    events: &[(Timestamp, Event)],
    readings: &[Reading],
    waits_at: impl Fn(Timestamp) -> bool,
) -> anyhow::Result<Money> {
    let mut session = Session::new(terms);
    let mut late = readings
        .iter()
        .filter_map(|r| Some((r.interval, import_end(r)?)))
        .peekable();
    for (at, event) in events {
        while let Some((interval, register_wh)) = late.next_if(|(i, _)| i.end() <= *at) {
            let end = interval.end();
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
            let full = known.unwrap_or(still && !waits_at(interval.start()));
            session.apply(end, Event::Reading { register_wh, full });
        }
        if !matches!(event, Event::Reading { .. }) {
            session.apply(*at, *event);
        }
    }
    // With what is known now it may not have come to the end that it had, such as its ceiling: then as far as it was read.
    let so_far = session.bill_so_far()?;
    let bill = session.bill().or(so_far.as_ref());
    Ok(bill.map_or(Money::ZERO, |bill| bill.total))
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
    use domain::energy::Energy;
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
        assert_eq!(
            rerated(terms, &events, &[], |_| false).unwrap(),
            Money::ZERO
        );
    }
}
