-- cohorts: how many users come back, by the week of their first session.
--
-- Grain:  (cohort_week, week_number).
-- Inputs: session_events.
-- Cost:   the partitions of the days.
-- Twin:   ledger/testing/activity_counts.py
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- The days are those on which the sessions were created. Weeks begin on Monday, in UTC. A week in which no user of the
-- cohort began a session has no row.
--
-- Parameters:
--   first_day TIMESTAMP: Midnight (UTC) that begins the first day; NULL: no rows
--   next_day TIMESTAMP: Midnight (UTC) that ends the last day; NULL: no rows
--
-- Columns:
--   cohort_week DATE: The Monday of the week in which the users had their first session in these days
--   week_number INT64: Weeks after that week; 0 is that week
--   user_count INT64: Number of users of the cohort
--   active_user_count INT64: Number of these that began a session in the week
--   session_count INT64: Number of sessions that they began in it
--   retention_ratio FLOAT64: Active users per user of the cohort, 0 to 1
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.cohorts`(
  first_day TIMESTAMP, next_day TIMESTAMP
) AS
SELECT
  cohort_week,
  week_number,
  MAX(user_count) OVER (PARTITION BY cohort_week) AS user_count,
  user_count AS active_user_count,
  session_count,
  SAFE_DIVIDE(user_count, MAX(user_count) OVER (PARTITION BY cohort_week)) AS retention_ratio
FROM (
  SELECT
    cohort_week,
    DIV(DATE_DIFF(week, cohort_week, DAY), 7) AS week_number,
    COUNT(DISTINCT user_id) AS user_count,
    COUNT(*) AS session_count
  FROM (
    SELECT
      user_id,
      CAST(DATE_TRUNC(DATE(created_at), WEEK(MONDAY)) AS DATE) AS week,
      CAST(DATE_TRUNC(DATE(MIN(created_at) OVER (PARTITION BY user_id)), WEEK(MONDAY)) AS DATE) AS cohort_week
    FROM (
      SELECT created_at, session_id, ANY_VALUE(user_id) AS user_id
      FROM `${project}.${dataset}.session_events`
      WHERE created_at >= first_day AND created_at < next_day
      GROUP BY created_at, session_id
    ) AS sessions
  ) AS weeks
  GROUP BY cohort_week, week_number
) AS counted;
