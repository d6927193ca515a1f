-- Webhooks: who outside is told of events, and what is still to be told them.

-- Where a tenant wants to be told. `kinds` is a JSON array of kinds of events and of beginnings of them that end in `.`.
-- `secret` is what is signed with, sealed with a key of the installation; `old_secret` signs as well until `old_until`.
-- Everything up to the event `seen_revision`, `seen_place` stands in `webhook_deliveries`.
CREATE TABLE webhooks (
    tenant        UUID   NOT NULL,
    id            UUID   NOT NULL,
    revision      BIGINT NOT NULL,
    url           TEXT   COLLATE "C" NOT NULL,
    kinds         TEXT   COLLATE "C" NOT NULL,
    callbacks     BIGINT NOT NULL,
    secret        TEXT   COLLATE "C" NOT NULL,
    old_secret    TEXT   COLLATE "C",
    old_until     BIGINT,
    created_by    TEXT   COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    disabled_at   BIGINT,
    disabled_why  TEXT   COLLATE "C",
    seen_revision BIGINT NOT NULL,
    seen_place    BIGINT NOT NULL,
    CONSTRAINT webhooks_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT webhooks_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

-- What is to be told, as it is sent each time. `about` names what it tells: one webhook is told the same once only. `url` is
-- where a callback goes; where it is NULL it goes where the webhook does. `attempts` counts how often it was begun to be sent, and
-- nobody else begins before `next_at`. `state` is `pending`, `delivered` or `dead`.
CREATE TABLE webhook_deliveries (
    tenant       UUID   NOT NULL,
    id           UUID   NOT NULL,
    webhook      UUID   NOT NULL,
    about        TEXT   COLLATE "C" NOT NULL,
    kind         TEXT   COLLATE "C" NOT NULL,
    subject      TEXT   COLLATE "C" NOT NULL,
    url          TEXT   COLLATE "C",
    body         TEXT   COLLATE "C" NOT NULL,
    state        TEXT   COLLATE "C" NOT NULL,
    attempts     BIGINT NOT NULL,
    at           BIGINT NOT NULL,
    next_at      BIGINT NOT NULL,
    last_at      BIGINT,
    last_status  BIGINT,
    last_problem TEXT   COLLATE "C",
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT webhook_deliveries_about_key UNIQUE (tenant, webhook, about),
    CONSTRAINT webhook_deliveries_webhook_fkey FOREIGN KEY (tenant, webhook) REFERENCES webhooks (tenant, id)
);

CREATE INDEX webhook_deliveries_due_idx ON webhook_deliveries (next_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_pending_idx ON webhook_deliveries (tenant, webhook, id) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_of_idx ON webhook_deliveries (tenant, webhook, id);
CREATE INDEX webhook_deliveries_at_idx ON webhook_deliveries (at) WHERE state <> 'pending';
CREATE INDEX bulk_requests_callback_idx ON bulk_requests (tenant, expires_at) WHERE callback IS NOT NULL;

SELECT remit_protect_tenants(NULL);
