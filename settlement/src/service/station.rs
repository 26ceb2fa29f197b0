//! A station that buys its own energy: tokens from its driver's hold for its orders, and what its energy came to,
//! carried to whoever has promised the price.
//!
//! The station is a participant with a meter of its own, settled like any other. What an order needs is advanced from
//! the hold of the session that runs; the payment gives it back. What a settlement run posts for the station in an
//! interval (trades, deviation, and whatever a later run corrects) is carried to the owners of the session that the
//! interval belongs to, by their shares, or to the host where no session ran. So the station itself ends with nothing.

use std::collections::{BTreeMap, BTreeSet};

use domain::ids::ParticipantId;
use domain::money::{Money, MoneyError};
use domain::posting::{Account, Asset, Chart, Posting, Purpose, Run};
use domain::receipt::Line;
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::{Db, Source, Tx};

use super::ServiceError;
use super::charging::{account_of, purse};
use super::error::{decoded, stored};
use super::money::{balance, post, token_posting};
use crate::charging::promise::Promise;
use crate::charging::split::{Owner, PassThrough, split};
use crate::store::LOCK;

/// What was advanced to a station out of a session's hold, and in how many steps.
///
/// # Errors
/// The database failed.
pub async fn charging_advanced(
    source: &mut impl Source,
    session: &str,
) -> Result<(Money, u64), ServiceError> {
    let row: Option<(i64, i64)> = source
        .optional(
            // The sum of 64-bit numbers is no 64-bit number in PostgreSQL.
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT), COUNT(*)
             FROM settle_charging_advances WHERE session = $1",
            args![session],
        )
        .await?;
    let (sum, count) = row.unwrap_or_default();
    Ok((Money::from_nano(sum), u64::try_from(count).unwrap_or(0)))
}

/// Gives a station's account as much of a session's hold as an order of `needs` wants beyond what is there. `false`
/// where the hold has not so much any more; then nothing is moved.
///
/// # Errors
/// The database failed.
pub async fn charging_advance(
    tx: &mut Tx,
    now: Timestamp,
    promise: &Promise,
    needs: Money,
) -> Result<bool, ServiceError> {
    tx.exclusive(LOCK).await?;
    let there = balance(tx, Chart::Available, &promise.host).await?;
    let missing = needs.nano().saturating_sub(there);
    if missing <= 0 {
        return Ok(true);
    }
    let session = promise.quote.session.as_str();
    let (advanced, steps) = charging_advanced(tx, session).await?;
    let left = promise.quote.ceiling.checked_sub(advanced);
    if left.is_none_or(|left| left.nano() < missing) {
        return Ok(false);
    }
    tx.execute(
        "INSERT INTO settle_charging_advances (session, seq, at_ms, amount) VALUES ($1, $2, $3, $4)",
        args![session, stored(steps)?, now.unix_ms(), missing],
    )
    .await?;
    let accounts = (
        purse(promise)?.0,
        Account::of(Chart::Available, &promise.host),
    );
    let parts: [&[u8]; 3] = [session.as_bytes(), b"advance", &steps.to_be_bytes()];
    let offered_at = promise.quote.offered_at;
    let posting = token_posting(offered_at, Purpose::Charging, accounts, missing, &parts);
    post(tx, now, &[posting]).await?;
    Ok(true)
}

/// What a session's hold still has for the station's orders.
///
/// # Errors
/// The database failed.
pub async fn charging_to_advance(tx: &mut Tx, promise: &Promise) -> Result<Money, ServiceError> {
    let (advanced, _) = charging_advanced(tx, &promise.quote.session).await?;
    let there = balance(tx, Chart::Available, &promise.host).await?;
    let left = promise.quote.ceiling.nano().saturating_sub(advanced.nano());
    Ok(Money::from_nano(left.saturating_add(there)))
}

