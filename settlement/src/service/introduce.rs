//! A gateway's or a participant's new key at the door: let in on a claim code, or on the word of the key before it.

use domain::ids::{Digest32, KeyId};
use domain::introduction::{HANDOVERS_MAX, HANDOVERS_SPAN_S, Introduction, KeyRefused, KeyRequest};
use domain::key_holder::KeyHolder;
use domain::key_record::{Holder, KeyRecord, PointRecord};
use domain::signed::{PublicKey, Signed, SignedError};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Tx;

use super::error::{corrupt, stored};
use super::logs::append;
use super::registry::{self, columns, enrol, enrol_in_place, public_key};
use super::{Community, ServiceError, keys};
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind, PUBLIC};
use crate::store::LOCK;

/// Wrong codes that a gateway may try before its claim code is worth nothing. Participants' are not counted: their codes
/// come without a password, so whoever likes could use a code up, and 100 random bits are not found by trying.
pub const CLAIM_ATTEMPTS_MAX: i64 = 10;

/// Why a key was not let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// By name.
    pub reason: KeyRefused,
    /// In a sentence.
    pub detail: String,
    /// From when on the same introduction is let in, where only time stands in its way.
    pub again_at: Option<Timestamp>,
}

impl Refusal {
    /// A refusal that stays one, whenever the same comes again.
    #[must_use]
    pub fn new(reason: KeyRefused, detail: String) -> Self {
        Refusal {
            reason,
            detail,
            again_at: None,
        }
    }
}

/// What a key is let in on.
enum Voucher {
    Claim(ClaimRow),
    Key(registry::EnrolledKey),
}

struct ClaimRow {
    public: PublicKey,
    holder: KeyHolder,
    expires_ms: i64,
    attempts: i64,
    used_ms: Option<i64>,
}

impl Voucher {
    fn public(&self) -> PublicKey {
        match self {
            Voucher::Claim(claim) => claim.public,
            Voucher::Key(key) => key.public,
        }
    }

    fn is_of(&self, holder: &KeyHolder) -> bool {
        match self {
            Voucher::Claim(claim) => claim.holder == *holder,
            Voucher::Key(key) => key.is_of(holder),
        }
    }
}

type Answer<T> = Result<Result<T, Refusal>, ServiceError>;

fn refuse<T>(reason: KeyRefused, detail: String) -> Answer<T> {
    Ok(Err(Refusal::new(reason, detail)))
}

fn unreadable(error: &SignedError) -> KeyRefused {
    match error {
        SignedError::BadSignature | SignedError::BadKey => KeyRefused::BadSignature,
        _ => KeyRefused::NotDeterministic,
    }
}

