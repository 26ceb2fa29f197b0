-- What chargers' own meters have signed, as their gateways signed that on; `from_ms` and `to_ms` are what it speaks of.
CREATE TABLE settle_charger_records (
    point TEXT NOT NULL,
    id BYTEA NOT NULL,
    from_ms BIGINT NOT NULL,
    to_ms BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    message BYTEA NOT NULL,
    PRIMARY KEY (point, id)
);
CREATE INDEX settle_charger_records_time ON settle_charger_records (point, to_ms);
CREATE INDEX settle_charger_records_received ON settle_charger_records (point, received_ms);
