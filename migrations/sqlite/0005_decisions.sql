-- Decision records. `body` is the record as canonical JSON; the other columns are copies that filters use, cut to
-- 1,024 bytes. No foreign key: a record that was made must be kept, whatever became of its tenant.

CREATE TABLE decisions (
    tenant        BLOB    NOT NULL,
    id            BLOB    NOT NULL,
    at            INTEGER NOT NULL,
    verdict       TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    subject_type  TEXT    NOT NULL,
    subject_id    TEXT    NOT NULL,
    action        TEXT    NOT NULL,
    resource_type TEXT    NOT NULL,
    resource_id   TEXT    NOT NULL,
    caller        BLOB    NOT NULL,
    revision      INTEGER NOT NULL,
    replica       BLOB    NOT NULL,
    sequence      INTEGER NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT decisions_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT decisions_sequence_key UNIQUE (replica, sequence)
) STRICT;

-- Ids are UUIDv7, so each index also gives newest first.
CREATE INDEX decisions_subject_idx ON decisions (tenant, subject_id, id);
CREATE INDEX decisions_resource_idx ON decisions (tenant, resource_id, id);
CREATE INDEX decisions_action_idx ON decisions (tenant, action, id);
CREATE INDEX decisions_reason_idx ON decisions (tenant, reason, id);
-- Most decisions permit; the few that deny are what people look for.
CREATE INDEX decisions_denied_idx ON decisions (tenant, id) WHERE verdict = 'deny';

-- Which policies settled a decision.
CREATE TABLE decision_policies (
    tenant   BLOB NOT NULL,
    policy   TEXT NOT NULL,
    decision BLOB NOT NULL,
    CONSTRAINT decision_policies_pkey PRIMARY KEY (tenant, policy, decision)
) STRICT, WITHOUT ROWID;
