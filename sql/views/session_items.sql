-- session_items: what happened in sessions: each message, tool call, model call, query, score and error, one row each.
--
-- Grain:  (session_id, item_type, item_id).
-- Inputs: session_history, model_call_history, tool_call_history.
-- Cost:   filters on created_at and session_id reach the table: a range of created_at reads those days only.
-- Twin:   ledger/testing/activity.py (items)
-- Test:   tests/property/test_analytics.py, tests/sql/test_analytics.py
--
-- An item keeps the time of its first write and has the values of its last one. What was removed later, or taken back
-- by a rewind, happened all the same, so its row stays, with is_current false. A fork writes the items of another
-- session once more: they have is_copy, so that counts can leave them out. An error is an item of its own only if it is
-- the session's; a message or call that failed has is_error.
--
-- model_call_history says where the price of a model call comes from.
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
    WHERE field IN ('message', 'query', 'score', 'error', 'lineage')
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
        WHEN 'query' THEN JSON_VALUE(value, '$.query_type')
        WHEN 'score' THEN JSON_VALUE(value, '$.name')
      END AS name,
      -- The error of the session is the whole value; of the others it is a part.
      IF(field = 'error', value, JSON_QUERY(value, '$.error')) AS error,
      SAFE_CAST(
        CASE field
          WHEN 'message' THEN JSON_VALUE(value, '$.processing_time_ms')
          WHEN 'query' THEN JSON_VALUE(value, '$.execution_time_ms')
        END
        AS FLOAT64
      ) AS duration_ms
    FROM writes
    WHERE from_last = 1
  )
SELECT
  session_id,
  field AS item_type,
  key AS item_id,
  name,
  CAST(NULL AS STRING) AS status,
  CAST(NULL AS STRING) AS provider,
  is_current,
  is_copy,
  IFNULL(TO_JSON_STRING(error), 'null') NOT IN ('null', 'false') AND field NOT IN ('query', 'score') AS is_error,
  IF(field IN ('query', 'score'), NULL, JSON_VALUE(error, '$.type')) AS error_type,
  IF(field IN ('query', 'score'), NULL, COALESCE(JSON_VALUE(error, '$.message'), JSON_VALUE(error))) AS error_message,
  IF(duration_ms >= 0, duration_ms, NULL) AS duration_ms,
  CAST(NULL AS FLOAT64) AS time_to_first_token_ms,
  CAST(NULL AS INT64) AS retry_count,
  CAST(NULL AS INT64) AS failure_count,
  IF(field = 'message', SAFE_CAST(JSON_VALUE(value, '$.token_count') AS INT64), NULL) AS token_count,
  CAST(NULL AS INT64) AS input_token_count,
  CAST(NULL AS INT64) AS output_token_count,
  CAST(NULL AS INT64) AS cached_input_token_count,
  CAST(NULL AS INT64) AS reasoning_token_count,
  CAST(NULL AS FLOAT64) AS cost_usd,
  CAST(NULL AS STRING) AS cost_source,
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
FROM items
UNION ALL
SELECT
  session_id,
  'model_call' AS item_type,
  call_id AS item_id,
  model AS name,
  CAST(NULL AS STRING) AS status,
  provider,
  is_current,
  is_copy,
  IFNULL(TO_JSON_STRING(error), 'null') NOT IN ('null', 'false') AS is_error,
  JSON_VALUE(error, '$.type') AS error_type,
  COALESCE(JSON_VALUE(error, '$.message'), JSON_VALUE(error)) AS error_message,
  IF(duration_ms >= 0, duration_ms, NULL) AS duration_ms,
  IF(time_to_first_token_ms >= 0, time_to_first_token_ms, NULL) AS time_to_first_token_ms,
  CAST(NULL AS INT64) AS retry_count,
  CAST(NULL AS INT64) AS failure_count,
  CAST(NULL AS INT64) AS token_count,
  input_tokens AS input_token_count,
  output_tokens AS output_token_count,
  cached_input_tokens AS cached_input_token_count,
  reasoning_tokens AS reasoning_token_count,
  cost_usd,
  cost_source,
  CAST(NULL AS BOOL) AS is_cache_hit,
  CAST(NULL AS FLOAT64) AS score,
  DATE(first_recorded_at) AS day,
  first_actor AS actor,
  first_occurred_at AS occurred_at,
  first_recorded_at AS recorded_at,
  user_id,
  created_at
FROM `${project}.${dataset}.model_call_history`
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
