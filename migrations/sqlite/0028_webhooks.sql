-- Webhooks: who outside is told of events, and what is still to be told them.

-- Where a tenant wants to be told. `kinds` is a JSON array of kinds of events and of beginnings of them that end in `.`.
-- `secret` is what is signed with, sealed with a key of the installation; `old_secret` signs as well until `old_until`.
-- Everything up to the event `seen_revision`, `seen_place` stands in `webhook_deliveries`.
CREATE TABLE webhooks (
    tenant        BLOB    NOT NULL,
    id            BLOB    NOT NULL,
    revision      INTEGER NOT NULL,
    url           TEXT    NOT NULL,
    kinds         TEXT    NOT NULL,
    callbacks     INTEGER NOT NULL,
    secret        TEXT    NOT NULL,
    old_secret    TEXT,
    old_until     INTEGER,
    created_by    TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    disabled_at   INTEGER,
    disabled_why  TEXT,
    seen_revision INTEGER NOT NULL,
    seen_place    INTEGER NOT NULL,
    CONSTRAINT webhooks_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT webhooks_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

-- What is to be told, as it is sent each time. `about` names what it tells: one webhook is told the same once only. `url` is
-- where a callback goes; where it is NULL it goes where the webhook does. `attempts` counts how often it was begun to be sent, and
-- nobody else begins before `next_at`. `state` is `pending`, `delivered` or `dead`.
CREATE TABLE webhook_deliveries (
    tenant       BLOB    NOT NULL,
    id           BLOB    NOT NULL,
    webhook      BLOB    NOT NULL,
    about        TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    url          TEXT,
    body         TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    attempts     INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    next_at      INTEGER NOT NULL,
    last_at      INTEGER,
    last_status  INTEGER,
    last_problem TEXT,
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT webhook_deliveries_about_key UNIQUE (tenant, webhook, about),
    CONSTRAINT webhook_deliveries_webhook_fkey FOREIGN KEY (tenant, webhook) REFERENCES webhooks (tenant, id)
) STRICT;

CREATE INDEX webhook_deliveries_due_idx ON webhook_deliveries (next_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_pending_idx ON webhook_deliveries (tenant, webhook, id) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_of_idx ON webhook_deliveries (tenant, webhook, id);
CREATE INDEX webhook_deliveries_at_idx ON webhook_deliveries (at) WHERE state <> 'pending';
CREATE INDEX bulk_requests_callback_idx ON bulk_requests (tenant, expires_at) WHERE callback IS NOT NULL;
