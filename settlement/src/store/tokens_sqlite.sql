-- Stake that was asked back and is not free yet.
CREATE TABLE settle_unbonding (
    id BLOB PRIMARY KEY,
    participant TEXT NOT NULL,
    amount INTEGER NOT NULL,
    free_ms INTEGER NOT NULL,
    is_open INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX settle_unbonding_due ON settle_unbonding (is_open, free_ms);

-- What operators ask for about tokens: one asks, another confirms.
CREATE TABLE settle_token_requests (
    id BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    participant TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    reference TEXT NOT NULL,
    payout TEXT,
    by_account TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    log_index INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX settle_token_requests_of ON settle_token_requests (participant, at_ms);

-- How requests go on, each step once: 1 confirmed, 2 cancelled, 3 expired.
CREATE TABLE settle_token_steps (
    request BLOB NOT NULL,
    step INTEGER NOT NULL,
    by_account TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    counts_from_ms INTEGER,
    log_index INTEGER NOT NULL,
    PRIMARY KEY (request, step)
) STRICT, WITHOUT ROWID;
