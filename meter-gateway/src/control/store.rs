//! What must survive a restart: the open leases, and which commands were taken.

use domain::command::{Outcome, Refusal};
use domain::ids::Digest32;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, DbError, Migration, Tx};

use super::lease::Lease;
use crate::profile::control::Target;

/// Commands whose answers are remembered, for those that arrive twice; the oldest go first.
pub const COMMANDS_KEPT_MAX: i64 = 64;

/// The tables of leases.
const MIGRATIONS: &[Migration] = &[TABLES, SEEN_AT];

const TABLES: Migration = Migration {
    version: 1050,
    description: "gateway leases",
    sqlite: "
CREATE TABLE gateway_lease (
    device TEXT NOT NULL,
    target TEXT NOT NULL,
    lease TEXT NOT NULL,
    PRIMARY KEY (device, target)
) STRICT;
CREATE TABLE gateway_command (
    sequence INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    refused TEXT
) STRICT;",
    postgres: "
CREATE TABLE gateway_lease (
    device TEXT NOT NULL,
    target TEXT NOT NULL,
    lease TEXT NOT NULL,
    PRIMARY KEY (device, target)
);
CREATE TABLE gateway_command (
    sequence BIGINT PRIMARY KEY,
    digest BYTEA NOT NULL,
    refused TEXT
);",
};

const SEEN_AT: Migration = Migration {
    version: 1051,
    description: "when leases were seen last",
    sqlite: "ALTER TABLE gateway_lease ADD COLUMN seen_ms INTEGER NOT NULL DEFAULT 0;",
    postgres: "ALTER TABLE gateway_lease ADD COLUMN seen_ms BIGINT NOT NULL DEFAULT 0;",
};

const LEASES: &str = "SELECT device, target, lease FROM gateway_lease ORDER BY device, target";
const SEEN: &str = "UPDATE gateway_lease SET seen_ms = $1 WHERE seen_ms < $1";
const LAST_SEEN: &str = "SELECT MAX(seen_ms) FROM gateway_lease";
const SAVE: &str = "INSERT INTO gateway_lease (device, target, lease) VALUES ($1, $2, $3)
    ON CONFLICT (device, target) DO UPDATE SET lease = excluded.lease, seen_ms = 0";
const FORGET: &str = "DELETE FROM gateway_lease WHERE device = $1 AND target = $2";
const NEWEST: &str = "SELECT MAX(sequence) FROM gateway_command";
const KNOWN: &str = "SELECT digest, refused FROM gateway_command WHERE sequence = $1";
const TAKE: &str = "INSERT INTO gateway_command (sequence, digest, refused) VALUES ($1, $2, $3)";
const TRIM: &str = "DELETE FROM gateway_command WHERE sequence <=
    (SELECT sequence FROM gateway_command ORDER BY sequence DESC LIMIT 1 OFFSET $1)";

/// Whether a command is new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// Its sequence is above all that were taken.
    New,
    /// These very bytes were taken, and this was said if it was refused.
    Again(Option<Refusal>),
    /// Its sequence was used, or is below one that was.
    Replayed,
}

/// A change of leases that goes with a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// None: the command is refused.
    Refused(Refusal),
    /// A lease is begun, renewed or released.
    Lease(&'a str, Target, &'a Lease),
}

/// The leases of one gateway, in its database.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
}

impl Store {
    /// The leases in a database that is open already.
    ///
    /// # Errors
    /// The database fails.
    pub async fn open(db: Db) -> Result<Self, DbError> {
        db.migrate(MIGRATIONS).await?;
        Ok(Store { db })
    }

