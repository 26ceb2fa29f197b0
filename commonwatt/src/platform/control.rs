//! The way of commands to gateways, and of the gateways' answers back: forwarded as they were signed, and every one of
//! both kept. All are signed with the operator's key; on whose account one came is kept beside it: the operator's own
//! word, a charging session's, or the market's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

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
pub(super) const MIGRATIONS: &[Migration] = &[COMMANDS, BY_TIME, NEWEST_FIRST, LAST_WORD];

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

/// Rows from before have none of this; no lease of theirs lasts longer than a day.
const LAST_WORD: Migration = Migration {
    version: 4004,
    description: "the last command to a set-point is found at once, and on whose account it came",
    sqlite: "
ALTER TABLE control_command ADD COLUMN device TEXT;
ALTER TABLE control_command ADD COLUMN set_point TEXT;
ALTER TABLE control_command ADD COLUMN sequence INTEGER;
ALTER TABLE control_command ADD COLUMN origin TEXT;
CREATE INDEX control_command_last ON control_command (gateway, device, set_point, sequence);",
    postgres: "
ALTER TABLE control_command ADD COLUMN device TEXT;
ALTER TABLE control_command ADD COLUMN set_point TEXT;
ALTER TABLE control_command ADD COLUMN sequence BIGINT;
ALTER TABLE control_command ADD COLUMN origin TEXT;
CREATE INDEX control_command_last ON control_command (gateway, device, set_point, sequence);",
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

/// Commands to one gateway, of those that were kept without their device, that are looked through for the newest.
const UNNAMED_MAX: i64 = 4_096;
const LAST: &str = "SELECT digest, message, origin, taken_ms FROM control_command
    WHERE gateway = $1 AND device = $2 AND set_point = $3 ORDER BY sequence DESC, taken_ms DESC LIMIT 1";
const UNNAMED: &str = "SELECT digest, message FROM control_command
    WHERE gateway = $1 AND device IS NULL AND taken_ms >= $2 ORDER BY taken_ms DESC LIMIT $3";
const KEEP: &str = "INSERT INTO control_command
    (digest, gateway, message, taken_ms, device, set_point, sequence, origin)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (digest) DO NOTHING";
const GATEWAY: &str = "SELECT gateway FROM control_command WHERE digest = $1";
const ACKS: &str = "SELECT message FROM control_ack WHERE command = $1 ORDER BY heard_ms, message";
const RECENT: &str = "SELECT digest, message FROM control_command WHERE taken_ms >= $1
    AND taken_ms < $3 AND (origin IS NULL OR origin <> 'market') ORDER BY taken_ms DESC LIMIT $2";
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
    /// The sequence of the platform's last command.
    told: AtomicU64,
}

/// On whose account a command came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// The operator's word, for the grid say.
    Operator,
    /// A charging session's, by its plan, its beginning or its end.
    Session,
    /// A trade's: a battery does what its standing order has bought or sold.
    Market,
}

impl Origin {
    /// The word that is stored; none for the operator's.
    const fn word(self) -> Option<&'static str> {
        match self {
            Origin::Operator => None,
            Origin::Session => Some("session"),
            Origin::Market => Some("market"),
        }
    }

    fn of(stored: Option<&str>) -> Self {
        let all = [Origin::Session, Origin::Market];
        let known = all.into_iter().find(|one| one.word() == stored);
        known.unwrap_or(Origin::Operator)
    }
}

/// The desk, and the end that the link to the broker reads.
pub(super) fn desk() -> (Desk, mpsc::Receiver<Forward>) {
    let (forwards, waiting) = mpsc::channel(FORWARDS_MAX);
    let desk = Desk {
        forwards,
        heard: Notify::new(),
        told: AtomicU64::new(0),
    };
    (desk, waiting)
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

    /// The sequence of the next command: the time, and above that of the one before.
    fn next_sequence(&self, now: Timestamp) -> u64 {
        let at = u64::try_from(now.unix_ms()).unwrap_or(0);
        let next = |last: u64| at.max(last.saturating_add(1));
        let before = self
            .told
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(next(last))
            });
        next(before.unwrap_or_else(|last| last))
    }
}

