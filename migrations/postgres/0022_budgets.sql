-- Budgets: how much a task may use, what of that is reserved for calls that were permitted, and what was spent. A task
-- that limits nothing has no row. A dimension without `allowed` is counted all the same. `spent` may be below zero for a
-- while, where a call was given back that a replica has reserved but not told of yet (an escrow), and above `allowed`
-- where an outcome tells of more than was reserved; what is permitted never lifts `reserved` and `spent` together over it.
-- Whoever locks several rows does so in the order of `task`.

CREATE TABLE task_budgets (
    tenant                UUID   NOT NULL,
    task                  UUID   NOT NULL,
    calls_allowed         BIGINT,
    calls_reserved        BIGINT NOT NULL DEFAULT 0,
    calls_spent           BIGINT NOT NULL DEFAULT 0,
    cost_allowed          BIGINT,
    cost_reserved         BIGINT NOT NULL DEFAULT 0,
    cost_spent            BIGINT NOT NULL DEFAULT 0,
    amount_allowed        BIGINT,
    amount_reserved       BIGINT NOT NULL DEFAULT 0,
    amount_spent          BIGINT NOT NULL DEFAULT 0,
    bytes_allowed         BIGINT,
    bytes_reserved        BIGINT NOT NULL DEFAULT 0,
    bytes_spent           BIGINT NOT NULL DEFAULT 0,
    irreversible_allowed  BIGINT,
    irreversible_reserved BIGINT NOT NULL DEFAULT 0,
    irreversible_spent    BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT task_budgets_pkey PRIMARY KEY (tenant, task)
);

-- What is reserved: for a permitted call (`kind` is `call`; one row for each task of its chain that has a budget) until its
-- outcome is reported, or for a replica that spends it without asking again (`escrow`; `decision` is then an id of its
-- own). By the database's clock it counts as spent from `expires_at` on, for it may have been used.
CREATE TABLE reservations (
    tenant       UUID   NOT NULL,
    decision     UUID   NOT NULL,
    task         UUID   NOT NULL,
    calls        BIGINT NOT NULL,
    cost         BIGINT NOT NULL,
    amount       BIGINT NOT NULL,
    bytes        BIGINT NOT NULL,
    irreversible BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    replica      UUID   NOT NULL,
    kind         TEXT   COLLATE "C" NOT NULL,
    CONSTRAINT reservations_pkey PRIMARY KEY (tenant, decision, task)
);

CREATE INDEX reservations_expire_idx ON reservations (expires_at, tenant);

SELECT remit_protect_tenants(NULL);
