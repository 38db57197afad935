-- outcomes: how sessions ended by each value of each attribute.
--
-- Grain:  (name, value).
-- Inputs: session_metrics, session_fields.
-- Cost:   the partitions of the days.
-- Twin:   ledger/testing/activity_counts.py
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- The days are those on which the sessions were created. A session is counted once for each of its attributes. A value
-- that is no text, number or boolean is its JSON text.
--
-- Parameters:
--   first_day TIMESTAMP: Midnight (UTC) that begins the first day; NULL: no rows
--   next_day TIMESTAMP: Midnight (UTC) that ends the last day; NULL: no rows
--
-- Columns:
--   name STRING: The name of the attribute
--   value STRING: Its value, as text; NULL if it was erased
--   session_count INT64: Number of sessions: the attempts
--   completed_count INT64: Number of sessions whose outcome is completed
--   failed_count INT64: Number of sessions whose outcome is failed
--   abandoned_count INT64: Number of sessions whose outcome is abandoned
--   open_count INT64: Number of sessions that are open
--   success_count INT64: Number of sessions that succeeded; see session_metrics
--   unknown_count INT64: Number of completed sessions of which it is not known whether they succeeded
--   success_ratio FLOAT64: Successes per session of which it is known, 0 to 1; NULL without such sessions
--   reward_average FLOAT64: Mean of the attribute reward, with true as 1 and false as 0; NULL if none is known
--   turn_average FLOAT64: Mean number of turns
--   cost_usd FLOAT64: Sum of the prices, recorded or estimated, of the model calls, in US dollars; NULL if none is known
--   estimated_cost_usd FLOAT64: The part of cost_usd that is estimated by model_prices; NULL if none is
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.outcomes`(
  first_day TIMESTAMP, next_day TIMESTAMP
) AS
SELECT
  attributes.name AS name,
  attributes.value AS value,
  COUNT(*) AS session_count,
  COUNTIF(metrics.outcome = 'completed') AS completed_count,
  COUNTIF(metrics.outcome = 'failed') AS failed_count,
  COUNTIF(metrics.outcome = 'abandoned') AS abandoned_count,
  COUNTIF(metrics.outcome = 'open') AS open_count,
  COUNTIF(metrics.is_success) AS success_count,
  COUNTIF(metrics.outcome = 'completed' AND metrics.is_success IS NULL) AS unknown_count,
  SAFE_DIVIDE(COUNTIF(metrics.is_success), COUNT(metrics.is_success)) AS success_ratio,
  AVG(metrics.reward) AS reward_average,
  AVG(metrics.turn_count) AS turn_average,
  SUM(metrics.cost_usd) AS cost_usd,
  SUM(metrics.estimated_cost_usd) AS estimated_cost_usd
FROM (
  SELECT
    created_at,
    session_id,
    key AS name,
    IF(value IS NULL, NULL, COALESCE(JSON_VALUE(value), TO_JSON_STRING(value))) AS value
  FROM `${project}.${dataset}.session_fields`
  WHERE field = 'attribute' AND created_at >= first_day AND created_at < next_day
) AS attributes
JOIN `${project}.${dataset}.session_metrics` AS metrics
  ON metrics.created_at = attributes.created_at AND metrics.session_id = attributes.session_id
WHERE metrics.created_at >= first_day AND metrics.created_at < next_day
GROUP BY attributes.name, attributes.value;