/// Signs a command of the platform's own and sends it on its way.
pub(super) async fn tell(
    shared: &Shared,
    origin: Origin,
    (gateway, device): (GatewayId, String),
    now: Timestamp,
    act: Act,
) -> Result<Verified<Command>, NotForwarded> {
    let command = Command {
        gateway,
        device,
        sequence: shared.control.next_sequence(now),
        issued_at: now,
        act,
    };
    let signed = Signed::sign(&shared.community.operator, &shared.site.community, &command);
    forward_for(shared, origin, signed.as_bytes().to_vec()).await
}

/// Verifies an operator's command, keeps it and sends it on its way. The same bytes again are sent again, and do
/// nothing at the gateway.
pub(crate) async fn forward(
    shared: &Shared,
    bytes: Vec<u8>,
) -> Result<Verified<Command>, NotForwarded> {
    forward_for(shared, Origin::Operator, bytes).await
}

async fn forward_for(
    shared: &Shared,
    origin: Origin,
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
    let kept = keep(shared, &verified, origin).await;
    kept.map_err(NotForwarded::Broken)?;
    room.send(Forward { gateway, bytes });
    Ok(verified)
}

async fn keep(shared: &Shared, command: &Verified<Command>, origin: Origin) -> anyhow::Result<()> {
    let mut tx = shared.db.begin().await?;
    let signed = command.signed().as_bytes().to_vec();
    let now_ms = shared.clock.now().unix_ms();
    let (digest, command) = (command.digest().0, command.message());
    let values = args![
        digest,
        command.gateway.as_str(),
        signed,
        now_ms,
        command.device.as_str(),
        command.act.set_point().word(),
        // What does not fit is above all that does.
        i64::try_from(command.sequence).unwrap_or(i64::MAX),
        origin.word().map(str::to_owned),
    ];
    tx.execute(KEEP, values).await?;
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

/// A command with what is kept beside it.
#[derive(Clone, Debug)]
pub(super) struct Last {
    pub(super) digest: Digest32,
    pub(super) command: Command,
    pub(super) origin: Origin,
}

impl Last {
    /// Its value and the end of its lease, where that runs now.
    pub(super) fn held(&self, now: Timestamp) -> Option<(i64, Timestamp)> {
        match self.command.act {
            Act::Set {
                value, expires_at, ..
            } if now < expires_at => Some((value, expires_at)),
            _ => None,
        }
    }
}

/// The command about a set-point of a device that has the last word, where its lease may still run.
pub(super) async fn last(
    db: &Db,
    gateway: &GatewayId,
    (device, set_point): (&str, SetPoint),
    now: Timestamp,
) -> anyhow::Result<Option<Last>> {
    type Row = (Vec<u8>, Vec<u8>, Option<String>, i64);
    // No lease is longer, so no command before that stands.
    let since_ms = now.plus_s(-LEASE_MAX_S).unix_ms();
    let place = args![gateway.as_str(), device, set_point.word()];
    let found: Option<Row> = db.fetch_optional(LAST, place).await?;
    let Some((digest, bytes, origin, taken_ms)) = found else {
        return last_unnamed(db, gateway, (device, set_point), since_ms).await;
    };
    if taken_ms < since_ms {
        return Ok(None);
    }
    Ok(Some(Last {
        digest: digest_of(digest)?,
        command: command_of(bytes)?,
        origin: Origin::of(origin.as_deref()),
    }))
}

/// The same among the commands that an older program has kept.
async fn last_unnamed(
    db: &Db,
    gateway: &GatewayId,
    (device, set_point): (&str, SetPoint),
    since_ms: i64,
) -> anyhow::Result<Option<Last>> {
    let values = args![gateway.as_str(), since_ms, UNNAMED_MAX];
    let rows: Vec<(Vec<u8>, Vec<u8>)> = db.fetch_all(UNNAMED, values).await?;
    let mut last: Option<Last> = None;
    for (digest, bytes) in rows {
        let command = command_of(bytes)?;
        let is_it = command.device == device && command.act.set_point() == set_point;
        let before = last.as_ref().map(|known| known.command.sequence);
        if is_it && before < Some(command.sequence) {
            last = Some(Last {
                digest: digest_of(digest)?,
                command,
                origin: Origin::Operator,
            });
        }
    }
    Ok(last)
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

/// The commands since `from` that limit a device, newest first, of the `most` newest of all but the market's.
pub(crate) async fn recent(db: &Db, from: Timestamp, most: u32) -> anyhow::Result<Vec<Kept>> {
    between(db, (from, Timestamp::from_unix_ms(i64::MAX)), most).await
}

/// [`recent`], of those that were taken in between two instants.
pub(crate) async fn between(
    db: &Db,
    (from, to): (Timestamp, Timestamp),
    most: u32,
) -> anyhow::Result<Vec<Kept>> {
    let values = args![from.unix_ms(), i64::from(most), to.unix_ms()];
    let rows: Vec<(Vec<u8>, Vec<u8>)> = db.fetch_all(RECENT, values).await?;
    let mut kept = Vec::with_capacity(rows.len());
    for (digest, message) in rows {
        let digest = digest_of(digest)?;
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
/// or not confirmed in time. The newest command to a set-point counts, a battery's for what it has traded among them: one
/// that does not follow costs its home a deviation. To be told the same again is no new time to do it.
pub(crate) async fn not_held(db: &Db, now: Timestamp) -> anyhow::Result<i64> {
    let since = now.plus_s(-LEASE_MAX_S).unix_ms();
    let rows: Vec<(Vec<u8>, Vec<u8>)> = db.fetch_all(SINCE, args![since]).await?;
    let mut newest: BTreeMap<_, (Option<Said>, Said)> = BTreeMap::new();
    for (digest, bytes) in rows {
        let command = command_of(bytes)?;
        let place = place(&command);
        let Act::Set {
            value, expires_at, ..
        } = command.act
        else {
            newest.remove(&place);
            continue;
        };
        let said = Said {
            told: vec![(digest, command.issued_at)],
            value,
            since: command.issued_at,
            expires_at,
        };
        let entry = match newest.remove(&place) {
            Some((before, last)) if last.runs_on_into(&said) && last.value == said.value => {
                (before, last.again(said))
            }
            Some((_, last)) => (Some(last), said),
            None => (None, said),
        };
        newest.insert(place, entry);
    }
    // Whether a driver comes is not the device's to hold.
    newest.retain(|(_, _, set_point), _| *set_point != SetPoint::ChargerSession.word());
    let mut count = 0;
    for (before, last) in newest.into_values() {
        if last.expires_at <= now {
            continue;
        }
        let late = last.is_late(now);
        // A device that is told something else has as long again only where it did what it was told before.
        let judged = match late {
            true => Some(&last),
            false => (before.as_ref()).filter(|said| said.is_late(now) && said.runs_on_into(&last)),
        };
        let Some(judged) = judged else { continue };
        let confirmed = |ack: &Ack| matches!(ack.outcome, Outcome::Confirmed { .. });
        let (mut held, mut silent) = (false, false);
        for (digest, issued_at) in judged.told.iter().rev() {
            let acks = acks(db, digest).await?;
            let Some(newest) = acks.last() else {
                silent |= now.ms_since(*issued_at) >= CONFIRMED_WITHIN_S * 1000;
                continue;
            };
            // What was said before the last word has ended with it.
            held = confirmed(newest) || (!late && acks.iter().any(confirmed));
            break;
        }
        count += i64::from(!held || silent);
    }
    Ok(count)
}

/// A value that a device was told, once or again and again without a gap.
struct Said {
    /// The commands and when they were issued, oldest first.
    told: Vec<(Vec<u8>, Timestamp)>,
    value: i64,
    /// When it was told first.
    since: Timestamp,
    /// Until when the last one holds.
    expires_at: Timestamp,
}

/// Of a value that was told again so often only the newest commands are asked for answers.
const TOLD_MAX: usize = 32;

impl Said {
    fn is_late(&self, now: Timestamp) -> bool {
        now.ms_since(self.since) >= CONFIRMED_WITHIN_S * 1000
    }

    fn runs_on_into(&self, next: &Said) -> bool {
        next.told
            .first()
            .is_some_and(|(_, at)| self.expires_at >= *at)
    }

    fn again(mut self, next: Said) -> Said {
        self.told.extend(next.told);
        let rest = self.told.len().saturating_sub(TOLD_MAX);
        self.told.drain(..rest);
        Said {
            told: self.told,
            since: self.since,
            ..next
        }
    }
}

/// Which set-point a command is about.
fn place(command: &Command) -> (GatewayId, String, &'static str) {
    let set_point = command.act.set_point().word();
    (command.gateway.clone(), command.device.clone(), set_point)
}

fn digest_of(stored: Vec<u8>) -> anyhow::Result<Digest32> {
    let digest: Result<[u8; 32], _> = stored.try_into();
    digest
        .map(Digest32)
        .map_err(|_| anyhow::anyhow!("a stored command's digest is damaged"))
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
