//! What operators say to alarms: that they have seen one, or put it aside for a time. The board has it while
//! the alarm stands; the database keeps it, with the list of who did what.

use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Migration};

use crate::auth::store::{self, By};
use crate::view::alarms::{Kind, Said};

/// Longest time that an alarm is put aside.
pub(crate) const HOURS_MAX: u32 = 72;
/// Longest reason in characters.
pub(crate) const REASON_MAX_CHARS: usize = 500;

/// The table of what operators said to alarms.
pub(crate) const MIGRATION: Migration = Migration {
    version: 4013,
    description: "words about alarms",
    sqlite: "
CREATE TABLE account_alarm (
    alarm TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    account TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    until_ms INTEGER,
    PRIMARY KEY (alarm, since_ms)
) STRICT;",
    postgres: "
CREATE TABLE account_alarm (
    alarm TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    account TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    until_ms BIGINT,
    PRIMARY KEY (alarm, since_ms)
);",
};

const KEEP: &str = "INSERT INTO account_alarm (alarm, since_ms, account, reason, at_ms, until_ms)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (alarm, since_ms) DO UPDATE SET
    account = excluded.account, reason = excluded.reason, at_ms = excluded.at_ms,
    until_ms = excluded.until_ms";

/// What an operator says; `None` where the reason is empty or too long, or the time does not fit.
pub(crate) fn said(by: By<'_>, now: Timestamp, reason: &str, hours: Option<u32>) -> Option<Said> {
    let reason = reason.trim();
    let length = reason.chars().count();
    let hours_fit = hours.is_none_or(|hours| (1..=HOURS_MAX).contains(&hours));
    ((1..=REASON_MAX_CHARS).contains(&length) && hours_fit).then(|| Said {
        account: by.account.to_owned(),
        reason: reason.to_owned(),
        at: now,
        until: hours.map(|hours| now.plus_s(i64::from(hours) * 3600)),
    })
}

/// Keeps what somebody said to the alarm that stands since then.
pub(crate) async fn keep(
    db: &Db,
    by: By<'_>,
    (kind, since): (Kind, Timestamp),
    said: &Said,
) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    let until_ms = said.until.map(Timestamp::unix_ms);
    let values = args![
        kind.word(),
        since.unix_ms(),
        by.account,
        &said.reason,
        said.at.unix_ms(),
        until_ms
    ];
    tx.execute(KEEP, values).await?;
    let what = match said.until {
        Some(_) => "alarm put aside",
        None => "alarm acknowledged",
    };
    let detail = format!("{}: {}", kind.word(), said.reason);
    store::note(&mut tx, said.at, by, what, &detail).await?;
    Ok(tx.commit().await?)
}
