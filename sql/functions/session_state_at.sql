-- session_state_at: the values of one session at a time, by its store's clock.
--
-- Grain:  (field, key) of the session.
-- Inputs: session_events. of_session is the session's id; first_day and next_day are the midnights (UTC) that begin
--         the day of its creation and the day after; events recorded after at_time are left out. Several writers may
--         record a lower version after a higher one, so this is not the state at a version.
-- Cost:   the session's blocks in the one partition of that day.
-- Twin:   ledger/model/fold.py (fold) of ledger/testing/reference.py (recorded_by).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_functions.py
--
-- Parameters:
--   of_session STRING: The session's id
--   first_day TIMESTAMP: Midnight (UTC) that begins the day of the session's creation, or an earlier one; NULL: no rows
--   next_day TIMESTAMP: Midnight (UTC) that ends that day, or a later one; every day between is read; NULL: no rows
--   at_time TIMESTAMP: The time to read: events recorded later are left out; NULL: no rows
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
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.session_state_at`(
  of_session STRING, first_day TIMESTAMP, next_day TIMESTAMP, at_time TIMESTAMP
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
FROM `${project}.${dataset}.session_events`
WHERE session_id = of_session
  AND created_at >= first_day
  AND created_at < next_day
  AND recorded_at <= at_time
-- Removals are dropped after the window: dropped before it, the removed values would come back.
QUALIFY NOT removed
  AND ROW_NUMBER() OVER (
    PARTITION BY created_at, session_id, field, key
    ORDER BY version DESC, event_id DESC
  ) = 1;
