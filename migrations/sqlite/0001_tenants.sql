-- Tenants, each with the row-locked counter of its revisions.
-- Times in every table are microseconds since 1970-01-01T00:00:00Z; names compare byte by byte (BINARY, the default).

CREATE TABLE tenants (
    id         BLOB    NOT NULL,
    name       TEXT    NOT NULL,
    revision   INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    CONSTRAINT tenants_pkey PRIMARY KEY (id),
    CONSTRAINT tenants_name_key UNIQUE (name)
) STRICT;
