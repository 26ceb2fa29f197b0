-- What a run was made from, as the ledger log commits to it, and where it stands there. Null for runs of before.
ALTER TABLE settle_runs ADD COLUMN record BYTEA;
ALTER TABLE settle_runs ADD COLUMN log_index BIGINT;

-- Checkpoints of this operator that a witness has shown and the books did not reach: they were set back.
CREATE TABLE settle_set_back (
    digest BYTEA PRIMARY KEY,
    log BIGINT NOT NULL,
    witness TEXT NOT NULL,
    note TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);

-- Where an introduction stands in the ledger log. Null for those of before.
ALTER TABLE settle_introductions ADD COLUMN log_index BIGINT;
