-- model_calls: every call of a language model, one row each.
--
-- Grain:  (session_id, call_id); (session_id, position) is unique too.
-- Inputs: session_fields.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/model/session.py (Session.model_calls).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- position counts a session's calls from 1. An erased call keeps its position, and its model is NULL. input_tokens
-- includes cached_input_tokens, and output_tokens includes reasoning_tokens.
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
--   duration_ms FLOAT64: Time until the answer was complete, in milliseconds
--   time_to_first_token_ms FLOAT64: Time until the first token of the answer, in milliseconds
--   finish_reason STRING: Why the model stopped: stop, length ...
--   error_type STRING: The type of the error, if the call failed
--   error_message STRING: The text of the error
--   message_id STRING: The message that the call produced
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
  key AS call_id,
  ROW_NUMBER() OVER (PARTITION BY created_at, session_id ORDER BY version, key) AS position,
  JSON_VALUE(value, '$.model') AS model,
  JSON_VALUE(value, '$.provider') AS provider,
  JSON_VALUE(value, '$.operation') AS operation,
  SAFE_CAST(JSON_VALUE(value, '$.input_tokens') AS INT64) AS input_tokens,
  SAFE_CAST(JSON_VALUE(value, '$.output_tokens') AS INT64) AS output_tokens,
  SAFE_CAST(JSON_VALUE(value, '$.cached_input_tokens') AS INT64) AS cached_input_tokens,
  SAFE_CAST(JSON_VALUE(value, '$.reasoning_tokens') AS INT64) AS reasoning_tokens,
  SAFE_CAST(JSON_VALUE(value, '$.cost_usd') AS FLOAT64) AS cost_usd,
  SAFE_CAST(JSON_VALUE(value, '$.duration_ms') AS FLOAT64) AS duration_ms,
  SAFE_CAST(JSON_VALUE(value, '$.time_to_first_token_ms') AS FLOAT64) AS time_to_first_token_ms,
  JSON_VALUE(value, '$.finish_reason') AS finish_reason,
  JSON_VALUE(value, '$.error.type') AS error_type,
  JSON_VALUE(value, '$.error.message') AS error_message,
  JSON_VALUE(value, '$.message_id') AS message_id,
  DATE(recorded_at) AS day,
  version,
  actor,
  occurred_at,
  recorded_at,
  user_id,
  created_at
FROM `${project}.${dataset}.session_fields`
WHERE field = 'model_call';
