//! Who may sign for what: keys, metering points, and each participant's secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use domain::ids::{Digest32, GatewayId, KeyId, ParticipantId, PointId, digest_parts};
use domain::key_holder::KeyHolder;
use domain::key_record::{Holder, KeyRecord, POINTS_MAX, PointRecord, PointRole};
use domain::receipt::Salt;
use domain::signed::{PublicKey, Signed};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Listed, Source, Tx};

use super::error::{bytes, corrupt, number};
use super::logs::append;
use super::{Community, ServiceError, keys};
use crate::accept::RegisteredPoint;
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind, PUBLIC, salt_of};
use crate::store::LOCK;

/// What enrolling did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnrolOutcome {
    /// The key is signed, logged, and valid.
    Enrolled,
    /// The key was enrolled before for the same holder; nothing changed.
    Again,
    /// The key was enrolled before for the same gateway; a newer record names its points as they are now.
    Renewed,
}

/// Enrols a key: the operator signs the record and the ledger log keeps it. A newer key of the same
/// holder replaces the older one from its `valid_from` on; a newer record of the same key adds points.
///
/// # Errors
/// The key belongs to another holder, or a point to another gateway or participant, or a participant
/// would have two connection points, or the record is too large to be read again.
pub async fn enrol(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    record: KeyRecord,
) -> Result<EnrolOutcome, ServiceError> {
    let replaces_at = record.valid_from;
    enrol_in_place(tx, community, now, record, replaces_at).await
}

/// The same for a key that takes the place of the older one at another instant than its own first.
pub(super) async fn enrol_in_place(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    record: KeyRecord,
    replaces_at: Timestamp,
) -> Result<EnrolOutcome, ServiceError> {
    tx.exclusive(LOCK).await?;
    let kid = record.key.id();
    let known = key(tx, kid).await?;
    if let Some(known) = &known {
        let last = record_at(tx, community, kid, Timestamp::from_unix_ms(i64::MAX)).await?;
        let last = last
            .ok_or_else(|| corrupt("a key without a record"))?
            .holder;
        if known.public != record.key || KeyHolder::from(&last) != KeyHolder::from(&record.holder) {
            return Err(ServiceError::Conflict(format!("the record of key {kid}")));
        }
        if last == record.holder {
            return Ok(EnrolOutcome::Again);
        }
    }
    let signed = Signed::sign(&community.operator, &community.id, &record);
    let readable = signed.verify(PublicKey::of(&community.operator), &community.id);
    readable.map_err(|e| {
        ServiceError::Refused(format!(
            "the record of key {kid} is not readable: {e} (a key has at most {POINTS_MAX} points; enrol a \
             second gateway for the rest)"
        ))
    })?;
    let entry = Entry::new(Kind::Key, record.valid_from, PUBLIC, signed.as_bytes());
    let index = append(tx, Log::Ledger, &[entry]).await?;
    let from_ms = record.valid_from.unix_ms();
    tx.execute(
        "INSERT INTO settle_key_records (kid, log_index, valid_from_ms, signed)
         VALUES ($1, $2, $3, $4)",
        args![kid.0, index, from_ms, signed.as_bytes()],
    )
    .await?;
    register(tx, &record).await?;
    if known.is_some() {
        return Ok(EnrolOutcome::Renewed);
    }
    insert_key(tx, now, &record, replaces_at).await?;
    Ok(EnrolOutcome::Enrolled)
}

/// Enters the points of a record, or makes its participant's secret.
async fn register(tx: &mut Tx, record: &KeyRecord) -> Result<(), ServiceError> {
    match &record.holder {
        Holder::Gateway { gateway, points } => {
            for point in points {
                register_point(tx, gateway, point, record.valid_from).await?;
            }
        }
        Holder::Participant(participant) => {
            secret(tx, participant).await?;
        }
    }
    Ok(())
}

/// A holder in the columns `gateway` and `participant`.
pub(super) fn columns(holder: &KeyHolder) -> [Option<String>; 2] {
    [
        holder.gateway().map(GatewayId::to_string),
        holder.participant().map(ParticipantId::to_string),
    ]
}

