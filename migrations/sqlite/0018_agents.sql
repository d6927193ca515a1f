-- The registry of agents: every version of each, so that who was what at a revision can be told exactly. A version holds from
-- `revision` until `superseded`. Nothing is ever removed: an agent that is retired stays, and its id with it.

CREATE TABLE agents (
    tenant     BLOB    NOT NULL,
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    superseded INTEGER,
    status     TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    CONSTRAINT agents_pkey PRIMARY KEY (tenant, kind, id, revision),
    CONSTRAINT agents_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

-- One version is current.
CREATE UNIQUE INDEX agents_current_key ON agents (tenant, kind, id) WHERE superseded IS NULL;
-- Serves a replica that catches up.
CREATE INDEX agents_changes_idx ON agents (tenant, revision, kind, id);
