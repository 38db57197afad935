-- storage_growth: how much was recorded on each day.
--
-- Grain:  (day).
-- Inputs: session_events.
-- Cost:   the partitions of the days and of the lookback_days before.
-- Twin:   ledger/testing/activity_counts.py
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- Counted are the rows of the table, with duplicates if there are any. A day without rows has no row.
--
-- A session is in the partition of its creation, whatever happens in it later. So the function also reads the sessions
-- that were created in the lookback_days before first_day, and leaves out what happens in older ones.
--
-- Parameters:
--   first_day TIMESTAMP: Midnight (UTC) that begins the first day; NULL: no rows
--   next_day TIMESTAMP: Midnight (UTC) that ends the last day; NULL: no rows
--   lookback_days INT64: Days before first_day on which sessions that are still worked in may have begun; NULL: no rows
--
-- Columns:
--   day DATE: The day, in UTC
--   row_count INT64: Number of rows that were recorded on the day
--   event_count INT64: Number of events: of one session and one event_id
--   session_count INT64: Number of sessions with these events
--   character_count INT64: Number of characters of the values of the rows, as JSON text
--   total_row_count INT64: Sum of row_count since first_day
--   total_character_count INT64: Sum of character_count since first_day
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.storage_growth`(
  first_day TIMESTAMP, next_day TIMESTAMP, lookback_days INT64
) AS
SELECT
  day,
  row_count,
  event_count,
  session_count,
  character_count,
  CAST(SUM(row_count) OVER (ORDER BY day) AS INT64) AS total_row_count,
  CAST(SUM(character_count) OVER (ORDER BY day) AS INT64) AS total_character_count
FROM (
  SELECT
    DATE(recorded_at) AS day,
    COUNT(*) AS row_count,
    COUNT(DISTINCT CONCAT(event_id, '\n', session_id)) AS event_count,
    COUNT(DISTINCT session_id) AS session_count,
    CAST(SUM(IFNULL(CHAR_LENGTH(TO_JSON_STRING(value)), 0)) AS INT64) AS character_count
  FROM `${project}.${dataset}.session_events`
  WHERE created_at >= TIMESTAMP_SUB(first_day, INTERVAL lookback_days DAY)
    AND created_at < next_day
    AND recorded_at >= first_day
    AND recorded_at < next_day
  GROUP BY day
) AS days;
