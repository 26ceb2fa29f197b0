//! Tokens in and out by hand: one operator asks, another confirms, and what was asked ends by itself when nobody does.
//!
//! A withdrawal takes its tokens out of what can be spent at once, and out of the world when it is confirmed. What is
//! owed on the statement stays. Where it is
//! paid to is changed the same way, and counts only after a delay, so that who took over an account cannot
//! empty it before somebody has seen it.

use std::collections::BTreeMap;

use domain::ids::{ParticipantId, digest_parts};
use domain::money::Money;
use domain::posting::{Account, Chart, Posting, Purpose};
use domain::signed::encode;
use domain::time::Timestamp;
use minicbor::{Decode, Encode};
use runtime::args;
use runtime::db::{Db, Source, Tx};

use super::error::{bytes, corrupt};
use super::logs::append;
use super::money::{
    OPENING, REFERENCE_MAX_BYTES, balance, deposit, deposit_posting, deposited, post, token_posting,
};
use super::{ServiceError, registry};
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind};
use crate::store::LOCK;

/// How long a request waits for its confirmation.
pub const REQUEST_LIFE_S: i64 = 72 * 3600;
/// How long after its confirmation a changed payout counts.
pub const PAYOUT_DELAY_S: i64 = 72 * 3600;
/// Most requests of a participant that wait at the same time.
const OPEN_MAX: i64 = 16;
/// Most requests that a list has.
pub const TOKEN_LIST_MAX: i64 = 1000;
/// Longest name of where a withdrawal is paid to, in bytes.
const PAYOUT_MAX_BYTES: usize = 128;

/// What a request is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// Tokens for what was paid in.
    Deposit,
    /// Tokens paid out.
    Withdrawal,
    /// Where withdrawals are paid to.
    Payout,
}

impl TokenKind {
    /// All kinds.
    pub const ALL: [TokenKind; 3] = [TokenKind::Deposit, TokenKind::Withdrawal, TokenKind::Payout];

    /// What it is called.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            TokenKind::Deposit => "deposit",
            TokenKind::Withdrawal => "withdrawal",
            TokenKind::Payout => "payout",
        }
    }

    const fn code(self) -> i64 {
        match self {
            TokenKind::Deposit => 1,
            TokenKind::Withdrawal => 2,
            TokenKind::Payout => 3,
        }
    }
}

/// The two clocks: requests are people's and wait by theirs; what is booked has the community's time.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// People's time.
    pub people: Timestamp,
    /// The community's time.
    pub books: Timestamp,
}

/// What an operator asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTokenRequest {
    /// What it is about.
    pub kind: TokenKind,
    /// Whose tokens.
    pub participant: ParticipantId,
    /// How much; zero for a payout.
    pub amount: Money,
    /// The name of the payment, used once for each participant and kind.
    pub reference: String,
    /// Of a payout: where withdrawals are to be paid to.
    pub payout: Option<String>,
}

/// How a request stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenState {
    /// It waits for another operator.
    Open,
    /// Another operator confirmed it.
    Confirmed,
    /// Somebody took it back.
    Cancelled,
    /// Nobody confirmed it in time.
    Expired,
}

impl TokenState {
    /// What it is called.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            TokenState::Open => "open",
            TokenState::Confirmed => "confirmed",
            TokenState::Cancelled => "cancelled",
            TokenState::Expired => "expired",
        }
    }

    const fn of(code: Option<i64>) -> Option<Self> {
        match code {
            None => Some(TokenState::Open),
            Some(CONFIRMED) => Some(TokenState::Confirmed),
            Some(CANCELLED) => Some(TokenState::Cancelled),
            Some(EXPIRED) => Some(TokenState::Expired),
            Some(_) => None,
        }
    }
}

/// Steps in the order of their numbers: the last one says how a request stands.
const CONFIRMED: i64 = 1;
const CANCELLED: i64 = 2;
const EXPIRED: i64 = 3;

