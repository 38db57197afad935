-- create_lock: insert the one row of session_locks, unless it exists.
--
-- Twin:   none.
-- Test:   tests/warehouse/test_bigquery_tables.py
INSERT INTO `${project}.${dataset}.session_locks` (name, moved_at)
SELECT 'appends', CURRENT_TIMESTAMP()
FROM UNNEST([1])
WHERE NOT EXISTS (SELECT name FROM `${project}.${dataset}.session_locks`);
