-- messages: every current message, one row each.
--
-- Grain:  (session_id, message_id); (session_id, position) is unique too.
-- Inputs: session_history.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/model/session.py (Message).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- position counts a session's messages from 1. An erased message keeps its position and has the role 'erased'. text is
-- the content if it is text; content holds it in any case.
--
-- Columns:
--   session_id STRING
--   message_id STRING: The message
--   position INT64: Counts the messages of the session from 1
--   role STRING: user, assistant, system, tool or another role; erased if the value was erased
--   text STRING: The content, if it is text
--   content JSON: The content: text, or a list of parts
--   tools_used JSON: Names of the tools that were used
--   processing_time_ms FLOAT64: Time to make the answer, in milliseconds
--   token_count INT64: Number of tokens
--   error JSON: The error, if the message reports one
--   metadata JSON: Any object of the caller
--   payload JSON: Any value of the caller
--   is_copy BOOL: True if a fork copied the message from another session
--   day DATE: Day on which the message was recorded, in UTC
--   version INT64: The version that wrote the message
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.messages` AS
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
    WHERE field IN ('message', 'lineage')
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
    WHERE field = 'message' AND NOT removed
  )
SELECT
  session_id,
  key AS message_id,
  ROW_NUMBER() OVER (PARTITION BY created_at, session_id ORDER BY version, key) AS position,
  IF(value IS NULL, 'erased', JSON_VALUE(value, '$.role')) AS role,
  JSON_VALUE(value, '$.content') AS text,
  JSON_QUERY(value, '$.content') AS content,
  JSON_QUERY(value, '$.tools_used') AS tools_used,
  SAFE_CAST(JSON_VALUE(value, '$.processing_time_ms') AS FLOAT64) AS processing_time_ms,
  SAFE_CAST(JSON_VALUE(value, '$.token_count') AS INT64) AS token_count,
  JSON_QUERY(value, '$.error') AS error,
  JSON_QUERY(value, '$.metadata') AS metadata,
  JSON_QUERY(value, '$.payload') AS payload,
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
