-- The registry of agents: every version of each, so that who was what at a revision can be told exactly. A version holds from
-- `revision` until `superseded`. Nothing is ever removed: an agent that is retired stays, and its id with it.

CREATE TABLE agents (
    tenant     UUID   NOT NULL,
    kind       TEXT   COLLATE "C" NOT NULL,
    id         TEXT   COLLATE "C" NOT NULL,
    revision   BIGINT NOT NULL,
    superseded BIGINT,
    status     TEXT   COLLATE "C" NOT NULL,
    owner      TEXT   COLLATE "C" NOT NULL,
    body       TEXT   COLLATE "C" NOT NULL,
    CONSTRAINT agents_pkey PRIMARY KEY (tenant, kind, id, revision),
    CONSTRAINT agents_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

-- One version is current.
CREATE UNIQUE INDEX agents_current_key ON agents (tenant, kind, id) WHERE superseded IS NULL;
-- Serves a replica that catches up.
CREATE INDEX agents_changes_idx ON agents (tenant, revision, kind, id);
