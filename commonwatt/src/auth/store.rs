//! What is kept of accounts, and every change of it. `commonwatt accounts` uses the same functions.

use anyhow::{Context, bail};
use domain::ids::ParticipantId;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};

use super::role::{Role, Roles};
use super::secret::{self, Kind};
use super::session;

pub(crate) mod passkey;
pub(crate) mod settings;

/// Most accounts.
const ACCOUNTS_MAX: i64 = 100_000;
/// Most links of one account that can be used at the same time; the oldest go first.
const LINKS_MAX: i64 = 16;
/// Most sessions of one account; whichever was seen longest ago ends first.
const SESSIONS_MAX: i64 = 32;
/// Most tokens of one account that are not revoked.
const TOKENS_MAX: i64 = 32;
/// Longest name of a token, in bytes.
pub(crate) const TOKEN_NAME_MAX: usize = 64;
/// Most rows of a list.
pub(crate) const LIST_MAX: u32 = 1_000;
/// Who is named in the list where the operator did it on the command line.
pub(crate) const OPERATOR: &str = "(operator)";

/// An account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    /// Its name, given once and never to another.
    pub(crate) name: String,
    pub(crate) roles: Roles,
    /// The household it belongs to; with the role `home` only.
    pub(crate) participant: Option<ParticipantId>,
    /// The language that it reads, where it has chosen one and somebody comes with a session or a token.
    pub(crate) language: Option<String>,
}

/// An account as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) account: Account,
    pub(crate) created: Timestamp,
    pub(crate) revoked: Option<Timestamp>,
}

/// A token as it is listed; the token itself is not kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) scopes: Roles,
    pub(crate) read_only: bool,
    pub(crate) created: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) revoked: Option<Timestamp>,
}

/// One line of who did what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Deed {
    pub(crate) id: i64,
    pub(crate) at: Timestamp,
    pub(crate) account: String,
    pub(crate) action: String,
    pub(crate) detail: String,
    pub(crate) address: String,
}

/// Who does something, and from where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By<'a> {
    pub(crate) account: &'a str,
    pub(crate) address: &'a str,
}

/// The operator at the command line.
pub(crate) const BY_OPERATOR: By<'static> = By {
    account: OPERATOR,
    address: "-",
};

type AccountRow = (String, String, Option<String>);

fn account((name, roles, participant): AccountRow) -> anyhow::Result<Account> {
    let damaged = || format!("account {name} is damaged");
    let roles = Roles::from_words(&roles).map_err(|word| anyhow::anyhow!("unknown role {word}"));
    let participant = participant.map(ParticipantId::new).transpose();
    Ok(Account {
        roles: roles.with_context(damaged)?,
        participant: participant.with_context(damaged)?,
        language: None,
        name,
    })
}

/// Checks what can be checked without the database. A name has the same characters as a participant's.
pub(crate) fn check(new: &Account) -> anyhow::Result<()> {
    ParticipantId::new(new.name.as_str()).context("an account's name")?;
    if new.roles == Roles::default() {
        bail!("an account needs a role: home, driver, operator, researcher or admin");
    }
    if new.roles.has(Role::Home) != new.participant.is_some() {
        bail!("the role home needs its participant, and no other role has one");
    }
    Ok(())
}

const COUNT: &str = "SELECT COUNT(*) FROM account";
const ADD: &str =
    "INSERT INTO account (name, roles, participant, created_ms) VALUES ($1, $2, $3, $4)
    ON CONFLICT (name) DO NOTHING";

/// Makes an account. `false` where there is one of this name that stands for the same.
pub(crate) async fn add(db: &Db, now: Timestamp, new: &Account) -> anyhow::Result<bool> {
    check(new)?;
    let mut tx = db.begin().await?;
    let (count,): (i64,) = tx.fetch_one(COUNT, args![]).await?;
    if count >= ACCOUNTS_MAX {
        bail!("there are {count} accounts, which is the most there can be");
    }
    let participant = new.participant.as_ref().map(|p| p.as_str().to_owned());
    let roles = new.roles.to_string();
    let added = tx
        .execute(ADD, args![&new.name, &roles, participant, now.unix_ms()])
        .await?;
    if added == 0 {
        let known = of_name(&mut tx, &new.name).await?;
        if known.as_ref() == Some(new) {
            return Ok(false);
        }
        bail!(
            "there is or was another account {}: names are never given twice, choose another",
            new.name
        );
    }
    let whose = new.participant.as_ref().map_or("", ParticipantId::as_str);
    let detail = format!("{} {roles} {whose}", new.name);
    note(&mut tx, now, BY_OPERATOR, "account added", detail.trim()).await?;
    tx.commit().await?;
    Ok(true)
}

