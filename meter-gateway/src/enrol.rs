//! Which key the gateway signs with, how a new one comes in, and what the platform says to it.
//!
//! Files in the data folder, each written whole or not at all:
//!
//! | file | is there |
//! |---|---|
//! | `gateway.key` | from the first start on |
//! | `gateway-next.key` | from a rotation's begin until the platform has taken it; used as soon as `introduction.json` names it |
//! | `introduction.json` | while the platform has not answered: what is sent to it, and no secret |
//! | `credential.cose` | once the platform has enrolled the key: the operator's signed record of it |
//! | `rotated.json` | from the first rotation on: when the platform has let in the next keys of the last day |
//! | `gateway.revoked` | once the platform has said that the key counts no longer: the next claim code gets a new key |
//!
//! Whatever step a power cut comes after, the next start finds one key to sign with: renaming
//! `gateway-next.key` over `gateway.key` is the only change of the current key's file, and what was
//! signed before stays as it is in the outbox.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::claim::ClaimCode;
use domain::ids::{Digest32, KeyId};
use domain::introduction::{
    HANDOVERS_MAX, HANDOVERS_SPAN_S, Introduction, KeyRefusal, KeyRefused, KeyRequest, PointStart,
};
use domain::key_record::{Holder, KeyRecord, POINTS_MAX};

use domain::signed::{POINTS_MESSAGE_MAX_BYTES, PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use runtime::durable;
use runtime::key_file::{self, KeyError};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::config::{Config, point_records};
use crate::publish::Trust;
use crate::spool::{Spool, SpoolError};

const KEY: &str = "gateway.key";
const NEXT_KEY: &str = "gateway-next.key";
const INTRODUCTION: &str = "introduction.json";
const CREDENTIAL: &str = "credential.cose";
const ROTATED: &str = "rotated.json";
const REVOKED: &str = "gateway.revoked";

/// An introduction that is not answered is sent again after the shorter of these, then ever more rarely.
const REPEAT_MIN: Duration = Duration::from_secs(15);
const REPEAT_MAX: Duration = Duration::from_secs(600);

/// Why keys are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A key file is not usable.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// The outbox is not usable.
    #[error("{0}")]
    Spool(#[from] SpoolError),
    /// A file cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is damaged: {reason}; restore it from a backup, or remove it and enrol with a new claim code", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// In which way.
        reason: String,
    },
    /// There is a rotation already.
    #[error(
        "key {0} waits for the platform's answer already: start the gateway, and rotate again when it is enrolled"
    )]
    Waiting(KeyId),
    /// The platform takes no more rotations in this day.
    #[error(
        "the key of this gateway was changed {HANDOVERS_MAX} times in a day, and the platform takes no more: rotate it \
         after {0}; until then it goes on with the key that it has"
    )]
    TooOften(Timestamp),
    /// There is nothing to rotate.
    #[error("there is no key in {} yet: start the gateway once, and let the platform enrol it", .0.display())]
    NoKey(PathBuf),
    /// Too many points for one message.
    #[error(
        "{points} points are too many for one key (at most {POINTS_MAX}; {bytes} bytes to sign, at most {POINTS_MESSAGE_MAX_BYTES}): give some devices a gateway of their own"
    )]
    TooLarge {
        /// How many.
        points: usize,
        /// How long the message would be.
        bytes: usize,
    },
}

/// What waits for the platform's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// The key that is introduced.
    pub key: KeyId,
    /// What is sent.
    pub message: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PendingFile {
    key: String,
    introduction: String,
}

/// A next key that the platform has let in, and when that was heard.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotated {
    key: String,
    at_ms: i64,
}

