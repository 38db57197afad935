-- tool_call_history: every tool call that a session ever had, one row each, also what was withdrawn or taken back.
--
-- Grain:  (session_id, call_id).
-- Inputs: session_history.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/model/call_times.py (call_times)
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- started_at and finished_at are times of the events that changed the status, by the clock of their writers. They are
-- those of the last attempt: a call that gets another status after it was completed or failed begins a new one. A
-- finished attempt that never was running started when it was pending. An attempt that was recorded as completed or
-- failed at once has no start.
--
-- What a rewind writes is no attempt, no failure and no end: the times and counts are those of what happened. If it
-- makes the call pending or running again, finished_at is NULL, and the next change of the status begins an attempt. A
-- call that was withdrawn or taken back keeps its times; if it is planned again, they begin anew.
--
-- A fork writes the calls of another session once more: they have is_copy, so that counts can leave them out.
--
-- Columns:
--   session_id STRING
--   call_id STRING: The tool call
--   name STRING: Name of the tool, as last planned
--   is_current BOOL: True if the session has the call now; false if it was withdrawn, or a rewind took it back
--   is_copy BOOL: True if a fork copied the call from another session
--   definition JSON: The call as it is planned now; NULL if the session does not have it
--   status STRING: The status that the session has now; NULL if it has none
--   last_status STRING: The last status that was recorded
--   has_result BOOL: True if the session has a result now
--   result JSON: The result that the session has now; also NULL if it was erased
--   planned_version INT64: The version that planned the call as it is now; NULL if the session does not have it
--   planned_at TIMESTAMP: Time at which the call was planned as it is now
--   first_planned_at TIMESTAMP: Time at which the call was first recorded
--   first_occurred_at TIMESTAMP: Time of that first event by the clock of its writer
--   updated_at TIMESTAMP: Time at which the last change of the call was recorded
--   started_at TIMESTAMP: Time at which the last attempt started
--   finished_at TIMESTAMP: Time at which the last attempt was completed or failed
--   latency_ms FLOAT64: Time from started_at to finished_at, in milliseconds; NULL if the clocks say less than 0
--   retry_count INT64: Number of attempts after the first
--   failure_count INT64: Number of times that the call failed, in all attempts
--   actor STRING: Author of the first event of the call, if not the owner
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.tool_call_history` AS
WITH
  event_rows AS (
    SELECT
      created_at,
      session_id,
      key AS call_id,
      user_id,
      field,
      value,
      removed,
      version,
      event_id,
      actor,
      occurred_at,
      recorded_at,
      superseded_by IS NULL AND NOT removed AS is_current,
      event_type IN ('session.rewinding', 'session.rewound') AS is_rewind,
      event_type = 'session.copied' OR LOGICAL_OR(field = 'lineage') OVER (
        PARTITION BY created_at, session_id, version, event_id
      ) AS is_copy,
      IF(field = 'tool_call_status', JSON_VALUE(value), NULL) AS status
    FROM `${project}.${dataset}.session_history`
    WHERE field IN ('tool_call', 'tool_call_status', 'tool_call_result', 'lineage')
  ),
  writes AS (
    SELECT
      created_at,
      session_id,
      call_id,
      user_id,
      field,
      value,
      removed,
      version,
      event_id,
      actor,
      occurred_at,
      recorded_at,
      is_current,
      is_copy,
      is_rewind,
      status,
      LAG(status) OVER slot AS earlier_status,
      LAG(status, 2) OVER slot AS status_before,
      LAG(is_rewind) OVER slot AS was_rewind,
      ROW_NUMBER() OVER (PARTITION BY created_at, session_id, call_id ORDER BY version, event_id, field) AS place
    FROM event_rows
    WHERE field != 'lineage'
    WINDOW slot AS (PARTITION BY created_at, session_id, field, call_id ORDER BY version, event_id)
  ),
  changes AS (
    SELECT
      created_at,
      session_id,
      call_id,
      user_id,
      field,
      value,
      removed,
      version,
      event_id,
      actor,
      occurred_at,
      recorded_at,
      is_current,
      is_copy,
      status,
      earlier_status,
      place,
      NOT is_rewind AND status IS NOT NULL AND status IS DISTINCT FROM earlier_status AS is_move,
      was_rewind AND earlier_status IS DISTINCT FROM status_before AS is_after_rewind
    FROM writes
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
      event_id,
      actor,
      occurred_at,
      recorded_at,
      is_current,
      is_copy,
      status,
      is_move,
      place,
      ROW_NUMBER() OVER last_first AS from_last,
      COUNTIF(
        is_move AND earlier_status IS NOT NULL AND (is_after_rewind OR earlier_status IN ('completed', 'failed'))
      ) OVER slot AS retry_count,
      COUNTIF(
        is_move AND (is_after_rewind OR earlier_status IS NULL OR earlier_status IN ('completed', 'failed'))
      ) OVER slot AS attempt
    FROM changes
    WINDOW
      slot AS (PARTITION BY created_at, session_id, field, call_id ORDER BY version, event_id),
      last_first AS (
        PARTITION BY created_at, session_id, field, call_id
        ORDER BY IF(removed, 1, 0), version DESC, event_id DESC
      )
  ),
  moves AS (
    SELECT
      created_at,
      session_id,
      call_id,
      user_id,
      field,
      value,
      version,
      actor,
      occurred_at,
      recorded_at,
      is_current,
      is_copy,
      status,
      place,
      from_last,
      retry_count,
      is_move,
      attempt = MAX(attempt) OVER (PARTITION BY created_at, session_id, field, call_id) AS is_last_attempt
    FROM attempts
  ),
  calls AS (
    SELECT
      created_at,
      session_id,
      call_id,
      ANY_VALUE(user_id) AS user_id,
      ANY_VALUE(IF(field = 'tool_call' AND from_last = 1, JSON_VALUE(value, '$.name'), NULL)) AS planned_name,
      ANY_VALUE(IF(place = 1, actor, NULL)) AS actor,
      LOGICAL_OR(place = 1 AND is_copy) AS is_copy,
      ANY_VALUE(IF(place = 1, recorded_at, NULL)) AS first_planned_at,
      ANY_VALUE(IF(place = 1, occurred_at, NULL)) AS first_occurred_at,
      ANY_VALUE(IF(is_current AND field = 'tool_call', value, NULL)) AS definition,
      ANY_VALUE(IF(is_current AND field = 'tool_call_status', status, NULL)) AS status,
      ANY_VALUE(IF(from_last = 1 AND field = 'tool_call_status', status, NULL)) AS last_status,
      ANY_VALUE(IF(is_current AND field = 'tool_call_result', value, NULL)) AS result,
      LOGICAL_OR(is_current AND field = 'tool_call_result') AS has_result,
      LOGICAL_OR(field IN ('tool_call', 'tool_call_status')) AS is_call,
      COALESCE(
        ANY_VALUE(IF(is_current AND field = 'tool_call', version, NULL)),
        ANY_VALUE(IF(is_current AND field = 'tool_call_status', version, NULL))
      ) AS planned_version,
      COALESCE(
        ANY_VALUE(IF(is_current AND field = 'tool_call', recorded_at, NULL)),
        ANY_VALUE(IF(is_current AND field = 'tool_call_status', recorded_at, NULL))
      ) AS planned_at,
      MAX(IF(is_current, recorded_at, NULL)) AS updated_at,
      MIN(IF(is_move AND is_last_attempt AND status = 'running', occurred_at, NULL)) AS running_at,
      MIN(IF(is_move AND is_last_attempt AND status = 'pending', occurred_at, NULL)) AS pending_at,
      MAX(IF(is_move AND is_last_attempt AND status IN ('completed', 'failed'), occurred_at, NULL)) AS finished_at,
      MAX(IF(field = 'tool_call_status', retry_count, 0)) AS retry_count,
      COUNTIF(is_move AND status = 'failed') AS failure_count
    FROM moves
    GROUP BY created_at, session_id, call_id
  ),
  timed_calls AS (
    SELECT
      created_at,
      session_id,
      call_id,
      user_id,
      planned_name,
      actor,
      is_copy,
      first_planned_at,
      first_occurred_at,
      definition,
      status,
      last_status,
      result,
      has_result,
      planned_version,
      planned_at,
      updated_at,
      -- Of a call that is only pending, nobody knows when it will start.
      COALESCE(
        running_at, IF(finished_at IS NULL OR last_status IN ('pending', 'running'), NULL, pending_at)
      ) AS started_at,
      -- A rewind may have made a finished call pending or running again.
      IF(last_status IN ('pending', 'running'), NULL, finished_at) AS finished_at,
      retry_count,
      failure_count
    FROM calls
    WHERE is_call
  )
SELECT
  session_id,
  call_id,
  COALESCE(planned_name, call_id) AS name,
  planned_version IS NOT NULL AS is_current,
  is_copy,
  definition,
  status,
  last_status,
  has_result,
  result,
  planned_version,
  planned_at,
  first_planned_at,
  first_occurred_at,
  updated_at,
  started_at,
  finished_at,
  IF(finished_at >= started_at, TIMESTAMP_DIFF(finished_at, started_at, MICROSECOND) / 1000, NULL) AS latency_ms,
  retry_count,
  failure_count,
  actor,
  user_id,
  created_at
FROM timed_calls;
