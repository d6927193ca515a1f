-- Events: what happened that somebody may want to be told of, in the order in which it was committed. `place` counts the
-- events of one revision. `body` is canonical JSON without anything that only the tenant's own policies may show.

CREATE TABLE events (
    tenant   UUID   NOT NULL,
    revision BIGINT NOT NULL,
    place    BIGINT NOT NULL,
    kind     TEXT   COLLATE "C" NOT NULL,
    subject  TEXT   COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    body     TEXT   COLLATE "C" NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (tenant, revision, place),
    CONSTRAINT events_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

CREATE INDEX events_at_idx ON events (at);

SELECT remit_protect_tenants(NULL);
