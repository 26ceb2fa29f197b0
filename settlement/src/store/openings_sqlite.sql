-- Deposits without a request: what a home begins with, and where that stands in the ledger log. Deposits of before
-- that were in the books when they began to be logged have -1 there; a second row says where they were logged since.
CREATE TABLE settle_openings (
    id BLOB NOT NULL,
    log_index INTEGER NOT NULL,
    participant TEXT NOT NULL,
    amount INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (id, log_index)
) STRICT, WITHOUT ROWID;
INSERT INTO settle_openings (id, log_index, participant, amount, at_ms)
    SELECT id, -1, credit_owner, amount, at_ms FROM settle_postings WHERE asset = 1 AND purpose = 1;

-- Most holds are closed: those that are not are looked for at every start, and where an interval is never cleared.
CREATE INDEX settle_holds_open ON settle_holds (start_s) WHERE is_open = 1;