/// The posting that gives an advance back to the hold it came from; from the statement, so that it is there whatever the
/// orders have cost.
pub(super) async fn given_back(
    tx: &mut Tx,
    promise: &Promise,
) -> Result<Option<Posting>, ServiceError> {
    let session = promise.quote.session.as_str();
    let (advanced, _) = charging_advanced(tx, session).await?;
    if advanced <= Money::ZERO {
        return Ok(None);
    }
    let accounts = (
        Account::of(Chart::Statement, &promise.host),
        purse(promise)?.0,
    );
    let parts: [&[u8]; 2] = [session.as_bytes(), b"given back"];
    let offered_at = promise.quote.offered_at;
    let posting = token_posting(
        offered_at,
        Purpose::Charging,
        accounts,
        advanced.nano(),
        &parts,
    );
    Ok(Some(posting))
}

/// Moves what a station has to spend onto its statement: nobody charges there, so no order needs it.
///
/// # Errors
/// The database failed.
pub async fn station_sweep(
    tx: &mut Tx,
    now: Timestamp,
    station: &ParticipantId,
) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    let row: Option<(i64, i64)> = tx
        .fetch_optional(
            "SELECT credits, debits FROM settle_balances WHERE asset = $1 AND chart = $2 AND owner = $3",
            args![
                i64::from(Asset::Token.code()),
                i64::from(Chart::Available.code()),
                station.as_str()
            ],
        )
        .await?;
    let Some((credits, debits)) = row.filter(|(credits, debits)| credits > debits) else {
        return Ok(());
    };
    let accounts = (
        Account::of(Chart::Available, station),
        Account::of(Chart::Statement, station),
    );
    // Credits only grow: each sweep has its own name, the same one again has the same.
    let parts: [&[u8]; 3] = [
        station.as_str().as_bytes(),
        b"sweep",
        &credits.to_be_bytes(),
    ];
    let start = Timestamp::EPOCH;
    let posting = token_posting(start, Purpose::Charging, accounts, credits - debits, &parts);
    post(tx, now, &[posting]).await
}

/// A station's line of an interval and run; none where nothing changed in it.
///
/// # Errors
/// The database failed, or the line is damaged.
pub async fn station_line(
    source: &mut impl Source,
    station: &ParticipantId,
    interval: Interval,
    run: Run,
) -> Result<Option<Line>, ServiceError> {
    let row: Option<(Vec<u8>,)> = source
        .optional(
            "SELECT content FROM settle_lines WHERE start_s = $1 AND participant = $2 AND run = $3",
            args![interval.start_s(), station.as_str(), i64::from(run.code())],
        )
        .await?;
    row.map(|(content,)| decoded(&content, "a line"))
        .transpose()
}

/// What a run's postings come to for their participant, in tokens: above zero it received.
///
/// # Errors
/// A sum that does not fit.
pub fn net_of(line: &Line) -> Result<Money, MoneyError> {
    net_where(line, |_| true)
}

/// The same of some of its postings.
pub(super) fn net_where(
    line: &Line,
    counts: impl Fn(&Posting) -> bool,
) -> Result<Money, MoneyError> {
    let mut net = 0_i64;
    let postings = line.postings.iter();
    for posting in postings.filter(|p| p.asset == Asset::Token && counts(p)) {
        let own = |account: &Account| account.owner() == line.participant.as_str();
        if own(&posting.credit) {
            net = net
                .checked_add(posting.amount)
                .ok_or(MoneyError::Overflow)?;
        }
        if own(&posting.debit) {
            net = net
                .checked_sub(posting.amount)
                .ok_or(MoneyError::Overflow)?;
        }
    }
    Ok(Money::from_nano(net))
}

/// Keeps who has a part in a station.
pub(super) async fn keep_party(
    tx: &mut Tx,
    station: &str,
    party: &str,
) -> Result<(), ServiceError> {
    tx.execute(
        "INSERT INTO settle_station_parties (station, party) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        args![station, party],
    )
    .await?;
    Ok(())
}

/// Every station that the books know by its point, with who ever had a part in it.
///
/// # Errors
/// The database failed.
pub async fn station_parties(db: &Db) -> Result<BTreeMap<String, BTreeSet<String>>, ServiceError> {
    let sql = "SELECT station, party FROM settle_station_parties";
    let rows: Vec<(String, String)> = db.fetch_all(sql, args![]).await?;
    let mut parties: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (station, party) in rows {
        parties.entry(station).or_default().insert(party);
    }
    Ok(parties)
}

