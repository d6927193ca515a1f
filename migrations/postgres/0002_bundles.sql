-- Every bundle a tenant has had: the one in force at a revision is the last one at or before it.

CREATE TABLE bundles (
    tenant   UUID   NOT NULL,
    revision BIGINT NOT NULL,
    hash     TEXT   COLLATE "C" NOT NULL,
    body     TEXT   COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    author   UUID,
    CONSTRAINT bundles_pkey PRIMARY KEY (tenant, revision),
    CONSTRAINT bundles_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);
