-- What witnesses have signed: each a line below the operator's in a checkpoint's note.
CREATE TABLE settle_cosignatures (
    log BIGINT NOT NULL,
    size BIGINT NOT NULL,
    witness TEXT NOT NULL,
    line TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (log, size, witness)
);

-- Proofs that somebody broke a rule, as files that stand for themselves. One against this operator stops the market.
CREATE TABLE settle_proofs (
    digest BYTEA PRIMARY KEY,
    kind TEXT NOT NULL,
    content TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);
