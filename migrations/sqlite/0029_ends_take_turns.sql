-- SQLite has one writer: whoever ends a task and whoever consumes a budget take turns anyway.

SELECT 1;
