-- How far the market has come: one row.
CREATE TABLE market_progress (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    next_start_s INTEGER NOT NULL,
    length_s INTEGER NOT NULL
) STRICT;

-- Accepted orders. `content` is the signed payload, `signed` the whole message; the last three are
-- set once, by the clearing: `place` is the order's place in the book that was cleared.
CREATE TABLE market_order (
    id BLOB PRIMARY KEY,
    participant TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    interval_start_s INTEGER NOT NULL,
    arrival INTEGER NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    content BLOB NOT NULL,
    signed BLOB NOT NULL,
    filled_wh INTEGER CHECK (filled_wh >= 0),
    reason TEXT,
    place INTEGER,
    UNIQUE (participant, sequence),
    UNIQUE (interval_start_s, arrival)
) STRICT;
CREATE INDEX market_order_of_participant ON market_order (participant, interval_start_s);

-- Other messages that used the sequence of an accepted order.
CREATE TABLE market_evidence (
    participant TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    digest BLOB NOT NULL,
    kept BLOB NOT NULL,
    other BLOB NOT NULL,
    seen_at_ms INTEGER NOT NULL,
    PRIMARY KEY (participant, sequence, digest)
) STRICT;

-- One row for each cleared interval, also where nothing was traded.
CREATE TABLE market_clearing (
    interval_start_s INTEGER PRIMARY KEY,
    interval_length_s INTEGER NOT NULL,
    mechanism TEXT NOT NULL,
    price_policy TEXT NOT NULL,
    details TEXT NOT NULL,
    price_micro INTEGER,
    price_low_micro INTEGER,
    price_high_micro INTEGER,
    volume_wh INTEGER NOT NULL CHECK (volume_wh >= 0),
    orders INTEGER NOT NULL,
    trades INTEGER NOT NULL,
    book BLOB NOT NULL,
    cleared_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE market_trade (
    id BLOB PRIMARY KEY,
    interval_start_s INTEGER NOT NULL,
    interval_length_s INTEGER NOT NULL,
    place INTEGER NOT NULL,
    bid BLOB NOT NULL,
    offer BLOB NOT NULL,
    buyer TEXT NOT NULL,
    seller TEXT NOT NULL CHECK (seller <> buyer),
    energy_wh INTEGER NOT NULL CHECK (energy_wh > 0),
    price_micro INTEGER NOT NULL,
    UNIQUE (interval_start_s, place)
) STRICT;
