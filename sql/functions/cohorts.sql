-- cohorts: how many users come back, by the week of their first session.
--
-- Grain:  (cohort_week, week_number).
-- Inputs: session_events.
-- Cost:   the partitions of the days.
-- Twin:   ledger/testing/activity_counts.py
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- The days are those on which the sessions were created. Weeks begin on Monday, in UTC. Each cohort has a row for each
-- week up to the last one of the days that has begun, also if none of its users began a session in it.
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
  user_count,
  active_user_count,
  session_count,
  SAFE_DIVIDE(active_user_count, user_count) AS retention_ratio
FROM (
  SELECT
    cohort_week,
    number AS week_number,
    -- All users of the cohort are active in its first week.
    MAX(user_count) AS user_count,
    MAX(IF(number = week_number, user_count, 0)) AS active_user_count,
    MAX(IF(number = week_number, session_count, 0)) AS session_count
  FROM (
    SELECT
      cohort_week,
      week_number,
      user_count,
      session_count,
      GENERATE_ARRAY(
        0,
        GREATEST(
          MAX(week_number) OVER (PARTITION BY cohort_week),
          DIV(
            DATE_DIFF(
              DATE(TIMESTAMP_SUB(LEAST(next_day, CURRENT_TIMESTAMP()), INTERVAL 1 MICROSECOND)), cohort_week, DAY
            ),
            7
          )
        )
      ) AS numbers
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
    ) AS counted
  ) AS with_numbers
  CROSS JOIN UNNEST(with_numbers.numbers) AS number
  GROUP BY cohort_week, number
) AS cohorts_by_week;
