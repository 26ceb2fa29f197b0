//! The way of the operator's commands to gateways, and of the gateways' answers back: forwarded as they
//! were signed, and every one of both kept.

use std::collections::BTreeMap;

use anyhow::Context;
use domain::command::{Ack, Act, Command, LEASE_MAX_S, Outcome, SetPoint};
use domain::ids::{Digest32, GatewayId};
use domain::signed::{PublicKey, Signed, Verified};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Migration};
use tokio::sync::{Notify, mpsc};

use super::Shared;

/// Commands that may wait for the broker; more are refused.
pub(crate) const FORWARDS_MAX: usize = 64;
/// A device that has not confirmed a set-point after this long does not hold it.
const CONFIRMED_WITHIN_S: i64 = 120;
/// Most answers kept of one command; later ones are dropped with a warning.
const ACKS_MAX: i64 = 256;

/// The tables of commands and answers.
pub(super) const MIGRATIONS: &[Migration] = &[COMMANDS, BY_TIME, NEWEST_FIRST];

const BY_TIME: Migration = Migration {
    version: 4002,
    description: "commands by the time at which they were taken",
    sqlite: "CREATE INDEX control_command_taken ON control_command (taken_ms)",
    postgres: "CREATE INDEX control_command_taken ON control_command (taken_ms)",
};

const NEWEST_FIRST: Migration = Migration {
    version: 4003,
    description: "a gateway's newest commands are found by their time",
    sqlite: "CREATE INDEX control_command_newest ON control_command (gateway, taken_ms)",
    postgres: "CREATE INDEX control_command_newest ON control_command (gateway, taken_ms)",
};

