-- The second person: whether a change that loosens needs one, a change of that waiting for one, and the evidence that a
-- version of the bundle was published with.

ALTER TABLE tenants ADD COLUMN second_person BOOLEAN NOT NULL DEFAULT false;
-- The revision at which a setting was last changed.
ALTER TABLE tenants ADD COLUMN settings_revision BIGINT NOT NULL DEFAULT 0;

CREATE TABLE pending_settings (
    tenant   UUID   NOT NULL,
    settings TEXT   COLLATE "C" NOT NULL,
    asked_by TEXT   COLLATE "C" NOT NULL,
    key      UUID   NOT NULL,
    at       BIGINT NOT NULL,
    CONSTRAINT pending_settings_pkey PRIMARY KEY (tenant),
    CONSTRAINT pending_settings_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
);

ALTER TABLE bundles ADD COLUMN evidence TEXT COLLATE "C";
