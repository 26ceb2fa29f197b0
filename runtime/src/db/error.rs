//! What can go wrong with a database, in sentences that a person can act on.

use sqlx::migrate::MigrateError;

/// A database error. No message contains a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// The database could not be opened.
    #[error("cannot open the database {target}: {advice} ({source})")]
    Open {
        /// Path or URL without password.
        target: String,
        /// What to do.
        advice: String,
        /// The driver's error.
        source: sqlx::Error,
    },
    /// A migration failed, or an applied one was changed.
    #[error(
        "cannot bring the database {target} up to date: {source}. {}",
        migrate_advice(source)
    )]
    Migrate {
        /// Path or URL without password.
        target: String,
        /// Which migration, and why.
        source: MigrateError,
    },
    /// No transaction could be started.
    #[error("cannot start a transaction on the database {target}: {source}")]
    Begin {
        /// Path or URL without password.
        target: String,
        /// The driver's error.
        source: sqlx::Error,
    },
    /// The transaction could not be committed.
    #[error("the transaction could not be committed and counts as not done: {0}")]
    Commit(#[source] sqlx::Error),
    /// A statement failed, or a row had other types than asked for.
    #[error("the statement `{sql}` failed: {source}")]
    Query {
        /// The statement.
        sql: &'static str,
        /// The driver's error.
        source: sqlx::Error,
    },
    /// A row that must be there is not.
    #[error("the statement `{sql}` returned no row where one was expected")]
    NoRow {
        /// The statement.
        sql: &'static str,
    },
}

fn migrate_advice(error: &MigrateError) -> &'static str {
    match error {
        MigrateError::VersionMismatch(_) => {
            "Use the program version that wrote this database, or a copy of the database from before"
        }
        _ => "Nothing of the failed step was kept; fix the cause and start again",
    }
}

impl DbError {
    /// Whether a UNIQUE or PRIMARY KEY constraint refused the row.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        match self {
            DbError::Query {
                source: sqlx::Error::Database(e),
                ..
            }
            | DbError::Commit(sqlx::Error::Database(e)) => e.is_unique_violation(),
            _ => false,
        }
    }
}