    /// The open leases by device and target. What cannot be understood is left out and logged.
    ///
    /// # Errors
    /// The database fails.
    pub async fn leases(&self) -> Result<Vec<(String, Target, Lease)>, DbError> {
        let rows: Vec<(String, String, String)> = self.db.fetch_all(LEASES, args![]).await?;
        let read = |(device, target, lease): (String, String, String)| {
            let target_read = serde_json::from_value(serde_json::Value::String(target));
            match (target_read, serde_json::from_str(&lease)) {
                (Ok(target), Ok(lease)) => Some((device, target, lease)),
                _ => {
                    tracing::error!("a stored lease of {device} is damaged: {lease}");
                    None
                }
            }
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Notes the time with the open leases: a clock that shows less at the next start was set back. What
    /// was noted before stays where it is later, so that it is found out at every start.
    ///
    /// # Errors
    /// The database fails.
    pub async fn saw(&self, now: Timestamp) -> Result<(), DbError> {
        let mut tx = self.db.begin().await?;
        tx.execute(SEEN, args![now.unix_ms()]).await?;
        tx.commit().await
    }

    /// The time that was noted last with the open leases.
    ///
    /// # Errors
    /// The database fails.
    pub async fn last_seen(&self) -> Result<Option<Timestamp>, DbError> {
        let (seen_ms,): (Option<i64>,) = self.db.fetch_one(LAST_SEEN, args![]).await?;
        Ok(seen_ms.map(Timestamp::from_unix_ms))
    }

    /// Whether a command is new.
    ///
    /// # Errors
    /// The database fails.
    pub async fn known(&self, sequence: u64, digest: Digest32) -> Result<Known, DbError> {
        let Ok(sequence) = i64::try_from(sequence) else {
            return Ok(Known::Replayed);
        };
        let row: Option<(Vec<u8>, Option<String>)> =
            self.db.fetch_optional(KNOWN, args![sequence]).await?;
        if let Some((known, refused)) = row {
            let reason = refused.as_deref().and_then(Refusal::from_name);
            let is_same = known == digest.0;
            return Ok(if is_same {
                Known::Again(reason)
            } else {
                Known::Replayed
            });
        }
        let (newest,): (Option<i64>,) = self.db.fetch_one(NEWEST, args![]).await?;
        let is_new = newest.is_none_or(|newest| sequence > newest);
        Ok(if is_new { Known::New } else { Known::Replayed })
    }

    /// Notes a command together with what follows from it: both or neither.
    ///
    /// # Errors
    /// The database fails; then the command must not be carried out.
    pub async fn take(
        &self,
        sequence: u64,
        digest: Digest32,
        change: Change<'_>,
    ) -> Result<(), DbError> {
        // `known` has refused what does not fit.
        let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
        let refused = match &change {
            Change::Refused(reason) => Some(reason.name().to_owned()),
            Change::Lease(..) => None,
        };
        let mut tx = self.db.begin().await?;
        let digest = digest.0.to_vec();
        tx.execute(TAKE, args![sequence, digest, refused]).await?;
        tx.execute(TRIM, args![COMMANDS_KEPT_MAX]).await?;
        if let Change::Lease(device, target, lease) = change {
            save(&mut tx, device, target, lease).await?;
        }
        tx.commit().await
    }

    /// Keeps that a lease is released, by a command whose sequence is not to be noted.
    ///
    /// # Errors
    /// The database fails; then the command must not be carried out.
    pub async fn release(
        &self,
        device: &str,
        target: Target,
        lease: &Lease,
    ) -> Result<(), DbError> {
        let mut tx = self.db.begin().await?;
        save(&mut tx, device, target, lease).await?;
        tx.commit().await
    }

    /// Forgets a lease that is over and reverted.
    ///
    /// # Errors
    /// The database fails; the lease is then reverted once more at the next start.
    pub async fn forget(&self, device: &str, target: Target) -> Result<(), DbError> {
        let mut tx = self.db.begin().await?;
        tx.execute(FORGET, args![device, target.word()]).await?;
        tx.commit().await
    }
}

async fn save(tx: &mut Tx, device: &str, target: Target, lease: &Lease) -> Result<(), DbError> {
    // A lease has nothing in it that JSON cannot say.
    let text = serde_json::to_string(lease).unwrap_or_default();
    tx.execute(SAVE, args![device, target.word(), text]).await?;
    Ok(())
}

/// The outcome that answers a command which was taken before.
#[must_use]
pub fn answer_again(refused: Option<Refusal>, lease: Option<&Lease>) -> Outcome {
    match (refused, lease) {
        (Some(reason), _) => Outcome::Refused(reason),
        (None, lease) => Outcome::Accepted {
            value: lease.map(|lease| lease.value),
            clamped_by: None,
        },
    }
}
