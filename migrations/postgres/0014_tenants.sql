-- The end of a tenant. A suspended one is answered nothing until it is resumed. Of a deleted one the row alone stays, so
-- that its id is never given again; its name is free for another.

ALTER TABLE tenants ADD COLUMN suspended_at BIGINT;
ALTER TABLE tenants ADD COLUMN deleted_at BIGINT;
