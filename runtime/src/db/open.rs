//! Opening a database and bringing its schema up to date.

use std::path::Path;
#[cfg(feature = "postgres")]
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, MigrationType, Migrator};
#[cfg(feature = "postgres")]
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
#[cfg(feature = "postgres")]
use sqlx::{ConnectOptions, Connection};
use sqlx::{SqlSafeStr, error::BoxDynError};

use super::{Db, DbError, Migration, Pools};

/// Connections that read a SQLite file beside its one writer.
const SQLITE_READERS: u32 = 4;
/// Prepared statements that a connection keeps: each statement over a list of rows counts once for every size,
/// and what runs together once for every sequence.
const STATEMENTS: usize = 512;
/// Rows that a SQLite connection reads ahead of who asked for them: while there is room, its thread does not wait.
const SQLITE_ROWS_AHEAD: usize = 4096;
/// Connections to PostgreSQL; more callers wait.
#[cfg(feature = "postgres")]
const POSTGRES_CONNECTIONS: u32 = 8;
/// How long SQLite waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a free connection before it gets an error.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long opening PostgreSQL may take.
#[cfg(feature = "postgres")]
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn open(url: &str) -> Result<Db, DbError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        #[cfg(feature = "postgres")]
        return open_postgres(url).await;
        #[cfg(not(feature = "postgres"))]
        return Err(not_built_in());
    }
    let path = url.strip_prefix("sqlite:").unwrap_or(url);
    if let Some((scheme, _)) = path.split_once("://") {
        let reason: BoxDynError = format!("`{scheme}` is not a database we know").into();
        return Err(DbError::Open {
            target: format!("{scheme}://…"),
            advice: "use postgres://user:password@host/database, or a path for SQLite".to_owned(),
            source: sqlx::Error::Configuration(reason),
        });
    }
    open_sqlite(path.strip_prefix("//").unwrap_or(path)).await
}

async fn open_sqlite(path: &str) -> Result<Db, DbError> {
    let file = Path::new(path);
    let refuse = |source: sqlx::Error| DbError::Open {
        target: path.to_owned(),
        advice: sqlite_advice(file),
        source,
    };
    if path.is_empty() || path.contains(":memory:") || path.contains('?') {
        let reason: BoxDynError = "the path must name a plain file".into();
        return Err(refuse(sqlx::Error::Configuration(reason)));
    }
    let both = SqliteConnectOptions::new()
        .filename(file)
        .foreign_keys(true)
        // Else REPLACE deletes a row without its table's triggers, and what is append-only could be changed.
        .pragma("recursive_triggers", "ON")
        .statement_cache_capacity(STATEMENTS)
        .row_buffer_size(SQLITE_ROWS_AHEAD)
        .busy_timeout(BUSY_TIMEOUT);
    let writing = both
        .clone()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // Pages as they were before a statement that can fail: else each large statement makes a file for them.
        .pragma("temp_store", "MEMORY");
    // The writer opens first (it creates the file and recovers its log) and is kept open, because
    // a read-only connection can do neither.
    let writer = SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(writing)
        .await
        .map_err(refuse)?;
    let readers = SqlitePoolOptions::new()
        .max_connections(SQLITE_READERS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(both.read_only(true))
        .await
        .map_err(refuse)?;
    Ok(Db {
        pools: Pools::Sqlite { writer, readers },
        target: Arc::from(path),
    })
}

fn sqlite_advice(file: &Path) -> String {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if file.is_dir() {
        return "this is a folder; name a file in it".to_owned();
    }
    if !folder.is_dir() {
        return format!(
            "the folder {} does not exist; create it first",
            folder.display()
        );
    }
    if !file.exists() {
        return format!(
            "check that the folder {} may be written to and that the disk is not full",
            folder.display()
        );
    }
    format!(
        "check that it is a SQLite file, that it and the folder {} may be written to, that the \
         disk is not full, and that no other process holds it",
        folder.display()
    )
}

/// This program has only SQLite.
#[cfg(not(feature = "postgres"))]
fn not_built_in() -> DbError {
    let reason: BoxDynError = "this program was built without PostgreSQL".into();
    DbError::Open {
        target: "postgres://…".to_owned(),
        advice: "name a file for SQLite, or build it with the feature `postgres`".to_owned(),
        source: sqlx::Error::Configuration(reason),
    }
}

#[cfg(feature = "postgres")]
async fn open_postgres(url: &str) -> Result<Db, DbError> {
    let options = PgConnectOptions::from_str(url).map_err(|source| DbError::Open {
        // The text may hold a password, so it is not repeated.
        target: "postgres://…".to_owned(),
        advice: "write it like postgres://user:password@host:5432/database".to_owned(),
        source,
    })?;
    let place = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let database = options
        .get_database()
        .unwrap_or(options.get_username())
        .to_owned();
    let target = format!("postgres://{}@{place}/{database}", options.get_username());
    // First contact without a pool, which would hide a refusal behind its own time limit.
    let contact = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
    let contact = contact.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(|source| {
        let advice = format!(
            "check that PostgreSQL runs at {place}, that the database {database} exists, and the \
             user and password"
        );
        DbError::Open { target: target.clone(), advice, source }
    })?;
    contact.close().await.ok();
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options.statement_cache_capacity(STATEMENTS));
    Ok(Db {
        pools: Pools::Postgres(pool),
        target: Arc::from(target),
    })
}

/// Sorting a large table for a new index would take its size in memory, so what is sorted goes to files meanwhile. There is one
/// connection to set so.
async fn migrate_sqlite(migrator: &Migrator, writer: &SqlitePool) -> Result<(), MigrateError> {
    sqlx::query("PRAGMA temp_store = FILE")
        .execute(writer)
        .await?;
    migrator.run(writer).await?;
    sqlx::query("PRAGMA temp_store = MEMORY")
        .execute(writer)
        .await?;
    Ok(())
}

pub(super) async fn migrate(db: &Db, migrations: &[Migration]) -> Result<(), DbError> {
    let on_sqlite = matches!(db.pools, Pools::Sqlite { .. });
    let steps = migrations.iter().map(|step| {
        let sql = if on_sqlite {
            step.sqlite
        } else {
            step.postgres
        };
        sqlx::migrate::Migration::new(
            step.version,
            step.description.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    // Other crates keep their own versions in the same database.
    migrator.set_ignore_missing(true);
    let done = match &db.pools {
        Pools::Sqlite { writer, .. } => migrate_sqlite(&migrator, writer).await,
        #[cfg(feature = "postgres")]
        Pools::Postgres(pool) => migrator.run(pool).await,
    };
    done.map_err(|source| DbError::Migrate {
        target: db.target.to_string(),
        source,
    })
}
