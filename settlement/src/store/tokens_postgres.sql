-- Stake that was asked back and is not free yet.
CREATE TABLE settle_unbonding (
    id BYTEA PRIMARY KEY,
    participant TEXT NOT NULL,
    amount BIGINT NOT NULL,
    free_ms BIGINT NOT NULL,
    is_open BIGINT NOT NULL
);
CREATE INDEX settle_unbonding_due ON settle_unbonding (is_open, free_ms);

-- What operators ask for about tokens: one asks, another confirms.
CREATE TABLE settle_token_requests (
    id BYTEA PRIMARY KEY,
    kind BIGINT NOT NULL,
    participant TEXT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    reference TEXT NOT NULL,
    payout TEXT,
    by_account TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    log_index BIGINT NOT NULL
);
CREATE INDEX settle_token_requests_of ON settle_token_requests (participant, at_ms);

-- How requests go on, each step once: 1 confirmed, 2 cancelled, 3 expired.
CREATE TABLE settle_token_steps (
    request BYTEA NOT NULL,
    step BIGINT NOT NULL,
    by_account TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    counts_from_ms BIGINT,
    log_index BIGINT NOT NULL,
    PRIMARY KEY (request, step)
);
