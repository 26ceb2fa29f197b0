//! The ledger: postings once and for all, balances beside them, and deposits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use domain::ids::{ParticipantId, PostingId, TradeId, timed_id};
use domain::money::{Money, MoneyError};
use domain::posting::{Account, Asset, Chart, Posting, Purpose, Run};
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::{Args, Db, Listed, Source, Tx};

use super::error::{bytes, corrupt, number};
use super::{ServiceError, tokens};
use crate::statement::Entry;
use crate::store::LOCK;

/// The tag of postings outside of runs in [`timed_id`]; the purpose is added.
const TAG: u16 = 0x1000;
/// Longest reference of a deposit in bytes.
pub const REFERENCE_MAX_BYTES: usize = 128;

/// Posts a group: what is in the books already with the same content has no effect, all else is posted with one
/// change of each account's balance.
///
/// # Errors
/// A posting is in the books with another content, a guarded account would be below zero, or the database failed:
/// then the transaction must not be committed.
///
/// # Panics
/// When the group does not sum to zero, which no list of postings can.
pub async fn post(tx: &mut Tx, now: Timestamp, postings: &[Posting]) -> Result<(), ServiceError> {
    check_assets(postings)?;
    let known = insert(tx, now, postings).await?;
    let mut moved = Moved::new();
    for (posting, _) in postings.iter().zip(known).filter(|(_, known)| !known) {
        let asset = posting.asset.code();
        let credited = &mut moved.entry((asset, &posting.credit)).or_default().0;
        *credited = credited
            .checked_add(posting.amount)
            .ok_or(MoneyError::Overflow)?;
        let debited = &mut moved.entry((asset, &posting.debit)).or_default().1;
        *debited = debited
            .checked_add(posting.amount)
            .ok_or(MoneyError::Overflow)?;
    }
    assert_zero_sum(&moved);
    move_balances(tx, &moved).await
}

/// Refuses a posting of an asset to an account that counts another.
fn check_assets(postings: &[Posting]) -> Result<(), ServiceError> {
    let fits = |p: &Posting, account: &Account| account.chart().counts(p.asset);
    match postings
        .iter()
        .find(|p| !fits(p, &p.debit) || !fits(p, &p.credit))
    {
        Some(p) => Err(ServiceError::Broken(format!(
            "posting {} moves {:?} from {} to {}, and one of them does not count that",
            p.id, p.asset, p.debit, p.credit
        ))),
        None => Ok(()),
    }
}

/// Credits and debits of each account, by asset.
type Moved<'a> = BTreeMap<(u8, &'a Account), (i64, i64)>;

/// One change of each account's balance. An account that had nothing yet gets its row: not by an upsert, whose
/// new row would be held against the guard before it meets the old one.
async fn move_balances(tx: &mut Tx, moved: &Moved<'_>) -> Result<(), ServiceError> {
    let row = |((asset, account), (credits, debits)): (&(u8, &Account), &(i64, i64))| {
        let (asset, chart) = (i64::from(*asset), i64::from(account.chart().code()));
        args![asset, chart, account.owner(), *credits, *debits]
    };
    let changed = MOVE.all_made(tx, moved.iter().map(row)).await?;
    if usize::try_from(changed) == Ok(moved.len()) {
        return Ok(());
    }
    let known: Vec<(i64, i64, String)> = WITH_BALANCE
        .fetch(tx, moved.iter().map(row).collect())
        .await?;
    let known: BTreeSet<(i64, i64, String)> = known.into_iter().collect();
    let is_new = |((asset, account), _): &(&(u8, &Account), _)| {
        let chart = i64::from(account.chart().code());
        !known.contains(&(i64::from(*asset), chart, account.owner().to_owned()))
    };
    let rows: Vec<Args> = moved.iter().filter(is_new).map(row).collect();
    NEW_BALANCES.all(tx, rows).await?;
    Ok(())
}

const BALANCE: [&str; 5] = ["asset", "chart", "owner", "credits", "debits"];

// SQLite begins with the list here, as it can make no index over it for columns that have a type of their own. For a BLOB
// it can, and would go through the table: there an UPDATE says `IN (SELECT …)`.
static MOVE: LazyLock<Listed> = LazyLock::new(|| {
    let update = "UPDATE settle_balances SET credits = settle_balances.credits + moved.credits,
         debits = settle_balances.debits + moved.debits FROM moved
         WHERE settle_balances.asset = moved.asset AND settle_balances.chart = moved.chart
         AND settle_balances.owner = moved.owner";
    Listed::over("moved", &BALANCE, update)
});

