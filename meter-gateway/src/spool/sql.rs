//! The outbox's tables and statements; the same text for both databases.

use std::sync::LazyLock;

use runtime::db::Migration;

use super::IN_FLIGHT_MAX;

/// The outbox's history of schemas.
pub const MIGRATIONS: [Migration; 2] = [OUTBOX, NO_ATTEMPTS];

const OUTBOX: Migration = Migration {
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
};

/// What was sent when is known to the running process alone: it is in memory.
const NO_ATTEMPTS: Migration = Migration {
    version: 1002,
    description: "gateway outbox without attempts",
    sqlite: NO_ATTEMPTS_SQL,
    postgres: NO_ATTEMPTS_SQL,
};

const NO_ATTEMPTS_SQL: &str = "
DROP INDEX gateway_outbox_due;
ALTER TABLE gateway_outbox DROP COLUMN attempts;
ALTER TABLE gateway_outbox DROP COLUMN sent_ms;
ALTER TABLE gateway_outbox DROP COLUMN due_ms;";

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
pub(super) const COUNT_REFUSED: &str = "SELECT COUNT(*) FROM gateway_refused";
pub(super) const BACKLOG: &str = "SELECT (SELECT COUNT(*) FROM gateway_outbox),
    (SELECT MIN(interval_start_s) FROM gateway_outbox), (SELECT COUNT(*) FROM gateway_refused)";
pub(super) const DELETE: &str =
    "DELETE FROM gateway_outbox WHERE point = $1 AND sequence >= $2 AND sequence <= $3";
pub(super) const REFUSE: &str =
    "INSERT INTO gateway_refused (point, sequence, reason, message, refused_at_ms)
    SELECT point, sequence, $3, message, $4 FROM gateway_outbox WHERE point = $1 AND sequence = $2
    ON CONFLICT (point, sequence) DO NOTHING";
pub(super) const REFUSED: &str =
    "SELECT point, sequence, reason FROM gateway_refused ORDER BY refused_at_ms, point, sequence";
pub(super) const REFUSED_MESSAGE: &str =
    "SELECT message FROM gateway_refused WHERE point = $1 AND sequence = $2";
pub(super) const TRIM_REFUSED: &str = "DELETE FROM gateway_refused WHERE (point, sequence) NOT IN
    (SELECT point, sequence FROM gateway_refused
    ORDER BY refused_at_ms DESC, sequence DESC, point LIMIT $1)";
pub(super) const PLACES: &str = "SELECT point, sequence, interval_start_s FROM gateway_outbox";

/// The messages of [`IN_FLIGHT_MAX`] readings; where there are fewer, the last is named again.
pub(super) static MESSAGES: LazyLock<String> = LazyLock::new(|| {
    let place = |n: usize| format!("(${}, ${})", 2 * n + 1, 2 * n + 2);
    let places: Vec<String> = (0..IN_FLIGHT_MAX).map(place).collect();
    format!(
        "WITH wanted (point, sequence) AS (VALUES {})
        SELECT o.point, o.sequence, o.message FROM wanted JOIN gateway_outbox o
        ON o.point = wanted.point AND o.sequence = wanted.sequence",
        places.join(", ")
    )
});
