CREATE FUNCTION market_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER market_evidence_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON market_evidence
    FOR EACH STATEMENT EXECUTE FUNCTION market_append_only();
