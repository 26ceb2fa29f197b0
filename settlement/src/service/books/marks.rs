//! How far the tables were checked against the logs, so that a start need not read all of them again, and one that is
//! killed goes on where it was. Sealed with the operator's key: whoever has the database alone cannot say that more was
//! checked.

use std::collections::BTreeMap;

use domain::ids::{Digest32, digest_parts};
use domain::signed::SigningKey;
use runtime::args;
use runtime::db::Db;

use super::{BooksError, Portions};
use crate::log::checkpoint::Log;
use crate::service::error::number;
use crate::service::root_at;
use crate::store::LOCK;

/// The roots that the logs' entries lead to at the ends of parts, by log and size.
pub(super) type Roots = BTreeMap<(Log, i64), Digest32>;

fn seal(operator: &SigningKey, log: Log, size: i64, root: &Digest32) -> [u8; 32] {
    let parts: [&[u8]; 4] = [
        &operator.to_bytes(),
        log.word().as_bytes(),
        &size.to_be_bytes(),
        &root.0,
    ];
    digest_parts("commonwatt/books-checked/v1", &parts)
}

/// How far each log was checked before, and has been checked since.
pub(super) struct Marks<'a> {
    portions: Portions,
    reached: BTreeMap<Log, i64>,
    kept: Option<Kept<'a>>,
}

/// Where marks are kept, and what they are sealed with.
struct Kept<'a> {
    db: &'a Db,
    operator: &'a SigningKey,
    roots: Roots,
}

impl<'a> Marks<'a> {
    /// For a check of everything, of which nothing is remembered.
    pub(super) fn none() -> Self {
        Marks {
            portions: Portions::default(),
            reached: BTreeMap::new(),
            kept: None,
        }
    }

    /// The marks of earlier starts; of books that were set back and went on otherwise nothing is checked.
    pub(super) async fn of(
        db: &'a Db,
        operator: &'a SigningKey,
        portions: Portions,
        roots: Roots,
    ) -> Result<Self, BooksError> {
        let mut reached = BTreeMap::new();
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
            let root = root_at(db, log, number(checked, "a log's size")?).await?;
            if root.is_some_and(|root| sealed == seal(operator, log, checked, &root)) {
                reached.insert(log, checked);
            }
        }
        let kept = Some(Kept {
            db,
            operator,
            roots,
        });
        Ok(Marks {
            portions,
            reached,
            kept,
        })
    }

    /// The first entry to be checked of a log of `size` entries.
    pub(super) fn first(&self, log: Log, size: i64) -> i64 {
        let checked = self.reached.get(&log).copied().unwrap_or(0);
        checked.min(size - i64::from(self.portions.recent)).max(0)
    }

    /// Behind the last entry of the part that `at` is in.
    pub(super) fn end_of_part(&self, at: i64) -> i64 {
        let part = i64::from(self.portions.part.get());
        (at / part + 1) * part
    }

    /// Remembers that a log holds up to the entry before `to`. What was checked to there before stays as it is.
    pub(super) async fn reach(&mut self, log: Log, to: i64) -> Result<(), BooksError> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        // Of entries that came while the books were checked nobody has seen the root.
        let Some(root) = kept.roots.get(&(log, to)) else {
            return Ok(());
        };
        if self.reached.get(&log).is_some_and(|reached| to <= *reached) {
            return Ok(());
        }
        let mut tx = kept.db.begin().await?;
        tx.exclusive(LOCK).await?;
        tx.execute(
            "INSERT INTO settle_checked (log, size, seal) VALUES ($1, $2, $3)
             ON CONFLICT (log) DO UPDATE SET size = excluded.size, seal = excluded.seal",
            args![
                i64::from(log.code()),
                to,
                seal(kept.operator, log, to, root)
            ],
        )
        .await?;
        tx.commit().await?;
        self.reached.insert(log, to);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_checks_what_is_new_and_the_newest_again() {
        let recent = i64::from(Portions::default().recent);
        let first = |checked, size| {
            let mut marks = Marks::none();
            marks.reached.insert(Log::Market, checked);
            marks.first(Log::Market, size)
        };
        assert_eq!(first(50, 60), 0);
        assert_eq!(first(2 * recent, 2 * recent + 5), recent + 5);
        assert_eq!(
            first(2 * recent, 9 * recent),
            2 * recent,
            "nothing is left out"
        );
    }

    #[test]
    fn a_seal_is_of_one_log_one_size_and_one_key() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let root = Digest32([1; 32]);
        let sealed = seal(&key, Log::Market, 5, &root);
        assert_ne!(sealed, seal(&key, Log::Market, 6, &root));
        assert_ne!(sealed, seal(&key, Log::Ledger, 5, &root));
        let other = SigningKey::from_bytes(&[8; 32]);
        assert_ne!(sealed, seal(&other, Log::Market, 5, &root));
    }
}
