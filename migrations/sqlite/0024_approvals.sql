-- Approvals: what a person was asked to approve, what they said, and what the approval was used for.

-- An access request: one call that was denied and that a person may permit. `state` is `pending`, `approved`, `denied`,
-- `expired` or `cancelled`; an approval that was withdrawn is `cancelled` as well. It is bound to `digest`, `bundle`,
-- `violations` and `environment`, of all of which `bound` is
-- the hash; one that is pending of the same is joined, not made again. `card` is what whoever
-- answers is shown, as canonical JSON, and `card_hash` its hash. `said` is what the caller said beside the question. `wants` says, as a JSON object, how many persons of each
-- group have to approve. `revision` is that of the last change that decides: only `approved` ones do. An approval is used
-- up when `uses_left` is 0, or it is withdrawn, or `approved_until` has passed by the database's clock.
CREATE TABLE access_requests (
    tenant         BLOB    NOT NULL,
    id             BLOB    NOT NULL,
    revision       INTEGER NOT NULL,
    state          TEXT    NOT NULL,
    decision       BLOB    NOT NULL,
    digest         TEXT    NOT NULL,
    bundle         TEXT    NOT NULL,
    violations     TEXT    NOT NULL,
    environment    TEXT    NOT NULL,
    bound          TEXT    NOT NULL,
    subject_type   TEXT    NOT NULL,
    subject_id     TEXT    NOT NULL,
    action         TEXT    NOT NULL,
    resource_type  TEXT    NOT NULL,
    resource_id    TEXT    NOT NULL,
    task           BLOB,
    root           BLOB,
    sinks          TEXT    NOT NULL,
    currency       TEXT,
    wants          TEXT    NOT NULL,
    requested_by   TEXT    NOT NULL,
    requested_key  BLOB    NOT NULL,
    requested_at   INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    escalates_at   INTEGER,
    escalated_at   INTEGER,
    card           TEXT    NOT NULL,
    card_hash      TEXT    NOT NULL,
    question       TEXT    NOT NULL,
    said           TEXT    NOT NULL,
    callback       TEXT,
    ended_at       INTEGER,
    ended_by       TEXT,
    ended_why      TEXT,
    scope          TEXT,
    approvers      TEXT,
    approved_until INTEGER,
    uses_left      INTEGER,
    amount_left    INTEGER,
    forgotten_at   INTEGER,
    CONSTRAINT access_requests_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT access_requests_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id),
    CONSTRAINT access_requests_ended_check CHECK ((state = 'pending') = (ended_at IS NULL)),
    CONSTRAINT access_requests_approved_check CHECK (state <> 'approved'
        OR (scope IS NOT NULL AND approvers IS NOT NULL AND approved_until IS NOT NULL AND uses_left >= 0))
) STRICT;

CREATE UNIQUE INDEX access_requests_open_key ON access_requests (tenant, bound) WHERE state = 'pending';
-- The last three serve the counts without the rows, which are wide.
CREATE INDEX access_requests_state_idx ON access_requests (tenant, state, id, subject_type, subject_id, action);
CREATE INDEX access_requests_open_idx ON access_requests (tenant, expires_at, id) WHERE state = 'pending';
CREATE INDEX access_requests_subject_idx ON access_requests (tenant, subject_type, subject_id, state, id);
CREATE INDEX access_requests_action_idx ON access_requests (tenant, action, state, id);
CREATE INDEX access_requests_task_idx ON access_requests (tenant, task, state, id) WHERE task IS NOT NULL;
-- The first task above: what was refused below it counts together.
CREATE INDEX access_requests_root_idx ON access_requests (tenant, root) WHERE state = 'denied';
CREATE INDEX access_requests_revision_idx ON access_requests (tenant, revision, id) WHERE scope IS NOT NULL;
CREATE INDEX access_requests_usable_idx ON access_requests (tenant, approved_until, id)
    WHERE state = 'approved' AND forgotten_at IS NULL;
CREATE INDEX access_requests_spent_idx ON access_requests (tenant, id)
    WHERE state = 'approved' AND forgotten_at IS NULL AND uses_left = 0;

-- Which groups a request waits for.
CREATE TABLE access_request_groups (
    tenant         BLOB    NOT NULL,
    name           TEXT    NOT NULL,
    state          TEXT    NOT NULL,
    request        BLOB    NOT NULL,
    CONSTRAINT access_request_groups_pkey PRIMARY KEY (tenant, name, state, request)
) STRICT;
CREATE INDEX access_request_groups_request_idx ON access_request_groups (tenant, request);

-- Who else asked for the same while it was pending.
CREATE TABLE access_request_joins (
    tenant         BLOB    NOT NULL,
    request        BLOB    NOT NULL,
    decision       BLOB    NOT NULL,
    joined_by      TEXT    NOT NULL,
    at             INTEGER NOT NULL,
    callback       TEXT,
    CONSTRAINT access_request_joins_pkey PRIMARY KEY (tenant, request, decision)
) STRICT;
CREATE INDEX access_request_joins_at_idx ON access_request_joins (tenant, at);

-- Several requests that were made as one. `items` are their ids in order, as a JSON array.
CREATE TABLE bulk_requests (
    tenant         BLOB    NOT NULL,
    id             BLOB    NOT NULL,
    items          TEXT    NOT NULL,
    requested_by   TEXT    NOT NULL,
    requested_key  BLOB    NOT NULL,
    at             INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    callback       TEXT,
    CONSTRAINT bulk_requests_pkey PRIMARY KEY (tenant, id)
) STRICT;

-- What callers call what they ask for (`Idempotency-Key`), each of their own: the same name and the same body are the same
-- request. `request` is the hash of the body, `task` what was made of it.
CREATE TABLE access_request_names (
    tenant       BLOB    NOT NULL,
    requested_by TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    request      TEXT    NOT NULL,
    task         BLOB    NOT NULL,
    at           INTEGER NOT NULL,
    CONSTRAINT access_request_names_pkey PRIMARY KEY (tenant, requested_by, name)
) STRICT;

-- What persons said: `answer` is `approve` or `deny`, once each and in the name of nobody else but whoever handed their
-- part to them (`for_person`). `card_hash` is what they were shown.
CREATE TABLE approval_answers (
    tenant         BLOB    NOT NULL,
    request        BLOB    NOT NULL,
    principal      TEXT    NOT NULL,
    by_key         BLOB    NOT NULL,
    answer         TEXT    NOT NULL,
    for_groups TEXT    NOT NULL,
    for_person     TEXT,
    scope          TEXT,
    card_hash      TEXT    NOT NULL,
    reason         TEXT    NOT NULL,
    at             INTEGER NOT NULL,
    CONSTRAINT approval_answers_pkey PRIMARY KEY (tenant, request, principal)
) STRICT;
CREATE INDEX approval_answers_principal_idx ON approval_answers (tenant, principal, at);

-- The decisions that used an approval. `name` is what the caller calls the question (`Idempotency-Key`), or the id of the
-- decision: the same name gets the same decision.
CREATE TABLE approval_uses (
    tenant         BLOB    NOT NULL,
    approval       BLOB    NOT NULL,
    name           TEXT    NOT NULL,
    decision       BLOB    NOT NULL,
    at             INTEGER NOT NULL,
    CONSTRAINT approval_uses_pkey PRIMARY KEY (tenant, approval, name)
) STRICT;
CREATE INDEX approval_uses_decision_idx ON approval_uses (tenant, decision);
