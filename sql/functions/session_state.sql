-- session_state: the current values of one session, or its values at a version.
--
-- Grain:  (field, key) of the session.
-- Inputs: session_history. of_session is the session's id; first_day and next_day are the midnights (UTC) that begin
--         the day of its creation and the day after; at_version is the version to read, NULL for the latest.
-- Cost:   the session's blocks in the one partition of that day.
-- Twin:   ledger/model/fold.py (fold).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_functions.py
--
-- Parameters:
--   of_session STRING: The session's id
--   first_day TIMESTAMP: Midnight (UTC) that begins the day of the session's creation, or an earlier one; NULL: no rows
--   next_day TIMESTAMP: Midnight (UTC) that ends that day, or a later one; every day between is read; NULL: no rows
--   at_version INT64: The version to read; NULL for the latest
--
-- Columns:
--   session_id STRING
--   field STRING
--   key STRING: Key of the value within the field; empty for a field without keys
--   value JSON: The value
--   version INT64: The version that wrote the value
--   event_id STRING: The event that wrote the value
--   event_type STRING: Type of the event that wrote the value
--   user_id STRING
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   created_at TIMESTAMP
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.session_state`(
  of_session STRING, first_day TIMESTAMP, next_day TIMESTAMP, at_version INT64
) AS
SELECT
  session_id,
  field,
  key,
  value,
  version,
  event_id,
  event_type,
  user_id,
  actor,
  occurred_at,
  recorded_at,
  created_at
FROM `${project}.${dataset}.session_history`
WHERE session_id = of_session
  AND created_at >= first_day
  AND created_at < next_day
  AND version <= IFNULL(at_version, version)
  -- If at_version is NULL the comparison is never true, which leaves out superseded values.
  AND (superseded_by IS NULL OR superseded_by > at_version)
  AND NOT removed;