async fn insert_key(
    tx: &mut Tx,
    now: Timestamp,
    record: &KeyRecord,
    replaces_at: Timestamp,
) -> Result<(), ServiceError> {
    let [gateway, participant] = columns(&KeyHolder::from(&record.holder));
    let from_ms = record.valid_from.unix_ms();
    tx.execute(
        "UPDATE settle_keys SET replaced_ms = $1 WHERE replaced_ms IS NULL
         AND (gateway = $2 OR participant = $3)",
        args![replaces_at.unix_ms(), gateway.clone(), participant.clone()],
    )
    .await?;
    let (kid, public) = (record.key.id().0, record.key.to_bytes());
    tx.execute(
        "INSERT INTO settle_keys (kid, public, gateway, participant, valid_from_ms, enrolled_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
        args![kid, public, gateway, participant, from_ms, now.unix_ms()],
    )
    .await?;
    Ok(())
}

/// The signed record of a key that counts at `at`, and its place in the ledger log.
pub(super) async fn signed_record(
    source: &mut impl Source,
    kid: KeyId,
    at: Timestamp,
) -> Result<Option<(Vec<u8>, i64)>, ServiceError> {
    let row = source.optional(
        "SELECT signed, log_index FROM settle_key_records WHERE kid = $1 AND valid_from_ms <= $2
         ORDER BY valid_from_ms DESC, log_index DESC LIMIT 1",
        args![kid.0, at.unix_ms()],
    );
    Ok(row.await?)
}

/// All records of a key, in the order of their entry.
pub(super) async fn records(
    tx: &mut Tx,
    community: &Community,
    kid: KeyId,
) -> Result<Vec<KeyRecord>, ServiceError> {
    let rows: Vec<(Vec<u8>,)> = tx
        .fetch_all(
            "SELECT signed FROM settle_key_records WHERE kid = $1 ORDER BY log_index",
            args![kid.0],
        )
        .await?;
    let record = |(signed,)| read_record(community, kid, signed);
    rows.into_iter().map(record).collect()
}

fn read_record(
    community: &Community,
    kid: KeyId,
    signed: Vec<u8>,
) -> Result<KeyRecord, ServiceError> {
    let verified = Signed::<KeyRecord>::from_bytes(signed)
        .verify(PublicKey::of(&community.operator), &community.id)
        .map_err(|e| ServiceError::Corrupt(format!("the record of key {kid}: {e}")))?;
    Ok(verified.message().clone())
}

/// The record of a key that counts at `at`.
pub(super) async fn record_at(
    source: &mut impl Source,
    community: &Community,
    kid: KeyId,
    at: Timestamp,
) -> Result<Option<KeyRecord>, ServiceError> {
    let Some((signed, _)) = signed_record(source, kid, at).await? else {
        return Ok(None);
    };
    read_record(community, kid, signed).map(Some)
}

static RECORDS: LazyLock<Listed> = LazyLock::new(|| {
    let select =
        "SELECT asked.kid, asked.at_ms, r.signed FROM asked CROSS JOIN settle_key_records r
         WHERE r.kid = asked.kid AND r.log_index = (SELECT n.log_index FROM settle_key_records n
         WHERE n.kid = asked.kid AND n.valid_from_ms <= asked.at_ms
         ORDER BY n.valid_from_ms DESC, n.log_index DESC LIMIT 1)";
    Listed::over("asked", &["kid", "at_ms"], select)
});

/// The records of keys that count at these instants. A record that several instants share, or that was read before,
/// is verified once.
pub(super) async fn records_at(
    source: &mut impl Source,
    community: &Community,
    asked: &BTreeSet<(KeyId, Timestamp)>,
) -> Result<BTreeMap<(KeyId, Timestamp), Arc<KeyRecord>>, ServiceError> {
    let args = asked.iter().map(|(kid, at)| args![kid.0, at.unix_ms()]);
    let rows: Vec<(Vec<u8>, i64, Vec<u8>)> = RECORDS.fetch(source, args.collect()).await?;
    let record = |(kid, at_ms, signed): (Vec<u8>, i64, Vec<u8>)| {
        let kid = KeyId(bytes(&kid, "a key's name")?);
        let record = known_record(community, kid, signed)?;
        Ok(((kid, Timestamp::from_unix_ms(at_ms)), record))
    };
    rows.into_iter().map(record).collect()
}

/// Points of the records that are remembered; when there are more, all are forgotten and read again.
const REMEMBERED_POINTS_MAX: usize = 1 << 18;

/// Records that were read, by everything that decides what reading them gives: so there is nothing to keep true.
#[derive(Default)]
struct Remembered {
    records: BTreeMap<[u8; 32], Arc<KeyRecord>>,
    points: usize,
}

