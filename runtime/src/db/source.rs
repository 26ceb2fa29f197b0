//! Reads that a database and a transaction answer alike.

use super::{Args, Db, DbError, Row, Tx};

/// Where rows are read from: a database, or a transaction that also sees its own writes.
pub trait Source: Send {
    /// Whether they are on SQLite.
    fn is_sqlite(&self) -> bool;

    /// All rows.
    fn all<R: Row>(
        &mut self,
        sql: &'static str,
        args: Args,
    ) -> impl Future<Output = Result<Vec<R>, DbError>> + Send;

    /// The first row, if there is one.
    fn optional<R: Row>(
        &mut self,
        sql: &'static str,
        args: Args,
    ) -> impl Future<Output = Result<Option<R>, DbError>> + Send {
        async move { Ok(self.all(sql, args).await?.into_iter().next()) }
    }
}

impl Source for Tx {
    fn is_sqlite(&self) -> bool {
        Tx::is_sqlite(self)
    }

    async fn all<R: Row>(&mut self, sql: &'static str, args: Args) -> Result<Vec<R>, DbError> {
        self.fetch_all(sql, args).await
    }
}

impl Source for &Db {
    fn is_sqlite(&self) -> bool {
        Db::is_sqlite(self)
    }

    async fn all<R: Row>(&mut self, sql: &'static str, args: Args) -> Result<Vec<R>, DbError> {
        self.fetch_all(sql, args).await
    }
}
