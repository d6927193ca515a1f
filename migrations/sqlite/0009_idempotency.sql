-- What was answered to changes that were sent with an `Idempotency-Key`, so that the same request is answered the same.

CREATE TABLE idempotency (
    tenant   BLOB    NOT NULL,
    key      TEXT    NOT NULL,
    request  TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    answer   TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    CONSTRAINT idempotency_pkey PRIMARY KEY (tenant, key),
    CONSTRAINT idempotency_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

CREATE INDEX idempotency_at_idx ON idempotency (tenant, at);
