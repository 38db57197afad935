-- sum_sessions: how the sessions that were created in a period, and in the one before, ended.
--
-- Grain:  (in_period).
-- Inputs: session_metrics. The sessions were created at @first_day or later and before @next_day; the period begins at
--         @middle_day.
-- Cost:   the days between @first_day and @next_day.
-- Twin:   ledger/testing/activity.py (metrics).
-- Test:   tests/analytics/test_summary.py
SELECT
  created_at >= @middle_day AS in_period,
  COUNT(*) AS session_count,
  COUNTIF(outcome = 'completed') AS completed_count,
  COUNTIF(outcome = 'failed') AS failed_count,
  COUNTIF(outcome = 'abandoned') AS abandoned_count,
  COUNTIF(outcome = 'open') AS open_count,
  SAFE_DIVIDE(COUNTIF(is_success), COUNT(is_success)) AS success_ratio,
  APPROX_QUANTILES(duration_ms, 100)[OFFSET(50)] AS duration_p50_ms,
  APPROX_QUANTILES(duration_ms, 100)[OFFSET(95)] AS duration_p95_ms
FROM `${project}.${dataset}.session_metrics`
WHERE created_at >= @first_day AND created_at < @next_day
GROUP BY in_period
