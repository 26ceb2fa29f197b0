//! Values bound to a statement: the three column types that both databases share.

use std::sync::Arc;

use sqlx::Arguments;
#[cfg(feature = "postgres")]
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;

use super::DbError;

/// One bound value; `None` is SQL's NULL of that type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A BIGINT.
    I64(Option<i64>),
    /// A TEXT.
    Text(Option<Arc<str>>),
    /// A BLOB, or BYTEA on PostgreSQL.
    Blob(Option<Vec<u8>>),
}

impl Value {
    /// NULL of the same type.
    #[must_use]
    pub const fn nothing(&self) -> Value {
        match self {
            Value::I64(_) => Value::I64(None),
            Value::Text(_) => Value::Text(None),
            Value::Blob(_) => Value::Blob(None),
        }
    }
}

/// The values of a statement, `$1` first; see [`args!`](crate::args).
pub type Args = Vec<Value>;

/// The values of a statement: `args![id, "text", bytes]`.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        ::std::vec::Vec::<$crate::db::Value>::from([$($crate::db::Value::from($value)),*])
    };
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::I64(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::I64(Some(i64::from(value)))
    }
}

/// 0 or 1.
impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::I64(Some(i64::from(value)))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(Some(Arc::from(value)))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(Some(Arc::from(value)))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Value::Text(Some(Arc::from(value.as_str())))
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Value::Blob(Some(value.to_vec()))
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Value::Blob(Some(value))
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Value::Blob(Some(value.to_vec()))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Value::Blob(Some(value.to_vec()))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Value::I64(value)
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Value::Text(value.map(Arc::from))
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(value: Option<Vec<u8>>) -> Self {
        Value::Blob(value)
    }
}

pub(super) fn sqlite(args: Args, sql: &'static str) -> Result<SqliteArguments, DbError> {
    let mut bound = SqliteArguments::default();
    bound.reserve(args.len(), 0);
    for value in args {
        // An `Option` would be copied.
        match value {
            Value::I64(Some(v)) => bound.add(v),
            Value::Text(Some(v)) => bound.add(v),
            Value::Blob(Some(v)) => bound.add(v),
            Value::I64(None) | Value::Text(None) | Value::Blob(None) => bound.add(None::<i64>),
        }
        .map_err(|e| DbError::Query {
            sql,
            source: sqlx::Error::Encode(e),
        })?;
    }
    Ok(bound)
}

#[cfg(feature = "postgres")]
pub(super) fn postgres(args: Args, sql: &'static str) -> Result<PgArguments, DbError> {
    let mut bound = PgArguments::default();
    for value in args {
        match value {
            Value::I64(v) => bound.add(v),
            Value::Text(v) => bound.add(v.as_deref()),
            Value::Blob(v) => bound.add(v),
        }
        .map_err(|e| DbError::Query {
            sql,
            source: sqlx::Error::Encode(e),
        })?;
    }
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_macro_turns_each_value_into_its_column_type() {
        let text = String::from("b");
        let args = crate::args![
            1_i64,
            2_u32,
            true,
            "a",
            &text,
            [7_u8; 2],
            Option::<i64>::None
        ];
        let blob = Value::Blob(Some(vec![7, 7]));
        let (a, b) = (Value::from("a"), Value::Text(Some("b".into())));
        let numbers = [1, 2, 1].map(|n| Value::I64(Some(n)));
        let [one, two, yes] = numbers;
        assert_eq!(args, [one, two, yes, a, b, blob, Value::I64(None)]);
        assert!(crate::args![].is_empty());
    }
}
