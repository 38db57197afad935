-- tool_calls: every current tool call, one row each.
--
-- Grain:  (session_id, call_id).
-- Inputs: tool_call_history.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/model/session.py (Session.calls), ledger/model/call_times.py
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- position counts a session's calls from 1 in the order of planning. result is SQL NULL if has_result is false, and
-- also if the result was erased. The times are explained in tool_call_history.
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
--   started_at TIMESTAMP: Time at which the last attempt started
--   finished_at TIMESTAMP: Time at which the last attempt was completed or failed
--   latency_ms FLOAT64: Time from started_at to finished_at, in milliseconds; NULL if the clocks say less than 0
--   retry_count INT64: Number of attempts after the first
--   failure_count INT64: Number of times that the call failed, in all attempts
--   is_copy BOOL: True if a fork copied the call from another session
--   day DATE: Day on which the call was planned, in UTC
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.tool_calls` AS
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
  started_at,
  finished_at,
  latency_ms,
  retry_count,
  failure_count,
  is_copy,
  DATE(planned_at) AS day,
  user_id,
  created_at
FROM `${project}.${dataset}.tool_call_history`
WHERE is_current;
