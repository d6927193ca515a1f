-- Kills: what must stop, whatever the policies say. One is in force from `revision` until `lifted`; lifting takes one who
-- asks and another who agrees. One of everything is in force in every tenant.

CREATE TABLE kills (
    tenant    BLOB    NOT NULL,
    id        BLOB    NOT NULL,
    kind      TEXT    NOT NULL,
    -- What must stop, as canonical JSON.
    target    TEXT    NOT NULL,
    reason    TEXT    NOT NULL,
    set_by    TEXT    NOT NULL,
    set_key   BLOB    NOT NULL,
    at        INTEGER NOT NULL,
    revision  INTEGER NOT NULL,
    asked_by  TEXT,
    asked_key BLOB,
    asked_at  INTEGER,
    lifted_by TEXT,
    lifted_at INTEGER,
    lifted    INTEGER,
    CONSTRAINT kills_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT kills_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id),
    CONSTRAINT kills_asked_check CHECK ((asked_by IS NULL) = (asked_at IS NULL)
        AND (asked_by IS NULL) = (asked_key IS NULL)),
    CONSTRAINT kills_lifted_check CHECK ((lifted IS NULL) = (lifted_by IS NULL)
        AND (lifted IS NULL) = (lifted_at IS NULL) AND (lifted IS NULL OR lifted_by <> asked_by))
) STRICT;

-- One of a target is in force.
CREATE UNIQUE INDEX kills_target_key ON kills (tenant, target) WHERE lifted IS NULL;
-- Serves every tenant that catches up.
CREATE INDEX kills_everything_idx ON kills (kind) WHERE lifted IS NULL AND kind = 'everything';
