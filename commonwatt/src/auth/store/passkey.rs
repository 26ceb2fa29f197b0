//! What is kept of passkeys: the public half of each, and how often its other half has signed.

use anyhow::bail;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Db;

use super::{Account, AccountRow, By, LIST_MAX, account, begin_session, note, of_name};

/// Most passkeys of one account.
pub(crate) const PASSKEYS_MAX: usize = 16;
/// Longest name of a passkey, in bytes.
pub(crate) const NAME_MAX: usize = 64;

/// A passkey: what it was registered with, and what changes as it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Passkey {
    /// The credential's id, which the authenticator chose.
    pub(crate) id: Vec<u8>,
    /// Whom the authenticator knows the account as: random for everybody else.
    pub(crate) user_handle: Vec<u8>,
    /// How the browser may reach the authenticator.
    pub(crate) transports: u8,
    /// The public key and what else never changes.
    pub(crate) fixed: Vec<u8>,
    /// The signature counter and what else changes.
    pub(crate) changing: Vec<u8>,
}

/// A passkey as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) passkey: Passkey,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) used: Option<Timestamp>,
}

const COUNT: &str = "SELECT COUNT(*) FROM account_passkey WHERE account = $1";
const ADD: &str = "INSERT INTO account_passkey
    (id, account, name, user_handle, transports, fixed, changing, created_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";

/// Adds a passkey to the account of whoever does it. `false` where a passkey of this id is there already, or
/// the account is gone.
///
/// # Errors
///
/// Where the account has as many as it can have.
pub(crate) async fn add(
    db: &Db,
    now: Timestamp,
    by: By<'_>,
    name: &str,
    new: &Passkey,
) -> anyhow::Result<bool> {
    let mut tx = db.begin().await?;
    if of_name(&mut tx, by.account).await?.is_none() {
        return Ok(false);
    }
    let (count,): (i64,) = tx.fetch_one(COUNT, args![by.account]).await?;
    if usize::try_from(count)? >= PASSKEYS_MAX {
        bail!("{} has {count} passkeys: remove one first", by.account);
    }
    let added = tx.execute(
        ADD,
        args![
            new.id.clone(),
            by.account,
            name,
            new.user_handle.clone(),
            i64::from(new.transports),
            new.fixed.clone(),
            new.changing.clone(),
            now.unix_ms()
        ],
    );
    if added.await? == 0 {
        return Ok(false);
    }
    note(&mut tx, now, by, "passkey added", name).await?;
    tx.commit().await?;
    Ok(true)
}

type Row = (
    Vec<u8>,
    Vec<u8>,
    i64,
    Vec<u8>,
    Vec<u8>,
    String,
    i64,
    Option<i64>,
);

fn listed(row: Row) -> anyhow::Result<Listed> {
    let (id, user_handle, transports, fixed, changing, name, created_ms, used_ms) = row;
    Ok(Listed {
        passkey: Passkey {
            id,
            user_handle,
            transports: transports.try_into()?,
            fixed,
            changing,
        },
        name,
        created: Timestamp::from_unix_ms(created_ms),
        used: used_ms.map(Timestamp::from_unix_ms),
    })
}

const LIST: &str = "SELECT id, user_handle, transports, fixed, changing, name, created_ms, used_ms
    FROM account_passkey WHERE account = $1 ORDER BY created_ms, id LIMIT $2";

/// An account's passkeys, oldest first.
pub(crate) async fn list(db: &Db, account: &str) -> anyhow::Result<Vec<Listed>> {
    let rows: Vec<Row> = db.fetch_all(LIST, args![account, LIST_MAX]).await?;
    rows.into_iter().map(listed).collect()
}

const OF_ID: &str = "SELECT id, user_handle, transports, fixed, changing, name, created_ms, used_ms
    FROM account_passkey WHERE id = $1";
const OWNER: &str = "SELECT a.name, a.roles, a.participant FROM account_passkey p
    JOIN account a ON a.name = p.account WHERE p.id = $1 AND a.revoked_ms IS NULL";

/// The passkey of this id.
pub(crate) async fn of_id(db: &Db, id: &[u8]) -> anyhow::Result<Option<Listed>> {
    let row: Option<Row> = db.fetch_optional(OF_ID, args![id.to_vec()]).await?;
    row.map(listed).transpose()
}

const USE: &str = "UPDATE account_passkey SET changing = $3, used_ms = $4
    WHERE id = $1 AND changing = $2";

/// Begins a session for the owner of a passkey whose signature was checked against `was`; `None` where it was
/// removed or used in the meantime, or the account is revoked.
pub(crate) async fn sign_in(
    db: &Db,
    now: Timestamp,
    (was, changing): (&Listed, Vec<u8>),
    before: Option<&str>,
    address: &str,
) -> anyhow::Result<Option<(Account, String)>> {
    let mut tx = db.begin().await?;
    let id = was.passkey.id.clone();
    let used = args![
        id.clone(),
        was.passkey.changing.clone(),
        changing,
        now.unix_ms()
    ];
    if tx.execute(USE, used).await? == 0 {
        return Ok(None);
    }
    let owner: Option<AccountRow> = tx.fetch_optional(OWNER, args![id]).await?;
    let Some(account) = owner.map(account).transpose()? else {
        return Ok(None);
    };
    let by = By {
        account: &account.name,
        address,
    };
    let how = format!("by passkey {}", was.name);
    let session = begin_session(&mut tx, now, by, before, how.trim_end()).await?;
    tx.commit().await?;
    Ok(Some((account, session)))
}

const REMOVE: &str = "DELETE FROM account_passkey WHERE id = $1 AND account = $2";
/// Removes all passkeys of an account.
pub(super) const END_ALL: &str = "DELETE FROM account_passkey WHERE account = $1";

/// Removes an account's passkey. `false` where it has none of this id.
pub(crate) async fn remove(
    db: &Db,
    now: Timestamp,
    (account, by): (&str, By<'_>),
    id: &[u8],
) -> anyhow::Result<bool> {
    let Some(known) = of_id(db, id).await? else {
        return Ok(false);
    };
    let mut tx = db.begin().await?;
    if tx.execute(REMOVE, args![id.to_vec(), account]).await? == 0 {
        return Ok(false);
    }
    let detail = format!("{account} {}", known.name);
    note(&mut tx, now, by, "passkey removed", detail.trim_end()).await?;
    tx.commit().await?;
    Ok(true)
}
