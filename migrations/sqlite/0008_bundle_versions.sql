-- What a version of the bundle is for: the author's message, and the revision of the version it brings back.

ALTER TABLE bundles ADD COLUMN message TEXT;
ALTER TABLE bundles ADD COLUMN restores INTEGER;
