-- Tasks: what agents were asked to do. `body` is the declaration and never changes; what else there is of a task does, and
-- each change of what decides notes its revision, by which a replica finds what it has not read yet. `state` is `active`,
-- `suspended`, `completed`, `revoked` or `expired`; the last three are final. `idle_timeout` is in microseconds.
-- `root` is the task at the top of those above; none where there is none. `forgotten_at`:
-- since when replicas no longer tell it from a task that never was.

CREATE TABLE tasks (
    tenant       UUID   NOT NULL,
    id           UUID   NOT NULL,
    revision     BIGINT NOT NULL,
    digest       TEXT   COLLATE "C" NOT NULL,
    body         TEXT   COLLATE "C" NOT NULL,
    agent_type   TEXT   COLLATE "C" NOT NULL,
    agent_id     TEXT   COLLATE "C" NOT NULL,
    purpose      TEXT   COLLATE "C" NOT NULL,
    parent       UUID,
    root         UUID,
    depth        BIGINT NOT NULL,
    state        TEXT   COLLATE "C" NOT NULL,
    decision     UUID,
    opened_at    BIGINT NOT NULL,
    opened_by    TEXT   COLLATE "C" NOT NULL,
    last_active  BIGINT NOT NULL,
    idle_timeout BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    ended_at     BIGINT,
    ended_by     TEXT   COLLATE "C",
    ended_why    TEXT   COLLATE "C",
    forgotten_at BIGINT,
    CONSTRAINT tasks_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT tasks_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

CREATE INDEX tasks_by_revision ON tasks (tenant, revision, id);
CREATE INDEX tasks_remembered ON tasks (tenant, revision, id) WHERE forgotten_at IS NULL;
CREATE INDEX tasks_by_parent ON tasks (tenant, parent, state) WHERE parent IS NOT NULL;
CREATE INDEX tasks_by_agent ON tasks (tenant, agent_type, agent_id, ended_at);
CREATE INDEX tasks_by_root ON tasks (tenant, root) WHERE root IS NOT NULL AND ended_at IS NULL;
CREATE INDEX tasks_live ON tasks (tenant, state, expires_at) WHERE ended_at IS NULL;
CREATE INDEX tasks_to_forget ON tasks (tenant, ended_at) WHERE ended_at IS NOT NULL AND forgotten_at IS NULL;

-- What a task has touched, and the decision that set it, be it in a task whose labels it began with.
CREATE TABLE task_labels (
    tenant   UUID   NOT NULL,
    task     UUID   NOT NULL,
    label    TEXT   COLLATE "C" NOT NULL,
    decision UUID   NOT NULL,
    revision BIGINT NOT NULL,
    CONSTRAINT task_labels_pkey PRIMARY KEY (tenant, task, label),
    CONSTRAINT task_labels_task_fkey FOREIGN KEY (tenant, task) REFERENCES tasks (tenant, id) ON DELETE CASCADE
);

-- The hashes of what trusted tools returned in a task.
CREATE TABLE task_sinks (
    tenant UUID NOT NULL,
    task   UUID NOT NULL,
    hash   UUID NOT NULL,
    CONSTRAINT task_sinks_pkey PRIMARY KEY (tenant, task, hash),
    CONSTRAINT task_sinks_task_fkey FOREIGN KEY (tenant, task) REFERENCES tasks (tenant, id) ON DELETE CASCADE
);

-- Declarations that tasks are made from.
CREATE TABLE task_templates (
    tenant   UUID   NOT NULL,
    name     TEXT   COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    body     TEXT   COLLATE "C" NOT NULL,
    CONSTRAINT task_templates_pkey PRIMARY KEY (tenant, name),
    CONSTRAINT task_templates_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

SELECT remit_protect_tenants(NULL);
