-- delete_latest: delete the rows of sessions in sessions_latest, which has a copy of their state.
--
-- Grain:  (session_id, created_at) of sessions_latest.
-- Inputs: as for delete_sessions.sql, which comes first: @sessions, @session_ids, @created, @created_from and
--         @created_until.
-- Cost:   all columns of the days between, which are constants.
-- Twin:   ledger/stores/sqlite/archive.py (purge).
-- Test:   tests/cli/test_scheduled.py, tests/service/test_cheap_statements.py
DELETE FROM `${project}.${dataset}.sessions_latest`
WHERE session_id IN UNNEST(@session_ids)
  AND created_at >= @created_from
  AND created_at < @created_until
  AND created_at IN UNNEST(@created)
  AND CONCAT(CAST(UNIX_MICROS(created_at) AS STRING), '/', session_id) IN UNNEST(@sessions);
