-- What was answered to changes that were sent with an `Idempotency-Key`, so that the same request is answered the same.

CREATE TABLE idempotency (
    tenant   UUID   NOT NULL,
    key      TEXT   COLLATE "C" NOT NULL,
    request  TEXT   COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    answer   TEXT   COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    CONSTRAINT idempotency_pkey PRIMARY KEY (tenant, key),
    CONSTRAINT idempotency_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

CREATE INDEX idempotency_at_idx ON idempotency (tenant, at);
