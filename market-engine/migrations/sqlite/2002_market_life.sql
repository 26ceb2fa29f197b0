-- Orders that left the book before their gate closed: taken back by a cancel, or replaced by `by_order`.
-- `signed` is the message that did it.
CREATE TABLE market_withdrawn (
    order_id BLOB PRIMARY KEY,
    by_order BLOB,
    signed BLOB NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE TRIGGER market_withdrawn_no_update BEFORE UPDATE ON market_withdrawn
    BEGIN SELECT RAISE(ABORT, 'market_withdrawn is append-only'); END;
CREATE TRIGGER market_withdrawn_no_delete BEFORE DELETE ON market_withdrawn
    BEGIN SELECT RAISE(ABORT, 'market_withdrawn is append-only'); END;

-- What the orders of an interval come to. Energy of orders from before this table is not in it.
CREATE TABLE market_totals (
    interval_start_s INTEGER PRIMARY KEY,
    arrivals INTEGER NOT NULL,
    bid_wh INTEGER NOT NULL,
    offer_wh INTEGER NOT NULL
) STRICT;
INSERT INTO market_totals (interval_start_s, arrivals, bid_wh, offer_wh)
    SELECT interval_start_s, MAX(arrival) + 1, 0, 0 FROM market_order GROUP BY interval_start_s;

-- Who sent how many messages in the minute of the last one.
CREATE TABLE market_sender (
    participant TEXT PRIMARY KEY,
    minute_s INTEGER NOT NULL,
    messages INTEGER NOT NULL
) STRICT;

-- Messages that were refused: a ring for each participant, and one, under the empty name, for all that
-- nobody is known to have signed.
CREATE TABLE market_refused (
    participant TEXT NOT NULL,
    slot INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (participant, slot)
) STRICT;
CREATE TABLE market_refused_count (
    participant TEXT PRIMARY KEY,
    messages INTEGER NOT NULL
) STRICT;

-- The book of a cleared interval as it is public.
CREATE TABLE market_public_book (
    interval_start_s INTEGER PRIMARY KEY,
    book TEXT NOT NULL
) STRICT;
CREATE TRIGGER market_public_book_no_update BEFORE UPDATE ON market_public_book
    BEGIN SELECT RAISE(ABORT, 'market_public_book is append-only'); END;
CREATE TRIGGER market_public_book_no_delete BEFORE DELETE ON market_public_book
    BEGIN SELECT RAISE(ABORT, 'market_public_book is append-only'); END;
ALTER TABLE market_clearing ADD COLUMN public_book BLOB;

-- Participants that held a large part of one side of a book when its gate closed.
CREATE TABLE market_share_alarm (
    interval_start_s INTEGER NOT NULL,
    participant TEXT NOT NULL,
    side INTEGER NOT NULL,
    own_wh INTEGER NOT NULL,
    side_wh INTEGER NOT NULL,
    PRIMARY KEY (interval_start_s, participant, side)
) STRICT;
