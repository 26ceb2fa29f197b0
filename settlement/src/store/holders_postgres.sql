-- Claim codes and revocations are a gateway's or a participant's.
ALTER TABLE settle_claims ALTER COLUMN gateway DROP NOT NULL;
ALTER TABLE settle_claims ADD COLUMN participant TEXT;
ALTER TABLE settle_claims ADD CHECK ((gateway IS NULL) <> (participant IS NULL));
CREATE INDEX settle_claims_participant ON settle_claims (participant);

ALTER TABLE settle_revocations ALTER COLUMN gateway DROP NOT NULL;
ALTER TABLE settle_revocations ADD COLUMN participant TEXT;
ALTER TABLE settle_revocations ADD CHECK ((gateway IS NULL) <> (participant IS NULL));
