//! Proofs of broken rules in the books: what witnesses showed, and what signers did twice.

use domain::ids::{CommunityId, Digest32, KeyId};
use domain::signed::{PublicKey, SignedError};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};

use super::ServiceError;
use super::error::{bytes, corrupt};
use crate::evidence::Evidence;
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

fn key_of(public: &[u8]) -> Result<PublicKey, ServiceError> {
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
