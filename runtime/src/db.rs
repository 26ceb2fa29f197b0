//! One door to SQLite and PostgreSQL with the same SQL text.
//!
//! Placeholders are `$1, $2, …`; columns are BIGINT, TEXT or BLOB (BYTEA) and nothing else, so that
//! both databases return the same types. An expression must be one of these too: a `SUM` over BIGINT
//! is NUMERIC on PostgreSQL and is written `CAST(SUM(x) AS BIGINT)`.
//!
//! Writes go through a [`Tx`]. SQLite has one writer: every transaction starts with `BEGIN IMMEDIATE`
//! on a pool of one connection, so writers queue instead of failing with `database is locked`. Every
//! commit is an fsync; a caller with much to write puts a batch into one transaction (group commit).
//! PostgreSQL runs transactions side by side at READ COMMITTED: where a decision reads before it
//! writes, call [`Tx::exclusive`] first.

mod error;
mod open;
mod packed;
mod rows;
mod source;
mod together;
mod value;

#[cfg(feature = "postgres")]
use sqlx::Postgres;
#[cfg(feature = "postgres")]
use sqlx::postgres::{PgPool, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{FromRow, Sqlite, Transaction};
use std::sync::Arc;

pub use error::DbError;
pub use packed::{Packed, PackedColumn};
pub use rows::Listed;
pub use source::Source;
pub use value::{Args, Value};

/// Takes the place of the only writer at once, not at the first write.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// A boxed future: the query code is compiled here once, not again in every crate that awaits it.
type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A row type that can be read from both databases: tuples of `i64`, `String`, `Vec<u8>` and their
/// `Option`s, or a type with both `FromRow` impls.
#[cfg(feature = "postgres")]
pub trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

#[cfg(feature = "postgres")]
impl<R> Row for R where R: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{}

/// A row type that can be read: a tuple of `i64`, `String`, `Vec<u8>` and their `Option`s.
#[cfg(not(feature = "postgres"))]
pub trait Row: for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}

#[cfg(not(feature = "postgres"))]
impl<R> Row for R where R: for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}

/// One step of a database's history. Each crate owns a range of versions: 1000s gateway,
/// 2000s market, 3000s settlement, 4000s commonwatt.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Unique in the database; applied in ascending order.
    pub version: i64,
    /// What it does, in a few words.
    pub description: &'static str,
    /// The statements for SQLite. Use STRICT tables.
    pub sqlite: &'static str,
    /// The same for PostgreSQL.
    pub postgres: &'static str,
}

/// An open database. Cloning it is cheap and shares the connections.
#[derive(Clone, Debug)]
pub struct Db {
    pools: Pools,
    target: Arc<str>,
}

#[derive(Clone, Debug)]
enum Pools {
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    #[cfg(feature = "postgres")]
    Postgres(PgPool),
}

impl Db {
    /// Opens `postgres://user:password@host/database`, or else the SQLite file of that path
    /// (`sqlite:` in front is allowed), which is created where it is missing.
    ///
    /// # Errors
    /// [`DbError::Open`] says which database could not be opened and what to do about it.
    pub fn open(url: &str) -> impl Future<Output = Result<Db, DbError>> + Send {
        let url = url.to_owned();
        let opening: BoxFuture<'static, _> = Box::pin(async move { open::open(&url).await });
        opening
    }

    /// Applies the migrations that this database does not have yet. Migrations of other crates in
    /// the same database are left alone.
    ///
    /// # Errors
    /// [`DbError::Migrate`], also when an applied migration's text was changed afterwards.
    pub fn migrate(
        &self,
        migrations: &[Migration],
    ) -> impl Future<Output = Result<(), DbError>> + Send {
        let (db, migrations) = (self.clone(), migrations.to_vec());
        let running: BoxFuture<'static, _> =
            Box::pin(async move { open::migrate(&db, &migrations).await });
        running
    }

