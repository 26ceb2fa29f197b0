//! What a charging receipt shows beside the bill: key records, places in the log, where the energy came from; and the
//! corrections and changes of a session.

use domain::ids::{KeyId, ParticipantId, PointId};
use domain::money::Money;
use domain::posting::{Account, Chart, Posting, Purpose};
use domain::receipt::{Line, Salt};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};

use super::ServiceError;
use super::charging::{account_of, purse};
use super::error::{corrupt, decoded, number, stored};
use super::money::{balance, post, token_posting};
use super::registry::{known_secret, signed_record};
use super::witnesses::log_proof;
use crate::charging::offer::Plan;
use crate::charging::promise::{Payer, Promise};
use crate::charging::receipt::Settled;
use crate::charging::split::{Credit, Split};
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind, PUBLIC, salt_of};
use crate::log::proof::{LogProof, Opening, extra};
use crate::store::LOCK;

/// Most corrections of a session, and most changes of one.
pub const CORRECTIONS_MAX: usize = 64;

/// The operator's signed record of a key that counts at `at`; none where the key is not enrolled.
///
/// # Errors
/// The database failed.
pub async fn key_record(
    db: &Db,
    kid: KeyId,
    at: Timestamp,
) -> Result<Option<Vec<u8>>, ServiceError> {
    let found = signed_record(&mut &*db, kid, at).await?;
    Ok(found.map(|(signed, _)| signed))
}

/// The proof that the readings log holds the accepted reading of a point's interval, opened; none where no checkpoint
/// reaches it yet, or its participant's secret was deleted.
///
/// # Errors
/// The database failed, or what is stored is damaged.
pub async fn reading_proof(
    db: &Db,
    point: &PointId,
    start: Timestamp,
) -> Result<Option<LogProof>, ServiceError> {
    let row: Option<(Vec<u8>, Option<i64>, Option<String>)> = db
        .fetch_optional(
            "SELECT r.bytes, r.log_index, p.participant FROM settle_readings r
             JOIN settle_points p ON p.point = r.point
             WHERE r.point = $1 AND r.start_s = $2 AND r.reason IS NULL",
            args![point.as_str(), start.unix_s()],
        )
        .await?;
    let Some((content, Some(index), owner)) = row else {
        return Ok(None);
    };
    let Some(salt) = salt(db, owner, &content).await? else {
        return Ok(None);
    };
    opened(
        db,
        (Log::Readings, index),
        (Kind::Reading, start),
        salt,
        content,
    )
    .await
}

async fn salt(
    db: &Db,
    owner: Option<String>,
    content: &[u8],
) -> Result<Option<Salt>, ServiceError> {
    let Some(owner) = owner else {
        return Ok(Some(PUBLIC));
    };
    let secret = known_secret(&mut &*db, &ParticipantId::new(owner)?).await?;
    Ok(secret.map(|secret| salt_of(&secret, content)))
}

async fn opened(
    db: &Db,
    (log, index): (Log, i64),
    (kind, start): (Kind, Timestamp),
    salt: Salt,
    content: Vec<u8>,
) -> Result<Option<LogProof>, ServiceError> {
    let index = number(index, "a place in a log")?;
    let proof = log_proof(db, log, index, None).await?;
    Ok(proof.map(|mut proof| {
        let entry = Entry::new(kind, start, salt, &content);
        proof.extra = Some(extra(&entry, Some(&Opening { salt, content })));
        proof
    }))
}

/// The newest settlement line of each of a station's intervals that start in `[from, to)`, each with its proof; those
/// that no checkpoint reaches yet are left out.
///
/// # Errors
/// The database failed, or what is stored is damaged.
pub async fn station_settled(
    db: &Db,
    station: &ParticipantId,
    (from, to): (Timestamp, Timestamp),
) -> Result<Vec<Settled>, ServiceError> {
    let rows: Vec<(Vec<u8>, i64)> = db
        .fetch_all(
            "SELECT l.content, l.log_index FROM settle_intervals i
             JOIN settle_lines l ON l.start_s = i.start_s AND l.participant = $1
             WHERE i.start_s >= $2 AND i.start_s < $3 ORDER BY l.start_s, l.run",
            args![station.as_str(), from.unix_s(), to.unix_s()],
        )
        .await?;
    let secret = known_secret(&mut &*db, station).await?;
    let Some(secret) = secret else {
        return Ok(Vec::new());
    };
    let mut settled: Vec<Settled> = Vec::new();
    for (content, index) in rows {
        let line: Line = decoded(&content, "a line")?;
        let salt = salt_of(&secret, &content);
        let entry = (Kind::Line, line.interval.start());
        let Some(proof) = opened(db, (Log::Ledger, index), entry, salt, content).await? else {
            continue;
        };
        if settled
            .last()
            .is_some_and(|last| last.line.interval == line.interval)
        {
            settled.pop();
        }
        settled.push(Settled { line, proof });
    }
    // A substitute is no energy that the meter counted.
    settled.retain(|settled| settled.line.delivery.reading.is_some());
    Ok(settled)
}

