//! What the operator says about gateways' and participants' keys: claim codes that let new ones in, revocations of old
//! ones, and the list of all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use domain::claim::Claim;
use domain::ids::{GatewayId, KeyId, ParticipantId};
use domain::key_holder::KeyHolder;
use domain::revocation::Revocation;
use domain::signed::{Message, PublicKey, Signed, Verified};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Listed, Source, Tx};

use super::error::{bytes, corrupt, number, stored};
use super::logs::append;
use super::registry::columns;
use super::{Community, ServiceError, registry};
use crate::accept::CLOCK_TOLERANCE_MS;
pub use crate::accept::WORD_AGE_MAX_MS;
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind, PUBLIC};
use crate::store::LOCK;

/// Longest life of a claim code.
pub const CLAIM_LIFE_MAX_MS: i64 = 30 * 86_400_000;

/// A key of a gateway and how it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayKey {
    /// Whose it is.
    pub gateway: GatewayId,
    /// Its short name.
    pub kid: KeyId,
    /// When it was enrolled.
    pub enrolled: Timestamp,
    /// When a newer one took its place.
    pub replaced: Option<Timestamp>,
    /// The highest sequence that was accepted under it.
    pub newest_sequence: Option<u64>,
    /// From where on it counts no longer, and why: the newest word on it.
    pub revoked: Option<RevokedKey>,
}

/// How a key was revoked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevokedKey {
    /// From this sequence on.
    pub from_sequence: u64,
    /// And for intervals that end later.
    pub from: Timestamp,
    /// Why.
    pub reason: String,
}

/// A claim code that can still be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenClaim {
    /// By whom.
    pub holder: KeyHolder,
    /// Until when.
    pub expires: Timestamp,
    /// Wrong codes that were tried meanwhile.
    pub attempts: i64,
}

/// Checks that bytes are the operator's word of this kind, said just now.
fn word<T: Message>(
    community: &Community,
    now: Timestamp,
    signed: &Signed<T>,
    issued_at: fn(&T) -> Timestamp,
) -> Result<Verified<T>, ServiceError> {
    let refuse = |why: String| ServiceError::Refused(why);
    let verified = signed
        .verify(PublicKey::of(&community.operator), &community.id)
        .map_err(|error| refuse(format!("this is not the operator's word: {error}")))?;
    let issued_at = issued_at(verified.message());
    let age_ms = now.ms_since(issued_at);
    if !(-CLOCK_TOLERANCE_MS..=WORD_AGE_MAX_MS).contains(&age_ms) {
        return Err(refuse(format!(
            "this was signed at {issued_at}, and it is {now} here: only what was signed within the last \
             hour is taken, so say it again"
        )));
    }
    Ok(verified)
}

/// The claim, if it is the operator's word of just now. Asks no books.
///
/// # Errors
/// It is not.
pub fn claim_said(
    community: &Community,
    now: Timestamp,
    signed: &Signed<Claim>,
) -> Result<Verified<Claim>, ServiceError> {
    word(community, now, signed, |claim| claim.issued_at)
}

/// The revocation, if it is the operator's word of just now. Asks no books.
///
/// # Errors
/// It is not.
pub fn revocation_said(
    community: &Community,
    now: Timestamp,
    signed: &Signed<Revocation>,
) -> Result<Verified<Revocation>, ServiceError> {
    word(community, now, signed, |word| word.issued_at)
}

/// Notes a claim code that the operator made; codes of the same holder that nobody used become worthless.
/// The same word again changes nothing.
///
/// # Errors
/// Not the operator's word of just now, a life that is too long, or the database failed.
pub async fn open_claim(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    signed: &Signed<Claim>,
) -> Result<Claim, ServiceError> {
    tx.exclusive(LOCK).await?;
    let verified = claim_said(community, now, signed)?;
    let claim = verified.message();
    let life_ms = claim.expires_at.ms_since(claim.issued_at);
    if !(1..=CLAIM_LIFE_MAX_MS).contains(&life_ms) {
        let why = "a claim code lives at most 30 days, and longer than not at all".to_owned();
        return Err(ServiceError::Refused(why));
    }
    let [gateway, participant] = columns(&claim.holder);
    let added = tx
        .execute(
            "INSERT INTO settle_claims
             (kid, gateway, participant, public, signed, issued_ms, expires_ms, attempts)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 0) ON CONFLICT (kid) DO NOTHING",
            args![
                claim.key.id().0,
                gateway.clone(),
                participant.clone(),
                claim.key.to_bytes(),
                signed.as_bytes(),
                claim.issued_at.unix_ms(),
                claim.expires_at.unix_ms()
            ],
        )
        .await?;
    if added > 0 {
        tx.execute(
            "UPDATE settle_claims SET expires_ms = $1
             WHERE (gateway = $2 OR participant = $3) AND kid <> $4 AND used_ms IS NULL
             AND expires_ms > $1",
            args![now.unix_ms(), gateway, participant, claim.key.id().0],
        )
        .await?;
    }
    Ok(claim.clone())
}

