-- Who administers: people and machines by name, and the keys through which they act. Roles are their names, sorted, one
-- space between. A key without a principal acts for itself.

CREATE TABLE principals (
    tenant      UUID   NOT NULL,
    name        TEXT   COLLATE "C" NOT NULL,
    kind        TEXT   COLLATE "C" NOT NULL,
    roles       TEXT   COLLATE "C" NOT NULL,
    created_at  BIGINT NOT NULL,
    disabled_at BIGINT,
    CONSTRAINT principals_pkey PRIMARY KEY (tenant, name),
    CONSTRAINT principals_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

ALTER TABLE api_keys ADD COLUMN principal TEXT COLLATE "C";
