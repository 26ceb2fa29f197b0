CREATE TRIGGER market_evidence_no_update BEFORE UPDATE ON market_evidence
    BEGIN SELECT RAISE(ABORT, 'market_evidence is append-only'); END;
CREATE TRIGGER market_evidence_no_delete BEFORE DELETE ON market_evidence
    BEGIN SELECT RAISE(ABORT, 'market_evidence is append-only'); END;
