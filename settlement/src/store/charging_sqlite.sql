-- A charging session is its promise and its events; both stay as they are.
CREATE TABLE settle_charging (
    session TEXT PRIMARY KEY,
    station TEXT NOT NULL,
    offered_ms INTEGER NOT NULL,
    promise TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX settle_charging_station ON settle_charging (station, offered_ms);

CREATE TABLE settle_charging_events (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;
