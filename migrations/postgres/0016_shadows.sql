-- Shadows: a bundle that decides beside the one in force and answers nobody, and where the two disagree. A tenant has one
-- at most; what was found with it goes when it goes.

CREATE TABLE shadows (
    tenant   UUID   NOT NULL,
    revision BIGINT NOT NULL,
    hash     TEXT   COLLATE "C" NOT NULL,
    body     TEXT   COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    author   UUID,
    CONSTRAINT shadows_pkey PRIMARY KEY (tenant, revision),
    CONSTRAINT shadows_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

-- What one process has counted so far; those of all processes are added up. `totals` is a JSON object of how many differ
-- in which way, `failure` why this process cannot decide by it.
CREATE TABLE shadow_counts (
    tenant    UUID   NOT NULL,
    shadow    BIGINT NOT NULL,
    replica   UUID   NOT NULL,
    decided   BIGINT NOT NULL,
    same      BIGINT NOT NULL,
    differing BIGINT NOT NULL,
    dropped   BIGINT NOT NULL,
    failed    BIGINT NOT NULL,
    failure   TEXT   COLLATE "C",
    totals    TEXT   COLLATE "C" NOT NULL,
    CONSTRAINT shadow_counts_pkey PRIMARY KEY (tenant, shadow, replica),
    CONSTRAINT shadow_counts_shadow_fkey FOREIGN KEY (tenant, shadow) REFERENCES shadows (tenant, revision) ON DELETE CASCADE
);

-- How many decisions of one process differ in one way. `kind` is the hash of the four texts after it.
CREATE TABLE shadow_groups (
    tenant   UUID   NOT NULL,
    shadow   BIGINT NOT NULL,
    kind     TEXT   COLLATE "C" NOT NULL,
    replica  UUID   NOT NULL,
    outcome  TEXT   COLLATE "C" NOT NULL,
    action   TEXT   COLLATE "C" NOT NULL,
    was      TEXT   COLLATE "C" NOT NULL,
    would_be TEXT   COLLATE "C" NOT NULL,
    number   BIGINT NOT NULL,
    CONSTRAINT shadow_groups_pkey PRIMARY KEY (tenant, shadow, kind, replica),
    CONSTRAINT shadow_groups_shadow_fkey FOREIGN KEY (tenant, shadow) REFERENCES shadows (tenant, revision) ON DELETE CASCADE
);

-- Single decisions that differ, the first ten thousand or so.
CREATE TABLE shadow_disagreements (
    tenant   UUID   NOT NULL,
    shadow   BIGINT NOT NULL,
    decision UUID   NOT NULL,
    kind     TEXT   COLLATE "C" NOT NULL,
    outcome  TEXT   COLLATE "C" NOT NULL,
    action   TEXT   COLLATE "C" NOT NULL,
    was      TEXT   COLLATE "C" NOT NULL,
    would_be TEXT   COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    CONSTRAINT shadow_disagreements_pkey PRIMARY KEY (tenant, shadow, decision),
    CONSTRAINT shadow_disagreements_shadow_fkey FOREIGN KEY (tenant, shadow) REFERENCES shadows (tenant, revision) ON DELETE CASCADE
);