/// Where a withdrawal's tokens go: when it is asked for, when it is confirmed, and when it ends otherwise.
const ASKED: (Chart, Chart) = (Chart::Available, Chart::Withdrawing);
const PAID_OUT: (Chart, Chart) = (Chart::Withdrawing, Chart::Bridge);
const GIVEN_BACK: (Chart, Chart) = (Chart::Withdrawing, Chart::Available);

/// A request and how it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRequest {
    /// Its name.
    pub id: [u8; 16],
    /// What was asked.
    pub asked: NewTokenRequest,
    /// Where a withdrawal is paid to: what counted when it was asked for.
    pub paid_to: Option<String>,
    /// The account that asked.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// When it ends by itself.
    pub expires: Timestamp,
    /// How it stands.
    pub state: TokenState,
    /// Who took the last step, and when.
    pub last: Option<(String, Timestamp)>,
    /// From when on a confirmed payout counts.
    pub counts_from: Option<Timestamp>,
}

/// What the ledger log commits to: a request, or a step of it. It is opened with the participant's secret only.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Logged<'a> {
    #[n(1)]
    kind: u8,
    #[n(2)]
    participant: &'a str,
    #[n(3)]
    amount_nano: i64,
    #[n(4)]
    reference: &'a str,
    #[n(5)]
    payout: Option<&'a str>,
    #[n(6)]
    step: u8,
    #[n(7)]
    by: &'a str,
    #[n(8)]
    at_ms: i64,
}

fn refuse<T>(why: impl Into<String>) -> Result<T, ServiceError> {
    Err(ServiceError::Refused(why.into()))
}

fn id_of(new: &NewTokenRequest) -> [u8; 16] {
    let parts: [&[u8]; 3] = [
        new.kind.word().as_bytes(),
        new.participant.as_str().as_bytes(),
        new.reference.as_bytes(),
    ];
    let mut id = [0; 16];
    id.copy_from_slice(&digest_parts("commonwatt/token-request/v1", &parts)[..16]);
    id
}

/// Asks for a deposit, a withdrawal or another payout. The same request of the same account again changes nothing.
///
/// # Errors
/// A reference that was used for something else, too little that can be spent, nowhere to pay to, too many requests
/// that wait, or the database failed.
pub async fn request_tokens(
    tx: &mut Tx,
    at: Moment,
    by: &str,
    new: &NewTokenRequest,
) -> Result<TokenRequest, ServiceError> {
    tx.exclusive(LOCK).await?;
    check_form(new)?;
    let id = id_of(new);
    if let Some(known) = find(tx, id).await? {
        let ended = matches!(known.state, TokenState::Cancelled | TokenState::Expired);
        if known.asked == *new && known.by == by && !ended {
            return Ok(known);
        }
        return refuse(format!(
            "the reference `{}` was used for another {} of {}: take a new one",
            new.reference,
            new.kind.word(),
            new.participant
        ));
    }
    if !is_participant(tx, &new.participant).await? {
        return refuse(format!(
            "{} is no participant of this community",
            new.participant
        ));
    }
    check_open(tx, &new.participant).await?;
    let paid_to = check_and_hold(tx, at, new, id).await?;
    let request = TokenRequest {
        id,
        asked: new.clone(),
        paid_to,
        by: by.to_owned(),
        at: at.people,
        expires: at.people.plus_s(REQUEST_LIFE_S),
        state: TokenState::Open,
        last: None,
        counts_from: None,
    };
    let index = log(tx, &request, 0, by, at.people).await?;
    tx.execute(
        "INSERT INTO settle_token_requests
         (id, kind, participant, amount, reference, payout, by_account, at_ms, expires_ms, log_index)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        args![
            id,
            new.kind.code(),
            new.participant.as_str(),
            new.amount.nano(),
            new.reference.as_str(),
            new.payout.clone().or_else(|| request.paid_to.clone()),
            by,
            at.people.unix_ms(),
            request.expires.unix_ms(),
            index
        ],
    )
    .await?;
    Ok(request)
}

