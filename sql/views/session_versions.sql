-- session_versions: the state of every session at each of its versions, one wide row each.
--
-- Grain:  (session_id, version).
-- Inputs: session_history, session_events.
-- Cost:   filters on created_at and session_id reach both inputs. A session of n versions is folded n times: filter.
-- Twin:   ledger/model/fold.py (fold, at_version) and ledger/model/session.py (Session).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- The columns have the meaning of those of the sessions view. updated_at is the time at which the version was recorded.
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
--   updated_at TIMESTAMP: Time at which this version was recorded
--   version INT64: The version of the state in this row
--   title STRING: The title
--   session_type STRING: The type of the session
--   expires_at TIMESTAMP: Time at which the session expires; NULL if it does not
--   tool_call_results_omitted BOOL: True if the results exceed 5 million characters; the view tool_calls has each
CREATE OR REPLACE VIEW `${project}.${dataset}.session_versions` AS
WITH
  events AS (
    SELECT
      created_at,
      session_id,
      version,
      ANY_VALUE(user_id) AS user_id,
      MAX(recorded_at) AS recorded_at
    FROM `${project}.${dataset}.session_events`
    GROUP BY created_at, session_id, version
  ),
  versions AS (
    SELECT
      created_at,
      session_id,
      version,
      user_id,
      MAX(recorded_at) OVER (PARTITION BY created_at, session_id ORDER BY version) AS updated_at
    FROM events
  ),
  intervals AS (
    SELECT
      created_at,
      session_id,
      field,
      key,
      value,
      removed,
      version,
      GENERATE_ARRAY(
        version, IFNULL(superseded_by - 1, MAX(version) OVER (PARTITION BY created_at, session_id))
      ) AS versions
    FROM `${project}.${dataset}.session_history`
  ),
  -- A value holds from its own version until the one that superseded it. The versions are generated and not joined,
  -- since a join might keep a filter from one side; versions without an event are dropped in the final SELECT.
  field_and_head_rows AS (
    SELECT
      created_at,
      session_id,
      head_version,
      field,
      key,
      value,
      version,
      CAST(NULL AS STRING) AS user_id,
      CAST(NULL AS TIMESTAMP) AS updated_at
    FROM intervals
    CROSS JOIN UNNEST(intervals.versions) AS head_version
    WHERE NOT removed
      AND field IN (
        'question', 'constraints', 'response_plan', 'strategy', 'summary', 'status', 'title', 'session_type',
        'expires_at', 'tool_call', 'tool_call_status', 'tool_call_result'
      )
    UNION ALL
    SELECT
      created_at,
      session_id,
      version AS head_version,
      '' AS field,
      '' AS key,
      CAST(NULL AS JSON) AS value,
      CAST(NULL AS INT64) AS version,
      user_id,
      updated_at
    FROM versions
  ),
  -- One row for each tool call, and one (key '') for all fields without a key.
  parts AS (
    SELECT
      created_at,
      session_id,
      key AS call_id,
      ANY_VALUE(user_id) AS user_id,
      head_version,
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
      -- The length of all results of the session at the version, in characters.
      SUM(CHAR_LENGTH(ANY_VALUE(IF(field = 'tool_call_result', IFNULL(TO_JSON_STRING(value), 'null'), NULL)))) OVER (
        PARTITION BY created_at, session_id, head_version
      ) AS results_length
    FROM field_and_head_rows
    GROUP BY created_at, session_id, head_version, key
  ),
  wide_rows AS (
    SELECT
      created_at,
      session_id,
      ANY_VALUE(user_id) AS user_id,
      head_version,
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
    GROUP BY created_at, session_id, head_version
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
  head_version AS version,
  title,
  session_type,
  SAFE_CAST(expires_at AS TIMESTAMP) AS expires_at,
  tool_call_results_omitted
FROM wide_rows
WHERE user_id IS NOT NULL;