    /// Starts a write transaction. On SQLite it waits here until it is the only writer.
    ///
    /// # Errors
    /// [`DbError::Begin`] when no connection could be had.
    pub fn begin(&self) -> impl Future<Output = Result<Tx, DbError>> + Send {
        let db = self.clone();
        let starting: BoxFuture<'static, _> = Box::pin(async move {
            let begun = match &db.pools {
                Pools::Sqlite { writer, .. } => begin_sqlite(writer).await.map(Tx::sqlite),
                #[cfg(feature = "postgres")]
                Pools::Postgres(pool) => pool.begin().await.map(Tx::postgres),
            };
            begun.map_err(|source| DbError::Begin {
                target: db.target.to_string(),
                source,
            })
        });
        starting
    }

    /// All rows of a read.
    ///
    /// # Errors
    /// [`DbError::Query`] names the statement.
    pub async fn fetch_all<R: Row>(
        &self,
        sql: &'static str,
        args: Args,
    ) -> Result<Vec<R>, DbError> {
        self.rows(sql, args).await?.decode(sql)
    }

    /// The first row of a read, if there is one.
    ///
    /// # Errors
    /// [`DbError::Query`] names the statement.
    pub async fn fetch_optional<R: Row>(
        &self,
        sql: &'static str,
        args: Args,
    ) -> Result<Option<R>, DbError> {
        Ok(self.rows(sql, args).await?.decode(sql)?.into_iter().next())
    }

    /// The first row of a read.
    ///
    /// # Errors
    /// [`DbError::NoRow`] when there is none.
    pub async fn fetch_one<R: Row>(&self, sql: &'static str, args: Args) -> Result<R, DbError> {
        self.fetch_optional(sql, args)
            .await?
            .ok_or(DbError::NoRow { sql })
    }

    /// Whether it is SQLite: what is written for speed may differ from what PostgreSQL is given.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        matches!(self.pools, Pools::Sqlite { .. })
    }

    /// Closes the connections; on SQLite this folds the write-ahead log into the file.
    pub fn close(&self) -> impl Future<Output = ()> + Send {
        let db = self.clone();
        let closing: BoxFuture<'static, _> = Box::pin(async move {
            match &db.pools {
                Pools::Sqlite { writer, readers } => {
                    readers.close().await;
                    writer.close().await;
                }
                #[cfg(feature = "postgres")]
                Pools::Postgres(pool) => pool.close().await,
            }
        });
        closing
    }

    /// The database's name for messages: a path, or a URL without its password.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    fn rows(&self, sql: &'static str, args: Args) -> BoxFuture<'_, Result<Rows, DbError>> {
        Box::pin(async move {
            match &self.pools {
                Pools::Sqlite { readers, .. } => {
                    let query = sqlx::query_with(sql, value::sqlite(args, sql)?);
                    query.fetch_all(readers).await.map(Rows::Sqlite)
                }
                #[cfg(feature = "postgres")]
                Pools::Postgres(pool) => {
                    let query = sqlx::query_with(sql, value::postgres(args, sql)?);
                    query.fetch_all(pool).await.map(Rows::Postgres)
                }
            }
            .map_err(|source| DbError::Query { sql, source })
        })
    }
}

async fn begin_sqlite(writer: &SqlitePool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    match writer.begin_with(BEGIN).await {
        // On a full disk SQLite ends a transaction by itself. The driver takes it for open ever after
        // and begins no other, so the connection is closed and a new one made.
        Err(sqlx::Error::InvalidSavePointStatement) => {
            writer.acquire().await?.close().await?;
            writer.begin_with(BEGIN).await
        }
        begun => begun,
    }
}

/// A write transaction. Dropping it without [`Tx::commit`] rolls everything in it back.
///
/// On PostgreSQL a failed statement (a unique violation, too) spoils the whole transaction; where a
/// duplicate is expected, write `ON CONFLICT DO NOTHING` and look at the number of rows.
#[derive(Debug)]
pub struct Tx {
    inner: TxInner,
}

#[derive(Debug)]
enum TxInner {
    Sqlite(Transaction<'static, Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    fn sqlite(tx: Transaction<'static, Sqlite>) -> Self {
        Tx {
            inner: TxInner::Sqlite(tx),
        }
    }

    #[cfg(feature = "postgres")]
    fn postgres(tx: Transaction<'static, Postgres>) -> Self {
        Tx {
            inner: TxInner::Postgres(tx),
        }
    }

