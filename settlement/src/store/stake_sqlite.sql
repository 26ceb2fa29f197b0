-- The guarded accounts of the chart, and which asset each counts.
CREATE TABLE settle_balances_fitting (
    asset INTEGER NOT NULL,
    chart INTEGER NOT NULL,
    owner TEXT NOT NULL,
    credits INTEGER NOT NULL,
    debits INTEGER NOT NULL,
    PRIMARY KEY (asset, chart, owner),
    CONSTRAINT never_below_zero CHECK (
        chart NOT IN (100, 105, 110, 310, 320, 400, 410, 420, 430, 510, 610, 700) OR credits >= debits),
    CONSTRAINT counts_asset CHECK (
        (asset = 1 AND (chart < 400 OR (chart >= 600 AND chart < 800)))
        OR (asset = 2 AND (chart = 200 OR chart >= 800))
        OR (asset = 3 AND (chart = 100 OR (chart >= 400 AND chart < 600))))
) STRICT, WITHOUT ROWID;
INSERT INTO settle_balances_fitting (asset, chart, owner, credits, debits)
    SELECT asset, chart, owner, credits, debits FROM settle_balances;
DROP TABLE settle_balances;
ALTER TABLE settle_balances_fitting RENAME TO settle_balances;
