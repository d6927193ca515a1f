-- Break-glass: more roles for one person, for minutes, because another person agreed.

CREATE TABLE break_glass (
    tenant        BLOB    NOT NULL,
    id            BLOB    NOT NULL,
    -- Who is to have the roles; they need not be who asks.
    principal     TEXT    NOT NULL,
    roles         TEXT    NOT NULL,
    minutes       INTEGER NOT NULL,
    reason        TEXT    NOT NULL,
    requested_by  TEXT    NOT NULL,
    requester_key BLOB    NOT NULL,
    requested_at  INTEGER NOT NULL,
    -- Until when it can be approved.
    expires_at    INTEGER NOT NULL,
    approved_by   TEXT,
    approver_key  BLOB,
    approved_at   INTEGER,
    -- When it ends by itself; what decides is this and the time, whether or not anybody notes the end.
    ends_at       INTEGER,
    ended_at      INTEGER,
    ended_by      TEXT,
    CONSTRAINT break_glass_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT break_glass_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id),
    CONSTRAINT break_glass_minutes_check CHECK (minutes BETWEEN 1 AND 60),
    CONSTRAINT break_glass_approved_check CHECK ((approved_at IS NULL) = (ends_at IS NULL)
        AND (approved_at IS NULL) = (approved_by IS NULL))
) STRICT;

CREATE INDEX break_glass_standing_idx ON break_glass (tenant, principal) WHERE ended_at IS NULL;
