//! The books are checked before the platform opens: whoever changed them behind its back is found out.

mod contents;
mod explained;
mod market;
mod marks;
mod readings;
mod registry;
mod runs;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use domain::ids::Digest32;
use domain::posting::{Account, Asset, Chart, Run};
use domain::signed::SigningKey;
use runtime::args;
use runtime::db::{Db, DbError};

use self::contents::Contents;
use self::marks::{Marks, Roots};
use super::{ServiceError, balances, logs};
use crate::log::checkpoint::Log;
use crate::log::tree::{Frontier, leaf_hash};

/// Log entries that are read at a time.
const BATCH: i64 = 4096;

/// How a start goes through the logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Portions {
    /// Entries of a log after which the start remembers how far it is.
    pub part: NonZeroU32,
    /// So many of each log's newest entries are checked at every start, whatever was checked before.
    pub recent: u32,
}

impl Default for Portions {
    fn default() -> Self {
        Portions {
            part: const { NonZeroU32::new(1 << 15).unwrap() },
            recent: 100_000,
        }
    }
}

/// The invariant that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The books could not be read.
    #[error("the books cannot be checked: {0}")]
    Read(#[from] ServiceError),
    /// Credits and debits differ.
    #[error("books: the balances of {asset:?} do not sum to zero but to {sum}")]
    NotZero {
        /// Of which asset.
        asset: Asset,
        /// All balances together.
        sum: i128,
    },
    /// A balance is not the sum of its postings.
    #[error("books: {asset:?} on account {account} is {balance}, but its postings sum to {posted}")]
    Balance {
        /// Of which asset.
        asset: Asset,
        /// On which account.
        account: String,
        /// What is kept as balance.
        balance: i128,
        /// What the postings come to.
        posted: i128,
    },
    /// A guarded account is below zero.
    #[error("books: account {account} is below zero: {balance}")]
    BelowZero {
        /// Which account.
        account: Account,
        /// Its balance.
        balance: i64,
    },
    /// The pool kept something of an interval.
    #[error("books: the pool is not empty after the interval that starts at unix second {start_s}")]
    Pool {
        /// Which interval.
        start_s: i64,
    },
    /// Income was held back beyond the final run.
    #[error(
        "books: income of the interval that starts at unix second {start_s} is still held back after its final run"
    )]
    Holdback {
        /// Which interval.
        start_s: i64,
    },
    /// Tokens or stake that no request or deposit explains.
    #[error("books: {what}: by the postings {posted}, by the requests {asked}")]
    Unexplained {
        /// What should be the same.
        what: &'static str,
        /// What the books say, in the smallest unit.
        posted: i64,
        /// What was asked for, in the smallest unit.
        asked: i64,
    },
    /// What the books say is not what was asked for, signed or logged: the sentence says what, and where.
    #[error("books: {0}")]
    Found(String),
    /// A log's entries do not lead to the root it had.
    #[error(
        "books: the {log} log was changed: its first {size} entries do not have the root of {of}"
    )]
    Log {
        /// Which log.
        log: &'static str,
        /// At which size.
        size: u64,
        /// Against what it was checked.
        of: &'static str,
    },
}

impl From<DbError> for BooksError {
    fn from(error: DbError) -> Self {
        BooksError::Read(ServiceError::Db(error))
    }
}

/// Checks the books at a start: [`check_books`], and the contents of the tables as far as no earlier start has checked
/// them, at least what the newest entries of each log commit to ([`Portions`]). A start that ends on the way, or that finds
/// something, has kept what it has checked before: the next one goes on from there.
///
/// # Errors
/// An invariant does not hold, a row is not what was logged, or the books cannot be read or written.
pub async fn check_books_at_start(db: &Db, operator: &SigningKey) -> Result<(), BooksError> {
    check_books_in_portions(db, operator, Portions::default()).await
}

/// [`check_books_at_start`] in portions of another size.
///
/// # Errors
/// As there.
pub async fn check_books_in_portions(
    db: &Db,
    operator: &SigningKey,
    portions: Portions,
) -> Result<(), BooksError> {
    let roots = check_sums(db, portions.part).await?;
    let mut marks = Marks::of(db, operator, portions, roots).await?;
    let mut contents = Contents::of(db, operator).await?;
    contents.check(&mut marks).await
}

/// Checks the books whole: [`check_books`], and every row of the tables that the logs commit to.
///
/// # Errors
/// An invariant does not hold, a row is not what was logged, or the books cannot be read.
pub async fn check_books_whole(db: &Db, operator: &SigningKey) -> Result<(), BooksError> {
    check_books(db).await?;
    let mut contents = Contents::of(db, operator).await?;
    contents.check(&mut Marks::none()).await?;
    contents.check_counts().await
}

/// Checks every sum of the books, what moves tokens outside of the runs, and the logs' roots; the first that is wrong is
/// named.
///
/// # Errors
/// An invariant does not hold, or the books cannot be read.
pub async fn check_books(db: &Db) -> Result<(), BooksError> {
    check_sums(db, Portions::default().part).await?;
    Ok(())
}

