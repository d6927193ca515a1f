-- How far each replica's spool has been shipped: everything before `position` in `segment` is in `decisions`.

CREATE TABLE spool_positions (
    replica  UUID   NOT NULL,
    segment  BIGINT NOT NULL,
    position BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    CONSTRAINT spool_positions_pkey PRIMARY KEY (replica)
);