const COMMANDS: Migration = Migration {
    version: 4001,
    description: "commands and answers",
    sqlite: "
CREATE TABLE control_command (
    digest BLOB PRIMARY KEY,
    gateway TEXT NOT NULL,
    message BLOB NOT NULL,
    taken_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE control_ack (
    command BLOB NOT NULL,
    message BLOB NOT NULL,
    heard_ms INTEGER NOT NULL,
    PRIMARY KEY (command, message)
) STRICT;
CREATE TRIGGER control_command_no_update BEFORE UPDATE ON control_command
    BEGIN SELECT RAISE(ABORT, 'control_command is append-only'); END;
CREATE TRIGGER control_command_no_delete BEFORE DELETE ON control_command
    BEGIN SELECT RAISE(ABORT, 'control_command is append-only'); END;
CREATE TRIGGER control_ack_no_update BEFORE UPDATE ON control_ack
    BEGIN SELECT RAISE(ABORT, 'control_ack is append-only'); END;
CREATE TRIGGER control_ack_no_delete BEFORE DELETE ON control_ack
    BEGIN SELECT RAISE(ABORT, 'control_ack is append-only'); END;",
    postgres: "
CREATE TABLE control_command (
    digest BYTEA PRIMARY KEY,
    gateway TEXT NOT NULL,
    message BYTEA NOT NULL,
    taken_ms BIGINT NOT NULL
);
CREATE TABLE control_ack (
    command BYTEA NOT NULL,
    message BYTEA NOT NULL,
    heard_ms BIGINT NOT NULL,
    PRIMARY KEY (command, message)
);
CREATE FUNCTION control_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER control_command_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON control_command
    FOR EACH STATEMENT EXECUTE FUNCTION control_append_only();
CREATE TRIGGER control_ack_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON control_ack
    FOR EACH STATEMENT EXECUTE FUNCTION control_append_only();",
};

/// Commands to one gateway that are looked through for the newest to a device.
const NEWEST_MAX: i64 = 4_096;
const NEWEST: &str = "SELECT message FROM control_command WHERE gateway = $1 AND taken_ms >= $2
    ORDER BY taken_ms DESC LIMIT $3";
const KEEP: &str = "INSERT INTO control_command (digest, gateway, message, taken_ms)
    VALUES ($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING";
const GATEWAY: &str = "SELECT gateway FROM control_command WHERE digest = $1";
const ACKS: &str = "SELECT message FROM control_ack WHERE command = $1 ORDER BY heard_ms, message";
const RECENT: &str = "SELECT digest, message FROM control_command WHERE taken_ms >= $1
    ORDER BY taken_ms DESC LIMIT $2";
const COUNT_ACKS: &str = "SELECT COUNT(*) FROM control_ack WHERE command = $1";
const KEEP_ACK: &str = "INSERT INTO control_ack (command, message, heard_ms)
    VALUES ($1, $2, $3) ON CONFLICT (command, message) DO NOTHING";

/// A command on its way to the broker.
pub(crate) struct Forward {
    pub(crate) gateway: GatewayId,
    pub(crate) bytes: Vec<u8>,
}

/// Where commands wait for the broker, and where answers ring.
pub(crate) struct Desk {
    forwards: mpsc::Sender<Forward>,
    heard: Notify,
}

/// The desk, and the end that the link to the broker reads.
pub(super) fn desk() -> (Desk, mpsc::Receiver<Forward>) {
    let (forwards, waiting) = mpsc::channel(FORWARDS_MAX);
    let heard = Notify::new();
    (Desk { forwards, heard }, waiting)
}

/// Why a command was not forwarded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotForwarded {
    /// It is not the operator's.
    #[error("the operator has not signed this command for this community: {0}")]
    NotBelieved(domain::signed::SignedError),
    /// The site has no such gateway.
    #[error("there is no gateway {0} in this community")]
    NoGateway(GatewayId),
    /// [`FORWARDS_MAX`] commands are waiting.
    #[error("too many commands are waiting: try again")]
    Full,
    /// The books cannot be written.
    #[error("{0:#}")]
    Broken(anyhow::Error),
}

impl Desk {
    /// Completes at the next answer of any gateway, from now on.
    pub(crate) fn next_answer(&self) -> impl Future<Output = ()> {
        self.heard.notified()
    }
}

/// Verifies a command, keeps it and sends it on its way. The same bytes again are sent again, and do
/// nothing at the gateway.
pub(crate) async fn forward(
    shared: &Shared,
    bytes: Vec<u8>,
) -> Result<Verified<Command>, NotForwarded> {
    let operator = PublicKey::of(&shared.community.operator);
    let verified = Signed::<Command>::from_bytes(bytes.clone())
        .verify(operator, &shared.site.community)
        .map_err(NotForwarded::NotBelieved)?;
    let gateway = verified.message().gateway.clone();
    if !shared.site.gateways.iter().any(|g| g.id == gateway) {
        return Err(NotForwarded::NoGateway(gateway));
    }
    let room = shared.control.forwards.try_reserve();
    let room = room.map_err(|_| NotForwarded::Full)?;
    let kept = keep(shared, &verified).await;
    kept.map_err(NotForwarded::Broken)?;
    room.send(Forward { gateway, bytes });
    Ok(verified)
}

async fn keep(shared: &Shared, command: &Verified<Command>) -> anyhow::Result<()> {
    let mut tx = shared.db.begin().await?;
    let (digest, gateway) = (command.digest().0, command.message().gateway.as_str());
    let message = command.signed().as_bytes().to_vec();
    let now_ms = shared.clock.now().unix_ms();
    tx.execute(KEEP, args![digest, gateway, message, now_ms])
        .await?;
    Ok(tx.commit().await?)
}

/// Keeps a gateway's answer, where it is a believed one to a command that went to that gateway.
pub(super) async fn hear(
    shared: &Shared,
    gateway: &GatewayId,
    payload: Vec<u8>,
) -> anyhow::Result<()> {
    let signed = Signed::<Ack>::from_bytes(payload);
    let kid = signed.claimed_signer()?;
    let held = settlement::service::gateway_public_key(&shared.db, kid).await?;
    let (holder, key) = held.with_context(|| format!("key {kid} is not enrolled, or revoked"))?;
    let verified = signed.verify(key, &shared.site.community)?;
    let ack = verified.message();
    let command = ack.command.0;
    let asked: Option<(String,)> = shared.db.fetch_optional(GATEWAY, args![command]).await?;
    let is_own = holder == *gateway && ack.gateway == *gateway;
    if !is_own || asked.is_none_or(|(asked,)| asked != gateway.as_str()) {
        anyhow::bail!("it answers a command that did not go to {gateway}");
    }
    let mut tx = shared.db.begin().await?;
    let (count,): (i64,) = tx.fetch_one(COUNT_ACKS, args![command]).await?;
    if count >= ACKS_MAX {
        anyhow::bail!("command {} has {ACKS_MAX} answers already", ack.command);
    }
    let message = verified.signed().as_bytes().to_vec();
    let now_ms = shared.clock.now().unix_ms();
    tx.execute(KEEP_ACK, args![command, message, now_ms])
        .await?;
    tx.commit().await?;
    let (outcome, why) = (ack.outcome.word(), ack.outcome.reason().unwrap_or_default());
    tracing::info!(%gateway, command = %ack.command, outcome, why, "answer to a command");
    shared.control.heard.notify_waiters();
    Ok(())
}

/// The command about a set-point of a device that has the last word, of those taken since then.
pub(super) async fn newest(
    db: &Db,
    gateway: &GatewayId,
    (device, set_point): (&str, SetPoint),
    since: Timestamp,
) -> anyhow::Result<Option<Command>> {
    let rows: Vec<(Vec<u8>,)> = db
        .fetch_all(NEWEST, args![gateway.as_str(), since.unix_ms(), NEWEST_MAX])
        .await?;
    let mut newest: Option<Command> = None;
    for (bytes,) in rows {
        let command = command_of(bytes)?;
        let later = newest
            .as_ref()
            .is_none_or(|known| known.sequence < command.sequence);
        if command.device == device && command.act.set_point() == set_point && later {
            newest = Some(command);
        }
    }
    Ok(newest)
}

/// The answers to a command, oldest first; `None` where there was no such command.
pub(crate) async fn answers(db: &Db, command: Digest32) -> anyhow::Result<Option<Vec<Ack>>> {
    let known: Option<(String,)> = db.fetch_optional(GATEWAY, args![command.0]).await?;
    if known.is_none() {
        return Ok(None);
    }
    Ok(Some(acks(db, &command.0).await?))
}

/// What was answered to the command of this digest, oldest first.
async fn acks(db: &Db, command: &[u8]) -> anyhow::Result<Vec<Ack>> {
    let rows: Vec<(Vec<u8>,)> = db.fetch_all(ACKS, args![command]).await?;
    let mut acks = rows
        .into_iter()
        .map(|(bytes,)| payload_of(bytes))
        .collect::<anyhow::Result<Vec<Ack>>>()?;
    acks.sort_by_key(|ack| ack.at);
    Ok(acks)
}

/// A command with what its gateway has answered.
pub(crate) struct Kept {
    pub(crate) digest: Digest32,
    pub(crate) command: Command,
    /// Oldest first.
    pub(crate) answers: Vec<Ack>,
}

/// The commands since `from` that limit a device, newest first, of the `most` newest of all.
pub(crate) async fn recent(db: &Db, from: Timestamp, most: u32) -> anyhow::Result<Vec<Kept>> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> = db
        .fetch_all(RECENT, args![from.unix_ms(), i64::from(most)])
        .await?;
    let mut kept = Vec::with_capacity(rows.len());
    for (digest, message) in rows {
        let digest: [u8; 32] = digest
            .try_into()
            .map_err(|_| anyhow::anyhow!("a stored command's digest is damaged"))?;
        let digest = Digest32(digest);
        let command = command_of(message)?;
        if command.act.set_point() == SetPoint::ChargerSession {
            continue;
        }
        kept.push(Kept {
            digest,
            command,
            answers: answers(db, digest).await?.unwrap_or_default(),
        });
    }
    Ok(kept)
}

