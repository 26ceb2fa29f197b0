//! Statements over a list of rows: each statement is a walk to the database's thread and back, so many rows go in one.

use super::{Args, DbError, Row, Source, Tx, Value};

/// Rows of one statement: any number of rows goes into few of them, and a dozen columns of the most stay far below what both
/// databases can bind.
const ROWS: &[usize] = &[64, 32, 16, 8, 4, 2, 1];
/// Rows of one insertion into SQLite, which has no list to look through.
const INSERTED: &[usize] = &[256, 128, 64, 32, 16, 8, 4, 2, 1];

/// A statement with a list of rows in it and no other values, once for each number of rows.
#[derive(Debug)]
pub struct Listed {
    /// With `?`: SQLite takes `$1` for a name, and looks among all names for each value.
    sqlite: Vec<(usize, String)>,
    /// With `$1`, `$2`, ….
    postgres: Vec<(usize, String)>,
}

impl Listed {
    /// `INSERT INTO table (columns) VALUES …`, and `behind` after it.
    #[must_use]
    pub fn insert(table: &str, columns: &[&str], behind: &str) -> Self {
        let before = format!("INSERT INTO {table} ({}) VALUES", columns.join(", "));
        Listed::of(&before, columns.len(), behind, INSERTED)
    }

    /// The list under a name as a table to read from: `WITH name (columns) AS (VALUES …)`, and `behind` after it.
    #[must_use]
    pub fn over(name: &str, columns: &[&str], behind: &str) -> Self {
        let before = format!("WITH {name} ({}) AS (VALUES", columns.join(", "));
        Listed::of(&before, columns.len(), &format!(") {behind}"), ROWS)
    }

    fn of(before: &str, columns: usize, behind: &str, in_sqlite: &[usize]) -> Self {
        let text = |rows: usize, place: &dyn Fn(usize) -> String| {
            let row = |row: usize| {
                let places: Vec<String> = (1..=columns).map(|c| place(row * columns + c)).collect();
                format!("({})", places.join(", "))
            };
            let values: Vec<String> = (0..rows).map(row).collect();
            (rows, format!("{before} {} {behind}", values.join(", ")))
        };
        let sqlite = |rows: &usize| text(*rows, &|_| "?".to_owned());
        let postgres = |rows: &usize| text(*rows, &|place| format!("${place}"));
        Listed {
            sqlite: in_sqlite.iter().map(sqlite).collect(),
            postgres: ROWS.iter().map(postgres).collect(),
        }
    }

    /// Runs it for all rows, each with its columns' values, and says how many rows of the table that changed.
    ///
    /// # Errors
    /// [`DbError::Query`] names the first statement that failed; those before it have been run.
    pub async fn all(&'static self, tx: &mut Tx, rows: Vec<Args>) -> Result<u64, DbError> {
        let mut changed = 0;
        for (text, values) in self.statements(tx.is_sqlite(), rows) {
            changed += tx.execute(text, values).await?;
        }
        Ok(changed)
    }

    /// Runs it for all rows up to the first statement that a unique key refuses, and says how many rows that were.
    /// Not on PostgreSQL, where such a statement spoils the transaction.
    ///
    /// # Errors
    /// [`DbError::Query`], but for a unique key's refusal.
    pub async fn until_taken(
        &'static self,
        tx: &mut Tx,
        rows: Vec<Args>,
    ) -> Result<usize, DbError> {
        let mut done = 0;
        for (text, values) in self.statements(tx.is_sqlite(), rows) {
            match tx.execute(text, values).await {
                Ok(changed) => done += usize::try_from(changed).unwrap_or(0),
                Err(error) if error.is_unique_violation() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Runs it for all rows, and returns what it answers.
    ///
    /// # Errors
    /// [`DbError::Query`] names the statement.
    pub async fn fetch<R: Row>(
        &'static self,
        source: &mut impl Source,
        rows: Vec<Args>,
    ) -> Result<Vec<R>, DbError> {
        let mut answered = Vec::with_capacity(rows.len());
        for (text, values) in self.statements(source.is_sqlite(), rows) {
            answered.extend(source.all(text, values).await?);
        }
        Ok(answered)
    }

    fn statements(
        &'static self,
        sqlite: bool,
        rows: Vec<Args>,
    ) -> impl Iterator<Item = (&'static str, Args)> {
        let texts = if sqlite { &self.sqlite } else { &self.postgres };
        let mut rows = rows.into_iter();
        std::iter::from_fn(move || {
            let (count, text) = texts.iter().find(|(count, _)| *count <= rows.len())?;
            let values: Vec<Value> = rows.by_ref().take(*count).flatten().collect();
            Some((text.as_str(), values))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::args;

    static INSERT: LazyLock<Listed> =
        LazyLock::new(|| Listed::insert("t", &["a", "b"], "ON CONFLICT DO NOTHING"));

    /// The text for so many rows.
    fn text(texts: &[(usize, String)], rows: usize) -> &str {
        let found = texts.iter().find(|(count, _)| *count == rows);
        &found.unwrap().1
    }

    #[test]
    fn the_places_of_all_rows_are_numbered_through() {
        assert_eq!(
            text(&INSERT.postgres, 1),
            "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT DO NOTHING"
        );
        let eight = text(&INSERT.postgres, 8);
        assert!(eight.contains("VALUES ($1, $2), ($3, $4), ($5, $6)"));
        assert!(eight.contains("($15, $16) ON"));
        assert!(text(&INSERT.sqlite, 2).contains("VALUES (?, ?), (?, ?) ON"));
        let over = Listed::over("asked", &["a"], "SELECT a FROM asked");
        assert_eq!(
            text(&over.sqlite, 1),
            "WITH asked (a) AS (VALUES (?) ) SELECT a FROM asked"
        );
    }

    #[test]
    fn every_row_is_in_one_statement_in_its_order() {
        let rows: Vec<Args> = (0..331_i64).map(|n| args![n, -n]).collect();
        let expected: Vec<Value> = rows.iter().flatten().cloned().collect();
        let sizes = |statements: &[(&str, Args)]| -> Vec<usize> {
            statements.iter().map(|(_, v)| v.len() / 2).collect()
        };
        let on_postgres: Vec<(&str, Args)> = INSERT.statements(false, rows.clone()).collect();
        assert_eq!(sizes(&on_postgres), [64, 64, 64, 64, 64, 8, 2, 1]);
        let statements: Vec<(&str, Args)> = INSERT.statements(true, rows).collect();
        assert_eq!(sizes(&statements), [256, 64, 8, 2, 1]);
        let values: Vec<Value> = statements.into_iter().flat_map(|(_, v)| v).collect();
        assert_eq!(values, expected);
    }
}
