//! Keys at the platform's door: what gateways and participants introduce and what the operator says about keys, each in a
//! transaction of its own.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::claim::Claim;
use domain::ids::{Digest32, GatewayId, KeyId, ParticipantId};
use domain::introduction::{DETAIL_MAX_BYTES, Introduction, KeyRefusal, KeyRefused};
use domain::key_holder::KeyHolder;
use domain::revocation::Revocation;
use domain::signed::Signed;
use runtime::db::Tx;
use serde_json::{Value, json};
use settlement::service::{Refusal, ServiceError};

use super::Shared;
use super::core::Told;
use super::key_ring::members;
use super::witnesses;

/// A word about keys, as it came.
pub(crate) enum KeyWord {
    /// A participant's new key, introduced.
    Introduction(Vec<u8>),
    /// The operator has made a claim code.
    Claim(Vec<u8>),
    /// A key counts no longer.
    Revocation(Vec<u8>),
}

impl KeyWord {
    /// The answer, where it is clear without the books: why the word is not taken, or what was answered to the same one
    /// before. Anybody may send a word, and whatever comes to the writer takes its turn: so this is asked before.
    pub(crate) fn answer_unasked(&self, shared: &Shared) -> Option<KeyAnswer> {
        if let Some(why) = self.refused_unasked(shared) {
            return Some(KeyAnswer::Refused(why));
        }
        shared
            .said
            .answer(self.remembered_as()?)
            .map(KeyAnswer::Done)
    }

    /// Under what its answer is remembered; that to an introduction is not.
    fn remembered_as(&self) -> Option<Digest32> {
        match self {
            KeyWord::Introduction(_) => None,
            KeyWord::Claim(bytes) | KeyWord::Revocation(bytes) => Some(Digest32::of(bytes)),
        }
    }

    /// Why it is not taken, where that shows by itself.
    fn refused_unasked(&self, shared: &Shared) -> Option<String> {
        let (community, now) = (&shared.community, shared.clock.now());
        let said = match self {
            KeyWord::Introduction(bytes) => {
                let signed = Signed::from_bytes(bytes.clone());
                return own_request(shared, &signed).err();
            }
            KeyWord::Claim(bytes) => {
                let signed = Signed::from_bytes(bytes.clone());
                settlement::service::claim_said(community, now, &signed).map(drop)
            }
            KeyWord::Revocation(bytes) => {
                let signed = Signed::from_bytes(bytes.clone());
                settlement::service::revocation_said(community, now, &signed).map(drop)
            }
        };
        said.err().map(|error| match error {
            ServiceError::Refused(why) => why,
            other => other.to_string(),
        })
    }
}

/// Most of the operator's words whose answers are remembered.
const SAID_MAX: usize = 256;

/// The answers to the operator's newest words that stand. Revocations are public in the ledger log, so anybody may say one
/// again. One that is forgotten, as others came or the platform was started anew, is taken and answered as if it were the first.
#[derive(Default)]
pub(super) struct Said(Mutex<VecDeque<(Digest32, Value)>>);

impl Said {
    fn keep(&self, word: Digest32, answer: &Value) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|(known, _)| *known != word);
        if said.len() >= SAID_MAX {
            said.pop_front();
        }
        said.push_back((word, answer.clone()));
    }

    fn answer(&self, word: Digest32) -> Option<Value> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = said.iter().find(|(known, _)| *known == word);
        same.map(|(_, answer)| answer.clone())
    }
}

/// What came of a word about keys.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum KeyAnswer {
    /// It stands, now or already before.
    Done(Value),
    /// It does not, and why.
    Refused(String),
    /// Not yet: why, and how long to wait before the same is said again.
    Later(String, Duration),
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
    let holder = gateway.clone().into();
    let mut tx = db.begin().await?;
    let answer =
        settlement::service::introduce(&mut tx, community, now, &holder, points, &signed).await;
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
    Ok(refused(shared, gateway, &signed, refusal))
}

/// The answer to what a gateway introduces, where the bytes show by themselves that it is refused.
pub(super) fn refused_unasked(shared: &Shared, gateway: &GatewayId, bytes: &[u8]) -> Option<Told> {
    let signed = Signed::<Introduction>::from_bytes(bytes.to_vec());
    let holder = gateway.clone().into();
    let asked = settlement::service::key_asked(&shared.community, &holder, &signed);
    let refusal = asked.err()?;
    Some(refused(shared, gateway.clone(), &signed, refusal))
}

/// The operator's word to a gateway that a key was not let in.
fn refused(
    shared: &Shared,
    gateway: GatewayId,
    signed: &Signed<Introduction>,
    refusal: Refusal,
) -> Told {
    let community = &shared.community;
    let Refusal {
        reason, mut detail, ..
    } = refusal;
    tracing::warn!(%gateway, %reason, "a key was not enrolled: {detail}");
    detail.truncate(detail.floor_char_boundary(DETAIL_MAX_BYTES));
    let word = KeyRefusal {
        gateway: gateway.clone(),
        introduction: Digest32::of(signed.as_bytes()),
        reason,
        detail,
        issued_at: shared.clock.now(),
    };
    let signed = Signed::sign(&community.operator, &community.id, &word);
    Told::Key(gateway, signed.as_bytes().to_vec())
}