fn check_form(new: &NewTokenRequest) -> Result<(), ServiceError> {
    let printable = |text: &str, most: usize| {
        !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control)
    };
    if !printable(&new.reference, REFERENCE_MAX_BYTES) {
        return refuse(format!(
            "reference: 1 to {REFERENCE_MAX_BYTES} bytes without control characters, the name of the payment"
        ));
    }
    match (new.kind, &new.payout) {
        (TokenKind::Payout, Some(_)) if new.amount != Money::ZERO => {
            refuse("another payout has no amount")
        }
        (TokenKind::Payout, Some(payout)) if printable(payout, PAYOUT_MAX_BYTES) => Ok(()),
        (TokenKind::Payout, _) => refuse(format!(
            "payout: 1 to {PAYOUT_MAX_BYTES} bytes without control characters, where withdrawals are paid to"
        )),
        (_, None) if new.amount > Money::ZERO => Ok(()),
        (_, None) => refuse("amount: more than nothing"),
        (_, Some(_)) => refuse("where withdrawals are paid to is changed by a request of its own"),
    }
}

async fn is_participant(tx: &mut Tx, participant: &ParticipantId) -> Result<bool, ServiceError> {
    let known: Option<(String,)> = tx
        .fetch_optional(
            "SELECT participant FROM settle_keys WHERE participant = $1 LIMIT 1",
            args![participant.as_str()],
        )
        .await?;
    Ok(known.is_some())
}

async fn check_open(tx: &mut Tx, participant: &ParticipantId) -> Result<(), ServiceError> {
    let (open,): (i64,) = tx
        .fetch_one(
            "SELECT COUNT(*) FROM settle_token_requests r WHERE r.participant = $1
             AND NOT EXISTS (SELECT 1 FROM settle_token_steps s WHERE s.request = r.id)",
            args![participant.as_str()],
        )
        .await?;
    if open < OPEN_MAX {
        return Ok(());
    }
    refuse(format!(
        "{open} requests of {participant} wait already, which is the most: confirm or cancel them first"
    ))
}

/// Looks at what only the books know, holds a withdrawal's tokens, and says where it is paid to.
async fn check_and_hold(
    tx: &mut Tx,
    at: Moment,
    new: &NewTokenRequest,
    id: [u8; 16],
) -> Result<Option<String>, ServiceError> {
    let participant = &new.participant;
    match new.kind {
        TokenKind::Deposit => {
            if new.reference == OPENING {
                return refuse("`opening` names the deposit of site.toml: take another reference");
            }
            if deposited(tx, participant, &new.reference).await?.is_some() {
                return refuse(format!(
                    "the deposit `{}` of {participant} is in the books already",
                    new.reference
                ));
            }
            Ok(None)
        }
        TokenKind::Withdrawal => {
            let Some(paid_to) = payout_at(tx, participant, at.people).await? else {
                return refuse(format!(
                    "it is not known where withdrawals of {participant} are paid to: `commonwatt tokens payout`"
                ));
            };
            may_leave(tx, participant, new.amount).await?;
            move_tokens(tx, at, Purpose::WithdrawalHold, ASKED, new, id).await?;
            Ok(Some(paid_to))
        }
        TokenKind::Payout => Ok(None),
    }
}

/// What can be spent may leave, but for what the participant owes on its statement: nobody takes tokens out while the
/// community waits for its money.
async fn may_leave(
    tx: &mut Tx,
    participant: &ParticipantId,
    amount: Money,
) -> Result<(), ServiceError> {
    let free = Money::from_nano(balance(tx, Chart::Available, participant).await?);
    if free < amount {
        return refuse(format!(
            "{participant} can spend {free} tokens, less than {amount}: what is held for orders or kept for \
             later runs cannot be withdrawn"
        ));
    }
    let statement = Money::from_nano(balance(tx, Chart::Statement, participant).await?);
    let owed = statement.min(Money::ZERO);
    let most = Money::from_nano(free.nano().saturating_add(owed.nano()).max(0));
    if most < amount {
        let owed = Money::from_nano(owed.nano().saturating_neg());
        return refuse(format!(
            "{participant} can withdraw {most} tokens, less than {amount}: of its {free} it owes {owed} on its \
             statement, which has to be paid first"
        ));
    }
    Ok(())
}