const OF_NAME: &str = "SELECT name, roles, participant FROM account
    WHERE name = $1 AND revoked_ms IS NULL";

/// The account of this name, unless it is revoked.
async fn of_name(tx: &mut Tx, name: &str) -> anyhow::Result<Option<Account>> {
    let row: Option<AccountRow> = tx.fetch_optional(OF_NAME, args![name]).await?;
    row.map(account).transpose()
}

const REVOKE: &str = "UPDATE account SET revoked_ms = $2 WHERE name = $1 AND revoked_ms IS NULL";
const END_SESSIONS: &str = "DELETE FROM account_session WHERE account = $1";
const END_LINKS: &str = "DELETE FROM account_link WHERE account = $1";
const REVOKE_TOKENS: &str =
    "UPDATE account_token SET revoked_ms = $2 WHERE account = $1 AND revoked_ms IS NULL";

/// Ends an account with its sessions, links, passkeys and tokens. `false` where there is none.
pub(crate) async fn revoke(db: &Db, now: Timestamp, name: &str) -> anyhow::Result<bool> {
    let mut tx = db.begin().await?;
    let now_ms = now.unix_ms();
    if tx.execute(REVOKE, args![name, now_ms]).await? == 0 {
        return Ok(false);
    }
    tx.execute(END_SESSIONS, args![name]).await?;
    tx.execute(END_LINKS, args![name]).await?;
    tx.execute(passkey::END_ALL, args![name]).await?;
    tx.execute(REVOKE_TOKENS, args![name, now_ms]).await?;
    tx.execute(settings::FORGET_EMAIL, args![name]).await?;
    note(&mut tx, now, BY_OPERATOR, "account revoked", name).await?;
    tx.commit().await?;
    Ok(true)
}

const LIST: &str = "SELECT name, roles, participant, created_ms, revoked_ms FROM account
    WHERE name > $1 ORDER BY name LIMIT $2";

/// The accounts after a name, in the order of names.
pub(crate) async fn list(db: &Db, after: &str, most: u32) -> anyhow::Result<Vec<Listed>> {
    type Row = (String, String, Option<String>, i64, Option<i64>);
    let rows: Vec<Row> = db.fetch_all(LIST, args![after, most.min(LIST_MAX)]).await?;
    let listed = |(name, roles, participant, created_ms, revoked_ms): Row| {
        Ok(Listed {
            account: account((name, roles, participant))?,
            created: Timestamp::from_unix_ms(created_ms),
            revoked: revoked_ms.map(Timestamp::from_unix_ms),
        })
    };
    rows.into_iter().map(listed).collect()
}

const DROP_LINKS: &str = "DELETE FROM account_link WHERE account = $1 AND (expires_ms <= $2
    OR used_ms IS NOT NULL OR hash NOT IN (SELECT hash FROM account_link
        WHERE account = $1 AND used_ms IS NULL ORDER BY created_ms DESC, hash LIMIT $3))";
const ADD_LINK: &str = "INSERT INTO account_link (hash, account, created_ms, expires_ms)
    VALUES ($1, $2, $3, $4)";

/// Makes a link that signs an account in once, and gives its secret; `None` where there is no such account.
pub(crate) async fn link(
    db: &Db,
    (now, expires): (Timestamp, Timestamp),
    name: &str,
) -> anyhow::Result<Option<String>> {
    let mut tx = db.begin().await?;
    if of_name(&mut tx, name).await?.is_none() {
        return Ok(None);
    }
    let secret = make_link(&mut tx, (now, expires), name).await?;
    note(&mut tx, now, BY_OPERATOR, "link made", name).await?;
    tx.commit().await?;
    Ok(Some(secret))
}

/// A new link of an account that is there.
async fn make_link(
    tx: &mut Tx,
    (now, expires): (Timestamp, Timestamp),
    name: &str,
) -> anyhow::Result<String> {
    let now_ms = now.unix_ms();
    tx.execute(DROP_LINKS, args![name, now_ms, LINKS_MAX - 1])
        .await?;
    let secret = secret::random()?;
    let hash = secret::hash(Kind::Link, &secret).to_vec();
    tx.execute(ADD_LINK, args![hash, name, now_ms, expires.unix_ms()])
        .await?;
    Ok(secret)
}

