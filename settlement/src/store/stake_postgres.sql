-- The guarded accounts of the chart, and which asset each counts.
ALTER TABLE settle_balances DROP CONSTRAINT never_below_zero;
ALTER TABLE settle_balances ADD CONSTRAINT never_below_zero CHECK (
        chart NOT IN (100, 105, 110, 310, 320, 400, 410, 420, 430, 510, 610, 700) OR credits >= debits);
ALTER TABLE settle_balances ADD CONSTRAINT counts_asset CHECK (
        (asset = 1 AND (chart < 400 OR (chart >= 600 AND chart < 800)))
        OR (asset = 2 AND (chart = 200 OR chart >= 800))
        OR (asset = 3 AND (chart = 100 OR (chart >= 400 AND chart < 600))));
