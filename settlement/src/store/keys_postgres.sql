-- The claim codes that were given out: of each, the public half of its key pair.
CREATE TABLE settle_claims (
    kid BYTEA PRIMARY KEY,
    gateway TEXT NOT NULL,
    public BYTEA NOT NULL,
    signed BYTEA NOT NULL,
    issued_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    used_ms BIGINT
);
CREATE INDEX settle_claims_gateway ON settle_claims (gateway);

-- What new keys were let in by: signed by the new key, and by the one that vouched for it.
CREATE TABLE settle_introductions (
    digest BYTEA PRIMARY KEY,
    kid BYTEA NOT NULL,
    introducer BYTEA NOT NULL,
    signed BYTEA NOT NULL,
    at_ms BIGINT NOT NULL
);

-- Where a point's chain passed from one key to the next.
CREATE TABLE settle_handovers (
    point TEXT NOT NULL,
    kid BYTEA NOT NULL,
    old_kid BYTEA NOT NULL,
    first_sequence BIGINT NOT NULL,
    previous BYTEA NOT NULL,
    PRIMARY KEY (point, kid)
);
CREATE INDEX settle_handovers_old ON settle_handovers (point, old_kid);

-- What the operator signed about keys that count no longer; of several words on a key all hold.
CREATE TABLE settle_revocations (
    kid BYTEA NOT NULL,
    log_index BIGINT NOT NULL,
    digest BYTEA NOT NULL UNIQUE,
    gateway TEXT NOT NULL,
    from_sequence BIGINT NOT NULL,
    from_ms BIGINT NOT NULL,
    reason TEXT NOT NULL,
    signed BYTEA NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (kid, log_index)
);