const LINK: &str = "SELECT a.name, a.roles, a.participant FROM account_link l
    JOIN account a ON a.name = l.account
    WHERE l.hash = $1 AND l.used_ms IS NULL AND l.expires_ms > $2 AND a.revoked_ms IS NULL";

/// Whom a link would sign in; it stays usable.
pub(super) async fn of_link(
    db: &Db,
    now: Timestamp,
    secret: &str,
) -> anyhow::Result<Option<Account>> {
    let hash = secret::hash(Kind::Link, secret).to_vec();
    let row: Option<AccountRow> = db.fetch_optional(LINK, args![hash, now.unix_ms()]).await?;
    row.map(account).transpose()
}

const USE_LINK: &str = "UPDATE account_link SET used_ms = $2
    WHERE hash = $1 AND used_ms IS NULL AND expires_ms > $2";
const LINK_OWNER: &str = "SELECT account FROM account_link WHERE hash = $1";
const END_OLD: &str = "DELETE FROM account_session WHERE hash = $1 OR created_ms < $2
    OR (account = $3 AND hash NOT IN (SELECT hash FROM account_session
        WHERE account = $3 ORDER BY seen_ms DESC, hash LIMIT $4))";
const ADD_SESSION: &str = "INSERT INTO account_session (hash, account, created_ms, seen_ms)
    VALUES ($1, $2, $3, $3)";

/// Uses a link up and gives a new session's secret; the session that the browser had before ends.
pub(super) async fn sign_in(
    db: &Db,
    now: Timestamp,
    secret: &str,
    before: Option<&str>,
    address: &str,
) -> anyhow::Result<Option<(Account, String)>> {
    let mut tx = db.begin().await?;
    let now_ms = now.unix_ms();
    let hash = secret::hash(Kind::Link, secret).to_vec();
    if tx.execute(USE_LINK, args![hash.clone(), now_ms]).await? == 0 {
        return Ok(None);
    }
    let (name,): (String,) = tx.fetch_one(LINK_OWNER, args![hash]).await?;
    let Some(account) = of_name(&mut tx, &name).await? else {
        return Ok(None);
    };
    let by = By {
        account: &name,
        address,
    };
    let session = begin_session(&mut tx, now, by, before, "by link").await?;
    tx.commit().await?;
    Ok(Some((account, session)))
}

/// Begins a session in place of the one that the browser had before, and gives its secret.
async fn begin_session(
    tx: &mut Tx,
    now: Timestamp,
    by: By<'_>,
    before: Option<&str>,
    how: &str,
) -> anyhow::Result<String> {
    let (name, now_ms) = (by.account, now.unix_ms());
    let before = before.map(|before| secret::hash(Kind::Session, before));
    let before = before.map_or_else(Vec::new, |hash| hash.to_vec());
    let oldest_ms = now_ms.saturating_sub(session::LONGEST_MS);
    tx.execute(END_OLD, args![before, oldest_ms, name, SESSIONS_MAX - 1])
        .await?;
    let session = secret::random()?;
    let hash = secret::hash(Kind::Session, &session).to_vec();
    tx.execute(ADD_SESSION, args![hash, name, now_ms]).await?;
    note(tx, now, by, "signed in", how).await?;
    Ok(session)
}

const END_SESSION: &str = "DELETE FROM account_session WHERE hash = $1";

/// Ends one session.
pub(super) async fn sign_out(
    db: &Db,
    now: Timestamp,
    session: &str,
    by: By<'_>,
) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    let hash = secret::hash(Kind::Session, session).to_vec();
    tx.execute(END_SESSION, args![hash]).await?;
    note(&mut tx, now, by, "signed out", "").await?;
    tx.commit().await?;
    Ok(())
}

const SESSION: &str = "SELECT a.name, a.roles, a.participant, s.created_ms, s.seen_ms, c.language
    FROM account_session s JOIN account a ON a.name = s.account
    LEFT JOIN account_settings c ON c.account = a.name
    WHERE s.hash = $1 AND a.revoked_ms IS NULL";

