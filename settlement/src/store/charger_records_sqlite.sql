-- What chargers' own meters have signed, as their gateways signed that on; `from_ms` and `to_ms` are what it speaks of.
CREATE TABLE settle_charger_records (
    point TEXT NOT NULL,
    id BLOB NOT NULL,
    from_ms INTEGER NOT NULL,
    to_ms INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    message BLOB NOT NULL,
    PRIMARY KEY (point, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX settle_charger_records_time ON settle_charger_records (point, to_ms);
CREATE INDEX settle_charger_records_received ON settle_charger_records (point, received_ms);
