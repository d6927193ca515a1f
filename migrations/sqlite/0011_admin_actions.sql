-- Who changed what, or was not allowed to: written in the transaction of the change, and never changed.

CREATE TABLE admin_actions (
    tenant        BLOB    NOT NULL,
    id            BLOB    NOT NULL,
    at            INTEGER NOT NULL,
    principal     TEXT    NOT NULL,
    key           BLOB,
    action        TEXT    NOT NULL,
    resource_type TEXT    NOT NULL,
    resource_id   TEXT    NOT NULL,
    verdict       TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    revision      INTEGER,
    request_id    TEXT,
    body          TEXT    NOT NULL,
    CONSTRAINT admin_actions_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT admin_actions_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

CREATE INDEX admin_actions_principal_idx ON admin_actions (tenant, principal, id);
CREATE INDEX admin_actions_action_idx ON admin_actions (tenant, action, id);
CREATE INDEX admin_actions_verdict_idx ON admin_actions (tenant, verdict, id);
