-- Events: what happened that somebody may want to be told of, in the order in which it was committed. `place` counts the
-- events of one revision. `body` is canonical JSON without anything that only the tenant's own policies may show.

CREATE TABLE events (
    tenant   BLOB    NOT NULL,
    revision INTEGER NOT NULL,
    place    INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    body     TEXT    NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (tenant, revision, place),
    CONSTRAINT events_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

CREATE INDEX events_at_idx ON events (at);
