-- tool_calls: every current tool call, one row each.
--
-- Grain:  (session_id, call_id).
-- Inputs: session_history.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/model/session.py (Session.calls), ledger/model/call_times.py
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- position counts a session's calls from 1 in the order of planning. result is SQL NULL if has_result is false, and
-- also if the result was erased.
--
-- started_at and finished_at are times of the events that changed the status, by the clock of their writers. They are
-- those of the last attempt: a call that is pending or running again after it was completed or failed begins a new one.
-- A finished attempt that never was running started when it was pending. A call that was recorded as completed or failed
-- at once has no start.
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
--   day DATE: Day on which the call was planned, in UTC
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.tool_calls` AS
WITH
  writes AS (
    SELECT
      created_at,
      session_id,
      key AS call_id,
      user_id,
      field,
      value,
      version,
      event_id,
      occurred_at,
      recorded_at,
      superseded_by IS NULL AND NOT removed AS is_current,
      JSON_VALUE(value) AS status,
      LAG(JSON_VALUE(value)) OVER slot AS earlier_status
    FROM `${project}.${dataset}.session_history`
    WHERE field IN ('tool_call', 'tool_call_status', 'tool_call_result')
    WINDOW slot AS (PARTITION BY created_at, session_id, field, key ORDER BY version, event_id)
  ),
  attempts AS (
    SELECT
      created_at,
      session_id,
      call_id,
      user_id,
      field,
      value,
      version,
      occurred_at,
      recorded_at,
      is_current,
      IF(status IS DISTINCT FROM earlier_status, status, NULL) AS new_status,
      COUNTIF(status IN ('pending', 'running') AND earlier_status IN ('completed', 'failed')) OVER slot AS retry_count,
      -- A removed status ends what was before it, so that it counts as the beginning of an attempt too.
      COUNTIF(
        status IS NULL OR (status IN ('pending', 'running') AND earlier_status IN ('completed', 'failed'))
      ) OVER slot AS attempt
    FROM writes
    WINDOW slot AS (PARTITION BY created_at, session_id, field, call_id ORDER BY version, event_id)
  ),
  last_attempts AS (
    SELECT
      created_at,
      session_id,
      call_id,
      user_id,
      field,
      value,
      version,
      occurred_at,
      recorded_at,
      is_current,
      retry_count,
      IF(
        attempt = MAX(attempt) OVER (PARTITION BY created_at, session_id, field, call_id), new_status, NULL
      ) AS new_status
    FROM attempts
  ),
  calls AS (
    SELECT
      created_at,
      session_id,
      call_id,
      ANY_VALUE(user_id) AS user_id,
      ANY_VALUE(IF(is_current AND field = 'tool_call', value, NULL)) AS definition,
      ANY_VALUE(IF(is_current AND field = 'tool_call_status', JSON_VALUE(value), NULL)) AS status,
      ANY_VALUE(IF(is_current AND field = 'tool_call_result', value, NULL)) AS result,
      LOGICAL_OR(is_current AND field = 'tool_call_result') AS has_result,
      COALESCE(
        ANY_VALUE(IF(is_current AND field = 'tool_call', version, NULL)),
        ANY_VALUE(IF(is_current AND field = 'tool_call_status', version, NULL))
      ) AS planned_version,
      COALESCE(
        ANY_VALUE(IF(is_current AND field = 'tool_call', recorded_at, NULL)),
        ANY_VALUE(IF(is_current AND field = 'tool_call_status', recorded_at, NULL))
      ) AS planned_at,
      MAX(IF(is_current, recorded_at, NULL)) AS updated_at,
      MIN(IF(field = 'tool_call_status' AND new_status = 'running', occurred_at, NULL)) AS running_at,
      MIN(IF(field = 'tool_call_status' AND new_status = 'pending', occurred_at, NULL)) AS pending_at,
      MAX(
        IF(field = 'tool_call_status' AND new_status IN ('completed', 'failed'), occurred_at, NULL)
      ) AS finished_at,
      MAX(IF(field = 'tool_call_status', retry_count, 0)) AS retry_count
    FROM last_attempts
    GROUP BY created_at, session_id, call_id
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
      updated_at,
      -- Of a call that is only pending, nobody knows when it will start.
      COALESCE(running_at, IF(finished_at IS NULL, NULL, pending_at)) AS started_at,
      finished_at,
      retry_count
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
  started_at,
  finished_at,
  IF(finished_at >= started_at, TIMESTAMP_DIFF(finished_at, started_at, MICROSECOND) / 1000, NULL) AS latency_ms,
  retry_count,
  DATE(planned_at) AS day,
  user_id,
  created_at
FROM planned_calls;
