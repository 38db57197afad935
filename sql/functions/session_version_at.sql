-- session_version_at: the version that one session had at a time, by its store's clock.
--
-- Grain:  one row; version is 0 where the session had not begun, or is not there.
-- Inputs: session_events. of_session is the id; first_day and next_day are the first instant of the UTC day of its
--         creation and that of the next day; at_time is the time to look at.
-- Cost:   the session's blocks in the one partition that the day names, without their values.
-- Twin:   ledger/model/fold.py (version_at).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_functions.py
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.session_version_at`(
  of_session STRING, first_day TIMESTAMP, next_day TIMESTAMP, at_time TIMESTAMP
) AS
SELECT IFNULL(MAX(version), 0) AS version
FROM `${project}.${dataset}.session_events`
WHERE session_id = of_session
  AND created_at >= first_day
  AND created_at < next_day
  AND recorded_at <= at_time;
