//! Inserting many rows with few statements: each statement is a walk to the database's thread and back.

use runtime::db::{Args, DbError, Tx, Value};

/// Rows of one statement; a dozen columns of them stay far below what both databases can bind.
const ROWS: usize = 32;

/// An INSERT for one row, and the same for [`ROWS`] of them.
pub(crate) struct Insert {
    one: String,
    many: String,
}

impl Insert {
    /// `INSERT INTO table (columns) VALUES …`, and `behind` after it.
    pub(crate) fn new(table: &str, columns: &[&str], behind: &str) -> Self {
        let statement = |rows: usize| {
            let row = |row: usize| {
                let place = |column: usize| format!("${}", row * columns.len() + column + 1);
                let places: Vec<String> = (0..columns.len()).map(place).collect();
                format!("({})", places.join(", "))
            };
            let values: Vec<String> = (0..rows).map(row).collect();
            let (columns, values) = (columns.join(", "), values.join(", "));
            format!("INSERT INTO {table} ({columns}) VALUES {values} {behind}")
        };
        Insert {
            one: statement(1),
            many: statement(ROWS),
        }
    }

    /// Inserts all rows, each with its columns' values, and says how many rows that made.
    pub(crate) async fn all(&'static self, tx: &mut Tx, rows: Vec<Args>) -> Result<u64, DbError> {
        let mut inserted = 0;
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let batch: Vec<Args> = rows.by_ref().take(ROWS).collect();
            if batch.len() == ROWS {
                let values: Vec<Value> = batch.into_iter().flatten().collect();
                inserted += tx.execute(&self.many, values).await?;
            } else {
                for row in batch {
                    inserted += tx.execute(&self.one, row).await?;
                }
            }
        }
        Ok(inserted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_all_rows_are_numbered_through() {
        let insert = Insert::new("t", &["a", "b"], "ON CONFLICT DO NOTHING");
        assert_eq!(
            insert.one,
            "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT DO NOTHING"
        );
        assert!(insert.many.contains("VALUES ($1, $2), ($3, $4), ($5, $6)"));
        assert!(insert.many.contains(&format!("${})", 2 * ROWS)));
    }
}
