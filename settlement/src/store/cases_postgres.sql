-- What was looked at for evidence, and the case that it gave.
CREATE TABLE settle_case_sources (
    kind TEXT NOT NULL,
    kid BYTEA NOT NULL,
    whose TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    digest BYTEA,
    PRIMARY KEY (kind, kid, whose, sequence)
);

-- Where a case stands in the ledger log.
CREATE TABLE settle_case_entries (
    digest BYTEA PRIMARY KEY,
    log_index BIGINT NOT NULL
);

CREATE INDEX settle_readings_refused ON settle_readings (received_ms) WHERE reason IS NOT NULL;
CREATE INDEX settle_evidence_time ON settle_evidence (at_ms);
