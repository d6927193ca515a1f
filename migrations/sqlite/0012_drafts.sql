-- Drafts: bundles that somebody works on, each over the revision of the bundle it began with, and what others say of them.

CREATE TABLE drafts (
    tenant       BLOB    NOT NULL,
    id           BLOB    NOT NULL,
    name         TEXT    NOT NULL,
    message      TEXT,
    base         INTEGER,
    hash         TEXT    NOT NULL,
    body         TEXT    NOT NULL,
    authors      TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    reviews      INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    published_as INTEGER,
    results      TEXT,
    CONSTRAINT drafts_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT drafts_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id),
    CONSTRAINT drafts_state_check CHECK (state IN ('open', 'published', 'discarded'))
) STRICT;

-- A name is free again once its draft is published or discarded.
CREATE UNIQUE INDEX drafts_name_idx ON drafts (tenant, name) WHERE state = 'open';

CREATE TABLE draft_reviews (
    tenant       BLOB    NOT NULL,
    id           BLOB    NOT NULL,
    draft        BLOB    NOT NULL,
    principal    TEXT    NOT NULL,
    key          BLOB    NOT NULL,
    verdict      TEXT    NOT NULL,
    about        TEXT    NOT NULL,
    message      TEXT,
    at           INTEGER NOT NULL,
    CONSTRAINT draft_reviews_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT draft_reviews_draft_fkey FOREIGN KEY (tenant, draft) REFERENCES drafts (tenant, id),
    CONSTRAINT draft_reviews_verdict_check CHECK (verdict IN ('approve', 'reject'))
) STRICT;

CREATE INDEX draft_reviews_draft_idx ON draft_reviews (tenant, draft, id);
