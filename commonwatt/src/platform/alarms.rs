//! What operators say to alarms: that they have seen one, or put it aside for a time. The board has it while
//! the alarm stands; the database keeps it, with the list of who did what, and a restart reads it again.

use std::collections::BTreeMap;

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

/// When an alarm that somebody spoke to was gone.
pub(crate) const GONE: Migration = Migration {
    version: 4015,
    description: "alarms that somebody spoke to and that went",
    sqlite: "ALTER TABLE account_alarm ADD COLUMN gone_ms INTEGER",
    postgres: "ALTER TABLE account_alarm ADD COLUMN gone_ms BIGINT",
};

const KEEP: &str = "INSERT INTO account_alarm (alarm, since_ms, account, reason, at_ms, until_ms)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (alarm, since_ms) DO UPDATE SET
    account = excluded.account, reason = excluded.reason, at_ms = excluded.at_ms,
    until_ms = excluded.until_ms";

const SAID: &str = "SELECT alarm, since_ms, account, reason, at_ms, until_ms FROM account_alarm
    WHERE gone_ms IS NULL AND (until_ms IS NULL OR until_ms > $1) ORDER BY since_ms";
const WENT: &str = "UPDATE account_alarm SET gone_ms = $3 WHERE alarm = $1 AND since_ms = $2";

/// What was said to alarms that stood when it was last looked, and counts still.
pub(crate) async fn remembered(
    db: &Db,
    now: Timestamp,
) -> anyhow::Result<BTreeMap<Kind, (Timestamp, Said)>> {
    type Row = (String, i64, String, String, i64, Option<i64>);
    let rows: Vec<Row> = db.fetch_all(SAID, args![now.unix_ms()]).await?;
    let said = |(alarm, since_ms, account, reason, at_ms, until_ms): Row| {
        let said = Said {
            account,
            reason,
            at: Timestamp::from_unix_ms(at_ms),
            until: until_ms.map(Timestamp::from_unix_ms),
        };
        Some((
            Kind::of_word(&alarm)?,
            (Timestamp::from_unix_ms(since_ms), said),
        ))
    };
    Ok(rows.into_iter().filter_map(said).collect())
}

/// Keeps that alarms are gone: if one comes again it is another.
pub(crate) async fn went(
    db: &Db,
    now: Timestamp,
    gone: &[(Kind, Timestamp)],
) -> anyhow::Result<()> {
    if gone.is_empty() {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    for (kind, since) in gone {
        tx.execute(WENT, args![kind.word(), since.unix_ms(), now.unix_ms()])
            .await?;
    }
    Ok(tx.commit().await?)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_said_is_known_after_a_restart_until_the_alarm_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        let db = Db::open(file.to_str().unwrap()).await.unwrap();
        db.migrate(crate::auth::MIGRATIONS).await.unwrap();
        db.migrate(crate::api::MIGRATIONS).await.unwrap();
        let at = |min: i64| Timestamp::from_unix_s(min * 60);
        let by = By {
            account: "ann",
            address: "-",
        };
        let seen = said(by, at(5), "a disk is ordered", None).unwrap();
        let aside = said(by, at(5), "known", Some(1)).unwrap();
        keep(&db, by, (Kind::StorageLow, at(1)), &seen)
            .await
            .unwrap();
        keep(&db, by, (Kind::ClockDrift, at(2)), &aside)
            .await
            .unwrap();
        let known = remembered(&db, at(6)).await.unwrap();
        assert_eq!(known[&Kind::StorageLow], (at(1), seen));
        assert_eq!(known[&Kind::ClockDrift], (at(2), aside));
        let later = remembered(&db, at(66)).await.unwrap();
        assert_eq!(later.len(), 1, "its time is over");
        let gone = [(Kind::StorageLow, at(1))];
        went(&db, at(67), &gone).await.unwrap();
        assert!(remembered(&db, at(68)).await.unwrap().is_empty());
    }
}
