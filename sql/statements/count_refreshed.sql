-- count_refreshed: what the scheduled statements have put into their tables.
--
-- Twin:   ledger/testing/scheduled.py.
-- Test:   tests/cli/test_scheduled.py
SELECT
  (
    SELECT COUNT(*)
    FROM `${project}.${dataset}.sessions_latest`
    -- The table may require the filter.
    WHERE created_at >= TIMESTAMP '0001-01-01 00:00:00+00'
  ) AS sessions,
  COUNT(*) AS days,
  MAX(day) AS last_day
FROM `${project}.${dataset}.daily_rollup`
