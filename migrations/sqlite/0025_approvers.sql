-- Approvers: who answers access requests. `body` of a group is what it says but for its members, as canonical JSON: where
-- and when what it does not answer goes on, and how much its members are asked.

CREATE TABLE approver_groups (
    tenant   BLOB   NOT NULL,
    name     TEXT   NOT NULL,
    revision INTEGER NOT NULL,
    body     TEXT   NOT NULL,
    CONSTRAINT approver_groups_pkey PRIMARY KEY (tenant, name),
    CONSTRAINT approver_groups_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

-- Who belongs to a group, for ever or until a moment.
CREATE TABLE approver_members (
    tenant     BLOB   NOT NULL,
    group_name TEXT   NOT NULL,
    principal  TEXT   NOT NULL,
    until      INTEGER,
    CONSTRAINT approver_members_pkey PRIMARY KEY (tenant, group_name, principal),
    CONSTRAINT approver_members_group_fkey FOREIGN KEY (tenant, group_name)
        REFERENCES approver_groups (tenant, name) ON DELETE CASCADE
) STRICT;
CREATE INDEX approver_members_principal_idx ON approver_members (tenant, principal);

-- Who answers in the place of whom, until a moment; one at a time for everybody who hands their part on.
CREATE TABLE approver_delegations (
    tenant      BLOB   NOT NULL,
    from_person TEXT   NOT NULL,
    to_person   TEXT   NOT NULL,
    until       INTEGER NOT NULL,
    reason      TEXT   NOT NULL,
    made_by     TEXT   NOT NULL,
    at          INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    CONSTRAINT approver_delegations_pkey PRIMARY KEY (tenant, from_person),
    CONSTRAINT approver_delegations_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;
CREATE INDEX approver_delegations_to_idx ON approver_delegations (tenant, to_person);

-- The natural person behind a second account, by the name of their first one; none where that is the account itself.
ALTER TABLE principals ADD COLUMN person TEXT;

-- Serves what goes on to others by itself.
CREATE INDEX access_requests_escalate_idx ON access_requests (tenant, escalates_at)
    WHERE state = 'pending' AND escalates_at IS NOT NULL AND escalated_at IS NULL;
