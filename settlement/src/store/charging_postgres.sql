-- A charging session is its promise and its events; both stay as they are.
CREATE TABLE settle_charging (
    session TEXT PRIMARY KEY,
    station TEXT NOT NULL,
    offered_ms BIGINT NOT NULL,
    promise TEXT NOT NULL
);
CREATE INDEX settle_charging_station ON settle_charging (station, offered_ms);

CREATE TABLE settle_charging_events (
    session TEXT NOT NULL,
    seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (session, seq)
);
