-- scores: every current score of a session, one row each.
--
-- Grain:  (session_id, score_id); (session_id, position) is unique too.
-- Inputs: session_history.
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
--   is_copy BOOL: True if a fork copied the score from another session
--   day DATE: Day on which the score was recorded, in UTC
--   version INT64: The version that recorded the score
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.scores` AS
WITH
  event_rows AS (
    SELECT
      created_at,
      session_id,
      user_id,
      field,
      key,
      value,
      removed,
      version,
      event_id,
      actor,
      occurred_at,
      recorded_at,
      superseded_by IS NULL AS is_last,
      event_type = 'session.copied' OR LOGICAL_OR(field = 'lineage') OVER (
        PARTITION BY created_at, session_id, version, event_id
      ) AS is_copy
    FROM `${project}.${dataset}.session_history`
    WHERE field IN ('score', 'lineage')
  ),
  writes AS (
    SELECT
      created_at,
      session_id,
      user_id,
      key,
      value,
      version,
      actor,
      occurred_at,
      recorded_at,
      is_last,
      FIRST_VALUE(is_copy) OVER (
        PARTITION BY created_at, session_id, field, key ORDER BY version, event_id
      ) AS is_copy
    FROM event_rows
    WHERE field = 'score' AND NOT removed
  )
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
  is_copy,
  DATE(recorded_at) AS day,
  version,
  actor,
  occurred_at,
  recorded_at,
  user_id,
  created_at
FROM writes
WHERE is_last;
