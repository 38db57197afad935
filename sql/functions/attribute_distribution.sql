-- attribute_distribution: how often each attribute has each value.
--
-- Grain:  (name, value).
-- Inputs: session_fields.
-- Cost:   the partitions of the days.
-- Twin:   ledger/testing/activity_counts.py
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- The days are those on which the sessions were created. A value that is no text, number or boolean is its JSON text.
--
-- Parameters:
--   first_day TIMESTAMP: Midnight (UTC) that begins the first day; NULL: no rows
--   next_day TIMESTAMP: Midnight (UTC) that ends the last day; NULL: no rows
--
-- Columns:
--   name STRING: The name of the attribute
--   value STRING: Its value, as text; NULL if it was erased
--   session_count INT64: Number of sessions with this value
--   user_count INT64: Number of owners of these sessions
--   session_ratio FLOAT64: Share of these sessions in those that have the attribute, 0 to 1
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.attribute_distribution`(
  first_day TIMESTAMP, next_day TIMESTAMP
) AS
SELECT
  name,
  value,
  session_count,
  user_count,
  SAFE_DIVIDE(session_count, SUM(session_count) OVER (PARTITION BY name)) AS session_ratio
FROM (
  SELECT
    key AS name,
    IF(value IS NULL, NULL, COALESCE(JSON_VALUE(value), TO_JSON_STRING(value))) AS value,
    COUNT(*) AS session_count,
    COUNT(DISTINCT user_id) AS user_count
  FROM `${project}.${dataset}.session_fields`
  WHERE field = 'attribute' AND created_at >= first_day AND created_at < next_day
  GROUP BY name, value
) AS counted;
