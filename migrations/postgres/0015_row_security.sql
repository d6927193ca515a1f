-- Row-level security: a role that is bound by it sees the rows of the tenant that its transaction names in the setting
-- `remit.tenant`, those of every tenant where that is `*`, and none where it is not set.
--
-- The tables are found by their column `tenant` (`tenants` by its own id), and this is called again after every
-- migration, so that a new table cannot be forgotten. `forced` binds the owner of the tables too, or frees it; NULL leaves
-- that as it is. It is not forced here: the version before this one, which runs as the owner and does not know the
-- setting, has to go on while the new one is rolled out.

CREATE FUNCTION remit_protect_tenants(forced BOOLEAN) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    wanted BOOLEAN := coalesce(forced, (SELECT relforcerowsecurity FROM pg_class WHERE oid = to_regclass('tenants')));
    -- Each subquery is computed once a statement and not once a row. CASE, because nothing keeps the planner from trying
    -- what stands in the other half of an OR.
    rule CONSTANT TEXT := '(SELECT current_setting(''remit.tenant'', true)) = ''*'' OR %I = (SELECT CASE '
        'WHEN current_setting(''remit.tenant'', true) IN ('''', ''*'') THEN NULL '
        'ELSE CAST(current_setting(''remit.tenant'', true) AS UUID) END)';
    found RECORD;
BEGIN
    -- In the order in which transactions take their locks: `tenants` first, `decisions` before `decision_policies`.
    FOR found IN
        SELECT c.oid, c.relname, a.attname, c.relrowsecurity, c.relforcerowsecurity
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = current_schema()
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped
            AND a.attname = CASE c.relname WHEN 'tenants' THEN 'id' ELSE 'tenant' END
        WHERE c.relkind IN ('r', 'p')
        ORDER BY c.relname DESC
    LOOP
        IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = found.oid AND polname = 'tenants_apart') THEN
            EXECUTE format('CREATE POLICY tenants_apart ON %I USING (' || rule || ')', found.relname, found.attname);
        END IF;
        IF NOT found.relrowsecurity THEN
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', found.relname);
        END IF;
        IF found.relforcerowsecurity <> wanted THEN
            EXECUTE format('ALTER TABLE %I %s ROW LEVEL SECURITY', found.relname,
                CASE WHEN wanted THEN 'FORCE' ELSE 'NO FORCE' END);
        END IF;
    END LOOP;
END
$$;

SELECT remit_protect_tenants(NULL);
