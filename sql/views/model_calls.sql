-- model_calls: every current call of a language model, one row each.
--
-- Grain:  (session_id, call_id); (session_id, position) is unique too.
-- Inputs: session_history, model_price_periods.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/model/session.py (Session.model_calls).
-- Test:   tests/property/test_sql_agrees_with_the_fold.py, tests/sql/test_views.py
--
-- position counts a session's calls from 1. An erased call keeps its position, and its model is NULL. input_tokens
-- includes cached_input_tokens, and output_tokens includes reasoning_tokens.
--
-- Calls that a rewind took back are not here, though they were paid, and those that a fork copied are here again. For
-- sums of tokens and prices use model_usage, or session_items without is_copy.
--
-- cost_usd is the recorded price or, if there is none, what the tokens cost by model_prices on the day on which the call
-- occurred: a price of its provider, or else one of any provider. Without such a price, or without the count of tokens
-- that have one, it is NULL.
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
WITH
  event_rows AS (
    SELECT
      created_at,
      session_id,
      user_id,
      field,
      key,
      value,
      removed,
      version,
      event_id,
      actor,
      occurred_at,
      recorded_at,
      superseded_by IS NULL AS is_last,
      event_type = 'session.copied' OR LOGICAL_OR(field = 'lineage') OVER (
        PARTITION BY created_at, session_id, version, event_id
      ) AS is_copy
    FROM `${project}.${dataset}.session_history`
    WHERE field IN ('model_call', 'lineage')
  ),
  writes AS (
    SELECT
      created_at,
      session_id,
      user_id,
      key,
      value,
      version,
      actor,
      occurred_at,
      recorded_at,
      is_last,
      FIRST_VALUE(is_copy) OVER (
        PARTITION BY created_at, session_id, field, key ORDER BY version, event_id
      ) AS is_copy
    FROM event_rows
    WHERE field = 'model_call' AND NOT removed
  ),
  calls AS (
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
      SAFE_CAST(JSON_VALUE(value, '$.cost_usd') AS FLOAT64) AS recorded_cost_usd,
      SAFE_CAST(JSON_VALUE(value, '$.duration_ms') AS FLOAT64) AS duration_ms,
      SAFE_CAST(JSON_VALUE(value, '$.time_to_first_token_ms') AS FLOAT64) AS time_to_first_token_ms,
      JSON_VALUE(value, '$.finish_reason') AS finish_reason,
      JSON_VALUE(value, '$.error.type') AS error_type,
      JSON_VALUE(value, '$.error.message') AS error_message,
      JSON_VALUE(value, '$.message_id') AS message_id,
      is_copy,
      version,
      actor,
      occurred_at,
      recorded_at,
      user_id,
      created_at
    FROM writes
    WHERE is_last
  ),
  priced_calls AS (
    SELECT
      calls.*,
      COALESCE(own.input_usd_per_million, other.input_usd_per_million) AS input_price,
      COALESCE(own.cached_input_usd_per_million, other.cached_input_usd_per_million) AS cached_input_price,
      COALESCE(own.output_usd_per_million, other.output_usd_per_million) AS output_price,
      LEAST(GREATEST(IFNULL(cached_input_tokens, 0), 0), input_tokens) AS cached_count
    FROM calls
    LEFT JOIN `${project}.${dataset}.model_price_periods` AS own
      ON own.model = calls.model
      AND own.provider = calls.provider
      AND own.valid_from <= DATE(calls.occurred_at)
      AND own.valid_until > DATE(calls.occurred_at)
    LEFT JOIN `${project}.${dataset}.model_price_periods` AS other
      ON other.model = calls.model
      AND other.provider = ''
      AND other.valid_from <= DATE(calls.occurred_at)
      AND other.valid_until > DATE(calls.occurred_at)
  ),
  estimates AS (
    SELECT
      *,
      IF(
        input_tokens >= 0,
        (input_tokens - cached_count) * input_price
        + cached_count * cached_input_price
        + IF(output_price = 0, 0, IF(output_tokens >= 0, output_tokens, NULL) * output_price),
        NULL
      ) / 1000000 AS estimated_cost_usd
    FROM priced_calls
  )
SELECT
  session_id,
  call_id,
  position,
  model,
  provider,
  operation,
  input_tokens,
  output_tokens,
  cached_input_tokens,
  reasoning_tokens,
  COALESCE(recorded_cost_usd, estimated_cost_usd) AS cost_usd,
  CASE
    WHEN recorded_cost_usd IS NOT NULL THEN 'recorded'
    WHEN estimated_cost_usd IS NOT NULL THEN 'estimated'
  END AS cost_source,
  duration_ms,
  time_to_first_token_ms,
  finish_reason,
  error_type,
  error_message,
  message_id,
  is_copy,
  DATE(recorded_at) AS day,
  version,
  actor,
  occurred_at,
  recorded_at,
  user_id,
  created_at
FROM estimates;
