-- Drafts: bundles that somebody works on, each over the revision of the bundle it began with, and what others say of them.

CREATE TABLE drafts (
    tenant       UUID   NOT NULL,
    id           UUID   NOT NULL,
    name         TEXT   COLLATE "C" NOT NULL,
    message      TEXT   COLLATE "C",
    base         BIGINT,
    hash         TEXT   COLLATE "C" NOT NULL,
    body         TEXT   COLLATE "C" NOT NULL,
    authors      TEXT   COLLATE "C" NOT NULL,
    state        TEXT   COLLATE "C" NOT NULL,
    version      BIGINT NOT NULL,
    reviews      BIGINT NOT NULL DEFAULT 0,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    published_as BIGINT,
    results      TEXT   COLLATE "C",
    CONSTRAINT drafts_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT drafts_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id),
    CONSTRAINT drafts_state_check CHECK (state IN ('open', 'published', 'discarded'))
);

-- A name is free again once its draft is published or discarded.
CREATE UNIQUE INDEX drafts_name_idx ON drafts (tenant, name) WHERE state = 'open';

CREATE TABLE draft_reviews (
    tenant    UUID   NOT NULL,
    id        UUID   NOT NULL,
    draft     UUID   NOT NULL,
    principal TEXT   COLLATE "C" NOT NULL,
    key       UUID   NOT NULL,
    verdict   TEXT   COLLATE "C" NOT NULL,
    about     TEXT   COLLATE "C" NOT NULL,
    message   TEXT   COLLATE "C",
    at        BIGINT NOT NULL,
    CONSTRAINT draft_reviews_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT draft_reviews_draft_fkey FOREIGN KEY (tenant, draft) REFERENCES drafts (tenant, id),
    CONSTRAINT draft_reviews_verdict_check CHECK (verdict IN ('approve', 'reject'))
);

CREATE INDEX draft_reviews_draft_idx ON draft_reviews (tenant, draft, id);
