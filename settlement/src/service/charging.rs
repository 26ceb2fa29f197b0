//! Charging sessions in the books: promises and events as they came, holds and payments as postings.
//!
//! A household pays from its available tokens. A card's hold issues tokens from the bridge to an account of the session,
//! and what is not captured goes back there. What a session brings goes to the tax, to the host for the energy
//! that its meter paid for, and to the owners; where an owner carries a loss, it is on the owner's statement.

use domain::ids::{ParticipantId, PointId, PostingId};
use domain::money::{Money, MoneyError};
use domain::posting::{Account, Chart, Posting, Purpose};
use domain::reading::Reading;
use domain::signed::Signed;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Source, Tx};

use super::error::{corrupt, stored};
use super::money::{balance, post, token_posting};
use super::receipts::charging_changed;
use super::{ServiceError, station};
use crate::charging::promise::{Payer, Promise};
use crate::charging::session::{Event, SESSION_MAX_S, START_WITHIN_S, Session};
use crate::charging::split::Split;
use crate::charging::terms::{Terms, TermsError};
use crate::store::LOCK;

/// The owner's name that stands for the community as a whole.
pub const COMMUNITY_OWNER: &str = "community";
/// Readings of a session that are read at a time.
const READINGS_MAX: i64 = 512;
/// A session ends at most so long after its offer: an hour until the car is plugged in, two days of charging, and some
/// room for the offer.
const OFFERED_BEFORE_S: i64 = START_WITHIN_S + SESSION_MAX_S + 86_400;
/// Sessions to be rated anew that are read at a time.
const LATE_MAX: i64 = 256;
/// Most sessions in a page.
pub const SESSIONS_MAX: i64 = 1_000;

/// A session as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSession {
    /// What it began with.
    pub promise: Promise,
    /// What happened, in order.
    pub events: Vec<(Timestamp, Event)>,
}

impl StoredSession {
    /// The session as its events have made it.
    ///
    /// # Errors
    /// What was promised is no promise.
    pub fn session(&self) -> Result<Session, TermsError> {
        let mut session = Session::new(Terms::new(self.promise.quote.clone())?);
        for (at, event) in &self.events {
            session.apply(*at, *event);
        }
        Ok(session)
    }
}

/// Keeps a promise that the driver has taken.
///
/// # Errors
/// The database failed, or there is a session of this name.
pub async fn charging_open(tx: &mut Tx, promise: &Promise) -> Result<(), ServiceError> {
    let text = promise.to_text().map_err(|e| corrupt(&e.to_string()))?;
    let quote = &promise.quote;
    let payer = match &promise.payer {
        Payer::Home(home) => Some(home.clone()),
        Payer::Card | Payer::RefusingCard => None,
    };
    tx.execute(
        "INSERT INTO settle_charging (session, station, offered_ms, promise, payer)
         VALUES ($1, $2, $3, $4, $5)",
        args![
            &quote.session,
            &quote.station,
            quote.offered_at.unix_ms(),
            text,
            payer
        ],
    )
    .await?;
    let ground = (!promise.buys).then(|| promise.host.as_str());
    let owners = promise.owners.iter().map(|owner| owner.name.as_str());
    for party in owners.chain(ground) {
        station::keep_party(tx, &quote.station, party).await?;
    }
    Ok(())
}

pub(super) fn event_text(event: Event) -> Result<String, ServiceError> {
    serde_json::to_string(&event).map_err(|e| corrupt(&e.to_string()))
}

/// Keeps an event, the `seq`th of its session.
///
/// # Errors
/// The database failed, or the session has this event already.
pub async fn charging_event(
    tx: &mut Tx,
    session: &str,
    seq: u64,
    at: Timestamp,
    event: Event,
) -> Result<(), ServiceError> {
    let text = event_text(event)?;
    tx.execute(
        "INSERT INTO settle_charging_events (session, seq, at_ms, event) VALUES ($1, $2, $3, $4)",
        args![session, stored(seq)?, at.unix_ms(), text],
    )
    .await?;
    Ok(())
}

