-- What the prices of an interval do not say: terms, the tariff's version, steps. Null where all is plain.
ALTER TABLE settle_intervals ADD COLUMN terms BLOB;

-- What a run was made from and by, and what the feeder's meter said.
ALTER TABLE settle_runs ADD COLUMN inputs BLOB;
ALTER TABLE settle_runs ADD COLUMN tariff TEXT;
ALTER TABLE settle_runs ADD COLUMN program TEXT;
ALTER TABLE settle_runs ADD COLUMN loss_check TEXT;

-- What the utility supplied, by the newest run; the steps of a tiered tariff count it by month.
CREATE TABLE settle_supplied (
    start_s INTEGER NOT NULL,
    participant TEXT NOT NULL,
    supplied_wh INTEGER NOT NULL,
    PRIMARY KEY (start_s, participant)
) STRICT, WITHOUT ROWID;