/// Refuses to pay out what has been taken from the free tokens of a home that owes more by now than it has left.
async fn still_covered(tx: &mut Tx, participant: &ParticipantId) -> Result<(), ServiceError> {
    let free = balance(tx, Chart::Available, participant).await?;
    let statement = balance(tx, Chart::Statement, participant).await?;
    if free.saturating_add(statement.min(0)) < 0 {
        return refuse(format!(
            "{participant} owes more on its statement by now than it can spend: cancel this and ask again for less"
        ));
    }
    Ok(())
}

async fn move_tokens(
    tx: &mut Tx,
    at: Moment,
    purpose: Purpose,
    accounts: (Chart, Chart),
    asked: &NewTokenRequest,
    id: [u8; 16],
) -> Result<(), ServiceError> {
    post(
        tx,
        at.books,
        &[withdrawal_posting(purpose, accounts, asked, id)],
    )
    .await
}

fn withdrawal_posting(
    purpose: Purpose,
    (from, to): (Chart, Chart),
    asked: &NewTokenRequest,
    id: [u8; 16],
) -> Posting {
    let account = |chart: Chart| match chart {
        Chart::Bridge => Account::common(chart),
        _ => Account::of(chart, &asked.participant),
    };
    let accounts = (account(from), account(to));
    token_posting(
        Timestamp::EPOCH,
        purpose,
        accounts,
        asked.amount.nano(),
        &[&id],
    )
}

/// Confirms another operator's request: tokens are given or paid out, a payout counts after [`PAYOUT_DELAY_S`], at once
/// where there was none before. A second confirmation of the same account has no effect.
///
/// # Errors
/// No such request, one's own, one that has ended, one whose payout has changed since, or the database failed.
pub async fn confirm_tokens(
    tx: &mut Tx,
    at: Moment,
    by: &str,
    id: [u8; 16],
) -> Result<TokenRequest, ServiceError> {
    tx.exclusive(LOCK).await?;
    let request = known(tx, id).await?;
    if request.by == by {
        return refuse(format!(
            "{by} asked for this: another operator has to confirm it"
        ));
    }
    match (request.state, &request.last) {
        (TokenState::Confirmed, Some((who, _))) if who == by => return Ok(request),
        (TokenState::Open, _) if at.people < request.expires => {}
        (TokenState::Open, _) => return refuse("this was not confirmed in time: ask for it again"),
        (state, _) => return refuse(format!("this request is {} already", state.word())),
    }
    let asked = &request.asked;
    let mut counts_from = None;
    match asked.kind {
        TokenKind::Deposit => {
            let (who, reference) = (&asked.participant, &asked.reference);
            if deposited(tx, who, reference).await?.is_some() {
                return refuse(format!(
                    "the deposit `{reference}` of {who} has come into the books by another way: cancel this"
                ));
            }
            deposit(tx, at.books, who, asked.amount, reference).await?;
        }
        TokenKind::Withdrawal => {
            let paid_to = payout_at(tx, &asked.participant, at.people).await?;
            if paid_to != request.paid_to {
                return refuse(
                    "where withdrawals are paid to has changed since this was asked for: cancel it and ask again",
                );
            }
            still_covered(tx, &asked.participant).await?;
            move_tokens(tx, at, Purpose::Withdrawal, PAID_OUT, asked, id).await?;
        }
        TokenKind::Payout => {
            let first = payout_at(tx, &asked.participant, at.people)
                .await?
                .is_none();
            let delay_s = if first { 0 } else { PAYOUT_DELAY_S };
            counts_from = Some(at.people.plus_s(delay_s));
        }
    }
    step(tx, &request, CONFIRMED, by, (at.people, counts_from)).await?;
    known(tx, id).await
}

