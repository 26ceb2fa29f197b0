//! Evidence that nobody has to hand in: what signers did twice, and what refused readings prove by themselves. Each is
//! kept once, as the file that it was when it was found, and entered in the ledger log.

use domain::ids::{CommunityId, Digest32, KeyId, ParticipantId, PointId};
use domain::key_record::KeyRecord;
use domain::reading::Reading;
use domain::record_word::RecordWord;
use domain::signed::{PublicKey, Signed};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};

use super::cases::{CASES_MAX, keep, key_of};
use super::error::{bytes, number};
use super::gateway_witnesses::gateway_covering;
use super::logs::{frontier, place};
use super::{Community, ServiceError, registry};
use crate::evidence::{Evidence, RecordShown, Verdict, judge};
use crate::log::checkpoint::Log;
use crate::log::proof::LogProof;
use crate::store::LOCK;

/// Most new cases that are looked at together, the newest.
const FOUND_MAX: i64 = 64;
/// So long a refused reading may wait until it is proof: for what its gateway has signed of the log.
const WAIT_MS: i64 = 3_600_000;

/// What a case was found in: a message under a number of its signer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundIn {
    /// `twice`, `refused` or `order`.
    pub kind: &'static str,
    /// The signer's key.
    pub kid: KeyId,
    /// The metering point, or the participant.
    pub whose: String,
    /// The number.
    pub sequence: i64,
}

/// A case that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// In what.
    pub source: FoundIn,
    /// Whose messages are in it: the entry in the log is sealed with their salt. Nobody's are public.
    pub owner: Option<ParticipantId>,
    /// The case; none where there is nothing to prove, so that it is not looked at again.
    pub evidence: Option<Evidence>,
}

/// Whether something was looked at before.
///
/// # Errors
/// The database failed.
pub async fn is_looked_at(db: &Db, source: &FoundIn) -> Result<bool, ServiceError> {
    let row: Option<(i64,)> = db
        .fetch_optional(
            "SELECT sequence FROM settle_case_sources WHERE kind = $1 AND kid = $2 AND whose = $3
             AND sequence = $4",
            args![
                source.kind,
                source.kid.0,
                source.whose.as_str(),
                source.sequence
            ],
        )
        .await?;
    Ok(row.is_some())
}

/// Keeps what was found and enters it in the ledger log, each once; gives how many cases are new.
///
/// # Errors
/// The database failed.
pub async fn keep_found(tx: &mut Tx, now: Timestamp, all: &[Found]) -> Result<usize, ServiceError> {
    tx.exclusive(LOCK).await?;
    let mut new = 0;
    for found in all {
        let digest = match &found.evidence {
            Some(evidence) => {
                new += usize::from(keep(tx, now, evidence, found.owner.as_ref()).await?);
                Some(Digest32::of(evidence.to_text().as_bytes()).0.to_vec())
            }
            None => None,
        };
        let FoundIn {
            kind,
            kid,
            whose,
            sequence,
        } = &found.source;
        tx.execute(
            "INSERT INTO settle_case_sources (kind, kid, whose, sequence, digest)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (kind, kid, whose, sequence) DO NOTHING",
            args![*kind, kid.0, whose.as_str(), *sequence, digest],
        )
        .await?;
    }
    Ok(new)
}

/// What readings that came since `since` prove and was not looked at before, at most 64 of each kind, and whether these
/// are all: of what waits for its proof as many are looked at.
///
/// # Errors
/// The database failed, or is damaged.
pub async fn found_in_readings(
    db: &Db,
    community: &Community,
    now: Timestamp,
    since: Timestamp,
) -> Result<(Vec<Found>, bool), ServiceError> {
    let mut all = twice(db, &community.id, since, FOUND_MAX).await?;
    let refused = refused(db, since, FOUND_MAX).await?;
    let is_full = |count: usize| i64::try_from(count).is_ok_and(|count| count >= FOUND_MAX);
    let is_all = !is_full(all.len()) && !is_full(refused.len());
    for refused in refused {
        let evidence = match refused.reason.as_str() {
            "value_regression" => fell(db, &community.id, &refused).await?,
            _ => above(db, community, now, &refused).await?,
        };
        if evidence.is_none() && now.ms_since(refused.received) < WAIT_MS {
            continue;
        }
        all.push(Found {
            owner: owner(db, &refused.source.whose).await?,
            source: refused.source,
            evidence,
        });
    }
    Ok((all, is_all))
}