/// The key files of one gateway.
#[derive(Clone, Debug)]
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// The keys in a data folder.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Keys {
            dir: dir.to_owned(),
        }
    }

    /// Whether there is a key already.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.path(KEY).exists()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn failed(&self, name: &str) -> impl FnOnce(io::Error) -> EnrolError {
        let path = self.path(name);
        move |source| EnrolError::File { path, source }
    }

    /// The key to sign with; made at first use.
    ///
    /// # Errors
    /// A file cannot be used, or the key that was introduced is gone.
    pub fn current(&self) -> Result<SigningKey, EnrolError> {
        let next = self.next()?;
        let Some(pending) = self.pending()? else {
            return Ok(key_file::open(&self.path(KEY))?);
        };
        let is_named = |key: &SigningKey| PublicKey::of(key).id() == pending.key;
        if let Some(next) = next.filter(is_named) {
            return Ok(next);
        }
        let key = key_file::read(&self.path(KEY))?;
        if is_named(&key) {
            return Ok(key);
        }
        Err(EnrolError::Damaged {
            path: self.path(INTRODUCTION),
            reason: format!(
                "it introduces key {}, which is in no file here",
                pending.key
            ),
        })
    }

    fn next(&self) -> Result<Option<SigningKey>, EnrolError> {
        let path = self.path(NEXT_KEY);
        Ok(path.exists().then(|| key_file::read(&path)).transpose()?)
    }

    /// What waits for the platform's answer.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn pending(&self) -> Result<Option<Pending>, EnrolError> {
        let text = match fs::read_to_string(self.path(INTRODUCTION)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(INTRODUCTION)(error)),
        };
        let damaged = |reason: String| EnrolError::Damaged {
            path: self.path(INTRODUCTION),
            reason,
        };
        let file: PendingFile = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let message = STANDARD.decode(&file.introduction);
        Ok(Some(Pending {
            key: file.key.parse().map_err(|e| damaged(format!("{e}")))?,
            message: message.map_err(|e| damaged(e.to_string()))?,
        }))
    }

    /// Whether what waits is a rotation: the key that vouches is the gateway's own.
    fn is_rotating(&self) -> Result<bool, EnrolError> {
        let named = self.pending()?.map(|pending| pending.key);
        let next = self.next()?.map(|key| PublicKey::of(&key).id());
        Ok(named.is_some() && named == next)
    }

    /// Whether the platform has enrolled this key, as far as is known here.
    #[must_use]
    pub fn is_enrolled(&self, key: PublicKey, trust: &Trust) -> bool {
        let record = fs::read(self.path(CREDENTIAL)).ok();
        record.is_some_and(|bytes| credential(bytes, key, trust).is_some())
    }

    /// Prepares to enrol with a claim code; `false` where the key is enrolled and not revoked, so that no code is
    /// needed.
    ///
    /// # Errors
    /// A file or the outbox cannot be used.
    pub async fn claim(
        &self,
        config: &Config,
        spool: &Spool,
        code: &ClaimCode,
        now: Timestamp,
    ) -> Result<bool, EnrolError> {
        let revoked = self.path(REVOKED).exists();
        let key = self.current()?;
        let trust = Trust::of(config);
        if !revoked && self.is_enrolled(PublicKey::of(&key), &trust) {
            return Ok(false);
        }
        if self.is_rotating()? {
            // The platform may have let it in, and its answer been lost.
            self.note_rotated(now)?;
        }
        self.promote()?;
        if revoked {
            self.set_revoked_key_aside()?;
        }
        let key = self.current()?;
        let introducer = code.key(&config.community, &config.gateway.clone().into());
        self.introduce(config, spool, &key, &introducer, now)
            .await?;
        Ok(true)
    }

    /// Makes the next key and the word of the current one for it. The next start signs with it.
    ///
    /// # Errors
    /// There is no key yet, or one waits for an answer already, or a file or the outbox cannot be used.
    pub async fn rotate(
        &self,
        config: &Config,
        spool: &Spool,
        now: Timestamp,
    ) -> Result<PublicKey, EnrolError> {
        if let Some(pending) = self.pending()? {
            return Err(EnrolError::Waiting(pending.key));
        }
        if !self.exist() {
            return Err(EnrolError::NoKey(self.dir.clone()));
        }
        // The next key signs before the platform has answered: refused, its readings would wait until then.
        let rotated = self.rotated(now);
        if let Some(eighth) = rotated.iter().rev().nth(HANDOVERS_MAX - 1) {
            let until = Timestamp::from_unix_ms(eighth.at_ms).plus_s(HANDOVERS_SPAN_S);
            return Err(EnrolError::TooOften(until));
        }
        let old = key_file::read(&self.path(KEY))?;
        // A next key that a power cut left behind has signed nothing, and is as good as a new one.
        let next = key_file::open(&self.path(NEXT_KEY))?;
        self.introduce(config, spool, &next, &old, now).await?;
        Ok(PublicKey::of(&next))
    }

    /// Writes down what is to be sent: the request signed by the new key, and that signed by the known one.
    async fn introduce(
        &self,
        config: &Config,
        spool: &Spool,
        key: &SigningKey,
        introducer: &SigningKey,
        now: Timestamp,
    ) -> Result<(), EnrolError> {
        let mut points = Vec::new();
        for (point, ..) in point_records(config) {
            let chain = spool.load(&point).await?.chain;
            points.push(PointStart {
                point,
                first_sequence: chain.next_sequence,
                previous: chain.previous,
            });
        }
        points.sort_by(|a, b| a.point.cmp(&b.point));
        let count = points.len();
        let request = KeyRequest {
            key: PublicKey::of(key),
            holder: config.gateway.clone().into(),
            introducer: PublicKey::of(introducer).id(),
            points,
            made_at: now,
        };
        let introduction = Introduction {
            key: PublicKey::of(key),
            request: Signed::sign(key, &config.community, &request),
        };
        let signed = Signed::sign(introducer, &config.community, &introduction);
        let bytes = signed.as_bytes().len();
        if count > POINTS_MAX || bytes > POINTS_MESSAGE_MAX_BYTES {
            return Err(EnrolError::TooLarge {
                points: count,
                bytes,
            });
        }
        let file = PendingFile {
            key: PublicKey::of(key).id().to_string(),
            introduction: STANDARD.encode(signed.as_bytes()),
        };
        let text = serde_json::to_string(&file).unwrap_or_default() + "\n";
        durable::write(&self.path(INTRODUCTION), &text, 0o600).map_err(self.failed(INTRODUCTION))
    }

    /// The next keys of the last day that the platform has let in, oldest first. They spare a rotation that it would
    /// refuse and nothing else, so a file that cannot be read is as good as none.
    fn rotated(&self, now: Timestamp) -> Vec<Rotated> {
        let text = fs::read_to_string(self.path(ROTATED)).unwrap_or_default();
        let mut rotated: Vec<Rotated> = serde_json::from_str(&text).unwrap_or_default();
        rotated.retain(|one| {
            let age_ms = now.ms_since(Timestamp::from_unix_ms(one.at_ms));
            (0..HANDOVERS_SPAN_S * 1000).contains(&age_ms)
        });
        rotated
    }

    /// Remembers that the platform has let in the next key.
    fn note_rotated(&self, now: Timestamp) -> Result<(), EnrolError> {
        let Some(pending) = self.pending()? else {
            return Ok(());
        };
        let (mut rotated, key) = (self.rotated(now), pending.key.to_string());
        rotated.retain(|one| one.key != key);
        let at_ms = now.unix_ms();
        rotated.push(Rotated { key, at_ms });
        let text = serde_json::to_string(&rotated).unwrap_or_default() + "\n";
        durable::write(&self.path(ROTATED), &text, 0o600).map_err(self.failed(ROTATED))
    }

    /// Keeps the operator's record, makes the introduced key the current one, and stops sending.
    fn enrolled(&self, record: &[u8], now: Timestamp) -> Result<(), EnrolError> {
        if self.is_rotating()? {
            self.note_rotated(now)?;
        }
        durable::write(&self.path(CREDENTIAL), record, 0o600).map_err(self.failed(CREDENTIAL))?;
        self.promote()?;
        self.remove(REVOKED)?;
        self.remove(INTRODUCTION)
    }

    /// Makes the next key the current one, where it was introduced; the key before is gone then.
    fn promote(&self) -> Result<(), EnrolError> {
        if self.is_rotating()? {
            let renamed = fs::rename(self.path(NEXT_KEY), self.path(KEY));
            renamed.map_err(self.failed(NEXT_KEY))?;
            self.sync()?;
        }
        Ok(())
    }

    /// The key counts no longer: a claim code lets in another one.
    fn set_revoked_key_aside(&self) -> Result<(), EnrolError> {
        let kid = PublicKey::of(&self.current()?).id();
        self.remove(INTRODUCTION)?;
        let aside = format!("gateway-revoked-{kid}.key");
        fs::rename(self.path(KEY), self.path(&aside)).map_err(self.failed(KEY))?;
        self.remove(CREDENTIAL)?;
        self.remove(REVOKED)
    }

    /// Remembers that the platform refuses the current key.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_revoked(&self) -> Result<(), EnrolError> {
        let words =
            "The platform refuses this gateway's key. Start it with a new claim code (--claim).\n";
        durable::write(&self.path(REVOKED), words, 0o600).map_err(self.failed(REVOKED))
    }

    fn remove(&self, name: &str) -> Result<(), EnrolError> {
        match fs::remove_file(self.path(name)) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.failed(name)(error)),
        }
    }

    fn sync(&self) -> Result<(), EnrolError> {
        let synced = File::open(&self.dir).and_then(|folder| folder.sync_all());
        synced.map_err(self.failed("."))
    }
}