/// Takes back a request that waits, or a payout that does not count yet. Either operator may, and whose tokens they are.
///
/// # Errors
/// No such request, one that has ended, or the database failed.
pub async fn cancel_tokens(
    tx: &mut Tx,
    at: Moment,
    by: &str,
    id: [u8; 16],
) -> Result<TokenRequest, ServiceError> {
    tx.exclusive(LOCK).await?;
    let request = known(tx, id).await?;
    let waits = request.counts_from.is_some_and(|from| at.people < from);
    match request.state {
        TokenState::Open => {}
        TokenState::Confirmed if waits => {}
        TokenState::Cancelled => return Ok(request),
        state => return refuse(format!("this request is {} already", state.word())),
    }
    end(tx, at, &request, CANCELLED, by).await?;
    known(tx, id).await
}

/// Ends the requests that nobody confirmed in time, and says which.
///
/// # Errors
/// The database failed.
pub async fn expire_tokens(tx: &mut Tx, at: Moment) -> Result<Vec<TokenRequest>, ServiceError> {
    tx.exclusive(LOCK).await?;
    let due: Vec<(Vec<u8>,)> = tx
        .fetch_all(
            "SELECT r.id FROM settle_token_requests r WHERE r.expires_ms <= $1
             AND NOT EXISTS (SELECT 1 FROM settle_token_steps s WHERE s.request = r.id)
             ORDER BY r.at_ms, r.id LIMIT $2",
            args![at.people.unix_ms(), TOKEN_LIST_MAX],
        )
        .await?;
    let mut ended = Vec::with_capacity(due.len());
    for (id,) in due {
        let request = known(tx, bytes(&id, "a request's name")?).await?;
        end(tx, at, &request, EXPIRED, "-").await?;
        ended.push(request);
    }
    Ok(ended)
}

/// Ends a request without what it asked for: a withdrawal's tokens are back.
async fn end(
    tx: &mut Tx,
    at: Moment,
    request: &TokenRequest,
    how: i64,
    by: &str,
) -> Result<(), ServiceError> {
    if request.asked.kind == TokenKind::Withdrawal {
        let (asked, id) = (&request.asked, request.id);
        move_tokens(tx, at, Purpose::WithdrawalRelease, GIVEN_BACK, asked, id).await?;
    }
    step(tx, request, how, by, (at.people, None)).await
}

async fn step(
    tx: &mut Tx,
    request: &TokenRequest,
    step: i64,
    by: &str,
    (at, counts_from): (Timestamp, Option<Timestamp>),
) -> Result<(), ServiceError> {
    let index = log(tx, request, step, by, at).await?;
    tx.execute(
        "INSERT INTO settle_token_steps (request, step, by_account, at_ms, counts_from_ms, log_index)
         VALUES ($1, $2, $3, $4, $5, $6)",
        args![
            request.id,
            step,
            by,
            at.unix_ms(),
            counts_from.map(Timestamp::unix_ms),
            index
        ],
    )
    .await?;
    Ok(())
}

/// An entry in the ledger log that only the participant's secret opens.
async fn log(
    tx: &mut Tx,
    request: &TokenRequest,
    step: i64,
    by: &str,
    at: Timestamp,
) -> Result<i64, ServiceError> {
    let asked = &request.asked;
    let content = content(request, step, by, at)?;
    let salt = registry::salt(tx, Some(&asked.participant), &content).await?;
    let entry = Entry::new(Kind::Tokens, at, salt, &content);
    append(tx, Log::Ledger, &[entry]).await
}

fn content(
    request: &TokenRequest,
    step: i64,
    by: &str,
    at: Timestamp,
) -> Result<Vec<u8>, ServiceError> {
    let asked = &request.asked;
    let code = |code: i64| u8::try_from(code).map_err(|_| corrupt("a code is too large"));
    Ok(encode(&Logged {
        kind: code(asked.kind.code())?,
        participant: asked.participant.as_str(),
        amount_nano: asked.amount.nano(),
        reference: &asked.reference,
        payout: asked.payout.as_deref().or(request.paid_to.as_deref()),
        step: code(step)?,
        by,
        at_ms: at.unix_ms(),
    }))
}

