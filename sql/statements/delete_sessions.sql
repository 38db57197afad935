-- delete_sessions: delete the events of sessions permanently.
--
-- Grain:  (session_id, created_at) of session_events.
-- Inputs: @sessions identify the sessions, each as the microseconds of its creation, a slash and its id; @session_ids
--         are their ids and @created their creation times, which are @created_from or later and before @created_until.
-- Cost:   all columns of the days between, which are constants, since BigQuery bills whole partitions for DELETE. The
--         streaming buffer is read once, so sessions of consecutive days are deleted together.
-- Twin:   ledger/stores/sqlite/archive.py (purge).
-- Test:   tests/tiers/test_archive_duckdb.py, tests/tiers/test_archive_bigquery.py
--
-- There is no transaction: in one, BigQuery refuses to delete rows that were streamed recently. Each statement can be
-- repeated, and ignores sessions that do not exist. delete_heads.sql and delete_creations.sql come after it.
DELETE FROM `${project}.${dataset}.session_events`
WHERE session_id IN UNNEST(@session_ids)
  AND created_at >= @created_from
  AND created_at < @created_until
  AND created_at IN UNNEST(@created)
  AND CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id) IN UNNEST(@sessions);
