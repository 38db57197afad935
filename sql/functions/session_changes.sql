-- session_changes: every change of one session once, with the version that superseded it.
--
-- Grain:  (event_id, field, key) of the session.
-- Inputs: session_history. of_session is the session's id; first_day and next_day are the midnights (UTC) that begin
--         the day of its creation and the day after. Returns versions above after_version and up to until_version
--         (NULL: no bound).
-- Cost:   the session's blocks in the one partition of that day.
-- Twin:   ledger/model/fold.py (history).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_functions.py
--
-- Parameters:
--   of_session STRING: The session's id
--   first_day TIMESTAMP: Midnight (UTC) that begins the day of the session's creation, or an earlier one; NULL: no rows
--   next_day TIMESTAMP: Midnight (UTC) that ends that day, or a later one; every day between is read; NULL: no rows
--   after_version INT64: Only versions above this one; NULL for all
--   until_version INT64: Only versions up to this one; NULL for all
--
-- Columns:
--   session_id STRING
--   version INT64
--   event_id STRING
--   event_type STRING
--   field STRING
--   key STRING
--   value JSON
--   removed BOOL
--   user_id STRING
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   created_at TIMESTAMP
--   schema_version INT64
--   store_id STRING
--   value_hash STRING
--   value_salt STRING
--   prev_hash STRING
--   event_hash STRING
--   idempotency_key STRING
--   superseded_by INT64: The version that replaced the value; NULL if the value is current
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.session_changes`(
  of_session STRING, first_day TIMESTAMP, next_day TIMESTAMP, after_version INT64, until_version INT64
) AS
SELECT
  session_id,
  version,
  event_id,
  event_type,
  field,
  key,
  value,
  removed,
  user_id,
  actor,
  occurred_at,
  recorded_at,
  created_at,
  schema_version,
  store_id,
  value_hash,
  value_salt,
  prev_hash,
  event_hash,
  idempotency_key,
  superseded_by
FROM `${project}.${dataset}.session_history`
WHERE session_id = of_session
  AND created_at >= first_day
  AND created_at < next_day
  AND version > IFNULL(after_version, 0)
  AND version <= IFNULL(until_version, version);
