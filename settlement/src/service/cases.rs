//! Proofs of broken rules in the books: what witnesses showed, and what signers did twice.

use domain::ids::{CommunityId, Digest32, KeyId};
use domain::signed::{PublicKey, SignedError};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};

use super::ServiceError;
use super::error::{bytes, corrupt};
use crate::evidence::{Evidence, Verdict, judge};
use crate::log::checkpoint::Log;
use crate::store::LOCK;

/// Most cases of a kind that are listed, the newest.
const CASES_MAX: i64 = 1000;

/// A proof that was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// [`Evidence::kind`].
    pub kind: String,
    /// The file's text.
    pub text: String,
    /// When it was kept.
    pub at: Timestamp,
}

/// Keeps a proof; the same one once.
///
/// # Errors
/// The database failed.
pub async fn keep_case(
    tx: &mut Tx,
    now: Timestamp,
    evidence: &Evidence,
) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    let text = evidence.to_text();
    tx.execute(
        "INSERT INTO settle_proofs (digest, kind, content, at_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (digest) DO NOTHING",
        args![
            Digest32::of(text.as_bytes()).0,
            evidence.kind(),
            text,
            now.unix_ms()
        ],
    )
    .await?;
    Ok(())
}

/// The proofs that were kept, newest first.
///
/// # Errors
/// The database failed.
pub async fn cases(db: &Db) -> Result<Vec<Case>, ServiceError> {
    let rows: Vec<(String, String, i64)> = db
        .fetch_all(
            "SELECT kind, content, at_ms FROM settle_proofs ORDER BY at_ms DESC, digest LIMIT $1",
            args![CASES_MAX],
        )
        .await?;
    let case = |(kind, text, at_ms)| Case {
        kind,
        text,
        at: Timestamp::from_unix_ms(at_ms),
    };
    Ok(rows.into_iter().map(case).collect())
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

/// The pairs of readings under one number, newest first. A household's registers are in them: for the
/// operator's eyes, and for whoever has to judge.
///
/// # Errors
/// The database failed.
pub async fn reading_cases(
    db: &Db,
    community: &CommunityId,
) -> Result<Vec<Evidence>, ServiceError> {
    type Pair = (Vec<u8>, Vec<u8>, Vec<u8>);
    let rows: Vec<Pair> = db
        .fetch_all(
            "SELECT k.public, e.first, e.second FROM settle_evidence e JOIN settle_keys k ON k.kid = e.kid
             ORDER BY e.at_ms DESC, e.point, e.sequence LIMIT $1",
            args![CASES_MAX],
        )
        .await?;
    let case = |(public, first, second): Pair| {
        let key = key_of(&public)?;
        Ok(Evidence::equivocation(community, key, &first, &second))
    };
    rows.into_iter().map(case).collect()
}

/// What refused readings prove by themselves: a register that went backwards. Newest first; a refusal that
/// proves nothing to others is left out. Energy above the rating is such a one: no record shows by itself that
/// no later one has raised the rating.
///
/// # Errors
/// The database failed.
pub async fn refusal_cases(
    db: &Db,
    community: &CommunityId,
) -> Result<Vec<Evidence>, ServiceError> {
    type Refused = (String, i64, Vec<u8>, Vec<u8>, Vec<u8>);
    let rows: Vec<Refused> = db
        .fetch_all(
            "SELECT r.point, r.sequence, r.kid, r.bytes, k.public
             FROM settle_readings r JOIN settle_keys k ON k.kid = r.kid
             WHERE r.reason = 'value_regression' AND LENGTH(r.bytes) > 0
             ORDER BY r.received_ms DESC, r.point, r.sequence LIMIT $1",
            args![CASES_MAX],
        )
        .await?;
    let mut proven = Vec::new();
    for (point, sequence, kid, refused, public) in rows {
        let key = key_of(&public)?;
        let mut cases = Vec::new();
        let place = || args![point.as_str(), kid.as_slice(), sequence];
        for before in db.fetch_all::<(Vec<u8>,)>(BEFORE, place()).await? {
            let case = Evidence::register_rollback(community, key, &before.0, &refused);
            cases.push(case);
        }
        for after in db.fetch_all::<(Vec<u8>,)>(AFTER, place()).await? {
            let case = Evidence::register_rollback(community, key, &refused, &after.0);
            cases.push(case);
        }
        let holds = |case: &Evidence| matches!(judge(case), Ok(Verdict::Proven { .. }));
        proven.extend(cases.into_iter().find(holds));
    }
    Ok(proven)
}

/// The accepted reading of a key before a sequence, and the one behind it.
const BEFORE: &str =
    "SELECT bytes FROM settle_readings WHERE point = $1 AND kid = $2 AND sequence < $3
     AND reason IS NULL ORDER BY sequence DESC LIMIT 1";
const AFTER: &str =
    "SELECT bytes FROM settle_readings WHERE point = $1 AND kid = $2 AND sequence > $3
     AND reason IS NULL ORDER BY sequence LIMIT 1";

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
