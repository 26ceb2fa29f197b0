//! What witnesses have signed: kept beside the checkpoints, and shown with them.

use domain::acceptance::LedgerHead;
use domain::ids::Digest32;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};

use super::ServiceError;
use super::error::{corrupt, number, stored};
use super::logs::{path, place};
use super::shown;
use crate::log::checkpoint::Log;
use crate::log::entry::Entry;
use crate::log::note::{NoteSignature, SIGNATURES_MAX};
use crate::log::proof::{LogProof, extra};
use crate::log::tree::{Plan, consistency_plan, root_plan};
use crate::store::LOCK;

/// A cosigned checkpoint is shown instead of a newer one that nobody has cosigned yet, if it is at most so
/// much older.
pub(super) const COSIGNED_AGE_MAX_MS: i64 = 15 * 60_000;

/// Keeps a witness's signature for the checkpoint of this size. One of a witness for a checkpoint is enough.
///
/// # Errors
/// The database failed.
pub async fn keep_cosignature(
    tx: &mut Tx,
    now: Timestamp,
    log: Log,
    size: u64,
    signature: &NoteSignature,
) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    tx.execute(
        "INSERT INTO settle_cosignatures (log, size, witness, line, at_ms)
         SELECT log, size, $3, $4, $5 FROM settle_checkpoints WHERE log = $1 AND size = $2
         ON CONFLICT (log, size, witness) DO NOTHING",
        args![
            i64::from(log.code()),
            stored(size)?,
            signature.name.as_str(),
            signature.line(),
            now.unix_ms()
        ],
    )
    .await?;
    shown::advance(tx, log).await
}

/// The size of the newest checkpoint that a witness has signed.
///
/// # Errors
/// The database failed.
pub async fn cosigned_size(db: &Db, log: Log, witness: &str) -> Result<Option<u64>, ServiceError> {
    let newest: Option<(i64,)> = db
        .fetch_optional(
            "SELECT size FROM settle_cosignatures WHERE log = $1 AND witness = $2
             ORDER BY size DESC LIMIT 1",
            args![i64::from(log.code()), witness],
        )
        .await?;
    newest
        .map(|(size,)| number(size, "a checkpoint's size"))
        .transpose()
}

/// The newest checkpoint that a witness has signed, as a note with its signature below the operator's.
///
/// # Errors
/// The database failed.
pub async fn cosigned_checkpoint(
    db: &Db,
    log: Log,
    witness: &str,
) -> Result<Option<String>, ServiceError> {
    let row: Option<(String, String)> = db
        .fetch_optional(
            "SELECT p.note, c.line FROM settle_cosignatures c
             JOIN settle_checkpoints p ON p.log = c.log AND p.size = c.size
             WHERE c.log = $1 AND c.witness = $2 ORDER BY c.size DESC LIMIT 1",
            args![i64::from(log.code()), witness],
        )
        .await?;
    Ok(row.map(|(note, line)| note + &line))
}

/// The size and note of the checkpoint to show, with the signatures of the witnesses: the one that was chosen (`shown.rs`),
/// or the newest of all where that one is much older. Of a log that nobody signs for it is the newest that the ledger
/// log's shown one has taken in, so that a reader finds it there.
///
/// # Errors
/// The database failed.
pub async fn published_checkpoint(
    db: &Db,
    log: Log,
) -> Result<Option<(u64, String)>, ServiceError> {
    let code = i64::from(log.code());
    let shown = match chosen(db, log).await? {
        Some(chosen) => Some(chosen),
        None => match taken_in(db, log).await? {
            Some(taken_in) => Some(taken_in),
            None => newest(db, code).await?,
        },
    };
    match shown {
        Some((size, note)) => Ok(Some((
            number(size, "a checkpoint's size")?,
            with_cosignatures(db, code, size, note).await?,
        ))),
        None => Ok(None),
    }
}

/// The signed checkpoint that was chosen to be shown, while it is young enough.
async fn chosen(db: &Db, log: Log) -> Result<Option<(i64, String)>, ServiceError> {
    Ok(db
        .fetch_optional(
            "SELECT size, note FROM settle_checkpoints WHERE log = $1 AND size IN
             (SELECT size FROM settle_shown_checkpoints WHERE log = $1) AND at_ms >= (SELECT at_ms
             FROM settle_checkpoints WHERE log = $1 ORDER BY size DESC LIMIT 1) - $2",
            args![i64::from(log.code()), COSIGNED_AGE_MAX_MS],
        )
        .await?)
}

/// The newest checkpoint of another log in the ledger log's chosen one.
async fn taken_in(db: &Db, log: Log) -> Result<Option<(i64, String)>, ServiceError> {
    let ledger = match log {
        Log::Ledger => None,
        Log::Readings | Log::Market => chosen(db, Log::Ledger).await?,
    };
    let Some((size, _)) = ledger else {
        return Ok(None);
    };
    Ok(db
        .fetch_optional(
            "SELECT size, note FROM settle_checkpoints WHERE log = $1 AND ledger_index < $2
             ORDER BY size DESC LIMIT 1",
            args![i64::from(log.code()), size],
        )
        .await?)
}

async fn newest(db: &Db, code: i64) -> Result<Option<(i64, String)>, ServiceError> {
    Ok(db
        .fetch_optional(
            "SELECT size, note FROM settle_checkpoints WHERE log = $1 ORDER BY size DESC LIMIT 1",
            args![code],
        )
        .await?)
}

