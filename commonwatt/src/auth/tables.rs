//! The tables of accounts, sessions, links, tokens, and of who did what.

use runtime::db::Migration;

/// The history of these tables.
pub(crate) const MIGRATIONS: &[Migration] = &[ACCOUNTS, PASSKEYS, SETTINGS, ADDRESSES];

const ACCOUNTS: Migration = Migration {
    version: 4010,
    description: "accounts",
    sqlite: "
CREATE TABLE account (
    name TEXT PRIMARY KEY,
    roles TEXT NOT NULL,
    participant TEXT,
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT;
CREATE TABLE account_link (
    hash BLOB PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (name),
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER
) STRICT;
CREATE INDEX account_link_of ON account_link (account, created_ms);
CREATE TABLE account_session (
    hash BLOB PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (name),
    created_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX account_session_of ON account_session (account, seen_ms);
CREATE TABLE account_token (
    hash BLOB PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL REFERENCES account (name),
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    read_only INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT;
CREATE INDEX account_token_of ON account_token (account, created_ms);
CREATE TABLE account_audit (
    id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    account TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    address TEXT NOT NULL
) STRICT;
CREATE INDEX account_audit_of ON account_audit (account, id);
CREATE TRIGGER account_audit_no_update BEFORE UPDATE ON account_audit
    BEGIN SELECT RAISE(ABORT, 'account_audit is append-only'); END;
CREATE TRIGGER account_audit_no_delete BEFORE DELETE ON account_audit
    BEGIN SELECT RAISE(ABORT, 'account_audit is append-only'); END;",
    postgres: "
CREATE TABLE account (
    name TEXT PRIMARY KEY,
    roles TEXT NOT NULL,
    participant TEXT,
    created_ms BIGINT NOT NULL,
    revoked_ms BIGINT
);
CREATE TABLE account_link (
    hash BYTEA PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (name),
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    used_ms BIGINT
);
CREATE INDEX account_link_of ON account_link (account, created_ms);
CREATE TABLE account_session (
    hash BYTEA PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (name),
    created_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL
);
CREATE INDEX account_session_of ON account_session (account, seen_ms);
CREATE TABLE account_token (
    hash BYTEA PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL REFERENCES account (name),
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    read_only BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    revoked_ms BIGINT
);
CREATE INDEX account_token_of ON account_token (account, created_ms);
CREATE TABLE account_audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    account TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    address TEXT NOT NULL
);
CREATE INDEX account_audit_of ON account_audit (account, id);
CREATE FUNCTION account_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER account_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON account_audit
    FOR EACH STATEMENT EXECUTE FUNCTION account_append_only();",
};

const SETTINGS: Migration = Migration {
    version: 4021,
    description: "what accounts choose for themselves, and whose home may be compared",
    sqlite: "
CREATE TABLE account_settings (
    account TEXT PRIMARY KEY REFERENCES account (name),
    language TEXT
) STRICT;
CREATE TABLE home_comparison (
    participant TEXT PRIMARY KEY,
    consents INTEGER NOT NULL,
    account TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;",
    postgres: "
CREATE TABLE account_settings (
    account TEXT PRIMARY KEY REFERENCES account (name),
    language TEXT
);
CREATE TABLE home_comparison (
    participant TEXT PRIMARY KEY,
    consents BIGINT NOT NULL,
    account TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);",
};

const ADDRESSES: Migration = Migration {
    version: 4022,
    description: "accounts' addresses for mail",
    sqlite: "ALTER TABLE account_settings ADD COLUMN email TEXT;
CREATE UNIQUE INDEX account_settings_email ON account_settings (email);",
    postgres: "ALTER TABLE account_settings ADD COLUMN email TEXT;
CREATE UNIQUE INDEX account_settings_email ON account_settings (email);",
};

const PASSKEYS: Migration = Migration {
    version: 4020,
    description: "passkeys",
    sqlite: "
CREATE TABLE account_passkey (
    id BLOB PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (name),
    name TEXT NOT NULL,
    user_handle BLOB NOT NULL,
    transports INTEGER NOT NULL,
    fixed BLOB NOT NULL,
    changing BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    used_ms INTEGER
) STRICT;
CREATE INDEX account_passkey_of ON account_passkey (account, created_ms);",
    postgres: "
CREATE TABLE account_passkey (
    id BYTEA PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (name),
    name TEXT NOT NULL,
    user_handle BYTEA NOT NULL,
    transports BIGINT NOT NULL,
    fixed BYTEA NOT NULL,
    changing BYTEA NOT NULL,
    created_ms BIGINT NOT NULL,
    used_ms BIGINT
);
CREATE INDEX account_passkey_of ON account_passkey (account, created_ms);",
};
