//! What an account chooses for itself: its language, and whether its home may be compared with others; and where its
//! mail goes, which the operator says.

use std::collections::BTreeMap;

use anyhow::bail;
use domain::ids::ParticipantId;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};

use super::{Account, AccountRow, BY_OPERATOR, By, account, make_link, note, of_name};

const SET_LANGUAGE: &str = "INSERT INTO account_settings (account, language) VALUES ($1, $2)
    ON CONFLICT (account) DO UPDATE SET language = excluded.language";

/// Keeps in which language an account reads; none goes by the browser's.
pub(crate) async fn set_language(
    tx: &mut Tx,
    now: Timestamp,
    by: By<'_>,
    language: Option<&str>,
) -> anyhow::Result<()> {
    let kept = language.map(str::to_owned);
    tx.execute(SET_LANGUAGE, args![by.account, kept]).await?;
    let detail = language.unwrap_or("as the browser says");
    note(tx, now, by, "language chosen", detail).await
}

/// Longest address.
const EMAIL_MAX_BYTES: usize = 254;

/// An address as it is kept and looked for; `None` where it is none.
pub(crate) fn address(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let fits = text.len() <= EMAIL_MAX_BYTES && text.parse::<lettre::Address>().is_ok();
    fits.then_some(text)
}

const EMAIL_OF_ANOTHER: &str =
    "SELECT account FROM account_settings WHERE email = $1 AND account <> $2";
const SET_EMAIL: &str = "INSERT INTO account_settings (account, email) VALUES ($1, $2)
    ON CONFLICT (account) DO UPDATE SET email = excluded.email";
/// An account that is ended has no address any more.
pub(super) const FORGET_EMAIL: &str = "UPDATE account_settings SET email = NULL WHERE account = $1";

/// Says where an account's mail goes: an address of [`address`], or nowhere. `false` where there is no such account.
///
/// # Errors
///
/// Where another account has this address.
pub(crate) async fn set_email(
    db: &Db,
    now: Timestamp,
    name: &str,
    email: Option<String>,
) -> anyhow::Result<bool> {
    let mut tx = db.begin().await?;
    if of_name(&mut tx, name).await?.is_none() {
        return Ok(false);
    }
    if let Some(email) = &email {
        let other: Option<(String,)> = tx
            .fetch_optional(EMAIL_OF_ANOTHER, args![email, name])
            .await?;
        if let Some((other,)) = other {
            bail!("{other} has this address, and a link can sign in one account only");
        }
    }
    tx.execute(SET_EMAIL, args![name, email.clone()]).await?;
    let detail = match email {
        Some(_) => format!("{name}: an address"),
        None => format!("{name}: none"),
    };
    note(&mut tx, now, BY_OPERATOR, "address set", &detail).await?;
    tx.commit().await?;
    Ok(true)
}

const EMAIL: &str = "SELECT email FROM account_settings WHERE account = $1";

/// Where an account's mail goes.
pub(crate) async fn email(db: &Db, name: &str) -> anyhow::Result<Option<String>> {
    let row: Option<(Option<String>,)> = db.fetch_optional(EMAIL, args![name]).await?;
    Ok(row.and_then(|(email,)| email))
}

/// Most links of one account that were asked for by mail and can still be used: whoever knows an address cannot fill
/// its mailbox.
const MAILED_MAX: i64 = 3;
const OF_EMAIL: &str = "SELECT a.name, a.roles, a.participant FROM account_settings s
    JOIN account a ON a.name = s.account WHERE s.email = $1 AND a.revoked_ms IS NULL";
const ALIVE: &str = "SELECT COUNT(*) FROM account_link
    WHERE account = $1 AND expires_ms > $2 AND expires_ms <= $3";

/// A link for the account with this address, or nothing where there is none, or enough links are on their way.
pub(crate) async fn link_to(
    db: &Db,
    (now, expires): (Timestamp, Timestamp),
    (email, from): (&str, &str),
) -> anyhow::Result<Option<(Account, String)>> {
    let mut tx = db.begin().await?;
    let row: Option<AccountRow> = tx.fetch_optional(OF_EMAIL, args![email]).await?;
    let Some(found) = row.map(account).transpose()? else {
        return Ok(None);
    };
    let alive = args![&found.name, now.unix_ms(), expires.unix_ms()];
    let (alive,): (i64,) = tx.fetch_one(ALIVE, alive).await?;
    if alive >= MAILED_MAX {
        return Ok(None);
    }
    let secret = make_link(&mut tx, (now, expires), &found.name).await?;
    let by = By {
        account: &found.name,
        address: from,
    };
    note(&mut tx, now, by, "link mailed", "").await?;
    tx.commit().await?;
    Ok(Some((found, secret)))
}

const CONSENT: &str =
    "INSERT INTO home_comparison (participant, consents, account, at_ms) VALUES ($1, $2, $3, $4)
    ON CONFLICT (participant) DO UPDATE SET consents = excluded.consents,
    account = excluded.account, at_ms = excluded.at_ms";

/// Keeps whether a home may be compared with others.
pub(crate) async fn set_consent(
    tx: &mut Tx,
    now: Timestamp,
    by: By<'_>,
    home: &ParticipantId,
    consents: bool,
) -> anyhow::Result<()> {
    let values = args![home.as_str(), consents, by.account, now.unix_ms()];
    tx.execute(CONSENT, values).await?;
    let what = match consents {
        true => "comparison allowed",
        false => "comparison ended",
    };
    note(tx, now, by, what, home.as_str()).await
}

/// What homes have said to being compared.
pub(crate) async fn consents(db: &Db) -> anyhow::Result<BTreeMap<String, bool>> {
    let rows: Vec<(String, i64)> = db
        .fetch_all("SELECT participant, consents FROM home_comparison", args![])
        .await?;
    let said = rows
        .into_iter()
        .map(|(home, consents)| (home, consents != 0));
    Ok(said.collect())
}
