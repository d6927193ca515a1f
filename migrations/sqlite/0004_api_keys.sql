-- API keys: the public id and a keyed hash, never the secret. Scopes are their names, sorted, one space between.

CREATE TABLE api_keys (
    id          BLOB    NOT NULL,
    tenant      BLOB    NOT NULL,
    name        TEXT    NOT NULL,
    environment TEXT    NOT NULL,
    scopes      TEXT    NOT NULL,
    mac         BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

CREATE INDEX api_keys_tenant_idx ON api_keys (tenant, id);
