-- sessions_between: the current state of all sessions created in a time span, one wide row per session.
--
-- Grain:  (session_id).
-- Inputs: sessions. The span includes first_day and excludes next_day; a span from midnight to midnight (UTC) reads
--         whole partitions and no others.
-- Cost:   the partitions of the span.
-- Twin:   ledger/model/session.py (Session).
-- Test:   tests/sql/test_functions.py
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
  expires_at
FROM `${project}.${dataset}.sessions`
WHERE created_at >= first_day
  AND created_at < next_day;
