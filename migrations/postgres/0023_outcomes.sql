-- Outcomes: what an enforcement point says happened after a permit, once; also the record of the data that it moved.
-- `body` is the outcome as canonical JSON, `request` the hash of what was sent, so that the same may be sent again.
-- Texts that are filtered by are cut to 1,024 bytes.

CREATE TABLE outcomes (
    tenant      UUID   NOT NULL,
    decision    UUID   NOT NULL,
    task        UUID,
    at          BIGINT NOT NULL,
    result      TEXT   COLLATE "C" NOT NULL,
    bytes       BIGINT,
    source      TEXT   COLLATE "C",
    destination TEXT   COLLATE "C",
    request     TEXT   COLLATE "C" NOT NULL,
    revision    BIGINT NOT NULL,
    body        TEXT   COLLATE "C" NOT NULL,
    CONSTRAINT outcomes_pkey PRIMARY KEY (tenant, decision),
    CONSTRAINT outcomes_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

CREATE INDEX outcomes_task_idx ON outcomes (tenant, task, decision) WHERE task IS NOT NULL;
CREATE INDEX outcomes_destination_idx ON outcomes (tenant, destination, decision) WHERE destination IS NOT NULL;

-- The task in which a decision was made. The record of a decision that consumed something (a budget, a new label) is
-- written in the transaction that does, and was in no spool: its `sequence` counts down from -1 in each process.
ALTER TABLE decisions ADD COLUMN task UUID;

CREATE INDEX decisions_task_idx ON decisions (tenant, task, id) WHERE task IS NOT NULL;
-- Permits whose outcome is awaited.
CREATE INDEX decisions_awaited_idx ON decisions (tenant, id) WHERE task IS NOT NULL AND verdict = 'permit';

-- Consumes a budget and records the decision that does, in one round trip. The chain is that of the question's task, nearest
-- first; `charged` and what it is compared with are calls, cost, amount, bytes and irreversible calls.
--
-- Whatever ends a task ends everything below it and updates its rows, so the lock of the nearest one is enough: it ends
-- before this, which then finds it ended, or after. A decision that is there already was consumed: asked again because
-- the answer was lost, this changes nothing.
CREATE FUNCTION remit_consume(
    of_tenant UUID, chain UUID[], charged BIGINT[], hold BIGINT, decided UUID, made_at BIGINT, made_verdict TEXT,
    made_reason TEXT, subject TEXT[], acted TEXT, target TEXT[], asked_by UUID, at_revision BIGINT, at_replica UUID,
    at_sequence BIGINT, made_body TEXT, settled_by TEXT[],
    OUT outcome TEXT, OUT of_task UUID, OUT detail TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    time_now BIGINT := CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT);
    number_live BIGINT := 0;
    found_row RECORD;
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
    PERFORM FROM tasks AS t WHERE t.tenant = of_tenant AND t.id = chain[1] FOR SHARE;
    PERFORM FROM task_budgets AS b WHERE b.tenant = of_tenant AND b.task = ANY (chain) ORDER BY b.task FOR UPDATE;
    -- Only now: an earlier try of the same may have been waiting for the same locks, and was first.
    IF EXISTS (SELECT FROM decisions AS d WHERE d.tenant = of_tenant AND d.id = decided) THEN
        outcome := 'again';
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