/// The corrections of a session, in their order.
///
/// # Errors
/// The database failed, or a row is damaged.
pub async fn charging_credits(db: &Db, session: &str) -> Result<Vec<Credit>, ServiceError> {
    let rows: Vec<(String,)> = db
        .fetch_all(
            "SELECT credit FROM settle_charging_credits WHERE session = $1 ORDER BY seq",
            args![session],
        )
        .await?;
    let credit =
        |(text,): (String,)| serde_json::from_str(&text).map_err(|e| corrupt(&e.to_string()));
    rows.into_iter().map(credit).collect()
}

/// Books a correction, the `seq`th of its session: tax and owners give back what they had of it, and the payer has it.
///
/// # Errors
/// The database failed, or the session has a correction of this number already.
pub async fn charging_credit(
    tx: &mut Tx,
    now: Timestamp,
    promise: &Promise,
    seq: u64,
    credit: &Credit,
) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    let session = promise.quote.session.as_str();
    let text = serde_json::to_string(credit).map_err(|e| corrupt(&e.to_string()))?;
    tx.execute(
        "INSERT INTO settle_charging_credits (session, seq, credit) VALUES ($1, $2, $3)",
        args![session, stored(seq)?, text],
    )
    .await?;
    let (_, postings) = credit_postings(promise, seq, credit)?;
    post(tx, now, &postings).await
}

/// How a correction is split, and its postings: tax and owners give back to the host, and from there the payer has it.
pub(super) fn credit_postings(
    promise: &Promise,
    seq: u64,
    credit: &Credit,
) -> Result<(Split, Vec<Posting>), ServiceError> {
    let session = promise.quote.session.as_str();
    let split = credit.split(&promise.owners, &format!("{session} credit {seq}"));
    let split = split.map_err(|e| ServiceError::Refused(e.to_string()))?;
    let host = Account::of(Chart::Statement, &promise.host);
    let mut moves = vec![(
        Account::common(Chart::Tax),
        host.clone(),
        split.pass_through.tax.nano(),
        "credit tax".to_owned(),
    )];
    for (owner, part) in &split.owners {
        let account = account_of(owner)?;
        if account != host {
            moves.push((
                account,
                host.clone(),
                part.nano(),
                format!("credit owner {owner}"),
            ));
        }
    }
    let back = purse(promise)?.1;
    moves.push((host, back, split.paid.nano(), "credit paid".to_owned()));
    let posting = |(debit, credit, amount, leg): (Account, Account, i64, String)| {
        let parts: [&[u8]; 3] = [session.as_bytes(), leg.as_bytes(), &seq.to_be_bytes()];
        let accounts = (debit, credit);
        token_posting(
            promise.quote.offered_at,
            Purpose::Charging,
            accounts,
            amount,
            &parts,
        )
    };
    let moves = moves.into_iter().filter(|(_, _, amount, _)| *amount > 0);
    let postings = moves.map(posting).collect();
    Ok((split, postings))
}

/// The newest plan of a session that was changed, and how often it was.
///
/// # Errors
/// The database failed, or a row is damaged.
pub async fn charging_changed(db: &Db, session: &str) -> Result<(Option<Plan>, u64), ServiceError> {
    let rows: Vec<(i64, String)> = db
        .fetch_all(
            "SELECT seq, plan FROM settle_charging_changes WHERE session = $1
             ORDER BY seq DESC LIMIT 1",
            args![session],
        )
        .await?;
    let Some((seq, text)) = rows.first() else {
        return Ok((None, 0));
    };
    let plan = Promise::plan_of(text).map_err(|e| corrupt(&e.to_string()))?;
    Ok((Some(plan), number::<u64>(*seq, "a change")? + 1))
}

/// Keeps the `seq`th change of a session and holds `more` for it; `false` where the payer does not have that.
///
/// # Errors
/// The database failed, or the session has a change of this number already.
pub async fn charging_change(
    tx: &mut Tx,
    now: Timestamp,
    promise: &Promise,
    (seq, plan): (u64, &Plan),
    more: Money,
) -> Result<bool, ServiceError> {
    tx.exclusive(LOCK).await?;
    if let Payer::Home(home) = &promise.payer
        && balance(tx, Chart::Available, &ParticipantId::new(home)?).await? < more.nano()
    {
        return Ok(false);
    }
    let session = promise.quote.session.as_str();
    let text = Promise::plan_text(plan).map_err(|e| corrupt(&e.to_string()))?;
    tx.execute(
        "INSERT INTO settle_charging_changes (session, seq, at_ms, plan) VALUES ($1, $2, $3, $4)",
        args![session, stored(seq)?, now.unix_ms(), text],
    )
    .await?;
    if more > Money::ZERO {
        let (held, from) = purse(promise)?;
        let parts: [&[u8]; 3] = [session.as_bytes(), b"hold", &seq.to_be_bytes()];
        let offered_at = promise.quote.offered_at;
        let hold = token_posting(offered_at, Purpose::Hold, (from, held), more.nano(), &parts);
        post(tx, now, &[hold]).await?;
    }
    Ok(true)
}