/// The pairs of readings under one number that are not kept as cases yet, newest first. A household's registers are in
/// them: for the operator's eyes, and for whoever has to judge.
///
/// # Errors
/// The database failed.
pub async fn reading_cases(
    db: &Db,
    community: &CommunityId,
) -> Result<Vec<Evidence>, ServiceError> {
    let all = twice(db, community, Timestamp::EPOCH, CASES_MAX).await?;
    Ok(all.into_iter().filter_map(|found| found.evidence).collect())
}

/// The registers that went backwards in refused readings and are not kept as cases yet, newest first; a refusal that
/// proves nothing to others is left out. Energy above the rating wants the operator's word, which the platform gives.
///
/// # Errors
/// The database failed.
pub async fn refusal_cases(
    db: &Db,
    community: &CommunityId,
) -> Result<Vec<Evidence>, ServiceError> {
    let mut proven = Vec::new();
    for refused in refused(db, Timestamp::EPOCH, CASES_MAX).await? {
        if refused.reason == "value_regression" {
            proven.extend(fell(db, community, &refused).await?);
        }
    }
    Ok(proven)
}

/// Whose a point is.
async fn owner(db: &Db, point: &str) -> Result<Option<ParticipantId>, ServiceError> {
    let point = registry::point(&mut &*db, &PointId::new(point)?).await?;
    Ok(point.and_then(|point| point.participant))
}

async fn twice(
    db: &Db,
    community: &CommunityId,
    since: Timestamp,
    most: i64,
) -> Result<Vec<Found>, ServiceError> {
    type Pair = (String, Vec<u8>, i64, Vec<u8>, Vec<u8>, Vec<u8>);
    let rows: Vec<Pair> = db
        .fetch_all(
            "SELECT e.point, e.kid, e.sequence, k.public, e.first, e.second
             FROM settle_evidence e JOIN settle_keys k ON k.kid = e.kid
             WHERE e.at_ms >= $1 AND NOT EXISTS (SELECT 1 FROM settle_case_sources m
             WHERE m.kind = 'twice' AND m.kid = e.kid AND m.whose = e.point AND m.sequence = e.sequence)
             ORDER BY e.at_ms DESC, e.point, e.sequence LIMIT $2",
            args![since.unix_ms(), most],
        )
        .await?;
    let mut all = Vec::new();
    for (point, kid, sequence, public, first, second) in rows {
        let evidence = Evidence::equivocation(community, key_of(&public)?, &first, &second);
        all.push(Found {
            owner: owner(db, &point).await?,
            source: FoundIn {
                kind: "twice",
                kid: KeyId(bytes(&kid, "a key's name")?),
                whose: point,
                sequence,
            },
            evidence: Some(evidence),
        });
    }
    Ok(all)
}

/// A refused reading.
struct Refused {
    source: FoundIn,
    reason: String,
    bytes: Vec<u8>,
    key: PublicKey,
    received: Timestamp,
}

async fn refused(db: &Db, since: Timestamp, most: i64) -> Result<Vec<Refused>, ServiceError> {
    type Row = (String, i64, Vec<u8>, String, Vec<u8>, Vec<u8>, i64);
    let rows: Vec<Row> = db
        .fetch_all(
            "SELECT r.point, r.sequence, r.kid, r.reason, r.bytes, k.public, r.received_ms
             FROM settle_readings r JOIN settle_keys k ON k.kid = r.kid
             WHERE r.reason IS NOT NULL AND r.reason IN ('value_regression', 'implausible')
             AND r.received_ms >= $1 AND LENGTH(r.bytes) > 0
             AND NOT EXISTS (SELECT 1 FROM settle_case_sources m WHERE m.kind = 'refused'
             AND m.kid = r.kid AND m.whose = r.point AND m.sequence = r.sequence)
             ORDER BY r.received_ms DESC, r.point, r.sequence LIMIT $2",
            args![since.unix_ms(), most],
        )
        .await?;
    let refused = |(whose, sequence, kid, reason, message, public, received_ms): Row| {
        Ok(Refused {
            source: FoundIn {
                kind: "refused",
                kid: KeyId(bytes(&kid, "a key's name")?),
                whose,
                sequence,
            },
            reason,
            bytes: message,
            key: key_of(&public)?,
            received: Timestamp::from_unix_ms(received_ms),
        })
    };
    rows.into_iter().map(refused).collect()
}

