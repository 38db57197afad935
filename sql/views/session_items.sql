-- session_items: what happened in sessions: each message, tool call, model call, query, score and error, one row each.
--
-- Grain:  (session_id, item_type, item_id).
-- Inputs: session_history, tool_call_history, model_price_periods.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/testing/activity.py (items)
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- An item keeps the time of its first write and has the values of its last one. What was removed later, or taken back
-- by a rewind, happened all the same, so its row stays, with is_current false. A fork writes the items of another
-- session once more: they have is_copy, so that counts can leave them out. An error is an item of its own only if it is
-- the session's; a message or call that failed has is_error.
--
-- The price of a model call is the recorded one or, if there is none, what its tokens cost by model_prices on the day on
-- which it occurred: a price of its provider, or else one of any provider. Without such a price, or without the count of
-- tokens that have one, it is NULL.
--
-- Columns:
--   session_id STRING
--   item_type STRING: message, tool_call, model_call, query, score or error
--   item_id STRING: The key of the item: a message id, a call id ...; empty for the error of the session
--   name STRING: The role of a message, the tool, the model, the type of a query, the name of a score
--   status STRING: The last status of a tool call
--   provider STRING: Who serves the model
--   is_current BOOL: True if the session has the item now
--   is_copy BOOL: True if a fork copied the item from another session
--   is_error BOOL: True if the item failed, or is an error
--   error_type STRING: The type of the error, if it has one
--   error_message STRING: The text of the error, if it has one
--   duration_ms FLOAT64: How long it took, in milliseconds; NULL if unknown, or if the recorded value is below 0
--   time_to_first_token_ms FLOAT64: Time until the first token of a model call, in milliseconds
--   retry_count INT64: Number of attempts of a tool call after the first
--   failure_count INT64: Number of times that it failed
--   token_count INT64: Number of tokens of a message
--   input_token_count INT64: Number of tokens of the prompt of a model call
--   output_token_count INT64: Number of tokens of the answer of a model call
--   cached_input_token_count INT64: Number of the input tokens that came from a cache
--   reasoning_token_count INT64: Number of the output tokens that were spent on reasoning
--   cost_usd FLOAT64: The price of a model call, in US dollars
--   cost_source STRING: recorded, or estimated by model_prices; NULL if cost_usd is NULL
--   is_cache_hit BOOL: True if a query was answered from a cache; NULL if nobody said so
--   score FLOAT64: The value of a score, if it is a number; true is 1 and false is 0
--   day DATE: Day on which the item was recorded, in UTC
--   actor STRING
--   occurred_at TIMESTAMP
--   recorded_at TIMESTAMP
--   user_id STRING
--   created_at TIMESTAMP
CREATE OR REPLACE VIEW `${project}.${dataset}.session_items` AS
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
      superseded_by IS NULL AND NOT removed AS is_current,
      event_type = 'session.copied' OR LOGICAL_OR(field = 'lineage') OVER (
        PARTITION BY created_at, session_id, version, event_id
      ) AS is_copy
    FROM `${project}.${dataset}.session_history`
    WHERE field IN ('message', 'model_call', 'query', 'score', 'error', 'lineage')
  ),
  writes AS (
    SELECT
      created_at,
      session_id,
      user_id,
      field,
      key,
      value,
      is_current,
      FIRST_VALUE(actor) OVER in_order AS actor,
      FIRST_VALUE(occurred_at) OVER in_order AS occurred_at,
      FIRST_VALUE(recorded_at) OVER in_order AS recorded_at,
      FIRST_VALUE(is_copy) OVER in_order AS is_copy,
      ROW_NUMBER() OVER (
        PARTITION BY created_at, session_id, field, key ORDER BY version DESC, event_id DESC
      ) AS from_last
    FROM event_rows
    WHERE field != 'lineage' AND NOT removed
    WINDOW in_order AS (PARTITION BY created_at, session_id, field, key ORDER BY version, event_id)
  ),
  items AS (
    SELECT
      created_at,
      session_id,
      user_id,
      field,
      key,
      value,
      is_current,
      is_copy,
      actor,
      occurred_at,
      recorded_at,
      CASE field
        WHEN 'message' THEN IF(value IS NULL, 'erased', JSON_VALUE(value, '$.role'))
        WHEN 'model_call' THEN JSON_VALUE(value, '$.model')
        WHEN 'query' THEN JSON_VALUE(value, '$.query_type')
        WHEN 'score' THEN JSON_VALUE(value, '$.name')
      END AS name,
      -- The error of the session is the whole value; of the others it is a part.
      IF(field = 'error', value, JSON_QUERY(value, '$.error')) AS error,
      SAFE_CAST(
        CASE field
          WHEN 'message' THEN JSON_VALUE(value, '$.processing_time_ms')
          WHEN 'model_call' THEN JSON_VALUE(value, '$.duration_ms')
          WHEN 'query' THEN JSON_VALUE(value, '$.execution_time_ms')
        END
        AS FLOAT64
      ) AS duration_ms,
      SAFE_CAST(JSON_VALUE(value, '$.time_to_first_token_ms') AS FLOAT64) AS time_to_first_token_ms,
      IF(field = 'model_call', JSON_VALUE(value, '$.model'), NULL) AS model,
      IF(field = 'model_call', JSON_VALUE(value, '$.provider'), NULL) AS provider,
      IF(
        field = 'model_call', SAFE_CAST(JSON_VALUE(value, '$.input_tokens') AS INT64), NULL
      ) AS input_token_count,
      IF(
        field = 'model_call', SAFE_CAST(JSON_VALUE(value, '$.output_tokens') AS INT64), NULL
      ) AS output_token_count,
      IF(
        field = 'model_call', SAFE_CAST(JSON_VALUE(value, '$.cached_input_tokens') AS INT64), NULL
      ) AS cached_input_token_count,
      IF(field = 'model_call', SAFE_CAST(JSON_VALUE(value, '$.cost_usd') AS FLOAT64), NULL) AS recorded_cost_usd
    FROM writes
    WHERE from_last = 1
  ),
  priced_items AS (
    SELECT
      items.*,
      COALESCE(own.input_usd_per_million, other.input_usd_per_million) AS input_price,
      COALESCE(own.cached_input_usd_per_million, other.cached_input_usd_per_million) AS cached_input_price,
      COALESCE(own.output_usd_per_million, other.output_usd_per_million) AS output_price,
      LEAST(GREATEST(IFNULL(cached_input_token_count, 0), 0), input_token_count) AS cached_count
    FROM items
    LEFT JOIN `${project}.${dataset}.model_price_periods` AS own
      ON own.model = items.model
      AND own.provider = items.provider
      AND own.valid_from <= DATE(items.occurred_at)
      AND own.valid_until > DATE(items.occurred_at)
    LEFT JOIN `${project}.${dataset}.model_price_periods` AS other
      ON other.model = items.model
      AND other.provider = ''
      AND other.valid_from <= DATE(items.occurred_at)
      AND other.valid_until > DATE(items.occurred_at)
  ),
  estimates AS (
    SELECT
      *,
      IF(
        input_token_count >= 0,
        (input_token_count - cached_count) * input_price
        + cached_count * cached_input_price
        + IF(output_price = 0, 0, IF(output_token_count >= 0, output_token_count, NULL) * output_price),
        NULL
      ) / 1000000 AS estimated_cost_usd
    FROM priced_items
  )