/// [`check_books`], and the roots of each log after every `part` entries and after all of them.
async fn check_sums(db: &Db, part: NonZeroU32) -> Result<Roots, BooksError> {
    check_balances(db).await?;
    check_pool(db).await?;
    check_holdback(db).await?;
    check_backing(db).await?;
    explained::check_tokens(db).await?;
    explained::check_held(db).await?;
    let mut roots = Roots::new();
    for log in Log::ALL {
        check_log(db, log, part, &mut roots).await?;
    }
    Ok(roots)
}

type Sums = BTreeMap<(i64, i64, String), i128>;

async fn check_balances(db: &Db) -> Result<(), BooksError> {
    let mut kept = Sums::new();
    let mut totals: BTreeMap<Asset, i128> = BTreeMap::new();
    for line in balances(db).await? {
        let chart = line.account.chart();
        if chart.never_below_zero() && line.balance < 0 {
            return Err(BooksError::BelowZero {
                account: line.account,
                balance: line.balance,
            });
        }
        *totals.entry(line.asset).or_default() += i128::from(line.balance);
        let key = (i64::from(line.asset.code()), i64::from(chart.code()));
        kept.insert(
            (key.0, key.1, line.account.owner().to_owned()),
            i128::from(line.balance),
        );
    }
    if let Some((asset, sum)) = totals.into_iter().find(|(_, sum)| *sum != 0) {
        return Err(BooksError::NotZero { asset, sum });
    }
    let mut posted = Sums::new();
    let rows: Vec<(i64, i64, String, i64)> = db
        .fetch_all(
            "SELECT asset, chart, owner, CAST(SUM(amount) AS BIGINT) FROM
             (SELECT asset, credit_chart AS chart, credit_owner AS owner, amount FROM settle_postings
              UNION ALL
              SELECT asset, debit_chart, debit_owner, -amount FROM settle_postings) AS moved
             GROUP BY asset, chart, owner",
            args![],
        )
        .await?;
    for (asset, chart, owner, sum) in rows {
        posted.insert((asset, chart, owner), i128::from(sum));
    }
    let accounts: Vec<_> = kept.keys().chain(posted.keys()).cloned().collect();
    for key in accounts {
        let balance = kept.get(&key).copied().unwrap_or(0);
        let sum = posted.get(&key).copied().unwrap_or(0);
        if balance != sum {
            let asset = u8::try_from(key.0).ok().and_then(Asset::from_code);
            let asset = asset.ok_or_else(|| super::error::corrupt("an unknown asset"))?;
            let account = format!("{}/{}", key.1, key.2);
            return Err(BooksError::Balance {
                asset,
                account,
                balance,
                posted: sum,
            });
        }
    }
    Ok(())
}

async fn check_pool(db: &Db) -> Result<(), BooksError> {
    let row: Option<(i64,)> = db
        .fetch_optional(
            "SELECT start_s FROM
             (SELECT start_s, asset, amount FROM settle_postings
              WHERE credit_chart = $1 AND start_s IS NOT NULL
              UNION ALL
              SELECT start_s, asset, -amount FROM settle_postings
              WHERE debit_chart = $1 AND start_s IS NOT NULL) AS moved
             GROUP BY start_s, asset HAVING SUM(amount) <> 0 ORDER BY start_s LIMIT 1",
            args![i64::from(Chart::Pool.code())],
        )
        .await?;
    match row {
        Some((start_s,)) => Err(BooksError::Pool { start_s }),
        None => Ok(()),
    }
}

async fn check_holdback(db: &Db) -> Result<(), BooksError> {
    let row: Option<(i64,)> = db
        .fetch_optional(
            "SELECT moved.start_s FROM
             (SELECT start_s, amount FROM settle_postings
              WHERE credit_chart = $1 AND start_s IS NOT NULL
              UNION ALL
              SELECT start_s, -amount FROM settle_postings
              WHERE debit_chart = $1 AND start_s IS NOT NULL) AS moved
             JOIN settle_intervals i ON i.start_s = moved.start_s WHERE i.done >= $2
             GROUP BY moved.start_s HAVING SUM(amount) <> 0 ORDER BY moved.start_s LIMIT 1",
            args![
                i64::from(Chart::Holdback.code()),
                i64::from(Run::Final.code())
            ],
        )
        .await?;
    match row {
        Some((start_s,)) => Err(BooksError::Holdback { start_s }),
        None => Ok(()),
    }
}

/// The bridge, which is minus all tokens that were issued, moves by deposits, withdrawals and cards at chargers and by
/// nothing else; what waits to be paid out, what was paid out, and what stake is asked back are what was asked for.
async fn check_backing(db: &Db) -> Result<(), BooksError> {
    for (what, posted, asked) in BACKING {
        let value = async |sql: &'static str| -> Result<i64, BooksError> {
            let (value,): (i64,) = db.fetch_one(sql, args![]).await?;
            Ok(value)
        };
        let (posted, asked) = (value(posted).await?, value(asked).await?);
        if posted != asked {
            return Err(BooksError::Unexplained {
                what,
                posted,
                asked,
            });
        }
    }
    Ok(())
}