    /// Makes everything in the transaction durable.
    ///
    /// # Errors
    /// [`DbError::Commit`]: nothing was written, unless the connection broke while the answer was
    /// under way; so what is written must be safe to write again.
    pub fn commit(self) -> impl Future<Output = Result<(), DbError>> + Send {
        let committing: BoxFuture<'static, _> = Box::pin(async move {
            match self.inner {
                TxInner::Sqlite(tx) => tx.commit().await,
                #[cfg(feature = "postgres")]
                TxInner::Postgres(tx) => tx.commit().await,
            }
            .map_err(DbError::Commit)
        });
        committing
    }

    /// Waits until no other transaction holds `key`, and holds it until this one ends. With it the
    /// transactions of one table family run one after the other on PostgreSQL as they do on SQLite,
    /// where this does nothing. Call it first, with one key per crate.
    ///
    /// # Errors
    /// [`DbError::Query`] when the connection fails.
    pub async fn exclusive(&mut self, key: i64) -> Result<(), DbError> {
        if self.is_sqlite() {
            return Ok(());
        }
        self.execute("SELECT pg_advisory_xact_lock($1)", crate::args![key])
            .await?;
        Ok(())
    }

    /// Whether it is on SQLite, which has one writer.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        matches!(self.inner, TxInner::Sqlite(_))
    }

    /// Runs a statement and returns the number of rows it changed.
    ///
    /// # Errors
    /// [`DbError::Query`]; see [`DbError::is_unique_violation`].
    pub fn execute(
        &mut self,
        sql: &'static str,
        args: Args,
    ) -> impl Future<Output = Result<u64, DbError>> + Send {
        let executing: BoxFuture<'_, _> = Box::pin(async move {
            match &mut self.inner {
                TxInner::Sqlite(tx) => {
                    let query = sqlx::query_with(sql, value::sqlite(args, sql)?);
                    query
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected())
                }
                #[cfg(feature = "postgres")]
                TxInner::Postgres(tx) => {
                    let query = sqlx::query_with(sql, value::postgres(args, sql)?);
                    query
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected())
                }
            }
            .map_err(|source| DbError::Query { sql, source })
        });
        executing
    }

    /// Runs one statement after another. SQLite is given all at once; they name their values by `?` there, each its own.
    fn execute_together(
        &mut self,
        statements: Vec<(&'static str, Args)>,
    ) -> BoxFuture<'_, Result<(), DbError>> {
        Box::pin(async move {
            match &mut self.inner {
                TxInner::Sqlite(tx) if statements.len() > 1 => together::run(tx, statements).await,
                _ => {
                    for (sql, args) in statements {
                        self.execute(sql, args).await?;
                    }
                    Ok(())
                }
            }
        })
    }

    /// All rows, as this transaction sees them (also of an `… RETURNING` statement).
    ///
    /// # Errors
    /// [`DbError::Query`] names the statement.
    pub async fn fetch_all<R: Row>(
        &mut self,
        sql: &'static str,
        args: Args,
    ) -> Result<Vec<R>, DbError> {
        self.rows(sql, args).await?.decode(sql)
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// [`DbError::Query`] names the statement.
    pub async fn fetch_optional<R: Row>(
        &mut self,
        sql: &'static str,
        args: Args,
    ) -> Result<Option<R>, DbError> {
        Ok(self.rows(sql, args).await?.decode(sql)?.into_iter().next())
    }

    /// The first row.
    ///
    /// # Errors
    /// [`DbError::NoRow`] when there is none.
    pub async fn fetch_one<R: Row>(&mut self, sql: &'static str, args: Args) -> Result<R, DbError> {
        self.fetch_optional(sql, args)
            .await?
            .ok_or(DbError::NoRow { sql })
    }

    fn rows(&mut self, sql: &'static str, args: Args) -> BoxFuture<'_, Result<Rows, DbError>> {
        Box::pin(async move {
            match &mut self.inner {
                TxInner::Sqlite(tx) => {
                    let query = sqlx::query_with(sql, value::sqlite(args, sql)?);
                    query.fetch_all(&mut **tx).await.map(Rows::Sqlite)
                }
                #[cfg(feature = "postgres")]
                TxInner::Postgres(tx) => {
                    let query = sqlx::query_with(sql, value::postgres(args, sql)?);
                    query.fetch_all(&mut **tx).await.map(Rows::Postgres)
                }
            }
            .map_err(|source| DbError::Query { sql, source })
        })
    }
}

enum Rows {
    Sqlite(Vec<SqliteRow>),
    #[cfg(feature = "postgres")]
    Postgres(Vec<PgRow>),
}

impl Rows {
    fn decode<R: Row>(&self, sql: &'static str) -> Result<Vec<R>, DbError> {
        let rows: Result<Vec<R>, sqlx::Error> = match self {
            Rows::Sqlite(rows) => rows.iter().map(R::from_row).collect(),
            #[cfg(feature = "postgres")]
            Rows::Postgres(rows) => rows.iter().map(R::from_row).collect(),
        };
        rows.map_err(|source| DbError::Query { sql, source })
    }
}
