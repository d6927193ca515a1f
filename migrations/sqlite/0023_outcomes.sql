-- Outcomes: what an enforcement point says happened after a permit, once; also the record of the data that it moved.
-- `body` is the outcome as canonical JSON, `request` the hash of what was sent, so that the same may be sent again.
-- Texts that are filtered by are cut to 1,024 bytes.

CREATE TABLE outcomes (
    tenant      BLOB    NOT NULL,
    decision    BLOB    NOT NULL,
    task        BLOB,
    at          INTEGER NOT NULL,
    result      TEXT    NOT NULL,
    bytes       INTEGER,
    source      TEXT,
    destination TEXT,
    request     TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    body        TEXT    NOT NULL,
    CONSTRAINT outcomes_pkey PRIMARY KEY (tenant, decision),
    CONSTRAINT outcomes_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

CREATE INDEX outcomes_task_idx ON outcomes (tenant, task, decision) WHERE task IS NOT NULL;
CREATE INDEX outcomes_destination_idx ON outcomes (tenant, destination, decision) WHERE destination IS NOT NULL;

-- The task in which a decision was made. The record of a decision that consumed something (a budget, a new label) is
-- written in the transaction that does, and was in no spool: its `sequence` counts down from -1 in each process.
ALTER TABLE decisions ADD COLUMN task BLOB;

CREATE INDEX decisions_task_idx ON decisions (tenant, task, id) WHERE task IS NOT NULL;
-- Permits whose outcome is awaited.
CREATE INDEX decisions_awaited_idx ON decisions (tenant, id) WHERE task IS NOT NULL AND verdict = 'permit';