/// What should be the same, and the two statements that say how much it is.
const BACKING: [(&str, &str, &str); 5] = [
    (
        "tokens were issued or taken out by something that is no deposit, withdrawal or card",
        "SELECT COUNT(*) FROM settle_postings WHERE asset = 1
         AND ((debit_chart = 600 AND purpose <> 1 AND NOT (purpose = 2 AND credit_chart = 105))
         OR (credit_chart = 600 AND purpose NOT IN (13, 15) AND NOT (purpose = 3 AND debit_chart = 105)))",
        "SELECT CAST(0 AS BIGINT)",
    ),
    (
        "the postings of runs are not as many as the runs have made",
        "SELECT COUNT(*) FROM settle_postings WHERE run IS NOT NULL",
        "SELECT CAST(COALESCE(SUM(postings), 0) AS BIGINT) FROM settle_runs",
    ),
    (
        "the tokens that were paid out are not those of the confirmed withdrawals",
        "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM settle_postings
         WHERE asset = 1 AND purpose = 15",
        "SELECT CAST(COALESCE(SUM(r.amount), 0) AS BIGINT) FROM settle_token_requests r
         JOIN settle_token_steps s ON s.request = r.id AND s.step = 1 WHERE r.kind = 2",
    ),
    (
        "the tokens that wait to be paid out are not those of the withdrawals that were asked for",
        "SELECT CAST(COALESCE(SUM(credits - debits), 0) AS BIGINT) FROM settle_balances
         WHERE asset = 1 AND chart = 610",
        "SELECT CAST(COALESCE(SUM(r.amount), 0) AS BIGINT) FROM settle_token_requests r WHERE r.kind = 2
         AND NOT EXISTS (SELECT 1 FROM settle_token_steps s WHERE s.request = r.id)",
    ),
    (
        "the stake on its way back is not what was asked back",
        "SELECT CAST(COALESCE(SUM(credits - debits), 0) AS BIGINT) FROM settle_balances
         WHERE asset = 3 AND chart = 410",
        "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM settle_unbonding WHERE is_open = 1",
    ),
];

async fn check_log(
    db: &Db,
    log: Log,
    part: NonZeroU32,
    roots: &mut Roots,
) -> Result<(), BooksError> {
    let kept = logs::frontier(&mut &*db, log).await?;
    let mut signed = signed_roots(db, log).await?;
    let wrong = |size, of| {
        Err(BooksError::Log {
            log: log.word(),
            size,
            of,
        })
    };
    let mut frontier = Frontier::default();
    loop {
        let from = super::error::stored(frontier.size())?;
        let rows: Vec<(i64, Vec<u8>)> = db
            .fetch_all(
                "SELECT idx, leaf FROM settle_log_entries WHERE log = $1 AND idx >= $2
                 ORDER BY idx LIMIT $3",
                args![i64::from(log.code()), from, BATCH],
            )
            .await?;
        if rows.is_empty() {
            break;
        }
        for (index, leaf) in rows {
            if u64::try_from(index) != Ok(frontier.size()) {
                return wrong(frontier.size(), "an entry that is missing");
            }
            frontier.append(leaf_hash(&leaf));
            let expected = signed.remove(&frontier.size());
            if expected.is_some_and(|root| root != frontier.root()) {
                return wrong(frontier.size(), "a signed checkpoint");
            }
            if (index + 1) % i64::from(part.get()) == 0 {
                roots.insert((log, index + 1), frontier.root());
            }
        }
    }
    if frontier != kept {
        return wrong(kept.size(), "the stored state");
    }
    roots.insert((log, super::error::stored(kept.size())?), kept.root());
    // The empty log may have been signed too; nothing else may be left.
    signed.remove(&0);
    match signed.into_keys().next() {
        Some(size) => wrong(size, "a signed checkpoint"),
        None => Ok(()),
    }
}

/// The roots of all signed checkpoints by size. The signatures are not checked here: without the
/// operator's key nobody can make one, and with it no check helps.
async fn signed_roots(db: &Db, log: Log) -> Result<BTreeMap<u64, Digest32>, BooksError> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let rows: Vec<(i64, String)> = db
        .fetch_all(
            "SELECT size, note FROM settle_checkpoints WHERE log = $1",
            args![i64::from(log.code())],
        )
        .await?;
    let mut roots = BTreeMap::new();
    for (size, note) in rows {
        let root = note
            .lines()
            .nth(2)
            .and_then(|line| STANDARD.decode(line).ok());
        let root = root.and_then(|bytes| bytes.try_into().ok()).map(Digest32);
        let root = root.ok_or_else(|| super::error::corrupt("a checkpoint's note has no root"))?;
        roots.insert(super::error::number(size, "a checkpoint's size")?, root);
    }
    Ok(roots)
}
