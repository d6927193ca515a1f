-- Replicas: the processes that decide, each with when it was last seen and how far it has come with every tenant.
-- `seen_at` is by the database's clock. `lease` is how long after it a replica may still permit, in microseconds; it
-- says so itself. `beats` counts how often it has been seen: 1 tells it that the database knew nothing of it.

CREATE TABLE replicas (
    id         UUID   NOT NULL,
    name       TEXT   COLLATE "C" NOT NULL,
    version    TEXT   COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    lease      BIGINT NOT NULL,
    beats      BIGINT NOT NULL,
    CONSTRAINT replicas_pkey PRIMARY KEY (id)
);

-- The revision in force there, and why the last load failed if it did.
CREATE TABLE replica_revisions (
    replica  UUID   NOT NULL,
    tenant   UUID   NOT NULL,
    revision BIGINT NOT NULL,
    failure  TEXT   COLLATE "C",
    CONSTRAINT replica_revisions_pkey PRIMARY KEY (tenant, replica),
    CONSTRAINT replica_revisions_replica_fkey FOREIGN KEY (replica) REFERENCES replicas (id) ON DELETE CASCADE,
    CONSTRAINT replica_revisions_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id) ON DELETE CASCADE
);

-- Serves the removal of a replica.
CREATE INDEX replica_revisions_replica_idx ON replica_revisions (replica);
