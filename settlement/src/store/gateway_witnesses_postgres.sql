-- What gateways have signed of the ledger log. Of each key the newest is kept, what the last hour brought, and the
-- first one that covers each of the key's records.
CREATE TABLE settle_gateway_cosignatures (
    size BIGINT NOT NULL,
    kid BYTEA NOT NULL,
    gateway TEXT NOT NULL,
    line TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (size, kid)
);
CREATE INDEX settle_gateway_cosignatures_key ON settle_gateway_cosignatures (kid, size);

-- Which checkpoint of a log is shown to everybody, with what witnesses have signed.
CREATE TABLE settle_shown_checkpoints (
    log BIGINT PRIMARY KEY,
    size BIGINT NOT NULL
);