/// Enrols the key that a holder introduces, a gateway's for the points that the platform has for it, and
/// returns the operator's record of it; or says why not. The same introduction again gives the record
/// again, unless the key was revoked since.
///
/// A refusal is to be committed too, as it counts wrong codes; an error is not.
///
/// # Errors
/// The points cannot be registered, or the database failed.
pub async fn introduce(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    holder: &KeyHolder,
    points: &[PointRecord],
    signed: &Signed<Introduction>,
) -> Answer<Signed<KeyRecord>> {
    tx.exclusive(LOCK).await?;
    let digest = Digest32::of(signed.as_bytes());
    if let Some(kid) = introduced(tx, digest, holder).await? {
        if keys::is_revoked(tx, kid).await? {
            let why = format!("the key {kid} was revoked: make a new one");
            return refuse(KeyRefused::KeyTaken, why);
        }
        return Ok(Ok(newest_record(tx, kid).await?));
    }
    let (voucher, request) = match read(tx, community, holder, signed).await? {
        Ok(read) => read,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Err(refusal) = admissible(tx, now, holder, points, &voucher, &request).await? {
        return Ok(Err(refusal));
    }
    let kid = request.key.id();
    match &voucher {
        Voucher::Claim(_) => {
            let holder = match holder {
                KeyHolder::Gateway(gateway) => Holder::Gateway {
                    gateway: gateway.clone(),
                    points: points.to_vec(),
                },
                KeyHolder::Participant(participant) => Holder::Participant(participant.clone()),
            };
            let record = KeyRecord {
                key: request.key,
                holder,
                valid_from: now,
            };
            enrol(tx, community, now, record).await?;
            tx.execute(
                "UPDATE settle_claims SET used_ms = $1 WHERE kid = $2",
                args![now.unix_ms(), request.introducer.0],
            )
            .await?;
        }
        Voucher::Key(_) => hand_over(tx, community, now, &request).await?,
    }
    let entry = Entry::new(
        Kind::Introduction,
        request.made_at,
        PUBLIC,
        signed.as_bytes(),
    );
    let index = append(tx, Log::Ledger, &[entry]).await?;
    tx.execute(
        "INSERT INTO settle_introductions (digest, kid, introducer, signed, at_ms, log_index)
         VALUES ($1, $2, $3, $4, $5, $6)",
        args![
            digest.0,
            kid.0,
            request.introducer.0,
            signed.as_bytes(),
            now.unix_ms(),
            index
        ],
    )
    .await?;
    Ok(Ok(newest_record(tx, kid).await?))
}

/// The key that this very introduction has let in for the holder before.
async fn introduced(
    tx: &mut Tx,
    digest: Digest32,
    holder: &KeyHolder,
) -> Result<Option<KeyId>, ServiceError> {
    let [gateway, participant] = columns(holder);
    let row: Option<(Vec<u8>,)> = tx
        .fetch_optional(
            "SELECT settle_introductions.kid FROM settle_introductions
             JOIN settle_keys ON settle_keys.kid = settle_introductions.kid
             WHERE digest = $1 AND (gateway = $2 OR participant = $3)",
            args![digest.0, gateway, participant],
        )
        .await?;
    row.map(|(kid,)| super::error::bytes(&kid, "a key's name").map(KeyId))
        .transpose()
}

async fn newest_record(tx: &mut Tx, kid: KeyId) -> Result<Signed<KeyRecord>, ServiceError> {
    let last = Timestamp::from_unix_ms(i64::MAX);
    let record = registry::signed_record(tx, kid, last).await?;
    let (signed, _) = record.ok_or_else(|| corrupt("a key without a record"))?;
    Ok(Signed::from_bytes(signed))
}

/// Who vouches, and what for: both signatures are checked here, and that all of it is about this holder.
async fn read(
    tx: &mut Tx,
    community: &Community,
    holder: &KeyHolder,
    signed: &Signed<Introduction>,
) -> Answer<(Voucher, KeyRequest)> {
    let request = match key_asked(community, holder, signed) {
        Ok(request) => request,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let introducer = request.introducer;
    let Some(voucher) = voucher(tx, introducer).await? else {
        // Whether it was signed with a wrong code nobody can see; that a holder made it is known by now.
        tx.execute(
            "UPDATE settle_claims SET attempts = attempts + 1 WHERE gateway = $1 AND used_ms IS NULL",
            args![columns(holder)[0].clone()],
        )
        .await?;
        let (word, name) = (holder.word(), holder.name());
        let why = format!(
            "no claim code of {name} fits, nor a key of it: make one with `commonwatt keys claim --{word} {name}`, \
             and type it as it is printed"
        );
        return refuse(KeyRefused::ClaimUnknown, why);
    };
    if let Err(error) = signed.verify(voucher.public(), &community.id) {
        return refuse(unreadable(&error), error.to_string());
    }
    if !voucher.is_of(holder) {
        let why = format!("the key {introducer} that vouches is not {holder}'s");
        return refuse(KeyRefused::WrongNetwork, why);
    }
    Ok(Ok((voucher, request)))
}

/// What an introduction's bytes show without the books: which key asks for itself, as this holder's. Whether who vouches
/// has signed and may is not known by it.
///
/// # Errors
/// Why it is refused, whatever is in the books.
pub fn key_asked(
    community: &Community,
    holder: &KeyHolder,
    signed: &Signed<Introduction>,
) -> Result<KeyRequest, Refusal> {
    let refused = |error| Refusal::new(unreadable(&error), error.to_string());
    let introducer = signed.claimed_signer().map_err(refused)?;
    let asked = signed.claimed().map_err(refused)?;
    let request = request_of(&asked, community, introducer)?;
    is_from(holder, &request)?;
    Ok(request)
}

/// The new key's request, if that key has signed it and it names who vouches.
fn request_of(
    introduction: &Introduction,
    community: &Community,
    introducer: KeyId,
) -> Result<KeyRequest, Refusal> {
    let request = introduction.verify_request(&community.id);
    let request = request.map_err(|error| {
        let why = format!("the new key's request: {error}");
        Refusal::new(unreadable(&error), why)
    })?;
    if request.message().introducer != introducer {
        let why = "the request names another key to vouch for it".to_owned();
        return Err(Refusal::new(KeyRefused::BadSignature, why));
    }
    Ok(request.message().clone())
}

fn is_from(holder: &KeyHolder, request: &KeyRequest) -> Result<(), Refusal> {
    if request.holder == *holder {
        return Ok(());
    }
    let meant = &request.holder;
    let why = format!("the introduction is for {meant}, and came as {holder}");
    Err(Refusal::new(KeyRefused::WrongNetwork, why))
}

async fn voucher(tx: &mut Tx, kid: KeyId) -> Result<Option<Voucher>, ServiceError> {
    type Row = (
        Vec<u8>,
        Option<String>,
        Option<String>,
        i64,
        i64,
        Option<i64>,
    );
    let claim: Option<Row> = tx
        .fetch_optional(
            "SELECT public, gateway, participant, expires_ms, attempts, used_ms FROM settle_claims
             WHERE kid = $1",
            args![kid.0],
        )
        .await?;
    if let Some((public, gateway, participant, expires_ms, attempts, used_ms)) = claim {
        return Ok(Some(Voucher::Claim(ClaimRow {
            public: public_key(&public)?,
            holder: keys::holder_of(gateway, participant)?,
            expires_ms,
            attempts,
            used_ms,
        })));
    }
    Ok(registry::key(tx, kid).await?.map(Voucher::Key))
}

/// Whether who vouches may, and whether the new key can be let in.
async fn admissible(
    tx: &mut Tx,
    now: Timestamp,
    holder: &KeyHolder,
    points: &[PointRecord],
    voucher: &Voucher,
    request: &KeyRequest,
) -> Answer<()> {
    let (word, name) = (holder.word(), holder.name());
    let again = format!("make a new code with `commonwatt keys claim --{word} {name}`");
    let introducer = request.introducer;
    match voucher {
        Voucher::Claim(claim) if claim.used_ms.is_some() => {
            let why = format!("this claim code has let in a key already; {again}");
            return refuse(KeyRefused::ClaimUsed, why);
        }
        Voucher::Claim(claim) if claim.attempts >= CLAIM_ATTEMPTS_MAX => {
            let why = format!("{CLAIM_ATTEMPTS_MAX} wrong claim codes were tried; {again}");
            return refuse(KeyRefused::ClaimExhausted, why);
        }
        Voucher::Claim(claim) if claim.expires_ms <= now.unix_ms() => {
            let until = Timestamp::from_unix_ms(claim.expires_ms);
            let why = format!("this claim code was good until {until}; {again}");
            return refuse(KeyRefused::ClaimExpired, why);
        }
        Voucher::Key(_) if keys::is_revoked(tx, introducer).await? => {
            let why = format!("the key {introducer} that vouches is revoked; {again}");
            return refuse(KeyRefused::KeyRevoked, why);
        }
        Voucher::Key(key) if key.replaced.is_some() => {
            let why = format!("the key {introducer} that vouches has a successor already; {again}");
            return refuse(KeyRefused::KeyReplaced, why);
        }
        Voucher::Claim(_) | Voucher::Key(_) => {}
    }
    if let Voucher::Key(_) = voucher
        && let Some(until) = handed_over_enough(tx, holder, now).await?
    {
        return Ok(Err(too_often(holder, until, &again)));
    }
    let known = registry::key(tx, request.key.id()).await?;
    let is_ours = |key: &registry::EnrolledKey| {
        key.public == request.key && key.is_of(holder) && key.replaced.is_none()
    };
    // A claim may let in once more what is in: the gateway has lost the record of it.
    let fits = match (&known, voucher) {
        (None, _) => true,
        (Some(known), Voucher::Claim(_)) => is_ours(known),
        (Some(_), Voucher::Key(_)) => false,
    };
    if !fits || keys::is_revoked(tx, request.key.id()).await? {
        let key = request.key.id();
        let why =
            format!("the key {key} was revoked, replaced or is somebody else's: make a new one");
        return refuse(KeyRefused::KeyTaken, why);
    }
    let strange = request
        .points
        .iter()
        .find(|start| !points.iter().any(|p| p.point == start.point));
    if let Some(strange) = strange {
        let why = format!(
            "point {} is not among the points of {holder} in the platform's site.toml",
            strange.point
        );
        return refuse(KeyRefused::PointsRefused, why);
    }
    Ok(Ok(()))
}

/// A holder's key has handed over as often as it may until then.
fn too_often(holder: &KeyHolder, until: Timestamp, again: &str) -> Refusal {
    let name = holder.name();
    let changed = format!("the key of {name} was changed {HANDOVERS_MAX} times in a day");
    let why = match holder {
        KeyHolder::Participant(_) => format!("{changed}: change it after {until}, or {again}"),
        // A code would part the two keys by time: what the next one has signed meanwhile would come too early.
        KeyHolder::Gateway(_) => format!(
            "{changed}: the next one is let in after {until}, and what it signs until then waits at the gateway"
        ),
    };
    Refusal {
        again_at: Some(until),
        ..Refusal::new(KeyRefused::RateLimited, why)
    }
}

/// Until when a holder's key hands over no more, where it has as often as it may.
async fn handed_over_enough(
    tx: &mut Tx,
    holder: &KeyHolder,
    now: Timestamp,
) -> Result<Option<Timestamp>, ServiceError> {
    let [gateway, participant] = columns(holder);
    let rows: Vec<(i64,)> = tx
        .fetch_all(
            "SELECT i.at_ms FROM settle_introductions i JOIN settle_keys k ON k.kid = i.kid
             JOIN settle_keys before ON before.kid = i.introducer
             WHERE (k.gateway = $1 OR k.participant = $2) AND i.at_ms > $3
             ORDER BY i.at_ms DESC LIMIT $4",
            args![
                gateway,
                participant,
                now.plus_s(-HANDOVERS_SPAN_S).unix_ms(),
                i64::try_from(HANDOVERS_MAX).unwrap_or(i64::MAX)
            ],
        )
        .await?;
    let oldest = rows.last().filter(|_| rows.len() == HANDOVERS_MAX);
    Ok(oldest.map(|(at_ms,)| Timestamp::from_unix_ms(*at_ms).plus_s(HANDOVERS_SPAN_S)))
}

/// Enrols the new key for what the old one was enrolled for. A gateway's from the same times on: what parts the two is
/// the sequence at which each point's chain passes over, not the clock. A participant's from now on, as orders come at once.
async fn hand_over(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    request: &KeyRequest,
) -> Result<(), ServiceError> {
    if let KeyHolder::Participant(participant) = &request.holder {
        let record = KeyRecord {
            key: request.key,
            holder: Holder::Participant(participant.clone()),
            valid_from: now,
        };
        return enrol(tx, community, now, record).await.map(drop);
    }
    for old in registry::records(tx, community, request.introducer).await? {
        let record = KeyRecord {
            key: request.key,
            ..old
        };
        enrol_in_place(tx, community, now, record, now).await?;
    }
    for start in &request.points {
        tx.execute(
            "INSERT INTO settle_handovers (point, kid, old_kid, first_sequence, previous)
             VALUES ($1, $2, $3, $4, $5)",
            args![
                start.point.as_str(),
                request.key.id().0,
                request.introducer.0,
                stored(start.first_sequence)?,
                start.previous.0
            ],
        )
        .await?;
    }
    Ok(())
}
