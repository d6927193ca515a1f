-- Approvals: what a person was asked to approve, what they said, and what the approval was used for.

-- An access request: one call that was denied and that a person may permit. `state` is `pending`, `approved`, `denied`,
-- `expired` or `cancelled`; an approval that was withdrawn is `cancelled` as well. It is bound to `digest`, `bundle`,
-- `violations` and `environment`, of all of which `bound` is
-- the hash; one that is pending of the same is joined, not made again. `card` is what whoever
-- answers is shown, as canonical JSON, and `card_hash` its hash. `wants` says, as a JSON object, how many persons of each
-- group have to approve. `revision` is that of the last change that decides: only `approved` ones do. An approval is used
-- up when `uses_left` is 0, or it is withdrawn, or `approved_until` has passed by the database's clock.
CREATE TABLE access_requests (
    tenant         UUID   NOT NULL,
    id             UUID   NOT NULL,
    revision       BIGINT NOT NULL,
    state          TEXT   COLLATE "C" NOT NULL,
    decision       UUID   NOT NULL,
    digest         TEXT   COLLATE "C" NOT NULL,
    bundle         TEXT   COLLATE "C" NOT NULL,
    violations     TEXT   COLLATE "C" NOT NULL,
    environment    TEXT   COLLATE "C" NOT NULL,
    bound          TEXT   COLLATE "C" NOT NULL,
    subject_type   TEXT   COLLATE "C" NOT NULL,
    subject_id     TEXT   COLLATE "C" NOT NULL,
    action         TEXT   COLLATE "C" NOT NULL,
    resource_type  TEXT   COLLATE "C" NOT NULL,
    resource_id    TEXT   COLLATE "C" NOT NULL,
    task           UUID,
    sinks          TEXT   COLLATE "C" NOT NULL,
    wants          TEXT   COLLATE "C" NOT NULL,
    requested_by   TEXT   COLLATE "C" NOT NULL,
    requested_key  UUID   NOT NULL,
    requested_at   BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    escalates_at   BIGINT,
    escalated_at   BIGINT,
    card           TEXT   COLLATE "C" NOT NULL,
    card_hash      TEXT   COLLATE "C" NOT NULL,
    question       TEXT   COLLATE "C" NOT NULL,
    callback       TEXT   COLLATE "C",
    ended_at       BIGINT,
    ended_by       TEXT   COLLATE "C",
    ended_why      TEXT   COLLATE "C",
    scope          TEXT   COLLATE "C",
    approvers      TEXT   COLLATE "C",
    approved_until BIGINT,
    uses_left      BIGINT,
    amount_left    BIGINT,
    forgotten_at   BIGINT,
    CONSTRAINT access_requests_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT access_requests_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id),
    CONSTRAINT access_requests_ended_check CHECK ((state = 'pending') = (ended_at IS NULL)),
    CONSTRAINT access_requests_approved_check CHECK (state <> 'approved'
        OR (scope IS NOT NULL AND approvers IS NOT NULL AND approved_until IS NOT NULL AND uses_left >= 0))
);

CREATE UNIQUE INDEX access_requests_open_key ON access_requests (tenant, bound) WHERE state = 'pending';
CREATE INDEX access_requests_state_idx ON access_requests (tenant, state, id);
CREATE INDEX access_requests_open_idx ON access_requests (tenant, expires_at, id) WHERE state = 'pending';
CREATE INDEX access_requests_subject_idx ON access_requests (tenant, subject_type, subject_id, state, id);
CREATE INDEX access_requests_action_idx ON access_requests (tenant, action, state, id);
CREATE INDEX access_requests_task_idx ON access_requests (tenant, task, state, id) WHERE task IS NOT NULL;
CREATE INDEX access_requests_revision_idx ON access_requests (tenant, revision, id)
    WHERE ended_at IS NOT NULL AND scope IS NOT NULL AND forgotten_at IS NULL;

-- Which groups a request waits for.
CREATE TABLE access_request_groups (
    tenant  UUID NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    state   TEXT COLLATE "C" NOT NULL,
    request UUID NOT NULL,
    CONSTRAINT access_request_groups_pkey PRIMARY KEY (tenant, name, state, request)
);
CREATE INDEX access_request_groups_request_idx ON access_request_groups (tenant, request);

-- Who else asked for the same while it was pending.
CREATE TABLE access_request_joins (
    tenant   UUID   NOT NULL,
    request  UUID   NOT NULL,
    decision UUID   NOT NULL,
    joined_by TEXT  COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    callback TEXT   COLLATE "C",
    CONSTRAINT access_request_joins_pkey PRIMARY KEY (tenant, request, decision)
);

-- Several requests that were made as one. `items` are their ids in order, as a JSON array.
CREATE TABLE bulk_requests (
    tenant        UUID   NOT NULL,
    id            UUID   NOT NULL,
    items         TEXT   COLLATE "C" NOT NULL,
    requested_by  TEXT   COLLATE "C" NOT NULL,
    requested_key UUID   NOT NULL,
    at            BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    callback      TEXT   COLLATE "C",
    CONSTRAINT bulk_requests_pkey PRIMARY KEY (tenant, id)
);

-- What persons said: `answer` is `approve` or `deny`, once each and in the name of nobody else but whoever handed their
-- part to them (`for_person`). `card_hash` is what they were shown.
CREATE TABLE approval_answers (
    tenant     UUID   NOT NULL,
    request    UUID   NOT NULL,
    principal  TEXT   COLLATE "C" NOT NULL,
    by_key     UUID   NOT NULL,
    answer     TEXT   COLLATE "C" NOT NULL,
    for_groups TEXT   COLLATE "C" NOT NULL,
    for_person TEXT   COLLATE "C",
    scope      TEXT   COLLATE "C",
    card_hash  TEXT   COLLATE "C" NOT NULL,
    reason     TEXT   COLLATE "C" NOT NULL,
    at         BIGINT NOT NULL,
    CONSTRAINT approval_answers_pkey PRIMARY KEY (tenant, request, principal)
);
CREATE INDEX approval_answers_principal_idx ON approval_answers (tenant, principal, at);

-- The decisions that used an approval. `name` is what the caller calls the question (`Idempotency-Key`), or the id of the
-- decision: the same name gets the same decision.
CREATE TABLE approval_uses (
    tenant   UUID   NOT NULL,
    approval UUID   NOT NULL,
    name     TEXT   COLLATE "C" NOT NULL,
    decision UUID   NOT NULL,
    at       BIGINT NOT NULL,
    CONSTRAINT approval_uses_pkey PRIMARY KEY (tenant, approval, name)
);
CREATE INDEX approval_uses_decision_idx ON approval_uses (tenant, decision);

SELECT remit_protect_tenants(NULL);
