-- What was passed through for a session's energy when it was paid; a station that buys by itself has nothing here.
CREATE TABLE settle_charging_costs (
    session TEXT PRIMARY KEY,
    energy BIGINT NOT NULL,
    network_fee BIGINT NOT NULL
);
-- The sessions of a month are those whose payment went through in it.
CREATE INDEX settle_charging_captured ON settle_charging_events (at_ms) WHERE event = '"captured"';