static REMEMBERED: LazyLock<Mutex<Remembered>> = LazyLock::new(Mutex::default);

fn known_record(
    community: &Community,
    kid: KeyId,
    signed: Vec<u8>,
) -> Result<Arc<KeyRecord>, ServiceError> {
    let operator = PublicKey::of(&community.operator).to_bytes();
    let parts: [&[u8]; 3] = [community.id.as_str().as_bytes(), &operator, &signed];
    let digest = digest_parts("commonwatt/record-memo/v1", &parts);
    let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(record) = remembered.records.get(&digest) {
        return Ok(record.clone());
    }
    let record = Arc::new(read_record(community, kid, signed)?);
    if remembered.points > REMEMBERED_POINTS_MAX {
        *remembered = Remembered::default();
    }
    remembered.points += match &record.holder {
        Holder::Gateway { points, .. } => points.len() + 1,
        Holder::Participant(_) => 1,
    };
    remembered.records.insert(digest, record.clone());
    Ok(record)
}

async fn register_point(
    tx: &mut Tx,
    gateway: &GatewayId,
    record: &PointRecord,
    since: Timestamp,
) -> Result<(), ServiceError> {
    let participant = record.participant.as_ref().map(ParticipantId::to_string);
    if let Some(known) = point(tx, &record.point).await? {
        unchanged(&known, gateway, record)?;
    }
    if record.role == PointRole::Connection {
        let Some(participant) = &participant else {
            let point = &record.point;
            return Err(ServiceError::Refused(format!(
                "connection point {point} is nobody's"
            )));
        };
        let second: Option<(String,)> = tx
            .fetch_optional(
                "SELECT point FROM settle_points WHERE participant = $1 AND role = $2 AND point <> $3",
                args![participant, role_code(PointRole::Connection), record.point.as_str()],
            )
            .await?;
        if let Some((second,)) = second {
            let why = format!("{participant} is connected at {second} already");
            return Err(ServiceError::Refused(why));
        }
    }
    if let Some(participant) = &record.participant {
        secret(tx, participant).await?;
    }
    tx.execute(
        "INSERT INTO settle_points (point, gateway, role, participant, rating_w, since_ms)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (point) DO UPDATE SET rating_w = excluded.rating_w",
        args![
            record.point.as_str(),
            gateway.as_str(),
            role_code(record.role),
            participant,
            record.rating_w,
            since.unix_ms()
        ],
    )
    .await?;
    Ok(())
}

/// Later runs of past intervals bill whom the registry names, so a known point keeps gateway, role and
/// participant.
fn unchanged(
    known: &RegisteredPoint,
    gateway: &GatewayId,
    record: &PointRecord,
) -> Result<(), ServiceError> {
    let point = &record.point;
    if known.gateway != *gateway {
        return Err(ServiceError::Conflict(format!(
            "point {point}, behind another gateway,"
        )));
    }
    if (known.role, &known.participant) == (record.role, &record.participant) {
        return Ok(());
    }
    let words = |role: PointRole, participant: &Option<ParticipantId>| {
        let whose = participant.as_ref().map_or("nobody", ParticipantId::as_str);
        format!("the {} of {whose}", role_word(role))
    };
    Err(ServiceError::Refused(format!(
        "point {point} was {} and is now given as {}: what it metered before is still billed by this \
         name, so set it back, and give a new owner or use a point with a new name",
        words(known.role, &known.participant),
        words(record.role, &record.participant)
    )))
}

const fn role_word(role: PointRole) -> &'static str {
    match role {
        PointRole::Connection => "connection",
        PointRole::Feeder => "feeder",
        PointRole::Submeter => "submeter",
    }
}

/// The participant's secret, made at first use. Who was forgotten gets a new one each time that nobody
/// keeps: their entries go on, and none of them can be opened.
pub(super) async fn secret(
    tx: &mut Tx,
    participant: &ParticipantId,
) -> Result<[u8; 32], ServiceError> {
    if let Some(secret) = known_secret(tx, participant).await? {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(ServiceError::Random)?;
    tx.execute(
        "INSERT INTO settle_secrets (participant, secret) VALUES ($1, $2)
         ON CONFLICT (participant) DO NOTHING",
        args![participant.as_str(), secret],
    )
    .await?;
    Ok(secret)
}

static SECRETS: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT s.participant, s.secret
         FROM asked CROSS JOIN settle_secrets s WHERE s.participant = asked.participant";
    Listed::over("asked", &["participant"], select)
});

