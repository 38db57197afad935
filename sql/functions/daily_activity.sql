-- daily_activity: what happened on each day, one row a day.
--
-- Grain:  (day).
-- Inputs: session_items.
-- Cost:   the partitions of the days and of the lookback_days before.
-- Twin:   ledger/testing/activity_counts.py
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- Counted is what was recorded on the day, without what a fork copied from another session. A day without anything has
-- no row.
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
--   session_count INT64: Number of sessions with a message, tool call, model call, query, score or error of the day
--   user_count INT64: Number of owners of these sessions
--   message_count INT64: Number of messages
--   turn_count INT64: Number of messages of the role user
--   tool_call_count INT64: Number of tool calls that were planned
--   failed_tool_call_count INT64: Number of these whose last status is failed
--   model_call_count INT64: Number of model calls
--   failed_model_call_count INT64: Number of these that failed
--   input_token_count INT64: Sum of the tokens of the prompts; NULL if none is known
--   output_token_count INT64: Sum of the tokens of the answers; NULL if none is known
--   cost_usd FLOAT64: Sum of the prices, recorded or estimated, of the model calls, in US dollars; NULL if none is known
--   estimated_cost_usd FLOAT64: The part of cost_usd that is estimated by model_prices; NULL if none is
--   error_count INT64: Number of errors: of sessions, messages, tool calls and model calls
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.daily_activity`(
  first_day TIMESTAMP, next_day TIMESTAMP, lookback_days INT64
) AS
SELECT
  day,
  COUNT(DISTINCT session_id) AS session_count,
  COUNT(DISTINCT user_id) AS user_count,
  COUNTIF(item_type = 'message') AS message_count,
  COUNTIF(item_type = 'message' AND name = 'user') AS turn_count,
  COUNTIF(item_type = 'tool_call') AS tool_call_count,
  COUNTIF(item_type = 'tool_call' AND is_error) AS failed_tool_call_count,
  COUNTIF(item_type = 'model_call') AS model_call_count,
  COUNTIF(item_type = 'model_call' AND is_error) AS failed_model_call_count,
  CAST(SUM(input_token_count) AS INT64) AS input_token_count,
  CAST(SUM(output_token_count) AS INT64) AS output_token_count,
  SUM(cost_usd) AS cost_usd,
  SUM(IF(cost_source = 'estimated', cost_usd, NULL)) AS estimated_cost_usd,
  COUNTIF(is_error) AS error_count
FROM `${project}.${dataset}.session_items`
WHERE created_at >= TIMESTAMP_SUB(first_day, INTERVAL lookback_days DAY)
  AND created_at < next_day
  AND recorded_at >= first_day
  AND recorded_at < next_day
  AND NOT is_copy
GROUP BY day;
