//! Several statements in one walk to SQLite's thread and back.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Executor, Sqlite, Transaction};

use super::{Args, DbError, value};

/// Runs the statements in their order, as one text.
pub(super) async fn run(
    tx: &mut Transaction<'static, Sqlite>,
    statements: Vec<(&'static str, Args)>,
) -> Result<(), DbError> {
    let (texts, values): (Vec<&'static str>, Vec<Args>) = statements.into_iter().unzip();
    let first = texts.first().copied().unwrap_or_default();
    let values = value::sqlite(values.into_iter().flatten().collect(), first)?;
    // Made of nothing but texts that the program was built with.
    let text = AssertSqlSafe(texts.join(";\n"));
    let mut done = 0;
    let running = async {
        let mut answers = (&mut **tx).fetch_many(sqlx::query_with(text, values));
        while let Some(answer) = answers.try_next().await? {
            done += usize::from(answer.is_left());
        }
        Ok(())
    };
    let outcome: Result<(), sqlx::Error> = running.await;
    let sql = texts.get(done).copied().unwrap_or(first);
    outcome.map_err(|source| DbError::Query { sql, source })
}
