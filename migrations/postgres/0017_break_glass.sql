-- Break-glass: more roles for one person, for minutes, because another person agreed.

CREATE TABLE break_glass (
    tenant        UUID   NOT NULL,
    id            UUID   NOT NULL,
    -- Who is to have the roles; they need not be who asks.
    principal     TEXT   COLLATE "C" NOT NULL,
    roles         TEXT   COLLATE "C" NOT NULL,
    minutes       BIGINT NOT NULL,
    reason        TEXT   COLLATE "C" NOT NULL,
    requested_by  TEXT   COLLATE "C" NOT NULL,
    requester_key UUID   NOT NULL,
    requested_at  BIGINT NOT NULL,
    -- Until when it can be approved.
    expires_at    BIGINT NOT NULL,
    approved_by   TEXT   COLLATE "C",
    approver_key  UUID,
    approved_at   BIGINT,
    -- When it ends by itself; what decides is this and the time, whether or not anybody notes the end.
    ends_at       BIGINT,
    ended_at      BIGINT,
    ended_by      TEXT   COLLATE "C",
    CONSTRAINT break_glass_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT break_glass_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id),
    CONSTRAINT break_glass_minutes_check CHECK (minutes BETWEEN 1 AND 60),
    CONSTRAINT break_glass_approved_check CHECK ((approved_at IS NULL) = (ends_at IS NULL)
        AND (approved_at IS NULL) = (approved_by IS NULL))
);

CREATE INDEX break_glass_standing_idx ON break_glass (tenant, principal) WHERE ended_at IS NULL;
