CREATE FUNCTION market_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;

-- Orders that left the book before their gate closed: taken back by a cancel, or replaced by `by_order`.
-- `signed` is the message that did it.
CREATE TABLE market_withdrawn (
    order_id BYTEA PRIMARY KEY,
    by_order BYTEA,
    signed BYTEA NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE TRIGGER market_withdrawn_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON market_withdrawn
    FOR EACH STATEMENT EXECUTE FUNCTION market_append_only();

-- What the orders of an interval come to. Energy of orders from before this table is not in it.
CREATE TABLE market_totals (
    interval_start_s BIGINT PRIMARY KEY,
    arrivals BIGINT NOT NULL,
    bid_wh BIGINT NOT NULL,
    offer_wh BIGINT NOT NULL
);
INSERT INTO market_totals (interval_start_s, arrivals, bid_wh, offer_wh)
    SELECT interval_start_s, MAX(arrival) + 1, 0, 0 FROM market_order GROUP BY interval_start_s;

-- Who sent how many messages in the minute of the last one.
CREATE TABLE market_sender (
    participant TEXT PRIMARY KEY,
    minute_s BIGINT NOT NULL,
    messages BIGINT NOT NULL
);

-- Messages that were refused: a ring for each participant, and one, under the empty name, for all that
-- nobody is known to have signed.
CREATE TABLE market_refused (
    participant TEXT NOT NULL,
    slot BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    reason TEXT NOT NULL,
    bytes BYTEA NOT NULL,
    PRIMARY KEY (participant, slot)
);
CREATE TABLE market_refused_count (
    participant TEXT PRIMARY KEY,
    messages BIGINT NOT NULL
);

-- The book of a cleared interval as it is public.
CREATE TABLE market_public_book (
    interval_start_s BIGINT PRIMARY KEY,
    book TEXT NOT NULL
);
CREATE TRIGGER market_public_book_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON market_public_book
    FOR EACH STATEMENT EXECUTE FUNCTION market_append_only();
ALTER TABLE market_clearing ADD COLUMN public_book BYTEA;

-- Participants that held a large part of one side of a book when its gate closed.
CREATE TABLE market_share_alarm (
    interval_start_s BIGINT NOT NULL,
    participant TEXT NOT NULL,
    side BIGINT NOT NULL,
    own_wh BIGINT NOT NULL,
    side_wh BIGINT NOT NULL,
    PRIMARY KEY (interval_start_s, participant, side)
);
