-- Every bundle a tenant has had: the one in force at a revision is the last one at or before it.

CREATE TABLE bundles (
    tenant   BLOB    NOT NULL,
    revision INTEGER NOT NULL,
    hash     TEXT    NOT NULL,
    body     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    author   BLOB,
    CONSTRAINT bundles_pkey PRIMARY KEY (tenant, revision),
    CONSTRAINT bundles_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;