static WITH_BALANCE: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT b.asset, b.chart, b.owner FROM moved CROSS JOIN settle_balances b
         WHERE b.asset = moved.asset AND b.chart = moved.chart AND b.owner = moved.owner";
    Listed::over("moved", &BALANCE, select)
});

static NEW_BALANCES: LazyLock<Listed> =
    LazyLock::new(|| Listed::insert("settle_balances", &BALANCE, ""));

/// A batch moves nothing into the world and nothing out of it.
fn assert_zero_sum(moved: &Moved<'_>) {
    let mut sums: BTreeMap<u8, i128> = BTreeMap::new();
    for ((asset, _), (credits, debits)) in moved {
        *sums.entry(*asset).or_default() += i128::from(*credits) - i128::from(*debits);
    }
    assert!(
        sums.values().all(|sum| *sum == 0),
        "a batch of postings does not sum to zero: {sums:?}"
    );
}

/// Refuses a run's batch that leaves something in the pool: the transaction must not be committed.
pub(super) async fn check_pool(tx: &mut Tx) -> Result<(), ServiceError> {
    let [token, energy, stake] = Asset::ALL.map(|asset| i64::from(asset.code()));
    let left: Option<(i64, i64)> = tx
        .fetch_optional(
            // By asset, so that the table's key finds them.
            "SELECT asset, credits - debits FROM settle_balances
             WHERE asset IN ($1, $2, $3) AND chart = $4 AND credits <> debits LIMIT 1",
            args![token, energy, stake, i64::from(Chart::Pool.code())],
        )
        .await?;
    match left {
        Some((asset, balance)) => Err(ServiceError::Broken(format!(
            "{balance} of asset {asset} would be left in the pool"
        ))),
        None => Ok(()),
    }
}

const POSTING: [&str; 13] = [
    "id",
    "asset",
    "debit_chart",
    "debit_owner",
    "credit_chart",
    "credit_owner",
    "amount",
    "purpose",
    "start_s",
    "length_s",
    "run",
    "reference",
    "at_ms",
];

static POSTINGS: LazyLock<Listed> =
    LazyLock::new(|| Listed::insert("settle_postings", &POSTING, "ON CONFLICT (id) DO NOTHING"));

static NEW_POSTINGS: LazyLock<Listed> =
    LazyLock::new(|| Listed::insert("settle_postings", &POSTING, ""));

fn row(p: &Posting, now: Timestamp) -> Args {
    args![
        p.id.0,
        i64::from(p.asset.code()),
        i64::from(p.debit.chart().code()),
        p.debit.owner(),
        i64::from(p.credit.chart().code()),
        p.credit.owner(),
        p.amount,
        i64::from(p.purpose.code()),
        p.interval.map(Interval::start_s),
        p.interval.map(|i| i64::from(i.length_s())),
        p.run.map(|r| i64::from(r.code())),
        p.reference.map(|r| r.0.to_vec()),
        now.unix_ms()
    ]
}

/// Inserts the postings that are not in the books yet, and says of each whether it was. Many at once as long as all
/// are new, as they are but when something is repeated; then one by one.
async fn insert(
    tx: &mut Tx,
    now: Timestamp,
    postings: &[Posting],
) -> Result<Vec<bool>, ServiceError> {
    let new = insert_new(tx, now, postings).await?;
    let mut known = vec![false; postings.len()];
    for (known, posting) in known.iter_mut().zip(postings).skip(new) {
        *known = POSTINGS.all(tx, vec![row(posting, now)]).await? == 0;
        if *known {
            check_known(tx, posting).await?;
        }
    }
    Ok(known)
}

/// Inserts postings until one is met that is there already, and says how many of the first are in.
async fn insert_new(
    tx: &mut Tx,
    now: Timestamp,
    postings: &[Posting],
) -> Result<usize, ServiceError> {
    let rows = postings.iter().map(|p| row(p, now));
    if tx.is_sqlite() {
        // It undoes a refused statement and nothing else; a savepoint over all of them costs more.
        return Ok(NEW_POSTINGS.until_taken(tx, rows).await?);
    }
    tx.execute("SAVEPOINT postings", args![]).await?;
    let inserted = POSTINGS.all_made(tx, rows).await?;
    let are_new = usize::try_from(inserted) == Ok(postings.len());
    if !are_new {
        let back = "ROLLBACK TO SAVEPOINT postings";
        tx.execute(back, args![]).await?;
    }
    tx.execute("RELEASE SAVEPOINT postings", args![]).await?;
    Ok(if are_new { postings.len() } else { 0 })
}

