-- How far the market has come: one row.
CREATE TABLE market_progress (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    next_start_s BIGINT NOT NULL,
    length_s BIGINT NOT NULL
);

-- Accepted orders. `content` is the signed payload, `signed` the whole message; the last three are
-- set once, by the clearing: `place` is the order's place in the book that was cleared.
CREATE TABLE market_order (
    id BYTEA PRIMARY KEY,
    participant TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    interval_start_s BIGINT NOT NULL,
    arrival BIGINT NOT NULL,
    accepted_at_ms BIGINT NOT NULL,
    content BYTEA NOT NULL,
    signed BYTEA NOT NULL,
    filled_wh BIGINT CHECK (filled_wh >= 0),
    reason TEXT,
    place BIGINT,
    UNIQUE (participant, sequence),
    UNIQUE (interval_start_s, arrival)
);
CREATE INDEX market_order_of_participant ON market_order (participant, interval_start_s);

-- Other messages that used the sequence of an accepted order.
CREATE TABLE market_evidence (
    participant TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    kept BYTEA NOT NULL,
    other BYTEA NOT NULL,
    seen_at_ms BIGINT NOT NULL,
    PRIMARY KEY (participant, sequence, digest)
);

-- One row for each cleared interval, also where nothing was traded.
CREATE TABLE market_clearing (
    interval_start_s BIGINT PRIMARY KEY,
    interval_length_s BIGINT NOT NULL,
    mechanism TEXT NOT NULL,
    price_policy TEXT NOT NULL,
    details TEXT NOT NULL,
    price_micro BIGINT,
    price_low_micro BIGINT,
    price_high_micro BIGINT,
    volume_wh BIGINT NOT NULL CHECK (volume_wh >= 0),
    orders BIGINT NOT NULL,
    trades BIGINT NOT NULL,
    book BYTEA NOT NULL,
    cleared_at_ms BIGINT NOT NULL
);

CREATE TABLE market_trade (
    id BYTEA PRIMARY KEY,
    interval_start_s BIGINT NOT NULL,
    interval_length_s BIGINT NOT NULL,
    place BIGINT NOT NULL,
    bid BYTEA NOT NULL,
    offer BYTEA NOT NULL,
    buyer TEXT NOT NULL,
    seller TEXT NOT NULL CHECK (seller <> buyer),
    energy_wh BIGINT NOT NULL CHECK (energy_wh > 0),
    price_micro BIGINT NOT NULL,
    UNIQUE (interval_start_s, place)
);
