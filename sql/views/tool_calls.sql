-- tool_calls: every current tool call, one row each.
--
-- Grain:  (session_id, call_id).
-- Inputs: session_fields.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/model/session.py (Session.calls).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- position counts a session's calls from 1 in the order of planning. result is SQL NULL if has_result is false, and
-- also if the result was erased.
--
-- Columns:
--   session_id STRING
--   call_id STRING: The tool call
--   position INT64: Counts the calls of the session from 1, in the order of planning
--   name STRING: Name of the tool
--   description STRING: What the call is for
--   status STRING: pending, running, completed or failed
--   has_result BOOL: True if a result was recorded
--   result JSON: The result; also NULL if it was erased
--   definition JSON: The call as it was planned: name, tables, arguments ...
--   message_id STRING: The message that the call belongs to
--   planned_version INT64: The version that planned the call
--   planned_at TIMESTAMP: Time at which the call was planned
--   updated_at TIMESTAMP: Time at which the last change of the call was recorded
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.tool_calls` AS
WITH
  calls AS (
    SELECT
      created_at,
      session_id,
      key AS call_id,
      ANY_VALUE(user_id) AS user_id,
      ANY_VALUE(IF(field = 'tool_call', value, NULL)) AS definition,
      ANY_VALUE(IF(field = 'tool_call_status', JSON_VALUE(value), NULL)) AS status,
      ANY_VALUE(IF(field = 'tool_call_result', value, NULL)) AS result,
      LOGICAL_OR(field = 'tool_call_result') AS has_result,
      COALESCE(
        ANY_VALUE(IF(field = 'tool_call', version, NULL)),
        ANY_VALUE(IF(field = 'tool_call_status', version, NULL))
      ) AS planned_version,
      COALESCE(
        ANY_VALUE(IF(field = 'tool_call', recorded_at, NULL)),
        ANY_VALUE(IF(field = 'tool_call_status', recorded_at, NULL))
      ) AS planned_at,
      MAX(recorded_at) AS updated_at
    FROM `${project}.${dataset}.session_fields`
    WHERE field IN ('tool_call', 'tool_call_status', 'tool_call_result')
    GROUP BY created_at, session_id, key
  ),
  -- A result without a definition or a status is not a call.
  planned_calls AS (
    SELECT
      created_at,
      session_id,
      call_id,
      user_id,
      definition,
      status,
      result,
      has_result,
      planned_version,
      planned_at,
      updated_at
    FROM calls
    WHERE planned_version IS NOT NULL
  )
SELECT
  session_id,
  call_id,
  ROW_NUMBER() OVER (PARTITION BY created_at, session_id ORDER BY planned_version, call_id) AS position,
  COALESCE(JSON_VALUE(definition, '$.name'), call_id) AS name,
  JSON_VALUE(definition, '$.description') AS description,
  COALESCE(status, 'pending') AS status,
  has_result,
  result,
  definition,
  JSON_VALUE(definition, '$.message_id') AS message_id,
  planned_version,
  planned_at,
  updated_at,
  user_id,
  created_at
FROM planned_calls;
