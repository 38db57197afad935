-- delete_heads: delete the heads of strict sessions permanently.
--
-- Grain:  (session_id, created_at) of session_heads.
-- Inputs: as for delete_sessions.sql, which comes first: @sessions, @session_ids, @created, @created_from and
--         @created_until.
-- Cost:   all columns of the days between, which are constants; no call if no session is strict.
-- Twin:   ledger/stores/sqlite/archive.py (purge).
-- Test:   tests/tiers/test_archive_bigquery.py
DELETE FROM `${project}.${dataset}.session_heads`
WHERE session_id IN UNNEST(@session_ids)
  AND created_at >= @created_from
  AND created_at < @created_until
  AND created_at IN UNNEST(@created)
  AND CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id) IN UNNEST(@sessions);
