-- Replicas: the processes that decide, each with when it was last seen and how far it has come with every tenant.
-- `seen_at` is by the database's clock. `lease` is how long after it a replica may still permit, in microseconds; it
-- says so itself. `beats` counts how often it has been seen: 1 tells it that the database knew nothing of it.

CREATE TABLE replicas (
    id         BLOB    NOT NULL,
    name       TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    lease      INTEGER NOT NULL,
    beats      INTEGER NOT NULL,
    CONSTRAINT replicas_pkey PRIMARY KEY (id)
) STRICT;

-- The revision in force there, and why the last load failed if it did.
CREATE TABLE replica_revisions (
    replica  BLOB    NOT NULL,
    tenant   BLOB    NOT NULL,
    revision INTEGER NOT NULL,
    failure  TEXT,
    CONSTRAINT replica_revisions_pkey PRIMARY KEY (tenant, replica),
    CONSTRAINT replica_revisions_replica_fkey FOREIGN KEY (replica) REFERENCES replicas (id) ON DELETE CASCADE,
    CONSTRAINT replica_revisions_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Serves the removal of a replica.
CREATE INDEX replica_revisions_replica_idx ON replica_revisions (replica);
