-- Approvals: what a person was asked to approve, what they said, and what the approval was used for.

-- An access request: one call that was denied and that a person may permit. `state` is `pending`, `approved`, `denied`,
-- `expired` or `cancelled`; an approval that was withdrawn is `cancelled` as well. It is bound to `digest`, `bundle`,
-- `violations` and `environment`, of all of which `bound` is
-- the hash; one that is pending of the same is joined, not made again. `card` is what whoever
-- answers is shown, as canonical JSON, and `card_hash` its hash. `said` is what the caller said beside the question. `wants` says, as a JSON object, how many persons of each
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
    root           UUID,
    sinks          TEXT   COLLATE "C" NOT NULL,
    currency       TEXT   COLLATE "C",
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
    said           TEXT   COLLATE "C" NOT NULL,
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
CREATE INDEX access_request_joins_at_idx ON access_request_joins (tenant, at);

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

-- What callers call what they ask for (`Idempotency-Key`), each of their own: the same name and the same body are the same
-- request. `request` is the hash of the body, `task` what was made of it.
CREATE TABLE access_request_names (
    tenant       UUID   NOT NULL,
    requested_by TEXT   COLLATE "C" NOT NULL,
    name         TEXT   COLLATE "C" NOT NULL,
    request      TEXT   COLLATE "C" NOT NULL,
    task         UUID   NOT NULL,
    at           BIGINT NOT NULL,
    CONSTRAINT access_request_names_pkey PRIMARY KEY (tenant, requested_by, name)
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

-- Does what `remit_consume` does, and uses an approval with it, all or nothing. The chain may be empty. Outcomes beside
-- those of `remit_consume`: `named`, with the decision of that name in `of_task`; `approval`, with how it stands in `detail`.
CREATE FUNCTION remit_take(
    of_tenant UUID, chain UUID[], charged BIGINT[], hold BIGINT, decided UUID, made_at BIGINT, made_verdict TEXT,
    made_reason TEXT, subject TEXT[], acted TEXT, target TEXT[], asked_by UUID, at_revision BIGINT, at_replica UUID,
    at_sequence BIGINT, made_body TEXT, settled_by TEXT[],
    of_approval UUID, used_name TEXT, used_amount BIGINT,
    OUT outcome TEXT, OUT of_task UUID, OUT detail TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    time_now BIGINT := CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT);
    in_turn BOOLEAN;
    found_row RECORD;
    approved RECORD;
BEGIN
    PERFORM set_config('remit.tenant', CAST(of_tenant AS TEXT), true);
    -- Whoever deletes the tenant waits for this, and erases what it writes.
    PERFORM FROM tenants AS t WHERE t.id = of_tenant AND t.deleted_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        outcome := 'ended';
        of_task := chain[1];
        detail := 'unknown';
        RETURN;
    END IF;
    -- The budgets are the queue in which the end of a task stands too (`0029_ends_take_turns`).
    PERFORM FROM task_budgets AS b WHERE b.tenant = of_tenant AND b.task = ANY (chain) ORDER BY b.task FOR UPDATE;
    in_turn := FOUND;
    SELECT r.state, r.approved_until, r.uses_left, r.amount_left, r.forgotten_at INTO approved
        FROM access_requests AS r WHERE r.tenant = of_tenant AND r.id = of_approval FOR UPDATE;
    IF NOT in_turn THEN
        PERFORM FROM tasks AS t WHERE t.tenant = of_tenant AND t.id = ANY (chain) ORDER BY array_position(chain, t.id) DESC FOR SHARE;
    END IF;
    -- Only now: an earlier try of the same may have been waiting for the same locks, and was first.
    IF EXISTS (SELECT FROM decisions AS d WHERE d.tenant = of_tenant AND d.id = decided) THEN
        outcome := 'again';
        RETURN;
    END IF;
    SELECT u.decision INTO of_task FROM approval_uses AS u
        WHERE u.tenant = of_tenant AND u.approval = of_approval AND u.name = used_name;
    IF FOUND THEN
        outcome := 'named';
        RETURN;
    END IF;
    -- By the time that it is when the row is ours, which may be long after the call began.
    time_now := CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT);
    detail := CASE
        WHEN approved.state IS DISTINCT FROM 'approved' THEN 'unknown'
        -- Found to be over before: a clock that is set back revives nothing.
        WHEN approved.approved_until <= time_now OR (approved.forgotten_at IS NOT NULL AND approved.uses_left > 0)
            THEN 'expired'
        WHEN approved.uses_left < 1 THEN 'used'
        WHEN approved.amount_left IS NOT NULL AND (used_amount IS NULL OR used_amount > approved.amount_left) THEN 'used'
    END;
    IF detail IS NOT NULL THEN
        outcome := 'approval';
        RETURN;
    END IF;
    FOR found_row IN
        SELECT c.task, t.state, t.expires_at
        FROM unnest(chain) WITH ORDINALITY AS c (task, place)
        LEFT JOIN tasks AS t ON t.tenant = of_tenant AND t.id = c.task
        ORDER BY c.place
    LOOP
        IF found_row.state IS DISTINCT FROM 'active' OR found_row.expires_at <= time_now THEN
            outcome := 'ended';
            of_task := found_row.task;
            detail := CASE WHEN found_row.state IS NULL THEN 'unknown'
                WHEN found_row.state = 'active' THEN 'expired' ELSE found_row.state END;
            RETURN;
        END IF;
    END LOOP;
    FOR found_row IN
        SELECT b.* FROM task_budgets AS b WHERE b.tenant = of_tenant AND b.task = ANY (chain) ORDER BY b.task
    LOOP
        detail := CASE
            WHEN charged[1] > found_row.calls_allowed - found_row.calls_reserved - found_row.calls_spent THEN 'calls'
            WHEN charged[2] > found_row.cost_allowed - found_row.cost_reserved - found_row.cost_spent THEN 'cost'
            WHEN charged[3] > found_row.amount_allowed - found_row.amount_reserved - found_row.amount_spent THEN 'amount'
            WHEN charged[4] > found_row.bytes_allowed - found_row.bytes_reserved - found_row.bytes_spent THEN 'bytes'
            WHEN found_row.bytes_spent >= found_row.bytes_allowed THEN 'bytes'
            WHEN charged[5] > found_row.irreversible_allowed - found_row.irreversible_reserved
                - found_row.irreversible_spent THEN 'irreversible'
        END;
        IF detail IS NOT NULL THEN
            outcome := 'exhausted';
            of_task := found_row.task;
            RETURN;
        END IF;
    END LOOP;
    UPDATE access_requests AS r SET uses_left = r.uses_left - 1, amount_left = r.amount_left - coalesce(used_amount, 0)
        WHERE r.tenant = of_tenant AND r.id = of_approval;
    INSERT INTO approval_uses (tenant, approval, name, decision, at)
        VALUES (of_tenant, of_approval, used_name, decided, time_now);
    UPDATE task_budgets AS b SET
        calls_reserved = b.calls_reserved + charged[1], cost_reserved = b.cost_reserved + charged[2],
        amount_reserved = b.amount_reserved + charged[3], bytes_reserved = b.bytes_reserved + charged[4],
        irreversible_reserved = b.irreversible_reserved + charged[5]
        WHERE b.tenant = of_tenant AND b.task = ANY (chain);
    INSERT INTO reservations (tenant, decision, task, calls, cost, amount, bytes, irreversible, expires_at, replica, kind)
        SELECT of_tenant, decided, b.task, charged[1], charged[2], charged[3], charged[4], charged[5],
            time_now + hold, at_replica, 'call'
        FROM task_budgets AS b WHERE b.tenant = of_tenant AND b.task = ANY (chain);
    INSERT INTO decisions (tenant, id, at, verdict, reason, subject_type, subject_id, action, resource_type, resource_id,
            caller, revision, replica, sequence, body, task)
        VALUES (of_tenant, decided, made_at, made_verdict, made_reason, subject[1], subject[2], acted, target[1],
            target[2], asked_by, at_revision, at_replica, at_sequence, made_body, chain[1]);
    INSERT INTO decision_policies (tenant, policy, decision)
        SELECT of_tenant, p.policy, decided FROM unnest(settled_by) AS p (policy)
        ON CONFLICT (tenant, policy, decision) DO NOTHING;
    outcome := 'done';
END
$$;

SELECT remit_protect_tenants(NULL);
