-- Who changed what, or was not allowed to: written in the transaction of the change, and never changed.

CREATE TABLE admin_actions (
    tenant        UUID   NOT NULL,
    id            UUID   NOT NULL,
    at            BIGINT NOT NULL,
    principal     TEXT   COLLATE "C" NOT NULL,
    key           UUID,
    action        TEXT   COLLATE "C" NOT NULL,
    resource_type TEXT   COLLATE "C" NOT NULL,
    resource_id   TEXT   COLLATE "C" NOT NULL,
    verdict       TEXT   COLLATE "C" NOT NULL,
    reason        TEXT   COLLATE "C" NOT NULL,
    revision      BIGINT,
    request_id    TEXT   COLLATE "C",
    body          TEXT   COLLATE "C" NOT NULL,
    CONSTRAINT admin_actions_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT admin_actions_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

CREATE INDEX admin_actions_principal_idx ON admin_actions (tenant, principal, id);
CREATE INDEX admin_actions_action_idx ON admin_actions (tenant, action, id);
CREATE INDEX admin_actions_verdict_idx ON admin_actions (tenant, verdict, id);
