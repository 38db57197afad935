-- daily_rollup: compute the last days of the table daily_rollup.
--
-- Grain:  (day) of daily_rollup.
-- Inputs: session_items. The days end with the one before the run. They begin days before that, or on the day after the
--         last one of the table if runs were missed; into an empty table go all days since 1970.
-- Cost:   the partitions of the days and of the lookback_days before.
-- Twin:   ledger/testing/activity_counts.py (by_day).
-- Test:   tests/property/test_scheduled.py, tests/sql/test_scheduled.py
--
-- A day is computed from the sessions that were created lookback_days before it or later, so it has the same counts
-- whichever run computes it: those of daily_activity(day, next day, lookback_days). Rows that arrive late are counted
-- if their day is computed again.
--
-- Parameters:
--   run_time TIMESTAMP: Time of the run; its own day is not complete and is left out
--   days INT64: Number of days to compute, for rows that arrive late
--   lookback_days INT64: Days before a day on which sessions that are still worked in may have begun
DECLARE next_day TIMESTAMP DEFAULT TIMESTAMP_TRUNC(@run_time, DAY);
DECLARE first_day TIMESTAMP DEFAULT (
  SELECT
    IF(
      COUNT(*) = 0,
      TIMESTAMP '1970-01-01 00:00:00+00',
      LEAST(TIMESTAMP_SUB(next_day, INTERVAL @days DAY), CAST(DATE_ADD(MAX(day), INTERVAL 1 DAY) AS TIMESTAMP))
    )
  FROM `${project}.${dataset}.daily_rollup`
);
MERGE `${project}.${dataset}.daily_rollup` AS target
USING (
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
    COUNTIF(is_error) AS error_count
  FROM `${project}.${dataset}.session_items`
  WHERE created_at >= TIMESTAMP_SUB(first_day, INTERVAL @lookback_days DAY)
    AND created_at < next_day
    AND recorded_at >= first_day
    AND recorded_at < next_day
    -- What daily_activity would count if it were called for this day alone.
    AND created_at >= TIMESTAMP_SUB(TIMESTAMP_TRUNC(recorded_at, DAY), INTERVAL @lookback_days DAY)
    AND created_at < TIMESTAMP_ADD(TIMESTAMP_TRUNC(recorded_at, DAY), INTERVAL 1 DAY)
    AND NOT is_copy
  GROUP BY day
) AS source
ON target.day = source.day
WHEN MATCHED THEN
  UPDATE SET
    session_count = source.session_count,
    user_count = source.user_count,
    message_count = source.message_count,
    turn_count = source.turn_count,
    tool_call_count = source.tool_call_count,
    failed_tool_call_count = source.failed_tool_call_count,
    model_call_count = source.model_call_count,
    failed_model_call_count = source.failed_model_call_count,
    input_token_count = source.input_token_count,
    output_token_count = source.output_token_count,
    cost_usd = source.cost_usd,
    error_count = source.error_count
WHEN NOT MATCHED THEN
  INSERT (
    day, session_count, user_count, message_count, turn_count, tool_call_count, failed_tool_call_count,
    model_call_count, failed_model_call_count, input_token_count, output_token_count, cost_usd, error_count
  )
  VALUES (
    source.day, source.session_count, source.user_count, source.message_count, source.turn_count,
    source.tool_call_count, source.failed_tool_call_count, source.model_call_count, source.failed_model_call_count,
    source.input_token_count, source.output_token_count, source.cost_usd, source.error_count
  )
WHEN NOT MATCHED BY SOURCE AND target.day >= DATE(first_day) AND target.day < DATE(next_day) THEN
  DELETE;
