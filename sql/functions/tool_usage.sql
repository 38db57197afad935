-- tool_usage: calls of each tool by day, with failures, retries and latencies.
--
-- Grain:  (day, tool).
-- Inputs: session_items.
-- Cost:   the partitions of the days and of the lookback_days before.
-- Twin:   ledger/testing/activity_counts.py
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- A percentile is one of the latencies, as APPROX_QUANTILES gives it: the median of two is the lower one, and of many
-- latencies it is approximate. Calls that a fork copied are left out.
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
--   day DATE: The day on which the calls were planned, in UTC
--   tool STRING: The name of the tool
--   call_count INT64: Number of calls
--   completed_count INT64: Number of calls whose last status is completed
--   failed_count INT64: Number of calls whose last status is failed
--   failure_ratio FLOAT64: Failed calls per finished call, 0 to 1; NULL if none has finished
--   retry_count INT64: Number of attempts after the first
--   attempt_failure_count INT64: Number of attempts that failed
--   latency_p50_ms FLOAT64: Median of the latencies of the last attempts, in milliseconds; NULL if none is known
--   latency_p95_ms FLOAT64: 95th percentile of these
--   latency_max_ms FLOAT64: The largest of these
--   session_count INT64: Number of sessions with such calls
--   user_count INT64: Number of owners of these sessions
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.tool_usage`(
  first_day TIMESTAMP, next_day TIMESTAMP, lookback_days INT64
) AS
SELECT
  day,
  name AS tool,
  COUNT(*) AS call_count,
  COUNTIF(status = 'completed') AS completed_count,
  COUNTIF(status = 'failed') AS failed_count,
  SAFE_DIVIDE(COUNTIF(status = 'failed'), COUNTIF(status IN ('completed', 'failed'))) AS failure_ratio,
  CAST(SUM(retry_count) AS INT64) AS retry_count,
  CAST(SUM(failure_count) AS INT64) AS attempt_failure_count,
  APPROX_QUANTILES(duration_ms, 100)[OFFSET(50)] AS latency_p50_ms,
  APPROX_QUANTILES(duration_ms, 100)[OFFSET(95)] AS latency_p95_ms,
  MAX(duration_ms) AS latency_max_ms,
  COUNT(DISTINCT session_id) AS session_count,
  COUNT(DISTINCT user_id) AS user_count
FROM `${project}.${dataset}.session_items`
WHERE created_at >= TIMESTAMP_SUB(first_day, INTERVAL lookback_days DAY)
  AND created_at < next_day
  AND recorded_at >= first_day
  AND recorded_at < next_day
  AND item_type = 'tool_call'
  AND NOT is_copy
GROUP BY day, name;
