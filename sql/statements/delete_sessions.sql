-- delete_sessions: delete sessions permanently, from every table. Each statement can be repeated.
--
-- Inputs: @sessions identify the sessions, each as the microseconds of its creation, a slash and its id; @session_ids
--         are their ids; all were created at @created_from or later and before @created_until.
-- Answer: none; sessions that do not exist are ignored.
-- Cost:   all columns of the days between, which are constants, since BigQuery bills whole partitions for DELETE; and
--         session_index. Sessions of one day cost one day.
-- Twin:   ledger/stores/sqlite/archive.py (purge).
-- Test:   tests/tiers/test_archive_duckdb.py, tests/tiers/test_archive_bigquery.py
--
-- There is no transaction: in one, BigQuery refuses to delete rows that were streamed recently. The index goes last, as
-- a session is found by it when the deletion is repeated.
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
