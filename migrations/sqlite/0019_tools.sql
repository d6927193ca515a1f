-- The catalogue of tools: every version of each. A version holds from `revision` until `superseded`; no body means removed.

CREATE TABLE tools (
    tenant     BLOB    NOT NULL,
    name       TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    superseded INTEGER,
    body       TEXT,
    CONSTRAINT tools_pkey PRIMARY KEY (tenant, name, revision),
    CONSTRAINT tools_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

-- One version is current.
CREATE UNIQUE INDEX tools_current_key ON tools (tenant, name) WHERE superseded IS NULL;
-- Serves a replica that catches up.
CREATE INDEX tools_changes_idx ON tools (tenant, revision, name);