fn points_refused(detail: String) -> Refusal {
    Refusal::new(KeyRefused::PointsRefused, detail)
}

/// Takes in what a participant introduces, and gives the operator's record of it.
async fn introduce_own(tx: &mut Tx, shared: &Shared, bytes: Vec<u8>) -> anyhow::Result<KeyAnswer> {
    let (community, now) = (&shared.community, shared.clock.now());
    let signed = Signed::<Introduction>::from_bytes(bytes);
    let (participant, kid) = match own_request(shared, &signed) {
        Ok(asked) => asked,
        Err(why) => return Ok(KeyAnswer::Refused(why)),
    };
    let holder = participant.clone().into();
    match settlement::service::introduce(tx, community, now, &holder, &[], &signed).await? {
        Ok(record) => {
            witnesses::sign_heads(tx, shared, now).await?;
            tracing::info!(%participant, key = %kid, "a key is enrolled");
            Ok(KeyAnswer::Done(json!({
                "participant": participant.as_str(),
                "key": kid.to_string(),
                "record": STANDARD.encode(record.as_bytes()),
            })))
        }
        Err(refusal) => {
            let Refusal { reason, detail, .. } = &refusal;
            tracing::warn!(%participant, %reason, "a key was not enrolled: {detail}");
            let why = format!("{reason}: {detail}");
            Ok(match refusal.again_at {
                Some(at) => KeyAnswer::Later(why, shared.clock.wall(at.ms_since(now))),
                None => KeyAnswer::Refused(why),
            })
        }
    }
}

/// Which participant's key a participant's introduction says to bring; or why it is none. That both keys have signed so
/// is checked with the registry.
fn own_request(
    shared: &Shared,
    signed: &Signed<Introduction>,
) -> Result<(ParticipantId, KeyId), String> {
    let asked = signed.claimed().ok();
    let request = asked.and_then(|asked| asked.verify_request(&shared.community.id).ok());
    let request = request
        .ok_or("this is no introduction of a key, or the new key has not signed its request")?;
    let (holder, kid) = (&request.message().holder, request.message().key.id());
    let participant = holder.participant().filter(|who| is_member(shared, who));
    let participant =
        participant.ok_or_else(|| format!("site.toml has no participant {}", holder.name()))?;
    Ok((participant.clone(), kid))
}

fn is_member(shared: &Shared, participant: &ParticipantId) -> bool {
    members(&shared.site).any(|member| member == participant)
}

/// Does what a word about keys asks, and reads the keys again.
pub(super) async fn say(shared: &Shared, word: KeyWord) -> anyhow::Result<KeyAnswer> {
    let remembered_as = word.remembered_as();
    let mut tx = shared.db.begin().await?;
    let done = match word {
        KeyWord::Introduction(bytes) => {
            let answer = introduce_own(&mut tx, shared, bytes).await?;
            tx.commit().await?;
            if let KeyAnswer::Done(_) = &answer {
                shared.renew_keys().await?;
            }
            return Ok(answer);
        }
        KeyWord::Claim(bytes) => claim(&mut tx, shared, bytes).await,
        KeyWord::Revocation(bytes) => revoke(&mut tx, shared, bytes).await,
    };
    match done {
        Ok(answer) => {
            tx.commit().await?;
            shared.renew_keys().await?;
            // Not before the keys are read again: until then the same word has to come here once more.
            if let Some(word) = remembered_as {
                shared.said.keep(word, &answer);
            }
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
    let holder = &claim.holder;
    let (is_known, with) = match holder {
        KeyHolder::Gateway(gateway) => {
            let mut gateways = shared.site.gateways.iter();
            let is_known = gateways.any(|known| known.id == *gateway);
            (is_known, " with its points and password_sha256")
        }
        KeyHolder::Participant(participant) => (is_member(shared, participant), ""),
    };
    let (word, name) = (holder.word(), holder.name());
    if !is_known {
        return Err(ServiceError::Refused(format!(
            "site.toml has no {word} {name}: enter it there{with}, and start the platform again"
        )));
    }
    tracing::info!(%holder, expires = %claim.expires_at, "a claim code was made");
    Ok(json!({ (word): name, "expires": claim.expires_at.to_string() }))
}

async fn revoke(tx: &mut Tx, shared: &Shared, bytes: Vec<u8>) -> Result<Value, ServiceError> {
    let (community, now) = (&shared.community, shared.clock.now());
    let signed = Signed::<Revocation>::from_bytes(bytes);
    // A head from before the word shows which readings were there when it was said.
    witnesses::sign_heads(tx, shared, now).await?;
    let revoked = settlement::service::revoke(tx, community, now, &signed).await?;
    witnesses::sign_heads(tx, shared, now).await?;
    let word = &revoked.revocation;
    tracing::warn!(holder = %word.holder, key = %word.key, reason = word.reason, "a key was revoked");
    Ok(json!({
        (word.holder.word()): word.holder.name(),
        "key": word.key.to_string(),
        "from_sequence": word.from_sequence,
        "from": word.from.to_string(),
        "already_accepted": revoked.already_accepted,
    }))
}

#[cfg(test)]
mod tests;
