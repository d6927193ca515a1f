-- Budgets: how much a task may use, what of that is reserved for calls that were permitted, and what was spent. A task
-- that limits nothing has no row. A dimension without `allowed` is counted all the same. `spent` may be below zero for a
-- while, where a call was given back that a replica has reserved but not told of yet (an escrow), and above `allowed`
-- where an outcome tells of more than was reserved; what is permitted never lifts `reserved` and `spent` together over it.
-- Whoever locks several rows does so in the order of `task`.

CREATE TABLE task_budgets (
    tenant                BLOB    NOT NULL,
    task                  BLOB    NOT NULL,
    calls_allowed         INTEGER,
    calls_reserved        INTEGER NOT NULL DEFAULT 0,
    calls_spent           INTEGER NOT NULL DEFAULT 0,
    cost_allowed          INTEGER,
    cost_reserved         INTEGER NOT NULL DEFAULT 0,
    cost_spent            INTEGER NOT NULL DEFAULT 0,
    amount_allowed        INTEGER,
    amount_reserved       INTEGER NOT NULL DEFAULT 0,
    amount_spent          INTEGER NOT NULL DEFAULT 0,
    bytes_allowed         INTEGER,
    bytes_reserved        INTEGER NOT NULL DEFAULT 0,
    bytes_spent           INTEGER NOT NULL DEFAULT 0,
    irreversible_allowed  INTEGER,
    irreversible_reserved INTEGER NOT NULL DEFAULT 0,
    irreversible_spent    INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT task_budgets_pkey PRIMARY KEY (tenant, task)
) STRICT;

-- What is reserved: for a permitted call (`kind` is `call`; one row for each task of its chain that has a budget) until its
-- outcome is reported, or for a replica that spends it without asking again (`escrow`; `decision` is then an id of its
-- own). By the database's clock it counts as spent from `expires_at` on, for it may have been used.
CREATE TABLE reservations (
    tenant       BLOB    NOT NULL,
    decision     BLOB    NOT NULL,
    task         BLOB    NOT NULL,
    calls        INTEGER NOT NULL,
    cost         INTEGER NOT NULL,
    amount       INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    irreversible INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    replica      BLOB    NOT NULL,
    kind         TEXT    NOT NULL,
    CONSTRAINT reservations_pkey PRIMARY KEY (tenant, decision, task)
) STRICT;

CREATE INDEX reservations_expire_idx ON reservations (expires_at, tenant);
