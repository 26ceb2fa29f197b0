-- The claim codes that were given out: of each, the public half of its key pair.
CREATE TABLE settle_claims (
    kid BLOB PRIMARY KEY,
    gateway TEXT NOT NULL,
    public BLOB NOT NULL,
    signed BLOB NOT NULL,
    issued_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    used_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX settle_claims_gateway ON settle_claims (gateway);

-- What new keys were let in by: signed by the new key, and by the one that vouched for it.
CREATE TABLE settle_introductions (
    digest BLOB PRIMARY KEY,
    kid BLOB NOT NULL,
    introducer BLOB NOT NULL,
    signed BLOB NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Where a point's chain passed from one key to the next.
CREATE TABLE settle_handovers (
    point TEXT NOT NULL,
    kid BLOB NOT NULL,
    old_kid BLOB NOT NULL,
    first_sequence INTEGER NOT NULL,
    previous BLOB NOT NULL,
    PRIMARY KEY (point, kid)
) STRICT, WITHOUT ROWID;
CREATE INDEX settle_handovers_old ON settle_handovers (point, old_kid);

-- What the operator signed about keys that count no longer; of several words on a key all hold.
CREATE TABLE settle_revocations (
    kid BLOB NOT NULL,
    log_index INTEGER NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    gateway TEXT NOT NULL,
    from_sequence INTEGER NOT NULL,
    from_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    signed BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (kid, log_index)
) STRICT, WITHOUT ROWID;
