-- Row-level security is of Postgres. SQLite has one user, and keeps tenants apart by the statements alone.

SELECT 1;
