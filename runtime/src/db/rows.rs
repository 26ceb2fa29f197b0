//! Statements over a list of rows: each statement is a walk to the database's thread and back, so many rows go in one.
//!
//! A list is cut into pieces of the largest size; the rest is filled up with rows of nothing to the next size, so that
//! it takes one statement too, and each text comes in few sizes only.

use std::sync::OnceLock;

use futures_util::future::join;

use super::packed::{Packed, packing, unpacked};
use super::{Args, DbError, Row, Source, Tx, Value};

/// Rows of one statement. On SQLite one of 256 rows is a quarter cheaper a row than one of 64, larger ones gain little; a
/// dozen columns of them stay far below what both databases can bind.
const ROWS: [usize; 5] = [1, 4, 16, 64, 256];

/// Most values of the statements that SQLite is given at once: it keeps what it is given prepared, once for each different
/// sequence, and a statement of as many values takes some 100 KiB.
const TOGETHER_MAX_VALUES: usize = 1024;

/// A statement with a list of rows in it and no other values, once for each number of rows.
#[derive(Debug)]
pub struct Listed {
    /// With `?`: SQLite takes `$1` for a name, and looks among all names for each value.
    sqlite: [String; ROWS.len()],
    /// With `$1`, `$2`, ….
    postgres: [String; ROWS.len()],
    /// How a read begins, how many columns its list has, and its `SELECT`.
    read: Option<(String, usize, String)>,
    /// A read that answers with one text, for SQLite.
    packed: OnceLock<[String; ROWS.len()]>,
}

impl Listed {
    /// `INSERT INTO table (columns) …`, and `behind` after it. The first column is never NULL.
    #[must_use]
    pub fn insert(table: &str, columns: &[&str], behind: &str) -> Self {
        let before = format!(
            "INSERT INTO {table} ({}) SELECT * FROM (VALUES",
            columns.join(", ")
        );
        let behind = format!(") AS listed WHERE column1 IS NOT NULL {behind}");
        Listed::of(&before, columns.len(), &behind)
    }

    /// The list under a name as a table to read from: `WITH name (columns) AS (VALUES …)`, and `behind` after it, which
    /// compares what it takes from the list by `=` or `IN`, so that rows of nothing find nothing; with a `LEFT JOIN` it
    /// leaves them out by a `WHERE` of its own. A read begins with the list and says `CROSS JOIN` or `LEFT JOIN`, whose
    /// order SQLite keeps: else it takes a long list for the larger table, and goes through all of the other.
    #[must_use]
    pub fn over(name: &str, columns: &[&str], behind: &str) -> Self {
        debug_assert!(
            behind.starts_with("UPDATE ")
                || behind.contains(&format!("FROM {name} CROSS JOIN "))
                || behind.contains(&format!("FROM {name} LEFT JOIN ")),
            "without an order SQLite may go through the whole table: {behind}"
        );
        let before = format!("WITH {name} ({}) AS (VALUES", columns.join(", "));
        let listed = Listed::of(&before, columns.len(), &format!(") {behind}"));
        let is_read = behind.starts_with("SELECT ");
        Listed {
            read: is_read.then(|| (before, columns.len(), behind.to_owned())),
            ..listed
        }
    }

    fn of(before: &str, columns: usize, behind: &str) -> Self {
        Listed {
            sqlite: texts(before, columns, behind, &|_| "?".to_owned()),
            postgres: texts(before, columns, behind, &|place| format!("${place}")),
            read: None,
            packed: OnceLock::new(),
        }
    }

    /// The texts that answer with one text, where it is a read.
    fn packed<R: Packed>(&self) -> Option<&[String; ROWS.len()]> {
        let (before, columns, select) = self.read.as_ref()?;
        Some(self.packed.get_or_init(|| {
            let behind = format!("){}", packing::<R>(select));
            texts(before, *columns, &behind, &|_| "?".to_owned())
        }))
    }

    /// For a read that answers many rows, or large ones, for one that is asked: on SQLite too each comes for itself, where
    /// else one text would hold them all.
    #[must_use]
    pub fn row_by_row(self) -> Self {
        Listed { read: None, ..self }
    }

