-- scores: every score of a session, one row each.
--
-- Grain:  (session_id, score_id); (session_id, position) is unique too.
-- Inputs: session_fields.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/model/session.py (Session.scores).
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- position counts a session's scores from 1. An erased score keeps its position, and its name is NULL.
--
-- Columns:
--   session_id STRING
--   score_id STRING: The score
--   position INT64: Counts the scores of the session from 1
--   name STRING: What is scored
--   score FLOAT64: The value, if it is a number; true is 1 and false is 0
--   value JSON: The value as it was recorded
--   source STRING: Who gave the score
--   comment STRING: Why
--   day DATE: Day on which the score was recorded, in UTC
--   version INT64: The version that recorded the score
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.scores` AS
SELECT
  session_id,
  key AS score_id,
  ROW_NUMBER() OVER (PARTITION BY created_at, session_id ORDER BY version, key) AS position,
  JSON_VALUE(value, '$.name') AS name,
  CASE JSON_TYPE(JSON_QUERY(value, '$.value'))
    WHEN 'number' THEN SAFE_CAST(JSON_VALUE(value, '$.value') AS FLOAT64)
    WHEN 'boolean' THEN IF(JSON_VALUE(value, '$.value') = 'true', 1, 0)
  END AS score,
  JSON_QUERY(value, '$.value') AS value,
  JSON_VALUE(value, '$.source') AS source,
  JSON_VALUE(value, '$.comment') AS comment,
  DATE(recorded_at) AS day,
  version,
  actor,
  occurred_at,
  recorded_at,
  user_id,
  created_at
FROM `${project}.${dataset}.session_fields`
WHERE field = 'score';