/// A posting whose id is in the books has to be the one that is there.
async fn check_known(tx: &mut Tx, p: &Posting) -> Result<(), ServiceError> {
    match is_posted(tx, p).await? {
        true => Ok(()),
        false => Err(ServiceError::Conflict(format!("posting {}", p.id))),
    }
}

/// Whether exactly this posting is in the ledger.
pub(super) async fn is_posted(source: &mut impl Source, p: &Posting) -> Result<bool, ServiceError> {
    Ok(posted(source, p.id).await?.as_ref() == Some(p))
}

/// The posting of this name, if there is one.
pub(super) async fn posted(
    source: &mut impl Source,
    id: PostingId,
) -> Result<Option<Posting>, ServiceError> {
    let known: Option<PostingRow> = source
        .optional(
            "SELECT id, asset, debit_chart, debit_owner, credit_chart, credit_owner, amount, purpose,
             start_s, length_s, run, reference FROM settle_postings WHERE id = $1",
            args![id.0],
        )
        .await?;
    known.map(posting).transpose()
}

type PostingRow = (
    Vec<u8>,
    i64,
    i64,
    String,
    i64,
    String,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<Vec<u8>>,
);

fn posting(row: PostingRow) -> Result<Posting, ServiceError> {
    let (id, asset, debit, debit_owner, credit, credit_owner, amount, purpose, ..) = &row;
    let (.., start_s, length_s, run, reference) = &row;
    let interval = match (start_s, length_s) {
        (Some(start_s), Some(length_s)) => Some(Interval::new(
            *start_s,
            number(*length_s, "an interval's length")?,
        )?),
        _ => None,
    };
    let code = |value: i64| number::<u8>(value, "a code");
    let run = run.map(|r| Run::from_code(code(r)?).ok_or_else(|| corrupt("an unknown run")));
    let reference = reference
        .as_ref()
        .map(|r| bytes(r, "a reference").map(TradeId));
    Ok(Posting {
        id: PostingId(bytes(id, "a posting's id")?),
        asset: Asset::from_code(code(*asset)?).ok_or_else(|| corrupt("an unknown asset"))?,
        debit: account(*debit, debit_owner)?,
        credit: account(*credit, credit_owner)?,
        amount: *amount,
        purpose: Purpose::from_code(code(*purpose)?)
            .ok_or_else(|| corrupt("an unknown purpose"))?,
        interval,
        run: run.transpose()?,
        reference: reference.transpose()?,
    })
}

pub(super) fn account(chart: i64, owner: &str) -> Result<Account, ServiceError> {
    let text = format!("{chart}/{owner}");
    text.parse()
        .map_err(|e| ServiceError::Corrupt(format!("{e}")))
}