    /// Runs it for all rows, each with its columns' values, and says how many rows of the table that changed.
    ///
    /// # Errors
    /// [`DbError::Query`] names the first statement that failed; those before it have been run.
    pub async fn all(&'static self, tx: &mut Tx, rows: Vec<Args>) -> Result<u64, DbError> {
        self.all_made(tx, rows.into_iter()).await
    }

    /// The same for rows that are made while the database works on those before them.
    ///
    /// # Errors
    /// As [`Listed::all`].
    pub async fn all_made(
        &'static self,
        tx: &mut Tx,
        rows: impl ExactSizeIterator<Item = Args>,
    ) -> Result<u64, DbError> {
        match self.run(tx, rows).await {
            (changed, None) => Ok(changed),
            (_, Some(error)) => Err(error),
        }
    }

    /// [`Listed::all_made`] up to the first statement that a unique key refuses, and says how many rows that were.
    /// Not on PostgreSQL, where such a statement spoils the transaction.
    ///
    /// # Errors
    /// [`DbError::Query`], but for a unique key's refusal.
    pub async fn until_taken(
        &'static self,
        tx: &mut Tx,
        rows: impl ExactSizeIterator<Item = Args>,
    ) -> Result<usize, DbError> {
        match self.run(tx, rows).await {
            (_, Some(error)) if !error.is_unique_violation() => Err(error),
            (done, _) => Ok(usize::try_from(done).unwrap_or(0)),
        }
    }

    /// Runs it up to the first statement that fails: how many rows of the table that changed, and the failure.
    async fn run(
        &'static self,
        tx: &mut Tx,
        rows: impl ExactSizeIterator<Item = Args>,
    ) -> (u64, Option<DbError>) {
        let mut statements = self.statements(tx.is_sqlite(), rows);
        let (mut changed, mut next) = (0, statements.next());
        while let Some((text, values)) = next {
            let made = async { statements.next() };
            let (done, behind) = join(tx.execute(text, values), made).await;
            match done {
                Ok(done) => changed += done,
                Err(error) => return (changed, Some(error)),
            }
            next = behind;
        }
        (changed, None)
    }

    /// Runs it for all rows, and returns what it answers, in no order. Whoever reads with this list reads rows of the same type.
    ///
    /// # Errors
    /// [`DbError::Query`] names the statement.
    pub async fn fetch<R: Row + Packed>(
        &'static self,
        source: &mut impl Source,
        rows: Vec<Args>,
    ) -> Result<Vec<R>, DbError> {
        let mut answered = Vec::with_capacity(rows.len());
        if let Some(texts) = self.packed::<R>().filter(|_| source.is_sqlite()) {
            for (text, values) in cut(texts, rows.into_iter()) {
                let packed: Option<(Option<String>,)> = source.optional(text, values).await?;
                if let Some((Some(packed),)) = packed {
                    answered.extend(unpacked::<R>(text, &packed)?);
                }
            }
            return Ok(answered);
        }
        for (text, values) in self.statements(source.is_sqlite(), rows.into_iter()) {
            answered.extend(source.all(text, values).await?);
        }
        Ok(answered)
    }

