-- What gateways have signed of the ledger log. Of each key the newest is kept, what the last hour brought, and the
-- first one that covers each of the key's records.
CREATE TABLE settle_gateway_cosignatures (
    size INTEGER NOT NULL,
    kid BLOB NOT NULL,
    gateway TEXT NOT NULL,
    line TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (size, kid)
) STRICT, WITHOUT ROWID;
CREATE INDEX settle_gateway_cosignatures_key ON settle_gateway_cosignatures (kid, size);

-- Which checkpoint of a log is shown to everybody, with what witnesses have signed.
CREATE TABLE settle_shown_checkpoints (
    log INTEGER PRIMARY KEY,
    size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
