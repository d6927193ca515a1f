-- The second person: whether a change that loosens needs one, a change of that waiting for one, and the evidence that a
-- version of the bundle was published with.

ALTER TABLE tenants ADD COLUMN second_person INTEGER NOT NULL DEFAULT 0;
-- The revision at which a setting was last changed.
ALTER TABLE tenants ADD COLUMN settings_revision INTEGER NOT NULL DEFAULT 0;

CREATE TABLE pending_settings (
    tenant   BLOB    NOT NULL,
    settings TEXT    NOT NULL,
    asked_by TEXT    NOT NULL,
    key      BLOB    NOT NULL,
    at       INTEGER NOT NULL,
    CONSTRAINT pending_settings_pkey PRIMARY KEY (tenant),
    CONSTRAINT pending_settings_tenant_fkey FOREIGN KEY (tenant) REFERENCES tenants (id)
) STRICT;

ALTER TABLE bundles ADD COLUMN evidence TEXT;