/// The sessions that may not have ended, however old, by name: a page of at most [`SESSIONS_MAX`] behind the name
/// `after`. An empty page is the end. A session that is damaged is told in its place.
///
/// # Errors
/// The database failed.
pub async fn charging_unfinished(
    db: &Db,
    after: &str,
) -> Result<Vec<(String, Result<StoredSession, ServiceError>)>, ServiceError> {
    // These three end a session for good; the few that ended otherwise are found out when they are replayed.
    let [captured, refused, no_hold] =
        [Event::Captured, Event::CaptureRefused, Event::HoldRefused].map(event_text);
    let rows: Vec<(String, String)> = db
        .fetch_all(
            "SELECT session, promise FROM settle_charging s WHERE session > $1 AND NOT EXISTS
             (SELECT 1 FROM settle_charging_events e WHERE e.session = s.session
              AND e.event IN ($2, $3, $4))
             ORDER BY session LIMIT $5",
            args![after, captured?, refused?, no_hold?, SESSIONS_MAX],
        )
        .await?;
    let mut sessions = Vec::with_capacity(rows.len());
    for (session, promise) in rows {
        let read = match session_of(db, &session, &promise).await {
            Err(ServiceError::Db(error)) => return Err(error.into()),
            read => read,
        };
        sessions.push((session, read));
    }
    Ok(sessions)
}

/// One session; none where there is none of this name.
///
/// # Errors
/// The database failed, or a row is damaged.
pub async fn charging_session(
    db: &Db,
    session: &str,
) -> Result<Option<StoredSession>, ServiceError> {
    let row: Option<(String,)> = db
        .fetch_optional(
            "SELECT promise FROM settle_charging WHERE session = $1",
            args![session],
        )
        .await?;
    match row {
        Some((promise,)) => Ok(Some(session_of(db, session, &promise).await?)),
        None => Ok(None),
    }
}

/// Sessions that were offered in `[from, to)`, newest first, at most `limit`: those that a household pays, or all.
/// With `after`, those behind that one.
///
/// # Errors
/// The database failed, or a row is damaged.
pub async fn charging_list(
    db: &Db,
    payer: Option<&ParticipantId>,
    (from, to): (Timestamp, Timestamp),
    after: Option<&(Timestamp, String)>,
    limit: u32,
) -> Result<Vec<StoredSession>, ServiceError> {
    let (before_ms, behind) = after.map_or((to.unix_ms(), ""), |(at, name)| (at.unix_ms(), name));
    let payer = payer.map_or("", ParticipantId::as_str);
    let rows: Vec<(String, String)> = db
        .fetch_all(
            "SELECT session, promise FROM settle_charging
             WHERE ($1 = '' OR payer = $1) AND offered_ms >= $2
             AND (offered_ms < $3 OR (offered_ms = $3 AND session < $4))
             ORDER BY offered_ms DESC, session DESC LIMIT $5",
            args![payer, from.unix_ms(), before_ms, behind, limit],
        )
        .await?;
    let mut sessions = Vec::with_capacity(rows.len());
    for (session, promise) in rows {
        sessions.push(session_of(db, &session, &promise).await?);
    }
    Ok(sessions)
}

/// The session at a station that was offered last before `before`; none where there is none.
///
/// # Errors
/// The database failed, or a row is damaged.
pub async fn charging_newest(
    db: &Db,
    station: &str,
    before: Timestamp,
) -> Result<Option<StoredSession>, ServiceError> {
    let row: Option<(String, String)> = db
        .fetch_optional(
            "SELECT session, promise FROM settle_charging s WHERE station = $1 AND offered_ms < $2
             AND NOT EXISTS (SELECT 1 FROM settle_charging_events e
                 WHERE e.session = s.session AND e.event = $3)
             ORDER BY offered_ms DESC, session DESC LIMIT 1",
            args![station, before.unix_ms(), event_text(Event::HoldRefused)?],
        )
        .await?;
    match row {
        Some((session, promise)) => Ok(Some(session_of(db, &session, &promise).await?)),
        None => Ok(None),
    }
}

pub(super) async fn session_of(
    db: &Db,
    session: &str,
    promise: &str,
) -> Result<StoredSession, ServiceError> {
    let rows: Vec<(i64, String)> = db
        .fetch_all(
            "SELECT at_ms, event FROM settle_charging_events WHERE session = $1 ORDER BY seq",
            args![session],
        )
        .await?;
    let event = |(at_ms, text): (i64, String)| {
        let event = serde_json::from_str(&text).map_err(|e| corrupt(&e.to_string()))?;
        Ok::<_, ServiceError>((Timestamp::from_unix_ms(at_ms), event))
    };
    let mut promise = Promise::from_text(promise).map_err(|e| corrupt(&e.to_string()))?;
    if let (Some(plan), _) = charging_changed(db, session).await? {
        promise.plan = plan;
    }
    Ok(StoredSession {
        promise,
        events: rows.into_iter().map(event).collect::<Result<_, _>>()?,
    })
}

