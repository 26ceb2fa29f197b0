-- Orders that were taken back before they came: one with this sequence does not enter the interval's book.
-- `signed` is the cancel.
CREATE TABLE market_forestalled (
    participant TEXT NOT NULL,
    interval_start_s INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    signed BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (participant, interval_start_s, sequence)
) STRICT;
CREATE TRIGGER market_forestalled_no_update BEFORE UPDATE ON market_forestalled
    BEGIN SELECT RAISE(ABORT, 'market_forestalled is append-only'); END;
CREATE TRIGGER market_forestalled_no_delete BEFORE DELETE ON market_forestalled
    BEGIN SELECT RAISE(ABORT, 'market_forestalled is append-only'); END;