/// What the tables say that the ledger log commits to about tokens.
pub(super) struct LoggedTokens {
    pub(super) index: i64,
    pub(super) participant: String,
    pub(super) reference: String,
    pub(super) at: Timestamp,
    pub(super) content: Vec<u8>,
}

type StepRow = (Vec<u8>, i64, String, i64, i64);

/// All of it: requests, their steps, and opening deposits.
pub(super) async fn logged(db: &Db) -> Result<Vec<LoggedTokens>, ServiceError> {
    let steps: Vec<StepRow> = db
        .fetch_all(
            "SELECT id, CAST(0 AS BIGINT), by_account, at_ms, log_index FROM settle_token_requests
             UNION ALL SELECT request, step, by_account, at_ms, log_index FROM settle_token_steps",
            args![],
        )
        .await?;
    let every = args!["", true, i64::MAX];
    let requests: Vec<RequestRow> = db.fetch_all(NEWEST, every).await?;
    let requests: BTreeMap<[u8; 16], TokenRequest> = requests
        .into_iter()
        .map(|row| request(row).map(|request| (request.id, request)))
        .collect::<Result<_, _>>()?;
    let mut logged = Vec::with_capacity(steps.len());
    for (id, step, by, at_ms, index) in steps {
        let at = Timestamp::from_unix_ms(at_ms);
        let id: [u8; 16] = bytes(&id, "a request's name")?;
        let request = requests.get(&id);
        let request = request.ok_or_else(|| corrupt("a step of no request"))?;
        logged.push(LoggedTokens {
            index,
            participant: request.asked.participant.to_string(),
            reference: request.asked.reference.clone(),
            at,
            content: content(request, step, &by, at)?,
        });
    }
    let openings: Vec<(i64, String, i64, i64)> = db
        .fetch_all(
            "SELECT log_index, participant, amount, at_ms FROM settle_openings WHERE log_index >= 0",
            args![],
        )
        .await?;
    for (index, participant, amount, at_ms) in openings {
        let (whose, at) = (
            ParticipantId::new(participant)?,
            Timestamp::from_unix_ms(at_ms),
        );
        logged.push(LoggedTokens {
            index,
            participant: whose.to_string(),
            reference: OPENING.to_owned(),
            at,
            content: opening_content(&whose, Money::from_nano(amount), at),
        });
    }
    Ok(logged)
}

/// Who says what homes begin with.
const SITE: &str = "site.toml";

/// An entry in the ledger log about a deposit that nobody asked for and nobody confirmed: the site's file says it.
pub(super) async fn log_opening(
    tx: &mut Tx,
    participant: &ParticipantId,
    amount: Money,
    at: Timestamp,
) -> Result<i64, ServiceError> {
    let content = opening_content(participant, amount, at);
    let salt = registry::salt(tx, Some(participant), &content).await?;
    let entry = Entry::new(Kind::Tokens, at, salt, &content);
    append(tx, Log::Ledger, &[entry]).await
}

fn opening_content(participant: &ParticipantId, amount: Money, at: Timestamp) -> Vec<u8> {
    encode(&Logged {
        kind: 1,
        participant: participant.as_str(),
        amount_nano: amount.nano(),
        reference: OPENING,
        payout: None,
        step: 1,
        by: SITE,
        at_ms: at.unix_ms(),
    })
}

type AskedRow = (Vec<u8>, i64, String, i64, String, Option<i64>);

