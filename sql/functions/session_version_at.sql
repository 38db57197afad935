-- session_version_at: the highest version of one session at a time, by its store's clock.
--
-- If several writers recorded the session, a lower version may be recorded later: session_state_at gives the values.
--
-- Grain:  one row; version is 0 if the session did not exist at that time, or does not exist.
-- Inputs: session_events. of_session is the session's id; first_day and next_day are the midnights (UTC) that begin
--         the day of its creation and the day after; at_time is the time to read.
-- Cost:   the session's blocks in the one partition of that day, without their values.
-- Twin:   ledger/testing/reference.py (recorded_by).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_functions.py
--
-- Parameters:
--   of_session STRING: The session's id
--   first_day TIMESTAMP: Midnight (UTC) that begins the day of the session's creation, or an earlier one; NULL: version 0
--   next_day TIMESTAMP: Midnight (UTC) that ends that day, or a later one; every day between is read; NULL: version 0
--   at_time TIMESTAMP: The time to read: events recorded later are left out; NULL: version 0
--
-- Columns:
--   version INT64: The highest version recorded by the time; 0 if there is none
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.session_version_at`(
  of_session STRING, first_day TIMESTAMP, next_day TIMESTAMP, at_time TIMESTAMP
) AS
SELECT IFNULL(MAX(version), 0) AS version
FROM `${project}.${dataset}.session_events`
WHERE session_id = of_session
  AND created_at >= first_day
  AND created_at < next_day
  AND recorded_at <= at_time;
