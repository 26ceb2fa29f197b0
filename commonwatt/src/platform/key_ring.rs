//! Who may order: the keys that the registry has for the participants, and those of them that the platform holds
//! itself, to sign what a home has asked it to. The registry decides; a key file that has another key signs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use anyhow::Context;
use domain::ids::{KeyId, ParticipantId};
use domain::key_record::{Holder, KeyRecord, PointRecord};
use domain::signed::{PublicKey, SigningKey};
use domain::time::Timestamp;
use runtime::db::Tx;
use runtime::key_file::{self, KeyError};
use settlement::service::{ParticipantKey, participant_keys};

use super::Shared;
use crate::site::Site;

/// The keys as they are now; a new ring takes this one's place when the registry or a file changes.
#[derive(Default)]
pub(crate) struct KeyRing {
    orderers: BTreeMap<KeyId, Orderer>,
    held: BTreeMap<ParticipantId, SigningKey>,
    unfit: BTreeMap<ParticipantId, String>,
}

/// A key that a participant has or had.
pub(super) struct Orderer {
    pub(super) participant: ParticipantId,
    pub(super) key: PublicKey,
    pub(super) connection: Option<PointRecord>,
    /// Whether it was replaced or revoked: what it signs is taken no longer.
    pub(super) ended: bool,
}

impl KeyRing {
    pub(super) fn orderer(&self, kid: KeyId) -> Option<&Orderer> {
        self.orderers.get(&kid)
    }

    /// Whether what this key has signed is taken no longer.
    pub(super) fn has_ended(&self, kid: KeyId) -> bool {
        self.orderer(kid).is_none_or(|orderer| orderer.ended)
    }

    /// The participant's key, where the platform holds it and it is the one that counts.
    pub(super) fn held(&self, participant: &ParticipantId) -> Option<&SigningKey> {
        self.held.get(participant)
    }

    /// For how many participants the platform should sign and cannot.
    pub(crate) fn unfit(&self) -> usize {
        self.unfit.len()
    }

    /// Reads registry and files. What was held before and still counts is not read again.
    async fn read(shared: &Shared, before: &KeyRing) -> anyhow::Result<KeyRing> {
        let (site, mut ring) = (&shared.site, KeyRing::default());
        let members: BTreeSet<&ParticipantId> = members(site).collect();
        let known = participant_keys(&shared.db).await?;
        for key in &known {
            if members.contains(&key.participant) {
                let orderer = Orderer {
                    participant: key.participant.clone(),
                    key: key.key,
                    connection: site.connection_of(&key.participant).cloned(),
                    ended: !key.is_valid(),
                };
                ring.orderers.insert(key.key.id(), orderer);
            }
        }
        let newest = known.iter().filter(|key| key.replaced.is_none());
        let newest: BTreeMap<_, _> = newest.map(|key| (&key.participant, key)).collect();
        let by_themselves: BTreeSet<_> = named_keys(site).map(|(id, _)| id).collect();
        for member in members.difference(&by_themselves) {
            let Some(newest) = newest.get(member) else {
                continue;
            };
            let has = |key: &&SigningKey| PublicKey::of(key) == newest.key;
            let held = match before.held(member).filter(has) {
                Some(held) if newest.is_valid() => Ok(held.clone()),
                _ => held(&shared.key_files, newest),
            };
            match held {
                Ok(key) => drop(ring.held.insert((*member).clone(), key)),
                Err(why) => drop(ring.unfit.insert((*member).clone(), why)),
            }
        }
        Ok(ring)
    }

    /// Says which homes the platform can sign for no longer, and for which again.
    fn tell(&self, before: &KeyRing) {
        for (participant, why) in &self.unfit {
            if before.unfit.get(participant) != Some(why) {
                tracing::error!(%participant, "the platform cannot sign for it, its autopilot orders nothing: {why}");
            }
        }
        for participant in before.unfit.keys() {
            if self.held.contains_key(participant) {
                tracing::info!(%participant, "the platform can sign for it again");
            }
        }
    }
}

