-- sessions_between: the current state of all sessions created in a time span, one wide row per session.
--
-- Grain:  (session_id).
-- Inputs: sessions. The span includes first_day and excludes next_day; a span from midnight to midnight (UTC) reads
--         whole partitions and no others.
-- Cost:   the partitions of the span.
-- Twin:   ledger/model/session.py (Session).
-- Test:   tests/sql/test_functions.py
--
-- Parameters:
--   first_day TIMESTAMP: Start of the span of creation times, included; NULL: no rows
--   next_day TIMESTAMP: End of the span, excluded; NULL: no rows
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
CREATE OR REPLACE TABLE FUNCTION `${project}.${dataset}.sessions_between`(
  first_day TIMESTAMP, next_day TIMESTAMP
) AS
SELECT
  session_id,
  user_id,
  question,
  constraints,
  response_plan,
  strategy,
  summary,
  status,
  tool_calls,
  tool_call_status,
  tool_call_results,
  created_at,
  updated_at,
  version,
  title,
  session_type,
  expires_at,
  tool_call_results_omitted
FROM `${project}.${dataset}.sessions`
WHERE created_at >= first_day
  AND created_at < next_day;
