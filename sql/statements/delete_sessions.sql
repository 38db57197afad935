-- delete_sessions: delete sessions permanently, from every table.
--
-- Inputs: @sessions identify the sessions, each as the microseconds of its creation, a slash and its id; @session_ids
--         are their ids; all were created at @created_from or later and before @created_until.
-- Answer: none; sessions that do not exist are ignored.
-- Cost:   the blocks of these ids in the days between, which are constants, and in session_index.
-- Twin:   ledger/stores/sqlite/archive.py (purge).
-- Test:   tests/tiers/test_archive_duckdb.py, tests/tiers/test_archive_bigquery.py
BEGIN TRANSACTION;
DELETE FROM `${project}.${dataset}.session_events`
WHERE session_id IN UNNEST(@session_ids)
  AND created_at >= @created_from
  AND created_at < @created_until
  AND CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id) IN UNNEST(@sessions);
DELETE FROM `${project}.${dataset}.session_heads`
WHERE session_id IN UNNEST(@session_ids)
  AND created_at >= @created_from
  AND created_at < @created_until
  AND CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id) IN UNNEST(@sessions);
DELETE FROM `${project}.${dataset}.session_index`
WHERE session_id IN UNNEST(@session_ids)
  AND CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id) IN UNNEST(@sessions);
COMMIT TRANSACTION;