/// The accepted readings of a point whose intervals start in `[from, to)`, in order, as they were signed. They are read
/// in pages, so a session may have any number of them.
///
/// # Errors
/// The database failed, or a row is damaged.
pub async fn charging_readings(
    source: &mut impl Source,
    point: &PointId,
    (from, to): (Timestamp, Timestamp),
) -> Result<Vec<(Signed<Reading>, Reading)>, ServiceError> {
    let (mut from_s, mut found) = (from.unix_s(), Vec::new());
    loop {
        let rows: Vec<(i64, Vec<u8>)> = source
            .all(
                "SELECT start_s, bytes FROM settle_readings
                 WHERE point = $1 AND start_s >= $2 AND start_s < $3 AND reason IS NULL
                 ORDER BY start_s LIMIT $4",
                args![point.as_str(), from_s, to.unix_s(), READINGS_MAX],
            )
            .await?;
        let Some((last_s, _)) = rows.last() else {
            return Ok(found);
        };
        from_s = last_s + 1;
        for (_, bytes) in rows {
            let signed = Signed::<Reading>::from_bytes(bytes);
            let reading = signed.stored().map_err(|e| corrupt(&e.to_string()))?;
            found.push((signed, reading));
        }
    }
}

/// Notes the sessions of a station that went on after the first of these ends of intervals: their readings have just come.
pub(super) async fn charging_came_late(
    tx: &mut Tx,
    point: &PointId,
    (first, last): (Timestamp, Timestamp),
) -> Result<(), ServiceError> {
    tx.execute(
        "INSERT INTO settle_charging_late (session) SELECT s.session FROM settle_charging s
         WHERE s.station = $1 AND s.offered_ms >= $2 AND s.offered_ms < $3
         AND EXISTS (SELECT 1 FROM settle_charging_events e
             WHERE e.session = s.session AND e.at_ms > $4)
         ON CONFLICT DO NOTHING",
        args![
            point.as_str(),
            first.plus_s(-OFFERED_BEFORE_S).unix_ms(),
            last.unix_ms(),
            first.unix_ms()
        ],
    )
    .await?;
    Ok(())
}

/// Keeps everybody else from writing until the transaction ends.
///
/// # Errors
/// The database failed.
pub async fn charging_alone(tx: &mut Tx) -> Result<(), ServiceError> {
    Ok(tx.exclusive(LOCK).await?)
}

/// Sessions of which a reading came late and that were not rated anew since, by name, those behind `after`.
///
/// # Errors
/// The database failed.
pub async fn charging_late(db: &Db, after: &str) -> Result<Vec<String>, ServiceError> {
    let rows: Vec<(String,)> = db
        .fetch_all(
            "SELECT session FROM settle_charging_late WHERE session > $1 ORDER BY session LIMIT $2",
            args![after, LATE_MAX],
        )
        .await?;
    Ok(rows.into_iter().map(|(session,)| session).collect())
}

/// Takes a session off those, before its readings are read in the same transaction.
///
/// # Errors
/// The database failed.
pub async fn charging_rates_anew(tx: &mut Tx, session: &str) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    let sql = "DELETE FROM settle_charging_late WHERE session = $1";
    tx.execute(sql, args![session]).await?;
    Ok(())
}

/// The account on which a session's money is held, and the one it comes from.
pub(super) fn purse(promise: &Promise) -> Result<(Account, Account), ServiceError> {
    Ok(match &promise.payer {
        Payer::Home(home) => {
            let home = ParticipantId::new(home)?;
            (
                Account::of(Chart::Held, &home),
                Account::of(Chart::Available, &home),
            )
        }
        Payer::Card | Payer::RefusingCard => {
            let card = ParticipantId::new(format!("card-{}", promise.quote.session))?;
            (
                Account::of(Chart::Held, &card),
                Account::common(Chart::Bridge),
            )
        }
    })
}

/// The account on which an owner's share is.
pub(super) fn account_of(owner: &str) -> Result<Account, ServiceError> {
    Ok(match owner {
        COMMUNITY_OWNER => Account::common(Chart::Community),
        name => Account::of(Chart::Statement, &ParticipantId::new(name)?),
    })
}

/// A posting of a session; `leg` is its name within it, so that the same step has the same id however often it
/// is taken.
fn posting(
    promise: &Promise,
    purpose: Purpose,
    accounts: (Account, Account),
    amount: i64,
    leg: &str,
) -> Posting {
    let parts: [&[u8]; 2] = [promise.quote.session.as_bytes(), leg.as_bytes()];
    token_posting(promise.quote.offered_at, purpose, accounts, amount, &parts)
}

