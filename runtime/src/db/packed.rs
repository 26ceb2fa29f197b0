//! All rows of a read as one text: each row that a statement answers on SQLite wakes the task that waits for it, so that
//! the rows of a list cost more to hand over than to find.
//!
//! The text is SQL's own literals, columns parted by `,` and rows by `;`. Text is packed as its bytes, so that no
//! sign in it means anything here. The rows come in no order. The text is held more than once while it is read, so reads
//! that answer much are [`Listed::row_by_row`](super::Listed::row_by_row).

use data_encoding::HEXUPPER;

use super::DbError;

/// A tuple that is packed on SQLite: `i64`, `String`, `Vec<u8>` and their `Option`s.
pub trait Packed: Sized {
    /// How many columns it has.
    const COLUMNS: usize;
    /// The select list that packs a row of the columns `c0`, `c1`, ….
    fn packing() -> String;
    /// The row whose literals these are; `None` where they are not.
    fn unpacked<'t>(literals: impl Iterator<Item = &'t str>) -> Option<Self>;
}

/// A column of a packed row.
pub trait PackedColumn: Sized {
    /// The expression of its literal.
    fn literal(column: &str) -> String;
    /// The value of a literal.
    fn value(literal: &str) -> Option<Self>;
}

impl PackedColumn for i64 {
    fn literal(column: &str) -> String {
        format!("quote({column})")
    }

    fn value(literal: &str) -> Option<Self> {
        literal.parse().ok()
    }
}

impl PackedColumn for Vec<u8> {
    fn literal(column: &str) -> String {
        format!("quote({column})")
    }

    fn value(literal: &str) -> Option<Self> {
        let digits = literal.strip_prefix("X'")?.strip_suffix('\'')?;
        HEXUPPER.decode(digits.as_bytes()).ok()
    }
}

impl PackedColumn for String {
    fn literal(column: &str) -> String {
        format!("quote(CAST({column} AS BLOB))")
    }

    fn value(literal: &str) -> Option<Self> {
        String::from_utf8(Vec::value(literal)?).ok()
    }
}

impl<T: PackedColumn> PackedColumn for Option<T> {
    fn literal(column: &str) -> String {
        T::literal(column)
    }

    fn value(literal: &str) -> Option<Self> {
        match literal {
            "NULL" => Some(None),
            _ => T::value(literal).map(Some),
        }
    }
}

macro_rules! packed_tuples {
    ($($column:ident)+) => {
        impl<$($column: PackedColumn),+> Packed for ($($column,)+) {
            const COLUMNS: usize = [$(stringify!($column)),+].len();

            fn packing() -> String {
                let literals = [$($column::literal as fn(&str) -> String),+];
                let columns = literals.iter().enumerate().map(|(n, literal)| literal(&format!("c{n}")));
                columns.collect::<Vec<_>>().join(" || ',' || ")
            }

            fn unpacked<'t>(mut literals: impl Iterator<Item = &'t str>) -> Option<Self> {
                let row = ($($column::value(literals.next()?)?,)+);
                literals.next().is_none().then_some(row)
            }
        }
    };
}

packed_tuples!(A);
packed_tuples!(A B);
packed_tuples!(A B C);
packed_tuples!(A B C D);
packed_tuples!(A B C D E);
packed_tuples!(A B C D E F);
packed_tuples!(A B C D E F G);
packed_tuples!(A B C D E F G H);
packed_tuples!(A B C D E F G H I);
packed_tuples!(A B C D E F G H I J);

/// What makes a read answer with one text; its `WITH` goes on with `select`.
pub(super) fn packing<R: Packed>(select: &str) -> String {
    let names: Vec<String> = (0..R::COLUMNS).map(|n| format!("c{n}")).collect();
    let (names, row) = (names.join(", "), R::packing());
    format!(", found ({names}) AS ({select}) SELECT group_concat({row}, ';') FROM found")
}

/// The rows of a packed text.
pub(super) fn unpacked<R: Packed>(sql: &'static str, text: &str) -> Result<Vec<R>, DbError> {
    let row = |row: &str| R::unpacked(row.split(','));
    let rows: Option<Vec<R>> = text.split(';').map(row).collect();
    rows.ok_or_else(|| DbError::Query {
        sql,
        source: sqlx::Error::Decode("a row has other types than asked for".into()),
    })
}
