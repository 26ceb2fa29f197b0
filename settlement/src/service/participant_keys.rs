//! Which keys the participants sign with, and which have ended.

use domain::ids::ParticipantId;
use domain::signed::PublicKey;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Db;

use super::keys::{RevokedKey, newest_words};
use super::{ServiceError, registry};

/// A key of a participant and how it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParticipantKey {
    /// Whose it is.
    pub participant: ParticipantId,
    /// The key.
    pub key: PublicKey,
    /// When it was enrolled.
    pub enrolled: Timestamp,
    /// When a newer one took its place.
    pub replaced: Option<Timestamp>,
    /// The operator's newest word that it counts no longer.
    pub revoked: Option<RevokedKey>,
}

impl ParticipantKey {
    /// Whether what it signs now is taken.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.replaced.is_none() && self.revoked.is_none()
    }
}

/// The keys of all participants, each one's in the order in which the log has them.
///
/// # Errors
/// The database failed.
pub async fn participant_keys(db: &Db) -> Result<Vec<ParticipantKey>, ServiceError> {
    type Row = (String, Vec<u8>, i64, Option<i64>);
    let rows: Vec<Row> = db
        .fetch_all(
            "SELECT participant, public, enrolled_ms, replaced_ms FROM settle_keys
             WHERE participant IS NOT NULL
             ORDER BY participant, (SELECT MIN(log_index) FROM settle_key_records
             WHERE settle_key_records.kid = settle_keys.kid)",
            args![],
        )
        .await?;
    let mut words = newest_words(db).await?;
    let key = |(participant, public, enrolled_ms, replaced_ms): Row| {
        let key = registry::public_key(&public)?;
        Ok(ParticipantKey {
            participant: ParticipantId::new(participant)?,
            key,
            enrolled: Timestamp::from_unix_ms(enrolled_ms),
            replaced: replaced_ms.map(Timestamp::from_unix_ms),
            revoked: words.remove(&key.id()),
        })
    };
    rows.into_iter().map(key).collect()
}