/// The account on which a session's money is held, and the names that postings to it and from it can have until the session
/// has ended.
pub(super) async fn session_holds(
    db: &Db,
    promise: &Promise,
) -> Result<(Account, Vec<PostingId>), ServiceError> {
    let (held, _) = purse(promise)?;
    let session = promise.quote.session.as_str();
    let accounts = || (held.clone(), held.clone());
    let named = |purpose, leg: &str| posting(promise, purpose, accounts(), 0, leg).id;
    let numbered = |purpose, leg: &str, seq: u64| {
        let parts: [&[u8]; 3] = [session.as_bytes(), leg.as_bytes(), &seq.to_be_bytes()];
        token_posting(promise.quote.offered_at, purpose, accounts(), 0, &parts).id
    };
    let (_, changes) = charging_changed(db, session).await?;
    let (_, advances) = station::charging_advanced(&mut &*db, session).await?;
    let whole = [
        (Purpose::Hold, "hold"),
        (Purpose::Charging, "given back"),
        (Purpose::Charging, "paid"),
        (Purpose::Release, "release"),
    ];
    let whole = whole.map(|(purpose, leg)| named(purpose, leg));
    let changes = (0..changes).map(|seq| numbered(Purpose::Hold, "hold", seq));
    let advances = (0..advances).map(|seq| numbered(Purpose::Charging, "advance", seq));
    let ids = whole.into_iter().chain(changes).chain(advances).collect();
    Ok((held, ids))
}

/// Holds the ceiling; `false` where the payer does not have it.
///
/// # Errors
/// The database failed.
pub async fn charging_hold(
    tx: &mut Tx,
    now: Timestamp,
    promise: &Promise,
    amount: Money,
) -> Result<bool, ServiceError> {
    tx.exclusive(LOCK).await?;
    if let Payer::Home(home) = &promise.payer {
        let home = ParticipantId::new(home)?;
        if balance(tx, Chart::Available, &home).await? < amount.nano() {
            return Ok(false);
        }
    }
    if amount > Money::ZERO {
        let (held, from) = purse(promise)?;
        let hold = posting(promise, Purpose::Hold, (from, held), amount.nano(), "hold");
        post(tx, now, &[hold]).await?;
    }
    Ok(true)
}

/// Pays a session out of its hold and gives the rest back, in one step. Without a split nothing is paid.
///
/// # Errors
/// The database failed, or the session was settled otherwise before.
pub async fn charging_settle(
    tx: &mut Tx,
    now: Timestamp,
    promise: &Promise,
    split: Option<&Split>,
    release: Money,
) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    let (held, back) = purse(promise)?;
    let mut postings: Vec<Posting> = station::given_back(tx, promise)
        .await?
        .into_iter()
        .collect();
    if let Some(split) = split {
        let cost = &split.pass_through;
        tx.execute(
            "INSERT INTO settle_charging_costs (session, energy, network_fee) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
            args![
                promise.quote.session.as_str(),
                cost.energy.nano(),
                cost.network_fee.nano()
            ],
        )
        .await?;
        postings.extend(payment(promise, split)?);
    }
    if release > Money::ZERO {
        let accounts = (held, back);
        let leg = "release";
        postings.push(posting(
            promise,
            Purpose::Release,
            accounts,
            release.nano(),
            leg,
        ));
    }
    post(tx, now, &postings).await
}

/// The postings of a payment. Everything that was paid first goes to the host; from there tax and owners are served, so
/// that what is missing shows where it belongs.
pub(super) fn payment(promise: &Promise, split: &Split) -> Result<Vec<Posting>, ServiceError> {
    let (held, _) = purse(promise)?;
    let host = Account::of(Chart::Statement, &promise.host);
    let mut legs = vec![
        ((held, host.clone()), split.paid.nano(), "paid".to_owned()),
        (
            (host.clone(), Account::common(Chart::Tax)),
            split.pass_through.tax.nano(),
            "tax".to_owned(),
        ),
    ];
    for (name, amount) in &split.owners {
        let account = account_of(name)?;
        // The host's share and the energy stay where they are.
        if account == host {
            continue;
        }
        let size = amount.nano().checked_abs().ok_or(MoneyError::Overflow)?;
        let accounts = match *amount < Money::ZERO {
            false => (host.clone(), account),
            true => (account, host.clone()),
        };
        legs.push((accounts, size, format!("owner {name}")));
    }
    let legs = legs.into_iter().filter(|(_, amount, _)| *amount > 0);
    let posting = |(accounts, amount, leg): (_, _, String)| {
        posting(promise, Purpose::Charging, accounts, amount, &leg)
    };
    Ok(legs.map(posting).collect())
}
