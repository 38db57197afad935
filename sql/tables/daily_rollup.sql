-- daily_rollup: what happened on each day as of the last `ledger refresh` or scheduled query, one row a day.
--
-- Grain:  (day). A day without anything has no row.
-- Inputs: sql/scheduled/daily_rollup.sql computes the days, by `ledger refresh` or the scheduled queries of
--         `ledger deploy`. The table is empty before. Its counts stay when sessions are purged, unless the day is
--         computed again.
-- Cost:   negligible: one row per day.
-- Twin:   ledger/testing/activity_counts.py (by_day).
-- Test:   tests/property/test_scheduled.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.daily_rollup` (
  day DATE NOT NULL OPTIONS (description = 'The day, in UTC'),
  session_count INT64 NOT NULL OPTIONS (description = 'Number of sessions in which something happened'),
  user_count INT64 NOT NULL OPTIONS (description = 'Number of owners of these sessions'),
  message_count INT64 NOT NULL OPTIONS (description = 'Number of messages'),
  turn_count INT64 NOT NULL OPTIONS (description = 'Number of messages of the role user'),
  tool_call_count INT64 NOT NULL OPTIONS (description = 'Number of tool calls that were planned'),
  failed_tool_call_count INT64 NOT NULL OPTIONS (description = 'Number of these whose last status is failed'),
  model_call_count INT64 NOT NULL OPTIONS (description = 'Number of model calls'),
  failed_model_call_count INT64 NOT NULL OPTIONS (description = 'Number of these that failed'),
  input_token_count INT64 OPTIONS (description = 'Sum of the tokens of the prompts; NULL if none is known'),
  output_token_count INT64 OPTIONS (description = 'Sum of the tokens of the answers; NULL if none is known'),
  cost_usd FLOAT64 OPTIONS (description = 'Sum of the prices of the model calls, in US dollars; NULL if none is known'),
  error_count INT64 NOT NULL OPTIONS (description = 'Number of errors: of sessions, messages, tool calls and model calls')
)
OPTIONS (description = 'What happened on each day as of the last scheduled run; empty without one');