/// To whom a station's first line of an interval was carried. Later runs go there too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    /// The station, as a participant.
    pub station: ParticipantId,
    /// The session whose owners bear it.
    pub session: Option<String>,
    /// Who bears it where no session ran; none where an older program has not kept that.
    pub bearer: Option<ParticipantId>,
}

/// Which stations' lines of an interval were carried.
///
/// # Errors
/// The database failed, or a row is damaged.
pub async fn stations_carried(
    tx: &mut Tx,
    interval: Interval,
) -> Result<Vec<Carried>, ServiceError> {
    let rows: Vec<(String, Option<String>, Option<String>)> = tx
        .fetch_all(
            "SELECT station, session, bearer FROM settle_station_lines WHERE start_s = $1
             ORDER BY station, run",
            args![interval.start_s()],
        )
        .await?;
    let mut carried: Vec<Carried> = Vec::new();
    for (station, session, bearer) in rows {
        if carried
            .last()
            .is_some_and(|c| c.station.as_str() == station)
        {
            continue;
        }
        carried.push(Carried {
            station: ParticipantId::new(station)?,
            session,
            bearer: bearer.map(ParticipantId::new).transpose()?,
        });
    }
    Ok(carried)
}

/// Whose affair a station's interval is.
#[derive(Clone, Copy, Debug)]
pub enum Carrier<'a> {
    /// A session's, and so its owners'.
    Session(&'a str, &'a [Owner]),
    /// Nobody charged by a session: the host's.
    Host(&'a ParticipantId),
}

/// Carries what a run posted for a station to whoever has to bear it, or has a right to it.
///
/// # Errors
/// The database failed, or this line was carried before.
pub async fn station_carry(
    tx: &mut Tx,
    now: Timestamp,
    line: &Line,
    carrier: Carrier<'_>,
) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    let net = net_of(line)?;
    let point = line.delivery.point.as_str();
    let (session, bearer, parts) = match carrier {
        Carrier::Session(session, owners) => (Some(session), None, carried(line, net, owners)?),
        Carrier::Host(host) => {
            keep_party(tx, point, host.as_str()).await?;
            (None, Some(host.as_str()), vec![(host.to_string(), net)])
        }
    };
    let (start_s, run) = (line.interval.start_s(), line.run.code());
    tx.execute(
        "INSERT INTO settle_station_lines (start_s, station, run, session, net, point, bearer)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        args![
            start_s,
            line.participant.as_str(),
            i64::from(run),
            session.map(str::to_owned),
            net.nano(),
            point,
            bearer.map(str::to_owned)
        ],
    )
    .await?;
    post(tx, now, &carry_postings(line, &parts)?).await
}

/// The postings that carry a line to whoever bears it.
pub(super) fn carry_postings(
    line: &Line,
    parts: &[(String, Money)],
) -> Result<Vec<Posting>, ServiceError> {
    let own = Account::of(Chart::Statement, &line.participant);
    let mut postings = Vec::new();
    for (name, part) in parts {
        let size = part.nano().checked_abs().ok_or(MoneyError::Overflow)?;
        if size == 0 {
            continue;
        }
        let accounts = match *part < Money::ZERO {
            true => (account_of(name)?, own.clone()),
            false => (own.clone(), account_of(name)?),
        };
        let words: [&[u8]; 4] = [
            line.participant.as_str().as_bytes(),
            b"carried",
            &[line.run.code()],
            name.as_bytes(),
        ];
        let start = line.interval.start();
        postings.push(token_posting(
            start,
            Purpose::Charging,
            accounts,
            size,
            &words,
        ));
    }
    Ok(postings)
}

/// Who bears how much of a line: by their shares, to the last unit.
///
/// # Errors
/// Shares that are not the whole, or an amount that does not fit.
pub(super) fn carried(
    line: &Line,
    net: Money,
    owners: &[Owner],
) -> Result<Vec<(String, Money)>, ServiceError> {
    let salt = format!(
        "{} {} {}",
        line.participant,
        line.interval.start(),
        line.run.code()
    );
    let split = split(net, PassThrough::default(), owners, &salt);
    Ok(split
        .map_err(|e| ServiceError::Refused(e.to_string()))?
        .owners)
}
