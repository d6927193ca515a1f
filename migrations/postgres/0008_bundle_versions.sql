-- What a version of the bundle is for: the author's message, and the revision of the version it brings back.

ALTER TABLE bundles ADD COLUMN message TEXT COLLATE "C";
ALTER TABLE bundles ADD COLUMN restores BIGINT;
