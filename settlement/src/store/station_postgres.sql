-- What was advanced to a station's account out of a session's hold.
CREATE TABLE settle_charging_advances (
    session TEXT NOT NULL,
    seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (session, seq)
);

-- To whom a station's settlement lines were carried: a session's owners, or the host.
CREATE TABLE settle_station_lines (
    start_s BIGINT NOT NULL,
    station TEXT NOT NULL,
    run BIGINT NOT NULL,
    session TEXT,
    net BIGINT NOT NULL,
    PRIMARY KEY (start_s, station, run)
);
CREATE INDEX settle_station_lines_session ON settle_station_lines (session);

-- Corrections of sessions that were paid.
CREATE TABLE settle_charging_credits (
    session TEXT NOT NULL,
    seq BIGINT NOT NULL,
    credit TEXT NOT NULL,
    PRIMARY KEY (session, seq)
);

-- What a driver changed while the car charged: the plan that counts from then on.
CREATE TABLE settle_charging_changes (
    session TEXT NOT NULL,
    seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    plan TEXT NOT NULL,
    PRIMARY KEY (session, seq)
);

-- Whose session it is, where a household pays; sessions from before have none.
ALTER TABLE settle_charging ADD COLUMN payer TEXT;
CREATE INDEX settle_charging_payer ON settle_charging (payer, offered_ms);
CREATE INDEX settle_charging_offered ON settle_charging (offered_ms);
