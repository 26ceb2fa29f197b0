//! A station's month out of the books: its sessions, corrections and settlement lines, each held against the postings
//! that it made in the ledger.

use std::collections::BTreeMap;

use domain::ids::ParticipantId;
use domain::money::{Money, MoneyError};
use domain::posting::{Posting, Purpose};
use domain::receipt::Line;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Db;

use super::ServiceError;
use super::charging::{SESSIONS_MAX, payment, session_of};
use super::error::{corrupt, decoded, number};
use super::money::is_posted;
use super::receipts::credit_postings;
use super::station::{carried, carry_postings, net_of, net_where};
use crate::charging::profit::{Cost, Month, MonthError};
use crate::charging::promise::Promise;
use crate::charging::split::{Credit, PassThrough, split};

/// A run is made at most 60 days after its interval; forty more for a platform that stood still.
const LATE_RUN_S: i64 = 100 * 86_400;
/// Most corrections of a station that are read.
const CREDITS_MAX: usize = 10_000;

impl From<MonthError> for ServiceError {
    fn from(error: MonthError) -> Self {
        match error {
            MonthError::Money(error) => ServiceError::Money(error),
            MonthError::Parts { .. } => ServiceError::Unequal(error.to_string()),
        }
    }
}

/// What was booked for a station in `[from, to)`, whoever has it today. Of lines from before it was kept whose they are, `today`
/// says it: the participant that the station is in the market, where it buys its energy itself, and its host.
///
/// # Errors
/// The database failed, or a part of the month is not in the ledger as it should be.
pub async fn station_month(
    db: &Db,
    station: &str,
    today: Option<(Option<&ParticipantId>, &ParticipantId)>,
    span: (Timestamp, Timestamp),
) -> Result<Month, ServiceError> {
    let mut month = Month::default();
    for (sql, paid) in [(CAPTURED_SQL, true), (REFUSED_SQL, false)] {
        sessions(db, (sql, paid), station, span, &mut month).await?;
    }
    credits(db, station, span, &mut month).await?;
    lines(db, (station, today), span, &mut month).await?;
    month.check()?;
    Ok(month)
}

/// Refuses what is not in the ledger.
async fn check(db: &Db, what: &str, postings: &[Posting]) -> Result<(), ServiceError> {
    for posting in postings {
        if !is_posted(&mut &*db, posting).await? {
            return Err(ServiceError::Unequal(format!(
                "{what} comes to {} from {} to {}, and the ledger does not have that",
                Money::from_nano(posting.amount),
                posting.debit,
                posting.credit
            )));
        }
    }
    Ok(())
}

/// Session, promise, when it was paid, and what was passed through for energy and network.
type SaleRow = (String, String, i64, Option<i64>, Option<i64>);

/// The sessions whose last event is of this kind; the literal lets the database use the events' index.
macro_rules! sessions_sql {
    ($event:literal) => {
        concat!(
            "SELECT s.session, s.promise, e.at_ms, c.energy, c.network_fee
             FROM settle_charging_events e JOIN settle_charging s ON s.session = e.session
             LEFT JOIN settle_charging_costs c ON c.session = e.session
             WHERE e.event = '",
            $event,
            "' AND e.at_ms < $1 AND s.station = $2
             AND (e.at_ms > $3 OR (e.at_ms = $3 AND s.session > $4))
             ORDER BY e.at_ms, s.session LIMIT $5"
        )
    };
}

const CAPTURED_SQL: &str = sessions_sql!("\"captured\"");
const REFUSED_SQL: &str = sessions_sql!("\"capture_refused\"");

