-- API keys: the public id and a keyed hash, never the secret. Scopes are their names, sorted, one space between.

CREATE TABLE api_keys (
    id          UUID   NOT NULL,
    tenant      UUID   NOT NULL,
    name        TEXT   COLLATE "C" NOT NULL,
    environment TEXT   COLLATE "C" NOT NULL,
    scopes      TEXT   COLLATE "C" NOT NULL,
    mac         BYTEA  NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT,
    revoked_at  BIGINT,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

CREATE INDEX api_keys_tenant_idx ON api_keys (tenant, id);
