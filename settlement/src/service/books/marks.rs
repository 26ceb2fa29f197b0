//! How far the tables were checked against the logs, so that a start need not read all of them again. Sealed with the
//! operator's key: whoever has the database alone cannot say that more was checked.

use std::collections::BTreeMap;

use domain::ids::{Digest32, digest_parts};
use domain::signed::SigningKey;
use runtime::args;
use runtime::db::Db;

use super::BooksError;
use crate::log::checkpoint::Log;
use crate::service::error::{number, stored};
use crate::service::{logs, root_at};
use crate::store::LOCK;

/// So many of each log's newest entries are checked at every start, whatever was checked before.
pub const RECENT_ENTRIES: i64 = 100_000;

fn seal(operator: &SigningKey, log: Log, size: i64, root: &Digest32) -> [u8; 32] {
    let parts: [&[u8]; 4] = [
        &operator.to_bytes(),
        log.word().as_bytes(),
        &size.to_be_bytes(),
        &root.0,
    ];
    digest_parts("commonwatt/books-checked/v1", &parts)
}

/// The first entry to be checked of a log of `size` entries, of which so many were `checked` before.
fn first(checked: i64, size: i64) -> i64 {
    checked.min(size - RECENT_ENTRIES).max(0)
}

/// From which entry on each log has to be checked.
pub(super) async fn checked(
    db: &Db,
    operator: &SigningKey,
) -> Result<BTreeMap<Log, i64>, BooksError> {
    let mut from = BTreeMap::new();
    for log in Log::ALL {
        let row: Option<(i64, Vec<u8>)> = db
            .fetch_optional(
                "SELECT size, seal FROM settle_checked WHERE log = $1",
                args![i64::from(log.code())],
            )
            .await?;
        let Some((checked, sealed)) = row else {
            continue;
        };
        // Of books that were set back and went on otherwise nothing is checked.
        let root = root_at(db, log, number(checked, "a log's size")?).await?;
        if root.is_some_and(|root| sealed == seal(operator, log, checked, &root)) {
            let size = stored(logs::frontier(&mut &*db, log).await?.size())?;
            from.insert(log, first(checked, size));
        }
    }
    Ok(from)
}

/// Remembers that everything is checked that the logs have taken in.
pub(super) async fn keep(db: &Db, operator: &SigningKey) -> Result<(), BooksError> {
    let mut tx = db.begin().await?;
    tx.exclusive(LOCK).await?;
    for log in Log::ALL {
        let frontier = logs::frontier(&mut tx, log).await?;
        let (size, root) = (stored(frontier.size())?, frontier.root());
        tx.execute(
            "INSERT INTO settle_checked (log, size, seal) VALUES ($1, $2, $3)
             ON CONFLICT (log) DO UPDATE SET size = excluded.size, seal = excluded.seal",
            args![
                i64::from(log.code()),
                size,
                seal(operator, log, size, &root)
            ],
        )
        .await?;
    }
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_checks_what_is_new_and_the_newest_again() {
        let recent = RECENT_ENTRIES;
        assert_eq!(first(50, 60), 0);
        assert_eq!(first(2 * recent, 2 * recent + 5), recent + 5);
        assert_eq!(
            first(2 * recent, 9 * recent),
            2 * recent,
            "nothing is left out"
        );
        let key = SigningKey::from_bytes(&[7; 32]);
        let root = Digest32([1; 32]);
        let sealed = seal(&key, Log::Market, 5, &root);
        assert_ne!(sealed, seal(&key, Log::Market, 6, &root));
        assert_ne!(sealed, seal(&key, Log::Ledger, 5, &root));
        let other = SigningKey::from_bytes(&[8; 32]);
        assert_ne!(sealed, seal(&other, Log::Market, 5, &root));
    }
}
