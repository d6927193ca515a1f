-- Tenants, each with the row-locked counter of its revisions.
-- Times in every table are microseconds since 1970-01-01T00:00:00Z; names compare byte by byte (COLLATE "C").

-- The UUID of 32 hexadecimal digits. SQLite has a function of this name, so that one text of a statement serves both.
CREATE FUNCTION unhex(digits TEXT) RETURNS UUID
    LANGUAGE SQL IMMUTABLE STRICT PARALLEL SAFE
    RETURN CAST(digits AS UUID);

CREATE TABLE tenants (
    id         UUID   NOT NULL,
    name       TEXT   COLLATE "C" NOT NULL,
    revision   BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    CONSTRAINT tenants_pkey PRIMARY KEY (id),
    CONSTRAINT tenants_name_key UNIQUE (name)
);