/// The operator's record of `key`, if these bytes are one for this gateway.
fn credential(bytes: Vec<u8>, key: PublicKey, trust: &Trust) -> Option<KeyRecord> {
    let signed = Signed::<KeyRecord>::from_bytes(bytes);
    let verified = signed.verify(trust.operator_key, &trust.community).ok()?;
    let record = verified.message();
    let is_ours =
        matches!(&record.holder, Holder::Gateway { gateway, .. } if *gateway == trust.gateway);
    (is_ours && record.key == key).then(|| record.clone())
}

/// The running gateway's side: what to send, and what the answers mean.
#[derive(Debug)]
pub struct Enrolment {
    keys: Keys,
    key: PublicKey,
    pending: Option<Pending>,
    /// When it is sent next, and how long to wait after that.
    next: Instant,
    wait: Duration,
}

/// What an answer of the platform came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Not the operator's word to this gateway about this key.
    Nothing,
    /// The operator's word that this key is enrolled, which nobody waits for any more.
    Known,
    /// The key is enrolled.
    Enrolled,
    /// It is not.
    Refused {
        /// Why, by name.
        reason: KeyRefused,
        /// And in a sentence.
        detail: String,
    },
}

impl Enrolment {
    /// What waits in the data folder, due at once.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn open(dir: &Path, key: PublicKey) -> Result<Self, EnrolError> {
        let keys = Keys::in_dir(dir);
        let pending = keys.pending()?;
        Ok(Enrolment {
            keys,
            key,
            pending,
            next: Instant::now(),
            wait: REPEAT_MIN,
        })
    }

    /// What is to be sent now, if anything is.
    #[must_use]
    pub fn due(&self) -> Option<&[u8]> {
        let pending = self.pending.as_ref()?;
        (Instant::now() >= self.next).then_some(&pending.message)
    }

    /// Notes that it was sent.
    pub fn sent(&mut self) {
        self.next = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(REPEAT_MAX);
    }

    /// The connection is new: what was under way on the one before may be lost.
    pub fn connected(&mut self) {
        self.next = Instant::now();
        self.wait = REPEAT_MIN;
    }

    /// Takes the platform's answer.
    ///
    /// # Errors
    /// It cannot be kept; it will be given again.
    pub fn hear(
        &mut self,
        payload: Vec<u8>,
        trust: &Trust,
        now: Timestamp,
    ) -> Result<Heard, EnrolError> {
        if credential(payload.clone(), self.key, trust).is_some() {
            // A word that comes again must not undo what was said since: a revocation.
            if self.pending.is_none() {
                return Ok(Heard::Known);
            }
            self.keys.enrolled(&payload, now)?;
            self.pending = None;
            return Ok(Heard::Enrolled);
        }
        let signed = Signed::<KeyRefusal>::from_bytes(payload);
        let Ok(verified) = signed.verify(trust.operator_key, &trust.community) else {
            return Ok(Heard::Nothing);
        };
        let refusal = verified.message();
        let ours = self.pending.as_ref().map(|p| Digest32::of(&p.message));
        if refusal.gateway != trust.gateway || ours != Some(refusal.introduction) {
            return Ok(Heard::Nothing);
        }
        if refusal.reason == KeyRefused::KeyTaken {
            self.keys.note_revoked()?;
        }
        // A code is not tried twice by itself: a wrong one counts against the right one, and what else may
        // be wrong (the points, say) somebody has to set right first.
        // A rotation is asked for again: it may be the platform that has forgotten something, or it comes too early.
        if !self.keys.is_rotating()? {
            self.keys.remove(INTRODUCTION)?;
            self.pending = None;
        }
        Ok(Heard::Refused {
            reason: refusal.reason,
            detail: refusal.detail.clone(),
        })
    }

    /// Remembers that readings under a key are refused, if it is the one in use: what the one before has
    /// signed may still be on its way.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn note_revoked(&self, key: KeyId) -> Result<(), EnrolError> {
        if key != self.key.id() {
            return Ok(());
        }
        self.keys.note_revoked()
    }
}

#[cfg(test)]
mod tests;
