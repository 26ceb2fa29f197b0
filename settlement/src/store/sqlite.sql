-- Keys and what they may sign for; a replaced key still proves what it signed before.
CREATE TABLE settle_keys (
    kid BLOB PRIMARY KEY,
    public BLOB NOT NULL,
    gateway TEXT,
    participant TEXT,
    valid_from_ms INTEGER NOT NULL,
    replaced_ms INTEGER,
    enrolled_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the operator signed about a key; the newest that is valid at an interval's end counts for it.
CREATE TABLE settle_key_records (
    kid BLOB NOT NULL,
    log_index INTEGER NOT NULL,
    valid_from_ms INTEGER NOT NULL,
    signed BLOB NOT NULL,
    PRIMARY KEY (kid, log_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE settle_points (
    point TEXT PRIMARY KEY,
    gateway TEXT NOT NULL,
    role INTEGER NOT NULL,
    participant TEXT,
    rating_w INTEGER NOT NULL,
    since_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- With the secret emptied, no log entry of the participant can be opened any more.
CREATE TABLE settle_secrets (
    participant TEXT PRIMARY KEY,
    secret BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Every authentic reading: accepted where `reason` is null, else refused for that reason. A key counts
-- its readings of a point by itself: a gateway that lost its disk begins anew with a new key.
CREATE TABLE settle_readings (
    point TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    digest BLOB NOT NULL,
    reason TEXT,
    flags TEXT NOT NULL,
    start_s INTEGER NOT NULL,
    length_s INTEGER NOT NULL,
    era INTEGER NOT NULL,
    registers BLOB NOT NULL,
    imported_wh INTEGER NOT NULL,
    exported_wh INTEGER NOT NULL,
    quality INTEGER NOT NULL,
    kid BLOB NOT NULL,
    received_ms INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    log_index INTEGER,
    PRIMARY KEY (point, kid, sequence)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX settle_readings_time ON settle_readings (start_s, point) WHERE reason IS NULL;

-- How far a key's readings of a point are known without a gap: all from `first` up to `up_to`.
CREATE TABLE settle_progress (
    point TEXT NOT NULL,
    kid BLOB NOT NULL,
    first INTEGER NOT NULL,
    up_to INTEGER NOT NULL,
    PRIMARY KEY (point, kid)
) STRICT, WITHOUT ROWID;

-- The last answer to each sequence of a point where it was not a plain yes to the gateway's newest key:
-- a refusal, or (`reason` is null) a yes to a key that was replaced.
CREATE TABLE settle_answers (
    point TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    kid BLOB NOT NULL,
    reason TEXT,
    asked_ms INTEGER NOT NULL,
    PRIMARY KEY (point, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX settle_answers_asked ON settle_answers (point, asked_ms);

-- A ring of messages that no enrolled key vouches for.
CREATE TABLE settle_refused (
    slot INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    gateway TEXT NOT NULL,
    reason TEXT NOT NULL,
    bytes BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settle_counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Two messages under one sequence, each with the key's signature.
CREATE TABLE settle_evidence (
    point TEXT NOT NULL,
    kid BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    first BLOB NOT NULL,
    second BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (point, kid, sequence)
) STRICT, WITHOUT ROWID;

-- The intervals to settle, each with the tariff that stood when it was first heard of.
CREATE TABLE settle_intervals (
    start_s INTEGER PRIMARY KEY,
    length_s INTEGER NOT NULL,
    retail INTEGER NOT NULL,
    feed_in INTEGER NOT NULL,
    network_fee INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    done INTEGER,
    due_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX settle_intervals_due ON settle_intervals (due_s);

CREATE TABLE settle_holds (
    order_id BLOB PRIMARY KEY,
    start_s INTEGER NOT NULL,
    participant TEXT NOT NULL,
    amount INTEGER NOT NULL,
    is_open INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX settle_holds_time ON settle_holds (start_s);

CREATE TABLE settle_orders (
    order_id BLOB PRIMARY KEY,
    signed BLOB NOT NULL,
    log_index INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settle_clearings (
    start_s INTEGER PRIMARY KEY,
    content BLOB NOT NULL,
    log_index INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settle_trades (
    start_s INTEGER NOT NULL,
    trade_id BLOB NOT NULL UNIQUE,
    content BLOB NOT NULL,
    buyer_index INTEGER NOT NULL,
    seller_index INTEGER NOT NULL,
    PRIMARY KEY (start_s, trade_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE settle_runs (
    start_s INTEGER NOT NULL,
    run INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    postings INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    substituted INTEGER NOT NULL,
    imported_wh INTEGER NOT NULL,
    exported_wh INTEGER NOT NULL,
    lost_wh INTEGER NOT NULL,
    feeder_metered INTEGER NOT NULL,
    PRIMARY KEY (start_s, run)
) STRICT, WITHOUT ROWID;

CREATE TABLE settle_lines (
    start_s INTEGER NOT NULL,
    participant TEXT NOT NULL,
    run INTEGER NOT NULL,
    content BLOB NOT NULL,
    log_index INTEGER NOT NULL,
    PRIMARY KEY (start_s, participant, run)
) STRICT, WITHOUT ROWID;

-- Ids begin with the interval's time, so an interval's postings lie together.
CREATE TABLE settle_postings (
    id BLOB PRIMARY KEY,
    asset INTEGER NOT NULL,
    debit_chart INTEGER NOT NULL,
    debit_owner TEXT NOT NULL,
    credit_chart INTEGER NOT NULL,
    credit_owner TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    purpose INTEGER NOT NULL,
    start_s INTEGER,
    length_s INTEGER,
    run INTEGER,
    reference BLOB,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- 100 and 105 are the guarded accounts of the chart: available and held.
CREATE TABLE settle_balances (
    asset INTEGER NOT NULL,
    chart INTEGER NOT NULL,
    owner TEXT NOT NULL,
    credits INTEGER NOT NULL,
    debits INTEGER NOT NULL,
    PRIMARY KEY (asset, chart, owner),
    CONSTRAINT never_below_zero CHECK (chart NOT IN (100, 105) OR credits >= debits)
) STRICT, WITHOUT ROWID;

CREATE TABLE settle_logs (
    log INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    peaks BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settle_log_entries (
    log INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    leaf BLOB NOT NULL,
    PRIMARY KEY (log, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE settle_log_nodes (
    log INTEGER NOT NULL,
    level INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (log, level, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE settle_checkpoints (
    log INTEGER NOT NULL,
    size INTEGER NOT NULL,
    note TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    ledger_index INTEGER,
    PRIMARY KEY (log, size)
) STRICT, WITHOUT ROWID;
