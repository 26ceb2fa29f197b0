//! The outbox's tables and statements; the same text for both databases.

use runtime::db::Migration;

/// The outbox's history of schemas.
pub const MIGRATIONS: [Migration; 1] = [Migration {
    version: 1001,
    description: "gateway outbox",
    sqlite: "
CREATE TABLE gateway_point (
    point TEXT PRIMARY KEY,
    next_sequence INTEGER NOT NULL,
    previous BLOB NOT NULL,
    measure TEXT NOT NULL
) STRICT;
CREATE TABLE gateway_outbox (
    point TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    interval_start_s INTEGER NOT NULL,
    message BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    sent_ms INTEGER NOT NULL DEFAULT 0,
    due_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (point, sequence)
) STRICT;
CREATE INDEX gateway_outbox_due ON gateway_outbox (due_ms);
CREATE INDEX gateway_outbox_interval ON gateway_outbox (interval_start_s);
CREATE TABLE gateway_refused (
    point TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    reason TEXT NOT NULL,
    message BLOB NOT NULL,
    refused_at_ms INTEGER NOT NULL,
    PRIMARY KEY (point, sequence)
) STRICT;",
    postgres: "
CREATE TABLE gateway_point (
    point TEXT PRIMARY KEY,
    next_sequence BIGINT NOT NULL,
    previous BYTEA NOT NULL,
    measure TEXT NOT NULL
);
CREATE TABLE gateway_outbox (
    point TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    interval_start_s BIGINT NOT NULL,
    message BYTEA NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    sent_ms BIGINT NOT NULL DEFAULT 0,
    due_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (point, sequence)
);
CREATE INDEX gateway_outbox_due ON gateway_outbox (due_ms);
CREATE INDEX gateway_outbox_interval ON gateway_outbox (interval_start_s);
CREATE TABLE gateway_refused (
    point TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    reason TEXT NOT NULL,
    message BYTEA NOT NULL,
    refused_at_ms BIGINT NOT NULL,
    PRIMARY KEY (point, sequence)
);",
}];

pub(super) const LOAD: &str =
    "SELECT next_sequence, previous, measure FROM gateway_point WHERE point = $1";
pub(super) const NEXT_SEQUENCE: &str = "SELECT next_sequence FROM gateway_point WHERE point = $1";
pub(super) const SAVE: &str = "INSERT INTO gateway_point (point, next_sequence, previous, measure)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (point) DO UPDATE SET next_sequence = excluded.next_sequence,
        previous = excluded.previous, measure = excluded.measure";
pub(super) const ADD: &str =
    "INSERT INTO gateway_outbox (point, sequence, interval_start_s, message)
    VALUES ($1, $2, $3, $4)";
pub(super) const COUNT_OUTBOX: &str = "SELECT COUNT(*) FROM gateway_outbox";
pub(super) const COUNT_REFUSED: &str = "SELECT COUNT(*) FROM gateway_refused";
pub(super) const BACKLOG: &str = "SELECT (SELECT COUNT(*) FROM gateway_outbox),
    (SELECT MIN(interval_start_s) FROM gateway_outbox), (SELECT COUNT(*) FROM gateway_refused)";
pub(super) const COUNT_UNDER_WAY: &str =
    "SELECT COUNT(*) FROM gateway_outbox WHERE due_ms > $1 AND attempts <= 1";
pub(super) const DUE: &str = "SELECT point, sequence, message, attempts
    FROM (SELECT point, sequence, message, attempts, interval_start_s,
            CASE WHEN interval_start_s >=
                (SELECT MAX(interval_start_s) FROM gateway_outbox) - $2
            THEN 0 ELSE 1 END AS history
        FROM gateway_outbox WHERE due_ms <= $1) AS waiting
    ORDER BY history, CASE WHEN attempts > 1 THEN 1 ELSE 0 END,
        CASE WHEN history = 0 THEN -interval_start_s ELSE interval_start_s END, point, sequence
    LIMIT $3";
pub(super) const SENT: &str = "UPDATE gateway_outbox
    SET attempts = attempts + 1, sent_ms = $3, due_ms = $4 WHERE point = $1 AND sequence = $2";
pub(super) const FORGET_SENT: &str =
    "UPDATE gateway_outbox SET attempts = 0, sent_ms = 0, due_ms = 0 WHERE due_ms <> 0";
pub(super) const DELETE: &str =
    "DELETE FROM gateway_outbox WHERE point = $1 AND sequence >= $2 AND sequence <= $3";
pub(super) const MISSING: &str = "UPDATE gateway_outbox SET due_ms = 0
    WHERE point = $1 AND sequence >= $2 AND sequence <= $3 AND sent_ms <= $4";
pub(super) const REFUSE: &str =
    "INSERT INTO gateway_refused (point, sequence, reason, message, refused_at_ms)
    SELECT point, sequence, $3, message, $4 FROM gateway_outbox WHERE point = $1 AND sequence = $2
    ON CONFLICT (point, sequence) DO NOTHING";
pub(super) const REFUSED: &str =
    "SELECT point, sequence, reason FROM gateway_refused ORDER BY refused_at_ms, point, sequence";
pub(super) const TRIM_REFUSED: &str = "DELETE FROM gateway_refused WHERE refused_at_ms <=
    (SELECT refused_at_ms FROM gateway_refused ORDER BY refused_at_ms DESC LIMIT 1 OFFSET $1)";