/// What requests and openings say about tokens that came in or went out: their postings.
pub(super) async fn explained(db: &Db) -> Result<Vec<Posting>, ServiceError> {
    let requests: Vec<AskedRow> = db
        .fetch_all(
            "SELECT r.id, r.kind, r.participant, r.amount, r.reference,
             (SELECT MIN(s.step) FROM settle_token_steps s WHERE s.request = r.id)
             FROM settle_token_requests r WHERE r.kind <> $1",
            args![TokenKind::Payout.code()],
        )
        .await?;
    let mut postings = Vec::new();
    for (id, kind, participant, amount, reference, step) in requests {
        let asked = NewTokenRequest {
            kind: if kind == TokenKind::Deposit.code() {
                TokenKind::Deposit
            } else {
                TokenKind::Withdrawal
            },
            participant: ParticipantId::new(participant)?,
            amount: Money::from_nano(amount),
            reference,
            payout: None,
        };
        let id = bytes(&id, "a request's name")?;
        if asked.kind == TokenKind::Deposit {
            let deposit = || deposit_posting(&asked.participant, asked.amount, &asked.reference);
            postings.extend((step == Some(CONFIRMED)).then(deposit));
            continue;
        }
        let ended = match step {
            None => None,
            Some(CONFIRMED) => Some((Purpose::Withdrawal, PAID_OUT)),
            Some(_) => Some((Purpose::WithdrawalRelease, GIVEN_BACK)),
        };
        let moves = std::iter::once((Purpose::WithdrawalHold, ASKED)).chain(ended);
        postings.extend(moves.map(|(purpose, to)| withdrawal_posting(purpose, to, &asked, id)));
    }
    let openings: Vec<(Vec<u8>, String, i64)> = db
        .fetch_all(
            "SELECT DISTINCT id, participant, amount FROM settle_openings",
            args![],
        )
        .await?;
    for (id, participant, amount) in openings {
        let participant = ParticipantId::new(participant)?;
        let posting = deposit_posting(&participant, Money::from_nano(amount), OPENING);
        // The list of what was there before has deposits of requests too, which have to be explained by these.
        postings.extend((posting.id.0[..] == id[..]).then_some(posting));
    }
    Ok(postings)
}

const ONE: &str =
    "SELECT r.id, r.kind, r.participant, r.amount, r.reference, r.payout, r.by_account, r.at_ms,
     r.expires_ms, s.step, s.by_account, s.at_ms, c.counts_from_ms FROM settle_token_requests r
     LEFT JOIN settle_token_steps s ON s.request = r.id
     AND s.step = (SELECT MAX(n.step) FROM settle_token_steps n WHERE n.request = r.id)
     LEFT JOIN settle_token_steps c ON c.request = r.id AND c.step = 1 WHERE r.id = $1";
const NEWEST: &str =
    "SELECT r.id, r.kind, r.participant, r.amount, r.reference, r.payout, r.by_account, r.at_ms,
     r.expires_ms, s.step, s.by_account, s.at_ms, c.counts_from_ms FROM settle_token_requests r
     LEFT JOIN settle_token_steps s ON s.request = r.id
     AND s.step = (SELECT MAX(n.step) FROM settle_token_steps n WHERE n.request = r.id)
     LEFT JOIN settle_token_steps c ON c.request = r.id AND c.step = 1
     WHERE r.participant = $1 OR CAST($2 AS BIGINT) = 1 ORDER BY r.at_ms DESC, r.id LIMIT $3";

type RequestRow = (
    Vec<u8>,
    i64,
    String,
    i64,
    String,
    Option<String>,
    String,
    i64,
    i64,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<i64>,
);

fn request(row: RequestRow) -> Result<TokenRequest, ServiceError> {
    let (id, kind, participant, amount, reference, payout, by, at_ms, expires_ms, ..) = row;
    let (step, last_by, last_ms, counts_from_ms) = (row.9, row.10, row.11, row.12);
    let known = TokenKind::ALL.into_iter().find(|k| k.code() == kind);
    let kind = known.ok_or_else(|| corrupt("a request is of an unknown kind"))?;
    let (payout, paid_to) = match kind {
        TokenKind::Payout => (payout, None),
        TokenKind::Deposit | TokenKind::Withdrawal => (None, payout),
    };
    let time = Timestamp::from_unix_ms;
    Ok(TokenRequest {
        id: bytes(&id, "a request's name")?,
        asked: NewTokenRequest {
            kind,
            participant: ParticipantId::new(participant)?,
            amount: Money::from_nano(amount),
            reference,
            payout,
        },
        paid_to,
        by,
        at: time(at_ms),
        expires: time(expires_ms),
        state: TokenState::of(step).ok_or_else(|| corrupt("a request has an unknown step"))?,
        last: last_by.zip(last_ms.map(time)),
        counts_from: counts_from_ms.map(time),
    })
}

