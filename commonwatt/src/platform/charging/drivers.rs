//! Whose sessions are whose: an account remembers the sessions it began. A session itself knows no account.

use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Migration};
use settlement::service as books;

use super::{Running, replayed};
use crate::platform::Shared;

/// Most sessions of an account that are read at a time, the newest.
pub(crate) const SHOWN_MAX: i64 = 200;

/// The table of this part.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 4_801,
    description: "which account began which charging session",
    sqlite: "CREATE TABLE driver_session (
        account TEXT NOT NULL,
        session TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (account, session)
    ) STRICT;
    CREATE INDEX driver_session_of ON driver_session (account, at_ms)",
    postgres: "CREATE TABLE driver_session (
        account TEXT NOT NULL,
        session TEXT NOT NULL,
        at_ms BIGINT NOT NULL,
        PRIMARY KEY (account, session)
    );
    CREATE INDEX driver_session_of ON driver_session (account, at_ms)",
}];

/// Keeps that an account began a session.
pub(crate) async fn remember(
    db: &Db,
    account: &str,
    session: &str,
    at: Timestamp,
) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    tx.execute(
        "INSERT INTO driver_session (account, session, at_ms) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
        args![account, session, at.unix_ms()],
    )
    .await?;
    tx.commit().await?;
    Ok(())
}

/// The newest sessions of an account, the newest first; at most [`SHOWN_MAX`].
pub(crate) async fn sessions_of(shared: &Shared, account: &str) -> anyhow::Result<Vec<Running>> {
    let rows: Vec<(String,)> = shared
        .db
        .fetch_all(
            "SELECT session FROM driver_session WHERE account = $1
             ORDER BY at_ms DESC, session LIMIT $2",
            args![account, SHOWN_MAX],
        )
        .await?;
    let mut sessions = Vec::with_capacity(rows.len());
    for (session,) in rows {
        if let Some(stored) = books::charging_session(&shared.db, &session).await? {
            sessions.push(replayed(stored)?);
        }
    }
    Ok(sessions)
}
