-- Exceptions, and leases that ended.

-- A control that does not count for a while, in one scope. One person proposes it, another confirms exactly that; it is in
-- force from `revision` until `ends_at` by the clock, or until `ended`.
CREATE TABLE exceptions (
    tenant        BLOB    NOT NULL,
    id            BLOB    NOT NULL,
    policy        TEXT    NOT NULL,
    -- All that was proposed, as canonical JSON, and its hash, which whoever confirms it says they have seen.
    body          TEXT    NOT NULL,
    hash          TEXT    NOT NULL,
    -- The first moment at which it is over.
    ends_at       INTEGER NOT NULL,
    proposed_by   TEXT    NOT NULL,
    proposed_key  BLOB    NOT NULL,
    proposed_at   INTEGER NOT NULL,
    -- Until when it can be confirmed.
    lapses_at     INTEGER NOT NULL,
    confirmed_by  TEXT,
    confirmed_key BLOB,
    confirmed_at  INTEGER,
    revision      INTEGER,
    ended_by      TEXT,
    ended_at      INTEGER,
    -- The revision from which it is not in force; none where it never was.
    ended         INTEGER,
    -- When it was found to be over by the clock: one that is set back does not bring it back.
    over_at       INTEGER,
    CONSTRAINT exceptions_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT exceptions_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id),
    CONSTRAINT exceptions_confirmed_check CHECK ((confirmed_by IS NULL) = (revision IS NULL)
        AND (confirmed_by IS NULL) = (confirmed_at IS NULL) AND (confirmed_by IS NULL) = (confirmed_key IS NULL)
        AND (confirmed_by IS NULL OR confirmed_by <> proposed_by)),
    CONSTRAINT exceptions_ended_check CHECK ((ended_by IS NULL) = (ended_at IS NULL)
        AND (ended IS NOT NULL) = (ended_by IS NOT NULL AND revision IS NOT NULL))
) STRICT;

-- Serves every replica that catches up, and the count of what is open.
CREATE INDEX exceptions_open_idx ON exceptions (tenant, ends_at) WHERE ended_at IS NULL;
-- Serves whoever notes what is over.
CREATE INDEX exceptions_over_idx ON exceptions (tenant, ends_at)
    WHERE ended_at IS NULL AND over_at IS NULL AND revision IS NOT NULL;

-- Permits whose lease has ended: one was denied when it was renewed, and is never renewed again.
CREATE TABLE lease_ends (
    tenant   BLOB    NOT NULL,
    decision BLOB    NOT NULL,
    at       INTEGER NOT NULL,
    CONSTRAINT lease_ends_pkey PRIMARY KEY (tenant, decision),
    CONSTRAINT lease_ends_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

CREATE INDEX lease_ends_at_idx ON lease_ends (tenant, at);

-- Which permit a decision renews: the outcome is told of that one.
ALTER TABLE decisions ADD COLUMN renews BLOB;
