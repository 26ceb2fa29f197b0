-- 100, 105 and 110 are the guarded accounts of the chart: available, held and held back.
ALTER TABLE settle_balances DROP CONSTRAINT never_below_zero;
ALTER TABLE settle_balances ADD CONSTRAINT never_below_zero
    CHECK (chart NOT IN (100, 105, 110) OR credits >= debits);

-- What no run posted, by whose it is: for statements. A run's postings are in the participant's lines.
CREATE INDEX settle_postings_other_debit ON settle_postings (debit_owner, id) WHERE run IS NULL;
CREATE INDEX settle_postings_other_credit ON settle_postings (credit_owner, id) WHERE run IS NULL;
