-- What was advanced to a station's account out of a session's hold.
CREATE TABLE settle_charging_advances (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

-- To whom a station's settlement lines were carried: a session's owners, or the host.
CREATE TABLE settle_station_lines (
    start_s INTEGER NOT NULL,
    station TEXT NOT NULL,
    run INTEGER NOT NULL,
    session TEXT,
    net INTEGER NOT NULL,
    PRIMARY KEY (start_s, station, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX settle_station_lines_session ON settle_station_lines (session);

-- Corrections of sessions that were paid.
CREATE TABLE settle_charging_credits (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    credit TEXT NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

-- What a driver changed while the car charged: the plan that counts from then on.
CREATE TABLE settle_charging_changes (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    plan TEXT NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

-- Whose session it is, where a household pays; sessions from before have none.
ALTER TABLE settle_charging ADD COLUMN payer TEXT;
CREATE INDEX settle_charging_payer ON settle_charging (payer, offered_ms);
CREATE INDEX settle_charging_offered ON settle_charging (offered_ms);
