-- Approvers: who answers access requests. `body` of a group is what it says but for its members, as canonical JSON: where
-- and when what it does not answer goes on, and how much its members are asked.

CREATE TABLE approver_groups (
    tenant   UUID   NOT NULL,
    name     TEXT   COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    body     TEXT   COLLATE "C" NOT NULL,
    CONSTRAINT approver_groups_pkey PRIMARY KEY (tenant, name),
    CONSTRAINT approver_groups_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

-- Who belongs to a group, for ever or until a moment.
CREATE TABLE approver_members (
    tenant     UUID   NOT NULL,
    group_name TEXT   COLLATE "C" NOT NULL,
    principal  TEXT   COLLATE "C" NOT NULL,
    until      BIGINT,
    CONSTRAINT approver_members_pkey PRIMARY KEY (tenant, group_name, principal),
    CONSTRAINT approver_members_group_fkey FOREIGN KEY (tenant, group_name)
        REFERENCES approver_groups (tenant, name) ON DELETE CASCADE
);
CREATE INDEX approver_members_principal_idx ON approver_members (tenant, principal);

-- Who answers in the place of whom, until a moment; one at a time for everybody who hands their part on.
CREATE TABLE approver_delegations (
    tenant      UUID   NOT NULL,
    from_person TEXT   COLLATE "C" NOT NULL,
    to_person   TEXT   COLLATE "C" NOT NULL,
    until       BIGINT NOT NULL,
    reason      TEXT   COLLATE "C" NOT NULL,
    made_by     TEXT   COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL,
    revision    BIGINT NOT NULL,
    CONSTRAINT approver_delegations_pkey PRIMARY KEY (tenant, from_person),
    CONSTRAINT approver_delegations_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);
CREATE INDEX approver_delegations_to_idx ON approver_delegations (tenant, to_person);

-- The natural person behind a second account, by the name of their first one; none where that is the account itself.
ALTER TABLE principals ADD COLUMN person TEXT COLLATE "C";

-- Serves what goes on to others by itself.
CREATE INDEX access_requests_escalate_idx ON access_requests (tenant, escalates_at)
    WHERE state = 'pending' AND escalates_at IS NOT NULL AND escalated_at IS NULL;

SELECT remit_protect_tenants(NULL);