    /// Runs several for all rows of each, in this order. On SQLite few walks to its thread and back are enough for all.
    ///
    /// # Errors
    /// [`DbError::Query`] names the statement that failed; what was before it has been run.
    pub async fn together(
        tx: &mut Tx,
        lists: Vec<(&'static Listed, Vec<Args>)>,
    ) -> Result<(), DbError> {
        let sqlite = tx.is_sqlite();
        let statements = |(listed, rows): (&'static Listed, Vec<Args>)| {
            listed.statements(sqlite, rows.into_iter())
        };
        let (mut some, mut values) = (Vec::new(), 0);
        for (text, args) in lists.into_iter().flat_map(statements) {
            values += args.len();
            if values > TOGETHER_MAX_VALUES && !some.is_empty() {
                tx.execute_together(std::mem::take(&mut some)).await?;
                values = args.len();
            }
            some.push((text, args));
        }
        tx.execute_together(some).await
    }

    fn statements<I: ExactSizeIterator<Item = Args>>(
        &'static self,
        sqlite: bool,
        rows: I,
    ) -> impl Iterator<Item = (&'static str, Args)> + use<I> {
        let texts = if sqlite { &self.sqlite } else { &self.postgres };
        cut(texts, rows)
    }
}

/// The text for each number of rows.
fn texts(
    before: &str,
    columns: usize,
    behind: &str,
    place: &dyn Fn(usize) -> String,
) -> [String; ROWS.len()] {
    let row = |row: usize| {
        let places: Vec<String> = (1..=columns).map(|c| place(row * columns + c)).collect();
        format!("({})", places.join(", "))
    };
    ROWS.map(|rows| {
        let values: Vec<String> = (0..rows).map(row).collect();
        format!("{before} {} {behind}", values.join(", "))
    })
}

/// The rows in as few of these statements as there can be.
fn cut<I: ExactSizeIterator<Item = Args>>(
    texts: &'static [String; ROWS.len()],
    mut rows: I,
) -> impl Iterator<Item = (&'static str, Args)> + use<I> {
    std::iter::from_fn(move || {
        let taken = rows.len().min(ROWS[ROWS.len() - 1]);
        let first = rows.next()?;
        let (size, text) = ROWS
            .into_iter()
            .zip(texts)
            .find(|(size, _)| *size >= taken)?;
        let nothing: Args = first.iter().map(Value::nothing).collect();
        let mut values = Vec::with_capacity(size * first.len());
        values.extend(first);
        values.extend(rows.by_ref().take(taken - 1).flatten());
        values.extend(std::iter::repeat_n(nothing, size - taken).flatten());
        Some((text.as_str(), values))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::args;

    static INSERT: LazyLock<Listed> =
        LazyLock::new(|| Listed::insert("t", &["a", "b"], "ON CONFLICT DO NOTHING"));

    #[test]
    fn the_places_of_all_rows_are_numbered_through() {
        assert_eq!(
            INSERT.postgres[0],
            "INSERT INTO t (a, b) SELECT * FROM (VALUES ($1, $2) ) AS listed WHERE column1 IS NOT NULL \
             ON CONFLICT DO NOTHING"
        );
        let four = "(VALUES ($1, $2), ($3, $4), ($5, $6), ($7, $8) )";
        assert!(INSERT.postgres[1].contains(four));
        assert!(INSERT.sqlite[1].contains("(VALUES (?, ?), (?, ?), (?, ?), (?, ?) )"));
        let over = Listed::over("asked", &["a"], "SELECT a FROM asked CROSS JOIN t");
        assert_eq!(
            over.sqlite[0],
            "WITH asked (a) AS (VALUES (?) ) SELECT a FROM asked CROSS JOIN t"
        );
    }

    #[test]
    fn every_row_is_in_one_statement_in_its_order_and_nothing_behind_them() {
        let rows: Vec<Args> = (0..331_i64).map(|n| args![n, "text"]).collect();
        let expected: Vec<Value> = rows.iter().flatten().cloned().collect();
        let statements: Vec<(&str, Args)> = INSERT.statements(true, rows.into_iter()).collect();
        let sizes: Vec<usize> = statements.iter().map(|(_, v)| v.len() / 2).collect();
        assert_eq!(sizes, [256, 256]);
        let values: Vec<Value> = statements.into_iter().flat_map(|(_, v)| v).collect();
        let (own, filled) = values.split_at(expected.len());
        assert_eq!(own, expected);
        let nothing = [Value::I64(None), Value::Text(None)];
        assert!(filled.chunks(2).all(|row| row == nothing));
        for (rows, size) in [(1, 1), (2, 4), (5, 16), (16, 16), (65, 256)] {
            let rows: Vec<Args> = (0..rows).map(|n: i64| args![n, n]).collect();
            let sizes = INSERT.statements(false, rows.into_iter());
            let sizes: Vec<usize> = sizes.map(|s| s.1.len()).collect();
            assert_eq!(sizes, [size * 2]);
        }
        assert_eq!(INSERT.statements(true, Vec::new().into_iter()).count(), 0);
    }
}