SELECT
  session_id,
  field AS item_type,
  key AS item_id,
  name,
  CAST(NULL AS STRING) AS status,
  provider,
  is_current,
  is_copy,
  IFNULL(TO_JSON_STRING(error), 'null') NOT IN ('null', 'false') AND field NOT IN ('query', 'score') AS is_error,
  IF(field IN ('query', 'score'), NULL, JSON_VALUE(error, '$.type')) AS error_type,
  IF(field IN ('query', 'score'), NULL, COALESCE(JSON_VALUE(error, '$.message'), JSON_VALUE(error))) AS error_message,
  IF(duration_ms >= 0, duration_ms, NULL) AS duration_ms,
  IF(field = 'model_call' AND time_to_first_token_ms >= 0, time_to_first_token_ms, NULL) AS time_to_first_token_ms,
  CAST(NULL AS INT64) AS retry_count,
  CAST(NULL AS INT64) AS failure_count,
  IF(field = 'message', SAFE_CAST(JSON_VALUE(value, '$.token_count') AS INT64), NULL) AS token_count,
  input_token_count,
  output_token_count,
  cached_input_token_count,
  IF(field = 'model_call', SAFE_CAST(JSON_VALUE(value, '$.reasoning_tokens') AS INT64), NULL) AS reasoning_token_count,
  COALESCE(recorded_cost_usd, estimated_cost_usd) AS cost_usd,
  CASE
    WHEN recorded_cost_usd IS NOT NULL THEN 'recorded'
    WHEN estimated_cost_usd IS NOT NULL THEN 'estimated'
  END AS cost_source,
  IF(field = 'query', SAFE_CAST(JSON_VALUE(value, '$.cache_hit') AS BOOL), NULL) AS is_cache_hit,
  CASE IF(field = 'score', JSON_TYPE(JSON_QUERY(value, '$.value')), NULL)
    WHEN 'number' THEN SAFE_CAST(JSON_VALUE(value, '$.value') AS FLOAT64)
    WHEN 'boolean' THEN IF(JSON_VALUE(value, '$.value') = 'true', 1, 0)
  END AS score,
  DATE(recorded_at) AS day,
  actor,
  occurred_at,
  recorded_at,
  user_id,
  created_at
FROM estimates
UNION ALL
SELECT
  session_id,
  'tool_call' AS item_type,
  call_id AS item_id,
  name,
  COALESCE(last_status, 'pending') AS status,
  CAST(NULL AS STRING) AS provider,
  is_current,
  is_copy,
  IFNULL(last_status = 'failed', FALSE) AS is_error,
  IF(last_status = 'failed', JSON_VALUE(result, '$.type'), NULL) AS error_type,
  IF(
    last_status = 'failed',
    COALESCE(JSON_VALUE(result, '$.message'), JSON_VALUE(result, '$.error'), JSON_VALUE(result)),
    NULL
  ) AS error_message,
  latency_ms AS duration_ms,
  CAST(NULL AS FLOAT64) AS time_to_first_token_ms,
  retry_count,
  failure_count,
  CAST(NULL AS INT64) AS token_count,
  CAST(NULL AS INT64) AS input_token_count,
  CAST(NULL AS INT64) AS output_token_count,
  CAST(NULL AS INT64) AS cached_input_token_count,
  CAST(NULL AS INT64) AS reasoning_token_count,
  CAST(NULL AS FLOAT64) AS cost_usd,
  CAST(NULL AS STRING) AS cost_source,
  CAST(NULL AS BOOL) AS is_cache_hit,
  CAST(NULL AS FLOAT64) AS score,
  DATE(first_planned_at) AS day,
  actor,
  first_occurred_at AS occurred_at,
  first_planned_at AS recorded_at,
  user_id,
  created_at
FROM `${project}.${dataset}.tool_call_history`;
