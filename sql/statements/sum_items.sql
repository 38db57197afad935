-- sum_items: what was recorded in a period and in the one before: by name, by type, and of all types.
--
-- Grain:  (in_period, grouping_level, item_type, name, provider).
-- Inputs: session_items. Recorded at @first_day or later and before @next_day, in sessions that were created at
--         @created_from or later and before @next_day; the period begins at @middle_day. What a fork copied from
--         another session is left out.
-- Cost:   the days between @created_from and @next_day.
-- Twin:   ledger/testing/activity.py (items).
-- Test:   tests/analytics/test_summary.py
--
-- grouping_level is name, type or all. Medians and distinct counts cannot be added up, so each level has its own: a row
-- of the level type has no name and no provider, and a row of the level all has no type either.
SELECT
  recorded_at >= @middle_day AS in_period,
  grouping_level,
  IF(grouping_level = 'all', NULL, item_type) AS item_type,
  IF(grouping_level = 'name', name, NULL) AS name,
  IF(grouping_level = 'name', provider, NULL) AS provider,
  COUNT(*) AS item_count,
  COUNTIF(is_error) AS error_count,
  COUNTIF(status IN ('completed', 'failed')) AS finished_count,
  CAST(SUM(retry_count) AS INT64) AS retry_count,
  CAST(SUM(input_token_count) AS INT64) AS input_token_count,
  CAST(SUM(output_token_count) AS INT64) AS output_token_count,
  SUM(cost_usd) AS cost_usd,
  COUNTIF(cost_usd IS NULL) AS unpriced_count,
  APPROX_QUANTILES(duration_ms, 100)[OFFSET(50)] AS duration_p50_ms,
  APPROX_QUANTILES(duration_ms, 100)[OFFSET(95)] AS duration_p95_ms,
  COUNT(DISTINCT session_id) AS session_count,
  COUNT(DISTINCT user_id) AS user_count
FROM `${project}.${dataset}.session_items`
CROSS JOIN UNNEST(['name', 'type', 'all']) AS grouping_level
WHERE created_at >= @created_from
  AND created_at < @next_day
  AND recorded_at >= @first_day
  AND recorded_at < @next_day
  AND NOT is_copy
GROUP BY
  in_period,
  grouping_level,
  IF(grouping_level = 'all', NULL, item_type),
  IF(grouping_level = 'name', name, NULL),
  IF(grouping_level = 'name', provider, NULL)
