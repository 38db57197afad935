-- model_calls: every current call of a language model, one row each.
--
-- Grain:  (session_id, call_id); (session_id, position) is unique too.
-- Inputs: model_call_history.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/model/session.py (Session.model_calls).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- position counts a session's calls from 1. An erased call keeps its position, and its model is NULL. input_tokens
-- includes cached_input_tokens, and output_tokens includes reasoning_tokens.
--
-- Calls that a rewind took back are not here, though they were paid, and those that a fork copied are here again. For
-- sums of tokens and prices use model_usage, or session_items without is_copy.
-- model_call_history says where cost_usd comes from.
--
-- Columns:
--   session_id STRING
--   call_id STRING: The call
--   position INT64: Counts the calls of the session from 1
--   model STRING: The model
--   provider STRING: Who serves the model
--   operation STRING: The kind of call: chat, embeddings ...
--   input_tokens INT64: Number of tokens of the prompt
--   output_tokens INT64: Number of tokens of the answer
--   cached_input_tokens INT64: Number of the input tokens that came from a cache
--   reasoning_tokens INT64: Number of the output tokens that were spent on reasoning
--   cost_usd FLOAT64: The price of the call, in US dollars
--   cost_source STRING: recorded, or estimated by model_prices; NULL if cost_usd is NULL
--   duration_ms FLOAT64: Time until the answer was complete, in milliseconds
--   time_to_first_token_ms FLOAT64: Time until the first token of the answer, in milliseconds
--   finish_reason STRING: Why the model stopped: stop, length ...
--   error_type STRING: The type of the error, if the call failed
--   error_message STRING: The text of the error
--   message_id STRING: The message that the call produced
--   is_copy BOOL: True if a fork copied the call from another session
--   day DATE: Day on which the call was recorded, in UTC
--   version INT64: The version that recorded the call
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.model_calls` AS
SELECT
  session_id,
  call_id,
  ROW_NUMBER() OVER (PARTITION BY created_at, session_id ORDER BY version, call_id) AS position,
  model,
  provider,
  operation,
  input_tokens,
  output_tokens,
  cached_input_tokens,
  reasoning_tokens,
  cost_usd,
  cost_source,
  duration_ms,
  time_to_first_token_ms,
  finish_reason,
  JSON_VALUE(error, '$.type') AS error_type,
  JSON_VALUE(error, '$.message') AS error_message,
  message_id,
  is_copy,
  DATE(recorded_at) AS day,
  version,
  actor,
  occurred_at,
  recorded_at,
  user_id,
  created_at
FROM `${project}.${dataset}.model_call_history`
WHERE is_current;
