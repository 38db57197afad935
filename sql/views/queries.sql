-- queries: every current query that an agent made for its session, one row each.
--
-- Grain:  (session_id, query_id); (session_id, position) is unique too.
-- Inputs: session_history.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/model/session.py (Session.queries).
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- position counts a session's queries from 1. An erased query keeps its position, and its query_type is NULL.
--
-- Columns:
--   session_id STRING
--   query_id STRING: The query
--   position INT64: Counts the queries of the session from 1
--   query_type STRING: The kind of query
--   parameters JSON: Its parameters
--   result_summary JSON: What it found, in short
--   is_cache_hit BOOL: True if it was answered from a cache; NULL if nobody said so
--   execution_time_ms FLOAT64: How long it took, in milliseconds
--   is_copy BOOL: True if a fork copied the query from another session
--   day DATE: Day on which the query was recorded, in UTC
--   version INT64: The version that recorded the query
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.queries` AS
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
    WHERE field IN ('query', 'lineage')
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
    WHERE field = 'query' AND NOT removed
  )
SELECT
  session_id,
  key AS query_id,
  ROW_NUMBER() OVER (PARTITION BY created_at, session_id ORDER BY version, key) AS position,
  JSON_VALUE(value, '$.query_type') AS query_type,
  JSON_QUERY(value, '$.parameters') AS parameters,
  JSON_QUERY(value, '$.result_summary') AS result_summary,
  SAFE_CAST(JSON_VALUE(value, '$.cache_hit') AS BOOL) AS is_cache_hit,
  SAFE_CAST(JSON_VALUE(value, '$.execution_time_ms') AS FLOAT64) AS execution_time_ms,
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
