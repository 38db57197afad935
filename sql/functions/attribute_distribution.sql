-- attribute_distribution: how often each attribute has each value.
--
-- Grain:  (name, value).
-- Inputs: session_fields.
-- Cost:   the partitions of the days.
-- Twin:   ledger/testing/activity_counts.py
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- The days are those on which the sessions were created. A value that is no text, number or boolean is its JSON text.
-- The number 1 and the text 1 are one value here.
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
    name,
    text AS value,
    COUNT(*) AS session_count,
    COUNT(DISTINCT user_id) AS user_count
  FROM (
    -- The column has another name than the JSON value: a GROUP BY of that would keep 1 and '1' apart.
    SELECT
      key AS name,
      user_id,
      IF(value IS NULL, NULL, COALESCE(JSON_VALUE(value), TO_JSON_STRING(value))) AS text
    FROM `${project}.${dataset}.session_fields`
    WHERE field = 'attribute' AND created_at >= first_day AND created_at < next_day
  ) AS attributes
  GROUP BY name, text
) AS counted;