/// What revoking did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revoked {
    /// The word that was said.
    pub revocation: Revocation,
    /// A gateway's readings beyond it that are in the books already, and stay there.
    pub already_accepted: u64,
}

/// Takes the operator's revocation of a key into the books and the ledger log. What is in the
/// books stays in the books; what comes later and is covered is refused. The same word again changes
/// nothing.
///
/// # Errors
/// Not the operator's word of just now, no such key, or the database failed.
pub async fn revoke(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    signed: &Signed<Revocation>,
) -> Result<Revoked, ServiceError> {
    tx.exclusive(LOCK).await?;
    let verified = revocation_said(community, now, signed)?;
    let revocation = verified.message().clone();
    let (kid, holder) = (revocation.key, &revocation.holder);
    let known = registry::key(tx, kid).await?;
    if known.is_none_or(|key| !key.is_of(holder)) {
        let (word, name) = (holder.word(), holder.name());
        let why = format!("{word} {name} has no key {kid}: see `commonwatt keys list`");
        return Err(ServiceError::Refused(why));
    }
    let from_sequence = stored(revocation.from_sequence)?;
    let from_ms = revocation.from.unix_ms();
    let before: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT log_index FROM settle_revocations WHERE digest = $1",
            args![verified.digest().0],
        )
        .await?;
    let [gateway, participant] = columns(holder);
    if before.is_none() {
        let entry = Entry::new(Kind::Revocation, revocation.from, PUBLIC, signed.as_bytes());
        let index = append(tx, Log::Ledger, &[entry]).await?;
        tx.execute(
            "INSERT INTO settle_revocations
             (kid, log_index, digest, gateway, participant, from_sequence, from_ms, reason, signed, at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            args![
                kid.0,
                index,
                verified.digest().0,
                gateway.clone(),
                participant,
                from_sequence,
                from_ms,
                revocation.reason.as_str(),
                signed.as_bytes(),
                now.unix_ms()
            ],
        )
        .await?;
    }
    let (already,): (i64,) = tx
        .fetch_one(
            "SELECT COUNT(*) FROM settle_readings
             WHERE point IN (SELECT point FROM settle_points WHERE gateway = $1) AND kid = $2
             AND reason IS NULL AND (sequence >= $3 OR (start_s + length_s) * 1000 > $4)",
            args![gateway, kid.0, from_sequence, from_ms],
        )
        .await?;
    Ok(Revoked {
        revocation,
        already_accepted: number(already, "a count")?,
    })
}

/// From where on a key is revoked.
pub(super) struct RevokedFrom {
    pub(super) sequence: i64,
    pub(super) at_ms: i64,
}

static REVOCATIONS: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT r.kid, r.from_sequence, r.from_ms
         FROM asked CROSS JOIN settle_revocations r WHERE r.kid = asked.kid";
    Listed::over("asked", &["kid"], select)
});

/// The operator's words on these keys; of several on a key all hold.
pub(super) async fn revocations_of(
    tx: &mut Tx,
    kids: &BTreeSet<KeyId>,
) -> Result<BTreeMap<KeyId, Vec<RevokedFrom>>, ServiceError> {
    let asked = kids.iter().map(|kid| args![kid.0]).collect();
    let rows: Vec<(Vec<u8>, i64, i64)> = REVOCATIONS.fetch(tx, asked).await?;
    let mut words: BTreeMap<KeyId, Vec<RevokedFrom>> = BTreeMap::new();
    for (kid, sequence, at_ms) in rows {
        let kid = KeyId(bytes(&kid, "a key's name")?);
        let word = RevokedFrom { sequence, at_ms };
        words.entry(kid).or_default().push(word);
    }
    Ok(words)
}

/// Whether the operator has revoked this key, from wherever on.
pub(super) async fn is_revoked(source: &mut impl Source, kid: KeyId) -> Result<bool, ServiceError> {
    let row: Option<(i64,)> = source
        .optional(
            "SELECT log_index FROM settle_revocations WHERE kid = $1 LIMIT 1",
            args![kid.0],
        )
        .await?;
    Ok(row.is_some())
}

