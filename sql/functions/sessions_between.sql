-- sessions_between: the sessions created in a span of days, as they stand now, one wide row each.
--
-- Grain:  (session_id).
-- Inputs: sessions. first_day is the first instant of the span and next_day that after its end; days that begin and end
--         at midnight UTC read whole partitions and no more.
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