/// The sessions whose payment went through, or was refused.
async fn sessions(
    db: &Db,
    (sql, paid): (&'static str, bool),
    station: &str,
    (from, to): (Timestamp, Timestamp),
    month: &mut Month,
) -> Result<(), ServiceError> {
    let mut after = (from.unix_ms(), String::new());
    loop {
        let (at_ms, name) = (after.0, after.1.as_str());
        let values = args![to.unix_ms(), station, at_ms, name, SESSIONS_MAX];
        let rows: Vec<SaleRow> = db.fetch_all(sql, values).await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = (last.2, last.0.clone());
        for (session, promise, _, energy, network_fee) in rows {
            if !paid {
                let stored = session_of(db, &session, &promise).await?;
                let lived = stored.session().map_err(|e| corrupt(&e.to_string()))?;
                month.unpaid(lived.debt())?;
                continue;
            }
            let cost = energy.zip(network_fee).map(|(energy, fee)| Cost {
                energy: Money::from_nano(energy),
                network_fee: Money::from_nano(fee),
            });
            sale(db, (&session, &promise), cost, month).await?;
        }
    }
}

async fn sale(
    db: &Db,
    (session, promise): (&str, &str),
    cost: Option<Cost>,
    month: &mut Month,
) -> Result<(), ServiceError> {
    let stored = session_of(db, session, promise).await?;
    let lived = stored.session().map_err(|e| corrupt(&e.to_string()))?;
    let was_paid = lived.bill().is_some_and(|bill| bill.total > Money::ZERO);
    let cost = match cost {
        Some(cost) => cost,
        // Nothing was paid where nothing was split.
        None if !was_paid => return Ok(()),
        None if stored.promise.buys => Cost::default(),
        None => {
            return Err(ServiceError::Refused(format!(
                "session {session} was paid before its energy's cost was kept: ask for a later month"
            )));
        }
    };
    let bill = lived
        .bill()
        .ok_or_else(|| corrupt(&format!("session {session} was paid and has no bill")))?;
    let pass_through = PassThrough {
        energy: cost.energy,
        network_fee: cost.network_fee,
        tax: bill.tax,
    };
    let owners = &stored.promise.owners;
    let parts = split(bill.total, pass_through, owners, session);
    let parts = parts.map_err(|e| ServiceError::Refused(e.to_string()))?;
    check(
        db,
        &format!("session {session}"),
        &payment(&stored.promise, &parts)?,
    )
    .await?;
    month.sale(bill, lived.energy(), cost, &parts)?;
    Ok(())
}

/// The corrections that were made.
async fn credits(
    db: &Db,
    station: &str,
    (from, to): (Timestamp, Timestamp),
    month: &mut Month,
) -> Result<(), ServiceError> {
    let most = i64::try_from(CREDITS_MAX).unwrap_or(i64::MAX);
    let rows: Vec<(String, i64, String)> = db
        .fetch_all(
            "SELECT s.promise, c.seq, c.credit FROM settle_charging_credits c
             JOIN settle_charging s ON s.session = c.session
             WHERE s.station = $1 ORDER BY c.session, c.seq LIMIT $2",
            args![station, most.saturating_add(1)],
        )
        .await?;
    if rows.len() > CREDITS_MAX {
        return Err(ServiceError::Refused(format!(
            "{station} has more than {CREDITS_MAX} corrections: its months are not summed any more"
        )));
    }
    for (promise, seq, credit) in rows {
        let credit: Credit = serde_json::from_str(&credit).map_err(|e| corrupt(&e.to_string()))?;
        if credit.at_ms < from.unix_ms() || credit.at_ms >= to.unix_ms() {
            continue;
        }
        let promise = Promise::from_text(&promise).map_err(|e| corrupt(&e.to_string()))?;
        let seq = number(seq, "a correction's number")?;
        let (parts, postings) = credit_postings(&promise, seq, &credit)?;
        let what = format!("correction {seq} of session {}", promise.quote.session);
        check(db, &what, &postings).await?;
        month.credit(&credit, &parts)?;
    }
    Ok(())
}

/// Start, run, session, bearer and the line itself.
type LineRow = (i64, i64, Option<String>, Option<String>, Vec<u8>);

/// What the settlement runs came to for a station that buys by itself.
async fn lines(
    db: &Db,
    (station, today): (&str, Option<(Option<&ParticipantId>, &ParticipantId)>),
    (from, to): (Timestamp, Timestamp),
    month: &mut Month,
) -> Result<(), ServiceError> {
    let buyer = today.and_then(|(buyer, _)| buyer);
    let buyer = buyer.map_or("", ParticipantId::as_str);
    let mut owners = BTreeMap::new();
    let mut after = (from.plus_s(-LATE_RUN_S).unix_s(), -1_i64);
    loop {
        let rows: Vec<LineRow> = db
            .fetch_all(
                "SELECT s.start_s, s.run, s.session, s.bearer, l.content FROM settle_station_lines s
                 JOIN settle_runs r ON r.start_s = s.start_s AND r.run = s.run
                 JOIN settle_lines l ON l.start_s = s.start_s AND l.participant = s.station AND l.run = s.run
                 WHERE (s.point = $1 OR (s.point IS NULL AND s.station = $8)) AND (s.start_s > $2 OR (s.start_s = $2 AND s.run > $3))
                 AND s.start_s < $4 AND r.at_ms >= $5 AND r.at_ms < $6
                 ORDER BY s.start_s, s.run LIMIT $7",
                args![
                    station,
                    after.0,
                    after.1,
                    to.unix_s(),
                    from.unix_ms(),
                    to.unix_ms(),
                    SESSIONS_MAX,
                    buyer
                ],
            )
            .await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = (last.0, last.1);
        for (_, _, session, bearer, content) in rows {
            let line: Line = decoded(&content, "a line")?;
            let net = net_of(&line)?;
            let parts = match &session {
                None => {
                    let host = today.map(|(_, host)| host.to_string());
                    let bearer = bearer.or(host).ok_or_else(|| {
                        ServiceError::Refused(format!(
                            "who bore the energy of {station} was not kept then, and site.toml has it no more: ask for a later month"
                        ))
                    })?;
                    vec![(bearer, net)]
                }
                Some(session) => {
                    if !owners.contains_key(session) {
                        let stored = super::charging_session(db, session).await?;
                        let stored = stored.ok_or_else(|| corrupt("a line of no session"))?;
                        owners.insert(session.clone(), stored.promise.owners);
                    }
                    carried(&line, net, &owners[session])?
                }
            };
            let what = format!("the energy of {station} in {}", line.interval.start());
            check(db, &what, &carry_postings(&line, &parts)?).await?;
            month.carried(session.is_some(), cost(&line, net)?, &parts)?;
        }
    }
}

/// What a line cost, and how much of it the network's fee.
fn cost(line: &Line, net: Money) -> Result<Cost, MoneyError> {
    let fee = net_where(line, |p| p.purpose == Purpose::NetworkFee)?;
    let negative = |money: Money| money.nano().checked_neg().ok_or(MoneyError::Overflow);
    let energy = net.checked_sub(fee).ok_or(MoneyError::Overflow)?;
    Ok(Cost {
        energy: Money::from_nano(negative(energy)?),
        network_fee: Money::from_nano(negative(fee)?),
    })
}
