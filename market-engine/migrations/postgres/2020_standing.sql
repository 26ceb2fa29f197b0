-- Standing orders. `root` is the sequence with which its chain of replacements began: what was reached under one
-- counts for the next.
CREATE TABLE market_standing (
    participant TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    root BIGINT NOT NULL,
    until_s BIGINT NOT NULL,
    accepted_at_ms BIGINT NOT NULL,
    content BYTEA NOT NULL,
    signed BYTEA NOT NULL,
    PRIMARY KEY (participant, sequence)
);
CREATE INDEX market_standing_until ON market_standing (until_s);
CREATE TRIGGER market_standing_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON market_standing
    FOR EACH STATEMENT EXECUTE FUNCTION market_append_only();

-- Standing orders that were taken back, or replaced by `by_sequence`. `signed` is the message that did it.
CREATE TABLE market_standing_withdrawn (
    participant TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    by_sequence BIGINT,
    signed BYTEA NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (participant, sequence)
);
CREATE TRIGGER market_standing_withdrawn_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON market_standing_withdrawn
    FOR EACH STATEMENT EXECUTE FUNCTION market_append_only();

-- What standing orders have ordered: the order's sequence, why in a word and in a sentence, and where the market did
-- not take it, why not.
CREATE TABLE market_standing_order (
    participant TEXT NOT NULL,
    order_sequence BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    root BIGINT NOT NULL,
    interval_start_s BIGINT NOT NULL,
    interval_length_s BIGINT NOT NULL,
    side BIGINT NOT NULL,
    energy_wh BIGINT NOT NULL,
    limit_micro BIGINT NOT NULL,
    why TEXT NOT NULL,
    sentence TEXT NOT NULL,
    refused TEXT,
    PRIMARY KEY (participant, order_sequence)
);
CREATE INDEX market_standing_order_root ON market_standing_order (participant, root, interval_start_s);
CREATE TRIGGER market_standing_order_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON market_standing_order
    FOR EACH STATEMENT EXECUTE FUNCTION market_append_only();
