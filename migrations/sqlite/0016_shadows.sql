-- Shadows: a bundle that decides beside the one in force and answers nobody, and where the two disagree. A tenant has one
-- at most; what was found with it goes when it goes.

CREATE TABLE shadows (
    tenant   BLOB    NOT NULL,
    revision INTEGER NOT NULL,
    hash     TEXT    NOT NULL,
    body     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    author   BLOB,
    CONSTRAINT shadows_pkey PRIMARY KEY (tenant, revision),
    CONSTRAINT shadows_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

-- What one process has counted so far; those of all processes are added up. `totals` is a JSON object of how many differ
-- in which way, `failure` why this process cannot decide by it.
CREATE TABLE shadow_counts (
    tenant    BLOB    NOT NULL,
    shadow    INTEGER NOT NULL,
    replica   BLOB    NOT NULL,
    decided   INTEGER NOT NULL,
    same      INTEGER NOT NULL,
    differing INTEGER NOT NULL,
    dropped   INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    failure   TEXT,
    totals    TEXT    NOT NULL,
    CONSTRAINT shadow_counts_pkey PRIMARY KEY (tenant, shadow, replica),
    CONSTRAINT shadow_counts_shadow_fkey FOREIGN KEY (tenant, shadow) REFERENCES shadows (tenant, revision) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- How many decisions of one process differ in one way. `kind` is the hash of the four texts after it.
CREATE TABLE shadow_groups (
    tenant   BLOB    NOT NULL,
    shadow   INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    replica  BLOB    NOT NULL,
    outcome  TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    was      TEXT    NOT NULL,
    would_be TEXT    NOT NULL,
    number   INTEGER NOT NULL,
    CONSTRAINT shadow_groups_pkey PRIMARY KEY (tenant, shadow, kind, replica),
    CONSTRAINT shadow_groups_shadow_fkey FOREIGN KEY (tenant, shadow) REFERENCES shadows (tenant, revision) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Single decisions that differ, the first ten thousand or so.
CREATE TABLE shadow_disagreements (
    tenant   BLOB    NOT NULL,
    shadow   INTEGER NOT NULL,
    decision BLOB    NOT NULL,
    kind     TEXT    NOT NULL,
    outcome  TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    was      TEXT    NOT NULL,
    would_be TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    CONSTRAINT shadow_disagreements_pkey PRIMARY KEY (tenant, shadow, decision),
    CONSTRAINT shadow_disagreements_shadow_fkey FOREIGN KEY (tenant, shadow) REFERENCES shadows (tenant, revision) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
