-- What the last run of an interval came to, for the next to go on from. Nothing is lost with it: a run without it
-- reads everything.
CREATE TABLE settle_last_run (
    start_s BIGINT PRIMARY KEY,
    content BYTEA NOT NULL
);

-- Points whose reading came after a run of the interval, until the next.
CREATE TABLE settle_late (
    start_s BIGINT NOT NULL,
    point TEXT NOT NULL,
    PRIMARY KEY (start_s, point)
);
