-- How far each replica's spool has been shipped: everything before `position` in `segment` is in `decisions`.

CREATE TABLE spool_positions (
    replica  BLOB    NOT NULL,
    segment  INTEGER NOT NULL,
    position INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    CONSTRAINT spool_positions_pkey PRIMARY KEY (replica)
) STRICT;