impl Shared {
    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Arc<KeyRing> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&ring)
    }

    /// The key that the platform holds for a home of the site.
    #[cfg(test)]
    pub(super) fn key_of_home(&self, home: usize) -> SigningKey {
        let home = &self.site.participants[home].id;
        self.keys().held(home).unwrap().clone()
    }

    /// Reads the keys again, after the registry or a file may have changed. Where that fails, the next beat tries it again.
    pub(super) async fn renew_keys(&self) -> anyhow::Result<()> {
        let before = self.keys();
        self.keys_are_old.store(true, Ordering::Relaxed);
        let ring = KeyRing::read(self, &before).await?;
        ring.tell(&before);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        self.keys_are_old.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Everybody who orders: the homes, then the stations that buy by themselves.
pub(super) fn members(site: &Site) -> impl Iterator<Item = &ParticipantId> {
    let homes = site.participants.iter().map(|home| &home.id);
    homes.chain(site.stations.iter().filter_map(|s| s.buyer.as_ref()))
}

/// Enrols a key for everybody who never had one, and makes its file where there is none. Whoever is in the registry keeps
/// the key that is there, whatever the file says.
pub(super) async fn enrol_new(shared: &Shared, tx: &mut Tx, now: Timestamp) -> anyhow::Result<()> {
    let keys = participant_keys(&shared.db).await?;
    let known: BTreeSet<&ParticipantId> = keys.iter().map(|key| &key.participant).collect();
    let named: BTreeMap<_, _> = named_keys(&shared.site).collect();
    for (participant, named) in &named {
        let is_it = |key: &ParticipantKey| key.participant == **participant && key.key == *named;
        if known.contains(participant) && !keys.iter().any(is_it) {
            tracing::error!(
                %participant,
                "site.toml names key {} for it, which is not in the registry, and another is: let it in with a claim \
                 code (`commonwatt keys claim --participant {participant}`); the key in the registry counts until then",
                named.id()
            );
        }
    }
    for member in members(&shared.site).filter(|member| !known.contains(member)) {
        let key = match named.get(member) {
            Some(key) => *key,
            None => PublicKey::of(&key_file::open(&file_of(&shared.key_files, member))?),
        };
        let record = KeyRecord {
            key,
            holder: Holder::Participant(member.clone()),
            valid_from: now,
        };
        let enrolled = settlement::service::enrol(tx, &shared.community, now, record).await;
        enrolled.with_context(|| format!("the key of {member}"))?;
    }
    Ok(())
}

/// The keys that the site names for homes that sign for themselves.
fn named_keys(site: &Site) -> impl Iterator<Item = (&ParticipantId, PublicKey)> {
    let homes = site.participants.iter();
    homes.filter_map(|home| Some((&home.id, home.key?)))
}

fn file_of(folder: &Path, participant: &ParticipantId) -> PathBuf {
    folder.join(format!("{participant}.key"))
}

/// Where a key waits beside the one whose place it is to take. No participant's own file has such a name.
pub(crate) fn next_of(file: &Path) -> PathBuf {
    beside(file, ".next")
}

/// The file with so much more behind its name.
pub(crate) fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(end);
    PathBuf::from(name)
}

/// The key that counts, if one of a participant's files has it; or why not, and what to do.
fn held(folder: &Path, newest: &ParticipantKey) -> Result<SigningKey, String> {
    let (file, kid, whose) = (
        file_of(folder, &newest.participant),
        newest.key.id(),
        &newest.participant,
    );
    let enrol = format!(
        "make a claim code with `commonwatt keys claim --participant {whose}`, and let a new key in with `commonwatt \
         participant enrol --participant {whose} --key FILE --claim -`"
    );
    if let Some(word) = &newest.revoked {
        return Err(format!(
            "its key {kid} was revoked ({}): {enrol}",
            word.reason
        ));
    }
    let (found, next) = (key_file::read(&file), key_file::read(&next_of(&file)));
    for key in [&found, &next].into_iter().flatten() {
        if PublicKey::of(key) == newest.key {
            return Ok(key.clone());
        }
    }
    let shown = file.display();
    let found = match found {
        Ok(other) => format!("{shown} has key {}", PublicKey::of(&other).id()),
        Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            format!("{shown} is missing")
        }
        Err(error) => return Err(error.to_string()),
    };
    Err(format!(
        "{found}, and the registry has {kid} for {whose}: put the file with that key back; if the key is lost, {enrol}; \
         if {whose} signs for itself, enter its public_key in site.toml"
    ))
}

#[cfg(test)]
pub(super) mod tests;