/// The secrets of participants; made for whom there is none yet.
pub(super) async fn secrets_of(
    tx: &mut Tx,
    participants: &BTreeSet<&ParticipantId>,
) -> Result<BTreeMap<ParticipantId, [u8; 32]>, ServiceError> {
    let asked = participants.iter().map(|p| args![p.as_str()]).collect();
    let rows: Vec<(String, Vec<u8>)> = SECRETS.fetch(tx, asked).await?;
    let mut secrets = BTreeMap::new();
    for (participant, secret) in rows.into_iter().filter(|(_, secret)| !secret.is_empty()) {
        let secret = bytes(&secret, "a participant's secret")?;
        secrets.insert(ParticipantId::new(participant)?, secret);
    }
    for participant in participants {
        if !secrets.contains_key(*participant) {
            secrets.insert((*participant).clone(), secret(tx, participant).await?);
        }
    }
    Ok(secrets)
}

/// The participant's secret, unless it was never made or was deleted.
pub(super) async fn known_secret(
    source: &mut impl Source,
    participant: &ParticipantId,
) -> Result<Option<[u8; 32]>, ServiceError> {
    let row: Option<(Vec<u8>,)> = source
        .optional(
            "SELECT secret FROM settle_secrets WHERE participant = $1",
            args![participant.as_str()],
        )
        .await?;
    row.filter(|(secret,)| !secret.is_empty())
        .map(|(secret,)| bytes(&secret, "a participant's secret"))
        .transpose()
}

/// Deletes a participant's secret for good: no entry of theirs in any log can be opened any more, by
/// nobody, and no receipt be made. What stands in the tables in clear is not touched.
///
/// # Errors
/// The database failed.
pub async fn forget(tx: &mut Tx, participant: &ParticipantId) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    // An empty secret instead of a missing row: a missing one would be made again.
    tx.execute(
        "INSERT INTO settle_secrets (participant, secret) VALUES ($1, $2)
         ON CONFLICT (participant) DO UPDATE SET secret = excluded.secret",
        args![participant.as_str(), Vec::<u8>::new()],
    )
    .await?;
    Ok(())
}

/// The salt of a participant's entry; public for what is nobody's.
pub(super) async fn salt(
    tx: &mut Tx,
    participant: Option<&ParticipantId>,
    content: &[u8],
) -> Result<Salt, ServiceError> {
    match participant {
        Some(participant) => Ok(salt_of(&secret(tx, participant).await?, content)),
        None => Ok(PUBLIC),
    }
}

/// An enrolled key.
pub(super) struct EnrolledKey {
    pub(super) public: PublicKey,
    pub(super) gateway: Option<GatewayId>,
    pub(super) participant: Option<ParticipantId>,
    pub(super) replaced: Option<Timestamp>,
    /// Whether there is a word of the operator against it, from wherever on.
    pub(super) is_revoked: bool,
}

impl EnrolledKey {
    /// Whether it is this holder's.
    pub(super) fn is_of(&self, holder: &KeyHolder) -> bool {
        (self.gateway.as_ref(), self.participant.as_ref())
            == (holder.gateway(), holder.participant())
    }
}

type KeyRow = (
    Vec<u8>,
    Vec<u8>,
    Option<String>,
    Option<String>,
    Option<i64>,
    i64,
);

static KEYS: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT k.kid, k.public, k.gateway, k.participant, k.replaced_ms, CAST(CASE
         WHEN EXISTS (SELECT 1 FROM settle_revocations r WHERE r.kid = k.kid) THEN 1 ELSE 0 END AS BIGINT)
         FROM asked CROSS JOIN settle_keys k WHERE k.kid = asked.kid";
    Listed::over("asked", &["kid"], select)
});

/// Those of the keys that are enrolled.
pub(super) async fn keys_of(
    source: &mut impl Source,
    kids: &BTreeSet<KeyId>,
) -> Result<BTreeMap<KeyId, EnrolledKey>, ServiceError> {
    let asked = kids.iter().map(|kid| args![kid.0]).collect();
    let rows: Vec<KeyRow> = KEYS.fetch(source, asked).await?;
    rows.into_iter().map(enrolled).collect()
}

