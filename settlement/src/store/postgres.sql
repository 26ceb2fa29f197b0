-- Keys and what they may sign for; a replaced key still proves what it signed before.
CREATE TABLE settle_keys (
    kid BYTEA PRIMARY KEY,
    public BYTEA NOT NULL,
    gateway TEXT,
    participant TEXT,
    valid_from_ms BIGINT NOT NULL,
    replaced_ms BIGINT,
    enrolled_ms BIGINT NOT NULL
);

-- What the operator signed about a key; the newest that is valid at an interval's end counts for it.
CREATE TABLE settle_key_records (
    kid BYTEA NOT NULL,
    log_index BIGINT NOT NULL,
    valid_from_ms BIGINT NOT NULL,
    signed BYTEA NOT NULL,
    PRIMARY KEY (kid, log_index)
);

CREATE TABLE settle_points (
    point TEXT PRIMARY KEY,
    gateway TEXT NOT NULL,
    role BIGINT NOT NULL,
    participant TEXT,
    rating_w BIGINT NOT NULL,
    since_ms BIGINT NOT NULL
);

-- With the secret emptied, no log entry of the participant can be opened any more.
CREATE TABLE settle_secrets (
    participant TEXT PRIMARY KEY,
    secret BYTEA NOT NULL
);

-- Every authentic reading: accepted where `reason` is null, else refused for that reason. A key counts
-- its readings of a point by itself: a gateway that lost its disk begins anew with a new key.
CREATE TABLE settle_readings (
    point TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    reason TEXT,
    flags TEXT NOT NULL,
    start_s BIGINT NOT NULL,
    length_s BIGINT NOT NULL,
    era BIGINT NOT NULL,
    registers BYTEA NOT NULL,
    imported_wh BIGINT NOT NULL,
    exported_wh BIGINT NOT NULL,
    quality BIGINT NOT NULL,
    kid BYTEA NOT NULL,
    received_ms BIGINT NOT NULL,
    bytes BYTEA NOT NULL,
    log_index BIGINT,
    PRIMARY KEY (point, kid, sequence)
);
CREATE UNIQUE INDEX settle_readings_time ON settle_readings (start_s, point) WHERE reason IS NULL;

-- How far a key's readings of a point are known without a gap: all from `first` up to `up_to`.
CREATE TABLE settle_progress (
    point TEXT NOT NULL,
    kid BYTEA NOT NULL,
    first BIGINT NOT NULL,
    up_to BIGINT NOT NULL,
    PRIMARY KEY (point, kid)
);

-- The last answer to each sequence of a point where it was not a plain yes to the gateway's newest key:
-- a refusal, or (`reason` is null) a yes to a key that was replaced.
CREATE TABLE settle_answers (
    point TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    kid BYTEA NOT NULL,
    reason TEXT,
    asked_ms BIGINT NOT NULL,
    PRIMARY KEY (point, sequence)
);
CREATE INDEX settle_answers_asked ON settle_answers (point, asked_ms);

-- A ring of messages that no enrolled key vouches for.
CREATE TABLE settle_refused (
    slot BIGINT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    gateway TEXT NOT NULL,
    reason TEXT NOT NULL,
    bytes BYTEA NOT NULL
);

CREATE TABLE settle_counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

-- Two messages under one sequence, each with the key's signature.
CREATE TABLE settle_evidence (
    point TEXT NOT NULL,
    kid BYTEA NOT NULL,
    sequence BIGINT NOT NULL,
    first BYTEA NOT NULL,
    second BYTEA NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (point, kid, sequence)
);

-- The intervals to settle, each with the tariff that stood when it was first heard of.
CREATE TABLE settle_intervals (
    start_s BIGINT PRIMARY KEY,
    length_s BIGINT NOT NULL,
    retail BIGINT NOT NULL,
    feed_in BIGINT NOT NULL,
    network_fee BIGINT NOT NULL,
    readings BIGINT NOT NULL,
    done BIGINT,
    due_s BIGINT NOT NULL
);
CREATE INDEX settle_intervals_due ON settle_intervals (due_s);

CREATE TABLE settle_holds (
    order_id BYTEA PRIMARY KEY,
    start_s BIGINT NOT NULL,
    participant TEXT NOT NULL,
    amount BIGINT NOT NULL,
    is_open BIGINT NOT NULL
);
CREATE INDEX settle_holds_time ON settle_holds (start_s);

CREATE TABLE settle_orders (
    order_id BYTEA PRIMARY KEY,
    signed BYTEA NOT NULL,
    log_index BIGINT NOT NULL
);

CREATE TABLE settle_clearings (
    start_s BIGINT PRIMARY KEY,
    content BYTEA NOT NULL,
    log_index BIGINT NOT NULL
);

CREATE TABLE settle_trades (
    start_s BIGINT NOT NULL,
    trade_id BYTEA NOT NULL UNIQUE,
    content BYTEA NOT NULL,
    buyer_index BIGINT NOT NULL,
    seller_index BIGINT NOT NULL,
    PRIMARY KEY (start_s, trade_id)
);

CREATE TABLE settle_runs (
    start_s BIGINT NOT NULL,
    run BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    postings BIGINT NOT NULL,
    lines BIGINT NOT NULL,
    substituted BIGINT NOT NULL,
    imported_wh BIGINT NOT NULL,
    exported_wh BIGINT NOT NULL,
    lost_wh BIGINT NOT NULL,
    feeder_metered BIGINT NOT NULL,
    PRIMARY KEY (start_s, run)
);

CREATE TABLE settle_lines (
    start_s BIGINT NOT NULL,
    participant TEXT NOT NULL,
    run BIGINT NOT NULL,
    content BYTEA NOT NULL,
    log_index BIGINT NOT NULL,
    PRIMARY KEY (start_s, participant, run)
);

-- Ids begin with the interval's time, so an interval's postings lie together.
CREATE TABLE settle_postings (
    id BYTEA PRIMARY KEY,
    asset BIGINT NOT NULL,
    debit_chart BIGINT NOT NULL,
    debit_owner TEXT NOT NULL,
    credit_chart BIGINT NOT NULL,
    credit_owner TEXT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount > 0),
    purpose BIGINT NOT NULL,
    start_s BIGINT,
    length_s BIGINT,
    run BIGINT,
    reference BYTEA,
    at_ms BIGINT NOT NULL
);

-- 100 and 105 are the guarded accounts of the chart: available and held.
CREATE TABLE settle_balances (
    asset BIGINT NOT NULL,
    chart BIGINT NOT NULL,
    owner TEXT NOT NULL,
    credits BIGINT NOT NULL,
    debits BIGINT NOT NULL,
    PRIMARY KEY (asset, chart, owner),
    CONSTRAINT never_below_zero CHECK (chart NOT IN (100, 105) OR credits >= debits)
);

CREATE TABLE settle_logs (
    log BIGINT PRIMARY KEY,
    size BIGINT NOT NULL,
    peaks BYTEA NOT NULL
);

CREATE TABLE settle_log_entries (
    log BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    leaf BYTEA NOT NULL,
    PRIMARY KEY (log, idx)
);

CREATE TABLE settle_log_nodes (
    log BIGINT NOT NULL,
    level BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (log, level, idx)
);

CREATE TABLE settle_checkpoints (
    log BIGINT NOT NULL,
    size BIGINT NOT NULL,
    note TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    ledger_index BIGINT,
    PRIMARY KEY (log, size)
);
