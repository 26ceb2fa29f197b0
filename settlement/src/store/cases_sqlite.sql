-- What was looked at for evidence, and the case that it gave.
CREATE TABLE settle_case_sources (
    kind TEXT NOT NULL,
    kid BLOB NOT NULL,
    whose TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    digest BLOB,
    PRIMARY KEY (kind, kid, whose, sequence)
) STRICT, WITHOUT ROWID;

-- Where a case stands in the ledger log.
CREATE TABLE settle_case_entries (
    digest BLOB PRIMARY KEY,
    log_index INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX settle_readings_refused ON settle_readings (received_ms) WHERE reason IS NOT NULL;
CREATE INDEX settle_evidence_time ON settle_evidence (at_ms);