/// Whose session this is, while it lives; and whether it is time to keep that it was seen.
pub(super) async fn of_session(
    db: &Db,
    now: Timestamp,
    session: &str,
) -> anyhow::Result<Option<(Account, bool)>> {
    type Row = (String, String, Option<String>, i64, i64, Option<String>);
    let hash = secret::hash(Kind::Session, session).to_vec();
    let row: Option<Row> = db.fetch_optional(SESSION, args![hash]).await?;
    let Some((name, roles, participant, created_ms, seen_ms, language)) = row else {
        return Ok(None);
    };
    let account = Account {
        language,
        ..account((name, roles, participant))?
    };
    let (created, seen) = (
        Timestamp::from_unix_ms(created_ms),
        Timestamp::from_unix_ms(seen_ms),
    );
    if !session::lives(account.roles, created, seen, now) {
        return Ok(None);
    }
    let is_stale = now.ms_since(seen) >= session::SEEN_EVERY_MS;
    Ok(Some((account, is_stale)))
}

const SEEN: &str = "UPDATE account_session SET seen_ms = $2 WHERE hash = $1 AND seen_ms < $2";

/// Keeps that a session was seen now.
pub(super) async fn seen(db: &Db, now: Timestamp, session: &str) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    let hash = secret::hash(Kind::Session, session).to_vec();
    tx.execute(SEEN, args![hash, now.unix_ms()]).await?;
    Ok(tx.commit().await?)
}

const COUNT_TOKENS: &str = "SELECT COUNT(*) FROM account_token
    WHERE account = $1 AND revoked_ms IS NULL AND expires_ms > $2";
const ADD_TOKEN: &str = "INSERT INTO account_token
    (hash, id, account, name, scopes, read_only, created_ms, expires_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// What a new token may do, and for how long.
pub(crate) struct NewToken<'a> {
    pub(crate) account: &'a str,
    pub(crate) name: &'a str,
    /// The account's roles that it stands for; all where none is named.
    pub(crate) scopes: Roles,
    pub(crate) read_only: bool,
    pub(crate) expires: Timestamp,
}

/// Makes an API token and gives its id and secret; `None` where there is no such account.
pub(crate) async fn add_token(
    db: &Db,
    now: Timestamp,
    new: &NewToken<'_>,
) -> anyhow::Result<Option<(String, String)>> {
    if new.name.is_empty() || new.name.len() > TOKEN_NAME_MAX {
        bail!("a token's name has 1 to {TOKEN_NAME_MAX} bytes");
    }
    let mut tx = db.begin().await?;
    let Some(account) = of_name(&mut tx, new.account).await? else {
        return Ok(None);
    };
    let scopes = match new.scopes {
        all if all == Roles::default() => account.roles,
        some if some.and(account.roles) == some => some,
        some => bail!(
            "{} has the roles {}, not {some}",
            account.name,
            account.roles
        ),
    };
    let now_ms = now.unix_ms();
    let (count,): (i64,) = tx
        .fetch_one(COUNT_TOKENS, args![new.account, now_ms])
        .await?;
    if count >= TOKENS_MAX {
        bail!("{} has {count} tokens: revoke one first", account.name);
    }
    let (id, secret) = (secret::random_name()?, secret::random()?);
    let secret = format!("cw_{secret}");
    let hash = secret::hash(Kind::Token, &secret).to_vec();
    let (words, read_only) = (scopes.to_string(), new.read_only);
    let expires_ms = new.expires.unix_ms();
    tx.execute(
        ADD_TOKEN,
        args![
            hash,
            &id,
            new.account,
            new.name,
            &words,
            read_only,
            now_ms,
            expires_ms
        ],
    )
    .await?;
    let detail = format!("{} {id} {} ({words})", new.account, new.name);
    note(&mut tx, now, BY_OPERATOR, "token made", &detail).await?;
    tx.commit().await?;
    Ok(Some((id, secret)))
}

const TOKEN: &str = "SELECT a.name, a.roles, a.participant, t.id, t.scopes, t.read_only, c.language
    FROM account_token t JOIN account a ON a.name = t.account
    LEFT JOIN account_settings c ON c.account = a.name
    WHERE t.hash = $1 AND t.revoked_ms IS NULL AND t.expires_ms > $2 AND a.revoked_ms IS NULL";

/// The account of a token, with the roles that the token stands for; its id; and whether it may only read.
pub(super) async fn of_token(
    db: &Db,
    now: Timestamp,
    token: &str,
) -> anyhow::Result<Option<(Account, String, bool)>> {
    type Row = (
        String,
        String,
        Option<String>,
        String,
        String,
        i64,
        Option<String>,
    );
    let hash = secret::hash(Kind::Token, token).to_vec();
    let row: Option<Row> = db.fetch_optional(TOKEN, args![hash, now.unix_ms()]).await?;
    let Some((name, roles, participant, id, scopes, read_only, language)) = row else {
        return Ok(None);
    };
    let mut account = account((name, roles, participant))?;
    let scopes = Roles::from_words(&scopes);
    let scopes = scopes.map_err(|word| anyhow::anyhow!("token {id}: unknown scope {word}"))?;
    account.language = language;
    account.roles = account.roles.and(scopes);
    if !account.roles.has(Role::Home) {
        account.participant = None;
    }
    Ok(Some((account, id, read_only != 0)))
}