async fn find(
    source: &mut impl Source,
    id: [u8; 16],
) -> Result<Option<TokenRequest>, ServiceError> {
    let row: Option<RequestRow> = source.optional(ONE, args![id]).await?;
    row.map(request).transpose()
}

async fn known(tx: &mut Tx, id: [u8; 16]) -> Result<TokenRequest, ServiceError> {
    match find(tx, id).await? {
        Some(request) => Ok(request),
        None => refuse("there is no such request: `commonwatt tokens list` shows them"),
    }
}

/// Whether a request has waited too long, or stake is free again: whether there is anything to write.
///
/// # Errors
/// The database failed.
pub async fn tokens_due(db: &Db, at: Moment) -> Result<bool, ServiceError> {
    let due: Option<(i64,)> = db
        .fetch_optional(
            "SELECT CAST(1 AS BIGINT) FROM settle_token_requests r WHERE r.expires_ms <= $1
             AND NOT EXISTS (SELECT 1 FROM settle_token_steps s WHERE s.request = r.id)
             UNION ALL SELECT CAST(1 AS BIGINT) FROM settle_unbonding WHERE is_open = 1 AND free_ms <= $2
             LIMIT 1",
            args![at.people.unix_ms(), at.books.unix_ms()],
        )
        .await?;
    Ok(due.is_some())
}

/// What an opened entry of the ledger log says about tokens.
pub(crate) fn told_of_tokens(content: &[u8]) -> Option<String> {
    let logged: Logged<'_> = minicbor::decode(content).ok()?;
    let kind = TokenKind::ALL
        .into_iter()
        .find(|k| k.code() == i64::from(logged.kind))?;
    let state = match logged.step {
        0 => TokenState::Open,
        step => TokenState::of(Some(i64::from(step)))?,
    };
    let (amount, whose) = (Money::from_nano(logged.amount_nano), logged.participant);
    let (kind, state, by) = (kind.word(), state.word(), logged.by);
    Some(format!(
        "{kind} of {amount} token for {whose}: {state}, by {by}"
    ))
}

/// One request.
///
/// # Errors
/// The database failed.
pub async fn token_request(db: &Db, id: [u8; 16]) -> Result<Option<TokenRequest>, ServiceError> {
    find(&mut &*db, id).await
}

/// The newest requests, of one participant or of all; at most [`TOKEN_LIST_MAX`].
///
/// # Errors
/// The database failed.
pub async fn token_requests(
    db: &Db,
    participant: Option<&ParticipantId>,
) -> Result<Vec<TokenRequest>, ServiceError> {
    let whose = participant.map_or("", ParticipantId::as_str);
    let args = args![whose, participant.is_none(), TOKEN_LIST_MAX];
    let rows: Vec<RequestRow> = db.fetch_all(NEWEST, args).await?;
    rows.into_iter().map(request).collect()
}

/// Where a participant's withdrawals are paid to.
async fn payout_at(
    tx: &mut Tx,
    participant: &ParticipantId,
    at: Timestamp,
) -> Result<Option<String>, ServiceError> {
    let row: Option<(Option<String>,)> = tx
        .fetch_optional(
            "SELECT r.payout FROM settle_token_requests r JOIN settle_token_steps c
             ON c.request = r.id AND c.step = 1 WHERE r.participant = $1 AND r.kind = $2
             AND c.counts_from_ms <= $3
             AND NOT EXISTS (SELECT 1 FROM settle_token_steps n WHERE n.request = r.id AND n.step > 1)
             ORDER BY c.counts_from_ms DESC, c.log_index DESC LIMIT 1",
            args![
                participant.as_str(),
                TokenKind::Payout.code(),
                at.unix_ms()
            ],
        )
        .await?;
    Ok(row.and_then(|(payout,)| payout))
}
