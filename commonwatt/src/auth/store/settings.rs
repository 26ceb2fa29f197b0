//! What an account chooses for itself: its language, and whether its home may be compared with others.

use std::collections::BTreeMap;

use domain::ids::ParticipantId;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};

use super::{By, note};

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
