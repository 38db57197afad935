-- model_usage: calls of each model by day, with tokens, prices and durations.
--
-- Grain:  (day, provider, model).
-- Inputs: session_items.
-- Cost:   the partitions of the days and of the lookback_days before.
-- Twin:   ledger/testing/activity_counts.py
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- Counted is what was spent: also calls that a rewind took back, and not those that a fork copied. A percentile is one
-- of the durations, as APPROX_QUANTILES gives it: the median of two is the lower one, and of many it is approximate.
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
--   day DATE: The day on which the calls were recorded, in UTC
--   provider STRING: Who serves the model; NULL if nobody said so
--   model STRING: The model
--   call_count INT64: Number of calls
--   failed_count INT64: Number of calls that failed
--   failure_ratio FLOAT64: Failed calls per call, 0 to 1
--   input_token_count INT64: Sum of the tokens of the prompts; NULL if none is known
--   output_token_count INT64: Sum of the tokens of the answers; NULL if none is known
--   cached_input_token_count INT64: Sum of the input tokens that came from a cache; NULL if none is known
--   reasoning_token_count INT64: Sum of the output tokens spent on reasoning; NULL if none is known
--   cost_usd FLOAT64: Sum of the prices, recorded or estimated, in US dollars; NULL if none is known
--   estimated_cost_usd FLOAT64: The part of cost_usd that is estimated by model_prices; NULL if none is
--   unpriced_count INT64: Number of calls without a price, recorded or estimated
--   duration_p50_ms FLOAT64: Median of the durations, in milliseconds; NULL if none is known
--   duration_p95_ms FLOAT64: 95th percentile of these
--   time_to_first_token_p50_ms FLOAT64: Median of the times to the first token, in milliseconds; NULL if none is known
--   session_count INT64: Number of sessions with such calls
--   user_count INT64: Number of owners of these sessions
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.model_usage`(
  first_day TIMESTAMP, next_day TIMESTAMP, lookback_days INT64
) AS
SELECT
  day,
  provider,
  name AS model,
  COUNT(*) AS call_count,
  COUNTIF(is_error) AS failed_count,
  SAFE_DIVIDE(COUNTIF(is_error), COUNT(*)) AS failure_ratio,
  CAST(SUM(input_token_count) AS INT64) AS input_token_count,
  CAST(SUM(output_token_count) AS INT64) AS output_token_count,
  CAST(SUM(cached_input_token_count) AS INT64) AS cached_input_token_count,
  CAST(SUM(reasoning_token_count) AS INT64) AS reasoning_token_count,
  SUM(cost_usd) AS cost_usd,
  SUM(IF(cost_source = 'estimated', cost_usd, NULL)) AS estimated_cost_usd,
  COUNTIF(cost_usd IS NULL) AS unpriced_count,
  APPROX_QUANTILES(duration_ms, 100)[OFFSET(50)] AS duration_p50_ms,
  APPROX_QUANTILES(duration_ms, 100)[OFFSET(95)] AS duration_p95_ms,
  APPROX_QUANTILES(time_to_first_token_ms, 100)[OFFSET(50)] AS time_to_first_token_p50_ms,
  COUNT(DISTINCT session_id) AS session_count,
  COUNT(DISTINCT user_id) AS user_count
FROM `${project}.${dataset}.session_items`
WHERE created_at >= TIMESTAMP_SUB(first_day, INTERVAL lookback_days DAY)
  AND created_at < next_day
  AND recorded_at >= first_day
  AND recorded_at < next_day
  AND item_type = 'model_call'
  AND NOT is_copy
GROUP BY day, provider, name;