const REVOKE_TOKEN: &str = "UPDATE account_token SET revoked_ms = $2 WHERE id = $1 AND account = $3 AND revoked_ms IS NULL";

/// Ends an account's token. `false` where it has none of this id that is not ended.
pub(crate) async fn revoke_token(
    db: &Db,
    now: Timestamp,
    account: &str,
    id: &str,
) -> anyhow::Result<bool> {
    let mut tx = db.begin().await?;
    let revoked = tx.execute(REVOKE_TOKEN, args![id, now.unix_ms(), account]);
    if revoked.await? == 0 {
        return Ok(false);
    }
    note(&mut tx, now, BY_OPERATOR, "token revoked", id).await?;
    tx.commit().await?;
    Ok(true)
}

const TOKENS: &str =
    "SELECT id, account, name, scopes, read_only, created_ms, expires_ms, revoked_ms
    FROM account_token WHERE account = $1 ORDER BY created_ms DESC, id LIMIT $2";

/// The tokens of an account, newest first.
pub(crate) async fn tokens(db: &Db, name: &str) -> anyhow::Result<Vec<Token>> {
    type Row = (String, String, String, String, i64, i64, i64, Option<i64>);
    let rows: Vec<Row> = db.fetch_all(TOKENS, args![name, LIST_MAX]).await?;
    let token = |row: Row| {
        let (id, account, name, scopes, read_only, created_ms, expires_ms, revoked_ms) = row;
        let scopes = Roles::from_words(&scopes);
        Ok(Token {
            scopes: scopes.map_err(|word| anyhow::anyhow!("token {id}: unknown scope {word}"))?,
            id,
            account,
            name,
            read_only: read_only != 0,
            created: Timestamp::from_unix_ms(created_ms),
            expires: Timestamp::from_unix_ms(expires_ms),
            revoked: revoked_ms.map(Timestamp::from_unix_ms),
        })
    };
    rows.into_iter().map(token).collect()
}

const NOTE: &str = "INSERT INTO account_audit (at_ms, account, action, detail, address)
    VALUES ($1, $2, $3, $4, $5)";

/// Adds a line to who did what, in the transaction that does it.
pub(crate) async fn note(
    tx: &mut Tx,
    now: Timestamp,
    by: By<'_>,
    action: &str,
    detail: &str,
) -> anyhow::Result<()> {
    tx.execute(
        NOTE,
        args![now.unix_ms(), by.account, action, detail, by.address],
    )
    .await?;
    Ok(())
}

const AUDIT: &str = "SELECT id, at_ms, account, action, detail, address FROM account_audit
    WHERE id < $1 ORDER BY id DESC LIMIT $2";

// No role's word is a part of another's. The command line is the operator's.
const AUDIT_OF_STAFF: &str = "SELECT id, at_ms, account, action, detail, address FROM account_audit
    WHERE account = $1 OR account IN
    (SELECT name FROM account WHERE roles LIKE '%operator%' OR roles LIKE '%admin%')
    ORDER BY id DESC LIMIT $2";

type DeedRow = (i64, i64, String, String, String, String);

fn deed((id, at_ms, account, action, detail, address): DeedRow) -> Deed {
    Deed {
        id,
        at: Timestamp::from_unix_ms(at_ms),
        account,
        action,
        detail,
        address,
    }
}

/// Who did what, newest first, before a line's id.
pub(crate) async fn audit(db: &Db, before: i64, most: u32) -> anyhow::Result<Vec<Deed>> {
    let rows = db.fetch_all(AUDIT, args![before, most.min(LIST_MAX)]);
    Ok(rows.await?.into_iter().map(deed).collect())
}

/// The newest of what operators and admins did, newest first.
pub(crate) async fn audit_of_staff(db: &Db, most: u32) -> anyhow::Result<Vec<Deed>> {
    let rows = db.fetch_all(AUDIT_OF_STAFF, args![OPERATOR, most.min(LIST_MAX)]);
    Ok(rows.await?.into_iter().map(deed).collect())
}

#[cfg(test)]
mod tests;
