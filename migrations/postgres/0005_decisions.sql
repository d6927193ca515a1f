-- Decision records. `body` is the record as canonical JSON; the other columns are copies that filters use, cut to
-- 1,024 bytes. No foreign key: a record that was made must be kept, whatever became of its tenant.

CREATE TABLE decisions (
    tenant        UUID   NOT NULL,
    id            UUID   NOT NULL,
    at            BIGINT NOT NULL,
    verdict       TEXT   COLLATE "C" NOT NULL,
    reason        TEXT   COLLATE "C" NOT NULL,
    subject_type  TEXT   COLLATE "C" NOT NULL,
    subject_id    TEXT   COLLATE "C" NOT NULL,
    action        TEXT   COLLATE "C" NOT NULL,
    resource_type TEXT   COLLATE "C" NOT NULL,
    resource_id   TEXT   COLLATE "C" NOT NULL,
    caller        UUID   NOT NULL,
    revision      BIGINT NOT NULL,
    replica       UUID   NOT NULL,
    sequence      BIGINT NOT NULL,
    body          TEXT   COLLATE "C" NOT NULL,
    CONSTRAINT decisions_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT decisions_sequence_key UNIQUE (replica, sequence)
);

-- Ids are UUIDv7, so each index also gives newest first.
CREATE INDEX decisions_subject_idx ON decisions (tenant, subject_id, id);
CREATE INDEX decisions_resource_idx ON decisions (tenant, resource_id, id);
CREATE INDEX decisions_action_idx ON decisions (tenant, action, id);
CREATE INDEX decisions_reason_idx ON decisions (tenant, reason, id);
-- Most decisions permit; the few that deny are what people look for.
CREATE INDEX decisions_denied_idx ON decisions (tenant, id) WHERE verdict = 'deny';

-- Which policies settled a decision.
CREATE TABLE decision_policies (
    tenant   UUID NOT NULL,
    policy   TEXT COLLATE "C" NOT NULL,
    decision UUID NOT NULL,
    CONSTRAINT decision_policies_pkey PRIMARY KEY (tenant, policy, decision)
);
