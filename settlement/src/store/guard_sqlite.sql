-- 100, 105 and 110 are the guarded accounts of the chart: available, held and held back.
CREATE TABLE settle_balances_guarded (
    asset INTEGER NOT NULL,
    chart INTEGER NOT NULL,
    owner TEXT NOT NULL,
    credits INTEGER NOT NULL,
    debits INTEGER NOT NULL,
    PRIMARY KEY (asset, chart, owner),
    CONSTRAINT never_below_zero CHECK (chart NOT IN (100, 105, 110) OR credits >= debits)
) STRICT, WITHOUT ROWID;
INSERT INTO settle_balances_guarded (asset, chart, owner, credits, debits)
    SELECT asset, chart, owner, credits, debits FROM settle_balances;
DROP TABLE settle_balances;
ALTER TABLE settle_balances_guarded RENAME TO settle_balances;

-- What no run posted, by whose it is: for statements. A run's postings are in the participant's lines.
CREATE INDEX settle_postings_other_debit ON settle_postings (debit_owner, id) WHERE run IS NULL;
CREATE INDEX settle_postings_other_credit ON settle_postings (credit_owner, id) WHERE run IS NULL;
