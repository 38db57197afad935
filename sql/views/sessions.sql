-- sessions: the current state of every session, one wide row each.
--
-- Grain:  (session_id).
-- Inputs: session_fields, session_events.
-- Cost:   filters on created_at and session_id reach both inputs: a range of created_at reads those days only. Messages
--         and other fields that are not shown here are left out before any sorting.
-- Twin:   ledger/model/session.py (Session).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- tool_calls holds the call ids in the order of planning; tool_call_status has the same order and is 'pending' if no
-- status was recorded; tool_call_results is an object by call id, NULL if there are no results. A session without any
-- current value still has a row.
--
-- status is the recorded one: of a session past expires_at it is active until an event records that it expired, though
-- Python and the command line call it expired at once. What they say is IF(expires_at <= CURRENT_TIMESTAMP() AND
-- IFNULL(status, '') NOT IN ('completed', 'failed', 'expired', 'archived', 'deleted'), 'expired', status).
--
-- BigQuery fails a statement with a row of more than 100 MB. So results of more than 5 million characters are omitted:
-- each is a row of the views session_fields and tool_calls. The other fields are at most 8 MB each.
--
-- Columns:
--   session_id STRING
--   user_id STRING
--   question STRING: The user's question
--   constraints JSON: The constraints, an object
--   response_plan JSON: The response plan, an object
--   strategy JSON: The strategy: text or any JSON value
--   summary STRING: The summary
--   status STRING: active, completed, failed, expired, archived, deleted, copying or rewinding, as recorded
--   tool_calls ARRAY<STRING>: Ids of the tool calls, in the order of planning
--   tool_call_status ARRAY<STRING>: Status of each call in tool_calls
--   tool_call_results JSON: Results by call id, an object; NULL if there are none or they are omitted
--   created_at TIMESTAMP
--   updated_at TIMESTAMP: Time at which the last event was recorded
--   version INT64: The version of the last event
--   title STRING: The title
--   session_type STRING: The type of the session
--   expires_at TIMESTAMP: Time at which the session expires; NULL if it does not
--   tool_call_results_omitted BOOL: True if the results exceed 5 million characters; the view tool_calls has each
CREATE OR REPLACE VIEW `${project}.${dataset}.sessions` AS
WITH
  -- A session's head is an additional row, not joined, since a join might keep a filter from one side.
  field_and_head_rows AS (
    SELECT
      created_at,
      session_id,
      field,
      key,
      value,
      version,
      CAST(NULL AS STRING) AS user_id,
      CAST(NULL AS INT64) AS head_version,
      CAST(NULL AS TIMESTAMP) AS updated_at
    FROM `${project}.${dataset}.session_fields`
    WHERE field IN (
      'question', 'constraints', 'response_plan', 'strategy', 'summary', 'status', 'title', 'session_type',
      'expires_at', 'tool_call', 'tool_call_status', 'tool_call_result'
    )
    UNION ALL
    SELECT
      created_at,
      session_id,
      '' AS field,
      '' AS key,
      CAST(NULL AS JSON) AS value,
      CAST(NULL AS INT64) AS version,
      ANY_VALUE(user_id) AS user_id,
      MAX(version) AS head_version,
      MAX(recorded_at) AS updated_at
    FROM `${project}.${dataset}.session_events`
    GROUP BY created_at, session_id
  ),
  -- One row for each tool call, and one (key '') for all fields without a key.
  parts AS (
    SELECT
      created_at,
      session_id,
      key AS call_id,
      ANY_VALUE(user_id) AS user_id,
      ANY_VALUE(head_version) AS version,
      ANY_VALUE(updated_at) AS updated_at,
      ANY_VALUE(IF(field = 'question', JSON_VALUE(value), NULL)) AS question,
      ANY_VALUE(IF(field = 'constraints', value, NULL)) AS constraints,
      ANY_VALUE(IF(field = 'response_plan', value, NULL)) AS response_plan,
      ANY_VALUE(IF(field = 'strategy', value, NULL)) AS strategy,
      ANY_VALUE(IF(field = 'summary', JSON_VALUE(value), NULL)) AS summary,
      ANY_VALUE(IF(field = 'status', JSON_VALUE(value), NULL)) AS status,
      ANY_VALUE(IF(field = 'title', JSON_VALUE(value), NULL)) AS title,
      ANY_VALUE(IF(field = 'session_type', JSON_VALUE(value), NULL)) AS session_type,
      ANY_VALUE(IF(field = 'expires_at', JSON_VALUE(value), NULL)) AS expires_at,
      COALESCE(
        ANY_VALUE(IF(field = 'tool_call', version, NULL)),
        ANY_VALUE(IF(field = 'tool_call_status', version, NULL))
      ) AS planned_version,
      COALESCE(ANY_VALUE(IF(field = 'tool_call_status', JSON_VALUE(value), NULL)), 'pending') AS call_status,
      ANY_VALUE(IF(field = 'tool_call_result', IFNULL(TO_JSON_STRING(value), 'null'), NULL)) AS call_result,
      -- The length of all results of the session, in characters.
      SUM(CHAR_LENGTH(ANY_VALUE(IF(field = 'tool_call_result', IFNULL(TO_JSON_STRING(value), 'null'), NULL)))) OVER (
        PARTITION BY created_at, session_id
      ) AS results_length
    FROM field_and_head_rows
    GROUP BY created_at, session_id, key
  ),
  wide_rows AS (
    SELECT
      created_at,
      session_id,
      ANY_VALUE(user_id) AS user_id,
      ANY_VALUE(version) AS version,
      ANY_VALUE(updated_at) AS updated_at,
      ANY_VALUE(question) AS question,
      ANY_VALUE(constraints) AS constraints,
      ANY_VALUE(response_plan) AS response_plan,
      ANY_VALUE(strategy) AS strategy,
      ANY_VALUE(summary) AS summary,
      ANY_VALUE(status) AS status,
      ANY_VALUE(title) AS title,
      ANY_VALUE(session_type) AS session_type,
      ANY_VALUE(expires_at) AS expires_at,
      ARRAY_AGG(
        IF(planned_version IS NULL, NULL, call_id) IGNORE NULLS ORDER BY planned_version, call_id
      ) AS tool_calls,
      ARRAY_AGG(
        IF(planned_version IS NULL, NULL, call_status) IGNORE NULLS ORDER BY planned_version, call_id
      ) AS tool_call_status,
      STRING_AGG(
        IF(results_length > 5000000, NULL, CONCAT(TO_JSON_STRING(call_id), ':', call_result)), ',' ORDER BY call_id
      ) AS call_results,
      IFNULL(ANY_VALUE(results_length) > 5000000, FALSE) AS tool_call_results_omitted
    FROM parts
    GROUP BY created_at, session_id
  )
SELECT
  session_id,
  user_id,
  question,
  constraints,
  response_plan,
  strategy,
  summary,
  status,
  IFNULL(tool_calls, []) AS tool_calls,
  IFNULL(tool_call_status, []) AS tool_call_status,
  PARSE_JSON(CONCAT('{', call_results, '}')) AS tool_call_results,
  created_at,
  updated_at,
  version,
  title,
  session_type,
  SAFE_CAST(expires_at AS TIMESTAMP) AS expires_at,
  tool_call_results_omitted
FROM wide_rows;
