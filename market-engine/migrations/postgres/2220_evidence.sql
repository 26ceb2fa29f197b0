CREATE TRIGGER market_evidence_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON market_evidence
    FOR EACH STATEMENT EXECUTE FUNCTION market_append_only();
