-- Tasks: what agents were asked to do. `body` is the declaration and never changes; what else there is of a task does, and
-- each change of what decides notes its revision, by which a replica finds what it has not read yet. `state` is `active`,
-- `suspended`, `completed`, `revoked` or `expired`; the last three are final. `idle_timeout` is in microseconds.
-- `root` is the task at the top of those above; none where there is none. `forgotten_at`:
-- since when replicas no longer tell it from a task that never was.

CREATE TABLE tasks (
    tenant       BLOB    NOT NULL,
    id           BLOB    NOT NULL,
    revision     INTEGER NOT NULL,
    digest       TEXT    NOT NULL,
    body         TEXT    NOT NULL,
    agent_type   TEXT    NOT NULL,
    agent_id     TEXT    NOT NULL,
    purpose      TEXT    NOT NULL,
    parent       BLOB,
    root         BLOB,
    depth        INTEGER NOT NULL,
    state        TEXT    NOT NULL,
    decision     BLOB,
    opened_at    INTEGER NOT NULL,
    opened_by    TEXT    NOT NULL,
    last_active  INTEGER NOT NULL,
    idle_timeout INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    ended_by     TEXT,
    ended_why    TEXT,
    forgotten_at INTEGER,
    CONSTRAINT tasks_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT tasks_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

CREATE INDEX tasks_by_revision ON tasks (tenant, revision, id);
CREATE INDEX tasks_remembered ON tasks (tenant, revision, id) WHERE forgotten_at IS NULL;
CREATE INDEX tasks_by_parent ON tasks (tenant, parent, state) WHERE parent IS NOT NULL;
CREATE INDEX tasks_by_agent ON tasks (tenant, agent_type, agent_id, ended_at);
CREATE INDEX tasks_by_root ON tasks (tenant, root) WHERE root IS NOT NULL AND ended_at IS NULL;
CREATE INDEX tasks_live ON tasks (tenant, state, expires_at) WHERE ended_at IS NULL;
CREATE INDEX tasks_to_forget ON tasks (tenant, ended_at) WHERE ended_at IS NOT NULL AND forgotten_at IS NULL;

-- What a task has touched, and the decision that set it, be it in a task whose labels it began with.
CREATE TABLE task_labels (
    tenant   BLOB    NOT NULL,
    task     BLOB    NOT NULL,
    label    TEXT    NOT NULL,
    decision BLOB    NOT NULL,
    revision INTEGER NOT NULL,
    CONSTRAINT task_labels_pkey PRIMARY KEY (tenant, task, label),
    CONSTRAINT task_labels_task_fkey FOREIGN KEY (tenant, task) REFERENCES tasks (tenant, id) ON DELETE CASCADE
) STRICT;

-- The hashes of what trusted tools returned in a task.
CREATE TABLE task_sinks (
    tenant BLOB NOT NULL,
    task   BLOB NOT NULL,
    hash   BLOB NOT NULL,
    CONSTRAINT task_sinks_pkey PRIMARY KEY (tenant, task, hash),
    CONSTRAINT task_sinks_task_fkey FOREIGN KEY (tenant, task) REFERENCES tasks (tenant, id) ON DELETE CASCADE
) STRICT;

-- Declarations that tasks are made from.
CREATE TABLE task_templates (
    tenant   BLOB    NOT NULL,
    name     TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    body     TEXT    NOT NULL,
    CONSTRAINT task_templates_pkey PRIMARY KEY (tenant, name),
    CONSTRAINT task_templates_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;
