-- Claim codes and revocations are a gateway's or a participant's.
CREATE TABLE settle_claims_of_holders (
    kid BLOB PRIMARY KEY,
    gateway TEXT,
    participant TEXT,
    public BLOB NOT NULL,
    signed BLOB NOT NULL,
    issued_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    used_ms INTEGER,
    CHECK ((gateway IS NULL) <> (participant IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO settle_claims_of_holders
    (kid, gateway, public, signed, issued_ms, expires_ms, attempts, used_ms)
    SELECT kid, gateway, public, signed, issued_ms, expires_ms, attempts, used_ms FROM settle_claims;
DROP TABLE settle_claims;
ALTER TABLE settle_claims_of_holders RENAME TO settle_claims;
CREATE INDEX settle_claims_gateway ON settle_claims (gateway);
CREATE INDEX settle_claims_participant ON settle_claims (participant);

CREATE TABLE settle_revocations_of_holders (
    kid BLOB NOT NULL,
    log_index INTEGER NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    gateway TEXT,
    participant TEXT,
    from_sequence INTEGER NOT NULL,
    from_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    signed BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (kid, log_index),
    CHECK ((gateway IS NULL) <> (participant IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO settle_revocations_of_holders
    (kid, log_index, digest, gateway, from_sequence, from_ms, reason, signed, at_ms)
    SELECT kid, log_index, digest, gateway, from_sequence, from_ms, reason, signed, at_ms
    FROM settle_revocations;
DROP TABLE settle_revocations;
ALTER TABLE settle_revocations_of_holders RENAME TO settle_revocations;
