-- delete_creations: delete the creation times of sessions whose ids do not contain them.
--
-- Grain:  (session_id, created_at) of session_index.
-- Inputs: @session_ids are the ids; @sessions identify the sessions, as in delete_sessions.sql.
-- Cost:   the whole of session_index, which has no partitions; no call if every id is a UUIDv7.
-- Twin:   ledger/stores/sqlite/archive.py (purge).
-- Test:   tests/tiers/test_archive_bigquery.py
--
-- It comes last, as a session is found by it when the deletion is repeated.
DELETE FROM `${project}.${dataset}.session_index`
WHERE session_id IN UNNEST(@session_ids)
  AND CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id) IN UNNEST(@sessions);