/// The postings of all runs of the intervals that start in `[from, to)`, in the order of their ids.
pub(super) async fn run_postings(
    source: &mut impl Source,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Posting>, ServiceError> {
    let (first, last) = super::id_range(from, to);
    let rows: Vec<PostingRow> = source
        .all(
            "SELECT id, asset, debit_chart, debit_owner, credit_chart, credit_owner, amount, purpose,
             start_s, length_s, run, reference FROM settle_postings
             WHERE id >= $1 AND id < $2 AND run IS NOT NULL ORDER BY id",
            args![first, last],
        )
        .await?;
    rows.into_iter().map(posting).collect()
}

/// All postings of tokens that come with a deposit or a withdrawal.
pub(super) async fn token_moves(db: &Db) -> Result<Vec<Posting>, ServiceError> {
    let rows: Vec<PostingRow> = db
        .fetch_all(
            "SELECT id, asset, debit_chart, debit_owner, credit_chart, credit_owner, amount, purpose,
             start_s, length_s, run, reference FROM settle_postings WHERE purpose IN ($1, $2, $3, $4)",
            args![
                i64::from(Purpose::Deposit.code()),
                i64::from(Purpose::WithdrawalHold.code()),
                i64::from(Purpose::Withdrawal.code()),
                i64::from(Purpose::WithdrawalRelease.code())
            ],
        )
        .await?;
    rows.into_iter().map(posting).collect()
}

/// Postings that no run made which are read at a time.
const OTHER_BATCH: i64 = 4096;

type OtherRow = (
    Vec<u8>,
    i64,
    i64,
    String,
    i64,
    String,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    Option<Vec<u8>>,
    i64,
);

/// Postings on a participant's accounts that no run made, in the order of their ids, from the one after
/// `after` on; and where to go on, if that may not be all.
pub(super) async fn other_postings(
    db: &Db,
    participant: &ParticipantId,
    after: Vec<u8>,
) -> Result<(Vec<Entry>, Option<Vec<u8>>), ServiceError> {
    let rows: Vec<OtherRow> = db
        .fetch_all(
            "SELECT id, asset, debit_chart, debit_owner, credit_chart, credit_owner, amount, purpose,
             start_s, length_s, reference, at_ms FROM settle_postings
             WHERE run IS NULL AND debit_owner = $1 AND id > $2
             UNION ALL
             SELECT id, asset, debit_chart, debit_owner, credit_chart, credit_owner, amount, purpose,
             start_s, length_s, reference, at_ms FROM settle_postings
             WHERE run IS NULL AND credit_owner = $1 AND debit_owner <> $1 AND id > $2
             ORDER BY id LIMIT $3",
            args![participant.as_str(), after, OTHER_BATCH],
        )
        .await?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count >= OTHER_BATCH);
    let last = rows.last().filter(|_| full).map(|row| row.0.clone());
    let entry = |row: OtherRow| -> Result<Entry, ServiceError> {
        let (id, asset, debit, debit_owner, credit, credit_owner, ..) = row;
        let (amount, purpose, start_s, length_s) = (row.6, row.7, row.8, row.9);
        let (reference, at_ms) = (row.10, row.11);
        let stored = (
            id,
            asset,
            debit,
            debit_owner,
            credit,
            credit_owner,
            amount,
            purpose,
            start_s,
            length_s,
            None,
            reference,
        );
        Ok(Entry {
            posting: posting(stored)?,
            booked_at: Timestamp::from_unix_ms(at_ms),
        })
    };
    let entries = rows.into_iter().map(entry).collect::<Result<_, _>>()?;
    Ok((entries, last))
}

/// A posting of tokens outside of the runs.
pub(super) fn token_posting(
    start: Timestamp,
    purpose: Purpose,
    accounts: (Account, Account),
    amount: i64,
    parts: &[&[u8]],
) -> Posting {
    let tag = TAG | u16::from(purpose.code());
    Posting {
        id: PostingId(timed_id(start, tag, "posting", parts)),
        asset: Asset::Token,
        debit: accounts.0,
        credit: accounts.1,
        amount,
        purpose,
        interval: None,
        run: None,
        reference: None,
    }
}

/// The reference of the deposit that a home begins with.
pub(super) const OPENING: &str = "opening";

/// Gives a participant the tokens that it begins with, once, and logs them. Nothing is no deposit. One that is in the
/// books of an older program without an entry of the ledger log gets its entry now.
///
/// # Errors
/// Below zero, another amount than before, or the database failed.
pub async fn opening_deposit(
    tx: &mut Tx,
    now: Timestamp,
    participant: &ParticipantId,
    amount: Money,
) -> Result<(), ServiceError> {
    deposit(tx, now, participant, amount, OPENING).await?;
    let id = deposit_posting(participant, amount, OPENING).id;
    let logged: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT log_index FROM settle_openings WHERE id = $1 AND log_index >= 0",
            args![id.0],
        )
        .await?;
    if amount == Money::ZERO || logged.is_some() {
        return Ok(());
    }
    let index = tokens::log_opening(tx, participant, amount, now).await?;
    tx.execute(
        "INSERT INTO settle_openings (id, log_index, participant, amount, at_ms)
         VALUES ($1, $2, $3, $4, $5)",
        args![
            id.0,
            index,
            participant.as_str(),
            amount.nano(),
            now.unix_ms()
        ],
    )
    .await?;
    Ok(())
}

/// Gives a participant tokens against a deposit of this reference, once. Nothing is no deposit.
pub(super) async fn deposit(
    tx: &mut Tx,
    now: Timestamp,
    participant: &ParticipantId,
    amount: Money,
    reference: &str,
) -> Result<(), ServiceError> {
    if amount < Money::ZERO || reference.len() > REFERENCE_MAX_BYTES {
        let why = format!(
            "a deposit is not below zero, its reference at most {REFERENCE_MAX_BYTES} bytes"
        );
        return Err(ServiceError::Refused(why));
    }
    tx.exclusive(LOCK).await?;
    let posting = deposit_posting(participant, amount, reference);
    match deposited(tx, participant, reference).await? {
        Some(known) if known != amount => Err(ServiceError::Refused(format!(
            "the deposit `{reference}` of {participant} is in the books with {known} tokens and is now \
             given as {amount}: what is booked stays, so set it back to {known}, or book the \
             difference under another reference"
        ))),
        None if amount > Money::ZERO => post(tx, now, &[posting]).await,
        _ => Ok(()),
    }
}