/// The keys of all gateways, each gateway's in the order in which they were enrolled.
///
/// # Errors
/// The database failed.
pub async fn gateway_keys(db: &Db) -> Result<Vec<GatewayKey>, ServiceError> {
    type Row = (String, Vec<u8>, i64, Option<i64>, Option<i64>);
    let rows: Vec<Row> = db
        .fetch_all(
            "SELECT gateway, kid, enrolled_ms, replaced_ms, (SELECT MAX(sequence) FROM settle_readings
             WHERE settle_readings.kid = settle_keys.kid AND reason IS NULL AND point IN
             (SELECT point FROM settle_points WHERE settle_points.gateway = settle_keys.gateway))
             FROM settle_keys WHERE gateway IS NOT NULL ORDER BY gateway, enrolled_ms, kid",
            args![],
        )
        .await?;
    let mut words = newest_words(db).await?;
    let key = |(gateway, kid, enrolled_ms, replaced_ms, newest): Row| {
        let kid = KeyId(bytes(&kid, "a key's name")?);
        Ok(GatewayKey {
            gateway: GatewayId::new(gateway)?,
            kid,
            enrolled: Timestamp::from_unix_ms(enrolled_ms),
            replaced: replaced_ms.map(Timestamp::from_unix_ms),
            newest_sequence: newest.map(|n| number(n, "a sequence")).transpose()?,
            revoked: words.remove(&kid),
        })
    };
    rows.into_iter().map(key).collect()
}

/// The operator's newest word on each key that was revoked.
pub(super) async fn newest_words(db: &Db) -> Result<BTreeMap<KeyId, RevokedKey>, ServiceError> {
    type Word = (Vec<u8>, i64, i64, String);
    let words: Vec<Word> = db
        .fetch_all(
            "SELECT kid, from_sequence, from_ms, reason FROM settle_revocations ORDER BY log_index",
            args![],
        )
        .await?;
    let word = |(kid, from_sequence, from_ms, reason): Word| {
        let word = RevokedKey {
            from_sequence: number(from_sequence, "a sequence")?,
            from: Timestamp::from_unix_ms(from_ms),
            reason,
        };
        Ok((KeyId(bytes(&kid, "a key's name")?), word))
    };
    // A later word on the same key takes the earlier one's place here.
    words.into_iter().map(word).collect()
}

/// The claim codes that can be used at `now`.
///
/// # Errors
/// The database failed.
pub async fn open_claims(db: &Db, now: Timestamp) -> Result<Vec<OpenClaim>, ServiceError> {
    type Row = (Option<String>, Option<String>, i64, i64);
    let rows: Vec<Row> = db
        .fetch_all(
            "SELECT gateway, participant, expires_ms, attempts FROM settle_claims
             WHERE used_ms IS NULL AND expires_ms > $1 AND attempts < $2
             ORDER BY gateway, participant",
            args![now.unix_ms(), super::introduce::CLAIM_ATTEMPTS_MAX],
        )
        .await?;
    let claim = |(gateway, participant, expires_ms, attempts): Row| {
        Ok(OpenClaim {
            holder: holder_of(gateway, participant)?,
            expires: Timestamp::from_unix_ms(expires_ms),
            attempts,
        })
    };
    rows.into_iter().map(claim).collect()
}

/// The holder that two columns name.
pub(super) fn holder_of(
    gateway: Option<String>,
    participant: Option<String>,
) -> Result<KeyHolder, ServiceError> {
    match (gateway, participant) {
        (Some(gateway), None) => Ok(GatewayId::new(gateway)?.into()),
        (None, Some(participant)) => Ok(ParticipantId::new(participant)?.into()),
        _ => Err(corrupt("a key's holder is nobody, or two")),
    }
}

/// The key that a gateway signs with now, revoked or not; none before the first was enrolled.
///
/// # Errors
/// The database failed.
pub async fn gateway_key(
    tx: &mut Tx,
    gateway: &GatewayId,
) -> Result<Option<PublicKey>, ServiceError> {
    let row: Option<(Vec<u8>,)> = tx
        .fetch_optional(
            "SELECT public FROM settle_keys WHERE gateway = $1 AND replaced_ms IS NULL",
            args![gateway.as_str()],
        )
        .await?;
    row.map(|(public,)| registry::public_key(&public))
        .transpose()
}
