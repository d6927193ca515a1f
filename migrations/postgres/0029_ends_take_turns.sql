-- What ends, suspends or resumes a task takes its turn among the decisions that consume budgets.
--
-- A consumption locked the row of its task for sharing until now. Those who share a lock let each other pass those who want
-- it alone, so a task with much traffic was ended whenever there happened to be a gap. Now both stand in one queue, which
-- is served in its order: that for the budgets. Whoever consumes locks all of its chain; whatever changes the state of a
-- task locks its budget after that, and those below; of a task without one, the nearest above it too, which every chain with
-- that task has. No other, so that it never waits for one above what it holds. So what is consumed is committed before the
-- end of its task is, or finds it. Only a chain without budgets, in which approvals alone are used, still shares, and shares
-- all of its tasks.
CREATE FUNCTION remit_take_turn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Planned anew each time: a session would keep the plan for the one row of the first time, which takes seconds for ten
    -- thousand.
    EXECUTE $q$
    SELECT FROM task_budgets AS b
        WHERE (b.tenant, b.task) IN (
            WITH RECURSIVE turned (tenant, id, parent) AS (
                SELECT c.tenant, c.id, c.parent FROM (
                    SELECT n.tenant, n.id, n.parent, n.state FROM rows_after AS n
                    EXCEPT SELECT o.tenant, o.id, o.parent, o.state FROM rows_before AS o
                ) AS c
            ), bare (tenant, id, parent) AS (
                SELECT t.tenant, t.id, t.parent FROM turned AS t
                WHERE NOT EXISTS (SELECT FROM task_budgets AS own WHERE own.tenant = t.tenant AND own.task = t.id)
            ), above (tenant, id, parent) AS (
                SELECT s.tenant, s.id, s.parent FROM bare AS s
                UNION SELECT t.tenant, t.id, t.parent
                FROM tasks AS t JOIN above AS a ON t.tenant = a.tenant AND t.id = a.parent
                WHERE NOT EXISTS (SELECT FROM task_budgets AS has WHERE has.tenant = a.tenant AND has.task = a.id)
            ), below (tenant, id) AS (
                SELECT s.tenant, s.id FROM turned AS s
                UNION SELECT t.tenant, t.id
                FROM tasks AS t JOIN below AS d ON t.tenant = d.tenant AND t.parent = d.id WHERE t.ended_at IS NULL
            )
            SELECT a.tenant, a.id FROM above AS a
            UNION SELECT d.tenant, d.id FROM below AS d
        )
        ORDER BY b.tenant, b.task FOR UPDATE
    $q$;
    RETURN NULL;
END
$$;

CREATE TRIGGER tasks_take_turn AFTER UPDATE ON tasks
    REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION remit_take_turn();

-- As before, but for the lock that was shared.
CREATE OR REPLACE FUNCTION remit_consume(
    of_tenant UUID, chain UUID[], charged BIGINT[], hold BIGINT, decided UUID, made_at BIGINT, made_verdict TEXT,
    made_reason TEXT, subject TEXT[], acted TEXT, target TEXT[], asked_by UUID, at_revision BIGINT, at_replica UUID,
    at_sequence BIGINT, made_body TEXT, settled_by TEXT[],
    OUT outcome TEXT, OUT of_task UUID, OUT detail TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    time_now BIGINT := CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT);
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
    PERFORM FROM task_budgets AS b WHERE b.tenant = of_tenant AND b.task = ANY (chain) ORDER BY b.task FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM FROM tasks AS t WHERE t.tenant = of_tenant AND t.id = ANY (chain) ORDER BY array_position(chain, t.id) DESC FOR SHARE;
    END IF;
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
