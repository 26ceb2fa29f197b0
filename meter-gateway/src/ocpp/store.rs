//! What must survive a restart: transactions with their numbers, and what chargers' meters have signed.

use domain::ids::Digest32;
use runtime::args;
use runtime::db::{Db, DbError, Migration};

use super::point::{TRANSACTIONS_MAX, Transaction};

/// Most signed texts that are kept of a charge point; the oldest go first.
pub const SIGNED_MAX: i64 = 1_000;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1060,
    description: "charging transactions over OCPP",
    sqlite: "
CREATE TABLE gateway_ocpp_transaction (
    charge_point TEXT NOT NULL,
    id INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (charge_point, id)
) STRICT;
CREATE TABLE gateway_ocpp_signed (
    charge_point TEXT NOT NULL,
    digest BLOB NOT NULL,
    heard_ms INTEGER NOT NULL,
    transaction_id INTEGER,
    body TEXT NOT NULL,
    refused TEXT,
    PRIMARY KEY (charge_point, digest)
) STRICT;",
    postgres: "
CREATE TABLE gateway_ocpp_transaction (
    charge_point TEXT NOT NULL,
    id BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (charge_point, id)
);
CREATE TABLE gateway_ocpp_signed (
    charge_point TEXT NOT NULL,
    digest BYTEA NOT NULL,
    heard_ms BIGINT NOT NULL,
    transaction_id BIGINT,
    body TEXT NOT NULL,
    refused TEXT,
    PRIMARY KEY (charge_point, digest)
);",
}];

const KNOWN: &str = "SELECT body FROM gateway_ocpp_transaction WHERE charge_point = $1
    ORDER BY id DESC LIMIT $2";
const KEEP: &str =
    "INSERT INTO gateway_ocpp_transaction (charge_point, id, body) VALUES ($1, $2, $3)
    ON CONFLICT (charge_point, id) DO UPDATE SET body = excluded.body";
const TRIM: &str = "DELETE FROM gateway_ocpp_transaction WHERE charge_point = $1 AND id <= $2";
const KEEP_SIGNED: &str = "INSERT INTO gateway_ocpp_signed
    (charge_point, digest, heard_ms, transaction_id, body, refused) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (charge_point, digest) DO NOTHING";
const TRIM_SIGNED: &str = "DELETE FROM gateway_ocpp_signed WHERE charge_point = $1 AND heard_ms <
    (SELECT MIN(heard_ms) FROM (SELECT heard_ms FROM gateway_ocpp_signed WHERE charge_point = $1
     ORDER BY heard_ms DESC LIMIT $2) AS newest)";
const SIGNED: &str = "SELECT transaction_id, body, refused FROM gateway_ocpp_signed
    WHERE charge_point = $1 ORDER BY heard_ms DESC LIMIT $2";

/// A text that a charger's meter has signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedText {
    /// In which transaction.
    pub transaction: Option<i64>,
    /// The text.
    pub text: String,
    /// Why it is not believed.
    pub refused: Option<String>,
}

/// The tables, in the gateway's database.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
}

impl Store {
    /// The tables in a database that is open already.
    ///
    /// # Errors
    /// The database fails.
    pub async fn open(db: Db) -> Result<Self, DbError> {
        db.migrate(MIGRATIONS).await?;
        Ok(Store { db })
    }

    /// The newest transactions of a charge point, oldest first. A damaged one is left out and logged.
    ///
    /// # Errors
    /// The database fails.
    pub async fn transactions(&self, charge_point: &str) -> Result<Vec<Transaction>, DbError> {
        let most = i64::try_from(TRANSACTIONS_MAX).unwrap_or(i64::MAX);
        let rows: Vec<(String,)> = self.db.fetch_all(KNOWN, args![charge_point, most]).await?;
        let read = |(body,): &(String,)| {
            let read = serde_json::from_str(body);
            if read.is_err() {
                tracing::error!("a stored transaction of {charge_point} is damaged: {body}");
            }
            read.ok()
        };
        Ok(rows.iter().rev().filter_map(read).collect())
    }

    /// Keeps a transaction as it stands.
    ///
    /// # Errors
    /// The database fails.
    pub async fn keep(&self, charge_point: &str, transaction: &Transaction) -> Result<(), DbError> {
        let body = serde_json::to_string(transaction).unwrap_or_default();
        let most = i64::try_from(TRANSACTIONS_MAX).unwrap_or(i64::MAX);
        let mut tx = self.db.begin().await?;
        tx.execute(KEEP, args![charge_point, transaction.id, body])
            .await?;
        tx.execute(TRIM, args![charge_point, transaction.id - most])
            .await?;
        tx.commit().await
    }

    /// Keeps a signed text.
    ///
    /// # Errors
    /// The database fails.
    pub async fn keep_signed(
        &self,
        charge_point: &str,
        heard_ms: i64,
        signed: &SignedText,
    ) -> Result<(), DbError> {
        let SignedText {
            transaction,
            text,
            refused,
        } = signed.clone();
        let digest = Digest32::of(text.as_bytes()).0;
        let mut tx = self.db.begin().await?;
        let row = args![charge_point, digest, heard_ms, transaction, text, refused];
        tx.execute(KEEP_SIGNED, row).await?;
        tx.execute(TRIM_SIGNED, args![charge_point, SIGNED_MAX])
            .await?;
        tx.commit().await
    }

    /// The signed texts of a charge point, newest first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn signed(&self, charge_point: &str) -> Result<Vec<SignedText>, DbError> {
        type Row = (Option<i64>, String, Option<String>);
        let rows: Vec<Row> = self
            .db
            .fetch_all(SIGNED, args![charge_point, SIGNED_MAX])
            .await?;
        let one = |(transaction, text, refused)| SignedText {
            transaction,
            text,
            refused,
        };
        Ok(rows.into_iter().map(one).collect())
    }
}
