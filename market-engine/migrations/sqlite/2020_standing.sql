-- Standing orders. `root` is the sequence with which its chain of replacements began: what was reached under one
-- counts for the next.
CREATE TABLE market_standing (
    participant TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    root INTEGER NOT NULL,
    until_s INTEGER NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    content BLOB NOT NULL,
    signed BLOB NOT NULL,
    PRIMARY KEY (participant, sequence)
) STRICT;
CREATE INDEX market_standing_until ON market_standing (until_s);
CREATE TRIGGER market_standing_no_update BEFORE UPDATE ON market_standing
    BEGIN SELECT RAISE(ABORT, 'market_standing is append-only'); END;
CREATE TRIGGER market_standing_no_delete BEFORE DELETE ON market_standing
    BEGIN SELECT RAISE(ABORT, 'market_standing is append-only'); END;

-- Standing orders that were taken back, or replaced by `by_sequence`. `signed` is the message that did it.
CREATE TABLE market_standing_withdrawn (
    participant TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    by_sequence INTEGER,
    signed BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (participant, sequence)
) STRICT;
CREATE TRIGGER market_standing_withdrawn_no_update BEFORE UPDATE ON market_standing_withdrawn
    BEGIN SELECT RAISE(ABORT, 'market_standing_withdrawn is append-only'); END;
CREATE TRIGGER market_standing_withdrawn_no_delete BEFORE DELETE ON market_standing_withdrawn
    BEGIN SELECT RAISE(ABORT, 'market_standing_withdrawn is append-only'); END;

-- What standing orders have ordered: the order's sequence, why in a word and in a sentence, and where the market did
-- not take it, why not.
CREATE TABLE market_standing_order (
    participant TEXT NOT NULL,
    order_sequence INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    root INTEGER NOT NULL,
    interval_start_s INTEGER NOT NULL,
    interval_length_s INTEGER NOT NULL,
    side INTEGER NOT NULL,
    energy_wh INTEGER NOT NULL,
    limit_micro INTEGER NOT NULL,
    why TEXT NOT NULL,
    sentence TEXT NOT NULL,
    refused TEXT,
    PRIMARY KEY (participant, order_sequence)
) STRICT;
CREATE INDEX market_standing_order_root ON market_standing_order (participant, root, interval_start_s);
CREATE TRIGGER market_standing_order_no_update BEFORE UPDATE ON market_standing_order
    BEGIN SELECT RAISE(ABORT, 'market_standing_order is append-only'); END;
CREATE TRIGGER market_standing_order_no_delete BEFORE DELETE ON market_standing_order
    BEGIN SELECT RAISE(ABORT, 'market_standing_order is append-only'); END;
