-- Every version of every entity. A version holds from `revision` until `superseded`; no body means removed.
-- So the state of a tenant at any revision, and what changed between two, are plain selections.

CREATE TABLE entities (
    tenant     UUID   NOT NULL,
    kind       TEXT   COLLATE "C" NOT NULL,
    id         TEXT   COLLATE "C" NOT NULL,
    revision   BIGINT NOT NULL,
    superseded BIGINT,
    body       TEXT   COLLATE "C",
    CONSTRAINT entities_pkey PRIMARY KEY (tenant, kind, id, revision),
    CONSTRAINT entities_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

-- One version is current.
CREATE UNIQUE INDEX entities_current_key ON entities (tenant, kind, id) WHERE superseded IS NULL;
-- Serves a replica that catches up.
CREATE INDEX entities_changes_idx ON entities (tenant, revision, kind, id);
