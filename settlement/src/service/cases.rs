//! Proofs of broken rules in the books: what witnesses showed, and what signers did twice.

use domain::ids::{Digest32, KeyId, ParticipantId};
use domain::signed::{PublicKey, SignedError};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};

use super::ServiceError;
use super::error::{bytes, corrupt, number};
use super::logs::append;
use super::registry;
use crate::evidence::Evidence;
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind};
use crate::store::LOCK;

/// Most cases of a kind that are listed, the newest.
pub(super) const CASES_MAX: i64 = 1000;

/// A proof that was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// [`Evidence::kind`].
    pub kind: String,
    /// The file's text.
    pub text: String,
    /// When it was kept.
    pub at: Timestamp,
    /// Its place in the ledger log; none where an older program kept it.
    pub log_index: Option<u64>,
}

/// Keeps a proof that has nobody's messages in it, and enters it in the ledger log; the same one once.
///
/// # Errors
/// The database failed.
pub async fn keep_case(
    tx: &mut Tx,
    now: Timestamp,
    evidence: &Evidence,
) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    keep(tx, now, evidence, None).await?;
    Ok(())
}

/// The same, sealed with the salt of whose messages are in it; true where it is new.
pub(super) async fn keep(
    tx: &mut Tx,
    now: Timestamp,
    evidence: &Evidence,
    owner: Option<&ParticipantId>,
) -> Result<bool, ServiceError> {
    let text = evidence.to_text();
    let digest = Digest32::of(text.as_bytes()).0;
    let new = tx
        .execute(
            "INSERT INTO settle_proofs (digest, kind, content, at_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (digest) DO NOTHING",
            args![digest, evidence.kind(), text.as_str(), now.unix_ms()],
        )
        .await?;
    if new == 0 {
        return Ok(false);
    }
    let salt = registry::salt(tx, owner, text.as_bytes()).await?;
    let entry = Entry::new(Kind::Evidence, now, salt, text.as_bytes());
    let index = append(tx, Log::Ledger, &[entry]).await?;
    tx.execute(
        "INSERT INTO settle_case_entries (digest, log_index) VALUES ($1, $2)",
        args![digest, index],
    )
    .await?;
    Ok(true)
}

/// The proofs that were kept, newest first.
///
/// # Errors
/// The database failed.
pub async fn cases(db: &Db) -> Result<Vec<Case>, ServiceError> {
    let rows: Vec<CaseRow> = db
        .fetch_all(
            "SELECT p.kind, p.content, p.at_ms, e.log_index FROM settle_proofs p
             LEFT JOIN settle_case_entries e ON e.digest = p.digest
             ORDER BY p.at_ms DESC, p.digest LIMIT $1",
            args![CASES_MAX],
        )
        .await?;
    rows.into_iter().map(case).collect()
}

/// Those of them that are about the operator or a witness, and have nobody's messages in them.
///
/// # Errors
/// The database failed.
pub async fn public_cases(db: &Db) -> Result<Vec<Case>, ServiceError> {
    let rows: Vec<CaseRow> = db
        .fetch_all(
            "SELECT p.kind, p.content, p.at_ms, e.log_index FROM settle_proofs p
             LEFT JOIN settle_case_entries e ON e.digest = p.digest
             WHERE p.kind IN ('operator_fork', 'witness_fork')
             ORDER BY p.at_ms DESC, p.digest LIMIT $1",
            args![CASES_MAX],
        )
        .await?;
    rows.into_iter().map(case).collect()
}

type CaseRow = (String, String, i64, Option<i64>);

fn case((kind, text, at_ms, log_index): CaseRow) -> Result<Case, ServiceError> {
    let log_index = log_index.map(|index| number(index, "a log position"));
    Ok(Case {
        kind,
        text,
        at: Timestamp::from_unix_ms(at_ms),
        log_index: log_index.transpose()?,
    })
}

/// A checkpoint of this operator that a witness has shown, and that the books did not reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetBack {
    /// Of which log.
    pub log: Log,
    /// The witness's name.
    pub witness: String,
    /// The signed note.
    pub note: String,
    /// When it was shown.
    pub at: Timestamp,
}

/// Keeps what shows that the books were set back; the same note once.
///
/// # Errors
/// The database failed.
pub async fn keep_set_back(tx: &mut Tx, shown: &SetBack) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    tx.execute(
        "INSERT INTO settle_set_back (digest, log, witness, note, at_ms) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (digest) DO NOTHING",
        args![
            Digest32::of(shown.note.as_bytes()).0,
            i64::from(shown.log.code()),
            shown.witness.as_str(),
            shown.note.as_str(),
            shown.at.unix_ms()
        ],
    )
    .await?;
    Ok(())
}

/// What has shown that the books were set back, newest first; whether they still are is to be looked at.
///
/// # Errors
/// The database failed, or is damaged.
pub async fn set_back(db: &Db) -> Result<Vec<SetBack>, ServiceError> {
    let rows: Vec<(i64, String, String, i64)> = db
        .fetch_all(
            "SELECT log, witness, note, at_ms FROM settle_set_back ORDER BY at_ms DESC, digest LIMIT $1",
            args![CASES_MAX],
        )
        .await?;
    let shown = |(code, witness, note, at_ms): (i64, String, String, i64)| {
        let log = Log::ALL
            .into_iter()
            .find(|log| i64::from(log.code()) == code);
        Ok(SetBack {
            log: log.ok_or_else(|| corrupt("an unknown log"))?,
            witness,
            note,
            at: Timestamp::from_unix_ms(at_ms),
        })
    };
    rows.into_iter().map(shown).collect()
}

/// How many pairs of readings under one number there are.
///
/// # Errors
/// The database failed.
pub async fn reading_cases_count(db: &Db) -> Result<i64, ServiceError> {
    let (count,): (i64,) = db
        .fetch_one("SELECT COUNT(*) FROM settle_evidence", args![])
        .await?;
    Ok(count)
}

pub(super) fn key_of(public: &[u8]) -> Result<PublicKey, ServiceError> {
    let weak = |_: SignedError| corrupt("a stored key is no key");
    PublicKey::from_bytes(&bytes(public, "a public key")?).map_err(weak)
}

/// The public key with this short name, whoever holds it.
///
/// # Errors
/// The database failed.
pub async fn enrolled_key(db: &Db, kid: KeyId) -> Result<Option<PublicKey>, ServiceError> {
    let row: Option<(Vec<u8>,)> = db
        .fetch_optional(
            "SELECT public FROM settle_keys WHERE kid = $1",
            args![kid.0],
        )
        .await?;
    row.map(|(public,)| key_of(&public)).transpose()
}
