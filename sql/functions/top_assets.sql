-- top_assets: which tables the tool calls use, by the key tables of their definitions.
--
-- Grain:  (asset).
-- Inputs: tool_call_history.
-- Cost:   the partitions of the days.
-- Twin:   ledger/testing/activity_counts.py
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- The days are those on which the sessions were created. A table is a text in the array tables, or the name in an
-- object there. Calls that a fork copied are left out.
--
-- Parameters:
--   first_day TIMESTAMP: Midnight (UTC) that begins the first day; NULL: no rows
--   next_day TIMESTAMP: Midnight (UTC) that ends the last day; NULL: no rows
--
-- Columns:
--   asset STRING: The table or other asset, as the calls name it
--   call_count INT64: Number of tool calls that name it
--   completed_count INT64: Number of these whose last status is completed
--   failed_count INT64: Number of these whose last status is failed
--   session_count INT64: Number of sessions with such calls
--   user_count INT64: Number of owners of these sessions
--   last_planned_at TIMESTAMP: Time at which the last of the calls was planned
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.top_assets`(
  first_day TIMESTAMP, next_day TIMESTAMP
) AS
SELECT
  asset,
  COUNT(*) AS call_count,
  COUNTIF(last_status = 'completed') AS completed_count,
  COUNTIF(last_status = 'failed') AS failed_count,
  COUNT(DISTINCT session_id) AS session_count,
  COUNT(DISTINCT user_id) AS user_count,
  MAX(planned_at) AS last_planned_at
FROM (
  SELECT DISTINCT
    created_at,
    session_id,
    call_id,
    user_id,
    last_status,
    planned_at,
    COALESCE(JSON_VALUE(named), JSON_VALUE(named, '$.name')) AS asset
  FROM (
    SELECT
      created_at,
      session_id,
      call_id,
      user_id,
      last_status,
      planned_at,
      JSON_QUERY_ARRAY(definition, '$.tables') AS tables
    FROM `${project}.${dataset}.tool_call_history`
    WHERE is_current AND NOT is_copy AND created_at >= first_day AND created_at < next_day
  ) AS calls
  CROSS JOIN UNNEST(calls.tables) AS named
) AS uses
WHERE asset IS NOT NULL
GROUP BY asset;