/// The accepted reading of a key before a sequence, and the one behind it.
const BEFORE: &str =
    "SELECT bytes FROM settle_readings WHERE point = $1 AND kid = $2 AND sequence < $3
     AND reason IS NULL ORDER BY sequence DESC LIMIT 1";
const AFTER: &str =
    "SELECT bytes FROM settle_readings WHERE point = $1 AND kid = $2 AND sequence > $3
     AND reason IS NULL ORDER BY sequence LIMIT 1";

/// A register that went backwards within a refused reading, or between it and its neighbours.
async fn fell(
    db: &Db,
    community: &CommunityId,
    refused: &Refused,
) -> Result<Option<Evidence>, ServiceError> {
    let Refused {
        source, key, bytes, ..
    } = refused;
    let mut cases = vec![Evidence::register_rollback(community, *key, bytes, None)];
    let place = || args![source.whose.as_str(), source.kid.0, source.sequence];
    for before in db.fetch_all::<(Vec<u8>,)>(BEFORE, place()).await? {
        let case = Evidence::register_rollback(community, *key, &before.0, Some(bytes));
        cases.push(case);
    }
    for after in db.fetch_all::<(Vec<u8>,)>(AFTER, place()).await? {
        let case = Evidence::register_rollback(community, *key, bytes, Some(&after.0));
        cases.push(case);
    }
    Ok(cases.into_iter().find(is_proven))
}

fn is_proven(case: &Evidence) -> bool {
    matches!(judge(case), Ok(Verdict::Proven { .. }))
}

/// More energy than the key's record allows, with the operator's word that no other counted; none where
/// the gateway has not signed for that record in time.
async fn above(
    db: &Db,
    community: &Community,
    now: Timestamp,
    refused: &Refused,
) -> Result<Option<Evidence>, ServiceError> {
    let (id, operator) = (&community.id, PublicKey::of(&community.operator));
    let reading = Signed::<Reading>::from_bytes(refused.bytes.clone()).verify(refused.key, id);
    let Ok(reading) = reading else {
        return Ok(None);
    };
    let instant = reading.message().interval.end();
    // The size comes first: a record that is entered meanwhile is not spoken about.
    let size = frontier(&mut &*db, Log::Ledger).await?.size();
    let kid = refused.source.kid;
    let record = registry::signed_record(&mut &*db, kid, instant).await?;
    let Some((signed, index)) = record else {
        return Ok(None);
    };
    let Some((covering, note)) = gateway_covering(db, kid, index).await? else {
        return Ok(None);
    };
    let Some(place) = place(db, Log::Ledger, index, covering).await? else {
        return Ok(None);
    };
    let record = Signed::<KeyRecord>::from_bytes(signed.clone()).verify(operator, id);
    let Ok(record) = record else {
        return Ok(None);
    };
    let word = RecordWord {
        key: kid,
        instant,
        record: Digest32::of(&signed),
        valid_from: record.message().valid_from,
        index: number(index, "a log position")?,
        size,
        issued_at: now,
    };
    let word = Signed::sign(&community.operator, id, &word);
    let proof = LogProof {
        extra: None,
        index: place.index,
        path: place.path,
        note,
    };
    let shown = RecordShown {
        signed: &signed,
        word: word.as_bytes(),
        proof: &proof.to_text(),
    };
    let case = Evidence::above_nameplate(id, operator, &refused.bytes, &shown);
    Ok(Some(case).filter(is_proven))
}