const SINCE: &str = "SELECT digest, message FROM control_command WHERE taken_ms >= $1
    ORDER BY taken_ms, digest";

/// How many set-points have a lease that runs and are not known to be held: refused, not shown by the device,
/// or not confirmed in time. The newest command to a set-point counts.
pub(crate) async fn not_held(db: &Db, now: Timestamp) -> anyhow::Result<i64> {
    let since = now.plus_s(-LEASE_MAX_S).unix_ms();
    let rows: Vec<(Vec<u8>, Vec<u8>)> = db.fetch_all(SINCE, args![since]).await?;
    let mut newest = BTreeMap::new();
    for (digest, bytes) in rows {
        let command = command_of(bytes)?;
        if command.act.set_point() == SetPoint::ChargerSession {
            // Whether a driver comes is not the device's to hold.
            continue;
        }
        let point = command.act.set_point().word();
        newest.insert(
            (command.gateway, command.device, point),
            (digest, command.issued_at, command.act),
        );
    }
    let mut count = 0;
    for (digest, issued_at, act) in newest.into_values() {
        let Act::Set { expires_at, .. } = act else {
            continue;
        };
        let waits = now.ms_since(issued_at) < CONFIRMED_WITHIN_S * 1000;
        if expires_at <= now || waits {
            continue;
        }
        let acks = acks(db, &digest).await?;
        if !matches!(
            acks.last().map(|ack| ack.outcome),
            Some(Outcome::Confirmed { .. })
        ) {
            count += 1;
        }
    }
    Ok(count)
}

/// A command that was verified when it was stored.
fn command_of(bytes: Vec<u8>) -> anyhow::Result<Command> {
    Signed::<Command>::from_bytes(bytes)
        .stored()
        .context("a stored command is damaged")
}

/// The payload of a message that was verified when it was stored.
fn payload_of(bytes: Vec<u8>) -> anyhow::Result<Ack> {
    Signed::<Ack>::from_bytes(bytes)
        .stored()
        .context("a stored answer is damaged")
}

#[cfg(test)]
mod tests;
