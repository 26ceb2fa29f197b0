//! Whose signature is on a reading: looked at before the books are, while others are being stored.
//!
//! A key in the registry never changes, so what was checked under it stays checked. Who may sign for what is asked
//! later, in the transaction that stores the reading.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::ids::{CommunityId, GatewayId, KeyId};
use domain::reading::Reading;
use domain::rejection::Rejection;
use domain::signed::{PublicKey, Signed, SignedError, Verified};
use runtime::db::Db;

use super::{ServiceError, registry};

/// Most keys that are kept ready, a fifth of a kilobyte each.
const KNOWN_MAX: usize = 16_384;

/// A signed reading as it arrived from a gateway's topic.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub(super) gateway: GatewayId,
    pub(super) signed: Signed<Reading>,
    /// Who is said to have signed it; nobody where it cannot be read.
    pub(super) claimed: Result<KeyId, Rejection>,
    /// Under which key the signature was checked, and with what result.
    checked: Option<(PublicKey, Result<Verified<Reading>, SignedError>)>,
}

impl Arrived {
    /// Bytes from `gateway`'s topic, not looked at yet.
    #[must_use]
    pub fn new(gateway: GatewayId, bytes: Vec<u8>) -> Self {
        let signed = Signed::<Reading>::from_bytes(bytes);
        let claimed = signed.claimed_signer();
        Arrived {
            gateway,
            claimed: claimed.map_err(|error| Rejection::from(&error)),
            signed,
            checked: None,
        }
    }

    /// From whose topic it came.
    #[must_use]
    pub fn gateway(&self) -> &GatewayId {
        &self.gateway
    }

    fn check(&mut self, keys: &BTreeMap<KeyId, PublicKey>, community: &CommunityId) {
        let Some(key) = self.claimed.ok().and_then(|kid| keys.get(&kid)) else {
            return;
        };
        if self.checked.as_ref().is_none_or(|(of, _)| of != key) {
            self.checked = Some((*key, self.signed.verify(*key, community)));
        }
    }

    /// The reading, if the key in the registry has signed it; `None` where no such key is known.
    pub(super) fn verified(&self) -> Option<&Result<Verified<Reading>, SignedError>> {
        self.checked.as_ref().map(|(_, verified)| verified)
    }
}

/// Keys of the registry that readings were signed with before. A key's name never stands for another key, so only what is
/// not among them is asked for.
pub struct KnownKeys {
    keys: Arc<BTreeMap<KeyId, PublicKey>>,
    max: usize,
}

impl Default for KnownKeys {
    fn default() -> Self {
        KnownKeys::up_to(KNOWN_MAX)
    }
}

impl KnownKeys {
    /// Remembers so many keys at most, beside those of the readings that are asked for.
    #[must_use]
    pub fn up_to(max: usize) -> Self {
        KnownKeys {
            keys: Arc::default(),
            max,
        }
    }

    /// At least the keys that these readings claim to be signed by, as far as the registry has them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn of(
        &mut self,
        db: &Db,
        readings: &[Arrived],
    ) -> Result<Arc<BTreeMap<KeyId, PublicKey>>, ServiceError> {
        let mut missing = claimed(readings);
        missing.retain(|kid| !self.keys.contains_key(kid));
        if missing.is_empty() {
            return Ok(Arc::clone(&self.keys));
        }
        if self.keys.len() + missing.len() > self.max {
            // Those that are still in use are soon among them again.
            self.keys = Arc::default();
            missing = claimed(readings);
        }
        let found = registry::keys_of(&mut &*db, &missing).await?;
        if !found.is_empty() {
            Arc::make_mut(&mut self.keys).extend(public(&found));
        }
        Ok(Arc::clone(&self.keys))
    }
}

/// The gateways whose keys these messages name, as far as the registry has them.
///
/// # Errors
/// The database failed.
pub async fn claimed_gateways(
    db: &Db,
    messages: &[Vec<u8>],
) -> Result<BTreeMap<KeyId, (PublicKey, GatewayId)>, ServiceError> {
    let kid = |bytes: &Vec<u8>| Signed::<Reading>::from_bytes(bytes.clone()).claimed_signer();
    let kids = messages.iter().filter_map(|bytes| kid(bytes).ok());
    let keys = registry::keys_of(&mut &*db, &kids.collect()).await?;
    let held = |(kid, key): (KeyId, registry::EnrolledKey)| Some((kid, (key.public, key.gateway?)));
    Ok(keys.into_iter().filter_map(held).collect())
}

/// Readings that came over no gateway's topic: each is its gateway's whose key has signed it, or is refused. It blocks.
#[must_use]
pub fn arrived_by_key(
    messages: Vec<Vec<u8>>,
    keys: &BTreeMap<KeyId, (PublicKey, GatewayId)>,
    community: &CommunityId,
) -> Vec<Result<Arrived, Rejection>> {
    let one = |bytes: Vec<u8>| {
        let signed = Signed::<Reading>::from_bytes(bytes);
        let kid = signed.claimed_signer();
        let kid = kid.map_err(|error| Rejection::from(&error))?;
        let (key, gateway) = keys.get(&kid).ok_or(Rejection::UnknownKey)?;
        let verified = signed.verify(*key, community);
        let verified = verified.map_err(|error| Rejection::from(&error))?;
        Ok(Arrived {
            gateway: gateway.clone(),
            signed,
            claimed: Ok(kid),
            checked: Some((*key, Ok(verified))),
        })
    };
    messages.into_iter().map(one).collect()
}

pub(super) fn claimed(readings: &[Arrived]) -> BTreeSet<KeyId> {
    readings.iter().filter_map(|r| r.claimed.ok()).collect()
}

pub(super) fn public(keys: &BTreeMap<KeyId, registry::EnrolledKey>) -> BTreeMap<KeyId, PublicKey> {
    keys.iter().map(|(kid, key)| (*kid, key.public)).collect()
}

/// Checks each reading's signature under the key that it claims, once. It blocks.
pub fn check_signatures(
    readings: &mut [Arrived],
    keys: &BTreeMap<KeyId, PublicKey>,
    community: &CommunityId,
) {
    for reading in readings {
        reading.check(keys, community);
    }
}
