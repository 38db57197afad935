-- model_call_history: every call of a language model that a session ever had, one row each, also what was taken back.
--
-- Grain:  (session_id, call_id).
-- Inputs: session_history, model_price_periods.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/testing/activity.py (items)
-- Test:   tests/property/test_analytics.py, tests/sql/test_prices.py
--
-- A call has the values of its last write. If it was erased, its model is NULL. input_tokens includes
-- cached_input_tokens, and output_tokens includes reasoning_tokens.
--
-- cost_usd is the recorded price or, if there is none, what the tokens cost by model_prices on the day on which the call
-- occurred: a price of its provider, or else one of any provider. Without such a price, or without the count of tokens
-- that have one, it is NULL.
--
-- Columns:
--   session_id STRING
--   call_id STRING: The call
--   is_current BOOL: True if the session has the call now; false if a rewind took it back
--   is_copy BOOL: True if a fork copied the call from another session
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
--   error JSON: The error, if the call failed
--   message_id STRING: The message that the call produced
--   first_actor STRING: Author of the first event of the call, if not the owner
--   first_occurred_at TIMESTAMP: Time of that first event by the clock of its writer
--   first_recorded_at TIMESTAMP: Time at which the call was first recorded
--   version INT64: The version that recorded the call as it is
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.model_call_history` AS
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
      FIRST_VALUE(actor) OVER in_order AS first_actor,
      FIRST_VALUE(occurred_at) OVER in_order AS first_occurred_at,
      FIRST_VALUE(recorded_at) OVER in_order AS first_recorded_at,
      FIRST_VALUE(is_copy) OVER in_order AS is_copy,
      ROW_NUMBER() OVER (
        PARTITION BY created_at, session_id, field, key ORDER BY version DESC, event_id DESC
      ) AS from_last
    FROM event_rows
    WHERE field = 'model_call' AND NOT removed
    WINDOW in_order AS (PARTITION BY created_at, session_id, field, key ORDER BY version, event_id)
  ),
  calls AS (
    SELECT
      session_id,
      key AS call_id,
      is_last AS is_current,
      is_copy,
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
      JSON_QUERY(value, '$.error') AS error,
      JSON_VALUE(value, '$.message_id') AS message_id,
      first_actor,
      first_occurred_at,
      first_recorded_at,
      version,
      actor,
      occurred_at,
      recorded_at,
      user_id,
      created_at
    FROM writes
    WHERE from_last = 1
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
  is_current,
  is_copy,
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
  error,
  message_id,
  first_actor,
  first_occurred_at,
  first_recorded_at,
  version,
  actor,
  occurred_at,
  recorded_at,
  user_id,
  created_at
FROM estimates;
