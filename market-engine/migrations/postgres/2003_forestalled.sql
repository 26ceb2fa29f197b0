-- Orders that were taken back before they came: one with this sequence does not enter the interval's book.
-- `signed` is the cancel.
CREATE TABLE market_forestalled (
    participant TEXT NOT NULL,
    interval_start_s BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    signed BYTEA NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (participant, interval_start_s, sequence)
);
CREATE TRIGGER market_forestalled_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON market_forestalled
    FOR EACH STATEMENT EXECUTE FUNCTION market_append_only();
