-- Kills: what must stop, whatever the policies say. One is in force from `revision` until `lifted`; lifting takes one who
-- asks and another who agrees. One of everything is in force in every tenant.

CREATE TABLE kills (
    tenant    UUID   NOT NULL,
    id        UUID   NOT NULL,
    kind      TEXT   COLLATE "C" NOT NULL,
    -- What must stop, as canonical JSON.
    target    TEXT   COLLATE "C" NOT NULL,
    reason    TEXT   COLLATE "C" NOT NULL,
    set_by    TEXT   COLLATE "C" NOT NULL,
    set_key   UUID   NOT NULL,
    at        BIGINT NOT NULL,
    revision  BIGINT NOT NULL,
    asked_by  TEXT   COLLATE "C",
    asked_key UUID,
    asked_at  BIGINT,
    lifted_by TEXT   COLLATE "C",
    lifted_at BIGINT,
    lifted    BIGINT,
    CONSTRAINT kills_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT kills_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id),
    CONSTRAINT kills_asked_check CHECK ((asked_by IS NULL) = (asked_at IS NULL)
        AND (asked_by IS NULL) = (asked_key IS NULL)),
    CONSTRAINT kills_lifted_check CHECK ((lifted IS NULL) = (lifted_by IS NULL)
        AND (lifted IS NULL) = (lifted_at IS NULL) AND (lifted IS NULL OR lifted_by <> asked_by))
);

-- One of a target is in force.
CREATE UNIQUE INDEX kills_target_key ON kills (tenant, target) WHERE lifted IS NULL;
-- Serves every tenant that catches up.
CREATE INDEX kills_everything_idx ON kills (kind) WHERE lifted IS NULL AND kind = 'everything';