fn enrolled(row: KeyRow) -> Result<(KeyId, EnrolledKey), ServiceError> {
    let (kid, public, gateway, participant, replaced_ms, is_revoked) = row;
    let key = EnrolledKey {
        public: public_key(&public)?,
        gateway: gateway.map(GatewayId::new).transpose()?,
        participant: participant.map(ParticipantId::new).transpose()?,
        replaced: replaced_ms.map(Timestamp::from_unix_ms),
        is_revoked: is_revoked == 1,
    };
    Ok((KeyId(bytes(&kid, "a key's name")?), key))
}

/// The enrolled key of this name.
pub(super) async fn key(
    source: &mut impl Source,
    kid: KeyId,
) -> Result<Option<EnrolledKey>, ServiceError> {
    let known = keys_of(source, &BTreeSet::from([kid])).await?;
    Ok(known.into_values().next())
}

pub(super) fn public_key(stored: &[u8]) -> Result<PublicKey, ServiceError> {
    PublicKey::from_bytes(&bytes(stored, "a public key")?)
        .map_err(|_| corrupt("a public key is not usable"))
}

/// Whether a key was ever enrolled, valid or not.
///
/// # Errors
/// The database failed.
pub async fn is_known(tx: &mut Tx, public: PublicKey) -> Result<bool, ServiceError> {
    Ok(key(tx, public.id()).await?.is_some())
}

/// The gateway that holds a key.
///
/// # Errors
/// The database failed.
pub async fn gateway_of_key(db: &Db, kid: KeyId) -> Result<Option<GatewayId>, ServiceError> {
    Ok(key(&mut &*db, kid).await?.and_then(|key| key.gateway))
}

/// The gateway that holds a key, with the key; none where the operator has revoked it.
///
/// # Errors
/// The database failed.
pub async fn gateway_public_key(
    db: &Db,
    kid: KeyId,
) -> Result<Option<(GatewayId, PublicKey)>, ServiceError> {
    if keys::is_revoked(&mut &*db, kid).await? {
        return Ok(None);
    }
    let key = key(&mut &*db, kid).await?;
    Ok(key.and_then(|key| Some((key.gateway?, key.public))))
}

/// The stored number of a role.
pub(super) const fn role_code(role: PointRole) -> i64 {
    match role {
        PointRole::Connection => 0,
        PointRole::Feeder => 1,
        PointRole::Submeter => 2,
    }
}

pub(super) type PointRow = (String, String, i64, Option<String>, i64);

pub(super) fn point_of(row: PointRow) -> Result<RegisteredPoint, ServiceError> {
    let (point, gateway, role, participant, rating_w) = row;
    Ok(RegisteredPoint {
        point: PointId::new(point)?,
        gateway: GatewayId::new(gateway)?,
        role: match role {
            0 => PointRole::Connection,
            1 => PointRole::Feeder,
            2 => PointRole::Submeter,
            _ => return Err(corrupt("a point has an unknown role")),
        },
        participant: participant.map(ParticipantId::new).transpose()?,
        rating_w: number(rating_w, "a point's rating")?,
    })
}

/// All metering points, ordered by name.
///
/// # Errors
/// The database failed.
pub async fn registered_points(db: &Db) -> Result<Vec<RegisteredPoint>, ServiceError> {
    points_until(&mut &*db, Timestamp::from_unix_ms(i64::MAX)).await
}

/// The metering points that were registered by `until`, ordered by name.
pub(super) async fn points_until(
    source: &mut impl Source,
    until: Timestamp,
) -> Result<Vec<RegisteredPoint>, ServiceError> {
    let rows: Vec<PointRow> = source
        .all(
            "SELECT point, gateway, role, participant, rating_w FROM settle_points
             WHERE since_ms <= $1 ORDER BY point",
            args![until.unix_ms()],
        )
        .await?;
    rows.into_iter().map(point_of).collect()
}

/// One metering point.
pub(super) async fn point(
    source: &mut impl Source,
    point: &PointId,
) -> Result<Option<RegisteredPoint>, ServiceError> {
    let row: Option<PointRow> = source
        .optional(
            "SELECT point, gateway, role, participant, rating_w FROM settle_points WHERE point = $1",
            args![point.as_str()],
        )
        .await?;
    row.map(point_of).transpose()
}

/// The digest that names a stored message.
pub(super) fn digest(stored: &[u8]) -> Result<Digest32, ServiceError> {
    bytes(stored, "a digest").map(Digest32)
}
