-- Who administers: people and machines by name, and the keys through which they act. Roles are their names, sorted, one
-- space between. A key without a principal acts for itself.

CREATE TABLE principals (
    tenant      BLOB    NOT NULL,
    name        TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    roles       TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    disabled_at INTEGER,
    CONSTRAINT principals_pkey PRIMARY KEY (tenant, name),
    CONSTRAINT principals_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

ALTER TABLE api_keys ADD COLUMN principal TEXT;