/// Witnesses first, so that no number of gateways drives one out; then gateways in the order of their keys' names, the
/// same ones every time.
async fn with_cosignatures(
    db: &Db,
    code: i64,
    size: i64,
    note: String,
) -> Result<String, ServiceError> {
    // The operator's own signature is the first of them.
    let room = i64::try_from(SIGNATURES_MAX - 1).unwrap_or(i64::MAX);
    let lines: Vec<(String,)> = db
        .fetch_all(
            "SELECT line FROM settle_cosignatures WHERE log = $1 AND size = $2 ORDER BY witness LIMIT $3",
            args![code, size, room],
        )
        .await?;
    let room = SIGNATURES_MAX - 1 - lines.len();
    let gateways: Vec<(String,)> = match code == i64::from(Log::Ledger.code()) {
        true => {
            db.fetch_all(
                "SELECT line FROM settle_gateway_cosignatures WHERE size = $1 ORDER BY kid LIMIT $2",
                args![size, i64::try_from(room).unwrap_or(0)],
            )
            .await?
        }
        false => Vec::new(),
    };
    let lines = lines.into_iter().chain(gateways);
    Ok(lines.fold(note, |note, (line,)| note + &line))
}

/// The operator's own note of the newest checkpoint of exactly this size.
///
/// # Errors
/// The database failed.
pub async fn checkpoint_at(db: &Db, log: Log, size: u64) -> Result<Option<String>, ServiceError> {
    let row: Option<(String,)> = db
        .fetch_optional(
            "SELECT note FROM settle_checkpoints WHERE log = $1 AND size = $2",
            args![i64::from(log.code()), stored(size)?],
        )
        .await?;
    Ok(row.map(|(note,)| note))
}

/// The root that a log had when it had `size` entries; `None` where it never had as many.
///
/// # Errors
/// The database failed.
pub async fn root_at(db: &Db, log: Log, size: u64) -> Result<Option<Digest32>, ServiceError> {
    if size > super::logs::frontier(&mut &*db, log).await?.size() {
        return Ok(None);
    }
    let roots = folded(db, log, &root_plan(size)).await?;
    Ok(Some(
        roots
            .first()
            .copied()
            .unwrap_or_else(crate::log::tree::empty_root),
    ))
}

/// The hashes of a proof by its plan.
///
/// # Errors
/// The database failed, or the log is not as long as the plan wants it.
pub async fn folded(db: &Db, log: Log, plan: &Plan) -> Result<Vec<Digest32>, ServiceError> {
    path(db, log, plan).await
}

/// The proof that a log holds the entry at `index`, under the checkpoint of `size` entries, or the one that is
/// shown at the moment; `None` where there is no such checkpoint, or it does not reach the entry.
///
/// # Errors
/// The database failed.
pub async fn log_proof(
    db: &Db,
    log: Log,
    index: u64,
    size: Option<u64>,
) -> Result<Option<LogProof>, ServiceError> {
    let code = i64::from(log.code());
    let under = match size {
        None => published_checkpoint(db, log).await?,
        Some(size) => match checkpoint_at(db, log, size).await? {
            Some(note) => Some((
                size,
                with_cosignatures(db, code, stored(size)?, note).await?,
            )),
            None => None,
        },
    };
    let Some((size, note)) = under.filter(|(size, _)| index < *size) else {
        return Ok(None);
    };
    let index = stored(index)?;
    let Some(place) = place(db, log, index, size).await? else {
        return Ok(None);
    };
    let (leaf,): (Vec<u8>,) = db
        .fetch_one(
            "SELECT leaf FROM settle_log_entries WHERE log = $1 AND idx = $2",
            args![code, index],
        )
        .await?;
    let entry = Entry::from_leaf(&leaf).ok_or_else(|| corrupt("a log's entry"))?;
    Ok(Some(LogProof {
        extra: Some(extra(&entry, None)),
        index: place.index,
        path: place.path,
        note,
    }))
}

/// A checkpoint of the ledger log and its size, with the proof that it begins with the tree of `seen`
/// entries; without a proof where there is no such tree. It is the newest, or the one of `at` entries where there is
/// one and it is no smaller than what was seen. `None` before the first checkpoint.
///
/// # Errors
/// The database failed.
pub async fn ledger_head(
    db: &Db,
    seen: Option<u64>,
    at: Option<u64>,
) -> Result<Option<(u64, LedgerHead)>, ServiceError> {
    let shown = match at.filter(|at| seen.is_none_or(|seen| seen <= *at)) {
        Some(at) => checkpoint_at(db, Log::Ledger, at).await?.zip(Some(at)),
        None => None,
    };
    let (note, size) = match shown {
        Some(shown) => shown,
        None => match newest(db, i64::from(Log::Ledger.code())).await? {
            Some((size, note)) => (note, number(size, "a checkpoint's size")?),
            None => return Ok(None),
        },
    };
    let proof = match seen {
        Some(old) => match consistency_plan(old, size) {
            Some(plan) => Some((old, path(db, Log::Ledger, &plan).await?)),
            None => None,
        },
        None => None,
    };
    let (old, path) = proof.unwrap_or_default();
    Ok(Some((size, LedgerHead { note, old, path })))
}
