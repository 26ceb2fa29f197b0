//! Keys at the platform's door: what gateways introduce and what the operator says about them, each in a
//! transaction of its own.

use domain::claim::Claim;
use domain::ids::{Digest32, GatewayId};
use domain::introduction::{DETAIL_MAX_BYTES, Introduction, KeyRefusal, KeyRefused};
use domain::revocation::Revocation;
use domain::signed::Signed;
use runtime::db::Tx;
use serde_json::{Value, json};
use settlement::service::{Refusal, ServiceError};

use super::Shared;
use super::core::Told;
use super::witnesses;

/// The operator's word about keys, as it came.
pub(crate) enum KeyWord {
    /// There is a claim code for a gateway.
    Claim(Vec<u8>),
    /// A key counts no longer.
    Revocation(Vec<u8>),
}

/// What came of the operator's word.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum KeyAnswer {
    /// It stands, now or already before.
    Done(Value),
    /// It does not, and why.
    Refused(String),
    /// The database did not answer: try again.
    Unavailable,
}

/// Takes in what a gateway introduces, and gives what to answer it.
pub(super) async fn introduce(
    shared: &Shared,
    gateway: GatewayId,
    bytes: Vec<u8>,
) -> anyhow::Result<Told> {
    let Shared {
        db,
        community,
        clock,
        site,
        ..
    } = shared;
    let now = clock.now();
    let known = site.gateways.iter().find(|known| known.id == gateway);
    let points = known.map_or(&[][..], |known| &known.points);
    let signed = Signed::<Introduction>::from_bytes(bytes);
    let mut tx = db.begin().await?;
    let answer =
        settlement::service::introduce(&mut tx, community, now, &gateway, points, &signed).await;
    let refusal = match answer {
        Ok(Ok(record)) => {
            witnesses::sign_heads(&mut tx, shared, now).await?;
            tx.commit().await?;
            tracing::info!(%gateway, "a key is enrolled");
            return Ok(Told::Key(gateway, record.as_bytes().to_vec()));
        }
        Ok(Err(refusal)) => {
            tx.commit().await?;
            refusal
        }
        // What the registry refuses leaves nothing behind.
        Err(ServiceError::Refused(detail)) => points_refused(detail),
        Err(error @ ServiceError::Conflict(_)) => points_refused(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let Refusal { reason, mut detail } = refusal;
    tracing::warn!(%gateway, %reason, "a key was not enrolled: {detail}");
    detail.truncate(detail.floor_char_boundary(DETAIL_MAX_BYTES));
    let word = KeyRefusal {
        gateway: gateway.clone(),
        introduction: Digest32::of(signed.as_bytes()),
        reason,
        detail,
        issued_at: now,
    };
    let signed = Signed::sign(&community.operator, &community.id, &word);
    Ok(Told::Key(gateway, signed.as_bytes().to_vec()))
}

fn points_refused(detail: String) -> Refusal {
    Refusal {
        reason: KeyRefused::PointsRefused,
        detail,
    }
}

/// Does what the operator says.
pub(super) async fn say(shared: &Shared, word: KeyWord) -> anyhow::Result<KeyAnswer> {
    let mut tx = shared.db.begin().await?;
    let done = match word {
        KeyWord::Claim(bytes) => claim(&mut tx, shared, bytes).await,
        KeyWord::Revocation(bytes) => revoke(&mut tx, shared, bytes).await,
    };
    match done {
        Ok(answer) => {
            tx.commit().await?;
            Ok(KeyAnswer::Done(answer))
        }
        Err(ServiceError::Refused(why)) => Ok(KeyAnswer::Refused(why)),
        Err(error) => Err(error.into()),
    }
}

async fn claim(tx: &mut Tx, shared: &Shared, bytes: Vec<u8>) -> Result<Value, ServiceError> {
    let (community, now) = (&shared.community, shared.clock.now());
    let signed = Signed::<Claim>::from_bytes(bytes);
    let claim = settlement::service::open_claim(tx, community, now, &signed).await?;
    let gateway = &claim.gateway;
    if !shared
        .site
        .gateways
        .iter()
        .any(|known| known.id == *gateway)
    {
        return Err(ServiceError::Refused(format!(
            "site.toml has no gateway {gateway}: enter it there with its points and password_sha256, and \
             start the platform again"
        )));
    }
    tracing::info!(%gateway, expires = %claim.expires_at, "a claim code was made");
    Ok(json!({ "gateway": gateway.as_str(), "expires": claim.expires_at.to_string() }))
}

async fn revoke(tx: &mut Tx, shared: &Shared, bytes: Vec<u8>) -> Result<Value, ServiceError> {
    let (community, now) = (&shared.community, shared.clock.now());
    let signed = Signed::<Revocation>::from_bytes(bytes);
    // A head from before the word shows which readings were there when it was said.
    witnesses::sign_heads(tx, shared, now).await?;
    let revoked = settlement::service::revoke(tx, community, now, &signed).await?;
    witnesses::sign_heads(tx, shared, now).await?;
    let word = &revoked.revocation;
    tracing::warn!(gateway = %word.gateway, key = %word.key, reason = word.reason, "a key was revoked");
    Ok(json!({
        "gateway": word.gateway.as_str(),
        "key": word.key.to_string(),
        "from_sequence": word.from_sequence,
        "from": word.from.to_string(),
        "already_accepted": revoked.already_accepted,
    }))
}