/// The posting of a deposit.
pub(super) fn deposit_posting(
    participant: &ParticipantId,
    amount: Money,
    reference: &str,
) -> Posting {
    let accounts = (
        Account::common(Chart::Bridge),
        Account::of(Chart::Available, participant),
    );
    let parts: [&[u8]; 2] = [participant.as_str().as_bytes(), reference.as_bytes()];
    // Without a time of its own: the same deposit must have the same id whenever it is repeated.
    let start = Timestamp::EPOCH;
    token_posting(start, Purpose::Deposit, accounts, amount.nano(), &parts)
}

/// How much was deposited under a reference.
pub(super) async fn deposited(
    tx: &mut Tx,
    participant: &ParticipantId,
    reference: &str,
) -> Result<Option<Money>, ServiceError> {
    let posting = deposit_posting(participant, Money::ZERO, reference);
    let known: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT amount FROM settle_postings WHERE id = $1",
            args![posting.id.0],
        )
        .await?;
    Ok(known.map(|(known,)| Money::from_nano(known)))
}

/// What a participant has on an account, in nano-tokens.
pub(super) async fn balance(
    tx: &mut Tx,
    chart: Chart,
    participant: &ParticipantId,
) -> Result<i64, ServiceError> {
    balance_of(tx, Asset::Token, chart, participant).await
}

static AVAILABLE: LazyLock<Listed> = LazyLock::new(|| {
    let (asset, chart) = (Asset::Token.code(), Chart::Available.code());
    let select = format!(
        "SELECT b.owner, b.credits - b.debits FROM asked CROSS JOIN settle_balances b
         WHERE b.asset = {asset} AND b.chart = {chart} AND b.owner = asked.owner"
    );
    Listed::over("asked", &["owner"], &select)
});

/// What these participants have available, in nano-tokens; who never had anything is not there.
pub(super) async fn available(
    tx: &mut Tx,
    participants: &BTreeSet<&ParticipantId>,
) -> Result<BTreeMap<ParticipantId, i64>, ServiceError> {
    let asked = participants.iter().map(|p| args![p.as_str()]).collect();
    let rows: Vec<(String, i64)> = AVAILABLE.fetch(tx, asked).await?;
    let balance = |(owner, balance)| Ok((ParticipantId::new(owner)?, balance));
    rows.into_iter().map(balance).collect()
}

/// What a participant has of an asset on an account, in its smallest unit.
pub(super) async fn balance_of(
    tx: &mut Tx,
    asset: Asset,
    chart: Chart,
    participant: &ParticipantId,
) -> Result<i64, ServiceError> {
    let row: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT credits - debits FROM settle_balances
             WHERE asset = $1 AND chart = $2 AND owner = $3",
            args![
                i64::from(asset.code()),
                i64::from(chart.code()),
                participant.as_str()
            ],
        )
        .await?;
    Ok(row.map_or(0, |(balance,)| balance))
}

/// What stands on an account: credits minus debits, in the asset's smallest unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountBalance {
    /// What is counted.
    pub asset: Asset,
    /// The account.
    pub account: Account,
    /// Credits minus debits.
    pub balance: i64,
}

/// All accounts that anything was ever posted to.
///
/// # Errors
/// The database failed.
pub async fn balances(db: &Db) -> Result<Vec<AccountBalance>, ServiceError> {
    let rows: Vec<(i64, i64, String, i64)> = db
        .fetch_all(
            "SELECT asset, chart, owner, credits - debits FROM settle_balances
             ORDER BY asset, chart, owner",
            args![],
        )
        .await?;
    let balance = |(asset, chart, owner, balance): (i64, i64, String, i64)| {
        let asset = Asset::from_code(number(asset, "an asset")?);
        let asset = asset.ok_or_else(|| corrupt("an unknown asset"))?;
        Ok(AccountBalance {
            asset,
            account: account(chart, &owner)?,
            balance,
        })
    };
    rows.into_iter().map(balance).collect()
}
